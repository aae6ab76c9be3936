"""Commands that run the service or check it: up, api, worker, demo, doctor, workers."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

import typer

from ffengine.presets import PRESETS
from ffengine.text import bytes_in_words
from service.cli import completion
from service.cli.doctor import URGENCY, installed, run_checks
from service.cli.options import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    DeviceOption,
    DevicesOption,
    HomeOption,
    JsonOption,
    fail,
    load_settings,
    make_client,
    require_extra,
    show_json,
)
from service.cli.output import line, out, table
from service.encoding.escaping import for_terminal
from service.host.end_signals import interrupt_by_signals, noted_signals
from service.host.stay import NoMoment, moment
from service.placement import worker_tags
from service.specs.files import SpecError
from service.specs.suggestions import not_one_of


def up(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Loopback port of the API; 0: a free one.")
    ] = 8000,
    home: HomeOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Run API, worker and Redis on loopback until Ctrl-C."""
    with noted_signals() as end_request:
        with require_extra("worker"):
            from service.stack.stack import Stack, StackError, StartInterrupted

        stack = Stack(load_settings(home), port=port, device=device, end_request=end_request)
        try:
            stack.start()
            typer.echo(
                f"fflab is up: {stack.url}  (API documentation: {stack.url}/docs, state and "
                f"logs: {stack.home}; Ctrl-C stops it)"
            )
            sys.stdout.flush()
            stack.run()
        except StartInterrupted as error:
            fail(str(error), EXIT_INTERRUPTED)
        except StackError as error:
            fail(str(error), EXIT_UNREACHABLE)
        typer.echo("fflab has stopped")


def api(
    host: Annotated[
        str,
        typer.Option(help="Beyond loopback API keys must exist, or FFLAB_REQUIRE_KEYS=1 be set."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8000,
) -> None:
    """Run the HTTP API alone. It uses FFLAB_DATABASE_URL and FFLAB_REDIS_URL."""
    with require_extra("server"):
        from service.host.start_failures import ServeError
        from service.web.server import serve
    try:
        serve(load_settings(), host, port)
    except ServeError as error:
        fail(str(error), EXIT_UNREACHABLE)


def _tags(text: str | None) -> str | None:
    """Check the form of the tags of a worker."""
    try:
        return text if text is None else ",".join(worker_tags(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _to_come(text: str | None) -> str | None:
    """Read a moment that is to come, in UNIX seconds."""
    try:
        return text if text is None else str(int(moment(text)))
    except NoMoment as error:
        raise typer.BadParameter(str(error)) from None


def worker(
    context: typer.Context,
    device: DevicesOption = "auto",
    tags: Annotated[
        str | None,
        typer.Option(
            metavar="TAG,TAG",
            help="What jobs may ask for, as a100,80g; default FFLAB_WORKER_TAGS.",
            callback=_tags,
        ),
    ] = None,
    exit_when_idle: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="End after so long without a job."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            callback=_to_come,
            help="End a minute before this time and hand the job back: UNIX seconds, or "
            "2026-11-28T18:00 in local time.",
        ),
    ] = None,
) -> None:
    """Run a worker for one device, or for each GPU.

    It uses FFLAB_DATABASE_URL and FFLAB_REDIS_URL. Its commands change workers that run.
    """
    if context.invoked_subcommand is not None:
        return
    for package in ("celery", "torch"):
        if not installed(package):
            fail(
                f"this command needs {package}, which is not installed: pip install "
                f"'fflab[worker]'",
                EXIT_USAGE,
            )
    options = {
        "--device": device,
        "--tags": tags,
        "--exit-when-idle": exit_when_idle,
        "--until": until,
    }
    given = [f"{name}={value}" for name, value in options.items() if value is not None]
    command = [sys.executable, "-P", "-m", "workers", *given]
    os.execv(sys.executable, command)  # noqa: S606 - the worker replaces this process


def demo(
    output: Annotated[Path, typer.Option(help="Folder of report.html and result.json.")] = Path(
        "demo-output"
    ),
    preset: Annotated[
        str, typer.Option(help="Which study to run.", autocompletion=completion.presets)
    ] = "paper",
    device: DeviceOption = "auto",
) -> None:
    """Run the paper's study through a stack of its own.

    Prints the table, writes a report, and stops the stack.
    """

    if preset not in PRESETS:
        raise SpecError(f"--preset: {not_one_of(preset, list(PRESETS))}")
    with require_extra("worker"):
        from service.cli.demo import demo as run_demo
        from service.stack.stack import StackError
    interrupt_by_signals()
    try:
        run_demo(load_settings(), output, preset, device)
    except StackError as error:
        fail(str(error), EXIT_UNREACHABLE)


def doctor(as_json: JsonOption = False) -> None:
    """Check what is installed and reachable, and say what to do.

    A line for each check: what needs action first (fail, warn), then what one may want (note), then
    what is well.
    """

    found = run_checks(load_settings())
    checks = sorted(found, key=lambda check: URGENCY.index(check.verdict))
    if as_json:
        show_json([check._asdict() for check in checks])
    else:
        for check in checks:
            advice = f"  ->  {check.advice}" if check.advice else ""
            typer.echo(f"{check.verdict:<5} {check.what:<18} {check.finding}{advice}")
        urgent = sum(check.verdict in ("fail", "warn") for check in checks)
        needs = "1 check needs" if urgent == 1 else f"{urgent} checks need"
        typer.echo(f"{needs} action" if urgent else "nothing needs action")
    if any(check.verdict == "fail" for check in checks):
        sys.exit(EXIT_FAILED)


def _why_it_begins_none(worker: Mapping[str, Any]) -> str:
    """Say why a worker begins no job; "" where it does."""
    why = worker.get("paused") or ""  # an older service does not say it
    if worker.get("draining"):
        return str(why)
    return f"paused: {why}" if why and worker.get("can_compute", True) else str(why)


def _work_of(worker: Mapping[str, Any]) -> str:
    """Name the job of a worker, or say why it begins none."""
    job = worker["job"]
    if job and worker.get("draining"):
        return f"{job} (draining)"
    return str(job or _why_it_begins_none(worker))


def _on_one_host(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Count the devices of each host that has several, and those that have a job."""
    for host, one_host in groupby(found, key=itemgetter("host")):
        there = list(one_host)
        if len(there) > 1:
            busy = sum(one["job"] is not None for one in there)
            yield f"{host}: {len(there)} devices, {busy} with a job"


def workers(as_json: JsonOption = False) -> None:
    """List the live workers.

    Shows their devices, their tags, their jobs, and their last signs of life.
    """

    with make_client() as client:
        found = client.get("/v1/workers")["items"]
    if as_json:
        show_json(found)
        return
    found.sort(key=itemgetter("host", "device", "id"))  # an older service does not
    columns = ("id", "host", "device", "name", "memory", "threads", "tags", "job", "heard")
    rows = [
        [
            str(one["id"]),
            str(one["host"]),
            str(one["device"]),
            str(one["device_name"] or ""),
            bytes_in_words(one["memory_bytes"]) if one["memory_bytes"] else "",
            str(one.get("threads") or ""),  # an older service does not say it
            ",".join(one.get("tags") or ()),
            _work_of(one),
            f"{one['silent_seconds']:.0f} s ago",
        ]
        for one in found
    ]
    table(columns, rows, right=(4, 5))
    for said in _on_one_host(found):
        line(for_terminal(said))
    for one in found:
        if one.get("differs"):  # an older service does not say it
            line(for_terminal(f"{one['id']}: {one['differs']}"))
    if not found and out.is_terminal:
        line("no worker is alive; `fflab worker` starts one")
