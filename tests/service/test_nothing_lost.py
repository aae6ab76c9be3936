"""What people brought or wait for is never lost: uploads while the database is away, what
unfinished jobs need, messages that are not delivered.
"""

import asyncio
import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete
from sqlalchemy.exc import OperationalError

from benchmarks.waiting import wait_until
from ffengine.spec import CheckSpec, StudySpec, TrainSpec
from service.artifacts import Artifacts
from service.settings import Settings
from service.store import Store
from service.store.identity import NotOurs
from service.store.tables import JobRow
from service.web.app import create_app
from service.web.dependencies import Resources
from tests.commands import Fflab, in_this_process
from tests.factories import end, finished, submit
from tests.over_http import refused
from tests.service.arrays import X, Y, npz
from tests.service.samples import train_result
from tests.serving import client_of
from workers.__main__ import prepare


@pytest.fixture
def command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Fflab:
    """Runs a command in this process, in a pipe, on a home in which no service runs."""
    monkeypatch.setenv("FFLAB_HOME", str(tmp_path))
    return in_this_process(monkeypatch, capsys)


def test_an_upload_is_kept_where_the_database_goes_away_while_it_is_removed(
    client: httpx.Client, store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X, y=Y))
    needing, asked = store.jobs.needing_dataset, []

    def away(name: str) -> list[str]:
        asked.append(name)
        if len(asked) == 2:
            raise OperationalError("SELECT", {}, Exception("database is locked"))
        return needing(name)

    monkeypatch.setattr(store.jobs, "needing_dataset", away)
    refused(client.delete("/v1/datasets/mine"), 503, "database-away")
    assert len(settings.datasets.load("mine").y_train) == 48
    assert [path.name for path in settings.datasets.kept_in.iterdir()] == ["mine"]
    assert client.get("/v1/datasets/mine").status_code == 200
    assert client.delete("/v1/datasets/mine").status_code == 204


def test_a_service_puts_back_at_its_start_what_a_kill_left_aside(settings: Settings) -> None:
    settings.datasets.keep("mine", io.BytesIO(npz(x=X, y=Y)))
    aside = settings.datasets.kept_in / ".aside-1"
    aside.mkdir()
    (settings.datasets.kept_in / "mine").rename(aside / "mine")
    with client_of(create_app(settings)) as client:
        wait_until(
            lambda: client.get("/v1/datasets/mine").status_code == 200 or None, "it is put back"
        )
    assert not aside.exists()


def test_a_worker_puts_back_what_a_kill_left_aside_before_its_first_job(settings: Settings) -> None:
    settings.datasets.keep("mine", io.BytesIO(npz(x=X, y=Y)))
    aside = settings.datasets.kept_in / ".aside-1"
    aside.mkdir()
    (settings.datasets.kept_in / "mine").rename(aside / "mine")
    prepare(settings)
    assert settings.datasets.uploaded() == ["mine"]


def put_away(settings: Settings, database: str) -> None:
    """Make the database of a home another than the one that its shell knows."""
    Artifacts(settings.artifact_place).put_label("the id of a service on PostgreSQL")
    for file in settings.root.glob("fflab.db*"):
        if database == "none":
            file.unlink()


@pytest.mark.parametrize("database", ["none", "another"])
@pytest.mark.parametrize(
    "command",
    [
        ("data", "remove", "mine"),
        ("keys", "list"),
        ("keys", "create", "ada"),
        ("keys", "revoke", "ada"),
        ("retention", "--apply"),
        ("retention",),
        ("webhook-secret",),
    ],
    ids=" ".join,
)
def test_no_command_uses_a_home_with_another_database(
    command: tuple[str, ...],
    database: str,
    settings: Settings,
    command_line: Fflab,
) -> None:
    settings.datasets.keep("mine", io.BytesIO(npz(x=X, y=Y)))
    put_away(settings, database)
    files = sorted(settings.root.rglob("*"))
    code, said, told = command_line(*command)
    assert (code, said) == (3, "")
    assert len(told.splitlines()) == 1
    assert f"the artifacts in {settings.artifact_place} are not those of the database" in told
    assert settings.datasets.uploaded() == ["mine"]
    assert sorted(settings.root.rglob("*")) == files, "nothing is made"
    if database == "another":
        with Store(settings.database) as store:
            assert store.api_keys.all() == []


