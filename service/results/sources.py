"""What charts, comparison and sentences are made of: results, rows of a job that still runs, and
the cells of a study. The charting library is not needed here.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ffengine.results import CheckCell, EpochRow, RunResult, StudyCell
from ffengine.spec import CheckSpec, TrainSpec
from service.results.histograms import MarginHistogram
from service.results.run_labels import RunKey

MarginReader = Callable[[], Sequence[MarginHistogram]]


class Source(NamedTuple):
    """One result.

    label: its name among the others, "" where it is the only one.
    spec: what was asked for, or None where that is not at hand.
    margins: reads the margins of single samples, or None where none are kept.
    trained: for a check of trained weights, the spec of the job that trained them, or None where
    that job is gone.
    run: which run of a study it is.
    """

    label: str
    result: RunResult
    spec: TrainSpec | CheckSpec | None = None
    margins: MarginReader | None = None
    trained: TrainSpec | None = None
    run: RunKey | None = None


class PartialRun(NamedTuple):
    """The rows of one job that has no result yet."""

    label: str
    curves: Sequence[EpochRow] = ()
    cells: Sequence[CheckCell] = ()
    spec: TrainSpec | CheckSpec | None = None
    margins: MarginReader | None = None


class GridCell(NamedTuple):
    """A run of a study in its present state, and its spec, or None where that is not at hand."""

    found: StudyCell
    spec: TrainSpec | CheckSpec | None = None


class StudyGrid(NamedTuple):
    """The cells of a study, those without figures too."""

    label: str
    cells: Sequence[GridCell]


ChartSource = Source | PartialRun | StudyGrid
