"""The objective of each run of a study, and the best so far."""

from collections.abc import Sequence

import altair as alt

from ffengine.spec_values import params_in_words
from service.results.charts.drawables import NothingToDraw, data_names
from service.results.charts.style import (
    BLUE,
    FREE_SCALE,
    HEIGHT,
    VERMILLION,
    WIDTH,
    AnyChart,
    Record,
    counted,
    data_of,
    drawn_note,
    ranged,
    titled,
)
from service.results.sources import ChartSource
from service.results.trials import Compared, best_in_words, compared, in_words

LEAST = 2  # runs with the objective


def has_history(sources: Sequence[ChartSource]) -> bool:
    """Whether several runs of a study can be compared by one figure."""
    found = compared(sources)
    return found is not None and len(found.complete) >= LEAST


def search_history(sources: Sequence[ChartSource]) -> AnyChart:
    """The objective of each run of a study in their order, with the best so far."""
    found = compared(sources)
    if found is None or not found.complete:
        raise NothingToDraw("no figure compares the runs of a study")
    axis = in_words(str(found.objective.key))
    records = _records(found)
    x = alt.X("trial:Q", title="trial", axis=alt.Axis(tickMinStep=1, format="d", labelFlush=False))
    y = alt.Y("value:Q", title=axis, scale=FREE_SCALE)
    tooltip = [
        alt.Tooltip("trial:Q", format="d"),
        alt.Tooltip("value:Q", format=".4g", title=axis),
        alt.Tooltip("params:N"),
    ]
    base = alt.Chart(data_of(records)).encode(x=x)
    points = base.mark_point(filled=True, size=45, opacity=0.75, color=BLUE).encode(
        y=y, tooltip=tooltip
    )
    best = base.mark_line(interpolate="step-after", color=VERMILLION, strokeWidth=2).encode(
        y=alt.Y("best:Q", title=axis, scale=FREE_SCALE)
    )
    chart: AnyChart = alt.layer(best, points).properties(width=WIDTH, height=HEIGHT)
    return titled(chart, "History of the objective", _caption(found))


def _records(found: Compared) -> list[Record]:
    records: list[Record] = []
    several = len(found.parts) > 1
    best: float | None = None
    for trial in found.complete:
        value = trial.value
        if value is not None and found.objective.is_better(value, best):
            best = value
        words = params_in_words(trial.params)
        if several:
            words = ", ".join(filter(None, (found.part_of(trial), words)))
        records.append({"trial": trial.number, "value": value, "best": best, "params": words})
    return records


def _caption(found: Compared) -> list[str]:
    best = found.best
    others = ", ".join(f"{count} {outcome}" for outcome, count in found.others.items())
    most = "largest" if found.objective.direction == "maximize" else "smallest"
    return [
        drawn_note(
            data_names([found.grid]),
            f"points: {counted(len(found.complete), 'trial')}, each a mean over "
            f"{ranged(found.seeds, 'seed')}",
        ),
        f"Without the objective: {others}." if others else "",
        f"The runs are of {len(found.parts)} parts of the study, which may differ in more than "
        "what is varied: compare within a part."
        if len(found.parts) > 1
        else "",
        f"The line is the {most} so far. {best_in_words(found)[0]}" if best else "",
    ]
