"""Hoyer sparsity S and the samples for which it is undefined.

Legend: n width (the last axis), ... any leading axes. S(h) = (sqrt(n) - ||h||_1 / ||h||_2) / (sqrt(n) - 1).
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
    """Hoyer sparsity of activations (..., n) -> (...), in [0, 1]; 1: a single unit active. Float64, whatever the input.

    S is undefined for a sample that is zero throughout: it is given as 0, and a DeadSamplesWarning counts such
    samples; `dead_samples` tells which they are. Source: P. Hoyer, JMLR 5 (2004), section 3.1.

    Raises ValueError where `h` is not a floating-point tensor of finite numbers with at least 2 units.
    """
    check_finite("h", h)
    if h.dim() < 1 or h.shape[-1] < 2:
        raise ValueError(f"h: expected shape (..., n) with n >= 2 units, got {tuple(h.shape)}")
    sparsity, dead = sparsity_and_dead(h)
    if count := int(dead.sum()):
        warnings.warn(
            f"{count} of {dead.numel()} samples are dead (zero throughout): their sparsity is undefined", DeadSamplesWarning, stacklevel=2
        )
    return sparsity


def zero_fraction(h: Tensor) -> Tensor:
    """Share of exact zeros among the units of (..., n) -> (...) float64."""
    return (h == 0).double().mean(-1)


def gini(h: Tensor) -> Tensor:
    """Gini index of |h| over the units of (..., n) -> (...) float64, in [0, 1 - 1/n]: 0 for equal units and for dead samples.

    2 sum_j j |h|_(j) / (n sum_j |h|_j) - (n + 1) / n, |h|_(1) <= ... <= |h|_(n). Source: Hurley & Rickard,
    IEEE Trans. Inf. Theory 55 (2009). Sorts: the slowest of the measures.
    """

    def of(rows: Tensor) -> Tensor:
        n = rows.shape[-1]
        ordered = _scaled(rows.abs().sort(-1).values)
        total = ordered.sum(-1)
        rank = torch.arange(1, n + 1, dtype=torch.float64, device=rows.device)
        index = 2 * (ordered @ rank) / (n * torch.where(total > 0, total, 1.0)) - (n + 1) / n
        return torch.where(total > 0, index, 0.0).clamp(0.0, 1 - 1 / n)

    return _by_chunk(h, of)


def treves_rolls(h: Tensor) -> Tensor:
    """Treves-Rolls sparseness of (..., n) -> (...) float64, in [0, 1]: 1 for a single active unit, 0 for equal ones and dead samples.

    (1 - a) / (1 - 1/n) with a = mean(|h|)^2 / mean(h^2): Treves & Rolls, Network 2 (1991), in the form of
    Vinje & Gallant, Science 287 (2000).
    """

    def of(rows: Tensor) -> Tensor:
        magnitude = _scaled(rows.abs())
        return treves_rolls_of_norms(magnitude.sum(-1), magnitude.square().sum(-1), rows.shape[-1])

    return _by_chunk(h, of)


def kurtosis(h: Tensor) -> Tensor:
    """Excess kurtosis over the units of (..., n) -> (...) float64, population moments; 0 where all units are equal."""

    def of(rows: Tensor) -> Tensor:
        centered = _scaled(rows)
        centered = centered - centered.mean(-1, keepdim=True)
        squares = centered.square()
        variance = squares.mean(-1)
        spread = variance > 1e-28  # units that differ by rounding alone are equal
        return torch.where(spread, squares.square().mean(-1) / torch.where(spread, variance, 1.0).square() - 3, 0.0)

    return _by_chunk(h, of)


def dead_samples(h: Tensor) -> Tensor:
    """Which samples are zero throughout: (..., n) -> (...) bool."""
    return ~(h != 0).any(-1)


def sparsity_and_dead(h: Tensor) -> tuple[Tensor, Tensor]:
    """S (...) float64, 0 where undefined, and dead (...) bool, of activations (..., n)."""

    def of(rows: Tensor) -> Tensor:
        magnitude = _scaled(rows.abs())
        return hoyer_of_norms(magnitude.sum(-1), magnitude.square().sum(-1), rows.shape[-1])

    return _by_chunk(h, of), dead_samples(h)


def _by_chunk(h: Tensor, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """A measure of the rows of (..., n), a bounded number at a time."""
    rows = h.reshape(-1, h.shape[-1])
    pieces = [measure(piece) for piece in rows.split(max(1, CHUNK_ELEMENTS // h.shape[-1]))]
    return torch.cat(pieces).reshape(h.shape[:-1])


def _scaled(rows: Tensor) -> Tensor:
    """Float64 rows over their largest magnitude: the measures ignore scale; squares then neither overflow nor vanish."""
    rows = rows.double()
    largest = rows.abs().amax(-1, keepdim=True)
    return rows / torch.where(largest > 0, largest, 1.0)


def hoyer_of_norms(l1: Tensor, squares: Tensor, width: int) -> Tensor:
    """S from ||h||_1 and ||h||_2^2 (both float64) at a width; 0 where the sample is dead."""
    root = math.sqrt(width)
    live = squares > 0
    ratio = torch.where(live, l1, root) / torch.where(live, squares, 1.0).sqrt()
    return ((root - ratio) / (root - 1)).clamp(0.0, 1.0)  # rounding can leave the range by 1e-16


def treves_rolls_of_norms(l1: Tensor, squares: Tensor, width: int) -> Tensor:
    """Treves-Rolls sparseness from ||h||_1 and ||h||_2^2 (both float64) at a width; 0 where the sample is dead. See treves_rolls."""
    live = squares > 0
    a = torch.where(live, l1, 0.0).square() / (torch.where(live, squares, 1.0) * width)
    return torch.where(live, (1 - a) / (1 - 1 / width), 0.0).clamp(0.0, 1.0)


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise ValueError, naming the argument, unless it is a non-empty floating-point tensor of finite numbers."""
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name}: expected float32 or float64, got {str(tensor.dtype).removeprefix('torch.')}; convert it first")
    if tensor.numel() == 0:
        raise ValueError(f"{name}: is empty, shape {tuple(tensor.shape)}; expected at least one sample")
    low, high = tensor.detach().aminmax()
    if not (math.isfinite(float(low)) and math.isfinite(float(high))):
        raise ValueError(f"{name}: holds NaN or infinity; expected finite numbers")
