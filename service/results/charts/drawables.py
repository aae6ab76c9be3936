"""The rows that charts draw, taken from their sources."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ffengine.results import CheckCell, CheckResult, EpochRow, TrainResult
from ffengine.spec import TrainSpec
from ffengine.theorems import DIRECTIONS
from service.results.sources import ChartSource, PartialRun, Source, StudyGrid
from service.results.stored_rows import StoredRows


class NothingToDraw(LookupError):
    """The results hold no rows for this chart."""


class Curve(NamedTuple):
    """One layer of one training run, with a label."""

    label: str
    layer: int
    source: ChartSource
    spec: TrainSpec | None


def curves(sources: Sequence[ChartSource]) -> Iterator[Curve]:
    """The curve of each layer of each training run; where there are several, its label names it."""
    for source in sources:
        spec = (
            source.spec
            if not isinstance(source, StudyGrid) and isinstance(source.spec, TrainSpec)
            else None
        )
        layers = last_epochs(source)
        for layer in layers:
            label = " ".join(
                filter(None, (source.label, f"layer {layer}" if len(layers) > 1 else ""))
            )
            yield Curve(label, layer, source, spec)


def last_epochs(source: ChartSource) -> dict[int, int]:
    """The last epoch of each layer of a training run, in the order of the layers."""
    rows = curve_rows(source)
    if isinstance(rows, StoredRows):
        return rows.last_epochs
    last: dict[int, int] = {}
    for row in rows:
        last[row.layer] = max(row.epoch, last.get(row.layer, 0))
    return dict(sorted(last.items()))


def has_figure(source: ChartSource, figure: str) -> bool:
    """Whether any epoch of a training run has a value of the figure."""
    rows = curve_rows(source)
    if isinstance(rows, StoredRows):
        return figure in rows.figures
    return any(getattr(row, figure) is not None for row in rows)


def curve_rows(source: ChartSource) -> Sequence[EpochRow] | StoredRows:
    """The rows of a training run; none of any other source."""
    if isinstance(source, PartialRun):
        return source.curves
    if not isinstance(source, Source) or not isinstance(source.result, TrainResult):
        return ()
    return source.result.curves if source.rows is None else source.rows


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
