"""What a submission writes: its job, a study's cells, their first events, and the results that
answer them at once.

An identical job that has succeeded answers a new one; one that is queued or running is waited for,
and answers it then.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import Select, delete, func, insert, literal, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.elements import ColumnElement

from ffengine.spec import ELSEWHERE, AnySpec, StudySpec, digest
from ffengine.study import Cell, written_out
from ffengine.version import NUMERICS_VERSION
from service.jobs import JobState, Wanted, Webhook, new_job_id
from service.store.tables import CurveRow, EventRow, JobRow, ResultRow, WorkerRow, now_seconds
from service.store.transitions import enqueue_deliveries
from service.store.workers import DEAD_WORKER_SECONDS

Priority = Literal["low", "normal", "high"]
PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high")
PRIORITY_SECONDS = (
    3600.0  # a level goes before those below that came up to an hour earlier: nothing starves
)
LOOKED_UP_AT_ONCE = 500
CELLS_AT_ONCE = 200  # of a study: the others follow by the reconciler
SHARED_BY_RUNS = (
    "name",
    "tags",
    "submitted_by",
    "priority",
    "timeout_seconds",
    "fresh",
)  # a study's runs have its own

NewJobRow = dict[str, Any]


class NewJob(BaseModel):
    """What is to be submitted, validated."""

    spec: AnySpec
    name: str | None = None
    tags: list[str] = []
    priority: Priority = "normal"
    fresh: bool = False
    timeout_seconds: float | None = None
    pinned: bool = False
    webhook: Webhook | None = None
    submitted_by: str | None = None


def rank_of(queued_at: float, priority: int) -> float:
    """Where in the queue a job stands: the lowest goes first."""
    return queued_at - priority * PRIORITY_SECONDS


def draft(new: NewJob) -> NewJobRow:
    """The columns of a new job that do not depend on other jobs."""
    return {
        **_of_spec(written_out(new.spec, ELSEWHERE)),  # what runs, whatever becomes of presets
        "id": new_job_id(),
        "name": new.name,
        "tags": new.tags,
        "submitted_by": new.submitted_by,
        "priority": PRIORITIES.index(new.priority),
        "wanted": Wanted.run.value,
        "fresh": new.fresh,
        "timeout_seconds": new.timeout_seconds,
        "parent_id": None,
        "cell": None,
        "place": None,
        "pinned": new.pinned,
        "webhook": _stored_webhook(new.webhook),
    }


def draft_cell(parent: NewJobRow, cell: Cell, number: int) -> NewJobRow:
    """The columns of a study's run, from the columns of the study.

    Who waits for the study is told of the study alone.
    """
    shared = {name: parent[name] for name in SHARED_BY_RUNS}
    return {
        **_of_spec(cell.spec),
        **shared,
        "id": new_job_id(),
        "wanted": Wanted.run.value,
        "pinned": False,
        "webhook": None,
        "parent_id": parent["id"],
        "cell": number,
        "place": {"part": cell.part, "params": cell.params},
    }


def _of_spec(spec: AnySpec) -> NewJobRow:
    return {
        "kind": spec.kind,
        "spec": spec.model_dump(mode="json"),
        "spec_digest": digest(spec),
        "engine_version": NUMERICS_VERSION,
        "dataset_digest": None if isinstance(spec, StudySpec) else spec.dataset.facts.digest,
    }


def _stored_webhook(webhook: Webhook | None) -> NewJobRow | None:
    if webhook is None:
        return None
    secret = webhook.secret.get_secret_value() if webhook.secret else None
    return {**webhook.model_dump(mode="json", exclude={"secret"}), "secret": secret}


def insert_jobs(session: Session, drafts: Sequence[NewJobRow], now: float) -> None:
    """Insert jobs with their first events, answered by an earlier success, waiting for an identical
    job, or queued.
    """
    runs = [made["spec_digest"] for made in drafts if made["kind"] != "study" and not made["fresh"]]
    known = is_known(session, runs)
    sources, leaders = (
        (answers(session, runs), active_duplicates(session, runs)) if known else ({}, {})
    )
    waiting: list[NewJobRow] = []
    answered: list[tuple[NewJobRow, JobRow]] = []
    for made in drafts:
        made |= {"created_at": now, "queued_at": now, "rank": rank_of(now, made["priority"])}
        if made["kind"] == "study" or made["fresh"]:
            waiting.append(made)
        elif source := _first_with_same_data(sources, made):
            answered.append((made, source))
        else:
            leader = _first_with_same_data(leaders, made)
            waiting.append(
                {
                    **made,
                    "waits_for": leader.id if leader else None,
                    "message": waiting_message(leader.id) if leader else "queued",
                }
            )
            if leader is None:  # the next identical one of this submission waits for this one
                leaders.setdefault(made["spec_digest"], []).append(
                    JobRow(id=made["id"], dataset_digest=made["dataset_digest"])
                )
    if waiting:
        session.execute(
            insert(JobRow),
            [
                {"waits_for": None, "message": "queued", **made, "state": "queued", "last_event": 1}
                for made in waiting
            ],
        )
        session.execute(
            insert(EventRow),
            [_event(made["id"], 1, "state", JobState.queued, now) for made in waiting],
        )
        _raise_leader_priority(session, waiting)
    for made, source in answered:
        _insert_answered(session, made, source, now)


def waiting_message(leader: str) -> str:
    """What a waiting job says of itself."""
    return f"waits for the identical {leader}"


def is_known(session: Session, digests: Sequence[str]) -> bool:
    """Whether there was ever a job of one of these digests: of most there was none."""
    some = (
        digests[first : first + LOOKED_UP_AT_ONCE]
        for first in range(0, len(digests), LOOKED_UP_AT_ONCE)
    )
    return any(
        session.scalar(select(JobRow.id).where(JobRow.spec_digest.in_(part)).limit(1))
        for part in some
    )


def answers(session: Session, digests: Sequence[str]) -> dict[str, list[JobRow]]:
    """The successes of this engine for each digest, newest first, on the classes of device that
    there are now.

    A study has none: its runs have. Results of a CPU and of a GPU differ in their last bits.
    """
    seen = session.scalars(
        select(WorkerRow.device).where(WorkerRow.seen_at > now_seconds() - DEAD_WORKER_SECONDS)
    )
    classes = {device.partition(":")[0] for device in seen} - {"auto"}
    here = or_(JobRow.device_class.is_(None), JobRow.device_class.in_(classes))
    conditions = [JobRow.state == JobState.succeeded.value, *([here] if classes else [])]
    return _identical(session, digests, *conditions)


def active_duplicates(session: Session, digests: Sequence[str]) -> dict[str, list[JobRow]]:
    """The jobs for each digest that are queued or running, and wait for no other."""
    going = JobRow.state.in_([JobState.queued.value, JobState.running.value])
    return _identical(
        session, digests, going, JobRow.wanted == Wanted.run.value, JobRow.waits_for.is_(None)
    )


def _identical(
    session: Session, digests: Sequence[str], *conditions: ColumnElement[bool]
) -> dict[str, list[JobRow]]:
    found: dict[str, list[JobRow]] = {}
    for first in range(0, len(digests), LOOKED_UP_AT_ONCE):
        some = JobRow.spec_digest.in_(digests[first : first + LOOKED_UP_AT_ONCE])
        newest = select(func.max(JobRow.id)).where(
            some, JobRow.kind != "study", JobRow.engine_version == NUMERICS_VERSION, *conditions
        )
        newest = newest.group_by(JobRow.spec_digest, JobRow.dataset_digest)
        for row in session.scalars(
            select(JobRow).where(JobRow.id.in_(newest)).order_by(JobRow.id.desc())
        ):
            found.setdefault(row.spec_digest, []).append(row)
    return found


def _first_with_same_data(found: Mapping[str, Sequence[JobRow]], made: NewJobRow) -> JobRow | None:
    """The first of the identical jobs whose data were the same; of a data set that is not pinned,
    the name must do.
    """
    pinned = made["dataset_digest"]
    return next(
        (
            row
            for row in found.get(made["spec_digest"], ())
            if pinned is None or row.dataset_digest == pinned
        ),
        None,
    )


def _raise_leader_priority(session: Session, waiting: Sequence[NewJobRow]) -> None:
    """Let a job that is waited for go no later than the most urgent of those that wait for it."""
    for made in waiting:
        if made.get("waits_for"):
            later = (
                JobRow.id == made["waits_for"],
                JobRow.state == JobState.queued.value,
                JobRow.rank > made["rank"],
            )
            session.execute(update(JobRow).where(*later).values(rank=made["rank"]))


def _insert_answered(session: Session, made: NewJobRow, source: JobRow, now: float) -> None:
    session.execute(
        insert(JobRow).values(**(made | answer_of(source)), finished_at=now, last_event=2)
    )
    ended = [
        _event(made["id"], seq, kind, JobState.succeeded, now)
        for seq, kind in ((1, "state"), (2, "end"))
    ]
    session.execute(insert(EventRow), ended)
    enqueue_deliveries(session, [made["id"]], JobState.succeeded)
    copy_result(session, source.id, made["id"])


def answer_of(source: JobRow) -> NewJobRow:
    """The columns of a job that an earlier success answers."""
    return {
        "state": JobState.succeeded.value,
        "cached_from": source.cached_from or source.id,
        "dataset_digest": source.dataset_digest,
        "device_class": source.device_class,
        "provenance": source.provenance,
        "fraction": 1.0,
        "message": "answered from an earlier result",
    }


def _event(job_id: str, seq: int, kind: str, state: JobState, now: float) -> NewJobRow:
    return {"job_id": job_id, "seq": seq, "type": kind, "at": now, "data": {"state": state.value}}


def copy_result(session: Session, source: str, target: str) -> None:
    """Give a job the result and rows of another."""
    session.execute(
        delete(CurveRow).where(CurveRow.job_id == target)
    )  # of an attempt of its own that came to no end
    session.execute(
        insert(ResultRow).from_select(
            ["job_id", "document"], _columns_of(ResultRow, source, target, ResultRow.document)
        )
    )
    rows = _columns_of(CurveRow, source, target, CurveRow.key, CurveRow.data).order_by(CurveRow.id)
    session.execute(insert(CurveRow).from_select(["job_id", "key", "data"], rows))


def _columns_of(
    table: type[ResultRow | CurveRow],
    source: str,
    target: str,
    *columns: InstrumentedAttribute[Any],
) -> Select[Any]:
    return select(literal(target), *columns).where(table.job_id == source)
