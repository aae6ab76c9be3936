"""Forms of the pages that change jobs: one job, or those that were selected in a table.

They need no script. What cannot be undone is asked first, and the answer says for each job what
was done, or why it was not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError
from starlette.datastructures import FormData

from ffengine.text import visible
from service.encoding.root_path import at
from service.jobs import Job
from service.lists.conditions import FilterError
from service.results.descriptions import title_of
from service.specs.json_pointers import in_body
from service.web import problems
from service.web.dashboard.job_table import MOST_MATCHED, Asked, allowed_actions
from service.web.dashboard.pages import MOST_COMPARED, PageRoute, safe_redirect_target
from service.web.dashboard.templating import render_page
from service.web.dependencies import (
    Resources,
    ResourcesDep,
    StoreDep,
    get_owner,
    refuse_unknown_fields,
    require_admin,
)
from service.web.job_changes import Action, JobChanges, act_on, change, remove
from service.web.lookup import find_job, is_job_id
from service.web.worker_changes import drain, undrain

router = APIRouter(
    route_class=PageRoute, include_in_schema=False, dependencies=[Depends(get_owner)]
)
ASKED_FIRST = ("cancel", "delete")
SHOWN_BEFORE = 20  # titles on the page that asks
FILTERS = ("name", "state", "kind", "tag", "who", "project", "where", "runs")
FIELDS = ("action", "all", "jobs", "given_tag", "given_project", "back", "confirmed", "parent")
NEEDED = ("need_device", "need_memory", "need_tags")
EDITED = ("name", "tags", "project", "priority", *NEEDED, "note", "pinned")


class Verb(NamedTuple):
    """An action in words: what it is called, and what was done then."""

    infinitive: str
    participle: str


VERBS = {
    "cancel": Verb("Cancel", "cancelled"),
    "pause": Verb("Pause", "paused"),
    "resume": Verb("Resume", "resumed"),
    "retry": Verb("Retry", "queued again"),
    "delete": Verb("Delete", "deleted"),
    "tag": Verb("Tag", "tagged"),
    "untag": Verb("Remove the tag from", "left without the tag"),
    "move": Verb("Move", "moved"),
}


class Outcome(NamedTuple):
    """What became of one job; `why_not` is "" where the action was done."""

    job_id: str
    title: str
    why_not: str


@dataclass(frozen=True)
class Selected:
    """The jobs of a form, and what it asks for them."""

    action: str
    ids: Sequence[str]
    is_all: bool
    left_out: int  # of those that match, beyond the most at once
    tag: str
    project: str
    back: str
    is_confirmed: bool


async def read_form(request: Request) -> FormData:
    """Return the fields of a form; a dependency, so that the route itself can run in a thread."""
    form = await request.form(max_files=0, max_fields=3_000)
    for name, value in form.multi_items():
        if "\x00" in name or "\x00" in str(value):
            raise problems.field_problem(f"/{visible(name[:100])}", "has a NUL character")
    return form


FormDep = Annotated[FormData, Depends(read_form)]


@router.post("/jobs/act")
def act_on_selected(request: Request, resources: ResourcesDep, form: FormDep) -> Response:
    """Do something with the jobs that were selected, after asking where it cannot be undone."""
    selected = _selected(resources, form)
    if not selected.ids:
        return _answer(request, selected, title="No job is selected", outcomes=[])
    if selected.action == "compare":
        return _compared(request, selected)
    if selected.action not in VERBS:
        raise problems.field_problem("/action", f"{selected.action!r} is not one of the buttons")
    if _lacks(selected):
        return _answer(request, selected, title=_lacks(selected), outcomes=[])
    if not selected.is_confirmed and (selected.is_all or selected.action in ASKED_FIRST):
        jobs = [job for one in selected.ids if (job := resources.store.jobs.get(one))]
        if any(_is_possible(selected, job) for job in jobs):
            return _question(request, selected, jobs)
    outcomes = [_done(resources, job_id, selected) for job_id in selected.ids]
    done = sum(not one.why_not for one in outcomes)
    title = f"{_counted(done)} {VERBS[selected.action].participle}"
    if done < len(outcomes):
        title += f", {len(outcomes) - done} could not be"
    return _answer(request, selected, title=title, outcomes=outcomes)


@router.post("/jobs/{job_id}/edit")
def edit_job(
    request: Request, resources: ResourcesDep, store: StoreDep, job_id: str, form: FormDep
) -> Response:
    """Change what people say about a job: name, tags, project, priority, needs, note and pin."""
    refuse_unknown_fields(form, EDITED)
    job = find_job(store, job_id)
    asked: dict[str, Any] = {
        "name": _text(form, "name").strip() or None,
        "tags": _tags(_text(form, "tags"), job),
        "project": _text(form, "project").strip() or None,
        "note": _text(form, "note").strip().replace("\r\n", "\n") or None,
        "priority": _text(form, "priority") or job.priority,
        "pinned": "pinned" in form,
    }
    given = {name: value for name, value in asked.items() if value != getattr(job, name)}
    if any(name in form for name in NEEDED):
        needs = _needs(form)
        if needs != (job.needs.model_dump(exclude_defaults=True) if job.needs else {}):
            given["needs"] = needs or None
    change(resources, job_id, _valid(given))
    return RedirectResponse(at(f"/jobs/{job_id}"), 303)


@router.post("/workers/{worker_id}/{action}", dependencies=[Depends(require_admin)])
def change_worker(
    resources: ResourcesDep,
    worker_id: str,
    action: Literal["drain", "undrain"],
    form: FormDep,
) -> Response:
    """Let a worker take no more jobs, or take some again."""
    refuse_unknown_fields(form, ())
    (drain if action == "drain" else undrain)(resources, worker_id)
    return RedirectResponse(at("/workers"), 303)


def _tags(written: str, job: Job) -> list[str]:
    """Return the tags of a form; those of the job, which may have commas, where none changed."""
    if written == ", ".join(job.tags):
        return list(job.tags)
    return list(dict.fromkeys(tag.strip() for tag in written.split(",") if tag.strip()))


def _needs(form: FormData) -> dict[str, Any]:
    """Return what a form asks of the worker; what is left empty is not asked for."""
    device, memory, tags = (_text(form, name).strip() for name in NEEDED)
    try:
        memory_gb = float(memory) if memory else None
    except ValueError:
        raise problems.field_problem("/need_memory", f"{memory!r} is no number of GB") from None
    asked = [tag.strip() for tag in tags.split(",") if tag.strip()]
    found: dict[str, Any] = {"device": device, "memory_gb": memory_gb, "tags": asked}
    return {name: value for name, value in found.items() if value}


def _valid(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of a job as they are stored. Raises ValidationProblem."""
    try:
        return JobChanges.model_validate(given).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise problems.validation_problem(in_body(error), dict(given)) from error


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value if isinstance(value, str) else ""


