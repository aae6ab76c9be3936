"""The pages: each reads the store as the API does, and renders one template.

Whatever changes something is sent to /v1 by the script.
"""

import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Depends, Form, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from pydantic import JsonValue, ValidationError

from ffengine.arrays import DatasetError
from ffengine.datasets import facts_of, find
from ffengine.entry import Described
from ffengine.presets import PRESETS
from ffengine.results import Diagnostic
from ffengine.spec import ELSEWHERE, StudySpec, Submission, as_document
from ffengine.study import GridError, is_resolved, resolved, written_out
from service.jobs import TERMINAL, Event, Job, JobState
from service.results.descriptions import ACTIONS, provenance_lines, title_of
from service.results.job_diff import JobDiff
from service.specs.files import DEFAULTS, Spec
from service.specs.json_pointers import in_body
from service.specs.plain_yaml import NotPlain, parsed, written
from service.store.database import DATABASE_ERRORS
from service.store.inserts import PRIORITIES
from service.web import problems
from service.web.dashboard import view_models
from service.web.dashboard.openapi_reference import operations
from service.web.dashboard.templating import names, page
from service.web.dashboard.thumbnails import can_be_drawn, picture, picture_size
from service.web.dependencies import KEY_COOKIE, InState, Resources, owner_of, refuse_other_sites
from service.web.routes.catalog import read_catalog, read_presets
from service.web.routes.datasets import list_datasets
from service.web.routes.results import drawn, log_lines
from service.web.routes.system import list_workers

LISTED, RUNS_SHOWN, LOG_LINES, MOST_COMPARED = 50, 200, 300, 12
LONGEST_SPEC = 200_000  # bytes of YAML
FIRST_PRESET = "quick"
Sought = Annotated[
    str, Query(max_length=200, pattern=r"^[^\x00]*$")
]  # of any kind that may have been stored, which NUL was not
JobIds = Annotated[
    list[str], Query(alias="job", max_length=MOST_COMPARED, description="2 to 12 jobs")
]


