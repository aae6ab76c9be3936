"""Inserts new jobs: the job of a submission, a study's runs, and their first events.

A new job shares the result of an identical one: at once where that has succeeded; later, as one
that waits for it, where that is queued or running.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Select, delete, func, insert, literal, or_, select, true, update
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.elements import ColumnElement

from ffengine.arrays import DatasetError
from ffengine.cost import cost_of
from ffengine.datasets import DATASETS, Datasets, figures_version
from ffengine.plugins import REGISTRY
from ffengine.results import RecordedResult
from ffengine.spec import AnySpec, CheckSpec, RecordedSpec, StudySpec, digest
from ffengine.spec_versions import stored_document, version_needed
from ffengine.study import Cell, written_out
from ffengine.uploaded_weights import WeightUploads
from ffengine.version import NUMERICS_VERSION
from service.jobs import JobState, NewJob, Priority, Wanted, Webhook, new_job_id
from service.placement import asked_memory, need_columns
from service.store.curve_rows import insert_rows
from service.store.needs import hold
from service.store.tables import (
    CurveRow,
    Document,
    EventRow,
    JobRow,
    ResultRow,
    WorkerRow,
    now_seconds,
)
from service.store.transitions import enqueue_deliveries
from service.store.understanding import LEADS, waits_for_itself
from service.store.visibility import open_to
from service.store.workers import DEAD_WORKER_SECONDS

PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high")
# a level goes before lower ones that were queued up to so much earlier, so that nothing starves
PRIORITY_SECONDS = 3600.0
LOOKED_UP_AT_ONCE = 500
QUEUED_MESSAGE = "queued"
WAITS = "waits: "  # before the reason for which no job can begin
MISSING_PLUGIN = "?"  # begins what JobRow.plugins has of an entry whose plug-in is not here
RECORDED_MESSAGE = "recorded by another program"
CELLS_AT_ONCE = 200  # runs of a study; the reconciler makes the others later
# columns of NewJob that the runs of a study do not share with it
OWN_OF_STUDIES = frozenset({"pinned", "webhook", "note"})
# columns of NewJob that NewJobRow has as fields of its own
_TYPED = frozenset({"spec", "priority", "fresh"})
_PASSED_ON = tuple(name for name in NewJob.model_fields if name not in _TYPED)


@dataclass(frozen=True)
class NewJobRow:
    """A job that is to be inserted.

    `given` are the columns that a submission gives and that nothing here depends on.
    """

    id: str
    kind: str
    spec: Document
    spec_digest: str
    dataset_digest: str | None
    engine_version: str
    plugins: str | None
    spec_version: int | None
    priority: int
    fresh: bool
    given: Mapping[str, Any]
    parent_id: str | None = None
    cell: int | None = None
    place: Document | None = None
    cells: int | None = None
    cells_made: int | None = None

    @property
    def may_share(self) -> bool:
        """Whether the result of an identical job answers it; of a study, its runs share."""
        return self.kind != "study" and not self.fresh

    def columns(self) -> dict[str, Any]:
        """The columns that do not depend on other jobs and on the time."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            **own.pop("given"),
            **own,
            "wanted": Wanted.run.value,
        }


class ActiveJob(NamedTuple):
    """A queued or running job for which identical ones may wait.

    `placed` is what it needs of a worker; None: it has one.
    """

    id: str
    dataset_digest: str | None
    engine_version: str
    placed: tuple[Any, ...] | None = None


SameSpec = TypeVar("SameSpec", JobRow, ActiveJob)


def rank_of(queued_at: float, priority: int) -> float:
    """The place of a job in the queue: the lowest goes first."""
    return queued_at - priority * PRIORITY_SECONDS


