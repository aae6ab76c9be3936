"""What the commands share: options, exit codes, the client, the store, how a command fails.

On imports: what the base install has is imported at the top of the modules of this package. What
belongs to the extras `server` and `worker` may be missing, and takes long to load. The bodies of
commands that need it import it, within `require_extra`; so do `open_store` and doctor's checks.
"""

import getpass
import json
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit

import typer
from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from service.cli import completion
from service.client import Client
from service.encoding.escaping import for_terminal
from service.encoding.viewer import Viewer, seen_by
from service.host.start_failures import reason_of, wrong_setting
from service.jobs import Job
from service.placement import needs_of_words
from service.settings import Settings

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_NOT_FOUND, EXIT_INTERRUPTED = 1, 2, 3, 4, 130
QUICK_ATTEMPTS, PATIENT_ATTEMPTS = 3, 8
FULL_ID = len("job_") + 32
MOST_SEARCHED = 5_000
STANDARD = "-"  # in place of a file: standard input or output
OURS = frozenset({"fflab", "ffengine", "service", "workers"})


def as_typed(value: Any) -> Any:
    """Return the text, or the texts, of an argument as they were typed.

    In a locale of ASCII Python takes each byte of another character for a surrogate.
    """
    if isinstance(value, list | tuple):
        return [as_typed(one) for one in value]
    try:
        return value.encode(errors="surrogateescape").decode() if value else value
    except UnicodeError:
        return value  # what is wrong with it is said where it is validated


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="A job's id, the beginning or end of it, its name, or `last`.",
        callback=as_typed,
        autocompletion=completion.jobs,
    ),
]
JobsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="ID...",
        help="Two or more jobs: ids, beginnings or ends of them, names, or `last`.",
        callback=as_typed,
        autocompletion=completion.jobs,
    ),
]
SpecArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPEC|PRESET",
        help="A YAML or JSON file (`-`: standard input), or a preset's name.",
        autocompletion=completion.specs,
    ),
]
NeedsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--needs",
        metavar="WHAT=VALUE",
        help="Of its worker: device=cuda, memory_gb=40, tags=a100,80g; may be repeated.",
        callback=as_typed,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Set a field, as in --set network.widths=[64].",
        callback=as_typed,
        autocompletion=completion.settings,
    ),
]
HomeOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the stack's state; default $FFLAB_HOME or ~/.local/share/fflab."),
]


def _device(text: str) -> str:
    """Check the form of a device's name; whether there is such a device shows in the runner."""
    if not re.fullmatch(r"auto|cpu|cuda:\d{1,3}", text):
        raise typer.BadParameter(f"{text!r} is not auto, cpu or cuda:N")
    return text


def _devices(text: str) -> str:
    """Check the form of what a worker computes on: a device, or `all`."""
    if not re.fullmatch(r"auto|all|cpu|cuda:\d{1,3}", text):
        raise typer.BadParameter(f"{text!r} is not auto, all, cpu or cuda:N")
    return text


DeviceOption = Annotated[
    str,
    typer.Option(help="auto, cpu or cuda:N.", autocompletion=completion.devices, callback=_device),
]

DevicesOption = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda:N, or all: each GPU.",
        autocompletion=completion.worker_devices,
        callback=_devices,
    ),
]


def fail(message: str, code: int, problem: Mapping[str, Any] | None = None) -> NoReturn:
    """End the program with one line on standard error and an exit code.

    Where JSON was asked for, the line is JSON; `problem` is what the service answered.
    """
    said = " ".join(message.split())
    if asked_for_json():
        about = {"error": said, "exit_code": code, **({"problem": problem} if problem else {})}
        sys.stderr.write(json.dumps(about) + "\n")
    else:
        sys.stderr.write(f"fflab: {for_terminal(said)}\n")
    sys.exit(code)


def asked_for_json() -> bool:
    """Whether the command line has --json."""
    return "--json" in sys.argv[1:]


def load_settings(home: Path | None = None) -> Settings:
    """Return the environment's settings, with another home if one is given."""
    try:
        return Settings() if home is None else Settings(home=home)
    except ValidationError as error:
        fail(f"the environment: {wrong_setting(error)}", EXIT_USAGE)
    except SettingsError as error:
        fail(f"the environment: {error}; nested values are JSON", EXIT_USAGE)


def read_needs(words: list[str] | None) -> dict[str, Any] | None:
    """Read what --needs says; None where it was not given. Fails with one line."""
    try:
        return needs_of_words(words) if words else None
    except ValueError as error:
        fail(f"--needs: {error}", EXIT_USAGE)


