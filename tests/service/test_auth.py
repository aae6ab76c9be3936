"""API keys: open on loopback until there is one, then whoever has one; hashed at rest, refused when
revoked.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
from sqlalchemy import delete, select, update

from benchmarks.waiting import PATIENCE_SECONDS
from service.cli.doctor import _keys
from service.settings import Settings
from service.store import ApiKey, Store
from service.store.tables import KeyRow
from service.web import auth
from service.web.app import create_app
from service.web.auth import NewKey, create_key, fingerprint
from tests.commands import Fflab
from tests.over_http import TRAIN, refused
from tests.serving import client_of, serving

OPEN_ROUTES = ("/healthz", "/readyz", "/openapi.json", "/problems/key-needed")
CLOSED_ROUTES = (
    "/metrics",
    "/v1/jobs",
    "/v1/catalog",
    "/v1/presets",
    "/v1/datasets",
    "/v1/workers",
    "/v1/usage",
    "/v1/jobs/x",
    "/v1/jobs/x/events",
)


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_SECONDS", 0.0)


@pytest.fixture
def key(store: Store) -> NewKey:
    return create_key(store.api_keys, "ada")


@pytest.mark.slow
def test_without_keys_the_service_is_open(client: httpx.Client) -> None:
    assert client.get("/v1/jobs").status_code == 200


@pytest.mark.parametrize("route", CLOSED_ROUTES)
def test_with_a_key_every_route_needs_one(client: httpx.Client, key: NewKey, route: str) -> None:
    response = client.get(route)
    refused(response, 401, "key-needed")
    assert response.headers["www-authenticate"].startswith("Bearer")
    for headers in (
        {"Authorization": f"Bearer {key.secret}"},
        {"Authorization": f"bearer  {key.secret}"},
        {"X-API-Key": key.secret},
    ):
        assert client.get(route, headers=headers).status_code in (200, 404)


@pytest.mark.slow
@pytest.mark.parametrize("route", OPEN_ROUTES)
def test_what_says_nothing_of_jobs_stays_open(
    client: httpx.Client, key: NewKey, route: str
) -> None:
    assert key.secret
    assert client.get(route).status_code in (200, 503)


def test_the_operator_may_open_the_metrics(settings: Settings, store: Store, key: NewKey) -> None:
    open_to_all = Settings(home=settings.home, open_metrics=True)
    with client_of(create_app(open_to_all)) as client:
        assert "fflab_jobs" in client.get("/metrics").text
        refused(client.get("/v1/jobs"), 401, "key-needed")
        wrong = client.get("/metrics", headers={"X-API-Key": key.id})
        assert wrong.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer x"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YTpi"},
        {"X-API-Key": "\u00e9".encode()},
        {"X-API-Key": "a" * 10_000},
    ],
)
def test_what_is_no_key_is_refused(
    client: httpx.Client, key: NewKey, headers: dict[str, str]
) -> None:
    refused(client.get("/v1/jobs", headers=headers), 401, "key-needed")
    refused(
        client.get("/v1/jobs", headers={"Authorization": f"Basic {key.secret}"}), 401, "key-needed"
    )
    refused(client.get("/v1/jobs", headers={"X-API-Key": key.id}), 401, "key-needed")


@pytest.mark.slow
def test_a_refusal_comes_before_the_body_is_judged(client: httpx.Client, key: NewKey) -> None:
    assert key.secret
    refused(client.post("/v1/jobs", json={"spec": {"kind": "dance"}}), 401, "key-needed")
    json_body = {"Content-Type": "application/json"}
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for headers in (json_body, form, {}, {"Content-Type": "text/plain"}):
        for body in (b"{", b"\xff", b"[" * 100_000, b'{"a": 1, "a": 2}', b""):
            for method, address in (
                ("POST", "/v1/jobs"),
                ("POST", "/v1/estimate"),
                ("PATCH", "/v1/jobs/x"),
                ("POST", "/v1/datasets"),
                ("POST", "/spec.json"),
                ("POST", "/spec.yaml"),
                ("POST", "/onset.html"),
            ):
                answer = client.request(method, address, content=body, headers=headers)
                refused(answer, 401, "key-needed")
    for address in ("/v1/jobs?limit=x", "/v1/jobs?nothing=1", "/v1/jobs?cursor=x"):
        refused(client.get(address), 401, "key-needed")


def test_secrets_are_not_stored(store: Store, key: NewKey) -> None:
    (stored,) = store.api_keys.all()
    expected = ApiKey(key.id, "ada", fingerprint(key.secret), is_revoked=False)
    assert stored._replace(created_at=0.0) == expected
    with store.database.reading() as session:
        (row,) = session.scalars(select(KeyRow))
    assert (row.id, row.name, row.revoked_at) == (key.id, "ada", None)
    assert key.secret not in str(vars(row))
    assert len(row.digest) == 64
    assert create_key(store.api_keys, "bob").secret != key.secret


def test_a_revoked_key_is_refused_and_the_service_stays_closed(
    client: httpx.Client, store: Store, key: NewKey
) -> None:
    headers = {"X-API-Key": key.secret}
    assert client.get("/v1/jobs", headers=headers).status_code == 200
    assert store.api_keys.revoke(key.id)
    assert not store.api_keys.revoke(key.id)
    refused(client.get("/v1/jobs", headers=headers), 401, "key-needed")
    refused(client.get("/v1/jobs"), 401, "key-needed")


@pytest.mark.slow
def test_idempotency_keys_of_two_people_do_not_meet(
    client: httpx.Client, store: Store, key: NewKey
) -> None:
    other = create_key(store.api_keys, "bob")
    ids = set()
    for secret in (key.secret, other.secret):
        response = client.post(
            "/v1/jobs", json={"spec": TRAIN}, headers={"X-API-Key": secret, "Idempotency-Key": "k"}
        )
        assert response.status_code == 202
        ids.add(response.json()["id"])
    assert len(ids) == 2


@pytest.fixture
def closed(settings: Settings) -> Iterator[httpx.Client]:
    app = create_app(settings.model_copy(update={"require_keys": True}))
    with client_of(app) as client:
        yield client


def test_keys_can_be_required_before_there_is_one(closed: httpx.Client) -> None:
    refused(closed.get("/v1/jobs"), 401, "key-needed")
    assert closed.get("/healthz").status_code == 200


# Once there was a key


def lose_keys(store: Store) -> None:
    """What an older database, or a careless statement, leaves."""
    with store.database.writing() as session:
        session.execute(delete(KeyRow))


@pytest.mark.parametrize("seen", ["by the service", "by the command"])
def test_a_service_that_had_a_key_stays_closed_where_the_database_has_none(
    settings: Settings, fflab: Fflab, seen: str, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(create_app(settings)) as client, Store(settings.database) as store:
        if seen == "by the service":
            create_key(store.api_keys, "ada")
            refused(client.get("/v1/jobs"), 401, "key-needed")
        else:
            assert fflab("keys", "create", "ada").code == 0
        lose_keys(store)
        for _ in range(2):
            refused(client.get("/v1/jobs"), 401, "key-needed")
    with client_of(create_app(settings)) as client:
        for _ in range(3):
            refused(client.get("/v1/jobs"), 401, "key-needed")
        assert [line for line in caplog.messages if line.startswith(auth.LOST_KEYS)] == [
            f"{auth.LOST_KEYS}: requests are refused; {auth.LOST_KEYS_ADVICE}"
        ] * (1 if seen == "by the service" else 2)
        [check] = _keys(settings)
        assert (check.verdict, check.advice) == ("fail", auth.LOST_KEYS_ADVICE)
        with Store(settings.database) as store:
            secret = create_key(store.api_keys, "grace").secret
        assert client.get("/v1/jobs", headers={"X-API-Key": secret}).status_code == 200
        refused(client.get("/v1/jobs"), 401, "key-needed")
        assert list(_keys(settings)) == []


def test_an_older_database_does_not_open_a_service(settings: Settings, tmp_path: Path) -> None:
    older = tmp_path / "older.db"
    with Store(settings.database) as store, client_of(create_app(settings)) as client:
        assert client.get("/v1/jobs").status_code == 200
        with contextlib.closing(sqlite3.connect(tmp_path / "fflab.db")) as connection:
            connection.execute("VACUUM INTO ?", (str(older),))
        create_key(store.api_keys, "ada")
        refused(client.get("/v1/jobs"), 401, "key-needed")
    for file in tmp_path.glob("fflab.db*"):
        file.unlink()
    older.rename(tmp_path / "fflab.db")
    with client_of(create_app(settings)) as client:
        refused(client.get("/v1/jobs"), 401, "key-needed")


@pytest.mark.slow
def test_keys_of_one_name_are_revoked_by_their_ids(settings: Settings, fflab: Fflab) -> None:
    for name in ("ada", "eve"):
        assert fflab("keys", "create", name).code == 0
    with Store(settings.database) as store, store.database.writing() as session:
        session.execute(update(KeyRow).values(name="ada"))  # as an earlier version allowed it
    first, second = (line.split("\t")[0] for line in fflab("keys", "list").lines[1:])
    several = fflab("keys", "revoke", "ada")
    said = f"2 valid keys are named 'ada': {first}, {second}; give the id of one"
    assert (several.code, several.err) == (2, f"fflab: {said}\n")
    assert [line.split("\t")[2] for line in fflab("keys", "list").lines[1:]] == ["valid"] * 2
    assert fflab("keys", "revoke", first).code == 0
    assert fflab("keys", "revoke", "ada").code == 0, "only one valid key has that name now"
    assert fflab("keys", "revoke", "ada").code == 4


def test_one_command_opens_the_service_again(settings: Settings, fflab: Fflab) -> None:
    assert fflab("keys", "create", "ada").code == 0
    assert fflab("keys", "revoke", "ada").code == 0
    with client_of(create_app(settings)) as client:
        refused(client.get("/v1/jobs"), 401, "key-needed")
        assert fflab("keys", "clear") == (
            0,
            "keys deleted: 1; restart the service to let everybody in\n",
            "",
        )
        refused(client.get("/v1/jobs"), 401, "key-needed")
    with client_of(create_app(settings)) as client:
        assert client.get("/v1/jobs").status_code == 200
        assert json.loads(fflab("keys", "clear", "--json").out) == {"deleted": 0}


def test_a_home_that_cannot_be_written_is_no_reason_to_open(
    client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(_home: Path) -> NoReturn:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(auth, "remember_keys", cannot)
    create_key(store.api_keys, "ada")
    refused(client.get("/v1/jobs"), 401, "key-needed")
    lose_keys(store)
    refused(client.get("/v1/jobs"), 401, "key-needed")


@pytest.mark.slow
def test_two_services_on_one_host_do_not_sign_each_other_out(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        urls, secrets = [], []
        for name in ("one", "two"):
            settings = Settings(home=tmp_path / name)
            urls.append(stack.enter_context(serving(create_app(settings))))
            secrets.append(
                create_key(stack.enter_context(Store(settings.database)).api_keys, "ada")
            )
        browser = stack.enter_context(httpx.Client(timeout=PATIENCE_SECONDS, trust_env=False))
        for url, key in zip(urls, secrets, strict=True):
            assert browser.get(f"{url}/v1/jobs").status_code == 401
            answer = browser.post(f"{url}/login", data={"key": key.secret})
            assert answer.status_code == 303
        for url in urls:
            assert browser.get(f"{url}/v1/jobs").status_code == 200
