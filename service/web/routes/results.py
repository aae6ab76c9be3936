"""What a job has found: rows, results in every form, weights, pictures, the log."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from ffengine.results import AnyResult, CheckResult, StudyResult, TrainResult
from ffengine.spec import TrainSpec
from ffengine.weights import Weights, export_weights
from service.artifacts import EPOCH_NAME, ArtifactDamaged, epoch_name
from service.jobs import Event, Job
from service.results.csv_export import csv_pieces
from service.results.npz_export import stream_npz
from service.schemas import ChartLine, ChartList, RowPage
from service.web import problems
from service.web.dependencies import InState, Resources, checked
from service.web.file_responses import download
from service.web.problems import responses
from service.web.routes.jobs import JobId
from service.web.security_headers import DRAWING, INERT

router = APIRouter(tags=["results"])

EVENTS_AT_ONCE = 1_000
_RESULT: TypeAdapter[TrainResult | CheckResult | StudyResult] = TypeAdapter(AnyResult)
IfNoneMatch = Annotated[
    str | None, Header(description="the ETag of what you have: 304 where it has not changed")
]


def _file(media_type: str, *kinds: type[problems.Problem]) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {}}}, 304: {}, **responses(problems.NoSuchJob, *kinds)}


@router.get(
    "/jobs/{job_id}/result",
    response_model=AnyResult,
    summary="The result",
    responses={304: {}, **responses(problems.NoSuchJob, problems.NoResultYet)},
)
def read_result(job_id: JobId, state: InState, if_none_match: IfNoneMatch = None) -> Response:
    """Curves, cells or a study's summary, with findings and provenance."""
    job, version, document = state.finished(job_id)

    def make() -> str:
        if job.kind != "study":
            return document
        # one that an earlier version stored is answered as this one reads it
        return _RESULT.validate_json(document).model_dump_json()

    return download(
        job, version, "result.json", "application/json", make, if_none_match, inline=True
    )


@router.get(
    "/jobs/{job_id}/result.csv",
    summary="The result as a table",
    response_class=Response,
    responses=_file("text/csv", problems.NoResultYet),
)
def read_csv(job_id: JobId, state: InState, if_none_match: IfNoneMatch = None) -> Response:
    """Tidy rows of a training run, cells of a check, or one row for each cell and figure of a
    study.
    """
    job, version, document = state.finished(job_id)
    make = lambda: csv_pieces(_RESULT.validate_json(document))  # noqa: E731
    return download(job, version, "result.csv", "text/csv; charset=utf-8", make, if_none_match)


@router.get(
    "/jobs/{job_id}/result.npz",
    summary="The figures of every sample",
    response_class=Response,
    responses=_file("application/octet-stream", problems.NoResultYet, problems.NoSamples),
)
def read_npz(job_id: JobId, state: InState, if_none_match: IfNoneMatch = None) -> Response:
    """NumPy arrays: of a check, each cell's `sample`, `margin`, `satisfied`, `dead` and
    `undecided`; of a training run, the curves.

    `header` is a JSON text: what was computed, on which data, and the sha256 of all arrays. Read it
    with `numpy.load(file, allow_pickle=False)`.
    """
    job, version, document = state.finished(job_id)
    result = _RESULT.validate_json(document)
    if isinstance(result, StudyResult):
        raise problems.NoSamples(
            f"{job_id} is a study: each of its runs has its own, {job.links['children']}"
        )
    make = lambda: stream_npz(job, result, state.artifacts, job.cached_from or job.id)  # noqa: E731
    try:
        return download(job, version, "result.npz", "application/octet-stream", make, if_none_match)
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
    state: InState,
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
    if_none_match: IfNoneMatch = None,
) -> Response:
    """What a training job had learnt at the end of an epoch, with its spec in the metadata; also
    while the job runs.
    """
    job = state.job(job_id)
    if not isinstance(job.spec, TrainSpec):
        raise problems.NoWeights(f"{job_id} is a {job.kind}, not a training job")
    owner = job.cached_from or job.id
    found = [EPOCH_NAME.fullmatch(name) for name in state.artifacts.names(owner)]
    there = [(int(match[1]), int(match[2])) for match in found if match]
    fitting = [(of, at) for of, at in there if epoch in (None, at) and layer in (None, of)]
    if not fitting:
        raise problems.NoWeights(f"{job_id} ({job.state.value}) has none of that epoch and layer")
    of, at = fitting[-1]
    # the weights of an epoch never change: a version of the job is no matter
    what = f"layer-{of}-epoch-{at}.safetensors"
    return download(
        job,
        0,
        what,
        "application/octet-stream",
        lambda: _weights(state, job, owner, of, at),
        if_none_match,
    )


def _weights(state: Resources, job: Job, owner: str, layer: int, epoch: int) -> bytes:
    if not isinstance(job.spec, TrainSpec):
        raise problems.NoWeights
    try:
        return export_weights(
            Weights.from_checkpoint(
                state.artifacts.get(owner, epoch_name(layer, epoch)), job.spec, epoch
            )
        )
    except (KeyError, ValueError, ArtifactDamaged) as error:
        raise problems.NoWeights(f"{job.id}: the weights of epoch {epoch} are damaged") from error


