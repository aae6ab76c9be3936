"""Result rows -> charts, one function a chart: the same pictures for the page, the report, the command line and the API."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import altair as alt
import vl_convert

from ffengine.results import CheckCell, EpochRow, RunResult, TrainResult
from ffengine.study import interval
from ffengine.theorems import THEOREMS, TheoremNumber

ChartFormat = Literal["png", "svg", "json", "html"]
FORMATS: tuple[ChartFormat, ...] = ("png", "svg", "json", "html")
MEDIA_TYPES: dict[ChartFormat, str] = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
}

# Okabe and Ito's palette: told apart by people who see colours differently
BLUE, VERMILLION, GREEN, ORANGE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#666666"
SPLIT_COLOURS = alt.Scale(domain=["positive", "negative"], range=[BLUE, VERMILLION])
METHOD_COLOURS = alt.Scale(domain=["exact", "infinite width"], range=[BLUE, ORANGE])
UNIT_SCALE, FREE_SCALE = alt.Scale(domain=[0, 1]), alt.Scale(zero=False)
LEGEND = alt.Legend(orient="top", symbolOpacity=1)
SHARES = frozenset({"theorem1_ratio", "theorem2_ratio", "observed_increase_ratio", "agreement", "zero_fraction", "sparsity"})
Z_95 = 1.959964

Record = dict[str, str | int | float | None]
AnyChart = alt.LayerChart | alt.FacetChart | alt.Chart


class Source(NamedTuple):
    """One result to draw, and what tells it from the others ("" where it is the only one)."""

    label: str
    result: RunResult


class SoFar(NamedTuple):
    """The rows of one job that has no result yet, to draw."""

    label: str
    curves: Sequence[EpochRow] = ()
    cells: Sequence[CheckCell] = ()


Drawable = Source | SoFar


class NothingToDraw(LookupError):  # noqa: N818
    """The results hold no rows for this chart."""


class ChartEntry(NamedTuple):
    """A chart: its name, what it shows, and how it is drawn."""

    name: str
    meaning: str
    draw: Callable[[Sequence[Drawable]], AnyChart]


def render(name: str, sources: Sequence[Drawable], fmt: ChartFormat) -> bytes:
    """A chart as bytes. KeyError for an unknown name, NothingToDraw where the results have no rows for it."""
    chart = CHARTS[name].draw(sources)
    if fmt == "json":
        return chart.to_json(indent=None).encode()
    specification = chart.to_json()
    if fmt == "svg":
        return vl_convert.vegalite_to_svg(specification).encode()
    if fmt == "png":
        return bytes(vl_convert.vegalite_to_png(specification, scale=2.0))
    return vl_convert.vegalite_to_html(specification, bundle=True).encode()


def available(sources: Sequence[Drawable]) -> list[str]:
    """The names of the charts for which the results have rows."""
    cells, rows = _cells(sources), _rows(sources)
    theorems = {cell.theorem for _, cell in cells}
    names = [f"theorem{number}_widths" for number in (1, 2) if number in theorems]
    return names + [name for name in ("theorem2", "sparsity", "goodness", "agreement") if rows]


def theorem1_widths(sources: Sequence[Drawable]) -> AnyChart:
    """Share of samples that meet theorem 1's condition, by width and method."""
    return _by_width(sources, 1, f"paper: more than {THEOREMS[1].published}")


def theorem2_widths(sources: Sequence[Drawable]) -> AnyChart:
    """Share of samples that meet theorem 2's condition, by width, split and method."""
    return _by_width(sources, 2, "paper: more than one half")


def theorem2(sources: Sequence[Drawable]) -> AnyChart:
    """Share of samples that meet the condition along the training step, epoch by epoch."""
    rule = _reference(THEOREMS[2].published, "paper: more than one half", UNIT_SCALE)
    return _over_epochs(sources, "theorem2_ratio", "satisfied / live samples", "Theorem 2 while training", scale=UNIT_SCALE, rule=rule)


def sparsity(sources: Sequence[Drawable]) -> AnyChart:
    """Mean Hoyer sparsity of both splits, epoch by epoch."""
    return _over_epochs(sources, "sparsity", "Hoyer sparsity S  (1 = one unit active)", "Sparsity while training")


def goodness(sources: Sequence[Drawable]) -> AnyChart:
    """Mean goodness of both splits, epoch by epoch."""
    return _over_epochs(sources, "goodness", "mean goodness, less the threshold", "Goodness while training")


