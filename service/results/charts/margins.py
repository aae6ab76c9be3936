"""The distribution of the margins of single samples, on an axis that shows the bulk and the
tails.
"""

from collections.abc import Iterator, Sequence

import altair as alt

from ffengine.percents import in_percent
from service.results.charts.drawables import NothingToDraw, data_names, directions
from service.results.charts.style import (
    BLUE,
    GREEN,
    GREY,
    VERMILLION,
    AnyChart,
    Record,
    counted,
    data_of,
    drawn_note,
    in_panels,
    labels_of,
    panels_note,
    ranged,
    titled,
    y_at,
)
from service.results.histograms import EDGES, MarginHistogram
from service.results.sources import ChartSource, StudyGrid

METHODS = ["exact", "infinite width"]
KINDS = ["positive", "negative", "all samples"]  # theorem 1 has one split
DASHES = {  # of each kind by each method
    "exact": ([1, 0], [7, 3], [12, 3]),
    "infinite width": ([2, 2], [7, 3, 2, 3], [12, 3, 2, 3]),
}
COLOURS = dict(zip(KINDS, (BLUE, VERMILLION, GREEN), strict=True))
TICKS = [-30, -10, -3, -1, 0, 1, 3, 10, 30]
LEAST_REACH = (-1.5, 3.0)  # of the axis: room for the words on either side of zero


def margins(sources: Sequence[ChartSource]) -> AnyChart:
    """Distribution of the margins of single samples, by width, split and method; above zero, the
    sparsity rises to first order.
    """
    found = [
        (source.label, one)
        for source in sources
        if not isinstance(source, StudyGrid) and source.margins
        for one in source.margins()
    ]
    found = [(label, one) for label, one in found if one.live]
    if not found:
        raise NothingToDraw("the margins of single samples are not kept")
    named = [(_series(label, one, found), one) for label, one in found]
    records = [record for series, one in named for record in _steps(series, one)]
    both = len({one.theorem for _, one in found}) > 1  # on one scale the lower peaks look flat
    chart = in_panels(
        _layers(records, own_scales=both), _with_shares(records, named), own_scales=both
    )
    return titled(chart, "Margins of single samples", _caption(sources, named, records))


def is_kept(sources: Sequence[ChartSource]) -> bool:
    """Whether margins of single samples can be read."""
    return any(
        not isinstance(source, StudyGrid) and source.margins is not None for source in sources
    )


def _layers(records: Sequence[Record], *, own_scales: bool) -> AnyChart:
    there = {record["line"] for record in records}
    looks = {
        line: (COLOURS[kind], DASHES[method][KINDS.index(kind)])
        for kind in KINDS
        for method in METHODS
        if (line := f"{kind}, {method}") in there
    }
    colours, dashes = (
        alt.Scale(domain=list(looks), range=list(found))
        for found in zip(*looks.values(), strict=True)
    )
    legend = alt.Legend(
        orient="top", symbolType="stroke", symbolSize=400, symbolOpacity=1, columns=2
    )
    scale = _margin_scale(records)
    base = alt.Chart().encode(
        x=alt.X(
            "at:Q",
            title="margin / median |margin|  (no unit)",
            scale=scale,
            axis=alt.Axis(values=TICKS, grid=False, format="d"),
        ),
        y=_share_axis(records, own_scales=own_scales),
        color=alt.Color("line:N", scale=colours, title=None, legend=legend),
    )
    tooltip = [
        alt.Tooltip("width:O"),
        alt.Tooltip("kind:N"),
        alt.Tooltip("method:N"),
        alt.Tooltip("above:Q", title="above zero", format=".2%"),
        alt.Tooltip("samples:Q"),
        alt.Tooltip("seeds:Q"),
    ]
    fill = base.mark_area(interpolate="step-after", opacity=0.15).transform_filter(
        "datum.method == 'exact'"
    )
    dash = alt.StrokeDash("line:N", scale=dashes, title=None, legend=legend)
    line = base.mark_line(interpolate="step-after", strokeWidth=1.5).encode(
        strokeDash=dash, tooltip=tooltip
    )
    return alt.layer(fill, line, *_zero(scale))


def _margin_scale(records: Sequence[Record]) -> alt.Scale:
    """A symmetric logarithmic scale over all margins, and at least over LEAST_REACH."""
    places = [float(record["at"] or 0) for record in records]
    domain = [min(LEAST_REACH[0], *places), max(LEAST_REACH[1], *places)]
    return alt.Scale(type="symlog", constant=1, domain=domain, nice=False)


