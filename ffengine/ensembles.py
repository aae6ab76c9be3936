"""Which units stand for which class: the active-unit ensembles of Tosato et al., arXiv 2305.18353.

Legend: N samples, n width, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.sparsity import CHUNK_ELEMENTS


class ClassMeans(NamedTuple):
    """A mean for each class, and over how many samples."""

    mean: Tensor  # (C,) float64; 0 for a class without samples
    samples: Tensor  # (C,) int64


def class_ensembles(h: Tensor, labels: Tensor, classes: int, *, excess: float = 1.0) -> Tensor:
    """The ensemble of each class, the units that its samples excite far above the rest: (N, n),
    (N,) int64 -> (C, n) bool.

    Unit j belongs to the ensemble of class c where a_j > (1 + excess) mean_{i != j} a_i, a_i being
    the mean of |h_i| over the samples of class c. A class without samples, or with dead ones alone,
    has an empty ensemble; any has fewer than (n + excess) / (1 + excess) units.

    Source: N. Tosato et al., "Emergent representations in networks trained with the Forward-Forward
    algorithm", arXiv 2305.18353. Their text was not at hand; this is the rule by which their
    published notebooks (github.com/NiccoloTosato/EmergentRepresentations, revision cb1aa80,
    create_dataframe_fashion and create_dataframe_svhn) count the units that classes share:
    correctly classified test samples, excess 1 (another cell: 2). Magnitudes in place of
    activations are ours; for relu they are the same. Elsewhere the notebooks try other rules (the
    median over samples above the 0.9 quantile of the class; Kolmogorov-Smirnov tests between
    units), which can give other sizes.

    Raises ValueError for shapes that do not fit, labels outside 0..C-1, and a negative excess.
    """
    _check(labels, len(h), classes)
    if h.dim() != 2 or h.shape[1] < 2:
        raise ValueError(f"h: expected shape (N, n) with n >= 2 units, got {tuple(h.shape)}")
    if not excess >= 0:
        raise ValueError(f"excess: expected a number of at least 0, got {excess}")
    total = class_totals(h, labels, classes)  # class sizes cancel
    # The inequality times n - 1, with a_j brought to the left: no difference of sums, so no
    # cancellation.
    return total * (h.shape[1] + excess) > (1 + excess) * total.sum(1, keepdim=True)


def class_totals(h: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Sum of |h| over the samples of each class: (N, n), (N,) -> (C, n) float64.

    In chunks of bounded size, in a fixed order.
    """
    total = torch.zeros(classes, h.shape[1], dtype=torch.float64, device=h.device)
    every = torch.arange(classes, device=h.device).unsqueeze(1)
    step = max(1, CHUNK_ELEMENTS // max(1, h.shape[1]))
    for rows, of in zip(h.detach().split(step), labels.split(step), strict=True):
        total += (every == of).double() @ rows.abs().double()
    return total


def ensemble_sizes(members: Tensor) -> Tensor:
    """How many units each ensemble has: (C, n) bool -> (C,) int64."""
    return members.sum(1)


def ensemble_overlap(members: Tensor) -> Tensor:
    """Units of both ensembles over units of either (Jaccard): (C, n) bool -> (C, C) float64,
    symmetric, in [0, 1].

    The diagonal is 1, but 0 for an empty ensemble, as is everything with it. The number of shared
    units that Tosato et al. draw is J (a + b) / (1 + J) for sizes a and b.
    """
    belongs = members.double()
    shared = belongs @ belongs.T  # whole numbers, exact
    size = belongs.sum(1)
    return shared / (size.unsqueeze(1) + size - shared).clamp_min(1.0)


def units_in_ensembles(members: Tensor) -> tuple[float, float]:
    """Share of units that belong to at least one ensemble, and to at least two: (C, n) bool -> two
    numbers in [0, 1].
    """
    times = members.sum(0)
    return int((times >= 1).sum()) / members.shape[1], int((times >= 2).sum()) / members.shape[1]


def class_sparsity(sparsity: Tensor, dead: Tensor, labels: Tensor, classes: int) -> ClassMeans:
    """Mean of a measure (N,) over the live samples of each class, and how many they are. `dead`
    (N,) bool, `labels` (N,) int64.

    Raises ValueError for shapes that do not fit and labels outside 0..C-1.
    """
    _check(labels, len(sparsity), classes)
    if sparsity.shape != labels.shape or dead.shape != labels.shape:
        raise ValueError(
            f"expected sparsity and dead of shape {tuple(labels.shape)}, got "
            f"{tuple(sparsity.shape)} and {tuple(dead.shape)}"
        )
    chosen = (torch.arange(classes, device=labels.device).unsqueeze(1) == labels) & ~dead
    count = chosen.sum(1)
    total = torch.where(chosen, sparsity.double(), 0.0).sum(1)
    return ClassMeans(total / count.clamp_min(1), count)


def _check(labels: Tensor, samples: int, classes: int) -> None:
    if labels.shape != (samples,):
        raise ValueError(f"labels: expected shape ({samples},), got {tuple(labels.shape)}")
    if bool(((labels < 0) | (labels >= classes)).any()):
        raise ValueError(
            f"labels: expected numbers from 0 to {classes - 1}, got {int(labels.min())} to "
            f"{int(labels.max())}"
        )
