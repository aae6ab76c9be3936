"""Shares and means over seeds in words, the same in all sentences.

All percents of one line have the same number of digits (ffengine.percents.digits_of).
"""

from collections.abc import Sequence

from ffengine.percents import digits_of, percent
from ffengine.results import Interval


def of_means(pair: Sequence[Interval], digits: int = 3) -> str:
    """The means of both splits: `0.470 / 0.450`."""
    return " / ".join(f"{one.mean:.{digits}f}" for one in pair)


def shares(found: Sequence[Interval], digits: int | None = None) -> str:
    """Shares of both splits with their intervals.

    **Arguments:**

    - `digits`: those of the line; None: there are no other shares on it.
    """
    told = digits_of(found) if digits is None else digits
    return " / ".join(with_interval(one, told) for one in found)


def shares_alone(found: Sequence[Interval], digits: int | None = None) -> str:
    """Shares of both splits without their intervals: `10 % / 8 %`."""
    told = digits_of(found) if digits is None else digits
    return " / ".join(share(one.mean, told) for one in found)


def with_interval(found: Interval, digits: int | None = None) -> str:
    """A share with its interval: `69 % [67, 71]`."""
    told = digits_of([found]) if digits is None else digits
    if found.low is None or found.high is None:
        return share(found.mean, told)
    return f"{share(found.mean, told)} [{percent(found.low, told)}, {percent(found.high, told)}]"


def number(found: Interval, digits: int) -> str:
    """A mean with its interval: `0.431 [0.420, 0.442]`."""
    if found.low is None or found.high is None:
        return f"{found.mean:.{digits}f}"
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def signed(found: Interval) -> str:
    """A change with its interval: `+0.083 [+0.068, +0.099]`."""
    if found.low is None or found.high is None:
        return f"{found.mean:+.3f}"
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def share(value: float, digits: int | None = None) -> str:
    """A share in percent, with the sign."""
    return f"{percent(value, digits)} %"
