"""How selective the units of a layer are for classes.

Legend: N samples, n width, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.ensembles import class_totals
from ffengine.unit_usage import deciles

BINS = 10
DRIVEN = 0.5  # a class drives a unit whose mean under it is above this part of its largest mean


class Selectivity(NamedTuple):
    """What a layer's live units tell of classes; shares and means are None without live units, and
    where fewer than two classes have samples.

    **Attributes:**

    - `dead_units`: units that are active for no sample.
    - `selectivity`: mean of (m1 - m2) / (m1 + m2) over live units.
    - `deciles`: minimum, nine deciles and maximum of it.
    - `histogram`: live units in BINS equal bins of 0 to 1; 1 is in the last.
    - `one_class`, `mixed`, `every_class`: shares of live units that one class drives, several but
      not all, and all.
    - `classes_per_unit`: mean of (sum m)^2 / sum m^2.
    - `preferred`: live units by the class of m1, of equal ones the first.
    """

    dead_units: int
    selectivity: float | None = None
    deciles: tuple[float, ...] = ()
    histogram: tuple[int, ...] = ()
    one_class: float | None = None
    mixed: float | None = None
    every_class: float | None = None
    classes_per_unit: float | None = None
    preferred: tuple[int, ...] = ()


def class_selectivity(h: Tensor, labels: Tensor, classes: int) -> Selectivity:
    """Measure how selective the units of a layer are for classes.

    It is (m1 - m2) / (m1 + m2), m1 being the largest class mean of |h| and m2 the mean of the other
    class means. Classes without samples do not count.

    **Arguments:**

    - `h`: (N, n) activations.
    - `labels`: (N,) int64 in 0 .. C - 1.
    - `classes`: C.

    **Returns:**

    The figures.

    **Source:**

    A. Morcos et al., "On the importance of single directions for generalization", arXiv
    1803.06959, section 2. Magnitudes in place of activations are this project's choice; for relu
    they are the same.
    """
    counts = torch.bincount(labels, minlength=classes)
    there = counts > 0
    totals = class_totals(h, labels, classes)
    live = totals.sum(0) > 0
    dead = int((~live).sum())
    if int(there.sum()) < 2 or not bool(live.any()):
        return Selectivity(dead)
    means = totals[there][:, live] / counts[there].unsqueeze(1)  # (K, live units)
    largest, place = means.max(0)
    others = (means.sum(0) - largest) / (len(means) - 1)
    index = ((largest - others) / (largest + others)).clamp(0.0, 1.0)  # but for rounding
    driving = (means > DRIVEN * largest).sum(0)
    chosen = there.nonzero().squeeze(1)[place]
    shares = means / largest  # squares of tiny means would vanish
    return Selectivity(
        dead_units=dead,
        selectivity=float(index.mean()),
        deciles=deciles(index),
        histogram=tuple(
            torch.bincount((index * BINS).long().clamp_max(BINS - 1), minlength=BINS).tolist()
        ),
        one_class=_share(driving == 1),
        mixed=_share((driving > 1) & (driving < len(means))),
        every_class=_share(driving == len(means)),
        classes_per_unit=float((shares.sum(0).square() / shares.square().sum(0)).mean()),
        preferred=tuple(torch.bincount(chosen, minlength=classes).tolist()),
    )


def _share(chosen: Tensor) -> float:
    """Return what share is chosen."""
    return int(chosen.sum()) / len(chosen)
