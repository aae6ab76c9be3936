"""The check of the Host header, against DNS rebinding.

A web page may let its own name point to this machine. The browser then takes the service for a part
of that page's site, and the page could read and change everything. The Host header still holds the
page's name. So a service that needs no key answers only to names that no other site can have.
"""

import re
from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from service.host.names import host_name, is_loopback
from service.settings import Settings
from service.store.database import DATABASE_ERRORS
from service.web import problems
from service.web.dependencies import Resources

PROBES = ("/healthz", "/readyz")  # probed by IP address; they reveal nothing about jobs
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")


class HostCheckMiddleware:
    """Refuses requests whose Host is neither a loopback name nor one of FFLAB_ALLOWED_HOSTS.

    Where keys are needed and that setting is empty, every name will do.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        refusal = (
            await self._refusal(scope)
            if scope["type"] == "http" and scope["path"] not in PROBES
            else None
        )
        await (refusal.response() if refusal else self.app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> problems.Problem | None:
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        name = name_of(given)
        if name is None:
            return problems.BadHost(
                f"the request has {'no Host' if not given else 'a Host that cannot be read'}; "
                f"name the service once"
            )
        if is_loopback(name) or name in self._settings.hosts:
            return None
        if not self._settings.hosts:
            try:
                if await _needs_keys(scope["app"].state.resources):
                    return None
            except DATABASE_ERRORS as error:
                return problems.database_away(error)
        return problems.WrongHost(
            f"the service does not answer to the name {name}; ask it as localhost, or let its "
            f"operator list the name in FFLAB_ALLOWED_HOSTS"
        )


async def _needs_keys(resources: Resources) -> bool:
    if resources.authenticator.is_stale:
        await run_in_threadpool(resources.authenticator.refresh)
    return resources.authenticator.needs_keys


def name_of(given: Sequence[str]) -> str | None:
    """Return the normalised name of a Host header, without port; None if it is unreadable."""
    found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    try:
        return host_name(found[1]) if found else None
    except ValueError:
        return None
