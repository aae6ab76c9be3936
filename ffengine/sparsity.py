"""Hoyer sparsity S, the measures beside it, and the samples for which they are undefined.

Legend: n width (the last axis), ... any leading axes. S(h) = (sqrt(n) - ||h||_1 / ||h||_2) /
(sqrt(n) - 1). All measures are float64 whatever the input, and take memory for CHUNK_ELEMENTS
activations beyond it. A sample that is zero throughout gets 0 (and a zero_fraction of 1);
`dead_samples` tells which they are. A sample that holds NaN or infinity gets NaN.
"""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**20  # float64 copies are made in pieces of 8 MiB


class DeadSamplesWarning(UserWarning):
    """Hoyer sparsity was asked of samples that are zero throughout, for which it is undefined."""


def hoyer_sparsity(h: Tensor) -> Tensor:
    """Hoyer sparsity of activations (..., n) -> (...), in [0, 1]; 1: a single unit active. Float64,
    whatever the input.

    S is undefined for a sample that is zero throughout: it is given as 0, and a DeadSamplesWarning
    counts such samples; `dead_samples` tells which they are. Source: P. Hoyer, JMLR 5 (2004),
    section 3.1.

    Raises ValueError where `h` is not a floating-point tensor of finite numbers with at least 2
    units.
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
    """Which samples are zero throughout: (..., n) -> (...) bool."""
    return ~(h != 0).any(-1)


def sparsity_and_dead(h: Tensor) -> tuple[Tensor, Tensor]:
    """S (...) float64, 0 where undefined, and dead (...) bool, of activations (..., n)."""

    def of(rows: Tensor) -> Tensor:
        magnitude = _scaled(rows.abs())
        return hoyer_of_norms(magnitude.sum(-1), magnitude.square_().sum(-1), rows.shape[-1])

    return _by_chunk(h, of), dead_samples(h)


def gini(h: Tensor) -> Tensor:
    """Gini index of |h| over the units of activations (..., n) -> (...), in [0, 1 - 1/n].

    0: equal units; 1 - 1/n: a single unit active. Source: N. Hurley & S. Rickard, IEEE Trans. Inf.
    Theory 55 (2009), table II, 1 - 2 sum_k (|h|_(k) / ||h||_1) (n - k + 1/2) / n with |h|_(1) <=
    ... <= |h|_(n), here with the terms put together: sum_k (2k - n - 1) |h|_(k) / (n ||h||_1). It
    sorts, and is by far the slowest of the measures.
    """

    def of(rows: Tensor) -> Tensor:
        width = rows.shape[-1]
        ordered = _scaled(rows.abs().sort(-1).values)
        rank = torch.arange(1 - width, width, 2, dtype=torch.float64, device=rows.device)
        total = ordered.sum(-1)
        return ((ordered @ rank) / (width * _or_one(total))).clamp(0.0, 1 - 1 / width)

    return _by_chunk(h, of)


def treves_rolls(h: Tensor) -> Tensor:
    """Treves and Rolls's sparseness of the units of activations (..., n) -> (...), in [0, 1]; 1: a
    single unit active, 0: equal units.

    The population form over the units of one sample: a = (mean |h|)^2 / mean h^2 (A. Treves & E.
    Rolls, Network 2 (1991)), given as (1 - a) / (1 - 1/n) (W. Vinje & J. Gallant, Science 287
    (2000)). Since a = (||h||_1 / ||h||_2)^2 / n, it is an increasing function of Hoyer's S at any
    one width, S (2 sqrt(n) - S (sqrt(n) - 1)) / (sqrt(n) + 1): the two order samples alike; their
    means differ.
    """

    def of(rows: Tensor) -> Tensor:
        magnitude = _scaled(rows.abs())
        return treves_rolls_of_norms(magnitude.sum(-1), magnitude.square_().sum(-1), rows.shape[-1])

    return _by_chunk(h, of)


def kurtosis(h: Tensor) -> Tensor:
    """Excess kurtosis of the signed activations of the units of one sample, (..., n) -> (...); 0
    where all units are equal.

    m4 / m2^2 - 3 with the population's moments, of the n units about their mean and divided by n.
    It ignores shift and scale. From -2 (two values, equally frequent) to n - 5 + 1/(n - 1) (a
    single unit differs from the rest).
    """

    def of(rows: Tensor) -> Tensor:
        scaled = _scaled(rows)
        # A difference of near equals is exact, their mean is not: only so do units that differ in
        # the last bit have a kurtosis.
        moments = _scaled(scaled - scaled[..., :1])
        moments -= moments.mean(-1, keepdim=True)
        moments.square_()
        variance = moments.mean(-1)
        return torch.where(
            variance == 0, 0.0, moments.square_().mean(-1) / _or_one(variance.square()) - 3
        )

    return _by_chunk(h, of)


def _by_chunk(h: Tensor, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """A measure (rows, n) -> (rows,) of activations (..., n), a bounded number of rows at a
    time.
    """
    if h.dim() < 1 or h.shape[-1] < 2:
        raise ValueError(f"h: expected shape (..., n) with n >= 2 units, got {tuple(h.shape)}")
    rows = h.detach().reshape(-1, h.shape[-1])
    pieces = [measure(piece) for piece in rows.split(max(1, CHUNK_ELEMENTS // h.shape[-1]))]
    return torch.cat(pieces).reshape(h.shape[:-1])


def _scaled(rows: Tensor) -> Tensor:
    """Float64 rows over their largest magnitude: the measures ignore scale, and so squares neither
    overflow nor vanish.
    """
    rows = rows.double()
    return rows / _or_one(rows.abs().amax(-1, keepdim=True))


def _or_one(divisor: Tensor) -> Tensor:
    return divisor.masked_fill(divisor == 0, 1.0)


def hoyer_of_norms(l1: Tensor, squares: Tensor, width: int) -> Tensor:
    """S from ||h||_1 and ||h||_2^2 (both float64) at a width; 0 where the sample is dead."""
    root = math.sqrt(width)
    ratio = torch.where(squares == 0, root, l1) / _or_one(squares).sqrt()
    return ((root - ratio) / (root - 1)).clamp(0.0, 1.0)  # rounding can leave the range by 1e-16


def treves_rolls_of_norms(l1: Tensor, squares: Tensor, width: int) -> Tensor:
    """Treves and Rolls's sparseness, as `treves_rolls`, from ||h||_1 and ||h||_2^2 (both float64)
    at a width; 0 where dead.
    """
    spread = torch.where(squares == 0, float(width), l1.square()) / _or_one(squares)
    return ((width - spread) / (width - 1)).clamp(0.0, 1.0)


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise ValueError, naming the argument, unless it is a non-empty floating-point tensor of
    finite numbers.
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
