"""Attempts at a job: where each ran, which rows it brought, how it ended.

Each is a function of a session, within the caller's transaction.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import case, func, insert, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from ffengine.results import AttemptProvenance, Provenance
from service.store.tables import AttemptRow, WorkerRow, now_seconds

LONGEST_END = 500
OF_WORKER = ("host", "device", "device_name", "threads", "memory_bytes")


def begin(session: Session, job_id: str, number: int, worker: str, *, in_parts: bool) -> None:
    """Record that a worker begins an attempt."""
    session.execute(
        insert(AttemptRow).values(
            job_id=job_id,
            number=number,
            worker=worker,
            in_parts=in_parts,
            began_at=now_seconds(),
            **_facts_of(worker),
        )
    )


def brought(session: Session, job_id: str, number: int, rows: Sequence[dict[str, Any]]) -> None:
    """Record which epochs new rows of an attempt are of."""
    places = [(row.get("layer"), row["epoch"]) for row in rows if row.get("epoch") is not None]
    if not places:
        return
    (first_layer, first_epoch), (last_layer, last_epoch) = places[0], places[-1]
    session.execute(
        update(AttemptRow)
        .where(AttemptRow.job_id == job_id, AttemptRow.number == number)
        .values(
            first_layer=func.coalesce(AttemptRow.first_layer, first_layer),
            first_epoch=func.coalesce(AttemptRow.first_epoch, first_epoch),
            last_layer=last_layer,
            last_epoch=last_epoch,
        )
    )


def end(session: Session, job_id: str, number: int, ended_as: str) -> None:
    """Record how an attempt ended, and what its worker says of itself by now.

    Nothing is there to record where a version of fflab began it that did not list attempts.
    """
    unknown = or_(AttemptRow.device.is_(None), AttemptRow.device == "auto")
    facts = {
        name: case((unknown, said), else_=getattr(AttemptRow, name))
        for name, said in _facts_of(AttemptRow.worker).items()
    }
    session.execute(
        update(AttemptRow)
        .where(AttemptRow.job_id == job_id, AttemptRow.number == number)
        .values(ended_at=now_seconds(), ended_as=ended_as[:LONGEST_END], **facts)
        .execution_options(synchronize_session=False)
    )


def list_all(session: Session, job_id: str, last: Provenance) -> list[AttemptProvenance]:
    """All attempts at a job that has succeeded; `last` says where the last one ran."""
    rows = session.scalars(
        select(AttemptRow).where(AttemptRow.job_id == job_id).order_by(AttemptRow.number)
    ).all()
    found = [_provenance_of(row) for row in rows]
    if found:
        known = {name: getattr(last, name) for name in ("device", "device_name", "threads")}
        found[-1] = found[-1].model_copy(update=known)
    return found


def _facts_of(worker: str | InstrumentedAttribute[str]) -> dict[str, Any]:
    """What a worker says of itself, in SQL; null where it has sent no heartbeat."""
    return {
        name: select(getattr(WorkerRow, name)).where(WorkerRow.id == worker).scalar_subquery()
        for name in OF_WORKER
    }


def _provenance_of(row: AttemptRow) -> AttemptProvenance:
    ended_at = row.ended_at or row.began_at
    return AttemptProvenance(
        number=row.number,
        host=row.host,
        device=row.device,
        device_name=row.device_name,
        threads=row.threads,
        smaller_pieces=row.in_parts,
        first_layer=row.first_layer,
        first_epoch=row.first_epoch,
        last_layer=row.last_layer,
        last_epoch=row.last_epoch,
        began_at=datetime.fromtimestamp(row.began_at, UTC),
        ended_at=datetime.fromtimestamp(ended_at, UTC),
        ended_as=row.ended_as or "its end is not known",
    )
