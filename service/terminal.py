"""What the command line prints: tables and progress for people, plain lines in a pipe."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from service.comparison import Line
from service.jobs import Job

COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "paused": "yellow", "queued": "white"}
out = Console(highlight=False)


class Follow(Protocol):
    """Told of a job's progress."""

    def __call__(self, job: Job) -> None: ...


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None, right: Sequence[int] = ()) -> None:
    """A table; in a pipe tab-separated lines."""
    if not out.is_terminal:
        for row in [columns, *rows]:
            sys.stdout.write("\t".join(row) + "\n")
        return
    drawn = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        drawn.add_column(column, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    out.print(drawn)


def jobs_table(jobs: Sequence[Job]) -> None:
    """A line for each job."""
    rows = [
        [job.id, job.kind, _coloured(job.state.value), f"{job.progress.fraction:.0%}", job.name or "", age(job.created_at)] for job in jobs
    ]
    table(["id", "kind", "state", "done", "name", "submitted"], rows, right=(3,))


def job_lines(job: Job) -> None:
    """Everything about one job, a line for each fact."""
    facts = {
        "id": job.id,
        "kind": job.kind,
        "name": job.name,
        "tags": ", ".join(job.tags) or None,
        "state": _coloured(job.state.value),
        "progress": f"{job.progress.fraction:.0%}  {job.progress.message}",
        "submitted": f"{job.created_at:%Y-%m-%d %H:%M:%S} UTC",
        "finished": f"{job.finished_at:%Y-%m-%d %H:%M:%S} UTC" if job.finished_at else None,
        "attempts": str(job.attempts),
        "cached from": job.cached_from,
        "error": f"{job.error.title}: {job.error.detail}" if job.error else None,
        "device": f"{job.provenance.device} ({job.provenance.device_name})" if job.provenance else None,
        "data": f"{job.provenance.dataset.name} sha256 {job.provenance.dataset.digest[:16]}…" if job.provenance else None,
    }
    for name, fact in facts.items():
        if fact is not None:
            out.print(f"{name:<12} {fact}", soft_wrap=True)


def comparison_table(lines: Sequence[Line], title: str) -> None:
    """Measured beside published."""
    rows = [
        [line.quantity, f"{line.measured:.4f}", line.interval, line.published, line.verdict, f"{line.samples:,}", str(line.seeds)]
        for line in lines
    ]
    table(["quantity", "measured", "95 % interval", "paper", "", "samples", "seeds"], rows, title=title, right=(1, 5, 6))


@contextmanager
def following() -> Iterator[Follow]:
    """A progress bar on a terminal, a line for each change in a pipe."""
    if not out.is_terminal:
        seen: set[str] = set()

        def line(job: Job) -> None:
            text = f"{job.state.value} {job.progress.fraction:.0%} {job.progress.message}"
            if text not in seen:
                seen.add(text)
                sys.stdout.write(text + "\n")
                sys.stdout.flush()

        yield line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}"),
    )
    with Progress(*columns, console=out) as progress:
        bar = progress.add_task("queued", total=1.0, message="")

        def show(job: Job) -> None:
            progress.update(bar, completed=job.progress.fraction, description=job.state.value, message=job.progress.message)

        yield show


def age(moment: datetime) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _coloured(state: str) -> str:
    return f"[{COLOURS[state]}]{state}[/]" if out.is_terminal else state
