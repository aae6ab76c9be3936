"""How every chart looks: colours, panels, reference lines, captions.

Charts set the colours of their marks; the page sets those of text.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import altair as alt

from ffengine.theorems import THEOREMS, TheoremNumber
from service.results.charts.quick_altair import be_quick

be_quick()

Record = dict[str, str | int | float | None]
AnyChart = alt.LayerChart | alt.FacetChart | alt.Chart

# Okabe and Ito's palette, which people with colour blindness can distinguish
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
)
GREY = "#808080"  # visible on white and on black
# of series beyond two: neighbours differ in colour and in dash or shape, and no two in both
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GREY)
DASHES = ([1, 0], [7, 3], [2, 2], [10, 3, 2, 3], [4, 2], [12, 4], [7, 2, 2, 2, 2, 2])
SHAPES = ("circle", "triangle-up", "square", "diamond", "cross", "triangle-down", "triangle-left")
SPLIT_COLOURS = alt.Scale(domain=["positive", "negative"], range=[BLUE, VERMILLION])
SPLIT_SHAPES = alt.Scale(domain=["positive", "negative"], range=["circle", "triangle-up"])
SPLIT_DASHES = alt.Scale(domain=["positive", "negative"], range=[[1, 0], [5, 2]])
LEGEND = alt.Legend(orient="top", symbolOpacity=1)
GREY_LEGEND = alt.Legend(
    orient="top", symbolOpacity=1, symbolFillColor=GREY, symbolStrokeColor=GREY
)
FREE_SCALE = alt.Scale(zero=False, nice=True)
WIDTH, HEIGHT = 460, 280
FONT = "Helvetica, Arial, sans-serif"
MOST_PANELS = 24
LARGE = 1e5  # figures from here on are told by four digits and an exponent
CAPTION_CHARACTERS, PANEL_CHARACTERS = 84, 34
SATISFIED_AXIS = "share of live samples that satisfy it"
SPARSITY_AXIS, SPARSITY_NOTE = "Hoyer sparsity S", "S is 1 where a single unit is active."
STUDENT = "by Student's t over seeds"
INTERVALS = {
    "band": "Bands are",
    "bars": "Bars are",
    "lines": "Grey lines are",
    "tooltip": "Tooltips show",
}


class SeriesLooks(NamedTuple):
    """The colour, the dash and the shape of each of several series."""

    colours: list[str]
    dashes: list[list[int]]
    shapes: list[str]


def series_looks(count: int) -> SeriesLooks:
    """Looks for so many series; the first forty-nine are all different."""
    places = range(count)
    turned = [(at + at // len(COLOURS)) % len(COLOURS) for at in places]
    return SeriesLooks(
        [COLOURS[at % len(COLOURS)] for at in places],
        [DASHES[at] for at in turned],
        [SHAPES[at] for at in turned],
    )


class Reference(NamedTuple):
    """A dashed line across a chart: its height, a short word next to it, and its meaning."""

    value: float
    word: str
    meaning: str

    @property
    def note(self) -> str:
        """What a caption says about the line."""
        return f"The dashed line, “{self.word}”, is {self.meaning}."


PAPER: dict[TheoremNumber, Reference] = {
    number: Reference(
        theorem.published, "paper", f"attributed to the paper: more than {theorem.published:g}"
    )
    for number, theorem in THEOREMS.items()
}
CHANCE = Reference(0.5, "chance", "0.5, how often random signs agree")


def data_of(rows: Iterable[Mapping[str, object]]) -> alt.InlineData:
    """Rows as the data of a chart: a tuple, since altair copies lists at each step of a chart."""
    return alt.InlineData(values=tuple(rows))


def x_at(place: float | str) -> alt.XValue:
    """A place along x in pixels, or `width`: the right edge."""
    return alt.XValue(place)  # type: ignore[no-untyped-call]


def y_at(place: float) -> alt.YValue:
    """A place along y in pixels from the top."""
    return alt.YValue(place)  # type: ignore[no-untyped-call]


def y2_at(place: float) -> alt.Y2Value:
    """The other end of a mark along y, in pixels from the top."""
    return alt.Y2Value(place)  # type: ignore[no-untyped-call]


def split_colour() -> alt.Color:
    """A colour for each split."""
    return alt.Color("split:N", scale=SPLIT_COLOURS, title=None, legend=LEGEND)


def split_shape() -> alt.Shape:
    """A shape for each split, for people who cannot distinguish the colours."""
    return alt.Shape("split:N", scale=SPLIT_SHAPES, title=None, legend=LEGEND)


def interval_tooltips(
    records: Iterable[Record], mean: str = "mean", digits: int = 4
) -> list[alt.Tooltip]:
    """Mean and bounds of an interval in a tooltip, without bounds where no record has any.

    **Arguments:**

    - `mean`: the field of the mean.
    """
    found = list(records)
    bounds = ("low", "high") if any(record["low"] is not None for record in found) else ()
    largest = max((abs(float(record[mean] or 0)) for record in found), default=0.0)
    style = f".{digits}f" if largest < LARGE else ".4~g"
    return [alt.Tooltip(f"{field}:Q", format=style) for field in (mean, *bounds)]


def reference_line(reference: Reference, scale: alt.Scale) -> AnyChart:
    """The dashed line, with its word right of the plot, where no data hide it."""
    data = data_of([{"value": reference.value, "label": reference.word}])
    y = alt.Y("value:Q", scale=scale)
    rule = alt.Chart(data).mark_rule(strokeDash=[6, 4], color=GREY, strokeWidth=1.5).encode(y=y)
    word = alt.Chart(data).mark_text(align="left", baseline="middle", dx=4, fontSize=11)
    both: AnyChart = alt.layer(rule, word.encode(y=y, x=x_at("width"), text=alt.Text("label:N")))
    return both


def labels_of(records: Iterable[Record]) -> list[str]:
    """The labels of the panels, in the order of the records."""
    return list(dict.fromkeys(str(record["series"]) for record in records))


def in_panels(
    layers: AnyChart,
    records: Sequence[Record],
    *,
    height: int = HEIGHT,
    own_scales: bool = False,
    columns: int | None = None,
) -> AnyChart:
    """One plot, or a panel for each of the first MOST_PANELS series.

    **Arguments:**

    - `own_scales`: whether each panel has its own y axis.
    - `columns`: how many panels are in a row; None: as many as fit. A single one is as wide as a
      plot.
    """
    labels = labels_of(records)
    if len(labels) == 1:
        return layers.properties(width=WIDTH, height=height, data=data_of(records))
    shown = set(labels[:MOST_PANELS])
    drawn = [
        {**record, "panel": _panel_title(record)}
        for record in records
        if str(record["series"]) in shown
    ]
    few = len(labels) <= 4
    columns = columns or (2 if few else 3)
    header = alt.Header(
        labelFontSize=12 if few else 11,
        labelExpr="split(datum.value, '|')",
        labelPadding=4,
    )
    facet = alt.Facet(
        "panel:N",
        title=None,
        sort=list(dict.fromkeys(str(record["panel"]) for record in drawn)),
        header=header,
    )
    panels: AnyChart = layers.properties(
        width=WIDTH if columns == 1 else 260 if few else 190,
        height=190 if few and columns > 1 else 140,
    ).facet(facet=facet, data=data_of(drawn), columns=columns)
    return panels.resolve_scale(y="independent") if own_scales else panels


def _panel_title(record: Record) -> str:
    """The title over a panel; `|` separates its lines."""
    label = textwrap.wrap(
        str(record["series"]).replace("|", "/"), PANEL_CHARACTERS, max_lines=3, placeholder=" …"
    )
    return "|".join([*label, str(record["note"])] if record.get("note") else label or [""])


def titled(chart: AnyChart, title: str, caption: Sequence[str]) -> AnyChart:
    """The chart with its title and a caption; the page sets the colours of text."""
    text = [line for part in caption if part for line in textwrap.wrap(part, CAPTION_CHARACTERS)]
    named: AnyChart = (
        chart.properties(
            usermeta={"caption": [part for part in caption if part]},  # for pages: not wrapped
            title=alt.TitleParams(
                title,
                subtitle=text,
                anchor="start",
                fontSize=15,
                subtitleFontSize=11,
                subtitlePadding=5,
                offset=10,
            ),
        )
        .configure(font=FONT, padding=12)  # first: it replaces what the others set
        .configure_view(stroke=None)
        .configure_axis(
            gridColor=GREY,
            gridOpacity=0.25,
            labelFontSize=11,
            titleFontSize=12,
            titleFontWeight="normal",
        )
        .configure_legend(
            labelFontSize=11,
            labelLimit=0,  # a name is never cut
            titleFontSize=11,
            titleFontWeight="normal",
            titleLimit=0,
            symbolSize=60,
        )
    )
    return named


def interval_note(mark: str, seeds: int, *, shares: bool) -> str:
    """What a caption says about the intervals.

    **Arguments:**

    - `mark`: where they are seen: `band`, `bars`, `lines` or `tooltip`.
    - `seeds`: the largest number of seeds of a point.
    - `shares`: whether the figure is a share of samples.
    """
    if seeds < 2:
        return "One seed has no interval."
    of_shares = "the wider of Student's t over seeds and Wilson's over samples"
    return f"{INTERVALS[mark]} 95 % intervals, {of_shares if shares else STUDENT}."


def drawn_note(data: str, *parts: str) -> str:
    """The first line of a caption: the data, where known, and what each point is."""
    text = "; ".join(filter(None, (f"Data: {data}" if data else "", *parts)))
    return f"{text[:1].upper()}{text[1:]}."


def panels_note(panels: int) -> str:
    """What a caption says where there are more panels than are drawn."""
    return f"Only the first {MOST_PANELS} of {panels:,} are drawn." if panels > MOST_PANELS else ""


def counted(number: int, word: str) -> str:
    """A number with its noun: `1 seed`, `3 seeds`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def ranged(numbers: Iterable[int], word: str) -> str:
    """The smallest and the largest number with their noun: `1,990 to 2,000 live samples`."""
    low, high = min(found := list(numbers)), max(found)
    return counted(high, word) if low == high else f"{low:,} to {counted(high, word)}"


def share_scale(
    lows: Iterable[float], reference: float | None, *, upper_half: bool = False
) -> tuple[alt.Scale, str]:
    """An axis for shares, from 0 to 1, and a note where it begins later since all are close to 1.

    **Arguments:**

    - `lows`: the lower bounds of the shares.
    - `reference`: a value that the axis has to include.
    - `upper_half`: whether the axis may begin at 0.5.
    """
    lowest = min([*lows, *([] if reference is None else [reference])])
    if upper_half and lowest >= 0.5:
        return alt.Scale(domain=[0.5, 1], nice=False), "The axis begins at 0.5."
    if lowest < 0.9:
        return alt.Scale(domain=[0, 1]), ""
    digits = min(4, max(2, math.ceil(-math.log10(max(1 - lowest, 1e-6)))))
    bottom = math.floor(lowest * 10**digits - 0.5) / 10**digits
    return alt.Scale(domain=[bottom, 1], nice=False), f"The axis begins at {bottom:g}."
