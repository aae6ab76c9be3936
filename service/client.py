"""The Python client: submit a spec, wait, read typed results. Needs no torch."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
from pydantic import BaseModel, JsonValue, TypeAdapter

from ffengine.cost import Estimate
from ffengine.results import AnyResult, CheckResult, StudyResult, TrainResult
from ffengine.spec import ELSEWHERE, CheckSpec, StudySpec, TrainSpec
from service.jobs import TERMINAL, Event, Job, JobState

RETRIED_STATUS = frozenset({429, 502, 503, 504})
ATTEMPTS = 6
LONGEST_WAIT_SECONDS = 30  # of one long poll; the server allows 60
FIRST_PAUSE_SECONDS = 0.2

Result = TrainResult | CheckResult | StudyResult
_RESULT: TypeAdapter[Result] = TypeAdapter(AnyResult)


# The exceptions, each with a message of one line: what, where, what to do.
#
#   FflabError
#   ├── Unreachable        no answer from the service
#   ├── Refused            the service answered with a problem
#   │   └── NotFound
#   └── JobFailed          the job that was waited for did not succeed


class FflabError(Exception):
    """Something went wrong between this client and the service."""


class Unreachable(FflabError):  # noqa: N818
    """The service did not answer."""


class Refused(FflabError):  # noqa: N818
    """The service answered with a problem (RFC 9457); `status` and `problem` hold it."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status, self.problem = status, problem
        places = [f"{error.get('pointer', '')}: {error.get('message', '')}" for error in problem.get("errors", [])]
        title, detail = str(problem.get("title") or f"HTTP {status}"), str(problem.get("detail") or "")
        super().__init__("; ".join(places) or f"{title} {detail}".strip())


class NotFound(Refused):
    """There is no such job."""


class JobFailed(FflabError):  # noqa: N818
    """The job ended without success; `job` is its last state."""

    def __init__(self, job: Job) -> None:
        self.job = job
        reason = f"{job.error.title}: {job.error.detail}" if job.error else "no reason was given"
        super().__init__(f"{job.id} {job.state.value}" + (f": {reason}" if job.state == JobState.failed else ""))


