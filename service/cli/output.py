"""Prints for people on a terminal, and tab-separated lines in a pipe."""

import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from string import ascii_uppercase
from typing import Any, Protocol

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ffengine.results import Diagnostic, ForecastResult, TrainResult
from ffengine.spec import UnreadSpec
from ffengine.text import visible
from service.cli.fitted_table import fitted
from service.encoding.escaping import for_terminal
from service.jobs import TERMINAL, Job, JobState, actions_on
from service.lists.columns import seconds_run
from service.placement import GB, needs_in_words
from service.results.baseline_table import baseline_table
from service.results.descriptions import (
    duration,
    provenance_lines,
    short_digest,
    time_ago,
    title_of,
)
from service.results.forecasts import EPOCHS_TEXTS, epochs_table, forecast_sentences
from service.results.job_diff import ABSENT, JobDiff
from service.results.paper_comparison import ComparisonRow, RunRows, by_run, comparison, legend
from service.results.row_keys import quantity_of
from service.results.sources import Source

STYLES = {
    "queued": "default",
    "running": "cyan",
    "paused": "yellow",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
}
SEVERITIES = {"error": "red", "warning": "yellow", "info": "cyan"}
COMPARED = ("quantity", "measured", "95 % interval", "paper", "verdict", "samples", "seeds")
WIDE_TABLE = 120  # characters: with fewer, a comparison has no columns
JOB_COLUMNS = ("id", "kind", "state", "done", "name", "by", "submitted", "tags")
SOMETIMES = ("by", "tags")  # columns that a terminal shows where one of the jobs has them
CUT = ("name", "tags", "by")  # columns that a narrow terminal cuts
LEFT_OUT = ("tags", "by", "kind", "submitted", "done")  # and then leaves out, the first first
Cell = str | Text


