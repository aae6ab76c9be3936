"""The writes of an attempt to its job.

An attempt writes only while it holds the lease: once the job was given to another attempt, it
writes nothing more.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import and_, case, exists, not_, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.elements import ColumnElement

from service.jobs import Command, JobError, JobState, Wanted
from service.placement import GB, joined_tags, split_tags
from service.store import attempts
from service.store.tables import JobRow, WorkerRow, now_seconds
from service.store.transitions import (
    EventDraft,
    append_state_event,
    change,
    enqueue_deliveries,
    insert_events,
)
from service.store.workers import DEAD_WORKER_SECONDS

# an attempt that was not heard of for so long stood still: its machine slept, or its processes
# were stopped. It renews its lease several times a second otherwise
STILL_SECONDS = 5.0
# until when an attempt may have run: not beyond its lease
HEARD_UNTIL = case((JobRow.lease_until < now_seconds(), JobRow.lease_until), else_=now_seconds())
COMMAND = case(
    (
        and_(JobRow.wanted == Wanted.run.value, JobRow.deadline_at < HEARD_UNTIL),
        Command.expire.value,
    ),
    else_=JobRow.wanted,
)
MOST_NAMED = 5  # workers in the error of a job that has no room
MOST_RETURNS = 10  # a job that machines gave back so often fails
STOPPED_AS = {
    Command.cancel: JobState.cancelled,
    Command.pause: JobState.paused,
    Command.expire: JobState.failed,
}


class LeaseLost(Exception):
    """The attempt no longer holds the job: another has begun, or the job has ended."""


def lease_condition(job_id: str, attempt: int) -> tuple[Any, ...]:
    """The SQL conditions under which the attempt still holds the job."""
    return (
        JobRow.id == job_id,
        JobRow.attempt == attempt,
        JobRow.state == JobState.running.value,
        JobRow.kind != "study",
    )


class Changed(NamedTuple):
    """What a change under the lease tells: all in the one statement that makes it."""

    last_event: int
    has_webhook: bool
    command: Command


def update_under_lease(
    session: Session, job_id: str, attempt: int, events: int = 0, **values: Any
) -> Changed:
    """Change the job and count its new events, if the attempt still holds it. Raises LeaseLost."""
    counted = {"version": JobRow.version + 1, "last_event": JobRow.last_event + events}
    statement = update(JobRow).where(*lease_condition(job_id, attempt)).values(**counted, **values)
    # the webhook itself: of a missing one, SQLite's RETURNING says that it IS NOT NULL
    told = statement.returning(JobRow.last_event, JobRow.webhook, COMMAND)
    found = session.execute(told.execution_options(synchronize_session=False)).first()
    if found is None:
        raise LeaseLost(f"{job_id} attempt {attempt}")
    last_event, webhook, command = found
    return Changed(last_event, webhook is not None, Command(command))


def renewed(lease_seconds: float) -> dict[str, Any]:
    """The values by which an attempt renews its lease.

    The time since the last renewal does not count as running time where the attempt stood still, or
    where the clock was set: its beginning and its deadline move by as much.
    """
    passed = now_seconds() - (JobRow.lease_until - lease_seconds)
    uncounted = case((or_(passed > STILL_SECONDS, passed < 0), passed), else_=0.0)
    return {
        "lease_until": now_seconds() + lease_seconds,
        "claimed_at": JobRow.claimed_at + uncounted,
        "deadline_at": JobRow.deadline_at + uncounted,
    }


def now_not_before(column: ColumnElement[Any] | InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    """The database's clock, or an earlier moment's where the clock was set back since."""
    return case((now_seconds() < column, column), else_=now_seconds())


def finish_attempt(
    session: Session,
    job_id: str,
    attempt: int,
    state: JobState,
    events: Sequence[EventDraft] = (),
    *,
    ended_as: str | None = None,
    **values: Any,
) -> None:
    """End the attempt, leave the job in `state`, and append the events. Raises LeaseLost.

    `ended_as` says why, for people; None: the state says all.
    """
    ended: dict[str, Any] = {
        "state": state.value,
        "worker": None,
        "lease_until": None,
        "deadline_at": None,
        "eta_seconds": None,
    }
    ran = HEARD_UNTIL - JobRow.claimed_at
    on_gpu = exists().where(WorkerRow.id == JobRow.worker, WorkerRow.device.startswith("cuda"))
    ended |= {
        "ran_seconds": JobRow.ran_seconds + case((ran > 0, ran), else_=0.0),
        "gpu_seconds": JobRow.gpu_seconds + case((and_(ran > 0, on_gpu), ran), else_=0.0),
        "cpu_seconds": JobRow.cpu_seconds + case((and_(ran > 0, not_(on_gpu)), ran), else_=0.0),
        **values,
    }
    if state == JobState.queued:
        ended |= {"dispatched_at": None, "queued_at": now_seconds()}
    elif state != JobState.paused:
        ended["finished_at"] = now_not_before(JobRow.started_at)
    changed = update_under_lease(session, job_id, attempt, len(events), **ended)
    attempts.end(session, job_id, attempt, ended_as or _end_in_words(state, values.get("error")))
    insert_events(session, job_id, changed.last_event, events)
    if changed.has_webhook and any(kind == "state" for kind, _ in events):
        enqueue_deliveries(session, [job_id], state)


def _end_in_words(state: JobState, error: dict[str, Any] | None) -> str:
    """Say how an attempt ended of itself, or as its user asked for."""
    if state == JobState.queued:
        return "handed back"
    return f"failed: {error['code']}" if error else state.value


def record_loss(
    session: Session,
    job_id: str,
    attempt: int,
    reason: str,
    max_losses: int,
    *conditions: ColumnElement[bool],
) -> JobState:
    """Record that the attempt died: queue its job again, or end it where it was lost too often.

    **Arguments:**

    - `session`: the transaction.
    - `job_id`, `attempt`: which attempt died.
    - `reason`: why it died, for people.
    - `max_losses`: the job fails when it has lost this many attempts.
    - `conditions`: more that must hold.

    **Returns:**

    The new state of the job.

    **Raises:**

    - `LeaseLost`: the attempt no longer holds the job, or a condition does not hold.
    """
    if not change(
        session, job_id, *lease_condition(job_id, attempt), *conditions, losses=JobRow.losses + 1
    ):
        raise LeaseLost(f"{job_id} attempt {attempt}")
    row = session.get_one(JobRow, job_id, populate_existing=True)
    too_often = worker_lost(row.losses, reason) if row.losses >= max_losses else None
    return _queue_elsewhere(session, row, too_often, reason=reason, losses=row.losses)


def record_outgrown(
    session: Session,
    job_id: str,
    attempt: int,
    reason: str,
    fits_elsewhere: ColumnElement[bool],
) -> JobState:
    """Record that memory ran out: once again in smaller pieces, then elsewhere, or end the job.

    That is no loss.

    **Arguments:**

    - `session`: the transaction.
    - `job_id`, `attempt`: which attempt failed.
    - `reason`: what said that memory ran out, for people.
    - `fits_elsewhere`: whether a worker is alive that could take the job and has not tried it.

    **Returns:**

    The new state of the job. Where it is queued and has no `avoid_host`, the same worker is to try
    it in smaller pieces.

    **Raises:**

    - `LeaseLost`: the attempt no longer holds the job.
    """
    update_under_lease(session, job_id, attempt)
    row = session.get_one(JobRow, job_id, populate_existing=True)
    if not row.in_parts:
        change(session, job_id, in_parts=True)
        told = f"memory ran out ({reason}); it is tried again in smaller pieces"
        return _queue_elsewhere(session, row, None, is_host_to_blame=False, reason=told)
    host = host_of(session, job_id)
    tried = {*split_tags(row.outgrown_hosts), *([host] if host else [])}
    change(session, job_id, outgrown_hosts=joined_tags(tried))
    elsewhere = select(JobRow.id).where(JobRow.id == job_id, fits_elsewhere)
    error = None
    if session.scalar(elsewhere) is None:
        error = out_of_memory(session, row, reason)
    told = f"memory ran out in smaller pieces, too ({reason})"
    return _queue_elsewhere(session, row, error, reason=told)


def record_return(
    session: Session,
    job_id: str,
    attempt: int,
    reason: str,
    error: JobError | None = None,
    *,
    is_last: bool = False,
) -> JobState:
    """Record that the attempt failed because of its machine: give the job to another one.

    That is no loss. A job that so many machines gave back fails all the same, for otherwise it
    would go round for ever.

    **Arguments:**

    - `session`: the transaction.
    - `job_id`, `attempt`: which attempt failed.
    - `reason`: why, for people.
    - `error`: what the machine lacks for this job; None: the machine is unfit for any.
    - `is_last`: whether no other machine can try it.

    **Returns:**

    The new state of the job.

    **Raises:**

    - `LeaseLost`: the attempt no longer holds the job.
    """
    update_under_lease(session, job_id, attempt, returns=JobRow.returns + 1)
    row = session.get_one(JobRow, job_id, populate_existing=True)
    over = is_last or row.returns >= MOST_RETURNS
    too_often = (error or no_fit_worker(row.returns, reason)) if over else None
    worker = row.worker or "its worker"
    told = f"{worker} gave it back: {reason}" if error else f"{worker} is unfit: {reason}"
    return _queue_elsewhere(session, row, too_often, reason=told, returns=row.returns)


def _queue_elsewhere(
    session: Session,
    row: JobRow,
    too_often: JobError | None,
    *,
    reason: str,
    is_host_to_blame: bool = True,
    **facts: str | int,
) -> JobState:
    """End an attempt that has no result: queue its job for another host, or end it.

    **Arguments:**

    - `session`: the transaction.
    - `row`: the job.
    - `too_often`: the error with which it ends; None: it has not happened too often yet.
    - `reason`: why it ended, for people.
    - `is_host_to_blame`: whether another host gets it first.
    - `facts`: what the event of the new state says beside that and the error.

    **Returns:**

    The new state of the job: what its user asked for goes before the error.
    """
    state, error = STOPPED_AS.get(command_of(session, row.id)), None
    if state == JobState.failed:
        error = timeout_error(session, row.id)
    elif state is None and too_often is not None:
        state, error = JobState.failed, too_often.model_dump(mode="json")
    state = state or JobState.queued
    host = host_of(session, row.id)
    finish_attempt(
        session,
        row.id,
        row.attempt,
        state,
        ended_as=reason,
        error=error,
        avoid_host=host if is_host_to_blame else None,
    )
    facts |= {"reason": reason} | ({"host": host} if host else {})
    append_state_event(session, row.id, state, **facts, **({"error": error} if error else {}))
    return state


def host_of(session: Session, job_id: str) -> str | None:
    """The host of the worker that has a job; None where no worker has it, or is known any more."""
    holder = select(WorkerRow.host).join(JobRow, JobRow.worker == WorkerRow.id)
    return session.scalar(holder.where(JobRow.id == job_id))


def command_of(session: Session, job_id: str) -> Command:
    """The command that the job's worker is to obey."""
    return Command(session.execute(select(COMMAND).where(JobRow.id == job_id)).scalar_one())


