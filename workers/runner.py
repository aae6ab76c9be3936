"""The runner: a process with torch loaded, which computes the jobs that its standard input names.

Its supervisor may kill it at any moment: only the database and the artifact store keep state.
"""

import argparse
import contextlib
import gc
import logging
import os
import platform
import queue
import signal
import sys
import threading
from typing import BinaryIO, NoReturn

if __name__ == "__main__":
    gc.disable()  # what is loaded stays: to look through it again and again takes time

import psutil
import torch
from pydantic import BaseModel, ValidationError

from ffengine.checking import check
from ffengine.checkpoint import Checkpoint
from ffengine.forecasting import forecast
from ffengine.interrupts import Diverged, Interrupted
from ffengine.plugins import REGISTRY
from ffengine.provenance import device_name
from ffengine.results import RunResult
from ffengine.spec import CheckSpec, ForecastSpec, TrainSpec
from ffengine.training import train
from ffengine.version import VERSION
from service.artifacts import ArtifactDamaged, Artifacts, epoch_name
from service.encoding.log_format import log_to_stderr
from service.settings import Settings
from service.store import LeaseLost, Store
from service.store.trained_weights import WeightsNotFound, find_weights
from workers.attempt import AttemptRecorder, StopFlag
from workers.db_retry import DatabaseStillAway
from workers.error_mapping import DeviceFailed, failure_of, is_device_failure
from workers.protocol import TO_RUNNER, Ended, Outcome, Ready, Start, Stop, line, log_fields

EXIT_DEVICE_FAILED = 70
OOM_SCORE = "500"  # where memory is short, the kernel kills the runner before database and API

log = logging.getLogger(__name__)


class Runner:
    """Computes jobs on one device."""

    def __init__(self, store: Store, artifacts: Artifacts, settings: Settings, device: str) -> None:
        self.store, self.artifacts, self.settings, self.device = store, artifacts, settings, device
        self.stop = StopFlag()

    def run(self, start: Start) -> Outcome:
        """Compute a job and record how it ended.

        Raises DeviceFailed if the accelerator is unusable for this process.
        """
        recorder = AttemptRecorder(self.store, self.artifacts, self.settings, start, self.stop)
        recorder.attempt_log.note(
            f"begins on {platform.node()}, {self.device} "
            f"({device_name(torch.device(self.device))}), fflab {VERSION}"
        )
        logging.getLogger().addHandler(recorder.attempt_log)
        try:
            self.artifacts.tidy(start.job_id)
            return self._run(start, recorder)
        except LeaseLost:
            log.warning(
                "%s attempt %d: the lease is lost, nothing more is written",
                start.job_id,
                start.attempt,
                extra=log_fields(start),
            )
            return "lost"
        except DatabaseStillAway:
            return "stopped"
        finally:
            logging.getLogger().removeHandler(recorder.attempt_log)

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
            log.exception(
                "%s attempt %d failed", start.job_id, start.attempt, extra=log_fields(start)
            )
            recorder.fail(failure_of(error))
            return "failed"
        return "succeeded"

    def _interrupted(self, recorder: AttemptRecorder, interrupted: Interrupted) -> Outcome:
        if not self.stop.save_checkpoint:
            return "lost"
        try:
            recorder.save_on_stop(interrupted.checkpoint)
        except OSError:
            log.exception(
                "%s: no checkpoint could be written at the stop; the one before is used",
                recorder.job_id,
                extra={"job_id": recorder.job_id, "attempt": recorder.attempt},
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
                datasets=self.settings.datasets,
                on_selected=recorder.on_selected,
            )
        if isinstance(start.spec, ForecastSpec):
            resume, points = recorder.load_forecast(start.spec)
            return forecast(
                start.spec,
                device=self.device,
                on_points=recorder.on_points,
                on_batch=recorder.on_batch,
                resume=resume,
                points=points,
                datasets=self.settings.datasets,
            )
        trained_spec, trained = self._trained_weights(start.spec)
        return check(
            start.spec,
            device=self.device,
            on_cells=recorder.on_cells,
            resume=recorder.recorded_cells(),
            trained=trained,
            trained_spec=trained_spec,
            datasets=self.settings.datasets,
        )

    def _trained_weights(self, spec: CheckSpec) -> tuple[TrainSpec | None, Checkpoint | None]:
        """The spec of the training job that a check refers to, and its checkpoint at that epoch.

        Raises WeightsNotFound, and DatasetError where a data set of either is not there.
        """
        source = find_weights(self.store.jobs, spec, self.settings.datasets)
        if source is None:
            return None, None
        at, owner = source.at, source.job.cached_from or source.job.id
        try:
            data = self.artifacts.get(owner, epoch_name(source.last_layer, at.epoch))
            return source.spec, Checkpoint.from_bytes(data)
        except (KeyError, ArtifactDamaged) as error:
            raise WeightsNotFound(
                ("at",), f"{at.job} has no checkpoint of layer {at.layer} at epoch {at.epoch}"
            ) from error
        except ValueError as error:
            raise WeightsNotFound(("at",), f"the weights of {at.job}: {error}") from error


