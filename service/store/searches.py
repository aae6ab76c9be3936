"""Studies that search: makes their trials, and stops those that are worse than others.

The rows of the database are all that is known of a search: `ffengine.proposals` is asked anew each
time, outside of transactions.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.sql.elements import ColumnElement

from ffengine.datasets import Datasets
from ffengine.proposals import NoCell, known_of, propose, pruned_at
from ffengine.results import StudyCell
from ffengine.search import Searched, Trial, searched, trials_of
from ffengine.spec import StudySpec, Submission, TrainSpec
from ffengine.study import Cell, is_resolved
from ffengine.text import STORED
from service.jobs import TERMINAL, JobError, JobState, Wanted
from service.store.database import Database
from service.store.inserts import draft_cell, insert_jobs
from service.store.tables import CurveRow, Document, JobRow, SummaryRow
from service.store.transitions import append_events, change

TRIALS_AT_ONCE = 10  # chosen before other studies have their turn
REMEMBERED_TRIALS, REMEMBERED_SEARCHES = 20_000, 1_000
_ENDED = [state.value for state in TERMINAL]


class _Row(NamedTuple):
    """What is read of a trial's job."""

    id: str
    cell: int
    version: int
    state: str
    place: Document
    summary: str | None


class Searches:
    """Advances studies that search.

    All changes are conditional, so several processes may make them at once.
    """

    def __init__(self, database: Database, datasets: Datasets | None = None) -> None:
        self._database, self._datasets = database, datasets
        self._trials: dict[tuple[str, int], Trial] = {}
        self._pruning: dict[str, Searched | None] = {}
        self._looked_at: dict[str, int] = {}  # the newest row of each running trial

    def create_next_trials(self, parent: JobRow) -> bool:
        """Choose the next trials of an active study that searches; whether there were any."""
        made, found = parent.cells_made or 0, search_of_document(json.dumps(parent.spec))
        if found is None:
            return self._give_up(parent, _changed())
        if self._must_wait(parent.id, known_of(made, found.search.at_once)):
            return False
        trials, known = self._history(parent.id, found, made)
        cells: list[Cell] = []
        try:
            while (number := made + len(cells)) < (parent.cells or 0) and (
                known_of(number, found.search.at_once) <= known and len(cells) < TRIALS_AT_ONCE
            ):
                cells.append(propose(found, trials, number))
                trials.append(Trial(number, cells[-1].params, "unfinished"))
        except NoCell as error:
            if not cells:
                return self._give_up(parent, search_exhausted(str(error)))
        return self._insert(parent, made, cells) if cells else False

    def _insert(self, parent: JobRow, made: int, cells: Sequence[Cell]) -> bool:
        """Insert trials, unless another process was faster."""
        with self._database.writing() as session:
            if not change(
                session,
                parent.id,
                *_going_on(made),
                cells_made=made + len(cells),
            ):
                return False
            insert_jobs(
                session,
                [
                    draft_cell(parent, cell, made + place, self._datasets)
                    for place, cell in enumerate(cells)
                ],
                Database.now(session),
            )
        return True

    def _give_up(self, parent: JobRow, error: JobError) -> bool:
        """Make no more trials: the study fails when those that it has have ended."""
        made = parent.cells_made or 0
        with self._database.writing() as session:
            return change(
                session,
                parent.id,
                *_going_on(made),
                cells=made,
                error=error.model_dump(mode="json"),
            )

    def _must_wait(self, study_id: str, known: int) -> bool:
        """Whether one of the first `known` trials has not ended or is not summarised."""
        query = (
            select(JobRow.id)
            .outerjoin(SummaryRow, SummaryRow.job_id == JobRow.id)
            .where(JobRow.parent_id == study_id, JobRow.cell < known)
            .where(JobRow.state.not_in(_ENDED) | SummaryRow.job_id.is_(None))
        )
        with self._database.reading() as session:
            return session.scalar(query.limit(1)) is not None

    def _history(self, study_id: str, found: Searched, number: int) -> tuple[list[Trial], int]:
        """The trials before `number`, and how many of the first of them have ended."""
        query = (
            select(
                JobRow.id,
                JobRow.cell,
                JobRow.version,
                JobRow.state,
                JobRow.place,
                SummaryRow.document,
            )
            .outerjoin(SummaryRow, SummaryRow.job_id == JobRow.id)
            .where(JobRow.parent_id == study_id, JobRow.cell < number)
        )
        with self._database.reading() as session:
            rows = [
                _Row(id_, cell or 0, version, state, place or {}, summary)
                for id_, cell, version, state, place, summary in session.execute(
                    query.order_by(JobRow.cell)
                )
            ]
        trials = [self._trial(row, found) for row in rows]
        ended = (at for at, row in enumerate(rows) if row.state not in _ENDED or not row.summary)
        return trials, next(ended, len(rows))

    def _trial(self, row: _Row, found: Searched) -> Trial:
        """A run as a trial, with its curve where the search prunes."""
        if row.state not in _ENDED or not row.summary:
            return Trial(row.cell, row.place["params"], "unfinished", job=row.id)
        key = (row.id, row.version)
        if key not in self._trials:
            if len(self._trials) >= REMEMBERED_TRIALS:
                self._trials.clear()
            cell = StudyCell.model_validate_json(row.summary)
            (trial,) = trials_of([cell], found.objective)
            curve = self._curve(row.id, found) if found.search.prune else ()
            self._trials[key] = trial._replace(number=row.cell, curve=curve)
        return self._trials[key]

    def _curve(self, job_id: str, found: Searched) -> tuple[tuple[int, float], ...]:
        """The objective of a trial by epoch, a mean over its seeds; epochs without it left out."""
        with self._database.reading() as session:
            document = session.scalar(select(JobRow.spec).where(JobRow.id == job_id))
        spec = Submission.model_validate({"spec": document}, context=STORED).spec
        if not isinstance(spec, TrainSpec):
            return ()
        key = found.objective.key
        layer = key.layer if isinstance(key.layer, int) else len(spec.network.widths) - 1
        epoch, value = CurveRow.data["epoch"].as_integer(), CurveRow.data[key.figure].as_float()
        query = (
            select(epoch, func.avg(value))
            .where(
                CurveRow.job_id == job_id,
                CurveRow.data["layer"].as_integer() == layer,
                CurveRow.data["split"].as_string() == key.split,
            )
            .group_by(epoch)
            .having(func.count(value) == len(spec.seeds))
            .order_by(epoch)
        )
        with self._database.reading() as session:
            return tuple((int(at), float(mean)) for at, mean in session.execute(query))

    # Pruning

    def prune(self, study_id: str) -> None:
        """Stop the running trials of a study that are worse than those before them."""
        found = self.pruning(study_id)
        if found is None:
            return
        for job_id, number in self._measured_since(study_id):
            epoch = self.verdict(study_id, found, job_id, number)
            if epoch is not None:
                self._stop(job_id, f"pruned: worse than earlier trials at epoch {epoch}")

    def pruning(self, study_id: str) -> Searched | None:
        """The search of a study that prunes; None of any other. A study's spec never changes."""
        if study_id not in self._pruning:
            with self._database.reading() as session:
                document = session.scalar(
                    select(JobRow.spec).where(JobRow.id == study_id, JobRow.kind == "study")
                )
            if len(self._pruning) >= REMEMBERED_SEARCHES:
                self._pruning.clear()
            prunes = bool(document and document.get("search") and document["search"].get("prune"))
            found = search_of_document(json.dumps(document)) if prunes else None
            self._pruning[study_id] = found
        return self._pruning[study_id]

    def verdict(self, study_id: str, found: Searched, job_id: str, number: int) -> int | None:
        """The epoch at which a run is worse than the trials before it; None: at none so far."""
        trials, known = self._history(study_id, found, number)
        if known < known_of(number, found.search.at_once):  # one of them runs again
            return None
        return pruned_at(found, trials, number, self._curve(job_id, found))

    def _measured_since(self, study_id: str) -> list[tuple[str, int]]:
        """The running trials that have new rows, with their numbers."""
        query = (
            select(JobRow.id, JobRow.cell, func.max(CurveRow.id))
            .join(CurveRow, CurveRow.job_id == JobRow.id)
            .where(
                JobRow.parent_id == study_id,
                JobRow.state == JobState.running.value,
                JobRow.wanted == Wanted.run.value,
            )
            .group_by(JobRow.id, JobRow.cell)
        )
        with self._database.reading() as session:
            rows = session.execute(query.order_by(JobRow.cell)).all()
        fresh = [
            (id_, cell or 0) for id_, cell, newest in rows if self._looked_at.get(id_) != newest
        ]
        if len(self._looked_at) >= REMEMBERED_TRIALS:
            self._looked_at.clear()
        self._looked_at |= {id_: newest for id_, _, newest in rows}
        return fresh

    def _stop(self, job_id: str, why: str) -> None:
        """Ask the worker of a trial to stop it."""
        going_on = (JobRow.state == JobState.running.value, JobRow.wanted == Wanted.run.value)
        with self._database.writing() as session:
            if change(session, job_id, *going_on, wanted=Wanted.cancel.value):
                append_events(session, job_id, [("log", {"level": "info", "message": why})])


