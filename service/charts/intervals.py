"""Intervals of means and shares: what every band and bar of the charts is."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ffengine.study import interval

Z_95 = 1.959964


class Band(NamedTuple):
    """A mean over seeds with its 95 % interval."""

    mean: float
    low: float
    high: float
    seeds: int


def mean_band(values: Sequence[float], *, bounded: bool = False) -> Band:
    """Student's interval over seeds, kept within 0 and 1 where the figure is; with one seed the mean alone."""
    found = interval(list(values))
    low = found.mean if found.low is None else found.low
    high = found.mean if found.high is None else found.high
    return Band(found.mean, max(low, 0.0) if bounded else low, min(high, 1.0) if bounded else high, found.seeds)


def share_band(shares: Sequence[float], trials: Sequence[int]) -> Band:
    """The wider of Wilson's interval over all samples and Student's over seeds: samples that share weights are not independent."""
    band, total = mean_band(shares, bounded=True), sum(trials)
    if not total:
        return band
    low, high = wilson(round(sum(share * count for share, count in zip(shares, trials, strict=True))), total)
    if band.seeds == 1:
        return band._replace(low=low, high=high)
    return band._replace(low=min(low, band.low), high=max(high, band.high))


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; `trials` above 0."""
    share, z2 = successes / trials, Z_95**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z_95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(0.0, middle - half), min(1.0, middle + half)
