"""Copies of files from the network on this machine, found by their digest."""

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from service.storage.files import DRAFT


class DigestCache:
    """Keeps what was read, up to a size: what was not read for longest goes first.

    A disk that is full, or a folder that cannot be written, makes it slower and does no other harm.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder, self.most_bytes = folder, most_bytes

    def get(self, digest: bytes) -> bytes | None:
        """Return the content with a digest; None where it is not kept.

        A damaged copy is removed.
        """
        path = self.folder / digest.hex()
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            if hashlib.sha256(content).digest() == digest:
                os.utime(path)
                return content
            path.unlink()
        return None

    def put(self, digest: bytes, content: bytes) -> None:
        """Keep content under its digest, and make room for it."""
        if len(content) > self.most_bytes:
            return
        path = self.folder / digest.hex()
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}{DRAFT}")
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                draft.write_bytes(content)
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
        self._make_room()

    def _make_room(self) -> None:
        with contextlib.suppress(OSError):
            found = [(path.stat(), path) for path in self.folder.iterdir()]
            taken = sum(stat.st_size for stat, _ in found)
            for stat, path in sorted(found, key=lambda each: each[0].st_mtime_ns):
                if taken <= self.most_bytes:
                    return
                path.unlink(missing_ok=True)
                taken -= stat.st_size
