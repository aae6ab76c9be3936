"""Checkpoints and other large results: files below one folder, each with a digest that is checked when it is read."""

import contextlib
import hashlib
import os
import re
import shutil
from pathlib import Path

JOB_ID = re.compile(r"job_[0-9a-f]{32}")
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,80}")
DIGEST_BYTES = 32
EPOCH_NAME = re.compile(r"epoch-(\d{2})-(\d{6})\.safetensors")  # the checkpoint at the end of a measured epoch


def epoch_name(layer: int, epoch: int) -> str:
    """The checkpoint at the end of a measured epoch; `layer`: the last of its stage."""
    return f"epoch-{layer:02d}-{epoch:06d}.safetensors"


def margins_name(seed: int, width: int) -> str:
    """The per-sample margins of all cells of a check with that seed and width; see ffengine.persample."""
    return f"margins-{seed}-{width}.npz"


class ArtifactDamaged(Exception):  # noqa: N818
    """A stored file is not what was written."""


class Artifacts:
    """Named bytes of a job. A file is its content behind the sha256 of that content."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, job_id: str, name: str, data: bytes) -> None:
        """Write durably and at once: a reader sees the old content or the new. OSError where there is no room."""
        path = self._path(job_id, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{name}.{os.getpid()}.part")
        try:
            with draft.open("wb") as file:
                file.write(hashlib.sha256(data).digest())
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def get(self, job_id: str, name: str) -> bytes:
        """The content. KeyError where there is none, ArtifactDamaged where it is not what was written."""
        try:
            stored = self._path(job_id, name).read_bytes()
        except FileNotFoundError as error:
            raise KeyError(f"{job_id}/{name}") from error
        data = stored[DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != stored[:DIGEST_BYTES]:
            raise ArtifactDamaged(f"{job_id}/{name}: its digest does not match")
        return data

    def names(self, job_id: str) -> list[str]:
        """The names of a job's artifacts, sorted."""
        folder = self._folder(job_id)
        return sorted(path.name for path in folder.iterdir() if path.suffix != ".part") if folder.is_dir() else []

    def tidy(self, job_id: str) -> None:
        """Remove what a killed writer left half written; one that only slept finds its draft gone and has an OSError."""
        folder = self._folder(job_id)
        for draft in folder.glob("*.part"):
            draft.unlink(missing_ok=True)

    def owners(self, *, older_than: float) -> list[str]:
        """The jobs that have artifacts, whose folders have not changed since a time (seconds since 1970, this machine's clock)."""
        folders = [path for path in self.root.iterdir() if JOB_ID.fullmatch(path.name)] if self.root.is_dir() else []
        return sorted(path.name for path in folders if path.stat().st_mtime < older_than)

    def delete(self, job_id: str) -> None:
        """Remove all of a job's artifacts."""
        shutil.rmtree(self._folder(job_id), ignore_errors=True)

    def _folder(self, job_id: str) -> Path:
        if not JOB_ID.fullmatch(job_id):
            raise ValueError(f"{job_id!r} is not a job's id")
        return self.root / job_id

    def _path(self, job_id: str, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not an artifact's name")
        return self._folder(job_id) / name
