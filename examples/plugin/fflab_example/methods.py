"""The entries of this plug-in.

The service reads them without PyTorch, so this module imports none: what an entry does with tensors
it does with their methods. R replicas (one per seed), B samples of a batch, m inputs, n units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ffengine.negatives import Negatives, Positives
from ffengine.objectives import Goodness
from ffengine.optimizers import Optimizer, State

if TYPE_CHECKING:
    from torch import Tensor


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
