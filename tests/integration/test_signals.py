"""Ignored signals stay ignored, as under nohup; others end a start with a message."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.stack.stack import read_state
from tests.ports import free_port


def ignores(process: psutil.Process, number: signal.Signals) -> bool:
    """Whether the kernel says that a process ignores a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@contextmanager
def ignoring(names: str, *arguments: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A program of fflab that a shell starts with some signals ignored."""
    command = ["sh", "-c", f'trap "" {names}; exec "$@"', "sh", sys.executable, "-P", "-m"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "service.cli", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("names", [pytest.param("HUP", marks=pytest.mark.soak), "HUP INT"])
def test_a_stack_goes_on_after_signals_that_it_was_told_to_ignore(
    redis_server: Path, home: Path, names: str
) -> None:
    log = home / "nohup.out"
    numbers = [signal.Signals[f"SIG{name}"] for name in names.split()]
    with ignoring(names, "up", "--home", str(home), "--port", "0", log=log) as process:
        wait_until(lambda: "fflab is up" in log.read_text(), "the stack is up", seen=log.read_text)
        state = read_state(home / "stack.json")
        assert state is not None
        worker = psutil.Process(state.children["worker"].pid)
        wait_until(
            lambda: "ready." in (home / "logs" / "worker.log").read_text(), "the worker is ready"
        )
        for number in numbers:
            for one in (process.pid, worker.pid, state.children["api"].pid):
                psutil.Process(one).send_signal(number)
        wait_until(lambda: ignores(worker, signal.SIGHUP), "the worker ignores SIGHUP")
        for _ in range(20):  # a stop would begin within a tenth of a second
            assert answers(state.url)
        assert "has stopped" not in log.read_text()
        assert worker.is_running()
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    assert "fflab has stopped" in log.read_text()


def test_an_api_in_the_background_leaves_ctrl_c_to_the_foreground(home: Path) -> None:
    port, log = str(free_port()), home / "api.out"
    with ignoring("INT", "api", "--port", port, log=log) as process:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}"), "the API answers")
        process.send_signal(signal.SIGINT)
        for _ in range(20):
            assert answers(f"http://127.0.0.1:{port}")
        assert "Shutting down" not in log.read_text()


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGHUP, marks=pytest.mark.soak),
        pytest.param(signal.SIGINT, marks=pytest.mark.soak),
    ],
)
def test_a_signal_during_the_start_ends_it_with_a_message(
    redis_server: Path, home: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-P", "-m", "service.cli", "up", "--home", str(home), "--port", "0"]
    out = b"it was up before the signal came"
    while out:  # where this process got no turn for as long as the start takes
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            family = wait_until(
                lambda: psutil.Process(process.pid).children(),
                "the first child is there",
            )
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert out == b""
    assert err.decode().splitlines()[-1] == (
        f"fflab: {number.name} came before fflab was up: nothing is left running"
    )
    assert not psutil.wait_procs(family, timeout=PATIENCE_SECONDS)[1]
    assert not (home / "stack.json").exists()
