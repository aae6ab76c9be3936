"""Downloads: each has a descriptive file name, and an ETag so that it is sent only once."""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable

from fastapi import Response
from fastapi.responses import StreamingResponse

from ffengine.version import VERSION
from service.jobs import Job
from service.web import problems
from service.web.security_headers import INERT

PIECE = 65_536
LONGEST_NAME = 40


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Whether the client has that version (RFC 9110, 13.1.2: the weak comparison)."""
    known = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return known == ["*"] or etag in known


def etag_of(job: Job, version: int, what: str) -> str:
    """Return the validator of a file that is made from a job and its result."""
    return (
        '"' + hashlib.sha256(f"{job.id} {version} {VERSION} {what}".encode()).hexdigest()[:32] + '"'
    )


def file_name(job: Job, what: str) -> str:
    """Return fflab-KIND[-NAME]-JOB-WHAT in ASCII."""
    plain = (
        unicodedata.normalize("NFKD", (job.name or "").casefold())
        .encode("ascii", "ignore")
        .decode()
    )
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:LONGEST_NAME]
    return "-".join(part for part in ("fflab", job.kind, name, job.id, what) if part)


def file_response(
    job: Job,
    version: int,
    what: str,
    media_type: str,
    make: Callable[[], str | bytes | Iterable[bytes]],
    if_none_match: str | None,
    *,
    inline: bool = False,
    policy: str = INERT,
) -> Response:
    """Send a file in chunks; 304 where the client has it.

    **Arguments:**

    - `job`, `version`: what the file is made from.
    - `what`: the last part of the file's name, which tells the files of a job apart.
    - `make`: returns the content; called only where it is sent.
    - `if_none_match`: the header of the request.
    - `inline`: whether browsers show the file instead of saving it.
    - `policy`: its Content-Security-Policy.
    """
    headers = {
        "ETag": etag_of(job, version, what),
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": policy,
    }
    if is_known(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = (
        f'{"inline" if inline else "attachment"}; filename="{file_name(job, what)}"'
    )
    content = make()
    if isinstance(content, str):
        content = content.encode()
    if isinstance(content, bytes):
        headers["Content-Length"] = str(len(content))
        content = in_pieces(content)
    return StreamingResponse(content, media_type=media_type, headers=headers)


def in_pieces(content: bytes) -> Iterable[bytes]:
    """Split the content into chunks, so that a slow client takes one at a time."""
    view = memoryview(content)
    return (bytes(view[start : start + PIECE]) for start in range(0, len(view), PIECE))


def render_or_404(draw: Callable[[], bytes]) -> bytes:
    """Return the chart that `draw` makes.

    Raises NoSuchChart if there turns out to be nothing to draw, for example because the margins on
    the disk are damaged.
    """
    from service.results.charts import NothingToDraw  # loads the charting library

    try:
        return draw()
    except NothingToDraw as error:
        raise problems.NoSuchChart(str(error)) from error
