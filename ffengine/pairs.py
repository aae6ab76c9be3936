"""A batch as a layer receives it, and the two products of learning.

It has positives and negatives, or labelled samples for objectives over classes.

Legend: R replicas, B pairs or samples, m inputs, n width, C classes. Where a negative is its
positive under another label, the two differ in C inputs at most. Both products are then computed
once for the image, so that learning costs half.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.products import linear, plus_linear
from ffengine.results import Split

Product = Callable[[Tensor, Tensor], Tensor]


class Pairs(NamedTuple):
    """Positives and negatives as one tensor.

    **Attributes:**

    - `x`: (R, 2B, m), positives first.
    """

    x: Tensor

    def times(self, weight: Tensor, product: Product) -> Tensor:
        """Compute z = x W^T.

        **Arguments:**

        - `weight`: W (R, n, m).
        - `product`: multiplies batched matrices.

        **Returns:**

        z (R, 2B, n), positives first.
        """
        return product(self.x, weight.mT)

    def gathered(self, pull: Tensor, product: Product) -> Tensor:
        """Compute sum_i pull_i x_i^T over the batch.

        **Arguments:**

        - `pull`: (R, 2B, n).
        - `product`: multiplies batched matrices.

        **Returns:**

        (R, n, m).
        """
        return product(pull.mT, self.x)

    def first(self, count: int) -> Tensor:
        """Return the first inputs of the samples.

        **Arguments:**

        - `count`: how many.

        **Returns:**

        (R, 2B, count), positives first.
        """
        return self.x[..., :count]

    def split(self) -> tuple[Tensor, Tensor]:
        """Return positives and negatives, (R, B, m) each."""
        positive, negative = self.x.chunk(2, dim=1)
        return positive, negative

    def only(self, split: Split) -> "Pairs":
        """Return the samples of one split."""
        return Pairs(self.x[:, half(split, self.x.shape[1])])

    @property
    def batch_size(self) -> int:
        """B."""
        return self.x.shape[1] // 2

    def some(self, index: Tensor) -> "Pairs":
        """Choose pairs.

        **Arguments:**

        - `index`: (R, B') int64, positions among the B pairs of each replica.

        **Returns:**

        B' pairs.
        """
        return Pairs(_rows(self.x, torch.cat([index, index + self.batch_size], dim=1)))

    def inputs(self, chosen: Tensor) -> "Pairs":
        """Return the pairs with some of their inputs.

        **Arguments:**

        - `chosen`: (m',) int64, positions among the m inputs.
        """
        return Pairs(self.x[..., chosen])

    def of_replicas(self, _replicas: int) -> "Pairs":
        """Return the same pairs: each replica has its own."""
        return self

    def pieces(self, size: int) -> Iterator["Pairs"]:
        """Yield the pairs in pieces, in their order.

        **Arguments:**

        - `size`: the most pairs of a piece.
        """
        if self.batch_size <= size:
            yield self
            return
        for parts in zip(*(split.split(size, dim=1) for split in self.split()), strict=True):
            yield Pairs(torch.cat(parts, dim=1))

    def lengths(self) -> Tensor:
        """Return ||x|| (R, 2B)."""
        lengths: Tensor = torch.linalg.vector_norm(self.x, dim=-1)
        return lengths


class RelabelledPairs(NamedTuple):
    """Positives, and the change of the label inputs that makes their negatives.

    **Attributes:**

    - `x`: positives (R, B, m).
    - `change`: (R, B, C), negative minus positive in the first C inputs.
    """

    x: Tensor
    change: Tensor

    def times(self, weight: Tensor, product: Product) -> Tensor:
        """Compute z = x W^T.

        **Arguments:**

        - `weight`: W (R, n, m).
        - `product`: multiplies batched matrices.

        **Returns:**

        z (R, 2B, n), positives first.
        """
        positive = product(self.x, weight.mT)
        columns = weight[..., : self.change.shape[-1]].contiguous()
        return torch.cat([positive, plus_linear(positive, self.change, columns)], dim=1)

    def gathered(self, pull: Tensor, product: Product) -> Tensor:
        """Compute sum_i pull_i x_i^T over the batch.

        **Arguments:**

        - `pull`: (R, 2B, n), positives first.
        - `product`: multiplies batched matrices.

        **Returns:**

        (R, n, m).
        """
        positive, negative = pull[:, : self.x.shape[1]], pull[:, self.x.shape[1] :]
        total = product((positive + negative).mT, self.x)
        # few rows and many columns are faster than many rows and few columns
        total[..., : self.change.shape[-1]] += linear(self.change.mT, negative.mT).mT
        return total

    def first(self, count: int) -> Tensor:
        """Return the first inputs of the samples.

        **Arguments:**

        - `count`: how many, C at most.

        **Returns:**

        (R, 2B, count), positives first.
        """
        positive = self.x[..., :count].expand(*self.change.shape[:-1], -1)
        return torch.cat([positive, positive + self.change[..., :count]], dim=1)

    def split(self) -> tuple[Tensor, Tensor]:
        """Return positives and negatives, (R, B, m) each."""
        negative = self.x.clone()
        negative[..., : self.change.shape[-1]] += self.change
        return self.x, negative

    def only(self, split: Split) -> Pairs:
        """Return the samples of one split."""
        return Pairs(self.x if split == "positive" else self.split()[1])

    @property
    def batch_size(self) -> int:
        """B."""
        return self.change.shape[1]

    def some(self, index: Tensor) -> "RelabelledPairs":
        """Choose pairs.

        **Arguments:**

        - `index`: (R, B') int64, positions among the B pairs of each replica.

        **Returns:**

        B' pairs.
        """
        return RelabelledPairs(_rows(self.x, index), _rows(self.change, index))

    def inputs(self, chosen: Tensor) -> "RelabelledPairs":
        """Return the pairs with some of their inputs, those of the labels among them.

        **Arguments:**

        - `chosen`: (m',) int64, positions among the m inputs, in increasing order.
        """
        return RelabelledPairs(self.x[..., chosen], self.change)

    def of_replicas(self, replicas: int) -> "RelabelledPairs":
        """Return the pairs with positives for each replica, where all share them.

        **Arguments:**

        - `replicas`: R.

        **Returns:**

        The same pairs in the same memory.
        """
        return RelabelledPairs(self.x.expand(replicas, -1, -1), self.change)

    def pieces(self, size: int) -> Iterator["RelabelledPairs"]:
        """Yield the pairs in pieces, in their order.

        **Arguments:**

        - `size`: the most pairs of a piece.
        """
        parts = (tensor.split(size, dim=1) for tensor in self)
        return (RelabelledPairs(*part) for part in zip(*parts, strict=True))

    def lengths(self) -> Tensor:
        """Return ||x|| (R, 2B); a one-hot has the same length wherever its one stands."""
        lengths: Tensor = torch.linalg.vector_norm(self.x, dim=-1)
        return lengths.repeat(1, 2)


class LabelledBatch(NamedTuple):
    """Samples, and the labels that are learnt beside them; there are no negatives.

    **Attributes:**

    - `x`: (R, B, m).
    - `labels`: (R, B) int64.
    """

    x: Tensor
    labels: Tensor

    def times(self, weight: Tensor, product: Product) -> Tensor:
        """Compute z = x W^T.

        **Arguments:**

        - `weight`: W (R, n, m).
        - `product`: multiplies batched matrices.

        **Returns:**

        z (R, B, n).
        """
        return product(self.x, weight.mT)

    def gathered(self, pull: Tensor, product: Product) -> Tensor:
        """Compute sum_i pull_i x_i^T over the batch.

        **Arguments:**

        - `pull`: (R, B, n).
        - `product`: multiplies batched matrices.

        **Returns:**

        (R, n, m).
        """
        return product(pull.mT, self.x)

    def lengths(self) -> Tensor:
        """Return ||x|| (R, B)."""
        lengths: Tensor = torch.linalg.vector_norm(self.x, dim=-1)
        return lengths


AnyPairs = Pairs | RelabelledPairs
AnyBatch = AnyPairs | LabelledBatch


def half(split: Split, samples: int) -> slice:
    """Return which of 2B samples, positives first, are those of a split.

    **Arguments:**

    - `split`: which.
    - `samples`: 2B.
    """
    return slice(samples // 2) if split == "positive" else slice(samples // 2, None)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Choose rows (R, B, m) of values (R or 1, N, m) by positions (R, B)."""
    if len(index) == 1:
        return values[0].index_select(0, index[0]).unsqueeze(0)
    if len(values) == 1:
        return values[0][index]
    return values[torch.arange(len(index), device=index.device).unsqueeze(1), index]
