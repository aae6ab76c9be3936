"""The worker's side of the store: claim a job, keep it, record it, end it. Every write carries the attempt, which fences it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter
from sqlalchemy import and_, case, delete, func, insert, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from ffengine.results import CheckCell, Diagnostic, EpochRow, RunResult
from ffengine.spec import ELSEWHERE, CheckSpec, RunSpec, TrainSpec
from ffengine.version import ENGINE_VERSION
from service.jobs import Command, JobError, JobState, LogLine, Progress, Wanted, sources
from service.store.database import Database, EventDraft
from service.store.tables import CurveRow, JobRow, ResultRow, WorkerRow, now_seconds

Row = EpochRow | CheckCell
_SPEC: TypeAdapter[TrainSpec | CheckSpec] = TypeAdapter(RunSpec)
DEAD_WORKER_SECONDS = 30.0


class LeaseLost(Exception):  # noqa: N818
    """Another attempt has begun, or the job has ended: this one writes nothing more."""


# what may be claimed, beside its state: a study follows its runs, and what waits for an identical job shares its answer
CLAIMABLE = (JobRow.kind != "study", JobRow.waits_for.is_(None))
_COMMAND = case((and_(JobRow.wanted == Wanted.run.value, JobRow.deadline_at < now_seconds()), Command.expire.value), else_=JobRow.wanted)
STOPPED_AS = {Command.cancel: JobState.cancelled, Command.pause: JobState.paused, Command.expire: JobState.failed}


class Claim(NamedTuple):
    """A job in the hands of a worker."""

    job_id: str
    attempt: int
    spec: TrainSpec | CheckSpec
    losses: int


class WorkerInfo(BaseModel):
    """What a worker says of itself."""

    id: str
    host: str
    pid: int
    device: str
    device_name: str | None
    memory_bytes: int | None
    version: str
    job: str | None


class Leases(Database):
    """Everything that a worker writes."""

    def claim_next(self, worker: str, lease_seconds: float) -> Claim | None:
        """Take the job that is first in the queue; None where there is none to be had."""
        first = select(JobRow.id).where(JobRow.state == JobState.queued.value, *CLAIMABLE).order_by(JobRow.rank, JobRow.id).limit(1)
        with self.reading() as session:
            if session.scalar(first) is None:  # most looks find nothing: they are not to wait for the write lock
                return None
        with self.writing() as session:
            job_id = session.scalar(first.with_for_update(skip_locked=True))
            return self._claim(session, job_id, worker, lease_seconds) if job_id else None

    def claim(self, job_id: str, worker: str, lease_seconds: float) -> Claim | None:
        """Take a queued job; None where it is no longer queued, or never was."""
        with self.writing() as session:
            return self._claim(session, job_id, worker, lease_seconds)

    def _claim(self, session: Session, job_id: str, worker: str, lease_seconds: float) -> Claim | None:
        now = now_seconds()
        taken = self.change(
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
        if row.engine_version != ENGINE_VERSION:  # what an engine of other numerics has begun is not gone on with
            session.execute(delete(CurveRow).where(CurveRow.job_id == job_id))
            self.change(session, job_id, engine_version=ENGINE_VERSION, checkpoint=None, fraction=0.0)
        self.announce(session, job_id, JobState.running, attempt=row.attempt, worker=worker)
        return Claim(job_id, row.attempt, _SPEC.validate_python(row.spec, context=ELSEWHERE), row.losses)

    def renew(self, job_id: str, attempt: int, lease_seconds: float) -> Command:
        """Keep the lease and learn what is to be done. Raises LeaseLost."""
        statement = update(JobRow).where(*_mine(job_id, attempt)).values(lease_until=now_seconds() + lease_seconds)
        with self.writing() as session:
            command = session.execute(statement.returning(_COMMAND)).scalar_one_or_none()
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
        """Progress, new rows, the newest checkpoint, log and lease, in one transaction. Raises LeaseLost, writing nothing."""
        values: dict[str, Any] = {"checkpoint": checkpoint} if checkpoint else {}
        with self.writing() as session:
            self._hold(session, job_id, attempt, lease_until=now_seconds() + lease_seconds, **progress.model_dump(), **values)
            new = _insert_rows(session, job_id, rows)
            measured: list[EventDraft] = [("rows", {"rows": new})] if new else []
            self.append(session, job_id, [*_log_events(log), *measured, ("progress", progress.model_dump())])
            return self._command(session, job_id)

    def finish(self, job_id: str, attempt: int, result: RunResult, log: Sequence[LogLine] = ()) -> None:
        """The job has succeeded with this result. Raises LeaseLost."""
        obtained = result.provenance
        found = {
            "provenance": obtained.model_dump(mode="json"),
            "dataset_digest": obtained.dataset.digest,
            "device_class": obtained.device.partition(":")[0],
        }
        with self.writing() as session:
            self._end(session, job_id, attempt, JobState.succeeded, fraction=1.0, message="done", **found)
            self.append(session, job_id, _log_events(log))
            session.execute(delete(ResultRow).where(ResultRow.job_id == job_id))
            session.execute(insert(ResultRow).values(job_id=job_id, document=result.model_dump_json()))
            self.announce(session, job_id, JobState.succeeded)

    def fail(self, job_id: str, attempt: int, error: JobError, diagnostics: Sequence[Diagnostic] = (), log: Sequence[LogLine] = ()) -> None:
        """The job has failed, for a reason that its user can read. Raises LeaseLost."""
        document = error.model_dump(mode="json")
        findings = [finding.model_dump(mode="json") for finding in diagnostics]
        with self.writing() as session:
            self._end(session, job_id, attempt, JobState.failed, error=document)
            self.append(session, job_id, _log_events(log))
            self.announce(session, job_id, JobState.failed, error=document, diagnostics=findings)

    def stopped(self, job_id: str, attempt: int) -> JobState:
        """The run stopped where it was told to: cancelled, paused or out of time, else handed back to the queue. Raises LeaseLost."""
        with self.writing() as session:
            self._hold(session, job_id, attempt)
            state = STOPPED_AS.get(self._command(session, job_id), JobState.queued)
            error = self._out_of_time(session, job_id) if state == JobState.failed else None
            self._end(session, job_id, attempt, state, error=error)
            self.announce(session, job_id, state, **({"error": error} if error else {}))
        return state

    def lost(self, job_id: str, attempt: int, reason: str, max_losses: int) -> JobState:
        """The run died: queued again, or failed after `max_losses`; a cancel or pause that was wanted is done. Raises LeaseLost."""
        with self.writing() as session:
            return self.lose(session, job_id, attempt, reason, max_losses)

    def lose(self, session: Session, job_id: str, attempt: int, reason: str, max_losses: int, *conditions: ColumnElement[bool]) -> JobState:
        """`lost`, within a transaction, where all conditions still hold."""
        if not self.change(session, job_id, *_mine(job_id, attempt), *conditions, losses=JobRow.losses + 1):
            raise LeaseLost(f"{job_id} attempt {attempt}")
        row = session.get_one(JobRow, job_id, populate_existing=True)
        state, error = STOPPED_AS.get(self._command(session, job_id)), None
        if state == JobState.failed:
            error = self._out_of_time(session, job_id)
        elif state is None and row.losses >= max_losses:
            state, error = JobState.failed, worker_lost(row.losses, reason).model_dump(mode="json")
        state = state or JobState.queued
        self._end(session, job_id, attempt, state, error=error)
        self.announce(session, job_id, state, reason=reason, losses=row.losses, **({"error": error} if error else {}))
        return state

    @staticmethod
    def _command(session: Session, job_id: str) -> Command:
        return Command(session.execute(select(_COMMAND).where(JobRow.id == job_id)).scalar_one())

    @staticmethod
    def _out_of_time(session: Session, job_id: str) -> dict[str, Any]:
        limit = session.scalar(select(JobRow.timeout_seconds).where(JobRow.id == job_id)) or 0.0
        return out_of_time(limit).model_dump(mode="json")

    def latest_checkpoint(self, job_id: str) -> str | None:
        """The name of the newest checkpoint, as it was recorded."""
        with self.reading() as session:
            return session.scalar(select(JobRow.checkpoint).where(JobRow.id == job_id))

    def rows(self, job_id: str) -> list[dict[str, Any]]:
        """The tidy rows so far, in the order of their making."""
        with self.reading() as session:
            return list(session.scalars(select(CurveRow.data).where(CurveRow.job_id == job_id).order_by(CurveRow.id)))

    def heartbeat(self, worker: WorkerInfo) -> None:
        """The worker is alive."""
        with self.writing() as session:
            session.execute(delete(WorkerRow).where(WorkerRow.id == worker.id))
            session.execute(insert(WorkerRow).values(**worker.model_dump(), seen_at=now_seconds()))
            session.execute(delete(WorkerRow).where(WorkerRow.seen_at < now_seconds() - 10 * DEAD_WORKER_SECONDS))

    def longest_wait_seconds(self) -> float | None:
        """How long the job that waits longest has been in the queue; None: none waits."""
        with self.reading() as session:
            oldest = session.scalar(
                select(JobRow.queued_at)
                .where(JobRow.state == JobState.queued.value, JobRow.kind != "study")
                .order_by(JobRow.queued_at)
                .limit(1)
            )
            return None if oldest is None else max(0.0, self.now(session) - oldest)

    def _hold(self, session: Session, job_id: str, attempt: int, **values: Any) -> None:
        if not self.change(session, job_id, *_mine(job_id, attempt), **values):
            raise LeaseLost(f"{job_id} attempt {attempt}")

    def _end(self, session: Session, job_id: str, attempt: int, state: JobState, **values: Any) -> None:
        ended: dict[str, Any] = {"state": state.value, "worker": None, "lease_until": None, "deadline_at": None, "eta_seconds": None}
        ended |= {"ran_seconds": JobRow.ran_seconds + now_seconds() - JobRow.claimed_at, **values}
        if state == JobState.queued:
            ended |= {"rung_at": None, "queued_at": now_seconds()}
        elif state != JobState.paused:
            ended["finished_at"] = now_seconds()
        self._hold(session, job_id, attempt, **ended)


def worker_lost(losses: int, reason: str) -> JobError:
    """Why a job that keeps losing its worker is given up."""
    return JobError(
        code="worker_lost",
        title="The job lost its worker again and again",
        detail=f"{losses} attempts ended without a result; the last one: {reason}. It may need more memory than a worker has: "
        "ask for fewer seeds or smaller widths, or look into the worker's log, then retry it.",
        evidence={"losses": losses},
    )


def out_of_time(limit: float) -> JobError:
    """Why a job that ran for too long was stopped."""
    return JobError(
        code="timeout",
        title="The job ran for longer than it was allowed to",
        detail=f"timeout_seconds is {limit:g}. What was computed stays readable; a retry goes on from the last checkpoint, "
        "with as much time again.",
        evidence={"timeout_seconds": limit},
    )


def _log_events(log: Sequence[LogLine]) -> list[EventDraft]:
    return [("log", line.model_dump(mode="json")) for line in log]


def _mine(job_id: str, attempt: int) -> tuple[Any, ...]:
    return JobRow.id == job_id, JobRow.attempt == attempt, JobRow.state == JobState.running.value, JobRow.kind != "study"


def _insert_rows(session: Session, job_id: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Insert the rows that are not there yet (a resumed run measures the same again), and return them."""
    keyed = {row_key(row): row.model_dump(mode="json") for row in rows}
    known = set(session.scalars(select(CurveRow.key).where(CurveRow.job_id == job_id, CurveRow.key.in_(keyed)))) if keyed else set()
    new = {key: data for key, data in keyed.items() if key not in known}
    if new:
        session.execute(insert(CurveRow), [{"job_id": job_id, "key": key, "data": data} for key, data in new.items()])
    return list(new.values())


def row_key(row: Row) -> str:
    """What makes a row unique within its job."""
    return key_of(dict(row))


def key_of(row: Mapping[str, Any]) -> str:
    """The same of a row as JSON, of which nothing else need be there."""
    if "method" in row:
        return f"{row['seed']}/{row['width']}/{row['layer']}/{row['epoch']}/{row['split']}/{row['method']}"
    return f"{row['seed']}/{row['layer']}/{row['epoch']}/{row['split']}"
