"""What layers tell apart while they train, on the monitored samples and on validation samples."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import altair as alt

from ffengine.intervals import interval
from ffengine.results import EpochAccuracyRow, SelectedRow, TrainResult
from service.results.charts.accuracies import guess_note
from service.results.charts.drawables import NothingToDraw, data_names
from service.results.charts.epochs import (
    ALL_POINTS,
    EPOCHS,
    MARKED_POINTS,
    MOST_BINS,
    Style,
    binned,
    bins_note,
    epoch_tooltips,
    ranges,
)
from service.results.charts.intervals import Band, band, lower_ends
from service.results.charts.style import (
    BLUE,
    FREE_SCALE,
    GREY,
    LEGEND,
    ORANGE,
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
    titled,
)
from service.results.sources import ChartSource, Source

Figure = Literal["accuracy", "auc", "loss"]
WORDS = {"train": "monitored training samples", "validation": "validation samples"}
ACCURACY = Style("Accuracy of each layer while training", "accuracy by goodness")
AUC = Style(
    "How well each layer tells positives from negatives",
    "AUC of goodness",
    Reference(0.5, "chance", "0.5, where goodness says nothing"),
    "AUC is the probability that a positive's goodness exceeds a negative's.",
)
LOSS = Style("Loss on samples that are learnt from, and on others", "mean loss of a pair")


CHOSEN_NOTE = "Dotted lines: epochs whose weights a seed keeps."
STOPPED_NOTE = "A seed that stopped early is in the means up to its last epoch."


class Line(NamedTuple):
    """The rows of one layer, or of all together, of one training run, with a label.

    kept: the epochs whose weights seeds keep, with how many seeds do.
    """

    label: str
    rows: Sequence[EpochAccuracyRow]
    kept: Mapping[int, int]


def has_epoch_accuracy(figure: Figure, sources: Sequence[ChartSource]) -> bool:
    """Whether any layer has a value of the figure at an epoch."""
    return any(getattr(row, figure) is not None for source in sources for row in _rows(source))


def accuracy_epochs(sources: Sequence[ChartSource]) -> AnyChart:
    """Accuracy by the goodness of each layer, and of all together, by epoch."""
    return _curves(sources, "accuracy", ACCURACY)


def auc_epochs(sources: Sequence[ChartSource]) -> AnyChart:
    """AUC of the goodness of positives against that of negatives, of each layer by epoch."""
    return _curves(sources, "auc", AUC)


def loss_epochs(sources: Sequence[ChartSource]) -> AnyChart:
    """Mean loss of a pair on monitored and on validation samples, of each layer by epoch."""
    return _curves(sources, "loss", LOSS)


def _rows(source: ChartSource) -> Sequence[EpochAccuracyRow]:
    there = isinstance(source, Source) and isinstance(source.result, TrainResult)
    return source.result.accuracy_curves if there else ()  # type: ignore[union-attr]


def _curves(sources: Sequence[ChartSource], figure: Figure, style: Style) -> AnyChart:
    lines = [line for source in sources for line in _lines(source, figure)]
    most = max(4, min(MOST_BINS, ALL_POINTS // max(1, 2 * len(lines))))
    records = [record for line in lines for record in _records(line, figure, most)]
    if not records:
        raise NothingToDraw(f"no epoch has a value of {figure}; monitor.accuracy measures it")
    scale, note = FREE_SCALE, ""
    if figure == "accuracy":
        scale, note = share_scale(lower_ends(records), None)
    chart = in_panels(_layers(records, style, scale), records)
    seeds = max(int(record["seeds"] or 0) for record in records)
    per_point = ranged((int(record["samples"] or 0) for record in records), "sample")
    mean = f"mean over {ranged((int(record['seeds'] or 0) for record in records), 'seed')}"
    caption = [
        drawn_note(data_names(sources), mean, f"{per_point} per point"),
        interval_note("band", seeds, shares=figure == "accuracy"),
        style.reference.note if style.reference else "",
        style.note,
        bins_note(records),
        guess_note(sources) if figure == "accuracy" else "",
        CHOSEN_NOTE if any(record["kept"] for record in records) else "",
        STOPPED_NOTE if any(map(_stops_early, sources)) else "",
        note,
        panels_note(len(labels_of(records))),
    ]
    return titled(chart, style.title, caption)


def _lines(source: ChartSource, figure: Figure) -> Iterator[Line]:
    """Each layer alone, then all together; a sum of layers has a loss of its own, not drawn."""
    found = [row for row in _rows(source) if row.method == "goodness"]
    everything = max((row.layers for row in found), key=len, default=())
    groups: dict[tuple[int, ...], list[EpochAccuracyRow]] = defaultdict(list)
    for row in found:
        if row.layer is not None or (row.layers == everything and figure != "loss"):
            groups[row.layers].append(row)
    for layers, rows in sorted(groups.items(), key=lambda one: (len(one[0]), one[0])):
        name = f"layer {layers[0]}" if len(layers) == 1 else "all layers"
        shown = name if len(everything) > 1 else ""
        kept = Counter(row.epoch for row in _chosen(source) if (row.layer,) == layers)
        yield Line(" ".join(filter(None, (source.label, shown))), rows, kept)


def _chosen(source: ChartSource) -> Sequence[SelectedRow]:
    """Whose weights a run keeps; none where all seeds keep those of its last epoch."""
    there = isinstance(source, Source) and isinstance(source.result, TrainResult)
    return source.result.selected if there else ()  # type: ignore[union-attr]


def _stops_early(source: ChartSource) -> bool:
    """Whether the seeds of a run learnt for different numbers of epochs."""
    ends: dict[int, set[int]] = defaultdict(set)
    for row in _chosen(source):
        ends[row.layer].add(row.last_epoch)
    return any(len(found) > 1 for found in ends.values())


def _records(line: Line, figure: Figure, most: int) -> Iterator[Record]:
    """One record for each partition and drawn bin of epochs."""
    groups: dict[str, dict[int, list[EpochAccuracyRow]]] = defaultdict(lambda: defaultdict(list))
    for row in line.rows:
        if getattr(row, figure) is not None:
            groups[row.partition][row.epoch].append(row)
    for partition, by_epoch in groups.items():
        for epochs in binned(sorted(by_epoch), most):
            bands = [_band(by_epoch[epoch], figure) for epoch in epochs]
            middle = by_epoch[epochs[len(epochs) // 2]]
            lows = [one.low for one in bands if one.low is not None]
            highs = [one.high for one in bands if one.high is not None]
            yield {
                "series": line.label,
                "epoch": epochs[len(epochs) // 2],
                "epochs": str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}",
                "partition": WORDS[partition],
                "mean": sum(one.mean for one in bands) / len(bands),
                "least": min(one.mean for one in bands),
                "most": max(one.mean for one in bands),
                "low": min(lows) if lows else None,
                "high": max(highs) if highs else None,
                "seeds": max(one.seeds for one in bands),
                "samples": sum(row.samples for row in middle),
                "binned": len(epochs),
                "kept": sum(line.kept.get(epoch, 0) for epoch in epochs) or None,
            }


def _band(rows: Sequence[EpochAccuracyRow], figure: Figure) -> Band:
    """The mean over seeds with its interval."""
    values = [float(getattr(row, figure)) for row in rows]
    samples = [row.samples for row in rows] if figure == "accuracy" else ()
    return band(interval(values, share=figure != "loss", samples=samples))


def _layers(records: Sequence[Record], style: Style, scale: alt.Scale) -> AnyChart:
    """A line with its band and its points for each partition."""
    used = [word for word in WORDS.values() if any(one["partition"] == word for one in records)]
    looks = {"train": (BLUE, [5, 2], "circle"), "validation": (ORANGE, [1, 0], "diamond")}
    chosen = [looks[name] for name, word in WORDS.items() if word in used]
    colours, dashes, shapes = zip(*chosen, strict=True)

    def scaled(values: tuple[Any, ...]) -> alt.Scale:
        return alt.Scale(domain=used, range=list(values))

    field = "partition:N"
    colour = alt.Color(field, scale=scaled(colours), title=None, legend=LEGEND)
    dash = alt.StrokeDash(field, scale=scaled(dashes), title=None, legend=LEGEND)
    shape = alt.Shape(field, scale=scaled(shapes), title=None, legend=LEGEND)
    tooltip = [
        *([alt.Tooltip("series:N")] if len(labels_of(records)) > 1 else []),
        alt.Tooltip(field, title=" "),
        *epoch_tooltips(records),
        *interval_tooltips(records),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("samples:Q"),
    ]
    base = alt.Chart().encode(x=EPOCHS, color=colour)
    y = alt.Y("mean:Q", title=style.axis, scale=scale)
    bands = ranges(base, style.axis, scale, records)
    line = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash, tooltip=tooltip)
    points = base.mark_point(filled=True, opacity=1, size=30).encode(
        y=y, shape=shape, tooltip=tooltip
    )
    marked = len({record["epoch"] for record in records}) <= MARKED_POINTS
    rule = [reference_line(style.reference, scale)] if style.reference else []
    if any(record["kept"] for record in records):
        line_of_kept = alt.Chart().mark_rule(strokeDash=[2, 3], strokeWidth=1.5, color=GREY)
        tip = alt.Tooltip("kept:Q", title="seeds that keep it")
        kept = line_of_kept.transform_filter("isValid(datum.kept)").encode(
            x=EPOCHS, tooltip=[alt.Tooltip("epoch:Q"), tip]
        )
        rule.append(kept)
    return alt.layer(*rule, *bands, line, *([points] if marked else []))
