"""How the HTTP server logs: as uvicorn does, with lines of a bounded length."""

import copy
import logging
from typing import Any

from uvicorn.config import LOGGING_CONFIG
from uvicorn.logging import AccessFormatter, DefaultFormatter

from ffengine.text import shortened
from service.encoding.escaping import for_log
from service.encoding.log_format import JsonFormatter, LogFormatter, is_json

LONGEST_ADDRESS = 500
OF_A_REQUEST = ("address", "method", "path", "http", "status")  # as uvicorn's records have them


class ServerFormatter(LogFormatter, DefaultFormatter):
    """The format of the server's own messages."""


class RequestFormatter(AccessFormatter):
    """The format of a request: its address is cut, since a stranger may choose it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        """Format the line of a request."""
        short = copy.copy(record)
        if isinstance(record.args, tuple):
            short.args = tuple(
                for_log(one, LONGEST_ADDRESS) if isinstance(one, str) else one
                for one in record.args
            )
        return super().formatMessage(short)


class JsonRequestFormatter(JsonFormatter):
    """The format of a request as JSON, with method, path, status and the address of the sender."""

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        """The fields of a request."""
        if not isinstance(record.args, tuple) or len(record.args) != len(OF_A_REQUEST):
            return super().fields(record)
        given = dict(zip(OF_A_REQUEST, record.args, strict=True))
        given["path"] = shortened(str(given["path"]), LONGEST_ADDRESS)
        return given


def log_config() -> dict[str, Any]:
    """Return the configuration of logging for uvicorn."""
    found = copy.deepcopy(LOGGING_CONFIG)
    if is_json():
        for name, kind in (("default", JsonFormatter), ("access", JsonRequestFormatter)):
            found["formatters"][name] = {"()": kind, "process": "api"}
        return found
    for name, formatter in (("default", ServerFormatter), ("access", RequestFormatter)):
        found["formatters"][name]["()"] = formatter
    return found
