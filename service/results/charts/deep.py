"""Charts of layers that learn above others: the condition with and without the motion below."""

from collections.abc import Sequence
from typing import NamedTuple

import altair as alt

from ffengine.theorems import ROW_DIRECTIONS
from service.results.charts.drawables import NothingToDraw
from service.results.charts.epochs import (
    Figure,
    Style,
    caption_of,
    curve_layers,
    has,
    records_of,
)
from service.results.charts.intervals import lower_ends
from service.results.charts.style import (
    CHANCE,
    GREY,
    PAPER,
    AnyChart,
    Record,
    Reference,
    in_panels,
    share_scale,
    titled,
)
from service.results.sources import ChartSource


class Look(NamedTuple):
    """A figure beside others in one panel: what it is called, and its dashes."""

    figure: Figure
    word: str
    dashes: list[int]


TOTAL, LOCAL, OBSERVED = "total condition", "local condition", "observed in the joint step"
CONDITIONS = (
    Look("theorem2_total_ratio", TOTAL, [1, 0]),
    Look("theorem2_ratio", LOCAL, [2, 3]),
    Look("joint_increase_ratio", OBSERVED, [7, 3]),
)
AGREEMENTS = (
    Look("total_agreement", TOTAL, [1, 0]),
    Look("local_agreement", LOCAL, [2, 3]),
)
WORDS = (
    f"The total condition is {ROW_DIRECTIONS['joint_step']}, with the motion of the layers below; "
    "the local one is as if these stood still. Bands are of the total condition.",
)
LINES = alt.Legend(orient="top", symbolType="stroke", symbolStrokeColor=GREY, symbolSize=260)


def is_joint(sources: Sequence[ChartSource]) -> bool:
    """Whether layers of any run learn together, so that some have a total condition."""
    return has("theorem2_total_ratio", sources)


def deep_theorem2(sources: Sequence[ChartSource]) -> AnyChart:
    """Theorem 2 in layers above others, local and total, beside what the joint step does."""
    style = Style("Theorem 2 in deeper layers", "share of live samples", PAPER[2])
    return _beside(sources, CONDITIONS, style)


def deep_agreement(sources: Sequence[ChartSource]) -> AnyChart:
    """How often the local and the total condition say what the joint step does."""
    style = Style(
        "How often theorem 2 predicts the change of S in deeper layers",
        "share of live samples",
        CHANCE,
    )
    return _beside(sources, AGREEMENTS, style)


def _beside(sources: Sequence[ChartSource], looks: Sequence[Look], style: Style) -> AnyChart:
    """Lines of several figures in the panel of each layer that has them."""
    if not has(looks[0].figure, sources):
        raise NothingToDraw("no layer learns together with layers below it")
    records = _records(sources, looks)
    words = [look.word for look in looks]
    dash = alt.StrokeDash(
        "what:N",
        scale=alt.Scale(domain=words, range=[look.dashes for look in looks]),
        title=None,
        legend=LINES,
    )
    line: Reference | None = style.reference
    scale, note = share_scale(lower_ends(records), line.value if line else None)
    return titled(
        in_panels(curve_layers(records, style, scale, dash, with_bands=TOTAL), records),
        style.title,
        [*WORDS, *caption_of(sources, records, style, shares=True), note],
    )


def _records(sources: Sequence[ChartSource], looks: Sequence[Look]) -> list[Record]:
    """The records of all figures, of the layers that have the first."""
    found: list[Record] = [
        {**record, "what": looks[0].word} for record in records_of(sources, looks[0].figure)
    ]
    deep = {record["series"] for record in found}
    for look in looks[1:]:
        if has(look.figure, sources):
            found += [
                {**record, "what": look.word}
                for record in records_of(sources, look.figure)
                if record["series"] in deep
            ]
    return found