class Page(APIRoute):
    """A route whose refusals are pages, too; who has no key is sent to sign in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with its problems rendered."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except problems.KeyNeeded:
                back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(
                    request.url_for("sign_in_page")
                    .include_query_params(to=back)
                    .replace(scheme="", netloc=""),
                    303,
                )
            except problems.Problem as problem:
                return page(
                    "problem",
                    request,
                    problem.status,
                    problem={"title": problem.title(), "detail": problem.detail},
                )
            except RequestValidationError as error:
                wrong = problems.invalid(error.errors(), None)
                return page(
                    "problem",
                    request,
                    wrong.status,
                    problem={"title": wrong.title(), "detail": wrong.detail},
                )
            except DATABASE_ERRORS as error:
                away = problems.database_away(error)
                return page(
                    "problem",
                    request,
                    away.status,
                    problem={"title": away.title(), "detail": away.detail},
                )

        return handled


router = APIRouter(route_class=Page, include_in_schema=False, dependencies=[Depends(owner_of)])
entrance = APIRouter(route_class=Page, include_in_schema=False)
specs = APIRouter(
    include_in_schema=False, dependencies=[Depends(owner_of)]
)  # for the form's script: its refusals are documents


@router.get("/")
def jobs_page(
    request: Request,
    state: InState,
    name: Sought = "",
    job_state: Annotated[JobState | Literal[""], Query(alias="state")] = "",
    kind: Literal["train", "check", "study", ""] = "",
    tag: Sought = "",
    who: Sought = "",
    cursor: Sought | None = None,
) -> Response:
    """The jobs, newest first."""
    given = {"search": name, "state": job_state, "kind": kind, "tag": tag, "submitted_by": who}
    filters: dict[str, Any] = {field: value for field, value in given.items() if value}
    found = state.store.jobs.page(limit=LISTED, before=cursor, **filters)
    following = request.url.include_query_params(cursor=found.next_id)
    return page(
        "jobs",
        request,
        jobs=found.jobs,
        headlines=state.store.jobs.headlines(found.jobs),
        states=[one.value for one in JobState],
        kinds=list(DEFAULTS),
        asked={"name": name, "state": str(job_state), "kind": kind, "tag": tag, "who": who},
        with_who=any(job.submitted_by for job in found.jobs),
        filtered=bool(filters) or cursor is not None,
        next_url=f"{following.path}?{following.query}" if found.next_id else None,
        first_preset=FIRST_PRESET,
    )


@router.get("/jobs/{job_id}")
def job_page(request: Request, state: InState, job_id: str) -> Response:
    """One job, or a study with its runs."""
    from service.results.charts import (
        CHARTS,
        Source,
        available,
    )  # loads the charting library: not at start-up
    from service.results.load import drawable
    from service.results.paper_comparison import comparison, legend
    from service.results.sentences import sentences

    job = state.job(job_id)
    ended = job.state in TERMINAL
    events = state.store.events.last(job.id, LOG_LINES)
    sources = drawable(state.store, job, state.artifacts)
    results = [source for source in sources if isinstance(source, Source)]
    lines = comparison(results)
    has_result = ended and (state.store.jobs.result(job.id) is not None or job.kind == "study")
    return page(
        "job",
        request,
        job=job,
        ended=ended,
        seen=events[-1].id if events else 0,
        actions=ACTIONS[job.state],
        waiting=view_models.waiting(job),
        findings=view_models.findings(
            [(source.label, one) for source in results for one in source.result.diagnostics]
            or _findings(events)
        ),
        charts=available(sources),
        meanings={name: entry.meaning for name, entry in CHARTS.items()},
        found=sentences(results),
        lines=lines,
        legend=legend(lines),
        **_runs(state, job),
        has_result=has_result,
        downloads=view_models.downloads(job),
        provenance=provenance_lines(job.provenance),
        snippets=view_models.snippets(
            job, str(request.base_url).rstrip("/"), keyed=state.authenticator.needs_keys
        ),
        log="".join(log_lines(events)),
    )


@router.get("/compare")
def compare_page(request: Request, state: InState, job_ids: JobIds = []) -> Response:  # noqa: B006 - never changed
    """Several jobs side by side."""
    from service.results.charts import CHARTS, Source, available
    from service.results.load import drawable
    from service.results.paper_comparison import comparison

    jobs = [state.job(job_id) for job_id in dict.fromkeys(job_ids)]
    labels = _labels(jobs)
    sources = [drawable(state.store, job, state.artifacts) for job in jobs]
    lines = [comparison([one for one in found if isinstance(one, Source)]) for found in sources]
    return page(
        "compare",
        request,
        jobs=jobs,
        unended=any(job.state not in TERMINAL for job in jobs),
        labels=labels,
        contrast=JobDiff.of(jobs, lines),
        charts=available([one for found in sources for one in found]),
        meanings={name: entry.meaning for name, entry in CHARTS.items()},
        query="&".join(f"job={job.id}" for job in jobs),
        most=MOST_COMPARED,
    )


@router.get("/compare/{name}.json")
def compare_chart(state: InState, name: str, job_ids: JobIds) -> Response:
    """A chart of several jobs: curves over each other, a panel each where there is more to show."""
    from service.results.charts import available, overlay
    from service.results.load import drawable

    jobs = [state.job(job_id) for job_id in dict.fromkeys(job_ids)]
    labels = _labels(jobs)
    found = [
        (labels[job.id], source)
        for job in jobs
        for source in drawable(state.store, job, state.artifacts)
    ]
    sources = [
        source._replace(label=" ".join(filter(None, (label, source.label))))
        for label, source in found
    ]
    if name not in available(sources):
        raise problems.NoSuchChart
    content = drawn(lambda: overlay(name, sources))
    return Response(content, media_type="application/json", headers={"Cache-Control": "no-store"})


@router.get("/new")
def new_page(
    request: Request,
    state: InState,
    preset: str | None = None,
    like: str | None = None,
    weights: str | None = None,
) -> Response:
    """The form of a spec: from the defaults, a preset or another job, or a check of a training
    job's last weights.
    """
    job = state.job(like) if like is not None else None
    begun = Beginning("the defaults", DEFAULTS["train"])
    if job is not None:
        begun = _like(job)
    elif weights is not None:
        begun = Beginning("the check of trained weights", view_models.check_of(state.job(weights)))
    elif preset in PRESETS:
        begun = Beginning(f"the preset {preset}", resolved(StudySpec(preset=preset)))
    defaults = {kind: _complete(spec) for kind, spec in DEFAULTS.items()}
    start = {
        "title": begun.title,
        "spec": _complete(begun.spec),
        "defaults": defaults,
        "tags": job.tags if job else [],
    }
    name, priority = (job.name, job.priority) if job else (None, "normal")
    presets = read_presets().items
    return page(
        "new",
        request,
        start=start,
        presets=presets,
        chosen=preset,
        name=name,
        priority=priority,
        priorities=PRIORITIES,
    )


class Beginning(NamedTuple):
    """What a form begins with, and what that is called."""

    title: str
    spec: Spec


def _like(job: Job) -> Beginning:
    title = f"the job {title_of(job)}"
    if isinstance(job.spec, StudySpec) and not is_resolved(job.spec):
        title += ", which an earlier version ran, as it is today"
    try:
        return Beginning(title, written_out(job.spec, ELSEWHERE))
    except GridError as error:
        raise problems.invalid_at(f"/spec{error.pointer}", error.message) from error


def _complete(spec: Spec) -> dict[str, Any]:
    """The spec with every default."""
    return written_out(spec, ELSEWHERE).model_dump(mode="json")


@router.get("/workers")
def workers_page(request: Request, state: InState) -> Response:
    """Who works, and how much there is to do."""
    return page(
        "workers",
        request,
        workers=list_workers(state).items,
        counts=list(state.store.jobs.counts().items()),
    )


@router.get("/datasets")
def datasets_page(request: Request, state: InState) -> Response:
    """The data sets with samples as pictures."""
    found = list_datasets(state).items
    root = state.settings.data_root
    pictured = {
        facts.name: picture_size(facts_of(facts.name, root))
        for facts in found
        if can_be_drawn(facts_of(facts.name, root), root)
    }
    return page("datasets", request, datasets=found, pictured=pictured)


@router.get("/datasets/{name}.png")
def dataset_picture(request: Request, state: InState, name: Annotated[str, Path()]) -> Response:
    """Samples of every class."""
    root = state.settings.data_root
    facts = find(name, root)
    if facts is None or not can_be_drawn(facts, root):
        raise problems.NoSuchDataset(
            f"{name!r} is not on this machine yet, or too large to be looked at"
        )
    try:
        content = picture(name, facts.digest, root)
    except DatasetError as error:
        raise problems.NoSuchDataset(str(error)) from error
    return Response(
        content, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"}
    )


@router.get("/catalog")
def catalog_page(request: Request) -> Response:
    """Every entry with its meaning."""
    catalogue = read_catalog()
    kept = [
        name for name in type(catalogue).model_fields if name not in ("datasets", "spec_schema")
    ]
    catalogues = [(name, getattr(catalogue, name)) for name in kept]
    return page(
        "catalog",
        request,
        catalogues=catalogues,
        pictures=_pictures(catalogues),
        presets=read_presets().items,
    )


@router.get("/docs")
def reference_page(request: Request) -> Response:
    """Every route of the API, from its OpenAPI document."""
    return page("reference", request, operations=operations(request.app.openapi()))


async def text_of(request: Request) -> str:
    """The text of a request's body."""
    content = await request.body()
    if len(content) > LONGEST_SPEC:
        raise problems.BodyTooLarge(
            f"a spec has at most {LONGEST_SPEC:,} bytes, this one {len(content):,}"
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise problems.MalformedBody(f"this is not UTF-8: {error}") from error


BodyText = Annotated[
    str, Depends(text_of)
]  # read before the route, which then runs beside the event loop


@specs.post("/spec.yaml")
def spec_as_yaml(text: BodyText) -> Response:
    """A spec as a file: short where it is one, as it stands where something is wrong with it."""
    document = _document(text)
    with contextlib.suppress(problems.Invalid):
        document = as_document(_spec(document))
    return Response(written(document), media_type="application/yaml")


@specs.post("/spec.json")
def spec_as_json(text: BodyText) -> Response:
    """The spec of a file, with every default."""
    document = _document(text)
    inner = document.get("spec")
    return Response(
        _spec(inner if isinstance(inner, dict) else document).model_dump_json(),
        media_type="application/json",
    )


@entrance.get("/login", name="sign_in_page")
def sign_in_page(request: Request, to: str = "/") -> Response:
    """Asks for the key."""
    return page("login", request, to=_safe_redirect_target(to), wrong=False)


@entrance.post("/login")
def sign_in(
    request: Request,
    state: InState,
    key: Annotated[str, Form(max_length=500)],
    to: Annotated[str, Form()] = "/",
) -> Response:
    """Keeps the key in a cookie that no script can read, until the browser is closed."""
    refuse_other_sites(request)
    state.authenticator.refresh()
    try:
        state.authenticator.owner(None, key.strip())
    except problems.KeyNeeded:
        return page("login", request, 401, to=_safe_redirect_target(to), wrong=True)
    answer = RedirectResponse(_safe_redirect_target(to), 303)
    answer.set_cookie(
        KEY_COOKIE, key.strip(), httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )
    return answer


def _safe_redirect_target(to: str) -> str:
    """The address, if it is one of ours: nobody is sent elsewhere."""
    return (
        to if to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable() else "/"
    )


def _spec(document: dict[str, Any]) -> Spec:
    """What the document asks for, written out. Raises Invalid."""
    try:
        return written_out(Submission.model_validate({"spec": document}).spec, None)
    except ValidationError as error:
        raise problems.invalid(in_body(error), {"spec": document}) from error
    except GridError as error:
        raise problems.invalid_at(f"/spec{error.pointer}", error.message) from error


def _document(text: str) -> dict[str, JsonValue]:
    try:
        found = parsed(text)
    except NotPlain as error:
        raise problems.MalformedBody(f"this is not YAML: {error}") from error
    if not isinstance(found, dict):
        raise problems.MalformedBody("a spec is an object, such as `kind: train`")
    return found


def _pictures(catalogues: Sequence[tuple[str, Sequence[Described]]]) -> dict[tuple[str, str], str]:
    """The files that show what an entry does, by catalogue and entry; scripts/make_negatives.py
    draws them.
    """
    files = {
        (name, line.name): f"{name}-{line.name}.png" for name, lines in catalogues for line in lines
    }
    return {entry: file for entry, file in files.items() if file in names()}


def _findings(events: Sequence[Event]) -> list[tuple[str, Diagnostic]]:
    """What was found about a job that failed."""
    found: list[object] = next(
        (event.data["diagnostics"] for event in reversed(events) if event.data.get("diagnostics")),
        [],
    )
    return [("", Diagnostic.model_validate(one)) for one in found]


def _runs(state: Resources, job: Job) -> dict[str, Any]:
    if job.kind != "study":
        return {"children": [], "headlines": {}, "counted": "", "more_children": False}
    found = state.store.jobs.page(limit=RUNS_SHOWN, parent=job.id)
    counted = {one: sum(run.state == one for run in found.jobs) for one in JobState}
    told = ", ".join(f"{count} {one.value}" for one, count in counted.items() if count)
    return {
        "children": found.jobs[::-1],
        "headlines": state.store.jobs.headlines(found.jobs),
        "counted": told,
        "more_children": bool(found.next_id),
    }


def _labels(jobs: Sequence[Job]) -> dict[str, str]:
    """A name for each job; where two have the same, with the end of the id."""
    titles = [title_of(job) for job in jobs]
    return {
        job.id: title if titles.count(title) == 1 else f"{title} ({job.id[-4:]})"
        for job, title in zip(jobs, titles, strict=True)
    }
