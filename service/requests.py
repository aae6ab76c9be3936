"""The user's side of the store: submit, look, wish, delete."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import TextClause, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from ffengine.results import Provenance
from ffengine.spec import ELSEWHERE, Submission
from ffengine.study import Cell
from service.database import Database, EventDraft, news_of
from service.jobs import TERMINAL, Event, Job, JobError, JobState, Progress, Wanted, sources
from service.submissions import CELLS_AT_ONCE, PRIORITIES, PRIORITY_SECONDS, Order, draft, draft_cell, insert_jobs
from service.tables import EventRow, IdempotencyRow, JobRow, KeyRow, ResultRow, SummaryRow, WorkerRow, now_seconds

OWNERS_AT_ONCE = 500
SHOWN_AS_THEY_ARE = ("id", "kind", "name", "tags", "pinned", "state", "wanted", "spec_digest", "cached_from", "timeout_seconds", "place")


class KeyReused(Exception):  # noqa: N818
    """The Idempotency-Key came with another body before."""


class QueueFull(Exception):  # noqa: N818
    """Too many jobs wait."""


class NotAllowed(Exception):  # noqa: N818
    """The job's state does not allow it; `state` is that state."""

    def __init__(self, state: JobState) -> None:
        super().__init__(state.value)
        self.state = state


class Idempotency(NamedTuple):
    """An Idempotency-Key of an owner, and the fingerprint of the body that came with it."""

    owner: str
    key: str
    fingerprint: str
    hours: float


class Submitted(NamedTuple):
    """The job of a submission, and whether it was there before."""

    job: Job
    replayed: bool


class Page(NamedTuple):
    """Some jobs, and the id after which the next page begins."""

    jobs: list[Job]
    next_id: str | None


class WorkerSeen(NamedTuple):
    """A worker as it last said, and how long ago."""

    row: WorkerRow
    silent_seconds: float


