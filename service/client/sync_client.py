"""Client and JobHandle: the client whose calls block."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from service.client.notebook_display import Charts
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


class Client:
    """A connection to one fflab service.

        job = Client("http://127.0.0.1:8000").submit(TrainSpec(epochs=3)).wait()
        job.curves

    **Arguments:**

    - `url`: the address of the service; by default FFLAB_URL, else this machine.
    - `api_key`: by default FFLAB_API_KEY.
    - `timeout_seconds`: of one attempt at a request.
    - `attempts`: how often a request is sent while the service is away, with growing pauses.

    Submits carry an Idempotency-Key, so that a repeated one makes no second job. Every method
    raises Unreachable, KeyRefused and VersionSkew where they apply.
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
        transport = httpx.HTTPTransport(
            verify=found["verify"],
            trust_env=found["trust_env"],
            proxy=self._proxy.proxy if self._proxy else None,
        )
        self._http = httpx.Client(
            base_url=found["base_url"],
            headers=found["headers"],
            timeout=found["timeout"],
            trust_env=found["trust_env"],
            transport=transport,
        )

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
    ) -> "JobHandle":
        """Submit a spec, and return the handle of its job.

        **Arguments:**

        - `spec`: a spec, its document, or the name of a preset.
        - `name`, `tags`, `project`, `note`: for people.
        - `priority`: "low", "normal" or "high".
        - `needs`: of the worker, as `{"device": "cuda", "memory_gb": 40, "tags": ["a100"]}`.
        - `fresh`: run the spec even where an identical one has succeeded.
        - `timeout_seconds`: the longest time that the job may run.
        - `pinned`: keep the job, whatever the retention says.
        - `private`: only its submitter and administrators see the job.
        - `webhook`: an address that gets a message when the job ends; an object has more options.
        - `key`: the Idempotency-Key; by default a new one for each call.

        **Raises** Refused for a spec that is invalid or too large, TypeError for what is none.
        """
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
        return JobHandle(self, self._send(requests.submit(spec, facts, webhook=webhook, key=key)))

    def submit_run(
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
    ) -> "JobHandle":
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
        return JobHandle(self, self._send(requests.record(spec, rows, facts, key=key)))

    def estimate(self, spec: Spec) -> Estimate:
        """Return what running a spec would cost. Raises Refused for an invalid spec."""
        return self._send(requests.estimate(spec))

    def job(self, job_id: str) -> "JobHandle":
        """Return the handle of a job. Raises NotFound."""
        return JobHandle(self, self.read(job_id))

    def read(self, job_id: str, *, wait_seconds: float = 0) -> Job:
        """Return a job as it is.

        **Arguments:**

        - `job_id`: the id of the job.
        - `wait_seconds`: wait up to so long, at most 60, for the job to end.

        **Raises** NotFound.
        """
        return self._send(requests.job(job_id, wait_seconds))

    def jobs(self, **filters: requests.QueryValue) -> Iterator[Job]:
        """Yield jobs, newest first, page after page.

        **Arguments:**

        - `filters`: those of GET /v1/jobs, such as `state` (one or a list), `kind`, `tag`,
          `project`, `search`, `parent`, `where` ("widths>=256 T2+>0.5"), `created_after` and
          `created_before` (a datetime, or its text); `sort` is the name of a column, behind "-"
          for the largest first; `limit` is the size of a page.
        """
        cursor = None
        while True:
            page = self._send(requests.jobs(filters, cursor))
            yield from page.items
            cursor = page.next_cursor
            if not cursor:
                return

    def job_fields(
        self, fields: Sequence[str], **filters: requests.QueryValue
    ) -> Iterator[requests.Document]:
        """Yield some fields of jobs, newest first: a small part of what `jobs` reads.

        **Arguments:**

        - `fields`: names of fields, such as `id`, `name` and `state`.
        - `filters`: as those of `jobs`.

        **Raises** Refused for a field that jobs do not have.
        """
        cursor = None
        while True:
            page = self._send(requests.sparse_jobs(fields, filters, cursor))
            yield from page["items"]
            cursor = page["next_cursor"]
            if not cursor:
                return

    def job_table(
        self, columns: Sequence[str], **filters: requests.QueryValue
    ) -> Iterator[requests.Document]:
        """Yield the values of jobs in some columns, each with the job's id.

        **Arguments:**

        - `columns`: facts of the job, fields of its spec such as `lr`, figures such as `T2+`.
        - `filters`: as those of `jobs`.

        **Raises** Refused for a column that is not known.
        """
        cursor = None
        while True:
            page = self._send(requests.job_table(columns, filters, cursor))
            for item, values in zip(page["items"], page["values"], strict=True):
                yield {"id": item["id"], **values}
            cursor = page["next_cursor"]
            if not cursor:
                return

    def count_jobs(self, **filters: requests.QueryValue) -> int:
        """Return how many jobs pass the filters, which are those of `jobs`."""
        page = self._send(requests.jobs({**filters, "total": "true", "limit": 1}, None))
        return page.total or 0

    def projects(self) -> list[ProjectLine]:
        """Return the projects that jobs name, the one with the newest activity first."""
        return self._send(requests.projects()).items

    def act(self, job_id: str, action: str) -> Job:
        """Ask for an action on a job, and return the job.

        **Arguments:**

        - `job_id`: the id of the job.
        - `action`: "cancel", "pause", "resume" or "retry".

        **Raises** NotFound, and Refused (409) where the job's state does not allow it.
        """
        return self._send(requests.act(job_id, action))

    def change(self, job_id: str, facts: requests.Facts) -> Job:
        """Change `name`, `tags`, `project`, `note`, `priority`, `needs` or `pinned`; the job."""
        return self._send(requests.change(job_id, facts))

    def delete(self, job_id: str) -> None:
        """Delete a job that has ended, with its result. Raises Refused (409) while it has not."""
        self._send(requests.delete(job_id))

    def result(self, job_id: str) -> Result:
        """Return the typed result of a job. Raises Refused (409) while there is none."""
        return self._send(requests.result(job_id))

    def rows(self, job_id: str) -> Rows:
        """Return the tidy rows that a job has so far."""
        page = self._send(requests.rows(job_id, None))
        rows = page.items
        while page.next_cursor is not None:
            page = self._send(requests.rows(job_id, page.next_cursor))
            rows += page.items
        return rows

    def trials(self, job_id: str, **view: str) -> SearchReport:
        """Return the trials of a search and the best so far, also while it runs.

        **Arguments:**

        - `job_id`: the id of a study.
        - `view`: `objective` and `direction`, by which its runs are compared; where left out, those
          of its search, else the accuracy.
        """
        return self._send(requests.trials(job_id, view))

    def charts(self, job_id: str) -> Charts:
        """Return the charts that a job has so far; each is downloaded when it is looked at."""
        return Charts(
            self._send(requests.charts(job_id)).items,
            lambda file: self.download(job_id, f"chart/{file}"),
        )

    def share(self, job_id: str, *, expires_seconds: int | None = None) -> NewShare:
        """Make an address at which anybody may read a job, without a key.

        **Arguments:**

        - `job_id`: the id of the job.
        - `expires_seconds`: how long it is valid; None: until it is revoked.
        """
        return self._send(requests.share(job_id, expires_seconds))

    def shares(self, job_id: str) -> list[Share]:
        """Return the share links of a job, without their addresses."""
        return (self._send(requests.shares(job_id))).items

    def revoke_share(self, job_id: str, share_id: str | None = None) -> None:
        """Revoke a share link of a job, by default all of them. Raises NotFound."""
        self._send(requests.revoke(job_id, share_id))

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Return the layers and epochs of a training job whose weights are kept."""
        return (self._send(requests.checkpoints(job_id))).items

    def download(self, job_id: str, what: str, params: Mapping[str, Sent] | None = None) -> bytes:
        """Return a file of a job.

        **Arguments:**

        - `job_id`: the id of the job.
        - `what`: "result", "result.csv", "curves.csv", "curves.parquet", "result.npz",
          "report.html", "paper.zip", "weights.safetensors", "log" or "chart/NAME.FORMAT".
        - `params`: the query of its address, such as `{"rows": "potentials"}`.
        """
        return self._send(requests.download(job_id, what, params))

    def upload(
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
        return self._send(requests.upload(name, archive_of(data), meaning, on_sent))

    def upload_weights(
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
        return self._send(requests.upload_weights(name, content, options, on_sent))

    def uploaded_weights(self) -> list[Document]:
        """List the uploaded networks, by their names."""
        found: list[Document] = self._send(requests.document("/v1/weights"))["items"]
        return found

    def delete_weights(self, name: str) -> None:
        """Remove uploaded weights. Raises Refused (409) while unfinished jobs need them."""
        self._send(requests.delete_weights(name))

    def delete_dataset(self, name: str) -> None:
        """Remove an uploaded data set. Raises Refused (409) while unfinished jobs need it."""
        self._send(requests.delete_dataset(name))

    def drain_worker(self, worker_id: str, *, undo: bool = False) -> Document:
        """Let a live worker finish its job and take no other, and return what it is then.

        With `undo` it takes jobs again. Needs a key with the scope `admin`, where keys are needed.
        """
        return self._send(requests.drain_worker(worker_id, undo=undo))

    def get(self, path: str) -> Document:
        """Return any JSON document of the service, such as "/v1/workers"."""
        return self._send(requests.document(path))

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """Yield the events of a job with ids above `after`, until the job has ended.

        They come as they happen. A stream that breaks is resumed where it broke.
        """
        stream = EventStream(self.url, job_id, after, self.attempts)
        while not stream.over:
            if stream.polls:
                job = self.read(job_id)  # before its events, so that none of an ended job is missed
                yield from stream.page(self._send(requests.events(job_id, stream.after)), job)
                time.sleep(stream.pause_seconds)
                continue
            try:
                yield from self._connected(stream)
            except httpx.TransportError as error:
                stream.after_break(error)
            if stream.silent:
                stream.after_silence(self.read(job_id))
            time.sleep(stream.pause_seconds)

    def _connected(self, stream: EventStream) -> Iterator[Event]:
        response = self._http.send(stream.request(self._http), stream=True)
        try:
            if stream.opened(response):
                for chunk in response.iter_bytes():
                    yield from stream.feed(chunk)
                stream.after_close()
            else:
                response.read()
                stream.after_refusal(response)
        finally:
            response.close()

    def _long_poll(self, job_id: str, seconds: float) -> Job | None:
        """Return the job, after a wait; None where something in between did not wait for it."""
        call = requests.job(job_id, seconds)
        try:
            response = self._http.send(call.request(self._http))
        except CUT:
            return None
        except httpx.TransportError:
            return self.read(job_id)
        if response.status_code in BROKEN_STATUS:
            return None
        if is_retryable(response):
            return self.read(job_id)
        return call.answer(self.url, response)

    def _send(self, call: ApiRequest[T]) -> T:
        request, retries = call.request(self._http), RetryPolicy(self.attempts)
        while True:
            try:
                response = self._http.send(request)
            except httpx.TransportError as error:
                pause = retries.pause()
                if pause is None:
                    raise unreachable(self.url, error, self._proxy) from error
            else:
                pause = retries.pause(response)
                if pause is None:
                    return call.answer(self.url, response)
            time.sleep(pause)


class JobHandle(Handle):
    """A submitted job. `job` is its last known state; a notebook shows it with its progress."""

    def __init__(self, client: Client, job: Job) -> None:
        super().__init__(client.url, job)
        self._client = client

    def refresh(self) -> Job:
        """Read the job again, and return it."""
        self.job = self._client.read(self.id)
        return self.job

    def wait(
        self,
        timeout_seconds: float | None = None,
        *,
        on_progress: Callable[[Job], None] | None = None,
        progress: bool = True,
    ) -> "JobHandle":
        """Wait until the job has succeeded, and return this handle.

        **Arguments:**

        - `timeout_seconds`: the longest time to wait; None: for ever.
        - `on_progress`: called with the job at each look, instead of showing its progress.
        - `progress`: whether a terminal or a notebook shows the progress.

        **Raises** JobFailed if the job ends without success, StillRunning after the timeout.
        """
        with progress_reporter(on_progress, progress=progress, url=self._url) as report:
            interval = PollInterval(timeout_seconds, watched=report is not None)
            while seconds := interval.seconds(self.job):
                if report:
                    report(self.job)
                self.job = self._poll(interval, seconds)
            if report:
                report(self.job)
        refuse_failure(self.job)
        return self

    def _poll(self, interval: PollInterval, seconds: float) -> Job:
        if interval.is_plain:
            time.sleep(seconds)
        elif job := self._client._long_poll(self.id, seconds):
            return job
        else:
            interval.broken()
        return self._client.read(self.id)

    @property
    def result(self) -> Result:
        """The typed result. Raises Refused (409) while there is none."""
        return self._client.result(self.id)

    @property
    def rows(self) -> Rows:
        """The tidy rows so far, also while the job runs.

        A training run has a row for each seed, layer, epoch and split; a check its cells; a study a
        row for each run and figure, with what was varied.
        """
        return tidy(self.job.kind, self._client.rows(self.id))

    @property
    def curves(self) -> Table:
        """The rows as a DataFrame of pandas, else of polars, else as a list of dicts.

        What is installed decides.
        """
        return to_table(self.rows, COLUMNS[self.job.kind])

    def to_pandas(self) -> "pd.DataFrame":
        """Return the rows as a pandas DataFrame. Raises ImportError without pandas."""
        return to_pandas(self.rows, COLUMNS[self.job.kind])

    def to_polars(self) -> "pl.DataFrame":
        """Return the rows as a polars DataFrame. Raises ImportError without polars."""
        return to_polars(self.rows, COLUMNS[self.job.kind])

    def curves_parquet(self, *, mean: bool = False) -> bytes:
        """Return the rows so far as a Parquet file, with the type of each column.

        A study has every epoch of all its runs. `pandas.read_parquet(io.BytesIO(...))` reads it.

        **Arguments:**

        - `mean`: a row for each figure, with its mean over seeds and the 95 % interval.
        """
        return self._client.download(self.id, curves_file("parquet", mean=mean))

    def arrays(self) -> Arrays:
        """Return the arrays of result.npz by name.

        A check has the margin of every sample, a training run its curves by column.
        """
        return arrays_of(self._client.download(self.id, "result.npz"), self._url)

    def trials(self, **view: str) -> SearchReport:
        """Return the trials of a search and the best so far; `view` as in Client.trials."""
        return self._client.trials(self.id, **view)

    @property
    def charts(self) -> Charts:
        """The charts that the job has so far, by name; a notebook shows them."""
        return self._client.charts(self.id)

    def chart(
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
        return self._client.download(self.id, f"chart/{name}.{fmt}", look)

    def events(self, *, after: int = 0) -> Iterator[Event]:
        """Yield the job's events with ids above `after`, until the job has ended."""
        return self._client.events(self.id, after=after)

    def cancel(self) -> Job:
        """Ask for the job to be cancelled, and return it."""
        return self._act("cancel")

    def pause(self) -> Job:
        """Ask for the job to be paused at its next step, with a checkpoint, and return it."""
        return self._act("pause")

    def resume(self) -> Job:
        """Queue the paused job again, and return it."""
        return self._act("resume")

    def retry(self) -> Job:
        """Queue the failed or cancelled job again, and return it."""
        return self._act("retry")

    def _act(self, action: str) -> Job:
        self.job = self._client.act(self.id, action)
        return self.job
