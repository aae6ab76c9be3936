"""A home beside another database than its own: nothing starts, nothing is deleted, one line says
why. One of an earlier version goes on.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from benchmarks.waiting import PROGRAM_SECONDS
from service.artifacts import Artifacts
from service.background.retention import UNKNOWN_SECONDS
from service.stack.stack import Stack, StackError
from service.store import Store
from service.store.database import Database
from tests.stack import Lab, lab_settings

SPEC = {
    "kind": "train",
    "dataset": {"name": "digits"},
    "network": {"widths": [16]},
    "epochs": 2,
    "monitor": {"samples": 100},
}
API = ("-m", "service.serve", "--port", "0")
WORKER = ("-m", "workers", "--device", "cpu")
UP = ("-m", "service.cli", "up", "--port", "0", "--device", "cpu")
RETENTION = ("-m", "service.cli", "retention")
DOCTOR = ("-m", "service.cli", "doctor")
EARLIER = "0003"  # the schema of the last version that gave no ids


@pytest.fixture(scope="module")
def used(redis_server: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that a stack has worked in, with the artifacts of one job."""
    home = tmp_path_factory.mktemp("used")
    with Stack(lab_settings(home), port=0, device="cpu") as stack, Lab(stack) as lab:
        lab.succeeded(lab.submit(SPEC))
    return home


@pytest.fixture
def copy(used: Path, home: Path) -> Iterator[Path]:
    """A home of its own, as that one was left, but for its artifacts being old."""
    shutil.copytree(used, home, dirs_exist_ok=True)
    make_old(home)
    return home


def make_old(home: Path) -> None:
    for folder in (home / "artifacts").glob("job_*"):
        os.utime(folder, (1.0, time.time() - UNKNOWN_SECONDS - 9))


def lose_the_database(home: Path) -> None:
    for file in home.glob("fflab.db*"):
        file.unlink()


def make_earlier(home: Path) -> None:
    """As the version before left it: no id anywhere."""
    (home / "artifacts" / ".service").unlink()
    config = Config()
    config.set_main_option("script_location", "service.store:migrations")
    database = Database(home / "fflab.db")
    with database.engine.execution_options(write=True).begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, EARLIER)
    database.close()


def artifacts_in(home: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in (home / "artifacts").rglob("*")
        if path.is_file()
    }


def fflab(home: Path, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FFLAB_")}
    environment = (
        kept
        | {
            "FFLAB_HOME": str(home),
            "FFLAB_REDIS_URL": "redis://127.0.0.1:1/0",
            "FFLAB_URL": "http://127.0.0.1:1",
        }
        | more
    )
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=PROGRAM_SECONDS,
    )


@pytest.mark.parametrize(
    "labelled",
    [True, pytest.param(False, marks=pytest.mark.soak)],
    ids=["with an id", "of an earlier version"],
)
@pytest.mark.parametrize(
    "program",
    [
        API,
        *(
            pytest.param(program, marks=pytest.mark.soak)
            for program in (WORKER, RETENTION, (*RETENTION, "--apply"))
        ),
    ],
    ids=["the API", "a worker", "retention", "retention --apply"],
)
def test_a_home_whose_database_is_gone_is_refused_in_one_line(
    copy: Path, program: tuple[str, ...], *, labelled: bool
) -> None:
    if not labelled:
        make_earlier(copy)
    lose_the_database(copy)
    before = artifacts_in(copy)
    refused = fflab(copy, *program)
    assert refused.returncode == 3
    assert len(refused.stderr.splitlines()) == 1
    for words in (
        f"{copy}/artifacts",
        f"sqlite:///{copy}/fflab.db",
        "put the database of these artifacts back, from a backup where it was lost, or set "
        "FFLAB_DATABASE_URL to it",
    ):
        assert words in refused.stderr
    assert refused.stdout == ""
    assert artifacts_in(copy) == before


