"""By which names the service is asked: where no key is needed, only by those that no page of
another site can have.

A web page may let its own name point to this machine; then the browser takes the service for a part
of that site, and the page reads and changes what it likes. The Host header still has the page's
name.
"""

import re
from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from service.hostnames import host_name, is_loopback
from service.settings import Settings
from service.store.database import DATABASE_ERRORS
from service.web import problems
from service.web.dependencies import Resources

PROBES = ("/healthz", "/readyz")  # asked by address; they say nothing of jobs
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")


class HostCheck:
    """Answers a request only where its Host is a loopback name or one of the operator's; any, where
    keys are needed and none is set.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, or refuse."""
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


async def _needs_keys(state: Resources) -> bool:
    if state.authenticator.is_stale:
        await run_in_threadpool(state.authenticator.refresh)
    return state.authenticator.needs_keys


def name_of(given: Sequence[str]) -> str | None:
    """The name of a Host header without its port, as it is compared; None where there is not one
    that can be read.
    """
    found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    try:
        return host_name(found[1]) if found else None
    except ValueError:
        return None
