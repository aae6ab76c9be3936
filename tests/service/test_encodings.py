"""Names that a terminal cannot show, or that would steer it."""

import os
import subprocess
import sys

import httpx
import pytest
from sqlalchemy import text

from benchmarks.waiting import PROGRAM_SECONDS
from service.store import Store
from tests.factories import submit

ENVIRONMENTS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "plain C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}


def fflab(client: httpx.Client, environment: dict[str, str], *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "service.cli", *arguments],
        env=os.environ | {"FFLAB_URL": str(client.base_url)} | environment,
        capture_output=True,
        timeout=PROGRAM_SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.decode("latin-1")


@pytest.mark.slow
@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
@pytest.mark.parametrize("command", [("jobs",), ("show", "last")], ids=["jobs", "show"])
def test_a_name_that_the_terminal_cannot_show_does_no_harm(
    client: httpx.Client, store: Store, environment: dict[str, str], command: tuple[str, ...]
) -> None:
    job = submit(store, name="width 量")
    said = fflab(client, environment, *command)
    assert job.id in said
    assert "width \\u91cf" in said or "width \\xe9" in said


@pytest.mark.slow
@pytest.mark.parametrize("command", [("jobs",), ("show", "last")], ids=["jobs", "show"])
def test_what_would_steer_a_terminal_is_shown_as_an_escape(
    client: httpx.Client, store: Store, command: tuple[str, ...]
) -> None:
    job = submit(store, name="harmless")
    with store.database.writing() as session:  # as an earlier version accepted it
        session.execute(text("update jobs set name = 'a\x9b31mb\u202ec'"))
    said = fflab(client, {"PYTHONIOENCODING": "utf-8"}, *command).encode("latin-1").decode()
    assert job.id in said
    assert r"a\x9b31mb\u202ec" in said
    assert not {"\x9b", "\u202e"} & set(said)
