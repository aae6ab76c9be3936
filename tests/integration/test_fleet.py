"""One worker for each of several devices, started by one command, with the real parts."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.host.processes import start_ticks
from service.stack.stack import Stack, environment_of
from tests.stack import Lab

pytestmark = pytest.mark.stack
SPEC = {
    "kind": "train",
    "dataset": {"train_samples": 100, "test_samples": 50},
    "network": {"widths": [8]},
    "epochs": 1,
    "batch_size": 50,
    "monitor": {"samples": 50},
}
# the machine of the tests has no GPU: each of the workers has its CPU, and is real otherwise
PROGRAM = """
import sys
from service.host.stay import Stay
from service.settings import Settings
from workers.fleet import serve_devices
serve_devices(["cpu", "cpu"], sys.argv[1:], Settings(), Stay(*map(float, sys.argv[2:3])))
"""


@contextmanager
def fleet(stack: Stack, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    environment = environment_of(stack.settings, stack.redis_url)
    command = [sys.executable, "-P", "-c", PROGRAM, *arguments]
    process = subprocess.Popen(
        command, env=environment | {"PYTHONPATH": str(Path.cwd())}, start_new_session=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def others(lab: Lab, of: int) -> list[int]:
    """The processes of the workers that a fleet started."""
    started = {child.pid for child in psutil.Process(of).children()}
    return [one["pid"] for one in lab.workers() if one["pid"] in started]


def test_each_device_has_a_worker_and_all_sign_off(stack: Stack, lab: Lab) -> None:
    with fleet(stack, "--tags=two") as process:
        both = wait_until(
            lambda: found if len(found := others(lab, process.pid)) == 2 else None,
            "two workers are alive",
        )
        jobs = [lab.submit(SPEC, needs={"tags": ["two"]}, name=str(n)) for n in range(4)]
        for job in jobs:
            lab.succeeded(job)
        os.kill(both[0], signal.SIGKILL)
        wait_until(
            lambda: len(set(others(lab, process.pid)) - {both[0]}) == 2,
            "another one takes the place of the one that died",
        )
        assert both[1] in others(lab, process.pid), "the other was left alone"
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
        assert not [child for child in children if start_ticks(child.pid)]
    alive = [one["pid"] for one in lab.workers()]
    assert both[1] not in alive, "it signed off"


def test_a_fleet_ends_when_all_of_its_workers_have_left(stack: Stack) -> None:
    with fleet(stack, "--exit-when-idle", "0.5") as process:
        assert process.wait(PATIENCE_SECONDS) == 0
