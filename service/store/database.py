"""Connections and transactions: SQLite in WAL mode, or PostgreSQL.

Every part of the store is given one Database.
"""

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, select, text, update
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from service.host.mounts import network_file_system
from service.host.private import make_private_file, make_private_folder
from service.store.faults import (
    BUSY,
    DATABASE_ERRORS,
    DatabaseDamaged,
    DatabaseReplaced,
    code_of,
    tell_damage,
)
from service.store.postgres import connection_arguments
from service.store.tables import JobRow, ServiceRow, now_seconds

__all__ = ["DATABASE_ERRORS", "Database", "DatabaseDamaged", "DatabaseRefused", "DatabaseReplaced"]

KEPT_CONNECTIONS = 5
log = logging.getLogger(__name__)

BUSY_MILLISECONDS = 15_000
WAL_RETRY_SECONDS = 0.02
MIGRATION_LOCK = 0x66666C6162  # "fflab", PostgreSQL's advisory lock while the schema is upgraded
# a probe writes unless the process has written so lately; see Database.ping
WRITTEN_LATELY_SECONDS = 5.0
# for which an upgrade waits for each table: who waits for longer keeps all others waiting as well
MIGRATION_LOCK_SECONDS = 15.0
LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL's code
# the oldest schema whose programs may use today's: all changes since are additions that they do not
# notice. A change that is not, which a new minor version may bring, sets it to its own revision.
USABLE_FROM = "0015"
PROBE_MILLISECONDS = 2_000
# how long the check of a file may take at the start, and the largest file that is checked: SQLite
# may look at the time only between two tables, and reads 100 MB in a second from a slow disk
CHECK_SECONDS = 10.0
CHECKED_BYTES = 2**30
STEPS_BETWEEN_LOOKS = 10_000


class DatabaseRefused(Exception):
    """The service refuses to use this database; the message says why and what to do."""


