"""What the routes that take files have in common: one file at a time, and room on the disk."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

from fastapi import Request

from ffengine.datasets import UPLOADS_OF_HOME
from ffengine.text import bytes_in_words
from ffengine.uploaded_weights import WeightUploads
from service.background.shared_uploads import SharedUploads
from service.host.disk import FULL, free_bytes, lack_of_room
from service.host.private import make_private_folder
from service.settings import Settings
from service.store import StoredUpload, UploadTaken
from service.store.uploads import Kind
from service.web import problems
from service.web.dependencies import Resources

TURN_SECONDS = 30  # that an upload waits while others are checked
ROOM_STEP = 8 * 2**20  # bytes that are received between two looks at the room on the disk


@asynccontextmanager
async def turn(resources: Resources) -> AsyncIterator[None]:
    """Wait until no other upload is being checked. Raises UploadsBusy after a while."""
    try:
        await asyncio.wait_for(resources.upload_turn.acquire(), TURN_SECONDS)
    except TimeoutError:
        raise problems.UploadsBusy(headers={"Retry-After": str(TURN_SECONDS)}) from None
    try:
        yield
    finally:
        resources.upload_turn.release()


async def receive(request: Request, body: IO[bytes], settings: Settings) -> None:
    """Write the body of a request to a file. Raises NoRoom before it takes up the reserve."""
    received = 0
    async for chunk in request.stream():
        body.write(chunk)
        received += len(chunk)
        if received >= ROOM_STEP:
            received = 0
            refuse_short(settings)
    body.seek(0)


def declared_bytes(request: Request) -> int:
    """Return how many bytes a request says that its body has; 0 where it does not say it."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


def temporary_file(settings: Settings) -> IO[bytes]:
    """Open a file in the home that is gone when it is closed, and when the process dies.

    It is not among the temporary files of the system, which are in memory on some.
    """
    make_private_folder(settings.root)
    return tempfile.TemporaryFile(dir=settings.root)


def refuse_short(settings: Settings, wanted: int = 0) -> None:
    """Raise NoRoom where the disk would have less than the reserve free after so many bytes."""
    folder = settings.root / UPLOADS_OF_HOME
    if lack := lack_of_room(folder, settings.disk_reserve, wanted):
        raise problems.NoRoom(f"{lack}. {problems.NoRoom.advice}")


@contextmanager
def storing(settings: Settings) -> Iterator[None]:
    """Raise NoRoom where the disk becomes full, and NotStored where it cannot be written."""
    try:
        yield
    except OSError as error:
        raise not_stored(error, folder_written(error) or settings.root) from error


def folder_written(error: OSError) -> Path | None:
    """Return the folder in which a file could not be written, where the error names it."""
    return Path(os.fsdecode(error.filename)).parent if error.filename else None


def not_stored(error: OSError, folder: Path, reason: str = "") -> problems.Problem:
    """Return the problem that says which folder could not be written, and why."""
    if error.errno in FULL:
        return problems.NoRoom(
            f"the disk of {folder} is full ({bytes_in_words(free_bytes(folder))} free). "
            f"{problems.NoRoom.advice}"
        )
    reason = reason or f"{folder} cannot be written ({error.strerror or error})"
    return problems.NotStored(f"{reason}. {problems.NotStored.advice}")


def share(uploads: SharedUploads, kind: Kind, name: str) -> StoredUpload:
    """Put an upload of this home where all machines of the service find it.

    Raises NotStored where that cannot be done now: what is in the home is taken up later, and the
    same upload may be sent again. Raises NameTaken where the name stands for something else there.
    """
    try:
        return uploads.publish(kind, name)
    except OSError as error:
        reason = f"{uploads.artifacts.place} cannot be written ({error.strerror or error})"
        raise problems.NotStored(f"{reason}. {problems.NotStored.advice}") from error
    except UploadTaken as error:
        taken = problems.NameTaken if kind == "dataset" else problems.WeightsNameTaken
        raise taken(
            f"{name!r} is taken, with digest {error.there.digest[:16]}..., although it is not in "
            f"the home of this process; choose another name"
        ) from error


def refuse_beyond_quota(settings: Settings, uploaded_by: str | None, size: int) -> None:
    """Raise UploadQuota where uploads would take up more than they may."""
    asked: list[tuple[str | None, str, int, str]] = [
        (None, "all uploads", settings.upload_quota, "FFLAB_UPLOAD_QUOTA")
    ]
    if uploaded_by is not None:
        mine = f"the uploads of {uploaded_by}"
        asked.append(
            (uploaded_by, mine, settings.upload_quota_per_key, "FFLAB_UPLOAD_QUOTA_PER_KEY")
        )
    for who, which, quota, variable in asked:
        kept = _bytes_kept(settings, who)
        if kept + size > quota:
            raise problems.UploadQuota(
                f"{which} take up {bytes_in_words(kept)}, and this one would add "
                f"{bytes_in_words(size)}: "
                f"the quota is {bytes_in_words(quota)} ({variable}). {problems.UploadQuota.advice}"
            )


def _bytes_kept(settings: Settings, who: str | None) -> int:
    """Return how much room data sets and weights take up that were uploaded."""
    there = settings.datasets
    return there.bytes_kept(who) + WeightUploads(there).bytes_kept(who)