def test_fflab_up_says_why_a_home_is_refused(copy: Path) -> None:
    lose_the_database(copy)
    before = artifacts_in(copy)
    refused = fflab(copy, *UP)
    assert refused.returncode == 3
    [line] = refused.stderr.splitlines()
    assert line.startswith(
        f"fflab: the artifacts in {copy}/artifacts are not those of the database "
        f"sqlite:///{copy}/fflab.db"
    )
    assert artifacts_in(copy) == before
    assert not (copy / "stack.json").exists()
    found = json.loads(fflab(copy, *DOCTOR, "--json").stdout)
    [check] = [check for check in found if check["what"] == "artifacts"]
    assert check["verdict"] == "fail"
    assert check["advice"].startswith("put the database of these artifacts back")


@pytest.mark.parametrize("fault", ["no database", "a later version"])
def test_fflab_up_says_why_a_database_cannot_be_used(
    home: Path, fault: str, redis_server: Path
) -> None:
    if fault == "no database":
        (home / "fflab.db").write_bytes(b"something else " * 1000)
        words = r"the database file .* is damaged \(file is not a database\): .* from a backup"
    else:
        store = Store(lab_settings(home).database)
        store.migrate()
        with store.database.engine.execution_options(write=True).begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
            connection.exec_driver_sql("UPDATE service SET usable_from = '9999'")
        store.close()
        words = ".* was written by a newer fflab .schema 9999"
    with pytest.raises(StackError, match=f"^{words}"):
        Stack(lab_settings(home), port=0, device="cpu").start()


def test_a_home_of_an_earlier_version_opens_and_goes_on(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_earlier(copy)
    before = artifacts_in(copy)
    with Stack(lab_settings(copy), port=0, device="cpu") as stack, Lab(stack) as lab:
        [known] = lab.http.get("/v1/jobs").json()["items"]
        assert lab.http.get(f"/v1/jobs/{known['id']}/weights.safetensors").status_code == 200
        lab.succeeded(lab.submit(SPEC))
        store = Store(stack.settings.database)
        assert Artifacts(stack.settings.artifact_place).label() == store.database.service_id()
        store.close()
    after = artifacts_in(copy)
    assert before.items() <= after.items()
    assert (
        f"the artifacts of 1 jobs in {copy}/artifacts belong to sqlite:///{copy}/fflab.db from "
        f"now on" in caplog.messages
    )


def test_artifacts_that_the_database_does_not_know_are_removed_where_the_operator_says_so(
    copy: Path,
) -> None:
    artifacts = Artifacts(copy / "artifacts")
    stray = "job_" + "a" * 32
    artifacts.put(stray, "step.safetensors", b"x" * 2_000_000)
    make_old(copy)
    listed = fflab(copy, *RETENTION)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert f"{stray}\t2000032" in listed.stdout.splitlines()
    assert (
        listed.stdout.splitlines()[-1]
        == "1 folders of artifacts, 2 MiB, belong to no job of the database; --apply removes them"
    )
    assert stray in artifacts.owners()
    policy = {"FFLAB_RETENTION": json.dumps({"train": {"count": 0}})}
    [known] = [owner for owner in artifacts.owners() if owner != stray]
    applied = fflab(copy, *RETENTION, "--apply", "--json", **policy)
    found = json.loads(applied.stdout)
    assert found["deleted"] == [known]
    assert found["removed"] == found["unknown"] == [{"job": stray, "bytes": 2_000_032}]
    assert artifacts.owners() == []


def test_what_is_deleted_is_in_the_log(copy: Path) -> None:
    with Stack(lab_settings(copy), port=0, device="cpu") as stack, Lab(stack) as lab:
        [known] = lab.http.get("/v1/jobs").json()["items"]
        assert lab.http.delete(f"/v1/jobs/{known['id']}").status_code == 204
    assert (
        f"INFO api: {known['id']}: deleted, with the artifacts of 1 jobs (DELETE was asked for)"
        in (copy / "logs/api.log").read_text()
    )
