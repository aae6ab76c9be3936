"""Texts are compressed for who takes it; streams, arrays and pictures never."""

import gzip
import json
from typing import Any

import httpx
import pytest

from service.store import Store
from service.web.compression import accepts_gzip
from tests.over_http import submit, succeed

GZIP, PLAIN = {"Accept-Encoding": "gzip"}, {"Accept-Encoding": "identity"}


@pytest.fixture
def job(client: httpx.Client, store: Store) -> str:
    found = submit(client).id
    succeed(store, found)
    return found


def raw(
    client: httpx.Client, address: str, headers: dict[str, str]
) -> tuple[httpx.Response, bytes]:
    """An answer, and its body as it was sent."""
    with client.stream("GET", address, headers=headers) as response:
        return response, b"".join(response.iter_raw())


def drawn(name: str) -> Any:
    """The name of what a process of its own draws."""
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "name",
    ["", "/result", *map(drawn, ("/chart/sparsity.svg", "/chart/sparsity.json", "/report.html"))],
)
def test_texts_are_compressed(client: httpx.Client, job: str, name: str) -> None:
    address = f"/v1/jobs/{job}{name}"
    plain, body = raw(client, address, PLAIN)
    assert "content-encoding" not in plain.headers
    packed, compressed = raw(client, address, GZIP)
    assert packed.headers["content-encoding"] == "gzip"
    assert len(compressed) < len(body)
    assert gzip.decompress(compressed) == body
    for response in (plain, packed):
        assert "Accept-Encoding" in response.headers["vary"]


@pytest.mark.parametrize("name", ["/result.npz", drawn("/chart/sparsity.png")])
def test_what_is_dense_is_sent_as_it_is(client: httpx.Client, job: str, name: str) -> None:
    response, _ = raw(client, f"/v1/jobs/{job}{name}", GZIP)
    assert response.status_code == 200
    assert "content-encoding" not in response.headers


def test_events_are_not_held_back(client: httpx.Client, store: Store) -> None:
    waiting = submit(client).id
    with client.stream("GET", f"/v1/jobs/{waiting}/events", headers=GZIP) as response:
        assert "content-encoding" not in response.headers
        assert "queued" in next(response.iter_text())


def test_a_small_answer_is_sent_as_it_is(client: httpx.Client) -> None:
    response, body = raw(client, "/healthz", GZIP)
    assert "content-encoding" not in response.headers
    assert json.loads(body) == {"status": "ok"}


@pytest.mark.slow
def test_pages_are_compressed(client: httpx.Client) -> None:
    response, body = raw(client, "/", GZIP)
    assert response.headers["content-encoding"] == "gzip"
    assert b"</html>" in gzip.decompress(body)


@pytest.mark.parametrize("name", ["", "/result"])
def test_an_etag_is_known_again_in_either_form(client: httpx.Client, job: str, name: str) -> None:
    address = f"/v1/jobs/{job}{name}"
    plain = client.get(address, headers=PLAIN).headers["etag"]
    packed = client.get(address, headers=GZIP).headers["etag"]
    assert packed == plain.removesuffix('"') + '-gzip"', "other bytes, another ETag"
    for etag in (plain, packed):
        for encoding in (PLAIN, GZIP):
            for known in (etag, f'"x", W/{etag}'):
                again = client.get(address, headers={**encoding, "If-None-Match": known})
                assert (again.status_code, again.content) == (304, b"")
        assert client.get(address, headers={**GZIP, "If-None-Match": etag}).headers["etag"] == etag


def test_a_part_is_one_of_the_answer_as_it_is(client: httpx.Client, job: str) -> None:
    address = f"/v1/jobs/{job}/result"
    packed = client.get(address, headers=GZIP).headers["etag"]
    part = client.get(address, headers={**GZIP, "Range": "bytes=0-9"})
    assert (part.status_code, len(part.content)) == (206, 10)
    assert "content-encoding" not in part.headers
    mixed = client.get(address, headers={**GZIP, "Range": "bytes=0-9", "If-Range": packed})
    assert mixed.status_code == 200, "a part of the plain file does not continue the compressed one"


@pytest.mark.parametrize("name", ["", "/result", "/result.csv", "/curves"])
@pytest.mark.parametrize("encoding", [PLAIN, GZIP])
def test_the_head_is_that_of_the_compressed_answer(
    client: httpx.Client, job: str, name: str, encoding: dict[str, str]
) -> None:
    address = f"/v1/jobs/{job}{name}"
    get, head = client.get(address, headers=encoding), client.head(address, headers=encoding)
    for field in ("content-encoding", "content-length", "etag", "vary", "content-type"):
        assert head.headers.get(field) == get.headers.get(field), field
    assert not head.content


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5, br", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, identity", False),
        ("identity", False),
        ("", False),
        ("notgzip", False),
        ("gzip;q=", False),
    ],
)
def test_only_who_takes_gzip_is_sent_it(accepted: str, takes: bool) -> None:
    assert accepts_gzip(accepted) is takes
