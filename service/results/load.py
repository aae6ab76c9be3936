"""Load what the charts of a job are drawn of: its result, the results of a study's runs, or the
rows that are measured so far.
"""

from collections.abc import Sequence
from functools import partial

from ffengine.results import (
    CheckCell,
    CheckResult,
    ForecastPoint,
    ForecastResult,
    RecordedResult,
    StudyCell,
    StudyResult,
    TrainResult,
)
from ffengine.search import searched
from ffengine.search_spec import Direction
from ffengine.spec import CheckSpec, RecordedSpec, StudySpec, UnreadSpec, digest
from ffengine.study import Cell, expand, is_resolved, search_of
from ffengine.text import STORED
from service.artifacts import Artifacts
from service.jobs import TERMINAL, Job
from service.results.histograms import cells_with_margins, margin_histograms
from service.results.measured_rows import MeasuredRun, runs_of_study
from service.results.run_labels import RunKey, cell_of, labels_of, run_keys
from service.results.sources import (
    ChartSource,
    GridCell,
    MarginReader,
    PartialRun,
    Source,
    StudyGrid,
    source_of,
)
from service.results.stored_rows import StoredRows
from service.results.trials import Compared, compared, seen
from service.results.weight_figures import reader_of
from service.schemas import RESULT
from service.store import Store

MOST_HELD_ROWS = 5_000  # of a result that is drawn; more are read while they are drawn
MOST_DRAWN_RUNS = 60  # of a study: nobody looks at more panels one by one; its grid shows them


def sources_of(
    store: Store, job: Job, document: str, artifacts: Artifacts | None = None
) -> list[ChartSource]:
    """The sources of a job's result: one without a label, or a study's grid and its runs, each
    labelled by what the grid varies.

    **Arguments:**

    - `document`: the result as JSON.
    - `artifacts`: where margins of single samples are read; without it, no chart shows any.
    """
    result = RESULT.validate_json(document)
    if isinstance(result, StudyResult):
        return [_grid(store, job, result.cells), *_runs(store, job, artifacts)]
    if isinstance(result, RecordedResult):  # there is no spec to say more of it than its rows
        return [PartialRun("", curves=result.epoch_rows())]
    return [_with_weights(_source(store, job, result, artifacts), job, artifacts)]


def drawable(store: Store, job: Job, artifacts: Artifacts | None = None) -> list[ChartSource]:
    """The sources of any job, also of one that has no result yet: then its rows so far, or the runs
    of a study that have ended.

    A study with more than MOST_DRAWN_RUNS runs has its grid alone. See sources_of.
    """
    if job.kind == "study":
        grid = _grid(store, job, store.studies.result(job.id).cells)
        return [grid, *(_runs(store, job, artifacts) if len(grid.cells) <= MOST_DRAWN_RUNS else ())]
    document = store.jobs.result(job.id)
    if document is not None:
        return sources_of(store, job, document, artifacts)
    return [_partial(store, job, artifacts)]


def drawable_in_pieces(
    store: Store, job: Job, artifacts: Artifacts | None = None
) -> list[ChartSource]:
    """As `drawable`, for charts alone: many rows of a training run are read while they are drawn,
    and its result lacks them.
    """
    if job.kind != "train" or len(ids := store.jobs.row_ids(job.id)) <= MOST_HELD_ROWS:
        return drawable(store, job, artifacts)
    document = store.jobs.result_without_curves(job.id)
    if document is None:
        return [_partial(store, job, artifacts)]
    result = RESULT.validate_json(document)
    assert isinstance(result, TrainResult)  # noqa: S101 - narrows the type: it is a training run
    rows = StoredRows(ids, store.jobs.row_texts)
    source = _source(store, job, result, artifacts)._replace(rows=rows)
    return [_with_weights(source, job, artifacts)]


def _with_weights(source: Source, job: Job, artifacts: Artifacts | None) -> Source:
    """The source of a single run with its weights, where it has been trained and they are kept."""
    return source._replace(weights=reader_of(artifacts, job.cached_from or job.id, job.spec))


def _partial(store: Store, job: Job, artifacts: Artifacts | None) -> PartialRun:
    """The rows so far of a job without a result."""
    spec = None if isinstance(job.spec, StudySpec | RecordedSpec | UnreadSpec) else job.spec
    if job.kind == "train":
        rows = StoredRows(store.jobs.row_ids(job.id), store.jobs.row_texts)
        return PartialRun("", curves=rows, spec=spec)
    if job.kind == "forecast":
        points = [ForecastPoint.model_validate(row) for row in store.jobs.each_row(job.id)]
        return PartialRun("", points=points, spec=spec)
    found = [CheckCell.model_validate(row) for row in store.jobs.each_row(job.id)]
    return PartialRun("", cells=found, spec=spec, margins=_margins(job, found, artifacts))


