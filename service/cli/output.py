"""Prints for people on a terminal, and tab-separated lines in a pipe."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from string import ascii_uppercase
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ffengine.results import Diagnostic
from ffengine.text import visible
from service.jobs import ACTIONS, TERMINAL, Job, JobState
from service.results.descriptions import duration, provenance_lines, time_ago, title_of
from service.results.job_diff import ABSENT, JobDiff, intervals_disjoint
from service.results.paper_comparison import ComparisonRow, legend

STYLES = {
    "queued": "default",
    "running": "cyan",
    "paused": "yellow",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
}
SEVERITIES = {"error": "red", "warning": "yellow", "info": "cyan"}
JOB_COLUMNS = ("id", "kind", "state", "done", "name", "by", "submitted")
Cell = str | Text


class Screen(Console):
    """A console that replaces control characters: names come from whoever submits."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield (
                segment
                if segment.control
                else Segment(visible(segment.text, keep="\n"), segment.style)
            )


out = Screen(highlight=False, markup=False, emoji=False)
err = Screen(highlight=False, markup=False, emoji=False, stderr=True)


class ProgressCallback(Protocol):
    """A function that is called with a job at each look at it."""

    def __call__(self, job: Job) -> None: ...


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    title: str | None = None,
    right: Sequence[int] = (),
) -> None:
    """Print a table; in a pipe, tab-separated lines."""
    if not out.is_terminal:
        for row in [columns, *rows]:
            sys.stdout.write("\t".join(visible(str(cell)) for cell in row) + "\n")
        return
    drawn = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        drawn.add_column(
            column,
            justify="right" if number in right else "left",
            overflow="fold",
            no_wrap=column == "id",
        )
    for row in rows:
        drawn.add_row(*row)
    out.print(drawn)


def line(text: Cell = "") -> None:
    """Print one line, whatever its length."""
    out.print(text, soft_wrap=True)


def jobs_table(jobs: Sequence[Job]) -> None:
    """Print a line for each job; in a pipe with all columns, and times as in JSON."""
    named = not out.is_terminal or any(job.submitted_by for job in jobs)
    columns = [column for column in JOB_COLUMNS if named or column != "by"]
    rows = [[_job_cell(job, column) for column in columns] for job in jobs]
    table(columns, rows, right=(3,))
    if not jobs and out.is_terminal:
        line(Text("no jobs; `fflab submit quick` makes one", "dim"))