def test_an_upload_is_removed_from_a_home_without_a_service(
    tmp_path: Path, command_line: Fflab
) -> None:
    datasets = Settings(home=tmp_path).datasets
    datasets.keep("mine", io.BytesIO(npz(x=X, y=Y)))
    assert command_line("data", "remove", "mine") == (0, "mine: removed\n", "")
    assert list(tmp_path.iterdir()) == [datasets.kept_in], "no database is made"


def test_an_app_that_another_server_runs_refuses_a_home_with_another_database(
    settings: Settings,
) -> None:
    put_away(settings, "another")
    resources = Resources(settings)
    with pytest.raises(NotOurs, match="not those of the database"):
        asyncio.run(resources.open())
    resources.store.close()


# What unfinished jobs need


def trained_on(store: Store, name: str) -> str:
    """A training job on that data set, which has ended."""
    job = submit(store, TrainSpec.model_validate({"dataset": {"name": name}}))
    end(store, job, well=True)
    return job.id


@pytest.mark.parametrize("asked", ["check", "paused check", "base", "grid", "whole grid", "parts"])
def test_a_data_set_is_needed_by_what_asks_for_weights_that_were_trained_on_it(
    either_store: Store, asked: str
) -> None:
    training, other = trained_on(either_store, "aa"), trained_on(either_store, "cc")
    check = {"kind": "check", "dataset": {"name": "bb"}, "at": {"job": training, "epoch": 0}}
    elsewhere = check | {"at": {"job": other, "epoch": 0}}
    grid = {"base": {"kind": "check", "dataset": {"name": "bb"}}, "grid": {"at": [check["at"]]}}
    documents: dict[str, dict[str, Any]] = {
        "base": {"base": check, "grid": {"theorem": [1, 2]}},
        "grid": {"base": elsewhere, "grid": {"at.job": [training]}},
        "whole grid": grid,
        "parts": {"parts": {"a": {"base": {"kind": "train"}}, "b": {"base": check}}},
    }
    spec = (
        StudySpec.model_validate(documents[asked])
        if asked in documents
        else CheckSpec.model_validate(check)
    )
    assert either_store.jobs.needing_dataset("aa") == []
    job = submit(either_store, spec)
    if asked in documents:  # as where none of its runs was made yet
        with either_store.database.writing() as session:
            session.execute(delete(JobRow).where(JobRow.parent_id == job.id))
    if asked == "paused check":
        either_store.actions.pause(job.id)
    assert either_store.jobs.needing_dataset("aa") == [job.id]
    assert either_store.jobs.needing_dataset("dd") == []
    either_store.actions.cancel(job.id)
    assert either_store.jobs.needing_dataset("aa") == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["REST", "the command"])
def test_the_data_set_of_weights_is_kept_while_a_check_of_them_waits(
    how: str, client: httpx.Client, store: Store, fflab: Fflab
) -> None:
    for name in ("aa", "bb"):
        client.post("/v1/datasets", params={"name": name}, content=npz(x=X, y=Y))
    spec = {"kind": "train", "dataset": {"name": "aa"}, "batch_size": 24, "epochs": 2}
    training = client.post("/v1/jobs", json={"spec": spec}).json()["id"]
    finished(store, training, train_result())
    at = {"job": training, "epoch": 0}
    spec = {"kind": "check", "dataset": {"name": "bb"}, "at": at, "seeds": [0], "samples": 20}
    answer = client.post("/v1/jobs", json={"spec": spec | {"batch_size": 10}})
    assert answer.status_code == 202, answer.text
    check = answer.json()["id"]
    for _ in range(2):
        if how == "REST":
            answer = client.delete("/v1/datasets/aa")
            refused(answer, 409, "dataset-in-use")
            assert answer.json()["jobs"] == [check]
        else:
            code, _, told = fflab("data", "remove", "aa")
            assert code == 2
            assert f"aa is needed by {check}; wait until they have ended, or cancel them" in told
        client.post(f"/v1/jobs/{check}/pause")
    client.post(f"/v1/jobs/{check}/cancel")
    assert client.delete("/v1/datasets/aa").status_code == 204