@router.get(
    "/jobs/{job_id}/curves", summary="The rows so far", responses=responses(problems.NoSuchJob)
)
def read_curves(job_id: JobId, state: InState) -> RowPage:
    """The tidy rows (of a check: the cells; of a study: its runs that have ended) that are there
    already, also while the job runs.
    """
    job = state.job(job_id)
    if job.kind == "study":
        return RowPage(
            items=[
                cell.model_dump(mode="json")
                for cell in state.store.studies.result(job_id).cells
                if cell.summary
            ]
        )
    return RowPage(items=state.store.jobs.rows(job_id))


@router.get(
    "/jobs/{job_id}/log",
    summary="The log",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **responses(problems.NoSuchJob)},
)
def read_log(
    job_id: JobId,
    state: InState,
    after: Annotated[int, Query(ge=0, le=2**62, description="leave out events up to this id")] = 0,
) -> Response:
    """What happened to the job, line by line: its states, what its workers noted, and their
    warnings.
    """
    state.job(job_id)
    return StreamingResponse(
        _log(state, checked(job_id), after), media_type="text/plain; charset=utf-8"
    )


def _log(state: Resources, job_id: str, after: int) -> Iterator[bytes]:
    while events := state.store.events.of(job_id, after=after, limit=EVENTS_AT_ONCE):
        yield "".join(log_lines(events)).encode()
        after = events[-1].id


def log_lines(events: Iterable[Event]) -> Iterator[str]:
    """TIME LEVEL MESSAGE for each event that tells of a state or was noted."""
    for event in events:
        at = event.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if event.type == "log":
            attempt = f"attempt {event.data['attempt']}: " if "attempt" in event.data else ""
            yield f"{at} {event.data.get('level', 'info'):7} {attempt}{event.data['message']}\n"
        elif event.type == "state":
            told = ", ".join(
                f"{key} {event.data[key]}"
                for key in ("attempt", "worker", "reason", "losses")
                if event.data.get(key)
            )
            error = event.data.get("error")
            level, why = (
                ("error", f": {error['title']}. {error['detail']}") if error else ("info", "")
            )
            yield f"{at} {level:7} {event.data['state']}{told and f' ({told})'}{why}\n"


@router.get(
    "/jobs/{job_id}/charts",
    summary="The charts that there are",
    responses=responses(problems.NoSuchJob),
)
def list_charts(job_id: JobId, state: InState) -> ChartList:
    """The charts for which the job has figures, also while it runs; none where nothing is measured
    yet.
    """
    from service.results.charts import (
        CHARTS,
        FORMATS,
        available,
    )  # loads the charting library: not at start-up
    from service.results.load import drawable

    there = available(drawable(state.store, state.job(job_id), state.artifacts))
    links = {
        name: {fmt: f"/v1/jobs/{job_id}/chart/{name}.{fmt}" for fmt in FORMATS} for name in there
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
        Path(description="NAME.FORMAT, format png, svg, json or html", examples=["sparsity.png"]),
    ],
    state: InState,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A chart of the result, or of what is measured so far, drawn on the server.

    An unknown name is answered with the known ones.
    """
    from service.results.charts import (
        CHARTS,
        FORMATS,
        MEDIA_TYPES,
        available,
        render,
    )  # loads the charting library: not at start-up
    from service.results.load import drawable

    job, version = state.get_with_version(job_id)
    sources = drawable(state.store, job, state.artifacts)
    name, _, ending = file.rpartition(".")
    fmt = next((known for known in FORMATS if known == ending), None)
    there = available(sources)
    if fmt is None or name not in CHARTS or name not in there:
        raise problems.NoSuchChart(
            f"{file!r} is not a chart of this job; there are {', '.join(there) or 'none'}, each "
            f"as {', '.join(FORMATS)}"
        )
    make = lambda: drawn(lambda: render(name, sources, fmt))  # noqa: E731
    policy = DRAWING if fmt == "html" else INERT
    return download(
        job, version, file, MEDIA_TYPES[fmt], make, if_none_match, inline=True, policy=policy
    )


def drawn(draw: Callable[[], bytes]) -> bytes:
    """The chart as bytes.

    Raises NoSuchChart where it turns out that there is nothing to draw, as where kept margins are
    damaged.
    """
    from service.results.charts import NothingToDraw

    try:
        return draw()
    except NothingToDraw as error:
        raise problems.NoSuchChart(str(error)) from error


@router.get(
    "/jobs/{job_id}/report.html",
    summary="The report",
    response_class=Response,
    responses=_file("text/html", problems.NoResultYet),
)
def read_report(job_id: JobId, state: InState, if_none_match: IfNoneMatch = None) -> Response:
    """Charts, the table beside the paper's figures, findings and provenance, as one page that loads
    nothing else.
    """
    from service.results.load import sources_of
    from service.results.report import report

    job, version, document = state.finished(job_id)
    make = lambda: report(job, sources_of(state.store, job, document, state.artifacts))  # noqa: E731
    return download(
        job, version, "report.html", "text/html; charset=utf-8", make, if_none_match, inline=True
    )
