"""The resources of the app, and the dependencies through which routes get them."""

import asyncio
import difflib
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, get_args, get_origin

from fastapi import Depends, Request, Security
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, ImmutableMultiDict

from service.artifacts import Artifacts
from service.background.disk_usage import DiskUsage
from service.background.dispatcher import Dispatcher
from service.background.reconciler import Reconciler
from service.background.shared_uploads import SharedUploads, UploadKeeper
from service.background.webhooks import WebhookSender
from service.encoding.log_format import add_fields
from service.encoding.viewer import VIEWER, Scope, Viewer
from service.host.disk import free_bytes
from service.host.limits import stream_limit
from service.settings import Settings
from service.specs.suggestions import LONGEST_NAME, NEAR
from service.specs.validation_errors import MAX_REPORTED_ERRORS, FieldError
from service.store import Store
from service.store.identity import prepare, settle
from service.submission import Submissions
from service.web import problems
from service.web.auth import Authenticator, cookie_name
from service.web.cross_origin import is_allowed, is_from_elsewhere, refuse_cross_site
from service.web.drawing.pictures import Pictures
from service.web.drawing.pool import RendererPool
from service.web.drawing.protocol import Setup
from service.web.event_feed import EventFeed
from service.web.metrics import Metrics
from service.web.rate_limit import RateLimit

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
REDELIVERIES = 5  # of one job's messages to its webhook, within a minute
MINUTE_SECONDS = 60.0
READING = ("GET", "HEAD", "OPTIONS")
ONLY_READ = ("/v1/estimate", "/spec.yaml", "/spec.json", "/onset.html")  # POST that changes nothing
ONCE_ONLY = frozenset(
    {"authorization", "x-api-key", "idempotency-key", "last-event-id", "range", "if-range"}
)
GIVEN_TWICE = "is given more than once; it takes one value"
SHARE = "fflab.share"  # in the scope: the link by which a request is let in
NOBODY = "\0share"  # no key has this name


class Resources:
    """Everything that one API process holds open."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.database, settings.datasets)
        self.artifacts = Artifacts(settings.artifact_place)
        self.uploads = SharedUploads(self.store, self.artifacts, settings)
        self.upload_keeper = UploadKeeper(self.uploads)
        self.submissions = Submissions(self.store.jobs, settings)
        self.upload_turn = asyncio.Semaphore(1)  # one upload is checked at a time: it takes memory
        self.redeliveries = RateLimit(REDELIVERIES, MINUTE_SECONDS)
        self.authenticator = Authenticator(self.store.api_keys, settings)
        self.event_feed = EventFeed(self.store.events, stream_limit(settings.max_streams))
        self.dispatcher = (
            Dispatcher(settings.redis_url.get_secret_value()) if settings.redis_url else None
        )
        self.reconciler = Reconciler(self.store, settings, self.dispatcher)
        self.webhook_sender = WebhookSender(self.store.deliveries, settings)
        self.pictures = Pictures(RendererPool(Setup.of(settings)))
        self.disk_usage = DiskUsage(self.store, settings)
        self.metrics = Metrics(
            self.store,
            broker_up=lambda: self.reconciler.broker_ok,
            event_clients=lambda: self.event_feed.waiting,
            disk=lambda: (free_bytes(settings.artifact_disk), settings.disk_reserve),
            disk_usage=lambda: self.disk_usage.bytes,
        )

    async def open(self) -> None:
        """Upgrade the schema and start the background work.

        Raises NotOurs where the artifacts may belong to another database.
        """
        await run_in_threadpool(prepare, self.store, self.artifacts)
        await run_in_threadpool(settle, self.store, self.artifacts)
        service_id = await run_in_threadpool(self.store.database.service_id)
        self.authenticator.cookie = cookie_name(service_id or "")
        await run_in_threadpool(self.metrics.start)
        self.event_feed.start()
        self.reconciler.start()
        self.upload_keeper.start()
        self.webhook_sender.start()
        self.disk_usage.start()

    async def close(self) -> None:
        """Stop the background work and close the connections."""
        await self.event_feed.stop()
        await run_in_threadpool(self.reconciler.stop)
        await run_in_threadpool(self.upload_keeper.stop)
        await run_in_threadpool(self.webhook_sender.stop)
        await run_in_threadpool(self.pictures.close)
        await run_in_threadpool(self.disk_usage.stop)
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


async def get_uploads(resources: ResourcesDep) -> SharedUploads:
    """Return the uploads that all machines of the service share."""
    return resources.uploads


UploadsDep = Annotated[SharedUploads, Depends(get_uploads)]
SettingsDep = Annotated[Settings, Depends(get_settings)]
AuthenticatorDep = Annotated[Authenticator, Depends(get_authenticator)]


async def get_owner(
    request: Request,
    authenticator: AuthenticatorDep,
    settings: SettingsDep,
    _bearer: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)] = None,
    x_api_key: Annotated[str | None, Security(API_KEY)] = None,
) -> str:
    """Return the id of the request's key, from a header or the browser's cookie.

    A request with a share link needs no key: the link's middleware has let it in, to read. Raises
    KeyNeeded, and WrongOrigin for a change that another site asks for.
    """
    address = request.client.host if request.client else None
    if SHARE in request.scope:
        VIEWER.set(Viewer(NOBODY, "read", address, request.scope[SHARE].job_id))
        return NOBODY
    if authenticator.is_stale:  # rarely, so that most requests need no thread
        await run_in_threadpool(authenticator.refresh)
    origin = request.headers.get("origin")
    shared = is_from_elsewhere(request) and is_allowed(origin, settings)
    if request.method not in READING and not (
        # where any origin may read, only a key in a header tells who means the change
        shared and (origin in settings.origins or authenticator.needs_keys)
    ):
        refuse_cross_site(request)
    cookie = None if shared else request.cookies.get(authenticator.cookie)
    owner = authenticator.owner(request.headers.get("authorization"), x_api_key or cookie)
    viewer = authenticator.viewer(owner, address)
    VIEWER.set(viewer)
    add_fields(key=viewer.name)
    if not authenticator.is_noted(owner):  # once a minute
        await run_in_threadpool(authenticator.note_use, owner)
    if request.method not in READING and not _only_reads(request):
        require_scope(viewer, "submit")
    return owner


def _only_reads(request: Request) -> bool:
    """Whether a request changes nothing, although its method may."""
    return request.url.path.removesuffix("/").endswith(ONLY_READ)


def require_scope(viewer: Viewer, scope: Scope) -> None:
    """Raise KeyMayNot where the viewer's key does not have a scope."""
    if not viewer.has(scope):
        raise problems.KeyMayNot(
            f"The key of {viewer.name} has the scope {viewer.scope}; this needs {scope}. "
            f"{problems.KeyMayNot.advice}",
            scope=viewer.scope,
            needs=scope,
        )


