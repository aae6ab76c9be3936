"""Commands of jobs: submit, list, show, change, delete, and actions."""

import contextlib
import sys
from itertools import islice
from typing import Annotated, Any

import typer
from rich.text import Text

from ffengine.cost import DiskBytes
from ffengine.spec import StudySpec, TrainSpec
from ffengine.spec_values import params_in_words
from ffengine.text import bytes_in_words
from service.cli.options import (
    EXIT_USAGE,
    PATIENT_ATTEMPTS,
    JobArgument,
    JsonOption,
    NeedsOption,
    SetOption,
    SpecArgument,
    as_typed,
    fail,
    make_client,
    page_url,
    read_needs,
    resolve,
    show_json,
)
from service.cli.output import (
    fitted_table,
    job_lines,
    jobs_table,
    line,
    moment_in_table,
    out,
    table,
)
from service.cli.results import follow
from service.client import Client, FflabError, Refused
from service.encoding.escaping import for_terminal
from service.jobs import Job, JobKind, JobState, Priority
from service.lists.columns import MOST_COLUMNS
from service.lists.conditions import parse_columns
from service.results.descriptions import duration, title_of
from service.results.job_cells import cell_text
from service.results.onset_table import onset_lines
from service.results.trials import in_words as figure_in_words
from service.specs.files import explain_refusal, read_spec

EMPTIED = ("project", "note")  # what an empty text takes away
PAGE = 500  # as many jobs as one answer may have
ANY_STUDY = "any"
Filters = dict[str, str | list[str]]
NameOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="A name for people.", callback=as_typed)
]


def submit(
    spec: SpecArgument,
    settings: SetOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, with progress.")] = False,
    name: NameOption = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG", help="A tag; may be repeated.", callback=as_typed),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The project that it belongs to.", callback=as_typed),
    ] = None,
    note: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A remark for people.", callback=as_typed)
    ] = None,
    priority: Annotated[Priority, typer.Option(help="Where it stands in the queue.")] = "normal",
    needs: NeedsOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run it even where an identical spec has succeeded.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Longest time that it may run.")
    ] = None,
    pin: Annotated[
        bool, typer.Option("--pin", help="Keep it, whatever the retention says.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Only you and administrators see it.")
    ] = False,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An address that gets a message when the job ends."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a job. Prints its id; on a terminal also the address of its page."""

    _, document = read_spec(spec, settings or [])
    with make_client(PATIENT_ATTEMPTS if wait else 3) as client:
        try:
            handle = client.submit(
                document,
                name=name,
                tags=tag,
                project=project,
                note=note,
                priority=priority,
                needs=read_needs(needs),
                fresh=fresh,
                timeout_seconds=timeout,
                pinned=pin,
                private=private,
                webhook=webhook,
            )
        except Refused as error:
            raise explain_refusal(error, document) from error
        if not as_json:
            typer.echo(handle.id)
            sys.stdout.flush()
        if not as_json and handle.job.held_up:
            typer.echo(f"waits: {for_terminal(handle.job.held_up)}", err=True)
        if not as_json and out.is_terminal:
            typer.echo(f"page: {page_url(client, handle.job)}", err=True)
            _show_advice(client, document)
        job = follow(client, handle.job, quiet=as_json) if wait else handle.job
        if as_json:
            show_json(job)


def _show_advice(client: Client, document: dict[str, Any]) -> None:
    """Print what of its data a spec does not take into account; the job is submitted already."""
    with contextlib.suppress(FflabError):
        for advice in client.estimate(document).advice:
            typer.echo(f"advice: {for_terminal(advice.message)} {advice.suggestion}", err=True)


