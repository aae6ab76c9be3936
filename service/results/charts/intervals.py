"""Intervals as charts draw them; they are those of ffengine.study.interval."""

from typing import NamedTuple

from ffengine.results import Interval


class Band(NamedTuple):
    """A mean over seeds with its 95 % interval."""

    mean: float
    low: float
    high: float
    seeds: int


def band(found: Interval) -> Band:
    """The band of an interval; with one seed, its bounds are the mean."""
    low, high = (found.mean if bound is None else bound for bound in (found.low, found.high))
    return Band(found.mean, low, high, found.seeds)
