"""Uploads that all machines of a service share: facts in the database, files among the artifacts.

The home of the API has each upload in a folder of its own, as the engine reads it. Workers that do
not see that folder fetch what a job needs, and keep copies of it.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from ffengine import uploaded_weights, uploads
from ffengine.arrays import DatasetError
from ffengine.datasets import CACHE_OF_HOME, Datasets
from ffengine.uploaded_weights import UploadedNetwork, WeightUploads
from service.artifacts import Artifacts
from service.background.periodic import PeriodicThread
from service.host.log_limits import Outage
from service.settings import Settings
from service.store import Store, StoredUpload, UploadDraft, UploadTaken
from service.store.uploads import Kind

FOLDER = "uploads"  # among the artifacts; it cannot be the id of a job
FACTS = "facts.json"
LOOK_SECONDS = 1.0  # between looks at the folders of uploads
RETRY_SECONDS = 10.0  # after the place of artifacts could not be used
AGAIN_SECONDS = 600.0  # between two times that everything is compared

log = logging.getLogger(__name__)


class NotShared(Exception):
    """An upload cannot be fetched; the message says why, after the subject of the sentence."""


class Local(NamedTuple):
    """An upload in the home of this machine: its facts, and the file with its arrays."""

    kind: Kind
    facts: uploads.Upload | UploadedNetwork
    file: Path


class _Models(NamedTuple):
    """How uploads of a kind are stored in a folder."""

    file: str
    facts: type[BaseModel]


MODELS: dict[Kind, _Models] = {
    "dataset": _Models("arrays.npz", uploads.Upload),
    "weights": _Models(uploaded_weights.FILE, UploadedNetwork),
}


class SharedUploads:
    """The uploads of a service, seen from one of its machines."""

    def __init__(self, store: Store, artifacts: Artifacts, settings: Settings) -> None:
        self.store, self.artifacts, self.datasets = store, artifacts, settings.datasets
        self._cache = settings.root / CACHE_OF_HOME / FOLDER
        self._cache_bytes = int(settings.artifact_cache)
        self._told: set[str] = set()
        # held by what changes an upload of this home, so that none is taken up that is on its way
        self.lock = threading.RLock()

    # At the API's home

    def publish(self, kind: Kind, name: str, *, replace: bool = False) -> StoredUpload:
        """Put an upload of this home into the database and among the artifacts.

        `replace`: other content that has the name there gives way.

        Raises UploadTaken where it has and does not, DatasetError where there is no such upload
        here, and OSError where its file cannot be stored.
        """
        local = self._local(kind, name)
        file_digest = sha256_of(local.file)
        draft = UploadDraft(
            kind=kind,
            name=name,
            digest=local.facts.digest,
            file_digest=file_digest,
            file_bytes=local.file.stat().st_size,
            uploaded_by=local.facts.uploaded_by,
            facts=local.facts.model_dump(mode="json", exclude_unset=True),
        )
        before = self.store.uploads.find(kind, name)
        stored = self.store.uploads.add(draft, replace=replace)
        if not self.artifacts.files.is_there(key_of(file_digest)):
            self.artifacts.files.write_from(key_of(file_digest), local.file)
        if before and before.file_digest != file_digest:
            self._let_go(before.file_digest)
        return stored

    def forget(self, kind: Kind, name: str) -> None:
        """Remove an upload from the database, and its file where nothing else names it.

        It is gone from this home already.
        """
        there = self.store.uploads.find(kind, name)
        if there is not None:
            self.store.uploads.remove(kind, name)
            self._let_go(there.file_digest)

    def _let_go(self, file_digest: str) -> None:
        """Remove a file that nothing names."""
        if not self.store.uploads.is_named(file_digest):
            with contextlib.suppress(OSError):
                self.artifacts.files.remove(key_of(file_digest))

    def take_up(self, *, bring: bool = False) -> None:
        """Make home, database and artifacts agree: what is wrong is logged once.

        An upload that only this home has is published, also one that was imported by hand. `bring`:
        what only the database has is fetched, as after the loss of a disk. Files that nothing names
        are left: they may be all that is there of uploads that an older database does not know.

        Raises OSError where the place of the artifacts cannot be used.
        """
        stored = set(self.artifacts.files.names(FOLDER))
        local = set(self._local_names())
        for kind, name in sorted(local):
            with self.lock, self._telling(kind, name):
                self._agree(kind, name, stored)
        for one in self.store.uploads.all() if bring else ():
            if (one.kind, one.name) not in local:
                with self.lock, self._telling(one.kind, one.name):
                    self._bring(one)

    def _agree(self, kind: Kind, name: str, stored: set[str]) -> None:
        """Publish an upload of this home that the service does not have, or has with other content.

        `stored`: the files that there are among the artifacts. Raises NotShared where a job that
        has not ended needs the other content.
        """
        digest = self._local(kind, name).facts.digest
        known = self.store.uploads.find(kind, name)
        if known is None or (known.digest == digest and known.file_digest not in stored):
            self.publish(kind, name)
            log.info("%s %s: its file is in %s now", kind, name, self.artifacts.place)
        elif known.digest != digest:
            if needing := self._needing(kind)(name):
                raise NotShared(
                    f"has the digest {digest[:16]}... in {self._local(kind, name).file.parent}, "
                    f"and {known.digest[:16]}... in the database, which {needing[0]} needs: it is "
                    f"left as it is until no job needs it"
                )
            self.publish(kind, name, replace=True)
            log.warning("%s %s stands for other content from now on", kind, name)

    def _bring(self, known: StoredUpload) -> None:
        """Put an upload that only the database has into this home, as after a loss of its disk."""
        kept = self.datasets
        folder = kept.kept_in if known.kind == "dataset" else kept.weights_kept_in
        self._fetch(known, known.name, folder)
        if self.store.uploads.find(known.kind, known.name) is None:  # deleted meanwhile
            shutil.rmtree(folder / known.name, ignore_errors=True)
            return
        log.warning("%s %s is fetched into %s again", known.kind, known.name, folder)

    def _needing(self, kind: Kind) -> Callable[[str], Sequence[str]]:
        jobs = self.store.jobs
        return jobs.needing_dataset if kind == "dataset" else jobs.needing_weights

    def _local_names(self) -> list[tuple[Kind, str]]:
        weights = WeightUploads(self.datasets).names()
        return [
            *(("dataset", name) for name in self.datasets.uploaded()),
            *(("weights", name) for name in weights),
        ]

    def _local(self, kind: Kind, name: str) -> Local:
        """Find an upload of this home. Raises DatasetError."""
        if kind == "dataset":
            self.datasets.refuse_missing(name)
            folder = self.datasets.upload_folder(name)
            found = uploads.find(name, folder.parent) if folder else None
            if folder is None or found is None:
                raise DatasetError(f"{name} is not an upload")
            return Local(kind, found, uploads.arrays_file(name, folder.parent))
        network = WeightUploads(self.datasets).find(name)
        if network is None:
            raise DatasetError(f"no uploaded weights are called {name!r}")
        return Local(kind, network, self.datasets.weights_kept_in / name / uploaded_weights.FILE)

    @contextlib.contextmanager
    def _telling(self, kind: Kind, name: str) -> Iterator[None]:
        """Log once what is wrong with an upload, so that the others are looked at all the same."""
        try:
            yield
        except (NotShared, DatasetError, UploadTaken, OSError) as error:
            if (told := f"{kind} {name} {error}") not in self._told:
                log.warning("%s", told)
                self._told.add(told)

    def left_over(self) -> list[str]:
        """List the files that nothing names. Raises OSError."""
        # in this order, since a file is stored after the row that names it: otherwise one that is
        # stored meanwhile would seem to be named by none
        stored = self.artifacts.files.names(FOLDER)
        named = {one.file_digest for one in self.store.uploads.all()}
        return [name for name in stored if name not in named]

    def remove_left_over(self) -> list[str]:
        """Remove the files that nothing names, and return them. Raises OSError."""
        found = self.left_over()
        for name in found:
            self._let_go(name)
        return found

    # At a worker

    def fetched(self, kind: Kind, name: str, digest: str) -> Path:
        """Return a folder that has the upload with a digest under a name: a copy of this machine.

        Raises NotShared where nobody has it, and OSError where it cannot be read or kept.
        """
        known = self.store.uploads.with_digest(kind, digest)
        if known is None:
            raise NotShared("is not among the uploads of the service")
        folder = self._cache / digest
        file = folder / name / MODELS[kind].file
        if not (file.is_file() and sha256_of(file) == known.file_digest):
            shutil.rmtree(folder / name, ignore_errors=True)
            self._fetch(known, name, folder)
        os.utime(folder)
        self._make_room(folder)
        return folder

    def _fetch(self, known: StoredUpload, name: str, folder: Path) -> None:
        """Put an upload into a folder of uploads under a name. Raises NotShared and OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=uploads.DRAFT, dir=folder))
        models, place = MODELS[known.kind], self.artifacts.place
        try:
            try:
                self.artifacts.files.read_into(key_of(known.file_digest), draft / models.file)
            except FileNotFoundError as error:
                raise NotShared(f"is not in {place}, though the database names it") from error
            if sha256_of(draft / models.file) != known.file_digest:
                raise NotShared(f"is damaged in {place}")
            facts = models.facts.model_validate({**known.facts, "name": name})
            (draft / FACTS).write_text(facts.model_dump_json(exclude_unset=True))
            draft.chmod(0o755)
            with contextlib.suppress(FileExistsError, OSError):
                draft.replace(folder / name)
            if not (folder / name / FACTS).is_file():
                raise OSError(f"{folder / name} cannot be written")
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _make_room(self, kept: Path) -> None:
        """Remove the copies that were not used for longest, beyond the size of the cache."""
        with contextlib.suppress(OSError):
            found = [(one.stat().st_mtime_ns, one) for one in self._cache.iterdir()]
            sizes = {one: _size(one) for _, one in found}
            taken = sum(sizes.values())
            for _, one in sorted(found):
                if taken <= self._cache_bytes:
                    return
                if one != kept:
                    shutil.rmtree(one, ignore_errors=True)
                    taken -= sizes[one]


