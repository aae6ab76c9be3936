"""Routes of results: rows, files in every form, weights, charts, the log."""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from ffengine.results import AnyResult, StudyResult
from ffengine.spec import TrainSpec
from ffengine.weights import Weights, export_weights
from service.artifacts import EPOCH_NAME, ArtifactDamaged, Artifacts, epoch_name
from service.jobs import TERMINAL, Job
from service.results.csv_export import csv_pieces, to_csv
from service.results.measured_rows import MeasuredRun, measured_rows, runs_of_study
from service.results.npz_export import stream_npz
from service.root_path import at
from service.schemas import RESULT, ChartLine, ChartList, RowPage
from service.store import Store
from service.web import problems
from service.web.dependencies import ArtifactsDep, StoreDep
from service.web.file_responses import FileRequestDep, file_response, render_or_404
from service.web.job_log import log_lines
from service.web.lookup import find_job, find_result, find_versioned_job, validated_id
from service.web.problems import responses
from service.web.routes.jobs import JobId
from service.web.security_headers import DRAWING, INERT

router = APIRouter(tags=["results"])

EVENTS_AT_ONCE = 1_000


def _file(media_type: str, *kinds: type[problems.Problem]) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"content": {media_type: {}}},
        206: {"description": "The part that was asked for", "content": {media_type: {}}},
        304: {},
        **responses(problems.NoSuchJob, problems.RangeOutside, *kinds),
    }


@router.get(
    "/jobs/{job_id}/result",
    response_model=AnyResult,
    summary="The result",
    responses={
        206: {"description": "The part that was asked for", "content": {"application/json": {}}},
        304: {},
        **responses(problems.NoSuchJob, problems.RangeOutside, problems.NoResultYet),
    },
)
def read_result(job_id: JobId, store: StoreDep, asked: FileRequestDep) -> Response:
    """The curves, cells or summary of the job, with findings and provenance."""
    job, version, document = find_result(store, job_id)

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
    responses=_file("text/csv", problems.NoResultYet),
)
def read_csv(job_id: JobId, store: StoreDep, asked: FileRequestDep) -> Response:
    """The result as a table.

    A training run has its tidy rows, a check its cells, a study one row for each cell and figure:
    `quantity` says which, and each varied field has a column.
    """
    job, version, document = find_result(store, job_id)

    def make() -> str:
        return to_csv(RESULT.validate_json(document))

    return file_response(job, version, "result.csv", "text/csv; charset=utf-8", make, asked)


