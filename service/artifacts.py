"""Checkpoints and other large results: files in a folder, each with a digest, checked when read."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from pathlib import Path

from service.host.private import make_private_folder

JOB_ID = re.compile(r"job_[0-9a-f]{32}")
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,80}")
DIGEST_BYTES = 32
LABEL = ".service"  # cannot be the id of a job
# the errors of file systems without hard links
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
# the checkpoint at the end of a measured epoch: last layer of the stage, epoch
EPOCH_NAME = re.compile(r"epoch-(\d{2})-(\d{6})\.safetensors")
# the weights that a training run evaluates, where it chose them: the newest epoch they are from
SELECTED_NAME = re.compile(r"selected-(\d{6})\.safetensors")
STATES_NAME = re.compile(r"states-(\d{2})-(\d{6})\.safetensors")


def epoch_name(layer: int, epoch: int) -> str:
    """The name of the checkpoint at the end of a measured epoch of a stage.

    `layer` is the last layer of the stage.
    """
    return f"epoch-{layer:02d}-{epoch:06d}.safetensors"


def selected_name(epoch: int) -> str:
    """The name of the weights that a training run evaluates, where it chose them."""
    return f"selected-{epoch:06d}.safetensors"


def states_name(name: str) -> str:
    """The name of the optimiser's tensors of a checkpoint at the end of an epoch.

    Only the newest checkpoints of a training job have them: a run that goes on needs them, checks
    and downloads of weights do not.
    """
    return name.replace("epoch-", "states-", 1)


def margins_name(seed: int, width: int) -> str:
    """The name of the per-sample margins of a check; see ffengine.margin_files."""
    return f"margins-{seed}-{width}.npz"


class ArtifactDamaged(Exception):
    """A stored file differs from what was written."""


class Artifacts:
    """Named files of jobs. A file holds the sha256 of its content, then the content."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, job_id: str, name: str, data: bytes) -> None:
        """Write a file durably and atomically: a reader sees the old content or the new.

        Raises OSError where there is no room.
        """
        path = self._path(job_id, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{name}.{os.getpid()}.part")
        try:
            _write(draft, hashlib.sha256(data).digest(), data)
            draft.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        _sync(path.parent)

    def get(self, job_id: str, name: str) -> bytes:
        """Read a file.

        Raises KeyError where there is none, and ArtifactDamaged where its digest does not match.
        """
        try:
            stored = self._path(job_id, name).read_bytes()
        except FileNotFoundError as error:
            raise KeyError(f"{job_id}/{name}") from error
        data = stored[DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != stored[:DIGEST_BYTES]:
            raise ArtifactDamaged(f"{job_id}/{name}: its digest does not match")
        return data

    def remove(self, job_id: str, name: str) -> None:
        """Remove a file, if it is there."""
        self._path(job_id, name).unlink(missing_ok=True)

    def names(self, job_id: str) -> list[str]:
        """The names of a job's artifacts, sorted."""
        folder = self._folder(job_id)
        return (
            sorted(path.name for path in folder.iterdir() if path.suffix != ".part")
            if folder.is_dir()
            else []
        )

    def tidy(self, job_id: str) -> None:
        """Remove the unfinished files of killed writers.

        A writer that was only slow finds its file removed, and gets an OSError.
        """
        folder = self._folder(job_id)
        for draft in folder.glob("*.part"):
            draft.unlink(missing_ok=True)

    def owners(self, *, older_than: float = float("inf")) -> list[str]:
        """The ids of jobs with artifacts, sorted.

        `older_than`: only folders last changed before then, in seconds since 1970 by this machine's
        clock.
        """
        folders = (
            [path for path in self.root.iterdir() if JOB_ID.fullmatch(path.name)]
            if self.root.is_dir()
            else []
        )
        return sorted(path.name for path in folders if _changed_at(path) < older_than)

    def size(self, job_id: str) -> int:
        """The size of a job's artifacts, in bytes."""
        folder = self._folder(job_id)
        return sum(_size(path) for path in folder.iterdir()) if folder.is_dir() else 0

    def delete(self, job_id: str) -> bool:
        """Remove all artifacts of a job; whether they are gone."""
        folder = self._folder(job_id)
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    def label(self) -> str | None:
        """The id of the service that the folder belongs to; None where it has none."""
        try:
            return (self.root / LABEL).read_text(errors="replace").strip()
        except FileNotFoundError:
            return None

    def put_label(self, service_id: str) -> None:
        """Write the id of the service to the folder, durably, unless it has one.

        Of several writers the first one wins.
        """
        make_private_folder(self.root.parent)
        self.root.mkdir(exist_ok=True)
        label, draft = self.root / LABEL, self.root / f"{LABEL}.{secrets.token_hex(8)}.part"
        try:
            _write(draft, f"{service_id}\n".encode())
            with contextlib.suppress(FileExistsError):
                _link(draft, label)
        finally:
            draft.unlink(missing_ok=True)
        _sync(self.root)

    def _folder(self, job_id: str) -> Path:
        if not JOB_ID.fullmatch(job_id):
            raise ValueError(f"{job_id!r} is not a job's id")
        return self.root / job_id

    def _path(self, job_id: str, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not an artifact's name")
        return self._folder(job_id) / name


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


def _changed_at(path: Path) -> float:
    """When a folder was last changed; infinity where it was removed just now."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
