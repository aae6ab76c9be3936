"""Entmax: a softmax whose small weights are exactly zero (Peters, Niculae and Martins 2019).

alpha-entmax of h is p with p_i = a_i^q, q = 1 / (alpha - 1), where the roots a_i = max(0, (alpha -
1) h_i - t) have such a t that the weights p sum to one. 1 is softmax, in the limit; 2 is sparsemax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# The length of the roots, (sum (x - t)^q)^(1/q), is a convex, falling function of t, so Newton's
# steps from below pass no root of "length = 1". Of fewer units the length is less, so the t at
# which it is one for the largest unit of each group is also from below, and near: most steps are
# taken there. So many steps leave less than the rounding of each type (tests/engine).
GROUP = 8
LEAST_WIDTH = 512  # of a layer whose groups are worth a search
FIRST_STEPS = 6
STEPS, STEPS_OF_LARGE_ALPHA, STEPS_OF_DOUBLES = 3, 4, 6
JUST_BELOW = 1 - 2**-21  # as far as rounding may take a step too far, which none takes back


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
    roots = entmax_roots(h, alpha)
    return lower_power(roots, alpha) * roots


def entmax_roots(h: Tensor, alpha: float) -> Tensor:
    """Compute the roots of alpha-entmax over the last dimension.

    **Arguments:**

    - `h`: (..., n).
    - `alpha`: above 1, at most 2.

    **Returns:**

    a (..., n), in other memory: the weights to the power alpha - 1.
    """
    scaled = h.detach() * (alpha - 1)
    top = scaled.amax(-1, keepdim=True)
    scaled -= top
    # the largest alone has weight one at t = -1
    _, first = _newton(_leaders(scaled) + 1, alpha, FIRST_STEPS)
    start = first * JUST_BELOW - 1
    roots, second = _newton(scaled.sub_(start), alpha, _last_steps(h, alpha))
    if not h.requires_grad:
        return roots
    # a step from the right t moves nothing, and has the derivative of t
    above = (h * (alpha - 1) - (top + (start + second))).clamp_min(0)
    return (above - _step(above, alpha)).clamp_min(0) * (above > 0)


def lower_power(roots: Tensor, alpha: float) -> Tensor:
    """Compute a^(q - 1), which is p^(2 - alpha).

    **Arguments:**

    - `roots`: a (..., n).
    - `alpha`: above 1, at most 2.

    **Returns:**

    (..., n), 0 where a is 0; the same memory for alpha = 1.5.
    """
    if alpha == 2:
        return roots.sign()
    return roots if alpha == 1.5 else roots.pow(1 / (alpha - 1) - 1)


def _last_steps(h: Tensor, alpha: float) -> int:
    """Return how many steps all units need after those of the leaders."""
    if h.itemsize == 8:
        return STEPS_OF_DOUBLES
    return STEPS if alpha <= 1.5 else STEPS_OF_LARGE_ALPHA


def _newton(x: Tensor, alpha: float, steps: int) -> tuple[Tensor, Tensor]:
    """Return the roots (x - t)+, in the memory of x, and t after Newton's steps from 0 towards
    roots of length one.
    """
    above = x.clamp_min_(0)
    t = above.new_zeros((*x.shape[:-1], 1))
    for _ in range(steps):
        # rounding alone steps back, which would raise all that is 0
        step = _step(above, alpha).clamp_min_(0)
        t += step
        above.sub_(step).clamp_min_(0)
    return above, t


def _step(above: Tensor, alpha: float) -> Tensor:
    """Return by how much t is to rise, given (x - t)+."""
    lower = lower_power(above, alpha)
    rise = lower.sum(-1, keepdim=True)
    if alpha == 1.5:
        root: Tensor = above.norm(dim=-1, keepdim=True)
        size = root.square()
    else:
        size = (lower * above).sum(-1, keepdim=True)
        root = size.pow(alpha - 1)
    return (root - 1) * size / (root * rise)


def _leaders(x: Tensor) -> Tensor:
    """Return the largest unit of each group; all units of a narrow layer."""
    width = x.shape[-1]
    if width < LEAST_WIDTH:
        return x
    groups = width // GROUP
    grouped: Tensor = x[..., : GROUP * groups].unflatten(-1, (GROUP, groups))
    return grouped.amax(-2)
