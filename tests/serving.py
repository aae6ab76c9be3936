"""An app behind a real server."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.web.server import listen


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The URL of an app that is served by a thread."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive(), "the server has started")
            assert server.started
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(timeout=PATIENCE_SECONDS)
            assert not thread.is_alive(), "the server did not stop"