def jobs(
    state: Annotated[
        list[JobState] | None,
        typer.Option(
            metavar="STATE",
            help=f"Only jobs in that state, of {', '.join(JobState)}; may be repeated.",
        ),
    ] = None,
    kind: Annotated[JobKind | None, typer.Option(help="Only jobs of that kind.")] = None,
    tag: Annotated[
        str | None,
        typer.Option(metavar="TAG", help="Only jobs with that tag.", callback=as_typed),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only jobs of that project.", callback=as_typed),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="CONDITIONS",
            help='Only jobs that fit, as in "widths>=256 T2+>0.5 state=done".',
            callback=as_typed,
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Sort by that column, the smallest first; with - in front, as in -T2+, the "
            "largest first.",
            callback=as_typed,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Show these columns, apart by commas, as in name,lr,T2+.",
            callback=as_typed,
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Only jobs with that in their name, or that id.", callback=as_typed
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only jobs submitted with the API key of that name.",
            callback=as_typed,
        ),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(
            "--created-after",
            metavar="TIME",
            help="Only jobs submitted then or later, as 2026-11-26T08:00:00Z.",
        ),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option("--created-before", metavar="TIME", help="Only jobs submitted before then."),
    ] = None,
    parent: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY|any",
            help="Only the runs of that study, or `any`: only runs, those of all studies.",
            callback=as_typed,
        ),
    ] = None,
    runs: Annotated[
        bool, typer.Option("--runs", help="Runs of studies, too, which are left out otherwise.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many at the most.")] = 20,
    count: Annotated[
        bool, typer.Option("--count", help="Only say how many jobs there are.")
    ] = False,
    wide: Annotated[
        bool,
        typer.Option("--wide", help="Show all of it, also where the terminal is too narrow."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first. In a pipe, each is a line of tab-separated columns.

    A study is one line; --runs and --parent list its runs, too, and filters look at them then.

    CONDITIONS and COLUMN name facts of a job (state, duration, owner), fields of its spec (lr,
    widths, optimizer.momentum) and its figures (S+, S-, T1, T2+, T2-, accuracy).
    """

    given = {
        "state": [one.value for one in state or ()],
        "kind": kind,
        "tag": tag,
        "project": project,
        "where": where,
        "sort": sort,
        "search": search,
        "submitted_by": by,
        "created_after": after,
        "created_before": before,
    }
    with make_client() as client:
        filters: Filters = {field: value for field, value in given.items() if value}
        of_runs = _of_runs(client, parent, runs)
        if count:
            typer.echo(client.count_jobs(**filters, **of_runs))
            return
        asked = {**filters, **of_runs, "limit": min(limit, PAGE)}
        if parent not in (None, ANY_STUDY) and not sort:
            asked["sort"] = "run"
        if columns is not None:
            rows = list(islice(client.job_table([columns], **asked), limit))
            _show_columns(columns, rows, as_json, wide)
        else:
            found = list(islice(client.jobs(**asked), limit))
            if as_json:
                show_json([job.model_dump(mode="json") for job in found])
            else:
                jobs_table(found, wide=wide)
            rows = [{"id": job.id} for job in found]
        if not rows and not as_json and out.is_terminal:
            _say_that_there_are_none(client, filters, of_runs)


def _of_runs(client: Client, parent: str | None, runs: bool) -> dict[str, str]:
    """Return the filters that say whether runs of studies are listed, and of which."""
    if parent is None:
        return {"children": "true"} if runs else {}
    if runs:
        fail("--runs and --parent: one of them says which runs are listed", EXIT_USAGE)
    return {"parent": ANY_STUDY if parent == ANY_STUDY else resolve(client, parent).id}


def _say_that_there_are_none(client: Client, filters: Filters, of_runs: dict[str, str]) -> None:
    """Say that no job is listed, and whether runs of studies would be."""
    if not filters and not of_runs:
        line(Text("no jobs; `fflab submit quick` makes one", "dim"))
        return
    fit = 0 if of_runs else client.count_jobs(**filters, parent=ANY_STUDY)
    if fit:
        they = "run of a study does" if fit == 1 else "runs of studies do"
        line(Text(f"no job fits, but {fit:,} {they}: add --runs to list them", "dim"))
    else:
        line(Text("no job fits", "dim"))


def _show_columns(names: str, rows: list[dict[str, Any]], as_json: bool, wide: bool) -> None:
    """Print the columns that were asked for; the last of them are left out where all do not fit."""
    if as_json:
        show_json(rows)
        return
    shown = [column for column in parse_columns([names], MOST_COLUMNS) if column.name != "id"]
    lines = [
        [row["id"], *(cell_text(column, row[column.name]) for column in shown)] for row in rows
    ]
    columns = ["id", *(column.name for column in shown)]
    fitted_table(
        columns,
        lines,
        texts=[column.name for column in shown if column.type == "text" and not column.choices],
        leave_out=[name for name in reversed(columns[1:]) if name != "state"],
        right=[column.name for column in shown if column.is_number],
        wide=wide,
    )


def projects(as_json: JsonOption = False) -> None:
    """List the projects that jobs name, the one with the newest activity first."""
    with make_client() as client:
        found = client.projects()
    if as_json:
        show_json([one.model_dump(mode="json") for one in found])
        return
    rows = [
        [one.name, str(one.jobs), str(one.unfinished), moment_in_table(one.last_activity)]
        for one in found
    ]
    table(["project", "jobs", "unfinished", "last activity"], rows, right=(1, 2))
    if not found and out.is_terminal:
        line(Text("no job names a project; `fflab submit --project NAME` does", "dim"))


def show(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show a job. Its last lines are the address of its page, and what can be done with it."""

    with make_client() as client:
        job = resolve(client, job_id)
        page = page_url(client, job)
        best = None if as_json else _best_so_far(client, job)
    if as_json:
        show_json(job)
    else:
        job_lines(job, page, best)


def _best_so_far(client: Client, job: Job) -> str | None:
    """Say what a search has found; None of another job, and while no trial has the objective."""
    if not isinstance(job.spec, StudySpec) or job.spec.search is None:
        return None
    found = client.trials(job.id)
    if found.best is None or found.best.value is None:
        return None
    value = f"{figure_in_words(found.objective)} {found.best.value:.4g}"
    return f"trial {found.best.number}: {value}, {params_in_words(found.best.params)}"


def estimate(spec: SpecArgument, settings: SetOption = None, as_json: JsonOption = False) -> None:
    """Estimate what a spec would cost.

    Prints runs, operations, memory, room on the disk, and the time on each kind of device; and
    which limits the spec passes, and what of its data it does not take into account.
    """

    _, document = read_spec(spec, settings or [])
    with make_client() as client:
        try:
            found = client.estimate(document)
        except Refused as error:
            raise explain_refusal(error, document) from error
    if as_json:
        show_json(found)
        return
    rows = [
        ["runs", f"{found.runs:,}"],
        ["operations", f"{found.flops:.2e}"],
        ["peak memory", bytes_in_words(found.peak_memory_bytes)],
        ["disk", _of_disk(found.disk_bytes)],
    ]
    rows += [[f"time on {kind}", duration(seconds)] for kind, seconds in found.seconds.items()]
    if least := found.least:
        rows[1][1] = f"{least.flops:.2e} to {rows[1][1]}, with the values of the space"
        rows += [
            [f"at least, on {kind}", duration(seconds)] for kind, seconds in least.seconds.items()
        ]
    rows.append(["based on", found.seconds_based_on])
    rows += [["too large", problem] for problem in found.problems]
    if found.onset and found.onset.message:
        rows.append(["beginning", found.onset.message])
        epochs = document.get("epochs", TrainSpec.model_fields["epochs"].default)
        rows += [
            [line.name, f"{line.value}  {line.sentence}"]
            for line in onset_lines(found.onset, epochs)
        ]
    rows += [["advice", f"{advice.message} {advice.suggestion}"] for advice in found.advice]
    table(["what", "estimate"], rows)


def _of_disk(found: DiskBytes) -> str:
    """How much a job takes up on the disk, and for what."""
    parts = ", ".join(
        f"{part} {bytes_in_words(count)}"
        for part, count in found.model_dump(exclude={"total"}).items()
        if count
    )
    return f"{bytes_in_words(found.total)} ({parts})"


def log(job_id: JobArgument) -> None:
    """Print a job's log. It has the job's states, and the notes and warnings of its workers."""
    with make_client() as client:
        typer.echo(
            for_terminal(client.download(resolve(client, job_id).id, "log").decode(), keep="\n\t"),
            nl=False,
        )


def change(
    job_id: JobArgument,
    name: NameOption = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TAG",
            help="A tag in the place of those that it has; may be repeated.",
            callback=as_typed,
        ),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help='The project that it belongs to; "" for none.', callback=as_typed
        ),
    ] = None,
    note: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help='A remark for people; "" for none.', callback=as_typed),
    ] = None,
    priority: Annotated[Priority | None, typer.Option(help="Where it stands in the queue.")] = None,
    needs: NeedsOption = None,
    pin: Annotated[
        bool | None,
        typer.Option("--pin/--unpin", help="Keep it, whatever the retention says, or not."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a job's name, tags, project, note, priority, needs or pin."""

    given = {
        "name": name,
        "tags": tag or None,
        "project": project,
        "note": note,
        "priority": priority,
        "needs": read_needs(needs),
        "pinned": pin,
    }
    with make_client() as client:
        job = client.change(
            resolve(client, job_id).id,
            {
                fact: value or None if fact in EMPTIED else value
                for fact, value in given.items()
                if value is not None
            },
        )
        page = page_url(client, job)
    if as_json:
        show_json(job)
    else:
        job_lines(job, page)


def cancel(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Cancel a job; what was computed so far stays readable."""
    act(job_id, "cancel", as_json)


def pause(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Pause a job at its next step, with a checkpoint."""
    act(job_id, "pause", as_json)


def resume(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Queue a paused job again; it goes on from its checkpoint."""
    act(job_id, "resume", as_json)


def retry(job_id: JobArgument, needs: NeedsOption = None, as_json: JsonOption = False) -> None:
    """Queue a failed or cancelled job again."""
    if asked := read_needs(needs):
        with make_client() as client:
            client.change(resolve(client, job_id).id, {"needs": asked})
    act(job_id, "retry", as_json)


def act(job_id: str, action: str, as_json: bool) -> None:
    """Ask for an action on a job, and print its state."""
    with make_client() as client:
        job = client.act(resolve(client, job_id).id, action)
    if as_json:
        show_json(job)
    else:
        pending = (
            f" ({action} was asked for)"
            if job.state == JobState.running and job.wanted.value == action
            else ""
        )
        typer.echo(f"{job.id} {job.state.value}{pending}")


def delete(
    job_id: JobArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a job that has ended, with its result and files."""

    with make_client() as client:
        job = resolve(client, job_id)
        if not yes and not sys.stdin.isatty():
            fail(f"{job.id}: say --yes to delete it without being asked", EXIT_USAGE)
        if not yes and not typer.confirm(
            f"Delete {job.id} ({title_of(job)}) with its result and files?", err=True
        ):
            fail(f"{job.id} is kept", EXIT_USAGE)
        client.delete(job.id)
    if as_json:
        show_json({"id": job.id, "deleted": True})
    else:
        typer.echo(f"{job.id} is deleted")


def open_page(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Open a job's page in the browser, and print its address."""
    with make_client() as client:
        page = page_url(client, resolve(client, job_id))
    if as_json:
        show_json({"page": page})
    else:
        typer.echo(page)
    typer.launch(page)
