"""Entmax: a softmax whose small weights are exactly zero (Peters, Niculae and Martins 2019).

alpha-entmax of h is p with p_i = max(0, (alpha - 1) h_i - t)^(1 / (alpha - 1)), t such that they
sum to one. 1 is softmax, in the limit; 2 is sparsemax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# The length of the weights' roots, (sum (x - t)^q)^(1/q) with q = 1 / (alpha - 1), is a convex,
# falling function of t, so Newton's steps from below pass no root; where all units count it is
# nearly a line. So many steps leave less than the rounding of float64 (tests/engine).
NEWTON_STEPS = 12


def entmax(h: Tensor, alpha: float) -> Tensor:
    """Compute alpha-entmax over the last dimension.

    **Arguments:**

    - `h`: (..., n).
    - `alpha`: from 1 to 2.

    **Returns:**

    (..., n): weights of at least 0 that sum to one.

    **Source:** Peters, Niculae and Martins, "Sparse sequence-to-sequence models" (ACL 2019).
    """
    if alpha == 1:
        return h.softmax(-1)
    power = 1 / (alpha - 1)
    scaled = h * (alpha - 1)
    scaled -= scaled.amax(-1, keepdim=True)
    t = h.new_full((*h.shape[:-1], 1), -1.0)  # the largest alone has weight one there
    for _ in range(NEWTON_STEPS):
        above = (scaled - t).clamp_min_(0)
        lower = _power(above, power - 1)
        rise = lower.sum(-1, keepdim=True)
        size = lower.mul_(above).sum(-1, keepdim=True)  # sum (x - t)^q, to be one
        root = size.pow(1 / power)
        t += (root - 1) * size / (root * rise)
    weights = _power((scaled - t).clamp_min_(0), power)
    return weights.div_(weights.sum(-1, keepdim=True))


def _power(x: Tensor, exponent: float) -> Tensor:
    """Return x^exponent of numbers of at least 0, with 0^0 = 0, in other memory."""
    if exponent == 1:
        return x.clone()
    if exponent == 2:
        return x.square()
    return x.pow(exponent).masked_fill_(x == 0, 0)
