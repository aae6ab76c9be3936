"""What the commands share: options, exit codes, who answers, how things are printed."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import BaseModel

from service.client import Client
from service.jobs import Job
from service.settings import Settings

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_NOT_FOUND = 1, 2, 3, 4

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobArgument = Annotated[str, typer.Argument(metavar="ID", help="A job's id, the beginning or end of it, or `last`.")]
SpecArgument = Annotated[str, typer.Argument(metavar="SPEC|PRESET", help="A YAML or JSON file, or a preset's name.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set a field, as in --set network.widths=[64].")]
HomeOption = Annotated[Path | None, typer.Option(help="Folder of the stack's state; default $FFLAB_HOME or ~/.local/share/fflab.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda:N.")]


def fail(message: str, code: int) -> NoReturn:
    """End with one line."""
    sys.stderr.write(f"fflab: {' '.join(message.split())}\n")
    sys.exit(code)


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


def show_json(content: BaseModel | list[Any] | dict[str, Any]) -> None:
    """Print JSON."""
    typer.echo(content.model_dump_json(indent=2) if isinstance(content, BaseModel) else json.dumps(content, indent=2))