def draft(
    new: NewJob,
    datasets: Datasets | None = None,
    *,
    cells: int | None = None,
    cells_made: int | None = None,
) -> NewJobRow:
    """The row of a submitted job.

    **Arguments:**

    - `new`: the job.
    - `datasets`: where the digest of its data set is looked up; None: in the catalogue alone.
    - `cells`: how many runs a study has.
    - `cells_made`: how many of them are inserted with it.
    """
    given = {name: getattr(new, name) for name in _PASSED_ON}
    needs = new.needs.model_dump(mode="json") if new.needs else None
    spec = written_out(new.spec)  # because presets may change
    return NewJobRow(
        id=new_job_id(),
        **_of_spec(spec, datasets),
        priority=PRIORITIES.index(new.priority),
        fresh=new.fresh,
        given={
            **given,
            **_placed(needs, spec, datasets),
            "note": new.note or None,
            "webhook": _stored_webhook(new.webhook),
        },
        cells=cells,
        cells_made=cells_made,
    )


def draft_cell(
    study: NewJobRow | JobRow, cell: Cell, number: int, datasets: Datasets | None = None
) -> NewJobRow:
    """The row of a study's run, from the row of the study."""
    given = _shared_with_runs(study)
    return NewJobRow(
        id=new_job_id(),
        **_of_spec(cell.spec, datasets),
        priority=study.priority,
        fresh=study.fresh,
        given={**given, **_placed(given["needs"], cell.spec, datasets)},
        parent_id=study.id,
        cell=number,
        place={"part": cell.part, "params": cell.params},
    )


def _shared_with_runs(study: NewJobRow | JobRow) -> dict[str, Any]:
    held = study.given if isinstance(study, NewJobRow) else None
    given = {name: held[name] if held else getattr(study, name) for name in _PASSED_ON}
    return given | {name: NewJob.model_fields[name].default for name in OWN_OF_STUDIES}


def _placed(needs: Document | None, spec: AnySpec, datasets: Datasets | None) -> dict[str, Any]:
    """The columns by which a job is placed; the memory is the estimate's unless it is asked for."""
    estimated, asked = estimated_memory(spec, datasets), asked_memory(needs)
    return {
        "needs": needs,
        **need_columns(needs),
        "need_memory_bytes": estimated if asked is None else asked,
        "estimated_bytes": estimated,
    }


def estimated_memory(spec: AnySpec, datasets: Datasets | None) -> int | None:
    """The bytes of memory that a run takes at its peak by the estimate; None where none is made.

    That is so for studies, for what uses a plug-in that is not here, and on data sets that are not
    here.
    """
    if isinstance(spec, StudySpec) or REGISTRY.missing_in(spec):
        return None
    try:
        name = spec.dataset.name
        return cost_of(spec, datasets.facts_of(name) if datasets else DATASETS[name]).memory_bytes
    except (DatasetError, KeyError):
        return None


def _of_spec(spec: AnySpec, datasets: Datasets | None) -> dict[str, Any]:
    if isinstance(spec, CheckSpec) and datasets:  # a name may stand for other weights later
        spec = WeightUploads(datasets).pinned(spec)
    name = None if isinstance(spec, StudySpec) else spec.dataset.name
    return {
        "kind": spec.kind,
        **_versioned(spec),
        "spec_digest": digest(spec),
        "dataset_digest": _pinned_digest(name, datasets) if name else None,
        "engine_version": figures_version(name) if name else NUMERICS_VERSION,
        "plugins": None if isinstance(spec, StudySpec) else plugins_of(spec),
    }


def _versioned(spec: AnySpec) -> dict[str, Any]:
    """A spec as older programs can read it where it says nothing new, and the version it needs."""
    if isinstance(spec, StudySpec):  # it is written as it was given, and no worker reads it
        return {"spec": spec.model_dump(mode="json"), "spec_version": None}
    return {"spec": stored_document(spec), "spec_version": version_needed(spec)}


def plugins_of(spec: AnySpec) -> str | None:
    """The identities of the plug-ins that a run uses, as JobRow.plugins has them; None: none.

    An entry whose plug-in is not here, as of a study that was stored with it, is `?CATALOGUE.NAME`,
    which no worker has.
    """
    used = (plugin.identity for plugin in REGISTRY.used_by(spec))
    missing = (f"{MISSING_PLUGIN}{entry}" for entry in REGISTRY.missing_in(spec))
    return " ".join((*used, *missing)) or None


