"""Which units stand for which class: the active-unit ensembles of Tosato et al., arXiv 2305.18353.

Legend: N samples, n width, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.piece_sizes import piece
from ffengine.sparsity import CHUNK_ELEMENTS


class ClassMeans(NamedTuple):
    """A mean for each class.

    **Attributes:**

    - `mean`: (C,) float64; 0 for a class without samples.
    - `samples`: (C,) int64, how many samples the mean is of.
    """

    mean: Tensor
    samples: Tensor


def class_ensembles(h: Tensor, labels: Tensor, classes: int, *, excess: float = 1.0) -> Tensor:
    """Find the ensemble of each class: the units that its samples excite far above the other units.

    Unit j belongs to the ensemble of class c where a_j > (1 + excess) mean_{i != j} a_i, a_i being
    the mean of |h_i| over the samples of class c. A class without live samples has an empty
    ensemble. Any ensemble has fewer than (n + excess) / (1 + excess) units.

    **Arguments:**

    - `h`: (N, n) activations, n >= 2.
    - `labels`: (N,) int64 in 0 .. C - 1.
    - `classes`: C.
    - `excess`: at least 0.

    **Returns:**

    (C, n) bool, True for a unit of the ensemble.

    **Raises:**

    - `ValueError`: shapes do not fit, labels lie outside 0 .. C - 1, or `excess` is negative.

    **Source:**

    N. Tosato et al., "Emergent representations in networks trained with the Forward-Forward
    algorithm", arXiv 2305.18353. The rule is that by which the published notebooks
    (github.com/NiccoloTosato/EmergentRepresentations, revision cb1aa80, create_dataframe_fashion
    and create_dataframe_svhn) count the units that classes share: correctly classified test
    samples, excess 1 (another cell: 2); the text of the paper was not at hand. Magnitudes instead
    of activations are this project's choice; for relu they are the same. Other cells of the
    notebooks use other rules (the median over samples above the 0.9 quantile of the class;
    Kolmogorov-Smirnov tests between units), which can give other sizes.
    """
    _check(labels, len(h), classes)
    if h.dim() != 2 or h.shape[1] < 2:
        raise ValueError(f"h: expected shape (N, n) with n >= 2 units, got {tuple(h.shape)}")
    if not excess >= 0:
        raise ValueError(f"excess: expected a number of at least 0, got {excess}")
    # The inequality times n - 1, with a_j moved to the left: it has no difference of sums, so that
    # nothing cancels. The sizes of classes do, so sums stand for means.
    total = class_totals(h, labels, classes)
    return total * (h.shape[1] + excess) > (1 + excess) * total.sum(1, keepdim=True)


def class_totals(h: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Sum |h| over the samples of each class, in chunks of bounded size and in a fixed order.

    **Arguments:**

    - `h`: (N, n).
    - `labels`: (N,) int64 in 0 .. C - 1.
    - `classes`: C.

    **Returns:**

    (C, n) float64.
    """
    total = torch.zeros(classes, h.shape[1], dtype=torch.float64, device=h.device)
    every = torch.arange(classes, device=h.device).unsqueeze(1)
    step = max(1, piece(CHUNK_ELEMENTS, h.device) // max(1, h.shape[1]))
    for rows, own in zip(h.detach().split(step), labels.split(step), strict=True):
        total += (every == own).double() @ rows.abs().double()
    return total


def ensemble_sizes(members: Tensor) -> Tensor:
    """Count the units of each ensemble.

    **Arguments:**

    - `members`: (C, n) bool, as `class_ensembles` returns them.

    **Returns:**

    (C,) int64.
    """
    return members.sum(1)


def ensemble_overlap(members: Tensor) -> Tensor:
    """Divide the units that two ensembles share by the units of either: the Jaccard index.

    The diagonal is 1. Every entry of an empty ensemble is 0. For sizes a and b, the number of
    shared units is J (a + b) / (1 + J).

    **Arguments:**

    - `members`: (C, n) bool.

    **Returns:**

    (C, C) float64, symmetric, in [0, 1].
    """
    belongs = members.double()
    shared = belongs @ belongs.T  # whole numbers, exact
    size = belongs.sum(1)
    return shared / (size.unsqueeze(1) + size - shared).clamp_min(1.0)


def units_in_ensembles(members: Tensor) -> tuple[float, float]:
    """Compute the share of units in at least one ensemble, and the share in at least two.

    **Arguments:**

    - `members`: (C, n) bool.

    **Returns:**

    Two numbers in [0, 1].
    """
    times = members.sum(0)
    return int((times >= 1).sum()) / members.shape[1], int((times >= 2).sum()) / members.shape[1]


def class_sparsity(sparsity: Tensor, dead: Tensor, labels: Tensor, classes: int) -> ClassMeans:
    """Average a measure over the live samples of each class.

    **Arguments:**

    - `sparsity`: (N,), the measure.
    - `dead`: (N,) bool; these samples are left out.
    - `labels`: (N,) int64 in 0 .. C - 1.
    - `classes`: C.

    **Returns:**

    The mean of each class and how many samples it is of.

    **Raises:**

    - `ValueError`: shapes do not fit, or labels lie outside 0 .. C - 1.
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
    """Raise ValueError unless labels are (samples,) and within 0 .. C - 1."""
    if labels.shape != (samples,):
        raise ValueError(f"labels: expected shape ({samples},), got {tuple(labels.shape)}")
    if bool(((labels < 0) | (labels >= classes)).any()):
        raise ValueError(
            f"labels: expected numbers from 0 to {classes - 1}, got {int(labels.min())} to "
            f"{int(labels.max())}"
        )
