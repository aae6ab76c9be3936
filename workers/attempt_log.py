"""The lines of one attempt for the job's log: what the runner notes, and warnings of libraries."""

import logging
import threading
from typing import Literal

from service.jobs import LogLine

MOST_LINES = 500  # of one attempt, so that a warning in every batch does not fill the database
LONGEST_LINE = 2_000

Level = Literal["info", "warning", "error"]


class AttemptLog(logging.Handler):
    """Collects lines until the next transaction writes them.

    As a handler of the root logger it collects the warnings of the main thread, which computes.
    """

    def __init__(self, attempt: int) -> None:
        super().__init__(logging.WARNING)
        self.attempt = attempt
        self._lines: list[LogLine] = []
        self._taken = 0
        self._last = ""

    def note(self, message: str, level: Level = "info") -> None:
        """Add a line, unless it repeats the one before."""
        if message == self._last or self._taken > MOST_LINES:
            return
        self._last, self._taken = message, self._taken + 1
        if self._taken > MOST_LINES:
            level, message = (
                "warning",
                f"more than {MOST_LINES} lines: the rest is in the worker's log only",
            )
        self._lines.append(
            LogLine(
                level=level,
                message=message[:LONGEST_LINE].replace("\x00", ""),
                attempt=self.attempt,
            )
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Add a warning or an error that the main thread logged."""
        if record.thread == threading.main_thread().ident:
            self.note(
                " ".join(record.getMessage().split()),
                "error" if record.levelno >= logging.ERROR else "warning",
            )

    def take(self) -> list[LogLine]:
        """Remove and return the lines that were not written yet."""
        taken, self._lines = self._lines, []
        return taken
