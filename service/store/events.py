"""Events of jobs: `seq` counts them within a job, a number that rises counts them over all jobs."""

import itertools
from collections.abc import Collection, Sequence

from sqlalchemy import Text, cast, func, select

from service.jobs import Event
from service.schemas import EventPage
from service.store.database import Database
from service.store.job_cache import to_event
from service.store.tables import EventRow, any_number

PAGE_BYTES = 4 * 2**20


class Events:
    """Reads the events of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, job_id: str, *, after: int, limit: int) -> list[Event]:
        """The events of a job with a `seq` above `after`, oldest first."""
        query = (
            select(EventRow)
            .where(EventRow.job_id == job_id, EventRow.seq > any_number(after))
            .order_by(EventRow.seq)
            .limit(limit)
        )
        with self._database.reading() as session:
            return [to_event(row) for row in session.scalars(query)]

    def page(self, job_id: str, *, after: int, limit: int) -> EventPage:
        """Up to `limit` events of a job with a `seq` above `after`, oldest first.

        Events that hold many rows are large: a page ends where it has PAGE_BYTES of them.
        """
        size = func.length(cast(EventRow.data, Text))
        query = select(EventRow.seq, size).where(
            EventRow.job_id == job_id, EventRow.seq > any_number(after)
        )
        with self._database.reading() as session:
            sizes = session.execute(query.order_by(EventRow.seq).limit(limit)).all()
        total = itertools.accumulate(size for _, size in sizes)
        count = sum(1 for bytes_ in itertools.islice(total, 1, None) if bytes_ <= PAGE_BYTES) + 1
        events = self.of(job_id, after=after, limit=min(count, len(sizes))) if sizes else []
        full = len(sizes) == limit or count < len(sizes)
        return EventPage(items=events, next_cursor=events[-1].id if events and full else None)

    def of_types(
        self, job_id: str, types: Collection[str], *, after: int, limit: int
    ) -> list[Event]:
        """The events of a job of these types with a `seq` above `after`, oldest first."""
        query = select(EventRow).where(EventRow.job_id == job_id, EventRow.seq > any_number(after))
        query = query.where(EventRow.type.in_(types)).order_by(EventRow.seq).limit(limit)
        with self._database.reading() as session:
            return [to_event(row) for row in session.scalars(query)]

    def last(self, job_id: str, types: Collection[str], *, upto: int, limit: int) -> list[Event]:
        """The last events of a job of these types with a `seq` up to `upto`, oldest first."""
        query = select(EventRow).where(EventRow.job_id == job_id, EventRow.seq <= any_number(upto))
        query = query.where(EventRow.type.in_(types)).order_by(EventRow.seq.desc()).limit(limit)
        with self._database.reading() as session:
            return [to_event(row) for row in session.scalars(query)][::-1]

    def newest_of(self, job_id: str) -> int:
        """The `seq` of the newest event of a job; 0 where it has none."""
        query = select(func.max(EventRow.seq)).where(EventRow.job_id == job_id)
        with self._database.reading() as session:
            return session.scalar(query) or 0

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
