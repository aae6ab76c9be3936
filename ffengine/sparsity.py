"""Hoyer sparsity S, other measures of sparsity, and the samples for which they are undefined.

Legend: n width (the last axis), ... any leading axes. S(h) = (sqrt(n) - ||h||_1 / ||h||_2) /
(sqrt(n) - 1). All measures are float64 for any input. They take memory for CHUNK_ELEMENTS
activations beside it. A sample that is zero throughout gets 0; `dead_samples` finds such samples. A
sample that holds NaN or infinity gets NaN.
"""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from ffengine.piece_sizes import piece

CHUNK_ELEMENTS = 2**20  # float64 copies are made in pieces of 8 MiB


class DeadSamplesWarning(UserWarning):
    """Some samples are zero throughout, so that their Hoyer sparsity is undefined.

    `hoyer_sparsity` issues it; the message counts these samples.
    """


def hoyer_sparsity(h: Tensor) -> Tensor:
    """Compute the Hoyer sparsity of activations, in [0, 1]; 1 means that a single unit is active.

    S(h) = (sqrt(n) - ||h||_1 / ||h||_2) / (sqrt(n) - 1). It is undefined for a sample that is zero
    throughout. Such a sample gets 0, and a DeadSamplesWarning counts them; `dead_samples` finds
    them.

    **Arguments:**

    - `h`: (..., n) float32 or float64, n >= 2, finite.

    **Returns:**

    S (...) float64.

    **Raises:**

    - `ValueError`: `h` is not a floating-point tensor of finite numbers with at least 2 units.

    **Source:**

    P. Hoyer, JMLR 5 (2004), section 3.1.
    """
    check_finite("h", h)
    if h.dim() < 1 or h.shape[-1] < 2:
        raise ValueError(f"h: expected shape (..., n) with n >= 2 units, got {tuple(h.shape)}")
    sparsity, dead = sparsity_and_dead(h)
    if count := int(dead.sum()):
        warnings.warn(
            f"{count} of {dead.numel()} samples are dead (zero throughout): their sparsity is "
            f"undefined",
            DeadSamplesWarning,
            stacklevel=2,
        )
    return sparsity


def dead_samples(h: Tensor) -> Tensor:
    """Find the samples that are zero throughout.

    **Arguments:**

    - `h`: (..., n), of any type.

    **Returns:**

    (...) bool, True for a dead sample.
    """
    return ~(h != 0).any(-1)


def sparsity_and_dead(h: Tensor) -> tuple[Tensor, Tensor]:
    """Compute Hoyer sparsity and find dead samples, without checks and warnings.

    **Arguments:**

    - `h`: (..., n), n >= 2.

    **Returns:**

    S (...) float64, 0 where it is undefined, and dead (...) bool.

    **Raises:**

    - `ValueError`: there are fewer than 2 units.
    """

    def measure(rows: Tensor) -> Tensor:
        magnitude = _scaled(rows.abs())
        return hoyer_of_norms(magnitude.sum(-1), magnitude.square_().sum(-1), rows.shape[-1])

    return _by_chunk(h, measure), dead_samples(h)


def gini(h: Tensor) -> Tensor:
    """Compute the Gini index of |h| over the units, in [0, 1 - 1/n]; 0 means equal units.

    It is 1 - 1/n where a single unit is active. The terms of the source, 1 - 2 sum_k (|h|_(k) /
    ||h||_1) (n - k + 1/2) / n with |h|_(1) <= ... <= |h|_(n), are put together here: sum_k (2k - n
    - 1) |h|_(k) / (n ||h||_1). It sorts the units and is by far the slowest of the measures.

    **Arguments:**

    - `h`: (..., n), n >= 2.

    **Returns:**

    (...) float64; 0 for a dead sample.

    **Raises:**

    - `ValueError`: there are fewer than 2 units.

    **Source:**

    N. Hurley & S. Rickard, IEEE Trans. Inf. Theory 55 (2009), table II.
    """

    def measure(rows: Tensor) -> Tensor:
        width = rows.shape[-1]
        ordered = _scaled(rows.abs().sort(-1).values)
        rank = torch.arange(1 - width, width, 2, dtype=torch.float64, device=rows.device)
        total = ordered.sum(-1)
        return ((ordered @ rank) / (width * _or_one(total))).clamp(0.0, 1 - 1 / width)

    return _by_chunk(h, measure)


