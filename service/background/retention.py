"""What is kept: finds the jobs that are beyond it, and deletes them with their artifacts, some at a
time.

Artifacts of jobs that the database does not know are reported; they are removed only where the
operator asks for it.
"""

import contextlib
import logging
import time

from pydantic import BaseModel

from service.artifacts import Artifacts
from service.jobs import JobKind
from service.settings import Retention
from service.store import NotAllowed, Store
from service.store.identity import settle

AT_ONCE = 100
UNKNOWN_SECONDS = (
    3600.0  # artifacts without a job count as unknown after so long: theirs may be about to be made
)

log = logging.getLogger(__name__)


class ExpiredJob(BaseModel):
    """A job that the retention lets go."""

    id: str
    kind: JobKind
    name: str | None
    ended_days_ago: float
    reason: str


class Unknown(BaseModel):
    """Artifacts of a job that the database does not know."""

    job: str
    bytes: int


def outdated(store: Store, retention: Retention, limit: int) -> list[ExpiredJob]:
    """The jobs that a sweep would delete, oldest first, at most `limit` of each kind."""
    found: list[ExpiredJob] = []
    for kind in ("train", "check", "study"):
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
    """Delete some of the jobs that are outdated; which.

    Raises NotOurs, with nothing deleted, where it is not certain whose they are.
    """
    settle(store, artifacts)
    gone: list[ExpiredJob] = []
    for job in outdated(store, retention, AT_ONCE):
        with contextlib.suppress(LookupError, NotAllowed):  # deleted or retried meanwhile
            remove_job(store, artifacts, job.id, f"the retention does not keep it: {job.reason}")
            gone.append(job)
    return gone


def remove_job(store: Store, artifacts: Artifacts, job_id: str, reason: str) -> None:
    """Delete a job that has ended, with the artifacts that no other needs, and log it.

    Raises as JobActions.delete does.
    """
    owners = store.actions.delete(job_id)
    for owner in owners:
        artifacts.delete(owner)
    log.info("%s: deleted, with the artifacts of %d jobs (%s)", job_id, len(owners), reason)


def unknown(store: Store, artifacts: Artifacts) -> list[Unknown]:
    """The artifacts of jobs that the database does not know.

    Raises NotOurs where it may be the wrong database.
    """
    settle(store, artifacts)
    owners = artifacts.owners(older_than=time.time() - UNKNOWN_SECONDS)
    return [
        Unknown(job=owner, bytes=artifacts.size(owner)) for owner in store.jobs.unreferenced(owners)
    ]


def remove_unknown(store: Store, artifacts: Artifacts) -> list[Unknown]:
    """Remove the artifacts of jobs that the database does not know; those that are gone.

    Raises NotOurs, with nothing removed.
    """
    gone = [found for found in unknown(store, artifacts) if artifacts.delete(found.job)]
    for found in gone:
        log.info(
            "%s: its artifacts (%d bytes) are removed (the database knows no such job)",
            found.job,
            found.bytes,
        )
    return gone


def described(found: list[Unknown], shown: int = 10) -> str:
    """Some unknown artifacts in words: how many, how large, whose."""
    names = ", ".join(one.job for one in found[:shown]) + (
        f" and {len(found) - shown} more" if len(found) > shown else ""
    )
    return (
        f"artifacts of {len(found)} jobs that the database does not know "
        f"({sum(one.bytes for one in found) / 1e6:,.1f} MB): {names}"
    )
