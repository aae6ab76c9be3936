"""The chart of who pushes: what pairs of each relation to a sample add to its margin."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import altair as alt

from ffengine.intervals import interval
from ffengine.results import PushRow, Relation, Split
from ffengine.theorems import DIRECTIONS
from service.results.charts.drawables import NothingToDraw, data_names
from service.results.charts.intervals import band
from service.results.charts.style import (
    GREY,
    AnyChart,
    Record,
    counted,
    data_of,
    drawn_note,
    in_panels,
    interval_note,
    interval_tooltips,
    labels_of,
    panels_note,
    ranged,
    split_colour,
    split_shape,
    titled,
)
from service.results.sources import ChartSource, Source
from service.results.text_tables import RELATIONS, layer_of, one_limit, pushes_of

HEIGHT = 200


def has_pushes(source: ChartSource) -> bool:
    """Whether the source is a check or a training run whose result says who pushes."""
    return any(row.push is not None for row in push_rows(source))


def push_rows(source: ChartSource) -> Sequence[PushRow]:
    """The pushes of a check or of a training run; none of any other source."""
    return pushes_of(source.result).rows if isinstance(source, Source) else ()


def decomposition(sources: Sequence[ChartSource]) -> AnyChart:
    """What pairs of each relation to a sample add to its margin of theorem 2."""
    records = [record for source in sources for record in _records(source)]
    if not records:
        raise NothingToDraw("no result says who pushes: it was not asked for")
    chart = in_panels(_layers(records), records, height=HEIGHT)
    return titled(chart, "Who pushes a sample", list(_caption(sources, records)))


def _records(source: ChartSource) -> Iterator[Record]:
    groups: dict[tuple[str, Split, Relation], list[PushRow]] = defaultdict(list)
    for row in one_limit(push_rows(source)):
        if row.push is not None:
            groups[layer_of(row), row.split, row.relation].append(row)
    several = len({layer for layer, _, _ in groups}) > 1
    for (layer, split, relation), rows in groups.items():
        yield {
            "series": " ".join(filter(None, (source.label, layer if several else ""))),
            "relation": RELATIONS[relation],
            "split": split,
            **band(interval([row.push for row in rows if row.push is not None]))._asdict(),
            "samples": sum(row.samples for row in rows),
            "pairs": sum(row.pairs for row in rows),
        }


def _layers(records: Sequence[Record]) -> AnyChart:
    used = {record["relation"] for record in records}
    names = [word for word in RELATIONS.values() if word in used]
    x = alt.X("mean:Q", title="push / sd of the margin", scale=alt.Scale(nice=True))
    base = alt.Chart().encode(
        y=alt.Y(
            "relation:N",
            title=None,
            sort=names,
            axis=alt.Axis(labelExpr="split(datum.label, ', ')"),
        ),
        yOffset=alt.YOffset("split:N", sort=["positive", "negative"]),
        color=split_colour(),
    )
    tooltip = [
        alt.Tooltip("relation:N"),
        alt.Tooltip("split:N"),
        *interval_tooltips(records),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("samples:Q"),
        alt.Tooltip("pairs:Q"),
    ]
    zero = (
        alt.Chart(data_of([{"zero": 0}]))
        .mark_rule(strokeDash=[6, 4], color=GREY, strokeWidth=1.5)
        .encode(x=alt.X("zero:Q"))
    )
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2=alt.X2("high:Q"))
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=x, shape=split_shape(), tooltip=tooltip
    )
    return alt.layer(zero, bars, points)


def listed_directions(sources: Sequence[ChartSource]) -> str:
    """The steps that the margins of all sources are along, in words."""
    found = {
        DIRECTIONS[pushes_of(source.result).direction]: None
        for source in sources
        if isinstance(source, Source) and pushes_of(source.result).rows
    }
    return " or ".join(found)


def _caption(sources: Sequence[ChartSource], records: Sequence[Record]) -> Iterator[str]:
    seeds = max(int(record["seeds"] or 0) for record in records)
    samples = ranged((int(record["samples"] or 0) for record in records), "live sample")
    yield drawn_note(
        data_names(sources), f"first batch of {counted(seeds, 'seed')}", f"{samples} per point"
    )
    yield interval_note("bars", seeds, shares=False)
    along = listed_directions(sources)
    yield (
        f"A point is what all pairs (a positive and its negative) of a relation add to the margin "
        f"of theorem 2 {along}, in standard deviations (sd) of the margin. Right of the dashed "
        f"line at 0 they push towards sparsity."
    )
    yield "With the label: one of the pair shows the label that the sample shows."
    yield panels_note(len(labels_of(records)))
