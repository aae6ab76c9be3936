"""Intervals as charts draw them; they are those of ffengine.intervals.interval."""

from collections.abc import Iterable
from typing import NamedTuple

import altair as alt

from ffengine.results import Interval
from service.results.charts.style import AnyChart, Record


class Band(NamedTuple):
    """A mean over seeds with its 95 % interval; one seed has none."""

    mean: float
    low: float | None
    high: float | None
    seeds: int


def band(found: Interval) -> Band:
    """The band of an interval."""
    return Band(found.mean, found.low, found.high, found.seeds)


def lower_ends(records: Iterable[Record], mean: str = "mean") -> list[float]:
    """Where each record's interval begins; of one seed, the value itself.

    **Arguments:**

    - `mean`: the field of the value.
    """
    ends = (record[mean] if record["low"] is None else record["low"] for record in records)
    return [float(end) for end in ends if end is not None]


def banded(
    base: alt.Chart,
    axis: str,
    scale: alt.Scale,
    fields: tuple[str, str],
    *,
    opacity: float,
    edged: bool,
) -> list[AnyChart]:
    """A band between two fields, in the colour of its line.

    Two bands of some opacity mix to a colour of neither: thin lines say whose each edge is, and
    dashes which is which where two edges are one.

    **Arguments:**

    - `edged`: whether it has these lines; those of hundreds of bins would hide what is between.
    """
    low, high = fields
    area = base.mark_area(opacity=opacity).encode(
        y=alt.Y(f"{low}:Q", title=axis, scale=scale), y2=f"{high}:Q"
    )
    if not edged:
        return [area]
    by_split = base.encoding.color.to_dict()["field"] == "split"
    # no scale: that of the line's dashes may have another meaning
    dash = alt.condition("datum.split == 'negative'", alt.value([5, 2]), alt.value([1, 0]))
    edge = base.mark_line(strokeWidth=1, opacity=0.6).encode(
        strokeDash=dash if by_split else alt.Undefined
    )
    edges = (edge.encode(y=alt.Y(f"{end}:Q", title=axis, scale=scale)) for end in fields)
    return [area, *edges]
