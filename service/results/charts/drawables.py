"""The rows that charts draw, taken from their sources."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ffengine.results import CheckCell, CheckResult, EpochRow, TrainResult
from ffengine.spec import TrainSpec
from ffengine.theorems import DIRECTIONS
from service.results.sources import ChartSource, PartialRun, Source, StudyGrid


class NothingToDraw(LookupError):
    """The results hold no rows for this chart."""


class Curve(NamedTuple):
    """The rows of one layer of one result, with a label."""

    label: str
    rows: Sequence[EpochRow]
    spec: TrainSpec | None


def curves(sources: Sequence[ChartSource]) -> Iterator[Curve]:
    """The curve of each layer of each training run; where there are several, its label names it."""
    for source in sources:
        rows = curve_rows(source)
        spec = (
            source.spec
            if not isinstance(source, StudyGrid) and isinstance(source.spec, TrainSpec)
            else None
        )
        layers = sorted({row.layer for row in rows})
        for layer in layers:
            label = " ".join(
                filter(None, (source.label, f"layer {layer}" if len(layers) > 1 else ""))
            )
            yield Curve(label, [row for row in rows if row.layer == layer], spec)


def curve_rows(source: ChartSource) -> Sequence[EpochRow]:
    """The rows of a training run; none of any other source."""
    if isinstance(source, PartialRun):
        return source.curves
    return (
        source.result.curves
        if isinstance(source, Source) and isinstance(source.result, TrainResult)
        else ()
    )


def cells(sources: Sequence[ChartSource]) -> list[tuple[str, CheckCell]]:
    """The cells of all checks, each with the label of its source."""
    return [(source.label, cell) for source in sources for cell in check_cells(source)]


def directions(sources: Sequence[ChartSource]) -> list[str]:
    """The steps along which checks look at theorem 2, in words."""
    found = dict.fromkeys(cell.theorem2_direction for _, cell in cells(sources))
    return [DIRECTIONS[along] for along in found if along]


def check_cells(source: ChartSource) -> Sequence[CheckCell]:
    """The cells of a check; none of any other source."""
    if isinstance(source, PartialRun):
        return source.cells
    return (
        source.result.cells
        if isinstance(source, Source) and isinstance(source.result, CheckResult)
        else ()
    )


def data_names(sources: Sequence[ChartSource]) -> str:
    """The names of the data sets, with commas between them."""
    names = (name for source in sources for name in _data(source))
    return ", ".join(dict.fromkeys(names))


def _data(source: ChartSource) -> Iterator[str]:
    if isinstance(source, StudyGrid):
        yield from (cell.spec.dataset.name for cell in source.cells if cell.spec)
    elif isinstance(source, Source):
        yield source.result.provenance.dataset.name
    elif source.spec:
        yield source.spec.dataset.name
