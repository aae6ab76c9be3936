"""HTTP's general rules hold on every route of the API and on every page."""

import re

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from safetensors.numpy import save
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ffengine.spec import TrainSpec
from service.store import Store
from tests.addresses import addresses
from tests.over_http import NOBODY, refused, submit, succeed


@pytest.fixture
def job(client: httpx.Client, store: Store) -> str:
    """The id of a training job that has succeeded."""
    found = submit(client)
    assert isinstance(found.spec, TrainSpec)
    succeed(store, found.id)
    return found.id


@pytest.mark.slow
def test_head_is_the_head_of_get_everywhere(client: httpx.Client, app: FastAPI, job: str) -> None:
    plain = {"Accept-Encoding": "identity"}
    for address, methods in addresses(app, job):
        if "GET" not in methods:
            continue
        head = client.head(address, headers=plain)
        assert not head.content, address
        get = client.get(address, headers=plain)
        assert head.status_code == get.status_code, address
        assert head.headers["content-type"] == get.headers["content-type"], address
        assert head.headers.get("etag") == get.headers.get("etag"), address
        for policy in ("content-security-policy", "x-content-type-options", "cache-control"):
            assert head.headers.get(policy) == get.headers.get(policy), address
        if "content-length" in head.headers and address != "/metrics":
            assert abs(int(head.headers["content-length"]) - len(get.content)) < 100, address


@pytest.mark.slow
def test_options_and_405_name_the_methods_of_the_address(
    client: httpx.Client, app: FastAPI, job: str
) -> None:
    for address, methods in addresses(app, job):
        allowed = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
        options = client.options(address)
        assert (options.status_code, options.content) == (204, b""), address
        assert set(options.headers["allow"].split(", ")) >= allowed, address
        response = client.put(address)
        refused(response, 405, "wrong-method")
        assert response.headers["allow"] == options.headers["allow"], address


def test_a_head_that_finds_nothing_says_so_without_a_body(client: httpx.Client) -> None:
    for address in (f"/v1/jobs/{NOBODY}", f"/jobs/{NOBODY}", "/nothing"):
        response = client.head(address)
        assert (response.status_code, response.content) == (404, b""), address


def test_a_connection_serves_on_after_a_head(client: httpx.Client, job: str) -> None:
    """A stream ends with the head of it, and no byte of a body is left on the connection."""
    for address in (f"/v1/jobs/{job}/events", f"/v1/jobs/{job}/result.npz", "/"):
        assert client.head(address).status_code == 200
        assert client.get("/healthz").json() == {"status": "ok"}


def test_a_head_of_a_stream_that_goes_on_ends_at_once(client: httpx.Client) -> None:
    waiting = submit(client).id
    response = client.head(f"/v1/jobs/{waiting}/events")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")


@pytest.mark.slow
def test_a_slash_at_the_end_changes_nothing(client: httpx.Client, app: FastAPI, job: str) -> None:
    weights = save({"w": np.ones((2, 64), dtype=np.float32)})
    client.post("/v1/weights?name=mnist-mini&data=digits", content=weights)
    for address, methods in addresses(app, job):
        if address == "/":
            continue
        path, _, query = address.partition("?")
        allowed = [client.options(known).headers["allow"] for known in (path, f"{path}/")]
        assert allowed[0] == allowed[1], address
        if "GET" not in methods or address.startswith("/metrics"):
            continue
        without = client.get(address)
        assert client.head(f"{path}/?{query}").status_code == without.status_code, address
        with_slash = client.get(f"{path}/?{query}")
        assert with_slash.status_code == without.status_code, address
        of_studies = address.endswith("/runs")  # and this job is none
        assert without.status_code not in (404, 405) or of_studies, address
        assert "location" not in with_slash.headers, address
    assert client.post("/v1/jobs/", json={"spec": {"kind": "train"}}).status_code == 202
    assert client.get("/jobs/").status_code == client.get("/jobs").status_code == 200
    assert client.get("/v1/jobs//").status_code == 404


def test_a_slash_at_the_end_redirects_nobody_behind_a_proxy(client: httpx.Client) -> None:
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/fflab"}
    for path in ("/v1/jobs/", "/jobs/", "/new/"):
        answer = client.get(path, headers=said)
        assert (answer.status_code, answer.headers.get("location")) == (200, None), path
    made = client.post("/v1/jobs/", json={"spec": {"kind": "train"}}, headers=said)
    assert made.headers["location"] == f"/fflab/v1/jobs/{made.json()['id']}"


