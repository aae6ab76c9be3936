"""Waiting for a database that is away: nothing is lost by it, because every write is fenced by the
attempt.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

RETRY_SECONDS = 1.0
DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)

T = TypeVar("T")
log = logging.getLogger(__name__)


def is_away(error: Exception) -> bool:
    """Whether waiting may help: not where SQLite refuses the statement itself."""
    return getattr(getattr(error, "orig", None), "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR


class DatabaseStillAway(Exception):
    """The database was away until the caller had to stop."""


def patiently(action: Callable[[], T], stop: threading.Event) -> T:
    """The result of a database action, tried again while the database is away.

    Raises GaveUp when `stop` is set meanwhile.
    """
    waiting = False
    while True:
        try:
            result = action()
        except DATABASE_AWAY as error:
            if not is_away(error):
                raise
            if not waiting:
                log.warning(
                    "the database is away (%s); trying until it is back", str(error).splitlines()[0]
                )
            waiting = True
            if stop.wait(RETRY_SECONDS):
                raise DatabaseStillAway from error
        else:
            if waiting:
                log.warning("the database is back")
            return result
