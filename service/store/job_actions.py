"""What users do to jobs: cancel, pause, resume, retry, update, delete.

Queued and paused jobs change at once. For a running job the request is stored in `wanted`, and
its worker obeys it.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from service.jobs import TERMINAL, Job, JobState, Wanted, source_states
from service.placement import asked_memory, need_columns
from service.store.audit import Action, note
from service.store.database import Database
from service.store.deliveries import leave_undelivered
from service.store.inserts import OWN_OF_STUDIES, PRIORITIES, PRIORITY_SECONDS
from service.store.job_cache import to_job
from service.store.jobs import unreferenced_owners
from service.store.needs import StillNeeded, hold_trainings, named_again, needed_by
from service.store.owner_limits import HIGH, SubmitLimits, bounded, refuse_beyond
from service.store.queue_limit import QueueFull, count_waiting
from service.store.tables import JobRow, ResultRow, SummaryRow, now_seconds
from service.store.transitions import EventDraft, change, change_all, state_events
from service.store.usage import keep_usage

# the `reason` of the event by which an action queues a job again
REASONS = {"resume": "resume", "retry": "retry", "retry_failed": "retry"}
# what an action withdraws from a running job that has not obeyed yet
WITHDRAWN = {"resume": Wanted.pause, "retry": Wanted.cancel}


class NotAllowed(Exception):
    """The job's state does not allow it; `state` is that state."""

    def __init__(self, state: JobState) -> None:
        super().__init__(state.value)
        self.state = state


class PartOfStudy(Exception):
    """The job is a run of a study, and only the whole study is deleted; `study` is its id."""

    def __init__(self, study: str) -> None:
        super().__init__(study)
        self.study = study


