"""How a layer went through its training: where S was lowest, and how often theorem 2's condition held before and after."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from ffengine.results import EpochRow, Interval, Split
from ffengine.study import interval_of

SPLITS: tuple[Split, Split] = ("positive", "negative")


class Moment(NamedTuple):
    """A layer at the end of an epoch: theorem 2's ratio and S of positive and of negative samples, over seeds."""

    epoch: int
    ratio: tuple[Interval, Interval]
    sparsity: tuple[Interval, Interval]

    @property
    def mean_ratio(self) -> float:
        """Over both splits."""
        return (self.ratio[0].mean + self.ratio[1].mean) / 2

    @property
    def mean_sparsity(self) -> float:
        """Over both splits."""
        return (self.sparsity[0].mean + self.sparsity[1].mean) / 2


class Course(NamedTuple):
    """The moments of a layer, two at least, in their order."""

    moments: Sequence[Moment]

    @property
    def first(self) -> Moment:
        """At the beginning, which is initialisation in a layer's own training."""
        return self.moments[0]

    @property
    def last(self) -> Moment:
        """At the end."""
        return self.moments[-1]

    @property
    def lowest(self) -> Moment:
        """Where S is lowest: before it the mean of S falls, as a whole, and after it rises."""
        return min(self.moments, key=lambda moment: moment.mean_sparsity)

    @property
    def rarest(self) -> Moment | None:
        """Where theorem 2's condition holds for the fewest samples while S falls; None where S rises from the beginning."""
        falling = [moment for moment in self.moments[1:] if moment.epoch <= self.lowest.epoch]
        return min(falling, key=lambda moment: moment.mean_ratio, default=None)

    @property
    def rising(self) -> Sequence[Moment]:
        """After S was lowest."""
        return [moment for moment in self.moments if moment.epoch > self.lowest.epoch]


def course_of(rows: Sequence[EpochRow], layer: int = 0) -> Course | None:
    """The epochs at which a layer has both figures of both splits for every seed; None where there are fewer than two."""
    seeds = {row.seed for row in rows}
    by_epoch: dict[int, dict[Split, list[EpochRow]]] = defaultdict(lambda: {"positive": [], "negative": []})
    for row in rows:
        if row.layer == layer and row.theorem2_ratio is not None and row.sparsity is not None:
            by_epoch[row.epoch][row.split].append(row)
    whole = [(epoch, found) for epoch, found in sorted(by_epoch.items()) if all(len(found[split]) == len(seeds) for split in SPLITS)]
    moments = [Moment(epoch, _both(found, "theorem2_ratio"), _both(found, "sparsity")) for epoch, found in whole]
    return Course(moments) if len(moments) > 1 else None


def _both(found: dict[Split, list[EpochRow]], figure: str) -> tuple[Interval, Interval]:
    positive, negative = (interval_of(found[split], figure) for split in SPLITS)
    assert positive is not None  # noqa: S101 - only rows that have the figure are there
    assert negative is not None  # noqa: S101
    return positive, negative
