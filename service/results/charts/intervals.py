"""Intervals as charts draw them; they are those of ffengine.intervals.interval."""

from collections.abc import Iterable
from typing import NamedTuple

import altair as alt

from ffengine.results import Interval
from service.results.charts.style import SPLIT_DASHES, AnyChart, Record


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
    base: alt.Chart, axis: str, scale: alt.Scale, low: str, high: str, opacity: float
) -> AnyChart:
    """A band between two fields, in the colour of its line.

    Two bands of some opacity mix to a colour of neither: the outline says whose each edge is.
    """
    colour = base.encoding.color.to_dict()
    stroke = alt.Stroke(
        field=colour["field"],
        type=colour["type"],
        scale=alt.Scale.from_dict(colour["scale"]),
        legend=None,
    )
    by_split = colour["field"] == "split"
    dash = alt.StrokeDash("split:N", scale=SPLIT_DASHES, legend=None)
    area = base.mark_area(fillOpacity=opacity, strokeOpacity=0.55, strokeWidth=0.75)
    found: AnyChart = area.encode(
        y=alt.Y(f"{low}:Q", title=axis, scale=scale),
        y2=f"{high}:Q",
        stroke=stroke,
        strokeDash=dash if by_split else alt.Undefined,
    )
    return found
