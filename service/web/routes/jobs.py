"""Routes of jobs: submit, list, read, wait, events, and actions."""

import logging
import re
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import AwareDatetime, BeforeValidator, Field
from starlette.concurrency import run_in_threadpool

from ffengine.cost import Estimate
from ffengine.text import FilterText, SearchText, Token
from service.artifacts import JOB_ID
from service.background.waiting import room_for, why_not_understood
from service.encoding.root_path import at
from service.encoding.viewer import by_key
from service.jobs import Job, JobKind, JobState, RecordedRun
from service.schemas import EventPage, JobPage, ProjectPage
from service.specs.suggestions import did_you_mean
from service.specs.validation_errors import MAX_REPORTED_ERRORS, FieldError
from service.store import ANY_STUDY, DEAD_WORKER_SECONDS, CursorGone, Submitted
from service.submission import JobRequest
from service.web import problems
from service.web.dependencies import (
    Owner,
    Resources,
    ResourcesDep,
    StoreDep,
)
from service.web.event_feed import EventStream, until_terminal
from service.web.file_responses import is_known
from service.web.job_changes import JobChanges, act_on, change, remove
from service.web.job_lists import asked_columns, asked_filter, asked_order, json_values
from service.web.json_bodies import body_of, json_body
from service.web.lookup import find_job, is_job_id, validated_id
from service.web.problems import responses

router = APIRouter(tags=["jobs"])

LONGEST_WAIT_SECONDS = 60
MOST_NAMED = 5  # of the jobs that need one that is to be deleted
RETRY_STREAM_SECONDS = 2

log = logging.getLogger(__name__)


def _not_a_number(text: object) -> object:
    """Refuse a bare number, which would be read as seconds since 1970 and so list everything."""
    if isinstance(text, str) and re.fullmatch(r"[-+.\d\s]+", text):
        raise ValueError("a time is asked for, with its zone, as 2026-11-26T08:00:00Z")
    return text


Time = Annotated[AwareDatetime, BeforeValidator(_not_a_number)]
JobRequestBody = Annotated[JobRequest, Depends(json_body(JobRequest))]
# another text is answered as the id of no job
ID_FORM = {"pattern": f"^{JOB_ID.pattern}$"}
JobId = Annotated[str, Path(description="as in the job's `id`", json_schema_extra=ID_FORM)]
OtherId = Annotated[str, Field(max_length=100, json_schema_extra=ID_FORM)]
PARENT_FORM = {"pattern": f"^({JOB_ID.pattern}|{ANY_STUDY})$"}
Parent = Annotated[str, Field(max_length=100, json_schema_extra=PARENT_FORM)]
# others are refused by name
Names = Annotated[str, Field(max_length=1000, json_schema_extra={"pattern": "^[a-z_, ]*$"})]
WhereQuery = Annotated[
    FilterText | None,
    Query(
        description="conditions that hold together, as `widths>=256 T2+>0.5 state=done tag:x`; "
        "names are those of `columns`",
    ),
]
SortQuery = Annotated[
    SearchText | None,
    Query(
        description="the column that the list is sorted by, with `-` in front for the largest "
        "first, as `-T2+`; jobs without a value are last. The newest first where it is left out"
    ),
]


IdempotencyKey = Annotated[
    Token | None, Header(description="the same key and body make one job only")
]
ACCEPTED_BEFORE: dict[int | str, dict[str, Any]] = {
    200: {
        "model": Job,
        "description": "The same request was accepted before (Idempotency-Key): its job",
    }
}
JobChangesBody = Annotated[JobChanges, Depends(json_body(JobChanges))]


