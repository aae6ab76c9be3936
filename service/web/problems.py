"""The problems that the API answers with, rendered as RFC 9457 problem+json.

    Problem
    ├── 400 MalformedBody, BadForm, BadCursor, BadHost, TwoLengths
    ├── 401 KeyNeeded
    ├── 403 WrongOrigin, KeyMayNot, NotYours
    ├── 404 NoSuchJob, NoSuchDataset, NoSuchChart, NoSuchDelivery, NoSuchShare,
    │       NoSuchPage
    ├── 405 WrongMethod
    ├── 409 WrongState, NoResultYet, NoWeights, NoSamples, NameTaken, StillInFlight,
    │       EnoughShares
    ├── 413 BodyTooLarge
    ├── 415 WrongMediaType
    ├── 416 RangeOutside
    ├── 421 WrongHost
    ├── 422 ValidationProblem, IdempotencyConflictProblem, TooLarge, BadUpload,
    │       BadWeights
    ├── 429 QueueIsFull, LimitReached, SentTooOften, TooManyGuesses
    ├── 500 InternalErrorProblem, NotDrawn
    ├── 503 DatabaseAway, RenderersAreBusy, TooManyStreams, UploadsBusy
    └── 507 NoRoom, UploadQuota, NotStored

Each class states its code, title and advice as attributes: clients compare codes, and GET
/problems/CODE shows all three.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ffengine.text import shortened, visible
from service.encoding.root_path import plainly_at
from service.host.log_limits import Rarely
from service.specs.validation_errors import MAX_REPORTED_ERRORS, FieldError, field_errors
from service.store import IdempotencyConflict, OwnerLimitReached, QueueFull
from service.store.faults import DATABASE_ERRORS, fault_of
from service.submission import InvalidField, KeyInFlight, RunTooLarge, SubmissionError

MEDIA_TYPE = "application/problem+json"
LONGEST_DETAIL = 2_000
MOST_BYTES = 65_536  # of a problem document
RETRY_SECONDS = 2
IN_FLIGHT_RETRY_SECONDS = 1
QUEUE_RETRY_SECONDS = 30

LIMITS = {
    "queued": "jobs that wait",
    "high": "unfinished jobs of high priority",
    "gpu-seconds": "seconds of GPUs in jobs that ended within a day",
    "bytes": "bytes of artifacts",
}
TO_MAKE_ROOM = (
    "Delete jobs that are not needed any more (`fflab usage --by project` says where the bytes "
    "are), or ask for a larger limit (`fflab keys limit`)."
)
AWAY = Rarely()  # many requests may find the same

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
    """A request that is answered with a problem document; the subclasses say which."""

    status: ClassVar[int] = 400
    code: ClassVar[str]  # as in /problems/CODE
    title: ClassVar[str]  # what is wrong, the same for every occurrence
    advice: ClassVar[str]  # what to do about it

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = shortened(detail or self.advice, LONGEST_DETAIL)
        self.errors, self.headers, self.extra = list(errors), dict(headers or {}), extra

    def response(self) -> Response:
        """Return the problem as an HTTP response, with as much of it as MOST_BYTES hold."""
        errors = [error.model_dump() for error in self.errors]
        text = self._written(errors, self.extra)
        while len(text) > MOST_BYTES and len(errors) > 1:
            errors = errors[: len(errors) // 2]
            text = self._written(errors, self.extra)
        if len(text) > MOST_BYTES:
            text = self._written(errors, {})
        return Response(text, self.status, headers=self.headers, media_type=MEDIA_TYPE)

    def _written(self, errors: Sequence[Mapping[str, str]], extra: Mapping[str, Any]) -> str:
        body = {
            "type": plainly_at(f"/problems/{self.code}"),
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        # ASCII: a user's field name may hold characters that UTF-8 cannot encode
        return json.dumps({**body, "errors": errors, **extra})


class MalformedBody(Problem):
    """The body is not JSON."""

    code = "malformed-body"
    title = "The body is not JSON."
    advice = "Send a JSON object, encoded as UTF-8."


class BadForm(Problem):
    """The form cannot be read."""

    code = "bad-form"
    title = "The form cannot be read."
    advice = (
        "Send multipart/form-data with the .npz in the field `file`, and its name in the field "
        "`name`."
    )


class BadCursor(Problem):
    """The cursor is not one of this service."""

    code = "bad-cursor"
    title = "The cursor is not one of this service."
    advice = "Use the next_cursor of the page before, or none for the first page."


class BadHost(Problem):
    """The Host header cannot be read."""

    code = "bad-host"
    title = "The Host header cannot be read."
    advice = "Send one, with the name or address of the service and its port."


class TwoLengths(Problem):
    """The length of the body is given in two ways.

    A proxy before the service may read another request out of it than the service does.
    """

    code = "two-lengths"
    title = "The length of the body is given in two ways."
    advice = "Send Content-Length or Transfer-Encoding, not both."


class KeyNeeded(Problem):
    """An API key is needed."""

    status = 401
    code = "key-needed"
    title = "An API key is needed."
    advice = "Send `Authorization: Bearer KEY`; `fflab keys create NAME` on the server makes one."


class WrongOrigin(Problem):
    """A page of another site may not do that."""

    status = 403
    code = "wrong-origin"
    title = "A page of another site may not do that."
    advice = "Use the service's own pages, or a program that is no browser."


class KeyMayNot(Problem):
    """The key's scope does not allow this."""

    status = 403
    code = "key-may-not"
    title = "The key's scope does not allow this."
    advice = (
        "`fflab keys create NAME --scope submit` (or admin) on the server makes one that does; "
        "`fflab keys list` shows the scopes."
    )


