"""A bucket of Amazon S3, or of any server that speaks its protocol, such as MinIO.

Credentials, region and endpoint come from where all programs for S3 look for them: AWS_PROFILE,
AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and the others.
"""

import contextlib
import errno
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service.storage.files import DIGEST_BYTES, Files
from service.storage.place import SCHEME

CONNECT_SECONDS, READ_SECONDS = 5, 60
TRIES = 3


class Bucket(Files):
    """Files below a prefix of a bucket. An object appears whole, once it is stored."""

    def __init__(self, address: str) -> None:
        self.address, self._path = address, address.removeprefix(SCHEME)
        self._opened: tuple[int, Any] | None = None
        self._lock = threading.Lock()

    @property
    def place(self) -> str:
        return self.address

    @property
    def disk(self) -> None:
        return None

    @property
    def _s3(self) -> Any:
        """The connection of this process: a thread of fsspec has it, which forks leave behind."""
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                self._opened = os.getpid(), _opened()
            return self._opened[1]

    def _at(self, key: str) -> str:
        return f"{self._path}/{key}"

    def read(self, key: str) -> bytes:
        with _as_os_error():
            content: bytes = self._s3.cat_file(self._at(key), max_concurrency=1)
            return content

    def read_head(self, key: str) -> bytes:
        try:
            with _as_os_error():
                head: bytes = self._s3.cat_file(self._at(key), start=0, end=DIGEST_BYTES)
                return head
        except OSError as error:
            if error.errno == errno.EINVAL:  # no such range: an empty object
                return b""
            raise

    def write(self, key: str, *parts: bytes) -> None:
        with _as_os_error():
            self._s3.pipe_file(self._at(key), b"".join(parts))

    def write_once(self, key: str, content: bytes) -> None:
        with _as_os_error(), contextlib.suppress(FileExistsError):
            try:
                self._s3.pipe_file(self._at(key), content, mode="create")
            except OSError as error:
                if "PreconditionFailed" not in f"{error}{error.__cause__!r}":
                    raise

    def write_from(self, key: str, source: Path) -> None:
        with _as_os_error():
            self._s3.put_file(str(source), self._at(key))

    def read_into(self, key: str, target: Path) -> None:
        with _as_os_error():
            self._s3.get_file(self._at(key), str(target))

    def is_there(self, key: str) -> bool:
        with _as_os_error():
            return bool(self._s3.isfile(self._at(key)))

    def remove(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError), _as_os_error():
            self._s3.rm_file(self._at(key))

    def names(self, folder: str) -> list[str]:
        return sorted(key.rpartition("/")[2] for key in self._below(folder))

    def folders(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError), _as_os_error():
            found = self._s3.ls(self._path, detail=False)
            return sorted(path.rstrip("/").rpartition("/")[2] for path in found)
        return []

    def changed_at(self, folder: str) -> float:
        times = [facts["LastModified"].timestamp() for facts in self._below(folder).values()]
        return max(times, default=float("inf"))

    def written_at(self, key: str) -> float:
        with _as_os_error():
            return float(self._s3.info(self._at(key))["LastModified"].timestamp())

    def size(self, folder: str) -> int:
        return sum(int(facts["size"]) for facts in self._below(folder).values())

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield all at once: one request has a thousand objects, whatever their folders."""
        found: defaultdict[str, int] = defaultdict(int)
        for key, facts in self._below("").items():
            folder, _, name = key.removeprefix(f"{self._path}/").rpartition("/")
            found[folder or name] += int(facts["size"])
        yield from found.items()

    def delete(self, folder: str) -> bool:
        try:
            if found := list(self._below(folder)):
                with _as_os_error():
                    self._s3.rm(found)
            return not self._below(folder)
        except OSError:
            return False

    def tidy(self, folder: str) -> None:
        bucket, _, prefix = self._at(folder).partition("/")
        with _as_os_error():
            found = self._s3.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/")
            for upload in found.get("Uploads") or []:
                self._s3.call_s3(
                    "abort_multipart_upload",
                    Bucket=bucket,
                    Key=upload["Key"],
                    UploadId=upload["UploadId"],
                )

    def _below(self, folder: str) -> dict[str, dict[str, Any]]:
        """List the objects of a folder, or of all: the facts of each by its path."""
        with contextlib.suppress(FileNotFoundError), _as_os_error():
            at = f"{self._at(folder) if folder else self._path}/"
            found: dict[str, dict[str, Any]] = self._s3.find(at, detail=True)
            return {path: facts for path, facts in found.items() if path.startswith(at)}
        return {}


def _opened() -> Any:
    from s3fs import S3FileSystem

    return S3FileSystem(
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs={
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"max_attempts": TRIES},
        },
    )


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Raise as OSError what S3 and the network raise of their own: the place cannot be used.

    A bucket that is not there is no file that is not there: it holds all files.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise OSError(errno.EIO, str(error)) from error
    except FileNotFoundError as error:
        cause = error.__cause__
        if isinstance(cause, ClientError) and cause.response["Error"]["Code"] == "NoSuchBucket":
            raise OSError(errno.ENXIO, str(error)) from error
        raise