@router.post(
    "/jobs",
    status_code=202,
    response_model=Job,
    openapi_extra=body_of(JobRequest),
    summary="Submit a job",
    responses={
        **ACCEPTED_BEFORE,
        **responses(
            problems.MalformedBody,
            problems.BodyTooLarge,
            problems.WrongMediaType,
            problems.StillInFlight,
            problems.IdempotencyConflictProblem,
            problems.TooLarge,
            problems.QueueIsFull,
            problems.LimitReached,
        ),
    },
)
def submit_job(
    body: JobRequestBody,
    resources: ResourcesDep,
    owner: Owner,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Store a job for the workers.

    Where no live worker could take it, because of its `needs` or its memory, or because none
    understands what is new in its spec, `held_up` says why: it waits for one that can. A job whose
    spec is identical to one that has succeeded is answered from its result (`cached`).
    """
    submitted = resources.submissions.submit(
        body, owner=owner, submitted_by=resources.authenticator.name(owner), key=idempotency_key
    )
    resources.reconciler.wake()
    job_id = submitted.job.id
    log.info("%s: submitted%s", job_id, by_key(), extra={"job_id": job_id})
    return _accepted(_placed(resources, submitted), 202)


def _placed(resources: Resources, submitted: Submitted) -> Submitted:
    """Return a new job; where no live worker could take it, with the message that says why."""
    store = resources.store
    workers = [] if submitted.replayed else store.workers.alive(DEAD_WORKER_SECONDS)
    if not workers or submitted.job.state is not JobState.queued:
        return submitted
    store.queue.explain_waiting(
        None,
        0.0,
        room=partial(room_for, workers),
        of_job=submitted.job.id,
        not_understood=partial(why_not_understood, workers),
    )
    store.studies.pass_on_why(submitted.job.id)
    return submitted._replace(job=store.jobs.get(submitted.job.id) or submitted.job)


@router.post(
    "/runs",
    status_code=201,
    response_model=Job,
    openapi_extra=body_of(RecordedRun),
    summary="Bring a run that another program computed",
    responses={
        **ACCEPTED_BEFORE,
        **responses(
            problems.MalformedBody,
            problems.BodyTooLarge,
            problems.WrongMediaType,
            problems.StillInFlight,
            problems.IdempotencyConflictProblem,
        ),
    },
)
def record_run(
    body: Annotated[RecordedRun, Depends(json_body(RecordedRun))],
    resources: ResourcesDep,
    owner: Owner,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Store the curves of a run that fflab did not compute, as a job of kind `recorded`.

    It never waits for a worker and has succeeded at once. Its rows are checked for what they can
    be, and not for whether they are true: everything that shows the job says that it was recorded.
    """
    submitted = resources.submissions.record(
        body, owner=owner, submitted_by=resources.authenticator.name(owner), key=idempotency_key
    )
    return _accepted(submitted, 201)


def _accepted(submitted: Submitted, status: int) -> Response:
    """Answer with the job; 200 where the same request had made it before."""
    headers = {
        "Location": at(f"/v1/jobs/{submitted.job.id}"),
        **({"Idempotency-Replayed": "true"} if submitted.replayed else {}),
    }
    return Response(
        submitted.job.model_dump_json(),
        200 if submitted.replayed else status,
        headers=headers,
        media_type="application/json",
    )


@router.post(
    "/estimate",
    summary="What a job would cost",
    openapi_extra=body_of(JobRequest),
    responses=responses(problems.MalformedBody, problems.BodyTooLarge, problems.WrongMediaType),
)
def estimate_job(body: JobRequestBody, resources: ResourcesDep) -> Estimate:
    """Estimate operations, peak memory, bytes on the disk and seconds of a job with this body.

    `problems` names the limits that it passes, `advice` what of its data it does not take into
    account: a finding before the run, and where a field helps, what to set it to.
    """
    return resources.submissions.estimate(body)


@router.get(
    "/jobs", summary="List jobs", response_model=JobPage, responses=responses(problems.BadCursor)
)
def list_jobs(
    response: Response,
    request: Request,
    store: StoreDep,
    limit: Annotated[int, Query(ge=1, le=500, description="most jobs of a page")] = 50,
    cursor: Annotated[OtherId | None, Query(description="next_cursor of the page before")] = None,
    state: Annotated[
        list[JobState],
        Query(description="only jobs in this state; given several times, in one of these states"),
    ] = [],  # noqa: B006 - never changed
    kind: Annotated[JobKind | None, Query(description="only jobs of this kind")] = None,
    tag: Annotated[SearchText | None, Query(description="only jobs that have this tag")] = None,
    project: Annotated[SearchText | None, Query(description="only jobs of this project")] = None,
    name: Annotated[SearchText | None, Query(description="only jobs of exactly this name")] = None,
    search: Annotated[
        SearchText | None, Query(description="a part of a name, in any case of letters, or an id")
    ] = None,
    submitted_by: Annotated[
        SearchText | None, Query(description="the name of the API key that it came with")
    ] = None,
    parent: Annotated[
        Parent | None,
        Query(
            description="a study's id: only its runs. `any`: only runs, those of all studies. "
            "Without it runs of studies are left out, unless `children` asks for them"
        ),
    ] = None,
    children: Annotated[
        bool, Query(description="list the runs of studies, too, beside the other jobs")
    ] = False,
    created_after: Annotated[
        Time | None,
        Query(description="only jobs submitted at this time or later, as 2026-11-26T08:00:00Z"),
    ] = None,
    created_before: Annotated[
        Time | None, Query(description="only jobs submitted before this time")
    ] = None,
    where: WhereQuery = None,
    sort: SortQuery = None,
    columns: Annotated[
        FilterText | None,
        Query(
            description="columns whose values are sent beside the jobs, apart by commas: facts of "
            "the job, fields of its spec such as `lr` or `optimizer.momentum`, and figures such "
            "as `T2+` and `accuracy`"
        ),
    ] = None,
    total: Annotated[
        bool,
        Query(description="count the jobs that pass the filters, on all pages, and by state"),
    ] = False,
    fields: Annotated[
        Names | None,
        Query(
            description="the fields of each job that are sent, apart by commas, as "
            "id,name,state; all where it is left out",
        ),
    ] = None,
) -> JobPage | Response:
    """Jobs, newest first unless `sort` names another order."""
    chosen = _chosen_fields(fields)
    shown = asked_columns([columns]) if columns is not None else []
    if cursor is not None and not is_job_id(cursor):
        raise problems.BadCursor
    filters = {
        "state": [one.value for one in state],
        "kind": kind,
        "tag": tag,
        "project": project,
        "name": name,
        "search": search,
        "submitted_by": submitted_by,
        "parent": _id_or_none_such(parent),
        "children": children,
        "created_after": created_after,
        "created_before": created_before,
        "where": asked_filter(where),
    }
    try:
        page = store.jobs.page(
            limit=limit, before=cursor, order=asked_order(sort), total=total, **filters
        )
    except CursorGone as error:
        raise problems.BadCursor from error
    if page.next_id:
        following = request.url.include_query_params(cursor=page.next_id)
        response.headers["Link"] = f'<{at(following.path)}?{following.query}>; rel="next"'
    found = JobPage(
        items=page.jobs,
        next_cursor=page.next_id,
        total=page.total,
        states=page.states,
        values=json_values(store, page.jobs, shown) if shown else None,
    )
    if chosen is None:
        return found
    asked = {
        "next_cursor",
        "total",
        *(("states",) if total else ()),
        *(("values",) if shown else ()),
    }
    document = found.model_dump_json(
        include={"items": {"__all__": chosen}, **dict.fromkeys(asked, True)}
    )
    return Response(document, media_type="application/json", headers=dict(response.headers))


@router.get("/projects", summary="List projects", responses=responses())
def list_projects(store: StoreDep) -> ProjectPage:
    """The projects that jobs name, the one with the newest activity first.

    A project is there as long as a job names it: `PATCH` of a job moves it to another one.
    """
    return ProjectPage(items=store.jobs.projects())


def _chosen_fields(fields: str | None) -> set[str] | None:
    """Return the names of fields that are asked for; None: all. Raises ValidationProblem."""
    if fields is None:
        return None
    names = [name.strip() for name in fields.split(",") if name.strip()]
    known = list(Job.model_fields)
    wrong = [
        FieldError(
            pointer="query/fields",
            message=f"{name!r} is not a field of a job"
            + (did_you_mean(name, known) or f"; known are {', '.join(known)}"),
        )
        for name in dict.fromkeys(names)
        if name not in known
    ]
    if wrong or not names:
        nothing = FieldError(pointer="query/fields", message="names no field")
        raise problems.validation_of(wrong[:MAX_REPORTED_ERRORS] or [nothing])
    return set(names)


@router.get(
    "/jobs/{job_id}",
    response_model=Job,
    summary="Read a job, or wait for its end",
    responses={304: {}, **responses(problems.NoSuchJob)},
)
async def read_job(
    job_id: JobId,
    resources: ResourcesDep,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=LONGEST_WAIT_SECONDS,
            description="hold the answer until the job has ended, seconds",
        ),
    ] = 0,
    prefer: Annotated[
        str | None, Header(description="`wait=SECONDS` (RFC 7240) does the same")
    ] = None,
    if_none_match: Annotated[
        str | None, Header(description="the ETag of what you have: 304 where it has not changed")
    ] = None,
) -> Response:
    """The job as it is; with `wait`, as soon as it has ended, or when the time is over."""
    preferred = re.search(r"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])", prefer or "")
    seconds = min(LONGEST_WAIT_SECONDS, max(wait, int(preferred[1]) if preferred else 0))
    found = await until_terminal(
        resources.event_feed, resources.store.jobs, validated_id(job_id), seconds
    )
    if found is None:
        raise problems.NoSuchJob
    job, version = found
    headers = {
        "ETag": f'"{job.id}.{version}"',
        **({"Preference-Applied": f"wait={preferred[1]}"} if preferred else {}),
    }
    if is_known(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(
        job.model_dump_json(), media_type="application/json", headers=headers
    )  # validated when it was put together


@router.get(
    "/jobs/{job_id}/events",
    summary="What happens to the job",
    response_model=EventPage,
    responses={
        200: {
            "description": "A stream, or with `Accept: application/json` a page",
            "content": {"text/event-stream": {}},
        },
        **responses(problems.NoSuchJob),
    },
)
async def read_events(
    job_id: JobId,
    resources: ResourcesDep,
    accept: Annotated[
        str, Header(description="application/json for a page instead of a stream")
    ] = "text/event-stream",
    last_event_id: Annotated[
        int | None, Header(ge=0, le=2**62, description="the last id that was received")
    ] = None,
    after: Annotated[int, Query(ge=0, le=2**62, description="as Last-Event-ID")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="most events of a page")] = 500,
) -> Response:
    """The events of a job as Server-Sent Events, resumable with Last-Event-ID.

    The stream ends after the event `end` of a job that has ended. A page ends early where its
    events are large; `next_cursor` says where the next one begins.
    """
    await run_in_threadpool(find_job, resources.store, job_id, unread=True)
    start = last_event_id if last_event_id is not None else after
    if "application/json" in accept and "text/event-stream" not in accept:
        page = await run_in_threadpool(
            resources.store.events.page, job_id, after=start, limit=limit
        )
        return Response(page.model_dump_json(), media_type="application/json")
    subscription = resources.event_feed.subscribe(job_id)
    if subscription is None:
        raise problems.TooManyStreams(headers={"Retry-After": str(RETRY_STREAM_SECONDS)})
    return EventStream(resources.event_feed, resources.store, subscription, start)


