"""Routes of results: rows, files in every form, weights, charts, the log."""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field, ValidationError
from starlette.concurrency import run_in_threadpool

from ffengine.results import (
    CheckResult,
    ForecastResult,
    RecordedResult,
    StudyResult,
    TrainResult,
)
from ffengine.spec import TrainSpec
from ffengine.weights import Weights, export_weights
from service.artifacts import EPOCH_NAME, SELECTED_NAME, ArtifactDamaged, Artifacts, epoch_name
from service.encoding.root_path import at
from service.jobs import TERMINAL, Job
from service.results.chart_formats import (
    FORMATS,
    LARGEST_PT,
    MEDIA_TYPES,
    NARROWEST_MM,
    SMALLEST_PT,
    WIDEST_MM,
    ChartLook,
    Theme,
    TitleLook,
)
from service.results.csv_export import RowKind, csv_pieces, rows_csv, to_csv
from service.results.load import compared_runs, measured_runs
from service.results.measured_rows import MeasuredRun, measured_rows
from service.results.npz_export import stream_npz
from service.results.parquet_export import MEDIA_TYPE as PARQUET
from service.results.parquet_export import about_file, parquet_pieces
from service.results.trials import report_of
from service.schemas import (
    RESULT,
    ChartLine,
    ChartList,
    Checkpoint,
    CheckpointList,
    RowPage,
    SearchReport,
    StoredResult,
)
from service.store import Store
from service.web import problems
from service.web.chart_views import ViewDep, name_of
from service.web.dependencies import ArtifactsDep, ResourcesDep, StoreDep
from service.web.drawing.protocol import ChartRequest, ReportRequest
from service.web.drawings import chart_names, drawing_response, no_such_chart
from service.web.file_responses import (
    FileRequest,
    FileRequestDep,
    begun,
    etag_of,
    file_response,
    is_known,
)
from service.web.job_log import LOGGED, log_lines
from service.web.lookup import (
    find_job,
    find_job_with_result,
    find_result,
    find_versioned_job,
    validated_id,
)
from service.web.problems import responses
from service.web.routes.jobs import JobId
from service.web.security_headers import DRAWING, INERT

router = APIRouter(tags=["results"])

EVENTS_AT_ONCE = 1_000
ROWS_AT_ONCE = 500
MeanOption = Annotated[
    bool,
    Query(description="a row for each figure, with its mean over seeds and the 95 % interval"),
]
# kinds of jobs with rows of a kind; others are those of a check alone
KINDS_WITH_ROWS: dict[RowKind, tuple[str, ...]] = {
    "decomposition": ("check", "train"),
    "accuracy": ("train",),
    "baselines": ("train",),
    "usage": ("train",),
    "selectivity": ("train",),
    "lesions": ("train",),
    "layer_range": ("train",),
    "ood": ("train",),
}
HAVE_ROWS = {
    ("check",): "only a check has",
    ("train",): "only a training run has",
    ("check", "train"): "only checks and training runs have",
}
DRAWING_PROBLEMS = (problems.NotDrawn, problems.RenderersAreBusy)


def file_answers(
    media_type: str, *kinds: type[problems.Problem]
) -> dict[int | str, dict[str, Any]]:
    """Return the answers of a route that sends a file."""
    return {
        200: {"content": {media_type: {}}},
        206: {"description": "The part that was asked for", "content": {media_type: {}}},
        304: {},
        **responses(problems.NoSuchJob, problems.RangeOutside, *kinds),
    }


@router.get(
    "/jobs/{job_id}/result",
    response_model=StoredResult,
    summary="The result",
    responses={
        206: {"description": "The part that was asked for", "content": {"application/json": {}}},
        304: {},
        **responses(problems.NoSuchJob, problems.RangeOutside, problems.NoResultYet),
    },
)
def read_result(job_id: JobId, store: StoreDep, asked: FileRequestDep) -> Response:
    """The curves, cells or summary of the job, with findings and provenance."""
    job, version, document = find_result(store, job_id, unread=True)

    def make() -> str:
        if job.kind != "study":
            return document
        # an earlier version may have stored it in an older form
        return RESULT.validate_json(document).model_dump_json()

    return file_response(job, version, "result.json", "application/json", make, asked, inline=True)


