"""Pages of other origins: which may read answers (CORS), and which may ask for changes.

Browsers send cookies with what a page of another site asks for, so that such a page would act with
the rights of the browser's user. Origins that the operator lists may use the API, with the key in a
header: a cookie of theirs counts for nothing.
"""

from urllib.parse import SplitResult, urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.settings import ANY_ORIGIN, Settings
from service.web import problems
from service.web.forwarding import is_proxied

EXPOSED = (
    "Accept-Ranges",
    "Allow",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "Preference-Applied",
    "Retry-After",
)
REMEMBERED_SECONDS = 600  # how long a browser asks no more
DEFAULT_PORTS = {"http": 80, "https": 443}
OPEN = ("/v1/", "/problems/", "/openapi.json", "/healthz", "/readyz", "/metrics")


class CrossOriginMiddleware:
    """Lets pages of the origins in FFLAB_ALLOWED_ORIGINS use the API; no others, and no pages."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self._settings = app, settings
        self._sharing = CORSMiddleware(
            app,
            allow_origins=sorted(settings.origins),
            allow_methods=("*",),
            allow_headers=("*",),
            expose_headers=EXPOSED,
            max_age=REMEMBERED_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and share its answer with an origin that is allowed."""
        shared = (
            scope["type"] == "http"
            and bool(self._settings.origins)
            and scope["path"].startswith(OPEN)
            # without an origin it is passed on, too, so that caches are told that answers vary
            and is_allowed(Headers(scope=scope).get("origin"), self._settings, unknown=True)
        )
        await (self._sharing if shared else self.app)(scope, receive, send)


def is_allowed(origin: str | None, settings: Settings, *, unknown: bool = False) -> bool:
    """Whether pages of an origin may read answers; `unknown` where the request names none.

    "null" is what sandboxed pages call themselves, whoever made them: it is never allowed.
    """
    if origin is None:
        return unknown
    return origin in settings.origins or (ANY_ORIGIN in settings.origins and origin != "null")


def is_from_elsewhere(request: Request) -> bool:
    """Whether a page of another site makes a browser send the request."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if site is not None:  # more reliable than Origin: behind a proxy the Host may differ
        return site not in ("same-origin", "none")
    return origin is not None and not _is_own(origin, request)


def refuse_cross_site(request: Request) -> None:
    """Raise WrongOrigin for a request that a page of another site makes a browser send.

    Such a request would act with the rights of the browser's user.
    """
    if is_from_elsewhere(request):
        origin = request.headers.get("origin") or "another site"
        raise problems.WrongOrigin(f"the request comes from a page of {origin}")


def _is_own(origin: str, request: Request) -> bool:
    """Whether an origin is the service's own, as the Host or a trusted proxy says it."""
    try:
        given = urlsplit(origin)
        if given.netloc == request.headers.get("host"):
            return True
        return is_proxied(request.scope) and _is_public(given, request)
    except ValueError:  # a port, name or address that is none
        return False


def _is_public(given: SplitResult, request: Request) -> bool:
    """Whether an origin is that under which people reach the proxy. Raises ValueError.

    A proxy may drop the port (`$host` of nginx): scheme and name must do then.
    """
    said = request.headers.get("x-forwarded-host") or request.headers.get("host") or ""
    public = urlsplit(f"//{said.partition(',')[0].strip()}")
    said_port = request.headers.get("x-forwarded-port", "").partition(",")[0].strip()
    port = public.port or (int(said_port) if said_port else None)
    return (
        (given.scheme, given.hostname) == (request.url.scheme, public.hostname)
        and given.hostname is not None
        and port in (None, given.port or DEFAULT_PORTS.get(given.scheme))
    )
