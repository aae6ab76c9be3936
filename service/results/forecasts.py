"""Forecasts as pages, charts and the command line show them: their figures, and in sentences."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ffengine.forecast_curves import curves_of, forecast_rows, onset_of
from ffengine.percents import digits_of, in_percent
from ffengine.results import EpochsNeeded, ForecastResult, ForecastRow, SelectionOnset
from ffengine.spec import SEEDS_OF_MEAN_FIELD, ForecastSpec
from service.results.sources import ChartSource, PartialRun, Source

MOST_WIDTHS = 4  # that have a sentence
MOST_FORECASTS = 6  # of one study, that have sentences


class Forecast(NamedTuple):
    """What is known of a forecast: of a finished one, or of its small run so far."""

    rows: Sequence[ForecastRow]
    onset: SelectionOnset
    units: int


def forecast_of(source: ChartSource) -> Forecast | None:
    """Return the forecast of a source; None where it is of another kind."""
    if isinstance(source, Source) and isinstance(source.result, ForecastResult):
        return Forecast(source.result.rows, source.result.onset, source.result.units)
    if isinstance(source, PartialRun) and isinstance(source.spec, ForecastSpec):
        curves = curves_of(source.points, source.spec)
        rows = forecast_rows(curves, source.spec.widths)
        return Forecast(rows, onset_of(curves), source.spec.units)
    return None


def forecast_sentences(sources: Sequence[Source]) -> list[str]:
    """Say what forecasts say, the most important first, and at the end how to read it; details
    begin with two spaces.
    """
    found = [source for source in sources if isinstance(source.result, ForecastResult)]
    lines = [line for source in found[:MOST_FORECASTS] for line in _sentences(source)]
    if len(found) > MOST_FORECASTS:
        lines.append(
            f"The figures of {len(found) - MOST_FORECASTS} more forecasts are in the table."
        )
    return [*lines, _how_to_read(found)] if lines else []


def _sentences(source: Source) -> list[str]:
    """Say what one forecast says."""
    result = source.result
    assert isinstance(result, ForecastResult)  # noqa: S101 - narrows the type
    if not result.rows:
        return []
    title = f"{source.label}: " if source.label else ""
    return [
        title + _headline(result),
        *(f"  {line}" for line in (*_widths(result), *_epochs(result), _theorem2(result))),
    ]


def forecast_lines(source: Source) -> Iterator[tuple[str, str]]:
    """What a forecast says in short, each line as what it is about and what was found."""
    result = source.result
    assert isinstance(result, ForecastResult)  # noqa: S101 - narrows the type
    if not result.rows:
        return
    start, lowest, end = _course(result.rows, None)
    turns = result.onset.tau is not None and result.onset.outcome != "never_below"
    through = f" → {_pair(lowest)}" if turns else ""
    yield (
        "Sparsity S of layers of any width",
        f"{_pair(start)}{through} → {_pair(end)} at flow time {end[0].tau:.3g}",
    )
    if result.onset.tau is None:
        yield "End of act 1", "S still falls at the end of the forecast"
    elif turns:
        onset = f"{result.onset.tau:.3g} {_bounds(result.onset.low, result.onset.high)}"
        yield "End of act 1", f"at flow time {onset}"
        row = next((one for one in result.epochs_needed if not one.as_forecast), None)
        row = row or result.epochs_needed[0]
        if row.epochs is not None:
            yield (
                "Epochs until then",
                f"{_number(row.epochs)} {_bounds(row.low, row.high)} at width {row.width:,}, "
                f"lr {row.lr:g}, batches of {row.batch_size:,}",
            )
    yield "Theorem 2 along the expected step", f"{_ratios(end)} of samples at the end"


def _how_to_read(sources: Sequence[Source]) -> str:
    """Say what pairs are, and of what the bands know nothing."""
    few = any(len(source.result.provenance.seeds) < SEEDS_OF_MEAN_FIELD for source in sources)
    order = (
        f" With fewer than {SEEDS_OF_MEAN_FIELD} seeds the intervals of theorem 2 and of the end "
        "of act 1 lack what the order of the batches does to all units alike."
    )
    return (
        "A pair x / y is of positive / negative samples, [x, y] a 95 % interval. In act 1 units "
        "switch on and S falls; when theorem 2 holds for more than half of both again, it ends. At "
        "initialisation theorem 2's ratio from few units is biased, and is no forecast."
        f"{order * few}"
    )


class EpochsTable(NamedTuple):
    """How many epochs runs need: the heads of the columns, and as many texts in each row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def epochs_table(sources: Sequence[ChartSource]) -> EpochsTable:
    """Return how many epochs runs need by all forecasts among the sources; the forecasts of a study
    are told apart by a column in front.
    """
    found = [
        source
        for source in sources
        if isinstance(source, Source) and isinstance(source.result, ForecastResult)
    ]
    labelled = any(source.label for source in found)
    rows = [
        [*([source.label] if labelled else []), *row]
        for source in found
        if isinstance(source.result, ForecastResult)
        for row in epochs_columns(source.result.epochs_needed)
    ]
    return EpochsTable((*(("forecast",) if labelled else ()), *EPOCHS_HEAD), rows)


