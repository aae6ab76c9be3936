"""How long jobs waited and ran, for whoever measures the service."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select

from service.store.database import Database
from service.store.tables import JobRow


class StartedJob(NamedTuple):
    """A job that a worker has claimed for the first time."""

    id: str
    kind: str
    started_at: float  # seconds since 1970, of the database's clock, as below
    waited_seconds: float  # from submission to this claim


class EndedJob(NamedTuple):
    """A job that has run and ended."""

    id: str
    kind: str
    state: str
    finished_at: float
    ran_seconds: float  # all attempts together, without the pauses between them


class RecentTimes(NamedTuple):
    """The jobs that started or ended within a span of time, and the time of the look."""

    now: float
    started: Sequence[StartedJob]
    ended: Sequence[EndedJob]


class JobTimes:
    """When jobs started and ended. Studies are left out, and jobs that a cache answered."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def now(self) -> float:
        """The database's clock, seconds since 1970."""
        with self._database.reading() as session:
            return Database.now(session)

    def since(self, moment: float) -> RecentTimes:
        """The jobs that started or ended at that moment or later."""
        ran = (JobRow.kind != "study", JobRow.started_at.is_not(None))
        started = select(
            JobRow.id, JobRow.kind, JobRow.started_at, JobRow.started_at - JobRow.created_at
        ).where(*ran, JobRow.started_at >= moment)
        ended = select(
            JobRow.id, JobRow.kind, JobRow.state, JobRow.finished_at, JobRow.ran_seconds
        ).where(*ran, JobRow.finished_at >= moment, JobRow.cached_from.is_(None))
        with self._database.reading() as session:
            now = Database.now(session)
            return RecentTimes(
                now,
                [
                    StartedJob(job_id, kind, at, waited)
                    for job_id, kind, at, waited in session.execute(started)
                    if at is not None and waited is not None
                ],
                [
                    EndedJob(job_id, kind, state, at, ran)
                    for job_id, kind, state, at, ran in session.execute(ended)
                    if at is not None
                ],
            )