def agreement(sources: Sequence[Drawable]) -> AnyChart:
    """How often the predicted sign of the change of S is the one that a real step makes."""
    return _over_epochs(sources, "agreement", "share of live samples", "Predicted sign of dS = observed sign")


CHARTS: dict[str, ChartEntry] = {
    draw.__name__: ChartEntry(draw.__name__, (draw.__doc__ or "").strip(), draw)
    for draw in (theorem1_widths, theorem2_widths, theorem2, sparsity, goodness, agreement)
}


# Lines over epochs, with a band over seeds


def _over_epochs(
    sources: Sequence[Drawable],
    figure: str,
    axis: str,
    title: str,
    *,
    scale: alt.Scale = FREE_SCALE,
    rule: AnyChart | None = None,
) -> AnyChart:
    rows = _rows(sources)
    records = _epoch_records(rows, figure)
    if not records:
        raise NothingToDraw(f"no epoch has a value of {figure}")
    x = alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d", grid=False))
    base = alt.Chart().encode(x=x, color=alt.Color("split:N", scale=SPLIT_COLOURS, title=None, legend=LEGEND))
    band = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", title=axis, scale=scale), y2="high:Q")
    line = base.mark_line(point=alt.OverlayMarkDef(size=30)).encode(
        y=alt.Y("mean:Q", title=axis, scale=scale),
        shape=alt.Shape("split:N", title=None, legend=None),
        tooltip=["series:N", "split:N", "epoch:Q", alt.Tooltip("mean:Q", format=".4f"), "seeds:Q", "samples:Q"],
    )
    layers = alt.layer(*([rule] if rule else []), band, line)
    return _titled(_faceted(layers, records), title, _caption(records))


def _epoch_records(rows: Iterable[tuple[str, EpochRow]], figure: str) -> list[Record]:
    groups: dict[tuple[str, int, str], list[EpochRow]] = defaultdict(list)
    for label, row in rows:
        if getattr(row, figure) is not None:
            groups[label, row.epoch, row.split].append(row)
    records: list[Record] = []
    for (label, epoch, split), group in sorted(groups.items()):
        found = interval([getattr(row, figure) for row in group])
        records.append(
            {
                "series": label,
                "epoch": epoch,
                "split": split,
                "mean": found.mean,
                "seeds": found.seeds,
                "low": found.mean if found.low is None else max(found.low, 0.0 if figure in SHARES else found.low),
                "high": found.mean if found.high is None else min(found.high, 1.0 if figure in SHARES else found.high),
                "samples": group[0].samples,
            }
        )
    return records


# Points by width, with Wilson's interval over all samples


def _by_width(sources: Sequence[Drawable], theorem: TheoremNumber, label: str) -> AnyChart:
    records = _width_records([(series, cell) for series, cell in _cells(sources) if cell.theorem == theorem])
    if not records:
        raise NothingToDraw(f"no check of theorem {theorem}")
    reference = THEOREMS[theorem].published
    lowest = min(float(record["low"] or 0) for record in records)
    bottom = 0.0 if theorem == 2 else math.floor(min(lowest, reference - 0.001) * 1000) / 1000
    scale = alt.Scale(domain=[bottom, 1.0], clamp=True)
    colour = alt.Color("method:N", scale=METHOD_COLOURS, title=None, legend=LEGEND)
    base = alt.Chart().encode(x=alt.X("width:O", title="width n (units)", axis=alt.Axis(labelAngle=0)), xOffset="method:N", color=colour)
    bars = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title="satisfied / live samples", scale=scale), y2="high:Q")
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        y=alt.Y("ratio:Q", scale=scale),
        shape=alt.Shape("method:N", title=None, legend=None),
        tooltip=["width:O", "split:N", "method:N", alt.Tooltip("ratio:Q", format=".5f"), "satisfied:Q", "live:Q", "seeds:Q"],
    )
    layers = alt.layer(_reference(reference, label, scale), bars, points)
    if theorem == 2:
        for record in records:
            record["series"] = f"{record['series']}  {record['split']} samples".strip()
    return _titled(_faceted(layers, records), f"Theorem {theorem}: samples whose sparsity rises to first order", _width_caption(records))