@router.get(
    "/jobs/{job_id}/result.csv",
    summary="The result as a table",
    response_class=Response,
    responses=file_answers("text/csv", problems.NoResultYet, problems.NoRows),
)
def read_csv(
    job_id: JobId,
    store: StoreDep,
    asked: FileRequestDep,
    rows: Annotated[
        RowKind | None,
        Query(
            description="of a check: its cells, the potentials of its samples, or who pushes "
            "them (of a training run as well); of a training run: the accuracy, AUC and loss of "
            "its layers by epoch, its baselines, or how its units are used, how selective they "
            "are, and what accuracy is left without some"
        ),
    ] = None,
) -> Response:
    """The result as a table.

    A training run has its tidy rows, a check its cells, a forecast a row for each width, split and
    flow time, a study one row for each run and figure:
    `figure` says which, and each varied field has a column.
    """
    job, version = find_job_with_result(store, job_id)
    if rows is not None:
        return _rows_csv(job, version, store, asked, rows)

    def make() -> str | Iterator[bytes]:
        if job.kind == "train":  # its rows are those of its result, and read while they are sent
            run = MeasuredRun(job.id, job.kind, {})
            return csv_pieces(*measured_rows([run], store.jobs.each_row, means=False))
        return to_csv(RESULT.validate_json(find_result(store, job_id).document))

    return file_response(job, version, "result.csv", "text/csv; charset=utf-8", make, asked)


def _rows_csv(job: Job, version: int, store: Store, asked: FileRequest, rows: RowKind) -> Response:
    """Rows of a check or of a training run. Raises NoRows for another job."""
    kinds = KINDS_WITH_ROWS.get(rows, ("check",))
    if job.kind not in kinds:
        have = HAVE_ROWS[kinds]
        raise problems.NoRows(f"{have} {rows}; {job.id} is a {job.kind}")

    def make() -> str:
        result = RESULT.validate_json(find_result(store, job.id).document)
        assert isinstance(result, CheckResult | TrainResult)  # noqa: S101 - narrows the type
        return rows_csv(result, rows)

    what = "result.csv" if rows == "cells" else f"{rows}.csv"
    return file_response(job, version, what, "text/csv; charset=utf-8", make, asked)


@router.get(
    "/jobs/{job_id}/result.npz",
    summary="The figures of every sample",
    response_class=Response,
    responses=file_answers("application/octet-stream", problems.NoResultYet, problems.NoSamples),
)
def read_npz(
    job_id: JobId, store: StoreDep, artifacts: ArtifactsDep, asked: FileRequestDep
) -> Response:
    """The result as NumPy arrays.

    A check has `sample`, `margin`, `satisfied`, `dead` and `undecided` of each cell, a training run
    its curves. `header` is a JSON text: what was computed, on which data, and the sha256 of all
    arrays. Read it with `numpy.load(file, allow_pickle=False)`.
    """
    job, version, document = find_result(store, job_id)
    result = RESULT.validate_json(document)
    if isinstance(result, ForecastResult):
        raise problems.NoSamples(
            f"{job_id} is a forecast: its figures are in {at(job.links['result'])}.csv"
        )
    if isinstance(result, RecordedResult):
        raise problems.NoSamples(f"{job_id} was recorded by another program: it has rows alone")
    if isinstance(result, StudyResult):
        raise problems.NoSamples(
            f"{job_id} is a study: each of its runs has its own, {at(job.links['children'])}"
        )

    def make() -> Iterator[bytes]:
        return stream_npz(job, result, artifacts, job.cached_from or job.id)

    try:
        return file_response(
            job, version, "result.npz", "application/octet-stream", make, asked, costly=True
        )
    except ArtifactDamaged as error:
        raise problems.NoSamples(
            f"{job_id}: its figures are damaged on the disk: {error}"
        ) from error


