"""How figures are written in findings: digits, intervals, and words for what is clear."""

from collections.abc import Iterable

from ffengine.results import Interval


def number(found: Interval | None, digits: int = 3, *, of: int = 0) -> str:
    """Write a mean with its interval.

    **Arguments:**

    - `found`: None where there is none.
    - `digits`: after the point.
    - `of`: how many seeds were run, where some may lack the figure.

    **Returns:**

    Such as "0.376 [0.360, 0.392]"; without brackets for one seed, and with "(1 of 5 seeds)" behind
    where some lack it.
    """
    if found is None:
        return "-"
    some = f" ({found.seeds} of {of} seeds)" if found.seeds < of else ""
    if found.low is None or found.high is None:
        return f"{found.mean:.{digits}f}{some}"
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]{some}"


def pair(found: Iterable[Interval | None], digits: int = 2) -> str:
    """Write the means of both splits.

    **Arguments:**

    - `found`: the figure of positives, then that of negatives.
    - `digits`: after the point.

    **Returns:**

    Such as "0.07 / 0.04".
    """
    texts = ("-" if one is None else f"{one.mean:.{digits}f}" for one in found)
    return " / ".join(texts)


def is_above(found: Interval | None, value: float) -> bool:
    """Whether a whole interval is above a value; False for one seed, which has none.

    **Arguments:**

    - `found`: the interval.
    - `value`: what it is compared with.

    **Returns:**

    True where its lower bound is above.
    """
    return found is not None and found.low is not None and found.low > value


def is_below(found: Interval | None, value: float) -> bool:
    """Whether a whole interval is below a value; False for one seed, which has none.

    **Arguments:**

    - `found`: the interval.
    - `value`: what it is compared with.

    **Returns:**

    True where its upper bound is below.
    """
    return found is not None and found.high is not None and found.high < value


def listed(words: list[str]) -> str:
    """Join words as a list in a sentence.

    **Arguments:**

    - `words`: one at least.

    **Returns:**

    Such as "a, b and c".
    """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
