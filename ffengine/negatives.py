"""Catalogue of negative strategies: each makes a batch of negatives from a batch of positives.

Legend: R replicas (one per seed), B samples of a batch, m inputs, C classes. The first C inputs of
a labelled sample are the one-hot of its label; with another `dataset.label_code` negatives are
those of a Relabelling. Strategies use tensor methods only, and take all randomness from the draw
that they are given. Docstrings state costs relative to a training step, which takes two products
over 2B samples; a strategy without a stated cost takes no product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from pydantic import Field

from ffengine.additions import OpenUnion
from ffengine.entry import Entry, default_choice

if TYPE_CHECKING:
    from torch import Tensor

    from ffengine.random_streams import Draw


class NetworkGoodness(Protocol):
    """The goodness of the current network, summed over the layers that learn.

    It is what strategies with `asks_network` may ask for.
    """

    def label_goodness(self, x: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Compute the goodness of labelled samples under each label.

        **Arguments:**

        - `x`: (R, B, m) samples that carry a label.
        - `labels`: (R, B) int64, the label that each sample carries.
        - `classes`: C.

        **Returns:**

        g (R, B, C).
        """

    def goodness_slope(self, x: Tensor) -> Tensor:
        """Compute the gradient of each sample's goodness with respect to its inputs.

        **Arguments:**

        - `x`: (R, B, m) samples.

        **Returns:**

        dg/dx (R, B, m).
        """


class PositiveSamples(Protocol):
    """The partition that positives are taken from, as far as strategies use it."""

    labels: Tensor  # (N,) int64
    classes: int
    shape: tuple[int, int, int]

    def __len__(self) -> int: ...

    @property
    def plain(self) -> Tensor:
        """(N, m): the images alone."""

    @property
    def labelled(self) -> Tensor:
        """(N, m): with the pattern of the label."""

    def relabelled(self, x: Tensor, labels: Tensor, wrong: Tensor) -> Tensor:
        """Samples (..., m) of one label each (...,), under another label (...,)."""

    def positives(self, *, labelled: bool) -> Tensor:
        """(N, m): with the label or without."""

    def other_class(self, labels: Tensor, draw: Draw) -> Tensor:
        """For each label (R, B) the index of a random sample of another class."""


@dataclass(frozen=True)
class Positives:
    """The batch of positives that a strategy makes negatives of, and what it may use for that.

    **Attributes:**

    - `x`: (R, B, m), as the network receives them.
    - `index`: (R, B) int64, positions in their partition.
    - `samples`: the partition.
    - `draw`: all randomness of the strategy.
    - `network_goodness`: None where the strategy does not ask the network.
    """

    x: Tensor
    index: Tensor
    samples: PositiveSamples
    draw: Draw
    network_goodness: NetworkGoodness | None

    @property
    def labels(self) -> Tensor:
        """(R, B) int64 in 0 .. C - 1."""
        return self.samples.labels[self.index]

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return self.samples.classes

    @property
    def network(self) -> NetworkGoodness:
        """The goodness of the current network.

        **Raises:**

        - `ValueError`: none was given, because the strategy does not set `asks_network`.
        """
        if self.network_goodness is None:
            raise ValueError("negatives: this strategy asks the network, and none was given")
        return self.network_goodness

    def partners(self, *, labelled: bool) -> Tensor:
        """Draw a sample of another class for each positive.

        **Arguments:**

        - `labelled`: whether the samples carry their own label.

        **Returns:**

        (R, B, m).
        """
        return self.samples.positives(labelled=labelled)[
            self.samples.other_class(self.labels, self.draw)
        ]

    def under_own_label(self, images: Tensor) -> Tensor:
        """Put the label inputs of the positives on images, in place.

        **Arguments:**

        - `images`: (R, B, m).

        **Returns:**

        The same tensor.
        """
        images[..., : self.classes] = self.x[..., : self.classes]
        return images


class Negatives(Entry, ABC):
    """How negative samples are made from positive ones."""

    # whether positives carry their label as a one-hot in the first C inputs
    labelled: ClassVar[bool] = True
    # whether the strategy uses `Positives.network`
    asks_network: ClassVar[bool] = False

    redraw: Literal["every_epoch", "once"] = Field(
        "every_epoch",
        description="once: each training sample keeps its negative for the whole of a layer's "
        "training",
    )

    def positive(self, x: Tensor) -> Tensor:
        """Return what positive samples look like under this strategy.

        **Arguments:**

        - `x`: (..., m).

        **Returns:**

        (..., m); it may be x itself.
        """
        return x

    @abstractmethod
    def __call__(self, positives: Positives) -> Tensor:
        """Make negatives.

        **Arguments:**

        - `positives`: a batch of B positives for each replica; it is not changed.

        **Returns:**

        (R, B, m), one negative for each positive.
        """


