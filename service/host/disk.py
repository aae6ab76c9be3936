"""Room on a disk: how much is free, whether that is less than a reserve, and a ballast to drop.

The ballast is a file that takes up room for nothing. Where the disk is full it is deleted, so that
the service can still start, write to its database, and delete what its users no longer need.
"""

import contextlib
import errno
import os
import shutil
from pathlib import Path

from ffengine.text import bytes_in_words

BALLAST_BYTES = 8 * 2**20
FULL = (errno.ENOSPC, errno.EDQUOT)


def free_bytes(folder: Path) -> int:
    """How much is free on the disk of a folder, which need not be there yet."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def lack_of_room(folder: Path, reserve: int, wanted: int = 0) -> str | None:
    """What lacks on the disk of a folder, in words; None where at least the reserve is free.

    `wanted`: bytes that are to be written, after which the reserve is still to be free.
    """
    free = free_bytes(folder)
    if free - wanted >= reserve:
        return None
    if free >= reserve:
        return (
            f"{folder} has {bytes_in_words(free)} free, too little for {bytes_in_words(wanted)} "
            f"and the reserve of {bytes_in_words(reserve)} (FFLAB_DISK_RESERVE)"
        )
    return (
        f"{folder} has {bytes_in_words(free)} free, less than the reserve of "
        f"{bytes_in_words(reserve)} (FFLAB_DISK_RESERVE)"
    )


class Ballast:
    """The file that is deleted where the disk is full."""

    def __init__(self, home: Path) -> None:
        self.file = home / "ballast"

    def keep(self) -> None:
        """Make the file where it is not there. It is not made where there is no room for it."""
        if self.file.exists():
            return
        try:
            with self.file.open("wb") as opened:
                os.posix_fallocate(opened.fileno(), 0, BALLAST_BYTES)
        except OSError:
            self.drop()

    def drop(self) -> bool:
        """Delete the file; whether it was there."""
        with contextlib.suppress(OSError):
            self.file.unlink()
            return True
        return False

    def drop_if_full(self) -> bool:
        """Delete the file where less than its size is free; whether there is more room now."""
        return free_bytes(self.file.parent) < BALLAST_BYTES and self.drop()
