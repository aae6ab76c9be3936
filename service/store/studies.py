"""Studies: makes their runs in batches, summarises ended runs, and derives the study's state."""

import json
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import Field, TypeAdapter
from sqlalchemy import func, insert, select

from ffengine.datasets import Datasets
from ffengine.results import CheckResult, RunResult, StudyCell, StudyResult
from ffengine.spec import StudySpec, Submission
from ffengine.study import Cell, acts_of, direction_of, expand, is_resolved, summarise
from ffengine.text import STORED
from service.jobs import TERMINAL, JobError, JobState, Progress, Wanted, source_states
from service.store.database import Database
from service.store.inserts import CELLS_AT_ONCE, WAITS, draft_cell, insert_jobs
from service.store.list_indexes import by_index, list_index
from service.store.needs import UNFINISHED
from service.store.searches import Searches, is_search
from service.store.tables import JobRow, ResultRow, SummaryRow, now_seconds
from service.store.transitions import append_events, append_state_event, change

_RESULT: TypeAdapter[RunResult] = TypeAdapter(Annotated[RunResult, Field(discriminator="kind")])


class StudyProgress(NamedTuple):
    """How many runs of a study are in which kind of state; `expected` is how many there will be."""

    expected: int
    ended: int
    succeeded: int
    active: int
    begun: bool
    fraction: float


