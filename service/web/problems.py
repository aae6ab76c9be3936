"""Every refusal: status, title, what to do; rendered as RFC 9457 problem+json.

    Problem
    ├── 400 MalformedBody, BadForm, BadCursor, BadHost
    ├── 401 KeyNeeded
    ├── 403 WrongOrigin
    ├── 404 NoSuchJob, NoSuchDataset, NoSuchChart, NoSuchDelivery, NoSuchPage
    ├── 405 WrongMethod
    ├── 409 WrongState, NoResultYet, NoWeights, NoSamples, NameTaken, StillInFlight
    ├── 413 BodyTooLarge
    ├── 415 WrongMediaType
    ├── 421 WrongHost
    ├── 422 Invalid, KeyReusedProblem, TooLarge
    ├── 429 QueueIsFull
    ├── 500 Unexpected
    └── 503 DatabaseAway

A class's name gives its code, its first docstring line the title, and the second paragraph what to
do.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ffengine.text import visible
from service.specs.validation_errors import FieldError, field_errors
from service.store import IdempotencyConflict, QueueFull
from service.store.database import DATABASE_ERRORS, DatabaseReplaced
from service.submission import InvalidField, KeyInFlight, RunTooLarge, SubmissionError

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2
IN_FLIGHT_RETRY_SECONDS = 1
QUEUE_RETRY_SECONDS = 30

log = logging.getLogger(__name__)


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError] = Field(default=[], description="what is wrong, and where")


class Problem(Exception):
    """Something is wrong with the request."""

    status: ClassVar[int] = 400

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail or self.title())
        self.detail = detail or self.advice()
        self.errors, self.headers, self.extra = list(errors), dict(headers or {}), extra

    @classmethod
    def code(cls) -> str:
        """The name of the kind of problem, as in /problems/CODE."""
        return re.sub(r"(?<!^)([A-Z])", r"-\1", cls.__name__.removesuffix("Problem")).lower()

    @classmethod
    def title(cls) -> str:
        """What is wrong, the same for every occurrence."""
        return " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())

    @classmethod
    def advice(cls) -> str:
        """What to do about it."""
        return " ".join((cls.__doc__ or "").strip().split("\n\n")[-1].split())

    def response(self) -> Response:
        """The answer."""
        body = {
            "type": f"/problems/{self.code()}",
            "title": self.title(),
            "status": self.status,
            "detail": self.detail,
            "code": self.code(),
        }
        document = {**body, "errors": [error.model_dump() for error in self.errors], **self.extra}
        text = json.dumps(document)  # in ASCII: a user's field name may hold what UTF-8 cannot
        return Response(text, self.status, headers=self.headers, media_type=MEDIA_TYPE)


class MalformedBody(Problem):
    """The body is not JSON.

    Send a JSON object, encoded as UTF-8.
    """


class BadForm(Problem):
    """The form cannot be read.

    Send multipart/form-data with the .npz in the field `file`, and its name in the field `name`.
    """


class BadCursor(Problem):
    """The cursor is not one of this service.

    Use the next_cursor of the page before, or none for the first page.
    """


class BadHost(Problem):
    """The Host header cannot be read.

    Send one, with the name or address of the service and its port.
    """


class KeyNeeded(Problem):
    """An API key is needed.

    Send `Authorization: Bearer KEY`; `fflab keys create NAME` on the server makes one.
    """

    status = 401


class WrongOrigin(Problem):
    """A page of another site may not do that.

    Use the service's own pages, or a program that is no browser.
    """

    status = 403


class NoSuchJob(Problem):
    """There is no such job.

    Look up the id in GET /v1/jobs.
    """

    status = 404


class NoSuchDataset(Problem):
    """There is no such data set.

    GET /v1/datasets lists them.
    """

    status = 404


class BadUpload(Problem):
    """The data set cannot be used.

    Send an .npz of x (N, ...), bytes or floats, and y (N,), integers from 0;
    numpy.savez("data.npz", x=x, y=y) writes one.
    """

    status = 422


class NameTaken(Problem):
    """The name is taken by another data set.

    A data set never changes; choose another name.
    """

    status = 409


class NoSuchChart(Problem):
    """There is no such chart for this job.

    The detail lists the charts that there are.
    """

    status = 404


class NoSuchDelivery(Problem):
    """There is no such message.

    GET /v1/jobs/{id}/webhook lists those of a job.
    """

    status = 404


class NoSuchPage(Problem):
    """There is nothing at this address.

    /openapi.json lists all routes.
    """

    status = 404


class WrongMethod(Problem):
    """The route does not know this method.

    The Allow header names those that it knows.
    """

    status = 405


class WrongState(Problem):
    """The job's state does not allow this.

    Read the job for its state.
    """

    status = 409


class NoResultYet(Problem):
    """The job has no result.

    Wait until its state is succeeded, with GET /v1/jobs/{id}?wait=60 or its events.
    """

    status = 409


class NoWeights(Problem):
    """The job has no such weights.

    A training job has them at the end of each measured epoch; GET /v1/jobs/{id}/curves lists those
    that there are.
    """

    status = 409


class NoSamples(Problem):
    """The job has no figures of single samples.

    Checks have them in result.npz, and so have the runs of a study.
    """

    status = 409


class StillInFlight(Problem):
    """The first request with this Idempotency-Key is still being worked on.

    Repeat the request in a second.
    """

    status = 409


class BodyTooLarge(Problem):
    """The body is too large.

    A spec needs a few kilobytes; the limit of uploads is the operator's, FFLAB_MAX_UPLOAD_BYTES.
    """

    status = 413


class WrongMediaType(Problem):
    """The body's media type is not understood.

    Send `Content-Type: application/json`.
    """

    status = 415


class WrongHost(Problem):
    """The service does not answer to this name.

    Ask it as localhost or 127.0.0.1; its operator lists other names in FFLAB_ALLOWED_HOSTS, or has
    API keys made, with which any will do.
    """

    status = 421


class Invalid(Problem):
    """The request is not valid.

    `errors` says what is wrong and where; GET /v1/catalog describes every field.
    """

    status = 422


class KeyReusedProblem(Problem):
    """The Idempotency-Key was used with another body.

    Use a new key for a new request.
    """

    status = 422


class TooLarge(Problem):
    """The run is too large for this service.

    Ask for less: the estimate and the limits are in this answer.
    """

    status = 422


class QueueIsFull(Problem):
    """Too many jobs wait already.

    Submit again later, or cancel some.
    """

    status = 429


class Unexpected(Problem):
    """The service failed unexpectedly.

    This is a fault of the service: its log has the trace.
    """

    status = 500


class DatabaseAway(Problem):
    """The database does not answer.

    Nothing that was accepted is lost. Repeat the request in a few seconds.
    """

    status = 503


def _all(kind: type[Problem]) -> dict[str, type[Problem]]:
    return {sub.code(): sub for sub in kind.__subclasses__()}


PROBLEMS: dict[str, type[Problem]] = _all(Problem)
BY_STATUS: dict[int, type[Problem]] = {
    404: NoSuchPage,
    405: WrongMethod,
    413: BodyTooLarge,
    415: WrongMediaType,
    422: Invalid,
}


def responses(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of a route that may answer with these problems, besides those of every
    route (service.web.openapi).
    """
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        found[kind.status] = documented(kind, found.get(kind.status))
    return found


