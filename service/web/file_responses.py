"""Downloads: each has a descriptive file name, an ETag so that it is sent only once, and can be
asked for in parts.
"""

import hashlib
import re
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from itertools import chain
from typing import Annotated, NamedTuple

from fastapi import Depends, Header, Request, Response
from fastapi.responses import StreamingResponse

from ffengine.version import VERSION
from service.encoding.escaping import for_ascii_file_name, for_file_name, for_header
from service.jobs import Job
from service.web import problems
from service.web.compression import accepts_gzip
from service.web.methods import HEAD_ASKED
from service.web.security_headers import INERT

PIECE = 65_536


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Whether the client has that version (RFC 9110, 13.1.2: the weak comparison)."""
    known = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return known == ["*"] or etag in known


def etag_of(job: Job, version: int, what: str) -> str:
    """Return the validator of a file that is made from a job and its result."""
    return (
        '"' + hashlib.sha256(f"{job.id} {version} {VERSION} {what}".encode()).hexdigest()[:32] + '"'
    )


def content_disposition(job: Job, what: str, *, inline: bool) -> str:
    """Return the header that names a file fflab-KIND[-NAME]-JOB-WHAT."""

    def file_name(name: str) -> str:
        return "-".join(part for part in ("fflab", job.kind, name, job.id, what) if part)

    name = job.name or ""
    return for_header(
        "inline" if inline else "attachment",
        file_name(for_ascii_file_name(name)),
        file_name(for_file_name(name)),
    )


class FileRequest(NamedTuple):
    """What a request says of the file that it asks for: its conditions, and the part of it."""

    if_none_match: str | None = None
    range: str | None = None
    if_range: str | None = None
    head_only: bool = False
    takes_gzip: bool = False


async def get_file_request(
    request: Request,
    if_none_match: Annotated[
        str | None, Header(description="the ETag of what you have: 304 where it has not changed")
    ] = None,
    range_: Annotated[
        str | None,
        Header(alias="range", description="`bytes=FIRST-LAST`: a part of the file, as 206"),
    ] = None,
    if_range: Annotated[
        str | None,
        Header(description="the ETag of the part you have: the whole file where it has changed"),
    ] = None,
) -> FileRequest:
    """Return what the request says of its file."""
    return FileRequest(
        if_none_match,
        range_,
        if_range,
        head_only=request.scope.get(HEAD_ASKED, False),
        takes_gzip=accepts_gzip(request.headers.get("accept-encoding", "")),
    )


FileRequestDep = Annotated[FileRequest, Depends(get_file_request)]
Content = str | bytes | Iterable[bytes]


def file_response(
    job: Job,
    version: int,
    what: str,
    media_type: str,
    make: Callable[[], Content],
    asked: FileRequest,
    *,
    inline: bool = False,
    policy: str = INERT,
    costly: bool = False,
    in_parts: bool = True,
) -> Response:
    """Send a file in chunks, or a part of it; 304 where the client has it.

    **Arguments:**

    - `job`, `version`: what the file is made from.
    - `what`: the last part of the file's name, which tells the files of a job apart.
    - `make`: returns the content, always the same bytes; called only where they are needed.
    - `asked`: what the request says of the file.
    - `inline`: whether browsers show the file instead of saving it.
    - `policy`: its Content-Security-Policy.
    - `costly`: whether it takes long to make, so that HEAD does without its length.
    - `in_parts`: whether a part of it can be asked for.
    """
    headers = _headers(job, version, what, policy)
    if is_known(headers["ETag"], asked.if_none_match):
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = content_disposition(job, what, inline=inline)
    if in_parts:
        headers["Accept-Ranges"] = "bytes"
    if costly and asked.head_only:
        return StreamingResponse(iter(()), media_type=media_type, headers=headers)
    part = range_of(asked, headers["ETag"]) if in_parts else None
    if part is not None:
        return _partial(make, part, media_type, headers)
    content = make()
    whole, pieces = _whole_or_pieces(content.encode() if isinstance(content, str) else content)
    if whole is not None:
        headers["Content-Length"] = str(len(whole))
    elif asked.head_only and not asked.takes_gzip:
        headers["Content-Length"] = str(sum(len(piece) for piece in pieces))
    return StreamingResponse(begun(pieces), media_type=media_type, headers=headers)


async def streamed_response(
    job: Job,
    version: int,
    what: str,
    media_type: str,
    make: Callable[[], Awaitable[AsyncIterable[bytes]]],
    asked: FileRequest,
) -> Response:
    """Send a file that is made while it is sent; 304 where the client has it.

    **Arguments:**

    - `make`: begins the file, and raises what is to be answered in its place.
    - For the others see file_response.
    """
    headers = _headers(job, version, what, INERT)
    if is_known(headers["ETag"], asked.if_none_match):
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = content_disposition(job, what, inline=False)
    content = iter(()) if asked.head_only else await make()
    return StreamingResponse(content, media_type=media_type, headers=headers)


def _headers(job: Job, version: int, what: str, policy: str) -> dict[str, str]:
    return {
        "ETag": etag_of(job, version, what),
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": policy,
    }


def _whole_or_pieces(content: bytes | Iterable[bytes]) -> tuple[bytes | None, Iterator[bytes]]:
    """Return the content where it is small or at hand, else None, and its pieces."""
    if isinstance(content, bytes):
        return content, in_pieces(content)
    pieces, first = iter(content), b""
    for piece in pieces:
        first += piece
        if len(first) > PIECE:
            return None, chain((first,), pieces)
    return first, iter((first,))


def begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Return the pieces, the first of which is made at once.

    What cannot be read is then answered with its problem, and no answer breaks off after its head.
    """
    first = next(pieces, None)
    return pieces if first is None else chain((first,), pieces)


