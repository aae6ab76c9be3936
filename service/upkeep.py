"""The reconciler's side of the store: what must be rung, whose lease has run out, how studies stand."""

import contextlib
from typing import NamedTuple

from pydantic import TypeAdapter
from sqlalchemy import insert, select, update

from ffengine.results import AnyResult, RunResult, StudyResult
from ffengine.spec import StudySpec
from ffengine.study import expand, study_cell
from service.jobs import TERMINAL, JobError, JobState, Progress, Wanted, sources
from service.leases import LeaseLost, Leases
from service.requests import Requests
from service.tables import JobRow, ResultRow, now_seconds

_RESULT: TypeAdapter[RunResult | StudyResult] = TypeAdapter(AnyResult)
LOST_REASON = "its worker was not heard of until the lease ran out"


class Standing(NamedTuple):
    """How many cells of a study are in which kind of state."""

    total: int
    ended: int
    succeeded: int
    active: int
    begun: bool
    fraction: float


class Upkeep(Leases, Requests):
    """Everything that the reconciler does. All changes are conditional, so that several may do it at once."""

    def unrung(self, limit: int, again_seconds: float) -> list[str]:
        """Queued jobs whose doorbell was never rung, or so long ago that it must have been lost; urgent and old ones first."""
        due = JobRow.rung_at.is_(None) | (JobRow.rung_at < now_seconds() - again_seconds)
        query = select(JobRow.id).where(JobRow.state == JobState.queued.value, JobRow.kind != "study", due)
        with self.reading() as session:
            return list(session.scalars(query.order_by(JobRow.priority.desc(), JobRow.id).limit(limit)))

    def rung(self, job_ids: list[str]) -> None:
        """The doorbells of these jobs were rung."""
        with self.writing() as session:
            session.execute(update(JobRow).where(JobRow.id.in_(job_ids)).values(rung_at=now_seconds()))

    def queued(self) -> int:
        """How many jobs wait for a worker."""
        return self.counts()[JobState.queued.value]

    def expire_leases(self, max_losses: int) -> list[str]:
        """Take jobs away from workers that are silent; their ids."""
        expired = (JobRow.state == JobState.running.value, JobRow.kind != "study", JobRow.lease_until < now_seconds())
        with self.reading() as session:
            if session.scalar(select(JobRow.id).where(*expired).limit(1)) is None:
                return []
        with self.writing() as session:
            found = session.execute(select(JobRow.id, JobRow.attempt).where(*expired)).all()
            taken = []
            for job_id, attempt in found:
                with contextlib.suppress(LeaseLost):  # renewed or ended just now
                    self.lose(session, job_id, attempt, LOST_REASON, max_losses, JobRow.lease_until < now_seconds())
                    taken.append(job_id)
            return taken

    def open_studies(self) -> list[str]:
        """Studies that have not ended."""
        unfinished = JobRow.state.not_in([state.value for state in TERMINAL])
        with self.reading() as session:
            return list(session.scalars(select(JobRow.id).where(JobRow.kind == "study", unfinished)))

    def aggregate(self, study_id: str) -> None:
        """Bring a study's state and progress in line with its cells; when the last has ended, write its result."""
        with self.reading() as session:
            parent = session.get(JobRow, study_id)
            cells = session.execute(select(JobRow.state, JobRow.fraction).where(JobRow.parent_id == study_id)).all()
        if parent is None:
            return
        standing = _standing([(JobState(cell.state), cell.fraction) for cell in cells])
        if standing.ended == standing.total:
            self._end_study(parent, standing)
        else:
            self._move_study(parent, standing)

    def _move_study(self, parent: JobRow, standing: Standing) -> None:
        state = JobState(parent.state)
        if not standing.active:
            target = JobState.paused
        else:
            target = JobState.running if standing.begun or state == JobState.running else JobState.queued
        message = f"{standing.ended} of {standing.total} runs ended"
        progress = Progress(fraction=standing.fraction, message=message, eta_seconds=None)
        if target == state and parent.message == message and parent.fraction == standing.fraction:
            return
        with self.writing() as session:
            first = {"started_at": now_seconds()} if parent.started_at is None and target == JobState.running else {}
            allowed = JobRow.state.in_([state.value] if target == state else sources("aggregate", target))
            if self.change(session, parent.id, allowed, state=target.value, **progress.model_dump(), **first):
                if target != state:
                    self.announce(session, parent.id, target)
                self.append(session, parent.id, [("progress", progress.model_dump())])

    def _end_study(self, parent: JobRow, standing: Standing) -> None:
        target, error = JobState.succeeded, None
        if parent.wanted == Wanted.cancel:
            target = JobState.cancelled
        elif not standing.succeeded:
            target = JobState.failed
            error = JobError(
                code="study_failed", title="No run of the study succeeded", detail="Look at the errors of its runs, then retry it."
            )
        try:
            result = self.study_result(parent.id).model_dump_json()
        except ValueError as failure:  # the presets of another version: its cells are no longer those that were run
            target, error = JobState.failed, JobError(code="study_changed", title="The study cannot be put together", detail=str(failure))
        with self.writing() as session:
            ended = {"finished_at": now_seconds(), "fraction": 1.0, "message": f"{standing.succeeded} of {standing.total} runs succeeded"}
            document = error.model_dump(mode="json") if error else None
            allowed = JobRow.state.in_(sources("aggregate", target))
            if not self.change(session, parent.id, allowed, state=target.value, error=document, eta_seconds=None, **ended):
                return
            if target == JobState.succeeded:
                session.execute(insert(ResultRow).values(job_id=parent.id, document=result))
            self.announce(session, parent.id, target)

    def study_result(self, study_id: str) -> StudyResult:
        """The cells of a study as they stand."""
        job = self.job(study_id)
        if job is None or not isinstance(job.spec, StudySpec):
            raise LookupError(study_id)
        cells = []
        for cell, (child, document) in zip(expand(job.spec), self.children(study_id), strict=True):
            result = _RESULT.validate_json(document) if document else None
            cells.append(
                study_cell(cell, job=child.id, state=child.state.value, result=None if isinstance(result, StudyResult) else result)
            )
        return StudyResult(cells=tuple(cells))


def _standing(cells: list[tuple[JobState, float]]) -> Standing:
    states = [state for state, _ in cells]
    return Standing(
        total=len(states),
        ended=sum(state in TERMINAL for state in states),
        succeeded=sum(state == JobState.succeeded for state in states),
        active=sum(state in (JobState.queued, JobState.running) for state in states),
        fraction=round(sum(1.0 if state in TERMINAL else fraction for state, fraction in cells) / max(1, len(cells)), 3),
        begun=any(state not in (JobState.queued, JobState.paused) for state in states),
    )
