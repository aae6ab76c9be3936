"""What charts are drawn of: results, rows of a job that still runs, and the cells of a study."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ffengine.results import CheckCell, CheckResult, EpochRow, RunResult, StudyCell, TrainResult
from ffengine.spec import CheckSpec, TrainSpec
from service.results.histograms import MarginHistogram

MarginReader = Callable[[], Sequence[MarginHistogram]]


class Source(NamedTuple):
    """One result to draw, and what tells it from the others ("" where it is the only one).

    spec: what was asked for, where it is at hand. margins: reads what is kept of single samples,
    where anything is.
    trained: of a check of trained weights, the spec of the job that trained them, where that is at
    hand.
    """

    label: str
    result: RunResult
    spec: TrainSpec | CheckSpec | None = None
    margins: MarginReader | None = None
    trained: TrainSpec | None = None


class PartialRun(NamedTuple):
    """The rows of one job that has no result yet, to draw."""

    label: str
    curves: Sequence[EpochRow] = ()
    cells: Sequence[CheckCell] = ()
    spec: TrainSpec | CheckSpec | None = None
    margins: MarginReader | None = None


class GridCell(NamedTuple):
    """A run of a study as it stands, and its spec where that is at hand."""

    found: StudyCell
    spec: TrainSpec | CheckSpec | None = None


class StudyGrid(NamedTuple):
    """The cells of a study, those without figures too."""

    label: str
    cells: Sequence[GridCell]


ChartSource = Source | PartialRun | StudyGrid


class NothingToDraw(LookupError):
    """The results hold no rows for this chart."""


class Curve(NamedTuple):
    """The rows of one layer of one result, and what tells it from the others."""

    label: str
    rows: Sequence[EpochRow]
    spec: TrainSpec | None


def curves(sources: Sequence[ChartSource]) -> Iterator[Curve]:
    """Each layer of each training run; its number is in the label where there are several."""
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
    """The rows of a training run, or none."""
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


def check_cells(source: ChartSource) -> Sequence[CheckCell]:
    """The cells of a check, or none."""
    if isinstance(source, PartialRun):
        return source.cells
    return (
        source.result.cells
        if isinstance(source, Source) and isinstance(source.result, CheckResult)
        else ()
    )


def data_names(sources: Sequence[ChartSource]) -> str:
    """The names of the data sets."""
    names = (name for source in sources for name in _data(source))
    return ", ".join(dict.fromkeys(names))


def _data(source: ChartSource) -> Iterator[str]:
    if isinstance(source, StudyGrid):
        yield from (cell.spec.dataset.name for cell in source.cells if cell.spec)
    elif isinstance(source, Source):
        yield source.result.provenance.dataset.name
    elif source.spec:
        yield source.spec.dataset.name
