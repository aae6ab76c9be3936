"""Writes that change jobs: guarded updates, their events, and the messages to webhooks.

Each is a function of a session, within the caller's transaction.
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
    """Change a job where all conditions hold, and return whether they did.

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
    """Change every job for which the conditions hold, append the events to each; their ids."""
    counted = {"version": JobRow.version + 1, "last_event": JobRow.last_event + len(events)}
    statement = update(JobRow).where(*conditions).values(**counted, **values)
    changed = session.execute(statement.returning(JobRow.id, JobRow.last_event)).all()
    now = Database.now(session)
    drafts = [
        {
            "job_id": job_id,
            "seq": last - len(events) + number,
            "type": kind,
            "at": now,
            "data": data,
        }
        for job_id, last in changed
        for number, (kind, data) in enumerate(events, 1)
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


_EVENT = insert(EventRow).values(at=now_seconds())


def append_events(session: Session, job_id: str, events: Sequence[EventDraft]) -> None:
    """Append events to a job, numbered without gaps.

    The caller has changed the job's row before, which locks it.
    """
    if not events:
        return
    counted = (
        update(JobRow).where(JobRow.id == job_id).values(last_event=JobRow.last_event + len(events))
    )
    last = session.execute(counted.returning(JobRow.last_event)).scalar_one()
    insert_events(session, job_id, last, events)


def insert_events(session: Session, job_id: str, last: int, events: Sequence[EventDraft]) -> None:
    """Insert events of a job that are counted already; `last` is the number of the last one."""
    if not events:
        return
    rows = [
        {"job_id": job_id, "seq": number, "type": kind, "data": data}
        for number, (kind, data) in enumerate(events, last - len(events) + 1)
    ]
    session.execute(_EVENT, rows)


def append_state_event(session: Session, job_id: str, state: JobState, **data: Any) -> None:
    """Append the event of a new state, and enqueue its messages to the job's webhook.

    A terminal state has an `end` event too.
    """
    append_events(session, job_id, state_events(state, **data))
    enqueue_deliveries(session, [job_id], state)


def state_events(state: JobState, **data: Any) -> list[EventDraft]:
    """The events of a new state; a terminal state has an `end` event too."""
    events: list[EventDraft] = [("state", {"state": state.value, **data})]
    return [*events, ("end", {"state": state.value})] if state in TERMINAL else events


def enqueue_deliveries(session: Session, job_ids: Sequence[str], state: JobState) -> None:
    """Enqueue a message for each of these jobs whose webhook wants this state."""
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
