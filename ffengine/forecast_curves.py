"""From what small runs measured to what is forecast of any width: curves with their bands, where
act 1 ends, how many epochs that takes.

Under `difference` the units of a layer are independent draws, given the batches. A band is then a
delete-a-block jackknife over the units of the small run, and a run of width n scatters about the
curve by c / sqrt(n), where c / sqrt(M) is the jackknife's own spread for M units. Under objectives
that look at the goodness, units interact through it, and whole networks take the place of blocks.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ffengine.datasets import Dataset
from ffengine.intervals import student_t
from ffengine.results import EpochsNeeded, ForecastPoint, ForecastRow, SelectionOnset, Split
from ffengine.spec import SEEDS_OF_MEAN_FIELD, ForecastSpec

SPLITS: tuple[Split, Split] = ("positive", "negative")
HALF = 0.5
Series = list[float]  # of one figure, over the epochs


class Ratios(NamedTuple):
    """Theorem 2's ratio over the epochs, of both splits."""

    positive: Series
    negative: Series


class Replicates(NamedTuple):
    """One figure of one split at one epoch, and what it is without each part.

    **Attributes:**

    - `value`: of all seeds together.
    - `groups`: for each seed, the value without each block of its units; or one group with the
      value without each seed.
    """

    value: float
    groups: list[Series]

    @property
    def variance(self) -> float:
        """The jackknife's variance of the value."""
        return sum(map(jackknife_variance, self.groups))

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the variance."""
        return sum(len(group) - 1 for group in self.groups)


class Curve(NamedTuple):
    """The small runs of a forecast at one epoch, of one split.

    **Attributes:**

    - `epoch`, `tau`, `split`: where.
    - `c`: C of infinitely many units.
    - `c_slope`: C of n units is c - c_slope / n.
    - `variance`: of c.
    - `unit_variance`: c^2 of the module's legend: a run of width n scatters with unit_variance / n.
    - `shared_variance`: of what is common to all units of a run, such as the order of its batches;
      0 where there are too few seeds to tell.
    - `quantile`: half the width of a 95 % interval, in standard deviations.
    - `ratio`: theorem 2's; None where it is not known.
    - `seeds`: how many.
    """

    epoch: int
    tau: float
    split: Split
    c: float
    c_slope: float
    variance: float
    unit_variance: float
    shared_variance: float
    quantile: float
    ratio: Replicates | None
    seeds: int

    def row(self, width: int | None) -> ForecastRow:
        """Return what is forecast of a width.

        **Arguments:**

        - `width`: n; None: the limit of infinite width.

        **Returns:**

        The row.
        """
        c = self.c - self.c_slope / width if width else self.c
        factor = width_factor(width)
        half = factor * self.quantile * math.sqrt(self.variance)
        of_run = self.variance + self.shared_variance + (self.unit_variance / width if width else 0)
        run_half = factor * self.quantile * math.sqrt(of_run)
        ratio, ratio_half = self.ratio, 0.0
        if ratio:
            ratio_half = student_t(ratio.degrees) * math.sqrt(ratio.variance)
        s = factor * c
        return ForecastRow(
            width=width,
            split=self.split,
            epoch=self.epoch,
            tau=self.tau,
            c=c,
            sparsity=_share(s),
            low=_share(s - half),
            high=_share(s + half),
            run_low=_share(s - run_half),
            run_high=_share(s + run_half),
            theorem2_ratio=ratio.value if ratio else None,
            theorem2_low=_share(ratio.value - ratio_half) if ratio else None,
            theorem2_high=_share(ratio.value + ratio_half) if ratio else None,
            seeds=self.seeds,
        )


def width_factor(width: int | None) -> float:
    """Return S / C of a width: sqrt(n) / (sqrt(n) - 1).

    **Arguments:**

    - `width`: n; None: infinite.

    **Returns:**

    The factor.
    """
    return 1.0 if width is None else math.sqrt(width) / (math.sqrt(width) - 1)


def jackknife_variance(without: Sequence[float]) -> float:
    """Return the jackknife's variance of an estimate.

    **Arguments:**

    - `without`: the estimate without each of the g parts, two at least.

    **Returns:**

    (g - 1) / g times the sum of their squared deviations from their mean.
    """
    mean = math.fsum(without) / len(without)
    squares = math.fsum((one - mean) ** 2 for one in without)
    return (len(without) - 1) / len(without) * squares


def curves_of(points: Sequence[ForecastPoint], spec: ForecastSpec) -> list[Curve]:
    """Put the points of all seeds together.

    **Arguments:**

    - `points`: of every seed, epoch and split.
    - `spec`: the forecast.

    **Returns:**

    A curve for each epoch and split that all seeds have live samples of.
    """
    places: dict[tuple[int, Split], list[ForecastPoint]] = {}
    for point in points:
        places.setdefault((point.epoch, point.split), []).append(point)
    return [
        curve
        for (_, _), alike in sorted(places.items(), key=lambda one: one[0][0])
        if len(alike) == len(spec.seeds) and (curve := _curve(alike, spec))
    ]


def _curve(points: Sequence[ForecastPoint], spec: ForecastSpec) -> Curve | None:
    """Return the curve of points that differ by their seeds; None where one has no live sample."""
    found = [(point.c, point.c_slope) for point in points]
    values = [(c, slope) for c, slope in found if c is not None and slope is not None]
    if len(values) < len(points):
        return None
    c = _combined([one for one, _ in values], [point.c_without for point in points], spec)
    variance, shared = c.variance, 0.0
    unit_variance = variance * spec.units * len(points)
    if not spec.units_interact and len(points) >= SEEDS_OF_MEAN_FIELD:
        between = jackknife_variance(_without_each([one for one, _ in values]))
        shared = max(0.0, (between - variance) * len(points))
        variance = max(variance, between)
    first = points[0]
    return Curve(
        epoch=first.epoch,
        tau=first.tau,
        split=first.split,
        c=c.value,
        c_slope=_mean([slope for _, slope in values]),
        variance=variance,
        unit_variance=unit_variance,
        shared_variance=shared,
        quantile=student_t(c.degrees),
        ratio=_ratio(points, spec),
        seeds=len(points),
    )


def _ratio(points: Sequence[ForecastPoint], spec: ForecastSpec) -> Replicates | None:
    """Return theorem 2's ratio of all seeds together; None where one does not know it.

    The order of the batches moves it in all units alike, so that its band comes from the spread of
    seeds wherever there are enough of them.
    """
    ratios = [point.theorem2_ratio for point in points if point.theorem2_ratio is not None]
    if len(ratios) < len(points):
        return None
    if len(points) >= SEEDS_OF_MEAN_FIELD:
        return Replicates(_mean(ratios), [_without_each(ratios)])
    return _combined(ratios, [point.theorem2_without for point in points], spec)


def _combined(
    values: Sequence[float], without: Sequence[Sequence[float]], spec: ForecastSpec
) -> Replicates:
    """Return the mean of a figure over seeds, and what it is without each part.

    Without a block of one seed the mean moves by as much as the value of that seed, over the
    number of seeds. Blocks deviate from their own mean alone, so it does not matter that they are
    of the value before its bias was taken off.
    """
    if spec.units_interact:
        return Replicates(_mean(values), [_without_each(values)])
    mean, seeds = _mean(values), len(values)
    return Replicates(
        mean, [[mean + (one - _mean(blocks)) / seeds for one in blocks] for blocks in without]
    )


def _without_each(values: Sequence[float]) -> Series:
    """Return the means of all values but one."""
    total = math.fsum(values)
    return [(total - one) / (len(values) - 1) for one in values]


def forecast_rows(curves: Sequence[Curve], widths: Sequence[int]) -> tuple[ForecastRow, ...]:
    """Return what is forecast of the limit and of each width.

    **Arguments:**

    - `curves`: what `curves_of` returned.
    - `widths`: which widths.

    **Returns:**

    The rows, the limit first.
    """
    return tuple(curve.row(width) for width in (None, *widths) for curve in curves)


def onset_of(curves: Sequence[Curve]) -> SelectionOnset:
    """Find where theorem 2 of both splits crosses one half after its lowest, with its interval.

    The initialisation is left out: few units say nothing of theorem 2 there.

    **Arguments:**

    - `curves`: what `curves_of` returned.

    **Returns:**

    The flow time, from the jackknife with its interval.
    """
    paths = _paths(curves)
    if paths is None:
        return SelectionOnset(outcome="not_reached", tau=None, low=None, high=None)
    taus, whole, groups, quantile = paths
    lower = _lower(whole)
    if min(lower) > HALF:
        return SelectionOnset(outcome="never_below", tau=None, low=None, high=None)
    tau = crossing(taus, lower)
    if tau is None:
        return SelectionOnset(outcome="not_reached", tau=None, low=None, high=None)
    found = [[crossing(taus, _lower(one)) for one in group] for group in groups]
    known = [[one for one in group if one is not None] for group in found]
    variance = sum(jackknife_variance(group) for group in known if len(group) > 1)
    half = quantile * math.sqrt(variance)
    bounded = all(len(one) == len(group) for one, group in zip(known, found, strict=True))
    return SelectionOnset(
        outcome="crossed",
        tau=tau,
        low=max(0.0, tau - half),
        high=tau + half if bounded else None,
    )


class _Paths(NamedTuple):
    """Theorem 2 over flow time: of everything, and without each part."""

    taus: Series
    whole: Ratios
    groups: list[list[Ratios]]
    quantile: float


def _paths(curves: Sequence[Curve]) -> _Paths | None:
    """Return theorem 2 after initialisation; None where it was not measured there."""
    later = [curve for curve in curves if curve.tau > 0 and curve.ratio]
    sides = [[curve for curve in later if curve.split == split] for split in SPLITS]
    epochs = sorted(set.intersection(*({curve.epoch for curve in side} for side in sides)))
    if not epochs:
        return None
    ratios = [{curve.epoch: curve.ratio for curve in side if curve.ratio} for side in sides]
    first = next(curve for curve in later if curve.epoch == epochs[0])
    parts = [len(group) for group in ratios[0][epochs[0]].groups]
    whole = Ratios(*([side[epoch].value for epoch in epochs] for side in ratios))
    groups = [
        [
            Ratios(*([side[epoch].groups[group][part] for epoch in epochs] for side in ratios))
            for part in range(count)
        ]
        for group, count in enumerate(parts)
    ]
    tau_of = {curve.epoch: curve.tau for curve in later}
    quantile = student_t(first.ratio.degrees) if first.ratio else first.quantile
    return _Paths([tau_of[epoch] for epoch in epochs], whole, groups, quantile)


def _lower(ratios: Ratios) -> Series:
    """Return the lower of both splits at each epoch."""
    return [min(pair) for pair in zip(*ratios, strict=True)]


def crossing(taus: Sequence[float], values: Sequence[float]) -> float | None:
    """Find where a curve first crosses one half upwards after its lowest point.

    **Arguments:**

    - `taus`: flow times, in order.
    - `values`: one for each of them.

    **Returns:**

    The flow time, linear between two points; None where the curve does not cross.
    """
    lowest = min(range(len(values)), key=values.__getitem__)
    if values[lowest] > HALF:
        return None
    for place in range(lowest + 1, len(values)):
        before, after = values[place - 1], values[place]
        if after > HALF >= before:
            share = (HALF - before) / (after - before)
            return taus[place - 1] + share * (taus[place] - taus[place - 1])
    return None


def epochs_needed(
    spec: ForecastSpec, facts: Dataset, onset: SelectionOnset, end: float
) -> tuple[EpochsNeeded, ...]:
    """Count the epochs that runs of each width need.

    **Arguments:**

    - `spec`: the forecast; its `plan` says of which runs.
    - `facts`: the facts of its data set.
    - `onset`: where act 1 ends.
    - `end`: the flow time at which the forecast ends.

    **Returns:**

    For each width a row at the steps of the small run, and one for each learning rate whose runs
    follow the same curve.
    """
    return tuple(
        _epochs_needed(spec, facts, onset, end, width, lr, as_forecast=as_forecast)
        for width in spec.widths
        for lr, as_forecast in _rates(spec, width)
    )


def _rates(spec: ForecastSpec, width: int) -> Iterator[tuple[float, bool]]:
    """Yield the learning rates of a width, first the one whose steps are those of the small run."""
    yield spec.lr_as_forecast(width), True
    for lr in spec.planned_rates:
        yield lr, False


def _epochs_needed(
    spec: ForecastSpec,
    facts: Dataset,
    onset: SelectionOnset,
    end: float,
    width: int,
    lr: float,
    *,
    as_forecast: bool,
) -> EpochsNeeded:
    """Return how long a run of one width and learning rate has to be."""
    batch_size = spec.plan.batch_size or spec.batch_size
    samples = spec.plan.train_samples or spec.dataset.train_count(facts)
    step = spec.tau_of_planned_step(width, lr)
    epoch = step * -(-samples // batch_size)

    def epochs(tau: float | None) -> float | None:
        return None if tau is None else tau / epoch

    return EpochsNeeded(
        width=width,
        lr=lr,
        batch_size=batch_size,
        train_samples=samples,
        as_forecast=as_forecast,
        tau_of_step=step,
        tau_of_epoch=epoch,
        epochs=epochs(onset.tau),
        low=epochs(onset.low),
        high=epochs(onset.high),
        epochs_to_end=end / epoch,
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