def _going_on(made: int) -> tuple[ColumnElement[bool], ...]:
    """The conditions under which a study may have more trials than these."""
    active = JobRow.state.in_([JobState.queued.value, JobState.running.value])
    return (active, JobRow.wanted == Wanted.run.value, JobRow.cells_made == made)


def is_search(spec: Document | None) -> bool:
    """Whether a stored spec is of a study that searches."""
    return bool(spec and spec.get("search"))


@lru_cache(maxsize=16)
def search_of_document(document: str) -> Searched | None:
    """The search of a stored study whose spec is this JSON text; None where it cannot be read."""
    try:
        study = Submission.model_validate({"spec": json.loads(document)}, context=STORED).spec
        return (
            searched(study, STORED) if isinstance(study, StudySpec) and is_resolved(study) else None
        )
    except ValueError:
        return None


def _changed() -> JobError:
    return JobError(
        code="study_changed",
        title="This version of fflab would search in another way",
        detail="The search was submitted to another version, so no further trials were made. "
        "Those before keep their results. Submit the search again to have all of them.",
    )


def search_exhausted(reason: str) -> JobError:
    """The error of a search whose values do not go together, however often they are drawn."""
    return JobError(
        code="search_exhausted",
        title="The search found no more values that can run",
        detail=f"A hundred times, the values that it chose did not make a valid spec: {reason}. "
        "The trials before keep their results. Submit the search again with a narrower space.",
    )
