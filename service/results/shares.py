"""Shares and means over seeds in words, the same in all sentences."""

from collections.abc import Sequence

from ffengine.results import Interval

MOST_DIGITS = 6


def of_means(pair: Sequence[Interval], digits: int = 3) -> str:
    """The means of both splits: `0.470 / 0.450`."""
    return " / ".join(f"{one.mean:.{digits}f}" for one in pair)


def shares(found: Sequence[Interval]) -> str:
    """Shares of both splits with their intervals."""
    return " / ".join(with_interval(one) for one in found)


def with_interval(found: Interval) -> str:
    """A share with its interval: `69 % [67, 71]`."""
    if found.low is None or found.high is None:
        return share(found.mean)
    return f"{share(found.mean)} [{percent(found.low)}, {percent(found.high)}]"


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


def share(value: float) -> str:
    """A share in percent, with the sign."""
    return f"{percent(value)} %"


def percent(value: float) -> str:
    """A share in percent: whole numbers in the middle, more digits near 0 and 100 %; only what is
    0 or 1 is written 0 or 100.
    """
    digits = 0 if value in (0.0, 1.0) or 0.1 <= value <= 0.95 else 1 if value < 0.995 else 2
    while digits < MOST_DIGITS and 0 < value < 1 and float(f"{100 * value:.{digits}f}") in (0, 100):
        digits += 1
    return f"{100 * value:.{digits}f}"