def _width_records(cells: Iterable[tuple[str, CheckCell]]) -> list[Record]:
    groups: dict[tuple[str, int, str, str], list[CheckCell]] = defaultdict(list)
    for label, cell in cells:
        groups[label, cell.width, cell.split, cell.method].append(cell)
    records: list[Record] = []
    for (label, width, split, method), group in sorted(groups.items()):
        live, satisfied = sum(cell.live for cell in group), sum(cell.satisfied for cell in group)
        if not live:
            continue
        low, high = wilson(satisfied, live)
        seeds = interval([cell.ratio for cell in group if cell.ratio is not None])
        if seeds.low is not None and seeds.high is not None:  # samples that share weights are not independent
            low, high = max(0.0, min(low, seeds.low)), min(1.0, max(high, seeds.high))
        records.append(
            {
                "series": label,
                "width": width,
                "split": split,
                "method": method.replace("_", " "),
                "ratio": satisfied / live,
                "low": low,
                "high": high,
                "satisfied": satisfied,
                "live": live,
                "seeds": len(group),
                "batch": group[0].batch_size,
            }
        )
    return records


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; `trials` above 0."""
    share, z2 = successes / trials, Z_95**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z_95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(0.0, middle - half), min(1.0, middle + half)


# Parts of every chart


def _reference(value: float, label: str, scale: alt.Scale) -> AnyChart:
    data = _data([{"value": value, "label": label}])
    rule = alt.Chart(data).mark_rule(strokeDash=[6, 4], color=GREY).encode(y=alt.Y("value:Q", scale=scale))
    text = alt.Chart(data).mark_text(align="right", baseline="top", dy=4, dx=-4, color=GREY)
    return alt.layer(rule, text.encode(y=alt.Y("value:Q", scale=scale), x=alt.value("width"), text="label:N"))


def _data(values: Sequence[Record]) -> alt.InlineData:
    return alt.InlineData(values=list(values))


def _faceted(layers: AnyChart, records: Sequence[Record]) -> AnyChart:
    series = sorted({str(record["series"]) for record in records}, key=lambda label: ("negative samples" in label, label))
    if len(series) == 1:
        return layers.properties(width=460, height=280, data=_data(records))
    facet = alt.Facet("series:N", title=None, sort=series, header=alt.Header(labelFontSize=12))
    return layers.properties(width=260, height=200).facet(facet=facet, data=_data(records), columns=2)


def _titled(chart: AnyChart, title: str, caption: list[str]) -> AnyChart:
    # the page shows the same specification in light and dark, so only marks carry colours
    titled: AnyChart = (
        chart.properties(
            title=alt.TitleParams(title, subtitle=caption, anchor="start", fontSize=15, subtitleColor=GREY, subtitlePadding=4, offset=8)
        )
        .configure_view(stroke=None)
        .configure_axis(gridOpacity=0.3, labelFontSize=11, titleFontSize=12, titleFontWeight="normal")
        .configure(font="Helvetica, Arial, sans-serif", padding=12)
    )
    return titled


def _caption(records: Sequence[Record]) -> list[str]:
    seeds = max(int(record["seeds"] or 0) for record in records)
    samples = max(int(record["samples"] or 0) for record in records)
    band = "band: 95 % interval of the mean over seeds" if seeds > 1 else "one seed: no interval"
    return [f"mean over {seeds} seed{'s' if seeds > 1 else ''}, {samples:,} samples of each split and seed", band]


def _width_caption(records: Sequence[Record]) -> list[str]:
    seeds, batch = max(int(record["seeds"] or 0) for record in records), max(int(record["batch"] or 0) for record in records)
    live = max(int(record["live"] or 0) for record in records)
    return [
        f"{live:,} live samples a point ({seeds} seeds, batches of {batch:,});",
        "bars: 95 % interval, the wider of Wilson's over samples and Student's over seeds",
    ]


def _rows(sources: Sequence[Drawable]) -> list[tuple[str, EpochRow]]:
    return [
        (" ".join(filter(None, (source.label, f"layer {row.layer}" if deep else ""))), row)
        for source in sources
        for curves in [_curves(source)]
        for deep in [len({row.layer for row in curves}) > 1]
        for row in curves
    ]


def _curves(source: Drawable) -> Sequence[EpochRow]:
    if isinstance(source, SoFar):
        return source.curves
    return source.result.curves if isinstance(source.result, TrainResult) else ()


def _cells(sources: Sequence[Drawable]) -> list[tuple[str, CheckCell]]:
    found: list[tuple[str, CheckCell]] = []
    for source in sources:
        cells = source.cells if isinstance(source, SoFar) else () if isinstance(source.result, TrainResult) else source.result.cells
        found += [(source.label, cell) for cell in cells]
    return found