@router.patch(
    "/jobs/{job_id}",
    summary="Change name, tags, project, note, priority, needs or pin",
    openapi_extra=body_of(JobChanges),
    responses=responses(
        problems.NoSuchJob,
        problems.NotYours,
        problems.LimitReached,
        problems.MalformedBody,
        problems.BodyTooLarge,
        problems.WrongMediaType,
    ),
)
def change_job(
    job_id: JobId,
    body: Annotated[JobChanges, Depends(json_body(JobChanges))],
    resources: ResourcesDep,
) -> Job:
    """Change fields that do not affect the computation."""
    return change(resources, job_id, body.model_dump(exclude_unset=True))


@router.post(
    "/jobs/{job_id}/cancel",
    summary="Cancel",
    responses=responses(problems.NoSuchJob, problems.NotYours, problems.WrongState),
)
def cancel_job(job_id: JobId, resources: ResourcesDep) -> Job:
    """Cancel a job; what was computed so far stays readable.

    The runs of a study are cancelled with it.
    """
    return act_on(resources, job_id, "cancel")


@router.post(
    "/jobs/{job_id}/pause",
    summary="Pause",
    responses=responses(problems.NoSuchJob, problems.NotYours, problems.WrongState),
)
def pause_job(job_id: JobId, resources: ResourcesDep) -> Job:
    """Pause a job at its next step, with a checkpoint; the worker is free for others."""
    return act_on(resources, job_id, "pause")


