"""Products of matrices, one for each replica, by the fastest library that torch carries.

On a CPU, oneDNN multiplies float32 matrices at least as fast as the library behind `torch.bmm`, and
on processors that the latter does not know about twice as fast. Both add in float32; their sums
differ in the last bits, for they add in another order. oneDNN's bits do not depend on the number of
threads (`ffengine.thread_choice` checks it).

Legend: R replicas.
"""

import torch
from torch import Tensor


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Compute z = x W^T of each replica.

    **Arguments:**

    - `x`: (R, B, m).
    - `weight`: W (R, n, m).

    **Returns:**

    z (R, B, n).
    """
    if not _fits_onednn(x, weight):
        return torch.bmm(x, weight.mT)
    found = [
        torch.ops.mkldnn._linear_pointwise(_whole(one), _whole(w), None, "none", [], "")
        for one, w in zip(x, weight, strict=True)
    ]
    return found[0].unsqueeze(0) if len(found) == 1 else torch.stack(found)


def plus_linear(added: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Compute y + x W^T of each replica.

    **Arguments:**

    - `added`: y (R, B, n).
    - `x`: (R, B, m).
    - `weight`: W (R, n, m).

    **Returns:**

    (R, B, n).
    """
    if not _fits_onednn(x, weight):
        return torch.baddbmm(added, x, weight.mT)
    binary = torch.ops.mkldnn._linear_pointwise.binary
    found = [
        binary(_whole(one), _whole(y), _whole(w), None, "add")
        for one, y, w in zip(x, added, weight, strict=True)
    ]
    return found[0].unsqueeze(0) if len(found) == 1 else torch.stack(found)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply the matrices of each replica.

    **Arguments:**

    - `a`: (R, i, j).
    - `b`: (R, j, k).

    **Returns:**

    (R, i, k).
    """
    return linear(a, b.mT)


def _whole(matrix: Tensor) -> Tensor:
    """The matrix in memory without gaps, row after row or column after column.

    oneDNN is a hundred times slower through gaps.
    """
    dense = matrix.is_contiguous() or matrix.T.is_contiguous()
    return matrix if dense else matrix.contiguous()


def has_onednn() -> bool:
    """Return whether this build of torch has oneDNN's product, and its user lets it be used."""
    return (
        torch.backends.mkldnn.is_available()
        and torch._C._get_mkldnn_enabled()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _fits_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN can multiply these; it knows nothing of gradients."""
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    return plain and not learns and x.numel() > 0 and weight.numel() > 0 and has_onednn()
