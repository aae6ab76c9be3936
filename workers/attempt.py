"""Records one attempt at a job: turns the engine's reports into rows, progress and checkpoints.

The attempt number fences every write to the database. It cannot fence files, so a file is written
only while the lease is certainly held. Checkpoints are written in the background: the database
hears of one when it is whole on the disk.
"""

import contextlib
import errno
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from ffengine.baseline_plan import baseline_in_words
from ffengine.checking import CellsReport
from ffengine.checkpoint import Checkpoint, Position, fraction_done
from ffengine.forecasting import PointsReport
from ffengine.interrupts import Control
from ffengine.margin_files import write_margins
from ffengine.results import (
    CheckCell,
    Diagnostic,
    EpochRow,
    ForecastPoint,
    RunResult,
    SelectedRow,
)
from ffengine.spec import ForecastSpec, TrainSpec, digest
from ffengine.text import bytes_in_words
from ffengine.training import BatchReport, EpochReport
from service.artifacts import (
    EPOCH_NAME,
    STATES_NAME,
    ArtifactDamaged,
    Artifacts,
    epoch_name,
    margins_name,
    selected_name,
    states_name,
)
from service.host.clock import clock
from service.host.disk import free_bytes, lack_of_room
from service.jobs import Command, JobError, Progress
from service.settings import Settings
from service.store import Row, Store
from workers.attempt_log import AttemptLog
from workers.background_write import BackgroundWrite
from workers.db_retry import retry_while_unavailable
from workers.protocol import Start, log_fields

STEP = "step.safetensors"
PROGRESS_SECONDS = 2.0  # between reports of progress inside an epoch
RECORD_SECONDS = 0.5  # between transactions at the ends of short epochs
SHORT_OF_ROOM_SECONDS = 300.0  # between checkpoints to resume from, below the reserve of the disk
STATES_KEPT = 2  # checkpoints with optimiser's tensors: the newest, and one should it be damaged
UNMEASURED_SECONDS = 1.0  # between checkpoints at epochs that are not measured

log = logging.getLogger(__name__)


def is_before(spec: TrainSpec, row: EpochRow, position: Position) -> bool:
    """Whether the row was measured before a run came to a position."""
    stage = next(number for number, layers in enumerate(spec.stages) if row.layer in layers)
    return (stage, row.epoch) < (position.stage, position.epoch)


class StopFlag:
    """Whether the running attempt must stop. The thread that reads messages sets it."""

    def __init__(self) -> None:
        self.requested = threading.Event()
        self.save_checkpoint = True

    def set(self, *, save_checkpoint: bool) -> None:
        """Request a stop. A request without a checkpoint overrides one with it."""
        self.save_checkpoint = self.save_checkpoint and save_checkpoint
        self.requested.set()

    def clear(self) -> None:
        """Withdraw the request: another attempt begins."""
        self.requested.clear()
        self.save_checkpoint = True


