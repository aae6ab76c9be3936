"""How pre-activations move along the steps of the theorems, made of a batch's own samples.

Legend: R replicas, B pairs, m inputs, n width, C classes. P (R, 2B, n) = -dG/dz, positives first.
Along theorem 1's step for one split, D = P^T x over that split; along theorem 2's, D = P^T x over
the negatives less that over the positives. Both rates come from the same products: z moves by
x D^T = (x x^T) P, and x x^T stays the same as long as x does.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.layer_updates import parts_over_whole
from ffengine.pairs import AnyPairs, Pairs, RelabelledPairs
from ffengine.products import linear, product

# Where parts are longer than the step by more, its length is that of its own product: the square
# of the length that its rates have is off by some 1e-7 of the square of the parts.
MOST_CANCELLING = 1000.0


class OwnRates(NamedTuple):
    """Rates of z along both theorems' steps.

    **Attributes:**

    - `lowering`: (R, 2B, n), of each split along theorem 1's step for the split alone.
    - `difference`: (R, 2B, n) along theorem 2's step.
    """

    lowering: Tensor
    difference: Tensor


class PairGrams(NamedTuple):
    """x x^T of a batch whose negatives are samples of their own.

    **Attributes:**

    - `positive`, `negative`: (R, B, B) of each split.
    - `cross`: (R, B, B) of positives with negatives.
    """

    positive: Tensor
    negative: Tensor
    cross: Tensor

    @classmethod
    def of(cls, pairs: Pairs) -> "PairGrams":
        """Compute the products of a batch."""
        positive, negative = pairs.split()
        return cls(
            linear(positive, positive), linear(negative, negative), linear(positive, negative)
        )

    def rates(self, pull: Tensor) -> OwnRates:
        """Compute the rates of both splits; `pull` is P."""
        positive, negative = pull.chunk(2, dim=1)
        raised, lowered = product(self.positive, positive), product(self.negative, negative)
        return OwnRates(
            torch.cat([raised, lowered], dim=1),
            torch.cat(
                [
                    product(self.cross, negative).sub_(raised),
                    lowered - product(self.cross.mT, positive),
                ],
                dim=1,
            ),
        )


class RelabelledGrams(NamedTuple):
    """x x^T of positives whose negatives differ in C inputs; these cost products with C alone.

    **Attributes:**

    - `products`: (R, B + 2C, B): x x^T of positives, then their label inputs, then the change of
      these that makes negatives, a sample a column.
    - `labels`, `change`: (R, B, C), the latter two, a sample a row.
    """

    products: Tensor
    labels: Tensor
    change: Tensor

    @classmethod
    def of(cls, pairs: RelabelledPairs) -> "RelabelledGrams":
        """Compute the products of a batch."""
        x, change = pairs
        labels = x[..., : change.shape[-1]].contiguous()
        return cls(torch.cat([linear(x, x), labels.mT, change.mT], dim=1), labels, change)

    def rates(self, pull: Tensor) -> OwnRates:
        """Compute the rates of both splits; `pull` is P."""
        samples, classes = self.labels.shape[1:]
        positive, negative = pull.chunk(2, dim=1)
        parts = (samples, classes, classes)
        raised, label_raised, _ = product(self.products, positive).split(parts, dim=1)
        # Of two sums that nearly cancel, the difference is summed rather than each.
        both = product(self.products, negative - positive)
        along, on_labels, _ = both.split(parts, dim=1)
        by_change = product(self.change.mT, negative)  # (R, C, n)
        lowering, difference = torch.empty_like(pull), torch.empty_like(pull)
        first, second = difference.chunk(2, dim=1)
        torch.baddbmm(along, self.labels, by_change, out=first)
        torch.baddbmm(first, self.change, on_labels + by_change, out=second)
        lowered, on_negatives = lowering[:, samples:], label_raised + on_labels + by_change
        torch.add(raised, first, out=lowered).baddbmm_(self.change, on_negatives)
        lowering[:, :samples] = raised
        return OwnRates(lowering, difference)


Grams = PairGrams | RelabelledGrams


def grams_of(pairs: AnyPairs) -> Grams:
    """Compute the products of samples with samples that `rates` needs.

    **Arguments:**

    - `pairs`: the batch.

    **Returns:**

    The products.
    """
    return RelabelledGrams.of(pairs) if isinstance(pairs, RelabelledPairs) else PairGrams.of(pairs)


def rates_of(pairs: AnyPairs, pull: Tensor) -> OwnRates:
    """Compute the rates where x x^T is not at hand, through the steps themselves.

    **Arguments:**

    - `pairs`: the batch.
    - `pull`: P (R, 2B, n).

    **Returns:**

    The rates.
    """
    halves = zip(pairs.split(), pull.chunk(2, dim=1), strict=True)
    (x_positive, raising), (x_negative, lowering) = ((x, product(part.mT, x)) for x, part in halves)
    return OwnRates(
        torch.cat([linear(x_positive, raising), linear(x_negative, lowering)], dim=1),
        pairs.times(lowering - raising, product),
    )


def length_of_step(pull: Tensor, rates: Tensor) -> Tensor:
    """Compute ||D|| of a step D = sum_i q_i x_i^T from the rates that it gives its own samples.

    It is the root of sum_i <q_i, x_i D^T>.

    **Arguments:**

    - `pull`: q (R, 2B, n).
    - `rates`: x D^T (R, 2B, n).

    **Returns:**

    (R,) float64; 0 where rounding leaves nothing.
    """
    # products of two small numbers would be below float32; a power of two changes nothing else
    _, exponent = torch.frexp(pull.abs().amax(dim=(1, 2), keepdim=True))
    factor = torch.ldexp(torch.ones_like(exponent, dtype=pull.dtype), -exponent)
    # ldexp of the whole pull would raise 2 to a power for each of its elements
    scaled = torch.linalg.vecdot(pull * factor, rates).double().sum(-1)
    squared: Tensor = torch.ldexp(scaled, exponent.flatten())
    return squared.clamp_min(0).sqrt()


def cancellation_of(pairs: AnyPairs, pull: Tensor, rates: Tensor, parts: Tensor) -> Tensor:
    """Compute how much longer the parts of a step are together than the step.

    **Arguments:**

    - `pairs`: the batch.
    - `pull`: q (R, 2B, n) of the step sum_i q_i x_i^T.
    - `rates`: x D^T (R, 2B, n).
    - `parts`: (R,) float64, the sum of the parts' lengths.

    **Returns:**

    (R,) float64; 1 where the step is zero.
    """
    whole = length_of_step(pull, rates)
    if bool((parts > MOST_CANCELLING * whole).any()):  # rounding may be all that is left of it
        return parts_over_whole(parts, pairs.gathered(pull, product))
    return torch.where(whole > 0, parts / whole, 1.0)
