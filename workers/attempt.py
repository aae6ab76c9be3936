"""The runner's side of one attempt at a job: what the engine reports becomes rows, progress and
checkpoints.

Every write is fenced by the attempt. Files cannot be fenced, so one is only written while the lease
is surely ours.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ffengine.checking import CellsReport
from ffengine.checkpoint import Checkpoint, Position
from ffengine.interrupts import Control
from ffengine.margin_files import write_margins
from ffengine.results import CheckCell, Diagnostic, EpochRow, RunResult
from ffengine.spec import TrainSpec, digest
from ffengine.training import BatchReport, EpochReport
from service.artifacts import EPOCH_NAME, ArtifactDamaged, Artifacts, epoch_name, margins_name
from service.jobs import Command, JobError, Progress
from service.settings import Settings
from service.store import Row, Store
from workers.attempt_log import AttemptLog
from workers.db_retry import patiently
from workers.protocol import Start

STEP = "step.safetensors"
PROGRESS_SECONDS = 2.0  # between reports of progress inside an epoch
RECORD_SECONDS = 0.5  # between transactions at the ends of epochs, which may be short
UNMEASURED_SECONDS = 1.0  # between checkpoints at epochs that leave no rows

log = logging.getLogger(__name__)


def clock() -> float:
    """Seconds that also count while the machine sleeps: a lease runs on meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def fraction_at(spec: TrainSpec, position: Position) -> float:
    """How much of a training run is done at a position."""
    batches = -(-spec.dataset.train_count // spec.batch_size)
    epochs = position.stage * spec.epochs + max(0, position.epoch - 1) + position.batch / batches
    return min(1.0, epochs / (len(spec.stages) * spec.epochs))


def is_before(spec: TrainSpec, row: EpochRow, position: Position) -> bool:
    """Whether a run that stands at a position has measured the row already."""
    stage = next(number for number, layers in enumerate(spec.stages) if row.layer in layers)
    return (stage, row.epoch) < (position.stage, position.epoch)


class StopFlag:
    """What the supervisor asked of the running attempt; set by the thread that listens to it."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.keep = True

    def set(self, *, keep: bool) -> None:
        """Ask to stop, with a checkpoint or without."""
        self.keep = self.keep and keep
        self.asked.set()

    def clear(self) -> None:
        """Nothing is asked any more."""
        self.asked.clear()
        self.keep = True


class AttemptRecorder:
    """One attempt at one job."""

    def __init__(
        self, store: Store, artifacts: Artifacts, settings: Settings, start: Start, stop: StopFlag
    ) -> None:
        self.store, self.artifacts, self.settings = store, artifacts, settings
        self.job_id, self.attempt, self.spec = start.job_id, start.attempt, start.spec
        self.stop = stop
        self.notebook = AttemptLog(start.attempt)
        self.message = "starting"
        self._began = clock()
        self._fraction = 0.0
        self._first_fraction: float | None = (
            None  # of this attempt, which may have begun in the middle
        )
        self._leased = self._saved = clock()
        self._recorded = self._leased - RECORD_SECONDS  # the first epoch is shown at once
        self._saved_position: Position | None = None
        self._pending: list[EpochRow] = []
        self._pending_checkpoint: str | None = None

    def on_epoch(self, report: EpochReport) -> Control:
        """The end of an epoch: checkpoint first, then rows and progress in one transaction, several
        short epochs in one.
        """
        self.message = report.message
        if report.rows:
            self._save(epoch_name(report.layers[-1], report.epoch), report.checkpoint)
            self._pending += report.rows
        elif clock() - self._saved >= UNMEASURED_SECONDS:
            self._step(report.fraction, report.checkpoint)
        if clock() - self._recorded < RECORD_SECONDS:
            self._fraction = report.fraction
            return self._control(Command.run)
        return self._record(report.fraction)

    def on_batch(self, report: BatchReport) -> Control:
        """Between two batches: nothing, or from time to time progress, or a checkpoint."""
        now = clock()
        if self.stop.asked.is_set():
            return "stop"
        if now - self._saved >= self.settings.checkpoint_seconds:
            self._step(report.fraction, report.checkpoint())
            return self._record(report.fraction)
        if now - self._recorded >= PROGRESS_SECONDS:
            return self._record(report.fraction)
        return "run"

    def on_cells(self, report: CellsReport) -> Control:
        """Finished cells of a check, which are its checkpoint: their margins first, so that a cell
        on record has its own.
        """
        self.message = report.message
        self._put(
            margins_name(report.cells[0].seed, report.cells[0].width), write_margins(report.margins)
        )
        return self._record(report.fraction, rows=report.cells)

    def keep(self, checkpoint: Checkpoint | None) -> None:
        """Save where an interrupted run stands, unless that is saved already."""
        if checkpoint is None or not self.stop.keep:
            return
        if checkpoint.position != self._saved_position:
            self._step(self._fraction, checkpoint)
        self._flush()

    def finish(self, result: RunResult) -> None:
        """The result: the job has succeeded."""
        spent = ", ".join(
            f"{phase} {seconds:.1f} s" for phase, seconds in result.provenance.wall_seconds.items()
        )
        self.notebook.note(f"done: {spent}")
        self._flush()
        log = self.notebook.take()
        patiently(
            lambda: self.store.queue.finish(self.job_id, self.attempt, result, log), self.stop.asked
        )

    def fail(self, error: JobError, diagnostics: tuple[Diagnostic, ...] = ()) -> None:
        """The job has failed, for a reason that its user can read."""
        self._flush()
        log = self.notebook.take()
        patiently(
            lambda: self.store.queue.fail(self.job_id, self.attempt, error, diagnostics, log),
            self.stop.asked,
        )

    def load_checkpoint(self, spec: TrainSpec) -> Checkpoint | None:
        """The newest good checkpoint of a training job, with the rows before it; None: from the
        start.
        """
        rows = tuple(EpochRow.model_validate(row) for row in self.store.jobs.rows(self.job_id))
        for name in self._candidates({(row.layer, row.epoch) for row in rows}):
            checkpoint = self._load(name)
            if checkpoint is not None:
                log.info("%s resumes from %s", self.job_id, name)
                self.message = f"resumed from {name.removesuffix('.safetensors')}"
                self.notebook.note(
                    f"{self.message}, {fraction_at(spec, checkpoint.position):.0%} done"
                )
                self._saved_position = checkpoint.position
                self._record(fraction_at(spec, checkpoint.position))
                return replace(
                    checkpoint,
                    rows=tuple(row for row in rows if is_before(spec, row, checkpoint.position)),
                )
        return None

    def cells_so_far(self) -> tuple[CheckCell, ...]:
        """The finished cells of a check job."""
        return tuple(CheckCell.model_validate(row) for row in self.store.jobs.rows(self.job_id))

    def _candidates(self, measured: set[tuple[int, int]]) -> Iterator[str]:
        """Checkpoints, the best first; of those that were never recorded, the rows before them are
        not there.
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
        except (KeyError, ArtifactDamaged, ValueError) as error:
            log.warning(
                "%s: %s cannot be used (%s); the one before is tried", self.job_id, name, error
            )
            return None
        return checkpoint if checkpoint.spec_digest == digest(self.spec) else None

    def _step(self, fraction: float, checkpoint: Checkpoint) -> None:
        """Save a checkpoint that takes the place of the one before, once the rows that it needs are
        recorded.
        """
        self._flush(fraction)
        self._save(STEP, checkpoint)

    def _save(self, name: str, checkpoint: Checkpoint) -> None:
        """Save a checkpoint without its rows: the database has them, or gets them together with its
        name.
        """
        self._put(name, replace(checkpoint, rows=()).to_bytes())
        self._saved, self._saved_position, self._pending_checkpoint = (
            clock(),
            checkpoint.position,
            name,
        )

    def _put(self, name: str, data: bytes) -> None:
        self._ensure_lease()
        self.artifacts.put(self.job_id, name, data)

    def _ensure_lease(self) -> None:
        """Raise LeaseLost where another attempt has begun: this process may have been frozen, or
        the database away.
        """
        now = clock()
        if now - self._leased > self.settings.lease_seconds / 2:
            patiently(
                lambda: self.store.queue.renew(
                    self.job_id, self.attempt, self.settings.lease_seconds
                ),
                self.stop.asked,
            )
            self._leased = now

    def _flush(self, fraction: float | None = None) -> None:
        """Record what waits for it."""
        if self._pending or self._pending_checkpoint:
            self._record(self._fraction if fraction is None else fraction)

    def _record(self, fraction: float, *, rows: Sequence[Row] = ()) -> Control:
        now = clock()
        self._fraction = fraction
        progress = Progress(
            fraction=fraction, message=self.message, eta_seconds=self._eta(now, fraction)
        )
        lines = self.notebook.take()
        command = patiently(
            lambda: self.store.queue.record(
                self.job_id,
                self.attempt,
                lease_seconds=self.settings.lease_seconds,
                progress=progress,
                rows=[*self._pending, *rows],
                checkpoint=self._pending_checkpoint,
                log=lines,
            ),
            self.stop.asked,
        )
        self._pending, self._pending_checkpoint = [], None
        self._leased = self._recorded = now
        return self._control(command)

    def _control(self, command: Command) -> Control:
        return "run" if command is Command.run and not self.stop.asked.is_set() else "stop"

    def _eta(self, now: float, fraction: float) -> float | None:
        if self._first_fraction is None:
            self._began, self._first_fraction = now, fraction
        done = fraction - self._first_fraction
        return (now - self._began) * (1 - fraction) / done if done > 0 else None
