"""A server that answers as it is told to, one connection after the other: drops, half answers,
other people's pages.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks.waiting import PATIENCE_SECONDS

Play = Callable[[socket.socket], None]


class Heard(NamedTuple):
    """A request: its first line, headers with lower-case names, body."""

    line: str
    headers: dict[str, str]
    body: bytes


class Flaky:
    """Plays a script: one entry a connection, the last one for all that follow."""

    def __init__(self, listener: socket.socket, plays: list[Play]) -> None:
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.heard: list[Heard] = []
        self._listener, self._plays = listener, plays

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed: the test is over
                return
            with connection:
                if (heard := hear(connection)) is None:
                    return
                self.heard.append(heard)
                self._plays[min(len(self.heard), len(self._plays)) - 1](connection)


def hear(connection: socket.socket) -> Heard | None:
    """The request; None where the other side says nothing."""
    with connection.makefile("rb") as stream:
        line = stream.readline().decode().strip()
        if not line:
            return None
        headers: dict[str, str] = {}
        while header := stream.readline().decode().strip():
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        return Heard(line, headers, stream.read(int(headers.get("content-length", 0))))


@contextmanager
def flaky(*plays: Play) -> Iterator[Flaky]:
    """Such a server on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Flaky(listener, list(plays))
        thread = threading.Thread(target=server.serve, name="flaky", daemon=True)
        thread.start()
        yield server
        with socket.create_connection(listener.getsockname()):
            pass  # wakes the thread, which sees that nothing is asked
    thread.join(timeout=PATIENCE_SECONDS)
    assert not thread.is_alive()


def hang_up(connection: socket.socket) -> None:
    """No answer."""


def reset(connection: socket.socket) -> None:
    """A connection that is reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def answers(status: int, body: str = "", kind: str = "application/json", **headers: str) -> Play:
    """An answer."""
    lines = [
        f"HTTP/1.1 {status} x",
        f"content-type: {kind}",
        f"content-length: {len(body.encode())}",
        "connection: close",
    ]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return lambda connection: connection.sendall("\r\n".join([*lines, "", body]).encode())


def half_of(body: str) -> Play:
    """An answer that breaks off."""
    head = (
        f"HTTP/1.1 200 x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return lambda connection: connection.sendall((head + body[: len(body) // 2]).encode())


def streams(*pieces: bytes, whole: bool = True) -> Play:
    """Server-Sent Events in these pieces; without their end where they are not `whole`."""

    def play(connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 200 x\r\ncontent-type: text/event-stream; "
            b"charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for piece in pieces:
            connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if whole:
            connection.sendall(b"0\r\n\r\n")

    return play
