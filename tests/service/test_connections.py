"""Clients that are too slow, or too many: others are answered all the same."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.app import create_app
from service.settings import Settings
from service.store import Store
from service.web.auth import create_key
from service.web.connections import Deadlines
from service.web.forwarding import trusted_proxies
from tests.factories import submit
from tests.ports import free_port
from tests.serving import client_of, http_client, serving

FOR_EVER = 10 * PATIENCE_SECONDS
PATIENT = Deadlines(*(FOR_EVER,) * 2, 1, *(FOR_EVER,) * 2)
SOON, SLOW = 0.3, 1.0
HALF = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: "
ASKED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
BIG, BIG_ASKED = b"x" * 30_000_000, b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Line:
    """A bare connection to a server."""

    def __init__(self, url: str, *said: bytes) -> None:
        parts = httpx.URL(url)
        self.socket = socket.create_connection(
            (parts.host, parts.port or 80), timeout=PATIENCE_SECONDS
        )
        for data in said:
            self.socket.sendall(data)

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def rest(self) -> bytes:
        """All that comes until the server hangs up."""
        heard = b""
        try:
            while piece := self.socket.recv(65536):
                heard += piece
        except ConnectionError:
            pass
        return heard

    def answer(self, end: bytes = b'"}') -> bytes:
        """What comes until the answer's end."""
        heard = b""
        while not heard.endswith(end) and (piece := self.socket.recv(65536)):
            heard += piece
        return heard

    @property
    def is_closed(self) -> bool:
        """Whether the server has hung up; it must have said nothing."""
        self.socket.setblocking(False)
        try:
            return self.socket.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True


