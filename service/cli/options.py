"""What the commands share: options, exit codes, who answers, how a command ends."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit

import typer
from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from ffengine.text import visible
from service.cli import completion
from service.client import Client
from service.jobs import Job
from service.settings import Settings

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_NOT_FOUND, EXIT_INTERRUPTED = 1, 2, 3, 4, 130
QUICK_ATTEMPTS, PATIENT_ATTEMPTS = 3, 8
FULL_ID = len("job_") + 32
MOST_SEARCHED = 5_000
OURS = frozenset({"fflab", "ffengine", "service", "workers"})

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="A job's id, the beginning or end of it, its name, or `last`.",
        autocompletion=completion.jobs,
    ),
]
JobsArgument = Annotated[
    list[str],
    typer.Argument(metavar="ID...", help="As of `fflab show`.", autocompletion=completion.jobs),
]
SpecArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPEC|PRESET",
        help="A YAML or JSON file, or a preset's name.",
        autocompletion=completion.specs,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Set a field, as in --set network.widths=[64].",
        autocompletion=completion.settings,
    ),
]
HomeOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the stack's state; default $FFLAB_HOME or ~/.local/share/fflab."),
]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu or cuda:N.", autocompletion=completion.devices)
]


def fail(message: str, code: int) -> NoReturn:
    """End with one line."""
    sys.stderr.write(f"fflab: {visible(' '.join(message.split()))}\n")
    sys.exit(code)


def settings_of(home: Path | None = None) -> Settings:
    """The environment's settings, with another home where one was given."""
    try:
        return Settings() if home is None else Settings(home=home)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        variable = "__".join(str(step) for step in wrong["loc"]).upper()
        fail(
            f"the environment's FFLAB_{variable}: {wrong['msg']}, got {wrong['input']!r}",
            EXIT_USAGE,
        )
    except SettingsError as error:
        fail(f"the environment: {error}; nested values are JSON", EXIT_USAGE)


@contextmanager
def require_extra(extra: str) -> Iterator[None]:
    """A command that needs more than the base install; where that is missing, one line says how to
    install it.
    """
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
def store_of(home: Path | None) -> Iterator[Any]:
    """The store of this machine's service, its schema up to date, closed at the end."""
    with require_extra("server"):
        from sqlalchemy.exc import SQLAlchemyError

        from service.artifacts import Artifacts
        from service.store import Store
        from service.store.identity import NotOurs, prepare
    settings = settings_of(home)
    try:
        store = Store(settings.database)
        try:
            prepare(store, Artifacts(settings.artifacts))
            yield store
        finally:
            store.close()
    except NotOurs as error:
        fail(str(error), EXIT_UNREACHABLE)
    except (SQLAlchemyError, ModuleNotFoundError) as error:
        fail(
            f"the database of {settings.root} cannot be used: {error}; look at FFLAB_DATABASE_URL",
            EXIT_UNREACHABLE,
        )


def make_client(attempts: int = QUICK_ATTEMPTS) -> Client:
    """A client of the service at FFLAB_URL."""
    settings = settings_of()
    return Client(
        checked_url(settings.url),
        settings.api_key.get_secret_value() if settings.api_key else None,
        attempts=attempts,
    )


def checked_url(url: str) -> str:
    """The address of a service, if it can be one."""
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
    """The job that an id, the beginning or end of one, a name, or `last` stands for."""
    from itertools import islice

    if len(text) == FULL_ID and text.startswith("job_"):
        return client.read(text)
    newest = islice(client.jobs(limit=1), 1) if text == "last" else None
    found = (
        list(newest)
        if newest
        else matching(client, text) or matching(client, text, children="true")
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


def matching(client: Client, text: str, **filters: str) -> list[Job]:
    """The jobs whose name is the text, or whose id begins or ends with it."""
    from itertools import islice

    listed = list(islice(client.jobs(limit=500, **filters), MOST_SEARCHED))
    named = [job for job in listed if job.name == text]
    return named or [
        job for job in listed if job.id.startswith((text, f"job_{text}")) or job.id.endswith(text)
    ]


def page_of(client: Client, job: Job) -> str:
    """The address of a job's page."""
    return f"{client.url}/jobs/{job.id}"


def save(path: Path, content: bytes) -> None:
    """Write a file."""
    try:
        path.write_bytes(content)
    except OSError as error:
        fail(f"{path}: cannot be written ({error.strerror or error})", EXIT_USAGE)


def show_json(content: BaseModel | list[Any] | dict[str, Any]) -> None:
    """Print JSON."""
    typer.echo(
        content.model_dump_json(indent=2, ensure_ascii=True)
        if isinstance(content, BaseModel)
        else json.dumps(content, indent=2)
    )
