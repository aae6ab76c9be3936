"""The path below which people see the service, where a proxy serves it beside other sites."""

import re
from contextvars import ContextVar

ROOT_PATH: ContextVar[str] = ContextVar("ROOT_PATH", default="")
# the beginning of the addresses of a share link, below the root path; "" for all other requests
SHARED: ContextVar[str] = ContextVar("SHARED", default="")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")


def at(path: str) -> str:
    """Return the address of a path of this service, as the request's own sender sees it."""
    return f"{ROOT_PATH.get()}{SHARED.get()}{path}"


def plainly_at(path: str) -> str:
    """The same of a path that everybody may read, with a share link or without."""
    return f"{ROOT_PATH.get()}{path}"


def root_path(text: str) -> str:
    """Return a prefix such as "/fflab" in its normal form; "" for none.

    **Raises** ValueError for what is no path.
    """
    prefix = "/" + text.strip().strip("/")
    if prefix == "/":
        return ""
    if not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
        raise ValueError("a path such as /fflab is wanted")
    return prefix
