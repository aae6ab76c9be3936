"""Jobs in a store, brought to where a test needs them."""

from collections.abc import Sequence

from sqlalchemy import update

from ffengine.results import (
    CheckCell,
    EpochRow,
    ForecastPoint,
    ForecastResult,
    RunResult,
    TrainResult,
)
from ffengine.spec import RunSpec, StudySpec, TrainSpec
from ffengine.study import expand
from service.jobs import Job, JobError, Progress
from service.schemas import WorkerInfo
from service.store import NewJob, Store, UploadDraft
from service.store.tables import JobRow, now_seconds
from tests.service.samples import train_result

LEASE = 30.0
HALF = Progress(fraction=0.5, message="half way", eta_seconds=2.0)
ERROR = JobError(code="out_of_memory", title="Too large", detail="Ask for less.")
QUEUE_LIMIT = 100
TRAIN = TrainSpec(epochs=2)
STUDY = StudySpec.model_validate({"base": {"kind": "train"}, "grid": {"epochs": [1, 2, 3]}})


def submit(store: Store, spec: RunSpec | StudySpec = TRAIN, **fields: object) -> Job:
    order = NewJob.model_validate({"spec": spec, **fields})
    return store.jobs.submit(
        order, expand(spec) if isinstance(spec, StudySpec) else (), max_queued=QUEUE_LIMIT
    ).job


def claimed(store: Store, job: Job | None = None) -> tuple[str, int]:
    claim = store.queue.claim((job or submit(store)).id, "w1", LEASE)
    assert claim is not None
    return claim.job_id, claim.attempt


def read(store: Store, job_id: str) -> Job:
    job = store.jobs.get(job_id)
    assert job is not None
    return job


def worker_info(name: str = "w", **changes: object) -> WorkerInfo:
    """What a worker of one CPU says of itself."""
    plain: dict[str, object] = {
        "id": name,
        "host": "box",
        "pid": 1,
        "device": "cpu",
        "device_name": None,
        "memory_bytes": None,
        "version": "0",
        "job": None,
    }
    return WorkerInfo.model_validate(plain | changes)


def upload_draft(name: str, digest: str) -> UploadDraft:
    """What the database is to know of an uploaded data set."""
    return UploadDraft(
        kind="dataset",
        name=name,
        digest=digest,
        file_digest=digest[::-1],
        file_bytes=1,
        uploaded_by=None,
        facts={"name": name, "digest": digest},
    )


def losses(store: Store, job_id: str) -> int:
    """How many attempts of a job were lost."""
    with store.database.reading() as session:
        return session.get_one(JobRow, job_id).losses


def let_lease_run_out(store: Store, job_id: str) -> None:
    with store.database.writing() as session:
        session.execute(
            update(JobRow).where(JobRow.id == job_id).values(lease_until=now_seconds() - 1)
        )


def history(store: Store, job_id: str) -> list[str]:
    events = store.events.of(job_id, after=0, limit=1000)
    assert [event.id for event in events] == list(range(1, len(events) + 1)), (
        "events are numbered from 1 without gaps"
    )
    return [
        f"{event.type} {event.data['state']}" if "state" in event.data else event.type
        for event in events
    ]


def end(store: Store, job: Job, *, well: bool) -> None:
    job_id, attempt = claimed(store, job)
    if well:
        store.queue.finish(job_id, attempt, train_result())
    else:
        store.queue.fail(job_id, attempt, ERROR)


def finished(store: Store, job_id: str, result: RunResult) -> None:
    """Let a job succeed, as a worker would."""
    claim = store.queue.claim(job_id, "w", LEASE)
    assert claim is not None
    if isinstance(result, ForecastResult):
        rows: Sequence[EpochRow | CheckCell | ForecastPoint] = result.points
    else:
        rows = result.curves if isinstance(result, TrainResult) else result.cells
    store.queue.record(job_id, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    store.queue.finish(job_id, claim.attempt, result)


def aged(store: Store, job_id: str, days: float) -> str:
    with store.database.writing() as session:
        session.execute(
            update(JobRow)
            .where(JobRow.id == job_id)
            .values(finished_at=now_seconds() - days * 86_400)
        )
    return job_id


def ended(store: Store, epochs: int, days: float, **fields: object) -> str:
    """A job that succeeded `days` days ago."""
    job = submit(store, TrainSpec(epochs=epochs), **fields)
    end(store, job, well=True)
    return aged(store, job.id, days)


def set_values(store: Store, job_id: str, **values: object) -> None:
    """Give the columns of a job other values, as another version or time left them."""
    with store.database.writing() as session:
        session.execute(update(JobRow).where(JobRow.id == job_id).values(**values))