def documented(kind: type[Problem], known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The OpenAPI response that stands for a problem, and for those that `known` stands for
    already.
    """
    description = f"{known['description']} Or: {kind.title()}" if known else kind.title()
    schema = {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


def install(app: FastAPI) -> None:
    """Let every error of the app be answered as a problem."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for refused in (SubmissionError, IdempotencyConflict, QueueFull):
        app.add_exception_handler(refused, _refused)
    for away in DATABASE_ERRORS:
        app.add_exception_handler(away, _database)
    app.add_exception_handler(Exception, _unexpected)


class BodyLimitProblemMiddleware:
    """Makes a problem document of the framework's plain answer to a body whose declared size is
    above the limit.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, and look at the answer's first message."""
        replaced = False

        async def answer(message: Message) -> None:
            nonlocal replaced
            if (
                message["type"] == "http.response.start"
                and message["status"] == BodyTooLarge.status
            ):
                replaced = Headers(raw=message["headers"]).get("content-type") != MEDIA_TYPE
            if not replaced:
                await send(message)
            elif message["type"] == "http.response.start":
                await BodyTooLarge().response()(scope, receive, send)

        await self.app(scope, receive, answer)


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - narrows the type
    return error.response()


async def _refused(_request: Request, error: Exception) -> Response:
    return not_accepted(error).response()


def not_accepted(error: Exception) -> Problem:
    """The problem of a submission that was refused."""
    match error:
        case InvalidField():
            return invalid_at(error.pointer, error.message)
        case RunTooLarge():
            return TooLarge(
                str(error),
                estimate=error.cost.model_dump(mode="json"),
                limits=error.limits.model_dump(),
            )
        case KeyInFlight():
            return StillInFlight(headers={"Retry-After": str(IN_FLIGHT_RETRY_SECONDS)})
        case IdempotencyConflict():
            return KeyReusedProblem()
        case QueueFull():
            return QueueIsFull(headers={"Retry-After": str(QUEUE_RETRY_SECONDS)})
        case _:
            raise error


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - narrows the type
    if any(found["type"] == "json_invalid" for found in error.errors()):
        return MalformedBody().response()
    return invalid(error.errors(), error.body, _fields_of_body(request)).response()


def _fields_of_body(request: Request) -> list[str]:
    """The names of the fields that the body of the request's route may have."""
    body = getattr(request.scope.get("route"), "body_field", None)
    model = body.field_info.annotation if body else None
    if not isinstance(model, type) or not issubclass(model, BaseModel):
        return []
    return list(model.model_fields)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - narrows the type
    kind = BY_STATUS.get(error.status_code, MalformedBody)
    headers = {"Allow": _allowed(request)} if kind is WrongMethod else error.headers
    return kind(headers=headers).response()


def _allowed(request: Request) -> str:
    """The methods of an address; the framework names those of one of its routes only."""
    paths: dict[str, dict[str, object]] = request.app.openapi()["paths"]
    matching = (
        known
        for path, known in paths.items()
        if re.fullmatch(re.sub(r"{[^}]+}", "[^/]+", path), request.url.path.rstrip("/"))
    )
    return ", ".join(sorted({method.upper() for known in matching for method in known}))


async def _database(_request: Request, error: Exception) -> Response:
    log.warning("the database is away: %s", str(error).splitlines()[0])
    return database_away(error).response()


def database_away(error: Exception) -> DatabaseAway:
    """The problem of one of DATABASE_ERRORS."""
    if isinstance(error, DatabaseReplaced):
        return DatabaseAway(
            "The database file was deleted or replaced while the service ran, so what it accepted "
            "would be lost. Its operator puts the file back and starts the service again."
        )
    return DatabaseAway(headers={"Retry-After": str(RETRY_SECONDS)})


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Unexpected().response()


def invalid(errors: Sequence[Any], body: object, known: Sequence[str] = ()) -> Invalid:
    """The problem of pydantic's errors about a request whose body was `body`; see field_errors."""
    found = field_errors(errors, body, known)
    first = found[0] if found else FieldError(pointer="", message="")
    return Invalid(visible(f"{first.pointer or 'body'}: {first.message}"), errors=found)


def invalid_at(pointer: str, message: str) -> Invalid:
    """The problem of one field."""
    return Invalid(
        visible(f"{pointer}: {message}"), errors=[FieldError(pointer=pointer, message=message)]
    )
