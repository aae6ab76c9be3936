"""Charts over the epochs of training, each with the band of its 95 % interval."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import altair as alt

from ffengine.intervals import interval
from ffengine.objectives import Thresholded
from ffengine.results import COUNTED, SHARES
from ffengine.theorems import DIRECTIONS, ROW_DIRECTIONS
from service.results.charts.drawables import (
    NothingToDraw,
    curve_rows,
    curves,
    data_names,
    has_figure,
)
from service.results.charts.flow_marks import flow_layers, flow_notes, turns_of, with_turns
from service.results.charts.intervals import band, lower_ends
from service.results.charts.style import (
    CHANCE,
    FREE_SCALE,
    GREY_LEGEND,
    LEGEND,
    MOST_PANELS,
    PAPER,
    SPARSITY_AXIS,
    SPARSITY_NOTE,
    SPLIT_DASHES,
    AnyChart,
    Record,
    Reference,
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
from service.results.sources import ChartSource

Figure = Literal[
    "theorem1_ratio",
    "theorem2_ratio",
    "observed_increase_ratio",
    "agreement",
    "sparsity",
    "goodness",
    "tau",
    "theorem2_expected_ratio",
    "kappa_gap",
    "basins",
    "log_goodness",
    "effective_units",
    "effective_rank",
    "theorem2_total_ratio",
    "joint_increase_ratio",
    "total_agreement",
    "local_agreement",
]
MOST_POINTS, ALL_POINTS = 400, 8_000  # drawn of one series, and of all together
EPOCHS = alt.X(
    "epoch:Q",
    title="epoch",
    axis=alt.Axis(tickMinStep=1, format="d", grid=False, labelOverlap=True),
)
FLOW_TIME = alt.X(
    "tau:Q",
    title="flow time τ (sum of the step sizes)",
    axis=alt.Axis(grid=False, labelOverlap=True),
)
MARKED_POINTS = 60  # a line of more epochs has no points


class Style(NamedTuple):
    """Title and axis of a chart, its reference line, and a sentence of its caption."""

    title: str
    axis: str
    reference: Reference | None = None
    note: str = ""


THEOREM_1 = Style("Theorem 1 while training", "satisfied / live samples", PAPER[1])
THEOREM_2 = Style(f"Theorem 2 {DIRECTIONS['training_step']}", "satisfied / live samples", PAPER[2])
AGREEMENT = Style(
    f"Predicted = observed sign of dS {DIRECTIONS['training_step']}",
    "share of decided live samples",
    CHANCE,
)
SPARSITY = Style("Sparsity while training", SPARSITY_AXIS)
EXPECTED = Style(
    f"Theorem 2 {ROW_DIRECTIONS['expected_difference']}", "satisfied / live samples", PAPER[2]
)
KAPPA_GAP = Style(
    "Active units: unequal beyond what their number makes of them",
    "κ less Gaussian κ",
    Reference(0.0, "Gaussian", "0: units switch on or off alone; below 0, they are selected"),
)
BASINS = Style("Directions that the units have gathered in", "effective number of basins")
GOODNESS = Style("Goodness while training", "mean goodness G")
LOG_GOODNESS = Style("Growth of goodness", "ln of mean |G|")


def theorem1(sources: Sequence[ChartSource]) -> AnyChart:
    """Share of samples that satisfy theorem 1's condition, by epoch: their sparsity would rise if
    the goodness of their batch were lowered.
    """
    return _shares(sources, "theorem1_ratio", THEOREM_1)


def theorem2(sources: Sequence[ChartSource]) -> AnyChart:
    """Share of samples that satisfy theorem 2's condition along the training step, by epoch."""
    return _shares(sources, "theorem2_ratio", THEOREM_2)