class UploadKeeper(PeriodicThread):
    """Publishes what is brought into the home of the API, soon after it is there.

    A thread of its own, because a bucket may be slow or away.
    """

    def __init__(self, shared: SharedUploads) -> None:
        super().__init__("upload-keeper", LOOK_SECONDS)
        self.shared = shared
        self._seen: tuple[int, ...] | None = None
        self._due = 0.0
        self._place_outage = Outage(log, "uploads are not taken up: the place of artifacts")

    def tick(self) -> None:
        """Compare uploads where a folder of them has changed, and once in a while in any case."""
        kept, now = self.shared.datasets, time.monotonic()
        seen = tuple(map(_changed_at, (kept.kept_in, kept.weights_kept_in)))
        if seen == self._seen and now < self._due:
            return
        try:
            self.shared.take_up(bring=self._seen is None)
        except OSError as error:
            self._place_outage.noticed(error)
            self._stopping.wait(RETRY_SECONDS)
            return
        self._place_outage.over()
        self._seen, self._due = seen, now + AGAIN_SECONDS


def key_of(file_digest: str) -> str:
    """The key of an upload's file among the artifacts."""
    return f"{FOLDER}/{file_digest}"


def with_copies(datasets: Datasets, folders: Sequence[Path], weights: Path | None) -> Datasets:
    """The data sets of a home, with copies of uploads that go before its own."""
    return Datasets(
        datasets.root,
        datasets.uploads_in,
        datasets.cache,
        weights or datasets.weights_in,
        tuple(folders),
    )


def sha256_of(path: Path) -> str:
    """The digest by which the file of an upload is known."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _changed_at(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0
