"""How the HTTP server logs: as uvicorn does, with lines of a bounded length."""

import copy
import logging
from typing import Any

from uvicorn.config import LOGGING_CONFIG
from uvicorn.logging import AccessFormatter, DefaultFormatter

from service.encoding.escaping import for_log
from service.encoding.log_format import LogFormatter

LONGEST_ADDRESS = 500


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


def log_config() -> dict[str, Any]:
    """Return the configuration of logging for uvicorn."""
    found = copy.deepcopy(LOGGING_CONFIG)
    for name, formatter in (("default", ServerFormatter), ("access", RequestFormatter)):
        found["formatters"][name]["()"] = formatter
    return found