def prediction(sources: Sequence[ChartSource]) -> AnyChart:
    """Share of samples whose sparsity is predicted to rise, and share of samples whose sparsity
    rises in the training step.
    """
    predicted = [
        {**record, "what": "predicted"} for record in records_of(sources, "theorem2_ratio")
    ]
    records = predicted + [
        {**record, "what": "observed"} for record in records_of(sources, "observed_increase_ratio")
    ]
    if not predicted:
        raise NothingToDraw("theorem 2 was not monitored")
    what = alt.Scale(domain=["predicted", "observed"], range=[[1, 0], [3, 3]])
    shapes = alt.Scale(domain=["predicted", "observed"], range=["circle", "cross"])
    dash = alt.StrokeDash("what:N", scale=what, title=None, legend=GREY_LEGEND)
    layers = curve_layers(
        records,
        Style("", "share of live samples"),
        alt.Scale(domain=[0, 1]),
        dash,
        alt.Shape("what:N", scale=shapes, title=None, legend=GREY_LEGEND),
    )
    caption = [
        f"predicted: theorem 2 holds {DIRECTIONS['training_step']}; observed: S rose in that step, "
        "in float64",
        *caption_of(sources, records, shares=True),
    ]
    return titled(in_panels(layers, records), "Sparsity rises: predicted and observed", caption)


def agreement(sources: Sequence[ChartSource]) -> AnyChart:
    """How often the predicted sign of the change of sparsity is that of a real step, by epoch."""
    return _shares(sources, "agreement", AGREEMENT)


def sparsity(sources: Sequence[ChartSource]) -> AnyChart:
    """Mean Hoyer sparsity of positive and of negative samples, by epoch."""
    return _means(sources, "sparsity", SPARSITY)


def sparsity_flow(sources: Sequence[ChartSource]) -> AnyChart:
    """Mean Hoyer sparsity of positive and of negative samples, over flow time."""
    return _means(sources, "sparsity", SPARSITY, FLOW_TIME)


def theorem2_flow(sources: Sequence[ChartSource]) -> AnyChart:
    """Share of samples that satisfy theorem 2's condition along the training step, over flow
    time.
    """
    return _shares(sources, "theorem2_ratio", THEOREM_2, FLOW_TIME)


def theorem2_expected(sources: Sequence[ChartSource]) -> AnyChart:
    """Share of samples that satisfy theorem 2's condition along the step averaged over all wrong
    labels, by epoch.
    """
    return _shares(sources, "theorem2_expected_ratio", EXPECTED)


def kappa_gap(sources: Sequence[ChartSource]) -> AnyChart:
    """How unequal the active units are beyond what Gaussian pre-activations make of their number,
    by epoch.
    """
    return _means(sources, "kappa_gap", KAPPA_GAP)


def basins(sources: Sequence[ChartSource]) -> AnyChart:
    """Effective number of directions that the units have gathered in, by epoch."""
    return _means(sources, "basins", BASINS)


def log_goodness_flow(sources: Sequence[ChartSource]) -> AnyChart:
    """Natural logarithm of the mean goodness before the threshold, over flow time."""
    return _means(sources, "log_goodness", growth_style(sources), FLOW_TIME)


def growth_style(sources: Sequence[ChartSource]) -> Style:
    """The style of the chart of log G, whose note says the slope that is expected."""
    slopes = {
        f"{turn.onset.goodness_growth:.3g}"
        for turn in turns_of(sources)
        if turn.onset.goodness_growth
    }
    if len(slopes) != 1:
        return LOG_GOODNESS
    note = (
        f"ln G is expected to rise by {slopes.pop()} in a unit of τ once units are selected: "
        f"4 lambda_1, less what steps of this size lose"
    )
    return LOG_GOODNESS._replace(note=note)


def goodness(sources: Sequence[ChartSource]) -> AnyChart:
    """Mean goodness of positive and negative samples, less the objective's threshold, by epoch."""
    return _means(sources, "goodness", goodness_style(sources))


def goodness_style(sources: Sequence[ChartSource]) -> Style:
    """The style of the chart of goodness, with a line at 0 where objectives have a threshold."""
    thresholds = _thresholds(sources)
    if not thresholds:
        return GOODNESS
    found = ", ".join(f"{value:g}" for value in sorted(thresholds))
    line = Reference(0.0, "threshold", f"the objective's threshold, {found}")
    return GOODNESS._replace(axis="mean G less threshold", reference=line)


def has(figure: Figure, sources: Sequence[ChartSource]) -> bool:
    """Whether any epoch has a value of the figure."""
    return any(has_figure(source, figure) for source in sources)


