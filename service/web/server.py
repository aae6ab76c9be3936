"""The API process: one uvicorn server on one address.

It refuses to start where others than this machine could use it without a key.
"""

import argparse
import asyncio
import errno
import logging
import socket
import sys
from types import FrameType

import uvicorn
from alembic.util import CommandError
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from service.artifacts import Artifacts
from service.background.broker_check import warn_if_unfit
from service.host.disk import Ballast, free_bytes
from service.host.names import is_loopback
from service.log_format import log_to_stderr
from service.settings import Settings
from service.store import Store
from service.store.database import Database, DatabaseDamaged, DatabaseRefused
from service.store.identity import NotOurs, prepare, settle
from service.web.access_log import log_config

EXIT_REFUSED = 3
DRAIN_SECONDS = 5
BACKLOG = 256
LEAST_BYTES = 2**20  # with less free on its disk, a database cannot be opened

log = logging.getLogger(__name__)


class ServeError(Exception):
    """The API cannot be started; the message says why and what to do, in one line."""


def serve(settings: Settings, host: str, port: int) -> None:
    """Run the API until a signal ends it.

    Raises ServeError if the address, the database or the artifacts may not be used.
    """
    from service.web.app import create_app

    log_to_stderr("%(asctime)s %(levelname)s api: %(message)s")
    logging.getLogger("service").setLevel(logging.INFO)  # so that deletions are logged
    require_keys_beyond_loopback(settings, host)
    listener = listen(host, port)
    Ballast(settings.root).drop_if_full()
    refuse_others_state(settings)
    refuse_damage(settings)
    warn_if_unfit(settings.redis_url)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        server_header=False,
        backlog=BACKLOG,
        log_config=log_config(),
    )
    Server(config, app).run(sockets=[listener])


class Server(uvicorn.Server):
    """A uvicorn server that ends long polls and streams when it is told to stop.

    Otherwise they would delay the stop until the time to drain is over.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal to end."""
        resources = getattr(self._app.state, "resources", None)
        if resources is not None:
            asyncio.get_running_loop().call_soon_threadsafe(resources.event_feed.close)
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket to the address, without listening yet. Raises ServeError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"port {port} of {host} is in use: choose another with --port, or stop what "
                f"listens there"
            ) from error
        raise ServeError(
            f"cannot listen on {host} port {port}: {error.strerror or error}"
        ) from error
    return listener


def refuse_others_state(settings: Settings) -> None:
    """Raise ServeError if the database cannot be used, or the artifacts belong to another one."""
    try:
        store = Store(settings.database)
        try:
            artifacts = Artifacts(settings.artifacts)
            prepare(store, artifacts)
            settle(store, artifacts)
        finally:
            store.close()
    except (NotOurs, DatabaseRefused, DatabaseDamaged) as error:
        raise ServeError(str(error)) from error
    except (SQLAlchemyError, CommandError, ModuleNotFoundError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        if free_bytes(settings.root) < LEAST_BYTES:
            raise ServeError(
                f"the home {settings.root} cannot be used: its disk is full ({reason}); make room, "
                f"or choose another with FFLAB_HOME"
            ) from error
        raise ServeError(
            f"the database cannot be used: {reason}; look at FFLAB_DATABASE_URL, and at "
            f"FFLAB_HOME for SQLite"
        ) from error
    except OSError as error:
        raise ServeError(
            f"the home {settings.root} cannot be used: {error}; choose another with FFLAB_HOME"
        ) from error


def refuse_damage(settings: Settings) -> None:
    """Raise ServeError if the file of SQLite is damaged, as far as that shows within seconds."""
    database = Database(settings.database)
    try:
        log.info("the database %s: %s", database.address, database.check())
    except DatabaseDamaged as error:
        raise ServeError(str(error)) from error
    finally:
        database.close()


def require_keys_beyond_loopback(settings: Settings, host: str) -> None:
    """Raise ServeError if other machines could use the API without a key."""
    if is_loopback(host) or settings.require_keys:
        return
    store = Store(settings.database)
    try:
        keys = []
        if store.database.is_there:
            store.migrate()
            keys = store.api_keys.all()
    finally:
        store.close()
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
    try:
        serve(Settings(), given.host, given.port)
    except ServeError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()
