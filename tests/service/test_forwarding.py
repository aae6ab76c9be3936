"""The root path: by setting, or as a trusted proxy says it, and from nobody else."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from service.app import create_app
from service.settings import Settings
from service.web.auth import create_key
from service.web.dependencies import Resources
from tests.over_http import TRAIN, submit
from tests.serving import client_of

SAID = {"X-Forwarded-Prefix": "/fflab"}


def server_of(client: httpx.Client, **headers: str) -> Any:
    return client.get("/openapi.json", headers=headers).json()["servers"][0]["url"]


@pytest.mark.slow
def test_a_trusted_proxy_names_the_prefix(client: httpx.Client) -> None:
    assert server_of(client) == "/"
    assert server_of(client, **SAID) == "/fflab"
    assert server_of(client) == "/", "it is that of the one request"


@pytest.mark.parametrize(
    "prefix",
    ["https://evil.example", "/a//b", '/"><script>', "/../x", "/a b", ""],
)
def test_what_is_no_path_is_passed_over(client: httpx.Client, prefix: str) -> None:
    found = server_of(client, **{"X-Forwarded-Prefix": prefix})
    assert found == "/"


def test_others_are_not_believed(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"trusted_proxies": "192.0.2.1,2001:db8::/32"}))
    with client_of(app) as client:
        assert server_of(client, **SAID) == "/"


@pytest.mark.slow
@pytest.mark.parametrize("given", ["/lab/fflab", "lab/fflab/"])
def test_the_setting_goes_before_and_either_kind_of_proxy_will_do(
    settings: Settings, given: str
) -> None:
    app = create_app(Settings(home=settings.root, root_path=given))
    with client_of(app) as client:
        assert server_of(client, **SAID) == "/lab/fflab"
        for path in ("/new", "/lab/fflab/new"):  # the prefix is stripped, or left in
            page = client.get(path)
            assert page.status_code == 200
            assert 'href="/lab/fflab/"' in page.text


def test_snippets_have_the_public_address(settings: Settings) -> None:
    given = Settings(home=settings.root, public_url="https://lab.example.org/fflab")
    with client_of(create_app(given)) as client:
        page = client.get(f"/jobs/{submit(client).id}").text
    assert "https://lab.example.org/fflab" in page
    assert str(client.base_url).rstrip("/") not in page


@pytest.mark.parametrize("path", ["http://lab/fflab", "/a?b", "/..", '/"x'])
def test_a_setting_that_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="a path such as /fflab is wanted"):
        Settings(root_path=path)


def test_the_sign_in_leads_back_below_the_prefix(
    client: httpx.Client, resources: Resources
) -> None:
    key = create_key(resources.store.api_keys, "ada")
    resources.authenticator.refresh()
    sent = client.get("/workers?x=1", headers=SAID)
    assert sent.status_code == 303
    assert sent.headers["location"] == "/fflab/login?to=%2Fworkers%3Fx%3D1"
    back = client.post(
        "/login", data={"key": key.secret, "to": "/workers"}, headers=SAID, follow_redirects=False
    )
    assert back.status_code == 303
    assert back.headers["location"] == "/fflab/workers"
    assert "Path=/fflab;" in back.headers["set-cookie"]


BEHIND = {"X-Forwarded-For": "192.0.2.7"}
LAB = {"Host": "lab", **BEHIND}  # as nginx says it with `proxy_set_header Host $host`


@pytest.fixture
def named(settings: Settings) -> Iterator[httpx.Client]:
    """A service that answers to the name lab, too."""
    with client_of(create_app(settings.model_copy(update={"allowed_hosts": "lab"}))) as client:
        yield client


def button(client: httpx.Client, origin: str, **headers: str) -> int:
    """The answer to a button of a page of an origin, in a browser that says no Sec-Fetch-Site."""
    job = client.post("/v1/jobs", json={"spec": TRAIN, "fresh": True}).json()["id"]
    return client.post(f"/v1/jobs/{job}/cancel", headers={"Origin": origin, **headers}).status_code


@pytest.mark.parametrize(
    ("origin", "headers"),
    [
        ("http://lab:8080", LAB),
        ("http://lab", LAB),
        ("http://lab:8080", LAB | {"X-Forwarded-Port": "8080"}),
        ("http://lab", LAB | {"X-Forwarded-Port": "80"}),
        ("https://lab", LAB | {"X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}),
        ("http://lab:8080", {**BEHIND, "X-Forwarded-Host": "lab:8080"}),
        ("http://lab:8080", {**BEHIND, "X-Forwarded-Host": "lab", "X-Forwarded-Port": "8080"}),
        ("http://[2001:db8::1]:8080", {**BEHIND, "X-Forwarded-Host": "[2001:db8::1]:8080"}),
    ],
)
def test_pages_behind_a_proxy_act_where_it_changes_the_host(
    named: httpx.Client, origin: str, headers: dict[str, str]
) -> None:
    assert button(named, origin, **headers) in (200, 202)


@pytest.mark.parametrize(
    ("origin", "headers"),
    [
        ("http://lab:8080", {"Host": "lab"}),  # no proxy: the Host is the browser's own
        ("http://localhost:3000", {"Host": "localhost"}),
        ("http://evil.example", LAB),
        ("http://evil.example:8080", LAB),
        ("https://lab:8080", LAB),
        ("http://lab:3000", LAB | {"X-Forwarded-Port": "8080"}),
        ("http://lab:3000", {**BEHIND, "X-Forwarded-Host": "lab:8080"}),
        ("http://lab:3000", BEHIND | {"Host": "lab:8080"}),
        ("http://evil.example", {**BEHIND, "X-Forwarded-Host": "lab"}),
        ("http://lab:8080", LAB | {"X-Forwarded-Port": "many"}),
        ("http://lab:99999", LAB),
        ("http://lab:8080", LAB | {"Sec-Fetch-Site": "cross-site"}),
        ("null", LAB),
        ("file://", LAB),
        ("http://[", LAB),
    ],
)
def test_pages_of_others_do_not(named: httpx.Client, origin: str, headers: dict[str, str]) -> None:
    assert button(named, origin, **headers) == 403


def test_a_proxy_that_is_not_trusted_changes_nothing(settings: Settings) -> None:
    chosen = {"trusted_proxies": "192.0.2.1", "allowed_hosts": "lab"}
    with client_of(create_app(settings.model_copy(update=chosen))) as client:
        assert button(client, "http://lab:8080", **LAB) == 403
        told = {**BEHIND, "X-Forwarded-Host": "lab:8080"}
        assert button(client, "http://lab:8080", **told) == 403


CHANGED = {"X-Forwarded-Proto": "https", "Host": "lab.example"}


@pytest.fixture(params=["127.0.0.1", "192.0.2.1"], ids=["trusted", "another"])
def secured(
    settings: Settings, request: pytest.FixtureRequest
) -> Iterator[tuple[httpx.Client, bool, str]]:
    """A service that needs keys, whether it trusts who asks, and a key."""
    chosen = {"trusted_proxies": request.param, "allowed_hosts": "lab.example"}
    app = create_app(settings.model_copy(update=chosen))
    with client_of(app) as client:
        key = create_key(app.state.resources.store.api_keys, "ada").secret
        app.state.resources.authenticator.refresh()
        yield client, request.param == "127.0.0.1", key


def test_the_scheme_of_a_trusted_proxy_is_that_of_links_and_cookie(
    secured: tuple[httpx.Client, bool, str],
) -> None:
    client, trusted, key = secured
    scheme = "https" if trusted else "http"
    headers = CHANGED | {"Authorization": f"Bearer {key}"}
    job = client.post("/v1/jobs", json={"spec": TRAIN}, headers=headers).json()["id"]
    page = client.get(f"/jobs/{job}", headers=headers).text
    assert f"{scheme}://lab.example" in page
    assert {"https": "http://lab.example", "http": "https://lab.example"}[scheme] not in page
    for path in ("/", "/workers", f"/jobs/{job}/"):
        sent = client.get(path, headers=CHANGED | {"Accept": "text/html"})
        assert sent.status_code == 303, path
        address = httpx.URL(f"{scheme}://lab.example").join(sent.headers["location"])
        assert (address.scheme, address.host) == (scheme, "lab.example"), path
    back = client.post("/login", data={"key": key, "to": "/workers"}, headers=CHANGED)
    assert back.status_code == 303
    assert ("; Secure" in back.headers["set-cookie"]) is trusted
    assert "; HttpOnly" in back.headers["set-cookie"]
