"""Uploads: what is known of the data sets and networks that users brought."""

from typing import Any, Literal, NamedTuple

from sqlalchemy import delete, insert, select

from service.store.audit import note
from service.store.database import Database
from service.store.tables import Document, UploadRow

Kind = Literal["dataset", "weights"]


class UploadTaken(Exception):
    """The name stands for other content; `there` is what has it."""

    def __init__(self, there: "StoredUpload") -> None:
        super().__init__(f"{there.name} has the digest {there.digest}")
        self.there = there


class UploadDraft(NamedTuple):
    """What is to be known of an upload.

    **Attributes:**

    - `digest`: of the arrays, which specs and results name.
    - `file_digest`, `file_bytes`: sha256 and size of the file that holds them.
    - `uploaded_by`: the name of the API key that it came with.
    - `facts`: those of ffengine.uploads.Upload or ffengine.uploaded_weights.UploadedNetwork.
    """

    kind: Kind
    name: str
    digest: str
    file_digest: str
    file_bytes: int
    uploaded_by: str | None
    facts: Document


class StoredUpload(NamedTuple):
    """An upload as it is stored: its draft, and when that was, in seconds since 1970."""

    kind: Kind
    name: str
    digest: str
    file_digest: str
    file_bytes: int
    uploaded_by: str | None
    facts: Document
    created_at: float


class Uploads:
    """The uploads of the service. A name stands for one content until it is removed or replaced."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, draft: UploadDraft, *, replace: bool = False) -> StoredUpload:
        """Store the facts of an upload, and return what is stored under its name.

        That is what was there already where the name has the same content. `replace`: other content
        that has the name gives way. Otherwise raises UploadTaken.
        """
        with self._database.writing() as session:
            row = session.get(UploadRow, (draft.kind, draft.name), with_for_update=True)
            if row is not None:
                there = _stored(row)
                if there.file_digest == draft.file_digest and there.digest == draft.digest:
                    return there
                if there.digest != draft.digest and not replace:
                    raise UploadTaken(there)
                session.delete(row)
                session.flush()
            made = StoredUpload(*draft, created_at=Database.now(session))
            session.execute(insert(UploadRow).values(**made._asdict()))
            note(
                session,
                "upload",
                draft.name,
                kind=draft.kind,
                bytes=draft.file_bytes,
                replaced=row is not None,
            )
            return made

    def find(self, kind: Kind, name: str) -> StoredUpload | None:
        """The upload of that name; None where there is none."""
        with self._database.reading() as session:
            row = session.get(UploadRow, (kind, name))
            return _stored(row) if row else None

    def with_digest(self, kind: Kind, digest: str) -> StoredUpload | None:
        """An upload with those arrays, whatever its name; None where there is none."""
        same = select(UploadRow).where(UploadRow.kind == kind, UploadRow.digest == digest)
        with self._database.reading() as session:
            row = session.scalar(same.order_by(UploadRow.name).limit(1))
            return _stored(row) if row else None

    def all(self, kind: Kind | None = None) -> list[StoredUpload]:
        """All uploads, or those of a kind, in the order of their names."""
        query = select(UploadRow).order_by(UploadRow.kind, UploadRow.name)
        if kind is not None:
            query = query.where(UploadRow.kind == kind)
        with self._database.reading() as session:
            return [_stored(row) for row in session.scalars(query)]

    def remove(self, kind: Kind, name: str) -> None:
        """Forget an upload, if there is one of that name."""
        which = (UploadRow.kind == kind, UploadRow.name == name)
        with self._database.writing() as session:
            gone = session.scalars(delete(UploadRow).where(*which).returning(UploadRow.name)).all()
            if gone:
                note(session, "remove-upload", name, kind=kind)

    def is_named(self, file_digest: str) -> bool:
        """Whether an upload is in the file with that digest."""
        query = select(UploadRow.name).where(UploadRow.file_digest == file_digest).limit(1)
        with self._database.reading() as session:
            return session.scalar(query) is not None


def _stored(row: UploadRow) -> StoredUpload:
    found: dict[str, Any] = {name: getattr(row, name) for name in StoredUpload._fields}
    return StoredUpload(**found)
