"""Jobs: submits and reads them, and finds those that the retention lets go."""

import contextlib
import itertools
import json
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    ColumnElement,
    Row,
    Select,
    Text,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.selectable import TextualSelect

from ffengine.datasets import Datasets
from ffengine.results import AccuracyRow, EpochAccuracyRow, RecordedResult
from ffengine.spec import RecordedSpec, StudySpec, TrainSpec
from ffengine.study import Cell, search_of, trainings_named
from ffengine.uploaded_weights import WeightUploads
from service.encoding.viewer import VIEWER
from service.headline import (
    Headline,
    headline,
    headline_of_study,
    places_of_interest,
    suffices,
)
from service.jobs import TERMINAL, Job, JobState, NewJob
from service.lists.columns import Column
from service.lists.conditions import Condition, Order
from service.schemas import ProjectLine, row_key
from service.store.audit import note
from service.store.database import Database
from service.store.faults import DATABASE_ERRORS
from service.store.inserts import (
    CELLS_AT_ONCE,
    draft,
    draft_cell,
    insert_jobs,
    insert_recorded,
)
from service.store.job_cache import JobCache, VersionReader, to_job
from service.store.job_queries import JobQueries, behind, ordered
from service.store.list_indexes import ANY_STUDY, by_index, counting_index, list_index
from service.store.needs import (
    NAMED_BY_CHECKS,
    UNFINISHED,
    hold_trainings,
    named_by_studies,
    on_weights_of,
)
from service.store.owner_limits import SubmitLimits, refuse_beyond
from service.store.queue_limit import QueueLimit, read_clock
from service.store.run_figures import StudyFigures, run_figures
from service.store.tables import (
    WITHOUT_FIGURES,
    CurveRow,
    IdempotencyRow,
    JobRow,
    JobTagRow,
    ResultRow,
    any_number,
    now_seconds,
)
from service.store.visibility import shown_to, visible

REMEMBERED_HEADLINES = 5_000
FEW_JOBS = 500
LISTED_JOB = aliased(JobRow)
FIGURES_AT_ONCE = 500
OWNERS_AT_ONCE = 500
ROWS_AT_ONCE = 500


class IdempotencyConflict(Exception):
    """The Idempotency-Key was used with another body."""


class CursorGone(Exception):
    """The job at which a page ends was deleted, so that nobody knows where the next one begins."""


class Idempotency(NamedTuple):
    """An Idempotency-Key of an owner, with the fingerprint of the request's body."""

    owner: str
    key: str
    fingerprint: str
    hours: float


class Submitted(NamedTuple):
    """The job of a submission; `replayed` where an earlier request made it."""

    job: Job
    replayed: bool


class Page(NamedTuple):
    """Some jobs; `next_id` is where the next page begins, None on the last one.

    `total` is how many pass the filters, on all pages, and `states` how many of them are in each
    state; None where they were not asked for.
    """

    jobs: list[Job]
    next_id: str | None
    total: int | None = None
    states: dict[str, int] | None = None


