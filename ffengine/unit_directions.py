"""How long the weights of a layer are, and how they are spread over units and directions.

Legend: W (n, m) with rows w_j, the incoming weights of unit j, a bias among them. Products are
computed in the type of W, sums in float64. The norms of c W are c times those of W, for c > 0, and
every other figure is that of W; where c is a power of two, to the last bit.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ffengine.lanczos import largest_eigenvalue
from ffengine.products import linear

BASIN_COSINE = 0.9  # units whose directions have at least this cosine count as one direction
SHORTER = 2.0**-32  # brings rows of any length into the range of their weights
SPECTRAL_WITHIN = 1e-4  # of its square: a bound; mostly it is right to 1e-7
BASIN_UNITS = 8_192  # wider layers have no count of basins: it takes memory for n x n cosines


class UnitDirections(NamedTuple):
    """What the rows of W have in common.

    **Attributes:**

    - `effective_units`: (sum |w_j|^2)^2 / sum |w_j|^4, from 1 (one unit has all weight) to n.
    - `effective_rank`: (sum s_i^2)^2 / sum s_i^4 over the singular values s_i of W, from 1 to
      min(n, m); a loud unit counts for more than a quiet one.
    - `basins`: n^2 / sum_b n_b^2, n_b being the units of basin b: from 1 (all units have one
      direction) to n (each has its own), whatever their lengths. Basins are found by going through
      the units from the longest to the shortest (of equal ones the first): a unit that has no basin
      yet founds one, and all units without a basin join whose cosine with it is above BASIN_COSINE.
      None beyond BASIN_UNITS units.
    - `norm`: the Frobenius norm of W, the square root of the sum of its squares.
    - `spectral_norm`: s_1, the largest singular value of W; None where it is not asked for.
    """

    effective_units: float
    effective_rank: float
    basins: float | None
    norm: float
    spectral_norm: float | None


def unit_directions(weight: Tensor, *, spectral: bool = False) -> UnitDirections:
    """Measure how long the weights of a layer are, and how they are spread.

    **Arguments:**

    - `weight`: W (n, m), finite and not zero throughout.
    - `spectral`: also find the spectral norm, which takes longer than all else.

    **Returns:**

    The figures; 0 where W is zero.

    **Source:**

    docs/theory.md, "The acts of training".
    """
    lengths = torch.linalg.vector_norm(weight.double(), dim=1)  # (n,)
    total = float(lengths.square().sum())
    if total == 0:
        return UnitDirections(0.0, 0.0, None, 0.0, 0.0 if spectral else None)
    longest = lengths.max()
    scale = float(longest)
    if float(longest) > torch.finfo(weight.dtype).max:  # each of its weights is finite
        weight, longest = weight * SHORTER, longest * SHORTER
    # divided by a length, so that no product overflows; the same bits whatever the scale
    scaled = weight / longest.to(weight.dtype)
    gram = _gram(scaled) if len(weight) <= max(BASIN_UNITS, weight.shape[1]) else None
    smaller = gram if gram is not None else _gram(scaled.T)
    energy = float(torch.linalg.vector_norm(scaled.double()).square())
    rank = energy**2 / float(smaller.double().square().sum())
    return UnitDirections(
        effective_units=total**2 / float(lengths.square().square().sum()),
        effective_rank=min(max(rank, 1.0), float(min(weight.shape))),  # products are rounded
        basins=_basins(gram) if gram is not None and len(gram) <= BASIN_UNITS else None,
        norm=math.sqrt(total),
        spectral_norm=scale * _spectral_norm(smaller) if spectral else None,
    )


def _gram(rows: Tensor) -> Tensor:
    """Return the products (n, n) of rows (n, m) with each other."""
    return linear(rows.unsqueeze(0), rows.unsqueeze(0))[0]


def _spectral_norm(gram: Tensor) -> float:
    """Return the square root of the largest eigenvalue of the products of rows."""
    matrix = gram.cpu().numpy().astype(np.float64)
    # a plain sum, whose order no number of threads changes
    found = largest_eigenvalue(
        lambda vector: np.einsum("ij,j->i", matrix, vector), len(matrix), within=SPECTRAL_WITHIN
    )
    return math.sqrt(found)


def _basins(gram: Tensor) -> float:
    """Return the effective number of basins from the products W W^T of the units."""
    squares = gram.diagonal()
    length = squares.sqrt()
    near = (gram > BASIN_COSINE * length.unsqueeze(1) * length.unsqueeze(0)).cpu().numpy()
    np.fill_diagonal(near, val=True)
    n = len(near)
    free = near.sum(1) > 1  # a unit that is near no other is a basin of its own
    squared_sizes = n - int(free.sum())
    if squared_sizes == n:
        return float(n)
    for unit in torch.argsort(squares, descending=True, stable=True).tolist():
        if free[unit]:
            members = near[unit] & free
            free &= ~members
            squared_sizes += int(members.sum()) ** 2
    return n**2 / squared_sizes
