"""An .npz of unknown origin, read in blocks of samples.

Names, count, sizes and types of its members are checked by their headers before any data is read.
Nothing is ever unpickled, and whatever the archive says of itself, no more than a block is held in
memory.
"""

import io
import math
import string
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from ffengine.arrays import DatasetError

MEMBERS = ("x", "y", "x_test", "y_test")
BLOCK_BYTES = 4 * 2**20  # read at a time, if a sample is not larger
MOST_INPUTS = 2**22  # of a sample
MOST_SAMPLES = 10_000_000
# an array in Fortran's order has its samples mingled, so it is read as a whole
MOST_FORTRAN_BYTES = 256 * 2**20
MOST_HEADER_BYTES = 10_000
PREFIX_BYTES = 12  # before a header: magic, version and length
# four members and their names need less than a kilobyte
MOST_DIRECTORY_BYTES = 2**16
DIRECTORY_END, DIRECTORY_END_64 = b"PK\5\6", b"PK\6\7"
END_BYTES, END_64_BYTES, LONGEST_COMMENT = 22, 20, 2**16 - 1
# how files begin that people send in the place of an .npz
HEAD_BYTES = 64
ARCHIVE = b"PK"
KINDS = {
    b"\x93NUMPY": "an .npy, which holds one array",
    b"\x1f\x8b": "compressed with gzip",
    b"\x89HDF": "HDF5",
    b"PAR1": "Parquet",
    b"\x80": "a pickle",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
PRINTABLE = frozenset(string.printable.encode())
EXPECTED = "x (N, ...) and y (N,), as numpy.savez('data.npz', x=x, y=y) writes them"
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    SyntaxError,
)
# of a header, which numpy reads as a literal of Python
ILLEGIBLE = (
    tokenize.TokenError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    MemoryError,
    RecursionError,
)

Block = npt.NDArray[np.generic]


