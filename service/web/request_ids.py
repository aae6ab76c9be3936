"""A name for each request: in the answer, in lines of logs and in what the client was told."""

import re

import uuid_utils
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.encoding.log_format import logged_with

HEADER = "X-Request-ID"
GIVEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class RequestIdMiddleware:
    """Takes the X-Request-ID of a proxy or client, else makes one; the answer has it, too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under its name."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = request_id(Headers(scope=scope).getlist(HEADER))

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request
            await send(message)

        with logged_with(request=request):
            await self._app(scope, receive, named)


def request_id(given: list[str]) -> str:
    """Return the name that a request brought, where it is one that logs may hold, else a new one.

    **Arguments:**

    - `given`: the values of its headers X-Request-ID.
    """
    if len(given) == 1 and GIVEN.fullmatch(given[0]):
        return given[0]
    return uuid_utils.uuid7().hex
