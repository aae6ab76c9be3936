"""Charts of what units do after training: how they share the work, how selective they are, and what
accuracy is left once some are removed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import altair as alt

from ffengine.intervals import interval
from ffengine.results import LesionRow, OodRow, SelectivityRow, TrainResult, UsageRow
from service.results.charts.accuracies import guess_note
from service.results.charts.drawables import NothingToDraw, data_names
from service.results.charts.intervals import Band, band, banded
from service.results.charts.style import (
    BLUE,
    GREY,
    LEGEND,
    AnyChart,
    Record,
    drawn_note,
    in_panels,
    interval_note,
    interval_tooltips,
    labels_of,
    panels_note,
    ranged,
    series_looks,
    titled,
)
from service.results.sources import ChartSource, Source

SHARE = alt.Scale(domain=[0, 1])
FIRST = {
    "usage": "least used first",
    "magnitude": "smallest first",
    "random": "at random",
}
OWN = "Forward-Forward"
OOD_FIGURES = {"auroc": "AUROC", "fpr95": "FPR95"}
TOLD_BY = {"goodness": "goodness", "sparsity": "S of activations"}
ALL_LAYERS = "all"
BOTTOMS = [tenth / 10 for tenth in range(10)]  # of the bins of selectivity
LABELS = {
    "neutral": "Samples carry a neutral label.",
    "plain": "Samples carry no label.",
}


class Axes(NamedTuple):
    """What a chart of lines has on its axes; `line` names what its lines are told apart by."""

    x: str
    y: str
    line: str


def has_usage(sources: Sequence[ChartSource]) -> bool:
    """Whether a training run says how units share the work."""
    return any(next(_usage(source), None) for source in sources)


def has_selectivity(sources: Sequence[ChartSource]) -> bool:
    """Whether a training run says how selective units are, of any that live."""
    return any(next(_selectivity(source), None) for source in sources)


def has_lesions(sources: Sequence[ChartSource]) -> bool:
    """Whether a training run has the accuracy that lesions leave."""
    return any(_result(source).lesions for source in sources if _trained(source))


def has_ood(sources: Sequence[ChartSource]) -> bool:
    """Whether a training run says how other data are told from its own."""
    return any(next(_ood(source), None) for source in sources)


def usage(sources: Sequence[ChartSource]) -> AnyChart:
    """Mean activation of the units of each layer over the largest, from the least used on."""
    records = [record for source in sources for record in _usage(source)]
    if not records:
        raise NothingToDraw("no layer has a used unit; evaluation.usage measures it")
    axes = Axes("share of units, least used first", "mean |h| over the largest", "partition")
    caption = [
        *_drawn(sources, records, "band", shares=False),
        "A layer whose units all do as much has a line at 1; units below 1 % of the largest do not "
        "count as used.",
    ]
    return titled(in_panels(_lines(records, axes), records), "How units share the work", caption)


def selectivity(sources: Sequence[ChartSource]) -> AnyChart:
    """Distribution of the class selectivity of the live units of each layer."""
    records = [record for source in sources for record in _selectivity(source)]
    if not records:
        raise NothingToDraw("no layer has a live unit; evaluation.selectivity measures it")
    kinds = dict.fromkeys(str(record["inputs"]) for record in records)
    caption = [
        *_drawn(sources, records, "lines", shares=False),
        "It is (m1 - m2) / (m1 + m2): m1 is the largest class mean of |h|, m2 the mean of the "
        "others. 0: all classes drive the unit alike; 1: one class alone does.",
        *kinds,
    ]
    chart = in_panels(_bars(records), records)
    return titled(chart, "How selective units are for one class", caption)


def lesions(sources: Sequence[ChartSource]) -> AnyChart:
    """Accuracy on test samples once a share of the units or weights is removed at once."""
    several = any(row.baseline for source in sources for row in _lesions(source))
    records = [record for source in sources for record in _left(source, by_network=several)]
    if not records:
        raise NothingToDraw("no network has lost parts; evaluation.lesions removes some")
    axes = Axes("share that is removed", "accuracy on test samples", "line")
    caption = [
        *_drawn(sources, records, "band", shares=True),
        "Removed at once, without training afterwards; the share is that of every layer, or of the "
        "layer that a panel names.",
        guess_note(sources),
    ]
    chart = in_panels(_lines(records, axes), records)
    return titled(chart, "What is left after lesions", caption)


def ood(sources: Sequence[ChartSource]) -> AnyChart:
    """AUROC and FPR95 of goodness and of S, by layer, for another data set."""
    records = [record for source in sources for record in _ood(source)]
    if not records:
        raise NothingToDraw("no other data were shown; evaluation.ood names some")
    others = {row.dataset for source in sources for row in _other_rows(source)}
    caption = [
        *_drawn(sources, records, "lines", shares=False),
        *(
            ["The line of an AUROC of one seed is its interval over samples (DeLong et al. 1988)."]
            if any(record["seeds"] == 1 for record in records)
            else []
        ),
        f"Test samples against samples of {', '.join(sorted(others))}, both under their predicted "
        "label, where samples carry one.",
        "AUROC: probability that a test sample has more than another one; 0.5 tells nothing. "
        "FPR95: share of the others that passes where 95 % of the test samples do.",
    ]
    return titled(in_panels(_points(records), records), "How other data are told apart", caption)


def _other_rows(source: ChartSource) -> Sequence[OodRow]:
    return _result(source).ood if _trained(source) else ()


def _ood(source: ChartSource) -> Iterator[Record]:
    """One record for each of two figures, layer, and what it is measured of."""
    groups: dict[tuple[int | None, str], list[OodRow]] = defaultdict(list)
    for row in _other_rows(source):
        if row.auroc is not None:
            groups[row.layer, row.figure].append(row)
    for name, words in OOD_FIGURES.items():
        for (layer, figure), alike in groups.items():
            values = [float(getattr(row, name)) for row in alike]
            yield {
                "series": _label(source, words),
                "line": TOLD_BY[figure],
                "x": ALL_LAYERS if layer is None else str(layer),
                **(_band(values) if len(alike) > 1 else _of_samples(alike[0], name))._asdict(),
                "samples": sum(row.samples + row.other_samples for row in alike),
            }


def _of_samples(row: OodRow, name: str) -> Band:
    """The interval of a single seed: over samples, where there is one."""
    low, high = (row.auroc_low, row.auroc_high) if name == "auroc" else (None, None)
    return _band([float(getattr(row, name))])._replace(low=low, high=high)


def _points(records: Sequence[Record]) -> AnyChart:
    """A point with its interval for each layer and figure, side by side."""
    names = list(dict.fromkeys(str(record["line"]) for record in records))
    looks = series_looks(len(names))
    layers = list(dict.fromkeys(str(record["x"]) for record in records))
    tooltip = [
        *([alt.Tooltip("series:N")] if len(labels_of(records)) > 1 else []),
        alt.Tooltip("line:N", title=" "),
        alt.Tooltip("x:N", title="layer"),
        *interval_tooltips(records),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("samples:Q"),
    ]
    colours = alt.Scale(domain=names, range=looks.colours)
    shapes = alt.Scale(domain=names, range=looks.shapes)
    base = alt.Chart().encode(
        x=alt.X("x:N", title="layer", sort=layers, axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("line:N", sort=names),
        color=alt.Color("line:N", scale=colours, title=None, legend=LEGEND),
    )
    rules = base.mark_rule(strokeWidth=2).encode(
        y=alt.Y("low:Q", title="share", scale=SHARE), y2=alt.Y2("high:Q")
    )
    points = base.mark_point(filled=True, opacity=1, size=60).encode(
        y=alt.Y("mean:Q", title="share", scale=SHARE),
        shape=alt.Shape("line:N", scale=shapes, title=None, legend=LEGEND),
        tooltip=tooltip,
    )
    return alt.layer(rules, points)


def _trained(source: ChartSource) -> bool:
    return isinstance(source, Source) and isinstance(source.result, TrainResult)


def _result(source: ChartSource) -> TrainResult:
    assert isinstance(source, Source)  # noqa: S101 - narrows the type
    assert isinstance(source.result, TrainResult)  # noqa: S101 - narrows the type
    return source.result


def _lesions(source: ChartSource) -> Sequence[LesionRow]:
    return _result(source).lesions if _trained(source) else ()


def _drawn(
    sources: Sequence[ChartSource], records: Sequence[Record], mark: str, *, shares: bool
) -> Iterator[str]:
    """What a caption says of the data, the means and their intervals."""
    seeds = [int(record["seeds"] or 0) for record in records]
    samples = ranged((int(record["samples"] or 0) for record in records), "sample")
    yield drawn_note(
        data_names(sources), f"mean over {ranged(seeds, 'seed')}", f"{samples} per point"
    )
    yield interval_note(mark, max(seeds), shares=shares)
    yield panels_note(len(labels_of(records)))


def _label(source: ChartSource, *parts: str) -> str:
    return " ".join(filter(None, (source.label, ", ".join(filter(None, parts)))))


def _of_layer(layer: int | None, rows: Iterable[UsageRow | SelectivityRow | LesionRow]) -> str:
    """The name of a layer; "" where there is only one."""
    several = len({row.layer for row in rows}) > 1
    return f"layer {layer}" if several and layer is not None else ""


def _usage(source: ChartSource) -> Iterator[Record]:
    rows = [row for row in _result(source).usage if row.usage_deciles] if _trained(source) else []
    groups: dict[tuple[int, str], list[UsageRow]] = defaultdict(list)
    for row in rows:
        groups[row.layer, row.partition].append(row)
    for (layer, partition), alike in groups.items():
        for place, values in enumerate(zip(*(row.usage_deciles for row in alike), strict=True)):
            yield {
                "series": _label(source, _of_layer(layer, rows)),
                "partition": partition,
                "x": place / (len(alike[0].usage_deciles) - 1),
                **_band(values)._asdict(),
                "samples": sum(row.samples for row in alike),
            }


def _selectivity(source: ChartSource) -> Iterator[Record]:
    """One record for each layer and bin, of test samples."""
    found = _result(source).selectivity if _trained(source) else ()
    rows = [row for row in found if row.histogram and row.partition == "test"]
    groups: dict[int, list[SelectivityRow]] = defaultdict(list)
    for row in rows:
        groups[row.layer].append(row)
    for layer, alike in groups.items():
        shares = [[count / sum(row.histogram) for count in row.histogram] for row in alike]
        for bottom, values in zip(BOTTOMS, zip(*shares, strict=True), strict=True):
            yield {
                "series": _label(source, _of_layer(layer, rows)),
                "bottom": bottom,
                "middle": round(bottom + 0.05, 2),
                "top": round(bottom + 0.1, 1),
                **_band(values)._asdict(),
                "samples": sum(row.samples for row in alike),
                "inputs": LABELS[alike[0].inputs],
            }


def _left(source: ChartSource, *, by_network: bool) -> Iterator[Record]:
    """One record for each curve and share.

    Curves of one panel are those of several networks, or else of several orders of removal.
    """
    curves: dict[tuple[object, ...], list[LesionRow]] = defaultdict(list)
    for row in _lesions(source):
        key = (row.removed, row.by, row.layer, row.baseline, row.place, row.share)
        curves[key].append(row)
    for alike in curves.values():
        row = alike[0]
        layer = f"layer {row.layer}" if row.layer is not None else ""
        first = FIRST[row.by]
        hits = [one.accuracy for one in alike]
        samples = [one.samples for one in alike]
        yield {
            "series": _label(source, row.removed, first if by_network else "", layer),
            "line": _network(source, row) if by_network else first,
            "x": row.share,
            **band(interval(hits, share=True, samples=samples))._asdict(),
            "samples": sum(samples),
        }


def _network(source: ChartSource, row: LesionRow) -> str:
    """The name of a network; of baselines of one name, with their number."""
    if row.baseline is None:
        return OWN
    alike = {one.place for one in _lesions(source) if one.baseline == row.baseline}
    name = row.baseline.replace("_", " ")
    return f"{name} ({(row.place or 0) + 1})" if len(alike) > 1 else name


def _band(values: Sequence[float]) -> Band:
    return band(interval(list(values), share=True))


def _lines(records: Sequence[Record], axes: Axes) -> AnyChart:
    """A line with its band and its points for each curve of a panel."""
    names = list(dict.fromkeys(str(record[axes.line]) for record in records))
    looks, field = series_looks(len(names)), f"{axes.line}:N"
    colours = alt.Scale(domain=names, range=looks.colours)
    dashes = alt.Scale(domain=names, range=looks.dashes)
    shapes = alt.Scale(domain=names, range=looks.shapes)
    tooltip = [
        *([alt.Tooltip("series:N")] if len(labels_of(records)) > 1 else []),
        alt.Tooltip(field, title=" "),
        alt.Tooltip("x:Q", title=axes.x),
        *interval_tooltips(records),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("samples:Q"),
    ]
    base = alt.Chart().encode(
        x=alt.X("x:Q", title=axes.x, scale=SHARE),
        color=alt.Color(field, scale=colours, title=None, legend=LEGEND),
    )
    y = alt.Y("mean:Q", title=axes.y, scale=SHARE)
    dash = alt.StrokeDash(field, scale=dashes, title=None, legend=LEGEND)
    shape = alt.Shape(field, scale=shapes, title=None, legend=LEGEND)
    with_bounds = any(record["low"] is not None for record in records)
    bands = (
        banded(base, axes.y, SHARE, ("low", "high"), opacity=0.15, edged=False)
        if with_bounds
        else []
    )
    line = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash, tooltip=tooltip)
    points = base.mark_point(filled=True, opacity=1, size=30).encode(
        y=y, shape=shape, tooltip=tooltip
    )
    return alt.layer(*bands, line, points)


def _bars(records: Sequence[Record]) -> AnyChart:
    """A bar with its interval for each bin."""
    tooltip = [
        *([alt.Tooltip("series:N")] if len(labels_of(records)) > 1 else []),
        alt.Tooltip("bottom:Q", title="from"),
        alt.Tooltip("top:Q", title="to"),
        *interval_tooltips(records),
        alt.Tooltip("seeds:Q"),
    ]
    title = "class selectivity of a unit"
    axis = "share of live units"
    bars = alt.Chart().mark_bar(color=BLUE, opacity=0.6)
    bars = bars.encode(
        x=alt.X("bottom:Q", bin="binned", title=title, scale=SHARE),
        x2="top:Q",
        y=alt.Y("mean:Q", title=axis, scale=alt.Scale(domainMin=0)),
        tooltip=tooltip,
    )
    rules = alt.Chart().mark_rule(strokeWidth=1.5, color=GREY)
    rules = rules.encode(
        x=alt.X("middle:Q", title=title), y=alt.Y("low:Q", title=axis), y2=alt.Y2("high:Q")
    )
    return alt.layer(bars, rules)
