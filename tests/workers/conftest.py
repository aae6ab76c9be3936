"""A real database and artifact store in a temporary home, and jobs in them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ffengine.spec import CheckSpec, ForecastSpec, TrainSpec
from service.artifacts import Artifacts
from service.settings import Settings
from service.store import Claim, NewJob, Store
from tests.workers.jobs import WORKER, ClaimJob, worker_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return worker_settings(tmp_path)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    opened = Store(settings.database)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def artifacts(settings: Settings) -> Artifacts:
    return Artifacts(settings.artifact_place)


@pytest.fixture
def submit(store: Store) -> Callable[[TrainSpec | CheckSpec | ForecastSpec], str]:
    """Put a job into the queue."""
    return lambda spec: store.jobs.submit(NewJob(spec=spec, fresh=True), max_queued=100).job.id


@pytest.fixture
def claim(
    store: Store, submit: Callable[[TrainSpec | CheckSpec | ForecastSpec], str], settings: Settings
) -> ClaimJob:
    """Submit a job and claim it."""

    def submitted(spec: TrainSpec | CheckSpec | ForecastSpec) -> Claim:
        claimed = store.queue.claim(submit(spec), WORKER, settings.lease_seconds)
        assert claimed is not None
        return claimed

    return submitted
