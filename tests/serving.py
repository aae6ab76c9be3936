"""An app behind a real server, which starts and stops as soon as it can: most tests of the service
have one of their own.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from benchmarks.waiting import PATIENCE_SECONDS
from service.host.listening import listen
from service.web.connections import DEADLINES, Deadlines, protocol

# for clients: a server that speaks plain HTTP has none, and reading all roots takes a while
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class PromptServer(uvicorn.Server):
    """A server without uvicorn's naps of a tenth of a second each: before it looks whether it is to
    stop, and before it closes connections that are no longer there.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()
        self._told = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `stop` is called; `up` is set when it answers, or could not start."""
        try:
            super().run(sockets)
        finally:
            self.up.set()

    def stop(self) -> None:
        """Stop, as soon as the answers under way are given."""
        self.should_exit = True
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._told.set)

    async def main_loop(self) -> None:
        """Renew the date that answers carry each second, until told to stop."""
        self._loop = asyncio.get_running_loop()
        self.up.set()
        while not await self.on_tick(0):
            try:
                await asyncio.wait_for(self._told.wait(), 1.0)
            except TimeoutError:
                continue

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close at once where nobody is connected; uvicorn's way where somebody is."""
        for _ in range(20):  # a client that has just hung up is heard of in the next rounds
            if not (self.server_state.connections or self.server_state.tasks):
                break
            await asyncio.sleep(0.001)
        else:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
            await server.wait_closed()
        await self.lifespan.shutdown()


@contextmanager
def serving(
    app: FastAPI,
    *,
    deadlines: Deadlines = DEADLINES,
    most: int = 1000,
    trusted: Container[str] = ("127.0.0.1",),
) -> Iterator[str]:
    """The URL of an app that is served by a thread; the connections are as in production."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            proxy_headers=False,  # the app trusts the proxies of its settings
            log_level="error",
            timeout_graceful_shutdown=2,
            http=protocol(most, trusted, deadlines),
        )
        server = PromptServer(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
        thread.start()
        try:
            assert server.up.wait(PATIENCE_SECONDS), "the server has not started"
            assert server.started
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stop()
            thread.join(timeout=PATIENCE_SECONDS)
            assert not thread.is_alive(), "the server did not stop"


def http_client(url: str, **given: Any) -> httpx.Client:
    """A patient client of a server on this machine."""
    given = {"timeout": PATIENCE_SECONDS, "trust_env": False, "verify": NO_CERTIFICATES} | given
    return httpx.Client(base_url=url, **given)


@contextmanager
def client_of(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of an app that is served for so long."""
    with serving(app) as url, http_client(url) as client:
        yield client
