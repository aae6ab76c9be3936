"""The figures of one layer of a training loop that somebody else wrote: what one look at it gives,
and what the looks of an epoch add up to.

Legend: N samples, n units (of a convolution, channels times positions), m inputs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.activations import ACTIVATIONS
from ffengine.convolution import convolution_margins
from ffengine.margins import observe
from ffengine.results import RecordedRow, Split
from ffengine.separation import auc
from ffengine.sparsity import sparsity_and_dead, treves_rolls

PATCH_BYTES = 64_000_000  # of patches in float64 that a look at a convolution may take


class Convolution(NamedTuple):
    """How a convolution cuts its patches: the arguments of torch.nn.functional.unfold."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def patches(self, x: Tensor) -> Tensor:
        """Return the patches (N, P, m) of images (N, channels, height, width)."""
        cut = torch.nn.functional.unfold(x, self.size, self.dilation, self.padding, self.stride)
        return cut.mT.contiguous()


@dataclass
class Look:
    """What is seen of one layer in one call.

    **Attributes:**

    - `x`: what the weight is multiplied with: samples (N, m), or images.
    - `weight`: W (n, m), or kernels (C, m) with the bias as the last input where there is one.
    - `version`: how often the weight had been changed, so that two looks can be told apart.
    - `convolution`: None for a dense layer.
    - `h`: the activations, samples first.
    - `activation`: a name of the catalogue, where h = sigma(W x) with nothing between; else None.
    """

    x: Tensor
    weight: Tensor
    version: int
    convolution: Convolution | None
    h: Tensor
    activation: str | None = None

    @property
    def inputs(self) -> Tensor:
        """The inputs of W in the type of W, with a 1 for the bias: (N, m), or patches (N, P, m)."""
        x = self.x if self.convolution is None else self.convolution.patches(self.x)
        x = x.to(self.weight.dtype)
        if x.shape[-1] < self.weight.shape[1]:
            x = torch.cat([x, x.new_ones(*x.shape[:-1], 1)], dim=-1)
        return x


class Verdict(NamedTuple):
    """How many of the live samples of a look satisfy a theorem."""

    live: int
    satisfied: int
    undecided: int | None


def verdicts(looks: Sequence[Look], signs: Sequence[float]) -> list[Verdict] | None:
    """Check the theorem's condition for the samples of some looks, along one step for all of them.

    **Arguments:**

    - `looks`: of one layer at the same weights, such as at positives and at negatives.
    - `signs`: of each look: 1 lowers its goodness, -1 raises it.

    **Returns:**

    A verdict on each look; None where the layer is not one that the theorems are about.
    """
    names = {look.activation for look in looks}
    name = names.pop()
    if name is None or names or len({look.version for look in looks}) > 1:
        return None
    weight = looks[0].weight
    if looks[0].convolution is None:
        if len(weight) < 2:
            return None
        sums = observe(weight, [look.inputs for look in looks], signs, ACTIVATIONS[name])
        checks = [one.check() for one in sums]
        return [
            Verdict(one.live, int(one.satisfied.sum()), int(one.undecided.sum())) for one in checks
        ]
    if name != "relu":
        return None
    patches = [look.inputs for look in looks]
    weights = [
        x.new_full((len(x),), sign, dtype=torch.float64)
        for x, sign in zip(patches, signs, strict=True)
    ]
    found = [one.map for one in convolution_margins(weight, patches, weights)]
    return [
        Verdict(int((~margin.isnan()).sum()), int((margin > 0).sum()), None) for margin in found
    ]


@dataclass
class SplitTally:
    """The figures of one layer and one split, added up over the looks of an epoch."""

    samples: int = 0
    width: int = 0
    dead: list[Tensor] = field(default_factory=list)
    means: dict[str, list[Tensor]] = field(default_factory=dict)
    goodness: list[Tensor] = field(default_factory=list)
    active: Tensor | None = None  # (units,) bool
    theorems: dict[int, list[Verdict]] = field(default_factory=dict)

    def add(self, look: Look) -> None:
        """Add the figures of a look; nothing waits for the device."""
        h = look.h.detach()
        flat = h.flatten(1)
        sparsity, dead = sparsity_and_dead(flat) if flat.shape[1] > 1 else _of_one_unit(flat)
        live = (~dead).double()
        units = (h != 0).any(0) if h.dim() == 2 else (h != 0).flatten(2).any(-1).any(0)
        self.active = units if self.active is None else self.active | units
        self.width, self.samples = len(units), self.samples + len(h)
        squares = flat.double().square()
        self.goodness.append(squares.sum(-1))
        self.dead.append(dead.sum())
        rolls = treves_rolls(flat) if flat.shape[1] > 1 else sparsity
        norm = torch.linalg.vector_norm(look.x.double().flatten(1), dim=-1)
        for name, value in (
            ("live", live.sum()),
            ("sparsity", (sparsity * live).sum()),
            ("treves_rolls", (rolls * live).sum()),
            ("zero_fraction", (flat == 0).double().mean(-1).sum()),
            ("mean_squares", squares.mean(-1).sum()),
            ("input_norm", norm.sum()),
        ):
            self.means.setdefault(name, []).append(value)

    def row(
        self, *, seed: int, layer: int, epoch: int, split: Split, area: float | None
    ) -> RecordedRow:
        """Return the row of these figures; a mean over no samples is null."""
        total = {name: float(torch.stack(values).sum()) for name, values in self.means.items()}
        goodness = torch.cat(self.goodness)
        live = total["live"]
        assert self.active is not None  # noqa: S101 - narrows: something was added
        one, two = self.theorems.get(1, []), self.theorems.get(2, [])
        return RecordedRow(
            seed=seed,
            layer=layer,
            epoch=epoch,
            split=split,
            samples=self.samples,
            dead_samples=int(torch.stack(self.dead).sum()),
            dead_units=int((~self.active).sum()),
            width=self.width,
            sparsity=_finite(total["sparsity"] / live) if live and self.width > 1 else None,
            treves_rolls=_finite(total["treves_rolls"] / live) if live and self.width > 1 else None,
            zero_fraction=total["zero_fraction"] / self.samples,
            goodness=_finite(float(goodness.mean())),
            mean_squares=_finite(total["mean_squares"] / self.samples),
            auc=area,
            theorem1_ratio=_ratio(one),
            theorem1_undecided=_undecided(one),
            theorem2_difference_ratio=_ratio(two),
            theorem2_undecided=_undecided(two),
            input_norm=_finite(total["input_norm"] / self.samples),
        )


def area_of(positive: SplitTally | None, negative: SplitTally | None) -> float | None:
    """Return the area under the curve of two splits; None where one is not there or not finite."""
    if positive is None or negative is None:
        return None
    found = [torch.cat(tally.goodness).unsqueeze(0) for tally in (positive, negative)]
    if any(bool(goodness.isnan().any()) for goodness in found):
        return None
    return float(auc(*found)[0])


def _of_one_unit(h: Tensor) -> tuple[Tensor, Tensor]:
    """Return zeros for S, which one unit does not have, and which samples are dead."""
    return h.new_zeros(len(h), dtype=torch.float64), ~(h != 0).any(-1)


def _ratio(found: Sequence[Verdict]) -> float | None:
    live = sum(one.live for one in found)
    return sum(one.satisfied for one in found) / live if live else None


def _undecided(found: Sequence[Verdict]) -> int | None:
    counts = [one.undecided for one in found if one.undecided is not None]
    return sum(counts) if counts else None


def _finite(value: float) -> float | None:
    """Return a figure; None where it is not finite, as that of a run that diverged."""
    return value if math.isfinite(value) else None
