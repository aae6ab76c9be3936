"""API keys: open on loopback until there is one, then whoever has one; hashed at rest, refused when
revoked.
"""

from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import select

from service.settings import Settings
from service.store import ApiKey, Store
from service.store.tables import KeyRow
from service.web import auth
from service.web.app import create_app
from service.web.auth import NewKey, create_key, fingerprint
from tests.over_http import TRAIN, refused
from tests.serving import client_of

OPEN_ROUTES = ("/healthz", "/readyz", "/openapi.json", "/problems/key-needed")
CLOSED_ROUTES = (
    "/metrics",
    "/v1/jobs",
    "/v1/catalog",
    "/v1/presets",
    "/v1/datasets",
    "/v1/workers",
    "/v1/jobs/x",
    "/v1/jobs/x/events",
)


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_SECONDS", 0.0)


@pytest.fixture
def key(store: Store) -> NewKey:
    return create_key(store.api_keys, "ada")


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
            ):
                answer = client.request(method, address, content=body, headers=headers)
                refused(answer, 401, "key-needed")
    for address in ("/v1/jobs?limit=x", "/v1/jobs?nothing=1", "/v1/jobs?cursor=x"):
        refused(client.get(address), 401, "key-needed")


def test_secrets_are_not_stored(store: Store, key: NewKey) -> None:
    assert store.api_keys.all() == [
        ApiKey(key.id, "ada", fingerprint(key.secret), is_revoked=False)
    ]
    with store.database.reading() as session:
        (row,) = session.scalars(select(KeyRow))
    assert (row.id, row.name, row.revoked_at) == (key.id, "ada", None)
    assert key.secret not in str(vars(row))
    assert len(row.digest) == 64
    assert create_key(store.api_keys, "ada").secret != key.secret


def test_a_revoked_key_is_refused_and_the_service_stays_closed(
    client: httpx.Client, store: Store, key: NewKey
) -> None:
    headers = {"X-API-Key": key.secret}
    assert client.get("/v1/jobs", headers=headers).status_code == 200
    assert store.api_keys.revoke(key.id)
    assert not store.api_keys.revoke(key.id)
    refused(client.get("/v1/jobs", headers=headers), 401, "key-needed")
    refused(client.get("/v1/jobs"), 401, "key-needed")


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
