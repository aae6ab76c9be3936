"""AsyncClient and AsyncJobHandle: the same calls, awaited; a task that is cancelled leaves no
connection behind.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
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
from service.client.notebook_display import FORMATS, Charts
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


class AsyncClient:
    """A connection to one fflab service, for asyncio.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            job = await (await client.submit(TrainSpec(epochs=3))).wait()
            await job.curves()

    It does what Client does; what asks the service for something is awaited.
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
        self._http = httpx.AsyncClient(**found)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient of {self.url}>"

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def submit(
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
    ) -> "AsyncJobHandle":
        """Submit a spec, as Client.submit does."""
        facts = {
            "name": name,
            "tags": tags,
            "priority": priority,
            "fresh": fresh,
            "timeout_seconds": timeout_seconds,
            "pinned": pinned,
        }
        return AsyncJobHandle(
            self, await self._send(requests.submit(spec, facts, webhook=webhook, key=key))
        )

    async def estimate(self, spec: Spec) -> Estimate:
        """What running a spec would cost."""
        return await self._send(requests.estimate(spec))

    async def job(self, job_id: str) -> "AsyncJobHandle":
        """The handle of a job; NotFound where there is none."""
        return AsyncJobHandle(self, await self.read(job_id))

    async def read(self, job_id: str, *, wait_seconds: float = 0) -> Job:
        """The job as it is now, or within `wait_seconds` (at most 60) when it ends."""
        return await self._send(requests.job(job_id, wait_seconds))

    async def jobs(self, **filters: str | int) -> AsyncIterator[Job]:
        """Jobs, newest first, page after page; filters are those of GET /v1/jobs."""
        cursor = None
        while True:
            page = await self._send(requests.jobs(filters, cursor))
            for job in page.items:
                yield job
            cursor = page.next_cursor
            if not cursor:
                return

    async def act(self, job_id: str, action: str) -> Job:
        """cancel, pause, resume or retry a job."""
        return await self._send(requests.act(job_id, action))

    async def change(self, job_id: str, facts: Mapping[str, str | list[str] | bool]) -> Job:
        """Change name, tags, priority or pinned of a job."""
        return await self._send(requests.change(job_id, facts))

    async def delete(self, job_id: str) -> None:
        """Delete a job that has ended."""
        await self._send(requests.delete(job_id))

    async def result(self, job_id: str) -> Result:
        """The typed result of a job that has succeeded; Refused (409) while there is none."""
        return await self._send(requests.result(job_id))

    async def rows(self, job_id: str) -> Rows:
        """The tidy rows of a job so far."""
        return (await self._send(requests.rows(job_id))).items

    async def charts(self, job_id: str) -> Charts:
        """The charts that a job has by now, downloaded at once: a notebook shows them without
        awaiting anything.
        """
        lines = (await self._send(requests.charts(job_id))).items
        files = [f"{line.name}.{fmt}" for line in lines for fmt in FORMATS]
        found = await asyncio.gather(*(self.download(job_id, f"chart/{file}") for file in files))
        return Charts(lines, dict(zip(files, found, strict=True)).__getitem__)

    async def download(self, job_id: str, what: str) -> bytes:
        """The bytes of "result", "result.csv", "result.npz", "report.html", "weights.safetensors",
        "log" or "chart/NAME.FORMAT".
        """
        return await self._send(requests.download(job_id, what))

    async def upload(
        self, name: str, data: str | Path | Mapping[str, npt.ArrayLike], *, meaning: str = ""
    ) -> Document:
        """Keep a data set: an .npz file, or its arrays x (N, ...), y (N,) and perhaps x_test,
        y_test. Gives its facts.
        """
        return await self._send(requests.upload(name, archive_of(data), meaning))

    async def get(self, path: str) -> Document:
        """Any JSON document of the service, such as "/v1/workers"."""
        return await self._send(requests.document(path))

    async def events(self, job_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """The events of a job from `after` on, as they happen, to the last; a broken stream is
        resumed where it broke.
        """
        stream = EventStream(self.url, job_id, after, self.attempts)
        while not stream.over:
            try:
                response = await self._http.send(stream.request(self._http), stream=True)
                try:
                    if stream.opened(response):
                        async for chunk in response.aiter_bytes():
                            for event in stream.feed(chunk):
                                yield event
                        stream.closed()
                    else:
                        await response.aread()
                        stream.refused(response)
                finally:
                    await response.aclose()
            except httpx.TransportError as error:
                stream.broken(error)
            if stream.silent:
                stream.seen(await self.read(job_id))
            await asyncio.sleep(stream.pause_seconds)

    async def _send(self, call: ApiRequest[T]) -> T:
        request, retries = call.request(self._http), RetryPolicy(self.attempts)
        while True:
            try:
                response = await self._http.send(request)
            except httpx.TransportError as error:
                pause = retries.pause()
                if pause is None:
                    raise unreachable(self.url, error) from error
            else:
                pause = retries.pause(response)
                if pause is None:
                    return call.answer(self.url, response)
            await asyncio.sleep(pause)


class AsyncJobHandle(Handle):
    """A submitted job: `job` is its last known state. A notebook shows it with its progress."""

    def __init__(self, client: AsyncClient, job: Job) -> None:
        super().__init__(client.url, job)
        self._client = client

    async def refresh(self) -> Job:
        """Read the job's state again."""
        self.job = await self._client.read(self.id)
        return self.job

    async def wait(
        self,
        timeout_seconds: float | None = None,
        *,
        on_progress: Callable[[Job], None] | None = None,
        progress: bool = True,
    ) -> "AsyncJobHandle":
        """Wait until the job has succeeded, as JobHandle.wait does."""
        with progress_reporter(on_progress, progress=progress, url=self._url) as report:
            interval = PollInterval(timeout_seconds, watched=report is not None)
            while seconds := interval.seconds(self.job):
                if report:
                    report(self.job)
                self.job = await self._client.read(self.id, wait_seconds=seconds)
            if report:
                report(self.job)
        refuse_failure(self.job)
        return self

    async def result(self) -> Result:
        """The typed result."""
        return await self._client.result(self.id)

    async def rows(self) -> Rows:
        """The tidy rows so far, as JobHandle.rows."""
        return tidy(self.job.kind, await self._client.rows(self.id))

    async def curves(self) -> Table:
        """The rows as a pandas DataFrame where pandas is installed, else as one of polars where
        that is, else as they are.
        """
        return to_table(await self.rows(), COLUMNS[self.job.kind])

    async def to_pandas(self) -> "pd.DataFrame":
        """The rows as a pandas DataFrame."""
        return to_pandas(await self.rows(), COLUMNS[self.job.kind])

    async def to_polars(self) -> "pl.DataFrame":
        """The rows as a polars DataFrame."""
        return to_polars(await self.rows(), COLUMNS[self.job.kind])

    async def arrays(self) -> Arrays:
        """The arrays of result.npz by name, as JobHandle.arrays."""
        return arrays_of(await self._client.download(self.id, "result.npz"), self._url)

    async def charts(self) -> Charts:
        """The charts that there are by now, by name; a notebook shows them."""
        return await self._client.charts(self.id)

    async def chart(self, name: str, fmt: str = "png") -> bytes:
        """A chart of the job's result as png, svg, json or html."""
        return await self._client.download(self.id, f"chart/{name}.{fmt}")

    def events(self, *, after: int = 0) -> AsyncIterator[Event]:
        """The job's events, to the last."""
        return self._client.events(self.id, after=after)

    async def cancel(self) -> Job:
        """Ask for the job to be cancelled."""
        return await self._act("cancel")

    async def pause(self) -> Job:
        """Ask for the job to be paused, with a checkpoint."""
        return await self._act("pause")

    async def resume(self) -> Job:
        """Queue the paused job again."""
        return await self._act("resume")

    async def retry(self) -> Job:
        """Queue the failed or cancelled job again."""
        return await self._act("retry")

    async def _act(self, action: str) -> Job:
        self.job = await self._client.act(self.id, action)
        return self.job
