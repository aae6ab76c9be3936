"""Retrying a database action while the database is unavailable.

Nothing is lost meanwhile: every write of a worker is fenced by its attempt number.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from service.host.log_limits import Outage
from service.store.database import DATABASE_ERRORS

RETRY_SECONDS = 1.0

T = TypeVar("T")
log = logging.getLogger(__name__)


class DatabaseStillAway(Exception):
    """The database was unavailable until the caller had to stop."""


def retry_while_unavailable(action: Callable[[], T], stop: threading.Event) -> T:
    """Call `action`, again and again while the database is unavailable, and return its result.

    Raises DatabaseStillAway if `stop` is set while the database is unavailable.
    """
    outage = Outage(log, "the database")
    while True:
        try:
            result = action()
        except DATABASE_ERRORS as error:
            if not is_unavailable(error):
                raise
            outage.noticed(error)
            if stop.wait(RETRY_SECONDS):
                raise DatabaseStillAway from error
        else:
            outage.over()
            return result


def is_unavailable(error: Exception) -> bool:
    """Whether a retry may help. It does not where SQLite refuses the statement itself."""
    return getattr(getattr(error, "orig", None), "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
