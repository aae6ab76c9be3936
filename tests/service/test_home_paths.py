"""A home whose path holds characters that other syntaxes read as something else: its database is in
it, and one that an earlier version kept elsewhere is named.
"""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.artifacts import Artifacts
from service.cli.doctor import _artifacts
from service.host.start_failures import ServeError
from service.settings import Settings
from service.stack.redis_server import free_port
from service.store import Store
from service.store.identity import earlier_place, refusal
from service.store.start_checks import refuse_others_state
from tests.factories import submit

NAMES = [
    "run%20A",
    "run%41",
    "a%2Fb",
    "100%",
    "%(here)s",
    "exp?lr=1",
    "a#b",
    "a&b=c",
    "C:x:y@z",
    "two words",
    'it\'s "quoted" `$HOME` \\',
    "Größe 実験",
    "two\nlines",
    "[1]{2};+*~",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_database_is_in_the_home(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    settings = Settings(home=home)
    refuse_others_state(settings)
    with Store(settings.database) as store:
        job = submit(store).id
        assert store.jobs.get(job) is not None
        assert store.jobs.cached_if_current(job) is not None, "the event loop's own connection"
        assert "\n" not in store.database.address
    with Store(store.database.url.render_as_string(hide_password=False)) as again:
        assert again.jobs.get(job) is not None, "the address that is shown is that of the database"
    assert (home / "fflab.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name], "there is nothing elsewhere"
    assert [check.verdict for check in _artifacts(settings)] == ["ok"]


@pytest.mark.slow
def test_two_homes_that_differ_behind_a_question_mark_share_nothing(tmp_path: Path) -> None:
    jobs = []
    for name in ("exp?lr=1", "exp?lr=2"):
        with Store(Settings(home=tmp_path / name).database) as store:
            store.migrate()
            jobs.append(submit(store).id)
            assert [job.id for job in store.jobs.page(limit=9).jobs] == jobs[-1:]


@pytest.mark.slow
def test_the_program_that_serves_keeps_its_database_in_such_a_home(tmp_path: Path) -> None:
    home, port = tmp_path / "run%20A?x=1#y", free_port()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "service.serve", "--port", str(port)],
        env={**os.environ, "FFLAB_HOME": str(home)},
        cwd=tmp_path,
    )
    try:
        wait_until(lambda: _answers(port), "the API answers")
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/jobs",
            json={"spec": {"kind": "check", "widths": [8]}},
            timeout=PATIENCE_SECONDS,
            trust_env=False,
        )
        assert answer.status_code == 202, answer.text
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)
    with closing(sqlite3.connect(home / "fflab.db")) as database:
        assert database.execute("SELECT id FROM jobs").fetchall() == [(answer.json()["id"],)]
    assert list(tmp_path.iterdir()) == [home]


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("name", "earlier"),
    [("run%41", "runA/fflab.db"), ("exp?lr=1", "exp"), ("a%2Fb", "a/b/fflab.db")],
)
@pytest.mark.parametrize("labelled", [True, False])
def test_a_database_that_an_earlier_version_kept_elsewhere_is_named(
    tmp_path: Path, name: str, earlier: str, labelled: bool
) -> None:
    settings, stray = Settings(home=tmp_path / name), tmp_path / earlier
    with Store(stray) as store:
        store.migrate()
        job, service_id = submit(store).id, store.database.service_id()
    if labelled:
        assert service_id is not None
        Artifacts(settings.artifact_place).put_label(service_id)
    for _ in range(2):
        with pytest.raises(ServeError) as refused:
            refuse_others_state(settings)
        assert f"at {stray}: move it" in str(refused.value)
        assert str(refused.value).endswith(f"to {settings.root / 'fflab.db'}")
    [check] = _artifacts(settings)
    assert check.verdict == "fail"
    assert str(stray) in check.finding + check.advice
    stray.rename(settings.root / "fflab.db")
    refuse_others_state(settings)
    with Store(settings.database) as store:
        assert [job] == [one.id for one in store.jobs.page(limit=9).jobs]


@pytest.mark.slow
def test_the_database_of_another_home_is_not_taken_for_one_of_this(tmp_path: Path) -> None:
    other, settings = Settings(home=tmp_path / "run A"), Settings(home=tmp_path / "run%20A")
    refuse_others_state(other)
    refuse_others_state(settings)
    (tmp_path / "exp").write_text("a file of somebody else")
    assert earlier_place(tmp_path / "exp?lr=1" / "fflab.db") is None
    with Store(settings.database) as store:
        assert refusal(store, Artifacts(settings.artifact_place)) is None
