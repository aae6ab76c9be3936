"""Room on the disk: below the reserve uploads are refused, and doctor and metrics say so. On a full
disk the ballast makes room for what must be written.
"""

import errno
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event

from ffengine.datasets import Datasets
from service.background.retention import remove_job
from service.cli.doctor import _home
from service.host import disk
from service.host.disk import BALLAST_BYTES, Ballast, free_bytes, lack_of_room
from service.settings import Settings
from service.stack.stack import Stack, StackError
from service.store import Store
from service.store.database import DATABASE_ERRORS
from service.store.faults import fault_of
from service.web.app import create_app
from service.web.dependencies import Resources
from tests.factories import ended
from tests.over_http import refused
from tests.service.arrays import X, Y, npz
from tests.serving import client_of

ALL = 2**60  # more than any disk has


def test_a_reserve_may_have_a_unit() -> None:
    assert Settings.model_validate({"disk_reserve": "2GiB"}).disk_reserve == 2**31
    assert Settings(disk_reserve="100MB").disk_reserve == 10**8  # type: ignore[arg-type]
    assert Settings().artifacts_reserve == 64 * 2**20
    assert Settings.model_validate({"disk_reserve": 400}).artifacts_reserve == 100


def test_room_is_looked_for_where_the_folder_will_be(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "there" / "yet") > 0
    assert lack_of_room(tmp_path / "artifacts", 0) is None
    said = lack_of_room(tmp_path / "artifacts", ALL)
    assert said is not None
    assert said.startswith(f"{tmp_path / 'artifacts'} has ")
    assert "(FFLAB_DISK_RESERVE)" in said


@pytest.mark.parametrize("as_form", [True, False])
def test_uploads_are_refused_below_the_reserve(settings: Settings, as_form: bool) -> None:
    short = settings.model_copy(update={"disk_reserve": ALL})
    with client_of(create_app(short)) as client:
        body: dict[str, Any] = {"content": npz(x=X, y=Y)}
        if as_form:
            body = {"files": {"file": body["content"]}}
        problem = refused(client.post("/v1/datasets?name=mine", **body), 507, "no-room")
        assert f"{settings.root / 'datasets'} has " in problem.detail
        assert " free, less than the reserve of " in problem.detail
        metrics = client.get("/metrics").text
        assert f"fflab_disk_reserve_bytes {float(ALL)}" in metrics
        assert "fflab_disk_free_bytes " in metrics
    assert not (settings.root / "datasets").exists()


def test_an_upload_that_fills_the_disk_is_refused_with_that_reason(
    client: httpx.Client, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_named: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device", "/lab/datasets/x.npz")

    monkeypatch.setattr(Datasets, "keep", full)
    problem = refused(client.post("/v1/datasets?name=mine", content=npz(x=X, y=Y)), 507, "no-room")
    assert "the disk of /lab/datasets is full (" in problem.detail


def test_the_doctor_says_that_no_job_is_begun(settings: Settings) -> None:
    [check] = _home(settings.model_copy(update={"disk_reserve": ALL}))
    assert check.verdict == "fail"
    assert "less than the reserve" in check.finding
    assert "workers begin no job" in check.advice
    [check] = _home(settings)
    assert check.verdict != "fail"


def test_the_ballast_takes_up_room_until_it_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ballast = Ballast(tmp_path)
    for _ in range(2):
        ballast.keep()
        assert ballast.file.stat().st_blocks * 512 >= BALLAST_BYTES
    assert not ballast.drop_if_full()
    monkeypatch.setattr(disk, "free_bytes", lambda _folder: 4096)
    assert ballast.drop_if_full()
    assert not ballast.file.exists()
    assert not ballast.drop()


def fill_disk_of(store: Store) -> None:
    """From now on SQLite finds no room for another page.

    It is a limit of SQLite's own, whose error is that of a full disk.
    """

    def limit(connection: Any) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    event.listen(store.database.engine, "begin", limit)


def test_to_delete_on_a_full_disk_drops_the_ballast(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, artifacts = resources.store, resources.artifacts
    job = ended(store, 1, 1)
    artifacts.put(job, "step.safetensors", b"x")
    ballast = Ballast(resources.settings.root)
    ballast.keep()
    delete = store.actions.delete

    def full(job_id: str) -> list[str]:
        if ballast.file.exists():
            with store.database.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA max_page_count=1")
                try:
                    connection.exec_driver_sql("CREATE TABLE more AS SELECT randomblob(1000000)")
                finally:
                    connection.exec_driver_sql(f"PRAGMA max_page_count={2**30}")
        return delete(job_id)

    monkeypatch.setattr(store.actions, "delete", full)
    remove_job(store, artifacts, job, "a test")
    assert store.jobs.get(job) is None
    assert artifacts.owners() == []
    assert not ballast.file.exists()


def test_a_full_disk_is_told_as_such(resources: Resources, client: httpx.Client) -> None:
    fill_disk_of(resources.store)
    body = {"spec": {"kind": "train", "epochs": 3}, "tags": ["x" * 200] * 20}
    for _ in range(100):
        answer = client.post("/v1/jobs", json={**body, "fresh": True})
        if answer.status_code != 202:
            break
    assert "The disk of the database is full" in refused(answer, 503, "database-away").detail
    with pytest.raises(DATABASE_ERRORS) as raised, resources.store.database.writing() as session:
        session.connection().exec_driver_sql("CREATE TABLE more AS SELECT * FROM jobs, events")
    assert "disk of the database is full" in str(fault_of(raised.value))


@pytest.mark.slow
def test_a_home_that_cannot_be_written_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_named: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "stack.new"))

    monkeypatch.setattr(Stack, "_write_state", full)
    stack = Stack(Settings(home=tmp_path), port=0, device="cpu")
    with pytest.raises(StackError) as refused_start:
        stack.start()
    assert "\n" not in str(refused_start.value)
    assert f"the home {tmp_path} cannot be written: No space left on device" in str(
        refused_start.value
    )
    assert not any(child.pid for child in stack.children.values())
