"""How well a figure tells the samples of a network's own data set from those of another.

Legend: R replicas, L layers, N samples, M samples of the other data set.
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ffengine.results import OodRow
from ffengine.separation import auc

ACCEPTED = 0.95  # of the network's own samples, at the threshold of FPR95
NORMAL_QUANTILE = 1.959963984540054  # of 97.5 %


class Told(NamedTuple):
    """How well samples are told apart; nothing is known where one side has none.

    **Attributes:**

    - `auroc`: the probability that the figure of an own sample is above that of another one.
    - `auroc_low`, `auroc_high`: its 95 % interval over samples.
    - `fpr95`: the share of others that reach what 95 % of the own samples reach.
    """

    auroc: float | None = None
    auroc_low: float | None = None
    auroc_high: float | None = None
    fpr95: float | None = None


def told_apart(own: Tensor, other: Tensor) -> Told:
    """Measure how well a figure tells own samples from others; own ones are expected to have more.

    **Arguments:**

    - `own`: (N,) the figure of own samples.
    - `other`: (M,) that of others.

    **Returns:**

    AUROC with its interval, and FPR95. The interval needs two samples of each side; it has no width
    where no pair is in the wrong order.

    **Source:**

    E. DeLong, D. DeLong & D. Clarke-Pearson, Biometrics 44 (1988), for the interval; D. Hendrycks &
    K. Gimpel, arXiv 1610.02136, for the task.
    """
    if not len(own) or not len(other):
        return Told()
    area = float(auc(own.unsqueeze(0), other.unsqueeze(0))[0])
    least = own.sort(descending=True).values[math.ceil(ACCEPTED * len(own)) - 1]
    passing = int((other >= least).sum()) / len(other)
    if min(len(own), len(other)) < 2:
        return Told(area, fpr95=passing)
    above, below = _shares_below(own, other), 1 - _shares_below(other, own)
    variance = float(above.var() / len(own) + below.var() / len(other))
    half = NORMAL_QUANTILE * math.sqrt(variance)
    return Told(area, max(0.0, area - half), min(1.0, area + half), passing)


def _shares_below(values: Tensor, among: Tensor) -> Tensor:
    """For each value the share of the others that are below it, (N,) float64; equal ones half."""
    ordered = among.sort().values
    below = torch.searchsorted(ordered, values.contiguous())
    not_above = torch.searchsorted(ordered, values.contiguous(), right=True)
    return (below + not_above).double() / (2 * len(among))


class Scores(NamedTuple):
    """Figures of samples.

    **Attributes:**

    - `goodness`: (R, L + 1, N) of each layer, and then of all together.
    - `sparsity`: (R, L, N) Hoyer's S of each layer.
    - `dead`: (R, L, N) bool; S is not known of these.
    """

    goodness: Tensor
    sparsity: Tensor
    dead: Tensor


def ood_rows(
    seeds: tuple[int, ...],
    own: Scores,
    other: Scores,
    dataset: str,
    inputs: Literal["predicted", "plain"],
) -> Iterator[OodRow]:
    """Yield how well goodness and S tell samples apart, for each seed and layer.

    **Arguments:**

    - `seeds`: of the replicas.
    - `own`: figures of test samples.
    - `other`: figures of samples of another data set.
    - `dataset`: its name.
    - `inputs`: whether samples carry the predicted label.
    """
    layers = own.sparsity.shape[1]
    for replica, seed in enumerate(seeds):
        for place in range(layers + 1):
            sides = own.goodness[replica, place], other.goodness[replica, place]
            layer = place if place < layers else None
            yield _row(seed, layer, "goodness", inputs, dataset, *sides)
        for layer in range(layers):
            live = [one.sparsity[replica, layer][~one.dead[replica, layer]] for one in (own, other)]
            yield _row(seed, layer, "sparsity", inputs, dataset, *live)


def _row(
    seed: int,
    layer: int | None,
    figure: Literal["goodness", "sparsity"],
    inputs: Literal["predicted", "plain"],
    dataset: str,
    own: Tensor,
    other: Tensor,
) -> OodRow:
    return OodRow(
        seed=seed,
        layer=layer,
        figure=figure,
        inputs=inputs,
        dataset=dataset,
        samples=len(own),
        other_samples=len(other),
        **told_apart(own, other)._asdict(),
    )
