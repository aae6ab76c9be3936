"""The runs of a study as points: any column over any other."""

from collections.abc import Sequence

import altair as alt
from pydantic import JsonValue

from ffengine.spec_values import params_in_words, value_in_words
from service.results.charts.drawables import NothingToDraw, data_names
from service.results.charts.style import (
    BLUE,
    HEIGHT,
    WIDTH,
    AnyChart,
    counted,
    data_of,
    drawn_note,
    ranged,
    titled,
)
from service.results.sources import ChartSource, StudyGrid
from service.results.trials import (
    NUMBER,
    columns_of,
    compared,
    default_columns,
    in_words,
    is_number,
    spans_decades,
    value_of,
)

LEAST = 2  # points
MOST_POINTS = 5_000


def has_scatter(sources: Sequence[ChartSource]) -> bool:
    """Whether several runs of a study can be compared by one figure, and differ."""
    found = compared(sources)
    return found is not None and len(found.complete) >= LEAST and bool(found.varied)


def study_scatter(sources: Sequence[ChartSource]) -> AnyChart:
    """The runs of a study as points: any varied field or figure over any other."""
    grid = next((source for source in sources if isinstance(source, StudyGrid)), None)
    if grid is None:
        raise NothingToDraw("only a study has runs")
    found = compared(sources)
    default_x, default_y = default_columns(found) if found else (NUMBER, NUMBER)
    x, y = grid.x or default_x, grid.y or default_y
    cells = [cell.found for cell in grid.cells]
    known = columns_of(cells)
    for column in (x, y):
        if column not in known and column not in (default_x, default_y):
            raise NothingToDraw(f"{column!r} is no column; there are {', '.join(known)}")
    points = [
        (number, value_of(cell, number, x), value_of(cell, number, y), cell.params)
        for number, cell in enumerate(cells)
    ]
    points = [point for point in points if point[1] is not None and point[2] is not None]
    if not points:
        raise NothingToDraw(f"no run has both {x} and {y}")
    drawn = points[-MOST_POINTS:]
    fields = {field for cell in cells for field in cell.params}
    xs, ys = [point[1] for point in drawn], [point[2] for point in drawn]
    records = [
        {
            "x": a if _is_numeric(xs) else value_in_words(a),
            "y": b if _is_numeric(ys) else value_in_words(b),
            "trial": number,
            "params": params_in_words(params),
        }
        for number, a, b, params in drawn
    ]
    chart: AnyChart = (
        alt.Chart(data_of(records))
        .mark_point(filled=True, size=50, opacity=0.7, color=BLUE)
        .encode(
            x=_channel(alt.X, "x", in_words(x), xs, is_field=x in fields),
            y=_channel(alt.Y, "y", in_words(y), ys, is_field=y in fields),
            tooltip=[
                alt.Tooltip("trial:Q", format="d"),
                alt.Tooltip("x:N", title=in_words(x)),
                alt.Tooltip("y:N", title=in_words(y)),
                alt.Tooltip("params:N"),
            ],
        )
        .properties(width=WIDTH, height=HEIGHT)
    )
    seeds = [one.seeds for cell in cells for one in cell.summary.values()]
    caption = [
        drawn_note(
            data_names([grid]),
            f"points: {counted(len(drawn), 'run')}, figures: means over {ranged(seeds, 'seed')}",
        ),
        f"{len(cells) - len(points)} without one of both" if len(cells) > len(points) else "",
    ]
    return titled(chart, f"{in_words(y)} over {in_words(x)}", caption)


def _is_numeric(values: Sequence[JsonValue]) -> bool:
    return all(map(is_number, values))


def _channel(
    kind: type[alt.X] | type[alt.Y],
    name: str,
    title: str,
    values: Sequence[JsonValue],
    *,
    is_field: bool,
) -> alt.X | alt.Y:
    """An axis: of numbers, logarithmic where those of a field span decades, else of words."""
    if not _is_numeric(values):
        order = list(dict.fromkeys(value_in_words(value) for value in values))
        return kind(f"{name}:N", title=title, sort=order)
    log = is_field and spans_decades(values)
    scale = alt.Scale(type="log", nice=False, padding=8) if log else alt.Scale(zero=False)
    axis = alt.Axis(format="~g", labelOverlap="greedy") if log else alt.Axis(labelOverlap=True)
    return kind(f"{name}:Q", title=title, scale=scale, axis=axis)