@contextmanager
def require_extra(extra: str) -> Iterator[None]:
    """Fail with one line that says how to install the extra, where a module of it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in OURS:
            raise
        fail(
            f"this command needs {missing}, which is not installed: pip install 'fflab[{extra}]'",
            EXIT_USAGE,
        )


@contextmanager
def open_store(home: Path | None, *, make: bool = True) -> Iterator[Any]:
    """Open the store of this machine's service, upgrade its schema, and close it at the end.

    Fails where it is not the database of the home's artifacts. Without `make` no database is made:
    where there is none, and nothing in the home belongs to one, None takes the place of the store.
    """
    with require_extra("server"):
        from sqlalchemy.exc import SQLAlchemyError

        from service.artifacts import Artifacts
        from service.storage.place import unreachable
        from service.store import Store
        from service.store.database import DatabaseDamaged, DatabaseRefused
        from service.store.identity import NotOurs, prepare, refusal
    settings = load_settings(home)
    try:
        store = Store(settings.database, settings.datasets)
        try:
            artifacts = Artifacts(settings.artifact_place)
            try:
                if make or store.database.is_there:
                    prepare(store, artifacts)
                reason = refusal(store, artifacts)
            except OSError as error:
                reason = unreachable(settings.artifact_place, error)
            if reason:
                raise NotOurs(reason)
            with seen_by(Viewer(address=user_and_host(), via="command")):
                yield store if store.database.is_there else None
        finally:
            store.close()
    except (NotOurs, DatabaseDamaged, DatabaseRefused) as error:
        fail(str(error), EXIT_UNREACHABLE)
    except (SQLAlchemyError, ModuleNotFoundError) as error:
        fail(
            f"the database of {settings.root} cannot be used: {reason_of(error)}; look at "
            f"FFLAB_DATABASE_URL",
            EXIT_UNREACHABLE,
        )


def user_and_host() -> str:
    """Who runs this command, and where, as far as the system knows."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        user = f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"


def make_client(attempts: int = QUICK_ATTEMPTS) -> Client:
    """Return a client of the service at FFLAB_URL."""
    settings = load_settings()
    return Client(
        validated_url(settings.url),
        settings.api_key.get_secret_value() if settings.api_key else None,
        attempts=attempts,
    )


def validated_url(url: str) -> str:
    """Return the address of a service; fail if it cannot be one."""
    try:
        parts = urlsplit(url)
        usable = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        )
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in url):
        fail(
            f"FFLAB_URL: expected an address such as http://127.0.0.1:8000, got {url!r}", EXIT_USAGE
        )
    return url


def resolve(client: Client, text: str) -> Job:
    """Return the job for an id, the beginning or end of one, a name, or `last`."""

    if len(text) == FULL_ID and text.startswith("job_"):
        return client.read(text)
    newest = islice(client.jobs(limit=1), 1) if text == "last" else None
    found = (
        list(newest)
        if newest
        else matching_jobs(client, text) or matching_jobs(client, text, children="true")
    )
    if not found:
        fail(f"{text!r}: no job matches; `fflab jobs` lists them", EXIT_NOT_FOUND)
    if len(found) > 1:
        some = ", ".join(job.id for job in found[:3])
        fail(
            f"{text!r}: {len(found)} jobs match, such as {some}; `fflab jobs` lists them",
            EXIT_USAGE,
        )
    return found[0]


def matching_jobs(client: Client, text: str, **filters: str) -> list[Job]:
    """Return the jobs of that name, else those whose id begins or ends with the text."""

    listed = list(islice(client.jobs(limit=500, **filters), MOST_SEARCHED))
    named = [job for job in listed if job.name == text]
    return named or [
        job for job in listed if job.id.startswith((text, f"job_{text}")) or job.id.endswith(text)
    ]


def page_url(client: Client, job: Job) -> str:
    """Return the address of a job's page."""
    return f"{client.url}/jobs/{job.id}"


def write_file(path: Path, content: bytes) -> None:
    """Write a file; fail if that is impossible."""
    try:
        path.write_bytes(content)
    except OSError as error:
        fail(f"{path}: cannot be written ({error.strerror or error})", EXIT_USAGE)


def write_output(path: Path, content: bytes, *, as_json: bool) -> None:
    """Write a file and print its name; with `-` print the content instead."""
    if str(path) == STANDARD:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        write_file(path, content)
        typer.echo(json.dumps({"file": str(path)}) if as_json else str(path))


def show_json(content: BaseModel | list[Any] | dict[str, Any]) -> None:
    """Print JSON."""
    typer.echo(
        content.model_dump_json(indent=2, ensure_ascii=True)
        if isinstance(content, BaseModel)
        else json.dumps(content, indent=2)
    )
