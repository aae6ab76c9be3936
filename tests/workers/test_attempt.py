"""The recorder of an attempt: checkpoints, rows, what a later attempt resumes from, the fence."""

import errno
import io
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ffengine
from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from ffengine.checkpoint import Checkpoint, fraction_done
from ffengine.datasets import DATASETS
from ffengine.interrupts import Interrupted
from ffengine.margin_files import read_margins
from ffengine.optimizers import Adam
from ffengine.results import TrainResult
from ffengine.spec import TrainSpec
from service.artifacts import (
    Artifacts,
    epoch_name,
    margins_name,
    selected_name,
    states_name,
)
from service.host.disk import free_bytes
from service.results.npz_export import stream_npz
from service.settings import Settings
from service.store import Claim, LeaseLost, Store
from tests.workers.jobs import CHECK, TRAIN, WORKER, ClaimJob
from workers.attempt import STEP, AttemptRecorder, StopFlag, clock
from workers.error_mapping import failure_of
from workers.protocol import Start

ADAM = TRAIN.model_copy(update={"optimizer": Adam(lr=0.1)})


def recorder_of(
    claim: Claim, store: Store, artifacts: Artifacts, settings: Settings
) -> AttemptRecorder:
    return AttemptRecorder(
        store,
        artifacts,
        settings,
        Start(job_id=claim.job_id, attempt=claim.attempt, spec=claim.spec),
        StopFlag(),
    )


def train(recorder: AttemptRecorder, *, stop_after: int | None = None) -> TrainResult:
    """Train with a recorder, and stop after so many batches."""
    batches = 0

    def on_batch(report: ffengine.training.BatchReport) -> ffengine.interrupts.Control:
        nonlocal batches
        batches += 1
        if batches == stop_after:
            recorder.stop.set(save_checkpoint=True)
        return recorder.on_batch(report)

    try:
        spec = recorder.spec
        assert isinstance(spec, TrainSpec)
        return ffengine.train(
            spec,
            on_epoch=recorder.on_epoch,
            on_batch=on_batch,
            resume=recorder.load_checkpoint(spec),
            on_selected=recorder.on_selected,
        )
    except Interrupted as interrupted:
        recorder.save_on_stop(interrupted.checkpoint)
        raise


@pytest.fixture
def interrupted(claim: ClaimJob, store: Store, artifacts: Artifacts, settings: Settings) -> Claim:
    """The second attempt at a job whose first was stopped in the middle of epoch 3.

    There are 4 epochs of 4 batches.
    """
    first = claim(TRAIN)
    with pytest.raises(Interrupted):
        train(recorder_of(first, store, artifacts, settings), stop_after=10)
    store.queue.finish_stopped(first.job_id, first.attempt)
    second = store.queue.claim(first.job_id, WORKER, settings.lease_seconds)
    assert second is not None
    return second


def damage(artifacts: Artifacts, job_id: str, *names: str) -> None:
    for name in names:
        path: Path = artifacts.root / job_id / name
        path.write_bytes(path.read_bytes()[:-7] + b"damaged")


def test_every_epoch_leaves_a_checkpoint_and_its_rows(
    claim: ClaimJob, store: Store, artifacts: Artifacts, settings: Settings
) -> None:
    claimed = claim(TRAIN)
    recorder = recorder_of(claimed, store, artifacts, settings)
    result = train(recorder)
    recorder.finish(result)
    assert artifacts.names(claimed.job_id) == [epoch_name(0, epoch) for epoch in range(5)]
    assert store.jobs.rows(claimed.job_id) == [row.model_dump(mode="json") for row in result.curves]
    assert store.queue.latest_checkpoint(claimed.job_id) == epoch_name(0, 4)


