"""The reconciler's side of the store: what must be rung, whose lease has run out, how studies stand."""

import contextlib
import json
import time
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import Field, TypeAdapter
from sqlalchemy import delete, func, insert, not_, or_, select, update
from sqlalchemy.orm import Session, aliased

from ffengine.results import RunResult, StudyCell, StudyResult
from ffengine.spec import StudySpec, Submission
from ffengine.study import Cell, expand, is_resolved, summarise
from ffengine.text import STORED
from service.artifacts import JOB_ID
from service.jobs import TERMINAL, JobError, JobState, Progress, Wanted, sources
from service.store.inserts import CELLS_AT_ONCE, SHARED_BY_RUNS, answer_of, copy_result, draft_cell, follows, insert_jobs
from service.store.job_actions import Wishes
from service.store.jobs import Requests
from service.store.queue import CLAIMABLE, LeaseLost, Leases
from service.store.registry import Registry
from service.store.tables import IdempotencyRow, JobRow, ResultRow, SummaryRow, now_seconds

_RESULT: TypeAdapter[RunResult] = TypeAdapter(Annotated[RunResult, Field(discriminator="kind")])
LOST_REASON = "its worker was not heard of until the lease ran out"


class Standing(NamedTuple):
    """How many runs of a study are in which kind of state, and how many there will be."""

    expected: int
    ended: int
    succeeded: int
    active: int
    begun: bool
    fraction: float


