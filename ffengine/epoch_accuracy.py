"""What layers tell apart while a network trains: labels, and positives from negatives.

It is measured at monitored epochs, on the monitored sample of the training partition and on the
whole validation partition.

Legend: R replicas, B samples of a chunk, L layers, C classes.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ffengine.class_updates import class_logits
from ffengine.evaluation import CHUNK_SAMPLES, Classifier, classifiers
from ffengine.monitor import paired
from ffengine.network import Network, SummedGoodness
from ffengine.random_streams import Draws
from ffengine.results import EpochAccuracyRow
from ffengine.samples import Partitions, Samples
from ffengine.scaling import goodness_factors, true_goodness
from ffengine.separation import auc
from ffengine.spec import TrainSpec

Place = Literal["train", "validation"]


class Measured(NamedTuple):
    """Samples on which layers are measured.

    **Attributes:**

    - `partition`: the name that the rows have.
    - `samples`: the partition.
    - `chosen`: (R, N) int64, the positions in it that are measured.
    - `purpose`: of the random stream that makes their negatives.
    - `chunk`: how many samples are taken at once.
    """

    partition: Place
    samples: Samples
    chosen: Tensor
    purpose: str
    chunk: int


class AccuracyMonitor:
    """Measures layers on the same samples at every call; it changes nothing in the run.

    The monitored samples have the negatives that the curves have, the validation samples those that
    the evaluation has.

    **Arguments:**

    - `spec`: samples, objective and strategy.
    - `partitions`: the samples.
    - `draws`: the randomness of the run.
    """

    def __init__(self, spec: TrainSpec, partitions: Partitions, draws: Draws) -> None:
        self.spec, self.partitions, self.draws = spec, partitions, draws

    def rows(
        self, network: Network, layers: tuple[int, ...], epoch: int
    ) -> tuple[EpochAccuracyRow, ...]:
        """Measure the layers that learn, alone and together with those below.

        **Arguments:**

        - `network`: the network; nothing in it changes.
        - `layers`: the layers that learn together, in increasing order.
        - `epoch`: the epoch that has ended; 0 is the initialisation.

        **Returns:**

        A row for each partition, way to combine layers, and seed.
        """
        patterns = self.partitions.train.patterns
        summed = SummedGoodness(network, self.spec.pairwise.layer_goodness, layers, patterns)
        return tuple(
            row
            for measured in self._measured()
            for row in self._rows(summed, layers, epoch, measured)
        )

    def _measured(self) -> Iterator[Measured]:
        """Yield the samples that are measured, by partition."""
        train, validation = self.partitions.train, self.partitions.validation
        some = self.draws.at("monitor").permutation(len(train))[:, : self.spec.monitor.samples]
        yield Measured("train", train, some, "monitor-negatives", self.spec.batch_size)
        if validation is not None:
            everything = torch.arange(len(validation), device=validation.labels.device)
            every = everything.expand(len(self.spec.seeds), -1)
            yield Measured("validation", validation, every, "validation-negatives", CHUNK_SAMPLES)

    def _rows(
        self, summed: SummedGoodness, layers: tuple[int, ...], epoch: int, measured: Measured
    ) -> Iterator[EpochAccuracyRow]:
        """Yield the rows of a partition."""
        depth = layers[-1] + 1
        goodness = self._goodness_of_pairs(summed, measured)
        ways = ways_of(layers)
        hits = self._hits(summed.network, ways, measured) if self.spec.negatives.labelled else None
        factors = goodness_factors(summed.network.exponents, torch.float64)[..., None, None]
        losses = [self._losses(summed.network, goodness, layer) for layer in range(depth)]
        for number, way in enumerate(ways):
            if hits is None and way.method == "softmax":
                continue
            chosen = list(way.layers)
            excited = self.spec.objective.combined(
                goodness[:, chosen].double() * factors[:, chosen]
            )
            areas = areas_of(excited) if way.method == "goodness" else None
            together = way.method == "goodness" and way.layers in (layers, (way.layer,))
            for replica, seed in enumerate(self.spec.seeds):
                yield row_of(
                    seed,
                    way,
                    epoch,
                    measured,
                    correct=hits[number][replica] if hits is not None else None,
                    auc=areas[replica] if areas is not None else None,
                    loss=sum_of([losses[layer][replica] for layer in chosen]) if together else None,
                )

    def _goodness_of_pairs(self, summed: SummedGoodness, measured: Measured) -> Tensor:
        """Return the stored goodness (R, L, 2, N) of positives and of their negatives."""
        found = []
        for number, index in enumerate(measured.chosen.split(measured.chunk, dim=1)):
            address = (measured.purpose, number)
            x = paired(self.spec, measured.samples, index, self.draws, address, summed)
            by_layer = [
                summed.network.goodness(layer, summed.goodness).value(h)
                for layer, h in enumerate(summed.network.activations(x))
            ]
            found.append(torch.stack(by_layer, dim=1).unflatten(2, (2, -1)))
        return torch.cat(found, dim=-1)

    def _losses(self, network: Network, goodness: Tensor, layer: int) -> list[float | None]:
        """Return the mean loss of a pair (R) in a layer from the goodness (R, L, 2, N) of all."""
        objective = self.spec.pairwise
        positive, negative = objective.offsets(network.spec.widths[layer])
        own, inherited = goodness[:, layer], objective.inherited(goodness.unbind(1), layer)
        if inherited is not None:
            own = own + inherited
        terms = objective.terms(own[:, 0] - positive, own[:, 1] - negative)
        means = torch.stack(terms, dim=1).double().sum(1).mean(-1).tolist()
        exponents = network.exponents[layer].tolist()
        return [
            true_goodness(mean, exponent) if math.isfinite(mean) else None
            for mean, exponent in zip(means, exponents, strict=True)
        ]

    def _hits(
        self, network: Network, ways: Sequence[Classifier], measured: Measured
    ) -> list[list[int]]:
        """Return how many samples of each replica each classifier labels correctly."""
        samples, replicas = measured.samples, len(self.spec.seeds)
        hits = torch.zeros(len(ways), replicas, dtype=torch.int64, device=samples.labels.device)
        factors = goodness_factors(network.exponents, torch.float64)[..., None, None]
        for index in measured.chosen.split(CHUNK_SAMPLES, dim=1):
            labels = samples.labels[index]
            stored = network.label_goodness(
                self.spec.pairwise.layer_goodness,
                samples.labelled[index],
                labels,
                samples.patterns,
            )
            goodness = stored.double() * factors
            for number, way in enumerate(ways):
                scores = way.scores(goodness, self.spec.objective)
                hits[number] += (scores.argmax(-1) == labels).sum(1)
        return hits.tolist()


class ClassAccuracyMonitor(AccuracyMonitor):
    """Measures layers that learn classes: accuracy by the logits, and their cross-entropy."""

    def rows(
        self, network: Network, layers: tuple[int, ...], epoch: int
    ) -> tuple[EpochAccuracyRow, ...]:
        lowest = network.lowest(layers[-1] + 1)
        return tuple(
            row
            for measured in self._measured()
            for row in self._class_rows(lowest, layers, epoch, measured)
        )

    def _class_rows(
        self, network: Network, layers: tuple[int, ...], epoch: int, measured: Measured
    ) -> Iterator[EpochAccuracyRow]:
        """Yield the rows of a partition."""
        ways, count = ways_of(layers), measured.chosen.shape[1]
        hits, losses = self._hits_and_losses(network, ways, measured)
        for number, way in enumerate(ways):
            together = way.method == "goodness" and way.layers in (layers, (way.layer,))
            for replica, seed in enumerate(self.spec.seeds):
                own = [losses[replica][layer] / count for layer in way.layers]
                yield row_of(
                    seed,
                    way,
                    epoch,
                    measured,
                    correct=hits[number][replica],
                    auc=None,
                    loss=sum_of(own) if together else None,
                )

    def _hits_and_losses(
        self, network: Network, ways: Sequence[Classifier], measured: Measured
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Return how many samples of each replica each classifier labels correctly, and the summed
        cross-entropy of each replica and layer.
        """
        samples, objective = measured.samples, self.spec.over_classes
        replicas, device = len(self.spec.seeds), samples.labels.device
        hits = torch.zeros(len(ways), replicas, dtype=torch.int64, device=device)
        losses = torch.zeros(replicas, len(network.weights), dtype=torch.float64, device=device)
        for index in measured.chosen.split(CHUNK_SAMPLES, dim=1):
            labels = samples.labels[index]
            logits = class_logits(network, objective, samples.plain[index], samples.classes)
            logits = logits.double()
            for number, way in enumerate(ways):
                hits[number] += (way.scores(logits, objective).argmax(-1) == labels).sum(1)
            losses += torch.stack(
                [objective.losses(one, labels).sum(-1) for one in logits.unbind(1)], dim=1
            )
        return hits.tolist(), losses.tolist()


