"""The path below which people see the service, where a proxy serves it beside other sites."""

import re
from contextvars import ContextVar

ROOT_PATH: ContextVar[str] = ContextVar("ROOT_PATH", default="")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")


def at(path: str) -> str:
    """Return the address of a path of this service, as the request's own sender sees it."""
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
