"""The queue: claim a job, keep it, record it, end it.

Every write of a worker carries the attempt, which fences it.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from sqlalchemy import delete, func, insert, not_, or_, select, update
from sqlalchemy.orm import Session, aliased

from ffengine.results import Diagnostic, RunResult
from ffengine.spec import ELSEWHERE, CheckSpec, RunSpec, TrainSpec
from ffengine.version import NUMERICS_VERSION
from service.jobs import Command, JobError, JobState, LogLine, Progress, Wanted, sources
from service.store.curve_rows import Row, insert_rows
from service.store.database import Database
from service.store.inserts import columns_of_answer, copy_result, waiting_message
from service.store.leases import (
    COMMAND,
    STOPPED_AS,
    LeaseLost,
    command_of,
    finish_attempt,
    lease_condition,
    record_loss,
    timeout_error,
    update_under_lease,
)
from service.store.tables import CurveRow, JobRow, ResultRow, now_seconds
from service.store.transitions import EventDraft, append_events, append_state_event, change

LOST_REASON = "its worker was not heard of until the lease ran out"
# what may be claimed, beside its state: a study follows its runs, and what waits for an identical
# job shares its answer
CLAIMABLE = (JobRow.kind != "study", JobRow.waits_for.is_(None))
_SPEC: TypeAdapter[TrainSpec | CheckSpec] = TypeAdapter(RunSpec)


class Claim(NamedTuple):
    """A job in the hands of a worker."""

    job_id: str
    attempt: int
    spec: TrainSpec | CheckSpec
    losses: int


class Queue:
    """Jobs that wait for a worker, and those that one holds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim_next(self, worker: str, lease_seconds: float) -> Claim | None:
        """Take the job that is first in the queue; None where there is none to be had."""
        first = (
            select(JobRow.id)
            .where(JobRow.state == JobState.queued.value, *CLAIMABLE)
            .order_by(JobRow.rank, JobRow.id)
            .limit(1)
        )
        with self._database.reading() as session:
            if (
                session.scalar(first) is None
            ):  # most looks find nothing: they are not to wait for the write lock
                return None
        with self._database.writing() as session:
            job_id = session.scalar(first.with_for_update(skip_locked=True))
            return self._claim(session, job_id, worker, lease_seconds) if job_id else None

    def claim(self, job_id: str, worker: str, lease_seconds: float) -> Claim | None:
        """Take a queued job; None where it is no longer queued, or never was."""
        with self._database.writing() as session:
            return self._claim(session, job_id, worker, lease_seconds)

    def _claim(
        self, session: Session, job_id: str, worker: str, lease_seconds: float
    ) -> Claim | None:
        now = now_seconds()
        taken = change(
            session,
            job_id,
            JobRow.state.in_(sources("claim", JobState.running)),
            *CLAIMABLE,
            state=JobState.running.value,
            attempt=JobRow.attempt + 1,
            worker=worker,
            lease_until=now + lease_seconds,
            claimed_at=now,
            deadline_at=now + JobRow.timeout_seconds - JobRow.ran_seconds,
            started_at=func.coalesce(JobRow.started_at, now),
        )
        if not taken:
            return None
        row = session.get_one(JobRow, job_id)
        if (
            row.engine_version != NUMERICS_VERSION
        ):  # what an engine of other numerics has begun is not gone on with
            session.execute(delete(CurveRow).where(CurveRow.job_id == job_id))
            change(session, job_id, engine_version=NUMERICS_VERSION, checkpoint=None, fraction=0.0)
        append_state_event(session, job_id, JobState.running, attempt=row.attempt, worker=worker)
        return Claim(
            job_id, row.attempt, _SPEC.validate_python(row.spec, context=ELSEWHERE), row.losses
        )

    def renew(self, job_id: str, attempt: int, lease_seconds: float) -> Command:
        """Keep the lease and learn what is to be done. Raises LeaseLost."""
        statement = (
            update(JobRow)
            .where(*lease_condition(job_id, attempt))
            .values(lease_until=now_seconds() + lease_seconds)
        )
        with self._database.writing() as session:
            command = session.execute(statement.returning(COMMAND)).scalar_one_or_none()
        if command is None:
            raise LeaseLost(f"{job_id} attempt {attempt}")
        return Command(command)

    def record(
        self,
        job_id: str,
        attempt: int,
        *,
        lease_seconds: float,
        progress: Progress,
        rows: Sequence[Row] = (),
        checkpoint: str | None = None,
        log: Sequence[LogLine] = (),
    ) -> Command:
        """Progress, new rows, the newest checkpoint, log and lease, in one transaction.

        Raises LeaseLost, writing nothing.
        """
        values: dict[str, Any] = {"checkpoint": checkpoint} if checkpoint else {}
        with self._database.writing() as session:
            update_under_lease(
                session,
                job_id,
                attempt,
                lease_until=now_seconds() + lease_seconds,
                **progress.model_dump(),
                **values,
            )
            new = insert_rows(session, job_id, rows)
            measured: list[EventDraft] = [("rows", {"rows": new})] if new else []
            append_events(
                session, job_id, [*_log_events(log), *measured, ("progress", progress.model_dump())]
            )
            return command_of(session, job_id)

    def finish(
        self, job_id: str, attempt: int, result: RunResult, log: Sequence[LogLine] = ()
    ) -> None:
        """The job has succeeded with this result. Raises LeaseLost."""
        obtained = result.provenance
        found = {
            "provenance": obtained.model_dump(mode="json"),
            "dataset_digest": obtained.dataset.digest,
            "device_class": obtained.device.partition(":")[0],
        }
        with self._database.writing() as session:
            finish_attempt(
                session, job_id, attempt, JobState.succeeded, fraction=1.0, message="done", **found
            )
            append_events(session, job_id, _log_events(log))
            session.execute(delete(ResultRow).where(ResultRow.job_id == job_id))
            session.execute(
                insert(ResultRow).values(job_id=job_id, document=result.model_dump_json())
            )
            append_state_event(session, job_id, JobState.succeeded)

    def fail(
        self,
        job_id: str,
        attempt: int,
        error: JobError,
        diagnostics: Sequence[Diagnostic] = (),
        log: Sequence[LogLine] = (),
    ) -> None:
        """The job has failed, for a reason that its user can read. Raises LeaseLost."""
        document = error.model_dump(mode="json")
        findings = [finding.model_dump(mode="json") for finding in diagnostics]
        with self._database.writing() as session:
            finish_attempt(session, job_id, attempt, JobState.failed, error=document)
            append_events(session, job_id, _log_events(log))
            append_state_event(
                session, job_id, JobState.failed, error=document, diagnostics=findings
            )

    def finish_stopped(self, job_id: str, attempt: int) -> JobState:
        """The run stopped where it was told to: cancelled, paused or out of time, else handed back
        to the queue. Raises LeaseLost.
        """
        with self._database.writing() as session:
            update_under_lease(session, job_id, attempt)
            state = STOPPED_AS.get(command_of(session, job_id), JobState.queued)
            error = timeout_error(session, job_id) if state == JobState.failed else None
            finish_attempt(session, job_id, attempt, state, error=error)
            append_state_event(session, job_id, state, **({"error": error} if error else {}))
        return state

    def lose(self, job_id: str, attempt: int, reason: str, max_losses: int) -> JobState:
        """The run died: queued again, or failed after `max_losses`; a cancel or pause that was
        wanted is done. Raises LeaseLost.
        """
        with self._database.writing() as session:
            return record_loss(session, job_id, attempt, reason, max_losses)

    def expire_leases(self, max_losses: int, *, longest_wait: float = float("inf")) -> list[str]:
        """Take jobs away from workers that are silent; their ids.

        None where the database could not be written for so many seconds: the workers could not
        renew their leases either.
        """
        expired = (
            JobRow.state == JobState.running.value,
            JobRow.kind != "study",
            JobRow.lease_until < now_seconds(),
        )
        with self._database.reading() as session:
            if session.scalar(select(JobRow.id).where(*expired).limit(1)) is None:
                return []
        began = time.monotonic()
        with self._database.writing() as session:
            found = session.execute(select(JobRow.id, JobRow.attempt).where(*expired)).all()
            if time.monotonic() - began > longest_wait:
                return []
            taken = []
            for job_id, attempt in found:
                with contextlib.suppress(LeaseLost):  # renewed or ended just now
                    record_loss(
                        session,
                        job_id,
                        attempt,
                        LOST_REASON,
                        max_losses,
                        JobRow.lease_until < now_seconds(),
                    )
                    taken.append(job_id)
            return taken

    def latest_checkpoint(self, job_id: str) -> str | None:
        """The name of the newest checkpoint, as it was recorded."""
        with self._database.reading() as session:
            return session.scalar(select(JobRow.checkpoint).where(JobRow.id == job_id))

    def due_for_dispatch(self, limit: int, again_seconds: float) -> list[str]:
        """Queued jobs that were never dispatched, or so long ago that the message must be lost; the
        first in the queue first.
        """
        due = JobRow.dispatched_at.is_(None) | (
            JobRow.dispatched_at < now_seconds() - again_seconds
        )
        query = select(JobRow.id).where(JobRow.state == JobState.queued.value, *CLAIMABLE, due)
        with self._database.reading() as session:
            return list(session.scalars(query.order_by(JobRow.rank, JobRow.id).limit(limit)))

    def mark_dispatched(self, job_ids: list[str]) -> None:
        """Note that these jobs were dispatched."""
        with self._database.writing() as session:
            session.execute(
                update(JobRow).where(JobRow.id.in_(job_ids)).values(dispatched_at=now_seconds())
            )

    def length(self, limit: int) -> int:
        """How many jobs wait for a worker, counted to `limit` at most."""
        some = (
            select(JobRow.id)
            .where(JobRow.state == JobState.queued.value, *CLAIMABLE)
            .limit(limit)
            .subquery()
        )
        with self._database.reading() as session:
            return session.scalar(select(func.count()).select_from(some)) or 0

    def longest_wait_seconds(self) -> float | None:
        """How long the job that waits longest has been in the queue; None: none waits."""
        with self._database.reading() as session:
            oldest = session.scalar(
                select(JobRow.queued_at)
                .where(JobRow.state == JobState.queued.value, JobRow.kind != "study")
                .order_by(JobRow.queued_at)
                .limit(1)
            )
            return None if oldest is None else max(0.0, Database.now(session) - oldest)

    def resolve_duplicates(self, limit: int = 200) -> int:
        """Answer the jobs whose identical one has succeeded, and let one of those go whose
        identical one ended otherwise; how many.
        """
        leader = aliased(JobRow)
        computing = leader.state.in_([JobState.queued.value, JobState.running.value]) & (
            leader.wanted == Wanted.run.value
        )
        query = select(JobRow.id, JobRow.waits_for, leader.state).outerjoin(
            leader, leader.id == JobRow.waits_for
        )
        waiting = (JobRow.waits_for.is_not(None), JobRow.state == JobState.queued.value)
        query = (
            query.where(*waiting, or_(leader.id.is_(None), not_(computing)))
            .order_by(JobRow.id)
            .limit(limit)
        )
        with self._database.reading() as session:
            if not session.execute(query).first():
                return 0
        with self._database.writing() as session:
            found = session.execute(query).all()
            heirs: dict[str, str] = {}
            for job_id, waits_for, state in (
                (job_id, str(waits_for), state) for job_id, waits_for, state in found
            ):
                if state == JobState.succeeded.value:
                    self._answer(session, job_id, waits_for)
                else:
                    heir = heirs.setdefault(waits_for, job_id)
                    freed, follows = (
                        {"waits_for": None, "message": "queued"},
                        {"waits_for": heir, "message": waiting_message(heir)},
                    )
                    change(session, job_id, *waiting, **(freed if heir == job_id else follows))
            return len(found)

    def _answer(self, session: Session, job_id: str, source_id: str) -> None:
        allowed = JobRow.state.in_(sources("answer", JobState.succeeded))
        values = columns_of_answer(session.get_one(JobRow, source_id))
        if change(
            session,
            job_id,
            allowed,
            JobRow.waits_for == source_id,
            finished_at=now_seconds(),
            waits_for=None,
            **values,
        ):
            copy_result(session, source_id, job_id)
            append_state_event(session, job_id, JobState.succeeded)


def _log_events(log: Sequence[LogLine]) -> list[EventDraft]:
    return [("log", line.model_dump(mode="json")) for line in log]