class Database:
    """An engine and its transactions; nothing here depends on jobs.

    **Arguments:**

    - `where`: a URL of SQLAlchemy, or the file of SQLite.
    - `kept_connections`: how many connections to a server stay open; more are opened where they
      are needed at once, and closed after it.
    """

    def __init__(self, where: str | Path, kept_connections: int = KEPT_CONNECTIONS) -> None:
        self.url = sqlite_url(where) if isinstance(where, Path) else make_url(where)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.file:
            folder = self.file.absolute().parent
            refuse_network_folder(folder)
            make_private_folder(folder)
        of_server: dict[str, Any] = {
            "pool_pre_ping": True,
            "pool_size": kept_connections,
            "connect_args": connection_arguments(self.url),
        }
        self.engine: Engine = create_engine(
            self.url, json_serializer=_compact, **({} if self.is_sqlite else of_server)
        )
        self._writer = threading.Lock()
        self._file: tuple[int, int] | None = None
        self._only_reads = False
        self._written_at = -float("inf")  # by this process; its last write did not fail
        if self.is_sqlite:
            event.listen(self.engine, "handle_error", tell_damage)
            _prepare_sqlite(self.engine)
            self.engine.dialect.statement_compiler = _WithHints
            event.listen(self.engine, "do_connect", self._before_connecting)
            event.listen(self.engine, "connect", self._note_file)

    @property
    def address(self) -> str:
        """The URL of the database without its password."""
        return self.url.difference_update_query(["password"]).render_as_string(hide_password=True)

    @property
    def file(self) -> Path | None:
        """The file of SQLite; None for another database, or for one in memory."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    @property
    def is_there(self) -> bool:
        """Whether there is a database. SQLite makes a missing file as soon as it connects."""
        return self.file is None or self._file_now() is not None

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
        if self._only_reads and not self.is_there:
            raise DatabaseReplaced(f"the database file of {self.address} is missing")
        if self.file:
            make_private_file(self.file)  # SQLite gives its other files the same permissions

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

        A schema that a newer version has made is left as it is where that version says that this
        one may use it, see USABLE_FROM.

        Raises DatabaseRefused where a newer version has written it otherwise, and where others keep
        the tables locked.
        """
        with (
            _told_of_locks(self.address),
            self.engine.execution_options(write=True).begin() as connection,
        ):
            if not self.is_sqlite:
                wait = text("SELECT set_config('lock_timeout', :wait, true)")
                connection.execute(wait, {"wait": f"{MIGRATION_LOCK_SECONDS:.0f}s"})
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK}
                )
                # a large table may take longer to change than any other statement
                connection.execute(text("SET LOCAL statement_timeout = 0"))
            if self._refuse_newer(connection) == _migrations().get_current_head():
                return
            if not self._is_known(connection):
                return
            config = _alembic()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.execute(update(ServiceRow).values(usable_from=USABLE_FROM))

    @staticmethod
    def _is_known(connection: Connection) -> bool:
        """Whether the schema is one that this version knows, or none."""
        found = MigrationContext.configure(connection).get_current_revision()
        return found is None or found in _revisions()

    def _refuse_newer(self, connection: Connection) -> str | None:
        """Return the revision of the schema.

        Raises DatabaseRefused where it is a newer one that programs of this version may not use.
        """
        known = _migrations()
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in _revisions():
            oldest = connection.scalar(select(ServiceRow.usable_from))
            if oldest is not None and oldest in _revisions():
                log.info(
                    "the schema %s is newer than this fflab, which knows %s and may use it",
                    found,
                    known.get_current_head(),
                )
                return found
            raise DatabaseRefused(
                f"{self.address} was written by a newer fflab (schema {found}, this one knows "
                f"{known.get_current_head()}): upgrade fflab, or restore the backup from before "
                f"the upgrade"
            )
        return found

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def ping(self) -> None:
        """Read the jobs, and write where this process has not written lately.

        Raises one of DATABASE_ERRORS or another error of SQLAlchemy where one of them fails, or
        where the database was replaced.
        """
        self.refuse_replaced()
        with self.engine.connect() as connection:
            connection.execute(select(JobRow.spec).limit(1))
        if time.monotonic() - self._written_at > WRITTEN_LATELY_SECONDS:
            with self.writing(wait_milliseconds=PROBE_MILLISECONDS) as session:
                session.execute(update(ServiceRow).values(number=ServiceRow.number))

    def check(self, seconds: float = CHECK_SECONDS) -> str:
        """Look whether the database can be used as it is; changes nothing.

        Raises DatabaseRefused where a newer version has written it, and DatabaseDamaged where its
        file is damaged.

        **Arguments:**

        - `seconds`: after so long the check is given up.

        **Returns:**

        What was done, in words. A file that is missing, or larger than CHECKED_BYTES, is not
        checked.
        """
        if not self.is_there:
            return "there is no file to check"
        with self.engine.connect() as connection:
            self._refuse_newer(connection)
        if not self.file:
            return "there is no file to check"
        if self.file.stat().st_size > CHECKED_BYTES:
            return f"not checked for damage, as it is larger than {CHECKED_BYTES / 2**30:.0f} GiB"
        began = time.monotonic()
        with self.engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - narrows the type
            driver.set_progress_handler(
                lambda: time.monotonic() - began > seconds, STEPS_BETWEEN_LOOKS
            )
            try:
                found = [row[0] for row in connection.exec_driver_sql("PRAGMA quick_check(1)")]
            except OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_INTERRUPT:
                    raise
                return f"no damage found in {seconds:.0f} s; the rest was not checked"
            finally:
                driver.set_progress_handler(None, 0)
        if found != ["ok"]:
            raise DatabaseDamaged(self.file, found[0])
        return f"checked for damage in {time.monotonic() - began:.1f} s"

    def only_read(self) -> None:
        """Have each connection that is made from now on refuse to write.

        A missing file of SQLite is not made.
        """

        def refuse_writes(connection: Any, _record: object) -> None:
            if self.is_sqlite:
                connection.execute("PRAGMA query_only=ON")
            else:
                connection.read_only = True

        self._only_reads = True
        event.listen(self.engine, "connect", refuse_writes)

    def size_bytes(self) -> int:
        """How much room the database takes up; 0 for one in memory."""
        if not self.is_sqlite:
            with self.engine.connect() as connection:
                size = text("SELECT pg_database_size(current_database())")
                return int(connection.scalar(size) or 0)
        files = [self.file, self.file.with_name(f"{self.file.name}-wal")] if self.file else []
        return sum(file.stat().st_size for file in files if file.exists())

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
    def writing(self, *, wait_milliseconds: int = BUSY_MILLISECONDS) -> Iterator[Session]:
        """Run one transaction. Raises DatabaseReplaced.

        On SQLite it takes the write lock with its first statement, so no two transactions deadlock,
        and waits for its turn for `wait_milliseconds` at most.
        """
        self.refuse_replaced()
        engine = self.engine.execution_options(write=True, wait_milliseconds=wait_milliseconds)
        try:
            with (
                self._turn(wait_milliseconds),
                Session(engine, expire_on_commit=False) as session,
                session.begin(),
            ):
                yield session
        except (DBAPIError, PoolTimeout):
            self._written_at = -float("inf")
            raise
        self._written_at = time.monotonic()

    @contextmanager
    def _turn(self, wait_milliseconds: int) -> Iterator[None]:
        """Wait for the other writers of this process, on SQLite.

        SQLite itself would retry after longer and longer sleeps.
        """
        if not self.is_sqlite:
            yield
            return
        if not self._writer.acquire(timeout=wait_milliseconds / 1000):
            raise PoolTimeout("the database is locked: others of this process wait to write")
        try:
            yield
        finally:
            self._writer.release()

    @staticmethod
    def now(session: Session) -> float:
        """The database's clock, in seconds since 1970."""
        return float(session.scalar(select(now_seconds())) or 0.0)


