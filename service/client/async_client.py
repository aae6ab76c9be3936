"""AsyncClient and AsyncJobHandle: the client for asyncio.

A task that is cancelled leaves no connection behind.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import httpx
import numpy.typing as npt
from pydantic import JsonValue

from ffengine.cost import Estimate
from ffengine.results import RecordedRow
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
    curves_file,
    refuse_failure,
)
from service.client.notebook_display import FORMATS, Charts
from service.client.progress import progress_reporter
from service.client.requests import ApiRequest, Document, Sent, Spec, WatchedRows
from service.client.retries import ATTEMPTS, BROKEN_STATUS, CUT, RetryPolicy, is_retryable
from service.client.stream import EventStream
from service.client.versions import versions_here
from service.jobs import Event, Job
from service.schemas import Checkpoint, NewShare, ProjectLine, Result, SearchReport, Share

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

T = TypeVar("T")


class AsyncClient:
    """A connection to one fflab service, for asyncio.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            job = await (await client.submit(TrainSpec(epochs=3))).wait()
            await job.curves()

    Its arguments and methods are those of Client; methods that ask the service are awaited.
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
        self._proxy = found["proxy"]
        transport = httpx.AsyncHTTPTransport(
            verify=found["verify"],
            trust_env=found["trust_env"],
            proxy=self._proxy.proxy if self._proxy else None,
        )
        self._http = httpx.AsyncClient(
            base_url=found["base_url"],
            headers=found["headers"],
            timeout=found["timeout"],
            trust_env=found["trust_env"],
            transport=transport,
        )

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
        project: str | None = None,
        note: str | None = None,
        priority: str = "normal",
        needs: Mapping[str, JsonValue] | None = None,
        fresh: bool = False,
        timeout_seconds: float | None = None,
        pinned: bool = False,
        private: bool = False,
        webhook: str | Mapping[str, JsonValue] | None = None,
        key: str | None = None,
    ) -> "AsyncJobHandle":
        """Submit a spec, and return the handle of its job; arguments as of Client.submit."""
        facts = {
            "name": name,
            "tags": tags,
            "project": project,
            "note": note,
            "priority": priority,
            "needs": needs,
            "fresh": fresh,
            "timeout_seconds": timeout_seconds,
            "pinned": pinned,
            **({"private": True} if private else {}),
        }
        return AsyncJobHandle(
            self, await self._send(requests.submit(spec, facts, webhook=webhook, key=key))
        )

    async def submit_run(
        self,
        name: str | None,
        rows: WatchedRows | Sequence[RecordedRow] | Sequence[Mapping[str, object]],
        *,
        config: Mapping[str, JsonValue] | None = None,
        program: str | None = None,
        data: str | None = None,
        layers: Sequence[str] | None = None,
        tags: list[str] | None = None,
        project: str | None = None,
        note: str | None = None,
        pinned: bool = False,
        versions: Mapping[str, str] | None = None,
        device: str | None = None,
        key: str | None = None,
    ) -> "AsyncJobHandle":
        """Bring the curves of a run that another program computed, and return its job's handle.

        The job is of kind `recorded`: it has succeeded at once, and everything that shows it says
        that fflab did not compute it.

        **Arguments:**

        - `name`: for people.
        - `rows`: what `ffengine.watch` returned, or its rows, or dicts with fields of RecordedRow.
        - `config`: the settings of the run by name: numbers, texts, booleans.
        - `program`: what computed it, such as a repository and its revision.
        - `data`: what it learnt from, in words.
        - `layers`: the names of its layers; by default those that were watched.
        - `tags`, `project`, `note`, `pinned`: as for `submit`.
        - `versions`: of what took part, by name; by default those of Python, numpy and torch here.
        - `device`: what it was computed on.
        - `key`: the Idempotency-Key; by default a new one for each call.

        **Raises** Refused for rows that are none, and where there are too many.
        """
        spec: dict[str, object] = {
            "program": program,
            "data": data,
            "config": config,
            "layers": layers,
        }
        facts = {
            "name": name,
            "tags": tags,
            "project": project,
            "note": note,
            "pinned": pinned,
            "versions": versions if versions is not None else versions_here(),
            "device": device,
        }
        if not isinstance(rows, Sequence):
            spec["layers"] = layers if layers is not None else rows.layers
            rows = rows.rows
        return AsyncJobHandle(self, await self._send(requests.record(spec, rows, facts, key=key)))

    async def estimate(self, spec: Spec) -> Estimate:
        """Return what running a spec would cost. Raises Refused for an invalid spec."""
        return await self._send(requests.estimate(spec))

    async def job(self, job_id: str) -> "AsyncJobHandle":
        """Return the handle of a job. Raises NotFound."""
        return AsyncJobHandle(self, await self.read(job_id))

    async def read(self, job_id: str, *, wait_seconds: float = 0) -> Job:
        """Return a job as it is.

        **Arguments:**

        - `job_id`: the id of the job.
        - `wait_seconds`: wait up to so long, at most 60, for the job to end.

        **Raises** NotFound.
        """
        return await self._send(requests.job(job_id, wait_seconds))

    async def jobs(self, **filters: requests.QueryValue) -> AsyncIterator[Job]:
        """Yield jobs, newest first, page after page.

        **Arguments:**

        - `filters`: those of GET /v1/jobs, such as `state` (one or a list), `kind`, `tag`,
          `project`, `search`, `parent`, `where` ("widths>=256 T2+>0.5"), `created_after` and
          `created_before` (a datetime, or its text); `sort` is the name of a column, behind "-"
          for the largest first; `limit` is the size of a page.
        """
        cursor = None
        while True:
            page = await self._send(requests.jobs(filters, cursor))
            for job in page.items:
                yield job
            cursor = page.next_cursor
            if not cursor:
                return

    async def job_fields(
        self, fields: Sequence[str], **filters: requests.QueryValue
    ) -> AsyncIterator[requests.Document]:
        """Yield some fields of jobs, newest first: a small part of what `jobs` reads.

        **Arguments:**

        - `fields`: names of fields, such as `id`, `name` and `state`.
        - `filters`: as those of `jobs`.

        **Raises** Refused for a field that jobs do not have.
        """
        cursor = None
        while True:
            page = await self._send(requests.sparse_jobs(fields, filters, cursor))
            for job in page["items"]:
                yield job
            cursor = page["next_cursor"]
            if not cursor:
                return

    async def job_table(
        self, columns: Sequence[str], **filters: requests.QueryValue
    ) -> AsyncIterator[requests.Document]:
        """Yield the values of jobs in some columns, each with the job's id.

        **Arguments:**

        - `columns`: facts of the job, fields of its spec such as `lr`, figures such as `T2+`.
        - `filters`: as those of `jobs`.

        **Raises** Refused for a column that is not known.
        """
        cursor = None
        while True:
            page = await self._send(requests.job_table(columns, filters, cursor))
            for item, values in zip(page["items"], page["values"], strict=True):
                yield {"id": item["id"], **values}
            cursor = page["next_cursor"]
            if not cursor:
                return

    async def count_jobs(self, **filters: requests.QueryValue) -> int:
        """Return how many jobs pass the filters, which are those of `jobs`."""
        page = await self._send(requests.jobs({**filters, "total": "true", "limit": 1}, None))
        return page.total or 0

    async def projects(self) -> list[ProjectLine]:
        """Return the projects that jobs name, the one with the newest activity first."""
        return (await self._send(requests.projects())).items

    async def act(self, job_id: str, action: str) -> Job:
        """Ask for an action on a job, and return the job.

        **Arguments:**

        - `job_id`: the id of the job.
        - `action`: "cancel", "pause", "resume" or "retry".

        **Raises** NotFound, and Refused (409) where the job's state does not allow it.
        """
        return await self._send(requests.act(job_id, action))

    async def change(self, job_id: str, facts: requests.Facts) -> Job:
        """Change `name`, `tags`, `project`, `note`, `priority`, `needs` or `pinned`; the job."""
        return await self._send(requests.change(job_id, facts))

    async def delete(self, job_id: str) -> None:
        """Delete a job that has ended, with its result. Raises Refused (409) while it has not."""
        await self._send(requests.delete(job_id))

    async def result(self, job_id: str) -> Result:
        """Return the typed result of a job. Raises Refused (409) while there is none."""
        return await self._send(requests.result(job_id))

    async def rows(self, job_id: str) -> Rows:
        """Return the tidy rows that a job has so far."""
        page = await self._send(requests.rows(job_id, None))
        rows = page.items
        while page.next_cursor is not None:
            page = await self._send(requests.rows(job_id, page.next_cursor))
            rows += page.items
        return rows

    async def trials(self, job_id: str, **view: str) -> SearchReport:
        """Return the trials of a search and the best so far, also while it runs.

        **Arguments:**

        - `job_id`: the id of a study.
        - `view`: `objective` and `direction`, by which its runs are compared; where left out, those
          of its search, else the accuracy.
        """
        return await self._send(requests.trials(job_id, view))

    async def charts(self, job_id: str) -> Charts:
        """Return the charts that a job has so far.

        All of them are downloaded at once, since a notebook awaits nothing when it shows them.
        """
        lines = (await self._send(requests.charts(job_id))).items
        files = [f"{line.name}.{fmt}" for line in lines for fmt in FORMATS]
        found = await asyncio.gather(*(self.download(job_id, f"chart/{file}") for file in files))
        return Charts(lines, dict(zip(files, found, strict=True)).__getitem__)

    async def share(self, job_id: str, *, expires_seconds: int | None = None) -> NewShare:
        """Make an address at which anybody may read a job, without a key.

        **Arguments:**

        - `job_id`: the id of the job.
        - `expires_seconds`: how long it is valid; None: until it is revoked.
        """
        return await self._send(requests.share(job_id, expires_seconds))

    async def shares(self, job_id: str) -> list[Share]:
        """Return the share links of a job, without their addresses."""
        return (await self._send(requests.shares(job_id))).items

    async def revoke_share(self, job_id: str, share_id: str | None = None) -> None:
        """Revoke a share link of a job, by default all of them. Raises NotFound."""
        await self._send(requests.revoke(job_id, share_id))

    async def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Return the layers and epochs of a training job whose weights are kept."""
        return (await self._send(requests.checkpoints(job_id))).items

    async def download(
        self, job_id: str, what: str, params: Mapping[str, Sent] | None = None
    ) -> bytes:
        """Return a file of a job.

        **Arguments:**

        - `job_id`: the id of the job.
        - `what`: "result", "result.csv", "curves.csv", "curves.parquet", "result.npz",
          "report.html", "paper.zip", "weights.safetensors", "log" or "chart/NAME.FORMAT".
        - `params`: the query of its address, such as `{"rows": "potentials"}`.
        """
        return await self._send(requests.download(job_id, what, params))

    async def upload(
        self,
        name: str,
        data: str | Path | bytes | Mapping[str, npt.ArrayLike],
        *,
        meaning: str = "",
        on_sent: Callable[[int], None] | None = None,
    ) -> Document:
        """Upload a data set, and return its facts.

        The same arrays under the same name once more change nothing.

        **Arguments:**

        - `name`: the name that specs give.
        - `data`: an .npz file, its bytes, or the arrays x (N, ...) and y (N,), and perhaps x_test
          and y_test.
        - `meaning`: one sentence about the data set.
        - `on_sent`: called with the number of bytes that were sent so far.

        **Raises** Refused where the arrays cannot be used, or the name belongs to other arrays.
        """
        return await self._send(requests.upload(name, archive_of(data), meaning, on_sent))

    async def upload_weights(
        self,
        name: str,
        file: str | Path | bytes,
        *,
        data: str | None = None,
        activation: str | None = None,
        normalize: str | None = None,
        normalize_first: bool | None = None,
        preprocess: str | None = None,
        labels: str | None = None,
        layers: Sequence[str] = (),
        layout: str | None = None,
        meaning: str = "",
        on_sent: Callable[[int], None] | None = None,
    ) -> Document:
        """Upload a network that was trained elsewhere, and return its facts.

        A check names it by `at: {weights: NAME, layer: 0}`. The same network under the same name
        once more changes nothing.

        **Arguments:**

        - `name`: the name that specs give.
        - `file`: a safetensors file or an .npz, or its bytes. One that fflab wrote says itself what
          the network is; of another, the arguments say it.
        - `data`: the data set that it was trained on.
        - `activation`, `normalize`: of its layers; None: relu, and none.
        - `normalize_first`: whether the input of the first layer is normalised, too.
        - `preprocess`, `labels`: how pixels were scaled, and where the label stood; None: unit, and
          overlay.
        - `layers`: "WEIGHT,BIAS" or "WEIGHT" of each layer; empty: by the names of the tensors.
        - `layout`: of matrices: "out_in", which None stands for, or "in_out".
        - `meaning`: one sentence about the network.
        - `on_sent`: called with the number of bytes that were sent so far.

        **Raises** Refused where the weights cannot be used, or the name belongs to others.
        """
        options = {
            "data": data,
            "activation": activation,
            "normalize": normalize,
            "normalize_first": normalize_first,
            "preprocess": preprocess,
            "labels": labels,
            "layer": tuple(layers),
            "layout": layout,
            "meaning": meaning,
        }
        content = file if isinstance(file, bytes) else Path(file).read_bytes()
        return await self._send(requests.upload_weights(name, content, options, on_sent))

    async def uploaded_weights(self) -> list[Document]:
        """List the uploaded networks, by their names."""
        found: list[Document] = (await self._send(requests.document("/v1/weights")))["items"]
        return found

    async def delete_weights(self, name: str) -> None:
        """Remove uploaded weights. Raises Refused (409) while unfinished jobs need them."""
        await self._send(requests.delete_weights(name))

    async def delete_dataset(self, name: str) -> None:
        """Remove an uploaded data set. Raises Refused (409) while unfinished jobs need it."""
        await self._send(requests.delete_dataset(name))

    async def drain_worker(self, worker_id: str, *, undo: bool = False) -> Document:
        """Let a live worker finish its job and take no other, and return what it is then.

        With `undo` it takes jobs again. Needs a key with the scope `admin`, where keys are needed.
        """
        return await self._send(requests.drain_worker(worker_id, undo=undo))

    async def get(self, path: str) -> Document:
        """Return any JSON document of the service, such as "/v1/workers"."""
        return await self._send(requests.document(path))

    async def events(self, job_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """Yield the events of a job with ids above `after`, until the job has ended.

        They come as they happen. A stream that breaks is resumed where it broke.
        """
        stream = EventStream(self.url, job_id, after, self.attempts)
        while not stream.over:
            if stream.polls:
                job = await self.read(job_id)
                page = await self._send(requests.events(job_id, stream.after))
                for event in stream.page(page, job):
                    yield event
                await asyncio.sleep(stream.pause_seconds)
                continue
            try:
                response = await self._http.send(stream.request(self._http), stream=True)
                try:
                    if stream.opened(response):
                        async for chunk in response.aiter_bytes():
                            for event in stream.feed(chunk):
                                yield event
                        stream.after_close()
                    else:
                        await response.aread()
                        stream.after_refusal(response)
                finally:
                    await response.aclose()
            except httpx.TransportError as error:
                stream.after_break(error)
            if stream.silent:
                stream.after_silence(await self.read(job_id))
            await asyncio.sleep(stream.pause_seconds)

    async def _long_poll(self, job_id: str, seconds: float) -> Job | None:
        """Return the job, after a wait; None where something in between did not wait for it."""
        call = requests.job(job_id, seconds)
        try:
            response = await self._http.send(call.request(self._http))
        except CUT:
            return None
        except httpx.TransportError:
            return await self.read(job_id)
        if response.status_code in BROKEN_STATUS:
            return None
        if is_retryable(response):
            return await self.read(job_id)
        return call.answer(self.url, response)

    async def _send(self, call: ApiRequest[T]) -> T:
        request, retries = call.request(self._http), RetryPolicy(self.attempts)
        while True:
            try:
                response = await self._http.send(request)
            except httpx.TransportError as error:
                pause = retries.pause()
                if pause is None:
                    raise unreachable(self.url, error, self._proxy) from error
            else:
                pause = retries.pause(response)
                if pause is None:
                    return call.answer(self.url, response)
            await asyncio.sleep(pause)


class AsyncJobHandle(Handle):
    """A submitted job. `job` is its last known state; a notebook shows it with its progress."""

    def __init__(self, client: AsyncClient, job: Job) -> None:
        super().__init__(client.url, job)
        self._client = client

    async def refresh(self) -> Job:
        """Read the job again, and return it."""
        self.job = await self._client.read(self.id)
        return self.job

    async def wait(
        self,
        timeout_seconds: float | None = None,
        *,
        on_progress: Callable[[Job], None] | None = None,
        progress: bool = True,
    ) -> "AsyncJobHandle":
        """Wait until the job has succeeded, and return this handle, as JobHandle.wait does."""
        with progress_reporter(on_progress, progress=progress, url=self._url) as report:
            interval = PollInterval(timeout_seconds, watched=report is not None)
            while seconds := interval.seconds(self.job):
                if report:
                    report(self.job)
                self.job = await self._poll(interval, seconds)
            if report:
                report(self.job)
        refuse_failure(self.job)
        return self

    async def _poll(self, interval: PollInterval, seconds: float) -> Job:
        if interval.is_plain:
            await asyncio.sleep(seconds)
        elif job := await self._client._long_poll(self.id, seconds):
            return job
        else:
            interval.broken()
        return await self._client.read(self.id)

    async def result(self) -> Result:
        """Return the typed result. Raises Refused (409) while there is none."""
        return await self._client.result(self.id)

    async def rows(self) -> Rows:
        """Return the tidy rows so far, as JobHandle.rows."""
        return tidy(self.job.kind, await self._client.rows(self.id))

    async def curves(self) -> Table:
        """Return the rows as a DataFrame of pandas, else of polars, else as a list."""
        return to_table(await self.rows(), COLUMNS[self.job.kind])

    async def to_pandas(self) -> "pd.DataFrame":
        """Return the rows as a pandas DataFrame. Raises ImportError without pandas."""
        return to_pandas(await self.rows(), COLUMNS[self.job.kind])

    async def to_polars(self) -> "pl.DataFrame":
        """Return the rows as a polars DataFrame. Raises ImportError without polars."""
        return to_polars(await self.rows(), COLUMNS[self.job.kind])

    async def curves_parquet(self, *, mean: bool = False) -> bytes:
        """Return the rows so far as a Parquet file, as JobHandle.curves_parquet."""
        return await self._client.download(self.id, curves_file("parquet", mean=mean))

    async def arrays(self) -> Arrays:
        """Return the arrays of result.npz by name, as JobHandle.arrays."""
        return arrays_of(await self._client.download(self.id, "result.npz"), self._url)

    async def trials(self, **view: str) -> SearchReport:
        """Return the trials of a search and the best so far; `view` as in Client.trials."""
        return await self._client.trials(self.id, **view)

    async def charts(self) -> Charts:
        """Return the charts that the job has so far, by name; a notebook shows them."""
        return await self._client.charts(self.id)

    async def chart(
        self,
        name: str,
        fmt: str = "png",
        *,
        title: str | None = None,
        width_mm: float | None = None,
        font_pt: float | None = None,
    ) -> bytes:
        """Return a chart. Raises NotFound, and Refused for a size that it cannot have.

        **Arguments:**

        - `name`: one of the names of `charts()`.
        - `fmt`: "png", "svg", "pdf", "json", "html" or "csv".
        - `title`: "none" leaves out title and caption.
        - `width_mm`: the width of the picture, such as that of a journal's column.
        - `font_pt`: the size of the numbers on its axes.
        """
        look = requests.look(title, width_mm, font_pt)
        return await self._client.download(self.id, f"chart/{name}.{fmt}", look)

    def events(self, *, after: int = 0) -> AsyncIterator[Event]:
        """Yield the job's events with ids above `after`, until the job has ended."""
        return self._client.events(self.id, after=after)

    async def cancel(self) -> Job:
        """Ask for the job to be cancelled, and return it."""
        return await self._act("cancel")

    async def pause(self) -> Job:
        """Ask for the job to be paused at its next step, with a checkpoint, and return it."""
        return await self._act("pause")

    async def resume(self) -> Job:
        """Queue the paused job again, and return it."""
        return await self._act("resume")

    async def retry(self) -> Job:
        """Queue the failed or cancelled job again, and return it."""
        return await self._act("retry")

    async def _act(self, action: str) -> Job:
        self.job = await self._client.act(self.id, action)
        return self.job
