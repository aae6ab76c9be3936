"""The runner's side of one attempt at a job: what the engine reports becomes rows, progress and checkpoints.

Every write is fenced by the attempt. Files cannot be fenced, so one is only written while the lease is surely ours.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence

from ffengine.checking import CellsReport
from ffengine.checkpoint import Checkpoint, Position
from ffengine.control import Control
from ffengine.persample import write_margins
from ffengine.results import CheckCell, Diagnostic, RunResult
from ffengine.spec import TrainSpec, digest
from ffengine.training import BatchReport, EpochReport
from service.artifacts import EPOCH_NAME, ArtifactDamaged, Artifacts, epoch_name, margins_name
from service.jobs import Command, JobError, Progress
from service.settings import Settings
from service.store import Row, Store
from workers.notebook import Notebook
from workers.patience import patiently
from workers.protocol import Start

STEP = "step.safetensors"
PROGRESS_SECONDS = 2.0  # between reports of progress inside an epoch
UNMEASURED_SECONDS = 1.0  # between checkpoints at epochs that leave no rows
ROWS_AT_ONCE = 1_000  # of a checkpoint, most of which the database has already

log = logging.getLogger(__name__)


def clock() -> float:
    """Seconds that also count while the machine sleeps: a lease runs on meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def fraction_at(spec: TrainSpec, position: Position) -> float:
    """How much of a training run is done at a position."""
    batches = -(-spec.dataset.train_count // spec.batch_size)
    epochs = position.stage * spec.epochs + max(0, position.epoch - 1) + position.batch / batches
    return min(1.0, epochs / (len(spec.stages) * spec.epochs))


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


class Desk:
    """One attempt at one job."""

    def __init__(self, store: Store, artifacts: Artifacts, settings: Settings, start: Start, stop: StopFlag) -> None:
        self.store, self.artifacts, self.settings = store, artifacts, settings
        self.job_id, self.attempt, self.spec = start.job_id, start.attempt, start.spec
        self.stop = stop
        self.notebook = Notebook(start.attempt)
        self.message = "starting"
        self._began = clock()
        self._fraction = 0.0
        self._first_fraction: float | None = None  # of this attempt, which may have begun in the middle
        self._leased = self._recorded = self._saved = clock()
        self._saved_position: Position | None = None

    def on_epoch(self, report: EpochReport) -> Control:
        """The end of an epoch: checkpoint first, then rows and progress in one transaction."""
        self.message = report.message
        if not report.rows and clock() - self._saved < UNMEASURED_SECONDS:
            return self._control(Command.run)
        name = epoch_name(report.layers[-1], report.epoch) if report.rows else STEP
        self._save(name, report.checkpoint)
        return self._record(report.fraction, rows=report.rows, checkpoint=name)

    def on_batch(self, report: BatchReport) -> Control:
        """Between two batches: nothing, or from time to time progress, or a checkpoint."""
        now = clock()
        if self.stop.asked.is_set():
            return "stop"
        if now - self._saved >= self.settings.checkpoint_seconds:
            self._save(STEP, report.checkpoint())
            return self._record(report.fraction, checkpoint=STEP)
        if now - self._recorded >= PROGRESS_SECONDS:
            return self._record(report.fraction)
        return "run"

    def on_cells(self, report: CellsReport) -> Control:
        """Finished cells of a check, which are its checkpoint: their margins first, so that a cell on record has its own."""
        self.message = report.message
        self._put(margins_name(report.cells[0].seed, report.cells[0].width), write_margins(report.margins))
        return self._record(report.fraction, rows=report.cells)

    def keep(self, checkpoint: Checkpoint | None) -> None:
        """Save where an interrupted run stands, unless that is saved already."""
        if checkpoint is None or not self.stop.keep or checkpoint.position == self._saved_position:
            return
        self._save(STEP, checkpoint)
        self._record(self._fraction, checkpoint=STEP)

    def finish(self, result: RunResult) -> None:
        """The result: the job has succeeded."""
        spent = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in result.provenance.wall_seconds.items())
        self.notebook.note(f"done: {spent}")
        log = self.notebook.take()
        patiently(lambda: self.store.finish(self.job_id, self.attempt, result, log), self.stop.asked)

    def fail(self, error: JobError, diagnostics: tuple[Diagnostic, ...] = ()) -> None:
        """The job has failed, for a reason that its user can read."""
        log = self.notebook.take()
        patiently(lambda: self.store.fail(self.job_id, self.attempt, error, diagnostics, log), self.stop.asked)

    def resume_point(self, spec: TrainSpec) -> Checkpoint | None:
        """The newest good checkpoint of a training job, with its rows recorded; None: from the start."""
        for name in self._candidates():
            checkpoint = self._load(name)
            if checkpoint is not None:
                log.info("%s resumes from %s", self.job_id, name)
                self.message = f"resumed from {name.removesuffix('.safetensors')}"
                self.notebook.note(f"{self.message}, {fraction_at(spec, checkpoint.position):.0%} done")
                self._saved_position = checkpoint.position
                for start in range(0, len(checkpoint.rows), ROWS_AT_ONCE):
                    rows = checkpoint.rows[start : start + ROWS_AT_ONCE]
                    self._record(fraction_at(spec, checkpoint.position), rows=rows)
                return checkpoint
        return None

    def cells_so_far(self) -> tuple[CheckCell, ...]:
        """The finished cells of a check job."""
        return tuple(CheckCell.model_validate(row) for row in self.store.rows(self.job_id))

    def _candidates(self) -> Iterator[str]:
        latest = self.store.latest_checkpoint(self.job_id)
        if latest is None:
            return
        yield latest
        older = sorted((name for name in self.artifacts.names(self.job_id) if EPOCH_NAME.fullmatch(name)), reverse=True)
        yield from (name for name in older if name != latest)

    def _load(self, name: str) -> Checkpoint | None:
        try:
            checkpoint = Checkpoint.from_bytes(self.artifacts.get(self.job_id, name))
        except (KeyError, ArtifactDamaged, ValueError) as error:
            log.warning("%s: %s cannot be used (%s); the one before is tried", self.job_id, name, error)
            return None
        return checkpoint if checkpoint.spec_digest == digest(self.spec) else None

    def _save(self, name: str, checkpoint: Checkpoint) -> None:
        self._put(name, checkpoint.to_bytes())
        self._saved, self._saved_position = clock(), checkpoint.position

    def _put(self, name: str, data: bytes) -> None:
        self._be_sure_of_the_lease()
        self.artifacts.put(self.job_id, name, data)

    def _be_sure_of_the_lease(self) -> None:
        """Raise LeaseLost where another attempt has begun: this process may have been frozen, or the database away."""
        now = clock()
        if now - self._leased > self.settings.lease_seconds / 2:
            patiently(lambda: self.store.renew(self.job_id, self.attempt, self.settings.lease_seconds), self.stop.asked)
            self._leased = now

    def _record(self, fraction: float, *, rows: Sequence[Row] = (), checkpoint: str | None = None) -> Control:
        now = clock()
        self._fraction = fraction
        progress = Progress(fraction=fraction, message=self.message, eta_seconds=self._eta(now, fraction))
        lines = self.notebook.take()
        command = patiently(
            lambda: self.store.record(
                self.job_id,
                self.attempt,
                lease_seconds=self.settings.lease_seconds,
                progress=progress,
                rows=rows,
                checkpoint=checkpoint,
                log=lines,
            ),
            self.stop.asked,
        )
        self._leased = self._recorded = now
        return self._control(command)

    def _control(self, command: Command) -> Control:
        return "run" if command is Command.run and not self.stop.asked.is_set() else "stop"

    def _eta(self, now: float, fraction: float) -> float | None:
        if self._first_fraction is None:
            self._began, self._first_fraction = now, fraction
        done = fraction - self._first_fraction
        return (now - self._began) * (1 - fraction) / done if done > 0 else None
