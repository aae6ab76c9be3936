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
from ffengine.datasets import Datasets
from ffengine.forecasting import forecast
from ffengine.interrupts import Diverged, Interrupted
from ffengine.piece_sizes import smaller_pieces
from ffengine.plugins import REGISTRY
from ffengine.provenance import device_name
from ffengine.results import RunResult
from ffengine.spec import CheckSpec, ForecastSpec, TrainSpec
from ffengine.training import train
from ffengine.version import VERSION
from service.artifacts import ArtifactDamaged, Artifacts, epoch_name
from service.background.shared_uploads import SharedUploads
from service.encoding.log_format import log_to_stderr, logged_with
from service.host.memory import usable_memory
from service.settings import Settings
from service.store import LeaseLost, Store
from service.store.trained_weights import WeightsNotFound, find_weights
from workers.attempt import AttemptRecorder, StopFlag
from workers.db_retry import DatabaseStillAway, retry_while_unavailable
from workers.devices import AUTO, GpuLocks, NoDevice, choose
from workers.error_mapping import (
    DeviceFailed,
    failure_of,
    is_device_failure,
    is_machine_failure,
    is_out_of_memory,
    one_line,
)
from workers.gpus import find_gpus
from workers.job_data import JobData, WrongData
from workers.protocol import (
    EXIT_DEVICE_FAILED,
    TO_RUNNER,
    Begins,
    Ended,
    Outcome,
    Ready,
    Start,
    Stop,
    line,
    log_fields,
)

OOM_SCORE = "500"  # where memory is short, the kernel kills the runner before database and API

log = logging.getLogger(__name__)


class Unfit(Exception):
    """This machine cannot compute a job that another could; the message says why, in one line."""


class OutOfMemory(Exception):
    """The memory of this machine was not enough for a job; the message says what ran out."""