class Jobs:
    """Submits and reads jobs."""

    def __init__(self, database: Database, datasets: Datasets | None = None) -> None:
        self._database, self._datasets = database, datasets
        self._cache = JobCache()
        self._queue_limit = QueueLimit()
        path = database.url.database if database.is_sqlite else None
        self._versions = VersionReader(path) if path else None
        self._queries = JobQueries(is_sqlite=database.is_sqlite)
        self._headlines: dict[tuple[str, datetime] | None, Headline] = {}

    def submit(
        self,
        new: NewJob,
        cells: Sequence[Cell] = (),
        *,
        idempotency: Idempotency | None = None,
        max_queued: int,
        limits: SubmitLimits = SubmitLimits(),  # noqa: B008 - immutable
    ) -> Submitted:
        """Store a job, and the runs of a study, in one transaction with the idempotency key.

        An identical spec that has succeeded answers the new job, unless it is `fresh`.

        **Arguments:**

        - `new`: the job.
        - `cells`: all runs of a study; the first few are stored now.
        - `idempotency`: the key that came with the request.
        - `max_queued`: how many jobs may wait, runs not stored yet included.
        - `limits`: what one owner may have.

        **Returns:**

        The stored job, or that of an earlier request with the same key.

        **Raises:**

        - `IdempotencyConflict`: the key came with another body before.
        - `QueueFull`: too many jobs wait already.
        - `OwnerLimitReached`: its owner has too much already.
        - `WeightsGone`: it asks for the weights of a job that is not there.
        """
        try:
            return self._submit(new, cells, idempotency, max_queued, limits)
        except IntegrityError:
            if idempotency is None:
                raise
            # on PostgreSQL a request with the same key was a moment faster: its job is the answer
            return self._submit(new, cells, idempotency, max_queued, limits)

    def record(
        self,
        options: Mapping[str, Any],
        spec: RecordedSpec,
        result: RecordedResult,
        *,
        idempotency: Idempotency | None = None,
    ) -> Submitted:
        """Store a run that another program computed, with its rows: it has succeeded already.

        **Arguments:**

        - `options`: those of NewJob that such a run has: name, tags, project, note, pinned and
          submitted_by.
        - `spec`: what the program says of the run.
        - `result`: its rows.
        - `idempotency`: the key that came with the request.

        **Raises** IdempotencyConflict.
        """
        with self._database.writing() as session:
            if idempotency and (known := self._known(session, idempotency)):
                return Submitted(known, replayed=True)
            now = read_clock(session)
            job_id = insert_recorded(session, options, spec, result, now)
            note(session, "record", job_id)
            if idempotency:
                self._remember(session, idempotency, job_id, now)
            row = session.get_one(JobRow, job_id, populate_existing=True)
            return Submitted(to_job(row), replayed=False)

    def needing_dataset(self, name: str) -> list[str]:
        """The ids of unfinished jobs that need a data set, the oldest first.

        They name it, or weights that were trained on it. Of a study, its runs that are not stored
        yet count as well.
        """
        named = JobRow.spec[("dataset", "name")].as_string() == name
        with self._database.reading() as session:
            found = set(session.scalars(select(JobRow.id).where(UNFINISHED, named)))
            studies = select(JobRow.id, JobRow.spec).where(UNFINISHED, JobRow.kind == "study")
            found |= {id_ for id_, spec in session.execute(studies) if _mentions(spec, name)}
            found |= on_weights_of(session, name)
        uploaded = WeightUploads(self._datasets).trained_on(name) if self._datasets else ()
        for weights in uploaded:
            found |= set(self.needing_weights(weights))
        return sorted(found)

    def needing_weights(self, name: str) -> list[str]:
        """The ids of unfinished checks and studies that name uploaded weights, in order.

        Of a study, its runs that are not stored yet count as well.
        """
        named = JobRow.spec[("at", "weights")].as_string() == name
        with self._database.reading() as session:
            checks = select(JobRow.id).where(UNFINISHED, JobRow.kind == "check", named)
            found = set(session.scalars(checks))
            studies = select(JobRow.id, JobRow.spec).where(UNFINISHED, JobRow.kind == "study")
            found |= {id_ for id_, spec in session.execute(studies) if _mentions(spec, name)}
        return sorted(found)

    def get(self, job_id: str) -> Job | None:
        """The job; None where there is none, or the viewer does not see it."""
        found = self.get_with_version(job_id)
        return found[0] if found else None

    def get_with_version(self, job_id: str) -> tuple[Job, int] | None:
        """The job and its version, which rises with every change; None as for `get`.

        Callers must not change the job: others are given the same object.
        """
        with self._database.engine.connect() as connection:
            version = connection.scalar(select(JobRow.version).where(JobRow.id == job_id))
        if version is None:
            return None
        if known := self._cache.get(job_id, version):
            return _shown(known)
        with self._database.reading() as session:
            row = session.get(JobRow, job_id)
            return _shown(self._cache.job_of(row)) if row else None

    def cached_if_current(self, job_id: str) -> tuple[Job, int] | None:
        """The job and its version where that takes microseconds; else None.

        That is on SQLite, for a job that was read before and has not changed. For the event loop.
        """
        version = self._versions.version(job_id) if self._versions else None
        return None if version is None else _shown(self._cache.get(job_id, version))

    def page(
        self,
        *,
        limit: int,
        before: str | None = None,
        order: Order | None = None,
        total: bool = False,
        **filters: Any,
    ) -> Page:
        """List jobs that pass all given filters, newest first unless there is an `order`.

        **Arguments:**

        - `limit`: most jobs of the page.
        - `before`: the id of a job; only those behind it in the order.
        - `total`: count all jobs that pass the filters, and those in each state.
        - `filters`: those of `filtered`.

        **Returns:**

        One page of jobs.

        **Raises** CursorGone where `order` is given and there is no job `before` any more.
        """
        conditions = self.filtered(**filters)
        index, counted = list_index(**filters), counting_index(**filters)
        if order is not None and order.column.group == "figure":
            self._refresh_read_figures()
        with self._database.reading() as session:
            states = self._states(session, conditions, counted) if total else None
            query = self._ordered(session, conditions, order, before, limit, index)
            found = session.execute(query).all()
            jobs = self._jobs(session, found[:limit])
        return Page(
            jobs,
            found[limit - 1][0] if len(found) > limit else None,
            sum(states.values()) if states is not None else None,
            states,
        )

    def ids(self, *, limit: int, **filters: Any) -> list[str]:
        """The ids of the newest jobs that pass all filters, which are those of `filtered`."""
        query = by_index(select(JobRow.id), list_index(**filters))
        query = query.where(*self.filtered(**filters))
        with self._database.reading() as session:
            return list(session.scalars(query.order_by(JobRow.id.desc()).limit(limit)))

    def count(self, **filters: Any) -> int:
        """How many jobs pass all filters, which are those of `filtered`."""
        query = by_index(select(func.count()).select_from(JobRow), counting_index(**filters))
        query = query.where(*self.filtered(**filters))
        with self._database.reading() as session:
            return session.scalar(query) or 0

    def filtered(
        self,
        *,
        state: str | Sequence[str] | None = None,
        kind: str | None = None,
        tag: str | None = None,
        project: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        name: str | None = None,
        search: str | None = None,
        submitted_by: str | None = None,
        parent: str | None = None,
        children: bool = False,
        where: Sequence[Condition] = (),
        having: Column | None = None,
    ) -> list[ColumnElement[bool]]:
        """The conditions that jobs of a list pass, and that the viewer sees them.

        **Arguments:**

        - `state`, `kind`, `name`, `tag`, `project`, `submitted_by`: only jobs with this, or one of
          several states.
        - `created_after`, `created_before`: only jobs submitted at that time or later, or before.
        - `search`: a part of a name, or an id.
        - `parent`: the id of a study; only its runs. "any": only the runs of all studies.
        - `children`: with the runs of studies, which are left out otherwise.
        - `where`: conditions on columns.
        - `having`: only jobs with a value in this column.

        **Returns:**

        Conditions of a query on JobRow.
        """
        found: list[ColumnElement[bool]] = [visible()]
        few = None if tag is None else self._few_with(tag, None if children else bool(parent))
        if tag is not None:
            found.append(_has_tag(tag) if few is None else JobRow.id.in_(few))
        others = (name, search, project, submitted_by, created_after, created_before, kind, state)
        if few is not None and parent in (None, ANY_STUDY) and not any(others):
            pass  # these ids are what is asked for; SQLite would go through all other jobs as well
        elif parent == ANY_STUDY:
            found.append(JobRow.parent_id.is_not(None))
        elif parent:
            found.append(JobRow.parent_id == parent)
        elif not children:
            found.append(JobRow.parent_id.is_(None))
        for column, value in (
            (JobRow.kind, kind),
            (JobRow.name, name),
            (JobRow.project, project),
            (JobRow.submitted_by, submitted_by),
        ):
            if value is not None:
                found.append(column == value)
        if search is not None:
            found.append(JobRow.name.icontains(search, autoescape=True) | (JobRow.id == search))
        if state:
            found.append(JobRow.state.in_([state] if isinstance(state, str) else state))
        if created_after is not None:
            found.append(JobRow.created_at >= _shown_since(created_after))
        if created_before is not None:
            found.append(JobRow.created_at < _shown_since(created_before))
        if having is not None:
            found.append(self._queries.has_value(having))
        if any(one.column and one.column.group == "figure" for one in where):
            self._refresh_read_figures()
        return [*found, *self._queries.where(where)]

    def _few_with(self, tag: str, is_run: bool | None) -> Sequence[str] | None:
        """The ids of the jobs that have a tag, where these are few; None where they are many.

        Many are better found by asking each job of a list; the database could only guess which.

        **Arguments:**

        - `is_run`: of runs of studies, or of other jobs; None: of both.
        """
        query = select(JobTagRow.job_id).where(JobTagRow.tag == tag).limit(FEW_JOBS + 1)
        if is_run is not None:
            query = query.where(JobTagRow.is_run.is_(is_run))
        with self._database.reading() as session:
            found = session.scalars(query).all()
        return found if len(found) <= FEW_JOBS else None

    def _refresh_read_figures(self) -> None:
        """Work out anew what a list is about to read.

        Where nothing can be written, as on a full disk, the list is of figures as they were.
        """
        with contextlib.suppress(*DATABASE_ERRORS):
            self.refresh_figures()

    def _jobs(self, session: Session, found: Sequence[Row[str, int]]) -> list[Job]:
        """The jobs of these ids and versions; only rows of those that have changed are read."""
        jobs = {job_id: self._cache.get(job_id, version) for job_id, version in found}
        changed = [job_id for job_id, known in jobs.items() if known is None]
        if changed:
            rows = session.scalars(select(JobRow).where(JobRow.id.in_(changed)))
            jobs |= {row.id: self._cache.job_of(row) for row in rows}
        return [known[0] for known in jobs.values() if known is not None]

    def _ordered(
        self,
        session: Session,
        conditions: Sequence[ColumnElement[bool]],
        order: Order | None,
        before: str | None,
        limit: int,
        index: str | None,
    ) -> Select[str, int]:
        """The ids and versions of the jobs of a page, and one more that says whether there is
        another page.
        """
        if order is None:  # by ids alone, which an index has; then the rows of these
            ids = by_index(select(JobRow.id), index).where(*conditions).limit(limit + 1)
            ids = ids.where(JobRow.id < before) if before else ids
            found = select(LISTED_JOB.id, LISTED_JOB.version)
            found = found.where(LISTED_JOB.id.in_(ids.order_by(JobRow.id.desc())))
            return found.order_by(LISTED_JOB.id.desc())
        query = select(JobRow.id, JobRow.version).where(*conditions).limit(limit + 1)
        value = self._queries.value(order.column)
        if before:
            last = session.execute(select(value).where(JobRow.id == before)).first()
            if last is None:
                raise CursorGone
            query = query.where(behind(value, order, before, has_value=last[0] is not None))
        return ordered(query, value, order)

    @staticmethod
    def _states(
        session: Session, conditions: Sequence[ColumnElement[bool]], index: str | None
    ) -> dict[str, int]:
        """How many jobs are in each state, those with none left out."""
        counted = by_index(select(JobRow.state, func.count()), index).where(*conditions)
        counted = counted.group_by(JobRow.state)
        found = dict(session.execute(counted).all())
        return {state.value: found[state.value] for state in JobState if state.value in found}

    def project_names(self) -> list[str]:
        """The names of all projects in order; the index is asked for one after the other."""
        seen = visible()
        first = select(func.min(JobRow.project).label("name")).where(seen)
        names = first.cte("names", recursive=True)
        following = select(func.min(JobRow.project)).where(JobRow.project > names.c.name, seen)
        names = names.union_all(
            select(following.scalar_subquery()).where(names.c.name.is_not(None))
        )
        with self._database.reading() as session:
            query = select(names.c.name).where(names.c.name.is_not(None))
            return list(session.scalars(query))

    def projects(self) -> list[ProjectLine]:
        """All projects, the one with the newest activity first."""
        latest = func.max(func.coalesce(JobRow.finished_at, JobRow.started_at, JobRow.created_at))
        alone = JobRow.parent_id.is_(None)
        of_each = (
            select(
                JobRow.project,
                func.sum(case((alone, 1), else_=0)),
                func.sum(case((alone & UNFINISHED, 1), else_=0)),
                latest,
            )
            .where(JobRow.project.is_not(None), visible())
            .group_by(JobRow.project)
        )
        with self._database.reading() as session:
            found = session.execute(of_each.order_by(latest.desc(), JobRow.project)).all()
        return [
            ProjectLine(
                name=name or "",
                jobs=jobs,
                unfinished=unfinished,
                last_activity=datetime.fromtimestamp(seconds, UTC),
            )
            for name, jobs, unfinished, seconds in found
            if jobs
        ]

    def result(self, job_id: str) -> str | None:
        """The JSON text of the job's result; None where there is none."""
        with self._database.reading() as session:
            return session.scalar(select(ResultRow.document).where(ResultRow.job_id == job_id))

    def children(self, job_id: str) -> list[tuple[Job, str | None]]:
        """The runs of a study in order, each with the JSON text of its result, if it has one."""
        query = select(JobRow, ResultRow.document).outerjoin(
            ResultRow, ResultRow.job_id == JobRow.id
        )
        with self._database.reading() as session:
            found = session.execute(
                query.where(JobRow.parent_id == job_id).order_by(JobRow.cell)
            ).all()
            return [(to_job(row), document) for row, document in found]

    def headlines(self, jobs: Sequence[Job]) -> dict[str, Headline]:
        """The headline of each job, by id.

        One call makes as many queries for hundreds of jobs as for one. The headline of a job that
        has ended is worked out once.
        """
        known = {job.id: found for job in jobs if (found := self._headlines.get(_ended(job)))}
        fresh = [job for job in jobs if job.id not in known]
        studies = [job for job in fresh if job.kind == "study"]
        if fresh:
            known |= self._new_headlines(fresh)
        of_runs = self._figures_of_runs(studies) if studies else {}
        known |= {study: headline_of_study(one.found) for study, one in of_runs.items()}
        if len(self._headlines) > REMEMBERED_HEADLINES:
            self._headlines.clear()
        lasting = (job for job in fresh if job.id not in of_runs or not of_runs[job.id].is_stale)
        self._headlines |= {key: known[job.id] for job in lasting if (key := _ended(job))}
        return known

    def _figures_of_runs(self, studies: Sequence[Job]) -> dict[str, StudyFigures]:
        self._refresh_read_figures()
        with self._database.reading() as session:
            return run_figures(session, [study.id for study in studies])

    def refresh_figures(self, limit: int = FIGURES_AT_ONCE) -> int:
        """Store the figures of up to `limit` jobs that have changed since; how many there were.

        A job that changes meanwhile is left for the next time.
        """
        changed = select(JobRow).where(text(WITHOUT_FIGURES)).order_by(JobRow.id.desc())
        with self._database.reading() as session:
            rows = list(session.scalars(changed.limit(limit)))
        if not rows:
            return 0
        found = self._new_headlines([self._cache.job_of(row)[0] for row in rows])
        same = (JobRow.id == bindparam("job"), JobRow.version == bindparam("seen"))
        values: dict[str, Any] = {
            "figures": bindparam("found"),
            "figured_version": bindparam("seen"),
        }
        with self._database.writing() as session:
            session.connection().execute(
                update(JobRow).where(*same).values(values),
                [
                    {"job": row.id, "seen": row.version, "found": dict(found[row.id].figures)}
                    for row in rows
                ],
            )
        return len(rows)

    def _new_headlines(self, jobs: Sequence[Job]) -> dict[str, Headline]:
        tested = [job.id for job in jobs if job.kind == "train" and job.state == JobState.succeeded]
        with self._database.reading() as session:
            rows = self._rows_of_interest(session, jobs)
            accuracies = self._accuracies(session, tested) if tested else {}
            monitored = self._monitored_accuracies(session, jobs)
        return {
            job.id: headline(
                job.spec,
                rows.get(job.id, []),
                accuracies.get(job.id, []),
                monitored.get(job.id, []),
            )
            for job in jobs
        }

    def _rows_of_interest(
        self, session: Session, jobs: Sequence[Job]
    ) -> dict[str, list[dict[str, Any]]]:
        """Of each job the rows that its headline needs: those beside the newest one."""
        ids = [job.id for job in jobs if job.kind != "study"]
        newest = (
            select(func.max(CurveRow.id)).where(CurveRow.job_id.in_(ids)).group_by(CurveRow.job_id)
        )
        last = {
            row.job_id: row.data
            for row in session.scalars(select(CurveRow).where(CurveRow.id.in_(newest)))
        }
        begun = [job for job in jobs if job.id in last]
        wanted = [
            (job.id, row_key(place))
            for job in begun
            for place in places_of_interest(job.spec, last[job.id])
        ]
        found = defaultdict[str, list[dict[str, Any]]](list)
        for job_id, data in session.execute(self._rows_with(wanted)):
            found[job_id].append(data)
        lacking = [job.id for job in begun if not suffices(job.spec, found[job.id])]
        for job_id in lacking:
            found[job_id] = []
        for job_id, data in session.execute(
            select(CurveRow.job_id, CurveRow.data).where(CurveRow.job_id.in_(lacking))
        ):
            found[job_id].append(data)
        return found

    def _rows_with(self, wanted: Sequence[tuple[str, str]]) -> TextualSelect:
        """Select the rows of these pairs of a job id and a key.

        Thousands of pairs travel in one parameter, and each is looked up in the index.
        """
        each = (
            "json_each(:wanted)"
            if self._database.is_sqlite
            else "json_array_elements(CAST(:wanted AS json)) AS each(value)"
        )
        job, key = (
            f"json_extract(value, '$[{index}]')" if self._database.is_sqlite else f"value->>{index}"
            for index in (0, 1)
        )
        matching = f"curve_rows ON job_id = {job} AND curve_rows.key = {key}"
        statement = f"SELECT job_id, data FROM {each} JOIN {matching}"  # noqa: S608 - no user text
        return (
            text(statement)
            .bindparams(wanted=json.dumps(wanted))
            .columns(CurveRow.job_id, CurveRow.data)
        )

    def _accuracies(self, session: Session, ids: Sequence[str]) -> dict[str, list[AccuracyRow]]:
        """The accuracies of succeeded training jobs, read without the rest of their results."""
        as_json = (
            type_coerce(ResultRow.document, JSON)
            if self._database.is_sqlite
            else cast(ResultRow.document, JSON)
        )
        found = session.execute(
            select(ResultRow.job_id, as_json["accuracy"]).where(ResultRow.job_id.in_(ids))
        )
        return {
            job_id: [AccuracyRow.model_validate(row) for row in rows or ()]
            for job_id, rows in found
        }

    def _monitored_accuracies(
        self, session: Session, jobs: Sequence[Job]
    ) -> dict[str, list[EpochAccuracyRow]]:
        """What all layers of succeeded training jobs told apart while they learnt, where that was
        measured: at the last epoch, or at all epochs where seeds may have stopped before it.
        """
        wanted = [
            (job.id, len(job.spec.network.widths), 0 if job.spec.stop else job.spec.epochs)
            for job in jobs
            if isinstance(job.spec, TrainSpec)
            and job.spec.follows_accuracy
            and job.state == JobState.succeeded
        ]
        found = defaultdict[str, list[EpochAccuracyRow]](list)
        if not wanted:
            return found
        for job_id, row in session.execute(self._told_by_all_layers(wanted)):
            found[job_id].append(EpochAccuracyRow.model_validate(row))
        return found

    def _told_by_all_layers(self, wanted: Sequence[tuple[str, int, int]]) -> TextualSelect:
        """Select `accuracy_curves` by goodness of triples of a job id, how many layers, and the
        first epoch; the database takes the results apart, which may have thousands of others.
        """
        if self._database.is_sqlite:
            each, lateral = "json_each(:wanted) AS each", "json_each(document, '$.accuracy_curves')"
            job, depth, first = (f"json_extract(each.value, '$[{index}]')" for index in range(3))
            method, epoch = (f"json_extract(told.value, '$.{one}')" for one in ("method", "epoch"))
            told, layers = f"{lateral} AS told", "json_array_length(told.value, '$.layers')"
        else:
            each = "json_array_elements(CAST(:wanted AS json)) AS each(value)"
            lateral = "json_array_elements(CAST(document AS json)->'accuracy_curves')"
            job, depth, first = "each.value->>0", *(f"(each.value->>{one})::int" for one in (1, 2))
            method, epoch = "told.value->>'method'", "(told.value->>'epoch')::int"
            told, layers = (
                f"LATERAL {lateral} AS told(value)",
                "json_array_length(told.value->'layers')",
            )
        matching = f"{method} = 'goodness' AND {layers} = {depth} AND {epoch} >= {first}"
        statement = (
            f"SELECT job_id, told.value AS data FROM {each} JOIN results ON job_id = {job} "  # noqa: S608 - no user text
            f"CROSS JOIN {told} WHERE {matching}"
        )
        return (
            text(statement)
            .bindparams(wanted=json.dumps(wanted))
            .columns(CurveRow.job_id, CurveRow.data)
        )

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state, studies left out."""
        query = select(JobRow.state, func.count()).group_by(JobRow.state)
        # an index has all states, and another one those of studies; none has both without rows
        of_studies = by_index(query, list_index(kind="study")).where(
            JobRow.kind == "study", JobRow.parent_id.is_(None)
        )
        with self._database.reading() as session:
            found = dict(session.execute(query).all())
            studies = dict(session.execute(of_studies).all())
        return {
            state.value: max(0, found.get(state.value, 0) - studies.get(state.value, 0))
            for state in JobState
        }

    def rows(self, job_id: str) -> list[dict[str, Any]]:
        """The tidy rows of a job so far, oldest first."""
        return list(self.each_row(job_id))

    def each_row(self, job_id: str) -> Iterator[dict[str, Any]]:
        """The tidy rows of a job so far, oldest first; a few of them are in memory at a time."""
        return map(json.loads, self.row_texts(self.row_ids(job_id)))

    def row_ids(self, job_id: str, *, after: int = 0, limit: int | None = None) -> Sequence[int]:
        """The numbers of a job's rows above `after`, oldest first; 8 bytes for each."""
        query = select(CurveRow.id).where(
            CurveRow.job_id == job_id, CurveRow.id > any_number(after)
        )
        with self._database.reading() as session:
            return array("q", session.scalars(query.order_by(CurveRow.id).limit(limit)))

    def row_texts(self, ids: Sequence[int]) -> Iterator[str]:
        """The rows with these numbers as JSON, a few at a time.

        Each few are a query of their own: who reads slowly holds no transaction. Rows that are
        deleted meanwhile are left out.
        """
        for first in range(0, len(ids), ROWS_AT_ONCE):
            some = list(ids[first : first + ROWS_AT_ONCE])
            query = select(cast(CurveRow.data, Text)).where(CurveRow.id.in_(some))
            with self._database.reading() as session:
                found = session.scalars(query.order_by(CurveRow.id)).all()
            yield from found

    def result_without_curves(self, job_id: str) -> str | None:
        """As `result`, of a training run without its rows, which the database leaves out."""
        document = (
            func.json_set(ResultRow.document, "$.curves", func.json("[]"))
            if self._database.is_sqlite
            else cast(cast(ResultRow.document, JSONB).concat({"curves": []}), Text)
        )
        with self._database.reading() as session:
            return session.scalar(select(document).where(ResultRow.job_id == job_id))

    def result_bytes(self, job_ids: Sequence[str]) -> int:
        """How large the results of these jobs are, those of a study's runs included."""
        size = select(func.coalesce(func.sum(func.length(ResultRow.document)), 0))
        asked = select(JobRow.id).where(or_(JobRow.id.in_(job_ids), JobRow.parent_id.in_(job_ids)))
        with self._database.reading() as session:
            return int(session.scalar(size.where(ResultRow.job_id.in_(asked))) or 0)

    def has_result(self, job_id: str) -> bool:
        """Whether the job has a result."""
        with self._database.reading() as session:
            return bool(session.scalar(select(exists().where(ResultRow.job_id == job_id))))

    def expired(
        self, kind: str, *, days: float | None, count: int | None, limit: int
    ) -> list[tuple[str, str | None, float, bool]]:
        """Ended jobs of a kind that are older than `days`, or not among the newest `count`.

        Left out are pinned jobs, a study's runs alone, and trainings whose weights an unfinished
        check or study asks for, or studies with such runs.

        Returns up to `limit` of them, the oldest first: id, name, seconds since the end, and
        whether it is too old (else it is one too many).
        """
        if days is None and count is None:
            return []
        ended = (
            JobRow.kind == kind,
            JobRow.parent_id.is_(None),
            JobRow.pinned.is_(False),
            JobRow.finished_at.is_not(None),
        )
        age = now_seconds() - JobRow.finished_at
        too_old = age > (days * 86_400 if days is not None else 1e18)
        with self._database.reading() as session:
            newest = (
                select(JobRow.id)
                .where(*ended)
                .order_by(JobRow.finished_at.desc(), JobRow.id.desc())
                .limit(count or 0)
            )
            beyond = too_old if count is None else or_(too_old, JobRow.id.not_in(newest))
            query = select(JobRow.id, JobRow.name, age, too_old).where(*ended, beyond)
            needed = set[str]()
            if kind not in ("check", "forecast", "recorded"):
                needed = self._needed(session)
            found = (
                (job_id, name, seconds, bool(old))
                for job_id, name, seconds, old in session.execute(
                    query.order_by(JobRow.finished_at).limit(limit + len(needed))
                )
                if job_id not in needed
            )
            return list(itertools.islice(found, limit))

    @staticmethod
    def _needed(session: Session) -> set[str]:
        """The trainings whose weights unfinished jobs ask for, and the studies that they are of."""
        named = {*session.scalars(NAMED_BY_CHECKS.distinct()), *named_by_studies(session)}
        studies = select(JobRow.parent_id).where(
            JobRow.id.in_(named), JobRow.parent_id.is_not(None)
        )
        return named | {study for study in session.scalars(studies) if study}

    def unreferenced(self, owners: Collection[str]) -> list[str]:
        """The owners of artifacts that no job refers to any more."""
        with self._database.reading() as session:
            return unreferenced_owners(session, owners)

    def knows_some(self, owners: Collection[str]) -> bool:
        """Whether a job refers to at least one of these owners of artifacts."""
        return self._database.has_table(JobRow.__tablename__) and len(
            self.unreferenced(owners)
        ) < len(owners)

    def forget_idempotency_keys(self, hours: float) -> None:
        """Delete the Idempotency-Keys that are older than `hours`."""
        with self._database.writing() as session:
            session.execute(
                delete(IdempotencyRow).where(
                    IdempotencyRow.created_at < now_seconds() - hours * 3600
                )
            )

    def close(self) -> None:
        """Close the connection that Jobs keeps beside those of the database."""
        if self._versions:
            self._versions.close()

    # Within a transaction

    def _submit(
        self,
        new: NewJob,
        cells: Sequence[Cell],
        idempotency: Idempotency | None,
        max_queued: int,
        limits: SubmitLimits,
    ) -> Submitted:
        at_once = cells[:CELLS_AT_ONCE]
        search = search_of(new.spec) if isinstance(new.spec, StudySpec) else None
        runs = search.trials if search else len(cells)
        counts = {"cells": runs, "cells_made": len(at_once)} if runs else {}
        parent = draft(new, self._datasets, **counts)
        drafts = [
            parent,
            *(
                draft_cell(parent, cell, number, self._datasets)
                for number, cell in enumerate(at_once)
            ),
        ]
        named = set[str]().union(*(trainings_named(cell.spec) for cell in cells))
        if not cells:
            named = trainings_named(new.spec)
        with self._database.writing() as session:
            if idempotency and (known := self._known(session, idempotency)):
                return Submitted(known, replayed=True)
            hold_trainings(session, named)
            self._queue_limit.admit(session, max(1, runs), max_queued)
            refuse_beyond(
                session,
                new.submitted_by,
                jobs=max(1, runs),
                is_high=new.priority == "high",
                limits=limits,
            )
            now = read_clock(session)
            insert_jobs(session, drafts, now)
            note(session, "submit", parent.id, kind=parent.kind, **({"runs": runs} if runs else {}))
            if idempotency:
                self._remember(session, idempotency, parent.id, now)
            return Submitted(
                to_job(session.get_one(JobRow, parent.id, populate_existing=True)),
                replayed=False,
            )

    @staticmethod
    def _remember(session: Session, idempotency: Idempotency, job_id: str, now: float) -> None:
        values = {
            "owner": idempotency.owner,
            "key": idempotency.key,
            "fingerprint": idempotency.fingerprint,
        }
        session.execute(insert(IdempotencyRow).values(**values, job_id=job_id, created_at=now))

    def _known(self, session: Session, idempotency: Idempotency) -> Job | None:
        same = (IdempotencyRow.owner == idempotency.owner, IdempotencyRow.key == idempotency.key)
        found = session.execute(select(IdempotencyRow, now_seconds()).where(*same)).first()
        if found is None:
            return None
        row, now = found
        if row.created_at < now - idempotency.hours * 3600:
            session.execute(delete(IdempotencyRow).where(*same))
            return None
        if row.fingerprint != idempotency.fingerprint:
            raise IdempotencyConflict
        return to_job(session.get_one(JobRow, row.job_id))


