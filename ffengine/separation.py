"""How well a figure tells positives from negatives.

Legend: R replicas, N positives, M negatives.
"""

import torch
from torch import Tensor


def auc(positive: Tensor, negative: Tensor) -> Tensor:
    """Probability that a positive sample's goodness exceeds a negative one's, ties counted one
    half: (R, N), (R, M) -> (R,) float64.

    The area under the receiver operating characteristic: the Mann-Whitney statistic over N M (J.
    Hanley & B. McNeil, Radiology 143 (1982)). Pairs are counted in whole numbers, by O((N + M) log
    M) comparisons, so that nothing is rounded before the last division.

    Raises ValueError for shapes that do not fit, no samples, and NaN, which has no place in an
    order; infinities have.
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