class Runner:
    """Computes jobs on one device."""

    def __init__(self, store: Store, artifacts: Artifacts, settings: Settings, device: str) -> None:
        self.store, self.artifacts, self.settings, self.device = store, artifacts, settings, device
        self.data = JobData(store, SharedUploads(store, artifacts, settings))
        self.stop = StopFlag()

    def run(self, start: Start) -> Outcome:
        """Compute a job and record how it ended.

        Raises DeviceFailed if the accelerator is unusable for this process, Unfit if this machine
        cannot compute the job, WrongData if it lacks the data of this one, and OutOfMemory.
        """
        recorder = AttemptRecorder(self.store, self.artifacts, self.settings, start, self.stop)
        recorder.attempt_log.note(
            f"begins on {platform.node()}, {self.device} "
            f"({device_name(torch.device(self.device))}), fflab {VERSION}"
            f"{', in smaller pieces, as memory had run out' if start.in_parts else ''}"
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
        except OSError as error:
            self._refuse_machine_failure(start, error)
            raise
        finally:
            recorder.close()
            logging.getLogger().removeHandler(recorder.attempt_log)

    def _refuse_machine_failure(self, start: Start, error: Exception) -> None:
        """Raise Unfit where not the job is to blame for what was raised."""
        if is_machine_failure(error):
            log.exception(
                "%s attempt %d: the machine failed",
                start.job_id,
                start.attempt,
                extra=log_fields(start),
            )
            raise Unfit(one_line(error)) from error

    def _run(self, start: Start, recorder: AttemptRecorder) -> Outcome:
        try:
            with smaller_pieces(are_wanted=start.in_parts):
                result = self._compute(start, recorder)
            recorder.finish(result)
        except Interrupted as interrupted:
            return self._interrupted(recorder, interrupted)
        except (LeaseLost, DatabaseStillAway, WrongData):
            raise
        except Diverged as diverged:
            recorder.fail(failure_of(diverged), (diverged.diagnostic,))
            return "failed"
        except Exception as error:
            if is_device_failure(error):
                raise DeviceFailed(str(error)) from error
            if is_out_of_memory(error):
                raise OutOfMemory(one_line(error)) from error
            self._refuse_machine_failure(start, error)
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
        recorder.datasets = retry_while_unavailable(
            lambda: self.data.of(start), self.stop.requested
        )
        if isinstance(start.spec, TrainSpec):
            return train(
                start.spec,
                device=self.device,
                on_epoch=recorder.on_epoch,
                on_batch=recorder.on_batch,
                resume=recorder.load_checkpoint(start.spec),
                datasets=recorder.datasets,
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
                datasets=recorder.datasets,
            )
        trained_spec, trained = self._trained_weights(start.spec, recorder.datasets)
        return check(
            start.spec,
            device=self.device,
            on_cells=recorder.on_cells,
            resume=recorder.recorded_cells(),
            trained=trained,
            trained_spec=trained_spec,
            datasets=recorder.datasets,
        )

    def _trained_weights(
        self, spec: CheckSpec, datasets: Datasets
    ) -> tuple[TrainSpec | None, Checkpoint | None]:
        """The spec of the training job that a check refers to, and its checkpoint at that epoch.

        Raises WeightsNotFound, and DatasetError where a data set of either is not there.
        """
        source = find_weights(self.store.jobs, spec, datasets)
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


class Named(BaseModel):
    """What is looked for in a message that cannot be read otherwise: which attempt it is of."""

    job_id: str
    attempt: int


class MessageReader(threading.Thread):
    """Reads the supervisor's messages: puts jobs into `jobs`, and sets the stop flag at once.

    For a job that it cannot read it puts the answer there. When the supervisor has closed the pipe,
    it stops the attempt and puts None into `jobs`.
    """

    def __init__(self, source: BinaryIO, stop: StopFlag) -> None:
        super().__init__(name="message-reader", daemon=True)
        self.source, self.stop = source, stop
        self.jobs: queue.SimpleQueue[Start | Ended | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Read until the supervisor closes the pipe."""
        for raw in self.source:
            try:
                message = TO_RUNNER.validate_json(raw)
            except ValidationError as error:
                log.exception("the supervisor sent an unreadable message")
                if answer := answer_to_unreadable(raw, error):
                    self.jobs.put(answer)
                continue
            if isinstance(message, Stop):
                self.stop.set(save_checkpoint=message.save_checkpoint)
            else:
                self.stop.clear()
                self.jobs.put(message)
        self.stop.set(save_checkpoint=False)
        self.jobs.put(None)


def answer_to_unreadable(raw: bytes, error: ValidationError) -> Ended | None:
    """The answer to a job that this process cannot read; None where it names no attempt.

    Its supervisor could read it, so that another version of fflab, or of a plug-in, was installed
    since one of the two was started.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    with contextlib.suppress(ValueError):
        named = Named.model_validate_json(raw)
        reason = f"its runner cannot read the job ({where}: {first['msg']}); restart the worker"
        return Ended(job_id=named.job_id, attempt=named.attempt, outcome="unfit", reason=reason)
    return None


class TerminationWatch(threading.Thread):
    """At SIGTERM, has the attempt stop with a checkpoint and the runner end after it.

    systemd and Slurm send the signal to all processes of a worker at once. A thread, because a
    handler must not take the lock of an event, which the interrupted code may hold.
    """

    def __init__(self, reader: MessageReader) -> None:
        super().__init__(name="termination-watch", daemon=True)
        self.reader = reader
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def note(self, number: int, _frame: object) -> None:
        """Handle the signal."""
        self._signals.put(number)

    def run(self) -> None:
        """Wait for the signal, then pass it on."""
        self._signals.get()
        self.reader.jobs.put(None)
        self.reader.stop.set(save_checkpoint=True)


def choose_device(asked: str, locks: GpuLocks) -> str:
    """The torch device for auto, cpu or cuda:N, held for this process. Raises NoDevice."""
    if asked == "cpu":
        return asked
    gpus = find_gpus()
    device = choose(asked, gpus, locks.take)
    number = torch.device(device).index or 0
    if asked != AUTO and number < len(gpus.ids):
        locks.take_when_free(gpus.ids[number])
    if device == "cpu":
        log.info("this machine has no GPU of NVIDIA: jobs are computed on the CPU")
    return device


def refuse_broken(device: torch.device) -> None:
    """Compute on the device, and end the process with the reason in one line where that fails.

    A device is named in a list of devices also where its driver or its memory is broken.
    """
    try:
        ones = torch.ones(64, 64, device=device)
        found = float((ones @ ones).sum())
    except Exception as error:  # noqa: BLE001 - whatever a driver raises is the reason
        sys.exit(f"{device} does not compute: {one_line(error)}")
    if found != 64.0**3:
        sys.exit(f"{device} computes wrongly: a product that is {64**3} came out as {found:g}")


def memory_bytes(device: str) -> int:
    """How much memory a device has, in bytes; for a CPU what this process may use."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory
    return host_memory_bytes()


def host_memory_bytes() -> int:
    """How much of the machine's memory this process may use, in bytes."""
    return usable_memory(psutil.virtual_memory().total)


def private_output() -> BinaryIO:
    """Take standard output for messages to the supervisor alone.

    What a library prints from now on goes to standard error, which is the log.
    """
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return channel


def on_terminate(_number: int, _frame: object) -> NoReturn:
    """Exit at once at SIGTERM, before any job is begun."""
    sys.exit(128 + signal.SIGTERM)


def main() -> None:
    """Run the program `python -m workers.runner --device DEVICE`."""
    parser = argparse.ArgumentParser(prog="workers.runner")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    channel = private_output()
    signal.signal(signal.SIGTERM, on_terminate)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr("runner", logging.INFO)
    logging.captureWarnings(capture=True)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123 - not a file
        score.write(OOM_SCORE)
    settings = Settings()
    try:
        device = choose_device(given.device, GpuLocks())
    except NoDevice as refusal:
        sys.exit(str(refusal))
    store = Store(settings.database, kept_connections=1)
    runner = Runner(store, Artifacts(settings.artifact_place), settings, device)
    gc.freeze()
    gc.enable()
    serve(runner, sys.stdin.buffer, channel)
    # not by the interpreter's end, which fails while a thread reads from standard input
    logging.shutdown()
    os._exit(0)


def serve(runner: Runner, source: BinaryIO, channel: BinaryIO) -> None:
    """Report that the runner is ready, then compute jobs until the supervisor is gone."""
    reader = MessageReader(source, runner.stop)
    reader.start()
    watch = TerminationWatch(reader)
    watch.start()
    signal.signal(signal.SIGTERM, watch.note)
    device = torch.device(runner.device)
    refuse_broken(device)
    send(
        channel,
        Ready(
            device=runner.device,
            device_name=device_name(device),
            memory_bytes=memory_bytes(runner.device),
            host_memory_bytes=host_memory_bytes(),
            threads=torch.get_num_threads(),
            plugins=[plugin.identity for plugin in REGISTRY.plugins],
        ),
    )
    while (start := reader.jobs.get()) is not None:
        if isinstance(start, Ended):
            send(channel, start)
        else:
            with logged_with(**log_fields(start)):  # also warnings of libraries
                send(channel, _answered(runner, start, channel))
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _answered(runner: Runner, start: Start, channel: BinaryIO) -> Ended:
    """Compute a job; the message that it has ended."""
    log.info("%s attempt %d begins", start.job_id, start.attempt, extra=log_fields(start))
    send(channel, Begins(job_id=start.job_id, attempt=start.attempt))
    outcome: Outcome = "unfit"
    reason = error = None
    try:
        outcome = runner.run(start)
    except Unfit as unfit:
        reason = str(unfit)
    except OutOfMemory as full:
        outcome, reason = "out_of_memory", str(full)
    except WrongData as wrong:
        reason, error = str(wrong), wrong.error
    except DeviceFailed:
        log.exception(
            "%s attempt %d: the device failed; this process ends",
            start.job_id,
            start.attempt,
            extra=log_fields(start),
        )
        sys.exit(EXIT_DEVICE_FAILED)
    log.info("%s attempt %d: %s", start.job_id, start.attempt, outcome, extra=log_fields(start))
    return Ended(
        job_id=start.job_id, attempt=start.attempt, outcome=outcome, reason=reason, error=error
    )


def send(channel: BinaryIO, message: BaseModel) -> None:
    """Send a message to the supervisor. If it is gone, the runner ends soon as well."""
    with contextlib.suppress(BrokenPipeError):
        channel.write(line(message))


if __name__ == "__main__":
    main()
