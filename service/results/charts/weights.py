"""The chart of what the weights of a layer come down to: units, directions and basins."""

from collections.abc import Sequence

import altair as alt

from service.results.charts.drawables import NothingToDraw
from service.results.charts.epochs import (
    EPOCHS,
    MARKED_POINTS,
    Figure,
    Style,
    caption_of,
    epoch_tooltips,
    has,
    ranges,
    records_of,
)
from service.results.charts.style import (
    GREEN,
    LEGEND,
    ORANGE,
    PURPLE,
    AnyChart,
    Record,
    in_panels,
    interval_tooltips,
    labels_of,
    titled,
)
from service.results.sources import ChartSource

SIZES: dict[str, tuple[Figure, str]] = {
    "effective units": ("effective_units", PURPLE),
    "effective rank": ("effective_rank", GREEN),
    "basins": ("basins", ORANGE),
}
SHAPES, DASHES = ["circle", "square", "triangle-up"], [[1, 0], [6, 2], [2, 2]]
STYLE = Style("What the weights come down to (log scale)", "effective number")
MEANINGS = (
    "Effective units tell how many units carry the length of the weights, the effective rank how "
    "many directions do, and basins in how many directions the units have gathered, however long "
    "they are.",
)


def has_sizes(sources: Sequence[ChartSource]) -> bool:
    """Whether rows have the effective units or the effective rank of the weights."""
    return has("effective_units", sources) or has("effective_rank", sources)


def effective_sizes(sources: Sequence[ChartSource]) -> AnyChart:
    """How many units, directions and basins the weights come down to, by epoch."""
    records = [record for word in SIZES for record in _records(sources, word)]
    if not records:
        raise NothingToDraw("no epoch has the effective size of its weights")
    return titled(
        in_panels(_layers(records), records),
        STYLE.title,
        [*caption_of(sources, records, STYLE, shares=False, samples=False), *MEANINGS],
    )


def _records(sources: Sequence[ChartSource], word: str) -> list[Record]:
    """The records of one size, once: both splits have the same weights."""
    figure, _ = SIZES[word]
    if not has(figure, sources):
        return []
    found = records_of(sources, figure)
    splits: dict[str, str] = {}
    for record in found:
        splits.setdefault(str(record["series"]), str(record["split"]))
    return [
        {**record, "what": word}
        for record in found
        if record["split"] == splits[str(record["series"])]
    ]


def _layers(records: Sequence[Record]) -> AnyChart:
    """A line with its band for each size."""
    words = [word for word in SIZES if any(record["what"] == word for record in records)]
    places = [list(SIZES).index(word) for word in words]
    colour = alt.Color(
        "what:N",
        scale=alt.Scale(domain=words, range=[SIZES[word][1] for word in words]),
        title=None,
        legend=LEGEND,
    )
    dash = alt.StrokeDash(
        "what:N",
        scale=alt.Scale(domain=words, range=[DASHES[place] for place in places]),
        title=None,
        legend=LEGEND,
    )
    shape = alt.Shape(
        "what:N",
        scale=alt.Scale(domain=words, range=[SHAPES[place] for place in places]),
        title=None,
        legend=LEGEND,
    )
    scale = alt.Scale(type="log", nice=False)
    tooltip = [
        *(["series:N"] if len(labels_of(records)) > 1 else []),
        alt.Tooltip("what:N", title=" "),
        *epoch_tooltips(records),
        *interval_tooltips(records, digits=2),
        "seeds:Q",
    ]
    base = alt.Chart().encode(x=EPOCHS, color=colour)
    y = alt.Y("mean:Q", title=STYLE.axis, scale=scale)
    lowest = (
        "isValid(datum.low) ? max(datum.low, 1) : null"  # an effective number is 1 at the least
    )
    lowered = base.transform_calculate(low=lowest)
    bands = ranges(lowered, STYLE.axis, scale, records)
    line = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash, tooltip=tooltip)
    marked = len({record["epoch"] for record in records}) <= MARKED_POINTS
    points = base.mark_point(filled=True, opacity=1, size=36).encode(
        y=y, shape=shape, tooltip=tooltip
    )
    return alt.layer(*bands, line, *([points] if marked else []))