class Client:
    """A connection to one fflab service.

        job = Client("http://127.0.0.1:8000").submit(TrainSpec(epochs=3)).wait()
        job.result.curves

    Requests are repeated with growing pauses while the service is away; submits carry an Idempotency-Key, so that a
    repeated one makes no second job.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8000", api_key: str | None = None, *, timeout_seconds: float = 30.0, attempts: int = ATTEMPTS
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.url = url.rstrip("/")
        self.attempts = attempts
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_seconds)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(
        self,
        spec: TrainSpec | CheckSpec | StudySpec | Mapping[str, JsonValue],
        *,
        name: str | None = None,
        tags: list[str] | None = None,
        priority: str = "normal",
        fresh: bool = False,
        timeout_seconds: float | None = None,
        pinned: bool = False,
        webhook: str | Mapping[str, JsonValue] | None = None,
        key: str | None = None,
    ) -> "JobHandle":
        """Submit a spec. `fresh` runs it even where an identical one has succeeded; `key` is the Idempotency-Key.

        `timeout_seconds` limits how long it runs, `pinned` keeps it from the retention, `webhook` is told when it ends.
        """
        document = spec.model_dump(mode="json", exclude_unset=True) if isinstance(spec, BaseModel) else dict(spec)
        if isinstance(spec, TrainSpec | CheckSpec | StudySpec):
            document["kind"] = spec.kind
        body: dict[str, Any] = {"spec": document, "name": name, "tags": tags or [], "priority": priority, "fresh": fresh}
        more = {"timeout_seconds": timeout_seconds, "pinned": pinned or None, "webhook": webhook}
        body |= {field: value for field, value in more.items() if value is not None}
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        response = self._request("POST", "/v1/jobs", json=body, headers=headers)
        return JobHandle(self, Job.model_validate_json(response.content, context=ELSEWHERE))

    def estimate(self, spec: Mapping[str, JsonValue]) -> Estimate:
        """What running a spec would cost."""
        return Estimate.model_validate_json(self._request("POST", "/v1/estimate", json={"spec": dict(spec)}).content)

    def job(self, job_id: str) -> "JobHandle":
        """The handle of a job; NotFound where there is none."""
        return JobHandle(self, self.read(job_id))

    def read(self, job_id: str, *, wait_seconds: int = 0) -> Job:
        """The job as it is now, or within `wait_seconds` (at most 60) when it ends."""
        params = {"wait": wait_seconds} if wait_seconds else {}
        response = self._request("GET", f"/v1/jobs/{job_id}", params=params, timeout=wait_seconds + 30)
        return Job.model_validate_json(response.content, context=ELSEWHERE)

    def jobs(self, **filters: str | int) -> Iterator[Job]:
        """Jobs, newest first, page after page; filters are those of GET /v1/jobs."""
        cursor: dict[str, str] = {}
        while True:
            page = self._request("GET", "/v1/jobs", params={**filters, **cursor}).json()
            yield from (Job.model_validate(item, context=ELSEWHERE) for item in page["items"])
            if not page.get("next_cursor"):
                return
            cursor = {"cursor": page["next_cursor"]}

    def act(self, job_id: str, action: str) -> Job:
        """cancel, pause, resume or retry a job."""
        return Job.model_validate_json(self._request("POST", f"/v1/jobs/{job_id}/{action}").content, context=ELSEWHERE)

    def change(self, job_id: str, facts: Mapping[str, str | list[str] | bool]) -> Job:
        """Change name, tags, priority or pinned of a job."""
        return Job.model_validate_json(self._request("PATCH", f"/v1/jobs/{job_id}", json=dict(facts)).content, context=ELSEWHERE)

    def delete(self, job_id: str) -> None:
        """Delete a job that has ended."""
        self._request("DELETE", f"/v1/jobs/{job_id}")

    def result(self, job_id: str) -> Result:
        """The typed result of a job that has succeeded; Refused (409) while there is none."""
        return _RESULT.validate_json(self._request("GET", f"/v1/jobs/{job_id}/result").content)

    def download(self, job_id: str, what: str) -> bytes:
        """The bytes of "result", "result.csv", "result.npz", "report.html", "weights.safetensors", "log" or "chart/NAME.FORMAT"."""
        return self._request("GET", f"/v1/jobs/{job_id}/{what}", timeout=120).content

    def get(self, path: str) -> dict[str, Any]:
        """Any JSON document of the service, such as "/v1/workers"."""
        document: dict[str, Any] = self._request("GET", path).json()
        return document

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """The events of a job from `after` on, as they happen, to the last; a broken stream is resumed where it broke."""
        failures = 0
        while True:
            last = None
            try:
                for event in self._stream(job_id, after):
                    yield event
                    after, failures, last = event.id, 0, event.type
                if last == "end":  # one in the middle is that of a job that was retried
                    return
            except (httpx.TransportError, Unreachable) as error:
                failures += 1
                if failures >= ATTEMPTS:
                    raise Unreachable(f"{self.url}: the event stream of {job_id} broke and could not be resumed ({error})") from error
            time.sleep(FIRST_PAUSE_SECONDS * 2**failures)

    def _stream(self, job_id: str, after: int) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": str(after)} if after else {})}
        with self._http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=60) as response:
            if response.status_code != 200:
                response.read()
                self._refuse(response)
            data = []
            for line in response.iter_lines():
                if line.startswith("data:"):
                    data.append(line.removeprefix("data:").removeprefix(" "))
                elif not line and data:
                    yield Event.model_validate_json("\n".join(data))
                    data = []

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(self.attempts):
            last = attempt == self.attempts - 1
            try:
                response = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if last:
                    raise Unreachable(
                        f"{self.url}: the service does not answer ({error}); start it with `fflab up` or set FFLAB_URL"
                    ) from error
            else:
                if response.status_code not in RETRIED_STATUS or last:
                    return self._accept(response)
                pause = max(pause, _retry_after(response))
            time.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _accept(self, response: httpx.Response) -> httpx.Response:
        if response.is_error:
            self._refuse(response)
        return response

    def _refuse(self, response: httpx.Response) -> None:
        try:
            problem = response.json()
        except json.JSONDecodeError:
            problem = {"title": f"HTTP {response.status_code} from {self.url}: not an fflab service?"}
        raise (NotFound if response.status_code == 404 else Refused)(response.status_code, problem)


class JobHandle:
    """A submitted job: `job` is its last known state."""

    def __init__(self, client: Client, job: Job) -> None:
        self._client, self.job = client, job

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    def refresh(self) -> Job:
        """Read the job's state again."""
        self.job = self._client.read(self.id)
        return self.job

    def wait(self, timeout_seconds: float | None = None, *, on_progress: Callable[[Job], None] | None = None) -> "JobHandle":
        """Wait until the job has succeeded. Raises JobFailed where it ends otherwise, TimeoutError after the timeout."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while self.job.state not in TERMINAL:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{self.id} is still {self.job.state.value} after {timeout_seconds:g} s")
            if on_progress:
                on_progress(self.job)
            longest = 1 if on_progress else LONGEST_WAIT_SECONDS
            left = longest if deadline is None else max(1, min(longest, int(deadline - time.monotonic())))
            self.job = self._client.read(self.id, wait_seconds=left)
        if on_progress:
            on_progress(self.job)
        if self.job.state != JobState.succeeded:
            raise JobFailed(self.job)
        return self

    @property
    def result(self) -> Result:
        """The typed result."""
        return self._client.result(self.id)

    @property
    def curves(self) -> list[dict[str, Any]]:
        """The tidy rows so far, also while the job runs: one a (seed, layer, epoch, split)."""
        rows: list[dict[str, Any]] = self._client.get(f"/v1/jobs/{self.id}/curves")["items"]
        return rows

    def cancel(self) -> Job:
        """Ask for the job to be cancelled."""
        self.job = self._client.act(self.id, "cancel")
        return self.job

    def events(self, *, after: int = 0) -> Iterator[Event]:
        """The job's events, to the last."""
        return self._client.events(self.id, after=after)

    def chart(self, name: str, fmt: str = "png") -> bytes:
        """A chart of the job's result as png, svg, json or html."""
        return self._client.download(self.id, f"chart/{name}.{fmt}")


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(10.0, float(response.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0
