"""The command line `fflab`: parsing and printing only.

Exit codes: 0 done; 1 the job failed, or doctor found a fault; 2 usage or an invalid spec; 3 the service cannot be
reached or started; 4 there is no such job, data set or key.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import BaseModel

from service.client import Client, FflabError, JobFailed, NotFound, Refused, Unreachable
from service.jobs import Job
from service.settings import Settings

app = typer.Typer(
    name="fflab",
    help="The lab backend for research on the Forward-Forward algorithm and the sparsity that emerges in it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Clients read FFLAB_URL and FFLAB_API_KEY. Exit codes: 0 done, 1 failed, 2 usage, 3 unreachable, 4 not found.",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: list, fetch, import.")
keys_app = typer.Typer(no_args_is_help=True, help="API keys of this service's database: create, list, revoke.")
app.add_typer(data_app, name="data")
app.add_typer(keys_app, name="keys")

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_NOT_FOUND = 1, 2, 3, 4

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobArgument = Annotated[str, typer.Argument(metavar="ID", help="A job's id, the beginning or end of it, or `last`.")]
SpecArgument = Annotated[str, typer.Argument(metavar="SPEC|PRESET", help="A YAML or JSON file, or a preset's name.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set a field, as in --set network.widths=[64].")]
HomeOption = Annotated[Path | None, typer.Option(help="Folder of the stack's state; default $FFLAB_HOME or ~/.local/share/fflab.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda:N.")]


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


def fail(message: str, code: int) -> NoReturn:
    """End with one line."""
    sys.stderr.write(f"fflab: {' '.join(message.split())}\n")
    sys.exit(code)


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
    as_json: JsonOption = False,
) -> None:
    """Submit a job."""
    from service.specfile import read_spec
    from service.terminal import following

    _, document = read_spec(spec, settings or [])
    with client_of() as client:
        handle = client.submit(document, name=name, tags=tag or [], priority=priority, fresh=fresh)
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
        typer.Option("-o", "--output", help="A .json, .csv, .html (report), CHART.png, CHART.svg or .safetensors file."),
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


# Data sets and keys


@data_app.command("list")
def data_list(as_json: JsonOption = False) -> None:
    """List data sets, and where their files are."""
    from ffengine import uploads
    from ffengine.datasets import DATASETS, facts_of, present_folder
    from service.terminal import table

    root = Settings().data_root
    rows = []
    for name in [*DATASETS, *uploads.names(root)]:
        facts = facts_of(name, root)
        where = "bundled" if facts.files is None else str(present_folder(facts, root) or "not here: fflab data fetch " + name)
        where = str(root / uploads.FOLDER / name) if facts.uploaded else where
        rows.append([name, f"{facts.train_samples:,} + {facts.test_samples:,}", "x".join(map(str, facts.shape)), where])
    if as_json:
        show_json([dict(zip(("name", "samples", "shape", "where"), row, strict=True)) for row in rows])
    else:
        table(["name", "samples", "shape", "where"], rows)


@data_app.command("fetch")
def data_fetch(name: str, as_json: JsonOption = False) -> None:
    """Download a data set below the data root and verify it."""
    from ffengine.arrays import DatasetError
    from ffengine.datasets import load

    try:
        load(name, Settings().data_root)
    except DatasetError as error:
        fail(str(error), EXIT_NOT_FOUND)
    typer.echo(json.dumps({"name": name, "verified": True}) if as_json else f"{name}: there, and verified")


@data_app.command("import")
def data_import(name: str, source: Path, as_json: JsonOption = False) -> None:
    """Bring a data set below the data root, verified: the folder of a known one's files, or an .npz of x and y under a new name."""
    from service.direct import import_files

    target = import_files(name, source, Settings().data_root)
    typer.echo(json.dumps({"name": name, "folder": str(target)}) if as_json else f"{name}: verified, in {target}")


@keys_app.command("create")
def keys_create(name: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Make an API key; it is shown this once. From then on the service refuses requests without a key."""
    from service.auth import create_key

    with store_of(home) as store:
        key = create_key(store, name)
    typer.echo(json.dumps(key._asdict()) if as_json else f"{key.secret}\n(key {key.id} of {name}; it is not shown again)")


@keys_app.command("list")
def keys_list(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List API keys."""
    from service.terminal import table

    with store_of(home) as store:
        rows = [[key.id, key.name, "revoked" if key.revoked_at else "valid"] for key in store.api_keys()]
    if as_json:
        show_json([dict(zip(("id", "name", "state"), row, strict=True)) for row in rows])
    else:
        table(["id", "name", "state"], rows)


@keys_app.command("revoke")
def keys_revoke(key: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Revoke an API key by its id or name."""
    with store_of(home) as store:
        if not store.revoke_key(key):
            fail(f"there is no valid key {key!r}; `fflab keys list` shows them", EXIT_NOT_FOUND)
    typer.echo(json.dumps({"key": key, "revoked": True}) if as_json else f"{key} is revoked")


# Shared


def settings_of(home: Path | None) -> Settings:
    """The environment's settings, with another home where one was given."""
    return Settings() if home is None else Settings(home=home)


def store_of(home: Path | None) -> Any:
    """The store of this machine's service, its schema up to date, closed at the end of the `with`."""
    from contextlib import closing

    from service.store import Store

    store = Store(settings_of(home).database)
    store.migrate()
    return closing(store)


def client_of() -> Client:
    """A client of the service at FFLAB_URL."""
    settings = Settings()
    return Client(settings.url, settings.api_key.get_secret_value() if settings.api_key else None)


def resolve(client: Client, text: str) -> Job:
    """The job that an id, the beginning or end of one, or `last` stands for."""
    from itertools import islice

    if len(text) == len("job_") + 32:
        return client.read(text)
    found = list(islice(client.jobs(limit=500), 5000))
    matching = found[:1] if text == "last" else [job for job in found if job.id.startswith((text, f"job_{text}")) or job.id.endswith(text)]
    if len(matching) != 1:
        why = "no job matches" if not matching else f"{len(matching)} jobs match"
        fail(f"{text!r}: {why}; `fflab jobs` lists them", EXIT_NOT_FOUND if not matching else EXIT_USAGE)
    return matching[0]


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
    known = {".json": "result", ".csv": "result.csv", ".html": "report.html", ".safetensors": "weights.safetensors"}
    if output.suffix not in known:
        fail(f"{output}: choose a name that ends in .json, .csv, .html, .png, .svg or .safetensors", EXIT_USAGE)
    return known[output.suffix]


def show_json(content: BaseModel | list[Any] | dict[str, Any]) -> None:
    """Print JSON."""
    typer.echo(content.model_dump_json(indent=2) if isinstance(content, BaseModel) else json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
