"""What is to be told to a job's webhook: written in the transaction that changes the state, sent by service.background.webhooks."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import uuid_utils
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from service.jobs import JobState
from service.store.tables import DeliveryRow, JobRow, now_seconds


def tell(session: Session, job_ids: Sequence[str], state: JobState) -> None:
    """Note the messages to those of the jobs' webhooks that want to hear of this state."""
    listening = select(JobRow.id, JobRow.kind, JobRow.name, JobRow.tags, JobRow.webhook, JobRow.error, now_seconds())
    for job_id, kind, name, tags, webhook, error, now in session.execute(
        listening.where(JobRow.id.in_(job_ids), JobRow.webhook.is_not(None))
    ):
        if webhook is None or state.value not in webhook["states"]:
            continue
        data = {"id": job_id, "kind": kind, "name": name, "tags": tags, "state": state.value, "error": error, "href": f"/v1/jobs/{job_id}"}
        message = {"type": f"job.{state.value}", "timestamp": datetime.fromtimestamp(now, UTC).isoformat(), "data": data}
        row = {"id": f"msg_{uuid_utils.uuid7().hex}", "job_id": job_id, "type": message["type"], "body": json.dumps(message)}
        session.execute(insert(DeliveryRow).values(**row, created_at=now, next_at=now, attempts=[]))
