"""`fflab share`: links by which anybody may read one job."""

import re
from typing import Annotated

import typer

from service.cli.options import (
    EXIT_USAGE,
    JobArgument,
    JsonOption,
    fail,
    make_client,
    resolve,
    show_json,
)
from service.cli.output import line, table
from service.results.descriptions import time_ago
from service.schemas import Share

SECONDS = {"m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
ALL = "all"


def share(
    job_id: JobArgument,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="How long it is valid, as 12h, 30d or 8w; else for ever."
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the job's links.")] = False,
    revoke: Annotated[
        str | None,
        typer.Option(metavar="LINK|all", help="Revoke a link by its id, or all links of the job."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a link that reads a job without a key.

    It shows the job's page, charts, results and report, and nothing else. The link is shown once.
    """
    if sum((expires is not None, listed, revoke is not None)) > 1:
        fail("give one of --expires, --list and --revoke", EXIT_USAGE)
    seconds = None if expires is None else seconds_of(expires)
    with make_client() as client:
        job = resolve(client, job_id)
        if listed:
            _list(client.shares(job.id), as_json=as_json)
        elif revoke is not None:
            client.revoke_share(job.id, None if revoke == ALL else revoke)
            line("revoked")
        else:
            made = client.share(job.id, expires_seconds=seconds)
            if as_json:
                show_json(made)
            else:
                typer.echo(made.url)


def seconds_of(text: str, option: str = "--expires") -> int:
    """Read a duration such as 30d of an option; fail with what was wrong."""
    found = re.fullmatch(r"(\d{1,6})([mhdw])", text.strip())
    if found is None or int(found[1]) == 0:
        fail(f"{option} {text}: give a number and m, h, d or w, as in 30d", EXIT_USAGE)
    return int(found[1]) * SECONDS[found[2]]


def _list(shares: list[Share], *, as_json: bool) -> None:
    if as_json:
        show_json([one.model_dump(mode="json") for one in shares])
        return
    rows = [
        [
            one.id,
            time_ago(one.created_at),
            one.created_by or "",
            one.expires_at.strftime("%Y-%m-%d %H:%M") if one.expires_at else "never",
        ]
        for one in shares
    ]
    table(["id", "made", "by", "expires (UTC)"], rows)
