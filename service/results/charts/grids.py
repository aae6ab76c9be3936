"""A study as a chart: two varied fields as a heat map, one as points with intervals; further fields
make panels.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import altair as alt

from ffengine.datasets import DATASETS
from ffengine.results import Interval
from ffengine.spec import CHECKED, CheckSpec, ForecastSpec, TrainSpec
from ffengine.spec_values import value_in_words
from ffengine.summary_keys import ALL_LAYERS, SummaryKey
from ffengine.theorems import DIRECTIONS, Direction, TheoremNumber
from service.results.charts.drawables import NothingToDraw, data_names
from service.results.charts.intervals import lower_ends
from service.results.charts.style import (
    GREY,
    PAPER,
    SATISFIED_AXIS,
    SPARSITY_AXIS,
    SPARSITY_NOTE,
    SPLIT_COLOURS,
    AnyChart,
    Record,
    Reference,
    counted,
    drawn_note,
    in_panels,
    interval_note,
    interval_tooltips,
    labels_of,
    panels_note,
    ranged,
    reference_line,
    share_scale,
    split_colour,
    split_shape,
    titled,
)
from service.results.sources import ChartSource, GridCell, StudyGrid

ENDED_WITHOUT = ("failed", "cancelled")
MEANINGS = {"×": "failed or cancelled", "…": "not finished", "–": "without the figure"}
ON_LIGHT = "#1b1f24"  # of text on a light cell, on a dark page too
MOST_NUMBERED = (12, 20)  # columns and rows of a heat map whose cells have room for numbers
ROW_HEIGHT, LEAST_HEIGHT, MOST_HEIGHT = 34, 70, 420
PANEL_FIELDS = ("split", "layer", "part")  # never on an axis
SPLIT_ORDER = {"positive": 0, "negative": 1}
Dims = dict[str, str]
Place = tuple[tuple[str, str], ...]  # layer, width and split of a value


class Figure(NamedTuple):
    """A figure of every run of a study.

    title, axis: of its chart. is_of: whether a run has the figure. matches: whether a key of a
    run's summary is the figure. scheme: the colours of its heat map. reference: the dashed line.
    """

    title: str
    axis: str
    is_of: Callable[[GridCell], bool]
    matches: Callable[[SummaryKey], bool]
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
    """Mean Hoyer sparsity after the last epoch of every run of a study (of a forecast: at its end),
    over what the study varies.
    """
    return _draw(sources, FIGURES["grid_sparsity"])


def grid_accuracy(sources: Sequence[ChartSource]) -> AnyChart:
    """Test accuracy by goodness of every run of a study, over what the study varies."""
    return _draw(sources, FIGURES["grid_accuracy"])


def has_grid(name: str, sources: Sequence[ChartSource]) -> bool:
    """Whether a study varies something and one of its runs has the figure of the chart.

    A search has charts of its own: hardly two of its runs have a value in common.
    """
    return any(
        not source.is_search
        and _varies(source)
        and any(_values(cell, FIGURES[name]) for cell in source.cells)
        for source in sources
        if isinstance(source, StudyGrid)
    )


def _varies(grid: StudyGrid) -> bool:
    """Whether the runs of a study differ in a field."""
    fields = {field for cell in grid.cells for field in cell.found.params}
    return any(
        len({value_in_words(cell.found.params.get(field)) for cell in grid.cells}) > 1
        for field in fields
    )


def _theorem(number: TheoremNumber) -> Figure:
    def is_of(cell: GridCell) -> bool:
        return _is_training(cell) or (
            isinstance(cell.spec, CheckSpec) and cell.spec.theorem == number
        )

    def matches(key: SummaryKey) -> bool:
        of_training = key.figure == f"theorem{number}_ratio"
        return of_training or (key.figure == "ratio" and key.method == "exact")

    return Figure(
        f"Theorem {number} over the study",
        SATISFIED_AXIS,
        is_of,
        matches,
        "viridis" if number == 1 else "blueorange",
        PAPER[number],
    )


def _is_training(cell: GridCell) -> bool:
    return cell.found.kind == "train"


FIGURES: dict[str, Figure] = {
    "grid_theorem1": _theorem(1),
    "grid_theorem2": _theorem(2),
    "grid_agreement": Figure(
        "Sign agreement over the study",
        "share of decided live samples",
        lambda cell: True,
        lambda key: key.figure == "agreement" and key.method in (None, "exact"),
    ),
    "grid_sparsity": Figure(
        "Sparsity after training, over the study",
        SPARSITY_AXIS,
        lambda cell: cell.found.kind != "check",
        # of forecasts those of a width, not of the limit
        lambda key: key.figure == "sparsity" and (key.layer, key.width) != (None, None),
    ),
    "grid_accuracy": Figure(
        "Test accuracy over the study",
        "accuracy by goodness",
        _is_training,
        lambda key: key == SummaryKey("accuracy", layer=ALL_LAYERS, partition="test"),
    ),
}


_ALONG = (FIGURES["grid_theorem2"], FIGURES["grid_agreement"])  # a direction is part of these


class Point(NamedTuple):
    """One value of one run.

    dims: the varied fields in words, and layer, width and split of the value. value: None where the
    run has none.
    """

    cell: GridCell
    dims: Dims
    value: Interval | None


class Axes(NamedTuple):
    """The fields along x and y, each with its values; y is None where only one field varies."""

    x: str
    y: str | None
    x_order: list[str]
    y_order: list[str]


def _draw(sources: Sequence[ChartSource], figure: Figure) -> AnyChart:
    grids = [source for source in sources if isinstance(source, StudyGrid)]
    points = [(grid.label, point) for grid in grids for point in _points(grid, figure)]
    if not any(point.value for _, point in points):
        raise NothingToDraw("no run of a study has the figure")
    axes = _axes([point for _, point in points])
    records = [
        _record(series, point, axes)
        for series, (_, point) in zip(_panel_names(points, axes), points, strict=True)
    ]
    if axes.y:
        records.sort(
            key=lambda record: (str(record["part"]), SPLIT_ORDER.get(str(record["split"]), 2))
        )
        chart = _heat_map(records, axes, figure)
    else:
        chart = _intervals(records, axes, figure)
    return titled(chart, figure.title, _caption(grids, records, figure, heat=axes.y is not None))


# From the cells of a study to points


def _points(grid: StudyGrid, figure: Figure) -> Iterator[Point]:
    """The values of all runs; a run without any has a point wherever another run has a value."""
    cells = [cell for cell in grid.cells if figure.is_of(cell)]
    has_parts = len({cell.found.part for cell in cells}) > 1
    found = _by_place([_values(cell, figure) for cell in cells])
    places = list(dict.fromkeys(place for values in found for place in values))
    for cell, values in zip(cells, found, strict=True):
        varied = {field: value_in_words(value) for field, value in cell.found.params.items()}
        part = {"part": cell.found.part} if has_parts else {}
        for place in places:
            yield Point(cell, {**varied, **part, **dict(place)}, values.get(place))


def _values(cell: GridCell, figure: Figure) -> dict[SummaryKey, Interval]:
    """The values of a figure in a run's summary; of training, those after the last epoch of each
    layer.
    """
    if not figure.is_of(cell):
        return {}
    parsed = {SummaryKey.parse(text): value for text, value in cell.found.summary.items()}
    own = {key: value for key, value in parsed.items() if figure.matches(key)}
    last: dict[object, int] = {}
    for key in own:
        last[key.layer] = max(last.get(key.layer, 0), key.epoch or 0)
    return {key: value for key, value in own.items() if (key.epoch or 0) == last[key.layer]}


def _by_place(found: Sequence[dict[SummaryKey, Interval]]) -> list[dict[Place, Interval]]:
    """The values of each run by their place, without the width where each run has only one: then
    the grid or the spec says it.
    """
    has_widths = any(len({key.width for key in values}) > 1 for values in found)
    fields = ("layer", "width", "split") if has_widths else ("layer", "split")
    return [{_place(key, fields): value for key, value in values.items()} for values in found]


def _place(key: SummaryKey, fields: Sequence[str]) -> Place:
    values = ((field, getattr(key, field)) for field in fields)
    return tuple((field, str(value)) for field, value in values if value is not None)


def _axes(points: Sequence[Point]) -> Axes:
    """Along x the field with the most values, along y the next; all other fields make panels."""
    values: dict[str, dict[str, None]] = {}  # of each field, in the order of the points
    for point in points:
        for field, value in point.dims.items():
            values.setdefault(field, {})[value] = None
    varied = [
        field for field, found in values.items() if len(found) > 1 and field not in PANEL_FIELDS
    ]
    if not varied:
        raise NothingToDraw("the study varies nothing")
    x, y = [*sorted(varied, key=lambda field: -len(values[field])), None][:2]
    assert x is not None  # noqa: S101 - narrows the type: a field varies
    return Axes(x, y, list(values[x]), list(values[y]) if y else [])


def _record(series: str, point: Point, axes: Axes) -> Record:
    dims, value, state = point.dims, point.value, point.cell.found.state
    return {
        "series": series,
        "x": dims.get(axes.x, "–"),
        "y": dims.get(axes.y, "–") if axes.y else "",
        "split": dims.get("split", ""),
        "part": dims.get("part", ""),
        "value": value.mean if value else None,
        "low": value.low if value else None,
        "high": value.high if value else None,
        "seeds": value.seeds if value else None,
        "state": state,
        "text": f"{value.mean:.3f}" if value else _mark(state),
    }


def _mark(state: str) -> str:
    """The sign in the place of a value that is missing."""
    return "×" if state in ENDED_WITHOUT else "–" if state == "succeeded" else "…"


def _panel_names(points: Sequence[tuple[str, Point]], axes: Axes) -> list[str]:
    """For each point the name of its panel: the study, and the fields that no axis shows."""
    on_axes = {axes.x, axes.y} if axes.y else {axes.x, "split"}  # points: splits differ in colour
    fields = dict.fromkeys(
        field for _, point in points for field in point.dims if field not in on_axes
    )
    varied = [field for field in fields if len({point.dims.get(field) for _, point in points}) > 1]
    return [
        ", ".join(
            filter(
                None,
                (label, *(_in_words(field, point.dims) for field in varied if field in point.dims)),
            )
        )
        for label, point in points
    ]


def _in_words(field: str, dims: Dims) -> str:
    value = dims[field]
    if field == "part":
        return value
    return f"{value} samples" if field == "split" else f"{field.rpartition('.')[2]} {value}"


# Drawing


def _heat_map(records: list[Record], axes: Axes, figure: Figure) -> AnyChart:
    scale = _colour_scale(records, figure)
    base = alt.Chart().encode(
        x=_x(axes),
        y=alt.Y(
            "y:O", title=axes.y, sort=axes.y_order, axis=alt.Axis(labelOverlap=True, labelLimit=110)
        ),
        tooltip=[
            alt.Tooltip("x:N", title=axes.x),
            alt.Tooltip("y:N", title=str(axes.y)),
            *interval_tooltips(records, "value"),
            alt.Tooltip("seeds:Q"),
            alt.Tooltip("state:N"),
        ],
    )
    legend = alt.Legend(
        title=figure.axis,
        orient="bottom",
        direction="horizontal",
        gradientLength=180,
        titleLimit=300,
        format=".3~g",
    )
    cells = (
        base.mark_rect()
        .transform_filter("isValid(datum.value)")
        .encode(color=alt.Color("value:Q", scale=scale, legend=legend))
    )
    missing = base.mark_rect(
        fill=GREY, fillOpacity=0.25, stroke=GREY, strokeDash=[3, 3], strokeWidth=1
    ).transform_filter("!isValid(datum.value)")
    has_room = len(axes.x_order) <= MOST_NUMBERED[0] and len(axes.y_order) <= MOST_NUMBERED[1]
    layers = [cells, missing, *(_numbers(base) if has_room else ())]
    height = max(LEAST_HEIGHT, min(MOST_HEIGHT, ROW_HEIGHT * len(axes.y_order)))
    return in_panels(alt.layer(*layers), records, height=height)


def _colour_scale(records: list[Record], figure: Figure) -> alt.Scale:
    """The colours of the cells; each record is given the colour of the number on its cell."""
    diverging = figure.scheme == "blueorange"
    values = [float(record["value"]) for record in records if record["value"] is not None]
    low, high = (0.0, 1.0) if diverging else (min(values), max(values))
    for record in records:
        record["ink"] = _ink(record, low, high, diverging=diverging)
    if diverging:
        return alt.Scale(scheme=figure.scheme, domain=[low, high], domainMid=0.5)
    return alt.Scale(scheme=figure.scheme)


def _ink(record: Record, low: float, high: float, *, diverging: bool) -> str | None:
    """The colour in which a number is readable on its cell; None: the colour of the page's text."""
    if record["value"] is None:
        return None
    height = (float(record["value"]) - low) / ((high - low) or 1.0)
    is_dark = abs(height - 0.5) > 0.33 if diverging else height < 0.5
    return "white" if is_dark else "black"


