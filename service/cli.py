"""The command line `fflab`: parsing and printing only.

Exit codes: 0 done; 1 the job failed, or doctor found a fault; 2 usage or an invalid spec; 3 the service cannot be
reached or started; 4 there is no such job, data set or key.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.cli_admin import data_app, keys_app, retention
from service.cli_shared import (
    EXIT_FAILED,
    EXIT_NOT_FOUND,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    DeviceOption,
    HomeOption,
    JobArgument,
    JsonOption,
    SetOption,
    SpecArgument,
    client_of,
    fail,
    resolve,
    settings_of,
    show_json,
)
from service.client import FflabError, JobFailed, NotFound, Refused, Unreachable
from service.settings import Settings

app = typer.Typer(
    name="fflab",
    help="The lab backend for research on the Forward-Forward algorithm and the sparsity that emerges in it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Clients read FFLAB_URL and FFLAB_API_KEY. Exit codes: 0 done, 1 failed, 2 usage, 3 unreachable, 4 not found.",
)
app.add_typer(data_app, name="data")
app.add_typer(keys_app, name="keys")
app.command(epilog='Example: FFLAB_RETENTION=\'{"check": {"days": 90}}\' fflab retention')(retention)


def main() -> None:
    """Run the command; every failure is one line on standard error and an exit code, never a traceback."""
    from service.local import StackError
    from service.serve import ServeError
    from service.specfile import SpecError

    try:
        app()
    except SpecError as error:
        fail(str(error), EXIT_USAGE)
    except NotFound as error:
        fail(str(error), EXIT_NOT_FOUND)
    except Refused as error:
        fail(str(error), EXIT_USAGE if error.status in (400, 401, 409, 413, 422) else EXIT_UNREACHABLE)
    except JobFailed as error:
        fail(str(error), EXIT_FAILED)
    except (Unreachable, StackError, ServeError) as error:
        fail(str(error), EXIT_UNREACHABLE)
    except (FflabError, OSError, TimeoutError) as error:
        fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        fail("interrupted", 130)


# The service


@app.command(epilog="Example: fflab up --port 8000")
def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Loopback port of the API; 0: a free one.")] = 8000,
    home: HomeOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Run API, worker and Redis on this machine's loopback until Ctrl-C."""
    from service.local import Stack

    stack = Stack(settings_of(home), port=port, device=device)
    stack.start()
    typer.echo(f"fflab is up: {stack.url}  (API documentation: {stack.url}/docs, state and logs: {stack.home}; Ctrl-C stops it)")
    sys.stdout.flush()
    stack.run()
    typer.echo("fflab has stopped")


