"""HTTP's general rules, for every route alike: HEAD, OPTIONS, Allow, a slash at the end, and bodies
that are encoded or have two lengths.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import Route, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ffengine.text import visible
from service.web.problems import TwoLengths, WrongMediaType, WrongMethod

LONGEST_SHOWN = 60
HEAD_ASKED = "fflab.head"  # in the scope of a GET that answers a HEAD


class _Known(NamedTuple):
    path: re.Pattern[str]
    route: Route


class Address(NamedTuple):
    """What there is at an address: its methods, and one of its routes, which the metrics name."""

    methods: frozenset[str]
    route: Route


class MethodTable:
    """Which methods each address knows."""

    def __init__(self) -> None:
        self._known: list[_Known] = []

    def add(self, routes: Iterable[object], prefix: str = "") -> None:
        """Add routes whose addresses begin with `prefix`."""
        self._known += [
            _Known(compile_path(prefix + route.path)[0], route)
            for route in routes
            if isinstance(route, Route)
        ]

    def at(self, path: str) -> Address | None:
        """Return what there is at an address; None where there is nothing.

        Where there is GET there is HEAD, and OPTIONS is everywhere.
        """
        found = [known.route for known in self._known if known.path.match(path)]
        if not found:
            return None
        methods = {"OPTIONS"}.union(*(route.methods or () for route in found))
        return Address(frozenset(methods | ({"HEAD"} if "GET" in methods else set())), found[0])


class MethodsMiddleware:
    """Answers HEAD by the head of GET, OPTIONS and unknown methods by Allow.

    A slash at the end of an address changes nothing: a redirect would have to know the scheme and
    the name that a proxy is asked by.
    """

    def __init__(self, app: ASGIApp, table: MethodTable) -> None:
        self.app, self._table = app, table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope)
        if "content-length" in given and "transfer-encoding" in given:
            await TwoLengths(headers={"Connection": "close"}).response()(scope, receive, send)
            return
        known = self._table.at(scope["path"])
        shorter = _without_slash(scope["path"])
        if known is None and shorter and (known := self._table.at(shorter)):
            scope["path"], scope["raw_path"] = shorter, _raw_without_slash(scope)
        method = scope["method"]
        if known and (method == "OPTIONS" or method not in known.methods):
            scope["route"] = known.route  # the metrics count by it
            await _methods_of(known, method)(scope, receive, send)
        elif encoded := _encoding_of(scope):
            await WrongMediaType(
                f"the body is encoded as {visible(encoded[:LONGEST_SHOWN])}; send it as it is, "
                f"without Content-Encoding",
                headers={"Accept-Encoding": "identity"},
            ).response()(scope, receive, send)
        elif method == "HEAD":
            await self._head(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the head of GET. What streams is told that the client has gone."""
        # a copy: the server must go on to see a HEAD, whose answer has no body
        inner = {**scope, "method": "GET", HEAD_ASKED: True}
        sent = False

        async def hear() -> Message:
            return {"type": "http.disconnect"} if sent else await receive()

        async def answer(message: Message) -> None:
            nonlocal sent
            if message["type"] == "http.response.start":
                if "route" in inner:
                    scope["route"] = inner["route"]
                await send(message)
                await send({"type": "http.response.body"})
                sent = True

        await self.app(inner, hear, answer)


def _encoding_of(scope: Scope) -> str:
    """Return the encoding of the request's body; "" where it is sent as it is."""
    encoding = Headers(scope=scope).get("content-encoding", "").strip()
    return "" if encoding.lower() == "identity" else encoding


def _methods_of(known: Address, method: str) -> Response:
    """Return the answer to OPTIONS, or to a method that the address does not know."""
    allow = {"Allow": ", ".join(sorted(known.methods))}
    if method == "OPTIONS":
        return Response(status_code=204, headers=allow)
    return WrongMethod(headers=allow).response()


def _without_slash(path: str) -> str:
    """Return the address without the slash at its end; "" where it has none, or is the root."""
    return path[:-1] if path.endswith("/") and len(path) > 1 else ""


def _raw_without_slash(scope: Scope) -> bytes:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.removesuffix(b"/")
