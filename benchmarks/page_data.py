"""What the pages are measured with: a list of thousands of jobs and a study of hundreds of runs,
put into the database of a service that is not running; one job with as many charts as there are.
"""

import math
from collections.abc import Sequence
from typing import Any

from pydantic import JsonValue
from sqlalchemy import insert, update
from sqlalchemy.orm import Session

import ffengine
from ffengine.results import TrainResult
from ffengine.spec import StudySpec, TrainSpec
from ffengine.study import expand
from service.artifacts import Artifacts
from service.settings import Settings
from service.store import NewJob, Store
from service.store.curve_rows import insert_rows
from service.store.database import Database
from service.store.identity import prepare, settle
from service.store.inserts import draft
from service.store.tables import JobRow, ResultRow

LISTED = 2_000
SECONDS_BETWEEN = 60.0  # from one job of the list to the next
RUNS = (10, 10, 3)  # step sizes, widths and batch sizes of the study
SMALL: dict[str, Any] = {
    "kind": "train",
    "dataset": {"name": "digits"},
    "network": {"widths": [16]},
    "epochs": 3,
    "monitor": {"samples": 100},
}
STUDY = StudySpec.model_validate(
    {
        "base": SMALL,
        "grid": {
            "optimizer.lr": [0.001 * 2**power for power in range(RUNS[0])],
            "network.widths": [[8 * (place + 1)] for place in range(RUNS[1])],
            "batch_size": [50 * (place + 1) for place in range(RUNS[2])],
        },
    }
)
# layers by the panel, and all that is measured on the way
DEEP: dict[str, JsonValue] = {
    "kind": "train",
    "dataset": {"name": "digits"},
    "network": {"widths": [48, 48, 48, 48, 48, 48]},
    "epochs": 10,
    "seeds": [0, 1],
    "monitor": {"samples": 200, "decomposition": [0, 5, 10]},
}
SUCCEEDED = {"state": "succeeded", "fraction": 1.0, "message": "done", "device_class": "cpu"}
STOPPED = {"fraction": 0.5, "message": "epoch 2 of 3", "device_class": "cpu"}
STATES = ("succeeded",) * 17 + ("cancelled", "failed", "cancelled")


def fill(settings: Settings) -> str:
    """Make the list and the study; the id of the study."""
    result = ffengine.train(TrainSpec.model_validate(SMALL))
    artifacts = Artifacts(settings.artifact_place)
    with Store(settings.database, settings.datasets) as store:
        prepare(store, artifacts)
        settle(store, artifacts)
        study = _study(store, result)
        _list(store, result)
    return study


def _study(store: Store, result: TrainResult) -> str:
    """A study of hundreds of runs, all of which have succeeded."""
    order = NewJob(spec=STUDY, name="step size, width and batch", tags=["measured"])
    job = store.jobs.submit(order, expand(STUDY), max_queued=1_000_000).job
    while store.studies.create_next_runs(job.id):
        pass
    runs = [run.id for run, _ in store.jobs.children(job.id)]
    with store.database.writing() as session:
        ended = {"started_at": JobRow.queued_at, "finished_at": JobRow.queued_at + 2}
        query = update(JobRow).where(JobRow.parent_id == job.id)
        session.execute(query.values(**SUCCEEDED, **ended, version=JobRow.version + 1))
        _insert_results(session, runs, result)
    return job.id


def _insert_results(session: Session, jobs: Sequence[str], result: TrainResult) -> None:
    """Give each job a result and rows of its own."""
    for number, id_ in enumerate(jobs):
        own = varied(result, number)
        session.execute(insert(ResultRow).values(job_id=id_, document=own.model_dump_json()))
        insert_rows(session, id_, own.curves)


def varied(result: TrainResult, number: int) -> TrainResult:
    """The result with other figures, so that no two runs are alike."""
    part = 0.5 + 0.5 * math.sin(number / 7)
    rows = tuple(
        row.model_copy(update={"sparsity": (row.sparsity or 0.0) * part, "goodness": part})
        for row in result.curves
    )
    accuracy = tuple(
        row.model_copy(update={"accuracy": (row.accuracy or 0.0) * part}) for row in result.accuracy
    )
    return result.model_copy(update={"curves": rows, "accuracy": accuracy})


def _list(store: Store, result: TrainResult) -> None:
    """Thousands of jobs that have ended, with their rows and results, in one transaction."""
    with store.database.writing() as session:
        now = Database.now(session)
        jobs = [_job(number, now) for number in range(LISTED)]
        session.execute(insert(JobRow), jobs)
        done = [job["id"] for job in jobs if job["state"] == "succeeded"]
        _insert_results(session, done, result)


def _job(number: int, now: float) -> dict[str, Any]:
    """The columns of a job of the list: each has another spec, and all states occur."""
    spec = SMALL | {"network": {"widths": [8 + number % 500]}, "seeds": [number]}
    order = NewJob(
        spec=TrainSpec.model_validate(spec),
        name=f"a run of the list, number {number}",
        tags=[f"week-{number % 7}"],
        project=f"project {number % 5}",
    )
    state = STATES[number % len(STATES)]
    at = now - SECONDS_BETWEEN * (LISTED - number)
    times = {"created_at": at, "queued_at": at, "started_at": at + 1, "finished_at": at + 30}
    error = {"code": "diverged", "title": "It diverged", "detail": "Choose a smaller lr."}
    return {
        **draft(order).columns(),
        **times,
        "rank": 0.0,
        **(SUCCEEDED if state == "succeeded" else STOPPED | {"state": state}),
        "error": error if state == "failed" else None,
    }
