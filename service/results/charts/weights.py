"""Charts of the weights of a layer: how long they are, and what they come down to."""

from collections.abc import Sequence
from typing import NamedTuple

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
    BLUE,
    FREE_SCALE,
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

Words = dict[str, tuple[Figure, str]]  # the figure and the colour of each line
SIZES: Words = {
    "effective units": ("effective_units", PURPLE),
    "effective rank": ("effective_rank", GREEN),
    "basins": ("basins", ORANGE),
    "entropy rank": ("entropy_rank", BLUE),
}
SPARSE: Words = {
    "Hoyer sparsity": ("weight_sparsity", PURPLE),
    "Gini index": ("weight_gini", GREEN),
    "positive share": ("excitatory_share", ORANGE),
}
NORMS: Words = {
    "Frobenius norm": ("log_weight_norm", PURPLE),
    "spectral norm": ("log_spectral_norm", GREEN),
}
SHAPES = ["circle", "square", "triangle-up", "diamond"]
DASHES = [[1, 0], [6, 2], [2, 2], [10, 3, 2, 3]]
STYLE = Style("What the weights come down to (log scale)", "effective number")
MEANINGS = (
    "Effective units tell how many units carry the length of the weights, the effective rank how "
    "many directions do, and basins in how many directions the units have gathered, however long "
    "they are.",
)
GROWTH = Style("Growth of the weights", "ln of the norm of W")
GROWING = (
    "A sum of squares that grows by the scale of the weights alone has an ln of |G| that grows "
    "twice as fast as these lines.",
)
SPARSENESS = Style("Sparsity and signs of the weights", "sparsity, or share")
SIGNS = (
    "Sparsity is 1 where a single weight is left; the positive share is that of the weights that "
    "are not 0.",
)
# an effective number is 1 at the least
FROM_ONE = "isValid(datum.low) ? max(datum.low, 1) : null"


class Look(NamedTuple):
    """The lines of a chart, their scale, and what replaces the lower end of intervals, if any."""

    words: Words
    style: Style
    scale: alt.Scale
    low: str | None = None


SIZES_LOOK = Look(SIZES, STYLE, alt.Scale(type="log", nice=False), FROM_ONE)
NORMS_LOOK = Look(NORMS, GROWTH, FREE_SCALE)
SPARSE_LOOK = Look(SPARSE, SPARSENESS, alt.Scale(domain=[0, 1]))


def has_sizes(sources: Sequence[ChartSource]) -> bool:
    """Whether rows have the effective units or the effective rank of the weights."""
    return has("effective_units", sources) or has("effective_rank", sources)


def effective_sizes(sources: Sequence[ChartSource]) -> AnyChart:
    """How many units, directions and basins the weights come down to, by epoch."""
    return _drawn(sources, SIZES_LOOK, MEANINGS)


def weight_norm(sources: Sequence[ChartSource]) -> AnyChart:
    """Natural logarithm of the norms of the weights of each layer, by epoch."""
    return _drawn(sources, NORMS_LOOK, GROWING)


def weight_sparsity(sources: Sequence[ChartSource]) -> AnyChart:
    """Sparsity of the weights of each layer and the share of positive ones, by epoch."""
    return _drawn(sources, SPARSE_LOOK, SIGNS)


def _drawn(sources: Sequence[ChartSource], look: Look, notes: Sequence[str]) -> AnyChart:
    """A panel for each series, with a line for each figure that rows have."""
    records = [record for word in look.words for record in _records(sources, look.words, word)]
    if not records:
        raise NothingToDraw(f"no epoch has a figure of: {', '.join(look.words)}")
    caption = caption_of(sources, records, look.style, shares=False, samples=False)
    return titled(in_panels(_layers(records, look), records), look.style.title, [*caption, *notes])


def _records(sources: Sequence[ChartSource], known: Words, word: str) -> list[Record]:
    """The records of one figure, once: both splits have the same weights."""
    figure, _ = known[word]
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


def _layers(records: Sequence[Record], look: Look) -> AnyChart:
    """A line with its band for each figure."""
    words = [word for word in look.words if any(record["what"] == word for record in records)]
    places = [list(look.words).index(word) for word in words]
    colour = alt.Color(
        "what:N",
        scale=alt.Scale(domain=words, range=[look.words[word][1] for word in words]),
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
    tooltip = [
        *([alt.Tooltip("series:N")] if len(labels_of(records)) > 1 else []),
        alt.Tooltip("what:N", title=" "),
        *epoch_tooltips(records),
        *interval_tooltips(records, digits=2),
        alt.Tooltip("seeds:Q"),
    ]
    base = alt.Chart().encode(x=EPOCHS, color=colour)
    axis, scale = look.style.axis, look.scale
    y = alt.Y("mean:Q", title=axis, scale=scale)
    lowered = base.transform_calculate(low=look.low) if look.low else base
    bands = ranges(lowered, axis, scale, records)
    line = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash, tooltip=tooltip)
    marked = len({record["epoch"] for record in records}) <= MARKED_POINTS
    points = base.mark_point(filled=True, opacity=1, size=36).encode(
        y=y, shape=shape, tooltip=tooltip
    )
    return alt.layer(*bands, line, *([points] if marked else []))
