"""A database and its artifacts: told apart from others before anything is served or deleted,
however many begin at once.
"""

import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from benchmarks.waiting import PATIENCE_SECONDS
from ffengine.spec import TrainSpec
from service.artifacts import Artifacts
from service.background.retention import UNKNOWN_SECONDS, find_unknown, remove_unknown, sweep
from service.cli.doctor import _artifacts, _database
from service.host.start_failures import ServeError
from service.settings import Retention, Settings
from service.store import Store
from service.store.database import DatabaseReplaced
from service.store.identity import NotOurs, refusal, settle
from service.store.start_checks import refuse_others_state
from service.web.app import create_app
from service.web.server import require_keys_beyond_loopback
from tests.factories import ended, submit
from tests.over_http import refused
from tests.serving import serving

STRAYS = ["job_" + digit * 32 for digit in "abc"]
NOTHING_KEPT = Retention.model_validate({"train": {"count": 0}})
OPEN = """
import sys
from service.artifacts import Artifacts
from service.store.start_checks import refuse_others_state
from service.settings import Settings
from service.store import Store
settings = Settings()
sys.stdin.readline()
refuse_others_state(settings)
store = Store(settings.database)
print(store.database.service_id(), Artifacts(settings.artifact_place).label())
store.close()
"""


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


def strays(artifacts: Artifacts) -> dict[str, bytes]:
    """Artifacts of jobs that no database knows, old enough to be noticed."""
    for owner in STRAYS:
        artifacts.put(owner, "step.safetensors", owner.encode())
        os.utime(artifacts.root / owner, (1.0, time.time() - UNKNOWN_SECONDS - 9))
    return content(artifacts)


def content(artifacts: Artifacts) -> dict[str, bytes]:
    return {
        str(path.relative_to(artifacts.root)): path.read_bytes()
        for path in artifacts.root.rglob("*")
        if path.is_file()
    }


def test_an_empty_folder_becomes_the_databases(either_store: Store, artifacts: Artifacts) -> None:
    settle(either_store, artifacts)
    settle(either_store, artifacts)
    assert artifacts.label() == either_store.database.service_id()
    assert len(artifacts.label() or "") == 36
    assert [path.name for path in artifacts.root.iterdir()] == [".service"]
    assert artifacts.owners() == []


