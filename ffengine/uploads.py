"""Data sets that users bring: read from an .npz of unknown origin, checked before anything is
allocated, kept once and never changed.

An archive holds `x` (N, ...) bytes or floats and `y` (N,) integers, and optionally `x_test` and
`y_test`. Without those, a fifth of every class is held out for the test partition.
"""

import contextlib
import fcntl
import math
import os
import re
import shutil
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from ffengine.arrays import Arrays, DatasetError, Images, Labels, digest_of
from ffengine.input_figures import InputFigures, measured
from ffengine.text import user_text

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
MAX_BYTES = 2**32  # of an upload's arrays
MAX_CLASSES = 1_000
LONGEST_MEANING = 500
NAMED_JOBS = 5
HELD_OUT = 0.2
# how folders begin that hold an upload while it is removed: put aside, and let go
ASIDE, GONE = ".aside-", ".gone-"
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
MEMBERS = ("x", "y", "x_test", "y_test")


class NameTaken(DatasetError):
    """Other arrays have that name already."""


class InUse(DatasetError):
    """An upload is not removed because unfinished jobs need it; `jobs` are their ids."""

    def __init__(self, name: str, jobs: Sequence[str]) -> None:
        self.jobs = tuple(jobs)
        named = ", ".join(self.jobs[:NAMED_JOBS])
        more = f" and {len(self.jobs) - NAMED_JOBS} more" if len(self.jobs) > NAMED_JOBS else ""
        super().__init__(
            f"{name} is needed by {named}{more}; wait until they have ended, or cancel them"
        )


class Upload(BaseModel):
    """What is known of an uploaded data set; kept beside its arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    meaning: str
    shape: tuple[int, int, int]
    classes: int
    class_counts: tuple[int, ...]
    train_samples: int
    test_samples: int
    digest: str
    held_out: bool  # whether the test samples were split off here
    uploaded_by: str | None = None  # the name of the API key; None where none was needed
    figures: InputFigures | None = None  # None: kept by a version that did not measure


def keep(
    name: str,
    source: IO[bytes],
    folder: Path,
    meaning: str = "",
    *,
    others: Sequence[Path] = (),
    uploaded_by: str | None = None,
) -> Upload:
    """Read and check an archive, and keep it under a new name.

    **Arguments:**

    - `name`: what specs call the data set.
    - `source`: the .npz file.
    - `folder`: where uploads are kept; it is made where it does not exist.
    - `meaning`: one sentence about the data set.
    - `others`: more folders of uploads, where the name must not stand for other arrays. Nothing is
      written there.
    - `uploaded_by`: who brings it.

    **Returns:**

    The facts of the data set. Where the same arrays have that name already, those that were kept
    then.

    **Raises:**

    - `NameTaken`: other arrays have that name.
    - `DatasetError`: the name cannot be used, the archive is not valid, or it cannot be written.
    """
    if not NAME.fullmatch(name):
        raise DatasetError(
            f"the name {name[:80]!r} cannot be used: lower-case letters, digits, '.', '_' and "
            f"'-', at most 63, no '.' first"
        )
    try:
        meaning = user_text(meaning, LONGEST_MEANING) if meaning else "Uploaded."
    except ValueError as error:
        raise DatasetError(f"meaning: {error}") from error
    arrays, held_out = partitioned(read_archive(source))
    upload = Upload(
        name=name,
        meaning=meaning,
        shape=arrays.x_train.shape[1:],
        classes=int(arrays.y_train.max()) + 1,
        class_counts=tuple(np.bincount(arrays.y_train).tolist()),
        train_samples=len(arrays.y_train),
        test_samples=len(arrays.y_test),
        digest=digest_of(arrays),
        held_out=held_out,
        uploaded_by=uploaded_by,
        figures=measured(arrays),
    )
    for other in others:
        if (other / name).exists():
            return _same(upload, other)
    return upload if _stored(upload, arrays, folder) else _same(upload, folder)


def _same(upload: Upload, folder: Path) -> Upload:
    """Return the upload of that name in a folder; raise NameTaken where its arrays are others.

    Its meaning is the one that it was kept with.
    """
    there = find(upload.name, folder)
    if there is None or there.digest != upload.digest:
        was = f"with digest {there.digest[:16]}..." if there else "but its files are damaged"
        raise NameTaken(
            f"{upload.name!r} is taken, {was}; a data set never changes, so choose another name"
        )
    return there


def remove(name: str, folder: Path, needed_by: Callable[[], Sequence[str]]) -> None:
    """Remove an upload, unless something needs it.

    It is put aside before the question is asked, so that what begins meanwhile does not find it. It
    is put back where something needs it, and where the question has no answer. `recover` puts it
    back where the process dies meanwhile.

    **Arguments:**

    - `name`: of the upload.
    - `folder`: where it is kept.
    - `needed_by`: names what needs the upload. What it raises is raised.

    **Raises:**

    - `InUse`: something needs it.
    - `DatasetError`: the folder cannot be written.
    """
    try:
        with _locked(folder):
            aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=folder))
            try:
                gone = _let_go(name, aside, folder, needed_by)
            finally:
                _remove_empty(aside)
            shutil.rmtree(gone)
    except OSError as error:
        raise DatasetError(f"{name}: cannot be removed from {folder} ({error})") from error


def _let_go(name: str, aside: Path, folder: Path, needed_by: Callable[[], Sequence[str]]) -> Path:
    """Return the folder of an upload that nothing needs; put it back in any other case."""
    (folder / name).rename(aside / name)
    try:
        if needing := needed_by():
            raise InUse(name, needing)
        return aside.rename(folder / f"{GONE}{aside.name.removeprefix(ASIDE)}")
    except BaseException:
        (aside / name).rename(folder / name)
        raise


def recover(folder: Path) -> list[str]:
    """Finish what a process that died left half done: put back what it put aside.

    **Arguments:**

    - `folder`: where uploads are kept. Nothing is done while a living process removes one from it.

    **Returns:**

    What was done, and what must be done by hand, in words.
    """
    try:
        with _locked(folder, wait=False):
            return _recovered(folder)
    except OSError:  # there is no such folder, it cannot be written, or another process is at it
        return []


def _recovered(folder: Path) -> list[str]:
    for gone in folder.glob(f"{GONE}*"):  # nothing needed it
        shutil.rmtree(gone, ignore_errors=True)
    told = []
    # earlier versions had no name of their own for what is put aside
    for place in sorted(folder.glob(".*/*/facts.json")):
        path = place.parent
        upload, other = find(path.name, path.parent), find(path.name, folder)
        if upload is None:
            continue
        if other and other.digest == upload.digest:
            shutil.rmtree(path)
        elif (folder / path.name).exists():
            told.append(
                f"{path} is an upload whose name stands for other arrays now: it is put back once "
                f"the data set {path.name} is removed; or remove that folder"
            )
            continue
        else:
            path.rename(folder / path.name)
            told.append(f"{path.name} is put back into {folder}: its removal was not finished")
        _remove_empty(path.parent)
    for aside in folder.glob(f"{ASIDE}*"):
        _remove_empty(aside)
    return told


def _remove_empty(folder: Path) -> None:
    """Remove a folder unless there is something in it, or it is gone already."""
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder of uploads, which ends with the process.

    Raises OSError where the folder is not there or, without `wait`, where there is no lock to have.
    Some network file systems cannot lock a folder: with `wait` that is no reason to stop.
    """
    opened = os.open(folder, os.O_RDONLY)
    try:
        if wait:
            with contextlib.suppress(OSError):
                fcntl.flock(opened, fcntl.LOCK_EX)
        else:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)