class JobActions:
    """Changes jobs for users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once where it waits, as soon as its worker obeys where it runs.

        Idempotent. Raises LookupError where there is no such job, and NotAllowed where it has ended
        in another state.
        """
        return self._request(job_id, "cancel", Wanted.cancel, JobState.cancelled)

    def pause(self, job_id: str) -> Job:
        """Pause a job. Idempotent. Raises as `cancel` does."""
        return self._request(job_id, "pause", Wanted.pause, JobState.paused)

    def resume(
        self,
        job_id: str,
        *,
        max_queued: int | None = None,
        limits: SubmitLimits = SubmitLimits(),  # noqa: B008 - immutable
    ) -> Job:
        """Queue a paused job again; for a running job, withdraw a request to pause.

        Raises as `cancel` does, QueueFull where more than `max_queued` jobs would wait, and
        OwnerLimitReached where its owner would have more than the limits allow.
        """
        return self._requeue(job_id, "resume", max_queued, limits)

    def retry(
        self,
        job_id: str,
        *,
        max_queued: int | None = None,
        limits: SubmitLimits = SubmitLimits(),  # noqa: B008 - immutable
    ) -> Job:
        """Queue a failed or cancelled job again, from its last checkpoint; of a study, its runs.

        A running job that was asked to cancel, and has not yet, goes on. Raises as `resume` does,
        and WeightsGone for a check of weights that were deleted.
        """
        return self._requeue(job_id, "retry", max_queued, limits)

    def update(self, job_id: str, *, given: Mapping[str, Any], max_high: int | None = None) -> Job:
        """Change name, tags, project, note, priority, needs or pin of a job.

        The runs of a study share all of them but note and pin. Raises LookupError, and
        OwnerLimitReached where its owner would have more than `max_high` unfinished jobs that go
        first.
        """
        with self._database.writing() as session:
            row = self._row(session, job_id)
            values = dict(given)
            if "note" in values:
                values["note"] = values["note"] or None
            if "priority" in values:
                values["priority"] = PRIORITIES.index(values["priority"])
                if values["priority"] == HIGH > row.priority and row.state not in TERMINAL:
                    limits = SubmitLimits(max_high=max_high)
                    jobs = row.cells or 1
                    refuse_beyond(session, row.submitted_by, jobs=jobs, is_high=True, limits=limits)
                moved = (values["priority"] - row.priority) * PRIORITY_SECONDS
                values["rank"] = JobRow.rank - moved
            if "needs" in values:
                asked = asked_memory(values["needs"])
                values |= need_columns(values["needs"])
                values["need_memory_bytes"] = JobRow.estimated_bytes if asked is None else asked
                values["dispatched_at"] = None  # another worker may be able to begin it now
            change(session, job_id, **values)
            inherited = {
                name: value for name, value in values.items() if name not in OWN_OF_STUDIES
            }
            if inherited:
                session.execute(
                    update(JobRow)
                    .where(JobRow.parent_id == job_id)
                    .values(version=JobRow.version + 1, **inherited)
                )
            note(session, "change", job_id, fields=sorted(given))
            return to_job(session.get_one(JobRow, job_id, populate_existing=True))

    def delete(self, job_id: str) -> list[str]:
        """Delete an ended job, and a study with its runs.

        Its messages to webhooks are sent all the same. Returns the ids whose artifacts are to be
        removed. The artifacts of a result that other jobs
        share stay until the last of these is deleted. Raises as `cancel` does, PartOfStudy for a
        single run of a study, and StillNeeded where unfinished jobs need one of them.
        """
        with self._database.writing() as session:
            parent = self._row(session, job_id).parent_id
            if parent is not None:
                raise PartOfStudy(parent)
            family = (JobRow.id == job_id) | (JobRow.parent_id == job_id)
            own = select(JobRow.id, JobRow.cached_from).where(family).order_by(JobRow.id)
            gone = session.execute(own.with_for_update()).all()
            unfinished = JobRow.state.not_in([state.value for state in TERMINAL])
            state = session.scalar(select(JobRow.state).where(family, unfinished).limit(1))
            if state is not None:
                raise NotAllowed(JobState(state))
            if users := needed_by(session, {own for own, _ in gone}):
                raise StillNeeded(users)
            leave_undelivered(session, [own for own, _ in gone])
            note(session, "delete", job_id, jobs=len(gone))
            keep_usage(session, family, is_sqlite=self._database.is_sqlite)
            session.execute(delete(JobRow).where(JobRow.parent_id == job_id))
            session.execute(delete(JobRow).where(JobRow.id == job_id))
            return unreferenced_owners(session, {held for ids in gone for held in ids if held})

    def _request(self, job_id: str, action: Action, wanted: Wanted, target: JobState) -> Job:
        with self._database.writing() as session:
            before = JobState(self._row(session, job_id).state)
            count = self._request_all(session, JobRow.id == job_id, action, wanted, target)
            if not count and before not in (target, JobState.running):
                raise NotAllowed(before)
            self._request_all(session, JobRow.parent_id == job_id, action, wanted, target)
            note(session, action, job_id)
            return to_job(session.get_one(JobRow, job_id, populate_existing=True))

    def _request_all(
        self,
        session: Session,
        which: ColumnElement[bool],
        action: str,
        wanted: Wanted,
        target: JobState,
    ) -> int:
        """Change the jobs that wait, store the request of those that run; how many there are."""
        ended = {"finished_at": now_seconds()} if target in TERMINAL else {}
        values = {
            "state": target.value,
            "wanted": wanted.value,
            "eta_seconds": None,
            "message": target.value,
            **ended,
        }
        waiting = JobRow.state.in_(source_states(action, target))
        done = len(change_all(session, which, waiting, events=state_events(target), **values))
        running = (
            JobRow.state == JobState.running.value,
            JobRow.wanted.not_in((Wanted.cancel.value, wanted.value)),
        )
        asked: list[EventDraft] = [("log", {"level": "info", "message": f"{action} was asked for"})]
        return done + len(change_all(session, which, *running, events=asked, wanted=wanted.value))

    def _requeue(
        self, job_id: str, action: Action, max_queued: int | None, limits: SubmitLimits
    ) -> Job:
        with self._database.writing() as session:
            row = self._row(session, job_id)
            waited = count_waiting(session)
            with bounded(session, row.submitted_by, limits):
                self._requeue_with_runs(session, row, action)
            waiting = count_waiting(session)
            if max_queued is not None and waiting > max(waited, max_queued):
                raise QueueFull
            note(session, action, job_id)
            return to_job(session.get_one(JobRow, job_id, populate_existing=True))

    def _requeue_with_runs(self, session: Session, row: JobRow, action: str) -> None:
        """Queue a job again, and of a study its runs. Raises NotAllowed and WeightsGone."""
        if action == "retry":
            hold_trainings(session, named_again(session, row))
        before = JobState(row.state)
        own = (
            "retry_failed"
            if action == "retry"
            and before == JobState.succeeded
            and self._has_failures(session, row)
            else action
        )
        done = self._requeue_all(session, JobRow.id == row.id, own)
        if not done and before not in (JobState.queued, JobState.running):
            raise NotAllowed(before)
        if done:  # a job that has succeeded meanwhile keeps its result
            session.execute(delete(ResultRow).where(ResultRow.job_id == row.id))
        if done and action == "retry" and row.parent_id:
            self._reopen(session, row.parent_id)
        self._requeue_all(session, JobRow.parent_id == row.id, action)

    def _reopen(self, session: Session, study_id: str) -> None:
        """Queue an ended study again because one of its runs is retried, and drop its result."""
        action = {JobState.succeeded: "retry_failed", JobState.failed: "retry"}.get(
            JobState(self._row(session, study_id).state)
        )
        if action and self._requeue_all(session, JobRow.id == study_id, action):
            session.execute(delete(ResultRow).where(ResultRow.job_id == study_id))

    def _requeue_all(self, session: Session, which: ColumnElement[bool], action: str) -> int:
        values: dict[str, Any] = {
            "state": JobState.queued.value,
            "wanted": Wanted.run.value,
            "dispatched_at": None,
            "queued_at": now_seconds(),
        }
        values |= {"finished_at": None, "error": None, "message": "queued"}
        if action != "resume":
            again = now_seconds() - JobRow.priority * PRIORITY_SECONDS
            values |= {"losses": 0, "returns": 0, "ran_seconds": 0.0, "rank": again}
            values |= {"in_parts": False, "outgrown_hosts": None}
        waiting = JobRow.state.in_(source_states(action, JobState.queued))
        done = change_all(
            session,
            which,
            waiting,
            events=state_events(JobState.queued, reason=REASONS[action]),
            **values,
        )
        session.execute(
            delete(SummaryRow).where(
                SummaryRow.job_id.in_(
                    select(JobRow.id).where(which, JobRow.state == JobState.queued.value)
                )
            )
        )
        if withdrawn := WITHDRAWN.get(action):
            stopping = (JobRow.state == JobState.running.value, JobRow.wanted == withdrawn.value)
            done += change_all(session, which, *stopping, events=(), wanted=Wanted.run.value)
        return len(done)

    @staticmethod
    def _has_failures(session: Session, row: JobRow) -> bool:
        unsuccessful = JobRow.state.in_([JobState.failed.value, JobState.cancelled.value])
        return (
            session.scalar(
                select(JobRow.id).where(JobRow.parent_id == row.id, unsuccessful).limit(1)
            )
            is not None
        )

    @staticmethod
    def _row(session: Session, job_id: str) -> JobRow:
        row = session.get(JobRow, job_id)
        if row is None:
            raise LookupError(job_id)
        return row
