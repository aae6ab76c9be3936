"""Entmax: a softmax whose small weights are exactly zero (Peters, Niculae and Martins 2019).

alpha-entmax of h is p with p_i = max(0, (alpha - 1) h_i - t)^(1 / (alpha - 1)), t such that they
sum to one. 1 is softmax, in the limit; 2 is sparsemax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# The sum is a convex, falling function of t, so Newton's steps from below pass no root: each one
# brings t nearer. So many leave less than the rounding of float64 for 65 536 units.
NEWTON_STEPS = 24


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
        slope = above.pow(power - 1).masked_fill_(above == 0, 0)
        over = above.mul_(slope).sum(-1, keepdim=True).sub_(1)
        t += over / slope.sum(-1, keepdim=True).mul_(power)
    weights = (scaled - t).clamp_min_(0).pow_(power)
    return weights.div_(weights.sum(-1, keepdim=True))
