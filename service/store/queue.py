"""The queue: workers claim a job, keep it, record it and end it.

Every write of a worker carries the number of its attempt; writes of an older attempt are refused.
"""

import contextlib
import platform
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import (
    and_,
    delete,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased
from sqlalchemy.sql.elements import ColumnElement

from ffengine.attempts import with_attempts
from ffengine.datasets import DATASETS, figures_version
from ffengine.plugins import REGISTRY
from ffengine.results import Diagnostic, EpochRow, ForecastPoint, RunResult
from ffengine.spec import CheckSpec, ForecastSpec, RunSpec, TrainSpec
from ffengine.spec_versions import FIRST_VERSION, SPEC_VERSION
from ffengine.text import shortened, visible
from ffengine.version import VERSION
from service.jobs import Command, JobError, JobState, LogLine, Progress, Wanted, source_states
from service.placement import Fitness, joined_tags, split_tags
from service.store import attempts
from service.store.curve_rows import Row, insert_new, new_rows
from service.store.database import Database
from service.store.fairness import first_of, turns_of
from service.store.inserts import (
    QUEUED_MESSAGE,
    WAITS,
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
    host_of,
    lease_condition,
    record_loss,
    record_outgrown,
    record_return,
    renewed,
    timeout_error,
    update_under_lease,
)
from service.store.tables import (
    CurveRow,
    DrainRow,
    JobRow,
    ResultRow,
    UploadRow,
    WorkerRow,
    now_seconds,
)
from service.store.transitions import (
    EventDraft,
    append_events,
    append_state_event,
    change,
    change_all,
    enqueue_deliveries,
    insert_events,
    state_events,
)
from service.store.understanding import (
    FOLLOWS,
    LEADS,
    NEEDED,
    UNDERSTANDS,
    WAITS_FOR_NONE,
    understood,
)
from service.store.workers import DEAD_WORKER_SECONDS

STARTING_MESSAGE = "starting"
AVOID_SECONDS = 60.0  # for which a host does not get a job again that it lost or gave back
NEEDS = f"{WAITS}needs "  # where a job needs what no live worker has
LOST_REASON = "its worker was not heard of until the lease ran out"
# jobs that may be claimed when they are queued: not studies, which follow their runs, and not jobs
# that wait for an identical one, which share its result
CLAIMABLE = (JobRow.kind != "study", LEADS)
_SPEC: TypeAdapter[TrainSpec | CheckSpec | ForecastSpec] = TypeAdapter(RunSpec)


class Claim(NamedTuple):
    """A job that a worker holds."""

    job_id: str
    attempt: int
    spec: TrainSpec | CheckSpec | ForecastSpec
    dataset_digest: str | None = None  # which arrays its data set has; None: it does not say
    submitted_by: str | None = None  # the name of its key, for logs
    in_parts: bool = False  # in smaller pieces, as memory had run out


class Room(NamedTuple):
    """What live workers have for jobs of some needs.

    **Attributes:**

    - `none`: why no worker could take one of them; None: one could.
    - `memory_bytes`: more memory than this has none of the workers that could; None: not known.
    - `too_small`: why a job that needs more waits.
    """

    none: str | None = None
    memory_bytes: int | None = None
    too_small: str | None = None


ANY_ROOM = Room()


class _Unreadable(Exception):
    """The spec of a job cannot be read here; `reason` says what in it, in one line."""

    def __init__(self, job_id: str, error: ValidationError) -> None:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        self.job_id = job_id
        self.reason = shortened(visible(f"{where}: {first['msg']}" if where else first["msg"]))
        super().__init__(f"{job_id}: {self.reason}")


class Queue:
    """The jobs that wait for a worker, and those that a worker holds.

    `plugins` are the identities of the plug-ins with which jobs are claimed; None: those of this
    process. `host` is the name of this machine; None: what it calls itself. `knows` is the newest
    version of specs that is understood here.
    """

    def __init__(
        self,
        database: Database,
        plugins: Collection[str] | None = None,
        host: str | None = None,
        knows: int = SPEC_VERSION,
    ) -> None:
        self._database = database
        self._host = host or platform.node()
        here = [plugin.identity for plugin in REGISTRY.plugins] if plugins is None else plugins
        self._plugins, self._knows = frozenset(here), knows

    def claim_next(
        self,
        worker: str,
        lease_seconds: float,
        fitness: Fitness | None = None,
        max_running: int | None = None,
    ) -> Claim | None:
        """Claim the first job that fits of the owner whose turn it is; None where there is none.

        **Arguments:**

        - `worker`: who claims it.
        - `lease_seconds`: how long it may be silent.
        - `fitness`: what the worker is fit for; None: any job.
        - `max_running`: how many jobs of an owner may run at once, where the owner's key does not
          say it; None: as many as there are workers.
        """
        while True:
            try:
                return self._claim_first(worker, lease_seconds, fitness, max_running)
            except _Unreadable as unreadable:  # the transaction is undone; others may be begun
                self._leave_to_newer(worker, unreadable)

    def _claim_first(
        self,
        worker: str,
        lease_seconds: float,
        fitness: Fitness | None,
        max_running: int | None,
    ) -> Claim | None:
        """Claim the first job that fits. Raises _Unreadable."""
        with self._database.reading() as session:
            claimable = (
                JobRow.state == JobState.queued.value,
                *CLAIMABLE,
                self._able(session),
                self._not_avoided(),
                not_(_outgrew(literal(self._host))),
                not_(exists().where(DrainRow.worker_id == worker)),
                *_fitting(fitness),
            )
            turns = turns_of(session, *claimable, max_running=max_running)
        if not turns:
            return None  # mostly so: then do not wait for the write lock
        with self._database.writing() as session:
            for turn in turns:
                job_id = first_of(
                    session,
                    turn,
                    *claimable,
                    is_sqlite=self._database.is_sqlite,
                )
                if job_id is not None:
                    return self._claim(session, job_id, worker, lease_seconds)
            return None

    def claim(self, job_id: str, worker: str, lease_seconds: float) -> Claim | None:
        """Claim a queued job; None where it is not queued, or not understood here."""
        try:
            with self._database.writing() as session:
                return self._claim(session, job_id, worker, lease_seconds)
        except _Unreadable as unreadable:
            self._leave_to_newer(worker, unreadable)
            return None

    def _leave_to_newer(self, worker: str, unreadable: "_Unreadable") -> None:
        """Record that a queued job needs a newer version of specs than the one known here.

        Who stored it must have been wrong about the version that it needs. So nobody who knows this
        one claims it from now on, rather than again and again.
        """
        why = (
            f"{worker} (fflab {VERSION}) does not understand its spec, and leaves it to a newer "
            f"one: {unreadable.reason}"
        )
        with self._database.writing() as session:
            left = change(
                session,
                unreadable.job_id,
                JobRow.state == JobState.queued.value,
                self._knows >= NEEDED,
                spec_version=self._knows + 1,
                waits_for=JobRow.id,
            )
            if left:
                log = {"level": "warning", "message": why}
                append_events(session, unreadable.job_id, [("log", log)])

    def _not_avoided(self) -> ColumnElement[bool]:
        """The jobs that this host did not lose or give back just now, while another can take them.

        What was wrong with the host is mostly wrong still.
        """
        recently = JobRow.queued_at > now_seconds() - AVOID_SECONDS
        others = self._others_could()
        return not_(and_(func.coalesce(JobRow.avoid_host, "") == self._host, recently, others))

    def _others_could(self) -> ColumnElement[bool]:
        """The jobs that a live worker of another host has what it takes for."""
        return exists().where(
            WorkerRow.host != self._host,
            WorkerRow.paused.is_(None),
            not_(exists().where(DrainRow.worker_id == WorkerRow.id)),
            or_(
                JobRow.need_device.is_(None),
                WorkerRow.device.startswith(JobRow.need_device),
            ),
            func.coalesce(JobRow.need_memory_bytes <= WorkerRow.memory_bytes, true()),
            not_(_outgrew(WorkerRow.host)),
            UNDERSTANDS,
            WorkerRow.seen_at > now_seconds() - DEAD_WORKER_SECONDS,
        )

    def _able(self, session: Session) -> ColumnElement[bool]:
        """The jobs whose specs are understood here, and whose plug-ins are here."""
        able: ColumnElement[bool] = JobRow.plugins.is_(None)
        if self._plugins:
            needs = _needs_of_queued(session)
            met = [need for need in needs if self._plugins.issuperset(need.split())]
            able = or_(able, JobRow.plugins.in_(met)) if met else able
        return and_(able, understood(self._knows))

    def _claim(
        self, session: Session, job_id: str, worker: str, lease_seconds: float
    ) -> Claim | None:
        now = now_seconds()
        which = (
            JobRow.id == job_id,
            JobRow.state.in_(source_states("claim", JobState.running)),
            *CLAIMABLE,
            self._able(session),
        )
        taken = (
            update(JobRow)
            .where(*which)
            .values(
                version=JobRow.version + 1,
                last_event=JobRow.last_event + 1,
                state=JobState.running.value,
                attempt=JobRow.attempt + 1,
                worker=worker,
                lease_until=now + lease_seconds,
                claimed_at=now,
                deadline_at=now + JobRow.timeout_seconds - JobRow.ran_seconds,
                started_at=func.coalesce(JobRow.started_at, now),
                message=STARTING_MESSAGE,
            )
        )
        row = session.scalar(taken.returning(JobRow).execution_options(synchronize_session=False))
        if row is None:
            return None
        spec = _read(row)
        why = self._begin_anew(session, row, spec.dataset.name)
        running = state_events(JobState.running, attempt=row.attempt, worker=worker)
        insert_events(session, job_id, row.last_event, running)
        if row.webhook is not None:
            enqueue_deliveries(session, [job_id], JobState.running)
        append_events(session, job_id, _log_events(why))
        attempts.begin(session, job_id, row.attempt, worker, in_parts=row.in_parts)
        return Claim(
            job_id,
            row.attempt,
            spec,
            dataset_digest=row.dataset_digest,
            in_parts=row.in_parts,
            submitted_by=row.submitted_by,
        )

    def _begin_anew(self, session: Session, row: JobRow, name: str) -> list[LogLine]:
        """Forget what earlier attempts computed on another basis; the lines of the log that say so.

        There are none where nothing is lost.
        """
        changed = _changed_basis(session, row, name)
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
            new = new_rows(session, job_id, rows)
            measured: list[EventDraft] = [("rows", {"rows": list(new.values())})] if new else []
            events = [*_log_events(log), *measured, ("progress", progress.model_dump())]
            changed = update_under_lease(
                session,
                job_id,
                attempt,
                len(events),
                **renewed(lease_seconds),
                **progress.model_dump(),
                **values,
            )
            insert_new(session, job_id, new)
            if isinstance(next(iter(rows), None), EpochRow | ForecastPoint):
                attempts.brought(session, job_id, attempt, list(new.values()))
            insert_events(session, job_id, changed.last_event, events)
            return changed.command

    def finish(
        self, job_id: str, attempt: int, result: RunResult, log: Sequence[LogLine] = ()
    ) -> None:
        """Let the job succeed with this result. Raises LeaseLost."""
        obtained = result.provenance
        found = {
            "dataset_digest": obtained.dataset.digest,
            "device_class": obtained.device.partition(":")[0],
        }
        with self._database.writing() as session:
            finish_attempt(
                session,
                job_id,
                attempt,
                JobState.succeeded,
                [*_log_events(log), *state_events(JobState.succeeded)],
                fraction=1.0,
                message="done",
                **found,
            )
            result = with_attempts(result, attempts.list_all(session, job_id, obtained))
            document = result.provenance.model_dump(mode="json")
            session.execute(update(JobRow).where(JobRow.id == job_id).values(provenance=document))
            make = sqlite.insert if self._database.is_sqlite else postgresql.insert
            stored = make(ResultRow).values(job_id=job_id, document=result.model_dump_json())
            session.execute(
                stored.on_conflict_do_update(
                    index_elements=["job_id"], set_={"document": stored.excluded.document}
                )
            )

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
            host = host_of(session, job_id)
            where = {"host": host} if host else {}
            facts = {"error": document, "diagnostics": findings, **where}
            events = [*_log_events(log), *state_events(JobState.failed, **facts)]
            finish_attempt(session, job_id, attempt, JobState.failed, events, error=document)

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

    def return_unfit(self, job_id: str, attempt: int, reason: str) -> JobState:
        """Record that the attempt failed because of its machine. Raises LeaseLost.

        Returns the new state: queued again, failed where machine after machine gave it back, or
        what the user asked for.
        """
        with self._database.writing() as session:
            return record_return(session, job_id, attempt, reason)

    def pass_on(self, job_id: str, attempt: int, error: JobError) -> JobState:
        """Record that this machine lacks what the job needs. Raises LeaseLost.

        Returns the new state: queued again where another host may have it, failed with the error
        where none is there or so many gave it back, or what the user asked for.
        """
        with self._database.writing() as session:
            elsewhere = select(JobRow.id).where(JobRow.id == job_id, self._others_could())
            is_last = session.scalar(elsewhere) is None
            return record_return(session, job_id, attempt, error.detail, error, is_last=is_last)

    def outgrow(self, job_id: str, attempt: int, reason: str) -> tuple[JobState, bool]:
        """Record that the memory of this machine ran out. Raises LeaseLost.

        Returns the new state: queued again, failed where no other live worker could take it, or
        what the user asked for. And whether the same worker is to try it again, in smaller pieces.
        """
        elsewhere = self._others_could()
        with self._database.writing() as session:
            state = record_outgrown(session, job_id, attempt, reason, elsewhere)
            row = session.get_one(JobRow, job_id, populate_existing=True)
            return state, state == JobState.queued and row.avoid_host is None

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
        must be lost, or it woke a worker that is not fit for them. Of jobs that no live worker
        could take, none is sent again.
        """
        due = JobRow.dispatched_at.is_(None) | and_(
            JobRow.dispatched_at < now_seconds() - again_seconds,
            not_(JobRow.message.startswith(NEEDS, autoescape=True)),
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

    def longest_wait_seconds(
        self, *, able: bool = False, fitness: Fitness | None = None
    ) -> float | None:
        """How long the oldest queued job has waited; None where none waits.

        **Arguments:**

        - `able`: of those whose plug-ins are here.
        - `fitness`: of those that a worker is fit for which is fit for this; None: of all.
        """
        with self._database.reading() as session:
            waiting = [
                JobRow.state == JobState.queued.value,
                JobRow.kind != "study",
                *_fitting(fitness),
            ]
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
        room: Callable[[str | None, list[str]], Room] = lambda _device, _tags: ANY_ROOM,
        of_job: str | None = None,
        not_understood: Callable[[int], str | None] = lambda _: None,
    ) -> None:
        """Give the jobs that have been queued for so long a message that says why they wait.

        **Arguments:**

        - `reason`: begins with WAITS. None: they wait for their turn only.
        - `after_seconds`: how long a job must have been queued.
        - `lacking`: says why nobody can begin a job that needs plug-ins of these identities; None:
          somebody can.
        - `room`: says what live workers have for jobs that need this kind of device and these tags.
        - `of_job`: only of this job, or of the runs of this study; None: of all jobs.
        - `not_understood`: says why nobody understands a job that needs this version of specs;
          None: somebody does.
        """
        own = true() if of_job is None else self._that_wait_of(of_job)
        kinds = (JobRow.spec_version, JobRow.plugins, JobRow.need_device, JobRow.need_tags)
        queued = (JobRow.state == JobState.queued.value, *CLAIMABLE, own)
        with self._database.reading() as session:
            found = session.execute(select(*kinds).where(*queued).distinct()).all()
        for version, plugins, device, tags in found:
            same = and_(
                own,
                *(
                    column.is_not_distinct_from(value)
                    for column, value in zip(kinds, (version, plugins, device, tags), strict=True)
                ),
            )
            there = room(device, split_tags(tags))
            why = reason or not_understood(version or FIRST_VERSION)
            why = why or (lacking(plugins.split()) if plugins else None) or there.none
            if why is None and there.memory_bytes is not None:
                larger = JobRow.need_memory_bytes > there.memory_bytes
                self._explain(there.too_small, after_seconds, and_(same, larger))
                same = and_(same, not_(func.coalesce(larger, false())))
            self._explain(why, after_seconds, same)

    def _that_wait_of(self, job_id: str) -> ColumnElement[bool]:
        """The runs of a study, or else the job itself: each condition has an index of its own.

        Either of both at once has none, and all queued jobs would be read.
        """
        with self._database.reading() as session:
            kind = session.scalar(select(JobRow.kind).where(JobRow.id == job_id))
        return JobRow.parent_id == job_id if kind == "study" else JobRow.id == job_id

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
        query = select(JobRow.id, JobRow.waits_for, leader.state, JobRow.private).outerjoin(
            leader, leader.id == JobRow.waits_for
        )
        waiting = (FOLLOWS, JobRow.state == JobState.queued.value)
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
            for job_id, waits_for, state, private in (
                (job_id, str(waits_for), state, private)
                for job_id, waits_for, state, private in found
            ):
                if state == JobState.succeeded.value:
                    self._answer(session, job_id, waits_for)
                else:
                    leaders = {} if private else new_leaders  # others do not wait for a private one
                    leader_id = leaders.setdefault(waits_for, job_id)
                    freed, follows = (
                        {"waits_for": WAITS_FOR_NONE, "message": QUEUED_MESSAGE},
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


def _changed_basis(session: Session, row: JobRow, name: str) -> dict[str, str]:
    """The version of the figures and the data, where an earlier attempt had others.

    A run does not mix the figures of two versions, nor of two data sets that had one name. What the
    name stands for is said by the database: the files of this machine may be others.
    """
    version = figures_version(name)
    known, upload = DATASETS.get(name), session.get(UploadRow, ("dataset", name))
    digest = known.digest if known else upload.digest if upload else None
    changed = {"engine_version": version} if row.engine_version != version else {}
    if digest and row.dataset_digest not in (None, digest):
        changed["dataset_digest"] = digest
    return changed


def _read(row: JobRow) -> TrainSpec | CheckSpec | ForecastSpec:
    """The spec of a job, to be computed. Raises _Unreadable."""
    try:
        return _SPEC.validate_python(row.spec)
    except ValidationError as error:
        raise _Unreadable(row.id, error) from error


def _fitting(fitness: Fitness | None) -> list[ColumnElement[bool]]:
    """The jobs whose needs a worker meets; None: all jobs."""
    if fitness is None:
        return []
    memory = JobRow.need_memory_bytes
    left: ColumnElement[str] = func.coalesce(JobRow.need_tags, "")
    for tag in sorted(set(fitness.tags)):
        left = func.replace(left, joined_tags([tag]), "")
    met = [or_(JobRow.need_device.is_(None), JobRow.need_device == fitness.kind), left == ""]
    if fitness.memory_bytes is not None:
        met.append(or_(memory.is_(None), memory <= fitness.memory_bytes))
    return met


def _outgrew(host: ColumnElement[str] | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """The jobs for which the memory of a host was not enough, in smaller pieces either."""
    hosts = func.coalesce(JobRow.outgrown_hosts, "")
    return func.replace(hosts, "|" + host + "|", "") != hosts


def _needs_of_queued(session: Session) -> list[str]:
    """What queued jobs need of plug-ins, each once, as JobRow.plugins has it."""
    needing = (JobRow.state == JobState.queued.value, JobRow.plugins.is_not(None))
    return [
        need for need in session.scalars(select(JobRow.plugins).where(*needing).distinct()) if need
    ]


def _log_events(log: Sequence[LogLine]) -> list[EventDraft]:
    return [("log", line.model_dump(mode="json")) for line in log]
