"""Exact rescaling by powers of two: weights that grow or shrink without end stay within float32.

Where a step is homogeneous of degree one in the weights and the optimiser's state (see
docs/numerics.md, "weights without end"), a layer may be kept as weights 2^-k W with its exponent k
beside it. Every rounding commutes with a power of two, so that no bit of S, ratios, agreement or
flips changes.

Legend: R replicas, n width, m inputs, k (R,) int32 the exponents of one layer.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# max|W| of a layer and seed is kept from 2^-RANGE_BITS to 2^RANGE_BITS
RANGE_BITS = 16
# how many bits weights may grow or shrink between two looks at them, beyond that range
BUDGET_BITS = 32.0
# by how many bits more than the first batch of an epoch another one may move them in a step
SAFETY_BITS = 1.0
MOST_STEPS = 8  # between two looks
# Factors up to 2^SUM_BITS keep a goodness that is summed over layers, or compared with noise,
# within the type. So far below the largest, where normal numbers end, a layer does not count.
SUM_BITS = {torch.float32: 60, torch.float64: 900}
NEGLIGIBLE_BITS = {torch.float32: 180, torch.float64: 1900}


def power_of_two(exponent: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Compute 2^exponent exactly on every device, from the bits of the number.

    **Arguments:**

    - `exponent`: integers; those beyond the normal numbers of the type are clamped to them.
    - `dtype`: float32 or float64.

    **Returns:**

    The powers, in the shape of `exponent`.
    """
    if dtype == torch.float64:
        return (exponent.long().clamp(-1022, 1023) + 1023 << 52).view(torch.float64)
    return (exponent.int().clamp(-126, 127) + 127 << 23).view(torch.float32)


def shifts(weight: Tensor) -> Tensor:
    """Compute by which power of two each replica of a layer is to be divided.

    It is a multiple of the width of the range, so that a layer has the same exponent whenever it is
    looked at. Weights that are zero or not finite are left alone.

    **Arguments:**

    - `weight`: (R, n, m) float32.

    **Returns:**

    (R,) int32; 0 where max|W| is in range.
    """
    largest = weight.abs().amax((1, 2))
    exponent = (largest.view(torch.int32) >> 23) - 127  # of subnormals -127
    window = 2 * RANGE_BITS
    shift = torch.div(exponent + RANGE_BITS, window, rounding_mode="floor") * window
    most = 96 // window * window  # so that the factor is a normal number; the next look does more
    return torch.where((largest > 0) & largest.isfinite(), shift.clamp(-most, most), 0)


def is_in_range(weight: Tensor) -> bool:
    """Whether every replica of a layer on the CPU is in range: what `shifts` says, sooner.

    **Arguments:**

    - `weight`: (R, n, m) float32.
    """
    low, high = 2.0**-RANGE_BITS, 2.0**RANGE_BITS
    return all(low <= largest < high for largest in weight.abs().amax((1, 2)).tolist())


def by_replica(factor: Tensor, like: Tensor) -> Tensor:
    """Return numbers (R,) of the replicas in a shape that multiplies a tensor (R, ...)."""
    return factor.view(-1, *[1] * (like.dim() - 1))


def steps_between_looks(eta: float, energy: float, persistence: float, decay: float) -> int:
    """Compute how many steps weights cannot leave float32 for, from what one step may do.

    A step changes a unit's weights w by at most 4 eta ||w|| ||x||^2 (the weights |s| of both sides
    sum to 2), and what an optimiser remembers makes it 1 / (1 - momentum) times that.

    **Arguments:**

    - `eta`: the step size.
    - `energy`: the largest ||x||^2 of a batch.
    - `persistence`: the momentum.
    - `decay`: lambda of the penalty on the weights.

    **Returns:**

    The number of steps, at least 1.
    """
    factor = 1 + eta * (4 * energy + decay) / (1 - persistence)
    if not math.isfinite(factor):
        return 1
    # A step that almost cancels the weights may shrink them by as much as it may enlarge them.
    return max(1, min(MOST_STEPS, int(BUDGET_BITS / (math.log2(factor) + SAFETY_BITS))))


def true_goodness(stored: float, exponent: int) -> float | None:
    """Return the goodness of W from that of 2^-k W.

    **Arguments:**

    - `stored`: the goodness of the weights as they are kept, or a sum or mean of it.
    - `exponent`: k.

    **Returns:**

    4^k times as much, exactly; None where that is beyond float64.
    """
    try:
        return math.ldexp(stored, 2 * exponent)
    except OverflowError:
        return None


def goodness_factors(exponents: Sequence[Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
    """Compute what the stored goodness of layers is multiplied with before layers are summed.

    It is the true 4^k as long as that leaves the type's range to the goodness. Beyond, all layers
    of a replica have the same power of two less: sums keep their order, and noise of order one
    stays as far below or above them as makes no difference.

    **Arguments:**

    - `exponents`: k (R,) of each of L layers.
    - `dtype`: float32 or float64.

    **Returns:**

    (R, L) of that type.
    """
    exponent = 2 * torch.stack(list(exponents), dim=1)  # (R, L)
    largest = exponent.amax(1, keepdim=True)
    bits = SUM_BITS[dtype]
    below = (exponent - largest).clamp_min(-NEGLIGIBLE_BITS[dtype])
    return power_of_two(below + largest.clamp(-bits, bits), dtype)
