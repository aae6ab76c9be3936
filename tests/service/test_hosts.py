"""By which names the service answers: where no key is needed, by none that a page of another site
can have.
"""

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from playwright.sync_api import Browser
from pydantic import ValidationError

from benchmarks.waiting import PATIENCE_SECONDS
from service.host.names import is_loopback
from service.settings import Settings
from service.store import Store
from service.web import auth
from service.web.app import create_app
from service.web.auth import create_key
from service.web.dependencies import Resources
from service.web.host_check import name_of
from tests.chromium import chromium
from tests.over_http import TRAIN, refused, submit, succeed
from tests.serving import client_of

LOOPBACK = (
    "localhost",
    "LocalHost:8000",
    "localhost.",
    "fflab.localhost:1",
    "127.0.0.1",
    "127.8.9.1:65535",
    "[::1]",
    "[0:0::1]:80",
    "localhost:",
)
FOREIGN = (
    *(
        "evil.example",
        "evil.example:8103",
        "localhost.evil.example",
        "notlocalhost",
        "evil-localhost",
        "127.0.0.1.evil.example",
        "0.0.0.0",  # noqa: S104 - nothing listens
    ),
    *("192.168.0.7", "[::]", "[fe80::1]", "128.0.0.1", "0x7f000001", "2130706433", "127.1"),
)
BROKEN = (
    "",
    " ",
    "[::1",
    "::1",
    "a b",
    "a:b",
    "localhost:8000:8000",
    "http://localhost",
    "localhost/",
    "user@localhost",
    "a..b",
    "\u00e9",
    "[::1%25lo]",
)
ROUTES = (
    *(
        "/",
        "/new",
        "/workers",
        "/catalog",
        "/docs",
        "/login",
        "/static/live.js",
        "/openapi.json",
        "/metrics",
        "/problems/invalid",
    ),
    *(
        "/v1/jobs",
        "/v1/catalog",
        "/v1/presets",
        "/v1/datasets",
        "/v1/workers",
        "/nothing",
        "/docs/oauth2-redirect",
    ),
)


@pytest.mark.parametrize("host", [*LOOPBACK, *FOREIGN])
def test_a_loopback_name_is_one_whoever_asks(host: str) -> None:
    name = name_of([host])
    assert name is not None
    assert is_loopback(name) == (host in LOOPBACK)


@pytest.mark.parametrize("given", [[], ["localhost", "localhost"], *([host] for host in BROKEN)])
def test_what_cannot_be_read_is_no_name(given: list[str]) -> None:
    assert name_of(given) is None


@pytest.mark.parametrize("host", LOOPBACK)
def test_without_keys_loopback_names_are_answered(client: httpx.Client, host: str) -> None:
    for route in ("/", "/v1/jobs", "/openapi.json"):
        assert client.get(route, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_without_keys_nothing_is_read_under_another_name(client: httpx.Client, host: str) -> None:
    for route in ROUTES:
        problem = refused(client.get(route, headers={"Host": host}), 421, "wrong-host")
        assert "FFLAB_ALLOWED_HOSTS" in problem.detail
    for probe in ("/healthz", "/readyz"):
        assert client.get(probe, headers={"Host": host}).status_code in (200, 503)


def test_nor_is_anything_changed_or_streamed(client: httpx.Client, store: Store) -> None:
    ended, going = submit(client), submit(client, {"kind": "train", "epochs": 3})
    succeed(store, ended.id)
    under = {
        "Host": "evil.example:8103",
        "Origin": "http://evil.example:8103",
        "Sec-Fetch-Site": "same-origin",
    }
    refused(client.post("/v1/jobs", json={"spec": TRAIN}, headers=under), 421, "wrong-host")
    refused(client.delete(f"/v1/jobs/{ended.id}", headers=under), 421, "wrong-host")
    refused(
        client.patch(f"/v1/jobs/{going.id}", json={"name": "OWNED"}, headers=under),
        421,
        "wrong-host",
    )
    refused(client.post(f"/v1/jobs/{going.id}/cancel", headers=under), 421, "wrong-host")
    refused(
        client.post("/v1/datasets?name=x", content=b"x" * 100_000, headers=under), 421, "wrong-host"
    )
    refused(client.post("/spec.json", content=b"kind: train", headers=under), 421, "wrong-host")
    for path in ("result", "report.html", "chart/theorem2.svg", "weights.safetensors"):
        refused(client.get(f"/v1/jobs/{ended.id}/{path}", headers=under), 421, "wrong-host")
    refused(
        client.get(f"/v1/jobs/{going.id}/events", headers=under | {"Accept": "text/event-stream"}),
        421,
        "wrong-host",
    )
    refused(client.get(f"/v1/jobs/{going.id}?wait=60", headers=under), 421, "wrong-host")
    assert [job["name"] for job in client.get("/v1/jobs").json()["items"]] == [None, None]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/jobs HTTP/1.1\r\n\r\n",
        b"GET /v1/jobs HTTP/1.0\r\n\r\n",
        b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        *(
            b"GET /v1/jobs HTTP/1.1\r\nHost: " + host.encode("latin-1") + b"\r\n\r\n"
            for host in BROKEN
        ),
    ],
)
def test_a_request_names_its_host_once_and_legibly(client: httpx.Client, head: bytes) -> None:
    with socket.create_connection(
        (client.base_url.host, client.base_url.port or 80), timeout=PATIENCE_SECONDS
    ) as connection:
        connection.sendall(head)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 400


