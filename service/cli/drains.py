"""`fflab worker drain` and `undrain`: workers that finish what they have, and take nothing new."""

import time
from collections.abc import Collection
from typing import Annotated, Any

import typer

from service.cli import completion
from service.cli.options import EXIT_NOT_FOUND, JsonOption, fail, make_client, show_json
from service.cli.output import line
from service.client import Client
from service.encoding.escaping import for_terminal
from service.specs.suggestions import not_one_of

LOOK_SECONDS = 1.0

WorkerArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME|HOST",
        help="The id of a worker, or a host: all of its workers.",
        autocompletion=completion.workers,
    ),
]


def drain(
    name: WorkerArgument,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until none of them has a job any more.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Let workers finish what they have and take nothing new.

    They stay until they are stopped; a worker that is started anew takes jobs again.
    """
    with make_client() as client:
        found = _ask(client, name)
        if wait:
            found = _wait(client, {one["id"] for one in found})
    if as_json:
        show_json(found)
        return
    for one in found:
        has = f"finishes {one['job']}" if one["job"] else "has no job"
        line(for_terminal(f"{one['id']} ({one['device']}) {has} and takes no other"))
    if not found:
        line("they have ended")


def undrain(name: WorkerArgument, as_json: JsonOption = False) -> None:
    """Let drained workers take jobs again."""
    with make_client() as client:
        found = _ask(client, name, undo=True)
    if as_json:
        show_json(found)
        return
    for one in found:
        line(for_terminal(f"{one['id']} ({one['device']}) takes jobs"))


def _ask(client: Client, name: str, *, undo: bool = False) -> list[dict[str, Any]]:
    """Ask for it for one worker, or for all of a host; what they are then."""
    alive = client.get("/v1/workers")["items"]
    named = [one["id"] for one in alive if name in (one["id"], one["host"])]
    if not named:
        known = list(dict.fromkeys([one["host"] for one in alive] + [one["id"] for one in alive]))
        fail(f"no live worker or host: {not_one_of(name, known)}", EXIT_NOT_FOUND)
    return [client.drain_worker(one, undo=undo) for one in named]


def _wait(client: Client, ids: Collection[str]) -> list[dict[str, Any]]:
    """Wait until none of these workers has a job; what those are that are alive then."""
    while True:
        alive = client.get("/v1/workers")["items"]
        found = [one for one in alive if one["id"] in ids]
        if not any(one["job"] for one in found):
            return found
        time.sleep(LOOK_SECONDS)
