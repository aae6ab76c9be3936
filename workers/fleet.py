"""One worker for each of several devices of a machine, started by one command.

Each is a process of its own, with its own consumer of messages, its own runner, and its own line
in the list of workers: where a device is not fit, the others go on. This process computes nothing,
and never loads torch or CUDA.
"""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from service.host.end_signals import noted_signals
from service.host.stay import FOR_EVER, Stay
from service.settings import Settings
from service.stack.child_process import ChildProcess
from workers.devices import GpuLocks, Gpus, NoDevice, choose_all

FIND_SECONDS = 300.0  # to load PyTorch from a network folder may take minutes
LOOK_SECONDS = 0.2
SLACK_SECONDS = 5.0  # beyond the time that a worker has to hand its job back

log = logging.getLogger(__name__)


def find_devices() -> list[str]:
    """The GPUs of this machine that no other worker holds, as torch devices. Raises NoDevice."""
    locks = GpuLocks()
    return choose_all(ask_for_gpus([sys.executable, "-P", "-m", "workers.gpus"]), locks.is_free)


def ask_for_gpus(command: Sequence[str]) -> Gpus:
    """The GPUs that a program names in one line of JSON. Raises NoDevice where it fails."""
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=FIND_SECONDS, check=False
        )
        found = json.loads(asked.stdout.strip().rpartition("\n")[2])
        return Gpus(**found)
    except subprocess.TimeoutExpired:
        why = f"PyTorch did not answer within {FIND_SECONDS:.0f} s"
    except (ValueError, TypeError):
        why = (asked.stderr.strip() or "it said nothing").splitlines()[-1]
    raise NoDevice(f"the GPUs of this machine cannot be listed: {why}")


def serve_devices(
    devices: Sequence[str], arguments: Sequence[str], settings: Settings, stay: Stay = FOR_EVER
) -> None:
    """Run a worker for each device until a signal ends this process, or each worker has left.

    A worker that dies is started again. Call it in the main thread.

    **Arguments:**

    - `devices`: names of torch devices, one for each worker.
    - `arguments`: more arguments of `python -m workers` for each of them.
    - `settings`: those of this process, which the workers read anew from the environment.
    - `stay`: how long the workers stay: one whose stay may be over is not started again.
    """
    fleet = [_worker_of(device, arguments) for device in devices]
    with noted_signals() as end_request:
        for worker in fleet:
            worker.start()
        log.info("serving %s, with a worker for each", ", ".join(devices))
        while fleet and not end_request.wait(LOOK_SECONDS):
            fleet = [worker for worker in fleet if not _has_left(worker, stay)]
            for worker in fleet:
                worker.restart_if_dead()
        _stop(fleet, settings.stop_seconds + SLACK_SECONDS)


def _worker_of(device: str, arguments: Sequence[str]) -> ChildProcess:
    command = [sys.executable, "-P", "-m", "workers", "--device", device, *arguments]
    return ChildProcess(f"the worker of {device}", command, environment=os.environ)


def _has_left(worker: ChildProcess, stay: Stay) -> bool:
    """Whether a worker has ended in good order because its stay was over."""
    return stay != FOR_EVER and worker.process is not None and worker.process.poll() == 0


def _stop(fleet: Sequence[ChildProcess], seconds: float) -> None:
    """End all workers, each of which hands its job back meanwhile."""
    for worker in fleet:
        if worker.process is not None:
            worker.process.terminate()
    until = time.monotonic() + seconds
    for worker in fleet:
        worker.stop(max(0.0, until - time.monotonic()))