class NotYours(Problem):
    """It belongs to somebody else."""

    status = 403
    code = "not-yours"
    title = "It belongs to somebody else."
    advice = "Ask its owner or an administrator; what belongs to others can be read alone."


class NoSuchJob(Problem):
    """There is no such job."""

    status = 404
    code = "no-such-job"
    title = "There is no such job."
    advice = "Look up the id in the list of jobs (GET /v1/jobs)."


class NoSuchWorker(Problem):
    """No such worker is alive."""

    status = 404
    code = "no-such-worker"
    title = "No such worker is alive."
    advice = "Look up the id in the list of live workers (GET /v1/workers)."


class NoSuchDataset(Problem):
    """There is no such data set."""

    status = 404
    code = "no-such-dataset"
    title = "There is no such data set."
    advice = "GET /v1/datasets lists them."


class BadUpload(Problem):
    """The data set cannot be used."""

    status = 422
    code = "bad-upload"
    title = "The data set cannot be used."
    advice = (
        "Send an .npz of x (N, ...), bytes or floats, and y (N,), integers from 0; "
        'numpy.savez("data.npz", x=x, y=y) writes one.'
    )


class NameTaken(Problem):
    """The name is taken by another data set."""

    status = 409
    code = "name-taken"
    title = "The name is taken by another data set."
    advice = "A data set never changes; choose another name."


class DatasetInUse(Problem):
    """Unfinished jobs need the data set."""

    status = 409
    code = "dataset-in-use"
    title = "Unfinished jobs need the data set."
    advice = "Wait until they have ended, or cancel them; `jobs` has their ids."


class NotRemovable(Problem):
    """This data set cannot be removed."""

    status = 409
    code = "not-removable"
    title = "This data set cannot be removed."
    advice = "Only uploads are removed, and only those in the home of the service."


class NoSuchWeights(Problem):
    """No uploaded weights have that name."""

    status = 404
    code = "no-such-weights"
    title = "No uploaded weights have that name."
    advice = "GET /v1/weights lists them."


class BadWeights(Problem):
    """The weights cannot be used."""

    status = 422
    code = "bad-weights"
    title = "The weights cannot be used."
    advice = (
        "Send the bytes of a safetensors file or an .npz of dense layers, with ?name=NAME&data="
        "DATASET; `layer=WEIGHT,BIAS`, once for each layer, says which tensors they are."
    )


class WeightsNameTaken(Problem):
    """The name is taken by other weights."""

    status = 409
    code = "weights-name-taken"
    title = "The name is taken by other weights."
    advice = "Uploaded weights never change; choose another name."


class WeightsInUse(Problem):
    """Unfinished jobs need the weights."""

    status = 409
    code = "weights-in-use"
    title = "Unfinished jobs need the weights."
    advice = "Wait until they have ended, or cancel them; `jobs` has their ids."


class NoSuchChart(Problem):
    """There is no such chart for this job."""

    status = 404
    code = "no-such-chart"
    title = "There is no such chart for this job."
    advice = "The detail lists the charts that there are."


class NoSuchDelivery(Problem):
    """There is no such message."""

    status = 404
    code = "no-such-delivery"
    title = "There is no such message."
    advice = "GET /v1/jobs/{id}/webhook lists those of a job."


