"""Commands of results: watch, result, diff, and run without a service."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, NoReturn, get_args

import typer
from rich.live import Live

from ffengine.results import Diagnostic
from service.cli import completion
from service.cli.job_watcher import JobProgress, Row, ask_while_unavailable, follow_events
from service.cli.live_view import LiveView
from service.cli.options import (
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    PATIENT_ATTEMPTS,
    STANDARD,
    JobArgument,
    JobsArgument,
    JsonOption,
    SetOption,
    SpecArgument,
    fail,
    load_settings,
    make_client,
    require_extra,
    resolve,
    show_json,
    write_output,
)
from service.cli.output import (
    diff_tables,
    finding_lines,
    line,
    out,
    progress_bar,
    provenance_table,
    result_tables,
)
from service.cli.remote_results import MOST_RUNS, findings_of, results_of
from service.client import Client, FflabError, JobFailed, JobHandle, Refused, requests
from service.jobs import Job, JobState
from service.results.descriptions import title_of
from service.results.job_diff import JobDiff
from service.results.paper_comparison import comparison
from service.specs.files import read_spec

ARTIFACTS = {
    ".json": "result",
    ".csv": "result.csv",
    ".parquet": "curves.parquet",
    ".html": "report.html",
    ".npz": "result.npz",
    ".safetensors": "weights.safetensors",
    ".tex": "result.tex",
    ".bib": "references.bib",
    ".md": "methods.md",
}
Rows = Literal[
    "curves",
    "means",
    "comparison",
    "runs",
    "figures",
    "cells",
    "epochs",
    "potentials",
    "decomposition",
    "accuracy",
    "baselines",
    "usage",
    "selectivity",
    "lesions",
    "layer_range",
    "ood",
]
OF_SAMPLES: tuple[Rows, ...] = ("potentials", "decomposition")
ROWS: dict[Rows, dict[str, str]] = {  # the rows of a table, by its format
    rows: {".tex": f"result.tex?rows={rows}"} for rows in get_args(Rows)
}
ROWS["curves"] = {".csv": "curves.csv", ".parquet": "curves.parquet", **ROWS["curves"]}
ROWS["means"] = {".csv": "curves.csv?mean=true", ".parquet": "curves.parquet?mean=true"}
for _rows in ("accuracy", "usage", "selectivity", "lesions", "layer_range", "ood"):
    ROWS[_rows] = {".csv": f"result.csv?rows={_rows}"}
for _rows in (*OF_SAMPLES, "baselines"):
    ROWS[_rows] = {".csv": f"result.csv?rows={_rows}", **ROWS[_rows]}
PICTURES = frozenset({".png", ".svg", ".pdf"})
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="A file; its end says what is written: .json or .csv (the result), .parquet (every "
        "epoch), .html (report), CHART.png, CHART.svg or CHART.pdf, .npz (figures of every "
        "sample), .safetensors (weights), .tex (table), .bib (references) or .md (methods). `-`: "
        "standard output, as JSON, or the table of --rows.",
        autocompletion=completion.outputs,
    ),
]


TitleOption = Annotated[
    bool, typer.Option("--title/--no-title", help="Of a chart: with its title and its caption.")
]
RowsOption = Annotated[
    Rows | None,
    typer.Option(
        metavar="TABLE",
        help="One table: curves (every measured epoch) or means (over seeds) as CSV or Parquet; "
        "potentials or decomposition (of single samples), accuracy (by layer and epoch), "
        "baselines, usage, selectivity, lesions, layer_range or ood as CSV; comparison, runs, "
        "figures, cells or epochs as LaTeX. -o FILE writes it there; without it, it is printed.",
    ),
]
WidthOption = Annotated[
    float | None,
    typer.Option(help="Of a chart: its width in mm, such as 84 for a journal's column."),
]
FontOption = Annotated[
    float | None, typer.Option(help="Of a chart: the size of the numbers on its axes, in points.")
]


def watch(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Follow a job to its end.

    A terminal shows curves that grow; with --json every event is a line. Ctrl-C ends only the
    watching.
    """
    with make_client(PATIENT_ATTEMPTS) as client:
        job = resolve(client, job_id)
        if not as_json:
            follow(client, job)
            return
        try:
            for event in follow_events(client, JobProgress(job)):
                typer.echo(event.model_dump_json(ensure_ascii=True))
                sys.stdout.flush()
        except KeyboardInterrupt:
            _stop_watching(job)
        require_success(client.read(job.id))


def follow(client: Client, job: Job, *, quiet: bool = False) -> Job:
    """Follow a job to its end, and return it. Raises JobFailed if it does not succeed."""

    try:
        if quiet:
            return _follow_quietly(client, job)
        # curves are drawn of characters that an ASCII terminal does not have
        draws = out.is_terminal and not out.options.ascii_only
        return _follow_live(client, job) if draws else _follow_in_lines(client, job)
    except KeyboardInterrupt:
        _stop_watching(job)


def require_success(job: Job) -> Job:
    """Return the job. Raises JobFailed if it has not succeeded."""
    if job.state != JobState.succeeded:
        raise JobFailed(job)
    return job


def _stop_watching(job: Job) -> NoReturn:
    fail(
        f"no longer watching; the job goes on: `fflab watch {job.id[-8:]}` watches again, "
        f"`fflab cancel` ends it",
        EXIT_INTERRUPTED,
    )