def _share_axis(records: Sequence[Record], *, own_scales: bool) -> alt.Y:
    top = 1.15 * max(float(record["share"] or 0) for record in records)  # room for words
    return alt.Y(
        "share:Q",
        title="share of live samples",
        scale=alt.Scale(zero=True) if own_scales else alt.Scale(domain=[0, top], nice=False),
        axis=alt.Axis(format=".1~%"),
        stack=False,
    )


def _zero(scale: alt.Scale) -> Iterator[AnyChart]:
    """The line at zero, with words on either side: where S falls and where it rises."""
    data = data_of([{"zero": 0, "falls": "← S falls", "rises": "S rises →"}])
    zero = alt.Chart(data).encode(x=alt.X("zero:Q", scale=scale))
    yield zero.mark_rule(color=GREY, strokeDash=[6, 4], strokeWidth=1.5)
    yield zero.mark_text(align="right", dx=-6, baseline="top", fontSize=11).encode(
        text=alt.Text("falls:N"), y=y_at(2)
    )
    yield zero.mark_text(align="left", dx=6, baseline="top", fontSize=11).encode(
        text=alt.Text("rises:N"), y=y_at(2)
    )


def _steps(series: str, one: MarginHistogram) -> Iterator[Record]:
    """The outline of the histogram, from one bin before the first sample to one after the last."""
    kind = "all samples" if one.theorem == 1 else one.split
    method = one.method.replace("_", " ")
    held = [place for place, count in enumerate(one.counts) if count]
    for place in range(max(0, held[0] - 1), min(len(one.counts), held[-1] + 1) + 1):
        yield {
            "series": series,
            "width": one.width,
            "kind": kind,
            "method": method,
            "line": f"{kind}, {method}",
            "at": round(float(EDGES[place]), 4),
            "share": round(one.counts[place] / one.live, 6) if place < len(one.counts) else 0.0,
            "above": one.satisfied / one.live,
            "samples": one.live,
            "seeds": one.seeds,
        }


def _series(label: str, one: MarginHistogram, found: Sequence[tuple[str, MarginHistogram]]) -> str:
    """The panel of a distribution: its label, theorem and width, where there are several."""
    both = len({other.theorem for _, other in found}) > 1
    widths = len({(other.theorem, other.width) for _, other in found}) > 1
    return ", ".join(
        filter(
            None,
            (
                label,
                f"theorem {one.theorem}" if both else "",
                f"n = {one.width:,}" if widths else "",
            ),
        )
    )


def _with_shares(
    records: Sequence[Record], named: Sequence[tuple[str, MarginHistogram]]
) -> list[Record]:
    """The records with a note over their panels: the share above zero."""
    notes = {series: "> 0: " + _above(series, named) for series in labels_of(records)}
    return [{**record, "note": notes[str(record["series"])]} for record in records]


def _above(series: str, named: Sequence[tuple[str, MarginHistogram]]) -> str:
    """The share of each split with a margin above zero, by the exact method where available."""
    here = [one for name, one in named if name == series]
    shown = [one for one in here if one.method == "exact"] or here
    return ", ".join(
        in_percent(one.satisfied / one.live, 1) + ("" if one.theorem == 1 else f" {one.split[:3]}.")
        for one in shown
    )


def _caption(
    sources: Sequence[ChartSource],
    named: Sequence[tuple[str, MarginHistogram]],
    records: Sequence[Record],
) -> list[str]:
    seeds, left = max(one.seeds for _, one in named), max(one.left_out for _, one in named)
    single = len(labels_of(records)) == 1
    return [
        drawn_note(
            data_names(sources),
            f"{ranged((one.live for _, one in named), 'live sample')} per line over "
            f"{counted(seeds, 'seed')}",
        ),
        f"Share above zero: {_above(named[0][0], named)}."
        if single
        else "Above each panel stands the share above zero, by exact margins.",
        "Margins are divided by the median |margin| of their seed, width, split and method.",
        "The axis is logarithmic on both sides of the dashed line at zero; bins are equally wide "
        "on it.",
        *(f"Theorem 2 is looked at {along}." for along in directions(sources)),
        f"{left:,} more seeds are kept and not read." if left else "",
        panels_note(len(labels_of(records))),
    ]
