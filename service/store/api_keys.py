"""API keys, each stored as its hash."""

from typing import NamedTuple

from sqlalchemy import delete, insert, select

from service.store.database import Database
from service.store.tables import KeyRow, now_seconds


class ApiKey(NamedTuple):
    """A key as it is stored; `digest` is the hash of its secret."""

    id: str
    name: str
    digest: str
    is_revoked: bool


class ApiKeys:
    """The keys that may use the API, where keys are required."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key_id: str, name: str, key_digest: str) -> None:
        """Store an API key by the hash of its secret."""
        with self._database.writing() as session:
            session.execute(
                insert(KeyRow).values(
                    id=key_id, name=name, digest=key_digest, created_at=now_seconds()
                )
            )

    def all(self) -> list[ApiKey]:
        """All API keys, oldest first."""
        with self._database.reading() as session:
            rows = session.scalars(select(KeyRow).order_by(KeyRow.created_at))
            return [
                ApiKey(row.id, row.name, row.digest, row.revoked_at is not None) for row in rows
            ]

    def revoke(self, key_id: str) -> bool:
        """Revoke a key by its id or name; whether there was one."""
        with self._database.writing() as session:
            found = session.scalars(
                select(KeyRow).where(
                    (KeyRow.id == key_id) | (KeyRow.name == key_id), KeyRow.revoked_at.is_(None)
                )
            ).all()
            for row in found:
                row.revoked_at = Database.now(session)
            return bool(found)

    def clear(self) -> int:
        """Delete all keys; how many there were."""
        with self._database.writing() as session:
            return len(session.scalars(delete(KeyRow).returning(KeyRow.id)).all())
