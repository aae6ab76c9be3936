"""Messages to webhooks: which are due, what became of each attempt, and the signing secret."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.encoding.webhook_secret import make_secret
from service.store.audit import note
from service.store.database import Database
from service.store.tables import DeliveryRow, JobRow, SecretRow, now_seconds

SECRET_NAME = "webhook"  # noqa: S105 - a name
AT_ONCE = 500


class PendingDelivery(NamedTuple):
    """A message that its caller has reserved and is to send now."""

    id: str
    body: str
    url: str
    secret: str | None
    tries: int


class StoredDelivery(NamedTuple):
    """A message with its delivery attempts."""

    id: str
    type: str
    body: str
    created_at: datetime
    delivered_at: datetime | None
    next_at: datetime | None
    attempts: list[dict[str, Any]]

    @property
    def state(self) -> Literal["pending", "delivered", "given_up"]:
        """Whether the message is still to be sent, was delivered or was given up."""
        if self.next_at is not None:
            return "pending"
        return "delivered" if self.delivered_at is not None else "given_up"


class Deliveries:
    """Messages to webhooks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, limit: int, hold_seconds: float) -> list[PendingDelivery]:
        """Take up to `limit` due messages; no other caller gets them for `hold_seconds`."""
        ready = (DeliveryRow.next_at.is_not(None), DeliveryRow.next_at <= now_seconds())
        with self._database.reading() as session:
            if session.scalar(select(DeliveryRow.id).where(*ready).limit(1)) is None:
                return []
        with self._database.writing() as session:
            query = (
                select(DeliveryRow, JobRow.webhook)
                .outerjoin(JobRow, JobRow.id == DeliveryRow.job_id)
                .where(*ready)
            )
            query = (
                query.order_by(DeliveryRow.next_at)
                .limit(limit)
                .with_for_update(of=DeliveryRow, skip_locked=True)
            )
            found = session.execute(query).all()
            held = update(DeliveryRow).where(DeliveryRow.id.in_([row.id for row, _ in found]))
            session.execute(held.values(next_at=now_seconds() + hold_seconds))
            return [
                PendingDelivery(
                    row.id, row.body, webhook["url"], webhook["secret"], len(row.attempts)
                )
                for row, of_job in found
                if (webhook := row.webhook or of_job)
            ]

    def record_attempt(
        self,
        delivery_id: str,
        found: dict[str, Any],
        *,
        delivered: bool,
        again_seconds: float | None,
    ) -> None:
        """Record an attempt to send a message.

        It is due again after `again_seconds`; never where it was delivered, or where that is None.
        The message of a deleted job is deleted then.
        """
        with self._database.writing() as session:
            row = session.get(DeliveryRow, delivery_id)
            if row is None:  # it was delivered by another process, and its job was deleted
                return
            now = Database.now(session)
            row.attempts = [
                *row.attempts,
                {"at": datetime.fromtimestamp(now, UTC).isoformat(), **found},
            ]
            row.delivered_at = now if delivered else row.delivered_at
            row.next_at = None if delivered or again_seconds is None else now + again_seconds
            if row.webhook and row.next_at is None:  # nobody asks for what a deleted job sent
                session.delete(row)

    def of(self, job_id: str) -> list[StoredDelivery]:
        """The messages of a job, newest first."""
        with self._database.reading() as session:
            rows = session.scalars(
                select(DeliveryRow)
                .where(DeliveryRow.job_id == job_id)
                .order_by(DeliveryRow.id.desc())
            )
            return [_stored(row) for row in rows]

    def redeliver(self, job_id: str, delivery_id: str) -> StoredDelivery | None:
        """Make a message due now; None where the job has no such message."""
        with self._database.writing() as session:
            again = update(DeliveryRow).where(
                DeliveryRow.id == delivery_id, DeliveryRow.job_id == job_id
            )
            row = session.scalar(again.values(next_at=now_seconds()).returning(DeliveryRow))
            if row:
                note(session, "redeliver", job_id, message=delivery_id)
            return _stored(row) if row else None

    def webhook_address(self, job_id: str) -> dict[str, Any] | None:
        """The URL of a job's webhook and the states that are sent to it; None: it has none."""
        with self._database.reading() as session:
            webhook = session.scalar(select(JobRow.webhook).where(JobRow.id == job_id))
            return {"url": webhook["url"], "states": webhook["states"]} if webhook else None

    def signing_secret(self) -> str:
        """The service's own secret; the first call makes it."""
        query = select(SecretRow.value).where(SecretRow.name == SECRET_NAME)
        with self._database.reading() as session:
            if known := session.scalar(query):
                return known
        made = make_secret()
        try:
            with self._database.writing() as session:
                session.execute(insert(SecretRow).values(name=SECRET_NAME, value=made))
        except IntegrityError:  # another process was a moment faster
            with self._database.reading() as session:
                return session.scalar(query) or made
        return made


def leave_undelivered(session: Session, job_ids: Collection[str]) -> None:
    """Delete the messages of jobs that are about to be deleted, but for those still to be sent."""
    asked = sorted(job_ids)
    for first in range(0, len(asked), AT_ONCE):
        some = DeliveryRow.job_id.in_(asked[first : first + AT_ONCE])
        session.execute(delete(DeliveryRow).where(some, DeliveryRow.next_at.is_(None)))
        webhook = select(JobRow.webhook).where(JobRow.id == DeliveryRow.job_id).scalar_subquery()
        session.execute(update(DeliveryRow).where(some).values(webhook=webhook))


def _stored(row: DeliveryRow) -> StoredDelivery:
    return StoredDelivery(
        id=row.id,
        type=row.type,
        body=row.body,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        delivered_at=_time(row.delivered_at),
        next_at=_time(row.next_at),
        attempts=row.attempts,
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