def _shares(
    sources: Sequence[ChartSource], figure: Figure, style: Style, x: alt.X = EPOCHS
) -> AnyChart:
    records = _marked(sources, figure, x)
    reference = style.reference.value if style.reference else None
    scale, note = share_scale(
        lower_ends(records),
        reference,
        upper_half=figure == "agreement",
    )
    layers = curve_layers(records, style, scale, x=x)
    return titled(
        in_panels(layers, records),
        style.title,
        [*caption_of(sources, records, style, shares=True), note, *_notes(sources, records, x)],
    )


def _means(
    sources: Sequence[ChartSource], figure: Figure, style: Style, x: alt.X = EPOCHS
) -> AnyChart:
    records = _marked(sources, figure, x)
    return titled(
        in_panels(curve_layers(records, style, FREE_SCALE, x=x), records),
        style.title,
        [*caption_of(sources, records, style, shares=False), *_notes(sources, records, x)],
    )


def _marked(sources: Sequence[ChartSource], figure: Figure, x: alt.X) -> list[Record]:
    """The records; over flow time, one of each series has the predicted turn."""
    records = records_of(sources, figure)
    return with_turns(records, turns_of(sources)) if x is FLOW_TIME else records


def _notes(sources: Sequence[ChartSource], records: Sequence[Record], x: alt.X) -> Iterator[str]:
    if x is FLOW_TIME:
        yield from flow_notes(records, turns_of(sources))


def curve_layers(
    records: Sequence[Record],
    style: Style,
    scale: alt.Scale,
    dash: alt.StrokeDash | None = None,
    shape: alt.Shape | None = None,
    x: alt.X = EPOCHS,
    banded: str | None = None,
) -> AnyChart:
    """A line with its band for each split; the dashes of the line are those of the split, unless
    `dash` gives them another meaning.

    **Arguments:**

    - `banded`: which `what` has bands where there are several; None: all have.
    """
    dash = dash or alt.StrokeDash("split:N", scale=SPLIT_DASHES, title=None, legend=LEGEND)
    shape = shape or split_shape()
    y = alt.Y("mean:Q", title=style.axis, scale=scale)
    extra = (
        [alt.Tooltip("what:N", title=" ")] if any("what" in record for record in records) else []
    )
    base = alt.Chart().encode(
        x=x,
        color=split_colour(),
        detail="what:N" if extra else alt.Undefined,
    )
    tooltip = [
        *(["series:N"] if len(labels_of(records)) > 1 else []),
        "split:N",
        *extra,
        "epoch:Q",
        *(["tau:Q"] if x is FLOW_TIME else []),
        *interval_tooltips(records),
        "seeds:Q",
        "samples:Q",
    ]
    band = base.mark_area(opacity=0.18).encode(
        y=alt.Y("low:Q", title=style.axis, scale=scale), y2="high:Q"
    )
    if banded:
        band = band.transform_filter(f"datum.what == '{banded}'")
    line = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash, tooltip=tooltip)
    size = 36 if len({record["epoch"] for record in records}) <= MARKED_POINTS else 0
    points = base.mark_point(filled=True, opacity=1, size=size).encode(
        y=y, shape=shape, tooltip=tooltip
    )
    single = len(labels_of(records)) == 1
    rule = [reference_line(style.reference, scale, with_word=single)] if style.reference else []
    marks = flow_layers(records) if x is FLOW_TIME else []
    return alt.layer(*marks, *rule, band, line, *([points] if size else []))


