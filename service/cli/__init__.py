"""The command line `fflab`: which commands there are, and how they end.

Exit codes: 0 done; 1 the job failed, or doctor found a fault; 2 usage, an invalid spec or setting,
or a missing extra; 3 the service cannot be reached or started; 4 there is no such job, data set or
key; 130 interrupted.
"""

import gc
import io
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn

gc.disable()  # what is loaded stays: to look through it again and again takes a fifth of the start

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from service.cli import (
    about,
    bench,
    catalogue,
    drains,
    export,
    jobs,
    people,
    results,
    share,
    stack,
    uploads,
)
from service.cli.admin import data_app, keys_app, retention, webhook_secret
from service.cli.file_check import check
from service.cli.foreign_weights import weights_app
from service.cli.options import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NOT_FOUND,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    asked_for_json,
    fail,
)
from service.cli.plugins import plugin_app
from service.cli.slurm import slurm_app
from service.client import FflabError, NotFound, Refused, Unreachable, VersionSkew
from service.specs.files import SpecError

gc.freeze()
gc.enable()

# answers of the service that say that the request was wrong
USAGE_STATUS = frozenset({400, 401, 403, 409, 413, 415, 421, 422})

worker_app = typer.Typer(invoke_without_command=True)
app = typer.Typer(
    name="fflab",
    help="The lab backend for research on the Forward-Forward algorithm and the sparsity that "
    "emerges in it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Clients read FFLAB_URL and FFLAB_API_KEY. Exit codes: 0 done, 1 failed, 2 usage or "
    "invalid, 3 unreachable, 4 not found, "
    "130 interrupted. `fflab --install-completion` lets the shell complete jobs, presets and "
    "fields.",
)

app.callback()(about.main)

app.command(epilog="Example: fflab up --port 8000")(stack.up)
app.command(epilog="Example: fflab api --host 127.0.0.1 --port 8000")(stack.api)
worker_app.callback(epilog="Example: FFLAB_REDIS_URL=redis://lab/0 fflab worker --device cuda:0")(
    stack.worker
)
worker_app.command(epilog="Example: fflab worker drain gpubox --wait")(drains.drain)
worker_app.command(epilog="Example: fflab worker undrain gpubox")(drains.undrain)
app.add_typer(worker_app, name="worker")
app.command(epilog="Example: fflab demo --output demo-output")(stack.demo)
app.command()(stack.doctor)
app.command()(stack.workers)

app.command(epilog="Example: fflab submit paper --wait, or fflab submit spec.yaml --set epochs=3")(
    jobs.submit
)
app.command(
    epilog="Example: fflab estimate paper, or fflab estimate spec.yaml --set network.widths=[4000]"
)(jobs.estimate)
app.command(
    epilog="Example: fflab jobs --state running, or fflab jobs --runs --where 'widths>=256'"
)(jobs.jobs)
app.command(epilog="Example: fflab projects, then fflab jobs --project NAME")(jobs.projects)
app.command(epilog="Example: fflab show last")(jobs.show)
app.command(epilog="Example: fflab watch last")(results.watch)
app.command(epilog="Example: fflab result last, or fflab result last -o sparsity.png")(
    results.result
)
app.command(epilog="Example: fflab export last --paper figure-1, or --tensorboard runs/")(
    export.export
)
app.command(epilog="Example: fflab share last --expires 30d, or fflab share last --list")(
    share.share
)
app.command(epilog="Example: fflab diff last 3f2a9c1e")(results.diff)
app.command(epilog="Example: fflab log last")(jobs.log)
app.command(epilog="Example: fflab change last --priority high --pin")(jobs.change)
app.command()(jobs.cancel)
app.command()(jobs.pause)
app.command()(jobs.resume)
app.command()(jobs.retry)
app.command(epilog="Example: fflab delete last --yes")(jobs.delete)
app.command("open", epilog="Example: fflab open last")(jobs.open_page)
app.command(epilog="Example: fflab run quick --device cpu -o report.csv")(results.run)
app.command(epilog="Example: fflab bench small --page leaderboard.md")(bench.bench)

app.command(epilog="Example: fflab upload digits.npz --name my-digits")(uploads.upload)
app.command(epilog="Example: fflab presets, or fflab presets quick > quick.yaml")(catalogue.presets)
app.command(epilog="Example: fflab catalog negatives")(catalogue.catalog)
app.command(epilog="Example: fflab schema -o fflab.schema.json")(catalogue.schema)

app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")
app.add_typer(keys_app, name="keys")
app.add_typer(plugin_app, name="plugin")
app.add_typer(slurm_app, name="slurm")
app.command(epilog='Example: FFLAB_RETENTION=\'{"check": {"days": 90}}\' fflab retention')(
    retention
)
app.command(epilog="Example: fflab check --deep --json")(check)
app.command(epilog="Example: fflab usage --by project --since 30d")(people.usage)
app.command(epilog="Example: fflab audit --actor ada --since 7d")(people.audit)
app.command("webhook-secret", epilog="Example: fflab webhook-secret --home /srv/fflab")(
    webhook_secret
)


def main() -> None:
    """Run the command; each failure is one line on standard error and an exit code."""
    _show_what_cannot_be_encoded()
    try:
        try:
            _run()
        finally:
            sys.stdout.flush()
    except SystemExit as ending:
        if isinstance(ending.__context__, BrokenPipeError):
            _end_quietly()
        raise
    except BrokenPipeError:
        _end_quietly()
    except KeyboardInterrupt:
        fail("interrupted", EXIT_INTERRUPTED)
    except (SpecError, FflabError, OSError, ValueError) as error:
        problem = error.problem if isinstance(error, Refused) else None
        fail(str(error), exit_code(error), problem)


def _run() -> None:
    """Run the command. Mistakes in its usage are JSON where JSON was asked for."""
    if not asked_for_json():
        _command()(prog_name="fflab")
        return
    try:
        ended = _command()(prog_name="fflab", standalone_mode=False)
    except typer.Abort:
        fail("interrupted", EXIT_INTERRUPTED)
    except TyperException as error:
        message = getattr(error, "format_message", error.__str__)  # of mistakes in the usage
        fail(str(message()), EXIT_USAGE)
    sys.exit(ended if isinstance(ended, int) else 0)


@cache
def _command() -> Callable[..., Any]:
    """The commands with their options, read from the functions once in a process."""
    return get_command(app)


def _show_what_cannot_be_encoded() -> None:
    """Let characters that the terminal's encoding does not have be shown as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def exit_code(error: Exception) -> int:
    """Return the exit code of a failure."""
    if isinstance(error, NotFound):
        return EXIT_NOT_FOUND
    if isinstance(error, Refused):
        return EXIT_USAGE if error.status in USAGE_STATUS else EXIT_UNREACHABLE
    if isinstance(error, SpecError):
        return EXIT_USAGE
    return EXIT_UNREACHABLE if isinstance(error, Unreachable | VersionSkew) else EXIT_FAILED


def _end_quietly() -> NoReturn:
    """End without an error: the reader of the output, such as `head`, has closed it."""
    # so that the interpreter's last flush does not fail
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    os._exit(0)