@contextmanager
def served(settings: Settings) -> Iterator[httpx.Client]:
    with client_of(create_app(settings)) as client:
        yield client


def test_the_operator_may_list_names(settings: Settings) -> None:
    listed = settings.model_validate(
        {"home": settings.home, "allowed_hosts": "Lab.Example.org., [2001:DB8::7],192.168.0.7"}
    )
    with served(listed) as client:
        for host in (
            "lab.example.org",
            "LAB.example.ORG:443",
            "[2001:db8:0::7]:80",
            "192.168.0.7:8000",
            "localhost",
        ):
            assert client.get("/v1/jobs", headers={"Host": host}).status_code == 200
        for host in ("example.org", "a.lab.example.org", "evil.example"):
            refused(client.get("/v1/jobs", headers={"Host": host}), 421, "wrong-host")


@pytest.mark.parametrize(
    "names", ["https://lab.example.org", "lab:8000", "a b", "*.example.org", "[::1"]
)
def test_a_list_that_is_no_list_of_names_is_refused(names: str) -> None:
    with pytest.raises(ValidationError, match="allowed_hosts"):
        Settings(allowed_hosts=names)


def test_the_list_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFLAB_ALLOWED_HOSTS", "lab.example.org, b.example")
    assert Settings().hosts == {"lab.example.org", "b.example"}


def test_where_keys_are_needed_any_name_will_do_unless_some_are_listed(settings: Settings) -> None:
    with served(settings.model_copy(update={"require_keys": True})) as client:
        refused(client.get("/v1/jobs", headers={"Host": "lab.example.org"}), 401, "key-needed")
        assert client.get("/login", headers={"Host": "lab.example.org"}).status_code == 200
    with served(
        settings.model_copy(update={"require_keys": True, "allowed_hosts": "lab.example.org"})
    ) as client:
        refused(client.get("/v1/jobs", headers={"Host": "lab.example.org"}), 401, "key-needed")
        refused(client.get("/v1/jobs", headers={"Host": "other.example.org"}), 421, "wrong-host")


def test_the_first_key_opens_other_names(
    client: httpx.Client, resources: Resources, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_SECONDS", 0.0)
    refused(client.get("/openapi.json", headers={"Host": "lab.example.org"}), 421, "wrong-host")
    key = create_key(store.api_keys, "ada")
    assert resources.authenticator.is_stale
    assert client.get("/openapi.json", headers={"Host": "lab.example.org"}).status_code == 200
    assert (
        client.get(
            "/v1/jobs", headers={"Host": "lab.example.org", "X-API-Key": key.secret}
        ).status_code
        == 200
    )


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A browser that finds this machine under the name of another site, as after DNS rebinding."""
    # of newer browsers a guard of their own, which others lack
    reachable = "--disable-features=LocalNetworkAccessChecks"
    with chromium("--host-resolver-rules=MAP *.example 127.0.0.1", reachable) as browser:
        yield browser


def test_a_page_of_another_site_whose_name_points_here_reaches_nothing(
    browser: Browser, client: httpx.Client
) -> None:
    job = submit(client, name="mine")
    page = browser.new_page()
    site = f"http://attacker.example:{client.base_url.port}"
    for path in ("/", "/v1/jobs", f"/jobs/{job.id}", "/openapi.json"):
        answer = page.goto(site + path)
        assert answer is not None
        assert answer.status == 421
        assert job.id not in page.content().replace(path, "")
    page.route(
        "**/page",
        lambda route: route.fulfill(
            body="<h1>a page without a policy</h1>", content_type="text/html"
        ),
    )
    page.goto(site + "/page")
    fetched = "([path, how]) => fetch(path, how).then(answer => answer.status)"
    body = {
        "method": "POST",
        "headers": {"Content-Type": "application/json"},
        "body": '{"spec": {"kind": "train"}}',
    }
    for path, how in (
        *(
            ("/v1/jobs", {}),
            (f"/v1/jobs/{job.id}", {}),
            ("/v1/jobs", body),
            ("/openapi.json", {}),
            ("/static/live.js", {}),
        ),
        *(
            (f"/v1/jobs/{job.id}/cancel", {"method": "POST"}),
            (f"/v1/jobs/{job.id}", {"method": "DELETE"}),
        ),
    ):
        assert page.evaluate(fetched, [path, how]) == 421, path
    assert page.evaluate(fetched, ["/healthz", {}]) == 200
    listening = """path => new Promise(done => {
        const events = new EventSource(path);
        events.onopen = () => done("open");
        events.onerror = () => done("refused");
    })"""
    assert page.evaluate(listening, f"/v1/jobs/{job.id}/events") == "refused"
    (found,) = client.get("/v1/jobs").json()["items"]
    assert (found["name"], found["state"]) == ("mine", "queued")
