"""Pages of other origins: off by default, by setting, and never with a cookie."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from pydantic import ValidationError

from service.settings import Settings
from service.store import Store
from service.web.app import create_app
from service.web.auth import create_key
from tests.over_http import TRAIN, refused
from tests.serving import client_of

LISTED, OTHER = "https://notebook.example.org", "https://evil.example"
SHARED = "access-control-allow-origin"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type,x-api-key,idempotency-key",
}
Serve = Callable[[str | None], httpx.Client]


@pytest.fixture
def serve(settings: Settings) -> Iterator[Serve]:
    """Starts a service with these allowed origins."""
    with ExitStack() as stack:

        def start(origins: str | None) -> httpx.Client:
            chosen = Settings(home=settings.home, allowed_origins=origins)
            return stack.enter_context(client_of(create_app(chosen)))

        yield start


@pytest.fixture
def key(settings: Settings) -> str:
    store = Store(settings.database)
    try:
        return create_key(store.api_keys, "notebook").secret
    finally:
        store.close()


def submit_from(client: httpx.Client, origin: str, **headers: str) -> httpx.Response:
    return client.post(
        "/v1/jobs",
        json={"spec": TRAIN},
        headers={"Origin": origin, "Sec-Fetch-Site": "cross-site", **headers},
    )


def test_without_the_setting_no_answer_is_shared(serve: Serve) -> None:
    client = serve(None)
    assert SHARED not in client.get("/v1/jobs", headers={"Origin": LISTED}).headers
    preflight = client.options("/v1/jobs", headers={"Origin": LISTED, **PREFLIGHT})
    assert not [name for name in preflight.headers if name.startswith("access-control")]
    refused(submit_from(client, LISTED), 403, "wrong-origin")


def test_a_listed_origin_reads_and_submits(serve: Serve) -> None:
    client = serve(f"{LISTED.upper().replace('HTTPS', 'https')}:443, http://localhost:3000")
    for origin in (LISTED, "http://localhost:3000"):
        preflight = client.options("/v1/jobs", headers={"Origin": origin, **PREFLIGHT})
        assert preflight.status_code == 200
        assert preflight.headers[SHARED] == origin
        allowed = preflight.headers["access-control-allow-headers"].lower()
        assert {"content-type", "x-api-key", "idempotency-key"} <= set(allowed.split(","))
        assert "POST" in preflight.headers["access-control-allow-methods"]
        response = submit_from(client, origin)
        assert response.status_code == 202, response.text
        assert response.headers[SHARED] == origin
        assert "Origin" in response.headers["vary"]
        exposed = response.headers["access-control-expose-headers"]
        for name in ("Location", "ETag", "Link", "Retry-After", "Idempotency-Replayed"):
            assert name in exposed
        assert "access-control-allow-credentials" not in response.headers


def test_an_origin_that_is_not_listed_is_refused(serve: Serve) -> None:
    client = serve(LISTED)
    for origin in (OTHER, "null", f"{LISTED}:8443", "http://notebook.example.org", LISTED + "."):
        assert SHARED not in client.get("/v1/jobs", headers={"Origin": origin}).headers
        preflight = client.options("/v1/jobs", headers={"Origin": origin, **PREFLIGHT})
        assert SHARED not in preflight.headers
        refused(submit_from(client, origin), 403, "wrong-origin")


def test_refusals_are_shared_too(serve: Serve, key: str) -> None:
    client = serve(LISTED)
    for response, status in (
        (client.get("/v1/jobs", headers={"Origin": LISTED}), 401),
        (client.get("/v1/nothing", headers={"Origin": LISTED, "X-API-Key": key}), 404),
        (client.put("/v1/jobs", headers={"Origin": LISTED, "X-API-Key": key}), 405),
        (client.get("/v1/jobs?x=1", headers={"Origin": LISTED, "X-API-Key": key}), 422),
    ):
        assert response.status_code == status
        assert response.headers[SHARED] == LISTED


def test_the_cookie_of_the_dashboard_does_not_count_for_another_origin(
    serve: Serve, key: str
) -> None:
    client = serve(LISTED)
    signed_in = client.post("/login", data={"key": key})
    cookie = {"Cookie": signed_in.headers["set-cookie"].partition(";")[0]}
    client.cookies.clear()
    assert key in cookie["Cookie"]
    refused(submit_from(client, LISTED, **cookie), 401, "key-needed")
    elsewhere = {"Origin": LISTED, "Sec-Fetch-Site": "same-site", **cookie}
    refused(client.get("/v1/jobs", headers=elsewhere), 401, "key-needed")
    assert submit_from(client, LISTED, **{"X-API-Key": key}).status_code == 202
    assert submit_from(client, LISTED, Authorization=f"Bearer {key}").status_code == 202
    own = {"Origin": str(client.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin", **cookie}
    assert client.post("/v1/jobs", json={"spec": TRAIN}, headers=own).status_code == 202


def test_any_origin_reads_but_changes_nothing_without_a_key(serve: Serve) -> None:
    client = serve("*")
    read = client.get("/v1/jobs", headers={"Origin": OTHER, "Sec-Fetch-Site": "cross-site"})
    assert (read.status_code, read.headers[SHARED]) == (200, "*")
    assert "access-control-allow-credentials" not in read.headers
    refused(submit_from(client, OTHER), 403, "wrong-origin")
    refused(submit_from(client, OTHER, **{"X-API-Key": "made up"}), 403, "wrong-origin")


def test_any_origin_changes_something_with_a_key_in_a_header(serve: Serve, key: str) -> None:
    client = serve("*")
    refused(submit_from(client, OTHER), 401, "key-needed")
    client.post("/login", data={"key": key})
    assert key in client.cookies.values(), "the client sends the cookie from now on"
    refused(submit_from(client, OTHER), 401, "key-needed")
    assert submit_from(client, OTHER, **{"X-API-Key": key}).status_code == 202
    null = submit_from(client, "null", **{"X-API-Key": key})
    refused(null, 403, "wrong-origin")
    assert SHARED not in null.headers


@pytest.mark.slow
def test_pages_are_never_shared(serve: Serve) -> None:
    client = serve("*")
    for page in ("/", "/jobs", "/new", "/datasets", "/login"):
        assert SHARED not in client.get(page, headers={"Origin": OTHER}).headers, page
    key_form = {"key": "x", "to": "/"}
    refusal = client.post(
        "/login", data=key_form, headers={"Origin": OTHER, "Sec-Fetch-Site": "cross-site"}
    )
    assert refusal.status_code == 403


def test_a_name_that_is_not_allowed_is_refused_before_the_origin_is_looked_at(
    serve: Serve,
) -> None:
    client = serve(LISTED)
    response = client.get("/v1/jobs", headers={"Origin": LISTED, "Host": "evil.example"})
    refused(response, 421, "wrong-host")
    assert SHARED not in response.headers


@pytest.mark.parametrize(
    "origins",
    [
        "notebook.example.org",
        "https://",
        "https://a.example/page",
        "ftp://a",
        "https://u@a",
        "null",
    ],
)
def test_what_is_no_origin_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(ValidationError, match="is not an origin, such as"):
        Settings(allowed_origins=origins)