def _pinned_digest(name: str, datasets: Datasets | None) -> str | None:
    if datasets:
        return datasets.digest_of(name)
    return DATASETS[name].digest if name in DATASETS else None


def _stored_webhook(webhook: Webhook | None) -> Document | None:
    if webhook is None:
        return None
    secret = webhook.secret.get_secret_value() if webhook.secret else None
    return {**webhook.model_dump(mode="json", exclude={"secret"}), "secret": secret}


def insert_jobs(session: Session, drafts: Sequence[NewJobRow], now: float) -> None:
    """Insert jobs with their first events: answered, waiting for an identical job, or queued."""
    sharing = [row.spec_digest for row in drafts if row.may_share]
    known = is_known(session, sharing)
    seen = open_to(drafts[0].given["submitted_by"]) if drafts else true()  # all of one submission
    results = cached_results(session, sharing, seen) if known else {}
    active = active_duplicates(session, sharing, seen) if known else {}
    there = hold(session, {job.id for found in results.values() for job in found})
    results = {
        digest: [job for job in found if job.id in there] for digest, found in results.items()
    }
    queued: list[Queued] = []
    answered: list[tuple[NewJobRow, JobRow]] = []
    for row in drafts:
        if not row.may_share:
            queued.append(Queued(row))
        elif result := _first_with_same_data(results, row):
            answered.append((row, result))
        elif leader := _first_with_same_data(_as_easily_placed(active, row), row):
            queued.append(Queued(row, leader.id, waiting_message(leader.id)))
        else:  # the next identical one of this submission waits for this one
            queued.append(Queued(row, None, _message_of(row, results)))
            active.setdefault(row.spec_digest, []).append(
                ActiveJob(row.id, row.dataset_digest, row.engine_version, _needs_of(row.given))
            )
    if queued:
        _insert_queued(session, queued, now)
    for row, result in answered:
        _insert_answered(session, row, result, now)


def insert_recorded(
    session: Session,
    options: Mapping[str, Any],
    spec: RecordedSpec,
    result: RecordedResult,
    now: float,
) -> str:
    """Insert a run that another program computed, which has ended before it is here; its id."""
    row = NewJobRow(
        id=new_job_id(),
        kind=spec.kind,
        spec=spec.model_dump(mode="json"),
        spec_digest=digest(spec),
        dataset_digest=None,
        engine_version=NUMERICS_VERSION,
        priority=PRIORITIES.index("normal"),
        fresh=True,  # no result answers another of its kind
        plugins=None,
        spec_version=None,
        given={**dict.fromkeys(_PASSED_ON), "private": False, **options},
    )
    ended = {"state": JobState.succeeded.value, "fraction": 1.0, "message": RECORDED_MESSAGE}
    session.execute(
        insert(JobRow).values(**_columns_at(row, now), **ended, finished_at=now, last_event=2)
    )
    session.execute(
        insert(EventRow),
        [
            _event(row.id, seq, kind, JobState.succeeded, now)
            for seq, kind in ((1, "state"), (2, "end"))
        ],
    )
    session.execute(insert(ResultRow).values(job_id=row.id, document=result.model_dump_json()))
    insert_rows(session, row.id, result.curves)
    return row.id


class Queued(NamedTuple):
    """A job that is to be queued, the job that it waits for, and its message."""

    row: NewJobRow
    leader: str | None = None
    message: str = QUEUED_MESSAGE


def _insert_queued(session: Session, queued: Sequence[Queued], now: float) -> None:
    columns = [
        {
            **_columns_at(row, now),
            "state": JobState.queued.value,
            "waits_for": leader or waits_for_itself(row.id, row.spec_version),
            "message": message,
            "last_event": 1 if leader or message == QUEUED_MESSAGE else 2,
        }
        for row, leader, message in queued
    ]
    session.execute(insert(JobRow), columns)
    events = [_event(row.id, 1, "state", JobState.queued, now) for row, _, _ in queued]
    events += [
        {
            "job_id": column["id"],
            "seq": 2,
            "type": "log",
            "at": now,
            "data": {"level": "info", "message": column["message"]},
        }
        for column in columns
        if column["last_event"] == 2
    ]
    session.execute(insert(EventRow), events)
    for row, leader, _ in queued:
        if leader:
            _raise_leader_priority(session, leader, rank_of(now, row.priority))


