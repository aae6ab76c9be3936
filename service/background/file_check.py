"""Compares the database with the files in the folder or the bucket of artifacts."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from service.artifacts import Artifacts
from service.background.retention import find_unknown
from service.background.shared_uploads import SharedUploads, key_of, sha256_of
from service.settings import Settings
from service.store import Store
from service.store.expected_files import Expected, expected_files, version_of

Wrong = Literal["missing", "damaged", "left over"]


class FileFinding(BaseModel):
    """A file, or the folder of a job, with which something is wrong."""

    wrong: Wrong
    file: str
    of: str


class FileCheck:
    """Looks at the files of jobs and uploads, and changes nothing.

    `deep`: each file is read and compared with its digest; otherwise only its name is looked for.
    """

    def __init__(self, store: Store, settings: Settings, *, deep: bool) -> None:
        self.store, self.deep = store, deep
        self.artifacts = Artifacts(settings.artifact_place)
        self.uploads = SharedUploads(store, self.artifacts, settings)
        self.files = 0  # that were looked at

    def findings(self) -> Iterator[FileFinding]:
        """Yield what is missing, damaged or left over. Raises NotOurs and OSError."""
        unknown = find_unknown(self.store, self.artifacts)
        looked_at: set[str] = set()
        for expected in expected_files(self.store.database):
            yield from self._of_job(expected, again=expected.owner in looked_at)
            looked_at.add(expected.owner)
        yield from self._of_uploads()
        for one in unknown:
            yield FileFinding(wrong="left over", file=one.job, of="a job that is not known")
        for name in self.uploads.left_over():
            yield FileFinding(wrong="left over", file=key_of(name), of="no upload")

    def _of_job(self, expected: Expected, *, again: bool) -> Iterator[FileFinding]:
        there = set(self.artifacts.names(expected.owner))
        missing = sorted(expected.names - there)
        # a job that went on meanwhile has removed files that nobody counts on any more
        if missing and version_of(self.store.database, expected.job_id) != expected.version:
            return
        for name in missing:
            file = f"{expected.owner}/{name}"
            yield FileFinding(wrong="missing", file=file, of=expected.job_id)
        if again:
            return
        self.files += len(there)
        for name in sorted(there) if self.deep else ():
            if self.artifacts.is_intact(expected.owner, name) is False:
                file = f"{expected.owner}/{name}"
                yield FileFinding(wrong="damaged", file=file, of=expected.job_id)

    def _of_uploads(self) -> Iterator[FileFinding]:
        for one in self.store.uploads.all():
            of = f"{'data set' if one.kind == 'dataset' else 'weights'} {one.name}"
            file = key_of(one.file_digest)
            if not self.artifacts.files.is_there(file):
                yield FileFinding(wrong="missing", file=file, of=of)
                continue
            self.files += 1
            if self.deep and self._digest_of(file) != one.file_digest:
                yield FileFinding(wrong="damaged", file=file, of=of)

    def _digest_of(self, key: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy"
            self.artifacts.files.read_into(key, copy)
            return sha256_of(copy)
