"""File systems of their own in memory: small ones, and such as cannot be written."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.needs import lacking


@contextmanager
def mounted(options: str, folder: Path | None = None) -> Iterator[Path]:
    """A file system with these options, mounted on a folder; that needs the rights of root."""
    with tempfile.TemporaryDirectory(prefix="fflab-") as name:
        where = folder or Path(name)
        try:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            lacking("the rights to mount a disk", str(error))
        if done.returncode:
            lacking("the rights to mount a disk", done.stderr.strip())
        try:
            yield where
        finally:
            subprocess.run(["umount", "--lazy", str(where)], check=True)
