"""The runner, as the program that it is: jobs go in, rows, checkpoints and results come out."""

import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel

import ffengine
from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from ffengine.datasets import Datasets
from ffengine.results import CheckResult, ForecastPoint, ForecastResult, TrainResult
from ffengine.spec import (
    CheckSpec,
    DatasetSpec,
    NetworkSpec,
    Sgd,
    TrainedWeights,
    TrainSpec,
    UploadedWeights,
)
from ffengine.uploaded_weights import Description, WeightUploads
from ffengine.weights import Weights, export_weights
from service.artifacts import Artifacts, epoch_name
from service.jobs import Job, JobState
from service.settings import Settings
from service.store import Claim, Store
from tests.service.arrays import X, Y, npz
from tests.workers.jobs import CHECK, FORECAST, TRAIN, WORKER, ClaimJob, worker_settings
from workers.attempt import STEP
from workers.process import RunnerProcess, runner_command
from workers.protocol import Outcome, Start, Stop

pytestmark = pytest.mark.slow

# One runner for all tests, as in life: it takes seconds to load torch, and a job leaves nothing
# behind that the next one meets


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return worker_settings(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def store(settings: Settings) -> Iterator[Store]:
    with closing(Store(settings.database)) as opened:
        opened.migrate()
        yield opened


@pytest.fixture(scope="module")
def runner(settings: Settings) -> Iterator[RunnerProcess]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FFLAB_")]:
            patch.delenv(name)
        patch.setenv("FFLAB_HOME", str(settings.home))
        process = RunnerProcess(runner_command("cpu"))
    yield process
    process.close(PATIENCE_SECONDS)


def outcome(runner: RunnerProcess, claim: Claim) -> Outcome:
    runner.send(Start(job_id=claim.job_id, attempt=claim.attempt, spec=claim.spec))
    return ended(runner, claim)


def ended(runner: RunnerProcess, claim: Claim) -> Outcome:
    message = runner.wait_for_end(PATIENCE_SECONDS)
    assert message is not None
    assert (message.job_id, message.attempt) == (claim.job_id, claim.attempt)
    return message.outcome


def job_of(store: Store, claim: Claim) -> Job:
    job = store.jobs.get(claim.job_id)
    assert job is not None
    return job


def test_one_runner_computes_one_job_after_the_other(
    runner: RunnerProcess, store: Store, claim: ClaimJob
) -> None:
    training, check = claim(TRAIN), claim(CHECK)
    assert outcome(runner, training) == "succeeded"
    trained = TrainResult.model_validate_json(store.jobs.result(training.job_id) or "")
    assert trained.curves == ffengine.train(TRAIN).curves
    assert job_of(store, training).provenance == trained.provenance

    assert outcome(runner, check) == "succeeded"
    assert (
        CheckResult.model_validate_json(store.jobs.result(check.job_id) or "").cells
        == ffengine.check(CHECK).cells
    )

    at = TrainedWeights(job=training.job_id, epoch=2)
    later = claim(CHECK.model_copy(update={"at": at, "seeds": (0,)}))
    assert outcome(runner, later) == "succeeded"
    cells = CheckResult.model_validate_json(store.jobs.result(later.job_id) or "").cells
    assert {(cell.width, cell.epoch) for cell in cells} == {(16, 2)}

    assert runner.ready is not None
    assert runner.ready.device == "cpu"


def forecast_of(store: Store, claimed: Claim) -> ForecastResult:
    return ForecastResult.model_validate_json(store.jobs.result(claimed.job_id) or "")


def test_a_forecast_reports_what_the_engine_computes(
    runner: RunnerProcess, store: Store, claim: ClaimJob
) -> None:
    claimed = claim(FORECAST)
    assert outcome(runner, claimed) == "succeeded", job_of(store, claimed).error
    found, expected = forecast_of(store, claimed), ffengine.forecast(FORECAST)
    assert found.rows == expected.rows
    assert found.points == expected.points
    assert (found.onset, found.epochs_needed) == (expected.onset, expected.epochs_needed)
    stored = [ForecastPoint.model_validate(row) for row in store.jobs.rows(claimed.job_id)]
    assert tuple(stored) == expected.points
    assert job_of(store, claimed).provenance == found.provenance


@pytest.mark.slow
def test_a_forecast_that_was_stopped_goes_on_with_the_same_bits(
    runner: RunnerProcess, store: Store, claim: ClaimJob
) -> None:
    slow = Sgd(lr=1e-3, scale_lr_by_width=False)
    changes = {"epochs": 400, "every_epochs": 10, "batch_size": 20, "optimizer": slow}
    spec = FORECAST.model_copy(update=changes)
    claimed = claim(spec)
    runner.send(Start(job_id=claimed.job_id, attempt=claimed.attempt, spec=spec))
    wait_until(lambda: len(list(store.jobs.rows(claimed.job_id))) >= 4, PATIENCE_SECONDS)
    runner.send(Stop(save_checkpoint=True))
    assert ended(runner, claimed) == "stopped"
    assert store.queue.latest_checkpoint(claimed.job_id)
    assert outcome(runner, claimed) == "succeeded", job_of(store, claimed).error
    found, expected = forecast_of(store, claimed), ffengine.forecast(spec)
    assert found.points == expected.points
    assert found.rows == expected.rows
    log = " ".join(str(event.data) for event in store.events.of(claimed.job_id, after=0, limit=999))
    assert "resumed at epoch" in log


def test_weights_of_every_layer_are_found(
    runner: RunnerProcess, store: Store, claim: ClaimJob
) -> None:
    for layers in ("greedy", "simultaneous"):
        spec = TRAIN.model_copy(
            update={"network": NetworkSpec(widths=(16, 12)), "layers": layers, "epochs": 1}
        )
        training = claim(TrainSpec.model_validate(spec.model_dump()))
        assert outcome(runner, training) == "succeeded"
        for layer, width in enumerate((16, 12)):
            at = TrainedWeights(job=training.job_id, epoch=1, layer=layer)
            checked = claim(CHECK.model_copy(update={"at": at, "seeds": (0,)}))
            assert outcome(runner, checked) == "succeeded", job_of(store, checked).error
            cells = CheckResult.model_validate_json(store.jobs.result(checked.job_id) or "").cells
            assert {(cell.layer, cell.width) for cell in cells} == {(layer, width)}


def test_uploaded_weights_are_checked_with_the_bits_of_the_job_that_trained_them(
    runner: RunnerProcess, store: Store, claim: ClaimJob, settings: Settings
) -> None:
    training = claim(TRAIN)
    assert outcome(runner, training) == "succeeded"
    data = Artifacts(settings.artifact_place).get(training.job_id, epoch_name(0, 2))
    file = export_weights(Weights.from_checkpoint(data, TRAIN, 2))
    kept = WeightUploads(settings.datasets)
    facts = kept.keep("mine", io.BytesIO(file), Description())
    names = (TrainedWeights(job=training.job_id, epoch=2), UploadedWeights(weights="mine"))
    found = []
    for at in names:
        checked = claim(CHECK.model_copy(update={"at": at, "seeds": (0,)}))
        assert outcome(runner, checked) == "succeeded", job_of(store, checked).error
        found.append(CheckResult.model_validate_json(store.jobs.result(checked.job_id) or ""))
    assert found[0].cells == found[1].cells
    stored = job_of(store, checked)
    assert stored.provenance
    assert stored.provenance.weights
    assert stored.provenance.weights.digest == facts.digest

    gone = claim(CHECK.model_copy(update={"at": names[1], "seeds": (0,), "samples": 30}))
    kept.remove("mine")
    assert outcome(runner, gone) == "failed"
    error = job_of(store, gone).error
    assert error is not None
    assert error.code == "weights_missing"


def test_failures_are_recorded_and_the_runner_goes_on(
    runner: RunnerProcess, store: Store, claim: ClaimJob, submit: Callable[..., str]
) -> None:
    wild = claim(
        TRAIN.model_copy(
            update={
                "network": NetworkSpec(widths=(16,), activation="squared_relu"),
                "optimizer": Sgd(lr=1e9, scale_lr_by_width=False),
                "epochs": 30,
            }
        )
    )
    assert outcome(runner, wild) == "failed"
    job = job_of(store, wild)
    assert job.error is not None
    assert job.error.code == "diverged"
    assert "optimizer.lr" in job.error.detail
    assert job.error.evidence["layer"] == 0
    assert store.jobs.rows(wild.job_id), "the curves up to that point stay"

    waiting = submit(TRAIN)
    absent = claim(
        CHECK.model_copy(update={"at": TrainedWeights(job=waiting, epoch=1), "seeds": (0,)})
    )
    assert outcome(runner, absent) == "failed"
    job = job_of(store, absent)
    assert job.error is not None
    assert job.error.code == "weights_missing"

    assert outcome(runner, claim(TRAIN)) == "succeeded"


def test_a_folder_of_artifacts_that_cannot_be_used_is_the_machines_fault(
    runner: RunnerProcess, store: Store, claim: ClaimJob, settings: Settings
) -> None:
    aside = settings.home / "aside"
    settings.artifact_place.mkdir(exist_ok=True)
    settings.artifact_place.rename(aside)
    settings.artifact_place.write_text("a file where a folder should be")
    claimed = claim(TRAIN)
    try:
        runner.send(Start(job_id=claimed.job_id, attempt=claimed.attempt, spec=claimed.spec))
        message = runner.wait_for_end(PATIENCE_SECONDS)
    finally:
        settings.artifact_place.unlink()
        aside.rename(settings.artifact_place)
    assert message is not None
    assert message.outcome == "unfit"
    assert message.reason is not None
    assert message.reason.startswith("NotADirectoryError: ")
    assert job_of(store, claimed).state == JobState.running, "its supervisor gives it back"


class OfANewerVersion(BaseModel):
    """A job whose spec has a field that this version does not know."""

    type: str = "start"
    job_id: str = "job_" + 32 * "0"
    attempt: int = 7
    spec: dict[str, object]


def test_a_job_that_it_cannot_read_is_answered(runner: RunnerProcess) -> None:
    runner.send(OfANewerVersion(spec=TRAIN.model_dump(mode="json") | {"of_tomorrow": 1}))
    message = runner.wait_for_end(PATIENCE_SECONDS)
    assert message is not None
    assert (message.attempt, message.outcome) == (7, "unfit")
    assert message.reason == (
        "its runner cannot read the job (start.spec.train.of_tomorrow: Extra inputs are not "
        "permitted); restart the worker"
    )


def test_sigterm_leaves_a_checkpoint_and_ends_the_runner(
    settings: Settings, store: Store, claim: ClaimJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("FFLAB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FFLAB_HOME", str(settings.home))
    asked = RunnerProcess(runner_command("cpu"))
    try:
        claimed = claim(long_run())
        asked.send(Start(job_id=claimed.job_id, attempt=claimed.attempt, spec=claimed.spec))
        wait_until(lambda: asked.began, "it begins")
        os.kill(asked.pid, signal.SIGTERM)
        assert ended(asked, claimed) == "stopped"
        assert store.queue.finish_stopped(claimed.job_id, claimed.attempt) == JobState.queued
        assert asked.exit_code() == 0
    finally:
        asked.close(PATIENCE_SECONDS)


def long_run() -> TrainSpec:
    return TRAIN.model_copy(update={"epochs": 100_000, "batch_size": 2})


def test_a_stop_leaves_a_checkpoint(
    runner: RunnerProcess, store: Store, artifacts: Artifacts, claim: ClaimJob
) -> None:
    claimed = claim(long_run())
    runner.send(Start(job_id=claimed.job_id, attempt=claimed.attempt, spec=claimed.spec))
    runner.send(Stop(save_checkpoint=True))
    assert ended(runner, claimed) == "stopped"
    assert job_of(store, claimed).state == JobState.running, (
        "what the stop means is the supervisor's to write"
    )
    assert STEP in artifacts.names(claimed.job_id) or store.queue.latest_checkpoint(claimed.job_id)


def test_a_stop_for_a_lost_lease_writes_nothing(
    runner: RunnerProcess, store: Store, artifacts: Artifacts, claim: ClaimJob
) -> None:
    claimed = claim(long_run())
    runner.send(Start(job_id=claimed.job_id, attempt=claimed.attempt, spec=claimed.spec))
    store.queue.lose(claimed.job_id, claimed.attempt, "a test", max_losses=9)
    again = store.queue.claim(claimed.job_id, WORKER, 60)
    assert again is not None
    runner.send(Stop(save_checkpoint=False))
    assert ended(runner, claimed) == "lost"
    assert STEP not in artifacts.names(claimed.job_id)


@pytest.mark.slow
def test_what_a_library_prints_does_not_disturb_the_protocol(
    settings: Settings, tmp_path: Path
) -> None:
    script = tmp_path / "noisy.py"
    script.write_text(
        "import os, sys\n"
        "from workers.runner import private_output, send\n"
        "from workers.protocol import Ready\n"
        "channel = private_output()\n"
        "print('noise'); os.write(1, b'more noise\\n')\n"
        "send(channel, Ready(device='cpu', device_name='x', memory_bytes=1))\n"
        "sys.stdin.read()\n"
    )
    noisy = RunnerProcess([*runner_command("cpu")[:1], str(script)])
    assert noisy.wait_for_end(0) is None
    noisy.close(PATIENCE_SECONDS)
    noisy._listener.join(PATIENCE_SECONDS)
    assert noisy.ready is not None


def test_auto_is_no_cpu_where_there_is_a_gpu_that_does_not_work(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("PyTorch can use the GPU of this machine")
    (tmp_path / "nvidia-smi").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("FFLAB_HOME", str(settings.home))
    refusing = RunnerProcess(runner_command("auto"))
    assert refusing.started.wait(PATIENCE_SECONDS)
    assert refusing.ready is None
    said = refusing.start_failure()
    refusing.close(PATIENCE_SECONDS)
    assert said.startswith("there is an NVIDIA GPU that PyTorch cannot use: ")
    assert said.endswith("; repair that, or start the worker with --device cpu")


def test_a_check_spec_travels_unchanged() -> None:
    start = Start(job_id="job_" + 32 * "0", attempt=1, spec=CHECK)
    assert isinstance(Start.model_validate_json(start.model_dump_json()).spec, CheckSpec)
    assert Start.model_validate_json(start.model_dump_json()) == start


@pytest.mark.parametrize(("version", "name"), [("this", "mine"), ("an earlier one", "old")])
def test_an_upload_is_found_where_the_home_has_it(
    version: str,
    name: str,  # the tests of a module share a home
    runner: RunnerProcess,
    store: Store,
    claim: ClaimJob,
    settings: Settings,
) -> None:
    named = CHECK.model_copy(update={"dataset": DatasetSpec(name=name), "samples": 40})
    absent = claim(named)
    assert outcome(runner, absent) == "failed"
    error = job_of(store, absent).error
    assert error is not None
    assert error.code == "dataset"
    assert error.detail.startswith(f"dataset.name: '{name}' is not known; choose one of ")

    datasets = settings.datasets if version == "this" else Datasets(settings.data_root)
    upload = datasets.keep(name, io.BytesIO(npz(x=X, y=Y)))
    there = claim(named)
    assert outcome(runner, there) == "succeeded"
    result = CheckResult.model_validate_json(store.jobs.result(there.job_id) or "")
    assert result.provenance.dataset.digest == upload.digest

    large = claim(named.model_copy(update={"samples": 49}))
    assert outcome(runner, large) == "failed"
    error = job_of(store, large).error
    assert error is not None
    assert error.detail == (
        "samples: 49 asked, but the data set gives 48; set samples to 48 or less, or to null for "
        "all"
    )
