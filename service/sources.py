"""From a job to what its charts are drawn of: its own result, those of a study's runs, or the rows that there are so far."""

from pydantic import TypeAdapter

from ffengine.results import AnyResult, CheckCell, CheckResult, EpochRow, StudyResult, TrainResult
from ffengine.spec import StudySpec
from ffengine.study import expand
from service.charts import Drawable, SoFar, Source
from service.jobs import Job
from service.store import Store

_RESULT: TypeAdapter[TrainResult | CheckResult | StudyResult] = TypeAdapter(AnyResult)


def sources_of(store: Store, job: Job, document: str) -> list[Source]:
    """The results to draw: one without a label, or a study's, each labelled by what the grid varies."""
    result = _RESULT.validate_json(document)
    return _runs(store, job) if isinstance(result, StudyResult) else [Source("", result)]


def drawable(store: Store, job: Job) -> list[Drawable]:
    """The same, also of a job that has no result (yet): its rows, or a study's runs, as far as they are there."""
    if job.kind == "study":
        return [*_runs(store, job)]
    document = store.result(job.id)
    if document is not None:
        return [*sources_of(store, job, document)]
    rows = store.rows(job.id)
    if job.kind == "train":
        return [SoFar("", curves=[EpochRow.model_validate(row) for row in rows])]
    return [SoFar("", cells=[CheckCell.model_validate(row) for row in rows])]


def _runs(store: Store, job: Job) -> list[Source]:
    assert isinstance(job.spec, StudySpec)  # noqa: S101 - narrows the type: it is a study
    sources = []
    for cell, (_, found) in zip(expand(job.spec), store.children(job.id), strict=False):  # of a study that grows not all are there
        child = _RESULT.validate_json(found) if found else None
        if isinstance(child, TrainResult | CheckResult):
            label = ", ".join(f"{field.rpartition('.')[2]} {value}" for field, value in cell.params.items())
            sources.append(Source(label, child))
    return sources