class Upkeep(Leases, Requests, Wishes, Registry):
    """Everything that the reconciler does. All changes are conditional, so that several may do it at once."""

    def unrung(self, limit: int, again_seconds: float) -> list[str]:
        """Queued jobs whose doorbell was never rung, or so long ago that it must have been lost; the first in the queue first."""
        due = JobRow.rung_at.is_(None) | (JobRow.rung_at < now_seconds() - again_seconds)
        query = select(JobRow.id).where(JobRow.state == JobState.queued.value, *CLAIMABLE, due)
        with self.reading() as session:
            return list(session.scalars(query.order_by(JobRow.rank, JobRow.id).limit(limit)))

    def rung(self, job_ids: list[str]) -> None:
        """The doorbells of these jobs were rung."""
        with self.writing() as session:
            session.execute(update(JobRow).where(JobRow.id.in_(job_ids)).values(rung_at=now_seconds()))

    def queued(self, limit: int) -> int:
        """How many jobs wait for a worker, counted to `limit` at most."""
        some = select(JobRow.id).where(JobRow.state == JobState.queued.value, *CLAIMABLE).limit(limit).subquery()
        with self.reading() as session:
            return session.scalar(select(func.count()).select_from(some)) or 0

    def expire_leases(self, max_losses: int, *, longest_wait: float = float("inf")) -> list[str]:
        """Take jobs away from workers that are silent; their ids.

        None where the database could not be written for so many seconds: the workers could not renew their leases either.
        """
        expired = (JobRow.state == JobState.running.value, JobRow.kind != "study", JobRow.lease_until < now_seconds())
        with self.reading() as session:
            if session.scalar(select(JobRow.id).where(*expired).limit(1)) is None:
                return []
        began = time.monotonic()
        with self.writing() as session:
            found = session.execute(select(JobRow.id, JobRow.attempt).where(*expired)).all()
            if time.monotonic() - began > longest_wait:
                return []
            taken = []
            for job_id, attempt in found:
                with contextlib.suppress(LeaseLost):  # renewed or ended just now
                    self.lose(session, job_id, attempt, LOST_REASON, max_losses, JobRow.lease_until < now_seconds())
                    taken.append(job_id)
            return taken

    def settle_waiting(self, limit: int = 200) -> int:
        """Answer the jobs whose identical one has succeeded, and let one of those go whose identical one ended otherwise; how many."""
        leader = aliased(JobRow)
        computing = leader.state.in_([JobState.queued.value, JobState.running.value]) & (leader.wanted == Wanted.run.value)
        query = select(JobRow.id, JobRow.waits_for, leader.state).outerjoin(leader, leader.id == JobRow.waits_for)
        waiting = (JobRow.waits_for.is_not(None), JobRow.state == JobState.queued.value)
        query = query.where(*waiting, or_(leader.id.is_(None), not_(computing))).order_by(JobRow.id).limit(limit)
        with self.reading() as session:
            if not session.execute(query).first():
                return 0
        with self.writing() as session:
            found = session.execute(query).all()
            heirs: dict[str, str] = {}
            for job_id, waits_for, state in ((job_id, str(waits_for), state) for job_id, waits_for, state in found):
                if state == JobState.succeeded.value:
                    self._answer(session, job_id, waits_for)
                else:
                    heir = heirs.setdefault(waits_for, job_id)
                    values = {"waits_for": None, "message": "queued"} if heir == job_id else {"waits_for": heir, "message": follows(heir)}
                    self.change(session, job_id, *waiting, **values)
            return len(found)

    def _answer(self, session: Session, job_id: str, source_id: str) -> None:
        allowed = JobRow.state.in_(sources("answer", JobState.succeeded))
        values = answer_of(session.get_one(JobRow, source_id))
        if self.change(session, job_id, allowed, JobRow.waits_for == source_id, finished_at=now_seconds(), waits_for=None, **values):
            copy_result(session, source_id, job_id)
            self.announce(session, job_id, JobState.succeeded)

    def outdated(self, kind: str, *, days: float | None, count: int | None, limit: int) -> list[tuple[str, str | None, float, bool]]:
        """Jobs of a kind that ended more than so many days ago, or are not among the newest so many: id, name, seconds since, too old.

        Left out are pinned jobs, a study's runs, and trainings whose weights a check is still to be made of.
        """
        if days is None and count is None:
            return []
        ended = (JobRow.kind == kind, JobRow.parent_id.is_(None), JobRow.pinned.is_(False), JobRow.finished_at.is_not(None))
        age = now_seconds() - JobRow.finished_at
        too_old = age > (days * 86_400 if days is not None else 1e18)
        with self.reading() as session:
            newest = select(JobRow.id).where(*ended).order_by(JobRow.finished_at.desc(), JobRow.id.desc()).limit(count or 0)
            beyond = too_old if count is None else or_(too_old, JobRow.id.not_in(newest))
            query = select(JobRow.id, JobRow.name, age, too_old).where(*ended, beyond, JobRow.id.not_in(self._needed(session)))
            found = session.execute(query.order_by(JobRow.finished_at).limit(limit)).all()
        return [(job_id, name, seconds, bool(old)) for job_id, name, seconds, old in found]

    def forget_keys(self, hours: float) -> None:
        """Delete Idempotency-Keys that are older than so many hours."""
        with self.writing() as session:
            session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < now_seconds() - hours * 3600))

    @staticmethod
    def _needed(session: Session) -> set[str]:
        """The jobs that the specs of unfinished checks and studies name."""
        unfinished = JobRow.state.not_in([state.value for state in TERMINAL])
        specs = session.scalars(select(JobRow.spec).where(JobRow.kind.in_(["check", "study"]), unfinished))
        return {job_id for spec in specs for job_id in JOB_ID.findall(json.dumps(spec))}

    def open_studies(self) -> list[str]:
        """Studies that have not ended."""
        unfinished = JobRow.state.not_in([state.value for state in TERMINAL])
        with self.reading() as session:
            return list(session.scalars(select(JobRow.id).where(JobRow.kind == "study", unfinished)))

    def follow(self, study_id: str) -> bool:
        """Make some more of a study's runs, summarise some that have ended, bring its state in line; whether there is more to do."""
        return self.grow(study_id) | self.summarise(study_id) | self.aggregate(study_id)

    def grow(self, study_id: str) -> bool:
        """Make the next few runs of a study that is to go on; whether there were any to make."""
        going_on = JobRow.state.in_([JobState.queued.value, JobState.running.value])
        growing = (JobRow.cells_made < JobRow.cells, JobRow.wanted == Wanted.run.value, going_on)
        with self.reading() as session:
            parent = session.scalar(select(JobRow).where(JobRow.id == study_id, *growing))
        if parent is None:
            return False
        made = parent.cells_made or 0
        following = self._following(parent, made)
        with self.writing() as session:
            if not following:  # its runs end, and it fails then
                return self.change(session, study_id, *growing, cells=made, error=study_changed().model_dump(mode="json"))
            if not self.change(session, study_id, *growing, JobRow.cells_made == made, cells_made=made + len(following)):
                return False
            shared = {name: getattr(parent, name) for name in ("id", *SHARED_BY_RUNS)}
            insert_jobs(session, [draft_cell(shared, cell, number) for number, cell in following], self.now(session))
        return True

    @staticmethod
    def _following(parent: JobRow, made: int) -> list[tuple[int, Cell]]:
        """The next runs of a study; none where what is stored of it, by an earlier version, does not say what its runs are."""
        try:
            cells = cells_of(json.dumps(parent.spec))
        except ValueError:
            return []
        return list(enumerate(cells))[made : made + CELLS_AT_ONCE] if len(cells) == parent.cells else []

    def summarise(self, study_id: str, limit: int = 50) -> bool:
        """Summarise some runs of a study that have ended since; whether there were any."""
        ended = JobRow.state.in_([state.value for state in TERMINAL])
        query = select(JobRow, ResultRow.document).outerjoin(ResultRow, ResultRow.job_id == JobRow.id)
        query = query.outerjoin(SummaryRow, SummaryRow.job_id == JobRow.id).where(JobRow.parent_id == study_id, ended)
        query = query.where(SummaryRow.job_id.is_(None)).order_by(JobRow.cell).limit(limit)
        with self.reading() as session:
            found = session.execute(query).all()
        if not found:
            return False
        documents = [(row, summary_of(row, document).model_dump_json()) for row, document in found]
        with self.writing() as session:
            for row, document in documents:  # not of a run that was queued again meanwhile, nor twice
                same = select(JobRow.id).where(JobRow.id == row.id, JobRow.version == row.version)
                if session.scalar(same.with_for_update()) and session.get(SummaryRow, row.id) is None:
                    session.execute(insert(SummaryRow).values(job_id=row.id, document=document))
        return True

    def aggregate(self, study_id: str) -> bool:
        """Bring a study's state and progress in line with its runs; when the last has ended, write its result. Never more to do."""
        with self.reading() as session:
            parent = session.get(JobRow, study_id)
            by_state = select(JobRow.state, func.count(), func.sum(JobRow.fraction)).where(JobRow.parent_id == study_id)
            counted = session.execute(by_state.group_by(JobRow.state)).all()
            summaries = select(func.count()).select_from(SummaryRow).join(JobRow, JobRow.id == SummaryRow.job_id)
            summarised = session.scalar(summaries.where(JobRow.parent_id == study_id)) or 0
        if parent is None:
            return False
        standing = _standing(parent, {JobState(state): (count, done) for state, count, done in counted})
        if standing.ended == standing.expected:
            if summarised == standing.ended:
                self._end_study(parent, standing)
        else:
            self._move_study(parent, standing)
        return False

    def _move_study(self, parent: JobRow, standing: Standing) -> None:
        state = JobState(parent.state)
        if not standing.active:
            target = JobState.paused
        else:
            target = JobState.running if standing.begun or state == JobState.running else JobState.queued
        message = f"{standing.ended} of {parent.cells} runs ended"
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
        target, document = JobState.succeeded, None
        if parent.wanted == Wanted.cancel:
            target = JobState.cancelled
        elif parent.error or not standing.succeeded:
            target, document = JobState.failed, parent.error or study_failed().model_dump(mode="json")
        result = self.study_result(parent.id).model_dump_json()
        with self.writing() as session:
            ended = {"finished_at": now_seconds(), "fraction": 1.0, "message": f"{standing.succeeded} of {parent.cells} runs succeeded"}
            allowed = JobRow.state.in_(sources("aggregate", target))
            if not self.change(session, parent.id, allowed, state=target.value, error=document, eta_seconds=None, **ended):
                return
            if target == JobState.succeeded:
                session.execute(insert(ResultRow).values(job_id=parent.id, document=result))
            self.announce(session, parent.id, target)

    def study_result(self, study_id: str) -> StudyResult:
        """The runs of a study as they stand: those that have ended with their figures. Those not made yet are left out."""
        query = select(JobRow, SummaryRow.document).outerjoin(SummaryRow, SummaryRow.job_id == JobRow.id)
        query = query.where(JobRow.parent_id == study_id).order_by(JobRow.cell)
        with self.reading() as session:
            found = session.execute(query).all()
        cells = (StudyCell.model_validate_json(document) if document else summary_of(row, None) for row, document in found)
        return StudyResult(cells=tuple(cells))


