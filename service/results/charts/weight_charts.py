"""Pictures of trained weights: units as images, and histograms of weights and of units' lengths."""

from collections.abc import Iterator, Sequence

import altair as alt

from service.results.charts.drawables import NothingToDraw, data_names
from service.results.charts.style import (
    BLUE,
    GREEN,
    AnyChart,
    Record,
    counted,
    drawn_note,
    in_panels,
    labels_of,
    panels_note,
    titled,
)
from service.results.charts.tiles import tiled
from service.results.sources import ChartSource, Source
from service.results.weight_figures import SHOWN, Histogram, LayerFigures, WeightFigures


def has_weights(sources: Sequence[ChartSource]) -> bool:
    """Whether the weights of a training run are kept."""
    return any(isinstance(source, Source) and source.weights for source in sources)


def has_images(sources: Sequence[ChartSource]) -> bool:
    """Whether the weights of a training run are kept, and those of its first layer are images."""
    return any(
        isinstance(source, Source) and source.weights and source.weights.has_images
        for source in sources
    )


def receptive_fields(sources: Sequence[ChartSource]) -> AnyChart:
    """Weights of units of the first layer as images: of the longest and of the shortest."""
    label, found = next(((label, one) for label, one in _found(sources) if one.tiles), (None, None))
    if found is None:
        raise NothingToDraw("no weights are kept whose inputs are an image")
    chosen = (
        f"Units are chosen by the length of their weights: of {found.units:,} the {SHOWN} longest "
        f"and the {SHOWN} shortest"
        if len(found.tiles) == 2 * SHOWN and found.units > 2 * SHOWN
        else f"All {found.units:,} units, the longest weights first,"
    )
    caption = [
        drawn_note(data_names(sources), label or "", f"after epoch {found.epoch:,}"),
        f"{chosen} are shown, of seed {found.seed}; below each stands the length of its weights.",
        "White is 0, blue below and orange above it; of coloured images grey is 0. Each image has "
        "its own scale.",
    ]
    return titled(tiled(found.tiles), "Weights of units in the first layer", caption)


def weight_histogram(sources: Sequence[ChartSource]) -> AnyChart:
    """How the weights of each layer are distributed."""
    axis, records = "weight", list(_records(sources, "weights"))
    return _drawn(sources, records, axis, "Weights of each layer", BLUE, "share of weights")


def unit_lengths(sources: Sequence[ChartSource]) -> AnyChart:
    """How the lengths of the units' weights are distributed in each layer."""
    axis, records = "length of a unit's weights", list(_records(sources, "lengths"))
    return _drawn(sources, records, axis, "Lengths of units", GREEN, "share of units")


def _found(sources: Sequence[ChartSource]) -> Iterator[tuple[str, WeightFigures]]:
    for source in sources:
        if isinstance(source, Source) and source.weights and source.weights.found:
            yield source.label, source.weights.found


def _records(sources: Sequence[ChartSource], what: str) -> Iterator[Record]:
    for label, found in _found(sources):
        for layer in found.layers:
            histogram: Histogram = getattr(layer, what)
            named = f"layer {layer.layer}" if len(found.layers) > 1 else ""
            total = sum(histogram.counts) or 1
            for place, edge in enumerate(histogram.edges):
                last = place == len(histogram.counts)
                count = 0 if last else histogram.counts[place]
                yield {
                    "series": " ".join(filter(None, (label, named))),
                    "at": round(edge, 9),
                    "to": round(histogram.edges[min(place + 1, len(histogram.counts))], 9),
                    "share": count / total,
                    "count": count,
                }


def _drawn(
    sources: Sequence[ChartSource],
    records: Sequence[Record],
    axis: str,
    title: str,
    colour: str,
    share: str,
) -> AnyChart:
    """A stepped outline with a filled area for each layer, each with scales of its own."""
    if not records:
        raise NothingToDraw("no weights are kept")
    base = alt.Chart().encode(
        x=alt.X("at:Q", title=axis, axis=alt.Axis(grid=False, labelOverlap=True)),
        y=alt.Y("share:Q", title=share, axis=alt.Axis(format=".1~%"), stack=False),
        tooltip=[
            alt.Tooltip("at:Q", title="from", format=".4~g"),
            alt.Tooltip("to:Q", format=".4~g"),
            alt.Tooltip("count:Q"),
        ],
    )
    area = base.mark_area(interpolate="step-after", opacity=0.25, color=colour)
    line = base.mark_line(interpolate="step-after", strokeWidth=1.5, color=colour)
    chart = in_panels(alt.layer(area, line), records, own_scales=True)
    if len(labels_of(records)) > 1:
        chart = chart.resolve_scale(x="independent", y="independent")
    return titled(chart, title, list(_caption(sources, records)))


def _caption(sources: Sequence[ChartSource], records: Sequence[Record]) -> Iterator[str]:
    figures = [found for _, found in _found(sources)]
    layers = [layer for found in figures for layer in found.layers]
    epochs = sorted({found.epoch for found in figures})
    after = f"after epoch {epochs[0]:,}" if len(epochs) == 1 else "after the last epoch kept"
    seeds = max(layer.seeds for layer in layers)
    yield drawn_note(data_names(sources), f"{counted(seeds, 'seed')} together, {after}")
    yield from _limits(layers)
    yield panels_note(len(labels_of(records)))


def _limits(layers: Sequence[LayerFigures]) -> Iterator[str]:
    """What a caption says where a layer has more weights than are counted."""
    for layer in layers:
        if layer.counted < layer.there:
            yield (
                f"Of the {layer.there:,} weights of layer {layer.layer} the first "
                f"{layer.counted:,} are counted."
            )
            return
