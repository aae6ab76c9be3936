"""What contributors run: `make dev` starts the stack again after a change of code; the hooks before
a commit check what lint does.
"""

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks.waiting import PATIENCE_SECONDS
from tests.documents import ROOT

SECONDS = 2 * PATIENCE_SECONDS  # to start a whole stack


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path."""
    made = Path(tempfile.mkdtemp(prefix="fflab-"))
    yield made
    shutil.rmtree(made)


class Dev:
    """The script of `make dev`, and what it has said so far."""

    def __init__(self, folder: Path) -> None:
        self.code = folder / "code"
        self.code.mkdir()
        command = [
            sys.executable,
            "-m",
            "scripts.dev",
            "--home",
            str(folder / "home"),
            "--port",
            "0",
            "--device",
            "cpu",
        ]
        self.process = subprocess.Popen(
            [*command, "--watch", str(self.code)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as output:
            for line in output:
                with self._said:
                    self.lines.append(line)
                    self._said.notify()

    def wait_for(self, words: str, times: int) -> None:
        """Wait until a line with these words was said so many times."""
        with self._said:
            found = self._said.wait_for(
                lambda: sum(words in line for line in self.lines) >= times, SECONDS
            )
        assert found, f"not {times} times {words!r}: {''.join(self.lines)}"

    def close(self) -> None:
        """End it if it still runs."""
        self.process.terminate()
        self.process.wait(SECONDS)
        self._reader.join(SECONDS)


@pytest.fixture
def dev(folder: Path) -> Iterator[Dev]:
    running = Dev(folder)
    yield running
    running.close()


@pytest.mark.stack
@pytest.mark.soak
def test_the_stack_is_started_again_after_a_change_of_code_and_ended_by_ctrl_c(
    dev: Dev, folder: Path
) -> None:
    dev.wait_for("fflab is up: http://127.0.0.1:", 1)
    (dev.code / "notes.txt").write_text("no code")
    (dev.code / "page.html").write_text("a template: it is read anew without a restart")
    (dev.code / "module.py").write_text("x = 1\n")
    dev.wait_for("the code has changed", 1)
    dev.wait_for("fflab is up: http://127.0.0.1:", 2)
    (dev.code / "module.py").touch()
    dev.wait_for("fflab is up: http://127.0.0.1:", 3)
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(SECONDS) == 0
    dev.wait_for("dev: stopped", 1)
    assert sum("the code has changed" in line for line in dev.lines) == 2
    assert sum("fflab has stopped" in line for line in dev.lines) == 3
    assert not (folder / "home" / "stack.json").exists()


@pytest.mark.stack
@pytest.mark.soak
def test_a_stack_that_cannot_start_waits_for_the_next_change(folder: Path) -> None:
    (folder / "home").write_text("a file where a folder belongs")
    dev = Dev(folder)
    try:
        dev.wait_for("fflab up ended with code 3; it is started again after the next change", 1)
        (folder / "home").unlink()
        (dev.code / "module.py").write_text("x = 1\n")
        dev.wait_for("fflab is up: http://127.0.0.1:", 1)
    finally:
        dev.close()
    assert dev.lines[-1] == "dev: stopped\n"


def test_the_hooks_before_a_commit_are_the_checks_of_lint() -> None:
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repo["repo"] for repo in repos] == ["local"], (
        "a hook from elsewhere would have a version of its own"
    )
    hooks = [
        hook["entry"].removeprefix(".venv/bin/").split()[0:2]
        for repo in repos
        for hook in repo["hooks"]
    ]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [lint] = re.findall(r"^lint: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert [words for words in hooks if len(words) == 1 or not words[1].startswith("-")] == [
        line.removeprefix("\t$(BIN)/").split()[0:2]
        if "ruff" in line
        else [line.removeprefix("\t$(BIN)/")]
        for line in lint.splitlines()
    ]
