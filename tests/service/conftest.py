"""A real database for every test: SQLite in a fresh folder, and PostgreSQL where it is installed;
the app over it in process.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import create_engine, text

from fflab import AsyncClient, Client
from service.settings import Settings
from service.store import Store
from service.web.app import create_app
from service.web.dependencies import Resources
from tests.commands import Fflab, in_this_process
from tests.postgres import PostgresServer, need_postgres
from tests.service.callers import Caller
from tests.serving import client_of

# each server of PostgreSQL takes seconds to be set up, and each database of it some tenths
DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)]


@pytest.fixture(autouse=True, scope="session")
def _no_environment() -> Iterator[None]:
    """What the developer's shell says is no part of a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FFLAB_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the schema in place, to be copied: migrating takes ten times as long."""
    file = tmp_path_factory.mktemp("migrated") / "fflab.db"
    with closing(Store(f"sqlite:///{file}")) as store:
        store.migrate()
    return file


@pytest.fixture
def settings(tmp_path: Path, migrated: Path) -> Settings:
    shutil.copy(migrated, tmp_path)
    return Settings(home=tmp_path)


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def client(app: FastAPI) -> Iterator[httpx.Client]:
    """The app behind a real server on a free port, so that bodies stream and clients hang up as
    they do in life.
    """
    with client_of(app) as client:
        yield client


@pytest.fixture
def resources(app: FastAPI, client: httpx.Client) -> Resources:
    """The resources of the app that `client` talks to."""
    found: Resources = app.state.resources
    return found


@pytest.fixture
def store(resources: Resources) -> Store:
    return resources.store


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server; the URL of its first database."""
    need_postgres()
    with PostgresServer() as server:
        yield server.url


@contextmanager
def database_of(server: str, name: str, template: str = "template1") -> Iterator[str]:
    """The URL of a new database, a copy of another."""
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield server.replace("/postgres?", f"/{name}?")
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """The name of a database with the schema in place, to be copied."""
    with database_of(postgres_server, "migrated") as url:
        with closing(Store(url)) as store:
            store.migrate()
        yield "migrated"


@pytest.fixture(scope="module")
def postgres_of_module(postgres_server: str) -> Iterator[str]:
    """An empty database of its own for the tests of one module."""
    with database_of(postgres_server, f"m{uuid.uuid4().hex}") as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """An empty database of its own for one test."""
    with database_of(postgres_server, f"t{uuid.uuid4().hex}") as url:
        yield url


@pytest.fixture
def migrated_postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """A database of its own for one test, with the schema in place."""
    with database_of(postgres_server, f"t{uuid.uuid4().hex}", postgres_template) as url:
        yield url


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fflab.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(params=DATABASES)
def either_store(request: pytest.FixtureRequest, tmp_path: Path, migrated: Path) -> Iterator[Store]:
    """A store with the schema in place, on SQLite and on PostgreSQL."""
    url = (
        f"sqlite:///{shutil.copy(migrated, tmp_path)}"
        if request.param == "sqlite"
        else request.getfixturevalue("migrated_postgres_url")
    )
    store = Store(url)
    yield store
    store.close()


@pytest.fixture
def fflab(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    client: httpx.Client,
    tmp_path: Path,
) -> Fflab:
    """Runs a command in this process, in a pipe, as a client of the service."""
    monkeypatch.setenv("FFLAB_URL", str(client.base_url).rstrip("/"))
    monkeypatch.setenv("FFLAB_HOME", str(tmp_path))
    return in_this_process(monkeypatch, capsys)


@pytest.fixture(scope="module")
def hostile_app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(Settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def hardy(hostile_app: FastAPI) -> Iterator[httpx.Client]:
    with client_of(hostile_app) as client:
        yield client


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Iterator[Caller]:
    caller = Caller(request.param)
    yield caller
    caller.close()