class Studies:
    """Advances studies.

    All changes are conditional, so several processes may make them at once.
    """

    def __init__(self, database: Database, datasets: Datasets | None = None) -> None:
        self._database, self._datasets = database, datasets
        self.searches = Searches(database, datasets)

    def unfinished(self) -> list[str]:
        """The ids of the studies that have not ended."""
        # every tick asks: the index has the states of studies, however many other jobs there are
        query = by_index(select(JobRow.id), list_index(kind="study")).where(
            JobRow.kind == "study", JobRow.parent_id.is_(None), UNFINISHED
        )
        with self._database.reading() as session:
            return list(session.scalars(query))

    def advance(self, study_id: str) -> bool:
        """Make the next runs, summarise ended ones and update the study's state.

        Trials of a search that are worse than others are stopped. Returns whether there is more to
        do at once.
        """
        self.searches.prune(study_id)
        return self.create_next_runs(study_id) | self.summarise(study_id) | self.aggregate(study_id)

    def create_next_runs(self, study_id: str) -> bool:
        """Make the next batch of runs of an active study; whether there were any to make."""
        going_on = JobRow.state.in_([JobState.queued.value, JobState.running.value])
        growing = (JobRow.cells_made < JobRow.cells, JobRow.wanted == Wanted.run.value, going_on)
        with self._database.reading() as session:
            parent = session.scalar(select(JobRow).where(JobRow.id == study_id, *growing))
        if parent is None:
            return False
        if is_search(parent.spec):
            return self.searches.create_next_trials(parent)
        made = parent.cells_made or 0
        following = self._following(parent, made)
        with self._database.writing() as session:
            if not following:  # it makes no more runs, and fails when those that it has have ended
                return change(
                    session,
                    study_id,
                    *growing,
                    cells=made,
                    error=study_changed().model_dump(mode="json"),
                )
            if not change(
                session,
                study_id,
                *growing,
                JobRow.cells_made == made,
                cells_made=made + len(following),
            ):
                return False
            insert_jobs(
                session,
                [draft_cell(parent, cell, number, self._datasets) for number, cell in following],
                Database.now(session),
            )
        return True

    @staticmethod
    def _following(parent: JobRow, made: int) -> list[tuple[int, Cell]]:
        """The next runs of a study with their numbers.

        Empty where its stored spec, of an earlier version, no longer says what its runs are.
        """
        try:
            cells = cells_of(json.dumps(parent.spec))
        except ValueError:
            return []
        return (
            list(enumerate(cells))[made : made + CELLS_AT_ONCE]
            if len(cells) == parent.cells
            else []
        )

    def summarise(self, study_id: str, limit: int = 50) -> bool:
        """Summarise up to `limit` runs that have ended since; whether there were any."""
        ended = JobRow.state.in_([state.value for state in TERMINAL])
        query = select(JobRow, ResultRow.document).outerjoin(
            ResultRow, ResultRow.job_id == JobRow.id
        )
        query = query.outerjoin(SummaryRow, SummaryRow.job_id == JobRow.id).where(
            JobRow.parent_id == study_id, ended
        )
        query = query.where(SummaryRow.job_id.is_(None)).order_by(JobRow.cell).limit(limit)
        with self._database.reading() as session:
            found = session.execute(query).all()
        if not found:
            return False
        documents = [
            (row, summary_of(row, document, self._pruned_at(row)).model_dump_json())
            for row, document in found
        ]
        with self._database.writing() as session:
            for row, document in documents:
                # a run may have been queued again, or summarised by another process, meanwhile
                same = select(JobRow.id).where(JobRow.id == row.id, JobRow.version == row.version)
                if (
                    session.scalar(same.with_for_update())
                    and session.get(SummaryRow, row.id) is None
                ):
                    session.execute(insert(SummaryRow).values(job_id=row.id, document=document))
        return True

    def _pruned_at(self, row: JobRow) -> int | None:
        """The epoch at which an ended trial was worse than others; None: at none."""
        found = self.searches.pruning(row.parent_id) if row.parent_id else None
        if found is None or row.parent_id is None:
            return None
        return self.searches.verdict(row.parent_id, found, row.id, row.cell or 0)

    def aggregate(self, study_id: str) -> bool:
        """Update state and progress of a study from its runs; write its result after the last one.

        Returns False: there is never more to do at once.
        """
        with self._database.reading() as session:
            parent = session.get(JobRow, study_id)
            by_state = select(JobRow.state, func.count(), func.sum(JobRow.fraction)).where(
                JobRow.parent_id == study_id
            )
            counted = session.execute(by_state.group_by(JobRow.state)).all()
            summaries = (
                select(func.count())
                .select_from(SummaryRow)
                .join(JobRow, JobRow.id == SummaryRow.job_id)
            )
            summarised = session.scalar(summaries.where(JobRow.parent_id == study_id)) or 0
        if parent is None:
            return False
        counts = _progress_of(
            parent, {JobState(state): (count, done) for state, count, done in counted}
        )
        if counts.ended == counts.expected:
            if summarised == counts.ended:
                self._end_study(parent, counts)
        else:
            self._move_study(parent, counts)
        return False

    def _move_study(self, parent: JobRow, counts: StudyProgress) -> None:
        state = JobState(parent.state)
        if not counts.active:
            target = JobState.paused
        else:
            target = (
                JobState.running if counts.begun or state == JobState.running else JobState.queued
            )
        runs = parent.cells or counts.expected
        message = f"{counts.ended:,} of {runs:,} runs ended{self._why_waiting(parent)}"
        progress = Progress(fraction=counts.fraction, message=message, eta_seconds=None)
        if target == state and parent.message == message and parent.fraction == counts.fraction:
            return
        with self._database.writing() as session:
            first = (
                {"started_at": now_seconds()}
                if parent.started_at is None and target == JobState.running
                else {}
            )
            allowed = JobRow.state.in_(
                [state.value] if target == state else source_states("aggregate", target)
            )
            if change(
                session, parent.id, allowed, state=target.value, **progress.model_dump(), **first
            ):
                if target != state:
                    append_state_event(session, parent.id, target)
                append_events(session, parent.id, [("progress", progress.model_dump())])

    def pass_on_why(self, study_id: str) -> None:
        """Let a study that was just queued say why no run of it can begin, if none can."""
        with self._database.reading() as session:
            parent = session.get(JobRow, study_id)
        if parent is not None and parent.kind == "study" and self._why_waiting(parent):
            self.aggregate(study_id)

    def _why_waiting(self, parent: JobRow) -> str:
        """Why no run of a study can begin, to be put behind its message; empty where one can."""
        runs = select(JobRow.message).where(JobRow.parent_id == parent.id)
        with self._database.reading() as session:
            if session.scalar(runs.where(JobRow.state == JobState.running.value).limit(1)):
                return ""
            why = session.scalar(
                runs.where(
                    JobRow.state == JobState.queued.value,
                    JobRow.message.startswith(WAITS, autoescape=True),
                ).limit(1)
            )
        return f", {why}" if why else ""

    def _end_study(self, parent: JobRow, counts: StudyProgress) -> None:
        target, document = JobState.succeeded, None
        if parent.wanted == Wanted.cancel:
            target = JobState.cancelled
        elif parent.error or not counts.succeeded:
            target, document = (
                JobState.failed,
                parent.error or study_failed().model_dump(mode="json"),
            )
        result = self.result(parent.id).model_dump_json()
        mixed, runs = self._mixed_versions(parent), parent.cells or counts.expected
        with self._database.writing() as session:
            ended = {
                "finished_at": now_seconds(),
                "fraction": 1.0,
                "message": f"{counts.succeeded:,} of {runs:,} runs succeeded{mixed}",
            }
            allowed = JobRow.state.in_(source_states("aggregate", target))
            if not change(
                session,
                parent.id,
                allowed,
                state=target.value,
                error=document,
                eta_seconds=None,
                **ended,
            ):
                return
            if target == JobState.succeeded:
                session.execute(insert(ResultRow).values(job_id=parent.id, document=result))
            if mixed:
                said = {"level": "warning", "message": ended["message"]}
                append_events(session, parent.id, [("log", said)])
            append_state_event(session, parent.id, target)

    def _mixed_versions(self, parent: JobRow) -> str:
        """Say that runs on one data set are of several versions, behind a message; else empty."""
        name = JobRow.spec[("dataset", "name")].as_string()
        runs = select(name, JobRow.engine_version).where(
            JobRow.parent_id == parent.id, JobRow.state == JobState.succeeded.value
        )
        with self._database.reading() as session:
            versions = dict[str, set[str]]()
            for of_dataset, version in session.execute(runs.distinct()):
                versions.setdefault(of_dataset, set()).add(version)
        for of_dataset, found in versions.items():
            if len(found) > 1:
                return (
                    f"; those on {of_dataset} are of several versions of the figures "
                    f"({', '.join(sorted(found))}): submit the study anew to compare like with like"
                )
        return ""

    def result(self, study_id: str) -> StudyResult:
        """The result of a study so far; runs that are not made yet are left out."""
        query = select(JobRow, SummaryRow.document).outerjoin(
            SummaryRow, SummaryRow.job_id == JobRow.id
        )
        query = query.where(JobRow.parent_id == study_id).order_by(JobRow.cell)
        with self._database.reading() as session:
            found = session.execute(query).all()
        return StudyResult(cells=tuple(_cell_of(row, document) for row, document in found))

    def version_of_runs(self, study_id: str) -> int:
        """A number that rises with every change of the study's runs."""
        query = select(func.coalesce(func.sum(JobRow.version), 0))
        with self._database.reading() as session:
            return int(session.scalar(query.where(JobRow.parent_id == study_id)) or 0)