def _numbers(base: alt.Chart) -> Iterator[AnyChart]:
    """The numbers on the cells."""
    for ink, colour in (("white", "white"), ("black", ON_LIGHT)):
        text = base.mark_text(fontSize=11, color=colour).encode(text=alt.Text("text:N"))
        yield text.transform_filter(f"datum.ink == '{ink}'")
    plain = base.mark_text(fontSize=11).encode(text=alt.Text("text:N"))
    yield plain.transform_filter("datum.ink == null")


def _x(axes: Axes) -> alt.X:
    axis = alt.Axis(labelAngle=0, labelOverlap=True, labelLimit=120)
    return alt.X("x:O", title=axes.x, sort=axes.x_order, axis=axis)


def _intervals(records: Sequence[Record], axes: Axes, figure: Figure) -> AnyChart:
    """A point with its interval for each run and split."""
    drawn = [record for record in records if record["value"] is not None]
    has_splits = any(record["split"] for record in drawn)
    scale = _scale(drawn, figure)
    base = alt.Chart().encode(
        x=_x(axes), color=split_colour() if has_splits else alt.value(SPLIT_COLOURS.range[0])
    )
    if has_splits:
        base = base.encode(xOffset=alt.XOffset("split:N", sort=list(SPLIT_ORDER)))
    bars = base.mark_rule(strokeWidth=2).encode(
        y=alt.Y("low:Q", scale=scale, title=figure.axis), y2="high:Q"
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        y=alt.Y("value:Q", title=figure.axis, scale=scale),
        shape=split_shape() if has_splits else alt.value("circle"),
        tooltip=[
            alt.Tooltip("x:N", title=axes.x),
            *([alt.Tooltip("split:N")] if has_splits else []),
            *interval_tooltips(drawn, "value"),
            alt.Tooltip("seeds:Q"),
        ],
    )
    rule = [reference_line(figure.reference, scale)] if figure.reference else []
    return in_panels(alt.layer(*rule, bars, points), drawn)