@app.command(epilog="Example: fflab api --host 127.0.0.1 --port 8000")
def api(
    host: Annotated[str, typer.Option(help="Beyond loopback API keys must exist, or FFLAB_REQUIRE_KEYS=1 be set.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
) -> None:
    """Run the HTTP API alone, against FFLAB_DATABASE_URL and FFLAB_REDIS_URL."""
    from service.serve import serve

    serve(Settings(), host, port)


@app.command(epilog="Example: FFLAB_REDIS_URL=redis://lab/0 fflab worker --device cuda:0")
def worker(device: DeviceOption = "auto") -> None:
    """Run one worker for one device, against FFLAB_DATABASE_URL and FFLAB_REDIS_URL."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "workers", "--device", device])  # noqa: S606 - the worker replaces this process


@app.command(epilog="Example: fflab demo --output demo-output")
def demo(
    output: Annotated[Path, typer.Option(help="Folder of report.html and result.json.")] = Path("demo-output"),
    preset: Annotated[str, typer.Option(help="Which study to run.")] = "paper",
    device: DeviceOption = "auto",
) -> None:
    """Start the whole stack, run the paper's study over REST, print the table, write a report, stop the stack."""
    from ffengine.presets import PRESETS
    from service.demo import demo as run_demo
    from service.specfile import SpecError

    if preset not in PRESETS:
        raise SpecError(f"--preset {preset}: choose one of {', '.join(PRESETS)}")
    run_demo(Settings(), output, preset, device)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Check what is installed, reachable and writable, and say what to do about it."""
    from service.doctor import examine

    checks = []
    for check in examine(Settings()):
        checks.append(check)
        if not as_json:
            advice = f"  ->  {check.advice}" if check.advice else ""
            typer.echo(f"{check.verdict:<5} {check.what:<18} {check.finding}{advice}")
    if as_json:
        show_json([check._asdict() for check in checks])
    if any(check.verdict == "fail" for check in checks):
        sys.exit(EXIT_FAILED)


# Jobs


@app.command(epilog="Example: fflab submit paper --wait, or fflab submit spec.yaml --set epochs=3")
def submit(
    spec: SpecArgument,
    settings: SetOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, with progress.")] = False,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be repeated.")] = None,
    priority: Annotated[str, typer.Option(help="low, normal or high.")] = "normal",
    fresh: Annotated[bool, typer.Option("--fresh", help="Run it even where an identical spec has succeeded.")] = False,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Longest time that it may run.")] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Keep it, whatever the retention says.")] = False,
    webhook: Annotated[str | None, typer.Option(metavar="URL", help="An address that is told when the job ends.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a job."""
    from service.specfile import read_spec
    from service.terminal import following

    _, document = read_spec(spec, settings or [])
    with client_of() as client:
        handle = client.submit(
            document, name=name, tags=tag, priority=priority, fresh=fresh, timeout_seconds=timeout, pinned=pin, webhook=webhook
        )
        if not as_json:
            typer.echo(handle.id)
        if wait and as_json:
            handle.wait()
        elif wait:
            with following() as follow:
                handle.wait(on_progress=follow)
        if as_json:
            show_json(handle.job)


@app.command(epilog="Example: fflab jobs --state running")
def jobs(
    state: Annotated[str | None, typer.Option(help="queued, running, paused, succeeded, failed or cancelled.")] = None,
    kind: Annotated[str | None, typer.Option(help="train, check or study.")] = None,
    tag: Annotated[str | None, typer.Option()] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    from itertools import islice

    from service.terminal import jobs_table

    filters = {key: value for key, value in (("state", state), ("kind", kind), ("tag", tag)) if value}
    with client_of() as client:
        found = list(islice(client.jobs(limit=limit, **filters), limit))
    if as_json:
        show_json([job.model_dump(mode="json") for job in found])
    else:
        jobs_table(found)


@app.command(epilog="Example: fflab show last")
def show(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show a job."""
    from service.terminal import job_lines

    with client_of() as client:
        job = resolve(client, job_id)
    if as_json:
        show_json(job)
    else:
        job_lines(job)


@app.command(epilog="Example: fflab watch last")
def watch(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Follow a job to its end; with --json every event is a line."""
    from service.client import JobHandle
    from service.terminal import following

    with client_of() as client:
        handle = JobHandle(client, resolve(client, job_id))
        if as_json:
            for event in handle.events():
                typer.echo(event.model_dump_json())
            handle.wait()
        else:
            with following() as follow:
                handle.wait(on_progress=follow)


@app.command(epilog="Example: fflab result last -o curves.csv, or -o sparsity.png, or -o report.html")
def result(
    job_id: JobArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="A .json, .csv, .html (report), CHART.png, CHART.svg, .npz (figures of every sample) or .safetensors file.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print a job's result, or write it to a file."""
    with client_of() as client:
        job = resolve(client, job_id)
        what = artifact_of(output) if output else "result"
        content = client.download(job.id, what)
    if output:
        output.write_bytes(content)
        typer.echo(json.dumps({"file": str(output)}) if as_json else str(output))
    else:
        sys.stdout.write(content.decode() if as_json else json.dumps(json.loads(content), indent=2))
        sys.stdout.write("\n")


@app.command(epilog="Example: fflab log last")
def log(job_id: JobArgument) -> None:
    """Print a job's log: its states, what its workers noted, and their warnings."""
    with client_of() as client:
        typer.echo(client.download(resolve(client, job_id).id, "log").decode(), nl=False)


@app.command(epilog="Example: fflab change last --priority high --pin")
def change(
    job_id: JobArgument,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="All of its tags; may be repeated.")] = None,
    priority: Annotated[str | None, typer.Option(help="low, normal or high.")] = None,
    pin: Annotated[bool | None, typer.Option("--pin/--unpin", help="Keep it, whatever the retention says, or not.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a job's name, tags, priority or pin."""
    from service.terminal import job_lines

    given = (("name", name), ("tags", tag), ("priority", priority), ("pinned", pin))
    with client_of() as client:
        job = client.change(resolve(client, job_id).id, {fact: value for fact, value in given if value is not None})
    if as_json:
        show_json(job)
    else:
        job_lines(job)


@app.command()
def cancel(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Cancel a job; what was computed so far stays readable."""
    act(job_id, "cancel", as_json)


@app.command()
def pause(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Pause a job at its next step, with a checkpoint."""
    act(job_id, "pause", as_json)


@app.command()
def resume(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Queue a paused job again; it goes on from its checkpoint."""
    act(job_id, "resume", as_json)


@app.command()
def retry(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Queue a failed or cancelled job again."""
    act(job_id, "retry", as_json)


@app.command(epilog="Example: fflab run quick --device cpu -o report.csv")
def run(
    spec: SpecArgument,
    settings: SetOption = None,
    device: Annotated[str, typer.Option(help="cpu or cuda:N.")] = "cpu",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A .json, .csv or (training) .safetensors file.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Check these: a .safetensors file that fflab exported.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a spec in this process, without a service."""
    from ffengine.datasets import look_in
    from service.direct import run_here
    from service.specfile import read_spec

    look_in(Settings().data_root)
    validated, _ = read_spec(spec, settings or [])
    run_here(validated, device=device, output=output, weights=weights, as_json=as_json)


def act(job_id: str, action: str, as_json: bool) -> None:
    """Ask for something to be done with a job, and show its state."""
    with client_of() as client:
        job = client.act(resolve(client, job_id).id, action)
    if as_json:
        show_json(job)
    else:
        pending = f" ({action} was asked for)" if job.wanted.value == action else ""
        typer.echo(f"{job.id} {job.state.value}{pending}")


def artifact_of(output: Path) -> str:
    """What to download for a file of that name."""
    if output.suffix in (".png", ".svg"):
        return f"chart/{output.name}"
    known = {".json": "result", ".csv": "result.csv", ".html": "report.html", ".npz": "result.npz", ".safetensors": "weights.safetensors"}
    if output.suffix not in known:
        fail(f"{output}: choose a name that ends in .json, .csv, .html, .png, .svg, .npz or .safetensors", EXIT_USAGE)
    return known[output.suffix]


if __name__ == "__main__":
    main()
