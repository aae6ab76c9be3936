"""Writing that survives a loss of power, and files that are there as a whole or not at all."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

COPYING = ".copying"  # the folder of files that are not in their place yet


def sync(path: Path) -> None:
    """Write the content of a file, or the names in a folder, to the disk.

    **Arguments:**

    - `path`: of the file or the folder.

    **Raises:**

    - `OSError`: it cannot be written.
    """
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sync_files(folder: Path) -> None:
    """Write the files of a folder to the disk, and then their names.

    **Arguments:**

    - `folder`: without folders in it.

    **Raises:**

    - `OSError`: one of them cannot be written.
    """
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it, so that it is still there after a loss of power.

    **Arguments:**

    - `folder`: it may be there already.

    **Raises:**

    - `OSError`: it cannot be made.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def copy_files(paths: Iterable[Path], folder: Path) -> None:
    """Copy files into a folder, each in the place of an older one of its name.

    All of them are copied before the first takes its place. A reader finds each file as it was or
    as it is now, and a process that dies while they are copied leaves the older ones.

    **Arguments:**

    - `paths`: of the files.
    - `folder`: where they go; it is made where it does not exist.

    **Raises:**

    - `OSError`: one of them cannot be read or written.
    """
    make_folder(folder)
    fresh = folder / COPYING
    shutil.rmtree(fresh, ignore_errors=True)  # of one who died
    fresh.mkdir()
    try:
        for path in paths:
            shutil.copy2(path, fresh / path.name)
        sync_files(fresh)
        for path in sorted(fresh.iterdir()):
            path.replace(folder / path.name)
        sync(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
