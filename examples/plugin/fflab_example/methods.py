"""The entries of this plug-in.

The service reads them without PyTorch, so this module imports none: what an entry does with tensors
it does with their methods. R replicas (one per seed), B samples of a batch, m inputs, n units.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ffengine.negatives import Negatives, Positives
from ffengine.objectives import ClassPull, Goodness, MultiClass, class_blocks
from ffengine.optimizers import Optimizer, State

if TYPE_CHECKING:
    from torch import Tensor

    from ffengine.products import Product


class Speckle(Negatives):
    """The image with each pixel made brighter or darker at random; the label stays."""

    strategy: Literal["speckle"] = "speckle"
    strength: float = Field(
        0.8, gt=0, le=1, description="largest change of a pixel, as a share of its brightness"
    )

    def __call__(self, positives: Positives) -> Tensor:
        """Make negatives (R, B, m). All randomness comes from `positives.draw`."""
        change = 2 * positives.draw.uniform(positives.x.shape) - 1
        return positives.under_own_label(
            positives.x * (1 + self.strength * change.to(positives.x.dtype))
        )


class LogSquares(Goodness):
    """Logarithm of one plus the sum of the squared activations: it grows ever more slowly."""

    name: Literal["log_squares"] = "log_squares"

    def value(self, h: Tensor) -> Tensor:
        """Compute g (...) of activations (..., n)."""
        return h.square().sum(-1).log1p()

    def pull(self, h: Tensor, value: Tensor, s: Tensor, saved: object = None) -> Tensor:
        """Compute s dg/dh = 2 s h / (1 + sum h^2), where 1 + sum h^2 = exp(g)."""
        return h.mul_((2 * s * (-value).exp()).unsqueeze(-1))


class SoftBlock(MultiClass):
    """A block of units for each class, whose logit is a soft maximum of their activations."""

    name: Literal["soft_block"] = "soft_block"

    def logits(self, h: Tensor, classes: int, head: Tensor | None, product: Product) -> Tensor:
        """Compute ln of the mean of exp(h) over each block, (R, B, C); there is no `head`."""
        found = h.new_empty((*h.shape[:-1], classes))
        for label, block in enumerate(class_blocks(h.shape[-1], classes)):
            units = block.stop - block.start
            found[..., label] = h[..., block].logsumexp(-1) - math.log(units)
        return found

    def back(
        self, h: Tensor, logits: Tensor, slopes: Tensor, head: Tensor | None, product: Product
    ) -> ClassPull:
        """Share the slope of each logit among its units as a softmax of their activations does."""
        pull = h.new_empty(h.shape)
        for label, block in enumerate(class_blocks(h.shape[-1], slopes.shape[-1])):
            pull[..., block] = h[..., block].softmax(-1) * slopes[..., label].unsqueeze(-1)
        return ClassPull(pull, None)


class Lion(Optimizer):
    """Signs of a running mean of the gradient: all weights move alike (arXiv 2302.06675)."""

    slots: ClassVar[tuple[str, ...]] = ("mean",)

    name: Literal["lion"] = "lion"
    lr: float = Field(1e-4, gt=0, le=1e9, description="eta, or eta * n with scale_lr_by_width")
    scale_lr_by_width: bool = Field(False, description="eta = lr / n")
    beta1: float = Field(0.9, ge=0, lt=1, description="weight of the running mean in a step")
    beta2: float = Field(0.99, ge=0, lt=1, description="decay of the running mean")

    def direction(self, weight: Tensor, descent: Tensor, state: State) -> Tensor:
        """Compute D (R, n, m); the running mean is updated in place."""
        mean = state["mean"]
        signs = mean.lerp(descent, 1 - self.beta1).sign_()
        mean.lerp_(descent, 1 - self.beta2)
        return self.decayed(weight, signs)
