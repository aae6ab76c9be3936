"""The finding `forecast`: whether small runs tell the sparsity of wide ones."""

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

from pydantic import JsonValue

from ffengine.findings.bases import ETA, NO_MEASURES, TINY, layer
from ffengine.findings.finding import Finding, Plot, Point, Run, Table
from ffengine.findings.measured import SPLITS, crossing, points, rows_of
from ffengine.findings.wording import number
from ffengine.forecast_curves import width_factor
from ffengine.intervals import interval_of
from ffengine.objectives import Difference, MeanSquares, SoftplusLoss
from ffengine.optimizers import Sgd
from ffengine.percents import in_percent, percent
from ffengine.results import EpochRow, ForecastResult, ForecastRow, Interval, Split
from ffengine.spec import ForecastSpec, MonitorSpec, StudyPart, StudySpec, TrainSpec

WIDE, WIDE_SOFTPLUS = 2_048, 1_024
# other than those of the forecasts: a narrow layer is the first units of a wide one of its seed
SEEDS_OF_RUNS = (11, 12, 13, 14)
UNTIL, UNTIL_SOFTPLUS = 8.0, 4.0
COARSE, COARSE_BATCH = 1.0, 3_000
FORECASTS = 8  # of 512 units, each from a run of its own
ETA_SOFTPLUS = 0.01
SHOWN = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)  # flow times that have rows in the table
COVERS = 0.9  # of points; those of one run move together, so that their share is not exactly .95
THEOREM_2 = "theorem 2 of positives"
EXPECTED = "theorem2_expected_ratio"
POSITIVE: Split = SPLITS[0]


def _forecast(
    units: int, *, eta: float = ETA, batch_size: int = 500, seeds: tuple[int, ...] = (0,)
) -> ForecastSpec:
    """Return a forecast of the wide layer under `difference`."""
    return ForecastSpec(
        units=units,
        seeds=seeds,
        widths=(WIDE,),
        optimizer=Sgd(lr=eta, scale_lr_by_width=False),
        until_tau=UNTIL,
        batch_size=batch_size,
    )


