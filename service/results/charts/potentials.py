"""The chart of potentials: what the samples alone say of theorem 2 before any training."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import altair as alt

from ffengine.intervals import interval
from ffengine.results import CheckResult, PotentialRow, Split
from ffengine.theorems import DIRECTIONS
from service.results.charts.drawables import NothingToDraw, data_names
from service.results.charts.intervals import band
from service.results.charts.style import (
    FREE_SCALE,
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
    split_colour,
    split_shape,
    titled,
)
from service.results.sources import ChartSource, Source

PLACES: dict[Split, str] = {"positive": "at positive samples", "negative": "at negative samples"}
EQUAL = Reference(1.0, "equal", "where U of both is equal; above it, theorem 2 is expected to hold")


def has_potentials(source: ChartSource) -> bool:
    """Whether the source is a check whose result has a ratio of potentials."""
    return any(row.potential_ratio is not None for row in potential_rows(source))


def potential_rows(source: ChartSource) -> Sequence[PotentialRow]:
    """The potentials of a check; none of any other source."""
    if not isinstance(source, Source) or not isinstance(source.result, CheckResult):
        return ()
    return source.result.potentials


def potentials(sources: Sequence[ChartSource]) -> AnyChart:
    """Potential U of negatives over that of positives, at the samples of each split."""
    records = [record for source in sources for record in _records(source)]
    if not records:
        raise NothingToDraw("no check has the potentials of its samples")
    return titled(
        in_panels(_layers(records), records),
        "Potentials before training, at infinite width",
        list(_caption(sources, records)),
    )


def _records(source: ChartSource) -> Iterator[Record]:
    groups: dict[Split, list[PotentialRow]] = defaultdict(list)
    for row in potential_rows(source):
        if row.potential_ratio is not None:
            groups[row.split].append(row)
    for split, rows in groups.items():
        yield {
            "series": source.label,
            "at": PLACES[split],
            "split": split,
            **band(interval([row.potential_ratio or 0.0 for row in rows]))._asdict(),
            "positives": _mean([row.positive_potential for row in rows]),
            "negatives": _mean([row.negative_potential for row in rows]),
            "predicted": _mean([row.predicted_ratio for row in rows]),
            "samples": sum(row.samples for row in rows),
        }


def _layers(records: Sequence[Record]) -> AnyChart:
    y = alt.Y("mean:Q", title="U of negatives / U of positives", scale=FREE_SCALE)
    base = alt.Chart().encode(
        x=alt.X("at:N", title=None, sort=list(PLACES.values()), axis=alt.Axis(labelAngle=0)),
        color=split_colour(),
    )
    tooltip = [
        alt.Tooltip("at:N"),
        *interval_tooltips(records),
        alt.Tooltip("negatives:Q", title="U of negatives", format=".4g"),
        alt.Tooltip("positives:Q", title="U of positives", format=".4g"),
        alt.Tooltip("predicted:Q", title="share where that of negatives is larger", format=".4f"),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("samples:Q"),
    ]
    bars = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        y=y, shape=split_shape(), tooltip=tooltip
    )
    return alt.layer(reference_line(EQUAL, FREE_SCALE), bars, points)


def _caption(sources: Sequence[ChartSource], records: Sequence[Record]) -> Iterator[str]:
    seeds = max(int(record["seeds"] or 0) for record in records)
    samples = ranged((int(record["samples"] or 0) for record in records), "sample")
    batch = f"first batch of {counted(seeds, 'seed')}"
    yield drawn_note(data_names(sources), batch, f"{samples} per point")
    yield interval_note("bars", seeds, shares=False)
    yield f"{EQUAL.note[:-1]} {DIRECTIONS['goodness_difference']}, at initialisation."
    yield (
        "U of a set at x (relu, squares) is the mean of ‖x_i‖² cos θ φ(θ) over its samples, where "
        "θ is the angle between x_i and x."
    )
    if len(labels_of(records)) == 1:
        shares = ", ".join(f"{record['predicted']:.3f} {record['at']}" for record in records)
        yield f"U of negatives is larger at this share of samples: {shares}."
    yield panels_note(len(labels_of(records)))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