class MessageReader(threading.Thread):
    """Reads the supervisor's messages: puts jobs into `jobs`, and sets the stop flag at once.

    When the supervisor has closed the pipe, it stops the attempt and puts None into `jobs`.
    """

    def __init__(self, source: BinaryIO, stop: StopFlag) -> None:
        super().__init__(name="message-reader", daemon=True)
        self.source, self.stop = source, stop
        self.jobs: queue.SimpleQueue[Start | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Read until the supervisor closes the pipe."""
        for raw in self.source:
            try:
                message = TO_RUNNER.validate_json(raw)
            except ValidationError:
                log.exception("the supervisor sent an unreadable message")
                continue
            if isinstance(message, Stop):
                self.stop.set(save_checkpoint=message.save_checkpoint)
            else:
                self.stop.clear()
                self.jobs.put(message)
        self.stop.set(save_checkpoint=False)
        self.jobs.put(None)


def choose_device(asked: str) -> str:
    """The torch device for auto, cpu or cuda:N."""
    if asked == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    return asked


def memory_bytes(device: str) -> int:
    """How much memory a device has, in bytes; for a CPU the memory of the machine."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def private_output() -> BinaryIO:
    """Take standard output for messages to the supervisor alone.

    What a library prints from now on goes to standard error, which is the log.
    """
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return channel


def on_terminate(_number: int, _frame: object) -> NoReturn:
    """Exit at once at SIGTERM; the next attempt resumes from the last checkpoint."""
    sys.exit(128 + signal.SIGTERM)


def main() -> None:
    """Run the program `python -m workers.runner --device DEVICE`."""
    parser = argparse.ArgumentParser(prog="workers.runner")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    channel = private_output()
    signal.signal(signal.SIGTERM, on_terminate)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr("%(asctime)s %(levelname)s runner %(process)d: %(message)s", logging.INFO)
    logging.captureWarnings(capture=True)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123 - not a file
        score.write(OOM_SCORE)
    settings = Settings()
    runner = Runner(
        Store(settings.database),
        Artifacts(settings.artifacts),
        settings,
        choose_device(given.device),
    )
    gc.freeze()
    gc.enable()
    serve(runner, sys.stdin.buffer, channel)


def serve(runner: Runner, source: BinaryIO, channel: BinaryIO) -> None:
    """Report that the runner is ready, then compute jobs until the supervisor is gone."""
    reader = MessageReader(source, runner.stop)
    reader.start()
    device = torch.device(runner.device)
    send(
        channel,
        Ready(
            device=runner.device,
            device_name=device_name(device),
            memory_bytes=memory_bytes(runner.device),
            plugins=[plugin.identity for plugin in REGISTRY.plugins],
        ),
    )
    while (start := reader.jobs.get()) is not None:
        log.info("%s attempt %d begins", start.job_id, start.attempt, extra=log_fields(start))
        try:
            outcome = runner.run(start)
        except DeviceFailed:
            log.exception(
                "%s attempt %d: the device failed; this process ends",
                start.job_id,
                start.attempt,
                extra=log_fields(start),
            )
            sys.exit(EXIT_DEVICE_FAILED)
        log.info("%s attempt %d: %s", start.job_id, start.attempt, outcome, extra=log_fields(start))
        if device.type == "cuda":
            torch.cuda.empty_cache()
        send(channel, Ended(job_id=start.job_id, attempt=start.attempt, outcome=outcome))


def send(channel: BinaryIO, message: BaseModel) -> None:
    """Send a message to the supervisor. If it is gone, the runner ends soon as well."""
    with contextlib.suppress(BrokenPipeError):
        channel.write(line(message))


if __name__ == "__main__":
    main()