class Relabelling(Negatives, ABC):
    """Negatives that are images under a label that is not theirs."""

    @property
    def keeps_image(self) -> bool:
        """Whether every negative is the image of its positive."""
        return True

    @abstractmethod
    def wrong_labels(self, positives: Positives) -> Tensor:
        """Choose the label of each negative.

        **Arguments:**

        - `positives`: the labelled samples that become negatives.

        **Returns:**

        (R, B) int64, never the true label.
        """

    def images(self, positives: Positives) -> Positives:
        """Return the labelled samples that become negatives: here the positives themselves.

        **Arguments:**

        - `positives`: a batch of B positives for each replica.

        **Returns:**

        The samples, (R, B, m).
        """
        return positives

    def __call__(self, positives: Positives) -> Tensor:
        images = self.images(positives)
        return images.samples.relabelled(images.x, images.labels, self.wrong_labels(images))


class WrongLabel(Relabelling):
    """The same image under a label that is not its own, drawn uniformly from the others (Hinton
    2022, section 3.3).
    """

    strategy: Literal["wrong_label"] = "wrong_label"
    image: Literal["own", "any"] = Field(
        "own",
        description="own: the sample's own image with a wrong label; any: the image of a "
        "random sample, so that some images appear twice in an epoch and some "
        "never",
    )

    @property
    def keeps_image(self) -> bool:
        return self.image == "own"

    def wrong_labels(self, positives: Positives) -> Tensor:
        return (
            positives.labels + positives.draw.integers(1, positives.classes, positives.labels.shape)
        ) % positives.classes

    def images(self, positives: Positives) -> Positives:
        if self.image == "own":
            return positives
        index = positives.draw.integers(0, len(positives.samples), positives.index.shape)
        return replace(positives, x=positives.samples.labelled[index], index=index)


class HardestLabel(Relabelling):
    """The same image under the wrong label that the network likes best now; costs C / 2 forward
    products, one for the first layer.
    """

    asks_network: ClassVar[bool] = True

    strategy: Literal["hardest_label"] = "hardest_label"

    def wrong_labels(self, positives: Positives) -> Tensor:
        return wrong_goodness(positives).argmax(-1)


class SampledLabel(Relabelling):
    """A wrong label drawn by the softmax of its goodness under the network (Hinton 2022, section
    3.3); cost as hardest_label.
    """

    asks_network: ClassVar[bool] = True

    strategy: Literal["sampled_label"] = "sampled_label"
    temperature: float = Field(
        1.0, gt=0, le=1e6, description="goodness is divided by it: small is hard, large is uniform"
    )

    def wrong_labels(self, positives: Positives) -> Tensor:
        goodness = wrong_goodness(positives) / self.temperature
        uniform = positives.draw.uniform(goodness.shape).clamp_min(1e-30)
        # The label with the largest goodness + gumbel is a draw from the softmax.
        gumbel = -(-uniform.log()).log()
        return (goodness + gumbel).argmax(-1)


class Hybrid(Negatives):
    """Two images of different classes blended by a smooth random mask, without labels (Hinton 2022,
    section 3.2).
    """

    labelled: ClassVar[bool] = False

    strategy: Literal["hybrid"] = "hybrid"
    blurs: int = Field(
        6, ge=1, le=50, description="how often the random mask is blurred with [1/4, 1/2, 1/4]"
    )

    def __call__(self, positives: Positives) -> Tensor:
        x = positives.x
        channels, height, width = positives.samples.shape
        blurred = smoothed(positives.draw.uniform((*x.shape[:-1], height, width)), self.blurs)
        # The median takes half of the pixels from each image, also where the image is small.
        middle = blurred.flatten(-2).median(-1).values[..., None, None]
        mask = (blurred > middle).to(x.dtype)
        mask = mask.unsqueeze(-3).expand(*mask.shape[:-2], channels, height, width).reshape(x.shape)
        return mask * x + (1 - mask) * positives.partners(labelled=self.labelled)


class OtherImage(Negatives):
    """An image of another class under the label of the positive: wrong_label with the roles
    exchanged.
    """

    strategy: Literal["other_image"] = "other_image"

    def __call__(self, positives: Positives) -> Tensor:
        return positives.under_own_label(positives.partners(labelled=self.labelled))


class Mix(Negatives):
    """A weighted mean of the image and one of another class, under the label of the positive."""

    strategy: Literal["mix"] = "mix"
    share: float = Field(0.5, gt=0, le=1, description="weight of the other image")

    def __call__(self, positives: Positives) -> Tensor:
        return positives.under_own_label(
            positives.x.lerp(positives.partners(labelled=self.labelled), self.share)
        )


