"""gzip for texts that are large enough. Streams of events are never held back, and what is dense
already (pictures, arrays, weights) is sent as it is.
"""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LEAST_BYTES = 1_000
LEVEL = 5  # nearly as small as 9, in a third of the time
AS_THEY_ARE = (
    *DEFAULT_EXCLUDED_CONTENT_TYPES,
    "application/octet-stream",
    "application/vnd.apache.parquet",
    "application/zip",
)
SUFFIX = '-gzip"'  # of the ETag of a compressed answer
_GZIP = re.compile(r"(?:^|,)\s*(?:gzip|x-gzip|\*)\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?(?=,|$)", re.ASCII)


class CompressionMiddleware:
    """Compresses answers for clients that take gzip.

    The ETag of a compressed answer is another one, since its bytes are; the app is shown its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._gzip = GZipMiddleware(
            app, LEAST_BYTES, compresslevel=LEVEL, exclude_content_types=AS_THEY_ARE
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and compress its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        asked = Headers(scope=scope)
        known = asked.get("if-none-match", "")
        if SUFFIX in known:
            scope["headers"] = [
                (name, value.replace(SUFFIX.encode(), b'"') if name == b"if-none-match" else value)
                for name, value in scope["headers"]
            ]
        takes_gzip = accepts_gzip(asked.get("accept-encoding", ""))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                is_known = message["status"] == 304 and (SUFFIX in known or known == "*")
                _amend(headers, takes_gzip and is_known)
            await send(message)

        await (self._gzip if takes_gzip else self.app)(scope, receive, answer)


def accepts_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding names gzip, and not with a weight of 0."""
    found = _GZIP.search(accepted.lower())
    return found is not None and (found[1] is None or found[1].strip("0.") != "")


def _amend(headers: MutableHeaders, has_compressed: bool) -> None:
    """Say that the answer depends on Accept-Encoding, and tell apart the ETag of a compressed one.

    `has_compressed`: whether it is a 304 to a client that has the compressed answer.
    """
    kind = headers.get("content-type", "").partition(";")[0]
    if kind not in AS_THEY_ARE and "accept-encoding" not in headers.get("vary", "").lower():
        headers.add_vary_header("Accept-Encoding")
    if "etag" in headers and ("content-encoding" in headers or has_compressed):
        headers["etag"] = headers["etag"].removesuffix('"') + SUFFIX
