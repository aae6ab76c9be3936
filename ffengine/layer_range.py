"""From which layers labels are predicted: a range, first to last, that validation samples choose.

The test samples go through the network for the chosen range alone, after the choice.

Legend: R replicas, N samples, L layers.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from ffengine.evaluation import Classifier, Epochs, chunks, label_scores
from ffengine.network import Network
from ffengine.results import LayerRangeRow
from ffengine.samples import Partitions, Samples
from ffengine.spec import TrainSpec


def ranges_of(layers: int) -> list[Classifier]:
    """List the ranges of layers that can predict; of equal ones the first is taken.

    **Arguments:**

    - `layers`: L.

    **Returns:**

    L (L + 1) / 2 of them: those that end lowest first, for their prediction costs least, and of
    these the shorter ones.
    """
    return [
        Classifier(first if first == last else None, tuple(range(first, last + 1)), "goodness")
        for last in range(layers)
        for first in range(last, -1, -1)
    ]


def layer_range_rows(
    network: Network, spec: TrainSpec, partitions: Partitions, epochs: Epochs
) -> Iterator[LayerRangeRow]:
    """Choose the range of layers of each seed on validation samples, and test it.

    **Arguments:**

    - `network`: the trained network.
    - `spec`: the training run.
    - `partitions`: the samples; validation is one of them.
    - `epochs`: from which the weights are.

    **Returns:**

    For each seed the row of the validation samples, then that of the test samples.
    """
    validation = partitions.validation
    assert validation is not None  # noqa: S101 - the spec refuses it
    ranges = ranges_of(len(network.weights))
    hits = _hits(network, spec, validation, ranges)  # (ranges, R)
    best = hits.argmax(0).tolist()
    chosen = [ranges[place] for place in best]
    wanted = list(dict.fromkeys(chosen))
    tested = _hits(network, spec, partitions.test, wanted)
    for replica, (seed, way) in enumerate(zip(spec.seeds, chosen, strict=True)):
        found: tuple[tuple[Literal["validation", "test"], Samples, int], ...] = (
            ("validation", validation, int(hits[best[replica], replica])),
            ("test", partitions.test, int(tested[wanted.index(way), replica])),
        )
        for name, samples, correct in found:
            yield LayerRangeRow(
                seed=seed,
                first=way.layers[0],
                last=way.layers[-1],
                candidates=len(ranges),
                epoch=epochs.of(seed, way.layers),
                partition=name,
                samples=len(samples),
                correct=correct,
                accuracy=correct / len(samples),
            )


def _hits(
    network: Network, spec: TrainSpec, samples: Samples, ranges: Sequence[Classifier]
) -> Tensor:
    """Return how many samples each range labels correctly in each replica."""
    found = torch.zeros(len(ranges), len(spec.seeds), dtype=torch.int64)
    for rows in chunks(len(samples)):
        labels, scores = samples.labels[rows], label_scores(network, spec, samples, rows)
        for place, way in enumerate(ranges):
            right = way.scores(scores, spec.objective).argmax(-1) == labels
            found[place] += right.sum(1).cpu()
    return found
