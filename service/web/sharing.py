"""Share links: /shared/SECRET shows one job to whoever has the address, and nothing else.

What follows the secret is a path of this service, of which a few may be read. The request goes on
to the route of that path, with addresses in its answer below the link.
"""

import hashlib
import hmac
import math
import re
import secrets
from datetime import UTC, datetime

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.artifacts import JOB_ID
from service.encoding.root_path import SHARED, at
from service.schemas import Share
from service.store import Store, StoredShare
from service.store.database import DATABASE_ERRORS
from service.web import problems
from service.web.dependencies import SHARE
from service.web.rate_limit import RateLimit

PREFIX = "/shared/"
SECRET_BYTES = 32
SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
READING = ("GET", "HEAD")
WRONG_GUESSES, MINUTE_SECONDS = 30, 60.0  # of one sender
_ID = f"(?P<job>{JOB_ID.pattern})"
_FILES = (
    r"result(\.csv|\.npz|\.tex)?|curves(\.csv|\.parquet)?|charts|chart/[a-z0-9_]+\.[a-z]+|report\.html|"
    r"methods\.(txt|md|tex)|references\.bib|paper\.zip"
)
ALLOWED = re.compile(rf"/jobs/{_ID}|/v1/jobs/{_ID.replace('job>', 'of>')}/({_FILES})")
HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
    "Cache-Control": "private, no-store",
}


def new_secret() -> str:
    """Return the secret of a new link: 256 random bits."""
    return secrets.token_urlsafe(SECRET_BYTES)


def digest_of(secret: str) -> str:
    """Return the stored form of a secret."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def find_share(store: Store, secret: str) -> StoredShare | None:
    """Return the valid link with a secret.

    The database is asked for a hash, so that how long it takes tells nothing of a secret.
    """
    return store.shares.find(digest_of(secret)) if SECRET.fullmatch(secret) else None


def share_of(stored: StoredShare) -> Share:
    """A stored link as the API shows it."""
    return Share(
        id=stored.id,
        job=stored.job_id,
        created_at=datetime.fromtimestamp(stored.created_at, UTC),
        created_by=stored.created_by,
        expires_at=None
        if stored.expires_at is None
        else datetime.fromtimestamp(stored.expires_at, UTC),
    )


class SharesMiddleware:
    """Lets requests with a share link read the job that it is of."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._guesses = RateLimit(WRONG_GUESSES, MINUTE_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, as one for the path behind the link."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self.app(scope, receive, send)
            return
        secret, _, rest = scope["path"].removeprefix(PREFIX).partition("/")
        # from here on, no log and no metric sees the secret
        scope["path"], scope["raw_path"] = "/shared", b"/shared"
        token = SHARED.set(f"{PREFIX}{secret}" if SECRET.fullmatch(secret) else "/shared")
        try:
            await self._answer(scope, receive, _with_headers(send), secret, f"/{rest}")
        finally:
            SHARED.reset(token)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, secret: str, path: str
    ) -> None:
        try:
            share = await self._checked(scope, secret)
            target = await run_in_threadpool(_target, _store(scope), share, path)
            if scope["method"] not in READING:
                raise problems.WrongMethod(headers={"Allow": ", ".join(READING)})
        except problems.Problem as problem:
            await _shown(scope, problem)(scope, receive, send)
            return
        except DATABASE_ERRORS as error:
            await _shown(scope, problems.database_away(error))(scope, receive, send)
            return
        scope["path"], scope["raw_path"] = target, target.encode()
        scope[SHARE] = share
        await self.app(scope, receive, send)

    async def _checked(self, scope: Scope, secret: str) -> StoredShare:
        """Return the link. Raises NoSuchShare, and TooManyGuesses for who has tried too many."""
        share = await run_in_threadpool(find_share, _store(scope), secret)
        if share is not None:
            return share
        sender = (scope.get("client") or ("",))[0]
        if wait := self._guesses.wait_seconds(sender):
            raise problems.TooManyGuesses(headers={"Retry-After": str(math.ceil(wait))})
        raise problems.NoSuchShare


def _store(scope: Scope) -> Store:
    store: Store = scope["app"].state.resources.store
    return store


def _target(store: Store, share: StoredShare, path: str) -> str:
    """Return the path that a link leads to. Raises NoSuchPage for what it does not show."""
    if path == "/":
        return f"/jobs/{share.job_id}"
    found = ALLOWED.fullmatch(path)
    wanted = found and (found["job"] or found["of"])
    if not wanted or not (
        hmac.compare_digest(wanted, share.job_id) or store.shares.is_run_of(wanted, share.job_id)
    ):
        raise problems.NoSuchPage("This link shows one job, and nothing else.")
    return path


def _shown(scope: Scope, problem: problems.Problem) -> Response:
    """Return a problem as a page for browsers, and as a document for others."""
    from service.web.dashboard.templating import render_page

    request = Request(scope)
    if "text/html" not in request.headers.get("accept", ""):
        return problem.response()
    page = render_page(
        "problem",
        request,
        problem.status,
        problem={"title": problem.title, "detail": problem.detail},
    )
    page.headers.update(problem.headers or {})
    return page


def _with_headers(send: Send) -> Send:
    """Let no answer tell other sites or search engines of the link."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return answer


def address_of(secret: str, base: str) -> str:
    """Return the whole address of a link, below the address of the service."""
    return f"{base}{PREFIX}{secret}"


def base_address(request: Request, public_url: str | None) -> str:
    """Return the address of the service as its users see it."""
    return public_url or str(request.base_url).rstrip("/") + at("")