class Noise(Negatives):
    """The positive sample with Gaussian noise added to every input."""

    strategy: Literal["noise"] = "noise"
    scale: float = Field(
        0.5, gt=0, le=100, description="standard deviation, in units of the preprocessed data"
    )

    def __call__(self, positives: Positives) -> Tensor:
        return positives.x + self.scale * positives.draw.normal(positives.x.shape).to(
            positives.x.dtype
        )


class ShufflePixels(Negatives):
    """The pixels of the image in a random order, one order for all images of a batch; the label
    stays.
    """

    strategy: Literal["shuffle_pixels"] = "shuffle_pixels"

    def __call__(self, positives: Positives) -> Tensor:
        x, classes = positives.x.clone(), positives.classes
        order = positives.draw.permutation(x.shape[-1] - classes).unsqueeze(1)  # (R, 1, m - C)
        x[..., classes:] = positives.x[..., classes:].gather(-1, order.expand(*x.shape[:-1], -1))
        return x


class Masked(Negatives):
    """The image with a random share of its pixels blanked; the label stays."""

    strategy: Literal["masked"] = "masked"
    share: float = Field(0.5, gt=0, le=1, description="probability that a pixel is blanked")

    def __call__(self, positives: Positives) -> Tensor:
        kept = positives.draw.uniform(positives.x.shape) >= self.share
        return positives.under_own_label(positives.x * kept.to(positives.x.dtype))


class Adversarial(Negatives):
    """The positive moved, within a bound on every pixel, to where the network likes it better;
    costs one forward and backward pass.
    """

    asks_network: ClassVar[bool] = True

    strategy: Literal["adversarial"] = "adversarial"
    bound: float = Field(
        0.1,
        gt=0,
        le=100,
        description="change of every pixel, in units of the preprocessed data (arXiv 1412.6572)",
    )

    def __call__(self, positives: Positives) -> Tensor:
        raised = positives.x + self.bound * positives.network.goodness_slope(positives.x).sign()
        return positives.under_own_label(raised)


class SelfContrastive(Negatives):
    """A positive is an image added to itself, a negative one added to another image, without labels
    (SCFF, Chen et al. 2025).
    """

    labelled: ClassVar[bool] = False

    strategy: Literal["self_contrastive"] = "self_contrastive"

    def positive(self, x: Tensor) -> Tensor:
        return 2 * x

    def __call__(self, positives: Positives) -> Tensor:
        count = len(positives.samples)
        # any sample but the positive's own
        other = (positives.index + positives.draw.integers(1, count, positives.index.shape)) % count
        return positives.x / 2 + positives.samples.plain[other]


class NoNegatives(Negatives):
    """No negatives, and samples without labels: for objectives over classes, which learn from the
    labels themselves.
    """

    labelled: ClassVar[bool] = False

    strategy: Literal["none"] = "none"

    def __call__(self, positives: Positives) -> Tensor:
        raise ValueError("negatives: the strategy none makes none")


def swap_label(positive: Tensor, labels: Tensor, wrong: Tensor) -> Tensor:
    """Move the one-hot entry of samples from one label to another.

    **Arguments:**

    - `positive`: (..., m) labelled samples.
    - `labels`: (...,) int64, the label that each sample carries.
    - `wrong`: (...,) int64, the label that it gets.

    **Returns:**

    (..., m), a new tensor.
    """
    on = positive.gather(-1, labels.unsqueeze(-1))
    off = positive.gather(-1, wrong.unsqueeze(-1))
    return positive.scatter(-1, labels.unsqueeze(-1), off).scatter_(-1, wrong.unsqueeze(-1), on)


def wrong_goodness(positives: Positives) -> Tensor:
    """Return the goodness of positives under each label, minus infinity under the true one.

    **Arguments:**

    - `positives`: a batch of labelled samples.

    **Returns:**

    g (R, B, C).
    """
    labels = positives.labels
    goodness = positives.network.label_goodness(positives.x, labels, positives.classes)
    return goodness.scatter_(-1, labels.unsqueeze(-1), -float("inf"))


def smoothed(noise: Tensor, blurs: int) -> Tensor:
    """Blur images along both axes with [1/4, 1/2, 1/4]; edges wrap around.

    **Arguments:**

    - `noise`: (..., height, width).
    - `blurs`: how often.

    **Returns:**

    (..., height, width).
    """
    for _ in range(blurs):
        for axis in (-1, -2):
            noise = noise / 2 + (noise.roll(1, axis) + noise.roll(-1, axis)) / 4
    return noise


AnyNegatives = Annotated[
    WrongLabel
    | HardestLabel
    | SampledLabel
    | Hybrid
    | OtherImage
    | Mix
    | Noise
    | ShufflePixels
    | Masked
    | Adversarial
    | SelfContrastive
    | NoNegatives,
    Field(discriminator="strategy"),
    OpenUnion("negatives", (Negatives,), "strategy"),
    default_choice("strategy", "wrong_label"),
]
