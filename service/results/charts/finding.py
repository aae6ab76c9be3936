"""The chart of a finding, from its data."""

from collections.abc import Sequence

import altair as alt

from ffengine.findings import Plot, Rule
from service.results.charts.drawables import NothingToDraw
from service.results.charts.style import (
    GREY,
    HEIGHT,
    WIDTH,
    AnyChart,
    data_of,
    series_looks,
    titled,
    x_at,
    y_at,
)
from service.results.charts.tiles import tiled
from service.results.finding_page import lines_of
from service.results.finding_runs import answered
from service.results.sources import ChartSource

PANEL_WIDTH, PANEL_HEIGHT = 300, 200


def is_answered(sources: Sequence[ChartSource]) -> bool:
    """Whether these are all runs of a finding's study, and have what its chart shows."""
    found = answered(sources)
    return found is not None and found.plot is not None


def finding(sources: Sequence[ChartSource]) -> AnyChart:
    """Draw the finding that a study answers. Raises NothingToDraw where it answers none."""
    found = answered(sources)
    plot = found.plot if found else None
    if found is None or plot is None:
        raise NothingToDraw("the job is no finished study that answers a finding's question")
    lines = lines_of(found.runs)
    return finding_chart(plot, [f"data: {lines.data}", lines.made_by])


def finding_chart(plot: Plot, caption: list[str]) -> AnyChart:
    """Draw a finding.

    **Arguments:**

    - `plot`: its chart as data.
    - `caption`: lines below the title.
    """
    panels = list(dict.fromkeys(point.panel for point in plot.points))
    drawn = [_panel(plot, panel, several=len(panels) > 1) for panel in panels]
    chart: AnyChart = (
        drawn[0] if len(drawn) == 1 else alt.concat(*drawn, columns=2).resolve_scale(color="shared")
    )
    if plot.tiles:
        chart = alt.vconcat(chart, tiled(plot.tiles)).resolve_scale(color="independent")
    return titled(chart, plot.title, caption)


def _panel(plot: Plot, panel: str, *, several: bool) -> AnyChart:
    """Return one plot: points or lines with their intervals, and the rules across it."""
    names = list(dict.fromkeys(point.series for point in plot.points))
    looks = series_looks(len(names))
    rows = [point._asdict() for point in plot.points if point.panel == panel]
    by_name = any(isinstance(row["x"], str) for row in rows)
    title = dict(plot.x_titles).get(panel, plot.x)
    x: alt.X = alt.X("x:N", sort=None, title=title, axis=alt.Axis(labelAngle=-35, labelLimit=180))
    if not by_name:
        x = alt.X(
            "x:Q",
            title=title,
            scale=alt.Scale(type="log", base=2) if plot.logarithmic else alt.Scale(zero=False),
        )
    base = alt.Chart(data_of(rows)).encode(
        x=x,
        color=alt.Color(
            "series:N",
            scale=alt.Scale(domain=names, range=looks.colours),
            title=None,
            legend=_legend(names, lines=plot.mark == "line"),
        ),
    )
    y = alt.Y("y:Q", title=panel or plot.y, scale=alt.Scale(zero=False))
    bounds = {
        "y": alt.Y("low:Q", title=panel or plot.y, scale=alt.Scale(zero=False)),
        "y2": alt.Y2("high:Q"),
    }
    offset = alt.XOffset("series:N", sort=names) if by_name and len(names) > 1 else alt.Undefined
    if plot.mark == "line":
        dash = alt.StrokeDash(
            "series:N",
            scale=alt.Scale(domain=names, range=looks.dashes),
            title=None,
            legend=_legend(names, lines=True),
        )
        layers = [
            base.mark_area(opacity=0.15).encode(**bounds),
            base.mark_line(point=alt.OverlayMarkDef(size=14)).encode(y=y, strokeDash=dash),
        ]
    else:
        layers = [
            base.mark_rule(strokeWidth=2).encode(**bounds, xOffset=offset),
            base.mark_point(filled=True, size=45, opacity=1).encode(
                y=y,
                xOffset=offset,
                shape=alt.Shape(
                    "series:N",
                    scale=alt.Scale(domain=names, range=looks.shapes),
                    title=None,
                    legend=_legend(names, lines=False),
                ),
            ),
        ]
    layers += [_rule(rule) for rule in plot.rules if rule.panel in ("", panel)]
    size = (PANEL_WIDTH, PANEL_HEIGHT) if several else (WIDTH, HEIGHT)
    return alt.layer(*layers).properties(width=size[0], height=size[1])


def _rule(rule: Rule) -> AnyChart:
    """Return a dashed line across a plot, with its word."""
    data = alt.Chart(data_of([{"value": rule.value, "word": rule.word}]))
    at = alt.X("value:Q") if rule.axis == "x" else alt.Y("value:Q")
    line = data.mark_rule(strokeDash=[6, 4], color=GREY, strokeWidth=1.5)
    word = data.mark_text(align="left", baseline="bottom", dx=4, fontSize=10, color=GREY)
    if rule.axis == "x":
        return alt.layer(line.encode(x=at), word.encode(x=at, y=y_at(12), text=alt.Text("word:N")))
    return alt.layer(line.encode(y=at), word.encode(y=at, x=x_at(2), text=alt.Text("word:N")))


def _legend(names: Sequence[str], *, lines: bool) -> alt.Legend | None:
    """Names in columns where one line would be longer than a plot and a half.

    **Arguments:**

    - `lines`: whether series are lines, whose dashes the legend shows.
    """
    if len(names) < 2:
        return None
    longest = max(map(len, names))
    in_one_line = sum(map(len, names)) + 4 * len(names) <= 75
    columns = alt.Undefined if in_one_line else 3 if longest <= 24 else 2
    found = alt.Legend(orient="top", symbolOpacity=1, columns=columns, columnPadding=30)
    if lines:
        found.symbolType, found.symbolSize = "stroke", 400
    return found
