"""What a submission writes: its job, a study's cells, their first events, and the results that answer them at once."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from ffengine.spec import AnySpec, StudySpec, digest
from ffengine.version import ENGINE_VERSION
from service.jobs import JobState, Wanted, new_job_id
from service.tables import CurveRow, EventRow, JobRow, ResultRow

Priority = Literal["low", "normal", "high"]
PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high")
LOOKED_UP_AT_ONCE = 500

Draft = dict[str, Any]


class Order(BaseModel):
    """What is to be submitted, validated."""

    spec: AnySpec
    name: str | None = None
    tags: list[str] = []
    priority: Priority = "normal"
    fresh: bool = False


def draft(order: Order, spec: AnySpec, parent: str | None = None, cell: int | None = None) -> Draft:
    """The columns of a new job that do not depend on other jobs."""
    return {
        "id": new_job_id(),
        "kind": spec.kind,
        "name": order.name,
        "tags": order.tags,
        "priority": PRIORITIES.index(order.priority),
        "wanted": Wanted.run.value,
        "spec": stored(spec),
        "spec_digest": digest(spec),
        "engine_version": ENGINE_VERSION,
        "parent_id": parent,
        "cell": cell,
    }


def stored(spec: AnySpec) -> Draft:
    """A spec as JSON. Of a study only what was given: a preset is overridden by the fields that are there."""
    if not isinstance(spec, StudySpec):
        return spec.model_dump(mode="json")
    document: Draft = spec.model_dump(mode="json", exclude_unset=True) | {"kind": spec.kind}
    if "base" in document:
        document["base"]["kind"] = spec.base.kind  # a default in Python, but needed to read it again
    for name, part in document.get("parts", {}).items():
        part["base"]["kind"] = spec.parts[name].base.kind
    return document


def answers(session: Session, digests: Sequence[str]) -> dict[str, JobRow]:
    """The newest success of this engine for each digest that has one. A study has none: its cells have."""
    found: dict[str, JobRow] = {}
    for first in range(0, len(digests), LOOKED_UP_AT_ONCE):
        query = select(JobRow).join(ResultRow, ResultRow.job_id == JobRow.id).order_by(JobRow.id)
        query = query.where(JobRow.spec_digest.in_(digests[first : first + LOOKED_UP_AT_ONCE]), JobRow.kind != "study")
        query = query.where(JobRow.state == JobState.succeeded.value, JobRow.engine_version == ENGINE_VERSION)
        found |= {row.spec_digest: row for row in session.scalars(query)}
    return found


def insert_jobs(session: Session, drafts: Sequence[Draft], sources: Mapping[str, JobRow], now: float) -> None:
    """Insert jobs, queued or answered by their sources, with their first events: few statements, however many jobs."""
    answered = [(made, sources[made["spec_digest"]]) for made in drafts if made["spec_digest"] in sources]
    queued = [made for made in drafts if made["spec_digest"] not in sources]
    stamp = {"created_at": now, "queued_at": now}
    if queued:
        session.execute(insert(JobRow), [{**made, **stamp, "state": "queued", "message": "queued", "last_event": 1} for made in queued])
        session.execute(insert(EventRow), [_event(made["id"], 1, "state", JobState.queued, now) for made in queued])
    for made, source in answered:
        session.execute(insert(JobRow).values(**made, **stamp, **_answer(source), finished_at=now, last_event=2))
        ended = [_event(made["id"], seq, kind, JobState.succeeded, now) for seq, kind in ((1, "state"), (2, "end"))]
        session.execute(insert(EventRow), ended)
        _copy(session, source.id, made["id"])


def _answer(source: JobRow) -> Draft:
    return {
        "state": JobState.succeeded.value,
        "cached_from": source.cached_from or source.id,
        "provenance": source.provenance,
        "fraction": 1.0,
        "message": "answered from an earlier result",
    }


def _event(job_id: str, seq: int, kind: str, state: JobState, now: float) -> Draft:
    return {"job_id": job_id, "seq": seq, "type": kind, "at": now, "data": {"state": state.value}}


def _copy(session: Session, source: str, target: str) -> None:
    """Give a job the result and rows of another."""
    document = session.scalar(select(ResultRow.document).where(ResultRow.job_id == source))
    session.execute(insert(ResultRow).values(job_id=target, document=document))
    rows = select(CurveRow.key, CurveRow.data).where(CurveRow.job_id == source)
    copied = [{"job_id": target, "key": key, "data": data} for key, data in session.execute(rows.order_by(CurveRow.id)).all()]
    if copied:
        session.execute(insert(CurveRow), copied)