def find(name: str, folder: Path) -> Upload | None:
    """Find the facts of an upload.

    **Arguments:**

    - `name`: of the upload.
    - `folder`: where uploads are kept.

    **Returns:**

    The facts; None where no upload has that name.
    """
    if not NAME.fullmatch(name):
        return None
    try:
        return Upload.model_validate_json((folder / name / "facts.json").read_bytes())
    except (OSError, ValidationError):
        return None


def names(folder: Path) -> list[str]:
    """List the names of all uploads in a folder, in alphabetical order.

    **Arguments:**

    - `folder`: where uploads are kept.

    **Returns:**

    The names; none where the folder does not exist or cannot be read.
    """
    try:
        return sorted(path.name for path in folder.iterdir() if find(path.name, folder))
    except OSError:  # there is no such folder, or it cannot be read
        return []


def arrays_file(name: str, folder: Path) -> Path:
    """Return the path of the file with the arrays of an upload.

    **Arguments:**

    - `name`: of the upload.
    - `folder`: where uploads are kept.

    **Returns:**

    The path.
    """
    return folder / name / "arrays.npz"


def arrays_of(name: str, folder: Path) -> Arrays:
    """Read the arrays of an upload.

    **Arguments:**

    - `name`: of the upload.
    - `folder`: where uploads are kept.

    **Returns:**

    The arrays.

    **Raises:**

    - `DatasetError`: they cannot be read.
    """
    path = arrays_file(name, folder)
    try:
        # opened here: numpy leaves a file open that it opened itself and cannot read
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return Arrays(**{key: archive[key] for key in Arrays._fields})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{name}: {path} cannot be read ({error})") from error


