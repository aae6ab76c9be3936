"""A thread that does the same small piece of work again and again."""

import abc
import logging
import threading
import time
from collections.abc import Callable

from service.host.log_limits import Outage, Rarely
from service.store.database import DATABASE_ERRORS

REST_SECONDS = 0.005  # between two rounds; several calls of `wake` meanwhile cause one

log = logging.getLogger(__name__)


class PeriodicThread(threading.Thread, abc.ABC):
    """Calls `tick` at an interval, and earlier when it is woken.

    No exception of a tick ends the thread: the next tick is the retry.
    """

    def __init__(self, name: str, interval_seconds: float) -> None:
        super().__init__(name=name, daemon=True)
        self.interval_seconds = interval_seconds
        self.has_more = False  # set by a tick that left work: the next one follows at once
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._outage = Outage(log, f"{name}: the database")
        self._failures = Rarely()

    @abc.abstractmethod
    def tick(self) -> None:
        """Do the work once."""

    def on_wake(self) -> None:
        """Act on `wake` before the next tick is due."""
        self.tick()

    def on_database_away(self) -> None:
        """Act on a tick that failed because the database did not answer."""

    def wake(self) -> None:
        """Act now instead of at the end of the interval."""
        self._wake.set()

    def stop(self) -> None:
        """Stop after the current tick; returns when the thread has ended."""
        self._stopping.set()
        self._wake.set()
        self.join()

    def run(self) -> None:
        """Tick until stopped."""
        due = time.monotonic()
        while not self._stopping.is_set():
            is_due = self.has_more or time.monotonic() >= due
            self.has_more = False
            self._survive(self.tick if is_due else self.on_wake)
            if is_due:
                due = time.monotonic() + self.interval_seconds
            self._stopping.wait(REST_SECONDS)
            self._wake.wait(0.0 if self.has_more else max(0.0, due - time.monotonic()))
            self._wake.clear()

    def _survive(self, action: Callable[[], None]) -> None:
        """Run an action and log what it raises, but not the same at each tick."""
        try:
            action()
        except DATABASE_ERRORS as error:
            self._outage.noticed(error)
            self.on_database_away()
        except Exception as error:
            if self._failures.is_due(repr(error)):
                log.exception("%s: a tick failed; the next ones try again", self.name)
        else:
            if action == self.tick:  # another action may have asked the database for nothing
                self._outage.over()