def study_failed() -> JobError:
    """Why a study without any success failed."""
    return JobError(code="study_failed", title="No run of the study succeeded", detail="Look at the errors of its runs, then retry it.")


def study_changed() -> JobError:
    """Why a study failed that could not be made to its end."""
    return JobError(
        code="study_changed",
        title="The study's spec no longer means what it meant",
        detail="It was stored by a version of fflab whose preset or defaults were others. The runs that were made have their results; "
        "submit it anew.",
    )


def summary_of(row: JobRow, document: str | None) -> StudyCell:
    """What a study reports of one of its runs."""
    result = _RESULT.validate_json(document) if document else None
    place = row.place or {"part": "", "params": {}}
    return StudyCell(
        part=place["part"],
        params=place["params"],
        kind="train" if row.kind == "train" else "check",
        spec_digest=row.spec_digest,
        job=row.id,
        state=row.state,
        summary=summarise(result) if result else {},
        diagnostics=result.diagnostics if result else (),
    )


@lru_cache(maxsize=4)
def cells_of(spec: str) -> tuple[Cell, ...]:
    """The runs of a stored study, which is made batch by batch."""
    study = Submission.model_validate_json(f'{{"spec": {spec}}}', context=STORED).spec
    return tuple(expand(study, STORED)) if isinstance(study, StudySpec) and is_resolved(study) else ()


def _standing(parent: JobRow, counted: dict[JobState, tuple[int, float]]) -> Standing:
    made = sum(count for count, _ in counted.values())
    to_make = (parent.cells or 0) - made if parent.wanted == Wanted.run else 0
    unmade = 0 if parent.wanted == Wanted.cancel else (parent.cells or 0) - made
    ended = sum(count for state, (count, _) in counted.items() if state in TERMINAL)
    going = sum(done for state, (_, done) in counted.items() if state not in TERMINAL)
    return Standing(
        expected=made + unmade,
        ended=ended,
        succeeded=counted.get(JobState.succeeded, (0, 0.0))[0],
        active=sum(count for state, (count, _) in counted.items() if state in (JobState.queued, JobState.running)) + to_make,
        fraction=round((ended + going) / max(1, parent.cells or 0), 3),
        begun=any(state not in (JobState.queued, JobState.paused) for state in counted),
    )