def epochs_columns(rows: Sequence[EpochsNeeded]) -> list[list[str]]:
    """Return width, learning rate, batch, samples, epochs, bounds."""
    return [
        [
            f"{row.width:,}",
            f"{row.lr:g}" + (" (steps of the forecast)" if row.as_forecast else ""),
            f"{row.batch_size:,}",
            f"{row.train_samples:,}",
            "" if row.epochs is None else _number(row.epochs),
            _bounds(row.low, row.high),
            _number(row.epochs_to_end),
        ]
        for row in rows
    ]


EPOCHS_HEAD = (
    "width",
    "lr (eta = lr / n)",
    "batch size",
    "samples",
    "epochs until act 1 ends",
    "95 % interval",
    "epochs to the forecast's end",
)


EPOCHS_TEXTS = ("forecast", "95 % interval")  # columns that are no numbers


def _headline(result: ForecastResult) -> str:
    """How S goes, in one sentence."""
    seeds = result.rows[0].seeds
    data = result.provenance.dataset.name
    made = f"{seeds} run{'' if seeds == 1 else 's'} of {result.units:,} units"
    start, lowest, end = _course(result.rows, None)
    beginning = f"Forecast for layers of any width on {data}, from {made}:"
    ends = f"{_pair(end)} at a flow time of {end[0].tau:.3g}"
    if result.onset.outcome == "never_below":
        return f"{beginning} there is no act 1. S goes from {_pair(start)} to {ends}."
    if result.onset.tau is None:
        return f"{beginning} S goes from {_pair(start)} to {ends}, still in act 1."
    onset = f"{result.onset.tau:.3g} {_bounds(result.onset.low, result.onset.high)}"
    return (
        f"{beginning} S falls from {_pair(start)} to {_pair(lowest)} until act 1 ends at a flow "
        f"time of {onset}, then rises to {ends}."
    )


def _widths(result: ForecastResult) -> Iterator[str]:
    """What single runs of each width have."""
    widths = list(dict.fromkeys(row.width for row in result.rows if row.width is not None))
    for width in widths[:MOST_WIDTHS]:
        start, lowest, end = _course(result.rows, width)
        half = max((row.run_high - row.run_low) / 2 for row in result.rows if row.width == width)
        yield (
            f"A single run of {width:,} units has S of {_pair(start)} at first, {_pair(lowest)} at "
            f"its lowest (flow time {_taus(lowest)}) and {_pair(end)} at the end (flow time "
            f"{_taus(end)}); 95 % of runs are within {half:.3f} of each."
        )


def _epochs(result: ForecastResult) -> Iterator[str]:
    """How long a run takes to leave act 1."""
    if result.onset.tau is None:
        return
    row = next((one for one in result.epochs_needed if not one.as_forecast), None)
    row = row or result.epochs_needed[0]
    assert row.epochs is not None  # noqa: S101 - narrows the type: act 1 ends
    yield (
        f"A run of width {row.width:,} with lr {row.lr:g}, batches of {row.batch_size:,} and "
        f"{row.train_samples:,} samples leaves act 1 after {_number(row.epochs)} epochs "
        f"{_bounds(row.low, row.high)}; other widths and rates are in the table."
    )


def _theorem2(result: ForecastResult) -> str:
    """How many samples meet theorem 2 at the end."""
    _, _, end = _course(result.rows, None)
    return f"Theorem 2 along the expected step holds for {_ratios(end)} of samples at the end."


def _ratios(rows: Sequence[ForecastRow]) -> str:
    """Theorem 2's ratio of both splits."""
    digits = digits_of([row.theorem2_ratio for row in rows if row.theorem2_ratio is not None])
    return " / ".join(
        "none" if row.theorem2_ratio is None else in_percent(row.theorem2_ratio, digits)
        for row in rows
    )


def _course(
    rows: Sequence[ForecastRow], width: int | None
) -> tuple[list[ForecastRow], list[ForecastRow], list[ForecastRow]]:
    """Return the first, the lowest and the last row of each split."""
    sides = [
        [row for row in rows if row.width == width and row.split == split]
        for split in ("positive", "negative")
    ]
    sides = [side for side in sides if side]
    lowest = [min(side, key=lambda row: row.sparsity) for side in sides]
    return [side[0] for side in sides], lowest, [side[-1] for side in sides]


def _taus(rows: Sequence[ForecastRow]) -> str:
    """The flow time of rows, of each split where they differ."""
    return " / ".join(dict.fromkeys(f"{row.tau:.3g}" for row in rows))


def _pair(rows: Sequence[ForecastRow]) -> str:
    return " / ".join(f"{row.sparsity:.3f}" for row in rows)


def _bounds(low: float | None, high: float | None) -> str:
    if low is None:
        return ""
    return f"[{_number(low)}, {'beyond the end' if high is None else _number(high)}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
