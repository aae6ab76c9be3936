"""Whose request is answered: what they may see and change, and what the log says of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

Scope = Literal["read", "submit", "admin"]  # of a key; each includes those before it
SCOPES: tuple[Scope, ...] = ("read", "submit", "admin")
Via = Literal["request", "command", "service"]
HIDDEN = "…"


class Viewer(NamedTuple):
    """Who asks: with the key of what name, scope and id, and from which address.

    `name` is None where no key is needed, or nobody asks, as in a worker: such a viewer may do
    everything. `shared` is the job whose share link lets the request in. `via` says how: by a
    request, by a command on the service's machine, or nobody but the service itself.
    """

    name: str | None = None
    scope: Scope = "admin"
    address: str | None = None
    shared: str | None = None
    key: str | None = None
    via: Via = "service"

    @property
    def sees_all(self) -> bool:
        """Whether private jobs of others are shown."""
        return self.name is None or self.scope == "admin"

    def may_change(self, owner: str | None) -> bool:
        """Whether jobs of this owner may be changed; those of no owner are everybody's."""
        if self.name is None or self.scope == "admin":
            return True
        return self.scope == "submit" and owner in (None, self.name)

    def has(self, scope: Scope) -> bool:
        """Whether what needs this scope is allowed."""
        return self.name is None or SCOPES.index(self.scope) >= SCOPES.index(scope)


VIEWER: ContextVar[Viewer] = ContextVar("viewer", default=Viewer())  # noqa: B039 - immutable


@contextmanager
def seen_by(viewer: Viewer) -> Iterator[None]:
    """Answer as to this viewer."""
    token = VIEWER.set(viewer)
    try:
        yield
    finally:
        VIEWER.reset(token)


def shown_address(address: str, submitted_by: str | None) -> str:
    """Return the address of a job's webhook as the viewer may see it.

    Addresses often hold secrets, in the path or after it: other keys than that of the submitter see
    scheme, host and port alone.
    """
    viewer = VIEWER.get().name
    if viewer is None or viewer == submitted_by:
        return address
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}/{HIDDEN}"


def by_key() -> str:
    """Say for the log with whose key the request came; "" where it needed none."""
    viewer = VIEWER.get().name
    return "" if viewer is None else f" with the key of {viewer}"
