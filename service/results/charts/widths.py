"""Charts by width: shares of the samples of a check, with 95 % intervals."""

from collections import defaultdict
from collections.abc import Sequence

import altair as alt

from ffengine.intervals import interval_of
from ffengine.results import CheckCell, Interval, Split
from ffengine.theorems import DIRECTIONS, TheoremNumber
from service.results.charts.drawables import NothingToDraw, cells, data_names, directions
from service.results.charts.intervals import band, lower_ends
from service.results.charts.style import (
    BLUE,
    CHANCE,
    LEGEND,
    ORANGE,
    PAPER,
    SATISFIED_AXIS,
    AnyChart,
    Record,
    Reference,
    counted,
    drawn_note,
    in_panels,
    interval_note,
    interval_tooltips,
    labels_of,
    panels_note,
    ranged,
    reference_line,
    share_scale,
    titled,
)
from service.results.sources import ChartSource

METHODS = {"exact": "exact", "infinite_width": "infinite width"}
COMPARED = {
    "exact": "exact margin, observed change",
    "infinite_width": "infinite width, exact margin",
}
LONG_WORD = 20  # letters of a legend's entry


def theorem1_widths(sources: Sequence[ChartSource]) -> AnyChart:
    """Share of samples that satisfy theorem 1's condition, by width and method."""
    return _theorem(sources, 1)


def theorem2_widths(sources: Sequence[ChartSource]) -> AnyChart:
    """Share of samples that satisfy theorem 2's condition, by width, split and method."""
    return _theorem(sources, 2)


def agreement_widths(sources: Sequence[ChartSource]) -> AnyChart:
    """How often two signs of the change of sparsity agree, by width: those of the exact margin and
    of a trial step, or of the infinite-width limit and of the exact margin.
    """
    found = cells(sources)
    several = len({cell.theorem for _, cell in found}) > 1
    records = [
        record
        for number in (1, 2)
        for record in _records(
            [one for one in found if one[1].theorem == number],
            "agreement",
            COMPARED,
            several=several,
        )
    ]
    if not records:
        raise NothingToDraw("no check compared signs")
    scale, note = share_scale(lower_ends(records), CHANCE.value, upper_half=True)
    chart = _chart(records, list(COMPARED.values()), "share of decided live samples", scale, CHANCE)
    return titled(
        chart,
        "How often two signs of the change of S agree",
        [*_caption(sources, records, CHANCE), _direction_note(sources), note],
    )


def has_theorem(number: TheoremNumber, sources: Sequence[ChartSource]) -> bool:
    """Whether a check of the theorem has live samples."""
    return any(cell.theorem == number and cell.live for _, cell in cells(sources))


def has_agreement(sources: Sequence[ChartSource]) -> bool:
    """Whether a check compared signs."""
    return any(cell.agreement is not None for _, cell in cells(sources))


def _theorem(sources: Sequence[ChartSource], theorem: TheoremNumber) -> AnyChart:
    records = _records(
        [(label, cell) for label, cell in cells(sources) if cell.theorem == theorem],
        "ratio",
        METHODS,
    )
    if not records:
        raise NothingToDraw(f"no check of theorem {theorem}")
    paper, along = PAPER[theorem], directions(sources)
    scale, note = share_scale(lower_ends(records), paper.value)
    chart = _chart(records, list(METHODS.values()), SATISFIED_AXIS, scale, paper)
    return titled(
        chart,
        "Theorem 1: sparsity rises to first order"
        if theorem == 1
        else " ".join(["Theorem 2", *(along if len(along) == 1 else ())]),
        [*_caption(sources, records, paper), note],
    )


def _chart(
    records: Sequence[Record], methods: list[str], axis: str, scale: alt.Scale, reference: Reference
) -> AnyChart:
    colours, shapes = (
        alt.Scale(domain=methods, range=[BLUE, ORANGE]),
        alt.Scale(domain=methods, range=["circle", "diamond"]),
    )
    legend = LEGEND
    if any(len(method) > LONG_WORD for method in methods):  # beside each other they would be cut
        legend = alt.Legend(orient="top", symbolOpacity=1, columns=1)
    colour = alt.Color("method:N", scale=colours, title=None, legend=legend)
    x = alt.X("width:O", title="width n (units)", axis=alt.Axis(labelAngle=0, labelOverlap=True))
    base = alt.Chart().encode(x=x, xOffset=alt.XOffset("method:N", sort=methods), color=colour)
    bars = base.mark_rule(strokeWidth=2).encode(
        y=alt.Y("low:Q", title=axis, scale=scale), y2="high:Q"
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        y=alt.Y("mean:Q", scale=scale),
        shape=alt.Shape("method:N", scale=shapes, title=None, legend=legend),
        tooltip=[
            alt.Tooltip("width:O"),
            alt.Tooltip("split:N"),
            alt.Tooltip("method:N"),
            *interval_tooltips(records, digits=5),
            alt.Tooltip("samples:Q"),
            alt.Tooltip("seeds:Q"),
        ],
    )
    rule = reference_line(reference, scale)
    return in_panels(alt.layer(rule, bars, points), records)


def _records(
    found: Sequence[tuple[str, CheckCell]],
    figure: str,
    methods: dict[str, str],
    *,
    several: bool = False,
) -> list[Record]:
    groups: dict[tuple[int, Split, str, int, str], list[CheckCell]] = defaultdict(list)
    labels = {
        label: place for place, label in enumerate(dict.fromkeys(label for label, _ in found))
    }
    steps = {cell.theorem2_direction for _, cell in found if cell.theorem2_direction}
    for label, cell in found:
        if getattr(cell, figure) is not None:
            along = cell.theorem2_direction
            parts = (
                label,
                f"theorem {cell.theorem}" if several else "",
                DIRECTIONS[along] if along and len(steps) > 1 else "",
                f"{cell.split} samples" if cell.theorem == 2 else "",
            )
            groups[
                labels[label], cell.split, ", ".join(filter(None, parts)), cell.width, cell.method
            ].append(cell)
    order = {"positive": 0, "negative": 1}
    keys = sorted(groups, key=lambda key: (key[0], order[key[1]], *key[2:]))
    return [
        _record(key[2], groups[key], interval, figure, methods)
        for key in keys
        if (interval := interval_of(groups[key], figure))
    ]


def _record(
    series: str,
    group: Sequence[CheckCell],
    interval: Interval,
    figure: str,
    methods: dict[str, str],
) -> Record:
    return {
        "series": series,
        "width": group[0].width,
        "split": group[0].split,
        "method": methods[group[0].method],
        **band(interval)._asdict(),
        "samples": sum(cell.counted(figure) for cell in group),
        "batch": group[0].batch_size,
    }


def _caption(
    sources: Sequence[ChartSource], records: Sequence[Record], reference: Reference
) -> list[str]:
    seeds = max(int(record["seeds"] or 0) for record in records)
    batch = " and ".join(
        f"{size:,}" for size in sorted({int(record["batch"] or 0) for record in records})
    )
    samples = ranged((int(record["samples"] or 0) for record in records), "live sample")
    return [
        drawn_note(
            data_names(sources),
            f"{samples} per point over {counted(seeds, 'seed')}",
            f"batches of {batch}",
        ),
        interval_note("bars", seeds, shares=True),
        reference.note,
        panels_note(len(labels_of(records))),
    ]


def _direction_note(sources: Sequence[ChartSource]) -> str:
    """Which step the trial steps of theorem 2 are; "" where none is drawn."""
    found = " or ".join(directions(sources))
    return f"Theorem 2 is looked at {found}." if found else ""