@router.get(
    "/jobs/{job_id}/weights.safetensors",
    summary="The weights",
    response_class=Response,
    responses=file_answers("application/octet-stream", problems.NoWeights),
)
def read_weights(
    job_id: JobId,
    store: StoreDep,
    artifacts: ArtifactsDep,
    asked: FileRequestDep,
    epoch: Annotated[
        int | None,
        Query(
            ge=0,
            description="a measured epoch; the last one where it is left out, or, with the layer "
            "left out too, the weights that select or stop chose",
        ),
    ] = None,
    layer: Annotated[
        int | None,
        Query(
            ge=0,
            description="of greedy layers, the one that was learning; the last where it is left "
            "out",
        ),
    ] = None,
) -> Response:
    """The weights of a training job at the end of an epoch, also while the job runs.

    The file's metadata holds the spec.
    """
    job = find_job(store, job_id)
    owner, there = _kept_weights(job, artifacts)
    chosen = _chosen_weights(artifacts, owner) if (epoch, layer) == (None, None) else None
    if chosen is not None:
        return file_response(
            job,
            0,
            "selected.safetensors",
            "application/octet-stream",
            lambda: _weights(artifacts, job, owner, *chosen),
            asked,
        )
    fitting = [(of, at) for of, at in there if epoch in (None, at) and layer in (None, of)]
    if not fitting:
        kept = f"/v1/jobs/{job_id}/checkpoints lists those that it has"
        raise problems.NoWeights(
            f"{job_id} ({job.state.value}) has none of that epoch and layer; "
            f"{kept if there else 'it has none at all'}"
        )
    of, at = fitting[-1]
    # the weights of an epoch never change, whatever the version of the job
    what = f"layer-{of}-epoch-{at}.safetensors"

    def make() -> bytes:
        return _weights(artifacts, job, owner, epoch_name(of, at), at)

    return file_response(
        job,
        0,
        what,
        "application/octet-stream",
        make,
        asked,
    )


@router.get(
    "/jobs/{job_id}/checkpoints",
    summary="The weights that there are",
    responses=responses(problems.NoSuchJob, problems.NoWeights),
)
def list_checkpoints(job_id: JobId, store: StoreDep, artifacts: ArtifactsDep) -> CheckpointList:
    """The layers and epochs of a training job whose weights are kept, also while it runs."""
    job = find_job(store, job_id)
    _, there = _kept_weights(job, artifacts)
    path = at(f"/v1/jobs/{job_id}/weights.safetensors")
    return CheckpointList(
        items=[
            Checkpoint(layer=layer, epoch=epoch, weights=f"{path}?epoch={epoch}&layer={layer}")
            for layer, epoch in there
        ]
    )


def _kept_weights(job: Job, artifacts: Artifacts) -> tuple[str, list[tuple[int, int]]]:
    """Whose weights a job has, and of which layers and epochs. Raises NoWeights."""
    if not isinstance(job.spec, TrainSpec):
        raise problems.NoWeights(f"{job.id} is a {job.kind}, not a training job")
    owner = job.cached_from or job.id
    found = [EPOCH_NAME.fullmatch(name) for name in artifacts.names(owner)]
    return owner, [(int(match[1]), int(match[2])) for match in found if match]


def _chosen_weights(artifacts: Artifacts, owner: str) -> tuple[str, int] | None:
    """The file of the weights that a run chose, and the newest epoch that they are from."""
    found = [SELECTED_NAME.fullmatch(name) for name in artifacts.names(owner)]
    return next(((match[0], int(match[1])) for match in found if match), None)


def _weights(artifacts: Artifacts, job: Job, owner: str, name: str, epoch: int) -> bytes:
    if not isinstance(job.spec, TrainSpec):
        raise problems.NoWeights
    try:
        return export_weights(Weights.from_checkpoint(artifacts.get(owner, name), job.spec, epoch))
    except (KeyError, ValueError, ArtifactDamaged) as error:
        raise problems.NoWeights(f"{job.id}: the weights of epoch {epoch} are damaged") from error


