"""Charts over the epochs of training, each with the band of its 95 % interval."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import altair as alt

from ffengine.attempts import stretches
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
from service.results.charts.intervals import band, banded, lower_ends
from service.results.charts.style import (
    CHANCE,
    FREE_SCALE,
    GREY_LEGEND,
    LEGEND,
    MOST_PANELS,
    PAPER,
    SATISFIED_AXIS,
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
from service.results.sources import ChartSource, Source

Figure = Literal[
    "theorem1_ratio",
    "theorem2_ratio",
    "observed_increase_ratio",
    "agreement",
    "sparsity",
    "goodness",
    "loss",
    "tau",
    "theorem2_expected_ratio",
    "kappa_gap",
    "basins",
    "log_goodness",
    "log_weight_norm",
    "log_spectral_norm",
    "effective_units",
    "effective_rank",
    "theorem2_total_ratio",
    "joint_increase_ratio",
    "total_agreement",
    "local_agreement",
    "gradient_share",
    "weight_sparsity",
    "weight_gini",
    "excitatory_share",
    "entropy_rank",
    "used_units",
    "dead_units",
]
MOST_BINS, ALL_POINTS = 300, 8_000  # drawn of one line, and of all series together
# the first and the last label stand below their ticks: moved inwards they would run into others
EPOCHS = alt.X(
    "epoch:Q",
    title="epoch",
    axis=alt.Axis(tickMinStep=1, format="d", grid=False, labelOverlap=True, labelFlush=False),
)
FLOW_TIME = alt.X(
    "tau:Q",
    title="flow time τ",
    axis=alt.Axis(grid=False, labelOverlap=True, labelFlush=False),
)
TAU_NOTE = "Flow time τ is the sum of the step sizes."
MARKED_POINTS = 60  # a line of more epochs has points at a few of them
FEW_POINTS = 12


class Style(NamedTuple):
    """Title and axis of a chart, its reference line, and a sentence of its caption."""

    title: str
    axis: str
    reference: Reference | None = None
    note: str = ""


THEOREM_1 = Style("Theorem 1 while training", SATISFIED_AXIS, PAPER[1])
THEOREM_2 = Style(f"Theorem 2 {DIRECTIONS['training_step']}", SATISFIED_AXIS, PAPER[2])
AGREEMENT = Style(
    f"How often theorem 2 predicts the change of S {DIRECTIONS['training_step']}",
    "share of decided live samples",
    CHANCE,
)
SPARSITY = Style("Sparsity while training", SPARSITY_AXIS)
EXPECTED = Style(f"Theorem 2 {ROW_DIRECTIONS['expected_difference']}", SATISFIED_AXIS, PAPER[2])
KAPPA_GAP = Style(
    "Active units: unequal beyond what their number makes of them",
    "κ less Gaussian κ",
    Reference(0.0, "Gaussian", "0, where units only switch on or off; below it, they are selected"),
)
BASINS = Style("Directions that the units have gathered in", "effective number of basins")
GRADIENT_SHARE = Style(
    "What other layers leave of a layer's gradient (log scale)",
    "|dL/dG| beside that by its own goodness",
    Reference(1.0, "alone", "1, where a layer goes by its own goodness"),
    "Intervals end at the edges of the axis.",
)
LEAST_SHARE = 1e-3  # of the gradient; smaller ones are drawn at the edge of the axis
LOSS = Style("Loss while training", "loss")
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
    dash = alt.StrokeDash("what:N", scale=what, title=None, legend=GREY_LEGEND)
    layers = curve_layers(
        records,
        Style("", "share of live samples"),
        alt.Scale(domain=[0, 1]),
        dash,
    )
    caption = [
        f"Predicted: theorem 2 holds {DIRECTIONS['training_step']}. Observed: S rose in that "
        "step, in float64.",
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


def gradient_share(sources: Sequence[ChartSource]) -> AnyChart:
    """Mean |dL/dG| of a layer that collaborates over what it would be by its own goodness alone, by
    epoch.
    """
    records = records_of(sources, "gradient_share")
    layers = curve_layers(records, GRADIENT_SHARE, _scale_around_one(records))
    return titled(
        in_panels(layers, records),
        GRADIENT_SHARE.title,
        caption_of(sources, records, GRADIENT_SHARE, shares=False),
    )


def _scale_around_one(records: Sequence[Record]) -> alt.Scale:
    """A logarithmic axis around the means and 1: of positives they are far below it, of negatives
    far above. Intervals, which may begin below 0, end at its edges.
    """
    means = [1.0, *(float(record["mean"] or 0) for record in records)]
    bottom = max(LEAST_SHARE, min(means)) / 2
    return alt.Scale(type="log", domain=[bottom, 2 * max(means)], clamp=True, nice=False)


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
        f"4 lambda_1, less what steps of this size lose."
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
    found = ", ".join(
        f"{one:g}" if one == other else f"{one:g} of positives and {other:g} of negatives"
        for one, other in sorted(thresholds)
    )
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
        yield TAU_NOTE
        yield from flow_notes(records, turns_of(sources))


def curve_layers(
    records: Sequence[Record],
    style: Style,
    scale: alt.Scale,
    dash: alt.StrokeDash | None = None,
    x: alt.X = EPOCHS,
    with_bands: str | None = None,
) -> AnyChart:
    """A line with its band and its points for each split; the dashes of the line are those of the
    split, unless `dash` gives them another meaning. Of a long line few epochs have points, by whose
    shapes its split is known.

    **Arguments:**

    - `with_bands`: which `what` has bands where there are several; None: all have.
    """
    dash = dash or alt.StrokeDash("split:N", scale=SPLIT_DASHES, title=None, legend=LEGEND)
    y = alt.Y("mean:Q", title=style.axis, scale=scale)
    extra = (
        [alt.Tooltip("what:N", title=" ")] if any("what" in record for record in records) else []
    )
    base = alt.Chart().encode(
        x=x,
        color=split_colour(),
        detail=alt.Detail("what:N") if extra else alt.Undefined,
    )
    tooltip = [
        *([alt.Tooltip("series:N")] if len(labels_of(records)) > 1 else []),
        alt.Tooltip("split:N"),
        *extra,
        *epoch_tooltips(records),
        *([alt.Tooltip("tau:Q")] if x is FLOW_TIME else []),
        *interval_tooltips(records),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("samples:Q"),
    ]
    bands = ranges(base, style.axis, scale, records)
    if with_bands:
        bands = [band.transform_filter(f"datum.what == '{with_bands}'") for band in bands]
    line = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash, tooltip=tooltip)
    points = base.mark_point(filled=True, opacity=1, size=36).encode(
        y=y, shape=split_shape(), tooltip=tooltip
    )
    if len({record["epoch"] for record in records}) > MARKED_POINTS:
        points = points.transform_filter("datum.marked")
    rule = [reference_line(style.reference, scale)] if style.reference else []
    marks = flow_layers(records) if x is FLOW_TIME else []
    return alt.layer(*marks, *rule, *bands, line, points)


def records_of(sources: Sequence[ChartSource], figure: Figure) -> list[Record]:
    """One record for each series, split and drawn epoch.

    Raises NothingToDraw where no epoch has a value.
    """
    labels, found = points_of(sources, figure)
    records = list(records_of_lines(labels, found, figure))
    if not records:
        raise NothingToDraw(f"no epoch has a value of {figure}")
    return records


class Point(NamedTuple):
    """The values of one split at one epoch, the seed of each, how many samples each is of, and its
    act.
    """

    values: list[float]
    seeds: list[int]
    samples: list[int]
    acts: list[str]
    tau: float | None

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return sum(self.values) / len(self.values)

    def plus(self, other: "Point") -> "Point":
        """The sum with another point, of the seeds that both have."""
        there = dict(zip(other.seeds, other.values, strict=True))
        shared = [place for place, seed in enumerate(self.seeds) if seed in there]
        return Point(
            [self.values[place] + there[self.seeds[place]] for place in shared],
            [self.seeds[place] for place in shared],
            [self.samples[place] for place in shared],
            self.acts,
            self.tau,
        )


Lines = Mapping[str, Mapping[int, Point]]  # by split, then by epoch


def points_of(
    sources: Sequence[ChartSource], figure: Figure
) -> tuple[list[str], Mapping[str, Lines]]:
    """The labels of the series that are drawn, and their points by series, split and epoch.

    Each row is looked at once, and not kept.
    """
    labels = list(dict.fromkeys(curve.label for curve in curves(sources)))[:MOST_PANELS]
    found: dict[str, dict[str, dict[int, Point]]] = {label: defaultdict(dict) for label in labels}
    for source in sources:
        named = {curve.layer: curve.label for curve in curves([source]) if curve.label in found}
        for row in curve_rows(source):
            value = getattr(row, figure)
            if value is not None and math.isfinite(value) and row.layer in named:
                line = found[named[row.layer]][row.split]
                point = line.setdefault(row.epoch, Point([], [], [], [], row.tau))
                point.values.append(value)
                point.seeds.append(row.seed)
                point.samples.append(row.counted(figure))
                if row.act:
                    point.acts.append(row.act)
    return labels, found


def records_of_lines(
    labels: Sequence[str], found: Mapping[str, Lines], figure: Figure
) -> Iterator[Record]:
    """One record for each series, split and drawn bin of epochs."""
    most = max(4, min(MOST_BINS, ALL_POINTS // max(1, len(labels))))
    for label in labels:
        yield from _series(label, found[label], figure, most)


def _series(label: str, lines: Lines, figure: Figure, most: int) -> Iterator[Record]:
    for split in sorted(lines, key="negative".__eq__):  # dashes on top
        line = lines[split]
        since: float | None = None
        bins = binned(sorted(line), most)
        step = math.ceil(len(bins) / FEW_POINTS)
        for place, epochs in enumerate(bins):
            record = _record([line[epoch] for epoch in epochs], figure)
            yield {
                "series": label,
                "epoch": epochs[len(epochs) // 2],
                "since": since,
                "split": split,
                **record,
                "epochs": str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}",
                "binned": len(epochs),
                "marked": place % step == step // 2,
            }
            since = record["tau"]  # type: ignore[assignment]


def _record(points: Sequence[Point], figure: Figure) -> Record:
    """The points of one bin: their mean, the smallest and the largest, and the interval around."""
    counted = figure in COUNTED
    means = [point.mean for point in points]
    bands = [
        band(
            interval(
                point.values,
                share=figure in SHARES,
                samples=point.samples if counted else (),
            )
        )
        for point in points
    ]
    lows = [one.low for one in bands if one.low is not None]
    highs = [one.high for one in bands if one.high is not None]
    acts = Counter(act for point in points for act in point.acts).most_common(1)
    middle = points[len(points) // 2]
    return {
        "tau": middle.tau,
        "act": acts[0][0] if acts else None,
        "mean": bands[0].mean if len(points) == 1 else sum(means) / len(means),
        "least": min(means),
        "most": max(means),
        "low": min(lows) if lows else None,
        "high": max(highs) if highs else None,
        "seeds": max(one.seeds for one in bands),
        "samples": sum(middle.samples),
    }


def binned(epochs: Sequence[int], most: int) -> list[Sequence[int]]:
    """The epochs of a line in bins of neighbours, one each where there are at most `most`.

    The first and the last epoch are bins of their own: what training began and ended with is seen.
    """
    if len(epochs) <= most:
        return [[epoch] for epoch in epochs]
    inner = epochs[1:-1]
    together = math.ceil(len(inner) / (most - 2))
    bins = [inner[first : first + together] for first in range(0, len(inner), together)]
    return [epochs[:1], *bins, epochs[-1:]]


def ranges(
    base: alt.Chart, axis: str, scale: alt.Scale, records: Sequence[Record]
) -> list[AnyChart]:
    """The bands of a line: its interval over seeds, with an outline that tells bands apart where
    they overlap, and where epochs are binned the smallest and the largest value of each bin.
    """
    found: list[AnyChart] = []
    many = any(int(record["binned"] or 1) > 1 for record in records)
    if any(record["low"] is not None for record in records):
        found += banded(base, axis, scale, ("low", "high"), opacity=0.15, edged=not many)
    if many:
        found += banded(base, axis, scale, ("least", "most"), opacity=0.4, edged=False)
    return found


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
    mean = f"mean over {ranged((int(record['seeds'] or 0) for record in records), 'seed')}"
    return [
        drawn_note(data_names(sources), mean, f"{per_point} per point" if samples else ""),
        interval_note("band", seeds, shares=shares),
        style.reference.note if style and style.reference else "",
        bins_note(records),
        SPARSITY_NOTE if style and style.axis == SPARSITY_AXIS else "",
        style.note if style else "",
        devices_note(sources),
        panels_note(len({curve.label for curve in curves(sources)})),
    ]


def devices_note(sources: Sequence[ChartSource]) -> str:
    """What a caption says of curves that changed their kind of device."""
    changed = [
        f"{f'{source.label}: ' if source.label else ''}{', then '.join(found)}"
        for source in sources
        if isinstance(source, Source) and (found := stretches(source.result.provenance.attempts))
    ]
    others = f" and {len(changed) - 3} others" if len(changed) > 3 else ""
    return f"changed its kind of device: {'; '.join(changed[:3])}{others}" if changed else ""


def epoch_tooltips(records: Sequence[Record]) -> list[alt.Tooltip]:
    """The epoch of a point; of a bin its epochs, and their smallest and largest value."""
    if not any(int(record["binned"] or 1) > 1 for record in records):
        return [alt.Tooltip("epoch:Q")]
    extremes = [alt.Tooltip("least:Q", format=".4~g"), alt.Tooltip("most:Q", format=".4~g")]
    return [alt.Tooltip("epochs:N"), *extremes]


def bins_note(records: Sequence[Record]) -> str:
    """What a caption says where a line has more epochs than are drawn one by one."""
    lines: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for record in records:
        names = ("series", "split", "partition", "what", "job")
        key = tuple(map(record.get, names))
        lines[key].append(int(record["binned"] or 1))
    longest = max(lines.values(), key=sum)
    if max(longest) == 1:
        return ""
    return (
        f"{sum(longest):,} epochs, drawn as {len(longest):,} bins with their smallest and largest "
        f"values."
    )


def _thresholds(sources: Sequence[ChartSource]) -> set[tuple[float, float]]:
    """The thresholds of positives and of negatives of the objectives that have them."""
    return {
        curve.spec.objective.offsets(curve.spec.network.widths[curve.layer])
        for curve in curves(sources)
        if curve.spec and isinstance(curve.spec.objective, Thresholded)
    }