def test_a_stop_saves_the_place_within_the_epoch(
    interrupted: Claim, store: Store, artifacts: Artifacts, settings: Settings
) -> None:
    checkpoint = recorder_of(interrupted, store, artifacts, settings).load_checkpoint(TRAIN)
    assert checkpoint is not None
    assert (checkpoint.epoch, checkpoint.batch) == (3, 2)
    job = store.jobs.get(interrupted.job_id)
    assert job is not None
    facts = DATASETS[TRAIN.dataset.name]
    done = fraction_done(TRAIN, facts, checkpoint.position)
    assert job.progress.fraction == done == 10 / 16


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damaged", "resumed_at"),
    [
        ((), (3, 2)),
        ((STEP,), (3, 0)),
        ((STEP, epoch_name(0, 2)), (2, 0)),
        ((STEP, *(epoch_name(0, epoch) for epoch in range(3))), None),
    ],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    interrupted: Claim,
    store: Store,
    artifacts: Artifacts,
    settings: Settings,
    damaged: tuple[str, ...],
    resumed_at: tuple[int, int] | None,
) -> None:
    damage(artifacts, interrupted.job_id, *damaged)
    recorder = recorder_of(interrupted, store, artifacts, settings)
    checkpoint = recorder.load_checkpoint(TRAIN)
    assert (checkpoint and (checkpoint.epoch, checkpoint.batch)) == resumed_at
    result = train(recorder)
    recorder.finish(result)
    undisturbed = ffengine.train(TRAIN)
    assert (result.curves, result.accuracy) == (undisturbed.curves, undisturbed.accuracy)
    assert store.jobs.rows(interrupted.job_id) == [
        row.model_dump(mode="json") for row in undisturbed.curves
    ]


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [(), (STEP, epoch_name(0, 2))])
def test_who_pushes_is_known_of_the_epochs_before_a_checkpoint(
    claim: ClaimJob,
    store: Store,
    artifacts: Artifacts,
    settings: Settings,
    damaged: tuple[str, ...],
) -> None:
    monitor = TRAIN.monitor.model_copy(update={"decomposition": (0, 1, 2, 4)})
    spec = TRAIN.model_copy(update={"monitor": monitor})
    first = claim(spec)
    with pytest.raises(Interrupted):
        train(recorder_of(first, store, artifacts, settings), stop_after=10)  # in epoch 3
    store.queue.finish_stopped(first.job_id, first.attempt)
    damage(artifacts, first.job_id, *damaged)
    second = store.queue.claim(first.job_id, WORKER, settings.lease_seconds)
    assert second is not None
    result, undisturbed = (
        train(recorder_of(second, store, artifacts, settings)),
        ffengine.train(spec),
    )
    assert {row.epoch for row in result.decomposition} == {0, 1, 2, 4}
    for found in ("decomposition", "most_pushed", "pictures"):
        assert getattr(result, found) == getattr(undisturbed, found)


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [(), (STEP,), (STEP, states_name(epoch_name(0, 2)))])
def test_chosen_weights_outlive_an_interruption_and_are_kept(
    claim: ClaimJob,
    store: Store,
    artifacts: Artifacts,
    settings: Settings,
    damaged: tuple[str, ...],
) -> None:
    fields = TRAIN.model_dump(mode="json")
    dataset = {**fields["dataset"], "validation_samples": 40}
    stop = {"patience": 9, "measure": "auc"}
    spec = TrainSpec.model_validate(
        {**fields, "dataset": dataset, "select": "best_validation", "stop": stop}
    )
    first = claim(spec)
    with pytest.raises(Interrupted):
        train(recorder_of(first, store, artifacts, settings), stop_after=10)  # in epoch 3
    store.queue.finish_stopped(first.job_id, first.attempt)
    damage(artifacts, first.job_id, *damaged)
    second = store.queue.claim(first.job_id, WORKER, settings.lease_seconds)
    assert second is not None
    recorder = recorder_of(second, store, artifacts, settings)
    result, undisturbed = train(recorder), ffengine.train(spec)
    recorder.finish(result)
    for found in ("accuracy_curves", "selected", "accuracy", "measures", "curves"):
        assert getattr(result, found) == getattr(undisturbed, found)
    [name] = [name for name in artifacts.names(first.job_id) if name.startswith("selected-")]
    newest = max(row.epoch for row in result.selected)
    assert name == selected_name(newest)
    chosen = Checkpoint.from_bytes(artifacts.get(first.job_id, name))
    assert (chosen.rows, chosen.accuracy, any(chosen.states)) == ((), (), False)
    for at, row in enumerate(result.selected):
        own = Checkpoint.from_bytes(artifacts.get(first.job_id, epoch_name(0, row.epoch)))
        assert torch.equal(chosen.weights[0][at], own.weights[0][at])


