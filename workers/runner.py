"""The runner: a warm process with torch loaded that computes one job after the other, told so over
its standard input.

Its supervisor may end it at any moment: what counts is in the database and the artifact store.
"""

import argparse
import contextlib
import logging
import os
import platform
import queue
import signal
import sys
import threading
from typing import BinaryIO, NoReturn

import torch
from pydantic import BaseModel, ValidationError

from ffengine.checking import check
from ffengine.checkpoint import Checkpoint
from ffengine.datasets import look_in
from ffengine.interrupts import Diverged, Interrupted
from ffengine.provenance import device_name
from ffengine.results import RunResult
from ffengine.spec import CheckSpec, TrainedWeights, TrainSpec
from ffengine.training import train
from ffengine.version import VERSION
from service.artifacts import ArtifactDamaged, Artifacts, epoch_name
from service.settings import Settings
from service.store import LeaseLost, Store
from workers.attempt import AttemptRecorder, StopFlag
from workers.db_retry import DatabaseStillAway
from workers.error_mapping import DeviceFailed, WeightsMissing, failure_of, is_device_failure
from workers.protocol import TO_RUNNER, Ended, Outcome, Ready, Start, Stop, line

EXIT_DEVICE_FAILED = 70
OOM_SCORE = (
    "500"  # when memory is short, the kernel is to take the runner before the database and the API
)

log = logging.getLogger(__name__)


class Runner:
    """Computes jobs on one device."""

    def __init__(self, store: Store, artifacts: Artifacts, settings: Settings, device: str) -> None:
        self.store, self.artifacts, self.settings, self.device = store, artifacts, settings, device
        self.stop = StopFlag()

    def run(self, start: Start) -> Outcome:
        """Compute a job to its end, whatever that is.

        Raises DeviceFailed where this process is of no more use.
        """
        recorder = AttemptRecorder(self.store, self.artifacts, self.settings, start, self.stop)
        recorder.notebook.note(
            f"begins on {platform.node()}, {self.device} "
            f"({device_name(torch.device(self.device))}), fflab {VERSION}"
        )
        logging.getLogger().addHandler(recorder.notebook)
        try:
            self.artifacts.tidy(start.job_id)
            return self._run(start, recorder)
        except LeaseLost:
            log.warning(
                "%s attempt %d: the lease is lost, nothing more is written",
                start.job_id,
                start.attempt,
            )
            return "lost"
        except DatabaseStillAway:
            return "stopped"
        finally:
            logging.getLogger().removeHandler(recorder.notebook)

    def _run(self, start: Start, recorder: AttemptRecorder) -> Outcome:
        try:
            recorder.finish(self._compute(start, recorder))
        except Interrupted as interrupted:
            return self._interrupted(recorder, interrupted)
        except (LeaseLost, DatabaseStillAway):
            raise
        except Diverged as diverged:
            recorder.fail(failure_of(diverged), (diverged.diagnostic,))
            return "failed"
        except Exception as error:
            if is_device_failure(error):
                raise DeviceFailed(str(error)) from error
            log.exception("%s attempt %d failed", start.job_id, start.attempt)
            recorder.fail(failure_of(error))
            return "failed"
        return "succeeded"

    def _interrupted(self, recorder: AttemptRecorder, interrupted: Interrupted) -> Outcome:
        if not self.stop.keep:
            return "lost"
        try:
            recorder.keep(interrupted.checkpoint)
        except OSError:
            log.exception(
                "%s: no checkpoint could be written at the stop; the one before counts",
                recorder.job_id,
            )
        return "stopped"

    def _compute(self, start: Start, recorder: AttemptRecorder) -> RunResult:
        if isinstance(start.spec, TrainSpec):
            return train(
                start.spec,
                device=self.device,
                on_epoch=recorder.on_epoch,
                on_batch=recorder.on_batch,
                resume=recorder.load_checkpoint(start.spec),
            )
        at = start.spec.at
        trained_spec, trained = (
            self._weights(at, start.spec) if isinstance(at, TrainedWeights) else (None, None)
        )
        return check(
            start.spec,
            device=self.device,
            on_cells=recorder.on_cells,
            resume=recorder.cells_so_far(),
            trained=trained,
            trained_spec=trained_spec,
        )

    def _weights(self, at: TrainedWeights, spec: CheckSpec) -> tuple[TrainSpec, Checkpoint]:
        """The spec of the training job that a check refers to, and its checkpoint at the end of the
        epoch.
        """
        job = self.store.jobs.get(at.job)
        if job is None or not isinstance(job.spec, TrainSpec):
            raise WeightsMissing(f"at.job: there is no training job {at.job}")
        try:
            spec.refuse_misfit(job.spec)
            stage = next(layers for layers in job.spec.stages if at.layer in layers)
            data = self.artifacts.get(job.cached_from or job.id, epoch_name(stage[-1], at.epoch))
            return job.spec, Checkpoint.from_bytes(data)
        except (KeyError, ArtifactDamaged) as error:
            raise WeightsMissing(
                f"at: {at.job} has no checkpoint of layer {at.layer} at epoch {at.epoch}"
            ) from error
        except ValueError as error:
            raise WeightsMissing(str(error)) from error


