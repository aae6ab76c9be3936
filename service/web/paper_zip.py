"""The folder of a paper as a zip, which is made while it is sent: one file of it is in memory, and
one picture at a time is drawn.
"""

import asyncio
import contextlib
import zipfile
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping
from typing import NamedTuple

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from service.jobs import Job
from service.results.bibliography import bibtex
from service.results.chart_formats import COLUMN_MM, ChartLook
from service.results.csv_export import csv_pieces, to_csv
from service.results.latex_tables import latex
from service.results.load import cells_of, drawable, measured_runs, result_document
from service.results.measured_rows import measured_rows
from service.results.methods import methods
from service.results.paper_folder import (
    MAKEFILE,
    TABLES,
    Figure,
    figure_of,
    main_tex,
    ordered,
    provenance_json,
)
from service.results.paper_tables import TableKind, paper_tables
from service.schemas import RESULT
from service.specs.files import as_yaml
from service.web import problems
from service.web.dependencies import Resources
from service.web.drawing.protocol import ChartRequest
from service.web.drawings import chart_names, drawn
from service.web.large_results import turn_for
from service.web.lookup import MOST_RUNS, provenance_of

BUSY_SECONDS, BUSY_TRIES = 1.0, 60  # until a renderer has room


class _Sink:
    """Takes what a zip file writes, until it is sent."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: what was written is there."""

    def close(self) -> None:
        """Do nothing: what was written is still to be sent."""

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        found = b"".join(self._written)
        self._written.clear()
        return found


class ZipStream:
    """A zip file in pieces: each method returns or yields the bytes that it adds.

    Who does not take all pieces of a file closes their iterator: the file is open in the zip.
    """

    def __init__(self, folder: str, job: Job) -> None:
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED)
        self._folder, self._at = folder, (job.finished_at or job.created_at).timetuple()[:6]

    def add(self, name: str, content: bytes | Iterable[bytes]) -> Generator[bytes]:
        """Add a file, which is compressed piece by piece."""
        info = zipfile.ZipInfo(f"{self._folder}/{name}", self._at)
        info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
        with self._zip.open(info, "w") as file:
            for piece in [content] if isinstance(content, bytes) else content:
                file.write(piece)
                if some := self._sink.taken():
                    yield some
        yield self._sink.taken()

    def end(self) -> bytes:
        """Write the list of the files."""
        self._zip.close()
        return self._sink.taken()


class _Texts(NamedTuple):
    """What is written without drawing anything: by its name in the folder, and the tables."""

    files: Mapping[str, str]
    tables: list[TableKind]


async def paper_zip(
    resources: Resources, job: Job, version: int, look: ChartLook
) -> AsyncIterator[bytes]:
    """Begin the folder of a job that has a result, as a zip.

    A chart that cannot be drawn is left out, and the text says so.

    Raises NotDrawn, RenderersAreBusy and DatabaseAway where nothing can be drawn.
    """
    charts = await chart_names(resources.pictures, job, version)
    texts = await run_in_threadpool(_texts, resources, job)
    return _pieces(resources, job, version, charts, texts, look)


async def _pieces(
    resources: Resources,
    job: Job,
    version: int,
    charts: Mapping[str, str],
    texts: _Texts,
    look: ChartLook,
) -> AsyncIterator[bytes]:
    archive = ZipStream(f"paper-{job.id}", job)
    for name, text in texts.files.items():
        async for piece in _added(archive, name, text.encode()):
            yield piece
    names, leading_ones = ordered(job, charts)
    figures: list[Figure] = []
    not_drawn: dict[str, str] = {}
    for name in names:
        try:
            figure, picture = await _drawn(resources, job, version, name, charts[name], look)
        except problems.Problem as problem:
            not_drawn[name] = problem.detail or problem.title
            leading_ones -= name in names[:leading_ones]
            continue
        figures.append(figure)
        async for piece in _added(archive, f"figures/{name}.pdf", picture):
            yield piece
    text = main_tex(job, figures, leading_ones, texts.tables, not_drawn)
    async for piece in _added(archive, "main.tex", text.encode("ascii")):
        yield piece
    for name, make in _data(resources, job).items():
        async for piece in _added(archive, name, make()):
            yield piece
    yield archive.end()


async def _added(
    archive: ZipStream, name: str, content: bytes | Iterable[bytes]
) -> AsyncIterator[bytes]:
    """Add a file in a thread; it is closed also where nobody takes its rest."""
    with contextlib.closing(archive.add(name, content)) as pieces:
        async for piece in iterate_in_threadpool(pieces):
            yield piece


async def _drawn(
    resources: Resources, job: Job, version: int, name: str, meaning: str, look: ChartLook
) -> tuple[Figure, bytes]:
    """A figure and its picture. Raises a problem."""
    request = ChartRequest(job_id=job.id, name=name, fmt="json")
    document = await _patiently(resources, request, version)
    figure = await run_in_threadpool(figure_of, name, meaning, document, look.width_mm or COLUMN_MM)
    wide = look.model_copy(update={"width_mm": figure.width_mm})
    request = ChartRequest(job_id=job.id, name=name, fmt="pdf", look=wide)
    return figure, await _patiently(resources, request, version)


async def _patiently(resources: Resources, request: ChartRequest, version: int) -> bytes:
    """Draw a chart once a renderer has room for it. Raises a problem."""
    for _ in range(BUSY_TRIES):
        try:
            return await drawn(resources.pictures, request, version)
        except problems.RenderersAreBusy:
            await asyncio.sleep(BUSY_SECONDS)
    return await drawn(resources.pictures, request, version)


def _texts(resources: Resources, job: Job) -> _Texts:
    store = resources.store
    provenance, cells = provenance_of(store, job), cells_of(store, job)
    runs = [job]
    if job.kind == "study":
        runs = store.jobs.page(limit=MOST_RUNS, parent=job.id).jobs[::-1]
    with turn_for(store, [job]):
        found = paper_tables(drawable(store, job, resources.artifacts))
        tables = {kind: latex(found[kind]()) for kind in TABLES[job.kind] if kind in found}
    return _Texts(
        {
            "methods.tex": methods(job.spec, provenance, cells, form="tex"),
            "references.bib": bibtex(job.spec, provenance, cells),
            "Makefile": MAKEFILE,
            "spec.yaml": as_yaml(job.spec),
            "provenance.json": provenance_json(runs),
            **{f"tables/{kind}.tex": text for kind, text in tables.items()},
        },
        list(tables),
    )


def _data(resources: Resources, job: Job) -> dict[str, Callable[[], Iterable[bytes]]]:
    """The rows of the job, read while they are sent."""
    store = resources.store

    def rows(*, means: bool) -> Iterable[bytes]:
        runs = measured_runs(store, job)
        return csv_pieces(*measured_rows(runs, store.jobs.each_row, means=means))

    def result() -> Iterable[bytes]:
        document = result_document(store, job)
        return [to_csv(RESULT.validate_json(document)).encode()] if document else []

    return {
        "data/result.csv": (lambda: rows(means=False)) if job.kind == "train" else result,
        "data/curves.csv": lambda: rows(means=False),
        "data/means.csv": lambda: rows(means=True),
    }
