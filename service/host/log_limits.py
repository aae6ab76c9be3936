"""Logs that say a thing once, and not again and again while it lasts."""

import logging
import time
from collections.abc import Mapping

AGAIN_SECONDS = 60.0
MOST_TEXTS = 1000  # remembered


class Outage:
    """Logs that something is away, and when it is back for how long it was; each once.

    `what`: as in "the database".
    """

    def __init__(self, logger: logging.Logger, what: str) -> None:
        self._log, self._what = logger, what
        self._since: float | None = None

    def noticed(
        self, reason: BaseException | str, extra: Mapping[str, object] | None = None
    ) -> None:
        """Log that it is away, unless that is known."""
        if self._since is None:
            self._since = time.monotonic()
            self._log.warning("%s is away: %s", self._what, _first_line(reason), extra=extra)

    def over(self) -> None:
        """Log that it is back, if it was away."""
        if self._since is not None:
            self._log.warning(
                "%s is back, after %.0f s", self._what, time.monotonic() - self._since
            )
            self._since = None


class Rarely:
    """Remembers what was said lately."""

    def __init__(self, seconds: float = AGAIN_SECONDS) -> None:
        self._seconds = seconds
        self._said: dict[str, float] = {}

    def is_due(self, text: str) -> bool:
        """Whether a text was not said for a while; then it counts as said now."""
        now = time.monotonic()
        if now - self._said.get(text, -self._seconds) < self._seconds:
            return False
        if len(self._said) >= MOST_TEXTS:
            self._said.clear()
        self._said[text] = now
        return True


class RareWarnings(logging.Filter):
    """Lets each kind of warning of a logger through once in a while: strangers can cause them."""

    def __init__(self, seconds: float = AGAIN_SECONDS) -> None:
        super().__init__()
        self._rarely = Rarely(seconds)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged: all but warnings without a traceback are."""
        return (
            record.levelno != logging.WARNING
            or bool(record.exc_info)
            or self._rarely.is_due(str(record.msg))
        )


def _first_line(reason: BaseException | str) -> str:
    return (str(reason).splitlines() or [type(reason).__name__])[0]