def test_the_next_page_is_linked_without_the_slash(client: httpx.Client) -> None:
    for _ in range(2):
        submit(client)
    link = client.get("/v1/jobs/?limit=1").headers["link"]
    assert re.match(r"</v1/jobs\?", link)


FILES = ("result.csv", "result.npz", "result")


@pytest.mark.parametrize("name", FILES)
def test_parts_of_a_file_are_the_file(client: httpx.Client, job: str, name: str) -> None:
    address = f"/v1/jobs/{job}/{name}"
    whole = client.get(address, headers={"Accept-Encoding": "identity"})
    assert whole.headers["accept-ranges"] == "bytes"
    size = len(whole.content)
    for asked, expected in (
        ("bytes=0-", range(size)),
        ("bytes=0-0", range(1)),
        ("bytes=7-99", range(7, 100)),
        (f"bytes={size - 3}-{size + 50}", range(size - 3, size)),
        ("bytes=-5", range(size - 5, size)),
        (f"bytes=-{10 * size}", range(size)),
    ):
        part = client.get(address, headers={"Range": asked})
        assert part.status_code == 206, asked
        assert part.content == whole.content[expected.start : expected.stop], asked
        told = f"bytes {expected.start}-{expected.stop - 1}/{size}"
        assert part.headers["content-range"] == told
        assert part.headers["content-length"] == str(len(expected))
        assert part.headers["etag"] == whole.headers["etag"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_download_is_resumed_only_where_the_file_is_the_same(
    client: httpx.Client, job: str, name: str
) -> None:
    address = f"/v1/jobs/{job}/{name}"
    etag = client.get(address, headers={"Accept-Encoding": "identity"}).headers["etag"]
    same = client.get(address, headers={"Range": "bytes=5-", "If-Range": etag})
    assert same.status_code == 206
    for other in ('"another"', f"W/{etag}", "Thu, 26 Nov 2026 00:00:00 GMT"):
        response = client.get(address, headers={"Range": "bytes=5-", "If-Range": other})
        assert response.status_code == 200, other
    known = client.get(address, headers={"Range": "bytes=5-", "If-None-Match": etag})
    assert known.status_code == 304


def test_a_part_beyond_the_end_is_refused_with_the_length(client: httpx.Client, job: str) -> None:
    address = f"/v1/jobs/{job}/result.csv"
    size = len(client.get(address).content)
    for asked in (f"bytes={size}-", "bytes=-0"):
        response = client.get(address, headers={"Range": asked})
        refused(response, 416, "range-outside")
        assert response.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=", "bytes=-", "bytes=a-b", "x"]
)
def test_a_range_that_is_none_is_ignored(client: httpx.Client, job: str, asked: str) -> None:
    response = client.get(f"/v1/jobs/{job}/result.csv", headers={"Range": asked})
    assert response.status_code == 200


def test_a_reader_of_tables_asks_for_the_head_and_then_for_parts(
    client: httpx.Client, job: str
) -> None:
    """As polars.read_csv(url) does: it needs the length, then reads by ranges."""
    address = f"/v1/jobs/{job}/result.csv"
    head = client.head(address, headers={"Accept-Encoding": "identity"})
    size = int(head.headers["content-length"])
    halves = [f"bytes=0-{size // 2 - 1}", f"bytes={size // 2}-{size - 1}"]
    parts = [client.get(address, headers={"Range": half}) for half in halves]
    assert [part.status_code for part in parts] == [206, 206]
    assert b"".join(part.content for part in parts) == client.get(address).content


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [(RuntimeError("a fault"), 500, "unexpected"), (PoolTimeout(), 503, "database-away")],
    ids=["fault", "database"],
)
@pytest.mark.parametrize("name", ["log", "curves.csv"])
def test_what_cannot_be_begun_is_answered_with_its_problem(
    client: httpx.Client,
    store: Store,
    job: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    fault: Exception,
    status: int,
    code: str,
    encoding: str,
) -> None:
    """Not with the head of an answer that breaks off, and not in the server's own words."""

    def broken(*_given: object, **_named: object) -> None:
        raise fault

    monkeypatch.setattr(store.events, "of_types", broken)
    monkeypatch.setattr(store.jobs, "each_row", broken)
    response = client.get(f"/v1/jobs/{job}/{name}", headers={"Accept-Encoding": encoding})
    refused(response, status, code)
