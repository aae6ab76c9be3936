"""Every request of the client as data: what is sent, and how the answer is read.

Nothing here connects, so that both clients share it.
"""

import math
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from numbers import Integral, Real
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from ffengine.cost import Estimate
from ffengine.results import RecordedRow
from ffengine.text import STORED, shortened
from service import schemas
from service.client.errors import error_from, not_fflab, version_skew
from service.jobs import Job
from service.schemas import (
    RESULT,
    ChartList,
    CheckpointList,
    EventPage,
    JobPage,
    NewShare,
    ProjectPage,
    Result,
    RowPage,
    SearchReport,
    SharePage,
)

T = TypeVar("T")
Spec = schemas.Spec | Mapping[str, JsonValue] | str
Document = dict[str, Any]  # JSON that is not validated
Sent = str | int | float | Sequence[str]  # the value of a query parameter
QueryValue = Sent | datetime
OnSent = Callable[[int], None]
PRESET_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*", re.IGNORECASE)
SLACK_SECONDS = 30.0  # beyond the time of a long poll
DOWNLOAD_SECONDS = 120.0
ROWS_AT_ONCE = 5_000
SENT_AT_ONCE = 65_536

_DOCUMENT: TypeAdapter[Document] = TypeAdapter(Document)


@dataclass(frozen=True)
class ApiRequest(Generic[T]):
    """One request, which may be sent more than once."""

    method: str
    path: str
    read: Callable[[bytes], T]
    params: Mapping[str, Sent] = field(default_factory=dict)
    body: Mapping[str, JsonValue] | None = None
    content: "bytes | WatchedContent | None" = None  # a body other than JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float | None = None  # None: the client's own

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """Build the request for httpx."""
        timeout = (
            http.timeout if self.timeout_seconds is None else httpx.Timeout(self.timeout_seconds)
        )
        bodies = {"json": self.body} if self.content is None else {"content": self.content}
        return http.build_request(
            self.method,
            self.path,
            params=dict(self.params) or None,
            headers=dict(self.headers),
            timeout=timeout,
            **bodies,
        )

    def answer(self, url: str, response: httpx.Response) -> T:
        """Return what the response holds. Raises FflabError for anything but success."""
        if not response.is_success:
            raise error_from(url, response, keyed="Authorization" in response.request.headers)
        try:
            return self.read(response.content)
        except ValidationError as error:
            if not response.headers.get("Content-Type", "").startswith("application/json"):
                raise not_fflab(url, response) from error
            first = error.errors(include_url=False, include_input=False)[0]
            place = "/".join(map(str, first["loc"]))
            raise version_skew(
                url,
                self.path,
                f"{error.error_count()} differences, the first: {place}: {first['msg']}",
            ) from error


Facts = Mapping[str, str | float | list[str] | Mapping[str, JsonValue] | None]


def _json(fact: str | float | list[str] | Mapping[str, JsonValue] | None) -> JsonValue:
    """Return what is told of a job as JSON has it."""
    if isinstance(fact, Mapping):
        return dict(fact)
    return [*fact] if isinstance(fact, list) else fact


def submit(
    spec: Spec,
    facts: Facts,
    *,
    webhook: str | Mapping[str, JsonValue] | None,
    key: str | None,
) -> ApiRequest[Job]:
    """Submit a job, under one Idempotency-Key for all attempts.

    The service chooses the facts that are None.
    """
    body: dict[str, JsonValue] = {"spec": document_of(spec)}
    body |= {fact: _json(value) for fact, value in facts.items() if value is not None}
    if webhook is not None:
        body["webhook"] = webhook if isinstance(webhook, str) else dict(webhook)
    return ApiRequest(
        "POST", "/v1/jobs", _job, body=body, headers={"Idempotency-Key": key or uuid.uuid4().hex}
    )


class WatchedRows(Protocol):
    """What `ffengine.watch` returns, as far as it is sent."""

    @property
    def rows(self) -> Sequence[RecordedRow]:
        """What was recorded."""

    @property
    def layers(self) -> Sequence[str]:
        """The names of the layers."""