async def require_admin(_owner: Annotated[str, Depends(get_owner)]) -> None:
    """Raise KeyMayNot unless the request is an administrator's, or no key is needed."""
    require_scope(VIEWER.get(), "admin")


async def require_key_for_metrics(
    request: Request,
    authenticator: AuthenticatorDep,
    settings: SettingsDep,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)] = None,
    x_api_key: Annotated[str | None, Security(API_KEY)] = None,
) -> None:
    """Raise KeyNeeded where keys are needed and the operator has not opened the metrics."""
    if not settings.open_metrics:
        await get_owner(request, authenticator, settings, bearer, x_api_key)


async def refuse_unknown_parameters(request: Request) -> None:
    """Raise ValidationProblem for query parameters that the route does not know, or takes once.

    A misspelt filter would otherwise list everything, and of two values the last would be taken.
    """
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    known = _parameters_of(route)
    given = request.query_params
    _refuse(_wrong(given, known, "parameter"), "query/")


async def refuse_repeated_headers(request: Request) -> None:
    """Raise ValidationProblem for a header that says one thing and is there twice.

    Of two keys of a request one would be taken, and the sender may mean the other one.
    """
    names = [name.decode("latin-1") for name, _ in request.headers.raw]
    repeated = {name for name in names if name in ONCE_ONLY and names.count(name) > 1}
    _refuse(dict.fromkeys(sorted(repeated), GIVEN_TWICE), "header/")


def refuse_unknown_fields(form: FormData, known: Sequence[str]) -> None:
    """Raise ValidationProblem for fields of a form that are not known, or that are there twice."""
    _refuse(_wrong(form, dict.fromkeys(known, False), "field"), "/")


def _wrong(
    given: ImmutableMultiDict[str, Any], known: Mapping[str, bool], what: str
) -> dict[str, str]:
    """Return what is wrong with each name that is not known, or that is given too often."""
    wrong = {name: _unknown(name, tuple(known), what) for name in given if name not in known}
    for name, takes_several in known.items():
        if not takes_several and len(given.getlist(name)) > 1:
            wrong[name] = GIVEN_TWICE
    return wrong


def _refuse(wrong: Mapping[str, str], place: str) -> None:
    errors = [
        FieldError(pointer=f"{place}{name[:LONGEST_NAME]}", message=message)
        for name, message in islice(wrong.items(), MAX_REPORTED_ERRORS)
    ]
    if errors:
        raise problems.validation_of(errors)


def _parameters_of(route: APIRoute) -> dict[str, bool]:
    """Return the names of a route's query parameters, and whether each takes several values."""
    return {
        field.alias: any(get_origin(one) is list for one in (declared, *get_args(declared)))
        for field in get_flat_params(route.dependant)
        if isinstance(field.field_info, Query)
        for declared in [field.field_info.annotation]
    }


def _unknown(name: str, known: Sequence[str], what: str) -> str:
    if not known:
        return f"is not a known {what}; this address takes none"
    near = difflib.get_close_matches(name[:LONGEST_NAME], known, n=1, cutoff=NEAR)
    return f"is not a known {what}; " + (
        f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    )


Owner = Annotated[str, Depends(get_owner)]
