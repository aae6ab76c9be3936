"""Sparsity by layer of networks with several layers, before and after training, also on held-out
samples.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import altair as alt

from ffengine.intervals import interval
from ffengine.results import EpochRow, MeasureRow, TrainResult
from service.results.charts.drawables import NothingToDraw, curve_rows, data_names, last_epochs
from service.results.charts.intervals import band
from service.results.charts.style import (
    BLUE,
    FREE_SCALE,
    GREEN,
    LEGEND,
    PURPLE,
    SPARSITY_AXIS,
    SPARSITY_NOTE,
    VERMILLION,
    AnyChart,
    Record,
    counted,
    drawn_note,
    in_panels,
    interval_note,
    labels_of,
    panels_note,
    ranged,
    titled,
)
from service.results.sources import ChartSource, Source

KINDS = ["positive", "negative", "validation", "test"]
KIND_COLOURS = alt.Scale(domain=KINDS, range=[BLUE, VERMILLION, PURPLE, GREEN])
KIND_SHAPES = alt.Scale(domain=KINDS, range=["circle", "triangle-up", "diamond", "square"])
STAGES = ["before training", "after training"]
STAGE_DASHES = alt.Scale(domain=STAGES, range=[[2, 3], [1, 0]])


def layers(sources: Sequence[ChartSource]) -> AnyChart:
    """Mean Hoyer sparsity of each layer before and after training, of positive, negative and
    held-out samples.
    """
    records = [record for source in sources if is_deep(source) for record in _records(source)]
    if not records:
        raise NothingToDraw("no network has more than one layer")
    kinds = [kind for kind in KINDS if any(record["kind"] == kind for record in records)]
    chart = in_panels(_marks(kinds), records)
    return titled(chart, "Sparsity by layer", _caption(sources, records, kinds))


def _marks(kinds: Sequence[str]) -> AnyChart:
    """Lines from layer to layer, hollow points before training, filled ones with bars after it."""
    legend = alt.Legend(orient="top", values=list(kinds), symbolOpacity=1)
    y = alt.Y("mean:Q", title=SPARSITY_AXIS, scale=FREE_SCALE)
    base = alt.Chart().encode(
        x=alt.X(
            "layer:O",
            title="layer  (0 sees the data)",
            axis=alt.Axis(labelAngle=0),
            scale=alt.Scale(paddingInner=0.85, paddingOuter=0.4),  # bars stand close to their layer
        ),
        xOffset=alt.XOffset("kind:N", sort=list(kinds)),
        color=alt.Color("kind:N", scale=KIND_COLOURS, title=None, legend=legend),
    )
    lines = base.mark_line(strokeWidth=1.5).encode(
        y=y,
        strokeDash=alt.StrokeDash("stage:N", scale=STAGE_DASHES, title=None, legend=LEGEND),
        detail=alt.Detail("stage:N"),
    )
    before, after = (f"datum.stage == '{stage}'" for stage in STAGES)
    bars = (
        base.mark_rule(strokeWidth=2)
        .encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
        .transform_filter(after)
    )
    tooltip = [
        alt.Tooltip("layer:O"),
        alt.Tooltip("kind:N"),
        alt.Tooltip("stage:N"),
        alt.Tooltip("epoch:Q"),
        alt.Tooltip("mean:Q", format=".4f"),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("samples:Q"),
    ]
    shape = alt.Shape("kind:N", scale=KIND_SHAPES, title=None, legend=legend)
    points = [
        base.mark_point(filled=filled, size=60, opacity=1)
        .encode(y=y, shape=shape, tooltip=tooltip)
        .transform_filter(stage)
        for filled, stage in ((False, before), (True, after))
    ]
    return alt.layer(lines, bars, *points)


def is_deep(source: ChartSource) -> bool:
    """Whether the source is a training run of several layers."""
    return len(last_epochs(source)) > 1


def _records(source: ChartSource) -> Iterator[Record]:
    groups: dict[tuple[str, str, int], list[EpochRow | MeasureRow]] = defaultdict(list)
    last = last_epochs(source)
    for row in curve_rows(source):
        if row.epoch in (0, last[row.layer]):
            groups[STAGES[row.epoch > 0], row.split, row.layer].append(row)
    if isinstance(source, Source) and isinstance(source.result, TrainResult):
        for measured in source.result.measures:
            if measured.partition != "train":
                groups[STAGES[1], measured.partition, measured.layer].append(measured)
    for (stage, kind, layer), group in sorted(groups.items()):
        values = [row.sparsity for row in group if row.sparsity is not None]
        if values:
            yield {
                "series": source.label,
                "layer": layer,
                "kind": kind,
                "stage": stage,
                "epoch": group[0].epoch if isinstance(group[0], EpochRow) else None,
                **band(interval(values, share=True))._asdict(),
                "samples": sum(row.samples - row.dead_samples for row in group),
            }


def _caption(
    sources: Sequence[ChartSource], records: Sequence[Record], kinds: Sequence[str]
) -> list[str]:
    seeds = max(int(record["seeds"] or 0) for record in records)
    held_out = [kind for kind in kinds if kind in ("validation", "test")]
    samples = ranged((int(record["samples"] or 0) for record in records), "live sample")
    mean = f"mean over {counted(seeds, 'seed')}"
    return [
        drawn_note(data_names(sources), mean, f"{samples} per point"),
        interval_note("bars", seeds, shares=False),
        f"{' and '.join(held_out).capitalize()} samples are held out, and have their true labels."
        if held_out
        else "",
        SPARSITY_NOTE,
        panels_note(len(labels_of(records))),
    ]
