"""`fflab upload`: brings a data set to the service."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ffengine.archives import HEAD_BYTES, refusal_of
from ffengine.text import bytes_in_words
from service.cli.options import (
    EXIT_USAGE,
    JsonOption,
    as_typed,
    fail,
    make_client,
    show_json,
)
from service.cli.output import err
from service.client.requests import OnSent


def upload(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .npz of x (N, ...) and y (N,).")],
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What specs call it; default: the file's.", callback=as_typed
        ),
    ] = None,
    meaning: Annotated[
        str, typer.Option(metavar="TEXT", help="One sentence about it.", callback=as_typed)
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Upload a data set to the service at FFLAB_URL.

    The same arrays under the same name once more change nothing. `fflab data import` brings one
    into this machine's home.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        fail(f"{file}: cannot be read ({error.strerror or error})", EXIT_USAGE)
    if refusal := refusal_of(content[:HEAD_BYTES]):
        fail(f"{file}: {refusal}", EXIT_USAGE)
    named = name or file.stem
    with make_client() as client, sending(len(content)) as sent:
        found = client.upload(named, content, meaning=meaning or "", on_sent=sent)
        url = client.url
    if as_json:
        show_json(found)
        return
    samples = f"{found['train_samples']:,} + {found['test_samples']:,} samples"
    shape = "x".join(map(str, found["shape"]))
    typer.echo(
        f"{found['name']}: {samples} of {shape}, {found['classes']} classes, at {url} "
        f"({bytes_in_words(len(content))} sent)"
    )


@contextmanager
def sending(total: int) -> Iterator[OnSent | None]:
    """Show how much is sent, on a terminal alone."""
    if not err.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        bar = progress.add_task("sending", total=total)

        def sent(count: int) -> None:
            progress.update(
                bar, completed=count, description="checking" if count >= total else "sending"
            )

        yield sent