@router.get(
    "/jobs/{job_id}/curves",
    response_model=RowPage,
    summary="The rows so far",
    responses=responses(problems.NoSuchJob, problems.BadCursor),
)
def read_curves(
    job_id: JobId,
    request: Request,
    store: StoreDep,
    limit: Annotated[
        int | None, Query(ge=1, le=10_000, description="most rows of a page; all where left out")
    ] = None,
    cursor: Annotated[
        Annotated[str, Field(max_length=100, json_schema_extra={"pattern": r"^\d{1,18}$"})] | None,
        Query(description="next_cursor of the page before"),
    ] = None,
) -> Response:
    """The rows that are measured so far, also while the job runs.

    A training run has tidy rows, a check its cells, a forecast what its small run measured, a study
    its runs that have ended.
    """
    job = find_job(store, job_id)
    if cursor is not None and not re.fullmatch(r"\d{1,18}", cursor, re.ASCII):
        raise problems.BadCursor
    read = _cells_page if job.kind == "study" else _rows_page
    page = read(store, job_id, int(cursor or 0), limit)
    headers = {}
    if page.next_cursor is not None:
        following = request.url.include_query_params(cursor=page.next_cursor)
        headers["Link"] = f'<{at(following.path)}?{following.query}>; rel="next"'
    pieces = begun(_page_pieces(page))
    return StreamingResponse(pieces, media_type="application/json", headers=headers)


class _TextPage(NamedTuple):
    """A page of rows, each as JSON, which are read while they are sent."""

    texts: Iterable[str]
    next_cursor: int | None


def _rows_page(store: Store, job_id: str, after: int, limit: int | None) -> _TextPage:
    ids = store.jobs.row_ids(job_id, after=after, limit=limit and limit + 1)
    if limit is None or len(ids) <= limit:
        return _TextPage(store.jobs.row_texts(ids), None)
    return _TextPage(store.jobs.row_texts(ids[:limit]), ids[limit - 1])


def _cells_page(store: Store, job_id: str, after: int, limit: int | None) -> _TextPage:
    cells = store.studies.result(job_id).cells
    ended = [number for number, cell in enumerate(cells) if cell.summary and number >= after]
    following = None if limit is None or len(ended) <= limit else ended[limit]
    texts = (cells[number].model_dump_json() for number in ended[:limit])
    return _TextPage(texts, following)


def _page_pieces(page: _TextPage) -> Iterator[bytes]:
    """Yield a RowPage as JSON, a few rows at a time."""
    yield b'{"items":['
    texts, before = iter(page.texts), ""
    while some := list(itertools.islice(texts, ROWS_AT_ONCE)):
        yield (before + ",".join(some)).encode()
        before = ","
    cursor = None if page.next_cursor is None else str(page.next_cursor)
    yield f'],"next_cursor":{json.dumps(cursor)}}}'.encode()


@router.get(
    "/jobs/{job_id}/curves.csv",
    summary="The rows so far as a table",
    response_class=Response,
    responses=file_answers("text/csv"),
)
def read_curves_csv(
    job_id: JobId,
    store: StoreDep,
    asked: FileRequestDep,
    mean: MeanOption = False,
) -> Response:
    """Every measured epoch of a job in any state, failed and cancelled ones too.

    A training run has its tidy rows, a check its cells, a study those of all its runs, with a
    column for each field that it varies.
    """
    found = _measured(store, job_id)

    def make() -> Iterator[bytes]:
        return csv_pieces(*measured_rows(found.runs, store.jobs.each_row, means=mean))

    what = "means.csv" if mean else "curves.csv"
    return found.response(what, "text/csv; charset=utf-8", make, asked)