def row_of(
    seed: int,
    way: Classifier,
    epoch: int,
    measured: Measured,
    *,
    correct: int | None,
    auc: float | None,
    loss: float | None,
) -> EpochAccuracyRow:
    """Return the row of a seed and classifier.

    **Arguments:**

    - `seed`: the seed.
    - `way`: the classifier.
    - `epoch`: the epoch that has ended.
    - `measured`: the samples.
    - `correct`: how many of them are labelled correctly; None: they carry no labels.
    - `auc`, `loss`: copied into the row.

    **Returns:**

    The row.
    """
    samples = measured.chosen.shape[1]
    return EpochAccuracyRow(
        seed=seed,
        layer=way.layer,
        layers=way.layers,
        method="softmax" if way.method == "softmax" else "goodness",
        epoch=epoch,
        partition=measured.partition,
        samples=samples,
        correct=correct,
        accuracy=None if correct is None else correct / samples,
        auc=auc,
        loss=loss,
    )


def ways_of(layers: tuple[int, ...]) -> list[Classifier]:
    """List the classifiers that change while layers learn, each of them once.

    **Arguments:**

    - `layers`: the layers that learn together, in increasing order; those below are trained.

    **Returns:**

    Each of these layers alone, then sets of layers that hold one of them.
    """
    return [
        way
        for way in classifiers(layers[-1] + 1)
        if set(way.layers) & set(layers) and not (way.layer is None and len(way.layers) == 1)
    ]


def areas_of(goodness: Tensor) -> list[float | None]:
    """Return the AUC of positives against negatives (R, 2, N); None where one is not a number."""
    positive, negative = goodness.unbind(1)
    known = ~goodness.isnan().flatten(1).any(1)
    found: list[float | None] = [None] * len(goodness)
    for replica in known.nonzero().flatten().tolist():
        found[replica] = float(auc(positive[replica, None], negative[replica, None]))
    return found


def sum_of(values: Sequence[float | None]) -> float | None:
    """Return the sum of numbers; None where one is unknown or the sum is beyond float64."""
    known = [value for value in values if value is not None]
    total = sum(known) if len(known) == len(values) else math.inf
    return total if math.isfinite(total) else None