def _stored(upload: Upload, arrays: Arrays, folder: Path) -> bool:
    """Put an upload into its folder by one rename, so that no reader sees half of it.

    Returns False where another writer was first.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".", dir=folder))
    except OSError as error:
        raise DatasetError(f"{upload.name}: cannot be kept in {folder} ({error})") from error
    try:
        np.savez(fresh / "arrays.npz", **arrays._asdict())
        (fresh / "facts.json").write_text(upload.model_dump_json(exclude_none=True))
        fresh.chmod(0o755)
        fresh.replace(folder / upload.name)
    except OSError as error:
        if (folder / upload.name).is_dir():
            return False
        raise DatasetError(f"{upload.name}: cannot be kept in {folder} ({error})") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return True


# The archive


class Header(NamedTuple):
    """What a member of an .npz declares."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[np.generic]

    @property
    def bytes(self) -> int:
        """The size of its data, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_archive(source: IO[bytes]) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of an .npz by name.

    Names, count, sizes and types are checked first; nothing is ever unpickled.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            members = _members(archive)
            headers = {name: _header(archive, info) for name, info in members.items()}
            total = sum(header.bytes for header in headers.values())
            if total > MAX_BYTES:
                raise DatasetError(
                    f"the arrays are {total:,} bytes; at most {MAX_BYTES:,} are taken"
                )
            _refuse_misfits(headers)
            return {
                name: _array(archive, members[name], header) for name, header in headers.items()
            }
    except DAMAGED as error:
        raise DatasetError(
            f"not a readable .npz archive ({' '.join(str(error).split())[:200]})"
        ) from error


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
        version = np.lib.format.read_magic(file)
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
            header = Header(*read(file, max_header_size=10_000))
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
        if any(size < 0 for size in header.shape) or file.tell() + header.bytes != info.file_size:
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
    if "x_test" in headers and (headers["x_test"].shape[1:], headers["x_test"].dtype) != (
        headers["x"].shape[1:],
        headers["x"].dtype,
    ):
        raise DatasetError("x_test has samples of another shape or type than x")


def _array(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: Header
) -> npt.NDArray[np.generic]:
    with archive.open(info) as file:
        raw = file.read()
    flat = np.frombuffer(raw, dtype=header.dtype, offset=len(raw) - header.bytes)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


# From what was brought to what is kept


def partitioned(found: dict[str, npt.NDArray[np.generic]]) -> tuple[Arrays, bool]:
    """Images as (N, channels, height, width), labels 0 to C - 1, and whether the test samples were
    held out of x here.
    """
    x, y = _images("x", found["x"]), _labels("y", found["y"])
    classes = int(y.max()) + 1
    missing = np.flatnonzero(np.bincount(y, minlength=classes) == 0)
    if classes < 2 or classes > MAX_CLASSES or len(missing):
        gap = f", and none of {missing[0]}" if len(missing) else ""
        raise DatasetError(
            f"y has labels up to {classes - 1}{gap}; expected every one from 0 to C - 1, C from 2 "
            f"to {MAX_CLASSES}"
        )
    if "x_test" in found:
        x_test, y_test = _images("x_test", found["x_test"]), _labels("y_test", found["y_test"])
        if int(y_test.max()) >= classes:
            raise DatasetError(f"y_test has label {int(y_test.max())}, which y has not")
        return Arrays(x, y, x_test, y_test), False
    test = held_out(y)
    return Arrays(x[~test], y[~test], x[test], y[test]), True


def held_out(labels: Labels) -> npt.NDArray[np.bool_]:
    """Which samples are the test partition: a fifth of every class, rounded, drawn by a fixed
    generator.
    """
    chosen = np.zeros(len(labels), dtype=np.bool_)
    generator = np.random.Generator(np.random.PCG64(0))
    for label in range(int(labels.max()) + 1):
        of_class = generator.permutation(np.flatnonzero(labels == label))
        chosen[of_class[: round(HELD_OUT * len(of_class))]] = True
    if not chosen.any() or chosen.all():
        raise DatasetError(
            f"{len(labels)} samples are too few to hold a fifth of every class out; bring x_test "
            f"and y_test"
        )
    return chosen


def _images(name: str, array: npt.NDArray[np.generic]) -> Images:
    shape = array.shape[1:]
    images: Images
    if array.dtype == np.uint8:
        images = np.ascontiguousarray(array, dtype=np.uint8)
    else:
        with np.errstate(over="ignore"):
            images = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(images).all():
            raise DatasetError(f"{name} has values that are not finite numbers of float32")
    return images.reshape(len(array), *(1,) * (3 - len(shape)), *shape)


def _labels(name: str, array: npt.NDArray[np.generic]) -> Labels:
    if int(array.min()) < 0 or int(array.max()) >= MAX_CLASSES:
        raise DatasetError(
            f"{name} has labels from {array.min()} to {array.max()}; expected 0 to at most "
            f"{MAX_CLASSES - 1}"
        )
    return array.astype(np.int64)
