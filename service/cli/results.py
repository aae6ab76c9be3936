"""Commands that look at what jobs have found: watch, result, diff, and run without a service."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from service.cli import completion
from service.cli.job_watcher import JobProgress, Row, events_of, patiently
from service.cli.options import (
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    PATIENT_ATTEMPTS,
    JobArgument,
    JobsArgument,
    JsonOption,
    SetOption,
    SpecArgument,
    fail,
    make_client,
    require_extra,
    resolve,
    save,
    settings_of,
    show_json,
)
from service.client import Client, JobFailed
from service.jobs import Job, JobState

ARTIFACTS = {
    ".json": "result",
    ".csv": "result.csv",
    ".html": "report.html",
    ".npz": "result.npz",
    ".safetensors": "weights.safetensors",
}
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="A .json, .csv, .html (report), CHART.png, CHART.svg, .npz (figures of every "
        "sample) or .safetensors file.",
        autocompletion=completion.outputs,
    ),
]


def watch(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Follow a job to its end.

    On a terminal with curves that grow; with --json every event is a line. Ctrl-C ends only the
    watching.
    """
    with make_client(PATIENT_ATTEMPTS) as client:
        job = resolve(client, job_id)
        if not as_json:
            follow(client, job)
            return
        try:
            for event in events_of(client, JobProgress(job)):
                typer.echo(event.model_dump_json(ensure_ascii=True))
                sys.stdout.flush()
        except KeyboardInterrupt:
            _goes_on(job)
        succeeded(client.read(job.id))


def follow(client: Client, job: Job, *, quiet: bool = False) -> Job:
    """Follow a job to its end and return it; JobFailed where it does not succeed."""
    from service.cli.output import out

    try:
        if quiet:
            return _followed_quietly(client, job)
        return _followed_live(client, job) if out.is_terminal else _followed_in_lines(client, job)
    except KeyboardInterrupt:
        _goes_on(job)


def succeeded(job: Job) -> Job:
    """The job; JobFailed where it has not succeeded."""
    if job.state != JobState.succeeded:
        raise JobFailed(job)
    return job


def _goes_on(job: Job) -> NoReturn:
    fail(
        f"no longer watching; the job goes on: `fflab watch {job.id[-8:]}` watches again, "
        f"`fflab cancel` ends it",
        EXIT_INTERRUPTED,
    )


def _followed_quietly(client: Client, job: Job) -> Job:
    for _ in events_of(client, JobProgress(job)):
        pass
    return succeeded(client.read(job.id))


def _followed_in_lines(client: Client, job: Job) -> Job:
    from service.cli.output import progress_bar
    from service.client import JobHandle

    handle = JobHandle(client, job)
    with progress_bar() as tell:
        patiently(lambda: handle.wait(on_progress=tell))
    return handle.job


def _followed_live(client: Client, job: Job) -> Job:
    from rich.live import Live

    from service.cli.live_view import LiveView
    from service.cli.output import out

    watched = JobProgress(job)
    watched.read_runs(client)
    with Live(LiveView(watched), console=out, refresh_per_second=4) as live:
        for event in events_of(client, watched):
            watched.take(event)
            watched.read_runs(client)
        ended = client.read(job.id)
        watched.end(client, ended)
        live.refresh()
    _say_findings(client, ended, watched.findings)
    return succeeded(ended)


def _say_findings(client: Client, job: Job, failed_with: Sequence[Row]) -> None:
    from ffengine.results import Diagnostic
    from service.cli.output import finding_lines, line
    from service.cli.remote_results import findings_of, results_of

    found = findings_of(results_of(client, job)) if job.state == JobState.succeeded else []
    finding_lines(found or [Diagnostic.model_validate(finding) for finding in failed_with])
    if job.state == JobState.succeeded:
        line(f"figures: fflab result {job.id[-8:]}")


def result(job_id: JobArgument, output: OutputOption = None, as_json: JsonOption = False) -> None:
    """Show a job's result, or write it to a file. On a terminal a summary, in a pipe JSON."""
    from service.cli.output import out

    with make_client() as client:
        job = resolve(client, job_id)
        if output:
            save(output, client.download(job.id, artifact_of(output)))
            typer.echo(json.dumps({"file": str(output)}) if as_json else str(output))
        elif out.is_terminal and not as_json:
            client.download(job.id, "result")  # refused where there is none
            summarise(client, job)
        else:
            content = client.download(job.id, "result").decode()
            compact = (",", ":") if as_json else None
            typer.echo(
                json.dumps(json.loads(content), indent=None if as_json else 2, separators=compact)
            )


def summarise(client: Client, job: Job) -> None:
    """Measured beside published, findings, provenance."""
    from service.cli.output import comparison_table, finding_lines, line, provenance_table
    from service.cli.remote_results import MOST_RUNS, findings_of, results_of
    from service.results.descriptions import title_of
    from service.results.paper_comparison import comparison

    found = results_of(client, job)
    comparison_table(comparison(found), f"{title_of(job)}: measured beside arXiv 2311.05667")
    if job.kind == "study" and len(found) == MOST_RUNS:
        line(f"the first {MOST_RUNS} runs; all of them: fflab result {job.id[-8:]} -o runs.csv")
    line()
    finding_lines(findings_of(found))
    line()
    provenance_table(job)


def artifact_of(output: Path) -> str:
    """What to download for a file of that name."""
    if output.suffix in (".png", ".svg"):
        return f"chart/{output.name}"
    if output.suffix not in ARTIFACTS:
        fail(
            f"{output}: choose a name that ends in .json, .csv, .html, .png, .svg, .npz or "
            f".safetensors",
            EXIT_USAGE,
        )
    return ARTIFACTS[output.suffix]


def diff(job_ids: JobsArgument, as_json: JsonOption = False) -> None:
    """Put two or more jobs beside each other.

    In what their specs differ, their final figures, how these were obtained.
    """
    from service.cli.remote_results import results_of
    from service.results.job_diff import JobDiff
    from service.results.paper_comparison import comparison

    if len(job_ids) < 2:
        fail("name two or more jobs, as in `fflab diff last 3f2a9c1e`", EXIT_USAGE)
    with make_client() as client:
        jobs = [resolve(client, job_id) for job_id in job_ids]
        found = JobDiff.of(jobs, [comparison(results_of(client, job)) for job in jobs])
    if as_json:
        show_json(found.document())
    else:
        from service.cli.output import diff_tables

        diff_tables(found)


def run(
    spec: SpecArgument,
    settings: SetOption = None,
    device: Annotated[
        str, typer.Option(help="cpu or cuda:N.", autocompletion=completion.devices)
    ] = "cpu",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A .json, .csv or (training) .safetensors file."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Check these: a .safetensors file that fflab exported.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a spec in this process, without a service."""
    from ffengine.datasets import look_in
    from service.specs.files import read_spec

    look_in(settings_of().data_root)
    validated, _ = read_spec(spec, settings or [])
    with require_extra("worker"):
        from service.cli.local_run import run_here

        run_here(validated, device=device, output=output, weights=weights, as_json=as_json)
