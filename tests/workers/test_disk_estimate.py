"""The estimated bytes of a job against what lies on the disk and in the database afterwards."""

import re
from typing import Any

import pytest

from ffengine.cost import DiskBytes, Limits, estimate, exceeded_limits
from ffengine.spec import StudySpec, Submission
from ffengine.study import expand
from service.artifacts import Artifacts
from service.jobs import JobState, NewJob
from service.settings import Settings
from service.store import Store
from tests.postgres import PostgresServer, need_postgres
from tests.workers.jobs import WORKER
from workers.protocol import Start
from workers.runner import Runner

# An estimate is at most so much below what is there, and at most so many times as large: the
# states of the optimiser go when a run has succeeded, and figures have fewer digits than they may.
LEAST, MOST = 0.9, 3.0
DATA = {"train_samples": 200, "test_samples": 100}
TRAIN: dict[str, Any] = {
    "kind": "train",
    "dataset": DATA,
    "network": {"widths": [24]},
    "epochs": 12,
    "batch_size": 100,
    "monitor": {"samples": 50},
}
CHECK: dict[str, Any] = {
    "kind": "check",
    "dataset": DATA,
    "theorem": 2,
    "widths": [8, 16, 32],
    "samples": 150,
    "batch_size": 50,
    "seeds": [0, 1, 2],
}
SPECS: dict[str, dict[str, Any]] = {
    "sgd, several seeds": {**TRAIN, "seeds": [0, 1, 2, 3]},
    "adam, several layers, bias": {
        **TRAIN,
        "network": {"widths": [24, 16, 8], "bias": True},
        "optimizer": {"name": "adam", "lr": 0.01},
        "seeds": [0, 1],
    },
    "adam, together, few epochs measured": {
        **TRAIN,
        "network": {"widths": [24, 16]},
        "layers": "simultaneous",
        "optimizer": {"name": "adam", "lr": 0.01},
        "epochs": 40,
        "monitor": {"samples": 50, "every_epochs": 7},
    },
    "everything evaluated": {
        **TRAIN,
        "dataset": {**DATA, "validation_samples": 50},
        "evaluation": {
            "linear_classifier": True,
            "ensembles": True,
            "baselines": ["cross_entropy", "ff_objective"],
        },
        "seeds": [0, 1],
    },
    "baselines that are tuned": {
        **TRAIN,
        "dataset": {**DATA, "validation_samples": 50},
        "evaluation": {
            "baselines": [
                {"name": "greedy_cross_entropy", "rates": [0.1, 0.2, 0.3, 0.4, 0.5], "epochs": 2},
                {"name": "deep_supervision", "select": "best_validation"},
                {"name": "cross_entropy", "optimizer": {"name": "adam"}, "rates": [0.1, 0.01]},
            ]
        },
        "seeds": [0, 1],
    },
    "margins split by who pushes": {
        **TRAIN,
        "monitor": {"samples": 50, "decomposition": list(range(0, 12, 2))},
        "seeds": [0, 1, 2],
    },
    "check of both splits": CHECK,
    "check that is split by who pushes": {**CHECK, "decomposition": True},
    "check of all samples": {**CHECK, "theorem": 1, "samples": None, "batch_size": None},
    "forecast": {
        "kind": "forecast",
        "dataset": DATA,
        "units": 24,  # its one checkpoint goes when it has succeeded
        "blocks": 12,
        "batch_size": 50,
        "samples": 100,
        "epochs": 30,
    },
    "study of trainings": {
        "kind": "study",
        "base": TRAIN,
        "grid": {"optimizer.lr": [0.1, 0.2, 0.3], "seeds": [[0], [1]]},
    },
    "study of layers that learn together": {
        "kind": "study",
        "base": {**TRAIN, "network": {"widths": [12, 8, 8]}, "layers": "simultaneous"},
        "grid": {"epochs": [1, 2], "seeds": [[0, 1, 2], [3, 4, 5]]},
    },
    "study of forecasts": {
        "kind": "study",
        "base": {
            "kind": "forecast",
            "dataset": DATA,
            "units": 16,
            "blocks": 4,
            "batch_size": 50,
            "samples": 100,
            "epochs": 60,
        },
        "grid": {"units": [8], "optimizer.lr": [0.01, 0.02]},  # checkpoints go with success
    },
    "study of checks": {
        "kind": "study",
        "base": {**CHECK, "methods": ["exact"]},
        "grid": {"samples": [50, 100], "seeds": [[number] for number in range(8)]},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("document", SPECS.values(), ids=SPECS)
def test_a_job_leaves_the_bytes_that_were_estimated(
    document: dict[str, Any], settings: Settings, store: Store, artifacts: Artifacts
) -> None:
    empty = database_bytes(settings, store)
    spec = Submission.model_validate({"spec": document}).spec
    expected = estimate(spec, datasets=settings.datasets).disk_bytes
    run(NewJob(spec=spec, fresh=True), settings, store, artifacts)
    found = DiskBytes(
        checkpoints=files(settings, "*.safetensors"),
        margins=files(settings, "*.npz"),
        database=database_bytes(settings, store) - empty,
    )
    for part in ("checkpoints", "margins", "database", "total"):
        there, said = getattr(found, part), getattr(expected, part)
        assert LEAST * there <= said, f"{part}: {said:,} estimated, {there:,} found"
        assert said <= MOST * there or said - there < 100_000, f"{part}: {said:,}, {there:,} found"


@pytest.mark.slow
def test_on_postgresql_the_estimate_of_the_database_holds_too(
    settings: Settings, artifacts: Artifacts
) -> None:
    need_postgres()
    with PostgresServer() as server, Store(server.url) as store:
        store.migrate()
        before = store.database.size_bytes()
        expected = 0
        for name in ("sgd, several seeds", "check of both splits", "study of trainings"):
            spec = Submission.model_validate({"spec": SPECS[name]}).spec
            expected += estimate(spec, datasets=settings.datasets).disk_bytes.database
            run(NewJob(spec=spec, fresh=True), settings, store, artifacts)
        found = store.database.size_bytes() - before
        assert LEAST * found <= expected <= MOST * found


def run(job: NewJob, settings: Settings, store: Store, artifacts: Artifacts) -> None:
    """Run a job, and the runs of a study, as workers and the reconciler do."""
    spec = job.spec
    cells = expand(spec) if isinstance(spec, StudySpec) else ()
    job_id = store.jobs.submit(job, cells, max_queued=100).job.id
    runner = Runner(store, artifacts, settings, "cpu")
    while claim := store.queue.claim_next(WORKER, settings.lease_seconds):
        runner.run(Start(job_id=claim.job_id, attempt=claim.attempt, spec=claim.spec))
        if cells:
            store.studies.advance(job_id)
    ended = store.jobs.get(job_id)
    assert ended is not None
    assert ended.state == JobState.succeeded, ended.error


def files(settings: Settings, pattern: str) -> int:
    return sum(path.stat().st_size for path in settings.artifact_place.rglob(pattern))


def database_bytes(settings: Settings, store: Store) -> int:
    """The size of the file of SQLite, with what was written last."""
    with store.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return (settings.root / "fflab.db").stat().st_size


def test_a_job_that_would_fill_the_disk_is_too_large() -> None:
    document = {**TRAIN, "network": {"widths": [4096]}, "epochs": 100_000}
    spec = Submission.model_validate({"spec": document}).spec
    (problem,) = estimate(spec).problems
    assert problem == (
        "needs about 1.2 TiB of disk, 1.2 TiB of them for checkpoints; the limit is 32.0 GiB: "
        "measure fewer epochs (monitor.every_epochs), or train fewer seeds or narrower layers"
    )


@pytest.mark.parametrize(
    ("disk", "advice"),
    [
        (DiskBytes(checkpoints=3, margins=2, database=1), "or train fewer seeds"),
        (DiskBytes(margins=3, database=1), "check fewer samples, widths or seeds"),
        (DiskBytes(database=1), r"measure fewer epochs \(monitor.every_epochs\) or seeds"),
    ],
)
def test_the_problem_says_what_to_ask_less_of(disk: DiskBytes, advice: str) -> None:
    (problem,) = exceeded_limits(Limits(disk_bytes=0), 0, 0, disk)
    assert re.search(advice, problem)


def test_the_runs_of_a_study_count_together() -> None:
    grid = {"seeds": [[number] for number in range(50)]}
    spec = Submission.model_validate({"spec": {"kind": "study", "base": TRAIN, "grid": grid}}).spec
    one = estimate(Submission.model_validate({"spec": TRAIN}).spec).disk_bytes.total
    limits = Limits(disk_bytes=10 * one)
    (problem,) = estimate(spec, limits).problems
    assert "of disk" in problem
    assert estimate(Submission.model_validate({"spec": TRAIN}).spec, limits).problems == []
