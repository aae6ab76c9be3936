"""A folder on this machine, or one that several machines have mounted."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from service.host.private import make_private_folder
from service.storage.files import DIGEST_BYTES, DRAFT, Files

# the errors of file systems without hard links
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


class Folder(Files):
    """Files below a folder. What is written is on the disk, and outlives a loss of power."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def place(self) -> str:
        return str(self.root)

    @property
    def disk(self) -> Path:
        return self.root

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def read_head(self, key: str) -> bytes:
        with (self.root / key).open("rb") as opened:
            return opened.read(DIGEST_BYTES)

    def write(self, key: str, *parts: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}{DRAFT}")
        try:
            _write(draft, *parts)
            draft.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        _sync(path.parent)

    def write_once(self, key: str, content: bytes) -> None:
        path = self.root / key
        make_private_folder(self.root.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}{DRAFT}")
        try:
            _write(draft, content)
            with contextlib.suppress(FileExistsError):
                _link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        _sync(path.parent)

    def write_from(self, key: str, source: Path) -> None:
        path = self.root / key
        make_private_folder(self.root.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}{DRAFT}")
        try:
            if not _linked(source, draft):
                with source.open("rb") as read, draft.open("wb") as written:
                    shutil.copyfileobj(read, written)
                    written.flush()
                    os.fsync(written.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        _sync(path.parent)

    def read_into(self, key: str, target: Path) -> None:
        shutil.copyfile(self.root / key, target)

    def is_there(self, key: str) -> bool:
        return (self.root / key).is_file()

    def remove(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        path = self.root / folder
        return (
            sorted(one.name for one in path.iterdir() if one.suffix != DRAFT)
            if path.is_dir()
            else []
        )

    def folders(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir()) if self.root.is_dir() else []

    def changed_at(self, folder: str) -> float:
        try:
            return (self.root / folder).stat().st_mtime
        except FileNotFoundError:  # removed just now
            return float("inf")

    def written_at(self, key: str) -> float:
        return (self.root / key).stat().st_mtime

    def size(self, folder: str) -> int:
        path = self.root / folder
        return sum(map(_size, path.iterdir())) if path.is_dir() else 0

    def sizes(self) -> Iterator[tuple[str, int]]:
        for folder in self.folders():
            yield folder, self.size(folder)

    def delete(self, folder: str) -> bool:
        path = self.root / folder
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()

    def tidy(self, folder: str) -> None:
        for draft in (self.root / folder).glob(f"*{DRAFT}"):
            draft.unlink(missing_ok=True)


def _write(path: Path, *parts: bytes) -> None:
    """Write a file and sync it, so that its content survives a loss of power."""
    with path.open("wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Sync a folder, so that the names in it survive a loss of power."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _link(draft: Path, path: Path) -> None:
    """Give a written file its final name. Raises FileExistsError where that is taken."""
    try:
        path.hardlink_to(draft)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(path) from error
        draft.replace(path)


def _linked(source: Path, draft: Path) -> bool:
    """Give a file that is on the disk a second name there, which takes no room; whether it could.

    Not to another file system, and not where there are no hard links.
    """
    try:
        draft.hardlink_to(source)
    except OSError:
        return False
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
