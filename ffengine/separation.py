"""How well goodness tells positives from negatives.

Legend: R replicas, P positives, Q negatives.
"""

import torch
from torch import Tensor


def auc(positive: Tensor, negative: Tensor) -> Tensor:
    """P(positive > negative) + P(equal) / 2 of goodness (R, P) and (R, Q) -> (R,) float64: the area under the ROC curve.

    Exact under ties; sorts instead of comparing all pairs (Mann-Whitney).
    """
    ordered = negative.sort(-1).values.contiguous()
    positive = positive.contiguous()
    below = torch.searchsorted(ordered, positive, right=False)
    not_above = torch.searchsorted(ordered, positive, right=True)
    return (below + not_above).double().mean(-1) / (2 * negative.shape[-1])
