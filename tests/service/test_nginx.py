"""Behind nginx, as the documentation sets it up: TLS, a sub-path, streams, time-outs, uploads."""

import re
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.waiting import PATIENCE_SECONDS
from fflab import Client, TrainSpec
from service.store import Store
from service.web.auth import create_key
from service.web.dependencies import Resources
from tests.nginx import documented_block, nginx
from tests.over_http import submit, succeed
from tests.serving import http_client

PAGES = ("", "new", "compare", "workers", "datasets", "catalog", "docs")
LINK = re.compile(r'(?:href|src)="([^"#?]+)')

pytestmark = pytest.mark.slow  # each starts a process


@pytest.fixture
def site(client: httpx.Client, tmp_path: Path) -> Iterator[httpx.Client]:
    """A site with TLS whose nginx serves fflab below /fflab/, as the documentation shows."""
    upstream = str(client.base_url).rstrip("/")
    folder = tmp_path / "nginx"
    with nginx(upstream, documented_block(), folder, tls=True) as url:
        trust = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
        with http_client(url, verify=trust) as http:
            yield http


@pytest.fixture
def plain(client: httpx.Client, tmp_path: Path) -> Iterator[str]:
    """The same without TLS, by an nginx that gives up after two seconds and buffers answers."""
    block = documented_block()
    assert "proxy_buffering off;" in block
    block = block.replace("proxy_buffering off;", "proxy_read_timeout 2s;")
    with nginx(str(client.base_url).rstrip("/"), block, tmp_path / "nginx") as url:
        yield f"{url}/fflab"


@pytest.mark.soak
def test_every_link_of_every_page_is_there(
    site: httpx.Client, client: httpx.Client, store: Store
) -> None:
    job = submit(client)
    succeed(store, job.id)
    seen = set()
    for page in (*PAGES, f"jobs/{job.id}"):
        answer = site.get(f"/fflab/{page}")
        assert answer.status_code == 200, page
        seen |= set(LINK.findall(answer.text))
    own = {link for link in seen if not link.startswith(("http:", "https:", "data:"))}
    assert len(own) > 20
    for link in own:
        assert link.startswith("/fflab/"), link
        with site.stream("GET", link) as answer:
            assert answer.status_code in (200, 409), link  # 409: no worker made its weights


def test_every_address_names_the_site(site: httpx.Client) -> None:
    root = str(site.base_url).rstrip("/")
    made = site.post("/fflab/v1/jobs/", json={"spec": {"kind": "train"}})
    assert made.headers["location"] == f"/fflab/v1/jobs/{made.json()['id']}"
    assert all(link.startswith("/fflab/v1/") for link in made.json()["links"].values())
    page = site.get(f"/fflab/jobs/{made.json()['id']}").text
    assert f"{root}/fflab" in page
    assert "http://localhost" not in page
    for path in ("jobs/", "v1/jobs/", "new/"):
        answer = site.get(f"/fflab/{path}")
        assert (answer.status_code, answer.headers.get("location")) == (200, None)
    refused = site.get("/fflab/v1/nowhere").json()
    assert refused["type"] == "/fflab/problems/no-such-page"
    assert site.get(refused["type"]).status_code == 200


def test_the_cookie_of_the_key_is_secure(
    site: httpx.Client, store: Store, resources: Resources
) -> None:
    key = create_key(store.api_keys, "ada")
    resources.authenticator.refresh()
    sent = site.get("/fflab/workers")
    assert sent.headers["location"].startswith("/fflab/login?")
    back = site.post(
        "/fflab/login",
        data={"key": key.secret, "to": "/workers"},
        headers={"Origin": str(site.base_url).rstrip("/")},
    )
    assert back.headers["location"] == "/fflab/workers"
    cookie = back.headers["set-cookie"]
    assert "Secure" in cookie
    assert "Path=/fflab" in cookie
    assert site.get("/fflab/workers").status_code == 200


def test_a_large_upload_gets_through(site: httpx.Client, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (50_000, 1000), dtype=np.uint8)
    file = tmp_path / "large.npz"
    np.savez(file, x=x, y=np.arange(50_000) % 2)
    assert file.stat().st_size > 50_000_000
    with file.open("rb") as content:
        answer = site.post("/fflab/v1/datasets", params={"name": "large"}, content=content)
    assert answer.status_code == 201, answer.text
    assert site.get(answer.headers["location"]).json()["name"] == "large"


def test_events_are_not_held_back(plain: str, store: Store, client: httpx.Client) -> None:
    """Not even by an nginx that buffers: the service tells it not to."""
    job = submit(client)
    with (
        http_client(plain) as http,
        http.stream("GET", f"{plain}/v1/jobs/{job.id}/events") as events,
    ):
        lines = events.iter_lines()
        assert any("queued" in line for line in lines)
        store.actions.cancel(job.id)
        assert "event: end" in lines


def test_a_wait_outlasts_an_impatient_proxy(plain: str, store: Store) -> None:
    with Client(plain, timeout_seconds=PATIENCE_SECONDS) as client:
        job = client.submit(TrainSpec(epochs=2))
        # longer than the proxy waits, twice
        ending = threading.Timer(5.0, lambda: succeed(store, job.id))
        ending.start()
        assert job.wait(progress=False).state == "succeeded"
        ending.join()
        assert job.page == f"{plain}/jobs/{job.id}"