class ByteRange(NamedTuple):
    """One range of bytes as it is asked for: without `first`, the last so many bytes."""

    first: int | None
    last: int | None

    def within(self, length: int) -> range:
        """Return the offsets of the range in a file of this length."""
        if self.first is None:
            return range(max(0, length - (self.last or 0)), length)
        return range(self.first, length if self.last is None else min(self.last + 1, length))


def range_of(asked: FileRequest, etag: str) -> ByteRange | None:
    """Return the part that is asked for; None: the whole file.

    What is not one range of bytes is ignored (RFC 9110, 14.2), and so is the range where the client
    has parts of another version.
    """
    found = re.fullmatch(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", asked.range or "", re.ASCII)
    if found is None or not any(found.groups()):
        return None
    if asked.head_only or (asked.if_range is not None and asked.if_range.strip() != etag):
        return None
    first, last = (int(text) if text else None for text in found.groups())
    if first is not None and last is not None and last < first:
        return None
    return ByteRange(first, last)


def _partial(
    make: Callable[[], Content], part: ByteRange, media_type: str, headers: dict[str, str]
) -> Response:
    """Send a part of a file. Raises RangeOutside.

    A file that is made piece by piece is made twice, so that it is never held as a whole.
    """
    content = make()
    if isinstance(content, str):
        content = content.encode()
    length = len(content) if isinstance(content, bytes) else sum(len(piece) for piece in content)
    wanted = part.within(length)
    if not wanted:
        raise problems.RangeOutside(
            f"the file has {length:,} bytes", headers={"Content-Range": f"bytes */{length}"}
        )
    headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{length}"
    headers["Content-Length"] = str(len(wanted))
    pieces = in_pieces(content) if isinstance(content, bytes) else _again(make)
    return StreamingResponse(
        begun(_cut(pieces, wanted)), status_code=206, media_type=media_type, headers=headers
    )


def _again(make: Callable[[], Content]) -> Iterable[bytes]:
    content = make()
    assert not isinstance(content, str | bytes)  # noqa: S101 - narrows the type
    return content


def _cut(pieces: Iterable[bytes], wanted: range) -> Iterator[bytes]:
    """Yield the bytes of the pieces that lie in a range of offsets."""
    at = 0
    for piece in pieces:
        if cut := piece[max(0, wanted.start - at) : max(0, wanted.stop - at)]:
            yield cut
        at += len(piece)
        if at >= wanted.stop:
            return


def in_pieces(content: bytes) -> Iterator[bytes]:
    """Split the content into chunks, so that a slow client takes one at a time."""
    view = memoryview(content)
    return (bytes(view[start : start + PIECE]) for start in range(0, len(view), PIECE))