def _softplus(units: int) -> ForecastSpec:
    """Return a forecast under softplus, from four networks."""
    return ForecastSpec(
        units=units,
        blocks=min(16, units // 2),
        widths=(WIDE_SOFTPLUS,),
        objective=SoftplusLoss(goodness=MeanSquares(), threshold=2.0),
        optimizer=Sgd(lr=units * ETA_SOFTPLUS, scale_lr_by_width=False),
        until_tau=UNTIL_SOFTPLUS,
        seeds=(0, 1, 2, 3),
        every_epochs=2,
    )


def _wide() -> TrainSpec:
    """Return the runs that the forecasts under `difference` are of."""
    run = layer(WIDE, epochs=round(UNTIL / (12 * ETA)))
    return run.model_copy(
        update={"seeds": SEEDS_OF_RUNS, "monitor": MonitorSpec(theorems=(2,), every_epochs=1)}
    )


def _wide_softplus() -> TrainSpec:
    """Return the runs that the forecasts under softplus are of."""
    given = _softplus(WIDE_SOFTPLUS)
    return TrainSpec(
        dataset=given.dataset,
        network=layer(WIDE_SOFTPLUS).network,
        objective=given.objective,
        optimizer=given.optimizer,
        epochs=math.ceil(UNTIL_SOFTPLUS / (12 * ETA_SOFTPLUS)),
        seeds=SEEDS_OF_RUNS,
        monitor=MonitorSpec(theorems=(2,), every_epochs=2),
        evaluation=NO_MEASURES,
    )


class Place(NamedTuple):
    """A flow time and a split that both a forecast and its wide runs have.

    **Attributes:**

    - `told`: what is forecast of the width of the runs.
    - `limit`: what is forecast of infinite width.
    - `rows`: what the runs have, one for each seed.
    """

    told: ForecastRow
    limit: ForecastRow
    rows: list[EpochRow]

    @property
    def measured(self) -> Interval | None:
        """S of the runs over seeds."""
        return interval_of(self.rows, "sparsity")

    @property
    def covered(self) -> list[bool]:
        """Whether S of each run lies within the band of a single run."""
        return [
            self.told.run_low <= row.sparsity <= self.told.run_high
            for row in self.rows
            if row.sparsity is not None
        ]


class Forecast(Finding):
    """Bands from few units cover wide runs, unless steps are long or units interact and are few."""

    name = "forecast"
    question = "Does a forecast from a run of 512 units cover the sparsity of a wide run?"
    method = (
        "Forecasts are made of one run of 512 units (eight of them, each by itself), of one of "
        "128, of four of 512 together, and of one of 512 with steps thirty times as long; four "
        "runs of 2,048 units with other seeds are measured at the same flow times. With "
        "softplus, whose units interact, forecasts from four runs of 128 and of 16 units stand "
        "beside four runs of 1,024. Brackets of a forecast of S are where a single run of that "
        "width lies, those of C and of theorem 2 are of the curve; theorem 2 is that along the "
        "expected step. All values of a run move together, so that a forecast covers nearly all "
        "of them or few; the table has the first forecast of each kind."
    )
    falsified_by = (
        "Less than nine tenths of the S of the runs within the bands of the eight forecasts from "
        "512 units."
    )
    study = StudySpec(
        parts={
            "from 512 units": StudyPart(
                base=_forecast(512), grid={"seeds": [[seed] for seed in range(FORECASTS)]}
            ),
            "from 128 units": StudyPart(base=_forecast(128)),
            "from four runs of 512 units": StudyPart(base=_forecast(512, seeds=(0, 1, 2, 3))),
            "from 512 units in steps of 1": StudyPart(
                base=_forecast(512, eta=COARSE, batch_size=COARSE_BATCH)
            ),
            "width 2048": StudyPart(base=_wide()),
            "softplus, from 128 units": StudyPart(base=_softplus(128)),
            "softplus, from 16 units": StudyPart(base=_softplus(16)),
            "softplus, width 1024": StudyPart(base=_wide_softplus()),
        }
    )
    tiny = TINY
    tiny_forecast: ClassVar[dict[str, JsonValue]] = {
        "dataset.train_samples": 200,
        "dataset.test_samples": 50,
        "epochs": 3,
        "every_epochs": 1,
        "batch_size": 100,
        "samples": 100,
    }

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say how much of the runs each forecast covers, when S turns, and where it fails."""
        kinds = _kinds(runs)
        if not kinds:
            return [NOTHING_TO_COMPARE]
        first, *others = kinds
        answer = "Yes" if _share_covered(first, runs) >= COVERS else "No"
        return [
            f"{answer}: {_coverage(first, runs)}.",
            *(f"{_coverage(one, runs)}{_why(one, runs)}." for one in others),
            *(line for kind in kinds for line in _turn(kind, runs)),
            *(line for kind in kinds for line in _theorem2(kind, runs)),
        ]

    def table(self, runs: Sequence[Run]) -> Table:
        """Return S, C and theorem 2, forecast and measured, at some flow times."""
        rows = tuple(
            row for one, *_ in _kinds(runs) for row in _table_rows(one, _shown(_places(one, runs)))
        )
        columns = (
            *("forecast", "tau", "split", "S forecast", "S measured", "runs in the band"),
            *("C forecast", "C measured", "theorem 2 forecast", "theorem 2 measured"),
        )
        return Table(columns, rows)

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return S of positives, forecast with its band and measured, and theorem 2."""
        drawn: list[Point] = []
        for one, *_ in _kinds(runs):
            wide = _runs_of(one, runs)
            panel = f"S of positives, {_short(wide)}"
            panel += ", softplus" if _result(one).units_interact else ""
            drawn += _band(one, panel)
            drawn += points(wide, "sparsity", panel, "measured")
            if not _result(one).units_interact:
                drawn += _theorem2_points(one)
                drawn += points(wide, "theorem2_expected_ratio", THEOREM_2, "measured")
        return Plot(
            "S over flow time, forecast from few units and measured",
            "flow time tau",
            "",
            tuple(dict.fromkeys(drawn)),
        )


NOTHING_TO_COMPARE = (
    "No forecast can be compared with a run: none of the runs has the objective of a forecast and "
    "was measured at one of its flow times."
)
Kind = list[Run]  # forecasts that differ by their seeds alone


def _kinds(runs: Sequence[Run]) -> list[Kind]:
    """Return the forecasts that a wide run can be compared with, those of one part together."""
    found: dict[str, Kind] = {}
    for run in runs:
        if isinstance(run.result, ForecastResult):
            found.setdefault(run.part, []).append(run)
    return [kind for kind in found.values() if all(_places(one, runs) for one in kind)]


def _result(run: Run) -> ForecastResult:
    assert isinstance(run.result, ForecastResult)  # noqa: S101 - narrows the type
    return run.result


def _runs_of(forecast: Run, runs: Sequence[Run]) -> Run:
    """Return the wide runs that a forecast is of, which are there: those with its objective."""
    return _wide_runs_of(forecast, runs)[0]


def _wide_runs_of(forecast: Run, runs: Sequence[Run]) -> list[Run]:
    interact = _result(forecast).units_interact
    return [
        run
        for run in runs
        if isinstance(run.spec, TrainSpec)
        and isinstance(run.spec.objective, Difference) != interact
    ]


def _rows_at_width(forecast: Run) -> list[ForecastRow]:
    return [row for row in _result(forecast).rows if row.width is not None]


def _places(forecast: Run, runs: Sequence[Run]) -> list[Place]:
    """Return the flow times and splits that a forecast shares with its wide runs."""
    limits = {(row.epoch, row.split): row for row in _result(forecast).rows if row.width is None}
    measured = [row for run in _wide_runs_of(forecast, runs)[:1] for row in rows_of(run)]
    found = []
    for told in _rows_at_width(forecast):
        rows = [row for row in measured if row.split == told.split and _same(row.tau, told.tau)]
        if rows:
            found.append(Place(told, limits[told.epoch, told.split], rows))
    return found


def _same(tau: float | None, other: float) -> bool:
    return tau is not None and math.isclose(tau, other, rel_tol=1e-6, abs_tol=1e-9)


def _share_covered(kind: Kind, runs: Sequence[Run]) -> float:
    covered = [
        one for forecast in kind for place in _places(forecast, runs) for one in place.covered
    ]
    return sum(covered) / len(covered) if covered else 0.0


def _coverage(kind: Kind, runs: Sequence[Run]) -> str:
    """Say which share of the runs' S lies within the bands, and how wide these are."""
    wide, places = _runs_of(kind[0], runs), [place for one in kind for place in _places(one, runs)]
    taus = len({place.told.epoch for place in places})
    half = max((place.told.run_high - place.told.run_low) / 2 for place in places)
    seeds = max(len(place.rows) for place in places)
    what = "softplus: " if _result(kind[0]).units_interact else ""
    bands = "bands of the forecast" if len(kind) == 1 else f"bands of {len(kind)} forecasts"
    each = [_share_covered([one], runs) for one in kind]
    spread = (
        f" (of each {percent(min(each), 0)} to {in_percent(max(each), 0)})" if len(kind) > 1 else ""
    )
    return (
        f"{what}{in_percent(_share_covered(kind, runs), 0)} of the values of S of {seeds} runs of "
        f"{_short(wide)} (flow times: {taus}, both splits) lie within the 95 % {bands} "
        f"{_short(kind[0])}{spread}, which are at most +- {half:.3f} wide"
    )


def _short(run: Run) -> str:
    """Name a run without its objective."""
    return run.part.removeprefix("softplus, ")


def _why(kind: Kind, runs: Sequence[Run]) -> str:
    """Say why forecasts do not cover the runs, where they do not."""
    if _share_covered(kind, runs) >= COVERS:
        return ""
    spec = kind[0].spec
    assert isinstance(spec, ForecastSpec)  # noqa: S101 - narrows the type
    if spec.optimizer.lr == COARSE:
        return ": long steps follow another curve, and the result says forecast_step_coarse"
    if _result(kind[0]).units_interact:
        return (
            ": units interact, a deviation in proportion to 1 / units is not in the bands, and the "
            "result says forecast_units_interact"
        )
    return f": {_deviation(kind[0], runs)}"


def _deviation(forecast: Run, runs: Sequence[Run]) -> str:
    """Say how far a forecast is from the mean of the runs where it is farthest, in deviations."""
    found = []
    for place in _places(forecast, runs):
        if (measured := place.measured) and measured.low is not None:
            of_forecast = (place.told.high - place.told.low) / 2
            both = math.hypot(of_forecast, measured.mean - measured.low)
            found.append((abs(place.told.sparsity - measured.mean) / both, place.told.tau))
    if not found:
        return "with one seed, the runs have no interval to compare with"
    worst, tau = max(found)
    return (
        f"the forecast is farthest from the runs' mean at tau = {tau:.1f}, by {worst:.1f} times "
        f"what the two intervals allow together"
    )


def _turn(kind: Kind, runs: Sequence[Run]) -> Iterator[str]:
    """Say when theorem 2 of both splits comes back to one half, forecast and measured."""
    found = crossing(_runs_of(kind[0], runs), EXPECTED)
    onsets = [_result(one).onset for one in kind]
    known = [
        (one.tau, one.low, one.high)
        for one in onsets
        if one.tau is not None and one.low is not None and one.high is not None
    ]
    if found is None or not known or _result(kind[0]).units_interact:
        return
    inside = sum(low <= found.mean <= high for _, low, high in known)
    tau, low, high = known[0]
    more = f" ({inside} of {len(known)} such forecasts have it in their interval)"
    yield (
        f"The tau at which act 1 ends, theorem 2 crossing one half, is {number(found, 2)} by the "
        f"runs, and {tau:.2f} [{low:.2f}, {high:.2f}] by the forecast "
        f"{_short(kind[0])}{more if len(known) > 1 else ''}."
    )


def _theorem2(kind: Kind, runs: Sequence[Run]) -> Iterator[str]:
    """Say how far the forecast of theorem 2 is off, at initialisation and later."""
    if _result(kind[0]).units_interact:
        return  # along the run's own objective, which the rows of runs do not have
    start: list[tuple[Told, float]] = []
    later: list[tuple[Told, float]] = []
    for place in (place for one in kind for place in _places(one, runs)):
        found = interval_of(place.rows, EXPECTED)
        if found and (told := _told_theorem2(place)):
            (later if place.told.epoch else start).append((told, found.mean))
    if start and later:
        inside = [told.low <= value <= told.high for told, value in later]
        yield (
            f"Theorem 2 {_short(kind[0])}: {in_percent(sum(inside) / len(inside), 0)} of the means "
            f"over the runs after the start lie within the band, {_off(later):.2f} from the "
            f"forecast at most; at initialisation they are up to {_off(start):.2f} from it. "
            + (
                "The order of the batches moves it in all units alike, which one run does not know."
                if len(_seeds(kind[0])) == 1
                else "Its band comes from the spread of the runs."
            )
        )


def _seeds(run: Run) -> tuple[int, ...]:
    return run.spec.seeds


class Told(NamedTuple):
    """Theorem 2's ratio as it is forecast."""

    value: float
    low: float
    high: float


def _told_theorem2(place: Place) -> Told | None:
    row = place.limit
    if row.theorem2_ratio is None or row.theorem2_low is None or row.theorem2_high is None:
        return None
    return Told(row.theorem2_ratio, row.theorem2_low, row.theorem2_high)


def _off(pairs: Sequence[tuple[Told, float]]) -> float:
    """Return the largest distance of a measured ratio from its forecast."""
    return max(abs(told.value - value) for told, value in pairs)


def _shown(places: Sequence[Place]) -> list[Place]:
    """Return the places at the flow times that have rows in the table."""
    taus = sorted({place.told.tau for place in places})
    nearest = {min(taus, key=lambda tau: abs(tau - shown)) for shown in SHOWN} if taus else set()
    return [place for place in places if place.told.tau in nearest]


def _table_rows(forecast: Run, places: Sequence[Place]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table of one forecast."""
    for place in places:
        told, limit, rows = place
        factor = width_factor(told.width)
        interact = _result(forecast).units_interact
        bounds = limit.theorem2_low, limit.theorem2_high
        yield (
            forecast.part,
            f"{told.tau:.2f}",
            told.split,
            _bracketed(told.sparsity, told.run_low, told.run_high),
            number(place.measured),
            f"{sum(place.covered)} of {len(place.covered)}",
            _bracketed(told.c, told.low / factor, told.high / factor),
            number(_scaled(place.measured, factor)),
            "-" if interact else _bracketed(limit.theorem2_ratio, *bounds, digits=2),
            "-" if interact else number(interval_of(rows, EXPECTED), 2),
        )


def _bracketed(
    value: float | None, low: float | None, high: float | None, *, digits: int = 3
) -> str:
    if value is None or low is None or high is None:
        return "-"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _scaled(found: Interval | None, factor: float) -> Interval | None:
    """Divide an interval by the width's factor: C of S."""
    if found is None:
        return None
    bounds = {
        name: None if bound is None else bound / factor
        for name, bound in (("mean", found.mean), ("low", found.low), ("high", found.high))
    }
    return found.model_copy(update=bounds)


def _band(forecast: Run, panel: str) -> list[Point]:
    """Return S of positives with the band of a single run."""
    return [
        Point(panel, _short(forecast), row.tau, row.sparsity, row.run_low, row.run_high)
        for row in _rows_at_width(forecast)
        if row.split == POSITIVE
    ]


def _theorem2_points(forecast: Run) -> list[Point]:
    """Return theorem 2 of positives with the band of the curve."""
    return [
        Point(
            THEOREM_2,
            _short(forecast),
            row.tau,
            row.theorem2_ratio,
            row.theorem2_low,
            row.theorem2_high,
        )
        for row in _result(forecast).rows
        if row.width is None and row.split == POSITIVE and row.theorem2_ratio is not None
    ]
