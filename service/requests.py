"""The user's side of the store: submit, look, wish, delete."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import BaseModel
from sqlalchemy import TextClause, delete, func, insert, select, text
from sqlalchemy.orm import Session

from ffengine.results import Provenance
from ffengine.spec import AnySpec, Submission, digest
from ffengine.study import Cell
from ffengine.version import ENGINE_VERSION
from service.database import Database
from service.jobs import TERMINAL, Event, Job, JobError, JobState, Progress, Wanted, new_job_id, sources
from service.tables import CurveRow, EventRow, IdempotencyRow, JobRow, KeyRow, ResultRow, WorkerRow, now_seconds

PRIORITIES = ("low", "normal", "high")


class KeyReused(Exception):  # noqa: N818
    """The Idempotency-Key came with another body before."""


class QueueFull(Exception):  # noqa: N818
    """Too many jobs wait."""


class NotAllowed(Exception):  # noqa: N818
    """The job's state does not allow it; `state` is that state."""

    def __init__(self, state: JobState) -> None:
        super().__init__(state.value)
        self.state = state


class Order(BaseModel):
    """What is to be submitted, validated."""

    spec: AnySpec
    name: str | None = None
    tags: list[str] = []
    priority: str = "normal"
    fresh: bool = False


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
        with self.writing() as session:
            if idempotency and (known := self._known(session, idempotency)):
                return Submitted(known, replayed=True)
            waiting = session.scalar(select(func.count()).where(JobRow.state == JobState.queued.value)) or 0
            if waiting + max(1, len(cells)) > max_queued:
                raise QueueFull
            job_id = self._insert(session, order, order.spec, None, None)
            for number, cell in enumerate(cells):
                self._insert(session, order, cell.spec, job_id, number)
            if idempotency:
                values = {"owner": idempotency.owner, "key": idempotency.key, "fingerprint": idempotency.fingerprint}
                session.execute(insert(IdempotencyRow).values(**values, job_id=job_id, created_at=now_seconds()))
            return Submitted(to_job(session.get_one(JobRow, job_id, populate_existing=True)), replayed=False)

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
    ) -> Page:
        """Jobs, newest first, from before an id on; a study's cells only where its id is given as `parent`."""
        query = select(JobRow).order_by(JobRow.id.desc()).limit(limit + 1)
        query = query.where(JobRow.parent_id == parent if parent else JobRow.parent_id.is_(None))
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
            return [
                Event.model_validate({"id": row.seq, "job": row.job_id, "type": row.type, "at": _time(row.at), "data": row.data})
                for row in session.scalars(query)
            ]

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
        """Queue a failed or cancelled job again, from its last checkpoint. Raises as `cancel` does."""
        return self._requeue(job_id, "retry", {JobState.queued, JobState.running})

    def delete(self, job_id: str) -> list[str]:
        """Delete a job that has ended, with a study's cells; the ids whose artifacts are to go. Raises as `cancel` does."""
        with self.writing() as session:
            row = self._row(session, job_id)
            family = [row, *session.scalars(select(JobRow).where(JobRow.parent_id == job_id))]
            for member in family:
                if JobState(member.state) not in TERMINAL:
                    raise NotAllowed(JobState(member.state))
            ids = [member.id for member in family]
            session.execute(delete(JobRow).where(JobRow.parent_id == job_id))
            session.execute(delete(JobRow).where(JobRow.id == job_id))
            return ids

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

    def _insert(self, session: Session, order: Order, spec: AnySpec, parent: str | None, cell: int | None) -> str:
        job_id, spec_digest = new_job_id(), digest(spec)
        source = None if order.fresh else self._cached(session, spec_digest)
        state = JobState.succeeded if source else JobState.queued
        values: dict[str, Any] = {
            "id": job_id, "kind": spec.kind, "name": order.name, "tags": order.tags, "priority": PRIORITIES.index(order.priority),
            "state": state.value, "wanted": Wanted.run.value, "spec": spec.model_dump(mode="json", exclude_unset=spec.kind == "study"),
            "spec_digest": spec_digest, "engine_version": ENGINE_VERSION, "parent_id": parent, "cell": cell,
            "created_at": now_seconds(), "queued_at": now_seconds(), "message": "queued",
        }  # fmt: skip
        if source:
            values |= {"cached_from": source.cached_from or source.id, "provenance": source.provenance, "finished_at": now_seconds()}
            values |= {"fraction": 1.0, "message": "answered from an earlier result"}
        session.execute(insert(JobRow).values(**values))
        if source:
            _copy(session, source.id, job_id)
        self.announce(session, job_id, state)
        return job_id

    def _cached(self, session: Session, spec_digest: str) -> JobRow | None:
        query = select(JobRow).join(ResultRow, ResultRow.job_id == JobRow.id).order_by(JobRow.id.desc()).limit(1)
        same = (JobRow.spec_digest == spec_digest, JobRow.state == JobState.succeeded.value, JobRow.engine_version == ENGINE_VERSION)
        return session.scalar(query.where(*same, JobRow.kind != "study"))

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
            row = self._row(session, job_id)
            if row.kind == "study":
                for child in session.scalars(select(JobRow).where(JobRow.parent_id == job_id)).all():
                    self._wish_one(session, child, action, wanted, target)
            if not self._wish_one(session, row, action, wanted, target):
                raise NotAllowed(JobState(row.state))
            return to_job(session.get_one(JobRow, job_id, populate_existing=True))

    def _wish_one(self, session: Session, row: JobRow, action: str, wanted: Wanted, target: JobState) -> bool:
        """Whether the job is now as wished, or will be when its worker has heard of it."""
        if row.state == target:
            return True
        ended = {"finished_at": now_seconds()} if target in TERMINAL else {}
        waiting = JobRow.state.in_(sources(action, target))
        if self.change(session, row.id, waiting, state=target.value, wanted=wanted.value, eta_seconds=None, message=target.value, **ended):
            self.announce(session, row.id, target)
            return True
        running = JobRow.state == JobState.running.value
        if self.change(session, row.id, running, JobRow.wanted != Wanted.cancel.value, wanted=wanted.value):
            self.append(session, row.id, [("log", {"message": f"{action} was asked for"})])
        return row.state == JobState.running

    def _requeue(self, job_id: str, action: str, fine: set[JobState]) -> Job:
        with self.writing() as session:
            row = self._row(session, job_id)
            family = [row, *(session.scalars(select(JobRow).where(JobRow.parent_id == job_id)) if row.kind == "study" else ())]
            if not self._requeue_one(session, row, action) and JobState(row.state) not in fine:
                raise NotAllowed(JobState(row.state))
            for member in family[1:]:
                self._requeue_one(session, member, action)
            return to_job(session.get_one(JobRow, job_id, populate_existing=True))

    def _requeue_one(self, session: Session, row: JobRow, action: str) -> bool:
        values: dict[str, Any] = {"state": JobState.queued.value, "wanted": Wanted.run.value, "rung_at": None, "queued_at": now_seconds()}
        values |= {"finished_at": None, "error": None, "message": "queued", **({"losses": 0} if action == "retry" else {})}
        if self.change(session, row.id, JobRow.state.in_(sources(action, JobState.queued)), **values):
            self.announce(session, row.id, JobState.queued, reason=action)
            return True
        asked = (JobRow.state == JobState.running.value, JobRow.wanted == Wanted.pause.value)
        return action == "resume" and self.change(session, row.id, *asked, wanted=Wanted.run.value)

    @staticmethod
    def _row(session: Session, job_id: str) -> JobRow:
        row = session.get(JobRow, job_id)
        if row is None:
            raise LookupError(job_id)
        return row

    def _tagged(self, tag: str) -> TextClause:
        each = "json_each(jobs.tags)" if self.is_sqlite else "json_array_elements_text(jobs.tags) AS each(value)"
        return text(f"EXISTS (SELECT 1 FROM {each} WHERE value = :tag)").bindparams(tag=tag)  # noqa: S608 - no user text


