"""Finds jobs by the id in a path; each function raises the problem that answers the request."""

from typing import NamedTuple

from ffengine.results import Provenance
from ffengine.spec import UnreadSpec
from service.artifacts import JOB_ID
from service.encoding.viewer import VIEWER
from service.jobs import TERMINAL, Job, actions_on
from service.results.load import result_document
from service.store import Store
from service.web import problems

MOST_RUNS = 500  # of a study, whose provenance is read


class JobWithResult(NamedTuple):
    """A job, its version, and the JSON text of its result."""

    job: Job
    version: int
    document: str


def is_job_id(text: str) -> bool:
    """Whether the text has the form of a job's id."""
    return JOB_ID.fullmatch(text) is not None


def validated_id(job_id: str) -> str:
    """Return the id if it has the form of one. Raises NoSuchJob.

    No other text reaches the database or the disk.
    """
    if not is_job_id(job_id):
        raise problems.NoSuchJob
    return job_id


def find_job(store: Store, job_id: str, *, unread: bool = False) -> Job:
    """Return the job; one whose spec cannot be read only if `unread`.

    Raises NoSuchJob and UnreadJob.
    """
    return find_versioned_job(store, job_id, unread=unread)[0]


def find_versioned_job(store: Store, job_id: str, *, unread: bool = False) -> tuple[Job, int]:
    """Return the job and its version; see find_job. Raises NoSuchJob and UnreadJob."""
    found = store.jobs.get_with_version(validated_id(job_id))
    if found is None:
        raise problems.NoSuchJob
    if isinstance(spec := found[0].spec, UnreadSpec) and not unread:
        raise problems.UnreadJob(f"{spec.why}. {problems.UnreadJob.advice}")
    return found


def find_own_job(store: Store, job_id: str) -> Job:
    """Return a job that the viewer may change. Raises NoSuchJob and NotYours."""
    job = find_job(store, job_id, unread=True)
    refuse_others(job.id, job.submitted_by)
    return job


def refuse_others(what: str, owner: str | None) -> None:
    """Raise NotYours unless the viewer may change what belongs to an owner."""
    viewer = VIEWER.get()
    if not viewer.may_change(owner):
        raise problems.NotYours(
            f"{what} belongs to {owner}; this is the key of {viewer.name}. {owner} or an "
            f"administrator may change it; others may read it.",
            owner=owner,
        )


def find_result(store: Store, job_id: str, *, unread: bool = False) -> JobWithResult:
    """Return the job and its result; see find_job. Raises NoSuchJob, UnreadJob, NoResultYet."""
    job, version = find_versioned_job(store, job_id, unread=unread)
    document = result_document(store, job)
    if document is None:
        raise _no_result_yet(job)
    return JobWithResult(job, version, document)


def find_job_with_result(store: Store, job_id: str) -> tuple[Job, int]:
    """Return a job that has a result, and its version. Raises NoSuchJob and NoResultYet."""
    job, version = find_versioned_job(store, job_id)
    # see result_document: a study that has ended has one
    if not (store.jobs.has_result(job_id) or (job.kind == "study" and job.state in TERMINAL)):
        raise _no_result_yet(job)
    return job, version


def provenance_of(store: Store, job: Job) -> list[Provenance]:
    """How a job was computed, or the runs of a study that have ended; none before that."""
    jobs = [job]
    if job.kind == "study":
        jobs = store.jobs.page(limit=MOST_RUNS, parent=job.id).jobs[::-1]
    return [one.provenance for one in jobs if one.provenance]


def _no_result_yet(job: Job) -> problems.NoResultYet:
    """Say what there is of a job without a result, and how it comes to one."""
    why = f": {job.error.detail.rstrip('.')}" if job.error else ""
    came = f" It came to {job.progress.fraction:.0%}." if job.progress.fraction else ""
    actions = actions_on(job)
    if "resume" in actions:
        remedy = f"POST /v1/jobs/{job.id}/resume lets it go on."
    elif "retry" in actions:
        after = ", and it goes on from its last checkpoint" if came else ""
        remedy = f"POST /v1/jobs/{job.id}/retry queues it again{after}."
    elif job.state in TERMINAL:
        remedy = "A retry would fail in the same way: submit a changed spec."
    else:
        remedy = problems.NoResultYet.advice
    return problems.NoResultYet(
        f"{job.id} is {job.state.value} and has no result{why}.{came} {remedy}",
        state=job.state.value,
    )