def _selected(resources: Resources, form: FormData) -> Selected:
    """Return the jobs that a form names, or all that match its filters. Raises problems."""
    single = {name: form.getlist(name)[-1:] for name in form if name != "job"}
    wrong = [name for name in single if name not in (*FIELDS, *FILTERS)]
    if wrong:
        raise problems.field_problem(f"/{wrong[0][:100]}", "is not a known field")
    named = [*form.getlist("job"), *_text(form, "jobs").split()]
    is_all = _text(form, "all") == "yes" and not _text(form, "jobs")
    ids, left_out = [str(one) for one in named if is_job_id(str(one))], 0
    if is_all:
        ids, left_out = _matching(resources, form)
    return Selected(
        action=_text(form, "action"),
        ids=list(dict.fromkeys(ids))[:MOST_MATCHED],
        is_all=is_all,
        left_out=left_out,
        tag=_text(form, "given_tag").strip(),
        project=_text(form, "given_project").strip(),
        back=safe_redirect_target(_text(form, "back") or "/"),
        is_confirmed=_text(form, "confirmed") == "yes",
    )


def _matching(resources: Resources, form: FormData) -> tuple[list[str], int]:
    """Return the newest jobs that match the filters of a form, and how many were left out."""
    name, state, kind, tag, who, project, where, runs = (_text(form, field) for field in FILTERS)
    asked = Asked(name, state, kind, tag, who, project, where, runs)
    parent = _text(form, "parent")
    try:
        filters = asked.filters() | ({"parent": parent} if is_job_id(parent) else {})
    except FilterError as error:
        raise problems.field_problem("/where", str(error)) from error
    jobs = resources.store.jobs
    ids = jobs.ids(limit=MOST_MATCHED, **filters)
    left_out = 0
    if len(ids) == MOST_MATCHED:
        left_out = jobs.count(**filters) - len(ids)
    return ids, left_out


