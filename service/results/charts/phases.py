"""Sparsity beside both theorems in runs whose phases of positives and of negatives take turns: the
saw-tooth of S, with the phases that make it.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

import altair as alt

from ffengine.datasets import DATASETS
from ffengine.results import Split, TrainResult
from ffengine.spec import TrainSpec
from service.results.charts.drawables import NothingToDraw, curves, has_figure
from service.results.charts.epochs import (
    EPOCHS,
    Figure,
    Lines,
    Style,
    caption_of,
    curve_layers,
    points_of,
    records_of_lines,
)
from service.results.charts.style import (
    FREE_SCALE,
    GREY,
    GREY_LEGEND,
    MOST_PANELS,
    SPARSITY_NOTE,
    AnyChart,
    Record,
    in_panels,
    labels_of,
    titled,
)
from service.results.sources import ChartSource, PartialRun, Source

TITLE = "Sparsity and both theorems in phases"
PANELS: Mapping[Figure, str] = {
    "sparsity": "sparsity S",
    "theorem1_ratio": "theorem 1",
    "theorem2_ratio": "theorem 2",
}
MOST_CURVES = MOST_PANELS // len(PANELS)
MOST_BANDS = 60  # negative phases of a panel; between more of them no gaps would be seen
AFTER: Mapping[Split, str] = {
    "positive": "after a positive step",
    "negative": "after a negative step",
}
DASHES = alt.Scale(domain=list(AFTER.values()), range=[[1, 0], [2, 3]])
RATIOS = (
    "The panels of the theorems have the share of live samples that satisfy them. Theorem 2 is "
    "along the step that comes next, which learns from one split alone."
)
STRIPES = (
    "Grey stripes are negative phases, whose steps lower the goodness of negatives; the steps "
    "between them raise that of positives."
)
ENVELOPES = (
    "Phases are too many, or too short for the measured epochs, to be marked: one line joins the "
    "epochs that end with a positive step, another those that end with a negative one, and a "
    "saw-tooth lies between the two."
)
Bands = Sequence[tuple[float, float]]


class Phased(NamedTuple):
    """The curve of a layer of a run in phases, and how many steps each of its epochs has."""

    label: str
    spec: TrainSpec
    epoch_steps: int

    def last_split(self, epoch: int) -> Split | None:
        """Return what the last step of an epoch learnt from; None of epoch 0, which has none."""
        step = epoch * self.epoch_steps - 1
        return self.spec.phases.split_at(step, self.epoch_steps) if epoch else None

    def negative_phases(self, end: int) -> Bands:
        """Return where negative phases begin and end, in epochs, one more than MOST_BANDS at most.

        **Arguments:**

        - `end`: the last epoch.
        """
        phases = self.spec.phases
        unit = self.epoch_steps if phases.unit == "steps" else 1
        up, down = phases.positive_steps / unit, phases.negative_steps / unit
        if not (up and down):
            return [(0.0, float(end))] if down and end else []
        count = min(MOST_BANDS + 1, int(end / (up + down)) + 1)
        starts = (number * (up + down) + up for number in range(count))
        return [(start, min(start + down, end)) for start in starts if start < end]


def in_phases(sources: Sequence[ChartSource]) -> bool:
    """Whether any run in phases has S."""
    return any(
        has_figure(source, "sparsity") and next(_phased([source]), None) is not None
        for source in sources
    )


def phases(sources: Sequence[ChartSource]) -> AnyChart:
    """S of each layer by epoch beside the ratios of theorem 1 and theorem 2, in runs whose steps
    learn from positives and from negatives in turn.
    """
    found = list(_phased(sources))
    lines = {figure: _lines(sources, figure) for figure in PANELS}
    shown = [one for one in found if one.label in lines["sparsity"]][:MOST_CURVES]
    if not shown:
        raise NothingToDraw("no run in phases has a value of sparsity")
    bands = [_bands_of(one, lines["sparsity"][one.label]) for one in shown]
    many = None in bands
    records = [
        record
        for one, own in zip(shown, bands, strict=True)
        for figure in PANELS
        if one.label in lines[figure]
        for record in _panel(one, figure, lines[figure][one.label], None if many else own)
    ]
    caption = [
        *caption_of(sources, records, shares=True),
        SPARSITY_NOTE,
        RATIOS,
        ENVELOPES if many else STRIPES,
        f"Only the first {MOST_CURVES} of {len(found):,} are drawn."
        if len(found) > MOST_CURVES
        else "",
    ]
    return titled(_drawn(records, many=many), TITLE, caption)


def _phased(sources: Sequence[ChartSource]) -> Iterator[Phased]:
    """Yield the curves of runs in phases of which it is known how many steps an epoch has."""
    for curve in curves(sources):
        if curve.spec is not None and curve.spec.phases.alternate:
            steps = _epoch_steps(curve.source, curve.spec)
            if steps:
                yield Phased(curve.label, curve.spec, steps)


def _epoch_steps(source: ChartSource, spec: TrainSpec) -> int | None:
    """Return how many steps an epoch has; None where the samples of an upload are not known yet."""
    if isinstance(source, Source) and isinstance(source.result, TrainResult):
        samples = source.result.provenance.dataset.train_samples
    elif isinstance(source, PartialRun) and (facts := DATASETS.get(spec.dataset.name)):
        samples = spec.dataset.train_count(facts)
    else:
        return 1 if spec.phases.unit == "epochs" else None
    return -(-samples // spec.batch_size)


def _lines(sources: Sequence[ChartSource], figure: Figure) -> Mapping[str, Lines]:
    """Return the points of a figure by curve, of the curves that have it."""
    _, found = points_of(sources, figure)
    return {label: lines for label, lines in found.items() if lines}


def _bands_of(one: Phased, lines: Lines) -> Bands | None:
    """Return the bands of negative phases; None where they are too many to be seen, or where fewer
    epochs are measured than phases begin.
    """
    epochs = {epoch for line in lines.values() for epoch in line}
    found = one.negative_phases(max(epochs))
    return found if len(found) <= MOST_BANDS and 2 * len(found) <= len(epochs) else None


def _panel(one: Phased, figure: Figure, lines: Lines, bands: Bands | None) -> list[Record]:
    """Return the records of a panel: of few phases one has each band, of many a word what the last
    step was.

    Flow time is left out: bands are over epochs.
    """
    series = " ".join(filter(None, (one.label, PANELS[figure])))
    if bands is None:
        parts: list[tuple[str | None, Lines]] = [
            (AFTER[split], _ending_with(one, split, lines)) for split in AFTER
        ]
    else:
        parts = [(None, lines)]
    records: list[Record] = [
        {**record, "tau": None, **({} if what is None else {"what": what})}
        for what, part in parts
        for record in records_of_lines([series], {series: part}, figure)
    ]
    for record, band in zip_longest(records, bands or (), fillvalue=None):
        if record is not None and band is not None:
            record["band_start"], record["band_end"] = band
    return records


def _ending_with(one: Phased, split: Split, lines: Lines) -> Lines:
    """Return the epochs whose last step learnt from a split."""
    kept = {
        name: {epoch: point for epoch, point in line.items() if one.last_split(epoch) == split}
        for name, line in lines.items()
    }
    return {name: line for name, line in kept.items() if line}


def _drawn(records: Sequence[Record], *, many: bool) -> AnyChart:
    """Return the panels: of one curve above each other, of several in a row for each."""
    dash = alt.StrokeDash("what:N", scale=DASHES, title=None, legend=GREY_LEGEND) if many else None
    lines = curve_layers(records, Style("", ""), FREE_SCALE, dash)
    marked = any("band_end" in record for record in records)
    layers = alt.layer(_band_layer(), lines) if marked else lines
    one = len(labels_of(records)) <= len(PANELS)
    return in_panels(layers, records, own_scales=True, columns=1 if one else len(PANELS))


def _band_layer() -> AnyChart:
    """Return the bands of negative phases, as high as the panel."""
    rect = alt.Chart().mark_rect(opacity=0.18, color=GREY, clip=True)
    drawn: AnyChart = rect.transform_filter("isValid(datum.band_end)").encode(
        x=alt.X("band_start:Q", title=EPOCHS["title"], axis=EPOCHS["axis"]), x2="band_end:Q"
    )
    return drawn
