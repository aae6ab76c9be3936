"""A study as a picture: two varied fields as a heat map, one as points with intervals, further ones
as small multiples.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import altair as alt

from ffengine.results import Interval
from ffengine.spec import CheckSpec, TrainSpec
from ffengine.theorems import THEOREMS, TheoremNumber
from service.results.charts.drawables import NothingToDraw, data_names
from service.results.charts.intervals import band
from service.results.charts.style import (
    GREY,
    LEGEND,
    SPARSITY_AXIS,
    SPARSITY_NOTE,
    SPLIT_COLOURS,
    SPLIT_SHAPES,
    AnyChart,
    Record,
    Reference,
    counted,
    in_panels,
    labels_of,
    panels_note,
    ranged,
    reference_line,
    share_scale,
    titled,
)
from service.results.run_labels import value_in_words
from service.results.sources import ChartSource, GridCell, StudyGrid

ENDED_WITHOUT = ("failed", "cancelled")
MEANINGS = {"×": "failed or cancelled", "…": "not finished", "–": "without the figure"}
MOST_NUMBERED = (12, 20)  # columns and rows of a heat map that is not too fine for numbers in it
ROW_HEIGHT, LEAST_HEIGHT, MOST_HEIGHT = 34, 70, 420
Dims = dict[str, str]
Key = tuple[
    tuple[str, str], ...
]  # layer, width and split of a value, as far as they tell it from others


class Figure(NamedTuple):
    """A figure of every run: its title and axis, whether a run has it, and whether a key of its
    summary is the figure.
    """

    title: str
    axis: str
    is_of: Callable[[GridCell], bool]
    matches: Callable[[str, Dims], bool]
    scheme: Literal["viridis", "blueorange"] = "viridis"
    reference: Reference | None = None


def grid_theorem1(sources: Sequence[ChartSource]) -> AnyChart:
    """Theorem 1's ratio of every run of a study (of training: after the last epoch), over what the
    study varies.
    """
    return _draw(sources, FIGURES["grid_theorem1"])


def grid_theorem2(sources: Sequence[ChartSource]) -> AnyChart:
    """Theorem 2's ratio of every run of a study (of training: after the last epoch), over what the
    study varies.
    """
    return _draw(sources, FIGURES["grid_theorem2"])


def grid_agreement(sources: Sequence[ChartSource]) -> AnyChart:
    """How often predicted and observed sign agree in every run of a study, over what the study
    varies.
    """
    return _draw(sources, FIGURES["grid_agreement"])


def grid_sparsity(sources: Sequence[ChartSource]) -> AnyChart:
    """Mean Hoyer sparsity after the last epoch of every run of a study, over what the study
    varies.
    """
    return _draw(sources, FIGURES["grid_sparsity"])


def grid_accuracy(sources: Sequence[ChartSource]) -> AnyChart:
    """Test accuracy by goodness of every run of a study, over what the study varies."""
    return _draw(sources, FIGURES["grid_accuracy"])


def has_grid(name: str, sources: Sequence[ChartSource]) -> bool:
    """Whether a study varies something and a run of it has the figure."""
    for source in sources:
        if isinstance(source, StudyGrid):
            fields = {key for cell in source.cells for key in cell.found.params}
            varies = any(
                len({value_in_words(cell.found.params.get(field)) for cell in source.cells}) > 1
                for field in fields
            )
            if varies and any(True for cell in source.cells for _ in _values(cell, FIGURES[name])):
                return True
    return False


def _theorem(number: TheoremNumber) -> Figure:
    published = THEOREMS[number].published

    def is_of(cell: GridCell) -> bool:
        return cell.found.kind == "train" or (
            isinstance(cell.spec, CheckSpec) and cell.spec.theorem == number
        )

    def matches(name: str, dims: Dims) -> bool:
        return name == f"theorem{number}_ratio" or (
            name == "ratio" and dims.get("method") == "exact"
        )

    words = f"more than {published:g}" if number == 1 else "more than one half"
    paper = Reference(published, "paper", f"the paper: {words}")
    scheme: Literal["viridis", "blueorange"] = "viridis" if number == 1 else "blueorange"
    return Figure(
        f"Theorem {number} over the study",
        "satisfied / live samples",
        is_of,
        matches,
        scheme,
        paper,
    )


def _trained(cell: GridCell) -> bool:
    return cell.found.kind == "train"


FIGURES: dict[str, Figure] = {
    "grid_theorem1": _theorem(1),
    "grid_theorem2": _theorem(2),
    "grid_agreement": Figure(
        "Sign agreement, over the study",
        "share of decided live samples",
        lambda cell: True,
        lambda name, dims: name == "agreement" and dims.get("method", "exact") == "exact",
    ),
    "grid_sparsity": Figure(
        "Sparsity after training, over the study",
        SPARSITY_AXIS,
        _trained,
        lambda name, dims: name == "sparsity",
    ),
    "grid_accuracy": Figure(
        "Test accuracy over the study",
        "accuracy by goodness",
        _trained,
        lambda name, dims: name == "accuracy" and dims == {"layer": "all", "partition": "test"},
    ),
}


class Place(NamedTuple):
    """One value of one run: what was varied, in words, and the value, or the state of a run
    without.
    """

    cell: GridCell
    dims: Dims
    value: Interval | None


class Axes(NamedTuple):
    """Which fields lie along x and y (None: one field varies); all others make panels."""

    x: str
    y: str | None
    x_order: list[str]
    y_order: list[str]


def _draw(sources: Sequence[ChartSource], figure: Figure) -> AnyChart:
    places = [
        (source.label, place)
        for source in sources
        if isinstance(source, StudyGrid)
        for place in _places(source, figure)
    ]
    if not any(place.value for _, place in places):
        raise NothingToDraw("no run of a study has the figure")
    axes = _axes([place for _, place in places])
    records = [_record(label, place, axes) for label, place in places]
    _name_panels(records, places, axes)
    order = {"positive": 0, "negative": 1}
    records.sort(
        key=lambda record: (
            (str(record["part"]), order.get(str(record["split"]), 2)) if axes.y else ("", 0)
        )
    )
    chart = _heat_map(records, axes, figure) if axes.y else _points(records, axes, figure)
    return titled(chart, figure.title, _caption(sources, records, figure, heat=axes.y is not None))


# From a study's cells to places


def _places(grid: StudyGrid, figure: Figure) -> Iterator[Place]:
    """All values; runs without any have a place wherever the others have one."""
    cells = [cell for cell in grid.cells if figure.is_of(cell)]
    parts = len({cell.found.part for cell in cells}) > 1
    found = [dict(_values(cell, figure)) for cell in cells]
    if all(
        len({dict(key).get("width") for key in values}) <= 1 for values in found
    ):  # the grid says the width already
        found = [{_without_width(key): value for key, value in values.items()} for values in found]
    seen = list(dict.fromkeys(key for values in found for key in values))
    for cell, values in zip(cells, found, strict=True):
        varied = {field: value_in_words(value) for field, value in cell.found.params.items()} | (
            {"part": cell.found.part} if parts else {}
        )
        for key in seen:
            yield Place(cell, {**varied, **dict(key)}, values.get(key))


def _without_width(key: Key) -> Key:
    return tuple((field, value) for field, value in key if field != "width")


def _values(cell: GridCell, figure: Figure) -> Iterator[tuple[Key, Interval]]:
    """The figure's values in a run's summary, of training those after the last epoch, by layer,
    width and split.
    """
    if not figure.is_of(cell):
        return
    keys = [(_parsed(key), value) for key, value in cell.found.summary.items()]
    own = [(dims, value) for (name, dims), value in keys if figure.matches(name, dims)]
    for dims, value in own:
        last = max(
            (
                int(other.get("epoch", 0))
                for other, _ in own
                if other.get("layer") == dims.get("layer")
            ),
            default=0,
        )
        if int(dims.get("epoch", last)) == last:
            yield (
                tuple(
                    (field, dims[field]) for field in ("layer", "width", "split") if field in dims
                ),
                value,
            )


def _parsed(key: str) -> tuple[str, Dims]:
    """`ratio[width=64 split=negative]` -> ("ratio", {"width": "64", "split": "negative"})."""
    name, _, rest = key.removesuffix("]").partition("[")
    return name, dict(part.split("=", 1) for part in rest.split())


def _axes(places: Sequence[Place]) -> Axes:
    """Along x the field with most values, along y the next; splits, layers and parts are told apart
    by panels.
    """
    fields = list(
        dict.fromkeys(
            field
            for place in places
            for field in place.dims
            if field not in ("split", "layer", "part")
        )
    )
    values = {
        field: list(dict.fromkeys(place.dims[field] for place in places if field in place.dims))
        for field in fields
    }
    varied = sorted(
        (field for field in fields if len(values[field]) > 1), key=lambda field: -len(values[field])
    )
    if not varied:
        raise NothingToDraw("the study varies nothing")
    y = varied[1] if len(varied) > 1 else None
    return Axes(varied[0], y, values[varied[0]], values[y] if y else [])


def _record(label: str, place: Place, axes: Axes) -> Record:
    value, state = place.value, place.cell.found.state
    low, high = (None, None) if value is None else band(value)[1:3]
    return {
        "series": label,
        "x": place.dims.get(axes.x, "–"),
        "y": place.dims.get(axes.y, "–") if axes.y else "",
        "split": place.dims.get("split", ""),
        "part": place.dims.get("part", ""),
        "value": value.mean if value else None,
        "low": low,
        "high": high,
        "seeds": value.seeds if value else None,
        "state": state,
        "text": f"{value.mean:.3f}" if value else _mark(state),
    }


def _mark(state: str) -> str:
    """What stands for the value of a run without."""
    return "×" if state in ENDED_WITHOUT else "–" if state == "succeeded" else "…"


def _name_panels(
    records: Sequence[Record], places: Sequence[tuple[str, Place]], axes: Axes
) -> None:
    """Give each record the words of what neither axis shows."""
    apart = {axes.x, axes.y} | (
        set() if axes.y else {"split"}
    )  # points tell the splits apart by colour
    fields = dict.fromkeys(
        field for _, place in places for field in place.dims if field not in apart
    )
    several = [field for field in fields if len({place.dims.get(field) for _, place in places}) > 1]
    for record, (label, place) in zip(records, places, strict=True):
        named = [_panel_words(field, place.dims[field]) for field in several if field in place.dims]
        record["series"] = ", ".join(filter(None, (label, *named)))


def _panel_words(field: str, value: str) -> str:
    if field == "part":
        return value
    return f"{value} samples" if field == "split" else f"{field.rpartition('.')[2]} {value}"


# Drawing


def _heat_map(records: list[Record], axes: Axes, figure: Figure) -> AnyChart:
    values = [float(record["value"]) for record in records if record["value"] is not None]
    middle = figure.scheme == "blueorange"
    low, high = (0.0, 1.0) if middle else (min(values), max(values))
    for record in records:
        record["ink"] = _ink(record, low, high, middle=middle)
    scale = (
        alt.Scale(scheme=figure.scheme, domain=[low, high], domainMid=0.5)
        if middle
        else alt.Scale(scheme=figure.scheme)
    )
    legend = alt.Legend(
        title=figure.axis,
        orient="bottom",
        direction="horizontal",
        gradientLength=180,
        titleLimit=300,
        format=".3~g",
    )
    base = alt.Chart().encode(
        x=alt.X(
            "x:O",
            title=axes.x,
            sort=axes.x_order,
            axis=alt.Axis(labelAngle=0, labelOverlap=True, labelLimit=120),
        ),
        y=alt.Y(
            "y:O", title=axes.y, sort=axes.y_order, axis=alt.Axis(labelOverlap=True, labelLimit=110)
        ),
        tooltip=[
            alt.Tooltip("x:N", title=axes.x),
            alt.Tooltip("y:N", title=str(axes.y)),
            alt.Tooltip("value:Q", format=".4f"),
            alt.Tooltip("low:Q", format=".4f"),
            alt.Tooltip("high:Q", format=".4f"),
            "seeds:Q",
            "state:N",
        ],
    )
    there = (
        base.mark_rect()
        .transform_filter("isValid(datum.value)")
        .encode(color=alt.Color("value:Q", scale=scale, legend=legend))
    )
    missing = base.mark_rect(
        fill=GREY, fillOpacity=0.25, stroke=GREY, strokeDash=[3, 3], strokeWidth=1
    )
    layers = [there, missing.transform_filter("!isValid(datum.value)")]
    if len(axes.x_order) <= MOST_NUMBERED[0] and len(axes.y_order) <= MOST_NUMBERED[1]:
        inks = [
            ("white", base.mark_text(fontSize=11, color="white")),
            ("black", base.mark_text(fontSize=11, color="black")),
        ]
        layers += [
            text.encode(text="text:N").transform_filter(f"datum.ink == '{ink}'")
            for ink, text in inks
        ]
        layers.append(
            base.mark_text(fontSize=11).encode(text="text:N").transform_filter("datum.ink == null")
        )
    height = max(LEAST_HEIGHT, min(MOST_HEIGHT, ROW_HEIGHT * len(axes.y_order)))
    return in_panels(alt.layer(*layers), records, height=height)


def _ink(record: Record, low: float, high: float, *, middle: bool) -> str | None:
    """The colour of a cell's number: what is read on the colour of the cell. None: the page's."""
    if record["value"] is None:
        return None
    place = (float(record["value"]) - low) / ((high - low) or 1.0)
    dark = abs(place - 0.5) > 0.33 if middle else place < 0.5
    return "white" if dark else "black"


def _points(records: Sequence[Record], axes: Axes, figure: Figure) -> AnyChart:
    drawn = [record for record in records if record["value"] is not None]
    scale, _ = _scale(drawn, figure)
    splits = any(record["split"] for record in drawn)
    colour = (
        alt.Color("split:N", scale=SPLIT_COLOURS, title=None, legend=LEGEND)
        if splits
        else alt.value(SPLIT_COLOURS.range[0])
    )
    shape = (
        alt.Shape("split:N", scale=SPLIT_SHAPES, title=None, legend=LEGEND)
        if splits
        else alt.value("circle")
    )
    x = alt.X(
        "x:O",
        title=axes.x,
        sort=axes.x_order,
        axis=alt.Axis(labelAngle=0, labelOverlap=True, labelLimit=120),
    )
    base = alt.Chart().encode(x=x, color=colour)
    if splits:
        base = base.encode(xOffset=alt.XOffset("split:N", sort=["positive", "negative"]))
    y = alt.Y("value:Q", title=figure.axis, scale=scale)
    bars = base.mark_rule(strokeWidth=2).encode(
        y=alt.Y("low:Q", scale=scale, title=figure.axis), y2="high:Q"
    )
    tooltip = [
        alt.Tooltip("x:N", title=axes.x),
        *(["split:N"] if splits else []),
        alt.Tooltip("value:Q", format=".4f"),
        alt.Tooltip("low:Q", format=".4f"),
        alt.Tooltip("high:Q", format=".4f"),
        "seeds:Q",
    ]
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        y=y, shape=shape, tooltip=tooltip
    )
    single = len(labels_of(drawn)) == 1
    rule = [reference_line(figure.reference, scale, with_word=single)] if figure.reference else []
    return in_panels(alt.layer(*rule, bars, points), drawn)


def _scale(records: Sequence[Record], figure: Figure) -> tuple[alt.Scale, str]:
    if figure.reference is None:
        return alt.Scale(zero=False), ""
    return share_scale(
        (max(0.0, float(record["low"] or 0)) for record in records if record["value"] is not None),
        figure.reference.value,
    )


def _caption(
    sources: Sequence[ChartSource], records: Sequence[Record], figure: Figure, *, heat: bool
) -> list[str]:
    grids = [source for source in sources if isinstance(source, StudyGrid)]
    cells = [cell for grid in grids for cell in grid.cells if figure.is_of(cell)]
    without = Counter(
        _mark(cell.found.state) for cell in cells if not any(True for _ in _values(cell, figure))
    )
    seeds = [int(record["seeds"]) for record in records if record["seeds"] is not None]
    samples = [count for cell in cells if (count := _samples(cell, figure)) is not None]
    each = f" of {ranged(samples, 'sample')}" if samples else ""
    interval = ("95 % interval in the tooltip" if heat else "bars: 95 % interval") + (
        ", Student's over seeds"
        if figure.axis == SPARSITY_AXIS
        else ", the wider of Student's (seeds) and Wilson's (samples)"
    )
    missing = "".join(
        f"; {mark} {MEANINGS[mark]}: {count}" for mark, count in sorted(without.items())
    )
    return [
        f"{data_names(grids)}; each {'cell' if heat else 'point'}: mean over "
        f"{ranged(seeds, 'seed')}{each}".removeprefix("; "),
        interval if max(seeds) > 1 else "one seed: no interval",
        ("" if heat else "dashed: ") + figure.reference.meaning if figure.reference else "",
        f"{counted(len(cells), 'run')}{missing}",
        SPARSITY_NOTE if figure.axis == SPARSITY_AXIS else "",
        panels_note(len(labels_of(records))),
    ]


def _samples(cell: GridCell, figure: Figure) -> int | None:
    """How many samples of a seed a run's figure is of."""
    if isinstance(cell.spec, CheckSpec):
        return cell.spec.checked
    if isinstance(cell.spec, TrainSpec) and figure is not FIGURES["grid_accuracy"]:
        return cell.spec.monitored
    return None
