"""Draws charts and reports from the database and the artifacts, and keeps what it read last: the
charts of a page are of one job.
"""

from typing import NamedTuple

from service.artifacts import Artifacts
from service.jobs import Job
from service.results.chart_formats import FORMATS
from service.results.charts import CHARTS, NothingToDraw, available, overlay, render
from service.results.load import drawable_in_pieces, result_document, sources_of
from service.results.report import report
from service.results.sources import ChartSource
from service.results.trials import seen
from service.store import Store
from service.web.drawing.protocol import (
    NAMES,
    ChartRequest,
    ChartView,
    NamesRequest,
    NoSuchJob,
    OverlayRequest,
    ReportRequest,
    Request,
    Setup,
)


class _Read(NamedTuple):
    """What was read of a job at one of its versions."""

    job: Job
    version: int
    sources: list[ChartSource]
    names: list[str]


class Drawer:
    """Draws from one database and its artifacts."""

    def __init__(self, setup: Setup) -> None:
        self._store = Store(setup.database)
        self._store.database.only_read()
        self._artifacts = Artifacts(setup.artifacts)
        self._last: _Read | None = None

    def draw(self, request: Request) -> bytes:
        """Return what is asked for.

        Raises NothingToDraw, NoSuchJob and one of DATABASE_ERRORS.
        """
        match request:
            case ChartRequest():
                return self._chart(request)
            case OverlayRequest():
                return self._overlay(request)
            case ReportRequest():
                return self._report(request)
            case NamesRequest():
                names = self._read(request.job_id).names
                return NAMES.dump_json({name: CHARTS[name].meaning for name in names})

    def _chart(self, request: ChartRequest) -> bytes:
        read = self._read(request.job_id)
        sources, names = read.sources, read.names
        if request.view != ChartView():
            sources = [seen(source, *request.view.fields) for source in sources]
            names = available(sources)
        if request.name not in names:
            raise NothingToDraw(
                f"{f'{request.name}.{request.fmt}'!r} is not a chart of this job; there are "
                f"{', '.join(names) or 'none'}, each as {', '.join(FORMATS)}"
            )
        return render(request.name, sources, request.fmt, request.theme, request.look)

    def _overlay(self, request: OverlayRequest) -> bytes:
        sources = [
            source._replace(label=" ".join(filter(None, (label, source.label))))
            for job_id, label in request.jobs
            for source in self._read(job_id).sources
        ]
        if request.name not in available(sources):
            raise NothingToDraw(f"{request.name} is not a chart of these jobs")
        return overlay(request.name, sources, request.theme)

    def _report(self, request: ReportRequest) -> bytes:
        self._last = None  # a report needs a whole result: not both are held
        job = self._store.jobs.get(request.job_id)
        document = result_document(self._store, job) if job else None
        if job is None or document is None:  # deleted, or tried again since
            raise NoSuchJob(request.job_id)
        return report(job, sources_of(self._store, job, document, self._artifacts)).encode()

    def _read(self, job_id: str) -> _Read:
        """Read a job; what was read last is used again while the job has not changed."""
        found = self._store.jobs.get_with_version(job_id)
        if found is None:
            raise NoSuchJob(job_id)
        job, version = found
        last = self._last
        if last is None or (last.job.id, last.version) != (job.id, version):
            self._last = None  # before the next is read: not both are held
            sources = drawable_in_pieces(self._store, job, self._artifacts)
            last = self._last = _Read(job, version, sources, available(sources))
        return last
