"""Checkpoints and other large results: files in a folder or in a bucket, each with a digest that is
checked when it is read.
"""

import contextlib
import errno
import hashlib
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from service.storage.bucket import Bucket
from service.storage.cache import DigestCache
from service.storage.files import DIGEST_BYTES, Files
from service.storage.folder import Folder
from service.storage.place import BucketPlace, Place

JOB_ID = re.compile(r"job_[0-9a-f]{32}")
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,80}")
LABEL = ".service"  # cannot be the id of a job
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

    def __init__(self, place: Place) -> None:
        self.files: Files
        self._cache: DigestCache | None = None
        if isinstance(place, BucketPlace):
            self.files = Bucket(place.address)
            self._cache = DigestCache(place.cache, place.cache_bytes)
        else:
            self.files = Folder(place)

    @property
    def place(self) -> str:
        """The folder or the bucket, as messages name it."""
        return self.files.place

    @property
    def disk(self) -> Path | None:
        """The folder whose disk artifacts take room on; None: on none of this machine."""
        return self.files.disk

    @property
    def root(self) -> Path:
        """The folder of artifacts. Raises TypeError where they are in a bucket."""
        if self.files.disk is None:
            raise TypeError(f"{self.place} is no folder")
        return self.files.disk

    def put(self, job_id: str, name: str, data: bytes) -> None:
        """Write a file durably and atomically: a reader sees the old content or the new.

        Raises OSError where there is no room, or the bucket cannot be reached.
        """
        self.files.write(_key(job_id, name), hashlib.sha256(data).digest(), data)

    def get(self, job_id: str, name: str) -> bytes:
        """Read a file.

        Raises KeyError where there is none, and ArtifactDamaged where its digest does not match.
        """
        key = _key(job_id, name)
        try:
            if self._cache and (kept := self._cache.get(self.files.read_head(key))) is not None:
                return kept
            stored = self.files.read(key)
        except FileNotFoundError as error:
            raise KeyError(key) from error
        digest, data = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            raise ArtifactDamaged(f"{key}: its digest does not match")
        if self._cache:
            self._cache.put(digest, data)
        return data

    def is_intact(self, job_id: str, name: str) -> bool | None:
        """Whether a file is what was written, without any copy of it; None: there is none."""
        try:
            stored = self.files.read(_key(job_id, name))
        except FileNotFoundError:
            return None
        return hashlib.sha256(stored[DIGEST_BYTES:]).digest() == stored[:DIGEST_BYTES]

    def remove(self, job_id: str, name: str) -> None:
        """Remove a file, if it is there."""
        self.files.remove(_key(job_id, name))

    def names(self, job_id: str) -> list[str]:
        """The names of a job's artifacts, sorted."""
        return self.files.names(_folder(job_id))

    def tidy(self, job_id: str) -> None:
        """Remove the unfinished files of killed writers.

        A writer that was only slow finds its file removed, and gets an OSError.
        """
        self.files.tidy(_folder(job_id))

    def owners(self) -> list[str]:
        """The ids of jobs with artifacts, sorted."""
        return [folder for folder in self.files.folders() if JOB_ID.fullmatch(folder)]

    def changed_at(self, job_id: str) -> float:
        """When artifacts of a job were last written, in seconds since 1970; infinity: gone."""
        return self.files.changed_at(_folder(job_id))

    def size(self, job_id: str) -> int:
        """The size of a job's artifacts, in bytes."""
        return self.files.size(_folder(job_id))

    def sizes(self) -> Iterator[tuple[str, int]]:
        """The ids of jobs, with the size of the artifacts of each in bytes."""
        return ((one, size) for one, size in self.files.sizes() if JOB_ID.fullmatch(one))

    def delete(self, job_id: str) -> bool:
        """Remove all artifacts of a job; whether they are gone."""
        return self.files.delete(_folder(job_id))

    def fault(self, service_id: str | None = None) -> str | None:
        """Say why results cannot be stored here, in one line; None where they can.

        A small file is written, read back and removed. `service_id`: the id that the place must
        have, which a folder lacks where it is on a network folder that is not mounted.
        """
        try:
            if service_id is not None and (label := self.label()) != service_id:
                there = f"the service id {label}" if label else "no service id"
                asked = "mounted there" if self.disk else "the one that FFLAB_ARTIFACTS names"
                kind = "folder" if self.disk else "bucket"
                return (
                    f"{self.place} has {there}, instead of {service_id}: is the {kind} of the "
                    f"service {asked}?"
                )
            with self._probe():
                pass
        except OSError as error:
            return f"{self.place} cannot be used: {error.strerror or error}"
        return None

    def clock_ahead(self) -> float:
        """Return by how many seconds the clock of the place is ahead of this machine's.

        A small file is written, read back and removed. Raises OSError where that cannot be done.
        """
        before = time.time()
        with self._probe() as probe:
            ahead = self.files.written_at(probe) - before
        if self.files.is_there(probe):
            raise OSError(errno.EPERM, f"{probe} was removed, and is there all the same")
        return ahead

    @contextlib.contextmanager
    def _probe(self) -> Iterator[str]:
        """Write a small file and read it back; its key. It is removed at the end."""
        probe, content = f".probe.{secrets.token_hex(8)}", secrets.token_bytes(64)
        try:
            self.files.write(probe, content)
            if self.files.read(probe) != content:
                raise OSError(errno.EIO, "what is read is not what was written")
            yield probe
        finally:
            self.files.remove(probe)

    def label(self) -> str | None:
        """The id of the service that the artifacts belong to; None where they have none."""
        try:
            return self.files.read(LABEL).decode(errors="replace").strip()
        except FileNotFoundError:
            return None

    def put_label(self, service_id: str) -> None:
        """Write the id of the service beside the artifacts, durably, unless there is one.

        Of several writers the first one wins.
        """
        self.files.write_once(LABEL, f"{service_id}\n".encode())


def _folder(job_id: str) -> str:
    if not JOB_ID.fullmatch(job_id):
        raise ValueError(f"{job_id!r} is not a job's id")
    return job_id


def _key(job_id: str, name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not an artifact's name")
    return f"{_folder(job_id)}/{name}"
