"""What is noted of one attempt for the job's log: lines of ours, and the warnings of whatever
computes.
"""

import logging
import threading
from typing import Literal

from service.jobs import LogLine

MOST_LINES = 500  # of one attempt: a warning in every batch is not to fill the database
LONGEST_LINE = 2_000

Level = Literal["info", "warning", "error"]


class AttemptLog(logging.Handler):
    """Lines that wait to be written with the next record.

    As a handler of the root logger it takes what the main thread warns of.
    """

    def __init__(self, attempt: int) -> None:
        super().__init__(logging.WARNING)
        self.attempt = attempt
        self._lines: list[LogLine] = []
        self._taken = 0
        self._last = ""

    def note(self, message: str, level: Level = "info") -> None:
        """Add a line, but not the same one twice in a row."""
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
        """Take a warning or an error of the thread that computes."""
        if record.thread == threading.main_thread().ident:
            self.note(
                " ".join(record.getMessage().split()),
                "error" if record.levelno >= logging.ERROR else "warning",
            )

    def take(self) -> list[LogLine]:
        """The lines that have not been written yet."""
        taken, self._lines = self._lines, []
        return taken