class Header(NamedTuple):
    """What a member of an .npz declares, and where its data begins."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[np.generic]
    offset: int = 0

    @property
    def bytes(self) -> int:
        """The size of its data, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class NpzArchive:
    """The members of an archive.

    **Attributes:**

    - `headers`: what each member declares, by name.
    """

    headers: dict[str, Header]

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members = _members(archive)
        self.headers = {name: _header(archive, info) for name, info in self._members.items()}
        _refuse_misfits(self.headers)

    def blocks(self, name: str) -> Iterator[tuple[int, Block]]:
        """Yield the samples of a member in blocks (B, ...), each with its place in the member.

        **Arguments:**

        - `name`: of a member that is there.

        **Raises:**

        - `DatasetError`: the member is damaged.
        """
        header = self.headers[name]
        of_sample = header.bytes // header.shape[0]
        at_once = max(1, BLOCK_BYTES // of_sample)
        with _legibly(), self._archive.open(self._members[name]) as file:
            _read(file, header.offset)
            whole = None
            if header.fortran:
                raw = np.frombuffer(_read(file, header.bytes), dtype=header.dtype)
                whole = raw.reshape(header.shape, order="F")
            for first in range(0, header.shape[0], at_once):
                count = min(at_once, header.shape[0] - first)
                if whole is not None:
                    yield first, whole[first : first + count]
                    continue
                raw = np.frombuffer(_read(file, count * of_sample), dtype=header.dtype)
                yield first, raw.reshape(count, *header.shape[1:])
            file.read(1)  # the end: now the checksum of the member is compared


@contextmanager
def opened(source: IO[bytes]) -> Iterator[NpzArchive]:
    """Open an .npz and check what its members declare.

    **Arguments:**

    - `source`: the file.

    **Raises:**

    - `DatasetError`: it is not an archive of the members that are expected, or too large.
    """
    _refuse_other_files(source)
    with _legibly():
        refuse_long_directory(source)
        archive = zipfile.ZipFile(source)
    with archive:
        with _legibly():
            found = NpzArchive(archive)
        yield found


@contextmanager
def _legibly() -> Iterator[None]:
    """Raise DatasetError where an archive cannot be read."""
    try:
        yield
    except DAMAGED as error:
        raise DatasetError(
            f"not a readable .npz archive ({' '.join(str(error).split())[:200]})"
        ) from error


def refusal_of(head: bytes) -> str | None:
    """Say what a file is instead of an .npz, and what is expected.

    **Arguments:**

    - `head`: its first bytes, HEAD_BYTES of them where it has so many.

    **Returns:**

    One sentence; None where the file may be an .npz.
    """
    if head.startswith(ARCHIVE):
        return None
    known = (what for begin, what in KINDS.items() if head.startswith(begin))
    is_text = all(byte in PRINTABLE for byte in head)
    what = "empty" if not head else next(known, "text" if is_text else "of another kind")
    return f"not a readable .npz archive: the file is {what}; expected {EXPECTED}"


def _refuse_other_files(source: IO[bytes]) -> None:
    """Raise DatasetError for a file that is no archive at all."""
    source.seek(0)
    head = source.read(HEAD_BYTES)
    source.seek(0)
    if refusal := refusal_of(head):
        raise DatasetError(refusal)


def _read(file: IO[bytes], count: int) -> bytes:
    """Read so many bytes. Raises EOFError where there are fewer."""
    raw = file.read(count)
    if len(raw) != count:
        raise EOFError("a member ends early")
    return raw


def refuse_long_directory(
    source: IO[bytes],
    most_bytes: int = MOST_DIRECTORY_BYTES,
    expected: str = f"{', '.join(MEMBERS)} as .npy, each once",
) -> None:
    """Refuse an archive whose list of members is so long that it cannot be what is expected.

    `zipfile` reads the whole list into memory. It looks for the end of the list in the same places.

    **Arguments:**

    - `source`: the file. It is at its beginning afterwards.
    - `most_bytes`: how long the list may be.
    - `expected`: which members, for the message.

    **Raises:**

    - `DatasetError`: it is longer.
    """
    size = source.seek(0, io.SEEK_END)
    source.seek(max(0, size - END_64_BYTES - END_BYTES - LONGEST_COMMENT))
    tail = source.read()
    source.seek(0)
    at = len(tail) - END_BYTES
    if at < 0 or tail[at : at + 4] != DIRECTORY_END or tail[-2:] != b"\0\0":
        at = tail.rfind(DIRECTORY_END)
    if at < 0 or len(tail) < at + END_BYTES:
        return  # zipfile finds no end either, and says so
    (directory,) = struct.unpack_from("<L", tail, at + 12)
    is_64 = at >= END_64_BYTES and tail[at - END_64_BYTES :][:4] == DIRECTORY_END_64
    if is_64 or directory > most_bytes:
        raise DatasetError(f"the archive has too many members; expected {expected}")


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist()[: len(MEMBERS) + 1]:
        name = info.filename.removesuffix(".npy")
        if name not in MEMBERS or name in found or info.filename != f"{name}.npy":
            raise DatasetError(
                f"the archive has {info.filename[:80]!r}; expected {', '.join(MEMBERS)} as .npy, "
                f"each once"
            )
        if info.flag_bits & 1 or info.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise DatasetError(
                f"{info.filename} is encrypted or packed as numpy does not; write it with "
                f"numpy.savez"
            )
        found[name] = info
    if not {"x", "y"} <= found.keys() or ("x_test" in found) != ("y_test" in found):
        raise DatasetError(
            f"the archive has {', '.join(found) or 'nothing'}; expected x and y, and x_test with "
            f"y_test or neither"
        )
    return found


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
    with archive.open(info) as file:
        # numpy would read a header of any length before it looks at the length
        head = io.BytesIO(file.read(PREFIX_BYTES + MOST_HEADER_BYTES))
    version = np.lib.format.read_magic(head)
    if version not in ((1, 0), (2, 0)):
        raise DatasetError(
            f"{info.filename}: format version {version} of .npy; expected 1.0 or 2.0"
        )
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    try:
        header = Header(*read(head, max_header_size=MOST_HEADER_BYTES), offset=head.tell())
    except ILLEGIBLE as error:
        raise DatasetError(
            f"not a readable .npz archive: the header of {info.filename} is none; write it "
            f"with numpy.savez"
        ) from error
    if header.dtype.hasobject:  # pickled, so of any size; nothing is ever unpickled
        raise DatasetError(
            f"{info.filename} has dtype {header.dtype}, which holds Python objects; expected "
            f"numbers: uint8 or floats for x, integers for y"
        )
    if any(size < 0 for size in header.shape) or header.offset + header.bytes != info.file_size:
        raise DatasetError(
            f"{info.filename}: declares {header.dtype} {header.shape}, which is not the size "
            f"of its data"
        )
    return header


def _refuse_misfits(headers: dict[str, Header]) -> None:
    for suffix in ("", "_test"):
        x, y = headers.get(f"x{suffix}"), headers.get(f"y{suffix}")
        if x is None or y is None:
            continue
        if x.dtype != np.uint8 and x.dtype.kind != "f":
            raise DatasetError(f"x{suffix} is {x.dtype}; expected uint8 or floats")
        if y.dtype.kind not in "iu":
            raise DatasetError(f"y{suffix} is {y.dtype}; expected integers")
        if not 2 <= len(x.shape) <= 4 or len(y.shape) != 1 or x.shape[0] != y.shape[0]:
            raise DatasetError(
                f"x{suffix} is {x.shape} and y{suffix} {y.shape}; expected (N, ...) of two to "
                f"four axes, and (N,)"
            )
        if math.prod(x.shape[1:]) < 2 or x.shape[0] < 2:
            raise DatasetError(
                f"x{suffix} is {x.shape}; at least two samples of at least two inputs are needed"
            )
        if x.shape[0] > MOST_SAMPLES or math.prod(x.shape[1:]) > MOST_INPUTS:
            raise DatasetError(
                f"x{suffix} is {x.shape}; at most {MOST_SAMPLES:,} samples of at most "
                f"{MOST_INPUTS:,} inputs are taken"
            )
        if x.fortran and x.bytes > MOST_FORTRAN_BYTES:
            raise DatasetError(
                f"x{suffix} is in Fortran's order, of which at most {MOST_FORTRAN_BYTES:,} bytes "
                f"are taken; write it with numpy.ascontiguousarray(x)"
            )
    if "x_test" in headers and (headers["x_test"].shape[1:], headers["x_test"].dtype) != (
        headers["x"].shape[1:],
        headers["x"].dtype,
    ):
        raise DatasetError("x_test has samples of another shape or type than x")