@router.get(
    "/jobs/{job_id}/curves.parquet",
    summary="The rows so far as a Parquet file",
    response_class=Response,
    responses=file_answers(PARQUET),
)
def read_curves_parquet(
    job_id: JobId, store: StoreDep, asked: FileRequestDep, mean: MeanOption = False
) -> Response:
    """The table of `curves.csv` with the type of each column, for pandas, polars, R or DuckDB.

    The file's metadata name the job, the digests of its spec and of its data, and the versions.
    """
    found = _measured(store, job_id)

    def make() -> Iterator[bytes]:
        table = measured_rows(found.runs, store.jobs.each_row, means=mean)
        return parquet_pieces(table, found.runs, about_file(found.job))

    return found.response("means.parquet" if mean else "curves.parquet", PARQUET, make, asked)


class _Measured(NamedTuple):
    """A job with the runs whose rows are its own, and the version of both."""

    job: Job
    version: int
    runs: Sequence[MeasuredRun]

    def response(
        self, what: str, media_type: str, make: Callable[[], Iterator[bytes]], asked: FileRequest
    ) -> Response:
        """Send a table of the rows."""
        ended = self.job.state in TERMINAL
        # what grows has no parts: the next one would be of another file
        return file_response(
            self.job,
            self.version,
            what,
            media_type,
            make,
            asked,
            costly=not ended,
            in_parts=ended,
        )


def _measured(store: Store, job_id: str) -> _Measured:
    """Return the job, and the runs whose rows are its own. Raises NoSuchJob."""
    job, version = find_versioned_job(store, job_id)
    if job.kind == "study":
        version += store.studies.version_of_runs(job.id)
    return _Measured(job, version, measured_runs(store, job))


@router.get(
    "/jobs/{job_id}/search",
    summary="The trials and the best so far",
    responses=responses(problems.NoSuchJob, problems.NoTrials),
)
def read_search(job_id: JobId, store: StoreDep, view: ViewDep) -> SearchReport:
    """The trials of a search with its objective, and the best one so far, also while it runs.

    The runs of any other study are compared by the accuracy, or by the `objective` that is asked
    for.
    """
    job = find_job(store, job_id)
    if job.kind != "study":
        raise problems.NoTrials(f"{job_id} is a {job.kind}, not a study")
    found = compared_runs(store, job, view.objective, view.direction)
    if found is None:
        raise problems.NoTrials(
            f"no run of {job_id} has an accuracy yet; name another figure as ?objective="
        )
    return report_of(found)


@router.get(
    "/jobs/{job_id}/log",
    summary="The log",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **responses(problems.NoSuchJob)},
)
def read_log(
    job_id: JobId,
    store: StoreDep,
    after: Annotated[int, Query(ge=0, le=2**62, description="leave out events up to this id")] = 0,
) -> Response:
    """The log of the job: its changes of state, and the notes and warnings of its workers."""
    find_job(store, job_id, unread=True)
    return StreamingResponse(
        begun(_log(store, validated_id(job_id), after)), media_type="text/plain; charset=utf-8"
    )


def _log(store: Store, job_id: str, after: int) -> Iterator[bytes]:
    while events := store.events.of_types(job_id, LOGGED, after=after, limit=EVENTS_AT_ONCE):
        yield "".join(log_lines(events)).encode()
        after = events[-1].id


@router.get(
    "/jobs/{job_id}/charts",
    summary="The charts that there are",
    responses=responses(problems.NoSuchJob, *DRAWING_PROBLEMS),
)
async def list_charts(job_id: JobId, resources: ResourcesDep) -> ChartList:
    """The charts for which the job has figures so far; none before the first measurement."""
    job, version = await run_in_threadpool(find_versioned_job, resources.store, job_id)
    names = await chart_names(resources.pictures, job, version)
    return ChartList(
        items=[
            ChartLine(
                name=name,
                meaning=meaning,
                links={fmt: at(f"/v1/jobs/{job_id}/chart/{name}.{fmt}") for fmt in FORMATS},
            )
            for name, meaning in names.items()
        ]
    )


