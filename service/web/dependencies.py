"""What a request can reach: the resources of the app, made in its lifespan and handed to routes by
dependency.
"""

import re
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from service.artifacts import JOB_ID, Artifacts
from service.background.dispatcher import Dispatcher
from service.background.reconciler import Reconciler
from service.background.webhooks import WebhookSender
from service.jobs import TERMINAL, Job
from service.settings import Settings
from service.store import Store
from service.submission import Submissions
from service.web import problems
from service.web.auth import Authenticator
from service.web.event_feed import EventFeed

KEY_COOKIE = "fflab_key"  # of a browser that has signed in
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
    """The resources of one API process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.database)
        self.artifacts = Artifacts(settings.artifacts)
        self.submissions = Submissions(self.store.jobs, settings)
        self.authenticator = Authenticator(self.store.api_keys, settings)
        self.tail = EventFeed(self.store.events)
        self.dispatcher = (
            Dispatcher(settings.redis_url.get_secret_value()) if settings.redis_url else None
        )
        self.reconciler = Reconciler(self.store, settings, self.dispatcher)
        self.webhook_sender = WebhookSender(self.store.deliveries, settings)

    async def open(self) -> None:
        """Begin the background work."""
        await run_in_threadpool(self.store.migrate)
        self.tail.start()
        self.reconciler.start()
        self.webhook_sender.start()

    async def close(self) -> None:
        """End the background work and close connections."""
        await self.tail.stop()
        await run_in_threadpool(self.reconciler.stop)
        await run_in_threadpool(self.webhook_sender.stop)
        if self.dispatcher:
            self.dispatcher.close()
        self.store.close()

    def job(self, job_id: str) -> Job:
        """The job of a request. Raises NoSuchJob."""
        return self.get_with_version(job_id)[0]

    def get_with_version(self, job_id: str) -> tuple[Job, int]:
        """The same with its version. Raises NoSuchJob."""
        found = self.store.jobs.get_with_version(checked(job_id))
        if found is None:
            raise problems.NoSuchJob
        return found

    def finished(self, job_id: str) -> "JobWithResult":
        """A job and its result. Raises NoSuchJob and NoResultYet."""
        job, version = self.get_with_version(job_id)
        document = self.store.jobs.result(job_id)
        if document is None and job.kind == "study" and job.state in TERMINAL:
            document = self.store.studies.result(
                job_id
            ).model_dump_json()  # failed or cancelled: the runs as far as they came
        if document is None:
            why = f": {job.error.detail}" if job.error else ""
            raise problems.NoResultYet(
                f"{job_id} is {job.state.value} and has no result{why}", state=job.state.value
            )
        return JobWithResult(job, version, document)


class JobWithResult(NamedTuple):
    """A job, the version of it, and the JSON text of its result."""

    job: Job
    version: int
    document: str


def checked(job_id: str) -> str:
    """The id, if it can be one.

    Raises NoSuchJob: nothing else is looked up in the database or on the disk.
    """
    if not is_job_id(job_id):
        raise problems.NoSuchJob
    return job_id


def is_job_id(text: str) -> bool:
    """Whether the text has the form of a job's id."""
    return JOB_ID.fullmatch(text) is not None


async def json_only(request: Request) -> None:
    """Raise WrongMediaType for a body that does not say that it is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not re.fullmatch(r"application/[^/]+\+json", kind):
        raise problems.WrongMediaType


async def state_of(request: Request) -> Resources:
    """The app's resources."""
    state: Resources = request.app.state.resources
    return state


InState = Annotated[Resources, Depends(state_of)]


async def owner_of(
    request: Request,
    state: InState,
    _bearer: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)] = None,
    x_api_key: Annotated[str | None, Security(API_KEY)] = None,
) -> str:
    """Whose request it is: a browser's key comes as a cookie.

    Raises KeyNeeded, and WrongOrigin for a change that another site asks for.
    """
    if request.method not in READING:
        refuse_other_sites(request)
    if state.authenticator.is_stale:  # seldom: most requests are not to wait for a thread
        await run_in_threadpool(state.authenticator.refresh)
    return state.authenticator.owner(
        request.headers.get("authorization"), x_api_key or request.cookies.get(KEY_COOKIE)
    )


def refuse_other_sites(request: Request) -> None:
    """Raise WrongOrigin where a page of another site makes a browser send this request: it acts
    with the rights of who looks at it.
    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    ours = origin is None or _place_of(origin) == request.headers.get("host")
    if site is not None:  # the browser's own word; behind a proxy the host may be another
        ours = site in ("same-origin", "none")
    if not ours:
        raise problems.WrongOrigin(f"the request comes from a page of {origin or 'another site'}")


def _place_of(origin: str) -> str | None:
    """Host and port of an origin; None where it cannot be read."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


Owner = Annotated[str, Depends(owner_of)]
