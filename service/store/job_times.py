"""How long jobs waited and ran, for the metrics."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.jobs import TERMINAL, JobState
from service.store.database import Database
from service.store.tables import EventRow, JobRow

LOOKED_UP_AT_ONCE = 500


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


class RecentTimes(NamedTuple):
    """What has started and ended after an event, and the number of the newest event."""

    newest: int
    started: Sequence[StartedJob]
    ended: Sequence[EndedJob]


class JobTimes:
    """When jobs started and ended. Studies are left out, and jobs that a cache answered."""

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
        started, ended = list[StartedJob](), list[EndedJob]()
        with self._database.reading() as session:
            newest = session.scalar(select(func.max(EventRow.id))) or 0
            events = session.execute(changes).all()
            jobs = _runs(session, {event.job_id for event in events})
        for event, job_id, data in events:
            if (job := jobs.get(job_id)) is None:
                continue
            state = JobState(data["state"])
            if state == JobState.running and data["attempt"] == 1:
                started.append(
                    StartedJob(event, job.kind, max(0.0, job.started_at - job.created_at))
                )
            elif state in TERMINAL and job.state == state:  # else it was retried meanwhile
                ended.append(EndedJob(event, job.kind, state, job.ran_seconds))
        return RecentTimes(newest, started, ended)


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
