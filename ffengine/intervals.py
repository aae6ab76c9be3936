"""Means over seeds with their 95 % intervals: one rule for tables, charts, files and summaries."""

import math
from collections.abc import Sequence

import numpy as np

from ffengine.results import (
    COUNTED,
    SHARES,
    AccuracyRow,
    BaselineRow,
    CheckCell,
    EpochRow,
    ForecastPoint,
    Interval,
    RecordedRow,
    within_0_and_1,
)

AnyRow = EpochRow | CheckCell | AccuracyRow | BaselineRow | ForecastPoint | RecordedRow
Z_95 = 1.959964
# 0.975 quantiles of Student's t for 1 to 30 degrees of freedom
T_975 = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
    2.120,
    2.110,
    2.101,
    2.093,
    2.086,
    2.080,
    2.074,
    2.069,
    2.064,
    2.060,
    2.056,
    2.052,
    2.048,
    2.045,
    2.042,
)


def interval_of(rows: Sequence[AnyRow], figure: str) -> Interval | None:
    """Return the interval of a figure over rows that differ by their seed alone.

    **Arguments:**

    - `rows`: one for each seed.
    - `figure`: the name of a field.

    **Returns:**

    The interval; None where no row has the figure.
    """
    found = [row for row in rows if getattr(row, figure) is not None]
    if not found:
        return None
    samples = [row.counted(figure) for row in found] if figure in COUNTED else ()
    return interval(
        [float(getattr(row, figure)) for row in found], share=figure in SHARES, samples=samples
    )


def interval(
    values: Sequence[float], *, share: bool = False, samples: Sequence[int] = ()
) -> Interval:
    """Compute a mean over seeds with its 95 % confidence interval.

    Tables, charts, files and summaries all show this interval. Seeds are independent, so it is
    Student's t over them; a single value has no bounds. Where values are shares of samples, the
    interval is at least Wilson's over all samples: seeds that happen to agree, as when no sample of
    any seed fails, would otherwise have an interval of no width.

    **Arguments:**

    - `values`: one for each seed.
    - `share`: whether values lie within 0 and 1; the bounds then do too.
    - `samples`: how many samples each value is a share of.

    **Returns:**

    The interval.

    **Source:**

    docs/numerics.md, "Intervals".
    """
    mean = float(np.mean(values))
    if len(values) == 1:
        found = Interval(mean=mean, low=None, high=None, seeds=1)
        return within_0_and_1(found) if share else found
    half = student_t(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    low, high = mean - half, mean + half
    if sum(samples):
        counted = wilson(
            round(sum(value * count for value, count in zip(values, samples, strict=True))),
            sum(samples),
        )
        low, high = min(low, counted[0]), max(high, counted[1])
    found = Interval(mean=mean, low=low, high=high, seeds=len(values))
    return within_0_and_1(found) if share else found


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Compute Wilson's 95 % interval of a share of independent trials.

    **Arguments:**

    - `successes`: how many succeeded.
    - `trials`: how many there were, above 0.

    **Returns:**

    The lower and upper bound, within 0 and 1.
    """
    share, z2 = successes / trials, Z_95**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z_95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(0.0, middle - half), min(1.0, middle + half)


def student_t(degrees: int) -> float:
    """Return the 0.975 quantile of Student's t.

    Beyond the table it is the Cornish-Fisher expansion, which is exact to 1e-5 there.

    **Arguments:**

    - `degrees`: degrees of freedom, at least 1.

    **Returns:**

    The quantile.
    """
    if degrees <= len(T_975):
        return T_975[degrees - 1]
    z = Z_95
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
