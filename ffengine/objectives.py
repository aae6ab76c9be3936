"""Catalogue of objectives: goodness of both splits in, loss and its slope per sample out, in closed form.

Legend: R replicas, B samples, n width. The loss of a batch is the mean over its samples of each split.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ffengine.entry import Entry

if TYPE_CHECKING:
    from torch import Tensor

Goodness = Literal["sum_squares", "mean_squares"]


class Objective(Entry, ABC):
    """What a layer minimises, as a function of the goodness G (R, B) of each split."""

    goodness: Goodness = Field("sum_squares", description="G before the threshold: sum or mean of the squared activations")

    @property
    def offset(self) -> float:
        """The threshold that is subtracted from the goodness."""
        return 0.0

    @abstractmethod
    def loss(self, goodness: Tensor, *, negative: bool) -> Tensor:
        """This sample's term of the loss, (R, B)."""

    @abstractmethod
    def coefficient(self, goodness: Tensor, *, negative: bool) -> Tensor:
        """s = dL/dG of this sample's term, (R, B): above zero pushes its goodness down."""

    def goodness_scale(self, width: int) -> float:
        """c in G = c * ||h||^2 - threshold."""
        return 1.0 / width if self.goodness == "mean_squares" else 1.0


class Difference(Objective):
    """L = G(negative) - G(positive): the objective of the sparsity theorems (arXiv 2311.05667)."""

    name: Literal["difference"] = "difference"

    def loss(self, goodness: Tensor, *, negative: bool) -> Tensor:
        return goodness if negative else -goodness

    def coefficient(self, goodness: Tensor, *, negative: bool) -> Tensor:
        return goodness.new_full(goodness.shape, 1.0 if negative else -1.0)


class SoftplusLoss(Objective):
    """L = softplus(-G(positive)) + softplus(G(negative)), G less the threshold: Hinton's logistic loss (arXiv 2212.13345)."""

    name: Literal["softplus"] = "softplus"
    goodness: Goodness = Field("mean_squares", description="G before the threshold: sum or mean of the squared activations")
    threshold: float = Field(2.0, ge=-1e6, le=1e6, description="goodness above it means positive")

    @property
    def offset(self) -> float:
        return self.threshold

    def loss(self, goodness: Tensor, *, negative: bool) -> Tensor:
        signed = goodness if negative else -goodness
        return signed.clamp_min(0) + (-signed.abs()).exp().log1p()

    def coefficient(self, goodness: Tensor, *, negative: bool) -> Tensor:
        return goodness.sigmoid() if negative else -((-goodness).sigmoid())


AnyObjective = Annotated[Difference | SoftplusLoss, Field(discriminator="name")]