@router.post(
    "/jobs/{job_id}/resume",
    summary="Resume",
    responses=responses(
        problems.NoSuchJob,
        problems.NotYours,
        problems.WrongState,
        problems.QueueIsFull,
        problems.LimitReached,
    ),
)
def resume_job(job_id: JobId, resources: ResourcesDep) -> Job:
    """Queue a paused job again; it goes on from its checkpoint, with the same bits."""
    return act_on(resources, job_id, "resume")


@router.post(
    "/jobs/{job_id}/retry",
    summary="Retry",
    responses=responses(
        problems.NoSuchJob,
        problems.NotYours,
        problems.WrongState,
        problems.QueueIsFull,
        problems.LimitReached,
    ),
)
def retry_job(job_id: JobId, resources: ResourcesDep) -> Job:
    """Queue a failed or cancelled job again; it goes on from its last checkpoint."""
    return act_on(resources, job_id, "retry")


@router.delete(
    "/jobs/{job_id}",
    status_code=204,
    summary="Delete",
    responses=responses(problems.NoSuchJob, problems.NotYours, problems.WrongState),
)
def delete_job(job_id: JobId, resources: ResourcesDep) -> Response:
    """Delete a job that has ended, with its result and artifacts."""
    remove(resources, job_id)
    return Response(status_code=204)


def _id_or_none_such(parent: str | None) -> str | None:
    """Return the id of a study, or "any"; for a text that is no id, one that no job has."""
    return parent if parent in (None, ANY_STUDY) or is_job_id(parent) else "job_none"
