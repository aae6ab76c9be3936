"""Catalogue of negative strategies: a positive batch in, a negative batch out.

Legend: R replicas (one per seed), B samples of a batch, m inputs, C classes.
Strategies use tensor methods only, and take all randomness from `draw`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ffengine.entry import Entry

if TYPE_CHECKING:
    from torch import Tensor

    from ffengine.draws import Draw


class Negatives(Entry, ABC):
    """How negative samples are made from positive ones."""

    labelled: ClassVar[bool] = True  # positives carry their label as a one-hot in the first C inputs

    @abstractmethod
    def __call__(self, positive: Tensor, labels: Tensor, classes: int, shape: tuple[int, ...], draw: Draw) -> Tensor:
        """Negatives (R, B, m) for positives (R, B, m) of labels (R, B); `shape` is one sample's, e.g. (1, 28, 28)."""


class WrongLabel(Negatives):
    """The same image under a label that is not its own, drawn uniformly from the others."""

    strategy: Literal["wrong_label"] = "wrong_label"

    def __call__(self, positive: Tensor, labels: Tensor, classes: int, shape: tuple[int, ...], draw: Draw) -> Tensor:
        shift = draw.integers(1, classes, labels.shape)
        return swap_label(positive, labels, (labels + shift) % classes)


class Hybrid(Negatives):
    """Two images of different classes blended by a smooth random mask, without labels (Hinton 2022, section 3.2)."""

    labelled: ClassVar[bool] = False

    strategy: Literal["hybrid"] = "hybrid"
    blurs: int = Field(6, ge=1, le=50, description="how often the random mask is blurred with [1/4, 1/2, 1/4]")

    def __call__(self, positive: Tensor, labels: Tensor, classes: int, shape: tuple[int, ...], draw: Draw) -> Tensor:
        partner = other_class_partner(labels, draw)
        other = positive.gather(-2, partner.unsqueeze(-1).expand_as(positive))
        channels, height, width = shape
        noise = draw.uniform((*positive.shape[:-1], height, width))
        blurred = smoothed(noise, self.blurs)
        middle = blurred.flatten(-2).median(-1).values[..., None, None]  # half of the pixels from each, however small the image
        mask = (blurred > middle).to(positive.dtype)
        mask = mask.unsqueeze(-3).expand(*mask.shape[:-2], channels, height, width).reshape(positive.shape)
        return mask * positive + (1 - mask) * other


class Noise(Negatives):
    """The positive sample with Gaussian noise added to every input."""

    strategy: Literal["noise"] = "noise"
    scale: float = Field(0.5, gt=0, le=100, description="standard deviation, in units of the preprocessed data")

    def __call__(self, positive: Tensor, labels: Tensor, classes: int, shape: tuple[int, ...], draw: Draw) -> Tensor:
        return positive + self.scale * draw.normal(positive.shape).to(positive.dtype)


def swap_label(positive: Tensor, labels: Tensor, wrong: Tensor) -> Tensor:
    """The positives (..., m) with the one-hot entry moved from `labels` to `wrong` (...,)."""
    on = positive.gather(-1, labels.unsqueeze(-1))
    off = positive.gather(-1, wrong.unsqueeze(-1))
    return positive.scatter(-1, labels.unsqueeze(-1), off).scatter(-1, wrong.unsqueeze(-1), on)


def other_class_partner(labels: Tensor, draw: Draw) -> Tensor:
    """For each sample (R, B) the index of a random sample of another class in its batch.

    Raises ValueError where a batch holds one class only.
    """
    priority = draw.uniform((*labels.shape, labels.shape[-1]))
    same = labels.unsqueeze(-1) == labels.unsqueeze(-2)  # (R, B, B)
    if bool(same.all(-1).any()):
        raise ValueError("negatives: every batch needs samples of at least two classes; use a larger batch_size")
    return priority.masked_fill(same, -1.0).argmax(-1)


def smoothed(noise: Tensor, blurs: int) -> Tensor:
    """Images (..., height, width) blurred along both axes, edges wrapped around."""
    for _ in range(blurs):
        for axis in (-1, -2):
            noise = noise / 2 + (noise.roll(1, axis) + noise.roll(-1, axis)) / 4
    return noise


AnyNegatives = Annotated[WrongLabel | Hybrid | Noise, Field(discriminator="strategy")]
