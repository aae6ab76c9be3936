"""What may be wrong with a database, in words: it is damaged, full, read-only or replaced."""

import sqlite3
from pathlib import Path

from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# what a database raises that is absent or busy
DATABASE_ERRORS = (OperationalError, InterfaceError, PoolTimeout)

PRIMARY = 0xFF  # of the codes of SQLite; the rest says more than is needed here
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
FULL, READ_ONLY = sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY


class DatabaseReplaced(PoolTimeout):
    """The file of SQLite was deleted or replaced while it was open: what is written is lost.

    It is one of DATABASE_ERRORS, so code that waits for the database waits for this too.
    """


class DatabaseDamaged(PoolTimeout):
    """The file of SQLite cannot be read; the message says what to do. It is one of DATABASE_ERRORS.

    A worker that computes waits, so that what it has computed can still be looked at.
    """

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(
            f"the database file {file} is damaged ({' '.join(reason.split())}): stop all that use "
            f"it, restore it from a backup (docs/howto/backup.md), and start again"
        )
        self.reason = reason


def code_of(error: BaseException) -> int:
    """The code of an error of SQLite, without its extension; 0 for any other error."""
    found = getattr(error, "orig", None) or error
    return getattr(found, "sqlite_errorcode", 0) & PRIMARY


def tell_damage(context: ExceptionContext) -> None:
    """Raise DatabaseDamaged in the place of SQLite's error where the file cannot be read.

    A listener of the engine's event `handle_error`.
    """
    error = context.original_exception
    if context.engine is not None and code_of(error) in DAMAGE:
        file = Path(context.engine.url.database or "")
        raise DatabaseDamaged(file, str(error))


def is_full(error: BaseException) -> bool:
    """Whether the disk of the database has no room left."""
    said = str(getattr(error, "orig", None) or error).lower()
    return code_of(error) == FULL or "no space left" in said


def fault_of(error: Exception) -> str | None:
    """What is wrong with the database, for people; None where it is only away or busy."""
    if isinstance(error, DatabaseReplaced):
        return (
            "The database file was deleted or replaced while the service ran, so what it accepted "
            "would be lost. Its operator puts the file back and starts the service again."
        )
    if isinstance(error, DatabaseDamaged):
        return (
            f"The database file is damaged ({error.reason}). Its operator restores it from a "
            f"backup and starts the service again."
        )
    code, said = code_of(error), str(getattr(error, "orig", "")).lower()
    if is_full(error):
        return (
            "The disk of the database is full. Delete jobs that are not needed, or have its "
            "operator make room."
        )
    if code == READ_ONLY or (isinstance(error, DBAPIError) and "read-only" in said):
        return "The database is read-only. Its operator lets the service write to it."
    return None