class Screen(Console):
    """A console that shows control characters as escapes: names come from whoever submits.

    What is laid out already keeps its width: there a mark stands in place of such a character.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(for_terminal(text, keep="\n"), **options)

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
            sys.stdout.write("\t".join(for_terminal(str(cell)) for cell in row) + "\n")
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


def heading(text: str) -> None:
    """Print the heading of a section, with an empty line before it."""
    line()
    line(Text(text, "bold"))


def fitted_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    texts: Sequence[str],
    leave_out: Sequence[str],
    right: Sequence[str] = (),
    wide: bool = False,
) -> None:
    """Print a table that fits the terminal, and name what it leaves out; in a pipe as `table`.

    Without rows it is empty on a terminal.

    **Arguments:**

    - `texts`, `leave_out`, `right`: those of `fitted`.
    - `wide`: print all of it, whatever the width of the terminal.
    """
    if not out.is_terminal:
        table(columns, rows)
        return
    if not rows:
        return
    shown = [
        [cell if isinstance(cell, Text) else for_terminal(cell) for cell in row] for row in rows
    ]
    found = fitted(
        columns,
        shown,
        None if wide else out.width,
        texts=texts,
        leave_out=leave_out,
        right=right,
        ellipsis="…" if out.encoding.startswith("utf") else "~",
    )
    for one in found.lines:
        line(one)
    if found.left_out:
        names = ", ".join(found.left_out)
        line(Text(f"not shown: {names} (--wide)", "dim"))


def jobs_table(jobs: Sequence[Job], *, wide: bool = False) -> None:
    """Print a line for each job; in a pipe with all columns, and times as in JSON.

    **Arguments:**

    - `wide`: print all columns whole, whatever the width of the terminal.
    """
    columns = [
        column
        for column in JOB_COLUMNS
        if column not in SOMETIMES
        or not out.is_terminal
        or any(_job_cell(job, column) for job in jobs)
    ]
    rows = [[_job_cell(job, column) for column in columns] for job in jobs]
    fitted_table(columns, rows, texts=CUT, leave_out=LEFT_OUT, right=("done",), wide=wide)


def _job_cell(job: Job, column: str) -> Cell:
    cells: dict[str, Cell] = {
        "id": job.id,
        "kind": job.kind,
        "state": coloured(job.state.value),
        "done": f"{job.progress.fraction:.0%}",
        "name": " / ".join(filter(None, (job.name, job.label))),
        "by": job.submitted_by or "",
        "tags": ", ".join(job.tags),
        "submitted": moment_in_table(job.created_at),
    }
    return cells[column]


def moment_in_table(at: datetime) -> str:
    """Return a moment as a table has it: how long ago it is; in a pipe the time, as in JSON."""
    if out.is_terminal:
        return time_ago(at)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _needs_of(job: Job) -> str | None:
    """Say what an unfinished job needs of its worker; None where it needs nothing."""
    if job.state in TERMINAL and job.needs is None:
        return None
    said = needs_in_words(job.needs) if job.needs else ""
    if job.need_memory_bytes and not (job.needs and job.needs.memory_gb):
        said += f" memory_gb={job.need_memory_bytes / GB:.2g} (estimated)"
    return said.strip() or None


def job_lines(job: Job, page: str, best: str | None = None) -> None:
    """Print a line for each fact of a job, then its page and what can be done with it.

    **Arguments:**

    - `best`: the best trial of a search so far.
    """
    facts: dict[str, Cell | None] = {
        "id": job.id,
        "kind": job.kind,
        "name": job.name,
        "tags": ", ".join(job.tags) or None,
        "project": job.project,
        "note": _indented(job.note) if job.note else None,
        "by": job.submitted_by,
        "state": coloured(job.state.value),
        "needs": _needs_of(job),
        "wanted": job.wanted.value
        if job.state == JobState.running and job.wanted.value != "run"
        else None,
        "progress": f"{job.progress.fraction:.0%}  {job.progress.message}",
        "time left": duration(job.progress.eta_seconds)
        if job.progress.eta_seconds is not None
        else None,
        "best so far": best,
        "submitted": _moment(job.created_at),
        "finished": _moment(job.finished_at) if job.finished_at else None,
        "ran for": duration(ran) if (ran := seconds_run(job, time.time())) is not None else None,
        "attempts": str(job.attempts) if job.attempts else None,
        "cached from": job.cached_from,
        "waits for": job.waits_for,
        "study": job.parent,
        "not read": job.spec.why if isinstance(job.spec, UnreadSpec) else None,
        "error": f"{job.error.title}: {job.error.detail}" if job.error else None,
        "device": f"{job.provenance.device} ({job.provenance.device_name})"
        if job.provenance
        else None,
        "data": f"{job.provenance.dataset.name} {short_digest(job.provenance.dataset.digest)}"
        if job.provenance
        else None,
        "page": page,
        "next": ", ".join(f"fflab {action} {job.id[-8:]}" for action in next_actions(job)),
    }
    for name, fact in facts.items():
        if fact is not None:
            shown = for_terminal(fact) if isinstance(fact, str) else fact
            line(Text.assemble(f"{name:<12} ", shown))


def _indented(note: str) -> Text:
    """The lines of a note, below each other behind the name of the fact."""
    return Text(for_terminal(note, keep="\n").replace("\n", f"\n{'':<13}"))


def next_actions(job: Job) -> list[str]:
    """Return the commands that make sense for the job as it is."""
    if job.state == JobState.succeeded:
        return ["result", "log"]
    return [*(["log"] if job.state in TERMINAL else ["watch"]), *actions_on(job)]


def comparison_table(
    comparison: Sequence[ComparisonRow], title: str | None = None, *, explained: bool = True
) -> None:
    """Print measured beside published, under the heading of each run; in a pipe, a run is named in
    each line. Where `explained`, also what the verdicts mean.
    """
    if out.is_terminal and out.width < WIDE_TABLE:
        _narrow_comparison(comparison, title)
    else:
        rows = (
            [cells for found in by_run(comparison) for cells in _run_cells(found)]
            if out.is_terminal
            else [_comparison_cells(row, row.quantity, row.judgement) for row in comparison]
        )
        table(COMPARED, rows, title=title, right=(1, 5, 6))
    for meaning in legend(comparison) if explained else ():
        line(Text(meaning, "dim"))


def result_tables(sources: Sequence[Source], title: str, *, explained: bool = True) -> None:
    """Print what forecasts say and how many epochs runs need; of other results, measured beside
    published.
    """
    forecast_tables(sources)
    rows = comparison(sources)
    if rows or not any(isinstance(source.result, ForecastResult) for source in sources):
        comparison_table(rows, title, explained=explained)
    baseline_tables(sources)


def baseline_tables(sources: Sequence[Source]) -> None:
    """Print training runs beside their baselines."""
    for source in sources:
        if isinstance(source.result, TrainResult) and source.result.baselines:
            found = baseline_table(source.result)
            title = f"{source.label}: {found.title}" if source.label else found.title
            table([column.label for column in found.columns], found.rows, title=title)
            for note in found.notes:
                line(note)


def _narrow_comparison(comparison: Sequence[ComparisonRow], title: str | None) -> None:
    """Print each quantity on a line of its own, its figures below: columns would be too narrow."""
    if title:
        line(Text(title, "bold"))
    out.print(Text("each quantity: measured; 95 % interval; paper; verdict; samples; seeds", "dim"))
    for found in by_run(comparison):
        if found.heading:
            out.print(Text(f"\n{found.heading}", "bold"))
        for row in found.rows:
            out.print(quantity_of(row.key))
            published = f"paper {row.published}" if row.published else ""
            seeds = "" if row.seeds == 1 else f"{row.seeds} seeds"  # the interval says: one seed
            verdict = row.verdict if found.heading else row.judgement
            samples = f"{row.samples:,} samples"
            facts = (row.mean, row.interval, published, verdict, samples, seeds)
            out.print(Text("    " + "; ".join(filter(None, facts))))


def _run_cells(found: RunRows) -> Iterator[list[Cell]]:
    """The lines of a run: its heading, then each of its figures."""
    if found.heading:
        yield [Text(found.heading, "bold"), *[""] * 6]
    for row in found.rows:
        verdict = row.verdict if found.heading else row.judgement
        yield _comparison_cells(row, quantity_of(row.key), verdict)


def _comparison_cells(row: ComparisonRow, quantity: str, verdict: str) -> list[Cell]:
    measured, samples = row.mean, f"{row.samples:,}"
    return [quantity, measured, row.interval, row.published, verdict, samples, str(row.seeds)]


def forecast_tables(sources: Sequence[Source]) -> None:
    """Print what forecasts say: sentences, then how many epochs runs need."""
    for sentence in forecast_sentences(sources):
        line(sentence)
    epochs = epochs_table(sources)
    if epochs.rows:
        numbers = [at for at, name in enumerate(epochs.head) if name not in EPOCHS_TEXTS]
        table(epochs.head, epochs.rows, title="epochs needed", right=numbers)


def diff_tables(diff: JobDiff) -> None:
    """Print jobs side by side; in a pipe, one table whose first column names the part."""
    if out.is_terminal:
        _diff_on_a_terminal(diff)
    else:
        rows = [["spec", field, *values] for field, values in diff.spec]
        rows += [["figure", one.quantity, *map(_figure, one.rows)] for one in diff.figures]
        rows += [["provenance", fact, *values] for fact, values in diff.provenance]
        table(["part", "what", *(job.id for job in diff.jobs)], rows)


def _diff_on_a_terminal(diff: JobDiff) -> None:
    letters = itertools.cycle(ascii_uppercase)
    names = [f"{letter} {job.id[-8:]}" for letter, job in zip(letters, diff.jobs, strict=False)]
    for name, job in zip(names, diff.jobs, strict=True):
        line(Text.assemble((name, "bold"), f"  {title_of(job)}  ", coloured(job.state.value)))
    for title, found in (("specs", diff.spec_in_words), ("provenance", diff.provenance)):
        line()
        if found:
            table([f"{title} differ in", *names], [[field, *values] for field, values in found])
        else:
            line(f"{title}: the same")
    line()
    words = {True: ["apart"], False: ["overlap"], None: [""]}
    of_two = len(names) == 2
    table(
        ["figure: mean, 95 % interval", *names, *(["intervals"] if of_two else [])],
        [
            [one.quantity, *map(_figure, one.rows), *(words[one.are_disjoint] if of_two else [])]
            for one in diff.figures
        ],
    )
    for note in diff.notes:
        line(note)


def _figure(row: ComparisonRow | None) -> str:
    return f"{row.mean} ({row.interval})" if row else ABSENT


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
                for_terminal(
                    f"{job.state.value} {job.progress.fraction:.0%} {job.progress.message}"
                )
                + "\n"
            )
            console.file.flush()

    return report


def coloured(state: str) -> Text:
    """Return a state in its colour."""
    return Text(state, STYLES[state])


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC  ({time_ago(at)})"
