"""How well a figure separates positives from negatives.

Legend: R replicas, N positives, M negatives.
"""

import torch
from torch import Tensor


def auc(positive: Tensor, negative: Tensor) -> Tensor:
    """Compute the probability that a positive's goodness exceeds a negative's; ties count one half.

    This is the area under the receiver operating characteristic, the Mann-Whitney statistic over N
    M. Pairs are counted in whole numbers, by O((N + M) log M) comparisons, so that only the last
    division rounds.

    **Arguments:**

    - `positive`: (R, N) goodness of positives; infinities are allowed.
    - `negative`: (R, M) goodness of negatives.

    **Returns:**

    (R,) float64 in [0, 1].

    **Raises:**

    - `ValueError`: shapes do not fit, there are no samples, or a value is NaN.

    **Source:**

    J. Hanley & B. McNeil, Radiology 143 (1982).
    """
    if positive.dim() != 2 or negative.dim() != 2 or len(positive) != len(negative):
        raise ValueError(
            f"expected positive (R, N) and negative (R, M), got {tuple(positive.shape)} and "
            f"{tuple(negative.shape)}"
        )
    for name, goodness in (("positive", positive), ("negative", negative)):
        if goodness.numel() == 0:
            raise ValueError(
                f"{name}: is empty, shape {tuple(goodness.shape)}; expected at least one sample"
            )
        if bool(goodness.isnan().any()):
            raise ValueError(f"{name}: holds NaN; expected goodness that can be ordered")
    dtype = torch.promote_types(positive.dtype, negative.dtype)
    ordered, sought = negative.to(dtype).sort(-1).values, positive.to(dtype).contiguous()
    below = torch.searchsorted(ordered, sought).sum(-1)
    not_above = torch.searchsorted(ordered, sought, right=True).sum(-1)
    return (below + not_above).double() / (2 * positive.shape[1] * negative.shape[1])
