"""Results read through the client, as the sources of tables and comparisons."""

from collections.abc import Sequence
from functools import partial
from itertools import islice

from ffengine.results import Diagnostic, RecordedResult, StudyResult
from ffengine.spec import StudySpec
from service.client import Client, NotFound, Refused
from service.jobs import Job, JobState
from service.results.run_labels import RunKey, cell_of, labels_of, run_keys
from service.results.sources import Source, source_of

MOST_RUNS = 60  # of a study: more results are not read one by one
NO_RESULT = frozenset({404, 409})


def results_of(client: Client, job: Job) -> list[Source]:
    """The result of a job, or those of a study's runs that have succeeded; an empty list where no
    result exists yet.
    """
    if not isinstance(job.spec, StudySpec):
        source = _source(client, job, None)
        return [source] if source else []
    runs = sorted(
        islice(client.jobs(parent=job.id, limit=MOST_RUNS), MOST_RUNS), key=lambda run: run.id
    )
    cells = [(run, cell) for run in runs if (cell := cell_of(run))]
    placed = [cell for _, cell in cells]
    found = [
        _source(client, run, key, label)
        for (run, _), key, label in zip(
            cells, run_keys(placed), labels_of(placed, job.spec), strict=True
        )
        if run.state == JobState.succeeded
    ]
    return [source for source in found if source]


def findings_of(sources: Sequence[Source]) -> list[Diagnostic]:
    """The findings of all results, each once."""
    seen = {
        (finding.code, finding.message): finding
        for source in sources
        for finding in source.result.diagnostics
    }
    return list(seen.values())


def _source(client: Client, job: Job, run: RunKey | None, label: str = "") -> Source | None:
    """The result of a single run; None where it has none."""
    try:
        result = client.result(job.id)
    except Refused as error:
        if error.status in NO_RESULT:
            return None
        raise
    if isinstance(result, StudyResult | RecordedResult):
        return None
    return source_of(job, result, partial(_job, client), run=run, label=label)


def _job(client: Client, job_id: str) -> Job | None:
    """The job; None where it is gone."""
    try:
        return client.read(job_id)
    except NotFound:
        return None
