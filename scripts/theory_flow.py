"""Training without noise: the flow of G(negative) - G(positive) along its expected direction.

A usual step draws one wrong label for each image. Here each image is a negative under all of its
K - 1 wrong labels at once, each with the weight 1 / (K - 1), and the batch is the whole data. The
pictures of docs/theory.md are drawn from it. It is written for clarity, beside the engine, and
uses nothing of the engine's margins.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

LARGE = 2.0**16  # weights beyond it are divided by a power of two, which changes no S


@dataclass(frozen=True)
class Labelled:
    """Images (N, m) whose first inputs are free for the one-hot of their class y (N,)."""

    images: Tensor
    y: Tensor
    classes: int
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.images[:, : self.classes].any():
            raise ValueError("images: the first inputs, one for each class, must be 0")

    def class_spread(self) -> Tensor:
        """M (K, m): the mean of each class as a positive less its mean as a negative."""
        count, k = len(self.y), self.classes
        one_hot = torch.nn.functional.one_hot(self.y, k).to(self.images)
        return (k / (k - 1) * (one_hot.T @ self.images) - self.images.sum(0) / (k - 1)) / count

    def leading_growth(self) -> float:
        """lambda_1: the largest growth rate of a layer whose units are all active."""
        return self.strength * float(torch.linalg.svdvals(self.class_spread())[0])

    def recruitment_number(self) -> float:
        """R: how strongly the mean image pulls all units, against how fast classes separate."""
        unit = torch.nn.functional.normalize(self.images)
        own = (unit * self.class_spread()[self.y]).sum(1)
        pull = (self.images * own[:, None]).mean(0)
        return float(self.strength**2 * (unit @ pull).mean() / self.leading_growth() ** 2)


@dataclass(frozen=True)
class Split:
    """What is measured of the positives or of the negatives: means over samples."""

    sparsity: float
    share_active: float
    evenness: float
    holds: float


@dataclass(frozen=True)
class Moment:
    """The layer at one flow time."""

    tau: float
    effective_units: float
    basins: float
    splits: dict[str, Split]


class Flow:
    """A layer in training, and its shown labels: the own one, and one wrong one a sample."""

    def __init__(self, data: Labelled, width: int, seed: int) -> None:
        self.data = data
        draw = torch.Generator().manual_seed(seed)
        inputs = data.images.shape[1]
        self.weight = torch.randn(width, inputs, generator=draw) / math.sqrt(inputs)
        shift = torch.randint(1, data.classes, data.y.shape, generator=draw)
        self.shown = {"positive": data.y, "negative": (data.y + shift) % data.classes}

    def moments(self, step: float, until: float, every: int = 1) -> Iterator[Moment]:
        """Walk in steps of a size until a flow time, and measure after `every` steps."""
        for number in range(round(until / step) + 1):
            z, direction = self._direction()
            if number % every == 0:
                yield self._measured(number * step, z, direction)
            self.weight += step * direction
            largest = float(self.weight.abs().max())
            if largest > LARGE:
                self.weight /= 2.0 ** math.floor(math.log2(largest))

    def _direction(self) -> tuple[Tensor, Tensor]:
        """z of the images without a label (N, n), and the expected direction D (n, m)."""
        data, k = self.data, self.data.classes
        z = data.images @ self.weight.T
        pulled, direction = torch.zeros_like(z), torch.zeros_like(self.weight)
        for label in range(k):
            h = (z + data.strength * self.weight[:, label]).clamp_min_(0)
            sign = torch.where(data.y == label, 1.0, -1.0 / (k - 1))
            h *= sign[:, None]
            pulled += h
            direction[:, label] = data.strength * h.sum(0)
        direction += pulled.T @ data.images
        return z, direction * (2 / len(data.y))

    def _measured(self, tau: float, z: Tensor, direction: Tensor) -> Moment:
        zdot = self.data.images @ direction.T
        energy = self.weight.double().square().sum(1)
        return Moment(
            tau,
            float(energy.sum() ** 2 / energy.square().sum()),
            self._basins(),
            {name: self._split(label, z, zdot, direction) for name, label in self.shown.items()},
        )

    def _basins(self) -> float:
        """n^2 / sum n_b^2 over the directions that units share: from the longest unit to the
        shortest, one without a direction founds one, and all at a cosine above .9 join it.
        """
        unit = torch.nn.functional.normalize(self.weight.double())
        near = unit @ unit.T > 0.9
        free = torch.ones(len(unit), dtype=torch.bool)
        squares = 0
        for founder in self.weight.norm(dim=1).argsort(descending=True).tolist():
            if free[founder]:
                joined = near[founder] & free
                free &= ~joined
                squares += int(joined.sum()) ** 2
        return len(unit) ** 2 / squares

    def _split(self, label: Tensor, z: Tensor, zdot: Tensor, direction: Tensor) -> Split:
        strength = self.data.strength
        h = (z + strength * self.weight[:, label].T).clamp_min(0).double()
        hdot = (zdot + strength * direction[:, label].T).double() * (h > 0)
        l1, l2, active = h.sum(1), h.norm(dim=1), (h > 0).double().sum(1)
        margin = (h * hdot).sum(1) / l2**2 - hdot.sum(1) / l1
        width = math.sqrt(h.shape[1])
        return Split(
            sparsity=float(((width - l1 / l2) / (width - 1)).mean()),
            share_active=float((active / h.shape[1]).mean()),
            evenness=float((l1 / (l2 * active.sqrt())).mean()),
            holds=float((margin > 0).double().mean()),
        )
