"""A real database for every test: SQLite in a fresh folder, and PostgreSQL where it is installed; the app over it in process."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import create_engine, text

from ffengine.datasets import look_in
from service.settings import Settings
from service.store import Store
from service.web.app import create_app
from service.web.dependencies import State
from service.web.server import listen
from tests.postgres import PostgresServer, need_postgres


@pytest.fixture(autouse=True, scope="session")
def _no_environment() -> Iterator[None]:
    """What the developer's shell says is no part of a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FFLAB_")]:
            patch.delenv(name)
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture(autouse=True)
def _own_data() -> Iterator[None]:
    """Where an app looked for data sets is no part of the next test."""
    yield
    look_in(None)


@pytest.fixture
def client(app: FastAPI) -> Iterator[httpx.Client]:
    """The app behind a real server on a free port, so that bodies stream and clients hang up as they do in life."""
    with serving(app) as url, httpx.Client(base_url=url, timeout=30.0, trust_env=False) as client:
        yield client


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
            thread.join(timeout=10.0)
            assert not thread.is_alive(), "the server did not stop"


def wait_until(condition: Callable[[], bool], description: str, *, seconds: float = 10.0) -> None:
    """Return as soon as the condition holds; fail where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {description}"
        time.sleep(0.01)


@pytest.fixture
def state(app: FastAPI, client: httpx.Client) -> State:
    """The resources of the app that `client` talks to."""
    found: State = app.state.resources
    return found


@pytest.fixture
def store(state: State) -> Store:
    return state.store


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server; the URL of its first database."""
    need_postgres()
    with PostgresServer() as server:
        yield server.url


@pytest.fixture
def postgres_url(postgres_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of its own for one test."""
    name = f"t{abs(hash(request.node.nodeid)):x}"
    engine = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield postgres_server.replace("/postgres?", f"/{name}?")
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fflab.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def either_store(database_url: str) -> Iterator[Store]:
    """A store with the schema in place, on SQLite and on PostgreSQL."""
    store = Store(database_url)
    store.migrate()
    yield store
    store.close()
