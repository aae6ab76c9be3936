"""How this program connects to PostgreSQL: under which name, and how long it waits for whom."""

import sys
from typing import Any

from sqlalchemy import URL

# a server or a network that vanishes without a word is given up after about a minute, where TCP
# alone would wait a quarter of an hour
GIVEN_UP = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
# a process that stands still holds its locks no longer than a minute, and no query runs for ever
SESSION = {
    "idle_in_transaction_session_timeout": 60_000,
    "statement_timeout": 900_000,
}


def connection_arguments(url: URL) -> dict[str, Any]:
    """Return what libpq is told beside the URL; what the URL itself says holds.

    Of a driver that is not libpq's, nothing but how long to wait for a connection.
    """
    if url.get_driver_name() not in ("psycopg", "psycopg2"):
        return {"connect_timeout": GIVEN_UP["connect_timeout"]}
    told = {
        **GIVEN_UP,
        "fallback_application_name": program_name(),
        "options": " ".join(f"-c {name}={value}" for name, value in SESSION.items()),
    }
    return {name: value for name, value in told.items() if name not in url.query}


def program_name() -> str:
    """Return how pg_stat_activity names this process: `fflab` and the module that it runs."""
    found = getattr(sys.modules.get("__main__"), "__spec__", None)
    module = found.name.removesuffix(".__main__") if found else ""
    return f"fflab:{module}" if module else "fflab"