@router.get(
    "/jobs/{job_id}/result.npz",
    summary="The figures of every sample",
    response_class=Response,
    responses=_file("application/octet-stream", problems.NoResultYet, problems.NoSamples),
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
    responses=_file("application/octet-stream", problems.NoWeights),
)
def read_weights(
    job_id: JobId,
    store: StoreDep,
    artifacts: ArtifactsDep,
    asked: FileRequestDep,
    epoch: Annotated[
        int | None, Query(ge=0, description="a measured epoch; the last one where it is left out")
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
    if not isinstance(job.spec, TrainSpec):
        raise problems.NoWeights(f"{job_id} is a {job.kind}, not a training job")
    owner = job.cached_from or job.id
    found = [EPOCH_NAME.fullmatch(name) for name in artifacts.names(owner)]
    there = [(int(match[1]), int(match[2])) for match in found if match]
    fitting = [(of, at) for of, at in there if epoch in (None, at) and layer in (None, of)]
    if not fitting:
        raise problems.NoWeights(f"{job_id} ({job.state.value}) has none of that epoch and layer")
    of, at = fitting[-1]
    # the weights of an epoch never change, whatever the version of the job
    what = f"layer-{of}-epoch-{at}.safetensors"

    def make() -> bytes:
        return _weights(artifacts, job, owner, of, at)

    return file_response(
        job,
        0,
        what,
        "application/octet-stream",
        make,
        asked,
    )


def _weights(artifacts: Artifacts, job: Job, owner: str, layer: int, epoch: int) -> bytes:
    if not isinstance(job.spec, TrainSpec):
        raise problems.NoWeights
    try:
        return export_weights(
            Weights.from_checkpoint(artifacts.get(owner, epoch_name(layer, epoch)), job.spec, epoch)
        )
    except (KeyError, ValueError, ArtifactDamaged) as error:
        raise problems.NoWeights(f"{job.id}: the weights of epoch {epoch} are damaged") from error


@router.get(
    "/jobs/{job_id}/curves", summary="The rows so far", responses=responses(problems.NoSuchJob)
)
def read_curves(job_id: JobId, store: StoreDep) -> RowPage:
    """The rows that are measured so far, also while the job runs.

    A training run has tidy rows, a check its cells, a study its runs that have ended.
    """
    job = find_job(store, job_id)
    if job.kind == "study":
        return RowPage(
            items=[
                cell.model_dump(mode="json")
                for cell in store.studies.result(job_id).cells
                if cell.summary
            ]
        )
    return RowPage(items=store.jobs.rows(job_id))


@router.get(
    "/jobs/{job_id}/curves.csv",
    summary="The rows so far as a table",
    response_class=Response,
    responses=_file("text/csv"),
)
def read_curves_csv(
    job_id: JobId,
    store: StoreDep,
    asked: FileRequestDep,
    mean: Annotated[
        bool,
        Query(description="a row for each figure, with its mean over seeds and the 95 % interval"),
    ] = False,
) -> Response:
    """Every measured epoch of a job in any state, failed and cancelled ones too.

    A training run has its tidy rows, a check its cells, a study those of all its runs, with a
    column for each field that it varies.
    """
    job, version = find_versioned_job(store, job_id)
    runs = [MeasuredRun(job.id, job.kind, {})]
    if job.kind == "study":
        version += store.studies.version_of_runs(job.id)
        runs = runs_of_study(store.studies.result(job.id).cells)

    def make() -> Iterator[bytes]:
        return csv_pieces(*measured_rows(runs, store.jobs.rows, means=mean))

    what = "means.csv" if mean else "curves.csv"
    ended = job.state in TERMINAL  # what grows has no parts: the next one would be of another file
    return file_response(
        job, version, what, "text/csv; charset=utf-8", make, asked, costly=not ended, in_parts=ended
    )


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
    find_job(store, job_id)
    return StreamingResponse(
        _log(store, validated_id(job_id), after), media_type="text/plain; charset=utf-8"
    )


def _log(store: Store, job_id: str, after: int) -> Iterator[bytes]:
    while events := store.events.of(job_id, after=after, limit=EVENTS_AT_ONCE):
        yield "".join(log_lines(events)).encode()
        after = events[-1].id


@router.get(
    "/jobs/{job_id}/charts",
    summary="The charts that there are",
    responses=responses(problems.NoSuchJob),
)
def list_charts(job_id: JobId, store: StoreDep, artifacts: ArtifactsDep) -> ChartList:
    """The charts for which the job has figures so far; none before the first measurement."""
    # the charting library takes long to load: not at start-up
    from service.results.charts import CHARTS, FORMATS, available
    from service.results.load import drawable

    there = available(drawable(store, find_job(store, job_id), artifacts))
    links = {
        name: {fmt: at(f"/v1/jobs/{job_id}/chart/{name}.{fmt}") for fmt in FORMATS}
        for name in there
    }
    return ChartList(
        items=[
            ChartLine(name=name, meaning=CHARTS[name].meaning, links=links[name]) for name in there
        ]
    )


@router.get(
    "/jobs/{job_id}/chart/{file}",
    summary="A chart",
    response_class=Response,
    responses={
        200: {
            "content": {
                "image/png": {},
                "image/svg+xml": {},
                "application/json": {},
                "text/html": {},
            }
        },
        304: {},
        **responses(problems.NoSuchJob, problems.NoSuchChart),
    },
)
def read_chart(
    job_id: JobId,
    file: Annotated[
        str,
        Path(
            description="NAME.FORMAT, format png, svg, json or html",
            examples=["sparsity.png"],
            json_schema_extra={"pattern": r"^[a-z0-9_]+\.(png|svg|json|html)$"},
        ),
    ],
    store: StoreDep,
    artifacts: ArtifactsDep,
    asked: FileRequestDep,
) -> Response:
    """A chart of the result, or of what is measured so far, drawn on the server.

    The answer to an unknown name lists the known ones.
    """
    # the charting library takes long to load: not at start-up
    from service.results.charts import CHARTS, FORMATS, MEDIA_TYPES, available, render
    from service.results.load import drawable

    job, version = find_versioned_job(store, job_id)
    sources = drawable(store, job, artifacts)
    name, _, ending = file.rpartition(".")
    fmt = next((known for known in FORMATS if known == ending), None)
    there = available(sources)
    if fmt is None or name not in CHARTS or name not in there:
        raise problems.NoSuchChart(
            f"{file!r} is not a chart of this job; there are {', '.join(there) or 'none'}, each "
            f"as {', '.join(FORMATS)}"
        )

    def make() -> bytes:
        return render_or_404(lambda: render(name, sources, fmt))

    policy = DRAWING if fmt == "html" else INERT
    return file_response(
        job,
        version,
        file,
        MEDIA_TYPES[fmt],
        make,
        asked,
        inline=True,
        policy=policy,
        costly=True,
        in_parts=False,
    )


@router.get(
    "/jobs/{job_id}/report.html",
    summary="The report",
    response_class=Response,
    responses={
        200: {"content": {"text/html": {}}},
        304: {},
        **responses(problems.NoSuchJob, problems.NoResultYet),
    },
)
def read_report(
    job_id: JobId, store: StoreDep, artifacts: ArtifactsDep, asked: FileRequestDep
) -> Response:
    """Charts, comparison with the paper, findings and provenance, on one self-contained page."""
    from service.results.load import sources_of
    from service.results.report import report

    job, version, document = find_result(store, job_id)

    def make() -> str:
        return report(job, sources_of(store, job, document, artifacts))

    return file_response(
        job,
        version,
        "report.html",
        "text/html; charset=utf-8",
        make,
        asked,
        inline=True,
        costly=True,
        in_parts=False,
    )
