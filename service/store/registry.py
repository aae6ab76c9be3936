"""The store's lists of who is there: API keys, workers, and how many jobs in which state."""

from typing import NamedTuple

from sqlalchemy import func, insert, select

from service.jobs import JobState
from service.store.database import Database
from service.store.tables import JobRow, KeyRow, ServiceRow, WorkerRow, now_seconds


class WorkerSeen(NamedTuple):
    """A worker as it last said, and how long ago."""

    row: WorkerRow
    silent_seconds: float


class Registry(Database):
    """Who is there."""

    def service_id(self) -> str | None:
        """Which service this is; None where the schema is not made yet."""
        if not self.has_table(ServiceRow.__tablename__):
            return None
        with self.reading() as session:
            return session.scalar(select(ServiceRow.id))

    def add_key(self, key_id: str, name: str, key_digest: str) -> None:
        """Store an API key by its hash."""
        with self.writing() as session:
            session.execute(insert(KeyRow).values(id=key_id, name=name, digest=key_digest, created_at=now_seconds()))

    def api_keys(self) -> list[KeyRow]:
        """All API keys, oldest first."""
        with self.reading() as session:
            return list(session.scalars(select(KeyRow).order_by(KeyRow.created_at)))

    def revoke_key(self, key_id: str) -> bool:
        """Revoke a key by its id or name; whether there was one."""
        with self.writing() as session:
            found = session.scalars(
                select(KeyRow).where((KeyRow.id == key_id) | (KeyRow.name == key_id), KeyRow.revoked_at.is_(None))
            ).all()
            for row in found:
                row.revoked_at = self.now(session)
            return bool(found)

    def workers(self, silent_seconds: float) -> list[WorkerSeen]:
        """The workers that were heard of within so many seconds."""
        with self.reading() as session:
            now = self.now(session)
            rows = session.scalars(select(WorkerRow).where(WorkerRow.seen_at > now - silent_seconds).order_by(WorkerRow.id))
            return [WorkerSeen(row, max(0.0, now - row.seen_at)) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state, studies left out."""
        query = select(JobRow.state, func.count()).where(JobRow.kind != "study").group_by(JobRow.state)
        with self.reading() as session:
            found = dict(session.execute(query).all())
        return {state.value: found.get(state.value, 0) for state in JobState}