def _follow_quietly(client: Client, job: Job) -> Job:
    for _ in follow_events(client, JobProgress(job)):
        pass
    return require_success(client.read(job.id))


def _follow_in_lines(client: Client, job: Job) -> Job:

    handle = JobHandle(client, job)
    with progress_bar() as report:
        ask_while_unavailable(lambda: handle.wait(on_progress=report))
    return handle.job


def _follow_live(client: Client, job: Job) -> Job:

    watched = JobProgress(job)
    watched.read_runs(client)
    with Live(LiveView(watched), console=out, refresh_per_second=4) as live:
        for event in follow_events(client, watched):
            watched.apply(event)
            watched.read_runs(client)
        ended = client.read(job.id)
        watched.finish(client, ended)
        live.refresh()
    _print_findings(client, ended, watched.findings)
    return require_success(ended)


def _print_findings(client: Client, job: Job, failed_with: Sequence[Row]) -> None:

    found = findings_of(results_of(client, job)) if job.state == JobState.succeeded else []
    finding_lines(found or [Diagnostic.model_validate(finding) for finding in failed_with])
    if job.state == JobState.succeeded:
        line(f"figures: fflab result {job.id[-8:]}")


def result(
    job_id: JobArgument,
    output: OutputOption = None,
    title: TitleOption = True,
    width_mm: WidthOption = None,
    font_pt: FontOption = None,
    rows: RowsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a job's result, or write it to a file. On a terminal a summary, in a pipe JSON."""

    look = requests.look(None if title else "none", width_mm, font_pt)
    if look and (output is None or output.suffix not in PICTURES):
        fail("--no-title, --width-mm and --font-pt are for charts: -o CHART.pdf", EXIT_USAGE)
    with make_client() as client:
        job = resolve(client, job_id)
        if output or rows:
            target = output or Path(STANDARD)
            write_output(target, _content_for(target, client, job, rows, look), as_json=as_json)
        elif out.is_terminal and not as_json:
            client.download(job.id, "result")  # raises where there is no result
            summarise(client, job)
        else:
            content = client.download(job.id, "result").decode()
            compact = (",", ":") if as_json else None
            typer.echo(
                json.dumps(json.loads(content), indent=None if as_json else 2, separators=compact)
            )


def _content_for(
    output: Path, client: Client, job: Job, rows: Rows | None, look: Mapping[str, requests.Sent]
) -> bytes:
    """Return what is written to a file; the rows so far where a table has no result yet."""
    try:
        return client.download(job.id, artifact_for(output, rows), look)
    except Refused:
        so_far = b""
        if output.suffix == ".csv" and rows is None:
            with suppress(FflabError):  # an older service has no such table
                so_far = client.download(job.id, "curves.csv")
        if so_far.count(b"\n") <= 1:  # a header at the most
            raise
        return so_far


def summarise(client: Client, job: Job) -> None:
    """Print the comparison with the paper, findings and provenance."""

    found = results_of(client, job)
    result_tables(found, f"{title_of(job)}: measured beside arXiv 2311.05667")
    if job.kind == "study" and len(found) == MOST_RUNS:
        line(f"the first {MOST_RUNS} runs; all of them: fflab result {job.id[-8:]} -o runs.csv")
    line()
    finding_lines(findings_of(found))
    line()
    provenance_table(job)


def artifact_for(output: Path, rows: Rows | None = None) -> str:
    """Return the download that fits the name of an output file, and the rows asked for."""
    if str(output) == STANDARD:
        return ROWS[rows].get(".csv", ROWS[rows].get(".tex", "")) if rows else "result"
    if rows is not None:
        if output.suffix not in ROWS[rows]:
            fail(
                f"{output}: --rows {rows} makes a table; choose a name that ends in "
                f"{' or '.join(ROWS[rows])}",
                EXIT_USAGE,
            )
        return ROWS[rows][output.suffix]
    if output.suffix in PICTURES:
        return f"chart/{output.name}"
    if output.suffix not in ARTIFACTS:
        fail(
            f"{output}: choose a name that ends in .json, .csv, .parquet, .html, .png, .svg, "
            f".pdf, .npz, .safetensors, .tex, .bib or .md",
            EXIT_USAGE,
        )
    return ARTIFACTS[output.suffix]


def diff(job_ids: JobsArgument, as_json: JsonOption = False) -> None:
    """Compare two or more jobs.

    Shows in what their specs differ, their final figures, and how these were obtained.
    """

    if len(job_ids) < 2:
        fail("name two or more jobs, as in `fflab diff last 3f2a9c1e`", EXIT_USAGE)
    with make_client() as client:
        jobs = [resolve(client, job_id) for job_id in job_ids]
        found = JobDiff.of(jobs, [comparison(results_of(client, job)) for job in jobs])
    if as_json:
        show_json(found.document())
    else:
        diff_tables(found)


def run(
    spec: SpecArgument,
    settings: SetOption = None,
    device: Annotated[
        str, typer.Option(help="cpu or cuda:N.", autocompletion=completion.devices)
    ] = "cpu",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="A .json or .csv file, or of a training run .safetensors for its weights.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of a check of trained weights: the .safetensors file that has them.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a spec in this process, without a service."""
    validated, _ = read_spec(spec, settings or [])
    with require_extra("worker"):
        from service.cli.local_run import run_here

        run_here(
            validated,
            datasets=load_settings().datasets,
            device=device,
            output=output,
            weights=weights,
            as_json=as_json,
        )