class Requests(Database):
    """Everything that the API reads and writes."""

    def submit(self, order: Order, cells: Sequence[Cell] = (), *, idempotency: Idempotency | None = None, max_queued: int) -> Submitted:
        """Store a job, and for a study its cells, in one transaction with the idempotency key.

        An identical spec that has succeeded is answered from its result, unless the order is fresh.
        Raises KeyReused and QueueFull.
        """
        try:
            return self._submit(order, cells, idempotency, max_queued)
        except IntegrityError:
            if idempotency is None:
                raise
            # on PostgreSQL a request with the same key was a moment faster: its job is the answer
            return self._submit(order, cells, idempotency, max_queued)

    def job(self, job_id: str) -> Job | None:
        """The job, if there is one."""
        with self.reading() as session:
            row = session.get(JobRow, job_id)
            return to_job(row) if row else None

    def versioned(self, job_id: str) -> tuple[Job, int] | None:
        """The job and its version, which rises with every change."""
        with self.reading() as session:
            row = session.get(JobRow, job_id)
            return (to_job(row), row.version) if row else None

    def jobs(
        self,
        *,
        limit: int,
        before: str | None = None,
        state: str | None = None,
        kind: str | None = None,
        tag: str | None = None,
        name: str | None = None,
        parent: str | None = None,
        children: bool = False,
    ) -> Page:
        """Jobs, newest first, from before an id on; a study's cells only with `children`, or where its id is given as `parent`."""
        query = select(JobRow).order_by(JobRow.id.desc()).limit(limit + 1)
        if parent:
            query = query.where(JobRow.parent_id == parent)
        elif not children:
            query = query.where(JobRow.parent_id.is_(None))
        for column, value in ((JobRow.state, state), (JobRow.kind, kind), (JobRow.name, name)):
            query = query.where(column == value) if value is not None else query
        query = query.where(JobRow.id < before) if before else query
        query = query.where(self._tagged(tag)) if tag is not None else query
        with self.reading() as session:
            rows = list(session.scalars(query))
        return Page([to_job(row) for row in rows[:limit]], rows[limit - 1].id if len(rows) > limit else None)

    def result(self, job_id: str) -> str | None:
        """The result's JSON text, if there is one."""
        with self.reading() as session:
            return session.scalar(select(ResultRow.document).where(ResultRow.job_id == job_id))

    def children(self, job_id: str) -> list[tuple[Job, str | None]]:
        """The cells of a study in order, each with its result's JSON text where there is one."""
        query = select(JobRow, ResultRow.document).outerjoin(ResultRow, ResultRow.job_id == JobRow.id)
        with self.reading() as session:
            found = session.execute(query.where(JobRow.parent_id == job_id).order_by(JobRow.cell)).all()
            return [(to_job(row), document) for row, document in found]

    def events(self, job_id: str, *, after: int, limit: int) -> list[Event]:
        """The events of a job after a number, oldest first."""
        query = select(EventRow).where(EventRow.job_id == job_id, EventRow.seq > after).order_by(EventRow.seq).limit(limit)
        with self.reading() as session:
            return [to_event(row) for row in session.scalars(query)]

    def events_beyond(self, number: int, limit: int) -> list[tuple[int, str]]:
        """The numbers of the events after one over all jobs, each with its job's id, in their order."""
        query = select(EventRow.id, EventRow.job_id).where(EventRow.id > number).order_by(EventRow.id).limit(limit)
        with self.reading() as session:
            return [(row.id, row.job_id) for row in session.execute(query)]

    def events_numbered(self, numbers: Sequence[int]) -> list[Event]:
        """The events of these numbers over all jobs, in their order."""
        query = select(EventRow).where(EventRow.id.in_(numbers)).order_by(EventRow.id)
        with self.reading() as session:
            return [to_event(row) for row in session.scalars(query)]

    def newest_event(self) -> int:
        """The number of the newest event of all jobs: it rises whenever anything happens."""
        with self.reading() as session:
            return session.scalar(select(func.max(EventRow.id))) or 0

    # Wishes: done at once where the job waits, a column where it runs

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once where it waits, as soon as its worker hears of it where it runs. Idempotent.

        Raises LookupError where there is no such job, NotAllowed where it has ended otherwise.
        """
        return self._wish(job_id, "cancel", Wanted.cancel, JobState.cancelled)

    def pause(self, job_id: str) -> Job:
        """Pause a job. Idempotent. Raises as `cancel` does."""
        return self._wish(job_id, "pause", Wanted.pause, JobState.paused)

    def resume(self, job_id: str) -> Job:
        """Queue a paused job again; of a running one, withdraw the wish to pause. Raises as `cancel` does."""
        return self._requeue(job_id, "resume", {JobState.queued, JobState.running})

    def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again, from its last checkpoint; of a study, its runs. Raises as `cancel` does."""
        return self._requeue(job_id, "retry", {JobState.queued, JobState.running})

    def change_facts(self, job_id: str, *, given: Mapping[str, Any]) -> Job:
        """Change name, tags, priority or pin of a job and, but for the pin, of a study's runs. Raises LookupError."""
        with self.writing() as session:
            row = self._row(session, job_id)
            values = dict(given)
            if "priority" in values:
                values["priority"] = PRIORITIES.index(values["priority"])
                moved = (values["priority"] - row.priority) * PRIORITY_SECONDS
                values["rank"] = JobRow.rank - moved
            self.change(session, job_id, **values)
            inherited = {name: value for name, value in values.items() if name != "pinned"}
            if inherited:
                session.execute(update(JobRow).where(JobRow.parent_id == job_id).values(version=JobRow.version + 1, **inherited))
            return to_job(session.get_one(JobRow, job_id, populate_existing=True))

    def delete(self, job_id: str) -> list[str]:
        """Delete a job that has ended, with a study's cells; the ids whose artifacts are to go. Raises as `cancel` does.

        What answers a copy stays: its artifacts go with the last job that refers to them.
        """
        with self.writing() as session:
            self._row(session, job_id)
            family = (JobRow.id == job_id) | (JobRow.parent_id == job_id)
            unfinished = JobRow.state.not_in([state.value for state in TERMINAL])
            state = session.scalar(select(JobRow.state).where(family, unfinished).limit(1))
            if state is not None:
                raise NotAllowed(JobState(state))
            gone = session.execute(select(JobRow.id, JobRow.cached_from).where(family)).all()
            session.execute(delete(JobRow).where(JobRow.parent_id == job_id))
            session.execute(delete(JobRow).where(JobRow.id == job_id))
            return self._unneeded(session, {held for ids in gone for held in ids if held})

    def unneeded(self, owners: Collection[str]) -> list[str]:
        """Those of the owners of artifacts that no job refers to any more."""
        with self.reading() as session:
            return self._unneeded(session, owners)

    # Keys, workers, counts

    def add_key(self, key_id: str, name: str, key_digest: str) -> None:
        """Store an API key by its hash."""
        with self.writing() as session:
            session.execute(insert(KeyRow).values(id=key_id, name=name, digest=key_digest, created_at=now_seconds()))

    def api_keys(self) -> list[KeyRow]:
        """All API keys, oldest first."""
        with self.reading() as session:
            return list(session.scalars(select(KeyRow).order_by(KeyRow.created_at)))

    def revoke_key(self, key_id: str) -> bool:
        """Revoke a key by its id or name; whether there was one."""
        with self.writing() as session:
            found = session.scalars(
                select(KeyRow).where((KeyRow.id == key_id) | (KeyRow.name == key_id), KeyRow.revoked_at.is_(None))
            ).all()
            for row in found:
                row.revoked_at = self.now(session)
            return bool(found)

    def workers(self, silent_seconds: float) -> list[WorkerSeen]:
        """The workers that were heard of within so many seconds."""
        with self.reading() as session:
            now = self.now(session)
            rows = session.scalars(select(WorkerRow).where(WorkerRow.seen_at > now - silent_seconds).order_by(WorkerRow.id))
            return [WorkerSeen(row, max(0.0, now - row.seen_at)) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state, studies left out."""
        query = select(JobRow.state, func.count()).where(JobRow.kind != "study").group_by(JobRow.state)
        with self.reading() as session:
            found = dict(session.execute(query).all())
        return {state.value: found.get(state.value, 0) for state in JobState}

    # Within a transaction

    def _submit(self, order: Order, cells: Sequence[Cell], idempotency: Idempotency | None, max_queued: int) -> Submitted:
        at_once = cells[:CELLS_AT_ONCE]
        parent = draft(order)
        counted = {"cells": len(cells), "cells_made": len(at_once)} if cells else {"cells": None, "cells_made": None}
        drafts = [parent | counted, *(draft_cell(parent, cell, number) for number, cell in enumerate(at_once))]
        with self.writing() as session:
            if idempotency and (known := self._known(session, idempotency)):
                return Submitted(known, replayed=True)
            if self._waiting(session) + max(1, len(cells)) > max_queued:
                raise QueueFull
            insert_jobs(session, drafts, self.now(session))
            if idempotency:
                values = {"owner": idempotency.owner, "key": idempotency.key, "fingerprint": idempotency.fingerprint}
                session.execute(insert(IdempotencyRow).values(**values, job_id=parent["id"], created_at=now_seconds()))
            return Submitted(to_job(session.get_one(JobRow, parent["id"], populate_existing=True)), replayed=False)

    @staticmethod
    def _waiting(session: Session) -> int:
        """How many jobs wait for a worker, or are still to be made."""
        queued = session.scalar(select(func.count()).where(JobRow.state == JobState.queued.value, JobRow.kind != "study")) or 0
        open_study = (JobRow.kind == "study", JobRow.state.not_in([state.value for state in TERMINAL]))
        return queued + (session.scalar(select(func.sum(JobRow.cells - JobRow.cells_made)).where(*open_study)) or 0)

    def _known(self, session: Session, idempotency: Idempotency) -> Job | None:
        expired = IdempotencyRow.created_at < now_seconds() - idempotency.hours * 3600
        session.execute(delete(IdempotencyRow).where(expired))
        row = session.get(IdempotencyRow, (idempotency.owner, idempotency.key))
        if row is None:
            return None
        if row.fingerprint != idempotency.fingerprint:
            raise KeyReused
        return to_job(session.get_one(JobRow, row.job_id))

    def _wish(self, job_id: str, action: str, wanted: Wanted, target: JobState) -> Job:
        with self.writing() as session:
            before = JobState(self._row(session, job_id).state)
            heard = self._wish_all(session, JobRow.id == job_id, action, wanted, target)
            if not heard and before not in (target, JobState.running):
                raise NotAllowed(before)
            self._wish_all(session, JobRow.parent_id == job_id, action, wanted, target)
            return to_job(session.get_one(JobRow, job_id, populate_existing=True))

    def _wish_all(self, session: Session, which: ColumnElement[bool], action: str, wanted: Wanted, target: JobState) -> int:
        """Do it where jobs wait, ask for it where they run; for how many."""
        ended = {"finished_at": now_seconds()} if target in TERMINAL else {}
        values = {"state": target.value, "wanted": wanted.value, "eta_seconds": None, "message": target.value, **ended}
        waiting = JobRow.state.in_(sources(action, target))
        done = len(self.change_all(session, which, waiting, events=news_of(target), **values))
        running = (JobRow.state == JobState.running.value, JobRow.wanted.not_in((Wanted.cancel.value, wanted.value)))
        asked: list[EventDraft] = [("log", {"level": "info", "message": f"{action} was asked for"})]
        return done + len(self.change_all(session, which, *running, events=asked, wanted=wanted.value))

    def _requeue(self, job_id: str, action: str, fine: set[JobState]) -> Job:
        with self.writing() as session:
            row = self._row(session, job_id)
            before = JobState(row.state)
            own = "retry_failed" if action == "retry" and before == JobState.succeeded and self._has_failures(session, row) else action
            if not self._requeue_all(session, JobRow.id == job_id, own) and before not in fine:
                raise NotAllowed(before)
            session.execute(delete(ResultRow).where(ResultRow.job_id == job_id))
            self._requeue_all(session, JobRow.parent_id == job_id, action)
            return to_job(session.get_one(JobRow, job_id, populate_existing=True))

    def _requeue_all(self, session: Session, which: ColumnElement[bool], action: str) -> int:
        values: dict[str, Any] = {"state": JobState.queued.value, "wanted": Wanted.run.value, "rung_at": None, "queued_at": now_seconds()}
        values |= {"finished_at": None, "error": None, "message": "queued"}
        if action != "resume":
            again = now_seconds() - JobRow.priority * PRIORITY_SECONDS
            values |= {"losses": 0, "ran_seconds": 0.0, "rank": again}
        waiting = JobRow.state.in_(sources(action, JobState.queued))
        done = self.change_all(session, which, waiting, events=news_of(JobState.queued, reason=action.partition("_")[0]), **values)
        session.execute(
            delete(SummaryRow).where(SummaryRow.job_id.in_(select(JobRow.id).where(which, JobRow.state == JobState.queued.value)))
        )
        if action == "resume":
            pausing = (JobRow.state == JobState.running.value, JobRow.wanted == Wanted.pause.value)
            done += self.change_all(session, which, *pausing, events=(), wanted=Wanted.run.value)
        return len(done)

    @staticmethod
    def _has_failures(session: Session, row: JobRow) -> bool:
        unsuccessful = JobRow.state.in_([JobState.failed.value, JobState.cancelled.value])
        return session.scalar(select(JobRow.id).where(JobRow.parent_id == row.id, unsuccessful).limit(1)) is not None

    @staticmethod
    def _unneeded(session: Session, owners: Collection[str]) -> list[str]:
        needed: set[str | None] = set()
        asked = sorted(owners)
        for first in range(0, len(asked), OWNERS_AT_ONCE):
            some = asked[first : first + OWNERS_AT_ONCE]
            needed |= set(session.scalars(select(JobRow.id).where(JobRow.id.in_(some))))
            needed |= set(session.scalars(select(JobRow.cached_from).where(JobRow.cached_from.in_(some))))
        return [owner for owner in asked if owner not in needed]

    @staticmethod
    def _row(session: Session, job_id: str) -> JobRow:
        row = session.get(JobRow, job_id)
        if row is None:
            raise LookupError(job_id)
        return row

    def _tagged(self, tag: str) -> TextClause:
        each = "json_each(jobs.tags)" if self.is_sqlite else "json_array_elements_text(jobs.tags) AS each(value)"
        return text(f"EXISTS (SELECT 1 FROM {each} WHERE value = :tag)").bindparams(tag=tag)  # noqa: S608 - no user text


def to_event(row: EventRow) -> Event:
    """The event as the API shows it."""
    return Event.model_validate({"id": row.seq, "job": row.job_id, "type": row.type, "at": _time(row.at), "data": row.data})


def to_job(row: JobRow) -> Job:
    """The job as the API shows it."""
    base = f"/v1/jobs/{row.id}"
    links = {"self": base, "events": f"{base}/events", "result": f"{base}/result", "curves": f"{base}/curves", "cancel": f"{base}/cancel"}
    if row.parent_id:
        links["parent"] = f"/v1/jobs/{row.parent_id}"
    if row.kind == "study":
        links["children"] = f"/v1/jobs?parent={row.id}"
    return Job.model_validate(
        {
            **{key: getattr(row, key) for key in SHOWN_AS_THEY_ARE},
            "priority": PRIORITIES[row.priority],
            "spec": Submission.model_validate({"spec": row.spec}, context=ELSEWHERE).spec,
            "progress": Progress(fraction=row.fraction, message=row.message, eta_seconds=row.eta_seconds),
            "created_at": _time(row.created_at),
            "started_at": _time(row.started_at),
            "finished_at": _time(row.finished_at),
            "attempts": row.attempt,
            "error": JobError.model_validate(row.error) if row.error else None,
            "provenance": Provenance.model_validate(row.provenance) if row.provenance else None,
            "parent": row.parent_id,
            "cached": row.cached_from is not None,
            "waits_for": row.waits_for if row.state == JobState.queued else None,
            "webhook": row.webhook["url"] if row.webhook else None,
            "links": links,
        }
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
