"""The API process: one uvicorn server on one address.

It refuses to start where others than this machine could use it without a key.
"""

import argparse
import asyncio
import gc
import logging
from types import FrameType

import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from ffengine.plugins import log_plugins
from service.background.broker_check import warn_if_unfit
from service.encoding.log_format import log_to_stderr
from service.host.disk import Ballast
from service.host.end_signals import ignored_signals
from service.host.limits import raise_descriptor_limit
from service.host.listening import listen
from service.host.log_limits import Rarely, RareWarnings
from service.host.names import is_loopback
from service.host.start_failures import ServeError, one_line_failure, reason_of
from service.settings import Settings
from service.store import Store
from service.store.database import DatabaseRefused
from service.store.start_checks import refuse_damage, refuse_others_state
from service.web.access_log import log_config
from service.web.connections import protocol
from service.web.forwarding import trusted_proxies

DRAIN_SECONDS = 5
BACKLOG = 256
ACCEPT_FAULT, ACCEPT_FAULT_SECONDS = "socket.accept() out of system resource", 10.0
LEAST_CONNECTIONS, SPARE_DESCRIPTORS = 16, 200


class AcceptFaults(logging.Filter):
    """Lets one line in ten seconds through that says that no connection can be accepted."""

    def __init__(self) -> None:
        super().__init__()
        self._rarely = Rarely(ACCEPT_FAULT_SECONDS)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged, without its traceback."""
        if ACCEPT_FAULT not in record.getMessage():
            return True
        record.exc_info, record.exc_text = None, None
        record.msg, record.args = f"{ACCEPT_FAULT}: raise the limit of open files", ()
        return self._rarely.is_due(ACCEPT_FAULT)


def serve(settings: Settings, host: str, port: int) -> None:
    """Run the API until a signal ends it.

    Raises ServeError if the address, the database or the artifacts may not be used.
    """
    from service.web.app import create_app

    log_to_stderr("api")
    for named in ("service", "ffengine.plugins"):
        logging.getLogger(named).setLevel(logging.INFO)  # so that deletions are logged
    logging.getLogger("asyncio").addFilter(AcceptFaults())
    logging.getLogger("uvicorn.error").addFilter(RareWarnings())
    most = raise_descriptor_limit()
    require_keys_beyond_loopback(settings, host)
    listener = listen(host, port)
    Ballast(settings.root).drop_if_full()
    refuse_others_state(settings)
    refuse_damage(settings)
    warn_if_unfit(settings.redis_url)
    log_plugins()
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        server_header=False,
        backlog=BACKLOG,
        http=protocol(
            # what is left is for the database, files and the log
            max(LEAST_CONNECTIONS, most - SPARE_DESCRIPTORS),
            trusted_proxies(settings),
        ),
        proxy_headers=False,
        log_config=log_config(),
    )
    server = Server(config, app)
    gc.freeze()
    gc.enable()  # service/serve.py disables it for the start
    server.run(sockets=[listener])
    if not server.started:
        failure = getattr(app.state, "failure", None)
        raise ServeError(reason_of(failure) if failure else "the start was interrupted")


class Server(uvicorn.Server):
    """A uvicorn server that ends long polls and streams when it is told to stop.

    Otherwise they would delay the stop until the time to drain is over.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app
        self._ignored = ignored_signals()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal to end, unless it was ignored at the start."""
        if sig in self._ignored:
            return
        resources = getattr(self._app.state, "resources", None)
        if resources is not None:
            asyncio.get_running_loop().call_soon_threadsafe(resources.event_feed.close)
        super().handle_exit(sig, frame)


def require_keys_beyond_loopback(settings: Settings, host: str) -> None:
    """Raise ServeError if other machines could use the API without a key."""
    if is_loopback(host) or settings.require_keys:
        return
    keys = []
    try:
        store = Store(settings.database)
        try:
            if store.database.is_there:
                store.migrate()
                keys = store.api_keys.all()
        finally:
            store.close()
    except DatabaseRefused as error:
        raise ServeError(str(error)) from error
    except (SQLAlchemyError, ModuleNotFoundError) as error:
        raise ServeError(
            f"the database cannot be used: {reason_of(error)}; look at FFLAB_DATABASE_URL"
        ) from error
    if not keys:
        raise ServeError(
            f"{host} is open to others: make a key first with `fflab keys create NAME`, or set "
            f"FFLAB_REQUIRE_KEYS=true to refuse "
            "requests until there is one"
        )


def main(arguments: list[str] | None = None) -> None:
    """Run `python -m service.serve --host HOST --port PORT`."""
    parser = argparse.ArgumentParser(prog="fflab api")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args(arguments)
    with one_line_failure("fflab api", ServeError):
        serve(Settings(), given.host, given.port)


if __name__ == "__main__":
    main()
