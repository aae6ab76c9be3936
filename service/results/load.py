"""From a job to what its charts are drawn of: its own result, those of a study's runs, or the rows
that there are so far.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial

from pydantic import JsonValue

from ffengine.results import (
    CheckCell,
    CheckResult,
    EpochRow,
    StudyCell,
    StudyResult,
    TrainResult,
)
from ffengine.spec import CheckSpec, StudySpec, TrainedWeights, TrainSpec, digest
from ffengine.study import Cell, expand, is_resolved
from ffengine.text import STORED
from service.artifacts import Artifacts
from service.jobs import Job
from service.results.charts import ChartSource, GridCell, PartialRun, Source, StudyGrid
from service.results.charts.drawables import MarginReader
from service.results.histograms import cells_with_margins, margin_histograms
from service.schemas import RESULT
from service.store import Store

MOST_DRAWN_RUNS = (
    60  # of a study: more small multiples are not looked at one by one, its grid is drawn alone
)


def sources_of(
    store: Store, job: Job, document: str, artifacts: Artifacts | None = None
) -> list[ChartSource]:
    """The results to draw: one without a label, or a study's grid and its runs, each labelled by
    what the grid varies.
    """
    result = RESULT.validate_json(document)
    if isinstance(result, StudyResult):
        return [_grid(store, job, result.cells), *_runs(store, job, artifacts)]
    return [_source(store, "", job, result, artifacts)]


def drawable(store: Store, job: Job, artifacts: Artifacts | None = None) -> list[ChartSource]:
    """The same, also of a job that has no result (yet): its rows, or a study's runs, as far as they
    are there.

    Of a study with more than MOST_DRAWN_RUNS runs, the grid alone. With `artifacts`, charts can
    show single samples.
    """
    if job.kind == "study":
        grid = _grid(store, job, store.studies.result(job.id).cells)
        return [grid, *(_runs(store, job, artifacts) if len(grid.cells) <= MOST_DRAWN_RUNS else ())]
    document = store.jobs.result(job.id)
    if document is not None:
        return sources_of(store, job, document, artifacts)
    rows = store.jobs.rows(job.id)
    spec = job.spec if isinstance(job.spec, TrainSpec | CheckSpec) else None
    if job.kind == "train":
        return [PartialRun("", curves=[EpochRow.model_validate(row) for row in rows], spec=spec)]
    found = [CheckCell.model_validate(row) for row in rows]
    return [PartialRun("", cells=found, spec=spec, margins=_margins(job, found, artifacts))]


def labels(cells: Sequence[Cell]) -> list[str]:
    """What tells each run of a study from the others: what the grid varies, and the part where that
    is not enough.
    """
    varied = [
        ", ".join(
            f"{field.rpartition('.')[2]} {_short(value)}" for field, value in cell.params.items()
        )
        for cell in cells
    ]
    alike = Counter((label, cell.spec.kind) for label, cell in zip(varied, cells, strict=True))
    return [
        ", ".join(filter(None, (cell.part if alike[label, cell.spec.kind] > 1 else "", label)))
        for label, cell in zip(varied, cells, strict=True)
    ]


def _short(value: JsonValue) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _grid(store: Store, job: Job, found: Sequence[StudyCell]) -> StudyGrid:
    """All runs of a study, also those that are not made yet."""
    cells = _cells(store, job)
    unmade = [
        StudyCell(
            part=cell.part,
            params=cell.params,
            kind=cell.spec.kind,
            spec_digest=digest(cell.spec),
            state="queued",
            summary={},
        )
        for cell in cells[len(found) :]
    ]
    specs = [cell.spec for cell in cells]
    return StudyGrid(
        "", [GridCell(cell, spec) for cell, spec in zip([*found, *unmade], specs, strict=False)]
    )


def _cells(store: Store, job: Job) -> list[Cell]:
    """The runs of a study by its spec; where an earlier version stored one that does not say, those
    that were made.
    """
    assert isinstance(job.spec, StudySpec)  # noqa: S101 - narrows the type: it is a study
    return (
        expand(job.spec, STORED)
        if is_resolved(job.spec)
        else [_cell(child) for child, _ in store.jobs.children(job.id)]
    )


def _cell(child: Job) -> Cell:
    assert isinstance(child.spec, TrainSpec | CheckSpec)  # noqa: S101 - narrows the type: it is a study's run
    place = child.place or {}
    params = place.get("params")
    return Cell(str(place.get("part", "")), params if isinstance(params, dict) else {}, child.spec)


def _runs(store: Store, job: Job, artifacts: Artifacts | None) -> list[Source]:
    cells = _cells(store, job)
    sources = []
    for label, (child, found) in zip(
        labels(cells), store.jobs.children(job.id), strict=False
    ):  # of a study that grows not all are there
        result = RESULT.validate_json(found) if found else None
        if isinstance(result, TrainResult | CheckResult):
            sources.append(_source(store, label, child, result, artifacts))
    return sources


def _source(
    store: Store,
    label: str,
    job: Job,
    result: TrainResult | CheckResult,
    artifacts: Artifacts | None,
) -> Source:
    spec = job.spec if isinstance(job.spec, TrainSpec | CheckSpec) else None
    margins = _margins(job, result.cells, artifacts) if isinstance(result, CheckResult) else None
    return Source(label, result, spec, margins, _trained(store, spec))


def _trained(store: Store, spec: TrainSpec | CheckSpec | None) -> TrainSpec | None:
    """The spec of the job whose weights a check is of, where that job is still there."""
    if not isinstance(spec, CheckSpec) or not isinstance(spec.at, TrainedWeights):
        return None
    job = store.jobs.get(spec.at.job)
    return job.spec if job and isinstance(job.spec, TrainSpec) else None


def _margins(
    job: Job, cells: Sequence[CheckCell], artifacts: Artifacts | None
) -> MarginReader | None:
    """Reads the margins that are kept of these cells; None where none are."""
    if artifacts is None:
        return None
    owner = job.cached_from or job.id
    kept = cells_with_margins(cells, artifacts, owner)
    return partial(margin_histograms, kept, artifacts, owner) if kept else None
