"""Lines of logs: each is one line of a bounded length, whatever text of a user it holds."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType

from ffengine.text import escaped, shortened
from service.encoding.escaping import LONGEST_LOG_LINE, for_log

PREFIX = "FFLAB_"
LONGEST_TRACE = 20_000  # characters
SINGLE = ("api", "renderer")  # processes of which a log has one at a time
# what a record has whether or not somebody gives it fields, and what formatters add to it
NOT_EXTRA = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "color_message", "data"}
# of the request that is answered, or of the attempt that runs
FIELDS: ContextVar[Mapping[str, object]] = ContextVar("fields", default=MappingProxyType({}))
ErrorInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


@contextmanager
def logged_with(**fields: object) -> Iterator[None]:
    """Let lines that are logged within the block have these fields, and none of before it.

    A field that is None is left out.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    token = FIELDS.set(MappingProxyType(given))
    try:
        yield
    finally:
        FIELDS.reset(token)


def add_fields(**fields: object) -> None:
    """Let lines that are logged from here on, for this request or attempt, have these fields.

    A field that is None is left out.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    FIELDS.set(MappingProxyType({**FIELDS.get(), **given}))


class LogFormatter(logging.Formatter):
    """A formatter that shows control characters as escapes, and cuts what is long."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        """Format the line of a record."""
        record.message = for_log(record.message.rstrip("\n"))
        return super().formatMessage(record)

    def formatException(self, ei: ErrorInfo) -> str:  # noqa: N802 - the name in logging
        """Format a trace, whose last line may hold a user's text."""
        return shortened(escaped(super().formatException(ei), keep="\n\t"), LONGEST_TRACE)


class JsonFormatter(logging.Formatter):
    """A formatter that writes one JSON object a line, in ASCII: fields for what gathers logs.

    Each has `time` (UTC), `level`, `process`, `pid`, `logger` and `message`; a request's lines have
    `request`, `key` and `address`, an attempt's `job_id`, `attempt` and `worker`; errors a `trace`.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        found: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": shortened(record.getMessage(), LONGEST_LOG_LINE),
        }
        given = {**FIELDS.get(), **self.fields(record)}
        found |= {name: value for name, value in given.items() if name not in found}
        if record.exc_info:
            found["trace"] = shortened(self.formatException(record.exc_info), LONGEST_TRACE)
        return json.dumps(found, default=str)

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        """The fields of a record: what its `extra` brought, as texts of a bounded length."""
        own = record.__dict__.keys() - NOT_EXTRA
        return {
            name: shortened(value, LONGEST_LOG_LINE) if isinstance(value, str) else value
            for name in sorted(own)
            if (value := getattr(record, name)) is not None
        }


def formatter(process: str) -> logging.Formatter:
    """Return the formatter that FFLAB_LOG_FORMAT asks for.

    **Arguments:**

    - `process`: which of the service's processes writes, such as "api".
    """
    if is_json():
        return JsonFormatter(process)
    number = "" if process in SINGLE else " %(process)d"
    return LogFormatter(f"%(asctime)s %(levelname)s {process}{number}: %(message)s")


def is_json() -> bool:
    """Whether lines of logs are JSON.

    It is asked before settings are read, whose refusal is a line of the log, too.
    """
    return os.environ.get(f"{PREFIX}LOG_FORMAT", "").lower() == "json"


def log_to_stderr(process: str, level: int = logging.WARNING) -> None:
    """Let this process log to standard error, under that name, from that level on."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(process))
    logging.basicConfig(handlers=[handler], level=level)
    if is_json():
        logging.captureWarnings(capture=True)  # a warning that Python prints is not JSON
