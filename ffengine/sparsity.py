"""Hoyer sparsity S and the samples for which it is undefined.

Legend: n width (the last axis), ... any leading axes. S(h) = (sqrt(n) - ||h||_1 / ||h||_2) / (sqrt(n) - 1).
"""

import math
import warnings

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


def dead_samples(h: Tensor) -> Tensor:
    """Which samples are zero throughout: (..., n) -> (...) bool."""
    return ~(h != 0).any(-1)


def sparsity_and_dead(h: Tensor) -> tuple[Tensor, Tensor]:
    """S (...) float64, 0 where undefined, and dead (...) bool, of activations (..., n)."""
    rows = h.reshape(-1, h.shape[-1])
    pieces = [_sparsity_of(piece) for piece in rows.split(max(1, CHUNK_ELEMENTS // h.shape[-1]))]
    sparsity = torch.cat([piece[0] for piece in pieces]) if pieces else h.new_zeros(0, dtype=torch.float64)
    dead = torch.cat([piece[1] for piece in pieces]) if pieces else h.new_zeros(0, dtype=torch.bool)
    return sparsity.reshape(h.shape[:-1]), dead.reshape(h.shape[:-1])


def _sparsity_of(rows: Tensor) -> tuple[Tensor, Tensor]:
    magnitude = rows.abs().double()
    largest = magnitude.amax(-1)
    dead = largest == 0
    magnitude /= largest.masked_fill(dead, 1.0).unsqueeze(-1)  # S ignores scale; squares then neither overflow nor vanish
    return hoyer_of_norms(magnitude.sum(-1), magnitude.square().sum(-1), rows.shape[-1]), dead


def hoyer_of_norms(l1: Tensor, squares: Tensor, width: int) -> Tensor:
    """S from ||h||_1 and ||h||_2^2 (both float64) at a width; 0 where the sample is dead."""
    root = math.sqrt(width)
    live = squares > 0
    ratio = torch.where(live, l1, root) / torch.where(live, squares, 1.0).sqrt()
    return ((root - ratio) / (root - 1)).clamp(0.0, 1.0)  # rounding can leave the range by 1e-16


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