@pytest.mark.slow
def test_only_the_newest_checkpoints_keep_the_optimisers_tensors(
    claim: ClaimJob, store: Store, artifacts: Artifacts, settings: Settings
) -> None:
    first = claim(ADAM)
    with pytest.raises(Interrupted):
        train(recorder_of(first, store, artifacts, settings), stop_after=14)  # in epoch 4
    epochs = [epoch_name(0, epoch) for epoch in range(4)]
    states = [states_name(name) for name in epochs]
    assert artifacts.names(first.job_id) == [*epochs, *states[-2:], STEP]
    weights = [Checkpoint.from_bytes(artifacts.get(first.job_id, name)) for name in (*epochs, STEP)]
    assert [any(checkpoint.states) for checkpoint in weights] == [False] * 4 + [True]
    store.queue.finish_stopped(first.job_id, first.attempt)
    second = store.queue.claim(first.job_id, WORKER, settings.lease_seconds)
    assert second is not None
    recorder = recorder_of(second, store, artifacts, settings)
    recorder.finish(train(recorder))
    assert artifacts.names(first.job_id) == [*epochs, epoch_name(0, 4)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damaged", "resumed_at"),
    [
        ((), (4, 2)),
        ((STEP,), (4, 0)),
        ((STEP, states_name(epoch_name(0, 3))), (3, 0)),
        ((STEP, states_name(epoch_name(0, 3)), epoch_name(0, 2)), None),
    ],
)
def test_with_adam_a_damaged_checkpoint_gives_way_to_the_one_before(
    claim: ClaimJob,
    store: Store,
    artifacts: Artifacts,
    settings: Settings,
    damaged: tuple[str, ...],
    resumed_at: tuple[int, int] | None,
) -> None:
    first = claim(ADAM)
    with pytest.raises(Interrupted):
        train(recorder_of(first, store, artifacts, settings), stop_after=14)
    store.queue.finish_stopped(first.job_id, first.attempt)
    second = store.queue.claim(first.job_id, WORKER, settings.lease_seconds)
    assert second is not None
    damage(artifacts, first.job_id, *damaged)
    recorder = recorder_of(second, store, artifacts, settings)
    checkpoint = recorder.load_checkpoint(ADAM)
    assert (checkpoint and (checkpoint.epoch, checkpoint.batch)) == resumed_at
    result = train(recorder)
    undisturbed = ffengine.train(ADAM)
    assert (result.curves, result.accuracy) == (undisturbed.curves, undisturbed.accuracy)


@pytest.mark.slow
def test_a_checkpoint_of_an_earlier_version_has_the_optimisers_tensors_inside(
    claim: ClaimJob, store: Store, artifacts: Artifacts, settings: Settings
) -> None:
    claimed = claim(ADAM)
    recorder = recorder_of(claimed, store, artifacts, settings)
    whole: list[Checkpoint] = []
    ffengine.train(ADAM, on_epoch=lambda report: keep_first(report, recorder, whole))
    recorder.save_on_stop(whole[0])
    name = epoch_name(0, 0)
    artifacts.remove(claimed.job_id, states_name(name))
    assert recorder.load_checkpoint(ADAM) is None
    artifacts.put(claimed.job_id, name, replace(whole[0], rows=()).to_bytes())
    found = recorder.load_checkpoint(ADAM)
    assert found is not None
    assert any(found.states)


def keep_first(
    report: ffengine.training.EpochReport, recorder: AttemptRecorder, whole: list[Checkpoint]
) -> ffengine.interrupts.Control:
    if not whole:
        whole.append(report.checkpoint)
        recorder.on_epoch(report)
    return "run"


soak = partial(pytest.param, marks=pytest.mark.soak)


class Killed(BaseException):
    """What SIGKILL would be, as seen from inside."""


