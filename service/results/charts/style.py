"""How every chart looks: colours, panels, reference lines, captions.

The page sets the colours of text, marks carry their own.
"""

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import altair as alt

Record = dict[str, str | int | float | None]
AnyChart = alt.LayerChart | alt.FacetChart | alt.Chart

# Okabe and Ito's palette: told apart by people who see colours differently
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
)
GREY = "#808080"  # seen on white and on black
SPLIT_COLOURS = alt.Scale(domain=["positive", "negative"], range=[BLUE, VERMILLION])
SPLIT_SHAPES = alt.Scale(domain=["positive", "negative"], range=["circle", "triangle-up"])
SPLIT_DASHES = alt.Scale(domain=["positive", "negative"], range=[[1, 0], [5, 2]])
LEGEND = alt.Legend(orient="top", symbolOpacity=1, labelLimit=240)
GREY_LEGEND = alt.Legend(
    orient="top", symbolOpacity=1, symbolFillColor=GREY, symbolStrokeColor=GREY
)
FREE_SCALE = alt.Scale(zero=False, nice=True)
WIDTH, HEIGHT = 460, 280
MOST_PANELS = 24
CAPTION_CHARACTERS, PANEL_CHARACTERS = 84, 34
SPARSITY_AXIS, SPARSITY_NOTE = "Hoyer sparsity S", "S = 1: one unit is active"


class Reference(NamedTuple):
    """A dashed line across a chart: a short word beside it, and what the caption says of it."""

    value: float
    word: str
    meaning: str


def reference_line(reference: Reference, scale: alt.Scale, *, with_word: bool) -> AnyChart:
    """The line; its word stands right of the plot, where no data can hide it, unless another panel
    does.
    """
    data = alt.InlineData(values=[{"value": reference.value, "label": reference.word}])
    y = alt.Y("value:Q", scale=scale)
    rule: AnyChart = (
        alt.Chart(data).mark_rule(strokeDash=[6, 4], color=GREY, strokeWidth=1.5).encode(y=y)
    )
    if not with_word:
        return rule
    word = alt.Chart(data).mark_text(align="left", baseline="middle", dx=4, fontSize=11)
    both: AnyChart = alt.layer(rule, word.encode(y=y, x=alt.value("width"), text="label:N"))
    return both


def labels_of(records: Iterable[Record]) -> list[str]:
    """What tells the panels apart, in the order in which they were met."""
    return list(dict.fromkeys(str(record["series"]) for record in records))


def in_panels(
    layers: AnyChart, records: Sequence[Record], *, height: int = HEIGHT, own_scales: bool = False
) -> AnyChart:
    """One chart, or small multiples: a panel for each series, the first MOST_PANELS of them;
    `own_scales`: each with its own y axis.
    """
    labels = labels_of(records)
    if len(labels) == 1:
        return layers.properties(
            width=WIDTH, height=height, data=alt.InlineData(values=list(records))
        )
    shown = set(labels[:MOST_PANELS])
    drawn = [
        {**record, "panel": _lines(record)} for record in records if str(record["series"]) in shown
    ]
    few = len(labels) <= 4
    header = alt.Header(
        labelFontSize=12 if few else 11,
        labelExpr="split(datum.value, '|')",
        labelLimit=260,
        labelPadding=4,
    )
    facet = alt.Facet(
        "panel:N",
        title=None,
        sort=list(dict.fromkeys(str(record["panel"]) for record in drawn)),
        header=header,
    )
    panels: AnyChart = layers.properties(
        width=260 if few else 190, height=190 if few else 140
    ).facet(facet=facet, data=alt.InlineData(values=drawn), columns=2 if few else 3)
    return panels.resolve_scale(y="independent") if own_scales else panels


def _lines(record: Record) -> str:
    """What stands over a panel, its lines apart by `|`."""
    label = textwrap.wrap(
        str(record["series"]).replace("|", "/"), PANEL_CHARACTERS, max_lines=3, placeholder=" …"
    )
    return "|".join([*label, str(record["note"])] if record.get("note") else label or [""])


def titled(chart: AnyChart, title: str, caption: Sequence[str]) -> AnyChart:
    """The chart with its title, and under it what was measured and how; colours of text are left to
    the page.
    """
    text = [line for part in caption if part for line in textwrap.wrap(part, CAPTION_CHARACTERS)]
    named: AnyChart = (
        chart.properties(
            title=alt.TitleParams(
                title,
                subtitle=text,
                anchor="start",
                fontSize=15,
                subtitleFontSize=11,
                subtitlePadding=5,
                offset=10,
            )
        )
        .configure(
            font="Helvetica, Arial, sans-serif", padding=12
        )  # first: it replaces what the others set
        .configure_view(stroke=None)
        .configure_axis(
            gridColor=GREY,
            gridOpacity=0.25,
            labelFontSize=11,
            titleFontSize=12,
            titleFontWeight="normal",
        )
        .configure_legend(
            labelFontSize=11, titleFontSize=11, titleFontWeight="normal", symbolSize=60
        )
    )
    return named


def panels_note(panels: int) -> str:
    """What is left out where there are too many panels."""
    return f"the first {MOST_PANELS} of {panels:,} are drawn" if panels > MOST_PANELS else ""


def counted(number: int, word: str) -> str:
    """A number with its noun."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def ranged(numbers: Iterable[int], word: str) -> str:
    """The numbers that occur, with their noun: `1,990 to 2,000 live samples`."""
    low, high = min(found := list(numbers)), max(found)
    return counted(high, word) if low == high else f"{low:,} to {counted(high, word)}"


def share_scale(
    lows: Iterable[float], reference: float | None, *, upper_half: bool = False
) -> tuple[alt.Scale, str]:
    """From 0 to 1; where every share is close to 1 the axis begins later, and the caption says
    so.
    """
    lowest = min([*lows, *([] if reference is None else [reference])])
    if upper_half and lowest >= 0.5:
        return alt.Scale(domain=[0.5, 1], nice=False), "the axis begins at 0.5"
    if lowest < 0.9:
        return alt.Scale(domain=[0, 1]), ""
    digits = min(4, max(2, math.ceil(-math.log10(max(1 - lowest, 1e-6)))))
    bottom = math.floor(lowest * 10**digits - 0.5) / 10**digits
    return alt.Scale(domain=[bottom, 1], nice=False), f"the axis begins at {bottom:g}"
