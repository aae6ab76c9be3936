"""The pages: each reads the store and renders one template.

The pages' script sends changes to the API under /v1.
"""

import contextlib
from collections import Counter as Tally
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any, NamedTuple, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from pydantic import JsonValue, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from ffengine.advice import advice_on
from ffengine.arrays import DatasetError
from ffengine.cost import Estimate, estimate
from ffengine.datasets import Datasets
from ffengine.entry import Described
from ffengine.findings import FINDINGS
from ffengine.onset import onset_before
from ffengine.presets import PRESETS
from ffengine.results import Diagnostic
from ffengine.spec import (
    DatasetSpec,
    RecordedSpec,
    StudySpec,
    Submission,
    TrainSpec,
    UnreadSpec,
    as_document,
)
from ffengine.study import GridError, is_resolved, resolved, written_out
from ffengine.uploads import LONGEST_MEANING
from service.encoding.root_path import SHARED, at
from service.encoding.viewer import VIEWER
from service.headline import FIGURES
from service.jobs import TERMINAL, Event, Job, JobKind, JobState, actions_on
from service.results.chart_formats import Theme
from service.results.chart_groups import grouped, panels_of, size_of
from service.results.descriptions import provenance_lines, title_of
from service.results.job_diff import JobDiff
from service.results.symbols import SYMBOLS, Symbol, symbols_in
from service.schemas import RESULT, Spec
from service.specs.files import DEFAULTS
from service.specs.json_pointers import in_body
from service.specs.plain_yaml import NotPlain, parsed, written
from service.store import DEAD_WORKER_SECONDS, Store
from service.store.audit import Action
from service.store.database import DATABASE_ERRORS
from service.store.inserts import PRIORITIES
from service.store.usage import By
from service.submission import InvalidField, refuse_unavailable
from service.web import problems
from service.web.catalogue import build_catalog, build_presets
from service.web.chart_views import ViewDep
from service.web.cross_origin import refuse_cross_site
from service.web.dashboard import view_models
from service.web.dashboard.job_table import (
    PAGE_SIZES,
    Asked,
    AskedDep,
    table_of_jobs,
    table_of_runs,
)
from service.web.dashboard.openapi_reference import operations
from service.web.dashboard.shown_results import shown_of, weights_of_best
from service.web.dashboard.templating import render_page, static_files
from service.web.dashboard.thumbnails import lack_of_thumbnail, thumbnail, thumbnail_size
from service.web.dataset_facts import all_datasets
from service.web.dependencies import (
    ArtifactsDep,
    ResourcesDep,
    SettingsDep,
    StoreDep,
    get_owner,
    require_admin,
)
from service.web.drawing.protocol import OverlayRequest
from service.web.drawings import drawn
from service.web.job_log import LOGGED, log_lines
from service.web.large_results import turn_for
from service.web.lookup import find_job, find_versioned_job, is_job_id
from service.web.problems import NoSuchPage
from service.web.sharing import share_of

LOST = "The address may be mistyped, or what was there was deleted since."
REFRESH = "fflab-refresh"  # the header of a page that asks for itself again, see live.js
LOG_LINES, MOST_COMPARED = 300, 12
LAST_PROGRESS = 5  # events that are searched for how far a job came
LONGEST_SPEC = 200_000  # bytes of YAML
FIRST_PRESET, QUICK_PRESET = "paper", "quick"
DATASETS_SHOWN, AUDIT_LINES = 20, 100
# any text that may be stored: everything but NUL
SearchText = Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")]
JobIds = Annotated[
    list[str], Query(alias="job", max_length=MOST_COMPARED, description="2 to 12 jobs")
]


