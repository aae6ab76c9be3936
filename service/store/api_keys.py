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


class SeveralKeys(Exception):
    """Several valid keys have the name by which one is asked for; `ids` are theirs."""

    def __init__(self, ids: list[str]) -> None:
        super().__init__(", ".join(ids))
        self.ids = ids


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

    def revoke(self, key: str) -> bool:
        """Revoke a key by its id, or by its name; whether there was one.

        **Raises** SeveralKeys where several valid keys have that name.
        """
        valid = select(KeyRow).where(KeyRow.revoked_at.is_(None))
        with self._database.writing() as session:
            found = (
                session.scalars(valid.where(KeyRow.id == key)).all()
                or session.scalars(
                    valid.where(KeyRow.name == key).order_by(KeyRow.created_at)
                ).all()
            )
            if len(found) > 1:
                raise SeveralKeys([row.id for row in found])
            for row in found:
                row.revoked_at = Database.now(session)
            return bool(found)

    def clear(self) -> int:
        """Delete all keys; how many there were."""
        with self._database.writing() as session:
            return len(session.scalars(delete(KeyRow).returning(KeyRow.id)).all())
