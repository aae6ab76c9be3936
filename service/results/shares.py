"""Shares and means over seeds in words, the same in all sentences."""

from collections.abc import Sequence

from ffengine.results import Interval


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


def share(value: float) -> str:
    """A share in percent, with the sign."""
    return f"{percent(value)} %"


def percent(value: float) -> str:
    """A share in percent: whole numbers in the middle, more digits near 0 and 100 %."""
    digits = 0 if value in (0.0, 1.0) or 0.1 <= value <= 0.95 else 1 if value < 0.995 else 2
    return f"{100 * value:.{digits}f}"