def _columns_at(row: NewJobRow, now: float) -> dict[str, Any]:
    return {
        **row.columns(),
        "created_at": now,
        "queued_at": now,
        "rank": rank_of(now, row.priority),
    }


def waiting_message(leader: str) -> str:
    """The message of a job that waits for an identical one."""
    return f"waits for the identical {leader}"


def other_basis(name: str, *, digest_differs: bool, version: str, today: str) -> str:
    """Say why figures on a data set are not shared: after the subject of the sentence.

    **Arguments:**

    - `name`: of the data set.
    - `digest_differs`: whether its arrays are others.
    - `version`: that of the figures.
    - `today`: that of figures that are computed now.
    """
    if digest_differs:
        return f"is of other arrays, which had the name {name}"
    rules = "" if name in DATASETS else " (partitions and labels of uploads follow other rules now)"
    return f"is of version {version} of the figures; this is {today}{rules}"


def _message_of(new: NewJobRow, results: Mapping[str, Sequence[JobRow]]) -> str:
    """The message of a queued job, which says why the newest result of its spec is not its own."""
    earlier = next(iter(results.get(new.spec_digest, ())), None)
    if earlier is None:
        return QUEUED_MESSAGE
    why = other_basis(
        new.spec["dataset"]["name"],
        digest_differs=new.dataset_digest not in (None, earlier.dataset_digest),
        version=earlier.engine_version,
        today=new.engine_version,
    )
    return f"queued; computed anew, because the result of {earlier.id} {why}"


def is_known(session: Session, digests: Sequence[str]) -> bool:
    """Whether there was ever a job of one of these digests; of most there was none."""
    some = (
        digests[first : first + LOOKED_UP_AT_ONCE]
        for first in range(0, len(digests), LOOKED_UP_AT_ONCE)
    )
    return any(
        session.scalar(select(JobRow.id).where(JobRow.spec_digest.in_(part)).limit(1))
        for part in some
    )


def cached_results(
    session: Session, digests: Sequence[str], which: ColumnElement[bool]
) -> dict[str, list[JobRow]]:
    """The jobs of each digest that have succeeded, newest first, of those that count.

    Left out are jobs of a class of device that no live worker has, as results of a CPU and of a
    GPU differ in their last bits; and studies, as their runs have the results.
    """
    seen = session.scalars(
        select(WorkerRow.device).where(WorkerRow.seen_at > now_seconds() - DEAD_WORKER_SECONDS)
    )
    classes = {device.partition(":")[0] for device in seen} - {"auto"}
    here = or_(JobRow.device_class.is_(None), JobRow.device_class.in_(classes))
    conditions = [JobRow.state == JobState.succeeded.value, which, *([here] if classes else [])]
    return _identical(session, digests, *conditions)


def active_duplicates(
    session: Session, digests: Sequence[str], which: ColumnElement[bool]
) -> dict[str, list[ActiveJob]]:
    """Those of these jobs of each digest that are queued or running, and wait for no other."""
    going = JobRow.state.in_([JobState.queued.value, JobState.running.value])
    found = _identical(
        session,
        digests,
        which,
        going,
        JobRow.wanted == Wanted.run.value,
        LEADS,
        apart=(JobRow.state, JobRow.need_device, JobRow.need_tags, JobRow.need_memory_bytes),
    )
    return {
        digest: [
            ActiveJob(
                row.id,
                row.dataset_digest,
                row.engine_version,
                _needs_of(row.__dict__) if row.state == JobState.queued else None,
            )
            for row in rows
        ]
        for digest, rows in found.items()
    }


