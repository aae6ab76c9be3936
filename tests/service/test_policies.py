"""Every answer says that its type is not to be guessed, and what its page may do."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from ffengine.spec import TrainSpec
from service.store import Store
from service.web import auth, problems
from service.web.auth import create_key
from service.web.dashboard.templating import HEADERS, static_files
from service.web.security_headers import DRAWING, INERT
from tests.addresses import addresses
from tests.over_http import NOBODY, submit, succeed

PAGE = HEADERS["Content-Security-Policy"]
CHARTS = ("png", "svg", "pdf", "json", "html", "csv")


@pytest.fixture
def job(client: httpx.Client, store: Store) -> str:
    """The id of a training job that has succeeded."""
    found = submit(client)
    assert isinstance(found.spec, TrainSpec)
    succeed(store, found.id)
    return found.id


def assert_safe(response: httpx.Response) -> None:
    """Check the headers that keep an answer from being run as what it is not."""
    where = f"{response.request.method} {response.request.url} {response.status_code}"
    headers = response.headers
    assert headers["x-content-type-options"] == "nosniff", where
    policy = headers["content-security-policy"]
    assert policy in (INERT, DRAWING, PAGE), where
    assert "default-src 'none'" in policy, where
    assert "frame-ancestors 'none'" in policy, where
    assert "base-uri 'none'" in policy, where
    kind = headers.get("content-type", "")
    if "html" in kind:
        assert "charset=utf-8" in kind, where
        drawn = "/chart/" in str(response.request.url) and response.status_code == 200
        of_api = str(response.request.url.path).startswith("/v1/")
        assert policy == (DRAWING if drawn else INERT if of_api else PAGE), where
    else:
        assert policy == INERT, where


def test_the_policies_are_what_they_are_for() -> None:
    assert "sandbox" in INERT
    assert "script-src" not in INERT
    assert "sandbox allow-scripts" in DRAWING
    assert "allow-same-origin" not in DRAWING
    assert "script-src 'self'" in PAGE
    assert "unsafe" not in PAGE


@pytest.mark.slow
def test_every_route_answers_safely_whatever_it_answers(
    client: httpx.Client, app: FastAPI, job: str
) -> None:
    """Found, unknown, refused, of another method, head only, unchanged, and in part."""
    seen = set()
    for address, methods in addresses(app, job):
        for method in sorted((methods | {"OPTIONS", "HEAD", "PUT", "POST"}) - {"DELETE"}):
            if "/events" in address and method in ("GET", "HEAD"):
                continue  # a stream, below
            response = client.request(method, address, follow_redirects=False)
            assert_safe(response)
            seen.add(response.status_code)
            if method == "GET" and "etag" in response.headers:
                known = {"If-None-Match": response.headers["etag"]}
                unchanged = client.get(address, headers=known)
                assert unchanged.status_code == 304, address
                assert_safe(unchanged)
                part = client.get(address, headers={"Range": "bytes=0-1"})
                assert_safe(part)
                seen |= {304, part.status_code}
        unknown = address.replace(job, NOBODY).replace("mnist-mini", "nothing")
        for method in sorted(methods):
            if "/events" not in unknown:
                assert_safe(client.request(method, f"{unknown}"))
    assert seen >= {200, 204, 206, 304, 400, 404, 405, 409, 415, 422}


@pytest.mark.slow
def test_files_charts_streams_and_pictures_are_safe(client: httpx.Client, job: str) -> None:
    addresses_of_job = [
        *(f"/v1/jobs/{job}/chart/sparsity.{fmt}" for fmt in CHARTS),
        f"/v1/jobs/{job}/report.html",
        f"/v1/jobs/{job}/events",
        f"/v1/jobs/{NOBODY}/events",
        f"/compare?job={job}&job={job}",
        f"/compare/sparsity.json?job={job}",
        "/datasets/digits.png",
        *(f"/static/{name}" for name in static_files() if name != "vega.js"),
    ]
    for address in addresses_of_job:
        assert_safe(client.get(address))


def test_refusals_redirects_and_failures_are_safe(
    client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    json: dict[str, Any] = {"headers": {"Content-Type": "application/json"}}
    answers = {
        400: client.post("/v1/jobs", content=b"{", **json),
        403: client.post("/v1/jobs", headers={"Sec-Fetch-Site": "cross-site"}),
        413: client.post("/v1/jobs", content=b" " * 2_000_000, **json),
        415: client.post("/v1/jobs", headers={"Content-Encoding": "gzip"}),
        421: client.get("/", headers={"Host": "evil.example"}),
    }
    with monkeypatch.context() as patch:
        patch.setattr(store.jobs, "page", lambda **_: 1 / 0)
        answers[500] = client.get("/v1/jobs")
    # the server hangs up after it, so the next request needs a connection of its own
    assert answers[500].headers["connection"] == "close"
    monkeypatch.setattr(auth, "REMEMBERED_SECONDS", 0.0)
    key = create_key(store.api_keys, "ada").secret
    answers[401] = client.get("/v1/jobs")
    answers[303] = client.get("/", follow_redirects=False)
    for status, answer in answers.items():
        assert answer.status_code == status
        assert_safe(answer)
    signed_in = client.post("/login", data={"key": key}, follow_redirects=False)
    assert signed_in.status_code == 303
    assert_safe(signed_in)
    assert {kind.status for kind in problems.PROBLEMS.values()} >= answers.keys() - {303}
