"""The largest numbers of each row, found among the rows' most promising groups."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest numbers of each row, in any order, and where they are.

    They lie in the k groups of numbers that have the largest maxima: a number of any other group
    has k numbers above or beside it. A selection among groups, and one among those k, handle far
    fewer numbers than one among all.

    **Arguments:**

    - `x`: (..., n).
    - `k`: how many, at most n.

    **Returns:**

    The numbers (..., k), and their indices (..., k); of equal numbers any may be chosen.
    """
    width = x.shape[-1]
    size = _group_size(width, k)
    if size is None:
        return x.topk(k, dim=-1, sorted=False)
    groups = width // size
    grouped = x.unflatten(-1, (size, groups))  # the columns g, g + groups ... are group g
    chosen = grouped.amax(-2).topk(k, dim=-1, sorted=False).indices
    members = grouped.gather(-1, chosen.unsqueeze(-2).expand(*grouped.shape[:-1], k))
    found, among = members.flatten(-2).topk(k, dim=-1, sorted=False)
    return found, chosen.gather(-1, among % k) + among.div(k, rounding_mode="floor") * groups


def _group_size(width: int, k: int) -> int | None:
    """Return the divisor of the width at which both selections are about alike in cost; None where
    no selection among groups is worth it.
    """
    even = math.sqrt(width / k)
    sizes = [size for size in range(2, int(2 * even)) if width % size == 0]
    return min(sizes, key=lambda size: abs(size - even), default=None)