def study_failed() -> JobError:
    """The error of a study without a successful run."""
    return JobError(
        code="study_failed",
        title="No run of the study succeeded",
        detail="Each run says on its own page why it failed. A retry of the study queues them all "
        "again.",
    )


def study_changed() -> JobError:
    """The error of a study whose remaining runs can no longer be made."""
    return JobError(
        code="study_changed",
        title="This version of fflab would make other runs of the study",
        detail="The study was submitted to another version, whose preset or defaults were "
        "different, so the runs that are missing were not made. The others keep their results. "
        "Submit the study again to have all of them.",
    )


def _cell_of(row: JobRow, summary: str | None) -> StudyCell:
    """A run of a study, with its summary where it has one; see UnreadSpec for one that is unread.

    What another version stored is no reason to hide the runs beside it.
    """
    try:
        return StudyCell.model_validate_json(summary) if summary else summary_of(row, None)
    except (ValueError, LookupError, TypeError):
        return StudyCell(
            part="",
            params={},
            kind="unread",
            spec_digest=row.spec_digest,
            job=row.id,
            state=row.state,
            summary={},
        )


def summary_of(row: JobRow, document: str | None, pruned_at: int | None = None) -> StudyCell:
    """The summary of a run.

    **Arguments:**

    - `document`: the JSON text of its result.
    - `pruned_at`: the epoch at which a trial was worse than others.
    """
    result = _RESULT.validate_json(document) if document else None
    place = row.place or {"part": "", "params": {}}
    return StudyCell(
        part=place["part"],
        params=place["params"],
        kind=row.kind,
        theorem=result.theorem if isinstance(result, CheckResult) else None,
        theorem2_direction=direction_of(result),
        spec_digest=row.spec_digest,
        job=row.id,
        state=row.state,
        summary=summarise(result) if result else {},
        acts=acts_of(result) if result else {},
        diagnostics=result.diagnostics if result else (),
        pruned_at=pruned_at,
    )


@lru_cache(maxsize=4)
def cells_of(document: str) -> tuple[Cell, ...]:
    """The runs of a stored study whose spec is this JSON text; kept from batch to batch."""
    study = Submission.model_validate({"spec": json.loads(document)}, context=STORED).spec
    return (
        tuple(expand(study, STORED)) if isinstance(study, StudySpec) and is_resolved(study) else ()
    )


def _progress_of(parent: JobRow, counted: dict[JobState, tuple[int, float]]) -> StudyProgress:
    made = sum(count for count, _ in counted.values())
    to_make = (parent.cells or 0) - made if parent.wanted == Wanted.run else 0
    unmade = 0 if parent.wanted == Wanted.cancel else (parent.cells or 0) - made
    ended = sum(count for state, (count, _) in counted.items() if state in TERMINAL)
    going = sum(done for state, (_, done) in counted.items() if state not in TERMINAL)
    return StudyProgress(
        expected=made + unmade,
        ended=ended,
        succeeded=counted.get(JobState.succeeded, (0, 0.0))[0],
        active=sum(
            count
            for state, (count, _) in counted.items()
            if state in (JobState.queued, JobState.running)
        )
        + to_make,
        fraction=round((ended + going) / max(1, parent.cells or 0), 3),
        begun=any(state not in (JobState.queued, JobState.paused) for state in counted),
    )
