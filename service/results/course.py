"""The course of a layer's training: where S is lowest and highest, and how often theorem 2's
condition holds before and after.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from ffengine.diagnostics import UNDECIDED_SHARE
from ffengine.intervals import interval, interval_of
from ffengine.results import EpochRow, Interval, Split

SPLITS: tuple[Split, Split] = ("positive", "negative")
Pair = tuple[Interval, Interval]  # of positive and of negative samples


class Moment(NamedTuple):
    """A layer at the end of an epoch.

    ratio, sparsity: theorem 2's ratio and S of both splits, over seeds. seeds: S by split and seed.
    undecided: the share of live samples whose margin is within rounding of zero, the largest of any
    seed and split.
    """

    epoch: int
    ratio: Pair
    sparsity: Pair
    seeds: tuple[dict[int, float], dict[int, float]]
    undecided: float

    @property
    def mean_ratio(self) -> float:
        """Theorem 2's ratio, the mean over both splits."""
        return (self.ratio[0].mean + self.ratio[1].mean) / 2

    @property
    def mean_sparsity(self) -> float:
        """S, the mean over both splits."""
        return (self.sparsity[0].mean + self.sparsity[1].mean) / 2

    @property
    def is_decided(self) -> bool:
        """Whether so few margins are within rounding of zero that the ratio is not too low."""
        return self.undecided <= UNDECIDED_SHARE


class Course(NamedTuple):
    """The moments of a layer in their order, at least two."""

    moments: Sequence[Moment]

    @property
    def first(self) -> Moment:
        """The first moment: initialisation, or the beginning of the layer's own training."""
        return self.moments[0]

    @property
    def last(self) -> Moment:
        """The last moment."""
        return self.moments[-1]

    @property
    def lowest(self) -> Moment:
        """The moment at which S is lowest."""
        return min(self.moments, key=lambda moment: moment.mean_sparsity)

    @property
    def rarest(self) -> Moment | None:
        """The moment of the lowest ratio while S falls; None where S is lowest at the beginning."""
        lowest = self.lowest
        falling = [moment for moment in self.moments[1:] if moment.epoch <= lowest.epoch]
        return min(falling, key=lambda moment: moment.mean_ratio, default=None)

    @property
    def rising(self) -> Sequence[Moment]:
        """The moments after S is lowest, until it is highest again; none where S does not rise."""
        lowest = self.lowest
        after = [moment for moment in self.moments if moment.epoch > lowest.epoch]
        highest = max(after, key=lambda moment: moment.mean_sparsity, default=lowest)
        return [moment for moment in after if moment.epoch <= highest.epoch]


def change_between(before: Moment, after: Moment) -> Pair:
    """How much S rises from one moment to another, seed by seed."""
    positive, negative = (
        interval([after.seeds[split][seed] - value for seed, value in before.seeds[split].items()])
        for split in (0, 1)
    )
    return positive, negative


def rises(before: Moment, after: Moment) -> bool:
    """Whether S clearly rises between two moments: the interval is above zero for both splits."""
    return before is not after and all(
        found.low is not None and found.low > 0 for found in change_between(before, after)
    )


def course_of(rows: Sequence[EpochRow], layer: int = 0) -> Course | None:
    """The epochs at which a layer has S and theorem 2's ratio of both splits for every seed; None
    where there are fewer than two.
    """
    seeds = {row.seed for row in rows}
    by_epoch: dict[int, dict[Split, list[EpochRow]]] = defaultdict(
        lambda: {"positive": [], "negative": []}
    )
    for row in rows:
        if row.layer == layer and row.theorem2_ratio is not None and row.sparsity is not None:
            by_epoch[row.epoch][row.split].append(row)
    whole = [
        (epoch, found)
        for epoch, found in sorted(by_epoch.items())
        if all(len(found[split]) == len(seeds) for split in SPLITS)
    ]
    moments = [_moment(epoch, found["positive"], found["negative"]) for epoch, found in whole]
    return Course(moments) if len(moments) > 1 else None


def _moment(epoch: int, positive: Sequence[EpochRow], negative: Sequence[EpochRow]) -> Moment:
    by_seed = tuple(
        {row.seed: row.sparsity or 0.0 for row in rows} for rows in (positive, negative)
    )
    return Moment(
        epoch,
        (_interval(positive, "theorem2_ratio"), _interval(negative, "theorem2_ratio")),
        (_interval(positive, "sparsity"), _interval(negative, "sparsity")),
        (by_seed[0], by_seed[1]),
        max(
            (row.theorem2_undecided or 0) / max(1, row.samples - row.dead_samples)
            for row in (*positive, *negative)
        ),
    )


def _interval(rows: Sequence[EpochRow], figure: str) -> Interval:
    found = interval_of(rows, figure)
    assert found is not None  # noqa: S101 - only rows that have the figure are there
    return found
