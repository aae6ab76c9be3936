"""What no well-behaved client sends: bytes that are no HTTP, that hide a second request in the
first, or that no text can hold. Each is answered once, or not at all, never with a fault; nothing
that it hides is done; and the server answers the next client.
"""

import re
import socket

import httpx
import pytest

from benchmarks.waiting import PATIENCE_SECONDS
from service.store import Store
from tests.factories import submit

HOST, LAST = b"Host: localhost\r\n", b"Connection: close\r\n"
SPEC = b'{"spec": {"kind": "train"}}'
JSON = b"Content-Type: application/json\r\n"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def asked(client: httpx.Client, raw: bytes, *, no_more: bool = False) -> list[int]:
    """The status codes of all that is answered to these bytes, until the server hangs up.

    `no_more`: whether the client says that it sends no more, on which nothing need be answered.
    """
    address = (client.base_url.host, client.base_url.port or 80)
    with socket.create_connection(address, timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(raw)
        if no_more:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := _piece(connection):
            received += piece
    return [int(status) for status in STATUS.findall(received)]


def _piece(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except ConnectionResetError:  # the server has not read all that was sent
        return b""


def get(*lines: bytes, path: bytes = b"/v1/jobs") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"".join((*lines, LAST)) + b"\r\n"


def post(*lines: bytes, body: bytes) -> bytes:
    head = b"POST /v1/estimate HTTP/1.1\r\n" + HOST + JSON + LAST
    return head + b"".join(lines) + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"
REFUSED: dict[str, bytes] = {
    "two lengths": post(b"Content-Length: 27\r\nContent-Length: 5\r\n", body=SPEC),
    "a length below zero": post(b"Content-Length: -1\r\n", body=SPEC),
    "a length with a sign": post(b"Content-Length: +27\r\n", body=SPEC),
    "a length in words": post(b"Content-Length: 0x1b\r\n", body=SPEC),
    "a length of many digits": post(b"Content-Length: " + b"9" * 5000 + b"\r\n", body=SPEC),
    "an unknown transfer encoding": post(b"Transfer-Encoding: xchunked\r\n", body=SPEC),
    "a chunk of no size": post(CHUNKED, body=b"zz\r\nabc\r\n0\r\n\r\n"),
    "a chunk of a huge size": post(CHUNKED, body=b"f" * 40 + b"\r\n{}\r\n0\r\n\r\n"),
    "no host": b"GET /v1/jobs HTTP/1.1\r\n\r\n",
    "two hosts": get(b"Host: 127.0.0.1\r\n"),
    "a header without a colon": get(b"X-Nothing\r\n"),
    "a space before the colon": get(b"X-Spaced : 1\r\n"),
    "a header of no name": get(b": 1\r\n"),
    "NUL in a header": get(b"X-Zero: a\0b\r\n"),
    "NUL in the name of a header": get(b"X-\0: 1\r\n"),
    "a lone carriage return": get(b"X-Lone: a\rb\r\n"),
    "NUL in the address": get(path=b"/v1/jobs/\0"),
    "a space in the address": get(path=b"/v1/jobs /x"),
    "bytes that are no text in the address": get(path=b"/v1/\xff\xfe"),
    "an address of 70 000 bytes": get(path=b"/v1/" + b"a" * 70_000),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n",
    "a method of control characters": b"G\x01T /v1/jobs HTTP/1.1\r\n" + HOST + b"\r\n",
    "TRACE": b"TRACE /v1/jobs HTTP/1.1\r\n" + HOST + LAST + b"\r\n",
    "CONNECT": b"CONNECT localhost:22 HTTP/1.1\r\n" + HOST + LAST + b"\r\n",
    "an unknown method": b"BREW /v1/jobs HTTP/1.1\r\n" + HOST + LAST + b"\r\n",
    "an encoded NUL": get(path=b"/v1/jobs/%00"),
    "an encoded half of a character": get(path=b"/v1/jobs/%ff%fe"),
    "a path that climbs": get(path=b"/static/..%2f..%2fpyproject.toml"),
    "NUL in a parameter": get(path=b"/v1/jobs?name=a%00b"),
    "no text in a parameter": get(path=b"/v1/jobs?limit=%ff"),
    "a key of no text": get(b"X-API-Key: \xff\xfe\r\n", path=b"/v1/jobs/x"),
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)
def test_what_is_no_good_request_is_refused_once(client: httpx.Client, raw: bytes) -> None:
    statuses = asked(client, raw)
    assert len(statuses) == 1, statuses
    assert 400 <= statuses[0] < 500, statuses
    assert client.get("/healthz").status_code == 200


SERVED: dict[str, bytes] = {
    "a folded header": get(b"X-Folded: a\r\n b\r\n"),
    "bytes that are no text in a header": get(b"X-Bytes: \xff\xfe\r\n"),
    "bytes that are no text in a cookie": get(b"Cookie: fflab_key=\xff\xfe; =; a=b=c;;\r\n"),
    "an upgrade": get(b"Connection: Upgrade, close\r\nUpgrade: websocket\r\n"),
    "an expectation": post(b"Expect: 100-continue\r\nContent-Length: 27\r\n", body=SPEC),
    "a body of a GET": get(b"Content-Length: 5\r\n") + b"hello",
    "chunks with an extension": post(CHUNKED, body=b"1b;x=y\r\n" + SPEC + b"\r\n0\r\n\r\n"),
    "chunks with a trailer": post(CHUNKED, body=b"1b\r\n" + SPEC + b"\r\n0\r\nX-End: 1\r\n\r\n"),
}


@pytest.mark.parametrize("raw", SERVED.values(), ids=SERVED)
def test_what_is_odd_but_allowed_is_served(client: httpx.Client, raw: bytes) -> None:
    assert [status for status in asked(client, raw) if status != 100] == [200]


def hidden(job: str) -> bytes:
    return b"DELETE /v1/jobs/" + job.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.mark.parametrize("order", [1, -1], ids=["length first", "chunks first"])
@pytest.mark.parametrize(
    "encoding", [b"chunked", b"Chunked", b"identity, chunked", b"\tchunked", b"chunked\r\n x"]
)
def test_no_request_is_hidden_in_the_body_of_another(
    client: httpx.Client, store: Store, encoding: bytes, order: int
) -> None:
    """Where two lengths disagree, a proxy before the service may have seen one request alone."""
    job = submit(store).id
    store.actions.cancel(job)
    inside = hidden(job)
    shown = b"GET /healthz HTTP/1.1\r\n" + HOST + LAST + b"\r\n"  # so that the server hangs up
    lines = [
        b"Content-Length: %d\r\n" % (len(inside) + 5),
        b"Transfer-Encoding: " + encoding + b"\r\n",
    ]
    raw = post(*lines[::order], body=b"0\r\n\r\n" + inside).replace(LAST, b"") + shown
    statuses = asked(client, raw)
    assert (len(statuses), statuses[0] // 100) == (1, 4), statuses
    assert store.jobs.get(job) is not None, "the hidden request was not done"


def test_requests_one_after_another_are_answered_one_after_another(client: httpx.Client) -> None:
    first, second = (get(path=path).replace(LAST, b"") for path in (b"/v1/jobs", b"/v1/jobs/x"))
    assert asked(client, first + second + get(path=b"/healthz")) == [200, 404, 200]


def test_a_body_that_ends_too_early_is_no_fault(client: httpx.Client) -> None:
    for raw in (
        post(b"Content-Length: 100\r\n", body=SPEC),
        post(CHUNKED, body=b"1b\r\n" + SPEC),
        get()[:-4],
        b"GET",
    ):
        assert all(status < 500 for status in asked(client, raw, no_more=True))
    assert client.get("/healthz").status_code == 200
