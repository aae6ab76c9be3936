"""Files and folders that only their owner may read: a home holds secrets of webhooks and results.

What is there already keeps its permissions: an operator may share a home with a group.
"""

import contextlib
import os
import stat
from pathlib import Path

OTHERS = stat.S_IRWXO


def make_private_folder(folder: Path) -> None:
    """Make a folder where it is not there, and those above it, each for its owner alone."""
    folder = folder.absolute()
    missing = [folder, *folder.parents]
    for one in reversed(missing[: _depth_of_missing(missing)]):
        one.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(exist_ok=True)  # raises where it is no folder


def _depth_of_missing(folders: list[Path]) -> int:
    """Return how many of a folder and those above it are missing."""
    return next((depth for depth, one in enumerate(folders) if one.exists()), len(folders))


def make_private_file(file: Path) -> None:
    """Make an empty file for its owner alone; one that is there stays as it is."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def is_open_to_others(folder: Path) -> bool:
    """Whether users of the machine that neither own a folder nor are of its group may use it."""
    return bool(folder.stat().st_mode & OTHERS)