def _needs_of(columns: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a job needs of a worker, to be compared."""
    return tuple(columns[name] for name in ("need_device", "need_tags", "need_memory_bytes"))


def _as_easily_placed(
    active: Mapping[str, Sequence[ActiveJob]], new: NewJobRow
) -> dict[str, list[ActiveJob]]:
    """The identical jobs that a new one may wait for: they run, or need the same of a worker.

    Otherwise a job that every worker could take would wait for one that none can.
    """
    same = _needs_of(new.given)
    found = active.get(new.spec_digest, ())
    return {new.spec_digest: [job for job in found if job.placed in (None, same)]}


def _identical(
    session: Session,
    digests: Sequence[str],
    *conditions: ColumnElement[bool],
    apart: Sequence[InstrumentedAttribute[Any]] = (),
) -> dict[str, list[JobRow]]:
    found: dict[str, list[JobRow]] = {}
    for first in range(0, len(digests), LOOKED_UP_AT_ONCE):
        some = JobRow.spec_digest.in_(digests[first : first + LOOKED_UP_AT_ONCE])
        newest = select(func.max(JobRow.id)).where(some, JobRow.kind != "study", *conditions)
        alike = (JobRow.spec_digest, JobRow.dataset_digest, JobRow.engine_version, *apart)
        newest = newest.group_by(*alike)
        for row in session.scalars(
            select(JobRow).where(JobRow.id.in_(newest)).order_by(JobRow.id.desc())
        ):
            found.setdefault(row.spec_digest, []).append(row)
    return found


def _first_with_same_data(
    found: Mapping[str, Sequence[SameSpec]], new: NewJobRow
) -> SameSpec | None:
    """The first of the identical jobs that had the same data and today's version of the figures.

    Where the data set of the new job is not pinned to a digest, its name must do.
    """
    pinned = new.dataset_digest
    same = (
        job
        for job in found.get(new.spec_digest, ())
        if pinned in (None, job.dataset_digest) and job.engine_version == new.engine_version
    )
    return next(same, None)


def _raise_leader_priority(session: Session, leader: str, rank: float) -> None:
    """Let a queued job go no later than a job of that rank, which waits for it."""
    later = (
        JobRow.id == leader,
        JobRow.state == JobState.queued.value,
        JobRow.rank > rank,
    )
    session.execute(update(JobRow).where(*later).values(rank=rank))


def _insert_answered(session: Session, new: NewJobRow, result: JobRow, now: float) -> None:
    columns = {**_columns_at(new, now), **columns_of_answer(result)}
    session.execute(insert(JobRow).values(**columns, finished_at=now, last_event=2))
    ended = [
        _event(new.id, seq, kind, JobState.succeeded, now)
        for seq, kind in ((1, "state"), (2, "end"))
    ]
    session.execute(insert(EventRow), ended)
    enqueue_deliveries(session, [new.id], JobState.succeeded)
    copy_result(session, result.id, new.id)


def columns_of_answer(source: JobRow) -> dict[str, Any]:
    """The columns of a job that shares the result of `source`."""
    return {
        "state": JobState.succeeded.value,
        "cached_from": source.cached_from or source.id,
        "dataset_digest": source.dataset_digest,
        "device_class": source.device_class,
        "provenance": source.provenance,
        "fraction": 1.0,
        "message": "answered from an earlier result",
    }


def _event(job_id: str, seq: int, kind: str, state: JobState, now: float) -> dict[str, Any]:
    return {"job_id": job_id, "seq": seq, "type": kind, "at": now, "data": {"state": state.value}}


def copy_result(session: Session, source: str, target: str) -> None:
    """Give a job the result and rows of another."""
    # the target may have rows of an attempt of its own that did not end
    session.execute(delete(CurveRow).where(CurveRow.job_id == target))
    session.execute(
        insert(ResultRow).from_select(
            ["job_id", "document"], _columns_of(ResultRow, source, target, ResultRow.document)
        )
    )
    rows = _columns_of(CurveRow, source, target, CurveRow.key, CurveRow.data).order_by(CurveRow.id)
    session.execute(insert(CurveRow).from_select(["job_id", "key", "data"], rows))


def _columns_of(
    table: type[ResultRow | CurveRow],
    source: str,
    target: str,
    *columns: InstrumentedAttribute[Any],
) -> Select[Any]:
    return select(literal(target), *columns).where(table.job_id == source)