def _lacks(selected: Selected) -> str:
    """Say what a button needs that was left empty; "" where nothing is."""
    if selected.action in ("tag", "untag") and not selected.tag:
        return "No tag is given: write one beside the button"
    return ""


def _compared(request: Request, selected: Selected) -> Response:
    if not 2 <= len(selected.ids) <= MOST_COMPARED:
        title = f"2 to {MOST_COMPARED} jobs can be compared, not {len(selected.ids)}"
        return _answer(request, selected, title=title, outcomes=[])
    query = urlencode([("job", job_id) for job_id in selected.ids])
    return RedirectResponse(at(f"/compare?{query}"), 303)


def _question(request: Request, selected: Selected, jobs: Sequence[Job]) -> Response:
    """Ask whether it is meant for the jobs whose state allows it, and name the others."""
    possible = [job for job in jobs if _is_possible(selected, job)]
    others = [job for job in jobs if not _is_possible(selected, job)]
    return render_page(
        "act_question",
        request,
        selected=selected,
        verb=VERBS[selected.action],
        counted=_counted(len(possible)),
        jobs=possible,
        others=others,
        shown=SHOWN_BEFORE,
        most=MOST_MATCHED,
    )


def _is_possible(selected: Selected, job: Job) -> bool:
    """Whether the state of a job allows what is asked for."""
    needs_none = selected.action in ("tag", "untag", "move")
    return needs_none or selected.action in allowed_actions(job)


def _answer(
    request: Request, selected: Selected, *, title: str, outcomes: Sequence[Outcome]
) -> Response:
    return render_page(
        "act_done",
        request,
        selected=selected,
        title=title,
        failed=[one for one in outcomes if one.why_not],
        done=[one for one in outcomes if not one.why_not],
        is_gone=selected.action == "delete",
    )


def _done(resources: Resources, job_id: str, selected: Selected) -> Outcome:
    """Do what is asked for with one job, and say what became of it."""
    job = resources.store.jobs.get(job_id)
    if job is None:
        return Outcome(job_id, job_id, "there is no such job any more")
    try:
        _ACTS.get(selected.action, _ask_for)(resources, job, selected)
    except problems.Problem as problem:
        return Outcome(job_id, title_of(job), problem.detail or problem.title)
    return Outcome(job_id, title_of(job), "")


def _ask_for(resources: Resources, job: Job, selected: Selected) -> None:
    action: Action = selected.action  # type: ignore[assignment]
    act_on(resources, job.id, action)


def _delete(resources: Resources, job: Job, _selected: Selected) -> None:
    remove(resources, job.id)


def _tag(resources: Resources, job: Job, selected: Selected) -> None:
    change(resources, job.id, _valid({"tags": list(dict.fromkeys([*job.tags, selected.tag]))}))


def _untag(resources: Resources, job: Job, selected: Selected) -> None:
    change(resources, job.id, {"tags": [tag for tag in job.tags if tag != selected.tag]})


def _move(resources: Resources, job: Job, selected: Selected) -> None:
    change(resources, job.id, _valid({"project": selected.project or None}))


_ACTS: dict[str, Callable[[Resources, Job, Selected], None]] = {
    "delete": _delete,
    "tag": _tag,
    "untag": _untag,
    "move": _move,
}


def _counted(count: int) -> str:
    return f"{count:,} job{'' if count == 1 else 's'}"
