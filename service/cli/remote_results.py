"""Results read through the client, as what tables and comparisons are made of."""

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, cast

from ffengine.results import Diagnostic, RunResult, StudyResult
from ffengine.spec import CheckSpec, TrainedWeights, TrainSpec
from service.client import Client, NotFound, Refused
from service.jobs import Job, JobState
from service.results.descriptions import place_of
from service.results.paper_comparison import ComparisonRow, comparison

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.results.charts import Source

MOST_RUNS = 60  # of a study: more results are not read one by one
NO_RESULT = frozenset({404, 409})


class Labelled(NamedTuple):
    """One result, and what tells it from the others ("" where it is the only one)."""

    label: str
    result: RunResult
    spec: TrainSpec | CheckSpec | None
    trained: TrainSpec | None = None


def results_of(client: Client, job: Job) -> list[Labelled]:
    """The result of a job, or those of a study's runs that have succeeded; none where there is none
    yet.
    """
    if job.kind == "study":
        runs = sorted(
            islice(client.jobs(parent=job.id, limit=MOST_RUNS), MOST_RUNS), key=lambda run: run.id
        )
        return [
            found._replace(label=place_of(run))
            for run in runs
            if run.state == JobState.succeeded
            for found in results_of(client, run)
        ]
    try:
        result = client.result(job.id)
    except Refused as error:
        if error.status in NO_RESULT:
            return []
        raise
    spec = job.spec if isinstance(job.spec, TrainSpec | CheckSpec) else None
    return (
        []
        if isinstance(result, StudyResult)
        else [Labelled("", result, spec, _trained(client, spec))]
    )


def _trained(client: Client, spec: TrainSpec | CheckSpec | None) -> TrainSpec | None:
    """The spec of the job whose weights a check is of, where that job is still there."""
    if not isinstance(spec, CheckSpec) or not isinstance(spec.at, TrainedWeights):
        return None
    try:
        found = client.read(spec.at.job).spec
    except NotFound:
        return None
    return found if isinstance(found, TrainSpec) else None


def lines_of(found: list[Labelled]) -> list[ComparisonRow]:
    """Measured beside published."""
    return comparison(
        cast("Sequence[Source]", found)
    )  # the same facts; theirs are of a module that loads the charting library


def findings_of(found: list[Labelled]) -> list[Diagnostic]:
    """What was found about the results, each finding once."""
    seen = {
        (finding.code, finding.message): finding
        for one in found
        for finding in one.result.diagnostics
    }
    return list(seen.values())
