"""API keys, each stored as its hash."""

from collections.abc import Mapping
from typing import NamedTuple, Self, cast

from sqlalchemy import ColumnElement, delete, func, insert, or_, select, text, update
from sqlalchemy.orm import Session

from service.encoding.viewer import Scope
from service.store.audit import note
from service.store.database import Database
from service.store.tables import KeyRow, now_seconds

USE_SECONDS = 60.0  # for which one write of the last use stands


class OwnerLimits(NamedTuple):
    """What one owner may have; None: it is not limited here.

    `max_queued` jobs wait, `max_running` run at once, `max_gpu_seconds` is how long workers with a
    GPU may have computed the jobs that ended within a day, and `max_bytes` how much room the
    artifacts of all jobs may take up.
    """

    max_queued: int | None = None
    max_running: int | None = None
    max_gpu_seconds: int | None = None
    max_bytes: int | None = None

    def else_those_of(self, usual: Self) -> "OwnerLimits":
        """These limits, and the usual ones where there is none here."""
        return OwnerLimits(
            *(other if own is None else own for own, other in zip(self, usual, strict=True))
        )


class ApiKey(NamedTuple):
    """A key as it is stored; `digest` is the hash of its secret. Times are seconds since 1970.

    `used_at` is when the key was used last, to a minute.
    """

    id: str
    name: str
    digest: str
    is_revoked: bool
    scope: Scope = "submit"
    created_at: float = 0.0
    expires_at: float | None = None
    used_at: float | None = None
    is_expired: bool = False
    limits: OwnerLimits = OwnerLimits()

    @property
    def is_valid(self) -> bool:
        """Whether requests with it are answered."""
        return not (self.is_revoked or self.is_expired)


class SeveralKeys(Exception):
    """Several valid keys have the name by which one is asked for; `ids` are theirs."""

    def __init__(self, ids: list[str]) -> None:
        super().__init__(", ".join(ids))
        self.ids = ids


class KeyNameTaken(Exception):
    """A valid key has the name already; `id` is that key's."""

    def __init__(self, key_id: str) -> None:
        super().__init__(key_id)
        self.id = key_id


class ApiKeys:
    """The keys that may use the API, where keys are required."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        key_id: str,
        name: str,
        key_digest: str,
        *,
        scope: Scope = "submit",
        expires_in_seconds: float | None = None,
        limits: OwnerLimits = OwnerLimits(),  # noqa: B008 - immutable
    ) -> None:
        """Store an API key by the hash of its secret.

        Raises KeyNameTaken where a valid key has the name: what is submitted with it would be that
        one's too.
        """
        with self._database.writing() as session:
            self._lock(session)
            held = session.scalar(select(KeyRow.id).where(KeyRow.name == name, *VALID).limit(1))
            if held is not None:
                raise KeyNameTaken(held)
            now = Database.now(session)
            expires_at = None if expires_in_seconds is None else now + expires_in_seconds
            session.execute(
                insert(KeyRow).values(
                    id=key_id,
                    name=name,
                    digest=key_digest,
                    created_at=now,
                    scope=scope,
                    expires_at=expires_at,
                    **limits._asdict(),
                )
            )
            told = {"expires_in_seconds": expires_in_seconds, **limits._asdict()}
            given = {name: value for name, value in told.items() if value is not None}
            note(session, "make-key", key_id, scope=scope, **given)

    def _lock(self, session: Session) -> None:
        """Let no other process add a key meanwhile; SQLite has one writer anyway."""
        if not self._database.is_sqlite:
            session.execute(text("LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE"))

    def all(self) -> list[ApiKey]:
        """All API keys, oldest first."""
        with self._database.reading() as session:
            query = select(KeyRow, now_seconds()).order_by(KeyRow.created_at, KeyRow.id)
            return [
                ApiKey(
                    row.id,
                    row.name,
                    row.digest,
                    is_revoked=row.revoked_at is not None,
                    scope=cast("Scope", row.scope),
                    created_at=row.created_at,
                    expires_at=row.expires_at,
                    used_at=row.used_at,
                    is_expired=row.expires_at is not None and row.expires_at <= now,
                    limits=OwnerLimits(*(getattr(row, name) for name in OwnerLimits._fields)),
                )
                for row, now in session.execute(query)
            ]

    def note_use(self, key_id: str) -> None:
        """Store that a key was used now, where that is not known of the last minute."""
        latest = now_seconds() - USE_SECONDS
        unknown = or_(KeyRow.used_at.is_(None), KeyRow.used_at < latest)
        with self._database.writing() as session:
            session.execute(
                update(KeyRow).where(KeyRow.id == key_id, unknown).values(used_at=now_seconds())
            )

    def limit(self, key: str, limits: Mapping[str, int | None]) -> OwnerLimits | None:
        """Change limits of a key, named as for `revoke`, and return all of them; None: no key.

        **Raises** SeveralKeys as `revoke` does.
        """
        with self._database.writing() as session:
            found = self._named(session, key)
            for row in found:
                for name, value in limits.items():
                    setattr(row, name, value)
                if limits:
                    note(session, "limit-key", row.id, **limits)
                return OwnerLimits(*(getattr(row, name) for name in OwnerLimits._fields))
        return None

    def revoke(self, key: str) -> bool:
        """Revoke a key by its id, or by its name; whether there was one.

        **Raises** SeveralKeys where several valid keys have that name.
        """
        with self._database.writing() as session:
            found = self._named(session, key)
            for row in found:
                row.revoked_at = Database.now(session)
                note(session, "revoke-key", row.id)
            return bool(found)

    @staticmethod
    def _named(session: Session, key: str) -> list[KeyRow]:
        """The key of an id, or else the valid one of a name, if any. Raises SeveralKeys."""
        there = select(KeyRow).where(KeyRow.revoked_at.is_(None))
        found = list(session.scalars(there.where(KeyRow.id == key)))
        if not found:
            named = there.where(KeyRow.name == key, *VALID).order_by(KeyRow.created_at)
            found = list(session.scalars(named))
        if len(found) > 1:
            raise SeveralKeys([row.id for row in found])
        return found

    def clear(self) -> int:
        """Delete all keys; how many there were."""
        with self._database.writing() as session:
            gone = session.scalars(delete(KeyRow).returning(KeyRow.id)).all()
            note(session, "clear-keys", None, keys=sorted(gone))
            return len(gone)


VALID: tuple[ColumnElement[bool], ...] = (
    KeyRow.revoked_at.is_(None),
    or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > now_seconds()),
)
_NAMED = select(
    KeyRow.name, *(func.max(getattr(KeyRow, name)) for name in OwnerLimits._fields)
).group_by(KeyRow.name)


def limits_of(session: Session, owner: str, usual: OwnerLimits) -> OwnerLimits:
    """The limits of an owner, see `limits_by_owner`; where there are none, the usual ones."""
    return limits_by_owner(session, owner).get(owner, OwnerLimits()).else_those_of(usual)


def limits_by_owner(session: Session, *owners: str) -> dict[str, OwnerLimits]:
    """The limits that valid keys have, by their names; those of some `owners`, or of all.

    Earlier versions let several valid keys have one name: of each limit the largest counts.
    """
    query = _NAMED.where(*VALID, *((KeyRow.name.in_(owners),) if owners else ()))
    return {name: OwnerLimits(*limits) for name, *limits in session.execute(query)}
