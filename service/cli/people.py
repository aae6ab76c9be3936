"""Commands about who uses the service: what is used, and who did what."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import typer

from ffengine.text import bytes_in_words
from service.cli.options import JsonOption, as_typed, make_client, show_json
from service.cli.output import line, moment_in_table, out, table
from service.cli.share import seconds_of
from service.results.descriptions import details_in_words, duration
from service.schemas import AuditPage, UsagePage

MOST_LINES = 500  # of one page of the log

SinceOption = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION", help="Only of the last so many minutes to weeks, as 12h, 30d."
    ),
]


def usage(
    by: Annotated[
        Literal["owner", "project", "device"], typer.Option(help="What each line is of.")
    ] = "owner",
    since: SinceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is used: jobs, seconds of devices, bytes of artifacts.

    Deleted jobs count with what they used. `--since` leaves out jobs that ended before.
    """
    with make_client() as client:
        found = client.get(f"/v1/usage?{urlencode({'by': by, **_since(since)})}")
    if as_json:
        show_json(found)
        return
    rows = [
        [
            one.name or "none",
            f"{one.jobs:,}",
            f"{one.runs:,}",
            duration(one.cpu_seconds),
            duration(one.gpu_seconds),
            bytes_in_words(one.artifact_bytes),
            *([bytes_in_words(one.upload_bytes or 0)] if by == "owner" else ()),
        ]
        for one in UsagePage.model_validate(found).items
    ]
    columns = [by, "jobs", "runs", "CPU time", "GPU time", "artifacts"]
    columns += ["uploads"] if by == "owner" else []
    table(columns, rows, right=tuple(range(1, len(columns))))


def audit(
    actor: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only what was done with this key.", callback=as_typed),
    ] = None,
    action: Annotated[
        str | None, typer.Option(metavar="ACTION", help="Only this, as cancel.", callback=as_typed)
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Only what was done to this job, key or upload.", callback=as_typed
        ),
    ] = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(metavar="LINES", min=1, help="The newest so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show who did what, the newest first; it needs a key of an administrator."""
    given = {"actor": actor, "action": action, "target": target}
    asked = {name: text for name, text in given.items() if text is not None} | _since(since)
    found: list[dict[str, Any]] = []
    with make_client() as client:
        cursor: str | None = ""
        while cursor is not None and len(found) < limit:
            page = {"limit": str(min(MOST_LINES, limit - len(found)))}
            page |= {"cursor": cursor} if cursor else {}
            answer = client.get(f"/v1/audit?{urlencode(asked | page)}")
            found += answer["items"]
            cursor = answer["next_cursor"]
    if as_json:
        show_json(found)
        return
    rows = [
        [
            moment_in_table(one.at),
            one.actor or one.via,
            one.address or "",
            one.action,
            one.target or "",
            details_in_words(one.details),
        ]
        for one in AuditPage.model_validate({"items": found, "next_cursor": None}).items
    ]
    table(["when", "who", "from", "did", "to", "details"], rows)
    if not found and out.is_terminal:
        line("nothing of that kind is noted")


def _since(text: str | None) -> dict[str, str]:
    """The parameter of the moment that was a duration ago, if one is given."""
    if text is None:
        return {}
    at = datetime.now(UTC) - timedelta(seconds=seconds_of(text, "--since"))
    return {"since": at.isoformat()}