class _WithHints(SQLiteCompiler):
    """Writes the index that a query names, see service.store.list_indexes."""

    def get_from_hint_text(self, _table: object, text: str | None) -> str | None:
        return text


def sqlite_url(file: Path) -> URL:
    """The URL of a file of SQLite, whatever its path holds."""
    return URL.create("sqlite", database=str(file))


def _alembic() -> Config:
    config = Config()
    # a package and not a path, in which the configuration would read % as an interpolation
    config.set_main_option("script_location", f"{__package__}:migrations")
    return config


@cache
def _migrations() -> ScriptDirectory:
    """What this version knows of the schema's history; its files are read once in a process."""
    return ScriptDirectory.from_config(_alembic())


@cache
def _revisions() -> frozenset[str]:
    """The schemas that this version knows."""
    return frozenset(script.revision for script in _migrations().walk_revisions())


@contextmanager
def _told_of_locks(address: str) -> Iterator[None]:
    """Raise DatabaseRefused in place of what is raised where a lock was waited for too long."""
    try:
        yield
    except OperationalError as error:
        if code_of(error) in BUSY or getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
            raise DatabaseRefused(
                f"the schema of {address} could not be upgraded, as others keep its tables locked; "
                f"nothing was changed: stop what uses it for long, such as a backup or a report, "
                f"and start again"
            ) from error
        raise


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
        asked = connection.get_execution_options()
        wait = asked.get("wait_milliseconds", BUSY_MILLISECONDS)
        if wait != BUSY_MILLISECONDS:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={int(wait)}")
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if asked.get("write") else "BEGIN")
        finally:
            if wait != BUSY_MILLISECONDS:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log.

    The first switch of a new file needs it alone, and does not wait for its turn itself.
    """
    deadline = time.monotonic() + BUSY_MILLISECONDS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if code_of(error) not in BUSY or time.monotonic() > deadline:
                raise
            time.sleep(WAL_RETRY_SECONDS)
        else:
            return


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
