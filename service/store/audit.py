"""The audit log: who did what to which job, key, link or upload, from where, and when.

What is noted is written in the transaction of what is done, so that there is neither one without
the other. It holds ids, names of fields and figures, and never a secret, an address of a webhook or
what users wrote into names and notes.
"""

from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from service.encoding.viewer import VIEWER
from service.schemas import AuditLine, AuditPage
from service.store.database import Database
from service.store.tables import AuditRow, any_number, now_seconds

Action = Literal[
    "submit",
    "record",
    "cancel",
    "pause",
    "resume",
    "retry",
    "change",
    "delete",
    "redeliver",
    "share",
    "unshare",
    "upload",
    "remove-upload",
    "make-key",
    "limit-key",
    "revoke-key",
    "clear-keys",
    "show-secret",
    "remove-files",
    "drain",
    "undrain",
]
Detail = str | float | bool | list[str] | None
DAY_SECONDS = 86_400.0
FORGOTTEN_AT_ONCE = 5_000


def note(session: Session, action: Action, target: str | None, **details: Detail) -> None:
    """Note that the viewer does something, in the transaction that does it.

    **Arguments:**

    - `target`: the id of the job or key, or the name of the upload.
    - `details`: what else is to be known of it; no secrets, and nothing that users wrote.
    """
    viewer = VIEWER.get()
    session.execute(
        insert(AuditRow).values(
            at=now_seconds(),
            actor=viewer.name,
            key_id=viewer.key,
            address=viewer.address,
            via=viewer.via,
            action=action,
            target=target,
            details=details,
        )
    )


class Audit:
    """Reads the audit log, and forgets what is old."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, action: Action, target: str | None, **details: Detail) -> None:
        """Note what is done outside the database, as `note` does."""
        with self._database.writing() as session:
            note(session, action, target, **details)

    def page(
        self,
        *,
        limit: int,
        before: int | None = None,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AuditPage:
        """List what was done, the newest first.

        **Arguments:**

        - `limit`: most lines of the page.
        - `before`: the number of a line; only older ones.
        - `actor`, `action`, `target`: only lines with this.
        - `since`, `until`: only what was done at that time or later, or before.
        """
        given = ((AuditRow.actor, actor), (AuditRow.action, action), (AuditRow.target, target))
        which = [column == value for column, value in given if value is not None]
        if since is not None:
            which.append(AuditRow.at >= since.timestamp())
        if until is not None:
            which.append(AuditRow.at < until.timestamp())
        if before is not None:
            which.append(AuditRow.id < any_number(before))
        query = select(AuditRow).where(*which).order_by(AuditRow.id.desc()).limit(limit + 1)
        with self._database.reading() as session:
            found = session.scalars(query).all()
        lines = [_line(row) for row in found[:limit]]
        return AuditPage(items=lines, next_cursor=str(lines[-1].id) if len(found) > limit else None)

    def forget(self, days: float) -> int:
        """Delete a portion of the lines that are older than so many days; how many it was."""
        with self._database.writing() as session:
            before = Database.now(session) - max(1.0, days) * DAY_SECONDS
            old = select(AuditRow.id).where(AuditRow.at < before).order_by(AuditRow.at)
            gone = delete(AuditRow).where(AuditRow.id.in_(old.limit(FORGOTTEN_AT_ONCE)))
            return len(session.scalars(gone.returning(AuditRow.id)).all())


def _line(row: AuditRow) -> AuditLine:
    return AuditLine(
        id=row.id,
        at=datetime.fromtimestamp(row.at, UTC),
        actor=row.actor,
        key=row.key_id,
        address=row.address,
        via=row.via,
        action=row.action,
        target=row.target,
        details=row.details,
    )
