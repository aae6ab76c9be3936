"""Routes of what goes into a paper: tables in LaTeX, the methods paragraph, BibTeX."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from service.jobs import Job
from service.results.bibliography import bibtex
from service.results.chart_formats import (
    COLUMN_FONT_PT,
    COLUMN_MM,
    LARGEST_PT,
    NARROWEST_MM,
    SMALLEST_PT,
    WIDEST_MM,
    ChartLook,
)
from service.results.latex_tables import latex
from service.results.load import cells_of, drawable
from service.results.methods import Form, methods
from service.results.paper_folder import look_of
from service.results.paper_tables import TableKind, paper_tables
from service.store import Store
from service.web import problems
from service.web.dependencies import ArtifactsDep, ResourcesDep, StoreDep
from service.web.file_responses import FileRequestDep, file_response, streamed_response
from service.web.large_results import turn_for
from service.web.lookup import find_job_with_result, find_versioned_job, provenance_of
from service.web.paper_zip import paper_zip
from service.web.problems import responses
from service.web.routes.jobs import JobId
from service.web.routes.results import DRAWING_PROBLEMS, file_answers, wrong_look

router = APIRouter(tags=["results"])

TEX, BIB, TEXT = (
    "text/x-tex; charset=utf-8",
    "text/x-bibtex; charset=utf-8",
    "text/plain; charset=utf-8",
)
ZIP = "application/zip"
METHODS_ANSWERS = file_answers("text/plain")
for _status in (200, 206):
    METHODS_ANSWERS[_status]["content"]["text/x-tex"] = {}


@router.get(
    "/jobs/{job_id}/result.tex",
    summary="A table of the result in LaTeX",
    response_class=Response,
    responses=file_answers(TEX, problems.NoResultYet, problems.NoRows),
)
def read_tex(
    job_id: JobId,
    store: StoreDep,
    artifacts: ArtifactsDep,
    asked: FileRequestDep,
    rows: Annotated[
        TableKind | None,
        Query(
            description="which table: comparison (measured beside published), runs and figures of "
            "a study, curves of a training run, cells, potentials or decomposition of a check, "
            "epochs of a forecast. The first that the result has where it is left out"
        ),
    ] = None,
) -> Response:
    """A table for a paper: means with their intervals, and a caption that says how the figures were
    obtained.

    Every text is escaped. The table needs no package; its rules are those of booktabs where that is
    loaded, and a long table needs longtable.
    """
    job, version = find_job_with_result(store, job_id)
    with turn_for(store, [job]):
        tables = paper_tables(drawable(store, job, artifacts))
        kind = rows or next(iter(tables), None)
        if kind is None or kind not in tables:
            raise problems.NoRows(
                f"{job.id} is a {job.kind} and has no table {kind or 'for a paper'}; there are "
                f"{', '.join(tables) or 'none'}"
            )
        text = latex(tables[kind]())
    return file_response(job, version, f"{kind}.tex", TEX, lambda: text, asked)


@router.get(
    "/jobs/{job_id}/methods.{form}",
    summary="The methods paragraph",
    response_class=Response,
    responses=METHODS_ANSWERS,
)
def read_methods(
    job_id: JobId,
    form: Annotated[
        Form, Path(description="txt, md (citations as Pandoc has them) or tex", examples=["md"])
    ],
    store: StoreDep,
    asked: FileRequestDep,
) -> Response:
    """How the job was computed, in sentences for the methods section of a paper.

    They are written from the spec and, once there is a result, from its provenance; what was not
    used has no sentence. `references.bib` has what they cite.
    """
    job, version = find_versioned_job(store, job_id)

    def make() -> str:
        return methods(job.spec, provenance_of(store, job), cells_of(store, job), form=form)

    media_type = TEX if form == "tex" else TEXT
    version += _runs_version(store, job)
    return file_response(job, version, f"methods.{form}", media_type, make, asked, inline=True)


@router.get(
    "/jobs/{job_id}/references.bib",
    summary="What to cite",
    response_class=Response,
    responses=file_answers(BIB),
)
def read_references(job_id: JobId, store: StoreDep, asked: FileRequestDep) -> Response:
    """BibTeX of fflab, in the version that computed the result, and of the sources of everything
    that the spec uses.
    """
    job, version = find_versioned_job(store, job_id)

    def make() -> str:
        return bibtex(job.spec, provenance_of(store, job), cells_of(store, job))

    version += _runs_version(store, job)
    return file_response(job, version, "references.bib", BIB, make, asked)


@router.get(
    "/jobs/{job_id}/paper.zip",
    summary="The folder of a paper",
    response_class=Response,
    responses={
        200: {"content": {ZIP: {}}},
        304: {},
        **responses(problems.NoSuchJob, problems.NoResultYet, *DRAWING_PROBLEMS),
    },
)
async def read_paper(
    job_id: JobId,
    resources: ResourcesDep,
    asked: FileRequestDep,
    width_mm: Annotated[
        float,
        Query(ge=NARROWEST_MM, le=WIDEST_MM, allow_inf_nan=False, description="width of a column"),
    ] = COLUMN_MM,
    font_pt: Annotated[
        float,
        Query(
            ge=SMALLEST_PT,
            le=LARGEST_PT,
            allow_inf_nan=False,
            description="size of the numbers on axes",
        ),
    ] = COLUMN_FONT_PT,
) -> Response:
    """A folder that `make` compiles: text, tables in LaTeX, figures as PDF, data, spec, provenance.

    It is what `fflab export JOB --paper DIR` writes. The figures are drawn while the folder is
    sent, which may take a minute; one that cannot be drawn is left out, and the text says so.
    """
    look = _look(width_mm, font_pt)
    job, version = await run_in_threadpool(find_job_with_result, resources.store, job_id)
    runs = await run_in_threadpool(_runs_version, resources.store, job)
    return await streamed_response(
        job,
        version + runs,
        f"paper{look.name}.zip",
        ZIP,
        lambda: paper_zip(resources, job, version, look),
        asked,
    )


def _look(width_mm: float, font_pt: float) -> ChartLook:
    """Return how the figures are drawn. Raises ValidationProblem."""
    try:
        return look_of(width_mm, font_pt)
    except ValidationError as error:
        raise wrong_look(error) from error


def _runs_version(store: Store, job: Job) -> int:
    return store.studies.version_of_runs(job.id) if job.kind == "study" else 0