def test_a_folder_of_an_earlier_version_is_adopted_where_the_database_knows_one_of_its_jobs(
    either_store: Store, artifacts: Artifacts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    strays(artifacts)
    artifacts.put(submit(either_store, TrainSpec(epochs=1)).id, "step.safetensors", b"known")
    settle(either_store, artifacts)
    assert artifacts.label() == either_store.database.service_id()
    assert any(
        str(artifacts.root) in message and "from now on" in message for message in caplog.messages
    )


REFUSED: dict[str, Callable[[Store, Artifacts], object]] = {
    "no id, jobs that nobody knows": lambda _store, artifacts: strays(artifacts),
    "no id, and the database has other jobs": lambda store, artifacts: (
        submit(store),
        strays(artifacts),
    ),
    "another id": lambda _store, artifacts: (artifacts.put_label("another"), strays(artifacts)),
    "another id, but known jobs": lambda store, artifacts: (
        artifacts.put(ended(store, 1, 40), "step.safetensors", b"known"),
        artifacts.put_label("another"),
    ),
    "another id, and no artifacts": lambda _store, artifacts: artifacts.put_label("another"),
    "an id that was cut off": lambda _store, artifacts: artifacts.put_label(""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_belong_together_is_refused_and_left_alone(
    either_store: Store, artifacts: Artifacts, case: str
) -> None:
    REFUSED[case](either_store, artifacts)
    before = content(artifacts)
    for action in (
        lambda: settle(either_store, artifacts),
        lambda: sweep(either_store, artifacts, NOTHING_KEPT),
        lambda: find_unknown(either_store, artifacts),
        lambda: remove_unknown(either_store, artifacts),
    ):
        with pytest.raises(NotOurs) as refused:
            action()
        line = str(refused.value)
        assert "\n" not in line
        assert all(
            words in line
            for words in (
                str(artifacts.root),
                either_store.database.address,
                "FFLAB_DATABASE_URL",
                "FFLAB_HOME",
                "away",
            )
        )
    assert content(artifacts) == before
    assert (
        case != "another id, but known jobs" or len(either_store.jobs.page(limit=10).jobs) == 1
    ), "no job is deleted either"


def test_a_database_without_its_id_is_refused(either_store: Store, artifacts: Artifacts) -> None:
    with either_store.database.engine.execution_options(write=True).begin() as connection:
        connection.execute(text("DELETE FROM service"))
    with pytest.raises(NotOurs, match="has no service id"):
        settle(either_store, artifacts)
    settled = artifacts.root / ".service"
    assert not settled.exists()


@pytest.mark.parametrize("put_there", ["nothing", "a copy"])
def test_nothing_is_deleted_where_the_database_file_is_gone_meanwhile(
    artifacts: Artifacts, tmp_path: Path, put_there: str
) -> None:
    file = tmp_path / "jobs.db"
    store = Store(f"sqlite:///{file}")
    store.migrate()
    old = ended(store, 1, 40)
    artifacts.put(old, "step.safetensors", b"weights")
    settle(store, artifacts)
    assert not store.database.is_replaced
    copy = tmp_path / "copy.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    file.unlink()
    if put_there == "a copy":
        copy.rename(file)
    with pytest.raises(
        NotOurs, match=r"jobs.db was deleted or replaced while it was in use.*start again"
    ):
        sweep(store, artifacts, NOTHING_KEPT)
    assert artifacts.get(old, "step.safetensors") == b"weights"
    assert store.jobs.get(old) is not None
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize("put_there", ["nothing", "an empty file"])
def test_nothing_is_accepted_where_the_database_file_is_gone_meanwhile(
    tmp_path: Path, put_there: str
) -> None:
    settings = Settings(home=tmp_path)
    file = tmp_path / "fflab.db"
    with (
        serving(create_app(settings)) as url,
        httpx.Client(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as client,
    ):
        body = {"spec": {"kind": "train"}}
        assert client.post("/v1/jobs", json=body).status_code == 202
        assert client.get("/readyz").json()["database"] is True
        file.unlink()
        if put_there == "an empty file":
            file.touch()
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["database"]) == (503, False)
        assert "was deleted or replaced while the service ran" in ready.json()["status"]
        for _ in range(3):
            problem = refused(client.post("/v1/jobs", json=body), 503, "database-away")
            assert "was deleted or replaced" in problem.detail
        assert client.get("/").status_code in (200, 503)
    assert file.exists() == (put_there == "an empty file"), "no new file is made"
    assert put_there == "nothing" or file.stat().st_size == 0


def test_no_new_connection_makes_a_file_in_the_place_of_a_deleted_one(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    store = Store(f"sqlite:///{file}")
    store.migrate()
    store.database.close()
    file.unlink()
    with pytest.raises(DatabaseReplaced, match=r"jobs.db was deleted or replaced .* start again"):
        store.jobs.page(limit=1)
    assert not file.exists()
    store.close()


def test_a_refused_start_and_the_doctor_make_no_database(
    tmp_path: Path, artifacts: Artifacts
) -> None:
    settings = Settings(home=artifacts.root.parent)
    assert settings.artifact_place == artifacts.root
    file = settings.root / "fflab.db"
    found = {check.what: check for check in (*_database(settings), *_artifacts(settings))}
    assert {check.verdict for check in found.values()} == {"ok"}
    assert found["database"].finding.endswith("fflab.db, made at the first start")
    artifacts.put_label("another")
    with pytest.raises(ServeError, match="not those of the database"):
        refuse_others_state(settings)
    [check] = _artifacts(settings)
    assert check.verdict == "fail"
    strays(artifacts)
    (artifacts.root / ".service").unlink()
    with pytest.raises(ServeError, match="knows none of the 3 jobs"):
        refuse_others_state(settings)
    with pytest.raises(ServeError, match="open to others"):
        require_keys_beyond_loopback(settings, "lab.example.org")
    assert not file.exists()


def test_the_password_of_a_database_is_not_told() -> None:
    for url in (
        "postgresql+psycopg://u:sesame@lab/fflab",
        "postgresql+psycopg://u@lab/fflab?password=sesame&host=/run",
    ):
        store = Store(url)
        assert "sesame" not in store.database.address
        assert "lab/fflab" in store.database.address
        store.close()


def test_nothing_is_changed_by_looking(either_store: Store, artifacts: Artifacts) -> None:
    assert refusal(either_store, artifacts) is None
    assert not artifacts.root.exists()


def test_a_database_that_is_still_empty_knows_no_artifacts(
    tmp_path: Path, artifacts: Artifacts
) -> None:
    store = Store(f"sqlite:///{tmp_path / 'new.db'}")
    assert refusal(store, artifacts) is None
    strays(artifacts)
    assert "knows none of the 3 jobs" in (refusal(store, artifacts) or "")
    store.close()


def test_of_several_labels_the_first_counts(artifacts: Artifacts) -> None:
    artifacts.put_label("first")
    artifacts.put_label("second")
    assert artifacts.label() == "first"


def test_a_label_is_also_written_where_there_are_no_hard_links(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(_path: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    artifacts.put_label("first")
    artifacts.put_label("second")
    assert artifacts.label() == "first"
    assert [path.name for path in artifacts.root.iterdir()] == [".service"]


@pytest.mark.slow
def test_processes_that_begin_at_once_agree_on_one_id(database_url: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "FFLAB_HOME": str(tmp_path / "home"),
        "FFLAB_DATABASE_URL": database_url,
    }
    program = [sys.executable, "-c", OPEN]
    starting = [
        subprocess.Popen(
            program,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    answers = []
    for process in starting:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in starting:
        said, complaint = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, complaint
        answers.append(said.split())
    [(in_database, in_folder)] = {tuple(answer) for answer in answers}
    assert in_database == in_folder
