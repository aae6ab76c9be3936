"""Pictures of a result: one chart, or the whole report."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from service import problems
from service.problems import responses
from service.routes.jobs import JobId
from service.state import InState

router = APIRouter(tags=["charts"])


@router.get(
    "/jobs/{job_id}/chart/{file}",
    summary="A chart",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}, "image/svg+xml": {}, "application/json": {}, "text/html": {}}},
        **responses(problems.NoSuchJob, problems.NoSuchChart, problems.NoResultYet),
    },
)
def read_chart(
    job_id: JobId,
    file: Annotated[str, Path(description="NAME.FORMAT, format png, svg, json or html", examples=["sparsity.png"])],
    state: InState,
) -> Response:
    """A chart of the result, drawn on the server. An unknown name is answered with the names that there are."""
    from service.charts import CHARTS, FORMATS, MEDIA_TYPES, available, render  # loads the charting library: not at start-up
    from service.sources import sources_of

    sources = sources_of(state.store, state.job(job_id), state.result(job_id))
    name, _, ending = file.rpartition(".")
    fmt = next((known for known in FORMATS if known == ending), None)
    there = available(sources)
    if fmt is None or name not in CHARTS or name not in there:
        raise problems.NoSuchChart(
            f"{file!r} is not a chart of this job; there are {', '.join(there) or 'none'}, each as {', '.join(FORMATS)}"
        )
    return Response(render(name, sources, fmt), media_type=MEDIA_TYPES[fmt], headers={"Cache-Control": "private, max-age=60"})


@router.get(
    "/jobs/{job_id}/report.html",
    summary="The report",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}}, **responses(problems.NoSuchJob, problems.NoResultYet)},
)
def read_report(job_id: JobId, state: InState) -> Response:
    """Charts, the table beside the paper's figures, findings and provenance, as one page that loads nothing else."""
    from service.report import report
    from service.sources import sources_of

    job = state.job(job_id)
    return Response(report(job, sources_of(state.store, job, state.result(job_id))), media_type="text/html; charset=utf-8")
