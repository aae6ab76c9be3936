"""Intervals as charts draw them; they are those of ffengine.intervals.interval."""

from collections.abc import Iterable
from typing import NamedTuple

from ffengine.results import Interval
from service.results.charts.style import Record


class Band(NamedTuple):
    """A mean over seeds with its 95 % interval; one seed has none."""

    mean: float
    low: float | None
    high: float | None
    seeds: int


def band(found: Interval) -> Band:
    """The band of an interval."""
    return Band(found.mean, found.low, found.high, found.seeds)


def lower_ends(records: Iterable[Record], mean: str = "mean") -> list[float]:
    """Where each record's interval begins; of one seed, the value itself.

    **Arguments:**

    - `mean`: the field of the value.
    """
    ends = (record[mean] if record["low"] is None else record["low"] for record in records)
    return [float(end) for end in ends if end is not None]
