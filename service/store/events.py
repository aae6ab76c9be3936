"""Events of jobs: `seq` counts them within a job, a number that rises counts them over all jobs."""

from collections.abc import Sequence

from sqlalchemy import BigInteger, func, literal, select

from service.jobs import Event
from service.store.database import Database
from service.store.job_cache import to_event
from service.store.tables import EventRow


class Events:
    """Reads the events of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, job_id: str, *, after: int, limit: int) -> list[Event]:
        """The events of a job with a `seq` above `after`, oldest first."""
        beyond = literal(after, BigInteger())  # clients may ask for more than the column holds
        query = (
            select(EventRow)
            .where(EventRow.job_id == job_id, EventRow.seq > beyond)
            .order_by(EventRow.seq)
            .limit(limit)
        )
        with self._database.reading() as session:
            return [to_event(row) for row in session.scalars(query)]

    def last(self, job_id: str, limit: int) -> list[Event]:
        """The last events of a job, oldest first."""
        query = (
            select(EventRow)
            .where(EventRow.job_id == job_id)
            .order_by(EventRow.seq.desc())
            .limit(limit)
        )
        with self._database.reading() as session:
            return [to_event(row) for row in session.scalars(query)][::-1]

    def beyond(self, number: int, limit: int) -> list[tuple[int, str]]:
        """The events of all jobs with a number above one: number and job id, in order."""
        query = (
            select(EventRow.id, EventRow.job_id)
            .where(EventRow.id > number)
            .order_by(EventRow.id)
            .limit(limit)
        )
        with self._database.reading() as session:
            return [(row.id, row.job_id) for row in session.execute(query)]

    def numbered(self, numbers: Sequence[int]) -> list[Event]:
        """The events with these numbers over all jobs, in order."""
        query = select(EventRow).where(EventRow.id.in_(numbers)).order_by(EventRow.id)
        with self._database.reading() as session:
            return [to_event(row) for row in session.scalars(query)]

    def newest(self) -> int:
        """The number of the newest event of all jobs; 0 where there is none."""
        with self._database.reading() as session:
            return session.scalar(select(func.max(EventRow.id))) or 0
