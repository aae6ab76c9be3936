"""What findings read off the rows of a training run: curves, extremes and crossings over seeds."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from ffengine.findings.finding import Point, Run
from ffengine.intervals import interval, interval_of
from ffengine.results import CheckCell, CheckResult, EpochRow, Interval, Split, TrainResult

SPLITS: tuple[Split, Split] = ("positive", "negative")


class Moment(NamedTuple):
    """A figure of one layer at the end of an epoch, over seeds.

    **Attributes:**

    - `epoch`: 0 is the initialisation.
    - `tau`: flow time.
    - `found`: the figure.
    """

    epoch: int
    tau: float
    found: Interval


def rows_of(run: Run, layer: int = 0, split: Split | None = None) -> list[EpochRow]:
    """Return the rows of a layer of a training run.

    **Arguments:**

    - `run`: the run.
    - `layer`: the layer, from 0.
    - `split`: None: both.

    **Returns:**

    The rows in the order of the result.

    **Raises:**

    - `TypeError`: the run is no training run.
    """
    if not isinstance(run.result, TrainResult):
        raise TypeError(f"{run.part}: expected a training run, got a {run.result.kind}")
    return [
        row
        for row in run.result.curves
        if row.layer == layer and (split is None or row.split == split)
    ]


def curve(run: Run, figure: str, split: Split, layer: int = 0) -> list[Moment]:
    """Return the course of a figure, with its interval over seeds.

    **Arguments:**

    - `run`: a training run.
    - `figure`: the name of a column.
    - `split`: of the samples.
    - `layer`: the layer, from 0.

    **Returns:**

    A moment for each measured epoch that has the figure.
    """
    by_epoch: dict[int, list[EpochRow]] = defaultdict(list)
    for row in rows_of(run, layer, split):
        by_epoch[row.epoch].append(row)
    moments = (
        (epoch, rows[0].tau or 0.0, interval_of(rows, figure)) for epoch, rows in by_epoch.items()
    )
    return [Moment(epoch, tau, found) for epoch, tau, found in moments if found is not None]


def at_epoch(run: Run, figure: str, split: Split, epoch: int, layer: int = 0) -> Interval | None:
    """Return a figure after an epoch.

    **Arguments:**

    - `run`, `figure`, `split`, `layer`: as for `curve`.
    - `epoch`: the epoch.

    **Returns:**

    Its interval over seeds; None where the figure is not there.
    """
    rows = [row for row in rows_of(run, layer, split) if row.epoch == epoch]
    return interval_of(rows, figure)


def at_end(run: Run, figure: str, split: Split, layer: int = 0) -> Interval | None:
    """Return a figure after the last epoch.

    **Arguments:**

    - `run`, `figure`, `split`, `layer`: as for `curve`.

    **Returns:**

    Its interval over seeds; None where the figure is nowhere.
    """
    found = curve(run, figure, split, layer)
    return found[-1].found if found else None


def at_start(run: Run, figure: str, split: Split, layer: int = 0) -> Interval | None:
    """Return a figure at initialisation; as `at_end`.

    **Arguments:**

    - `run`, `figure`, `split`, `layer`: as for `curve`.

    **Returns:**

    Its interval over seeds; None where the figure is nowhere.
    """
    found = curve(run, figure, split, layer)
    return found[0].found if found else None


def lowest(moments: Sequence[Moment]) -> Moment:
    """Return the moment of the lowest mean.

    **Arguments:**

    - `moments`: one at least.

    **Returns:**

    The first of them.
    """
    return min(moments, key=lambda moment: moment.found.mean)


def crossings(
    run: Run, figure: str, level: float = 0.5, layer: int = 0, *, after_fall: bool = False
) -> list[float]:
    """Find for each seed when a figure of both splits comes back to a level after its lowest point.

    Between two measurements the lower of the two splits is interpolated linearly.

    **Arguments:**

    - `run`: a training run.
    - `figure`: the name of a column.
    - `level`: what is crossed.
    - `layer`: the layer, from 0.
    - `after_fall`: the lowest point is looked for while S falls, so that later noise is no turn; a
      seed in which S does not fall first has none.

    **Returns:**

    The flow times of the seeds in which it does, and in which it began or fell below the level.
    """
    found = []
    for seed in sorted({row.seed for row in rows_of(run, layer)}):
        course = _lower_of_both([row for row in rows_of(run, layer) if row.seed == seed], figure)
        while_falling = len(course)
        if after_fall:
            while_falling = _falls_until(rows_of(run, layer), seed)
        if (time := crossing_of(course, level, while_falling)) is not None:
            found.append(time)
    return found


def _falls_until(rows: Sequence[EpochRow], seed: int) -> int:
    """Return at which measurement the mean S of both splits is lowest in a seed."""
    by_epoch: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        if row.seed == seed and row.sparsity is not None:
            by_epoch[row.epoch].append(row.sparsity)
    means = [sum(both) / len(both) for both in by_epoch.values()]
    return min(range(len(means)), key=means.__getitem__, default=0)


def turns(run: Run, layer: int = 0) -> list[float]:
    """Find for each seed when the mean S of both splits is lowest.

    It is the lowest point of the parabola through the lowest measurement and its neighbours.

    **Arguments:**

    - `run`: a training run.
    - `layer`: the layer, from 0.

    **Returns:**

    The flow times of the seeds in which S falls first and rises then.
    """
    found = []
    for seed in sorted({row.seed for row in rows_of(run, layer)}):
        by_time: dict[float, list[float]] = defaultdict(list)
        for row in rows_of(run, layer):
            if row.seed == seed and row.sparsity is not None:
                by_time[row.tau or 0.0].append(row.sparsity)
        times = list(by_time)
        means = [sum(both) / len(both) for both in by_time.values()]
        at = min(range(len(means)), key=means.__getitem__, default=0)
        if 0 < at < len(means) - 1:
            found.append(_lowest_of_parabola(times[at - 1 : at + 2], means[at - 1 : at + 2]))
    return found


def _lowest_of_parabola(x: Sequence[float], y: Sequence[float]) -> float:
    """Return where the parabola through three points is lowest; the middle one is lowest of them.

    Where all three are equal, it is the middle one's.
    """
    left, right = x[1] - x[0], x[2] - x[1]
    down, up = (y[0] - y[1]) / left, (y[2] - y[1]) / right
    if not down + up:
        return x[1]
    return x[1] + (down * right - up * left) / (2 * (down + up))


def crossing(
    run: Run, figure: str, level: float = 0.5, layer: int = 0, *, after_fall: bool = False
) -> Interval | None:
    """Return the interval of `crossings` over seeds.

    **Arguments:**

    - `run`, `figure`, `level`, `layer`, `after_fall`: as for `crossings`.

    **Returns:**

    The interval; None where not every seed crosses.
    """
    found = crossings(run, figure, level, layer, after_fall=after_fall)
    seeds = {row.seed for row in rows_of(run, layer)}
    return interval(found) if found and len(found) == len(seeds) else None


def _lower_of_both(rows: Sequence[EpochRow], figure: str) -> list[tuple[float, float]]:
    """Return flow time and the lower of both splits at each epoch of one seed."""
    by_epoch: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        value = getattr(row, figure)
        if value is not None:
            by_epoch[row.epoch].append((row.tau or 0.0, value))
    return [min(both, key=lambda one: one[1]) for both in by_epoch.values()]


def crossing_of(
    course: Sequence[tuple[float, float]], level: float, until: int | None = None
) -> float | None:
    """Return when a course comes back to a level after its lowest point.

    **Arguments:**

    - `course`: time and value; between two of them the value is interpolated linearly.
    - `level`: what is crossed.
    - `until`: the lowest point is looked for among so many first ones; None: among all.

    **Returns:**

    The time; None where the course never comes back, or never was below.
    """
    if not course[:until]:
        return None
    start = min(range(len(course[:until])), key=lambda at: course[at][1])
    if course[start][1] >= level:
        return None
    for (before, low), (after, high) in zip(course[start:], course[start + 1 :], strict=False):
        if high >= level:
            return before + (level - low) / (high - low) * (after - before)
    return None


def points(
    run: Run,
    figure: str,
    panel: str,
    series: str,
    *,
    split: Split = "positive",
    layer: int = 0,
    over: str = "tau",
) -> list[Point]:
    """Return the course of a figure as points of a chart.

    **Arguments:**

    - `run`, `figure`, `split`, `layer`: as for `curve`.
    - `panel`, `series`: where the points belong.
    - `over`: the x axis, "tau" or "epoch".

    **Returns:**

    A point for each measured epoch.
    """
    return [
        Point(
            panel,
            series,
            float(getattr(moment, over)),
            moment.found.mean,
            moment.found.low,
            moment.found.high,
        )
        for moment in curve(run, figure, split, layer)
    ]


def accuracy(run: Run, method: str = "goodness") -> Interval | None:
    """Return the accuracy of all layers on the test samples.

    **Arguments:**

    - `run`: a training run.
    - `method`: "goodness", "softmax" or "linear".

    **Returns:**

    Its interval over seeds; None where it was not measured.
    """
    if not isinstance(run.result, TrainResult):
        return None
    found = [
        row
        for row in run.result.accuracy
        if row.partition == "test"
        and row.method == method
        and (method == "linear" or run.result.is_of_all_layers(row))
    ]
    widest = max((row.layers for row in found), key=len, default=())  # a classifier sees several
    found = [row for row in found if row.layers == widest]
    values = [row.accuracy for row in found]
    return interval(values, share=True, samples=[row.samples for row in found]) if values else None


def cells_of(
    run: Run, method: str, *, split: Split | None = None, width: int | None = None
) -> list[CheckCell]:
    """Return cells of a check.

    **Arguments:**

    - `run`: a check.
    - `method`: "exact" or "infinite_width".
    - `split`, `width`: None: any.

    **Returns:**

    The cells, of every seed.

    **Raises:**

    - `TypeError`: the run is no check.
    """
    if not isinstance(run.result, CheckResult):
        raise TypeError(f"{run.part}: expected a check, got a {run.result.kind}")
    return [
        cell
        for cell in run.result.cells
        if cell.method == method and split in (None, cell.split) and width in (None, cell.width)
    ]
