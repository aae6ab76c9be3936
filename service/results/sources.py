"""What charts, comparison and sentences are made of: results, rows of a job that still runs, and
the cells of a study. The charting library is not needed here.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ffengine.results import CheckCell, EpochRow, ForecastPoint, RunResult, StudyCell
from ffengine.search import Objective
from ffengine.spec import CheckSpec, ForecastSpec, TrainedWeights, TrainSpec
from service.jobs import Job
from service.results.histograms import MarginHistogram
from service.results.run_labels import RunKey
from service.results.stored_rows import StoredRows

if TYPE_CHECKING:  # it reads safetensors, which the client does without
    from service.results.weight_figures import WeightReader

MarginReader = Callable[[], Sequence[MarginHistogram]]


class Source(NamedTuple):
    """One result.

    label: its name among the others, "" where it is the only one.
    spec: what was asked for, or None where that is not at hand.
    margins: reads the margins of single samples, or None where none are kept.
    trained: for a check of trained weights, the spec of the job that trained them, or None where
    that job is gone.
    run: which run of a study it is.
    rows: those of the result where it is without them, because they are many.
    weights: reads the newest weights of a training run, or None where none are kept, or where the
    run is one of a study.
    """

    label: str
    result: RunResult
    spec: TrainSpec | CheckSpec | ForecastSpec | None = None
    margins: MarginReader | None = None
    trained: TrainSpec | None = None
    run: RunKey | None = None
    rows: StoredRows | None = None
    weights: "WeightReader | None" = None


def source_of(
    job: Job,
    result: RunResult,
    find: Callable[[str], Job | None],
    *,
    margins: MarginReader | None = None,
    run: RunKey | None = None,
    label: str = "",
) -> Source:
    """The source of a single run's result.

    **Arguments:**

    - `find`: reads a job by its id; None where it is gone.
    - `run`, `label`: which run of a study it is, and its name among the others.
    """
    spec = job.spec if isinstance(job.spec, TrainSpec | CheckSpec | ForecastSpec) else None
    return Source(label, result, spec, margins, _trained(spec, find), run)


def _trained(
    spec: TrainSpec | CheckSpec | ForecastSpec | None, find: Callable[[str], Job | None]
) -> TrainSpec | None:
    """The spec of the job that trained the weights of a check; None where that job is gone."""
    if not isinstance(spec, CheckSpec) or not isinstance(spec.at, TrainedWeights):
        return None
    job = find(spec.at.job)
    return job.spec if job and isinstance(job.spec, TrainSpec) else None


class PartialRun(NamedTuple):
    """The rows of one job that has no result yet."""

    label: str
    curves: Sequence[EpochRow] | StoredRows = ()
    cells: Sequence[CheckCell] = ()
    points: Sequence[ForecastPoint] = ()
    spec: TrainSpec | CheckSpec | ForecastSpec | None = None
    margins: MarginReader | None = None


class GridCell(NamedTuple):
    """A run of a study in its present state, and its spec, or None where that is not at hand."""

    found: StudyCell
    spec: TrainSpec | CheckSpec | ForecastSpec | None = None


class StudyGrid(NamedTuple):
    """The cells of a study, those without figures too; the name of its preset, where it has one.

    objective: what its runs are compared by; None: see service.results.trials.
    is_search: whether its cells are the trials of a search.
    x, y: the columns that somebody chose to see one over the other.
    """

    label: str
    cells: Sequence[GridCell]
    preset: str | None = None
    objective: Objective | None = None
    is_search: bool = False
    x: str | None = None
    y: str | None = None


ChartSource = Source | PartialRun | StudyGrid
