"""The accuracy after training, by how a label is told."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import altair as alt

from ffengine.datasets import DATASETS
from ffengine.intervals import interval
from ffengine.results import AccuracyRow, BaselineRow, TrainResult
from service.results.baseline_table import baselines_of, how_chosen, names_of
from service.results.charts.drawables import NothingToDraw, data_names
from service.results.charts.intervals import band
from service.results.charts.style import (
    BLUE,
    GREEN,
    ORANGE,
    AnyChart,
    Record,
    counted,
    drawn_note,
    in_panels,
    interval_note,
    interval_tooltips,
    labels_of,
    panels_note,
    titled,
)
from service.results.sources import ChartSource, Source

PARTITIONS = ["train", "validation", "test"]
PARTITION_COLOURS = alt.Scale(domain=PARTITIONS, range=[BLUE, ORANGE, GREEN])
PARTITION_SHAPES = alt.Scale(domain=PARTITIONS, range=["circle", "diamond", "square"])
ROW_HEIGHT, LEAST_HEIGHT = 34, 90
METHODS = {"goodness": "by goodness", "softmax": "by softmax", "linear": "linear classifier"}


def has_accuracy(sources: Sequence[ChartSource]) -> bool:
    """Whether a training run has an accuracy."""
    return any(_rows(source) or next(_baselines(source), None) for source in sources)


def accuracy(sources: Sequence[ChartSource]) -> AnyChart:
    """Accuracy after training, for each way to tell a label, with its interval."""
    told = [record for source in sources for record in _records(source)]
    records = [*told, *(record for source in sources for record in _baselines(source))]
    if not records:
        raise NothingToDraw("no training run has an accuracy yet")
    ways = len({record["way"] for record in records})
    chart = in_panels(_layers(records), records, height=max(LEAST_HEIGHT, ROW_HEIGHT * ways))
    return titled(chart, "Accuracy after training", list(_caption(sources, records)))


def _rows(source: ChartSource) -> Sequence[AccuracyRow]:
    there = isinstance(source, Source) and isinstance(source.result, TrainResult)
    return source.result.accuracy if there else ()  # type: ignore[union-attr]


def _baselines(source: ChartSource) -> Iterator[Record]:
    """One record for each baseline and held-out partition, and for the readout of each layer."""
    if not isinstance(source, Source) or not isinstance(source.result, TrainResult):
        return
    baselines = baselines_of(source.result)
    for name, rows in zip(names_of(baselines), baselines, strict=True):
        groups: dict[tuple[str, str], list[tuple[BaselineRow, float]]] = defaultdict(list)
        last = max(row.layer for row in rows)
        for row in rows:
            if row.layer == last and row.accuracy is not None:
                groups[name, row.partition].append((row, row.accuracy))
            elif row.layer < last and row.layer_accuracy is not None:
                where = f"{name}, layer {row.layer}"
                groups[where, row.partition].append((row, row.layer_accuracy))
        for (way, partition), found in groups.items():
            samples = [row.samples for row, _ in found]
            values = [value for _, value in found]
            yield {
                "series": source.label,
                "way": way,
                "partition": partition,
                "epoch": max((row.epoch or 0 for row, _ in found), default=0),
                "learning rate": how_chosen(found[0][0]),
                **band(interval(values, share=True, samples=samples))._asdict(),
                "samples": sum(samples),
            }


def _records(source: ChartSource) -> Iterator[Record]:
    """One record for each way to tell a label and each partition, of the last epoch that has it."""
    groups: dict[tuple[str, str], dict[int, AccuracyRow]] = defaultdict(dict)
    for row in _rows(source):  # of one layer, those of it and of all layers are the same
        found = groups[_way(row), row.partition]
        if row.seed not in found or found[row.seed].epoch <= row.epoch:
            found[row.seed] = row
    for (way, partition), found in groups.items():
        rows = [*found.values()]
        last = max(row.epoch for row in rows)  # seeds may have chosen others
        samples = [row.samples for row in rows]
        values = [row.accuracy for row in rows]
        yield {
            "series": source.label,
            "way": way,
            "partition": partition,
            "epoch": last,
            **band(interval(values, share=True, samples=samples))._asdict(),
            "samples": sum(samples),
        }


def _way(row: AccuracyRow) -> str:
    """How a label is told, in words."""
    if row.layer is not None:
        where = f"layer {row.layer}"
    elif len(row.layers) > 1:
        where = f"layers {'+'.join(map(str, row.layers))}"
    else:
        where = f"layer {row.layers[0]}" if row.layers else "all layers"
    return f"{METHODS[row.method]}, {where}"


def _layers(records: Sequence[Record]) -> AnyChart:
    used = [name for name in PARTITIONS if any(record["partition"] == name for record in records)]
    legend = alt.Legend(orient="top", values=used, symbolOpacity=1)
    ways = list(dict.fromkeys(str(record["way"]) for record in records))
    rates = ["learning rate:N"] if any("learning rate" in record for record in records) else []
    base = alt.Chart().encode(
        y=alt.Y("way:N", title=None, sort=ways, axis=alt.Axis(labelLimit=270)),
        yOffset=alt.YOffset("partition:N", sort=used),
        color=alt.Color("partition:N", scale=PARTITION_COLOURS, title=None, legend=legend),
    )
    x = alt.X("mean:Q", title="accuracy", scale=alt.Scale(zero=False, nice=True))
    tooltip = [
        alt.Tooltip("way:N"),
        alt.Tooltip("partition:N"),
        alt.Tooltip("epoch:Q"),
        *interval_tooltips(records),
    ]
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title="accuracy"), x2=alt.X2("high:Q")
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=x,
        shape=alt.Shape("partition:N", scale=PARTITION_SHAPES, title=None, legend=legend),
        tooltip=[*tooltip, *rates, alt.Tooltip("seeds:Q"), alt.Tooltip("samples:Q")],
    )
    return alt.layer(bars, points)


def _caption(sources: Sequence[ChartSource], records: Sequence[Record]) -> Iterator[str]:
    seeds = max(int(record["seeds"] or 0) for record in records)
    epochs = sorted({int(r["epoch"] or 0) for r in records if "learning rate" not in r})
    after = f"after epoch {epochs[0]:,}" if len(epochs) == 1 else "after the last epoch that has it"
    if any(len({row.epoch for row in _rows(source)}) > 1 for source in sources):
        after = "with the weights that each seed ended with"
    yield drawn_note(data_names(sources), f"mean over {counted(seeds, 'seed')} {after}")
    yield interval_note("bars", seeds, shares=True)
    if untuned := list(
        dict.fromkeys(
            str(record["way"])
            for record in records
            if "not tuned" in str(record.get("learning rate", ""))
            and ", layer " not in str(record["way"])
        )
    ):
        yield f"Learning rate not tuned: {'; '.join(untuned)}."
    yield guess_note(sources)
    yield panels_note(len(labels_of(records)))


def guess_note(sources: Sequence[ChartSource]) -> str:
    """What a caption says of a guess, where all data sets have as many classes."""
    classes = {facts.classes for name in _names(sources) if (facts := DATASETS.get(name))}
    if len(classes) != 1:
        return ""
    return f"A guess is right for {1 / classes.pop():.3g} of the samples."


def _names(sources: Sequence[ChartSource]) -> list[str]:
    return data_names(sources).split(", ")
