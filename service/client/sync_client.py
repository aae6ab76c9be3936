"""Client and JobHandle: one call after the other."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import httpx
import numpy.typing as npt
from pydantic import JsonValue

from ffengine.cost import Estimate
from service.client import requests
from service.client.connection import connection
from service.client.dataframes import COLUMNS, Rows, Table, tidy, to_pandas, to_polars, to_table
from service.client.errors import unreachable
from service.client.job_handle import (
    Arrays,
    Handle,
    PollInterval,
    archive_of,
    arrays_of,
    refuse_failure,
)
from service.client.notebook_display import Charts
from service.client.progress import progress_reporter
from service.client.requests import ApiRequest, Document, Spec
from service.client.retries import ATTEMPTS, RetryPolicy
from service.client.stream import EventStream
from service.jobs import Event, Job
from service.schemas import Result

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

T = TypeVar("T")


class Client:
    """A connection to one fflab service.

        job = Client("http://127.0.0.1:8000").submit(TrainSpec(epochs=3)).wait()
        job.curves

    Without arguments FFLAB_URL and FFLAB_API_KEY say where and who. Requests are repeated with
    growing pauses while the service is away; submits carry an Idempotency-Key, so that a repeated
    one makes no second job.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_seconds: float = 30.0,
        attempts: int = ATTEMPTS,
    ) -> None:
        found = connection(url, api_key, timeout_seconds)
        self.url, self.attempts = found["base_url"], attempts
        self._http = httpx.Client(**found)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.url}>"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(
        self,
        spec: Spec,
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
        """Submit a spec. `fresh` runs it even where an identical one has succeeded; `key` is the
        Idempotency-Key.

        `timeout_seconds` limits how long it runs, `pinned` keeps it from the retention, `webhook`
        is told when it ends.
        """
        facts = {
            "name": name,
            "tags": tags,
            "priority": priority,
            "fresh": fresh,
            "timeout_seconds": timeout_seconds,
            "pinned": pinned,
        }
        return JobHandle(self, self._send(requests.submit(spec, facts, webhook=webhook, key=key)))

    def estimate(self, spec: Spec) -> Estimate:
        """What running a spec would cost."""
        return self._send(requests.estimate(spec))

    def job(self, job_id: str) -> "JobHandle":
        """The handle of a job; NotFound where there is none."""
        return JobHandle(self, self.read(job_id))

    def read(self, job_id: str, *, wait_seconds: float = 0) -> Job:
        """The job as it is now, or within `wait_seconds` (at most 60) when it ends."""
        return self._send(requests.job(job_id, wait_seconds))

    def jobs(self, **filters: str | int) -> Iterator[Job]:
        """Jobs, newest first, page after page; filters are those of GET /v1/jobs."""
        cursor = None
        while True:
            page = self._send(requests.jobs(filters, cursor))
            yield from page.items
            cursor = page.next_cursor
            if not cursor:
                return

    def act(self, job_id: str, action: str) -> Job:
        """cancel, pause, resume or retry a job."""
        return self._send(requests.act(job_id, action))

    def change(self, job_id: str, facts: Mapping[str, str | list[str] | bool]) -> Job:
        """Change name, tags, priority or pinned of a job."""
        return self._send(requests.change(job_id, facts))

    def delete(self, job_id: str) -> None:
        """Delete a job that has ended."""
        self._send(requests.delete(job_id))

    def result(self, job_id: str) -> Result:
        """The typed result of a job that has succeeded; Refused (409) while there is none."""
        return self._send(requests.result(job_id))

    def rows(self, job_id: str) -> Rows:
        """The tidy rows of a job so far."""
        return self._send(requests.rows(job_id)).items

    def charts(self, job_id: str) -> Charts:
        """The charts that a job has by now."""
        return Charts(
            self._send(requests.charts(job_id)).items,
            lambda file: self.download(job_id, f"chart/{file}"),
        )

    def download(self, job_id: str, what: str) -> bytes:
        """The bytes of "result", "result.csv", "result.npz", "report.html", "weights.safetensors",
        "log" or "chart/NAME.FORMAT".
        """
        return self._send(requests.download(job_id, what))

    def upload(
        self, name: str, data: str | Path | Mapping[str, npt.ArrayLike], *, meaning: str = ""
    ) -> Document:
        """Keep a data set: an .npz file, or its arrays x (N, ...), y (N,) and perhaps x_test,
        y_test. Gives its facts.
        """
        return self._send(requests.upload(name, archive_of(data), meaning))

    def get(self, path: str) -> Document:
        """Any JSON document of the service, such as "/v1/workers"."""
        return self._send(requests.document(path))

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """The events of a job from `after` on, as they happen, to the last; a broken stream is
        resumed where it broke.
        """
        stream = EventStream(self.url, job_id, after, self.attempts)
        while not stream.over:
            try:
                yield from self._connected(stream)
            except httpx.TransportError as error:
                stream.broken(error)
            if stream.silent:
                stream.seen(self.read(job_id))
            time.sleep(stream.pause_seconds)

    def _connected(self, stream: EventStream) -> Iterator[Event]:
        response = self._http.send(stream.request(self._http), stream=True)
        try:
            if stream.opened(response):
                for chunk in response.iter_bytes():
                    yield from stream.feed(chunk)
                stream.closed()
            else:
                response.read()
                stream.refused(response)
        finally:
            response.close()

    def _send(self, call: ApiRequest[T]) -> T:
        request, retries = call.request(self._http), RetryPolicy(self.attempts)
        while True:
            try:
                response = self._http.send(request)
            except httpx.TransportError as error:
                pause = retries.pause()
                if pause is None:
                    raise unreachable(self.url, error) from error
            else:
                pause = retries.pause(response)
                if pause is None:
                    return call.answer(self.url, response)
            time.sleep(pause)


