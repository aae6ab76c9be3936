"""From a job to what its charts are drawn of: its own result, or those of a study's cells."""

from pydantic import TypeAdapter

from ffengine.results import AnyResult, CheckResult, StudyResult, TrainResult
from ffengine.spec import StudySpec
from ffengine.study import expand
from service.charts import Source
from service.jobs import Job
from service.store import Store

_RESULT: TypeAdapter[TrainResult | CheckResult | StudyResult] = TypeAdapter(AnyResult)


def sources_of(store: Store, job: Job, document: str) -> list[Source]:
    """The results to draw: one without a label, or a study's, each labelled by what the grid varies."""
    result = _RESULT.validate_json(document)
    if not isinstance(result, StudyResult):
        return [Source("", result)]
    assert isinstance(job.spec, StudySpec)  # noqa: S101 - narrows the type: a study's result comes of a study
    sources = []
    for cell, (_, found) in zip(expand(job.spec), store.children(job.id), strict=True):
        child = _RESULT.validate_json(found) if found else None
        if isinstance(child, TrainResult | CheckResult):
            label = ", ".join(f"{field.rpartition('.')[2]} {value}" for field, value in cell.params.items())
            sources.append(Source(label, child))
    return sources