def _copy(session: Session, source: str, target: str) -> None:
    """Give a job the result and rows of another."""
    document = session.scalar(select(ResultRow.document).where(ResultRow.job_id == source))
    session.execute(insert(ResultRow).values(job_id=target, document=document))
    rows = select(CurveRow.key, CurveRow.data).where(CurveRow.job_id == source)
    copied = [{"job_id": target, "key": key, "data": data} for key, data in session.execute(rows.order_by(CurveRow.id)).all()]
    if copied:
        session.execute(insert(CurveRow), copied)


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
            **{key: getattr(row, key) for key in ("id", "kind", "name", "tags", "state", "wanted", "spec_digest", "cached_from")},
            "priority": PRIORITIES[row.priority],
            "spec": Submission.model_validate({"spec": row.spec}).spec,
            "progress": Progress(fraction=row.fraction, message=row.message, eta_seconds=row.eta_seconds),
            "created_at": _time(row.created_at),
            "started_at": _time(row.started_at),
            "finished_at": _time(row.finished_at),
            "attempts": row.attempt,
            "error": JobError.model_validate(row.error) if row.error else None,
            "provenance": Provenance.model_validate(row.provenance) if row.provenance else None,
            "parent": row.parent_id,
            "cached": row.cached_from is not None,
            "links": links,
        }
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