def treves_rolls(h: Tensor) -> Tensor:
    """Compute the Treves-Rolls sparseness over the units, in [0, 1]; 1 means one active unit.

    Equal units have 0. It is the population form over the units of one sample, (1 - a) / (1 - 1/n)
    with a = (mean |h|)^2 / mean h^2. Since a = (||h||_1 / ||h||_2)^2 / n, it is S (2 sqrt(n) - S
    (sqrt(n) - 1)) / (sqrt(n) + 1), which increases with Hoyer's S: at one width both order samples
    alike, but their means differ.

    **Arguments:**

    - `h`: (..., n), n >= 2.

    **Returns:**

    (...) float64; 0 for a dead sample.

    **Raises:**

    - `ValueError`: there are fewer than 2 units.

    **Source:**

    A. Treves & E. Rolls, Network 2 (1991); the form is that of W. Vinje & J. Gallant, Science 287
    (2000).
    """

    def measure(rows: Tensor) -> Tensor:
        magnitude = _scaled(rows.abs())
        return treves_rolls_of_norms(magnitude.sum(-1), magnitude.square_().sum(-1), rows.shape[-1])

    return _by_chunk(h, measure)


def kurtosis(h: Tensor) -> Tensor:
    """Compute the excess kurtosis of the signed activations over the units; 0 for equal units.

    It is m4 / m2^2 - 3 with the population's moments of the n units about their mean. Shift and
    scale do not matter. It lies between -2 (two values, equally frequent) and n - 5 + 1/(n - 1) (a
    single unit differs from the rest).

    **Arguments:**

    - `h`: (..., n), n >= 2.

    **Returns:**

    (...) float64.

    **Raises:**

    - `ValueError`: there are fewer than 2 units.
    """

    def measure(rows: Tensor) -> Tensor:
        scaled = _scaled(rows)
        # The difference of two close numbers is exact, their mean is not. So a unit is subtracted
        # before the mean, and units that differ in the last bit alone have a kurtosis.
        moments = _scaled(scaled - scaled[..., :1])
        moments -= moments.mean(-1, keepdim=True)
        moments.square_()
        variance = moments.mean(-1)
        return torch.where(
            variance == 0, 0.0, moments.square_().mean(-1) / _or_one(variance.square()) - 3
        )

    return _by_chunk(h, measure)


def _by_chunk(h: Tensor, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a measure (rows, n) -> (rows,) to activations (..., n), some rows at a time."""
    if h.dim() < 1 or h.shape[-1] < 2:
        raise ValueError(f"h: expected shape (..., n) with n >= 2 units, got {tuple(h.shape)}")
    rows = h.detach().reshape(-1, h.shape[-1])
    most = max(1, piece(CHUNK_ELEMENTS, h.device) // h.shape[-1])
    pieces = [measure(part) for part in rows.split(most)]
    return torch.cat(pieces).reshape(h.shape[:-1])


def _scaled(rows: Tensor) -> Tensor:
    """Return rows in float64, divided by their largest magnitude.

    The measures ignore scale, and squares then neither overflow nor vanish.
    """
    rows = rows.double()
    return rows / _or_one(rows.abs().amax(-1, keepdim=True))


def _or_one(divisor: Tensor) -> Tensor:
    """Return the divisor with 1 in place of 0."""
    return divisor.masked_fill(divisor == 0, 1.0)


def hoyer_of_norms(l1: Tensor, squares: Tensor, width: int) -> Tensor:
    """Compute Hoyer sparsity from the norms of the activations.

    **Arguments:**

    - `l1`: ||h||_1 (...) float64.
    - `squares`: ||h||_2^2 (...) float64.
    - `width`: n, at least 2.

    **Returns:**

    S (...) float64 in [0, 1]; 0 for a dead sample.

    **Source:**

    P. Hoyer, JMLR 5 (2004), section 3.1.
    """
    root = math.sqrt(width)
    ratio = torch.where(squares == 0, root, l1) / _or_one(squares).sqrt()
    return ((root - ratio) / (root - 1)).clamp(0.0, 1.0)  # rounding can leave [0, 1] by 1e-16


def treves_rolls_of_norms(l1: Tensor, squares: Tensor, width: int) -> Tensor:
    """Compute the Treves-Rolls sparseness, as `treves_rolls`, from the norms of the activations.

    **Arguments:**

    - `l1`: ||h||_1 (...) float64.
    - `squares`: ||h||_2^2 (...) float64.
    - `width`: n, at least 2.

    **Returns:**

    (...) float64 in [0, 1]; 0 for a dead sample.
    """
    participation = torch.where(squares == 0, float(width), l1.square()) / _or_one(squares)
    return ((width - participation) / (width - 1)).clamp(0.0, 1.0)


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise ValueError unless a value is a non-empty float32 or float64 tensor of finite numbers.

    **Arguments:**

    - `name`: of the argument; the message begins with it.
    - `tensor`: the value.

    **Raises:**

    - `ValueError`: the value is not such a tensor.
    """
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{name}: expected float32 or float64, got "
            f"{str(tensor.dtype).removeprefix('torch.')}; convert it first"
        )
    if tensor.numel() == 0:
        raise ValueError(
            f"{name}: is empty, shape {tuple(tensor.shape)}; expected at least one sample"
        )
    low, high = tensor.detach().aminmax()
    if not (math.isfinite(float(low)) and math.isfinite(float(high))):
        raise ValueError(f"{name}: holds NaN or infinity; expected finite numbers")
