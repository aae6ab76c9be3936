"""The chart of angles: how often each angle between two samples occurs in the data, and what a
pair at that angle adds to the margin.
"""

from collections.abc import Iterator, Sequence

import altair as alt
import numpy as np
import numpy.typing as npt

from ffengine.percents import in_percent
from ffengine.results import AngleRow, CheckResult
from ffengine.theorems import THEOREMS
from service.results.charts.drawables import NothingToDraw, data_names
from service.results.charts.style import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    VERMILLION,
    AnyChart,
    Record,
    data_of,
    in_panels,
    labels_of,
    panels_note,
    ranged,
    titled,
)
from service.results.sources import ChartSource, Source

CURVE = "cos θ φ(θ), scaled"
PUSHES = ["all samples", "negative samples, +", "positive samples, −", CURVE]
PUSH_COLOURS = alt.Scale(domain=PUSHES, range=[PURPLE, VERMILLION, BLUE, GREEN])
CURVE_DEGREES = 2
PEAKS = np.arange(0, 90, 0.25, dtype=np.float64)
ROOM = 1.08  # the axis ends above the highest bar


def geometry(sources: Sequence[ChartSource]) -> AnyChart:
    """Angles between samples, weighted by energy, and cos θ φ(θ): what a pair at that angle adds to
    the margin.
    """
    checks = [source for source in sources if isinstance(source, Source) and has_angles(source)]
    bars = [record for source in checks for record in _bars(source)]
    if not bars:
        raise NothingToDraw("no check has the angles of its samples")
    top = max(abs(float(record["share"] or 0)) for record in bars)
    records = bars + [record for source in checks for record in _curve(source.label, top)]
    used = [push for push in PUSHES if any(record["push"] == push for record in records)]
    return titled(
        in_panels(_layers(top, used), records),
        "Angles between samples",
        _caption(checks, records, used),
    )


def has_angles(source: ChartSource) -> bool:
    """Whether the source is a check whose result has angles."""
    return (
        isinstance(source, Source)
        and isinstance(source.result, CheckResult)
        and any(sum(row.energy) for row in source.result.geometry)
    )


def limit_curve(degrees: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """cos(theta) phi(theta) of relu (theory, "The infinite-width limit"), by angles in degrees."""
    theta = np.radians(degrees)
    phi = (1 + np.cos(theta)) / 2 - (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / np.pi
    curve: npt.NDArray[np.float64] = np.cos(theta) * phi
    return curve


def _layers(top: float, used: Sequence[str]) -> AnyChart:
    """Bars and curve with a common zero; the curve is scaled to the highest bar."""
    angles = alt.Axis(
        values=[0, 30, 60, 90, 120, 150, 180], grid=False, labelExpr="datum.value + '°'"
    )
    x = alt.X(
        "from:Q",
        title="angle θ between x_i and x_k (degrees)",
        scale=alt.Scale(domain=[0, 180], nice=False),
        axis=angles,
    )
    size = alt.Axis(labelExpr="format(abs(datum.value), '.1~%')", grid=False)
    scale = alt.Scale(domain=[-ROOM * top, ROOM * top], nice=False)
    y = alt.Y("share:Q", title="share of energy ‖x_i‖²", scale=scale, axis=size)
    colour = alt.Color(
        "push:N",
        scale=PUSH_COLOURS,
        title=None,
        legend=alt.Legend(orient="top", values=list(used), symbolType="square"),
    )
    shares = alt.Tooltip("energy:Q", title="share of energy", format=".3%")
    bars = alt.Chart().mark_bar(opacity=0.75, binSpacing=0).transform_filter("isValid(datum.pairs)")
    bars = bars.encode(
        x=x,
        x2=alt.X2("to:Q"),
        y=y,
        y2=alt.datum(0),
        color=colour,
        tooltip=[
            alt.Tooltip("push:N"),
            alt.Tooltip("from:Q"),
            alt.Tooltip("to:Q"),
            shares,
            alt.Tooltip("pairs:Q"),
        ],
    )
    line = alt.Chart().mark_line(strokeWidth=2.5).transform_filter("isValid(datum.value)")
    line = line.encode(
        x=x,
        y=y,
        color=colour,
        tooltip=[alt.Tooltip("from:Q"), alt.Tooltip("value:Q", title="cos θ φ(θ)", format=".4f")],
    )
    axes = alt.Chart(data_of([{"from": 90, "share": 0}]))
    zero, right = (
        axes.mark_rule(color=GREY).encode(y=y),
        axes.mark_rule(color=GREY, strokeDash=[6, 4]).encode(x=x),
    )
    return alt.layer(bars, zero, right, line)


def _bars(source: Source) -> Iterator[Record]:
    assert isinstance(source.result, CheckResult)  # noqa: S101 - narrows the type: has_angles was asked
    theorem, rows = THEOREMS[source.result.theorem], source.result.geometry
    total = sum(sum(row.energy) for row in rows)
    for row in rows:
        sign = theorem.positive_sign if row.split == "positive" else theorem.negative_sign
        push = PUSHES[0] if len(rows) == 1 else PUSHES[1 if sign > 0 else 2]
        width = 180 / len(row.pairs)
        for place, (pairs, energy) in enumerate(zip(row.pairs, row.energy, strict=True)):
            if pairs:
                here = {
                    "from": place * width,
                    "to": (place + 1) * width,
                    "pairs": pairs,
                    "energy": energy / total,
                }
                yield {"series": source.label, "push": push, **here, "share": sign * energy / total}


def _curve(label: str, top: float) -> Iterator[Record]:
    degrees = np.arange(0, 180 + CURVE_DEGREES, CURVE_DEGREES, dtype=np.float64)
    curve = limit_curve(degrees)
    for angle, value in zip(degrees.tolist(), curve.tolist(), strict=True):
        yield {
            "series": label,
            "push": CURVE,
            "from": angle,
            "value": value,
            "share": value / float(curve.max()) * top,
        }


def _caption(checks: Sequence[Source], records: Sequence[Record], used: Sequence[str]) -> list[str]:
    results = [source.result for source in checks if isinstance(source.result, CheckResult)]
    rows = [row for result in results for row in result.geometry]
    specs = [source.spec for source in checks if source.spec and source.spec.kind == "check"]
    of_curve = {"relu", "sum_squares", "mean_squares"}
    others = {name for spec in specs for name in (spec.activation, spec.goodness.name)} - of_curve
    pairs, samples = (
        ranged((_pairs(result) for result in results), "pair"),
        ranged((row.beside for row in rows), "sample"),
    )
    return [
        f"Data: {data_names(checks)}; {pairs} of {samples} of one batch, seed {rows[0].seed}; bins "
        f"of {180 / len(rows[0].pairs):g}°.",
        f"{in_percent(_acute(rows), 1)} of the energy is at angles below 90°, left of the dashed "
        f"line.",
        "Bars show the energy of the pairs. Bars above 0 at angles below 90° push towards sparsity."
        if len(used) > 2
        else "Bars show the energy of the pairs.",
        f"The line shows what a pair adds to the margin for its energy (relu, infinite width), at "
        f"most {limit_curve(PEAKS).max():.4f}.",
        f"The line is for relu and squares; these checks use {', '.join(sorted(others))}."
        if others
        else "",
        panels_note(len(labels_of(records))),
    ]


def _pairs(result: CheckResult) -> int:
    return sum(sum(row.pairs) for row in result.geometry)


def _acute(rows: Sequence[AngleRow]) -> float:
    acute = sum(sum(row.energy[: len(row.energy) // 2]) for row in rows)
    return acute / sum(sum(row.energy) for row in rows)