def record(
    spec: Mapping[str, object],
    rows: Sequence[BaseModel | Mapping[str, object]],
    facts: Mapping[str, object],
    *,
    key: str | None,
) -> ApiRequest[Job]:
    """Bring a run that another program computed; figures that are None or NaN are left out."""
    given: dict[str, JsonValue] = {
        "spec": {"kind": "recorded", **_told(spec, "spec")},
        "rows": [_row(row, number) for number, row in enumerate(rows)],
        **_told(facts, "facts"),
    }
    return ApiRequest(
        "POST", "/v1/runs", _job, body=given, headers={"Idempotency-Key": key or uuid.uuid4().hex}
    )


def _told(fields: Mapping[str, object], place: str) -> dict[str, JsonValue]:
    """Return the fields that are not None."""
    return {
        name: _plain(value, f"{place}.{name}")
        for name, value in fields.items()
        if value is not None
    }


def _row(row: BaseModel | Mapping[str, object], number: int) -> dict[str, JsonValue]:
    """Return a row without the figures that it does not have."""
    fields = row.model_dump(mode="json") if isinstance(row, BaseModel) else row
    known = {
        name: value
        for name, value in fields.items()
        if not (isinstance(value, Real) and math.isnan(value))
    }
    return _told(known, f"rows[{number}]")


def document_of(spec: Spec) -> dict[str, JsonValue]:
    """Return a spec as it is sent: the fields that were set, and its kind.

    A text is the name of a preset. Raises TypeError, and ValueError for a number that is none.
    """
    if isinstance(spec, str) and PRESET_NAME.fullmatch(spec):
        return {"kind": "study", "preset": spec}
    if isinstance(spec, Mapping):
        return {str(name): _plain(value, str(name)) for name, value in spec.items()}
    if isinstance(spec, schemas.Spec):
        return spec.model_dump(mode="json", exclude_unset=True)
    given = shortened(spec) if isinstance(spec, str) else type(spec).__name__
    raise TypeError(
        f"{given!r} is no spec: pass TrainSpec(...), CheckSpec(...), ForecastSpec(...) or "
        f"StudySpec(...), a dict such as {{'kind': 'train', 'epochs': 3}}, or the name of a preset "
        f"such as 'quick'"
    )


