"""Orphans of a stack that was killed: processes of this home are ended, others are left alone."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.waiting import PATIENCE_SECONDS
from service.host.processes import belongs_to_home, start_ticks
from service.stack import stack
from service.stack.stack import Home, ProcessId, StackState, stop_orphans

Start = Callable[..., "subprocess.Popen[bytes]"]

pytestmark = pytest.mark.slow  # each starts a process


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "ORPHAN_SECONDS", 0.3)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / "redis").mkdir(parents=True)
    return folder


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process that ends only where it is killed, in the name of a home or of none."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(home: Path | None, folder: Path | None = None) -> "subprocess.Popen[bytes]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FFLAB_")}
        environment = kept | ({"FFLAB_HOME": str(home)} if home else {})
        code = "import sys, time; print('up', flush=True); time.sleep(600)"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout
        process.stdout.readline()
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def leave(
    home: Path, process: "subprocess.Popen[bytes]", of: Home | None, *, started: str | None = None
) -> None:
    """Leave a stack.json behind, as a supervisor that was killed does."""
    running = ProcessId(pid=process.pid, started=started or start_ticks(process.pid))
    state = StackState(
        url="http://127.0.0.1:1", redis_url="", pid=1, home=of, children={"api": running}
    )
    excluded = {"home"} if of is None else None
    (home / "stack.json").write_text(state.model_dump_json(exclude=excluded))


def alive(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is None


@pytest.mark.parametrize("named", ["this home", "no home"])
def test_what_a_killed_supervisor_left_is_ended(home: Path, start: Start, named: str) -> None:
    process = start(home)
    leave(home, process, Home.of(home) if named == "this home" else None)
    stop_orphans(home)
    assert process.wait(PATIENCE_SECONDS) < 0
    assert not (home / "stack.json").exists()


def test_a_process_that_names_no_home_belongs_to_the_one_whose_file_names_it(
    home: Path, start: Start
) -> None:
    process = start(None)
    leave(home, process, Home.of(home))
    stop_orphans(home)
    assert process.wait(PATIENCE_SECONDS) < 0


def test_redis_is_known_by_its_folder(home: Path, start: Start) -> None:
    process = start(None, home / "redis")
    assert belongs_to_home(process.pid, home) is True
    leave(home, process, None)
    stop_orphans(home)
    assert process.wait(PATIENCE_SECONDS) < 0


def test_a_home_is_known_by_whatever_path(home: Path, start: Start, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    process = start(tmp_path / "link")
    leave(home, process, Home.of(tmp_path / "link"))
    stop_orphans(home)
    assert process.wait(PATIENCE_SECONDS) < 0


def copied(home: Path, start: Start) -> "subprocess.Popen[bytes]":
    """The home is a copy of one whose stack runs."""
    original = home.with_name("original")
    original.mkdir()
    process = start(original)
    leave(home, process, Home.of(original))
    return process


def copied_from_an_earlier_version(home: Path, start: Start) -> "subprocess.Popen[bytes]":
    process = start(home.with_name("original"))
    leave(home, process, None)
    return process


def nameless_of_an_earlier_version(home: Path, start: Start) -> "subprocess.Popen[bytes]":
    process = start(None)
    leave(home, process, None)
    return process


def put_in_the_place_of(home: Path, start: Start) -> "subprocess.Popen[bytes]":
    """The original was moved away while its stack runs, and a copy put in its place."""
    process = start(home)
    leave(home, process, Home.of(home))
    original = home.with_name("moved")
    home.rename(original)
    shutil.copytree(original, home)
    return process


def somebody_elses_by_its_word(home: Path, start: Start) -> "subprocess.Popen[bytes]":
    process = start(home.with_name("original"))
    leave(home, process, Home.of(home))
    return process


def with_a_number_given_again(home: Path, start: Start) -> "subprocess.Popen[bytes]":
    process = start(home)
    leave(home, process, Home.of(home), started="1")
    return process


@pytest.mark.parametrize(
    ("case", "logged"),
    [
        (copied, True),
        (copied_from_an_earlier_version, True),
        (nameless_of_an_earlier_version, True),
        (put_in_the_place_of, True),
        (somebody_elses_by_its_word, True),
        (with_a_number_given_again, False),
    ],
)
def test_what_is_not_of_this_home_is_left_alone(
    home: Path,
    start: Start,
    caplog: pytest.LogCaptureFixture,
    case: Callable[[Path, Start], "subprocess.Popen[bytes]"],
    *,
    logged: bool,
) -> None:
    process = case(home, start)
    stop_orphans(home)
    assert alive(process)
    assert not (home / "stack.json").exists(), "the file was the copy's own"
    messages = [
        message
        for message in caplog.messages
        if f"process {process.pid}" in message and "left alone" in message
    ]
    assert len(messages) == int(logged)


def test_a_home_that_was_moved_when_its_stack_was_dead_is_no_matter(
    home: Path, start: Start
) -> None:
    process = start(home)
    leave(home, process, Home.of(home))
    process.kill()
    process.wait()
    moved = home.with_name("moved")
    home.rename(moved)
    stop_orphans(moved)
    assert not (moved / "stack.json").exists()


def test_of_a_process_that_is_gone_nothing_can_be_seen(home: Path, start: Start) -> None:
    process = start(home)
    assert belongs_to_home(process.pid, home) is True
    process.kill()
    process.wait()
    assert belongs_to_home(process.pid, home) is None
