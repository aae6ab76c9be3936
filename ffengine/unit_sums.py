"""Sums over the units of a layer for each sample, in blocks of units: C, theorem 2 and their
jackknife.

Legend: R replicas, N samples of one split, n units, G blocks of units. h activations, hdot their
rates along a step. C_k = 1 - E|h| / sqrt(E h^2) with means over units is S of sample k without its
width factor sqrt(n) / (sqrt(n) - 1).
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Estimate(NamedTuple):
    """What the units of one small run say of one split; one entry for each replica.

    **Attributes:**

    - `dead`: (R,) int64, samples whose activations are all 0.
    - `c`: (R,) mean C over live samples, as infinitely many units would have it.
    - `c_slope`: (R,): C of n units is c - c_slope / n.
    - `c_without`: (R, G) mean C of the units without each block.
    - `theorem2`: (R,) share of live samples with a positive margin.
    - `theorem2_without`: (R, G), the same without each block.
    """

    dead: Tensor
    c: Tensor
    c_slope: Tensor
    c_without: Tensor
    theorem2: Tensor
    theorem2_without: Tensor


class UnitSums:
    """Sums over units of samples that are added batch by batch, all float64.

    **Arguments:**

    - `units`: n.
    - `blocks`: G; blocks differ by one unit at most.
    """

    def __init__(self, units: int, blocks: int) -> None:
        bounds = [units * block // blocks for block in range(blocks + 1)]
        self.sizes = [high - low for low, high in itertools.pairwise(bounds)]
        self.units = units
        self._by_block: list[Tensor] = []  # (4, R, B, G): |h|, h^2, |h| rate, rate
        self._whole: list[Tensor] = []  # (2, R, B): |h|^3, h^4

    def add(self, h: Tensor, hdot: Tensor) -> None:
        """Add a batch of samples.

        **Arguments:**

        - `h`: (R, B, n) activations.
        - `hdot`: (R, B, n), their rates along a step.
        """
        size = h.double().abs()
        rate = hdot.double() * h.sign()
        square = size.square()
        self._by_block.append(
            torch.stack([self._blocks(one) for one in (size, square, size * rate, rate)])
        )
        self._whole.append(torch.stack([(square * size).sum(-1), square.square().sum(-1)]))

    def estimate(self) -> Estimate:
        """Return what all samples say so far."""
        l1, squares, along_h, along_sign = torch.cat(self._by_block, dim=2)  # (R, N, G) each
        cubes, fourths = torch.cat(self._whole, dim=2) / self.units  # (R, N) each
        live = squares.sum(-1) > 0
        c, slope = _corrected(l1.sum(-1), squares.sum(-1), cubes, fourths, self.units)
        left = torch.tensor(self.sizes, device=l1.device).neg().add(self.units)
        without = [_without_each(one) for one in (l1, squares, along_h, along_sign)]
        left_live = live.unsqueeze(-1) & (without[1] > 0)
        c_without = 1 - without[0] / (without[1] * left).sqrt()
        whole = [one.sum(-1) for one in (l1, squares, along_h, along_sign)]
        return Estimate(
            dead=(~live).sum(-1),
            c=_mean(c, live, 1),
            c_slope=_mean(slope, live, 1),
            c_without=_mean(c_without, left_live, 1),
            theorem2=_mean(_margin(whole) > 0, live, 1),
            theorem2_without=_mean(_margin(without) > 0, left_live, 1),
        )

    def _blocks(self, values: Tensor) -> Tensor:
        """Return the sums (R, B, G) of each block of values (R, B, n)."""
        return torch.stack([one.sum(-1) for one in values.split(self.sizes, dim=-1)], dim=-1)


def _corrected(
    l1: Tensor, squares: Tensor, cubes: Tensor, fourths: Tensor, units: int
) -> tuple[Tensor, Tensor]:
    """Return C without its bias of order 1/n, and (1 - C) times the coefficient of that bias.

    The mean of sum|h| / sqrt(n sum h^2) over draws of n units is (1 - C) (1 + b / n), with b from
    the moments of one unit to second order; it is estimated from the same units.
    """
    m1, m2 = l1 / units, squares / units
    b = -0.5 * (cubes - m1 * m2) / (m1 * m2) + 0.375 * (fourths - m2.square()) / m2.square()
    left = m1 / m2.sqrt() / (1 + b / units)  # 1 - C
    return 1 - left, left * b


def _without_each(values: Tensor) -> Tensor:
    """Return for each block the sum of the others: (..., G) of (..., G).

    Others are added, not the one taken from the whole: beside a block that holds almost all of it,
    little of what is left would be right.
    """
    blocks = values.shape[-1]
    others = 1 - torch.eye(blocks, dtype=values.dtype, device=values.device)
    return values @ others


def _margin(sums: Sequence[Tensor]) -> Tensor:
    """Return the margins: <h, hdot> / ||h||^2 - <sign h, hdot> / ||h||_1."""
    l1, squares, along_h, along_sign = sums
    return along_h / squares - along_sign / l1


def _mean(values: Tensor, counted: Tensor, dim: int) -> Tensor:
    """Return the mean over the samples that count; NaN where none does."""
    chosen = torch.where(counted, values.double(), 0.0)
    mean: Tensor = chosen.sum(dim) / counted.sum(dim)
    return mean
