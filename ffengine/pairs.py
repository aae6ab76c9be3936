"""A batch of positives and their negatives as a layer sees it, and the two products that learning
makes of it.

Legend: R replicas, B pairs, m inputs, n width, C classes. Where a negative is its positive under
another label, the two differ in C inputs at most, so that both products are done once for the
image: learning then costs half.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Product = Callable[[Tensor, Tensor], Tensor]


class Pairs(NamedTuple):
    """Samples x (R, 2B, m), positives first."""

    x: Tensor

    def times(self, weight: Tensor, product: Product) -> Tensor:
        """z = x W^T (R, 2B, n) of weights (R, n, m)."""
        return product(self.x, weight.mT)

    def gathered(self, pull: Tensor, product: Product) -> Tensor:
        """sum_i pull_i x_i^T (R, n, m) of pulls (R, 2B, n)."""
        return product(pull.mT, self.x)

    def split(self) -> tuple[Tensor, Tensor]:
        """Positives and negatives, (R, B, m) each."""
        positive, negative = self.x.chunk(2, dim=1)
        return positive, negative

    def lengths(self) -> Tensor:
        """||x|| (R, 2B)."""
        lengths: Tensor = torch.linalg.vector_norm(self.x, dim=-1)
        return lengths


class RelabelledPairs(NamedTuple):
    """Positives x (R, B, m), and what their negatives have more in the first C inputs: change (R,
    B, C).
    """

    x: Tensor
    change: Tensor

    def times(self, weight: Tensor, product: Product) -> Tensor:
        """z (R, 2B, n) of weights (R, n, m), positives first."""
        positive = product(self.x, weight.mT)
        columns = weight[..., : self.change.shape[-1]].mT
        return torch.cat([positive, torch.baddbmm(positive, self.change, columns)], dim=1)

    def gathered(self, pull: Tensor, product: Product) -> Tensor:
        """sum_i pull_i x_i^T (R, n, m) of pulls (R, 2B, n), positives first."""
        positive, negative = pull[:, : self.x.shape[1]], pull[:, self.x.shape[1] :]
        total = product((positive + negative).mT, self.x)
        total[..., : self.change.shape[-1]] += torch.bmm(negative.mT, self.change)
        return total

    def split(self) -> tuple[Tensor, Tensor]:
        """Positives and negatives, (R, B, m) each."""
        negative = self.x.clone()
        negative[..., : self.change.shape[-1]] += self.change
        return self.x, negative

    def lengths(self) -> Tensor:
        """||x|| (R, 2B): a one-hot is as long wherever its one stands."""
        lengths: Tensor = torch.linalg.vector_norm(self.x, dim=-1)
        return lengths.repeat(1, 2)


AnyPairs = Pairs | RelabelledPairs
