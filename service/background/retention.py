"""The retention: finds the jobs that it does not keep, and deletes them with their artifacts.

Artifacts of jobs that the database does not know are reported. They are removed only when the
operator asks for it.
"""

import contextlib
import logging
import time

from pydantic import BaseModel

from ffengine.text import StoredText
from service.artifacts import Artifacts
from service.host.disk import Ballast
from service.jobs import JobKind
from service.settings import Retention
from service.store import NotAllowed, StillNeeded, Store
from service.store.faults import DATABASE_ERRORS, is_full
from service.store.identity import settle

AT_ONCE = 100  # jobs of each kind in a sweep, so that the reconciler's other work is not held up
# younger artifacts without a job are left alone: their job may be about to be stored
UNKNOWN_SECONDS = 3600.0

log = logging.getLogger(__name__)


class ExpiredJob(BaseModel):
    """A job that the retention lets go."""

    id: str
    kind: JobKind
    name: StoredText | None
    ended_days_ago: float
    reason: str


class UnknownArtifacts(BaseModel):
    """Artifacts of a job that the database does not know."""

    job: str
    bytes: int


def find_expired(store: Store, retention: Retention, limit: int) -> list[ExpiredJob]:
    """The jobs that a sweep would delete, oldest first, at most `limit` of each kind."""
    found: list[ExpiredJob] = []
    for kind in ("train", "check", "forecast", "study", "recorded"):
        keep = getattr(retention, kind)
        for job_id, name, age_seconds, too_old in store.jobs.expired(
            kind, days=keep.days, count=keep.count, limit=limit
        ):
            reason = (
                f"ended more than {keep.days:g} days ago"
                if too_old
                else f"not among the newest {keep.count}"
            )
            found.append(
                ExpiredJob(
                    id=job_id,
                    kind=kind,
                    name=name,
                    ended_days_ago=round(age_seconds / 86_400, 2),
                    reason=reason,
                )
            )
    return found


def sweep(store: Store, artifacts: Artifacts, retention: Retention) -> list[ExpiredJob]:
    """Delete a portion of the expired jobs. Returns those that were deleted.

    Raises NotOurs, with nothing deleted, if the artifacts may belong to another database.
    """
    settle(store, artifacts)
    gone: list[ExpiredJob] = []
    for job in find_expired(store, retention, AT_ONCE):
        # deleted, retried or needed meanwhile
        with contextlib.suppress(LookupError, NotAllowed, StillNeeded):
            remove_job(store, artifacts, job.id, f"the retention does not keep it: {job.reason}")
            gone.append(job)
    return gone


def remove_job(store: Store, artifacts: Artifacts, job_id: str, reason: str) -> None:
    """Delete a job that has ended, with the artifacts that no other job needs, and log it.

    To delete needs room as well: on a full disk the ballast is dropped for it.

    **Arguments:**

    - `reason`: why, for the log.

    **Raises** what JobActions.delete raises.
    """
    try:
        owners = store.actions.delete(job_id)
    except DATABASE_ERRORS as error:
        if not (is_full(error) and _drop_ballast(store, artifacts)):
            raise
        owners = store.actions.delete(job_id)
    for owner in owners:
        artifacts.delete(owner)
    log.info(
        "%s: deleted, with the artifacts of %d jobs (%s)",
        job_id,
        len(owners),
        reason,
        extra={"job_id": job_id},
    )


def _drop_ballast(store: Store, artifacts: Artifacts) -> bool:
    """Drop the ballast of the home, which is beside the database or the artifacts."""
    beside = filter(None, (store.database.file, artifacts.disk))
    return any(Ballast(path.parent).drop() for path in beside)


def find_unknown(store: Store, artifacts: Artifacts) -> list[UnknownArtifacts]:
    """The artifacts of jobs that the database does not know.

    Raises NotOurs if the artifacts may belong to another database.
    """
    settle(store, artifacts)
    before = time.time() - UNKNOWN_SECONDS
    return [
        UnknownArtifacts(job=owner, bytes=artifacts.size(owner))
        for owner in store.jobs.unreferenced(artifacts.owners())
        if artifacts.changed_at(owner) < before
    ]


def remove_unknown(store: Store, artifacts: Artifacts) -> list[UnknownArtifacts]:
    """Remove the artifacts of jobs that the database does not know. Returns those it removed.

    Raises NotOurs, with nothing removed, if the artifacts may belong to another database.
    """
    gone = [found for found in find_unknown(store, artifacts) if artifacts.delete(found.job)]
    for found in gone:
        log.info(
            "%s: its artifacts (%d bytes) are removed (the database knows no such job)",
            found.job,
            found.bytes,
            extra={"job_id": found.job},
        )
    return gone


def describe_unknown(found: list[UnknownArtifacts], shown: int = 10) -> str:
    """One line that says how many unknown artifacts there are, how large, and of which jobs.

    **Arguments:**

    - `shown`: how many jobs are named at most.
    """
    names = ", ".join(one.job for one in found[:shown]) + (
        f" and {len(found) - shown} more" if len(found) > shown else ""
    )
    return (
        f"artifacts of {len(found)} jobs that the database does not know "
        f"({sum(one.bytes for one in found) / 1e6:,.1f} MB): {names}"
    )