class Axe:
    """Kills before or after the write to store or artifacts that follows `left` others."""

    def __init__(self, store: Store, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.after = 10**9, False
        for owner, name in (
            (store.queue, "record"),
            (artifacts, "put"),
            (artifacts, "remove"),
        ):
            monkeypatch.setattr(owner, name, self.guarded(getattr(owner, name)))

    def guarded(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def at_risk(*args: Any, **given: Any) -> Any:
            self.left -= 1
            if self.left < 0 and not self.after:
                raise Killed
            done = write(*args, **given)
            if self.left < 0:
                raise Killed
            return done

        return at_risk


# Each pair of values once in `make test`, all of them in `make test-all`.
KILLS = [
    pytest.param(
        *values,
        marks=pytest.mark.slow if number in (0, 3, 5, 6) else pytest.mark.soak,
        id="-".join(map(str, names)),
    )
    for number, (values, names) in enumerate(
        zip(
            itertools.product(["sgd", "adam"], [False, True], [False, True]),
            itertools.product(["sgd", "adam"], ["before", "after"], ["epochs", "batches"]),
            strict=True,
        )
    )
]


@pytest.mark.parametrize(("optimizer", "after", "every_batch"), KILLS)
@pytest.mark.parametrize("damage_latest", [False, soak(True)], ids=["whole", "damaged"])
@pytest.mark.parametrize("record_seconds", [0.0, soak(1e9)], ids=["each", "together"])
def test_killed_at_any_write_the_next_attempt_ends_as_if_nothing_had_been(
    claim: ClaimJob,
    store: Store,
    artifacts: Artifacts,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
    after: bool,
    damage_latest: bool,
    every_batch: bool,
    record_seconds: float,
) -> None:
    monkeypatch.setattr("workers.attempt.RECORD_SECONDS", record_seconds)
    settings = settings.model_copy(update={"checkpoint_seconds": 0.0 if every_batch else 1e9})
    spec = {"sgd": TRAIN, "adam": ADAM}[optimizer]
    undisturbed = ffengine.train(spec)
    axe = Axe(store, artifacts, monkeypatch)
    axe.after = after
    for writes in range(0, 60, 1 + 4 * every_batch):
        claimed = claim(spec)
        axe.left = writes
        try:
            train(recorder_of(claimed, store, artifacts, settings))
        except Killed:
            latest = store.queue.latest_checkpoint(claimed.job_id)
            if damage_latest and latest:
                damage(artifacts, claimed.job_id, latest)
        else:
            break
        axe.left = 10**9
        store.queue.lose(claimed.job_id, claimed.attempt, "killed", max_losses=9)
        second = store.queue.claim(claimed.job_id, WORKER, settings.lease_seconds)
        assert second is not None
        recorder = recorder_of(second, store, artifacts, settings)
        result = train(recorder)
        recorder.finish(result)
        assert (result.curves, result.accuracy) == (undisturbed.curves, undisturbed.accuracy)
        assert store.jobs.rows(claimed.job_id) == [
            row.model_dump(mode="json") for row in undisturbed.curves
        ]
    assert writes >= 5


@pytest.mark.slow
def test_a_checkpoint_of_another_spec_is_not_used(
    interrupted: Claim, store: Store, artifacts: Artifacts, settings: Settings
) -> None:
    other = TRAIN.model_copy(update={"epochs": 5})
    start = Start(job_id=interrupted.job_id, attempt=interrupted.attempt, spec=other)
    assert (
        AttemptRecorder(store, artifacts, settings, start, StopFlag()).load_checkpoint(other)
        is None
    )


def test_artifacts_leave_the_last_room_of_the_disk_to_the_database(
    claim: ClaimJob, store: Store, artifacts: Artifacts, settings: Settings
) -> None:
    claimed = claim(TRAIN)
    full = settings.model_copy(update={"disk_reserve": 4 * 2**40})  # of which the last 64 MiB
    recorder = recorder_of(claimed, store, artifacts, full)
    train(recorder)
    recorder._await_written()
    names = artifacts.names(claimed.job_id)
    free = free_bytes(artifacts.root)
    with pytest.raises(OSError, match="64 MiB of the disk are left to the database") as refused:
        recorder._refuse_full(free)
    assert artifacts.names(claimed.job_id) == names
    error = failure_of(refused.value)
    assert error.code == "storage"
    assert "left to the database" in error.detail
    recorder_of(
        claimed, store, artifacts, settings.model_copy(update={"disk_reserve": 0})
    )._refuse_full(free)


def test_below_the_reserve_there_are_fewer_checkpoints_to_resume_from(
    claim: ClaimJob,
    store: Store,
    artifacts: Artifacts,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = clock()
    recorder = recorder_of(claim(TRAIN), store, artifacts, settings)
    short = settings.model_copy(update={"disk_reserve": 2**60})
    for minutes, between, between_short in ((1, 20.0, 300.0), (10, 20.0, 300.0)):
        monkeypatch.setattr("workers.attempt.clock", lambda at=begun + 60 * minutes: at)
        recorder.settings = settings
        assert recorder._between_checkpoints(20.0) == between
        recorder.settings = short
        assert recorder._between_checkpoints(20.0) == between_short


def test_an_attempt_that_lost_its_lease_writes_nothing(
    claim: ClaimJob, store: Store, artifacts: Artifacts, settings: Settings
) -> None:
    claimed = claim(TRAIN)
    recorder = recorder_of(claimed, store, artifacts, settings)
    store.queue.lose(claimed.job_id, claimed.attempt, "a test", max_losses=9)
    recorder._leased_at = float(
        "-inf"
    )  # as after a long freeze: the last renewal is too old to be trusted
    with pytest.raises(LeaseLost):
        train(recorder)
    assert artifacts.names(claimed.job_id) == []
    assert store.jobs.rows(claimed.job_id) == []


def test_a_cancelled_job_stops_at_the_next_record(
    claim: ClaimJob, store: Store, artifacts: Artifacts, settings: Settings
) -> None:
    claimed = claim(TRAIN)
    store.actions.cancel(claimed.job_id)
    with pytest.raises(Interrupted):
        train(recorder_of(claimed, store, artifacts, settings))
    assert artifacts.names(claimed.job_id) == [epoch_name(0, 0)]


@pytest.mark.slow
def test_a_check_resumes_with_the_cells_it_has(
    claim: ClaimJob, store: Store, artifacts: Artifacts, settings: Settings
) -> None:
    claimed = claim(CHECK)
    recorder = recorder_of(claimed, store, artifacts, settings)
    reports = []

    def on_cells(report: ffengine.checking.CellsReport) -> ffengine.interrupts.Control:
        reports.append(report)
        control = recorder.on_cells(report)
        return "stop" if len(reports) == 2 else control

    with pytest.raises(Interrupted):
        ffengine.check(CHECK, on_cells=on_cells)
    resumed = ffengine.check(CHECK, on_cells=on_cells, resume=recorder.recorded_cells())
    assert resumed.cells == ffengine.check(CHECK).cells
    assert len(reports) == 4


def test_a_recorded_cell_has_its_margins(
    claim: ClaimJob,
    store: Store,
    artifacts: Artifacts,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claimed = claim(CHECK)
    recorder = recorder_of(claimed, store, artifacts, settings)
    record, recorded = store.queue.record, 0

    def check_first(*args: Any, **given: Any) -> Any:
        nonlocal recorded
        cells = given["rows"]
        data = artifacts.get(claimed.job_id, margins_name(cells[0].seed, cells[0].width))
        assert [len(margins.margin) for margins in read_margins(data, cells)] == [
            cell.samples for cell in cells
        ]
        recorded += 1
        if recorded == 3:
            raise LeaseLost
        return record(*args, **given)

    monkeypatch.setattr(store.queue, "record", check_first)
    with pytest.raises(LeaseLost):
        ffengine.check(CHECK, on_cells=recorder.on_cells)
    assert len(artifacts.names(claimed.job_id)) == 3
    assert {(row["seed"], row["width"]) for row in store.jobs.rows(claimed.job_id)} == {
        (0, 8),
        (0, 16),
    }


@pytest.mark.slow
def test_the_archive_of_a_resumed_check_is_that_of_an_undisturbed_one(
    claim: ClaimJob, store: Store, artifacts: Artifacts, settings: Settings
) -> None:
    claimed = claim(CHECK)
    recorder = recorder_of(claimed, store, artifacts, settings)

    def stop(report: ffengine.checking.CellsReport) -> ffengine.interrupts.Control:
        recorder.on_cells(report)
        return "stop"

    with pytest.raises(Interrupted):
        ffengine.check(CHECK, on_cells=stop)
    result = ffengine.check(CHECK, on_cells=recorder.on_cells, resume=recorder.recorded_cells())
    recorder.finish(result)
    job = store.jobs.get(claimed.job_id)
    assert job is not None
    expected: dict[str, np.ndarray] = {}

    def keep(report: ffengine.checking.CellsReport) -> ffengine.interrupts.Control:
        for margins in report.margins:
            expected.update(margins.members)
        return "run"

    ffengine.check(CHECK, on_cells=keep)
    with np.load(
        io.BytesIO(b"".join(stream_npz(job, result, artifacts, job.id))), allow_pickle=False
    ) as archive:
        assert archive.files == ["header", *expected]
        assert all(np.array_equal(archive[name], array) for name, array in expected.items())


def test_a_check_that_lost_its_lease_writes_no_margins(
    claim: ClaimJob, store: Store, artifacts: Artifacts, settings: Settings
) -> None:
    claimed = claim(CHECK)
    recorder = recorder_of(claimed, store, artifacts, settings)
    store.queue.lose(claimed.job_id, claimed.attempt, "a test", max_losses=9)
    recorder._leased_at = float("-inf")
    with pytest.raises(LeaseLost):
        ffengine.check(CHECK, on_cells=recorder.on_cells)
    assert artifacts.names(claimed.job_id) == []


class SlowArtifacts(Artifacts):
    """The real ones on a disk that stands still until it is let go, or that fails then."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []
        self.go, self.error = threading.Event(), None

    def put(self, job_id: str, name: str, data: bytes) -> None:
        self.asked.append(name)
        assert self.go.wait(PATIENCE_SECONDS)
        if self.error is not None:
            raise self.error
        super().put(job_id, name, data)


def reports_of(spec: TrainSpec) -> list[ffengine.training.EpochReport]:
    found: list[ffengine.training.EpochReport] = []

    def keep(report: ffengine.training.EpochReport) -> ffengine.interrupts.Control:
        found.append(report)
        return "run"

    ffengine.train(spec, on_epoch=keep)
    return found


def test_training_does_not_wait_for_the_disk_and_one_checkpoint_is_under_way(
    claim: ClaimJob, store: Store, settings: Settings
) -> None:
    claimed, slow = claim(TRAIN), SlowArtifacts(settings.artifact_place)
    recorder = recorder_of(claimed, store, slow, settings)
    first, second = reports_of(TRAIN)[:2]
    assert recorder.on_epoch(first) == "run", "although its file is not written"
    wait_until(lambda: slow.asked, "it is being written")
    assert store.jobs.rows(claimed.job_id), "its rows are there already"
    assert store.queue.latest_checkpoint(claimed.job_id) is None, "what is not whole is not known"
    threading.Timer(0.2, slow.go.set).start()
    recorder.on_epoch(second)
    assert slow.go.is_set(), "the second one waits for the first one"
    recorder.save_on_stop(second.checkpoint)
    assert store.queue.latest_checkpoint(claimed.job_id) == epoch_name(0, 1)
    assert slow.names(claimed.job_id) == [epoch_name(0, 0), epoch_name(0, 1)]


def test_what_fails_in_the_background_comes_to_light(
    claim: ClaimJob, store: Store, settings: Settings
) -> None:
    claimed, slow = claim(TRAIN), SlowArtifacts(settings.artifact_place)
    recorder = recorder_of(claimed, store, slow, settings)
    slow.error = OSError(errno.ENOSPC, "No space left on device")
    slow.go.set()

    def two_epochs() -> None:
        for report in reports_of(TRAIN)[:2]:
            recorder.on_epoch(report)

    with pytest.raises(OSError, match="No space left"):  # of a quick disk already in the first
        two_epochs()
    assert store.queue.latest_checkpoint(claimed.job_id) is None
    recorder.fail(failure_of(slow.error))
    recorder.close()


WRITING = """
import sys
from pathlib import Path
from service.artifacts import Artifacts, epoch_name
from workers.background_write import BackgroundWrite
artifacts, write = Artifacts(Path(sys.argv[1])), BackgroundWrite()
for number in range(10_000):
    write.wait()
    name = "step.safetensors" if number % 2 else epoch_name(0, number)
    data = bytes([number % 256]) * 3_000_000
    write.start(lambda n=name, d=data: artifacts.put(sys.argv[2], n, d))
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_whole_checkpoints(
    claim: ClaimJob, artifacts: Artifacts
) -> None:
    job_id = claim(TRAIN).job_id
    for writes in (1, 3, 4, 8):
        command = [sys.executable, "-c", WRITING, str(artifacts.root), job_id]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path.cwd()) as writer:
            assert writer.stdout is not None
            for _ in range(writes):
                assert writer.stdout.readline()
            writer.kill()  # while what it said it began is under way
        names = artifacts.names(job_id)
        assert [artifacts.is_intact(job_id, name) for name in names] == [True] * len(names)
        artifacts.tidy(job_id)
    assert names
