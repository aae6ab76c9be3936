"""The resources of the app, and the dependencies through which routes get them."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from service.artifacts import Artifacts
from service.background.dispatcher import Dispatcher
from service.background.reconciler import Reconciler
from service.background.webhooks import WebhookSender
from service.host.limits import stream_limit
from service.settings import Settings
from service.store import Store
from service.submission import Submissions
from service.web import problems
from service.web.auth import Authenticator
from service.web.event_feed import EventFeed
from service.web.metrics import Metrics

KEY_COOKIE = "fflab_key"  # holds the key in browsers
BEARER = HTTPBearer(
    scheme_name="bearer",
    description="`Authorization: Bearer KEY`. Needed as soon as the service has a key.",
    auto_error=False,
)
API_KEY = APIKeyHeader(
    scheme_name="key",
    name="X-API-Key",
    description="The same key, in a header of its own.",
    auto_error=False,
)
READING = ("GET", "HEAD", "OPTIONS")


class Resources:
    """Everything that one API process holds open."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.database, settings.datasets)
        self.artifacts = Artifacts(settings.artifacts)
        self.submissions = Submissions(self.store.jobs, settings)
        self.authenticator = Authenticator(self.store.api_keys, settings)
        self.event_feed = EventFeed(self.store.events, stream_limit(settings.max_streams))
        self.dispatcher = (
            Dispatcher(settings.redis_url.get_secret_value()) if settings.redis_url else None
        )
        self.reconciler = Reconciler(self.store, settings, self.dispatcher)
        self.webhook_sender = WebhookSender(self.store.deliveries, settings)
        self.metrics = Metrics(
            self.store,
            broker_up=lambda: self.reconciler.broker_ok,
            event_clients=lambda: self.event_feed.waiting,
        )

    async def open(self) -> None:
        """Upgrade the schema and start the background work."""
        await run_in_threadpool(self.store.migrate)
        await run_in_threadpool(self.metrics.start)
        self.event_feed.start()
        self.reconciler.start()
        self.webhook_sender.start()

    async def close(self) -> None:
        """Stop the background work and close the connections."""
        await self.event_feed.stop()
        await run_in_threadpool(self.reconciler.stop)
        await run_in_threadpool(self.webhook_sender.stop)
        if self.dispatcher:
            self.dispatcher.close()
        self.store.close()


async def require_json(request: Request) -> None:
    """Raise WrongMediaType unless the body is declared as JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not re.fullmatch(r"application/[^/]+\+json", kind):
        raise problems.WrongMediaType


async def get_resources(request: Request) -> Resources:
    """Return the app's resources."""
    resources: Resources = request.app.state.resources
    return resources


ResourcesDep = Annotated[Resources, Depends(get_resources)]


async def get_store(resources: ResourcesDep) -> Store:
    """Return the app's store."""
    return resources.store


async def get_artifacts(resources: ResourcesDep) -> Artifacts:
    """Return the app's artifacts."""
    return resources.artifacts


async def get_settings(resources: ResourcesDep) -> Settings:
    """Return the app's settings."""
    return resources.settings


async def get_authenticator(resources: ResourcesDep) -> Authenticator:
    """Return the app's authenticator."""
    return resources.authenticator


StoreDep = Annotated[Store, Depends(get_store)]
ArtifactsDep = Annotated[Artifacts, Depends(get_artifacts)]
SettingsDep = Annotated[Settings, Depends(get_settings)]
AuthenticatorDep = Annotated[Authenticator, Depends(get_authenticator)]


async def get_owner(
    request: Request,
    authenticator: AuthenticatorDep,
    _bearer: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)] = None,
    x_api_key: Annotated[str | None, Security(API_KEY)] = None,
) -> str:
    """Return the id of the request's key, from a header or the browser's cookie.

    Raises KeyNeeded, and WrongOrigin for a change that another site asks for.
    """
    if request.method not in READING:
        refuse_cross_site(request)
    if authenticator.is_stale:  # rarely, so that most requests need no thread
        await run_in_threadpool(authenticator.refresh)
    return authenticator.owner(
        request.headers.get("authorization"), x_api_key or request.cookies.get(KEY_COOKIE)
    )


def refuse_cross_site(request: Request) -> None:
    """Raise WrongOrigin for a request that a page of another site makes a browser send.

    Such a request would act with the rights of the browser's user.
    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    ours = origin is None or _netloc_of(origin) == request.headers.get("host")
    if site is not None:  # more reliable than Origin: behind a proxy the Host may differ
        ours = site in ("same-origin", "none")
    if not ours:
        raise problems.WrongOrigin(f"the request comes from a page of {origin or 'another site'}")


def _netloc_of(origin: str) -> str | None:
    """Return host and port of an origin; None for one that cannot be parsed."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


Owner = Annotated[str, Depends(get_owner)]
