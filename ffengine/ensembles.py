"""Active-unit ensembles: which units of a layer stand for which class, and which they share.

After Tosato et al., "Emergent representations in networks trained with the Forward-Forward algorithm", arXiv
2305.18353, who read ensembles off correctly classified samples under their true label. The paper's own rule for when
a unit belongs to one was not at hand; the rule here is exact and scale-free, and stands in `class_ensembles`.

Legend: N samples, n width, C classes.
"""

import torch
from torch import Tensor

ACTIVE_SHARE = 0.1  # of the sample's largest activation
MEMBER_SHARE = 0.5  # of the class's samples


def class_ensembles(h: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Membership (C, n) bool of the units in the ensemble of each class, from activations (N, n) of labels (N,).

    A unit is active for a sample where |h_j| > ACTIVE_SHARE * max_j |h_j|, and belongs to the ensemble of a class
    where it is active for more than MEMBER_SHARE of the class's samples. A class without samples has no members.
    """
    magnitude = h.abs()
    active = magnitude > ACTIVE_SHARE * magnitude.amax(-1, keepdim=True)
    members = torch.zeros(classes, h.shape[-1], dtype=torch.bool, device=h.device)
    for label in range(classes):
        own = active[labels == label]
        if len(own):
            members[label] = own.sum(0) > MEMBER_SHARE * len(own)
    return members


def ensemble_sizes(members: Tensor) -> Tensor:
    """Units in each ensemble, (C,) int64 of (C, n)."""
    return members.sum(-1)


def ensemble_overlap(members: Tensor) -> Tensor:
    """Units in both ensembles over units in either (Jaccard), (C, C) float64 of (C, n); 0 where both are empty."""
    counted = members.double()
    both = counted @ counted.T
    sizes = counted.sum(-1)
    either = sizes.unsqueeze(0) + sizes.unsqueeze(1) - both
    return both / torch.where(either > 0, either, 1.0)


def units_in_ensembles(members: Tensor) -> tuple[float, float]:
    """Share of the units (C, n) that are in at least one ensemble, and in at least two."""
    count = members.sum(0)
    return float((count >= 1).double().mean()), float((count >= 2).double().mean())