class MessageReader(threading.Thread):
    """Listens to the supervisor: jobs go into `jobs`, stops raise the flag at once, and its end
    ends us.
    """

    def __init__(self, source: BinaryIO, stop: StopFlag) -> None:
        super().__init__(name="inbox", daemon=True)
        self.source, self.stop = source, stop
        self.jobs: queue.SimpleQueue[Start | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Read until the supervisor closes the pipe."""
        for raw in self.source:
            try:
                message = TO_RUNNER.validate_json(raw)
            except ValidationError:
                log.exception("a message that is none")
                continue
            if isinstance(message, Stop):
                self.stop.set(keep=message.keep)
            else:
                self.stop.clear()
                self.jobs.put(message)
        self.stop.set(keep=False)
        self.jobs.put(None)


def choose_device(asked: str) -> str:
    """The torch device for auto, cpu or cuda:N."""
    if asked == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    return asked


def memory_bytes(device: str) -> int:
    """How much memory a device has."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def private_output() -> BinaryIO:
    """The pipe to the supervisor, out of the way of whatever a library prints: that goes to the
    log.
    """
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return channel


def on_terminate(_number: int, _frame: object) -> NoReturn:
    """SIGTERM: end wherever the program is; the last checkpoint counts."""
    sys.exit(128 + signal.SIGTERM)


def main() -> None:
    """`python -m workers.runner --device DEVICE`."""
    parser = argparse.ArgumentParser(prog="workers.runner")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    channel = private_output()
    signal.signal(signal.SIGTERM, on_terminate)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s runner %(process)d: %(message)s"
    )
    logging.captureWarnings(capture=True)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123 - not a file
        score.write(OOM_SCORE)
    settings = Settings()
    look_in(settings.data_root)
    runner = Runner(
        Store(settings.database),
        Artifacts(settings.artifacts),
        settings,
        choose_device(given.device),
    )
    serve(runner, sys.stdin.buffer, channel)


def serve(runner: Runner, source: BinaryIO, channel: BinaryIO) -> None:
    """Say that we are ready, then compute what comes until the supervisor is gone."""
    inbox = MessageReader(source, runner.stop)
    inbox.start()
    device = torch.device(runner.device)
    say(
        channel,
        Ready(
            device=runner.device,
            device_name=device_name(device),
            memory_bytes=memory_bytes(runner.device),
        ),
    )
    while (start := inbox.jobs.get()) is not None:
        log.info("%s attempt %d begins", start.job_id, start.attempt)
        try:
            outcome = runner.run(start)
        except DeviceFailed:
            log.exception(
                "%s attempt %d: the device failed; this process ends", start.job_id, start.attempt
            )
            sys.exit(EXIT_DEVICE_FAILED)
        log.info("%s attempt %d: %s", start.job_id, start.attempt, outcome)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        say(channel, Ended(job_id=start.job_id, attempt=start.attempt, outcome=outcome))


def say(channel: BinaryIO, message: BaseModel) -> None:
    """Tell the supervisor; where it is gone, so are we soon."""
    with contextlib.suppress(BrokenPipeError):
        channel.write(line(message))


if __name__ == "__main__":
    main()
