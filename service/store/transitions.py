"""The writes by which jobs change, within a transaction: a guarded change, the events that tell of
it, the messages to webhooks.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import uuid_utils
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from service.jobs import TERMINAL, JobState
from service.store.database import Database
from service.store.tables import DeliveryRow, EventRow, JobRow, now_seconds

JOBS_AT_ONCE = 500

EventDraft = tuple[str, dict[str, Any]]


def change(session: Session, job_id: str, *conditions: ColumnElement[bool], **values: Any) -> bool:
    """Change a job where all conditions hold; whether they did.

    This is the compare-and-set of every transition.
    """
    statement = (
        update(JobRow)
        .where(JobRow.id == job_id, *conditions)
        .values(version=JobRow.version + 1, **values)
    )
    return bool(session.execute(statement.returning(JobRow.id)).first())


def change_all(
    session: Session, *conditions: ColumnElement[bool], events: Sequence[EventDraft], **values: Any
) -> list[str]:
    """Change every job for which the conditions hold and append the events to each, in two
    statements; their ids.
    """
    counted = {"version": JobRow.version + 1, "last_event": JobRow.last_event + len(events)}
    statement = update(JobRow).where(*conditions).values(**counted, **values)
    changed = session.execute(statement.returning(JobRow.id, JobRow.last_event)).all()
    now = Database.now(session)
    drafts = [
        {"job_id": job_id, "seq": last - len(events) + place, "type": kind, "at": now, "data": data}
        for job_id, last in changed
        for place, (kind, data) in enumerate(events, 1)
    ]
    if drafts:
        session.execute(insert(EventRow), drafts)
    ids = [job_id for job_id, _ in changed]
    if "state" in values:
        for first in range(0, len(ids), JOBS_AT_ONCE):
            enqueue_deliveries(
                session, ids[first : first + JOBS_AT_ONCE], JobState(values["state"])
            )
    return ids


def append_events(session: Session, job_id: str, events: Sequence[EventDraft]) -> None:
    """Append events to a job, numbered without gaps: the job's row is locked by the change
    before.
    """
    if not events:
        return
    counted = (
        update(JobRow).where(JobRow.id == job_id).values(last_event=JobRow.last_event + len(events))
    )
    last = session.execute(counted.returning(JobRow.last_event)).scalar_one()
    first = last - len(events) + 1
    for place, (kind, data) in enumerate(events):
        session.execute(
            insert(EventRow).values(
                job_id=job_id, seq=first + place, type=kind, at=now_seconds(), data=data
            )
        )


def append_state_event(session: Session, job_id: str, state: JobState, **data: Any) -> None:
    """Append what tells of a state, and the last event where it is a terminal one; enqueue the
    messages to the job's webhook.
    """
    append_events(session, job_id, state_events(state, **data))
    enqueue_deliveries(session, [job_id], state)


def state_events(state: JobState, **data: Any) -> list[EventDraft]:
    """The events that tell of a new state."""
    told: list[EventDraft] = [("state", {"state": state.value, **data})]
    return [*told, ("end", {"state": state.value})] if state in TERMINAL else told


def enqueue_deliveries(session: Session, job_ids: Sequence[str], state: JobState) -> None:
    """Note the messages to those of the jobs' webhooks that want to hear of this state."""
    listening = select(
        JobRow.id,
        JobRow.kind,
        JobRow.name,
        JobRow.tags,
        JobRow.webhook,
        JobRow.error,
        now_seconds(),
    )
    for job_id, kind, name, tags, webhook, error, now in session.execute(
        listening.where(JobRow.id.in_(job_ids), JobRow.webhook.is_not(None))
    ):
        if webhook is None or state.value not in webhook["states"]:
            continue
        data = {
            "id": job_id,
            "kind": kind,
            "name": name,
            "tags": tags,
            "state": state.value,
            "error": error,
            "href": f"/v1/jobs/{job_id}",
        }
        message = {
            "type": f"job.{state.value}",
            "timestamp": datetime.fromtimestamp(now, UTC).isoformat(),
            "data": data,
        }
        row = {
            "id": f"msg_{uuid_utils.uuid7().hex}",
            "job_id": job_id,
            "type": message["type"],
            "body": json.dumps(message),
        }
        session.execute(insert(DeliveryRow).values(**row, created_at=now, next_at=now, attempts=[]))