def posting(path: str, length: int, *more: str) -> bytes:
    """The head of a POST."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


@contextmanager
def line_to(app: FastAPI, *said: bytes, deadlines: Deadlines = PATIENT) -> Iterator[Line]:
    """A bare connection to an app that is served for so long."""
    with serving(app, deadlines=deadlines) as url, Line(url, *said) as line:
        yield line


def say_until_hung_up(line: Line, piece: bytes) -> None:
    """Go on sending until the server hangs up. Raises ConnectionError."""
    while True:
        line.say(piece)
        time.sleep(SOON / 100)


def drop_by_drop(line: Line, body: bytes, pieces: int) -> None:
    """Send a body in pieces, with pauses."""
    size = -(-len(body) // pieces)
    for first in range(0, len(body), size):
        line.say(body[first : first + size])
        time.sleep(SLOW / 10)


@pytest.fixture
def bare() -> tuple[FastAPI, list[int]]:
    """An app that reads bodies and sends a large answer, and the sizes of what it has read."""
    app, read = FastAPI(), list[int]()

    @app.post("/read")
    async def reading(request: Request) -> str:
        read.append(len(await request.body()))
        return "read"

    @app.post("/slow")
    async def slow(request: Request) -> str:
        await asyncio.sleep(3 * SOON)
        return await reading(request)

    @app.get("/big")
    async def big() -> Response:
        return Response(BIG)

    return app, read


@pytest.mark.parametrize("said", [b"", b"GE", HALF], ids=["nothing", "two letters", "half a head"])
def test_a_head_must_come_in_time(settings: Settings, said: bytes) -> None:
    deadlines = PATIENT._replace(head=SOON)
    with line_to(create_app(settings), said, deadlines=deadlines) as line:
        heard = line.rest()
    assert heard.startswith(b"HTTP/1.1 408 ") if said else heard == b""


@pytest.mark.slow
def test_the_head_of_a_second_request_must_come_in_time(settings: Settings) -> None:
    deadlines = PATIENT._replace(head=SOON)
    with line_to(create_app(settings), ASKED, deadlines=deadlines) as line:
        assert b" 200 OK" in line.answer()
        line.say(HALF)
        assert line.rest().startswith(b"HTTP/1.1 408 ")


@pytest.mark.slow
def test_a_head_that_comes_letter_by_letter_must_come_in_time(settings: Settings) -> None:
    deadlines = PATIENT._replace(head=SOON)
    with (
        line_to(create_app(settings), HALF, deadlines=deadlines) as line,
        pytest.raises(ConnectionError),
    ):
        say_until_hung_up(line, b"x")


@pytest.mark.parametrize("part", [b"", b'{"spec": '], ids=["none", "a part"])
def test_a_body_must_make_progress(
    settings: Settings, part: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    deadlines = PATIENT._replace(body=SOON, body_bytes=1000)
    head = posting("/v1/jobs", 10_000, "Content-Type: application/json")
    with serving(create_app(settings), deadlines=deadlines) as url, Line(url, head, part) as line:
        assert line.rest().startswith(b"HTTP/1.1 408 ")
        assert httpx.get(f"{url}/healthz", trust_env=False).is_success
    assert not [one for one in caplog.records if one.exc_info]


@pytest.mark.slow
def test_a_large_body_on_a_slow_line_is_read(bare: tuple[FastAPI, list[int]]) -> None:
    deadlines = Deadlines(*(SLOW,) * 2, 1000, *(SLOW,) * 2)
    body = b"x" * 60_000
    with line_to(bare[0], posting("/read", len(body)), deadlines=deadlines) as line:
        drop_by_drop(line, body, pieces=30)  # three times the deadline, in all
        assert b" 200 OK" in line.answer(b'read"')
    assert bare[1] == [len(body)]


@pytest.mark.parametrize("more", [(), ("Expect: 100-continue",)])
def test_a_client_does_not_pay_for_a_slow_service(
    bare: tuple[FastAPI, list[int]], more: tuple[str, ...]
) -> None:
    deadlines = PATIENT._replace(body=SOON, body_bytes=10_000_000)
    body = b"x" * 3_000_000
    with line_to(bare[0], posting("/slow", len(body), *more), deadlines=deadlines) as line:
        if more:
            assert line.socket.recv(100).startswith(b"HTTP/1.1 100 ")
        line.say(body)
        assert b" 200 OK" in line.answer(b'read"')
    assert bare[1] == [len(body)]


def test_the_rest_of_a_refused_body_is_not_waited_for(settings: Settings, store: Store) -> None:
    create_key(store.api_keys, "ada")
    head = posting("/v1/jobs", 900_000, "Content-Type: application/json")
    deadlines = PATIENT._replace(rest=SOON)
    with line_to(create_app(settings), head, b"{", deadlines=deadlines) as line:
        assert b" 401 Unauthorized" in line.answer(b"}")
        with pytest.raises(ConnectionError):
            say_until_hung_up(line, b"x" * 100)


@pytest.mark.parametrize(
    ("path", "kind"), [("/v1/jobs", "application/json"), ("/v1/datasets", "application/zip")]
)
def test_a_key_is_asked_for_before_the_body(
    settings: Settings, store: Store, path: str, kind: str
) -> None:
    create_key(store.api_keys, "ada")
    head = posting(path, 500_000, f"Content-Type: {kind}")
    with line_to(create_app(settings), head) as line:
        assert b" 401 Unauthorized" in line.answer(b"}")


def test_who_signs_in_sends_little(client: httpx.Client) -> None:
    assert client.post("/login", data={"key": "x" * 20_000}).status_code == 413


@pytest.mark.slow
def test_an_answer_must_be_taken(bare: tuple[FastAPI, list[int]]) -> None:
    deadlines = PATIENT._replace(taking=SOON)
    with line_to(bare[0], BIG_ASKED, deadlines=deadlines) as line:
        time.sleep(4 * SOON)
        assert len(line.rest()) < len(BIG)


@pytest.mark.slow
def test_an_answer_may_be_taken_slowly(bare: tuple[FastAPI, list[int]]) -> None:
    deadlines = PATIENT._replace(taking=SLOW)
    with line_to(bare[0], BIG_ASKED, deadlines=deadlines) as line:
        heard = 0
        while heard < len(BIG):
            piece = line.socket.recv(2_000_000)
            assert piece, "the server has hung up"
            heard += len(piece)
            time.sleep(SLOW / 10)


def test_who_waits_longest_makes_room_for_a_new_client(settings: Settings) -> None:
    with ExitStack() as held:
        url = held.enter_context(serving(create_app(settings), deadlines=PATIENT, most=10))
        idle = [held.enter_context(Line(url, HALF)) for _ in range(50)]
        with http_client(url) as other:
            assert other.get("/healthz").is_success
        wait_until(lambda: idle[0].is_closed, "the first has made room")
        assert not idle[-1].is_closed


def test_a_client_that_was_answered_may_stay(settings: Settings, store: Store) -> None:
    job = submit(store)
    with ExitStack() as held:
        url = held.enter_context(serving(create_app(settings), deadlines=PATIENT, most=10))
        client = held.enter_context(http_client(url))
        events = held.enter_context(client.stream("GET", f"/v1/jobs/{job.id}/events"))
        lines = events.iter_lines()
        next(lines)
        for _ in range(50):
            held.enter_context(Line(url, HALF))
        store.actions.cancel(job.id)
        assert "event: end" in list(lines), "a request that is answered is not cut"


@pytest.mark.slow
def test_one_address_has_a_share(settings: Settings, store: Store) -> None:
    job = submit(store)
    asked = f"GET /v1/jobs/{job.id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with ExitStack() as held:
        url = held.enter_context(
            serving(create_app(settings), deadlines=PATIENT, most=20, trusted=())
        )
        for _ in range(10):
            line = held.enter_context(Line(url, asked))
            assert b" 200 OK" in line.answer(b"\n\n\r\n")
        with Line(url, ASKED) as more:
            assert b" 503 Service Unavailable" in more.rest()


@pytest.mark.parametrize(
    ("proxies", "trusted"), [(None, "127.0.0.1"), ("10.0.0.0/8", "10.1.2.3"), ("*", "192.0.2.1")]
)
def test_trusted_proxies_have_no_share(
    settings: Settings, proxies: str | None, trusted: str
) -> None:
    given = settings.model_copy(update={"trusted_proxies": proxies})
    assert trusted in trusted_proxies(given)
    assert proxies == "*" or "192.0.2.1" not in trusted_proxies(given)


@pytest.mark.slow
def test_many_half_heads_do_not_keep_others_out(
    settings: Settings, answering: Callable[[Settings, int], str]
) -> None:
    url = answering(settings, 64)
    with ExitStack() as held:
        for _ in range(200):
            held.enter_context(Line(url, HALF))
        for _ in range(5):
            assert httpx.get(f"{url}/healthz", trust_env=False, timeout=5.0).is_success
    assert (settings.root / "api.log").stat().st_size < 20_000


@pytest.fixture
def answering() -> Iterator[Callable[[Settings, int], str]]:
    """Starts an API that may open so many files, and returns its URL when it answers."""
    with ExitStack() as held:

        def start(settings: Settings, files: int) -> str:
            settings.root.mkdir(parents=True, exist_ok=True)
            port = free_port()
            output = held.enter_context((settings.root / "api.log").open("wb"))
            command = f"ulimit -n {files}; exec {sys.executable} -P -m service.serve --port {port}"
            process = held.enter_context(
                subprocess.Popen(
                    ["sh", "-c", command],
                    env=os.environ | {"FFLAB_HOME": str(settings.root)},
                    stdout=output,
                    stderr=output,
                )
            )
            held.callback(process.terminate)
            url = f"http://127.0.0.1:{port}"

            def answers() -> bool:
                try:
                    return httpx.get(f"{url}/healthz", trust_env=False, timeout=5.0).is_success
                except httpx.TransportError:
                    return False

            wait_until(answers, "the API answers")
            return url

        yield start


def test_a_client_that_goes_away_in_its_body_is_no_fault(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    head = posting("/v1/jobs", 1000, "Content-Type: application/json")
    with client_of(create_app(settings)) as client:
        with Line(str(client.base_url), head, b"{"):
            pass
        sample = 'fflab_http_request_seconds_count{method="POST",route="/v1/jobs",status="4xx"}'
        wait_until(lambda: sample in client.get("/metrics").text, "the service has noticed")
    assert not caplog.records