async def get_look(
    title: Annotated[
        TitleLook | None, Query(description="none: without its title and its caption")
    ] = None,
    width_mm: Annotated[
        float | None,
        Query(
            ge=NARROWEST_MM,
            le=WIDEST_MM,
            allow_inf_nan=False,
            description="width of the picture, such as that of a column; panels, legend and text "
            "are laid out for it",
        ),
    ] = None,
    font_pt: Annotated[
        float | None,
        Query(
            ge=SMALLEST_PT,
            le=LARGEST_PT,
            allow_inf_nan=False,
            description="size of the numbers on axes; lines and other text keep their proportion "
            "to it. 8 where there is a width",
        ),
    ] = None,
) -> ChartLook:
    """Return how a chart is to be drawn. Raises ValidationProblem."""
    try:
        return ChartLook(title=title, width_mm=width_mm, font_pt=font_pt)
    except ValidationError as error:
        raise wrong_look(error) from error


def wrong_look(error: ValidationError) -> problems.Problem:
    """Return the problem for a width that has no room for its text."""
    message = error.errors()[0]["msg"].removeprefix("Value error, ")
    return problems.field_problem("query/width_mm", message)


@router.get(
    "/jobs/{job_id}/chart/{file}",
    summary="A chart",
    response_class=Response,
    responses={
        200: {
            "content": {
                "image/png": {},
                "image/svg+xml": {},
                "application/pdf": {},
                "application/json": {},
                "text/html": {},
                "text/csv": {},
            }
        },
        304: {},
        **responses(problems.NoSuchJob, problems.NoSuchChart, *DRAWING_PROBLEMS),
    },
)
async def read_chart(
    job_id: JobId,
    file: Annotated[
        str,
        Path(
            description="NAME.FORMAT, format png, svg, pdf, json, html or csv",
            examples=["sparsity.png"],
            json_schema_extra={"pattern": r"^[a-z0-9_]+\.(png|svg|pdf|json|html|csv)$"},
        ),
    ],
    look: Annotated[ChartLook, Depends(get_look)],
    resources: ResourcesDep,
    asked: FileRequestDep,
    view: ViewDep,
    theme: Annotated[
        Theme, Query(description="dark: light text and lighter colours on a dark page")
    ] = "light",
) -> Response:
    """A chart of the result, or of what is measured so far, drawn on the server.

    SVG has its text as outlines and PDF has its font, so that both look the same everywhere.

    The answer to an unknown name lists the known ones. Of a study, `objective`, `direction`, `x`
    and `y` choose what its runs are compared by, and what `study_scatter` shows.
    """
    job, version = await run_in_threadpool(find_versioned_job, resources.store, job_id)
    name, _, ending = file.rpartition(".")
    fmt = next((known for known in FORMATS if known == ending), None)
    dark = "" if theme == "light" else f"-{theme}"
    what = name_of(f"{name}{look.name}{dark}.{ending}", view)
    has_it = is_known(etag_of(job, version, what), asked.if_none_match)
    if fmt is None or (asked.head_only and not has_it):  # the names are found without drawing
        names = await chart_names(resources.pictures, job, version)
        if fmt is None or name not in names:
            raise no_such_chart(file, names)
    return await drawing_response(
        resources.pictures,
        job,
        version,
        what,
        ChartRequest(job_id=job.id, name=name, fmt=fmt, theme=theme, look=look, view=view),
        MEDIA_TYPES[fmt],
        asked,
        policy=DRAWING if fmt == "html" else INERT,
    )


@router.get(
    "/jobs/{job_id}/report.html",
    summary="The report",
    response_class=Response,
    responses={
        200: {"content": {"text/html": {}}},
        304: {},
        **responses(problems.NoSuchJob, problems.NoResultYet, *DRAWING_PROBLEMS),
    },
)
async def read_report(job_id: JobId, resources: ResourcesDep, asked: FileRequestDep) -> Response:
    """Charts, comparison with the paper, findings and provenance, on one self-contained page."""
    job, version = await run_in_threadpool(find_job_with_result, resources.store, job_id)
    return await drawing_response(
        resources.pictures,
        job,
        version,
        "report.html",
        ReportRequest(job_id=job.id),
        "text/html; charset=utf-8",
        asked,
    )
