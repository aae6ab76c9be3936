"""Connections and transactions: SQLite in WAL mode, or PostgreSQL.

Every part of the store is given one Database.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from service.host.mounts import network_file_system
from service.store.tables import ServiceRow, now_seconds

BUSY_MILLISECONDS = 15_000
WAL_RETRY_SECONDS = 0.02
MIGRATION_LOCK = 0x66666C6162  # "fflab", PostgreSQL's advisory lock while the schema is upgraded

# what a database raises that is absent or busy
DATABASE_ERRORS = (OperationalError, InterfaceError, PoolTimeout)


class DatabaseRefused(Exception):
    """The service refuses to use this database; the message says why and what to do."""


class DatabaseReplaced(PoolTimeout):
    """The file of SQLite was deleted or replaced while it was open: what is written is lost.

    It is one of DATABASE_ERRORS, so whoever waits for a database that is away waits for this too.
    """


class Database:
    """An engine and its transactions; nothing here depends on jobs."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            folder = Path(self.url.database).absolute().parent
            refuse_network_folder(folder)
            folder.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {} if self.is_sqlite else {"connect_args": {"connect_timeout": 5}}
        self.engine: Engine = create_engine(
            self.url, pool_pre_ping=not self.is_sqlite, json_serializer=_compact, **options
        )
        self._writer = threading.Lock()
        self._file: tuple[int, int] | None = None
        if self.is_sqlite:
            _prepare_sqlite(self.engine)
            event.listen(self.engine, "do_connect", self._before_connecting)
            event.listen(self.engine, "connect", self._note_file)

    @property
    def address(self) -> str:
        """The URL of the database without its password."""
        return self.url.difference_update_query(["password"]).render_as_string(hide_password=True)

    @property
    def is_there(self) -> bool:
        """Whether there is a database. SQLite makes a missing file as soon as it connects."""
        return not self.is_sqlite or not self.url.database or self._file_now() is not None

    @property
    def is_replaced(self) -> bool:
        """Whether the file of SQLite was deleted or replaced since it was opened."""
        return self._file is not None and self._file_now() != self._file

    def refuse_replaced(self) -> None:
        """Raise DatabaseReplaced where the file of SQLite was deleted or replaced."""
        if self.is_replaced:
            raise DatabaseReplaced(
                f"the database file of {self.address} was deleted or replaced while it was in use: "
                f"stop all that use it, put the right file in its place, and start again"
            )

    def _before_connecting(self, *_arguments: object) -> None:
        self.refuse_replaced()  # SQLite would make a new file in the place of a deleted one

    def _note_file(self, _connection: DBAPIConnection, _record: object) -> None:
        self._file = self._file or self._file_now()

    def _file_now(self) -> tuple[int, int] | None:
        """Device and inode of the file of SQLite; None: there is no file."""
        try:
            found = Path(self.url.database or "").stat()
        except OSError:
            return None
        return (found.st_dev, found.st_ino)

    def has_table(self, name: str) -> bool:
        """Whether the schema has a table. A database that is missing has none, and is not made."""
        return self.is_there and inspect(self.engine).has_table(name)

    def migrate(self) -> None:
        """Bring the schema up to date; two processes may do so at once.

        Raises DatabaseRefused where a newer version has written it, or its file is damaged.
        """
        config = _alembic()
        with (
            self._refusing_damage(),
            self.engine.execution_options(write=True).begin() as connection,
        ):
            if not self.is_sqlite:
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK}
                )
            self._refuse_newer(connection, config)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def check(self) -> None:
        """Raise DatabaseRefused where the database cannot be used as it is; changes nothing.

        The file of SQLite is read as a whole.
        """
        with self._refusing_damage(), self.engine.connect() as connection:
            self._refuse_newer(connection, _alembic())
            if self.is_sqlite:
                found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
                if found != "ok":
                    raise DatabaseRefused(self._damage(str(found)))

    def _refuse_newer(self, connection: Connection, config: Config) -> None:
        known = ScriptDirectory.from_config(config)
        newest = known.get_current_head()
        revisions = {script.revision for script in known.walk_revisions()}
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in revisions:
            raise DatabaseRefused(
                f"{self.address} was written by a newer fflab (schema {found}, this one knows "
                f"{newest}): upgrade fflab, or restore the backup from before the upgrade"
            )

    @contextmanager
    def _refusing_damage(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            if not is_damage(error):
                raise
            raise DatabaseRefused(self._damage(str(error.orig))) from error

    def _damage(self, why: str) -> str:
        return (
            f"the database file of {self.address} is damaged ({' '.join(why.split())}): restore "
            f"it from a backup"
        )

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def ping(self) -> None:
        """Raise one of DATABASE_ERRORS where the database does not answer or was replaced."""
        self.refuse_replaced()
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def service_id(self) -> str | None:
        """The id of the service that the database belongs to; None before the schema is made."""
        if not self.has_table(ServiceRow.__tablename__):
            return None
        with self.reading() as session:
            return session.scalar(select(ServiceRow.id))

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session that only reads."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Run one transaction. Raises DatabaseReplaced.

        On SQLite it takes the write lock with its first statement, so no two transactions deadlock.
        """
        self.refuse_replaced()
        with (
            self._turn(),
            Session(self.engine.execution_options(write=True), expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the other writers of this process, on SQLite.

        SQLite itself would retry after longer and longer sleeps.
        """
        if not self.is_sqlite:
            yield
            return
        if not self._writer.acquire(timeout=BUSY_MILLISECONDS / 1000):
            raise PoolTimeout("the database is locked: others of this process wait to write")
        try:
            yield
        finally:
            self._writer.release()

    @staticmethod
    def now(session: Session) -> float:
        """The database's clock, in seconds since 1970."""
        return float(session.scalar(select(now_seconds())) or 0.0)


def is_damage(error: DatabaseError) -> bool:
    """Whether SQLite says that its file is damaged, or is none of its own."""
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def refuse_network_folder(folder: Path) -> None:
    """Raise DatabaseRefused for a folder on a network file system.

    SQLite cannot trust the locks of such a file system.
    """
    if kind := network_file_system(folder):
        raise DatabaseRefused(
            f"{folder} is on a network file system ({kind}), where SQLite loses data: choose a "
            f"local folder with "
            "FFLAB_HOME, or PostgreSQL with FFLAB_DATABASE_URL"
        )


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connected(connection: DBAPIConnection, _record: object) -> None:
        assert isinstance(connection, sqlite3.Connection)  # noqa: S101 - narrows the type
        connection.isolation_level = None  # _begun begins transactions, not the driver
        for pragma in (f"busy_timeout={BUSY_MILLISECONDS}", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        _use_wal(connection)

    @event.listens_for(engine, "begin")
    def _begun(connection: Any) -> None:
        # a transaction that reads before it writes may fail at once with "database is locked", so
        # one that will write takes the lock at its beginning
        connection.exec_driver_sql(
            "BEGIN IMMEDIATE" if connection.get_execution_options().get("write") else "BEGIN"
        )


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log.

    The first switch of a new file needs it alone, and does not wait for its turn itself.
    """
    deadline = time.monotonic() + BUSY_MILLISECONDS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(WAL_RETRY_SECONDS)
        else:
            return


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
