"""The queue's mode, and what the worker's command refuses."""

import argparse
import io
from contextlib import closing
from unittest.mock import MagicMock

import pytest
from pydantic import SecretStr

from ffengine.spec import TrainSpec
from service.artifacts import Artifacts
from service.background.dispatcher import QUEUE, TASK
from service.background.shared_uploads import SharedUploads
from service.host.stay import FOR_EVER
from service.jobs import JobError, Progress
from service.settings import Settings
from service.store import NewJob, Store
from tests.service.arrays import X, Y, npz
from workers.__main__ import device
from workers.app import NoBroker, WorkerSlot, configuration, create_app


@pytest.fixture
def with_broker(settings: Settings) -> Settings:
    return settings.model_copy(update={"redis_url": SecretStr("redis://:secret@127.0.0.1:1/0")})


def test_nothing_depends_on_delivery(with_broker: Settings) -> None:
    app = create_app(with_broker, "cpu")
    assert TASK in app.tasks
    assert app.conf.task_default_queue == QUEUE
    assert app.conf.task_acks_late is False
    assert app.conf.task_ignore_result is True
    assert app.conf.result_backend is None
    assert app.conf.accept_content == ["json"]
    assert app.conf.worker_disable_prefetch is True
    assert app.conf.worker_concurrency == 1
    assert app.conf.broker_connection_max_retries is None


def test_a_worker_without_a_broker_says_what_to_set(settings: Settings) -> None:
    with pytest.raises(NoBroker, match=r"FFLAB_REDIS_URL is not set.* `fflab up`") as refused:
        configuration(settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["auto", "cpu", "cuda:0", "cuda:11"])
def test_devices_are_known_by_form(text: str) -> None:
    assert device(text) == text


@pytest.mark.parametrize("text", ["cuda", "gpu", "cuda:x", "cpu;", ""])
def test_other_devices_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="cuda:N"):
        device(text)


def test_a_job_that_is_retried_on_other_arrays_goes_on_from_no_checkpoint(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = MagicMock()
    monkeypatch.setattr("workers.app.Supervisor", supervisor)
    monkeypatch.setattr("workers.app.HeartbeatThread", MagicMock())
    WorkerSlot(settings, "cpu", MagicMock(), FOR_EVER).open()
    queue = supervisor.call_args.args[0]
    datasets = settings.datasets
    before = datasets.keep("mine", io.BytesIO(npz(x=X, y=Y)))
    artifacts = Artifacts(settings.artifact_place)
    spec = TrainSpec.model_validate({"dataset": {"name": "mine"}})
    with closing(Store(settings.database, datasets)) as store:
        store.migrate()
        shared = SharedUploads(store, artifacts, settings)
        shared.take_up()
        job_id = store.jobs.submit(NewJob(spec=spec), max_queued=9).job.id
        first = queue.claim(job_id, "w", 60.0)
        queue.record(
            job_id,
            first.attempt,
            lease_seconds=60.0,
            progress=Progress(fraction=0.5, message="half", eta_seconds=None),
            checkpoint="step.safetensors",
        )
        queue.fail(job_id, first.attempt, JobError(code="x", title="x", detail="x"))
        store.actions.retry(job_id)
        queue.finish_stopped(job_id, queue.claim(job_id, "w", 60.0).attempt)
        assert queue.latest_checkpoint(job_id) == "step.safetensors", "the same arrays: it goes on"
        datasets.remove("mine")
        shared.forget("dataset", "mine")
        assert datasets.keep("mine", io.BytesIO(npz(x=255 - X, y=Y))).digest != before.digest
        shared.take_up()
        queue.claim(job_id, "w", 60.0)
        assert queue.latest_checkpoint(job_id) is None
    queue._database.close()