def timeout_error(session: Session, job_id: str) -> dict[str, Any]:
    """The stored error of a job that ran longer than it was allowed to."""
    limit = session.scalar(select(JobRow.timeout_seconds).where(JobRow.id == job_id)) or 0.0
    return out_of_time(limit).model_dump(mode="json")


def worker_lost(losses: int, reason: str) -> JobError:
    """The error of a job that lost its worker too often."""
    return JobError(
        code="worker_lost",
        title="The job lost its worker again and again",
        detail=f"{losses} times, a worker ended or stopped answering before it had a result; the "
        f"last time: {reason}. Perhaps the job needs more memory than the worker has: ask for "
        "fewer seeds or smaller widths, or read the worker's log, then retry the job.",
        evidence={"losses": losses},
    )


def out_of_memory(session: Session, row: JobRow, reason: str) -> JobError:
    """The error of a job that no live worker has the memory for: what it would need."""
    alive = WorkerRow.seen_at > now_seconds() - DEAD_WORKER_SECONDS
    found = session.scalars(
        select(WorkerRow).where(alive).order_by(WorkerRow.memory_bytes.desc(), WorkerRow.id)
    ).all()
    there = [
        f"{one.host} {one.device} {one.memory_bytes / GB:.1f} GB"
        for one in found
        if one.memory_bytes
    ]
    others = f" and {len(there) - MOST_NAMED} others" if len(there) > MOST_NAMED else ""
    most = max((one.memory_bytes or 0 for one in found), default=0)
    estimate = row.need_memory_bytes or row.estimated_bytes
    said = f" The estimate was {estimate / GB:.1f} GB." if estimate else ""
    workers = f"; alive are {', '.join(there[:MOST_NAMED])}{others}" if there else ""
    larger = math.ceil(most / GB * 10 + 1e-9) / 10
    more = f" (a retry with --needs memory_gb={larger:g} waits for one)" if most else ""
    return JobError(
        code="out_of_memory",
        title="The run needs more memory than the workers have",
        detail=f"Memory ran out, in smaller pieces as well, and no other worker could take it"
        f"{workers}.{said} Start a worker with more memory{more}, or ask for fewer seeds at once, "
        f"smaller widths, batch_size or samples.",
        evidence={"message": reason}
        | ({"memory_bytes": most} if most else {})
        | ({"estimated_bytes": estimate} if estimate else {}),
    )


def no_fit_worker(returns: int, reason: str) -> JobError:
    """The error of a job that machine after machine gave back."""
    return JobError(
        code="no_fit_worker",
        title="No machine could compute the job",
        detail=f"{returns} times, a worker gave the job back because of its machine; the last "
        f"time: {reason}. Ask whoever runs the workers to look at `fflab doctor` there, then retry "
        f"the job.",
        evidence={"returns": returns},
    )


def out_of_time(limit: float) -> JobError:
    """The error of a job that was stopped because it ran too long."""
    return JobError(
        code="timeout",
        title="The job reached its time limit",
        detail=f"The limit was {limit:g} seconds (timeout_seconds). What was measured until then "
        "stays readable. A retry goes on from the last checkpoint, with the same limit again.",
        evidence={"timeout_seconds": limit},
    )
