"""The step on G(negative) - G(positive) whose negatives are averaged over all wrong labels.

Legend: R replicas, B pairs, m inputs, n width, C classes. The labels of an image differ in C inputs
only, so z under each label is that of one product plus a column of W: the step costs one product,
and C elementwise passes.
"""

import torch
from torch import Tensor

from ffengine.activations import Activation
from ffengine.objectives import Goodness, MeanSquares, SumSquares
from ffengine.pairs import RelabelledPairs
from ffengine.products import product

BLOCK_ELEMENTS = 2**19  # pre-activations under all labels that are computed at once
HELD_ELEMENTS = 2**24  # pre-activations that are kept for a second look; others are computed anew


class ExpectedStep:
    """That step over the batches of a layer.

    `descent` is a multiple above zero of -dL/dW (R, n, m), and `parts` (R,) float64 by the same
    multiple the sum of the lengths of its parts.

    **Arguments:**

    - `weight`: W (R, n, m).
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.descent = torch.zeros_like(weight)
        self.parts = torch.zeros(len(weight), dtype=torch.float64, device=weight.device)
        self._batches = 0
        self._held: list[Tensor] = []

    def __len__(self) -> int:
        return self._batches

    def add(
        self, pairs: RelabelledPairs, z: Tensor, goodness: Goodness, activation: Activation
    ) -> None:
        """Add a batch.

        **Arguments:**

        - `pairs`: the batch.
        - `z`: its pre-activations (R, 2B, n), positives first.
        - `goodness`: G.
        - `activation`: sigma.
        """
        descent, parts = expected_descent(
            pairs, z[:, : z.shape[1] // 2], self.weight, activation, goodness
        )
        self.descent += descent
        self.parts += parts
        self._batches += 1
        if sum(one.numel() for one in self._held) + z.numel() <= HELD_ELEMENTS:
            self._held.append(z)

    def held(self, number: int) -> Tensor | None:
        """Return z (R, 2B, n) of a batch; None where it was not kept."""
        return self._held[number] if number < len(self._held) else None


def expected_descent(
    pairs: RelabelledPairs, z: Tensor, weight: Tensor, activation: Activation, goodness: Goodness
) -> tuple[Tensor, Tensor]:
    """Sum -dL/dW over a batch, L being the mean of G(negative) - G(positive) over wrong labels.

    **Arguments:**

    - `pairs`: the batch; its negatives say what the labels are, not which negatives count.
    - `z`: (R, B, n), the pre-activations of its positives.
    - `weight`: W (R, n, m).
    - `activation`: sigma.
    - `goodness`: G.

    **Returns:**

    A multiple above zero of the descent (R, n, m), and the sum of the lengths of its parts (R,)
    float64, by the same multiple.
    """
    classes = pairs.change.shape[-1]
    own = (pairs.change < 0).to(z.dtype)  # (R, B, C), the one-hot of each label
    contrast = pairs.change.amax(-1, keepdim=True)  # (R, B, 1), what a label is above its absence
    columns = weight[..., :classes].mT.contiguous()  # (R, C, n)
    own = own * contrast
    raised = _pull(z.clone(), activation, goodness)
    blank = z - product(own, columns)
    total, by_label = torch.empty_like(z), torch.zeros_like(columns).flatten(1).unsqueeze(1)
    size = max(1, BLOCK_ELEMENTS // (len(z) * classes * z.shape[-1]))
    for start in range(0, z.shape[1], size):  # few long passes, each within the caches
        rows = slice(start, start + size)
        each = contrast[:, rows]
        under = torch.addcmul(blank[:, rows].unsqueeze(2), each.unsqueeze(2), columns.unsqueeze(1))
        pull = _pull(under, activation, goodness)  # (R, rows, C, n)
        torch.sum(pull, 2, out=total[:, rows])
        by_label += torch.bmm(each.mT, pull.flatten(2))
    by_label = by_label.view_as(columns)
    lowered = total.sub_(raised).div_(classes - 1)  # the own label is not a wrong one
    by_label -= product(own.mT, raised)
    descent = product((raised - lowered).mT, pairs.x)
    descent[..., :classes] += (product(own.mT, lowered) - by_label / (classes - 1)).mT
    lengths = torch.linalg.vector_norm(raised, dim=-1) + torch.linalg.vector_norm(lowered, dim=-1)
    parts = lengths * torch.linalg.vector_norm(pairs.x, dim=-1)
    return descent, parts.double().sum(-1)


def _pull(z: Tensor, activation: Activation, goodness: Goodness) -> Tensor:
    """Return a multiple above zero of dG/dz (..., n); overwrite z."""
    slope = None if activation.slope_where_active_is_one else activation.slope(z)
    h = activation.value_(z)
    if not isinstance(goodness, SumSquares | MeanSquares):  # for these the pull is a multiple of h
        g = goodness.value(h)
        h = goodness.pull(h, g, torch.ones_like(g))
    return h if slope is None else h.mul_(slope)
