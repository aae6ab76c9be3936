"""How the units of a layer share the work: how many are used, by samples and over samples.

Legend: N samples, n width.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.monitor import used_units
from ffengine.sparsity import sparsity_and_dead

DECILES = 11  # minimum, nine deciles, maximum


class UnitUsage(NamedTuple):
    """What a layer's units do on some samples.

    **Attributes:**

    - `dead_samples`: samples with h = 0.
    - `dead_units`: units that are active for no sample.
    - `used_units`: units whose mean |h| is above 1 % of the largest.
    - `population_sparsity`: mean over live samples of Hoyer's S over units; None without any.
    - `lifetime_sparsity`: mean over live units of Hoyer's S over samples; None without any, and of
      one sample.
    - `usage_deciles`: mean |h| of the units over the largest: DECILES values; empty where all units
      are dead.
    """

    dead_samples: int
    dead_units: int
    used_units: int
    population_sparsity: float | None
    lifetime_sparsity: float | None
    usage_deciles: tuple[float, ...]


def unit_usage(h: Tensor) -> UnitUsage:
    """Measure how the units of a layer share the work.

    **Arguments:**

    - `h`: (N, n) activations, n >= 2.

    **Returns:**

    The figures.

    **Source:**

    B. Willmore & D. Tolhurst, Network 12 (2001); P. Hoyer, JMLR 5 (2004).
    """
    sums = h.abs().double().sum(0)
    by_sample, silent = sparsity_and_dead(h)
    dead_units = ~(h != 0).any(0)
    lifetime = sparsity_and_dead(h.T.contiguous())[0] if len(h) > 1 else None
    return UnitUsage(
        dead_samples=int(silent.sum()),
        dead_units=int(dead_units.sum()),
        used_units=used_units(sums),
        population_sparsity=mean_where(by_sample, ~silent),
        lifetime_sparsity=None if lifetime is None else mean_where(lifetime, ~dead_units),
        usage_deciles=deciles(sums / sums.max()) if bool(sums.max() > 0) else (),
    )


def mean_where(values: Tensor, where: Tensor) -> float | None:
    """Return the mean of the chosen values, None where none is chosen.

    **Arguments:**

    - `values`: (M,) float64.
    - `where`: (M,) bool.
    """
    return float(values[where].mean()) if bool(where.any()) else None


def deciles(values: Tensor) -> tuple[float, ...]:
    """Return minimum, nine deciles and maximum, by linear interpolation.

    **Arguments:**

    - `values`: (M,) float64, M >= 1.

    **Returns:**

    DECILES numbers.
    """
    places = torch.linspace(0, 1, DECILES, dtype=torch.float64, device=values.device)
    return tuple(values.quantile(places).tolist())