def _plain(value: object, place: str) -> JsonValue:
    """Return a value of a spec as JSON has it; numbers of NumPy and specs within it, too.

    Raises TypeError and ValueError, which name its place.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        if not math.isfinite(value):
            raise ValueError(f"the spec's field {place} is {value}, which JSON cannot hold")
        return float(value)
    if isinstance(value, BaseModel):
        dumped: JsonValue = value.model_dump(mode="json", exclude_unset=True)
        return dumped
    if isinstance(value, Mapping):
        return {str(name): _plain(one, f"{place}.{name}") for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{place}.{number}") for number, one in enumerate(value)]
    raise TypeError(
        f"the spec's field {place} is of type {type(value).__name__}, which JSON cannot hold: "
        f"give a number, a text, a list or a dict"
    )


def estimate(spec: Spec) -> ApiRequest[Estimate]:
    """Estimate what running a spec would cost."""
    return ApiRequest(
        "POST", "/v1/estimate", Estimate.model_validate_json, body={"spec": document_of(spec)}
    )


def job(job_id: str, wait_seconds: float = 0) -> ApiRequest[Job]:
    """Read a job, waiting up to `wait_seconds` for its end."""
    params = {"wait": wait_seconds} if wait_seconds else {}
    return ApiRequest(
        "GET", job_path(job_id), _job, params=params, timeout_seconds=wait_seconds + SLACK_SECONDS
    )


def jobs(filters: Mapping[str, QueryValue], cursor: str | None) -> ApiRequest[JobPage]:
    """Read a page of jobs."""
    times = {
        name: value.astimezone().isoformat() if isinstance(value, datetime) else value
        for name, value in filters.items()
    }
    params = {**times, **({"cursor": cursor} if cursor else {})}
    return ApiRequest("GET", "/v1/jobs", _page, params=params)


def job_table(
    columns: Sequence[str], filters: Mapping[str, QueryValue], cursor: str | None
) -> ApiRequest[Document]:
    """Read a page of ids of jobs, with their values in these columns."""
    whole = jobs(filters, cursor)
    params = {**whole.params, "fields": "id", "columns": ",".join(columns)}
    return ApiRequest("GET", whole.path, _DOCUMENT.validate_json, params=params)


def projects() -> ApiRequest[ProjectPage]:
    """Read all projects."""
    return ApiRequest("GET", "/v1/projects", ProjectPage.model_validate_json)


def sparse_jobs(
    fields: Sequence[str], filters: Mapping[str, QueryValue], cursor: str | None
) -> ApiRequest[Document]:
    """Read a page of jobs with these fields only, as JSON."""
    whole = jobs(filters, cursor)
    params = {**whole.params, "fields": ",".join(fields)}
    return ApiRequest("GET", whole.path, _DOCUMENT.validate_json, params=params)


def events(job_id: str, after: int) -> ApiRequest[EventPage]:
    """Read a page of the events with ids above `after`."""
    return ApiRequest(
        "GET",
        job_path(job_id, "events"),
        _events,
        params={"after": after},
        headers={"Accept": "application/json"},
    )


def act(job_id: str, action: str) -> ApiRequest[Job]:
    """Cancel, pause, resume or retry a job."""
    return ApiRequest("POST", job_path(job_id, action), _job)


def change(job_id: str, facts: Facts) -> ApiRequest[Job]:
    """Change name, tags, project, note, priority, needs or pin."""
    return ApiRequest(
        "PATCH",
        job_path(job_id),
        _job,
        body={field: _json(fact) for field, fact in facts.items()},
    )


def share(job_id: str, expires_seconds: int | None) -> ApiRequest[NewShare]:
    """Make a share link."""
    body: dict[str, JsonValue] = {"expires_seconds": expires_seconds}
    return ApiRequest("POST", job_path(job_id, "shares"), NewShare.model_validate_json, body=body)


def shares(job_id: str) -> ApiRequest[SharePage]:
    """List the share links."""
    return ApiRequest("GET", job_path(job_id, "shares"), SharePage.model_validate_json)


def revoke(job_id: str, share_id: str | None) -> ApiRequest[bytes]:
    """Revoke a share link, or all of them."""
    which = () if share_id is None else (share_id,)
    return ApiRequest("DELETE", job_path(job_id, "shares", *which), bytes)


def delete(job_id: str) -> ApiRequest[bytes]:
    """Delete a job that has ended."""
    return ApiRequest("DELETE", job_path(job_id), bytes)


def result(job_id: str) -> ApiRequest[Result]:
    """Read the typed result."""
    return ApiRequest(
        "GET", job_path(job_id, "result"), RESULT.validate_json, timeout_seconds=DOWNLOAD_SECONDS
    )


def rows(job_id: str, cursor: str | None) -> ApiRequest[RowPage]:
    """Read a page of the rows so far."""
    return ApiRequest(
        "GET",
        job_path(job_id, "curves"),
        RowPage.model_validate_json,
        params={"limit": ROWS_AT_ONCE, **({"cursor": cursor} if cursor else {})},
        timeout_seconds=DOWNLOAD_SECONDS,
    )


def trials(job_id: str, view: Mapping[str, str]) -> ApiRequest[SearchReport]:
    """Read the trials of a study and the best so far."""
    return ApiRequest(
        "GET", job_path(job_id, "search"), SearchReport.model_validate_json, params=dict(view)
    )


def charts(job_id: str) -> ApiRequest[ChartList]:
    """List the charts."""
    return ApiRequest("GET", job_path(job_id, "charts"), ChartList.model_validate_json)


def checkpoints(job_id: str) -> ApiRequest[CheckpointList]:
    """List the weights that are kept."""
    return ApiRequest("GET", job_path(job_id, "checkpoints"), CheckpointList.model_validate_json)


class WatchedContent:
    """A body that says how much of it was sent. It can be sent more than once."""

    def __init__(self, content: bytes, on_sent: OnSent) -> None:
        self._content, self._on_sent = content, on_sent

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._content), SENT_AT_ONCE):
            yield self._content[start : start + SENT_AT_ONCE]
            self._on_sent(min(start + SENT_AT_ONCE, len(self._content)))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def upload(
    name: str, archive: bytes, meaning: str, on_sent: OnSent | None = None
) -> ApiRequest[Document]:
    """Upload a data set. `on_sent` is told how many bytes were sent so far."""
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(archive))}
    params = {"name": name, **({"meaning": meaning} if meaning else {})}
    return ApiRequest(
        "POST",
        "/v1/datasets",
        _DOCUMENT.validate_json,
        params,
        content=WatchedContent(archive, on_sent) if on_sent else archive,
        headers=headers,
        timeout_seconds=DOWNLOAD_SECONDS,
    )


def upload_weights(
    name: str, file: bytes, options: Mapping[str, object], on_sent: OnSent | None = None
) -> ApiRequest[Document]:
    """Upload a network. `options` are the parameters of the address; None is left out."""
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(file))}
    given = {key: _query(value) for key, value in options.items() if value not in (None, (), "")}
    return ApiRequest(
        "POST",
        "/v1/weights",
        _DOCUMENT.validate_json,
        {"name": name, **given},
        content=WatchedContent(file, on_sent) if on_sent else file,
        headers=headers,
        timeout_seconds=DOWNLOAD_SECONDS,
    )


def _query(value: object) -> Sent:
    """Return a value as the address has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return [str(one) for one in value] if isinstance(value, list | tuple) else str(value)