def result_document(store: Store, job: Job) -> str | None:
    """The result of a job as JSON; None where there is none yet.

    A study that failed or was cancelled still has the results of its finished runs.
    """
    document = store.jobs.result(job.id)
    if document is None and job.kind == "study" and job.state in TERMINAL:
        return store.studies.result(job.id).model_dump_json()
    return document


def _grid(store: Store, job: Job, found: Sequence[StudyCell]) -> StudyGrid:
    """All runs of a study; those that are not made yet count as queued."""
    cells = cells_of(store, job)
    unmade = [
        StudyCell(
            part=cell.part,
            params=cell.params,
            kind=cell.spec.kind,
            theorem=cell.spec.theorem if isinstance(cell.spec, CheckSpec) else None,
            spec_digest=digest(cell.spec),
            state="queued",
            summary={},
        )
        for cell in cells[len(found) :]
    ]
    specs = [cell.spec for cell in cells]
    grid = [GridCell(cell, spec) for cell, spec in zip([*found, *unmade], specs, strict=False)]
    assert isinstance(job.spec, StudySpec)  # noqa: S101 - narrows the type: it is a study
    search = searched(job.spec, STORED) if is_resolved(job.spec) else None
    objective = search.objective if search else None
    return StudyGrid("", grid, job.spec.preset, objective, is_search=search is not None)


def compared_runs(
    store: Store, job: Job, objective: str | None = None, direction: Direction | None = None
) -> Compared | None:
    """The runs of a study as trials; None where no figure compares them.

    **Arguments:**

    - `objective`, `direction`: what they are compared by; None: see service.results.trials.
    """
    grid = _grid(store, job, store.studies.result(job.id).cells)
    return compared([seen(grid, objective, direction)])


def cells_of(store: Store, job: Job) -> list[Cell]:
    """All runs of a study by its spec; where the spec does not say (as that of a search, and some
    that an earlier version stored), those that were made. None of another job.
    """
    if not isinstance(job.spec, StudySpec):
        return []
    if is_resolved(job.spec) and search_of(job.spec, STORED) is None:
        return expand(job.spec, STORED)
    made = [cell_of(run) for run, _ in store.jobs.children(job.id)]
    return [cell for cell in made if cell]


def measured_runs(store: Store, job: Job) -> list[MeasuredRun]:
    """The runs whose rows are those of a job: its own, or those of a study."""
    if isinstance(job.spec, StudySpec):
        return runs_of_study(store.studies.result(job.id).cells)
    seeds = None if isinstance(job.spec, RecordedSpec | UnreadSpec) else len(job.spec.seeds)
    return [MeasuredRun(job.id, job.kind, {}, seeds)]


def _runs(store: Store, job: Job, artifacts: Artifacts | None) -> list[Source]:
    assert isinstance(job.spec, StudySpec)  # noqa: S101 - narrows the type: it is a study
    cells = cells_of(store, job)
    named = zip(run_keys(cells), labels_of(cells, job.spec), strict=True)
    made = store.jobs.children(job.id)  # fewer than the study's runs while it grows
    sources = []
    for (key, label), (run, document) in zip(named, made, strict=False):
        result = RESULT.validate_json(document) if document else None
        if result is not None and not isinstance(result, StudyResult | RecordedResult):
            sources.append(_source(store, run, result, artifacts, key, label))
    return sources


def _source(
    store: Store,
    job: Job,
    result: TrainResult | CheckResult | ForecastResult,
    artifacts: Artifacts | None,
    run: RunKey | None = None,
    label: str = "",
) -> Source:
    margins = _margins(job, result.cells, artifacts) if isinstance(result, CheckResult) else None
    return source_of(job, result, store.jobs.get, margins=margins, run=run, label=label)


def _margins(
    job: Job, cells: Sequence[CheckCell], artifacts: Artifacts | None
) -> MarginReader | None:
    """A function that reads the margins of these cells; None where none are kept."""
    if artifacts is None:
        return None
    owner = job.cached_from or job.id
    kept = cells_with_margins(cells, artifacts, owner)
    return partial(margin_histograms, kept, artifacts, owner) if kept else None