class NoSuchShare(Problem):
    """There is no such share link."""

    status = 404
    code = "no-such-share"
    title = "There is no such share link."
    advice = "It may have expired or been revoked, or its job was deleted: ask for a new one."


class NoSuchPage(Problem):
    """There is nothing at this address."""

    status = 404
    code = "no-such-page"
    title = "There is nothing at this address."
    advice = "/openapi.json lists all routes."


class WrongMethod(Problem):
    """The route does not know this method."""

    status = 405
    code = "wrong-method"
    title = "The route does not know this method."
    advice = "The Allow header names those that it knows."


class WrongState(Problem):
    """The job's state does not allow this."""

    status = 409
    code = "wrong-state"
    title = "The job's state does not allow this."
    advice = "Read the job for its state."


class NoResultYet(Problem):
    """The job has no result."""

    status = 409
    code = "no-result-yet"
    title = "The job has no result."
    advice = "Wait until its state is succeeded, with GET /v1/jobs/{id}?wait=60 or its events."


class UnreadJob(Problem):
    """The job was stored by another version of fflab, and this one cannot read its spec."""

    status = 409
    code = "unread-job"
    title = "The job was stored by another version of fflab, and this one cannot read it."
    advice = "Its state, log and stored result are shown; have the operator upgrade the service."


class NoWeights(Problem):
    """The job has no such weights."""

    status = 409
    code = "no-weights"
    title = "The job has no such weights."
    advice = (
        "A training job has them at the end of each measured epoch; GET /v1/jobs/{id}/curves lists "
        "those that there are."
    )


class NoSamples(Problem):
    """The job has no figures of single samples."""

    status = 409
    code = "no-samples"
    title = "The job has no figures of single samples."
    advice = "Checks have them in result.npz, and so have the runs of a study."


class NoRows(Problem):
    """The job's result has no rows of that kind."""

    status = 409
    code = "no-rows"
    title = "The job's result has no rows of that kind."
    advice = (
        "A check has cells, potentials and a decomposition, a training run a decomposition, "
        "accuracies and baselines; the message names the tables for papers that there are."
    )


class NoTrials(Problem):
    """The job has no runs that can be compared."""

    status = 409
    code = "no-trials"
    title = "The job has no runs that can be compared."
    advice = "Only a study has runs. They are compared by a figure that one of them has."


class StillInFlight(Problem):
    """The first request with this Idempotency-Key is still being worked on."""

    status = 409
    code = "still-in-flight"
    title = "The first request with this Idempotency-Key is still being worked on."
    advice = "Repeat the request in a second."


class BodyTooLarge(Problem):
    """The body is too large."""

    status = 413
    code = "body-too-large"
    title = "The body is too large."
    advice = (
        "A spec needs a few kilobytes, and a recorded run some 300 bytes for each row: send one "
        "with fewer rows. The operator sets the limits: FFLAB_MAX_BODY_BYTES, and for uploads "
        "FFLAB_MAX_UPLOAD_BYTES."
    )


class WrongMediaType(Problem):
    """The body's media type is not understood."""

    status = 415
    code = "wrong-media-type"
    title = "The body's media type is not understood."
    advice = "Send `Content-Type: application/json`."


class RangeOutside(Problem):
    """The file has no such bytes."""

    status = 416
    code = "range-outside"
    title = "The file has no such bytes."
    advice = "The Content-Range header has its length."


class WrongHost(Problem):
    """The service does not answer to this name."""

    status = 421
    code = "wrong-host"
    title = "The service does not answer to this name."
    advice = (
        "Ask it as localhost or 127.0.0.1; its operator lists other names in FFLAB_ALLOWED_HOSTS, "
        "or has API keys made, with which any will do."
    )


class ValidationProblem(Problem):
    """The request is not valid."""

    status = 422
    code = "invalid"
    title = "The request is not valid."
    advice = "`errors` says what is wrong and where; GET /v1/catalog describes every field."


class IdempotencyConflictProblem(Problem):
    """The Idempotency-Key was used with another body."""

    status = 422
    code = "key-reused"
    title = "The Idempotency-Key was used with another body."
    advice = "Use a new key for a new request."


class TooLarge(Problem):
    """The run is too large for this service."""

    status = 422
    code = "too-large"
    title = "The run is too large for this service."
    advice = "Ask for less: the estimate and the limits are in this answer."


