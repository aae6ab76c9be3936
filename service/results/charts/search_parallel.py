"""The runs of a study as lines over parallel axes: one for each varied field, and the objective."""

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import altair as alt
from pydantic import JsonValue

from ffengine.search import Trial
from ffengine.spec_values import plain, value_in_words
from service.results.charts.drawables import NothingToDraw, data_names
from service.results.charts.style import (
    BLUE,
    GREY,
    HEIGHT,
    ORANGE,
    SKY,
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
from service.results.trials import Compared, compared, in_words, is_number, shown, spans_decades

MOST_LINES = 500
MOST_AXES = 12
MOST_NAMED = 8  # values of a list that are written at their axis


class _Axis(NamedTuple):
    """An axis: where each value is between 0 and 1, and what is written beside it."""

    name: str
    places: dict[str, float]  # by the JSON of the value
    marks: list[tuple[float, str]]


def has_parallel(sources: Sequence[ChartSource]) -> bool:
    """Whether several runs of a study differ in several fields."""
    found = compared(sources)
    return found is not None and len(found.complete) > 1 and len(found.varied) > 1


def search_parallel(sources: Sequence[ChartSource]) -> AnyChart:
    """The runs of a study as lines over parallel axes, coloured by the objective."""
    found = compared(sources)
    if found is None or not found.complete or not found.varied:
        raise NothingToDraw("no figure compares the runs of a study, or they differ in nothing")
    fields, sign = found.varied[: MOST_AXES - 1], found.objective.direction == "maximize" or -1
    # the best is drawn last, over all others
    trials = sorted(found.complete[-MOST_LINES:], key=lambda trial: sign * (trial.value or 0.0))
    name, last = in_words(str(found.objective.key)), in_words(found.objective.key.figure)
    columns: dict[str, list[JsonValue]] = {
        field: [trial.params.get(field) for trial in trials] for field in fields
    }
    columns[last] = [trial.value for trial in trials]
    axes = [_axis(column, values) for column, values in columns.items()]
    records: list[Record] = [
        {
            "trial": trial.number,
            "axis": axis.name,
            "place": axis.places[json.dumps(plain(values[number]))],
            "text": value_in_words(values[number]),
            "value": trial.value,
        }
        for axis, values in zip(axes, columns.values(), strict=True)
        for number, trial in enumerate(trials)
    ]
    drawn = _lines(records, name) + _marks(axes)
    caption = [
        drawn_note(
            data_names([found.grid]),
            f"lines: {counted(len(trials), 'trial')}, each a mean over "
            f"{ranged(found.seeds, 'seed')}",
        ),
        f"The thick dashed line is {_best_of(found, trials)}. The others are coloured by their "
        f"{name}, from blue (smallest) to orange (largest).",
        f"Only the last {MOST_LINES} of {len(found.complete):,} trials are drawn."
        if len(found.complete) > MOST_LINES
        else "",
    ]
    chart: AnyChart = alt.layer(*drawn).properties(width=WIDTH, height=HEIGHT)
    return titled(chart, "Trials over all fields", caption)


def _best_of(found: Compared, drawn: Sequence[Trial]) -> str:
    """The trial that is drawn over all others, in words."""
    best = drawn[-1]
    most = "largest" if found.objective.direction == "maximize" else "smallest"
    ties = sum(trial.value == best.value for trial in drawn) - 1
    tied = f"; {counted(ties, 'other')} tied with it" if ties else ""
    return f"trial {best.number}, which has the {most}: {shown(best.value or 0.0)}{tied}"


def _axis(name: str, values: Sequence[JsonValue]) -> _Axis:
    """Place the values of a column: numbers in proportion, others in their order."""
    texts = [json.dumps(plain(value)) for value in values]
    if all(is_number(value) for value in values):
        numbers = [float(str(value)) for value in values]
        scale = math.log10 if spans_decades(values) else float
        low, high = scale(min(numbers)), scale(max(numbers))
        places = {
            text: (scale(number) - low) / (high - low) if high > low else 0.5
            for text, number in zip(texts, numbers, strict=True)
        }
        return _Axis(name, places, [(0.0, shown(min(numbers))), (1.0, shown(max(numbers)))])
    distinct = sorted(dict.fromkeys(texts))
    places = {text: at / max(1, len(distinct) - 1) for at, text in enumerate(distinct)}
    named = distinct if len(distinct) <= MOST_NAMED else [distinct[0], distinct[-1]]
    return _Axis(name, places, [(places[text], value_in_words(json.loads(text))) for text in named])


def _lines(records: list[Record], name: str) -> list[AnyChart]:
    # seen on white and on black, and told apart in the middle
    scale = alt.Scale(range=[BLUE, SKY, ORANGE, VERMILLION], interpolate="rgb")
    best = records[-1]["trial"]
    legend = alt.Legend(
        title=name,
        type="gradient",
        orient="bottom",
        direction="horizontal",
        gradientLength=220,
        titleLimit=0,
        format=".3~g",
    )
    base = alt.Chart(data_of(records)).encode(
        x=alt.X(
            "axis:N",
            sort=None,
            title=None,
            axis=alt.Axis(labelAngle=-20, labelLimit=0, grid=True, gridColor=GREY),
            scale=alt.Scale(padding=0.35),
        ),
        y=alt.Y("place:Q", axis=None, scale=alt.Scale(domain=[-0.06, 1.06], nice=False)),
        detail=alt.Detail("trial:N"),
        color=alt.Color("value:Q", scale=scale, legend=legend),
        tooltip=[
            alt.Tooltip("trial:Q", format="d"),
            alt.Tooltip("axis:N"),
            alt.Tooltip("text:N", title="its value"),
            alt.Tooltip("value:Q", format=".4g", title=name),
        ],
    )
    return [
        base.mark_line(opacity=0.75, strokeWidth=1.5).transform_filter(f"datum.trial != {best}"),
        base.mark_line(strokeWidth=4, strokeDash=[8, 3]).transform_filter(f"datum.trial == {best}"),
        base.mark_point(filled=True, size=28, opacity=1),
    ]


def _marks(axes: Sequence[_Axis]) -> list[AnyChart]:
    """The values that are written beside the axes."""
    marks = [
        {"axis": axis.name, "place": place, "text": text}
        for axis in axes
        for place, text in axis.marks
    ]
    base = alt.Chart(data_of(marks)).encode(
        x=alt.X("axis:N", sort=None), y=alt.Y("place:Q", axis=None), text=alt.Text("text:N")
    )
    return [base.mark_text(align="left", dx=4, dy=-9, fontSize=10, limit=110)]
