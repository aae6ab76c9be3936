"""Whose request is answered: what they see of a webhook's address, and what the log says."""

from contextvars import ContextVar
from urllib.parse import urlsplit

# the name of the key that the request came with; None where no key is needed, or nobody asks
VIEWER: ContextVar[str | None] = ContextVar("viewer", default=None)
HIDDEN = "…"


def shown_address(address: str, submitted_by: str | None) -> str:
    """Return the address of a job's webhook as the viewer may see it.

    Addresses often hold secrets, in the path or after it: other keys than that of the submitter see
    scheme, host and port alone.
    """
    viewer = VIEWER.get()
    if viewer is None or viewer == submitted_by:
        return address
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}/{HIDDEN}"


def by_key() -> str:
    """Say for the log with whose key the request came; "" where it needed none."""
    viewer = VIEWER.get()
    return "" if viewer is None else f" with the key of {viewer}"