class QueueIsFull(Problem):
    """Too many jobs wait already."""

    status = 429
    code = "queue-is-full"
    title = "Too many jobs wait already."
    advice = "Submit again later, or cancel some."


class LimitReached(Problem):
    """The owner of the key has as much as is allowed."""

    status = 429
    code = "limit-reached"
    title = "The owner of the key has as much as is allowed."
    advice = "Wait until some jobs have ended, or ask for a larger limit (`fflab keys limit`)."


class SentTooOften(Problem):
    """The job's messages were sent again too often."""

    status = 429
    code = "sent-too-often"
    title = "The job's messages were sent again too often."
    advice = "Wait as long as Retry-After says. What is not delivered is retried by itself."


class EnoughShares(Problem):
    """The job has as many share links as it may have."""

    status = 409
    code = "enough-shares"
    title = "The job has as many share links as it may have."
    advice = "Revoke some: GET /v1/jobs/{id}/shares lists them."


class TooManyGuesses(Problem):
    """Too many share links were tried that do not exist."""

    status = 429
    code = "too-many-guesses"
    title = "Too many share links were tried that do not exist."
    advice = "Wait as long as Retry-After says."


class InternalErrorProblem(Problem):
    """The service failed unexpectedly."""

    status = 500
    code = "unexpected"
    title = "The service failed unexpectedly."
    advice = (
        "This is a fault of the service. Whoever runs it finds the trace in the log of the API: "
        "`logs/api.log` of the home, or where the service manager keeps it."
    )


class NotDrawn(Problem):
    """The picture could not be drawn."""

    status = 500
    code = "not-drawn"
    title = "The picture could not be drawn."
    advice = (
        "Read the figures instead, as curves.csv or result.csv; the operator may allow more memory "
        "with FFLAB_RENDERER_MEMORY."
    )


class DatabaseAway(Problem):
    """The database does not answer."""

    status = 503
    code = "database-away"
    title = "The database does not answer."
    advice = "Nothing that was accepted is lost. Repeat the request in a few seconds."


class RenderersAreBusy(Problem):
    """Too many charts and reports wait to be drawn."""

    status = 503
    code = "renderers-are-busy"
    title = "Too many charts and reports wait to be drawn."
    advice = "Repeat the request in a few seconds."


class NoRoom(Problem):
    """There is no room for it on the disk."""

    status = 507
    code = "no-room"
    title = "There is no room for it on the disk."
    advice = "Delete jobs that are not needed, or have the operator make room; then send it again."


class TooManyStreams(Problem):
    """As many clients follow events as this process serves at once."""

    status = 503
    code = "too-many-streams"
    title = "Too many event streams are open."
    advice = (
        "Read the events as pages, with Accept: application/json, or the job with ?wait=. The "
        "operator may raise FFLAB_MAX_STREAMS."
    )


class NotStored(Problem):
    """The service cannot write what was sent."""

    status = 507
    code = "not-stored"
    title = "The service cannot write what was sent."
    advice = (
        "Have the operator let the service write there, or set TMPDIR where it is the folder of "
        "temporary files; then send it again."
    )


class UploadsBusy(Problem):
    """Other uploads are being checked."""

    status = 503
    code = "uploads-busy"
    title = "Other uploads are being checked."
    advice = "One is checked at a time. Send it again in half a minute."


class UploadQuota(Problem):
    """Uploads take up all the room that they may."""

    status = 507
    code = "upload-quota"
    title = "Uploads take up all the room that they may."
    advice = (
        "Delete data sets and weights that are not needed, or have the operator raise the quota."
    )


def _all(kind: type[Problem]) -> dict[str, type[Problem]]:
    return {sub.code: sub for sub in kind.__subclasses__()}


PROBLEMS: dict[str, type[Problem]] = _all(Problem)
BY_STATUS: dict[int, type[Problem]] = {
    404: NoSuchPage,
    405: WrongMethod,
    413: BodyTooLarge,
    415: WrongMediaType,
    422: ValidationProblem,
}


