"""The connections of clients: in what time a request must arrive, and how many there may be.

Nobody needs a key to connect, and a connection takes a descriptor for as long as it is open. So
whoever says nothing is hung up on, and where too many are connected, a new client takes the place
of the one that has waited longest without asking for anything.
"""

import asyncio
from collections import Counter
from collections.abc import Container
from functools import partial
from typing import Any, NamedTuple, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

LEAST_SHARE = 8  # connections that one address may always have
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Deadlines(NamedTuple):
    """How long a client may take, in seconds."""

    head: float = 20.0  # until the end of a header, from the connection or the answer before
    body: float = 30.0  # until so many bytes of a body have come, or its end; then again
    body_bytes: int = 15_000  # 4 kbit/s: much less than the slowest line
    rest: float = 5.0  # to send a body that is answered already and that nobody reads
    taking: float = 120.0  # without taking anything of an answer


DEADLINES = Deadlines()


class Connections:
    """The connections of one server.

    **Arguments:**

    - `most`: how many there may be; one address may have half of them.
    - `trusted`: the addresses of proxies and of this machine, which may have all of them.
    """

    def __init__(self, most: int, trusted: Container[str]) -> None:
        self._most, self._share, self._trusted = most, max(LEAST_SHARE, most // 2), trusted
        self._of_address: Counter[str] = Counter()
        # those without a request; a dict keeps their order: who has waited longest comes first
        self._waiting: dict[Connection, None] = {}

    def enter(self, new: "Connection") -> bool:
        """Count a new connection, and make room for it.

        **Returns:**

        Whether its request may be answered.
        """
        self._of_address[new.address] += 1
        held = self._of_address[new.address]
        if held > self._share and new.address not in self._trusted:
            others = [one for one in self._waiting if one.address == new.address]
        elif self._of_address.total() > self._most:
            others = list(self._waiting)
        else:
            return True
        if others:
            self.note_request(others[0])
            others[0].hang_up()
        return bool(others)

    def leave(self, connection: "Connection") -> None:
        """Forget a connection that is closed."""
        self._waiting.pop(connection, None)
        self._of_address[connection.address] -= 1
        if not self._of_address[connection.address]:
            del self._of_address[connection.address]

    def note_request(self, connection: "Connection") -> None:
        """Note that a connection has a request: it is not hung up on for another."""
        self._waiting.pop(connection, None)

    def note_waiting(self, connection: "Connection") -> None:
        """Note that a connection waits for a request."""
        self._waiting.setdefault(connection)


class Connection(H11Protocol):
    """A connection that is closed where its client is too slow."""

    def __init__(self, *, connections: Connections, deadlines: Deadlines, **given: Any) -> None:
        super().__init__(**given)
        self._all, self._deadlines = connections, deadlines
        self._phase = ""
        self._timer: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None  # while the client's buffers are full
        # since the timer was set: how many bytes have come, and whether the client had to wait
        self._received, self._kept_waiting = 0, False

    @property
    def address(self) -> str:
        """The address of the client, or of the proxy before it."""
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        if not self._all.enter(self):
            self.limit_concurrency = 0  # its request is answered with 503
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        for timer in (self._timer, self._taking):
            if timer:
                timer.cancel()
        self._all.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the client has sent."""
        self._received += len(data)
        super().data_received(data)
        self._kept_waiting |= self.flow.read_paused
        self._look()

    def on_response_complete(self) -> None:
        """Go on with the next request, or with the rest of this one."""
        super().on_response_complete()
        self._look()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has no further request."""
        super().timeout_keep_alive_handler()
        self._look()

    def pause_writing(self) -> None:
        """Wait for the client to take what was sent."""
        super().pause_writing()
        self._await_taking(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Go on sending."""
        super().resume_writing()
        if self._taking:
            self._taking.cancel()

    def hang_up(self) -> None:
        """Close the connection when all that was sent has been taken."""
        self.transport.close()
        self._look()

    def _look(self) -> None:
        """Set the timer of what the connection waits for now."""
        phase = self._phase_now()
        if phase == self._phase:
            return
        self._phase = phase
        if phase == "head":
            self._all.note_waiting(self)
        else:
            self._all.note_request(self)
        self._set_timer()

    def _phase_now(self) -> str:
        """What the connection waits for: a part of a request, its own end, or its answer ("")."""
        if self.transport.is_closing():
            return "taking"
        if self.conn.their_state is h11.IDLE:
            return "head"
        if self.conn.their_state is h11.SEND_BODY:
            return "rest" if self.cycle.response_complete else "body"
        return ""

    def _set_timer(self) -> None:
        self._received, self._kept_waiting = 0, self._client_waits()
        if self._timer:
            self._timer.cancel()
        seconds = self._deadlines._asdict().get(self._phase)
        self._timer = self.loop.call_later(seconds, self._is_over) if seconds else None

    def _client_waits(self) -> bool:
        """Whether the client cannot send more of a body, as nobody takes it."""
        return self._phase == "body" and (
            self.flow.read_paused or self.cycle.waiting_for_100_continue
        )

    def _is_over(self) -> None:
        """Close the connection, unless its body makes progress or had to wait for us."""
        if self._phase == "taking":
            self.transport.abort()
        elif self._phase == "body" and (
            self._received >= self._deadlines.body_bytes
            or self._kept_waiting
            or self._client_waits()
        ):
            self._set_timer()
        else:
            if self._received if self._phase == "head" else not self.cycle.response_started:
                self.transport.write(TIMED_OUT)
            self.hang_up()

    def _await_taking(self, left: int) -> None:
        """Close the connection where no more was taken than when `left` bytes were to be sent."""

        def look() -> None:
            now = self.transport.get_write_buffer_size()
            if now >= left:
                self.transport.abort()
            else:
                self._await_taking(now)

        self._taking = self.loop.call_later(self._deadlines.taking, look)


def protocol(
    most: int, trusted: Container[str], deadlines: Deadlines = DEADLINES
) -> type[asyncio.Protocol]:
    """Return what uvicorn makes for each connection of one server; see Connections."""
    made = partial(Connection, connections=Connections(most, trusted), deadlines=deadlines)
    return cast("type[asyncio.Protocol]", made)