def _job_cell(job: Job, column: str) -> Cell:
    cells: dict[str, Cell] = {
        "id": job.id,
        "kind": job.kind,
        "state": coloured(job.state.value),
        "done": f"{job.progress.fraction:.0%}",
        "name": job.name or "",
        "by": job.submitted_by or "",
        "submitted": time_ago(job.created_at)
        if out.is_terminal
        else job.created_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    return cells[column]


def job_lines(job: Job, page: str) -> None:
    """Print a line for each fact of a job, then its page and what can be done with it."""
    facts: dict[str, Cell | None] = {
        "id": job.id,
        "kind": job.kind,
        "name": job.name,
        "tags": ", ".join(job.tags) or None,
        "by": job.submitted_by,
        "state": coloured(job.state.value),
        "wanted": job.wanted.value
        if job.state == JobState.running and job.wanted.value != "run"
        else None,
        "progress": f"{job.progress.fraction:.0%}  {job.progress.message}",
        "time left": duration(job.progress.eta_seconds)
        if job.progress.eta_seconds is not None
        else None,
        "submitted": _moment(job.created_at),
        "finished": _moment(job.finished_at) if job.finished_at else None,
        "attempts": str(job.attempts),
        "cached from": job.cached_from,
        "waits for": job.waits_for,
        "study": job.parent,
        "error": f"{job.error.title}: {job.error.detail}" if job.error else None,
        "device": f"{job.provenance.device} ({job.provenance.device_name})"
        if job.provenance
        else None,
        "data": f"{job.provenance.dataset.name} sha256 {job.provenance.dataset.digest[:16]}…"
        if job.provenance
        else None,
        "page": page,
        "next": ", ".join(f"fflab {action} {job.id[-8:]}" for action in next_actions(job)),
    }
    for name, fact in facts.items():
        if fact is not None:
            line(Text.assemble(f"{name:<12} ", fact))


def next_actions(job: Job) -> list[str]:
    """Return the commands that make sense for the job as it is."""
    if job.state == JobState.succeeded:
        return ["result", "log"]
    return [*(["log"] if job.state in TERMINAL else ["watch"]), *ACTIONS[job.state]]


def comparison_table(lines: Sequence[ComparisonRow], title: str, *, explained: bool = True) -> None:
    """Measured beside published, and what the verdicts mean."""
    rows = [
        [
            found.quantity,
            f"{found.measured:.4f}",
            found.interval,
            found.published,
            found.judgement,
            f"{found.samples:,}",
            str(found.seeds),
        ]
        for found in lines
    ]
    table(
        ["quantity", "measured", "95 % interval", "paper", "verdict", "samples", "seeds"],
        rows,
        title=title,
        right=(1, 5, 6),
    )
    for meaning in legend(lines) if explained else ():
        line(Text(meaning, "dim"))


def contrast_tables(contrast: JobDiff) -> None:
    """Jobs side by side; in a pipe one table whose first column names the part."""
    names = [
        f"{letter} {job.id[-8:]}"
        for letter, job in zip(ascii_uppercase * 8, contrast.jobs, strict=False)
    ]
    figures = [
        (quantity, [_figure(one) for one in lines], intervals_disjoint(lines))
        for quantity, lines in contrast.figures
    ]
    if not out.is_terminal:
        rows = [["spec", field, *values] for field, values in contrast.spec]
        rows += [["figure", quantity, *values] for quantity, values, _ in figures]
        rows += [["provenance", fact, *values] for fact, values in contrast.provenance]
        table(["part", "what", *(job.id for job in contrast.jobs)], rows)
        return
    for name, job in zip(names, contrast.jobs, strict=True):
        line(Text.assemble((name, "bold"), f"  {title_of(job)}  ", coloured(job.state.value)))
    for title, found in (("specs", contrast.spec), ("provenance", contrast.provenance)):
        line()
        if found:
            table([f"{title} differ in", *names], [[field, *values] for field, values in found])
        else:
            line(f"{title}: the same")
    line()
    marked = len(names) == 2
    columns = ["figure: mean, 95 % interval", *names, *(["intervals"] if marked else [])]
    words = {True: "apart", False: "overlap", None: ""}
    table(
        columns,
        [
            [quantity, *values, *([words[far]] if marked else [])]
            for quantity, values, far in figures
        ],
    )


def _figure(found: ComparisonRow | None) -> str:
    if found is None:
        return ABSENT
    return f"{found.measured:.4f} ({found.interval})"


def finding_lines(findings: Sequence[Diagnostic]) -> None:
    """Print each finding: its severity, its message, and what to try."""
    for finding in findings:
        line(
            Text.assemble(
                (f"{finding.severity:<8}", SEVERITIES[finding.severity]),
                f"{finding.message} ",
                (finding.suggestion, "dim"),
            )
        )


def provenance_table(job: Job) -> None:
    """Print how the figures were obtained."""
    for name, text in provenance_lines(job.provenance):
        line(Text.assemble((f"{name:<12} ", "dim"), text))


@contextmanager
def progress_bar(console: Console = out) -> Iterator[ProgressCallback]:
    """Show a progress bar on a terminal, and a line for each change in a pipe."""
    if not console.is_terminal:
        yield _line_reporter(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("queued", total=1.0, message="")

        def show(job: Job) -> None:
            progress.update(
                bar,
                completed=job.progress.fraction,
                description=job.state.value,
                message=job.progress.message,
            )

        yield show


def _line_reporter(console: Console) -> ProgressCallback:
    seen: set[str] = set()

    def report(job: Job) -> None:
        # one line for each message, not for each percent
        said = f"{job.state.value} {job.progress.message}"
        if said not in seen:
            seen.add(said)
            console.file.write(
                visible(f"{job.state.value} {job.progress.fraction:.0%} {job.progress.message}")
                + "\n"
            )
            console.file.flush()

    return report


def coloured(state: str) -> Text:
    """Return a state in its colour."""
    return Text(state, STYLES[state])


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC  ({time_ago(at)})"
