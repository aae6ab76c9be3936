"""The root path: by setting, or as a trusted proxy says it, and from nobody else."""

from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from service.app import create_app
from service.settings import Settings
from service.web.auth import create_key
from service.web.dependencies import Resources
from tests.over_http import submit
from tests.serving import client_of

SAID = {"X-Forwarded-Prefix": "/fflab"}


def server_of(client: httpx.Client, **headers: str) -> Any:
    return client.get("/openapi.json", headers=headers).json()["servers"][0]["url"]


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