def _scale(drawn: Sequence[Record], figure: Figure) -> alt.Scale:
    if figure.reference is None:
        return alt.Scale(zero=False)
    return share_scale(lower_ends(drawn, "value"), figure.reference.value)[0]


def _caption(
    grids: Sequence[StudyGrid], records: Sequence[Record], figure: Figure, *, heat: bool
) -> list[str]:
    """What is drawn, how the intervals were made, and how many runs have no value."""
    cells = [cell for grid in grids for cell in grid.cells if figure.is_of(cell)]
    seeds = [int(record["seeds"]) for record in records if record["seeds"] is not None]
    samples = [count for cell in cells if (count := _samples(cell, figure)) is not None]
    of_samples = f" of {ranged(samples, 'sample')}" if samples else ""
    mean = (
        f"each {'cell' if heat else 'point'} is the mean over {ranged(seeds, 'seed')}{of_samples}"
    )
    reference = figure.reference
    return [
        drawn_note(data_names(grids), mean),
        _directions_note(cells) if figure in _ALONG else "",
        interval_note(
            "tooltip" if heat else "bars", max(seeds), shares=figure.axis != SPARSITY_AXIS
        ),
        (f"Compare {reference.meaning}." if heat else reference.note) if reference else "",
        _runs_note(cells, figure),
        SPARSITY_NOTE if figure.axis == SPARSITY_AXIS else "",
        panels_note(len(labels_of(records))),
    ]


