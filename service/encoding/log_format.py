"""Lines of logs: each is one line of a bounded length, whatever text of a user it holds."""

import logging
from types import TracebackType

from ffengine.text import escaped, shortened
from service.encoding.escaping import for_log

LONGEST_TRACE = 20_000  # characters
ErrorInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


class LogFormatter(logging.Formatter):
    """A formatter that shows control characters as escapes, and cuts what is long."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        """Format the line of a record."""
        record.message = for_log(record.message.rstrip("\n"))
        return super().formatMessage(record)

    def formatException(self, ei: ErrorInfo) -> str:  # noqa: N802 - the name in logging
        """Format a trace, whose last line may hold a user's text."""
        return shortened(escaped(super().formatException(ei), keep="\n\t"), LONGEST_TRACE)


def log_to_stderr(form: str, level: int = logging.WARNING) -> None:
    """Let this process log to standard error, in that form, from that level on."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter(form))
    logging.basicConfig(handlers=[handler], level=level)
