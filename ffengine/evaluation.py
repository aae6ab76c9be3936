"""Classification by goodness: the label whose overlay excites the layers most (Hinton 2022, section 3.3).

Legend: R replicas, N samples, m inputs, C classes.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ffengine.negatives import swap_label
from ffengine.network import Network
from ffengine.results import AccuracyRow
from ffengine.samples import Samples
from ffengine.spec import TrainSpec

CHUNK_SAMPLES = 1000

Partition = Literal["train", "test"]


def accuracy(network: Network, spec: TrainSpec, partitions: Mapping[Partition, Samples]) -> list[AccuracyRow]:
    """Accuracy by the goodness of each layer and of all layers together; none for strategies without labels."""
    if not spec.negatives.labelled:
        return []
    rows = []
    for partition, samples in partitions.items():
        correct = correct_by_layer(network, samples)  # (R, layers + 1), the last: all layers
        for replica, seed in enumerate(spec.seeds):
            for place, count in enumerate(correct[replica].tolist()):
                layer = place if place < len(network.weights) else None
                rows.append(
                    AccuracyRow(
                        seed=seed,
                        layer=layer,
                        epoch=spec.epochs,
                        partition=partition,
                        samples=len(samples),
                        correct=count,
                        accuracy=count / len(samples),
                    )
                )
    return rows


def correct_by_layer(network: Network, samples: Samples) -> Tensor:
    """How many samples each layer, and the sum over all layers (last column), classifies correctly: (R, layers + 1)."""
    correct = torch.zeros(len(network.weights[0]), len(network.weights) + 1, dtype=torch.int64, device=samples.labels.device)
    for start in range(0, len(samples), CHUNK_SAMPLES):
        rows = slice(start, start + CHUNK_SAMPLES)
        energy = label_energy(network, samples.labelled[rows], samples.labels[rows], samples.classes)
        energy = torch.cat([energy, energy.sum(1, keepdim=True)], dim=1)  # (R, layers + 1, N, C)
        correct += (energy.argmax(-1) == samples.labels[rows]).sum(-1)
    return correct


def label_energy(network: Network, labelled: Tensor, labels: Tensor, classes: int) -> Tensor:
    """||h||^2 of each layer for each label overlaid on the samples (N, m): (R, layers, N, C), float64."""
    replicas = len(network.weights[0])
    by_class = []
    for candidate in range(classes):
        x = swap_label(labelled, labels, torch.full_like(labels, candidate)).expand(replicas, -1, -1)
        x = network.layer_input(0, x)
        by_layer = []
        for layer in range(len(network.weights)):
            h = network.activation.value(network.pre_activation(layer, x))
            by_layer.append(h.double().square().sum(-1))
            if layer + 1 < len(network.weights):
                x = network.next_input(layer, h)
        by_class.append(torch.stack(by_layer, dim=1))
    return torch.stack(by_class, dim=-1)
