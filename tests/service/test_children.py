"""Children of the stack: they end with their parent, are restarted, and can always be stopped."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.host.processes import start_ticks
from service.stack.child_process import ChildProcess, rotate


def program(code: str) -> list[str]:
    return [sys.executable, "-c", "import os, signal, sys, time\n" + code]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[ChildProcess]:
    made = ChildProcess(
        "child",
        program("print('up', flush=True); time.sleep(3600)"),
        environment=os.environ,
        log_file=tmp_path / "child.log",
    )
    yield made
    made.stop(0)


def wait_for_log(child: ChildProcess, words: str) -> None:
    wait_until(lambda: words in child.reason(), f"its log says {words!r}", seen=child.reason)


def restart_when_due(child: ChildProcess) -> float:
    """Seconds until the child was started again."""
    began = time.monotonic()
    wait_until(child.restart_if_dead, "it is started again", pause=0.01)
    return time.monotonic() - began


@pytest.mark.slow
def test_a_child_that_dies_is_started_again_after_growing_pauses(child: ChildProcess) -> None:
    child.start()
    assert not child.restart_if_dead()
    pauses = []
    for _ in range(2):
        assert child.process is not None
        child.process.kill()
        child.process.wait()
        pauses.append(restart_when_due(child))
    assert pauses[0] > 0.4
    assert pauses[1] > 0.9
    assert child.failures == 2


@pytest.mark.slow
def test_after_a_second_failure_the_callback_is_called(child: ChildProcess) -> None:
    calls: list[int] = []
    child.command, child.after_failure = (
        program("sys.exit(1)"),
        lambda: calls.append(child.failures),
    )
    child.start()
    for _ in range(2):
        restart_when_due(child)
    assert calls == [2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "code", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"], ids=["obedient", "stubborn"]
)
def test_a_child_is_stopped_with_all_its_session(child: ChildProcess, code: str) -> None:
    grandchild = "import subprocess; child = subprocess.Popen(['sleep', '3600'])\n"
    child.command = program(f"{grandchild}{code}\nprint(child.pid, flush=True); time.sleep(3600)")
    child.start()
    wait_until(
        lambda: child.reason().isdigit(),
        "it has a child of its own",
        seen=child.reason,
    )
    family = [psutil.Process(child.pid), psutil.Process(int(child.reason()))]
    child.stop(0.3)
    assert not psutil.wait_procs(family, timeout=PATIENCE_SECONDS)[1]


@pytest.mark.slow
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from service.stack.child_process import ChildProcess
log_file = Path({str(tmp_path / "log")!r})
child = ChildProcess("child", ["sleep", "3600"], environment=os.environ, log_file=log_file)
child.start()
print(child.pid, flush=True)
time.sleep(3600)
"""
    with subprocess.Popen(program(code), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        orphan = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert not psutil.wait_procs([orphan], timeout=PATIENCE_SECONDS)[1]


@pytest.mark.slow
def test_a_program_whose_parent_is_gone_already_does_not_start() -> None:
    program_file = Path(__file__).parents[2] / "service" / "host" / "processes.py"
    nobody = 2**22 + 1
    done = subprocess.run(
        [sys.executable, str(program_file), str(nobody), "15", "echo", "started"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == -15
    assert done.stdout == ""


def test_a_process_has_an_identity_until_it_ends() -> None:
    with subprocess.Popen(["sleep", "3600"]) as process:
        identity = start_ticks(process.pid)
        assert identity is not None
        assert start_ticks(process.pid) == identity
        process.kill()
    assert start_ticks(process.pid) is None


def test_a_large_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.stack.child_process.LOG_BYTES", 10)
    log = tmp_path / "child.log"
    rotate(log)
    log.write_text("short")
    rotate(log)
    assert log.exists()
    log.write_text("rather a long one")
    rotate(log)
    assert [path.name for path in tmp_path.iterdir()] == ["child.log.1"]
