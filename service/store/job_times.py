"""How long jobs waited and ran, and what went wrong with them, for the metrics."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.jobs import TERMINAL, JobState
from service.store.database import Database
from service.store.tables import EventRow, JobRow

LOOKED_UP_AT_ONCE = 500
FaultKind = Literal["failed", "lost", "returned", "resumed"]


class StartedJob(NamedTuple):
    """A job that a worker has claimed for the first time."""

    event: int  # the number of the event over all jobs
    kind: str
    waited_seconds: float  # from its submission to this claim


class EndedJob(NamedTuple):
    """A job that has run and ended."""

    event: int
    kind: str
    state: JobState
    ran_seconds: float  # all attempts together, without the time between them


class Fault(NamedTuple):
    """A job that failed, or an attempt that ended without a result.

    `what` is `failed`, `lost` (the worker died or did not answer), `returned` (its machine was not
    fit) or `resumed` (an attempt after a job's first began); `code` is that of a failure. `host` is
    where it happened, "" where nobody knows.
    """

    event: int
    what: FaultKind
    kind: str
    code: str
    host: str


class RecentTimes(NamedTuple):
    """What has started, ended and gone wrong after an event, and the number of the newest event."""

    newest: int
    started: Sequence[StartedJob]
    ended: Sequence[EndedJob]
    faults: Sequence[Fault]


class JobTimes:
    """When jobs started and ended, and how. Studies and jobs that a cache answered are left out."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self) -> int:
        """Return the number of the newest event."""
        with self._database.reading() as session:
            return session.scalar(select(func.max(EventRow.id))) or 0

    def after(self, number: int) -> RecentTimes:
        """Return what has started and ended after an event.

        The events are found by their numbers, so that this costs little however many jobs there
        are.
        """
        changes = select(EventRow.id, EventRow.job_id, EventRow.data).where(
            EventRow.id > number, EventRow.type == "state"
        )
        started, ended, faults = list[StartedJob](), list[EndedJob](), list[Fault]()
        with self._database.reading() as session:
            newest = session.scalar(select(func.max(EventRow.id))) or 0
            events = session.execute(changes).all()
            jobs = _runs(session, {event.job_id for event in events})
        for event, job_id, data in events:
            if (job := jobs.get(job_id)) is None:
                continue
            faults += _faults(event, job.kind, data)
            state = JobState(data["state"])
            if state == JobState.running and data["attempt"] == 1:
                started.append(
                    StartedJob(event, job.kind, max(0.0, job.started_at - job.created_at))
                )
            elif state in TERMINAL and job.state == state:  # else it was retried meanwhile
                ended.append(EndedJob(event, job.kind, state, job.ran_seconds))
        return RecentTimes(newest, started, ended, faults)


def _faults(event: int, kind: str, data: Mapping[str, Any]) -> Iterator[Fault]:
    """What a change of state says that went wrong; more than one where it ended a job."""
    found: dict[FaultKind, bool] = {
        "failed": data["state"] == JobState.failed and "error" in data,
        "lost": "losses" in data,
        "returned": "returns" in data,
        "resumed": data["state"] == JobState.running and data["attempt"] > 1,
    }
    for what, is_so in found.items():
        if is_so:
            code = data["error"]["code"] if what == "failed" else ""
            yield Fault(event, what, kind, code, data.get("host", ""))


def _runs(session: Session, job_ids: Collection[str]) -> dict[str, Any]:
    """The columns of those of the jobs that have run themselves, by id."""
    columns = (JobRow.kind, JobRow.state, JobRow.created_at, JobRow.started_at, JobRow.ran_seconds)
    ran = (JobRow.kind != "study", JobRow.started_at.is_not(None), JobRow.cached_from.is_(None))
    found: dict[str, Any] = {}
    for some in batched(sorted(job_ids), LOOKED_UP_AT_ONCE):
        query = select(JobRow.id, *columns).where(JobRow.id.in_(some), *ran)
        found |= {row.id: row for row in session.execute(query)}
    return found


def batched(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """The values in groups of a size; the last may be smaller."""
    return (values[first : first + size] for first in range(0, len(values), size))
