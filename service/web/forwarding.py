"""What trusted proxies say of a request: its sender, and the path below which people see fflab."""

import contextlib
import os
from collections.abc import Container
from typing import Any, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service.encoding.root_path import ROOT_PATH, root_path
from service.settings import Settings

PREFIX_HEADER = b"x-forwarded-prefix"
HEADERS = b"x-forwarded-"  # the beginning of those that tell a proxy's request from a direct one
PROXIED = "fflab.proxied"  # in the scope


class ForwardingMiddleware:
    """Takes FFLAB_ROOT_PATH, else X-Forwarded-Prefix of a trusted proxy, as the root path.

    X-Forwarded-For and X-Forwarded-Proto are taken from the same proxies.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        inner = _proxy_headers(app, settings)
        self._app, self._trusted = cast("ASGIApp", inner), inner.trusted_hosts
        self._root = settings.root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, as below its root path."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[PROXIED] = self._is_trusted(scope) and any(
            name.startswith(HEADERS) for name, _ in scope["headers"]
        )
        root = self._root or self._forwarded(scope)
        if root and scope["path"].startswith(f"{root}/"):  # a proxy that leaves the prefix in
            scope["path"] = scope["path"].removeprefix(root)
            scope["raw_path"] = scope["raw_path"].removeprefix(root.encode())
        token = ROOT_PATH.set(root)
        try:
            await self._app(scope, receive, send)
        finally:
            ROOT_PATH.reset(token)

    def _is_trusted(self, scope: Scope) -> bool:
        return (scope.get("client") or ("",))[0] in self._trusted

    def _forwarded(self, scope: Scope) -> str:
        given = [value for name, value in scope["headers"] if name == PREFIX_HEADER]
        if len(given) == 1 and self._is_trusted(scope):
            with contextlib.suppress(ValueError):
                return root_path(given[0].decode("latin-1"))
        return ""


def is_proxied(scope: Scope) -> bool:
    """Whether a trusted proxy passes the request on."""
    return bool(scope.get(PROXIED))


def trusted_proxies(settings: Settings) -> Container[str]:
    """Return the addresses of the proxies that are believed."""
    return cast("Container[str]", _proxy_headers(None, settings).trusted_hosts)


def _proxy_headers(app: ASGIApp | None, settings: Settings) -> ProxyHeadersMiddleware:
    trusted = settings.trusted_proxies or os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")
    return ProxyHeadersMiddleware(cast("Any", app), trusted_hosts=trusted)
