"""What people brought or wait for is never lost: uploads while the database is away, what
unfinished jobs need, messages that are not delivered.
"""

import io

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from benchmarks.waiting import wait_until
from service.settings import Settings
from service.store import Store
from service.web.app import create_app
from tests.over_http import refused
from tests.service.arrays import X, Y, npz
from tests.serving import client_of
from workers.__main__ import prepare


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
