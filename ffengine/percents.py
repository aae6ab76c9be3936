"""Shares in percent, the same in all texts: rounded half up, and as many digits as a line needs."""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from ffengine.results import Interval

MOST_DIGITS = 6
LARGEST = 1e12  # of a ratio that is written in percent
WIDEST_OF_WHOLE = 0.005  # half an interval from here on: whole percents say what is known
MIDDLE = (0.1, 0.95)  # of single shares that whole percents tell well enough
NEAR_ALL = 0.995  # from here on, two digits tell shares apart


def percent(value: float, digits: int | None = None) -> str:
    """Write a share in percent, without the sign.

    The decimal text of the share is rounded, half up: 0.125 is 13, and 0.135 is 14. What is exactly
    0 or 1 is written 0 or 100, and nothing else is: what is close to them is `<1` or `>99`.

    **Arguments:**

    - `value`: the share.
    - `digits`: how many stand behind the point; None: as many as the share needs alone.

    **Returns:**

    The text, such as `9.5`.
    """
    if value in (0.0, 1.0):
        return f"{100 * value:.0f}"
    told = digits_of([value]) if digits is None else digits
    if _looks_whole(value, told):
        least = Decimal(1).scaleb(-told)
        return f"<{least}" if value < MIDDLE[1] else f">{100 - least}"
    return _rounded(value, told)


def digits_of(shares: Sequence[float | Interval]) -> int:
    """Say how many digits all percents of one line have.

    The narrowest interval decides, so that its ends are told apart; without any, the share that
    needs most.

    **Arguments:**

    - `shares`: those of the line, with their intervals where they have any.

    **Returns:**

    The number of digits behind the point.
    """
    means = [one.mean if isinstance(one, Interval) else one for one in shares]
    halves = [
        (one.high - one.low) / 2
        for one in shares
        if isinstance(one, Interval) and one.low is not None and one.high is not None
    ]
    halves = [half for half in halves if half > 0]
    found = _digits_of_half(min(halves)) if halves else max(map(_alone, means), default=0)
    if any(NEAR_ALL <= mean < 1 for mean in means):
        found = max(found, 2)
    while found < MOST_DIGITS and any(_looks_whole(mean, found) for mean in means):
        found += 1
    return found


def in_percent(value: float, digits: int | None = None) -> str:
    """Write a share in percent with the sign, as `percent` does without it.

    **Arguments:**

    - `value`: the share.
    - `digits`: how many stand behind the point; None: as many as the share needs alone.

    **Returns:**

    The text, such as `9.5 %`.
    """
    return f"{percent(value, digits)} %"


def _rounded(value: float, digits: int) -> str:
    """Round the decimal text of a share; what is too large for that has three digits."""
    if not abs(value) < LARGEST:
        return f"{100 * value:.3g}"
    exact = Decimal(repr(float(value))) * 100
    return f"{exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):f}"


def _digits_of_half(half: float) -> int:
    """How many digits tell the ends of an interval with this half width."""
    found = 0
    while found < MOST_DIGITS and half * 10**found < WIDEST_OF_WHOLE:
        found += 1
    return found


def _alone(share: float) -> int:
    """How many digits a share needs where nothing stands beside it."""
    if share in (0.0, 1.0) or MIDDLE[0] <= share <= MIDDLE[1]:
        return 0
    return 1 if share < NEAR_ALL else 2


def _looks_whole(share: float, digits: int) -> bool:
    """Whether a share that is neither 0 nor 1 would be written as one of them."""
    return 0 < share < 1 and float(_rounded(share, digits)) in (0, 100)