def delete_weights(name: str) -> ApiRequest[bytes]:
    """Remove uploaded weights."""
    return ApiRequest("DELETE", f"/v1/weights/{quote(name, safe='')}", bytes)


def delete_dataset(name: str) -> ApiRequest[bytes]:
    """Remove an uploaded data set."""
    return ApiRequest("DELETE", f"/v1/datasets/{quote(name, safe='')}", bytes)


def download(job_id: str, what: str, params: Mapping[str, Sent] | None = None) -> ApiRequest[bytes]:
    """Download a file of a job."""
    return ApiRequest(
        "GET",
        f"{job_path(job_id)}/{what}",
        bytes,
        params=params or {},
        timeout_seconds=DOWNLOAD_SECONDS,
    )


def look(title: str | None, width_mm: float | None, font_pt: float | None) -> dict[str, Sent]:
    """Return the query that says how a chart is drawn."""
    asked = {"title": title, "width_mm": width_mm, "font_pt": font_pt}
    return {name: value for name, value in asked.items() if value is not None}


def drain_worker(worker_id: str, *, undo: bool) -> ApiRequest[Document]:
    """Let a worker take no more jobs, or take some again."""
    path = f"/v1/workers/{quote(worker_id, safe='')}/{'undrain' if undo else 'drain'}"
    return ApiRequest("POST", path, _DOCUMENT.validate_json)


def document(path: str) -> ApiRequest[Document]:
    """Read any JSON object of the service."""
    return ApiRequest("GET", path, _DOCUMENT.validate_json)


def job_path(job_id: str, *more: str) -> str:
    """Return the path of a job or of something below it; the id is quoted."""
    return "/v1/jobs/" + "/".join(quote(part, safe="") for part in (job_id, *more))


def _job(content: bytes) -> Job:
    return Job.model_validate_json(content, context=STORED)


def _events(content: bytes) -> EventPage:
    return EventPage.model_validate_json(content, context=STORED)


def _page(content: bytes) -> JobPage:
    return JobPage.model_validate_json(content, context=STORED)