def records_of(sources: Sequence[ChartSource], figure: Figure) -> list[Record]:
    """One record for each series, split and drawn epoch.

    Raises NothingToDraw where no epoch has a value.
    """
    labels = list(dict.fromkeys(curve.label for curve in curves(sources)))[:MOST_PANELS]
    most = max(4, min(MOST_POINTS, ALL_POINTS // max(1, len(labels))))
    found = _points(sources, labels, figure)
    records = [record for label in labels for record in _series(label, found[label], figure, most)]
    if not records:
        raise NothingToDraw(f"no epoch has a value of {figure}")
    return records


class _Point(NamedTuple):
    """The values of one split at one epoch, how many samples each is of, and its act."""

    values: list[float]
    samples: list[int]
    acts: list[str]
    tau: float | None

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)


_Line = dict[int, _Point]  # by epoch


def _points(
    sources: Sequence[ChartSource], labels: Sequence[str], figure: Figure
) -> Mapping[str, Mapping[str, _Line]]:
    """The points by series, split and epoch. Each row is looked at once, and not kept."""
    found: dict[str, dict[str, _Line]] = {label: defaultdict(dict) for label in labels}
    for source in sources:
        named = {curve.layer: curve.label for curve in curves([source]) if curve.label in found}
        for row in curve_rows(source):
            value = getattr(row, figure)
            if value is not None and math.isfinite(value) and row.layer in named:
                line = found[named[row.layer]][row.split]
                point = line.setdefault(row.epoch, _Point([], [], [], row.tau))
                point.values.append(value)
                point.samples.append(row.counted(figure))
                if row.act:
                    point.acts.append(row.act)
    return found


def _series(label: str, lines: Mapping[str, _Line], figure: Figure, most: int) -> Iterator[Record]:
    for split in sorted(lines, key="negative".__eq__):  # dashes on top
        line = lines[split]
        kept, together = thinned({epoch: point.mean for epoch, point in line.items()}, most)
        for before, epoch in pairwise([None, *kept]):
            assert epoch is not None  # noqa: S101 - narrows the type: only the first has none before
            point = line[epoch]
            samples = point.samples if figure in COUNTED else ()
            found = interval(point.values, share=figure in SHARES, samples=samples)
            yield {
                "series": label,
                "epoch": epoch,
                "tau": point.tau,
                "since": None if before is None else line[before].tau,
                "act": Counter(point.acts).most_common(1)[0][0] if point.acts else None,
                "split": split,
                **band(found)._asdict(),
                "samples": sum(point.samples),
                "together": together,
            }


def thinned(values: Mapping[int, float], most: int) -> tuple[list[int], int]:
    """The epochs of a line that are drawn, in order, and how many epochs are thinned together.

    Of more epochs than `most` these are the first, the last, and of each few neighbours those with
    the lowest and the highest value: no peak is lost.
    """
    epochs = sorted(values)
    if len(epochs) <= most:
        return epochs, 1
    together = math.ceil(2 * len(epochs) / (most - 2))
    kept = {epochs[0], epochs[-1]}
    for first in range(0, len(epochs), together):
        neighbours = epochs[first : first + together]
        kept |= {min(neighbours, key=values.__getitem__), max(neighbours, key=values.__getitem__)}
    return sorted(kept), together


def caption_of(
    sources: Sequence[ChartSource],
    records: Sequence[Record],
    style: Style | None = None,
    *,
    shares: bool,
    samples: bool = True,
) -> list[str]:
    """The caption: what is drawn, and how the bands were made.

    **Arguments:**

    - `shares`: whether the figure is a share of samples.
    - `samples`: whether it is of samples at all, and not of weights.
    """
    seeds = max(int(record["seeds"] or 0) for record in records)
    per_point = ranged((int(record["samples"] or 0) for record in records), "sample")
    together = max(int(record["together"] or 1) for record in records)
    mean = f"mean over {ranged((int(record['seeds'] or 0) for record in records), 'seed')}"
    return [
        drawn_note(data_names(sources), mean, f"{per_point} per point" if samples else ""),
        interval_note("band", seeds, shares=shares),
        style.reference.note if style and style.reference else "",
        f"of every {together} measured epochs, the lowest and the highest mean are drawn"
        if together > 1
        else "",
        SPARSITY_NOTE if style and style.axis == SPARSITY_AXIS else "",
        style.note if style else "",
        panels_note(len({curve.label for curve in curves(sources)})),
    ]


def _thresholds(sources: Sequence[ChartSource]) -> set[float]:
    """The thresholds of the objectives that have one."""
    return {
        curve.spec.objective.offset(curve.spec.network.widths[curve.layer])
        for curve in curves(sources)
        if curve.spec and isinstance(curve.spec.objective, Thresholded)
    }
