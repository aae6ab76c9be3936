"""Share links: by each, anybody may read one job. A link is stored as the hash of its secret."""

from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, func, insert, or_, select
from sqlalchemy.orm import Session

from service.store.audit import note
from service.store.database import Database
from service.store.tables import JobRow, ShareRow

MOST_SHARES = 50  # of one job


class TooManyShares(Exception):
    """The job has as many links as it may have."""


class StoredShare(NamedTuple):
    """A link as it is stored; times are seconds since 1970."""

    id: str
    job_id: str
    created_at: float
    created_by: str | None
    expires_at: float | None


class Shares:
    """The links of jobs. Those whose time is over are as good as gone, and deleted with the next
    change.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        share_id: str,
        job_id: str,
        digest: str,
        *,
        created_by: str | None,
        expires_in_seconds: float | None,
    ) -> StoredShare:
        """Store a link. Raises LookupError where there is no such job, and TooManyShares."""
        with self._database.writing() as session:
            if session.get(JobRow, job_id) is None:
                raise LookupError(job_id)
            now = Database.now(session)
            session.execute(delete(ShareRow).where(ShareRow.expires_at <= now))
            held = select(func.count()).select_from(ShareRow).where(ShareRow.job_id == job_id)
            if (session.scalar(held) or 0) >= MOST_SHARES:
                raise TooManyShares
            made = StoredShare(
                share_id,
                job_id,
                now,
                created_by,
                None if expires_in_seconds is None else now + expires_in_seconds,
            )
            session.execute(insert(ShareRow).values(**made._asdict(), digest=digest))
            note(session, "share", job_id, link=share_id, expires_in_seconds=expires_in_seconds)
            return made

    def of(self, job_id: str) -> list[StoredShare]:
        """The links of a job that are valid, oldest first."""
        with self._database.reading() as session:
            return [
                _stored(row)
                for row in session.scalars(
                    select(ShareRow)
                    .where(ShareRow.job_id == job_id, _is_valid(session))
                    .order_by(ShareRow.created_at, ShareRow.id)
                )
            ]

    def find(self, digest: str) -> StoredShare | None:
        """The valid link whose secret has this hash; None where there is none."""
        with self._database.reading() as session:
            row = session.scalar(
                select(ShareRow).where(ShareRow.digest == digest, _is_valid(session))
            )
            return None if row is None else _stored(row)

    def is_run_of(self, run_id: str, study_id: str) -> bool:
        """Whether a job is a run of a study."""
        with self._database.reading() as session:
            return session.scalar(select(JobRow.parent_id).where(JobRow.id == run_id)) == study_id

    def revoke(self, job_id: str, share_id: str | None = None) -> int:
        """Delete a link of a job, or all of them; how many there were."""
        which = [ShareRow.job_id == job_id]
        if share_id is not None:
            which.append(ShareRow.id == share_id)
        with self._database.writing() as session:
            gone = session.scalars(delete(ShareRow).where(*which).returning(ShareRow.id)).all()
            if gone:
                note(session, "unshare", job_id, links=sorted(gone))
            return len(gone)


def _is_valid(session: Session) -> ColumnElement[bool]:
    return or_(ShareRow.expires_at.is_(None), ShareRow.expires_at > Database.now(session))


def _stored(row: ShareRow) -> StoredShare:
    return StoredShare(row.id, row.job_id, row.created_at, row.created_by, row.expires_at)
