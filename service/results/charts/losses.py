"""The loss while training: of a pair of samples, and the terms of its two splits."""

from collections.abc import Sequence

import altair as alt

from service.results.charts.drawables import NothingToDraw
from service.results.charts.epochs import (
    EPOCHS,
    LOSS,
    MARKED_POINTS,
    Lines,
    caption_of,
    epoch_tooltips,
    has,
    points_of,
    ranges,
    records_of_lines,
)
from service.results.charts.style import (
    BLUE,
    FREE_SCALE,
    LEGEND,
    PURPLE,
    VERMILLION,
    AnyChart,
    Record,
    in_panels,
    interval_tooltips,
    labels_of,
    titled,
)
from service.results.sources import ChartSource

PAIR = "pair"
WORDS = {
    PAIR: "loss of a pair",
    "positive": "term of its positive sample",
    "negative": "term of its negative sample",
}
MEANING = (
    "The loss of a pair is the sum of the terms of its positive and of its negative sample; the "
    "line is its mean over the monitored pairs."
)


def has_loss(sources: Sequence[ChartSource]) -> bool:
    """Whether rows have the loss."""
    return has("loss", sources)


def loss(sources: Sequence[ChartSource]) -> AnyChart:
    """Mean loss of a pair of samples, and the terms of its two splits, of each layer by epoch."""
    labels, found = points_of(sources, "loss")
    with_pairs = {label: _with_pairs(found[label]) for label in labels}
    records: list[Record] = [
        {**record, "what": WORDS[str(record["split"])]}
        for record in records_of_lines(labels, with_pairs, "loss")
    ]
    if not records:
        raise NothingToDraw("no epoch has a loss")
    caption = [*caption_of(sources, records, LOSS, shares=False), MEANING]
    return titled(in_panels(_layers(records), records), LOSS.title, caption)


def _with_pairs(lines: Lines) -> Lines:
    """The terms of both splits, and before them their sum, seed by seed."""
    pairs = {
        epoch: both
        for epoch, point in lines.get("positive", {}).items()
        if (other := lines.get("negative", {}).get(epoch)) and (both := point.plus(other)).values
    }
    return {**({PAIR: pairs} if pairs else {}), **lines}


def _layers(records: Sequence[Record]) -> AnyChart:
    """A thick line with its band for the pair, and a thin one for each term."""
    used = {record["what"] for record in records}
    words = [word for word in WORDS.values() if word in used]
    looks = {
        WORDS[PAIR]: (PURPLE, [1, 0], "square"),
        WORDS["positive"]: (BLUE, [1, 0], "circle"),
        WORDS["negative"]: (VERMILLION, [5, 2], "triangle-up"),
    }
    colours, dashes, shapes = zip(*(looks[word] for word in words), strict=True)
    colour = alt.Color(
        "what:N", scale=alt.Scale(domain=words, range=list(colours)), title=None, legend=LEGEND
    )
    dash = alt.StrokeDash(
        "what:N", scale=alt.Scale(domain=words, range=list(dashes)), title=None, legend=LEGEND
    )
    shape = alt.Shape(
        "what:N", scale=alt.Scale(domain=words, range=list(shapes)), title=None, legend=LEGEND
    )
    tooltip = [
        *([alt.Tooltip("series:N")] if len(labels_of(records)) > 1 else []),
        alt.Tooltip("what:N", title=" "),
        *epoch_tooltips(records),
        *interval_tooltips(records),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("samples:Q"),
    ]
    base, y = (
        alt.Chart().encode(x=EPOCHS, color=colour),
        alt.Y("mean:Q", title=LOSS.axis, scale=FREE_SCALE),
    )
    bands = ranges(base, LOSS.axis, FREE_SCALE, records)
    line = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash, tooltip=tooltip)
    marked = len({record["epoch"] for record in records}) <= MARKED_POINTS
    points = base.mark_point(filled=True, opacity=1, size=30).encode(
        y=y, shape=shape, tooltip=tooltip
    )
    return alt.layer(*bands, line, *([points] if marked else []))
