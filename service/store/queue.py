"""The queue: workers claim a job, keep it, record it and end it.

Every write of a worker carries the number of its attempt; writes of an older attempt are refused.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from sqlalchemy import delete, func, insert, not_, or_, select, update
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.elements import ColumnElement

from ffengine.datasets import Datasets, figures_version
from ffengine.plugins import REGISTRY
from ffengine.results import Diagnostic, RunResult
from ffengine.spec import CheckSpec, ForecastSpec, RunSpec, TrainSpec
from service.jobs import Command, JobError, JobState, LogLine, Progress, Wanted, source_states
from service.store.curve_rows import Row, insert_rows
from service.store.database import Database
from service.store.inserts import (
    QUEUED_MESSAGE,
    columns_of_answer,
    copy_result,
    other_basis,
    waiting_message,
)
from service.store.leases import (
    COMMAND,
    STOPPED_AS,
    LeaseLost,
    command_of,
    finish_attempt,
    lease_condition,
    record_loss,
    renewed,
    timeout_error,
    update_under_lease,
)
from service.store.tables import CurveRow, JobRow, ResultRow, now_seconds
from service.store.transitions import (
    EventDraft,
    append_events,
    append_state_event,
    change,
    change_all,
)

STARTING_MESSAGE = "starting"
WAITS = "waits: "  # before the reason for which no job can begin
LOST_REASON = "its worker was not heard of until the lease ran out"
# jobs that may be claimed when they are queued: not studies, which follow their runs, and not jobs
# that wait for an identical one, which share its result
CLAIMABLE = (JobRow.kind != "study", JobRow.waits_for.is_(None))
_SPEC: TypeAdapter[TrainSpec | CheckSpec | ForecastSpec] = TypeAdapter(RunSpec)


class Claim(NamedTuple):
    """A job that a worker holds."""

    job_id: str
    attempt: int
    spec: TrainSpec | CheckSpec | ForecastSpec


class Queue:
    """The jobs that wait for a worker, and those that a worker holds.

    `datasets` are those that jobs may name; None: those of the catalogue alone. `plugins` are the
    identities of the plug-ins with which jobs are claimed; None: those of this process.
    """

    def __init__(
        self,
        database: Database,
        datasets: Datasets | None = None,
        plugins: Collection[str] | None = None,
    ) -> None:
        self._database, self._datasets = database, datasets
        here = [plugin.identity for plugin in REGISTRY.plugins] if plugins is None else plugins
        self._plugins = frozenset(here)

    def claim_next(self, worker: str, lease_seconds: float) -> Claim | None:
        """Claim the first job of the queue; None where none can be claimed."""
        with self._database.reading() as session:
            first = (
                select(JobRow.id)
                .where(JobRow.state == JobState.queued.value, *CLAIMABLE, self._able(session))
                .order_by(JobRow.rank, JobRow.id)
                .limit(1)
            )
            if session.scalar(first) is None:  # mostly so: then do not wait for the write lock
                return None
        with self._database.writing() as session:
            job_id = session.scalar(first.with_for_update(skip_locked=True))
            return self._claim(session, job_id, worker, lease_seconds) if job_id else None

    def claim(self, job_id: str, worker: str, lease_seconds: float) -> Claim | None:
        """Claim a queued job; None where it is not queued."""
        with self._database.writing() as session:
            return self._claim(session, job_id, worker, lease_seconds)

    def _able(self, session: Session) -> ColumnElement[bool]:
        """The jobs whose plug-ins are here."""
        none = JobRow.plugins.is_(None)
        if not self._plugins:
            return none
        needs = _needs_of_queued(session)
        met = [need for need in needs if self._plugins.issuperset(need.split())]
        return or_(none, JobRow.plugins.in_(met)) if met else none

    def _claim(
        self, session: Session, job_id: str, worker: str, lease_seconds: float
    ) -> Claim | None:
        now = now_seconds()
        taken = change(
            session,
            job_id,
            JobRow.state.in_(source_states("claim", JobState.running)),
            *CLAIMABLE,
            self._able(session),
            state=JobState.running.value,
            attempt=JobRow.attempt + 1,
            worker=worker,
            lease_until=now + lease_seconds,
            claimed_at=now,
            deadline_at=now + JobRow.timeout_seconds - JobRow.ran_seconds,
            started_at=func.coalesce(JobRow.started_at, now),
            message=STARTING_MESSAGE,
        )
        if not taken:
            return None
        row = session.get_one(JobRow, job_id)
        spec = _SPEC.validate_python(row.spec)
        why = self._begin_anew(session, row, spec.dataset.name)
        append_state_event(session, job_id, JobState.running, attempt=row.attempt, worker=worker)
        append_events(session, job_id, _log_events(why))
        return Claim(job_id, row.attempt, spec)

    def _begin_anew(self, session: Session, row: JobRow, name: str) -> list[LogLine]:
        """Forget what earlier attempts computed on another basis; the lines of the log that say so.

        There are none where nothing is lost.
        """
        changed = self._changed_basis(row, name)
        if not changed:
            return []
        why = other_basis(
            name,
            digest_differs="dataset_digest" in changed,
            version=row.engine_version,
            today=figures_version(name),
        )
        lost = session.execute(
            delete(CurveRow).where(CurveRow.job_id == row.id).returning(CurveRow.id)
        ).first()
        begun = lost is not None or row.checkpoint is not None
        change(session, row.id, **changed, checkpoint=None, fraction=0.0)
        message = f"begins anew, because what it had computed {why}"
        return [LogLine(level="warning", message=message, attempt=row.attempt)] if begun else []

    def _changed_basis(self, row: JobRow, name: str) -> dict[str, str]:
        """The version of the figures and the data, where an earlier attempt had others.

        A run does not mix the figures of two versions, nor of two data sets that had one name.
        """
        version = figures_version(name)
        digest = self._datasets.digest_of(name) if self._datasets else None
        changed = {"engine_version": version} if row.engine_version != version else {}
        if digest and row.dataset_digest not in (None, digest):
            changed["dataset_digest"] = digest
        return changed

    def renew(self, job_id: str, attempt: int, lease_seconds: float) -> Command:
        """Renew the lease for `lease_seconds`, and return the command to obey. Raises LeaseLost."""
        statement = (
            update(JobRow).where(*lease_condition(job_id, attempt)).values(**renewed(lease_seconds))
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
        """Record progress, new rows, the newest checkpoint and log, and renew the lease.

        All in one transaction. Returns the command to obey. Raises LeaseLost, having written
        nothing.
        """
        values: dict[str, Any] = {"checkpoint": checkpoint} if checkpoint else {}
        with self._database.writing() as session:
            update_under_lease(
                session,
                job_id,
                attempt,
                **renewed(lease_seconds),
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
        """Let the job succeed with this result. Raises LeaseLost."""
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
        """Let the job fail with an error for its user. Raises LeaseLost."""
        document = error.model_dump(mode="json")
        findings = [finding.model_dump(mode="json") for finding in diagnostics]
        with self._database.writing() as session:
            finish_attempt(session, job_id, attempt, JobState.failed, error=document)
            append_events(session, job_id, _log_events(log))
            append_state_event(
                session, job_id, JobState.failed, error=document, diagnostics=findings
            )

    def finish_stopped(self, job_id: str, attempt: int) -> JobState:
        """End an attempt that stopped when it was asked to. Raises LeaseLost.

        Returns the new state of the job: cancelled, paused, failed where its time is over, else
        queued again.
        """
        with self._database.writing() as session:
            update_under_lease(session, job_id, attempt)
            state = STOPPED_AS.get(command_of(session, job_id), JobState.queued)
            error = timeout_error(session, job_id) if state == JobState.failed else None
            finish_attempt(session, job_id, attempt, state, error=error)
            append_state_event(session, job_id, state, **({"error": error} if error else {}))
        return state

    def lose(self, job_id: str, attempt: int, reason: str, max_losses: int) -> JobState:
        """Record that the attempt died. Raises LeaseLost.

        Returns the new state: queued again, failed after `max_losses`, or what the user asked for.
        """
        with self._database.writing() as session:
            return record_loss(session, job_id, attempt, reason, max_losses)

    def expire_leases(self, max_losses: int, *, longest_wait: float = float("inf")) -> list[str]:
        """Take jobs away from workers whose lease ran out, and return their ids.

        Takes none where waiting for the write lock took more than `longest_wait` seconds: then the
        workers could not renew their leases either.
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
        """The name of the newest checkpoint that was recorded; None: there is none."""
        with self._database.reading() as session:
            return session.scalar(select(JobRow.checkpoint).where(JobRow.id == job_id))

    def due_for_dispatch(self, limit: int, again_seconds: float) -> list[str]:
        """The queued jobs to send to the broker, in the order of the queue.

        Those are jobs that were never dispatched, or more than `again_seconds` ago: their message
        must be lost.
        """
        due = JobRow.dispatched_at.is_(None) | (
            JobRow.dispatched_at < now_seconds() - again_seconds
        )
        query = select(JobRow.id).where(JobRow.state == JobState.queued.value, *CLAIMABLE, due)
        with self._database.reading() as session:
            return list(session.scalars(query.order_by(JobRow.rank, JobRow.id).limit(limit)))

    def mark_dispatched(self, job_ids: list[str]) -> None:
        """Record that these jobs were dispatched now."""
        with self._database.writing() as session:
            session.execute(
                update(JobRow).where(JobRow.id.in_(job_ids)).values(dispatched_at=now_seconds())
            )

    def length(self, limit: int) -> int:
        """How many jobs wait for a worker; counting stops at `limit`."""
        some = (
            select(JobRow.id)
            .where(JobRow.state == JobState.queued.value, *CLAIMABLE)
            .limit(limit)
            .subquery()
        )
        with self._database.reading() as session:
            return session.scalar(select(func.count()).select_from(some)) or 0

    def longest_wait_seconds(self, *, able: bool = False) -> float | None:
        """How long the oldest queued job has waited; None where none waits.

        `able`: of those whose plug-ins are here.
        """
        with self._database.reading() as session:
            waiting = [JobRow.state == JobState.queued.value, JobRow.kind != "study"]
            if able:
                waiting.append(self._able(session))
            oldest = session.scalar(
                select(JobRow.queued_at).where(*waiting).order_by(JobRow.queued_at).limit(1)
            )
            return None if oldest is None else max(0.0, Database.now(session) - oldest)

    def explain_waiting(
        self,
        reason: str | None,
        after_seconds: float,
        lacking: Callable[[list[str]], str | None] = lambda _: None,
    ) -> None:
        """Give the jobs that have been queued for so long a message that says why they wait.

        **Arguments:**

        - `reason`: begins with WAITS. None: they wait for their turn only.
        - `after_seconds`: how long a job must have been queued.
        - `lacking`: says why nobody can begin a job that needs plug-ins of these identities; None:
          somebody can.
        """
        self._explain(reason, after_seconds, JobRow.plugins.is_(None))
        with self._database.reading() as session:
            needs = _needs_of_queued(session)
        for need in needs:
            self._explain(reason or lacking(need.split()), after_seconds, JobRow.plugins == need)

    def _explain(
        self, reason: str | None, after_seconds: float, which: ColumnElement[bool]
    ) -> None:
        """Give those of these jobs a message that have been queued for so long."""
        queued = (JobRow.state == JobState.queued.value, *CLAIMABLE, which)
        changed = (*queued, JobRow.message.startswith(WAITS, autoescape=True))
        if reason is not None:
            waited = JobRow.queued_at < now_seconds() - after_seconds
            changed = (*queued, waited & (JobRow.message != reason))
        with self._database.reading() as session:
            if session.scalar(select(JobRow.id).where(*changed).limit(1)) is None:
                return
        log: list[EventDraft] = [("log", {"level": "warning", "message": reason})] if reason else []
        message = reason or QUEUED_MESSAGE
        with self._database.writing() as session:
            # not in the logs of all runs of a study, of which there may be thousands
            change_all(session, *changed, JobRow.parent_id.is_(None), events=log, message=message)
            change_all(session, *changed, events=(), message=message)

    def resolve_duplicates(self, limit: int = 200) -> int:
        """Settle up to `limit` jobs whose identical job no longer runs; how many there were.

        Where it succeeded, they share its result. Where it ended otherwise, one of them is computed
        and the others wait for that one.
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
            new_leaders: dict[str, str] = {}
            for job_id, waits_for, state in (
                (job_id, str(waits_for), state) for job_id, waits_for, state in found
            ):
                if state == JobState.succeeded.value:
                    self._answer(session, job_id, waits_for)
                else:
                    leader_id = new_leaders.setdefault(waits_for, job_id)
                    freed, follows = (
                        {"waits_for": None, "message": QUEUED_MESSAGE},
                        {"waits_for": leader_id, "message": waiting_message(leader_id)},
                    )
                    change(session, job_id, *waiting, **(freed if leader_id == job_id else follows))
            return len(found)

    def _answer(self, session: Session, job_id: str, source_id: str) -> None:
        allowed = JobRow.state.in_(source_states("answer", JobState.succeeded))
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


def _needs_of_queued(session: Session) -> list[str]:
    """What queued jobs need of plug-ins, each once, as JobRow.plugins has it."""
    needing = (JobRow.state == JobState.queued.value, JobRow.plugins.is_not(None))
    return [
        need for need in session.scalars(select(JobRow.plugins).where(*needing).distinct()) if need
    ]


def _log_events(log: Sequence[LogLine]) -> list[EventDraft]:
    return [("log", line.model_dump(mode="json")) for line in log]
