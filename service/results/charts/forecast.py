"""Charts of forecasts, over flow time."""

from collections.abc import Iterator, Sequence

import altair as alt

from ffengine.results import ForecastRow, SelectionOnset
from service.results.charts.drawables import NothingToDraw, data_names
from service.results.charts.intervals import banded
from service.results.charts.style import (
    FREE_SCALE,
    GREY,
    LEGEND,
    MOST_PANELS,
    PAPER,
    SATISFIED_AXIS,
    SPARSITY_AXIS,
    SPLIT_DASHES,
    AnyChart,
    Record,
    counted,
    data_of,
    drawn_note,
    in_panels,
    interval_tooltips,
    labels_of,
    panels_note,
    reference_line,
    split_colour,
    titled,
)
from service.results.forecasts import Forecast, forecast_of
from service.results.sources import ChartSource

TAU = alt.X("tau:Q", title="flow time τ", axis=alt.Axis(grid=False))


def has_forecast(sources: Sequence[ChartSource]) -> bool:
    """Whether any source is a forecast with figures."""
    return any(_forecasts(sources))


def forecast_sparsity(sources: Sequence[ChartSource]) -> AnyChart:
    """Hoyer sparsity over flow time, forecast for each width: what is expected, and the band of a
    single run.
    """
    records = [
        _record(_label(source.label, row.width), row)
        for source, found in _forecasts(sources)
        for row in found.rows
    ]
    if not records:
        raise NothingToDraw("there is no forecast")
    y = alt.Y("mean:Q", title=SPARSITY_AXIS, scale=FREE_SCALE)
    base = alt.Chart().encode(x=TAU, color=split_colour())
    tooltip = [
        alt.Tooltip("series:N"),
        alt.Tooltip("split:N"),
        alt.Tooltip("tau:Q", format=".3g"),
        *interval_tooltips(_drawn(records)),
        *(alt.Tooltip(f"{name}:Q", format=".4f") for name in ("run_low", "run_high")),
    ]
    layers = [
        *_onset_layers(sources),
        *banded(base, SPARSITY_AXIS, FREE_SCALE, ("run_low", "run_high"), opacity=0.1, edged=True),
        *banded(base, SPARSITY_AXIS, FREE_SCALE, ("low", "high"), opacity=0.2, edged=True),
        base.mark_line(strokeWidth=2).encode(y=y, strokeDash=_dashes(), tooltip=tooltip),
    ]
    caption = [
        drawn_note(data_names(sources), _made_of(sources)),
        "The dark band is what is expected of the width, the light band what a single run of it "
        "may do (both 95 %).",
        *_onset_notes(sources),
        "The forecast ends where the small run ends.",
        panels_note(len(labels_of(records))),
    ]
    return titled(in_panels(alt.layer(*layers), records), "Sparsity, forecast", caption)


def forecast_theorem2(sources: Sequence[ChartSource]) -> AnyChart:
    """Share of samples that satisfy theorem 2's condition along the expected step, over flow time,
    as many units have it.
    """
    records = [
        _record(source.label, row, "theorem2_ratio", "theorem2_low", "theorem2_high")
        for source, found in _forecasts(sources)
        for row in found.rows
        if row.width is None and row.theorem2_ratio is not None
    ]
    if not records:
        raise NothingToDraw("there is no forecast of theorem 2")
    scale = alt.Scale(domain=[0, 1])
    base = alt.Chart().encode(x=TAU, color=split_colour())
    tooltip = [
        alt.Tooltip("split:N"),
        alt.Tooltip("tau:Q", format=".3g"),
        *interval_tooltips(_drawn(records)),
    ]
    layers = [
        reference_line(PAPER[2], scale),
        *_onset_layers(sources),
        *banded(base, SATISFIED_AXIS, scale, ("low", "high"), opacity=0.15, edged=True),
        base.mark_line(strokeWidth=2).encode(
            y=alt.Y("mean:Q", title=SATISFIED_AXIS, scale=scale),
            strokeDash=_dashes(),
            tooltip=tooltip,
        ),
    ]
    caption = [
        drawn_note(data_names(sources), _made_of(sources)),
        "The expected step is that of all measured samples, averaged over all wrong labels. Bands "
        "are 95 % intervals.",
        "From few units the ratio at τ = 0 is biased, and only there.",
        PAPER[2].note,
        *_onset_notes(sources),
    ]
    return titled(in_panels(alt.layer(*layers), records), "Theorem 2, forecast", caption)


def _forecasts(sources: Sequence[ChartSource]) -> Iterator[tuple[ChartSource, Forecast]]:
    for source in sources:
        found = forecast_of(source)
        if found and found.rows:
            yield source, found


def _label(label: str, width: int | None) -> str:
    of_width = "infinite width" if width is None else f"n = {width}"
    return " ".join(filter(None, (label, of_width)))


def _record(
    series: str,
    row: ForecastRow,
    mean: str = "sparsity",
    low: str = "low",
    high: str = "high",
) -> Record:
    return {
        "series": series,
        "split": row.split,
        "tau": row.tau,
        "mean": getattr(row, mean),
        "low": getattr(row, low),
        "high": getattr(row, high),
        "run_low": row.run_low,
        "run_high": row.run_high,
    }


def _drawn(records: Sequence[Record]) -> Sequence[Record]:
    shown = set(labels_of(records)[:MOST_PANELS])
    return [record for record in records if record["series"] in shown]


def _dashes() -> alt.StrokeDash:
    return alt.StrokeDash("split:N", scale=SPLIT_DASHES, title=None, legend=LEGEND)


def _onsets(sources: Sequence[ChartSource]) -> list[SelectionOnset]:
    return [found.onset for _, found in _forecasts(sources)]


def _onset_layers(sources: Sequence[ChartSource]) -> list[AnyChart]:
    """A line where act 1 ends, of one forecast; those of several would be in each other's plots."""
    onsets = _onsets(sources)
    if len(onsets) != 1 or onsets[0].tau is None:
        return []
    data = data_of([{"onset": onsets[0].tau}])
    rule: AnyChart = (
        alt.Chart(data)
        .mark_rule(strokeDash=[2, 3], color=GREY, strokeWidth=1.5)
        .encode(x=alt.X("onset:Q"))
    )
    return [rule]


def _onset_notes(sources: Sequence[ChartSource]) -> list[str]:
    onsets = _onsets(sources)
    if len(onsets) != 1 or onsets[0].tau is None:
        return []
    return [
        f"The dotted line is where act 1 ends, at τ = {onsets[0].tau:.3g}: there theorem 2 of both "
        f"splits crosses one half."
    ]


def _made_of(sources: Sequence[ChartSource]) -> str:
    found = [one for _, one in _forecasts(sources)]
    units = ", ".join(dict.fromkeys(f"{one.units:,}" for one in found))
    seeds = max(row.seeds for one in found for row in one.rows)
    return f"small run of {units} units, {counted(seeds, 'seed')}"
