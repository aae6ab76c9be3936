"""What is kept: finds the jobs that are beyond it, and deletes them with their artifacts, some at a time."""

import contextlib
import time
from typing import Literal, NamedTuple

from pydantic import BaseModel

from service.artifacts import Artifacts
from service.settings import Retention
from service.store import NotAllowed, Store

AT_ONCE = 100
ORPHAN_SECONDS = 3600.0  # artifacts without a job are left alone for so long: theirs may be about to be made


class Outdated(BaseModel):
    """A job that the retention lets go."""

    id: str
    kind: Literal["train", "check", "study"]
    name: str | None
    ended_days_ago: float
    reason: str


class Swept(NamedTuple):
    """What a sweep deleted."""

    jobs: list[str]
    orphans: list[str]


def outdated(store: Store, retention: Retention, limit: int) -> list[Outdated]:
    """The jobs that a sweep would delete, oldest first, at most `limit` of each kind."""
    found: list[Outdated] = []
    for kind in ("train", "check", "study"):
        keep = getattr(retention, kind)
        for job_id, name, age_seconds, too_old in store.outdated(kind, days=keep.days, count=keep.count, limit=limit):
            reason = f"ended more than {keep.days:g} days ago" if too_old else f"not among the newest {keep.count}"
            found.append(Outdated(id=job_id, kind=kind, name=name, ended_days_ago=round(age_seconds / 86_400, 2), reason=reason))
    return found


def sweep(store: Store, artifacts: Artifacts, retention: Retention) -> Swept:
    """Delete some of the jobs that are outdated, and artifacts that belong to none."""
    gone: list[str] = []
    for job in outdated(store, retention, AT_ONCE):
        with contextlib.suppress(LookupError, NotAllowed):  # deleted or retried meanwhile
            for owner in store.delete(job.id):
                artifacts.delete(owner)
            gone.append(job.id)
    orphans = store.unneeded(artifacts.owners(older_than=time.time() - ORPHAN_SECONDS))
    for owner in orphans:
        artifacts.delete(owner)
    return Swept(gone, orphans)
