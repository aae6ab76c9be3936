"""What a place for files can do, whichever it is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

DIGEST_BYTES = 32  # of sha256, in front of the content of every file that has one
DRAFT = ".part"  # how names end of what is being written


class Files(ABC):
    """Files in folders of one level, each known by a key FOLDER/NAME, or by a NAME alone.

    A reader sees the old content of a file or the new. What cannot be done raises OSError;
    FileNotFoundError where there is no such file.
    """

    @property
    @abstractmethod
    def place(self) -> str:
        """The place, as messages name it."""

    @property
    @abstractmethod
    def disk(self) -> Path | None:
        """The folder whose disk a written file takes room on; None: on none of this machine."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Read a file."""

    @abstractmethod
    def read_head(self, key: str) -> bytes:
        """Read the first DIGEST_BYTES of a file."""

    @abstractmethod
    def write(self, key: str, *parts: bytes) -> None:
        """Write a file durably and atomically."""

    @abstractmethod
    def write_once(self, key: str, content: bytes) -> None:
        """Write a file durably, unless it is there: of several writers the first one wins."""

    @abstractmethod
    def write_from(self, key: str, source: Path) -> None:
        """Write the content of a file of this machine, which may be large and is never changed."""

    @abstractmethod
    def read_into(self, key: str, target: Path) -> None:
        """Read a file, which may be large, into one of this machine."""

    @abstractmethod
    def is_there(self, key: str) -> bool:
        """Whether there is such a file."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """List the names of the finished files of a folder, sorted."""

    @abstractmethod
    def folders(self) -> list[str]:
        """List the names of all folders, sorted."""

    @abstractmethod
    def changed_at(self, folder: str) -> float:
        """Return when a folder was last written, in seconds since 1970; infinity: it is gone."""

    @abstractmethod
    def written_at(self, key: str) -> float:
        """Return when a file was written, by the clock of the place, in seconds since 1970."""

    @abstractmethod
    def size(self, folder: str) -> int:
        """Return the bytes of the files of a folder."""

    @abstractmethod
    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield names of folders with bytes of files in them, portion by portion."""

    @abstractmethod
    def delete(self, folder: str) -> bool:
        """Remove a folder with its files; whether it is gone."""

    @abstractmethod
    def tidy(self, folder: str) -> None:
        """Remove what killed writers left unfinished in a folder.

        A writer that was only slow gets an OSError.
        """