class JobHandle(Handle):
    """A submitted job: `job` is its last known state. A notebook shows it with its progress."""

    def __init__(self, client: Client, job: Job) -> None:
        super().__init__(client.url, job)
        self._client = client

    def refresh(self) -> Job:
        """Read the job's state again."""
        self.job = self._client.read(self.id)
        return self.job

    def wait(
        self,
        timeout_seconds: float | None = None,
        *,
        on_progress: Callable[[Job], None] | None = None,
        progress: bool = True,
    ) -> "JobHandle":
        """Wait until the job has succeeded. Raises JobFailed where it ends otherwise, StillRunning
        after the timeout.

        On a terminal and in a notebook its progress is shown, unless `progress` is False;
        `on_progress` is told instead.
        """
        with progress_reporter(on_progress, progress=progress, url=self._url) as report:
            interval = PollInterval(timeout_seconds, watched=report is not None)
            while seconds := interval.seconds(self.job):
                if report:
                    report(self.job)
                self.job = self._client.read(self.id, wait_seconds=seconds)
            if report:
                report(self.job)
        refuse_failure(self.job)
        return self

    @property
    def result(self) -> Result:
        """The typed result."""
        return self._client.result(self.id)

    @property
    def rows(self) -> Rows:
        """The tidy rows so far, also while the job runs.

        Of a training run one a (seed, layer, epoch, split); of a check its cells; of a study one a
        run and figure, with what was varied.
        """
        return tidy(self.job.kind, self._client.rows(self.id))

    @property
    def curves(self) -> Table:
        """The rows as a pandas DataFrame where pandas is installed, else as one of polars where
        that is, else as they are.
        """
        return to_table(self.rows, COLUMNS[self.job.kind])

    def to_pandas(self) -> "pd.DataFrame":
        """The rows as a pandas DataFrame."""
        return to_pandas(self.rows, COLUMNS[self.job.kind])

    def to_polars(self) -> "pl.DataFrame":
        """The rows as a polars DataFrame."""
        return to_polars(self.rows, COLUMNS[self.job.kind])

    def arrays(self) -> Arrays:
        """The arrays of result.npz by name: of a check the margin of every sample, of a training
        run the curves by column.
        """
        return arrays_of(self._client.download(self.id, "result.npz"), self._url)

    @property
    def charts(self) -> Charts:
        """The charts that there are by now, by name; a notebook shows them."""
        return self._client.charts(self.id)

    def chart(self, name: str, fmt: str = "png") -> bytes:
        """A chart of the job's result as png, svg, json or html."""
        return self._client.download(self.id, f"chart/{name}.{fmt}")

    def events(self, *, after: int = 0) -> Iterator[Event]:
        """The job's events, to the last."""
        return self._client.events(self.id, after=after)

    def cancel(self) -> Job:
        """Ask for the job to be cancelled."""
        return self._act("cancel")

    def pause(self) -> Job:
        """Ask for the job to be paused, with a checkpoint."""
        return self._act("pause")

    def resume(self) -> Job:
        """Queue the paused job again."""
        return self._act("resume")

    def retry(self) -> Job:
        """Queue the failed or cancelled job again."""
        return self._act("retry")

    def _act(self, action: str) -> Job:
        self.job = self._client.act(self.id, action)
        return self.job