def responses(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of a route that may answer with these problems.

    service.web.openapi adds those that every route may answer with.
    """
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        found[kind.status] = openapi_response(kind, found.get(kind.status))
    return found


def openapi_response(kind: type[Problem], known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the OpenAPI response of a problem, merged with `known`, one of the same status."""
    description = kind.title
    if known:
        told = known["description"]
        description = told if kind.title in told else f"{told} Or: {kind.title}"
    schema = {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


def install_handlers(app: FastAPI) -> None:
    """Answer every error of the app with a problem document."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, http_error)
    for refused in (SubmissionError, IdempotencyConflict, QueueFull, OwnerLimitReached):
        app.add_exception_handler(refused, _refused)
    for away in DATABASE_ERRORS:
        app.add_exception_handler(away, _database)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


class BodyLimitProblemMiddleware:
    """Replaces the framework's plain 413 answer with a problem document."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and look at the first message of the answer."""
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
    return problem_of(error).response()


def problem_of(error: Exception) -> Problem:
    """Return the problem for a refused submission."""
    match error:
        case InvalidField():
            return field_problem(error.pointer, error.message)
        case RunTooLarge():
            return TooLarge(
                str(error),
                estimate=error.cost.model_dump(mode="json"),
                limits=error.limits.model_dump(),
            )
        case KeyInFlight():
            return StillInFlight(headers={"Retry-After": str(IN_FLIGHT_RETRY_SECONDS)})
        case IdempotencyConflict():
            return IdempotencyConflictProblem()
        case QueueFull():
            return QueueIsFull(headers={"Retry-After": str(QUEUE_RETRY_SECONDS)})
        case OwnerLimitReached():
            return limit_reached(error)
        case _:
            raise error


def limit_reached(error: OwnerLimitReached) -> LimitReached:
    """Say which limit of an owner is reached, with the figure, for people and in headers."""
    what = LIMITS[error.name]
    asked = f", and this would be {error.asked:,} more" if error.asked else ""
    left, again = max(0, error.most - error.has), math.ceil(error.again_seconds)
    advice = TO_MAKE_ROOM if error.name == "bytes" else LimitReached.advice
    return LimitReached(
        f"{error.owner} has {error.has:,} {what}{asked}; the limit is {error.most:,}. {advice}",
        headers={
            "Retry-After": str(again),
            # draft-ietf-httpapi-ratelimit-headers
            "RateLimit-Policy": f'"{error.name}";q={error.most}',
            "RateLimit": f'"{error.name}";r={left};t={again}',
        },
        limit=error.name,
        has=error.has,
        most=error.most,
    )


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - narrows the type
    return validation_problem(error.errors(), error.body).response()


async def http_error(_request: Request, error: Exception) -> Response:
    """Answer the framework's own errors with a problem document."""
    assert isinstance(error, HTTPException)  # noqa: S101 - narrows the type
    kind = BY_STATUS.get(error.status_code, MalformedBody)
    return kind(headers=error.headers).response()


async def _database(_request: Request, error: Exception) -> Response:
    reason = str(error).splitlines()[0]
    if AWAY.is_due(reason):
        log.warning("the database is away: %s", reason)
    return database_away(error).response()


def database_away(error: Exception) -> DatabaseAway:
    """Return the problem for one of DATABASE_ERRORS."""
    fault = fault_of(error)
    return DatabaseAway(fault or "", headers={} if fault else {"Retry-After": str(RETRY_SECONDS)})


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=408)  # for the log and the metrics: nobody hears it


def unexpected(request: Request, error: Exception) -> InternalErrorProblem:
    """Log what nobody foresaw, and return the problem that says so."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    # the server hangs up after an error: a client that is not told asks again on a dead connection
    return InternalErrorProblem(headers={"Connection": "close"})


async def _unexpected(request: Request, error: Exception) -> Response:
    return unexpected(request, error).response()


def validation_problem(
    errors: Sequence[Any], body: object, known: Sequence[str] = ()
) -> ValidationProblem:
    """Return the problem for pydantic's errors about a request with that body; see field_errors."""
    return validation_of(field_errors(errors, body, known))


def validation_of(errors: Sequence[FieldError]) -> ValidationProblem:
    """Return the problem for fields and parameters that are invalid.

    Its detail is the first, and says how many others there are.
    """
    first = errors[0] if errors else FieldError(pointer="", message="")
    detail = f"{first.pointer or 'body'}: {first.message}"
    if others := len(errors) - 1:
        count = f"at least {others}" if len(errors) == MAX_REPORTED_ERRORS else str(others)
        detail += f" (and {count} more, in `errors`)"
    return ValidationProblem(visible(detail), errors=errors)


def field_problem(pointer: str, message: str) -> ValidationProblem:
    """Return the problem for one invalid field."""
    return ValidationProblem(
        visible(f"{pointer}: {message}"), errors=[FieldError(pointer=pointer, message=message)]
    )
