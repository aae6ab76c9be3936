"""Security headers of every answer: no content sniffing, no scripts unless a policy allows them."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# sandbox: an opened file has no origin, so that it reaches neither cookies nor the API, even if a
# user's text managed to inject a script
INERT = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "frame-ancestors 'none'; sandbox"
)
DRAWING = (  # a page that draws a chart with a script, and offers pictures of it to save
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: "
    "blob:; base-uri 'none'; "
    "frame-ancestors 'none'; sandbox allow-scripts allow-downloads"
)


class SecurityHeadersMiddleware:
    """Adds the headers to every answer that does not set its own.

    The pages, and charts that run a script, have policies of their own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add to the first message of the answer."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Content-Security-Policy", INERT)
            await send(message)

        await self.app(scope, receive, answer)