def _directions_note(cells: Sequence[GridCell]) -> str:
    """Along which steps theorem 2 is measured: training runs and checks have their own."""
    found: dict[str, Direction] = {}
    for cell in cells:
        if _is_training(cell):
            found["training"] = "training_step"
        elif isinstance(cell.spec, CheckSpec) and cell.spec.theorem == 2:
            found["checks"] = cell.spec.along
    return " ".join(
        f"Theorem 2 of {runs} is looked at {DIRECTIONS[along]}." for runs, along in found.items()
    )


def _runs_note(cells: Sequence[GridCell], figure: Figure) -> str:
    """How many runs there are, and how many of them have no value, by reason."""
    missing = Counter(_mark(cell.found.state) for cell in cells if not _values(cell, figure))
    reasons = (f"{mark} {MEANINGS[mark]}: {count}" for mark, count in sorted(missing.items()))
    return "; ".join((counted(len(cells), "run"), *reasons)) + "."


def _samples(cell: GridCell, figure: Figure) -> int | None:
    """The number of samples of one seed that a run's figure is of; None where it is not known."""
    spec = cell.spec
    facts = DATASETS.get(spec.dataset.name) if spec else None
    if isinstance(spec, ForecastSpec):
        return spec.measured(facts) if facts else None
    if isinstance(spec, CheckSpec):
        known = spec.samples if spec.samples != CHECKED else None  # else it may be fewer
        return spec.checked(facts) if facts else known
    if isinstance(spec, TrainSpec) and figure is not FIGURES["grid_accuracy"]:
        return spec.monitored(facts) if facts else None
    return None