class AttemptRecorder:
    """Records one attempt at one job; its `on_...` methods are the engine's callbacks."""

    def __init__(
        self, store: Store, artifacts: Artifacts, settings: Settings, start: Start, stop: StopFlag
    ) -> None:
        self.store, self.artifacts, self.settings = store, artifacts, settings
        self.datasets = settings.datasets
        self.job_id, self.attempt, self.spec = start.job_id, start.attempt, start.spec
        self.stop = stop
        self._log_fields = log_fields(start)
        self.attempt_log = AttemptLog(start.attempt)
        self.message = "starting"
        self._began_at = clock()
        self._fraction = 0.0
        # at the first record of this attempt, which may have resumed in the middle
        self._first_fraction: float | None = None
        self._leased_at = self._saved_at = clock()
        self._recorded_at = self._leased_at - RECORD_SECONDS  # the first epoch is shown at once
        self._saved_position: Position | None = None
        self._pending: list[EpochRow | ForecastPoint] = []
        self._pending_checkpoint: str | None = None
        self._write = BackgroundWrite()
        self._writing: tuple[str, str | None] | None = None  # a checkpoint, and its states
        self._states: list[str] = []  # the files of optimiser's tensors, the oldest first

    def on_epoch(self, report: EpochReport) -> Control:
        """Record the end of an epoch: first the checkpoint, then rows and progress.

        Rows and progress are written in one transaction, which may hold several short epochs.
        """
        self.message = report.message
        self._take_written()
        if report.rows:
            self._pending += report.rows
            self._save(epoch_name(report.layers[-1], report.epoch), report.checkpoint)
        elif self._is_due(UNMEASURED_SECONDS):
            self._step(report.fraction, report.checkpoint)
        if clock() - self._recorded_at < RECORD_SECONDS:
            self._fraction = report.fraction
            return self._control(Command.run)
        return self._record(report.fraction)

    def on_batch(self, report: BatchReport) -> Control:
        """Save a checkpoint or record progress between two batches, when it is time to."""
        now = clock()
        self.message = report.message or self.message
        if self.stop.requested.is_set():
            return "stop"
        self._take_written()
        if self._is_due(self.settings.checkpoint_seconds):
            self._step(report.fraction, report.checkpoint())
            return self._record(report.fraction)
        if now - self._recorded_at >= PROGRESS_SECONDS:
            return self._record(report.fraction)
        return "run"

    def on_selected(self, checkpoint: Checkpoint, selected: tuple[SelectedRow, ...]) -> None:
        """Save the weights that a training run evaluates, where it chose them."""
        newest = max(row.epoch for row in selected)
        kept = replace(checkpoint.without_states, rows=(), accuracy=())
        self._put(selected_name(newest), kept.to_bytes())

    def on_cells(self, report: CellsReport) -> Control:
        """Record finished cells of a check, which also serve as its checkpoint.

        Their margins are saved first, so that every recorded cell has its margins.
        """
        self.message = report.message
        self._put(
            margins_name(report.cells[0].seed, report.cells[0].width), write_margins(report.margins)
        )
        return self._record(report.fraction, rows=report.cells)

    def on_points(self, report: PointsReport) -> Control:
        """Record the end of an epoch of a forecast's small run; see `on_epoch`."""
        self.message = report.message
        self._pending += report.points
        self._take_written()
        if self._is_due(UNMEASURED_SECONDS):
            self._step(report.fraction, report.checkpoint)
        if clock() - self._recorded_at < RECORD_SECONDS:
            self._fraction = report.fraction
            return self._control(Command.run)
        return self._record(report.fraction)

    def save_on_stop(self, checkpoint: Checkpoint | None) -> None:
        """Save the checkpoint of an interrupted run, unless it is saved already or not wanted."""
        if checkpoint is None or not self.stop.save_checkpoint:
            return
        if checkpoint.position != self._saved_position:
            self._step(self._fraction, checkpoint)
        self._await_written()
        self._flush()

    def finish(self, result: RunResult) -> None:
        """Record the result: the job has succeeded."""
        spent = ", ".join(
            f"{phase} {seconds:.1f} s" for phase, seconds in result.provenance.wall_seconds.items()
        )
        self.attempt_log.note(f"done: {spent}")
        self._await_written()
        self._flush()
        lines = self.attempt_log.take()
        retry_while_unavailable(
            lambda: self.store.queue.finish(self.job_id, self.attempt, result, lines),
            self.stop.requested,
        )
        self._thin(kept=0)

    def fail(self, error: JobError, diagnostics: tuple[Diagnostic, ...] = ()) -> None:
        """Record that the job has failed, with the error that its user reads."""
        with contextlib.suppress(OSError):  # it has failed already
            self._await_written()
        self._flush()
        lines = self.attempt_log.take()
        retry_while_unavailable(
            lambda: self.store.queue.fail(self.job_id, self.attempt, error, diagnostics, lines),
            self.stop.requested,
        )

    def close(self) -> None:
        """Wait for what is being written: nothing of this attempt is written later."""
        self._write.close()

    def load_checkpoint(self, spec: TrainSpec) -> Checkpoint | None:
        """Load the newest intact checkpoint of a training job, with the rows before it.

        Returns None if the training must begin at the start.
        """
        rows = tuple(EpochRow.model_validate(row) for row in self.store.jobs.rows(self.job_id))
        names = self.artifacts.names(self.job_id)
        self._states = [name for name in names if STATES_NAME.fullmatch(name)]
        for name in self._candidates({(row.layer, row.epoch) for row in rows}):
            checkpoint = self._load(name)
            if checkpoint is not None:
                self._resumed_from(name, spec, checkpoint)
                return replace(
                    checkpoint,
                    rows=tuple(row for row in rows if is_before(spec, row, checkpoint.position)),
                )
        return None

    def load_forecast(
        self, spec: ForecastSpec
    ) -> tuple[Checkpoint | None, tuple[ForecastPoint, ...]]:
        """Load the checkpoint of a forecast's small run, and the points before it.

        Returns None and no points if it must begin at the start.
        """
        name = self.store.queue.latest_checkpoint(self.job_id)
        checkpoint = self._load(name) if name else None
        if name is None or checkpoint is None:
            return None, ()
        facts = self.datasets.facts_of(spec.dataset.name)
        self._resumed_from(name, spec.training(facts), checkpoint)
        rows = map(ForecastPoint.model_validate, self.store.jobs.rows(self.job_id))
        stage, epoch = checkpoint.position.stage, checkpoint.position.epoch
        return checkpoint, tuple(row for row in rows if stage > 0 or row.epoch < epoch)

    def _resumed_from(self, name: str, spec: TrainSpec, checkpoint: Checkpoint) -> None:
        """Record that the job goes on from a checkpoint."""
        log.info("%s resumes from %s", self.job_id, name, extra=self._log_fields)
        facts = self.datasets.facts_of(spec.dataset.name)
        done = fraction_done(spec, facts, checkpoint.position)
        self.message = resumed_in_words(spec, checkpoint.position)
        self.attempt_log.note(f"{self.message}, {done:.0%} done")
        self._saved_position = checkpoint.position
        self._record(done)

    def recorded_cells(self) -> tuple[CheckCell, ...]:
        """The finished cells of a check job."""
        return tuple(CheckCell.model_validate(row) for row in self.store.jobs.rows(self.job_id))

    def _candidates(self, measured: set[tuple[int, int]]) -> Iterator[str]:
        """The names of checkpoints, the newest first.

        A checkpoint that was never recorded is left out: the rows before it are missing.
        """
        latest = self.store.queue.latest_checkpoint(self.job_id)
        if latest is None:
            return
        yield latest
        for name in sorted(self.artifacts.names(self.job_id), reverse=True):
            match = EPOCH_NAME.fullmatch(name)
            if match and name != latest and (int(match[1]), int(match[2])) in measured:
                yield name

    def _load(self, name: str) -> Checkpoint | None:
        try:
            checkpoint = Checkpoint.from_bytes(self.artifacts.get(self.job_id, name))
            if name != STEP and self._lacks_states(checkpoint):
                states = self.artifacts.get(self.job_id, states_name(name))
                checkpoint = checkpoint.with_states_of(Checkpoint.from_bytes(states))
        except (KeyError, ArtifactDamaged, ValueError) as error:
            log.warning(
                "%s: %s cannot be used (%s); the one before is tried",
                self.job_id,
                name,
                error,
                extra=self._log_fields,
            )
            return None
        return checkpoint if checkpoint.spec_digest == digest(self.spec) else None

    def _lacks_states(self, checkpoint: Checkpoint) -> bool:
        """Whether a run cannot go on from the weights of a checkpoint alone.

        Earlier versions kept the optimiser's tensors in the same file.
        """
        if not isinstance(self.spec, TrainSpec) or any(checkpoint.states):
            return False
        return self.spec.optimizer.has_state or self.spec.chooses_epochs

    def _between_checkpoints(self, seconds: float) -> float:
        """The time between two checkpoints to resume from: longer where room is short."""
        if clock() - self._saved_at < seconds:  # most often so: then do not ask for the room
            return seconds
        short = lack_of_room(self.settings.artifact_disk, self.settings.disk_reserve)
        return seconds if short is None else max(seconds, SHORT_OF_ROOM_SECONDS)

    def _is_due(self, seconds: float) -> bool:
        """Whether it is time for a checkpoint to resume from, and none is being written."""
        waited = clock() - self._saved_at
        return waited >= self._between_checkpoints(seconds) and not self._write.is_busy

    def _step(self, fraction: float, checkpoint: Checkpoint) -> None:
        """Record the rows before a checkpoint, then save it in the place of the last STEP."""
        self._await_written()
        self._flush(fraction)
        self._save(STEP, checkpoint)

    def _save(self, name: str, checkpoint: Checkpoint) -> None:
        """Save a checkpoint without its rows.

        The database has them, or gets them in one transaction with the checkpoint's name. At the
        end of an epoch the optimiser's tensors go to a file of their own, which is removed when
        newer ones are recorded. It is written in the background, after the one before it.
        """
        self._await_written()
        states = states_name(name) if name != STEP and any(checkpoint.states) else None
        self._writing = name, states
        self._saved_at, self._saved_position = clock(), checkpoint.position
        # copied here: a copy from a GPU in another thread would end the capture of a graph
        self._write.start(partial(self._put_checkpoint, name, states, checkpoint.on_cpu))

    def _put_checkpoint(self, name: str, states: str | None, checkpoint: Checkpoint) -> None:
        """Write the files of a checkpoint, the one that it goes by last; in the background."""
        if states is not None:
            self._put(states, checkpoint.without_weights.to_bytes())
            checkpoint = checkpoint.without_states
        self._put(name, replace(checkpoint, rows=()).to_bytes())

    def _take_written(self) -> None:
        """Let the next transaction record a checkpoint that is whole; raise what writing raised."""
        if not self._write.is_busy:
            self._await_written()

    def _await_written(self) -> None:
        """Wait for the checkpoint that is being written, and raise what that raised."""
        writing, self._writing = self._writing, None
        self._write.wait()
        if writing is None:
            return
        self._pending_checkpoint, states = writing
        if states is not None:
            self._states = [*(other for other in self._states if other != states), states]

    def _put(self, name: str, data: bytes) -> None:
        self._ensure_lease()
        self._refuse_full(len(data))
        self.artifacts.put(self.job_id, name, data)

    def _refuse_full(self, size: int) -> None:
        """Raise OSError where a file of that size would leave the database no room."""
        left, disk = self.settings.artifacts_reserve, self.artifacts.disk
        if left and disk and free_bytes(disk) - size < left:
            why = f"the last {bytes_in_words(left)} of the disk are left to the database"
            raise OSError(errno.ENOSPC, why, str(disk))

    def _thin(self, *, kept: int) -> None:
        """Remove what only a run that goes on needs, but for the newest `kept`.

        The database knows of a newer checkpoint, or that the run has ended.
        """
        gone = self._states[: max(0, len(self._states) - kept)]
        with contextlib.suppress(OSError):  # it takes up room, and does no other harm
            for name in gone if kept else [*gone, STEP]:
                self.artifacts.remove(self.job_id, name)
        self._states = self._states[len(gone) :]

    def _ensure_lease(self) -> None:
        """Renew a lease that may have run out while this process or the database stood still.

        Raises LeaseLost if another attempt has begun.
        """
        now = clock()
        if now - self._leased_at > self.settings.lease_seconds / 2:
            retry_while_unavailable(
                lambda: self.store.queue.renew(
                    self.job_id, self.attempt, self.settings.lease_seconds
                ),
                self.stop.requested,
            )
            self._leased_at = now

    def _flush(self, fraction: float | None = None) -> None:
        """Record the rows and the checkpoint that are pending."""
        if self._pending or self._pending_checkpoint:
            self._record(self._fraction if fraction is None else fraction)

    def _record(self, fraction: float, *, rows: Sequence[Row] = ()) -> Control:
        now = clock()
        self._take_written()
        self._fraction = fraction
        progress = Progress(
            fraction=fraction, message=self.message, eta_seconds=self._eta(now, fraction)
        )
        lines = self.attempt_log.take()
        command = retry_while_unavailable(
            lambda: self.store.queue.record(
                self.job_id,
                self.attempt,
                lease_seconds=self.settings.lease_seconds,
                progress=progress,
                rows=[*self._pending, *rows],
                checkpoint=self._pending_checkpoint,
                log=lines,
            ),
            self.stop.requested,
        )
        if self._pending_checkpoint:
            self._thin(kept=STATES_KEPT)
        self._pending, self._pending_checkpoint = [], None
        self._leased_at = self._recorded_at = now
        return self._control(command)

    def _control(self, command: Command) -> Control:
        return "run" if command is Command.run and not self.stop.requested.is_set() else "stop"

    def _eta(self, now: float, fraction: float) -> float | None:
        if self._first_fraction is None:
            self._began_at, self._first_fraction = now, fraction
        done = fraction - self._first_fraction
        return (now - self._began_at) * (1 - fraction) / done if done > 0 else None


def resumed_in_words(spec: TrainSpec, position: Position) -> str:
    """Say where a training run goes on: `resumed at epoch 3`, of deep networks with the layer."""
    if position.stage == len(spec.stages) and spec.evaluation.baselines:
        return f"resumed at {baseline_in_words(spec, position.epoch)}"
    layers = spec.stages[min(position.stage, len(spec.stages) - 1)]
    place = f", layer {layers[-1]}" if len(spec.stages) > 1 else ""
    return f"resumed at epoch {position.epoch:,}{place}"