def _shown(found: tuple[Job, int] | None) -> tuple[Job, int] | None:
    """The job and its version; None where the viewer does not see it."""
    return found if found and shown_to(VIEWER.get(), found[0]) else None


def _has_tag(tag: str) -> ColumnElement[bool]:
    """That a job has a tag."""
    is_run = JobTagRow.is_run == JobRow.parent_id.is_not(None)
    return exists().where(JobTagRow.tag == tag, is_run, JobTagRow.job_id == JobRow.id)


def _shown_since(time: datetime) -> float:
    """The least stored time, in seconds, that is shown as this one: to the microsecond."""
    return time.timestamp() - 0.5e-6


def _ended(job: Job) -> tuple[str, datetime] | None:
    """A key for one end of a job, which differs after a retry; None while the job goes on."""
    return (job.id, job.finished_at) if job.state in TERMINAL and job.finished_at else None


def unreferenced_owners(session: Session, owners: Collection[str]) -> list[str]:
    """The owners of artifacts that no job refers to any more."""
    needed: set[str | None] = set()
    asked = sorted(owners)
    for first in range(0, len(asked), OWNERS_AT_ONCE):
        some = asked[first : first + OWNERS_AT_ONCE]
        needed |= set(session.scalars(select(JobRow.id).where(JobRow.id.in_(some))))
        needed |= set(
            session.scalars(select(JobRow.cached_from).where(JobRow.cached_from.in_(some)))
        )
    return [owner for owner in asked if owner not in needed]


def _mentions(document: object, text: str) -> bool:
    """Whether a value somewhere in a document is that text."""
    if isinstance(document, dict):
        return any(_mentions(value, text) for value in document.values())
    if isinstance(document, list):
        return any(_mentions(value, text) for value in document)
    return document == text
