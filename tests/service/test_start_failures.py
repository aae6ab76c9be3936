"""A start that fails says its reason in the one line that people read, whatever fails."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.waiting import PROGRAM_SECONDS
from service.host.start_failures import MARK, reason_in
from service.settings import Settings
from service.stack.child_process import ChildProcess
from service.store import Store
from service.store.migrations.versions import __file__ as versions
from tests.ports import free_port

NEWEST = max(path.name[:4] for path in Path(versions).parent.glob("0*.py"))
NEWER = (
    f"was written by a newer fflab (schema 9999, this one knows {NEWEST}): upgrade fflab, or "
    "restore the backup from before the upgrade"
)
DAMAGED = "is damaged ("
PROGRAMS = {
    "up": ("service.cli", "up", "--port", "0", "--home", "{home}"),
    "api": ("service.cli", "api", "--port", "{port}"),
    "open api": ("service.cli", "api", "--host", "0.0.0.0", "--port", "{port}"),  # noqa: S104
    "worker": ("service.cli", "worker", "--device", "cpu"),
    "keys": ("service.cli", "keys", "list"),
    "retention": ("service.cli", "retention"),
    "serve": ("service.serve", "--port", "{port}"),
}


def newer(home: Path) -> str:
    with closing(sqlite3.connect(home / "fflab.db", isolation_level=None)) as database:
        database.execute("update alembic_version set version_num = '9999'")
        database.execute("update service set usable_from = '9999'")
    return NEWER


def cut_short(home: Path) -> str:
    os.truncate(home / "fflab.db", 20_000)
    return DAMAGED


def overwritten(home: Path) -> str:
    (home / "fflab.db").write_bytes(b"no database at all" * 1000)
    return DAMAGED


SOAK = pytest.mark.soak
HARMS = [newer, pytest.param(cut_short, marks=SOAK), pytest.param(overwritten, marks=SOAK)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    store = Store(Settings(home=tmp_path).database)
    store.migrate()
    store.close()
    return tmp_path


def started(home: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    given = [part.format(home=home, port=free_port()) for part in command]
    return subprocess.run(
        [sys.executable, "-P", "-m", *given],
        capture_output=True,
        text=True,
        env=os.environ | {"FFLAB_HOME": str(home), "FFLAB_REDIS_URL": "redis://127.0.0.1:1/0"},
        timeout=PROGRAM_SECONDS,
    )


@pytest.mark.slow
@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize(
    "program",
    [
        program if program in ("up", "worker", "serve") else pytest.param(program, marks=SOAK)
        for program in PROGRAMS
    ],
)
def test_a_database_that_cannot_be_used_is_said_in_the_last_line(
    home: Path, program: str, harm: Callable[[Path], str]
) -> None:
    words = harm(home)
    ended = started(home, *PROGRAMS[program])
    assert ended.returncode == 3, ended.stderr
    assert "Traceback" not in ended.stderr
    said = [line for line in ended.stderr.splitlines() if words in line]
    assert len(said) == 1
    assert said[0] == ended.stderr.splitlines()[-1]
    assert "fflab.db" in said[0]
    assert words == NEWER or "restore it from a backup" in said[0]


@pytest.mark.slow
@pytest.mark.parametrize("harm", HARMS)
def test_doctor_agrees(home: Path, harm: Callable[[Path], str]) -> None:
    words = harm(home)
    found = started(home, "service.cli", "doctor")
    assert found.returncode == 1
    (line,) = [line for line in found.stdout.splitlines() if line.split()[1] == "database"]
    assert line.startswith("fail ")
    assert words.partition(":")[0] in line
    assert "backup" in line.partition("  ->  ")[2]


@pytest.mark.slow
def test_a_setting_that_is_wrong_is_named(home: Path) -> None:
    for program in ("service.serve", "workers"):
        ended = subprocess.run(
            [sys.executable, "-P", "-m", program],
            capture_output=True,
            text=True,
            env=os.environ | {"FFLAB_HOME": str(home), "FFLAB_MAX_LOSSES": "none"},
            timeout=PROGRAM_SECONDS,
        )
        assert ended.returncode == 3
        assert f"{MARK}FFLAB_MAX_LOSSES: " in ended.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_reason_is_found_above_the_last_line(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    log.write_text(f"child {MARK}of an earlier start\n")
    code = f"print('child {MARK}no room'); print('ERROR: Application startup failed. Exiting.')"
    child = ChildProcess(
        "child", [sys.executable, "-c", code], environment=os.environ, log_file=log
    )
    child.start()
    assert child.process is not None
    child.process.wait()
    assert child.reason() == "no room"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it wrote no log"),
        ("\n  \n", "it wrote no log"),
        ("one\ntwo\n\n", "two"),
        (f"a {MARK}b\nc {MARK}d\ne\n", "d"),
    ],
)
def test_without_a_mark_the_last_line_is_the_reason(
    tmp_path: Path, content: str, reason: str
) -> None:
    (tmp_path / "log").write_text(content)
    assert reason_in(tmp_path / "log") == reason
    assert reason_in(tmp_path / "none") == "it wrote no log"
