"""A service with something of everything, for programs that try all of its addresses: jobs of
each kind in each state with real figures, messages to a webhook, and uploaded data sets.
"""

import io
from functools import cache
from typing import NamedTuple

import numpy as np

import ffengine
from ffengine.checking import CellsReport
from ffengine.interrupts import Control
from ffengine.margin_files import write_margins
from ffengine.results import RunResult, TrainResult
from ffengine.spec import CheckSpec, RunSpec, StudySpec, TrainSpec
from ffengine.training import EpochReport
from service.artifacts import Artifacts, epoch_name, margins_name
from service.jobs import Webhook
from service.results.charts import CHARTS, FORMATS
from service.settings import Settings
from service.store import Store
from service.store.identity import prepare, settle
from tests.factories import ERROR, HALF, read, submit

DATA = {"name": "digits", "train_samples": 200, "test_samples": 50}
TRAIN = TrainSpec.model_validate(
    {"dataset": DATA, "network": {"widths": [8, 8]}, "epochs": 2, "batch_size": 50}
)
CHECK = CheckSpec.model_validate(
    {"dataset": DATA, "widths": [8], "samples": 50, "batch_size": 25, "seeds": [0]}
)
STUDY = StudySpec.model_validate(
    {
        "base": {"kind": "train", "dataset": DATA, "network": {"widths": [8]}, "epochs": 1},
        "grid": {"batch_size": [50, 100]},
    }
)
LEASE_SECONDS = 86_400.0  # what runs goes on running
UNHEARD = "http://127.0.0.1:9/"  # nobody listens at the port for discarding


class Ran(NamedTuple):
    """What a run has made: its result and its files."""

    result: RunResult
    files: dict[str, bytes]


class Furnished(NamedTuple):
    """The names of what is there."""

    jobs: list[str]
    datasets: list[str]
    deliveries: list[str]

    @property
    def charts(self) -> list[str]:
        """The names of all charts in all formats."""
        return [f"{name}.{ending}" for name in CHARTS for ending in FORMATS]


def furnish(settings: Settings, copies: int) -> Furnished:
    """Put so many of each into the database and the home of a service that is not running."""
    store = Store(settings.database, settings.datasets)
    artifacts = Artifacts(settings.artifact_place)
    try:
        prepare(store, artifacts)
        settle(store, artifacts)
        jobs = [job for _ in range(copies) for job in _jobs(store, artifacts)]
        datasets = ["digits", "mnist-mini", *(_upload(settings, n) for n in range(copies))]
        deliveries = [one.id for job in jobs for one in store.deliveries.of(job)]
    finally:
        store.close()
    return Furnished(jobs, datasets, deliveries)


@cache
def _ran(spec: RunSpec) -> Ran:
    files: dict[str, bytes] = {}

    def keep_cells(report: CellsReport) -> Control:
        first = report.cells[0]
        files[margins_name(first.seed, first.width)] = write_margins(report.margins)
        return "run"

    def keep_epoch(report: EpochReport) -> Control:
        files[epoch_name(report.layers[-1], report.epoch)] = report.checkpoint.to_bytes()
        return "run"

    if isinstance(spec, TrainSpec):
        return Ran(ffengine.train(spec, on_epoch=keep_epoch), files)
    return Ran(ffengine.check(spec, on_cells=keep_cells), files)


def _jobs(store: Store, artifacts: Artifacts) -> list[str]:
    """One job of each kind in each state."""
    webhook = Webhook(url=UNHEARD)
    waits, paused, runs, failed, cancelled, trained, checked = (
        submit(store, spec, fresh=True, name=f"a job that {does}", tags=["furniture"]).id
        for spec, does in (
            *((TRAIN, does) for does in ("waits", "pauses", "runs", "failed", "was cancelled")),
            (TRAIN, "has trained"),
            (CHECK, "has checked"),
        )
    )
    told = submit(store, TRAIN, fresh=True, webhook=webhook).id
    study = submit(store, STUDY, fresh=True, webhook=webhook).id
    store.actions.pause(paused)
    store.actions.cancel(cancelled)
    _begin(store, runs)
    store.queue.fail(failed, _begin(store, failed), ERROR)
    parts = [part.id for part, _ in store.jobs.children(study)]
    for job in (trained, checked, told, *parts):
        _end(store, artifacts, job)
    return [waits, paused, runs, failed, cancelled, trained, checked, told, study, *parts]


def _begin(store: Store, job_id: str) -> int:
    """Claim a job and measure the first of its rows; the attempt."""
    claim = store.queue.claim(job_id, "a-worker", LEASE_SECONDS)
    assert claim is not None
    store.queue.record(
        job_id,
        claim.attempt,
        lease_seconds=LEASE_SECONDS,
        progress=HALF,
        rows=_rows(_ran(claim.spec).result),
    )
    return claim.attempt


def _end(store: Store, artifacts: Artifacts, job_id: str) -> None:
    spec = read(store, job_id).spec
    assert not isinstance(spec, StudySpec)
    ran = _ran(spec)
    attempt = _begin(store, job_id)
    for name, content in ran.files.items():
        artifacts.put(job_id, name, content)
    store.queue.finish(job_id, attempt, ran.result)


def _rows(result: RunResult) -> tuple[ffengine.results.EpochRow | ffengine.results.CheckCell, ...]:
    return result.curves if isinstance(result, TrainResult) else result.cells


def _upload(settings: Settings, number: int) -> str:
    draw = np.random.default_rng(number)
    archive = io.BytesIO()
    np.savez(archive, x=draw.random((40, 6), np.float32), y=np.arange(40) % 4)
    archive.seek(0)
    return settings.datasets.keep(f"upload-{number}", archive).name