class PageRoute(APIRoute):
    """A route that renders problems as pages, and sends who has no key to the sign-in page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with its problems rendered."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except problems.KeyNeeded:
                back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                sign_in = request.url_for("sign_in_page").include_query_params(to=back)
                return RedirectResponse(at(f"{sign_in.path}?{sign_in.query}"), 303)
            except problems.Problem as problem:
                return _problem_page(request, problem)
            except RequestValidationError as error:
                return _problem_page(request, problems.validation_problem(error.errors(), None))
            except DATABASE_ERRORS as error:
                return _problem_page(request, problems.database_away(error))
            except HTTPException:
                raise
            except Exception as error:  # noqa: BLE001 - what nobody foresaw is a page, too
                fault = problems.unexpected(request, error)
                answer = _problem_page(request, fault)
                answer.headers.update(fault.headers)
                return answer

        return handled


def _problem_page(request: Request, problem: problems.Problem) -> Response:
    """A problem as a page; what is not there says so in words for people, not for programs."""
    is_lost = problem.status == problems.NoSuchPage.status and problem.detail == problem.advice
    shown = {"title": problem.title, "detail": LOST if is_lost else problem.detail}
    return render_page("problem", request, problem.status, problem=shown)


async def http_error(request: Request, error: Exception) -> Response:
    """Answer an unknown address with a page where a browser asks, else with a problem document."""
    assert isinstance(error, HTTPException)  # noqa: S101 - narrows the type
    of_program = request.url.path.startswith("/v1") or request.method not in ("GET", "HEAD")
    of_browser = "text/html" in request.headers.get("accept", "") and not of_program
    if error.status_code != NoSuchPage.status or not of_browser:
        return await problems.http_error(request, error)
    return _problem_page(request, NoSuchPage())


router = APIRouter(
    route_class=PageRoute, include_in_schema=False, dependencies=[Depends(get_owner)]
)
sign_in_router = APIRouter(route_class=PageRoute, include_in_schema=False)
# the form's script calls these, so that their problems are documents, not pages
spec_router = APIRouter(include_in_schema=False, dependencies=[Depends(get_owner)])


@router.get("/")
@router.get("/jobs")  # the address of a job, cut short
def jobs_page(request: Request, store: StoreDep, asked: AskedDep) -> Response:
    """The jobs, newest first unless another order is asked for.

    What is counted over all of them stands outside of what an open page renews.
    """
    again = REFRESH in request.headers
    return render_page(
        "jobs",
        request,
        table=table_of_jobs(store, asked, again=again),
        states=[one.value for one in JobState],
        kinds=get_args(JobKind),
        projects=[] if again else store.jobs.projects(),
        with_who=bool(asked.who) or bool(store.api_keys.all()),
        page_sizes=PAGE_SIZES,
        first_preset=FIRST_PRESET,
        quick_preset=QUICK_PRESET,
    )


@router.get("/jobs/{job_id}/runs")
def runs_page(request: Request, store: StoreDep, job_id: str, asked: AskedDep) -> Response:
    """The runs of a study as a table, in their order unless another one is asked for."""
    job = find_job(store, job_id)
    if job.kind != "study":
        raise problems.NoSuchPage
    return render_page(
        "runs",
        request,
        job=job,
        table=table_of_runs(store, job, asked),
        states=[one.value for one in JobState],
        figures=list(FIGURES),
        page_sizes=PAGE_SIZES,
    )


@router.get("/jobs/{job_id}")
def job_page(request: Request, resources: ResourcesDep, job_id: str, view: ViewDep) -> Response:
    """One job, or a study with its runs."""
    # the charting library takes long to load: not at start-up
    from service.results.charts import CHARTS
    from service.results.onset_table import onset_table
    from service.results.paper_comparison import legend

    job = find_job(resources.store, job_id, unread=True)
    if isinstance(job.spec, UnreadSpec):
        return render_page(
            "unread",
            request,
            job=job,
            ended=job.state in TERMINAL,
            actions=actions_on(job),
            is_own=VIEWER.get().may_change(job.submitted_by),
        )
    ended = job.state in TERMINAL
    seen = resources.store.events.newest_of(job.id)
    events = resources.store.events.last(job.id, (*LOGGED, "end"), upto=seen, limit=LOG_LINES)
    shown = shown_of(resources, job, view)
    trials, charts, opening, onset = shown.trials, shown.charts, shown.opening, shown.onset
    if onset is None and not (ended and job.state == JobState.succeeded):
        onset = view_models.onset_before_result(job, resources.settings.datasets)
    has_result = ended and (resources.store.jobs.result(job.id) is not None or job.kind == "study")
    return render_page(
        "job",
        request,
        job=job,
        ended=ended,
        seen=seen,
        actions=actions_on(job),
        is_own=VIEWER.get().may_change(job.submitted_by),
        stopped_at=_stopped_at(resources.store, job, seen),
        waiting=view_models.waiting(job),
        left=view_models.seconds_left(job),
        took=view_models.seconds_taken(job),
        opening=opening,
        now=shown.now,
        findings=view_models.findings(
            shown.findings or [*_findings(events), *_expected(job, resources.settings.datasets)]
        ),
        groups=grouped([name for name in charts if name not in opening.charts], shown.size),
        size=shown.size,
        panels_of=panels_of,
        best_weights=weights_of_best(resources, trials),
        meanings={name: entry.meaning for name, entry in CHARTS.items()},
        found=shown.found,
        symbols=shown.symbols,
        trials=trials,
        chart_query=f"?{urlencode(view.parameters)}" if view.parameters else "",
        lines=shown.lines,
        most_rows=view_models.MOST_OPEN_ROWS,
        legend=legend(shown.lines),
        onset=onset_table(onset, job.spec.epochs)
        if onset and isinstance(job.spec, TrainSpec)
        else None,
        tables=shown.tables,
        epochs_needed=shown.epochs.rows,
        epochs_head=shown.epochs.head,
        runs=table_of_runs(resources.store, job, Asked()) if job.kind == "study" else None,
        figures=list(FIGURES),
        projects=resources.store.jobs.project_names(),
        priorities=PRIORITIES,
        has_result=has_result,
        downloads=view_models.downloads(
            job, has_result=has_result, rows=shown.rows, shared=bool(SHARED.get())
        )
        if charts or has_result
        else [],
        paper=shown.paper if has_result else shown.paper._replace(tables=()),
        provenance=provenance_lines(job.provenance)
        or view_models.recorded_lines(job, resources.store.jobs.result),
        data_note=view_models.data_note(job, resources.settings.datasets),
        snippets=view_models.snippets(
            job,
            resources.settings.public_url or str(request.base_url).rstrip("/") + at(""),
            keyed=resources.authenticator.needs_keys,
        ),
        shares=[] if SHARED.get() else [share_of(one) for one in resources.store.shares.of(job.id)],
        log="".join(log_lines(events)),
    )


@router.get("/compare")
def compare_page(
    request: Request,
    store: StoreDep,
    artifacts: ArtifactsDep,
    job_ids: JobIds = [],  # noqa: B006 - never changed
) -> Response:
    """Several jobs side by side."""
    from service.results.charts import CHARTS, Source, available
    from service.results.charts.overlay import OVERLAID
    from service.results.load import drawable
    from service.results.paper_comparison import comparison

    jobs = [find_job(store, job_id) for job_id in dict.fromkeys(job_ids)]
    labels = _labels(jobs)
    with turn_for(store, jobs):
        sources = [drawable(store, job, artifacts) for job in jobs]
        lines = [comparison([one for one in found if isinstance(one, Source)]) for found in sources]
        drawn_together = [one for found in sources for one in found]
        charts, size = available(drawn_together), size_of(drawn_together)
        del sources, drawn_together
    return render_page(
        "compare",
        request,
        jobs=jobs,
        unended=any(job.state not in TERMINAL for job in jobs),
        labels=labels,
        contrast=JobDiff.of(jobs, lines),
        groups=grouped(charts, size),
        panels={
            # in one plot, or in a panel for each job
            name: panels_of(name, size._replace(runs=1) if name in OVERLAID else size)
            for name in charts
        },
        meanings={name: entry.meaning for name, entry in CHARTS.items()},
        query="&".join(f"job={job.id}" for job in jobs),
        most=MOST_COMPARED,
    )


@router.get("/compare/{name}.json")
async def compare_chart(
    resources: ResourcesDep, name: str, job_ids: JobIds, theme: Theme = "light"
) -> Response:
    """A chart of several jobs: curves in one panel, other charts in a panel for each job."""
    found = await run_in_threadpool(
        lambda: [find_versioned_job(resources.store, job_id) for job_id in dict.fromkeys(job_ids)]
    )
    labels = _labels([job for job, _ in found])
    request = OverlayRequest(
        name=name, jobs=tuple((job.id, labels[job.id]) for job, _ in found), theme=theme
    )
    # each version rises alone: their sum is of no two states of the jobs
    content = await drawn(resources.pictures, request, sum(version for _, version in found))
    return Response(content, media_type="application/json", headers={"Cache-Control": "no-store"})


@router.get("/new")
def new_page(
    request: Request,
    store: StoreDep,
    settings: SettingsDep,
    preset: str | None = None,
    like: str | None = None,
    weights: str | None = None,
    project: SearchText = "",
) -> Response:
    """The form of a spec, filled from the defaults, a preset, a job, or a check of its weights."""
    job = find_job(store, like) if like is not None else None
    start_from = FormStart("the defaults", DEFAULTS["train"])
    if job is not None:
        start_from = _like(job)
    elif weights is not None:
        trained = find_job(store, weights)
        is_training = isinstance(trained.spec, TrainSpec)
        document = store.jobs.result_without_curves(trained.id) if is_training else None
        start_from = FormStart(
            "the check of trained weights",
            view_models.check_of(
                trained, settings.datasets, RESULT.validate_json(document) if document else None
            ),
        )
    elif preset in PRESETS:
        start_from = FormStart(f"the preset {preset}", resolved(StudySpec(preset=preset)))
    defaults = {kind: _complete(spec) for kind, spec in DEFAULTS.items()}
    start = {
        "title": start_from.title,
        "spec": _complete(start_from.spec),
        "defaults": defaults,
        "tags": job.tags if job else [],
    }
    name = view_models.name_of_copy(job.name) if job and job.name else None
    priority = job.priority if job else "normal"
    presets = build_presets()
    return render_page(
        "new",
        request,
        start=start,
        presets=presets,
        chosen=preset,
        name=name,
        project=job.project if job else project,
        projects=store.jobs.project_names(),
        priority=priority,
        needs=job.needs if job else None,
        priorities=PRIORITIES,
    )


class FormStart(NamedTuple):
    """The spec that a form begins with, and what the form calls it."""

    title: str
    spec: Spec


def _like(job: Job) -> FormStart:
    if isinstance(job.spec, RecordedSpec):
        raise problems.field_problem(
            "query/like", f"{job.id} was recorded by another program: there is no spec to run"
        )
    if isinstance(job.spec, UnreadSpec):
        raise problems.UnreadJob(job.spec.why)
    title = f"the job {title_of(job)}"
    if isinstance(job.spec, StudySpec) and not is_resolved(job.spec):
        title += ", which an earlier version ran, as it is today"
    try:
        return FormStart(title, written_out(job.spec))
    except GridError as error:
        raise problems.field_problem(f"/spec{error.pointer}", error.message) from error


def _complete(spec: Spec) -> dict[str, Any]:
    """Return the spec with every default."""
    return written_out(spec).model_dump(mode="json")


@router.get("/workers")
def workers_page(request: Request, store: StoreDep) -> Response:
    """The live workers, and how many jobs are in each state."""
    alive = store.workers.alive(DEAD_WORKER_SECONDS)
    return render_page(
        "workers",
        request,
        workers=alive,
        hosts=Tally(worker.host for worker in alive),
        may_drain=VIEWER.get().has("admin"),
        titles={
            worker.job: title_of(job)
            for worker in alive
            if worker.job and (job := store.jobs.get(worker.job))
        },
        counts=list(store.jobs.counts().items()),
    )


@router.get("/usage")
def usage_page(
    request: Request,
    store: StoreDep,
    by: By = "owner",
    days: Annotated[int | None, Query(ge=1, le=3_650)] = None,
) -> Response:
    """What is used by each owner, project or kind of device, in so many days."""
    since = None if days is None else datetime.now(UTC) - timedelta(days=days)
    lines = store.usage.page(by, since).items
    return render_page("usage", request, lines=lines, by=by, days=days, ways=get_args(By))


@router.get("/audit", dependencies=[Depends(require_admin)])
def audit_page(
    request: Request,
    store: StoreDep,
    actor: SearchText = "",
    action: SearchText = "",
    target: SearchText = "",
    cursor: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
) -> Response:
    """Who did what, the newest first; for administrators."""
    asked = {"actor": actor.strip(), "action": action, "target": target.strip()}
    given = {name: text for name, text in asked.items() if text}
    page = store.audit.page(
        limit=AUDIT_LINES,
        before=cursor,
        actor=given.get("actor"),
        action=given.get("action"),
        target=given.get("target"),
    )
    older = urlencode({**given, "cursor": page.next_cursor or ""})
    return render_page(
        "audit",
        request,
        lines=page.items,
        asked=asked,
        actions=get_args(Action),
        older=older if page.next_cursor else None,
        is_job=is_job_id,
    )


@router.get("/datasets")
def datasets_page(
    request: Request,
    settings: SettingsDep,
    store: StoreDep,
    name: SearchText = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Response:
    """The data sets, with pictures of samples: those whose name has a text, so many on a page."""
    datasets = settings.datasets
    there = [one for one in all_datasets(datasets, store.uploads) if datasets.find(one.name)]
    fitting = [one for one in there if name.lower() in one.name.lower()]
    found = fitting[(page - 1) * DATASETS_SHOWN : page * DATASETS_SHOWN]
    known = [datasets.facts_of(facts.name) for facts in found]
    lacks = {facts.name: lack_of_thumbnail(facts, datasets) for facts in known}
    advice = {
        facts.name: advice_on([TrainSpec(dataset=DatasetSpec(name=facts.name))], datasets)
        for facts in found
        if facts.uploaded
    }
    return render_page(
        "datasets",
        request,
        datasets=found,
        lacks=lacks,
        sizes={facts.name: thumbnail_size(facts) for facts in known},
        advice=advice,
        longest_meaning=LONGEST_MEANING,
        asked=name,
        fitting=len(fitting),
        page=page,
        pages_of=-(-len(fitting) // DATASETS_SHOWN),
    )


@router.get("/datasets/{name}.png")
def dataset_picture(
    request: Request, settings: SettingsDep, name: Annotated[str, Path()]
) -> Response:
    """A picture of samples of every class."""
    datasets = settings.datasets
    facts = datasets.find(name)
    if facts is None or lack_of_thumbnail(facts, datasets):
        raise problems.NoSuchDataset(
            f"{name!r} is not on this machine yet, or too large to be looked at"
        )
    try:
        content = thumbnail(name, facts.digest, datasets)
    except DatasetError as error:
        raise problems.NoSuchDataset(str(error)) from error
    return Response(
        content, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"}
    )


@router.get("/catalog")
def catalog_page(request: Request) -> Response:
    """Every entry with its meaning."""
    catalogue = build_catalog()
    kept = [
        name for name in type(catalogue).model_fields if name not in ("datasets", "spec_schema")
    ]
    catalogues = [(name, lines) for name in kept if (lines := getattr(catalogue, name))]
    return render_page(
        "catalog",
        request,
        catalogues=catalogues,
        pictures=_pictures(catalogues),
        presets=build_presets(),
    )


@router.get("/findings")
def findings_page(request: Request) -> Response:
    """Every finding: its question, how it is answered, what would falsify it, and what it costs."""
    return render_page(
        "findings",
        request,
        findings=[(finding, _cost_of(finding.name)) for finding in FINDINGS.values()],
        symbols=_symbols_of_findings(),
    )


@cache
def _symbols_of_findings() -> list[Symbol]:
    """The symbols in what the page says of each finding."""
    found = {
        symbol
        for finding in FINDINGS.values()
        for symbol in symbols_in([finding.question, finding.method, finding.falsified_by])
    }
    return [symbol for symbol in SYMBOLS if symbol in found]


@cache
def _cost_of(preset: str) -> Estimate:
    return estimate(StudySpec(preset=preset))


@router.get("/docs")
def reference_page(request: Request) -> Response:
    """Every route of the API, as its OpenAPI document describes it."""
    return render_page("reference", request, operations=operations(request.app.openapi()))


async def read_text(request: Request) -> str:
    """Return the text of the request's body. Raises BodyTooLarge and MalformedBody."""
    content = await request.body()
    if len(content) > LONGEST_SPEC:
        raise problems.BodyTooLarge(
            f"a spec has at most {LONGEST_SPEC:,} bytes, this one {len(content):,}"
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise problems.MalformedBody(f"this is not UTF-8: {error}") from error


# a dependency reads the body, so that the route itself can run in a thread
BodyText = Annotated[str, Depends(read_text)]


@spec_router.post("/spec.yaml")
def spec_as_yaml(text: BodyText, settings: SettingsDep) -> Response:
    """Return a spec as YAML: without defaults where it is valid, else unchanged."""
    document = _document(text)
    with contextlib.suppress(problems.ValidationProblem):
        document = as_document(_spec(document, settings.datasets))
    return Response(written(document), media_type="application/yaml")


@spec_router.post("/spec.json")
def spec_as_json(text: BodyText, settings: SettingsDep) -> Response:
    """Return the spec of a YAML or JSON text, with every default."""
    document = _document(text)
    inner = document.get("spec")
    return Response(
        _spec(inner if isinstance(inner, dict) else document, settings.datasets).model_dump_json(),
        media_type="application/json",
    )


@spec_router.post("/onset.html")
def onset_of_spec(request: Request, text: BodyText, settings: SettingsDep) -> Response:
    """How a training run of this spec is expected to begin, in the words of a job's page."""
    from service.results.onset_table import onset_table

    spec = _spec(_document(text), settings.datasets)
    if not isinstance(spec, TrainSpec):
        raise problems.field_problem(
            "/kind", f"only a training run has acts; this is a {spec.kind}"
        )
    table = onset_table(onset_before(spec, settings.datasets), spec.epochs)
    return render_page("onset", request, onset=table)


@sign_in_router.get("/login", name="sign_in_page")
def sign_in_page(request: Request, to: str = "/") -> Response:
    """The form that asks for an API key."""
    return render_page("login", request, to=safe_redirect_target(to), wrong=False)


@sign_in_router.post("/login")
def sign_in(
    request: Request,
    resources: ResourcesDep,
    key: Annotated[str, Form(max_length=500)],
    to: Annotated[str, Form()] = "/",
) -> Response:
    """Store the key in a cookie that scripts cannot read; it lasts until the browser is closed.

    While none is needed, none is stored: any text passes for a key then.
    """
    refuse_cross_site(request)
    resources.authenticator.refresh()
    try:
        resources.authenticator.owner(None, key.strip())
    except problems.KeyNeeded:
        return render_page("login", request, 401, to=safe_redirect_target(to), wrong=True)
    answer = RedirectResponse(at(safe_redirect_target(to)), 303)
    if not resources.authenticator.needs_keys:
        return answer
    answer.set_cookie(
        resources.authenticator.cookie,
        key.strip(),
        path=at("") or "/",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return answer


def safe_redirect_target(to: str) -> str:
    """Return the address if it is a path of this service, else "/"."""
    return (
        to if to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable() else "/"
    )


def _spec(document: dict[str, Any], datasets: Datasets) -> Spec:
    """Return the validated spec of a document, written out. Raises ValidationProblem."""
    try:
        spec = Submission.model_validate({"spec": document}).spec
        refuse_unavailable(spec, datasets, cells=())
        return written_out(spec)
    except InvalidField as error:
        raise problems.field_problem(error.pointer, error.message) from error
    except ValidationError as error:
        raise problems.validation_problem(in_body(error), {"spec": document}) from error
    except GridError as error:
        raise problems.field_problem(f"/spec{error.pointer}", error.message) from error


def _document(text: str) -> dict[str, JsonValue]:
    try:
        found = parsed(text)
    except NotPlain as error:
        raise problems.MalformedBody(f"this is not YAML: {error}") from error
    if not isinstance(found, dict):
        raise problems.MalformedBody("a spec is an object, such as `kind: train`")
    return found


def _pictures(catalogues: Sequence[tuple[str, Sequence[Described]]]) -> dict[tuple[str, str], str]:
    """Return the picture of each entry that has one, by catalogue and name.

    scripts/make_negatives.py draws them.
    """
    files = {
        (name, line.name): f"{name}-{line.name}.png" for name, lines in catalogues for line in lines
    }
    return {entry: file for entry, file in files.items() if file in static_files()}


def _expected(job: Job, datasets: Datasets) -> list[tuple[str, Diagnostic]]:
    """The advice on a run that has no result, in the form of findings."""
    if (
        isinstance(job.spec, StudySpec | RecordedSpec | UnreadSpec)
        or datasets.find(job.spec.dataset.name) is None
    ):
        return []
    return [("", advice) for advice in advice_on([job.spec], datasets)]


def _stopped_at(store: Store, job: Job, seen: int) -> str:
    """Where a job ended that was cancelled or failed, in words; "" for others."""
    if job.state == JobState.cancelled and job.kind != "study" and not job.attempts:
        return "before it began"
    if job.state not in (JobState.cancelled, JobState.failed) or not job.progress.fraction:
        return ""
    told = store.events.last(job.id, ("progress",), upto=seen, limit=LAST_PROGRESS)
    words = [str(event.data["message"]) for event in told if event.data.get("fraction")]
    place = next((one for one in reversed(words) if one not in list(JobState)), "")
    return ", ".join(filter(None, (f"at {100 * job.progress.fraction:.0f} %", place)))


def _findings(events: Sequence[Event]) -> list[tuple[str, Diagnostic]]:
    """Return the findings about a job that failed, from its last event that has some."""
    found: list[object] = next(
        (event.data["diagnostics"] for event in reversed(events) if event.data.get("diagnostics")),
        [],
    )
    return [("", Diagnostic.model_validate(one)) for one in found]


def _labels(jobs: Sequence[Job]) -> dict[str, str]:
    """Return a label for each job: its title, with the end of the id where titles are the same."""
    titles = [title_of(job) for job in jobs]
    return {
        job.id: title if titles.count(title) == 1 else f"{title} ({job.id[-4:]})"
        for job, title in zip(jobs, titles, strict=True)
    }
