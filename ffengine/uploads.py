"""Data sets that users bring: checked, converted block by block, kept once and never changed.

An archive holds `x` (N, ...) bytes or floats and `y` (N,) integers, and optionally `x_test` and
`y_test`. Without those, a fifth of every class is held out for the test partition.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import math
import os
import re
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from ffengine.archives import NpzArchive, opened
from ffengine.arrays import Arrays, DatasetError, Labels, described
from ffengine.durable import make_folder, sync, sync_files
from ffengine.input_figures import InputFigures, measured
from ffengine.text import user_text

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
MAX_BYTES = 2**32  # of an upload's arrays
MAX_CLASSES = 1_000
LONGEST_MEANING = 500
NAMED_JOBS = 5
HELD_OUT = 0.2
LABEL_BYTES = 8  # of int64
LOCAL_NAMES_AT = 26  # where a member of a zip file says how long its name and what follows it are
DRAFT = ".draft-"  # what a folder that is being written is called, followed by random letters
# how folders begin that hold an upload while it is removed: put aside, and let go
ASIDE, GONE = ".aside-", ".gone-"


class NameTaken(DatasetError):
    """Other arrays have that name already."""


class NotStored(DatasetError):
    """Arrays could not be written, which is not their fault; `error` is the file system's."""

    def __init__(self, name: str, folder: Path, error: OSError) -> None:
        self.folder, self.error = folder, error
        super().__init__(f"{name}: cannot be kept in {folder} ({error})")


class InUse(DatasetError):
    """An upload is not removed because unfinished jobs need it; `jobs` are their ids."""

    def __init__(self, name: str, jobs: Sequence[str]) -> None:
        self.jobs = tuple(jobs)
        named = ", ".join(self.jobs[:NAMED_JOBS])
        more = f" and {len(self.jobs) - NAMED_JOBS} more" if len(self.jobs) > NAMED_JOBS else ""
        super().__init__(
            f"{name} is needed by {named}{more}; wait until they have ended, or cancel them"
        )


class Kept(Protocol):
    """The facts of what was uploaded, of whatever kind."""

    @property
    def digest(self) -> str:
        """Which content it is."""


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
    max_bytes: int | None = None,
    admit: Callable[[int], None] = lambda _bytes: None,
) -> Upload:
    """Read and check an archive block by block, and keep it under a new name.

    **Arguments:**

    - `name`: what specs call the data set.
    - `source`: the .npz file.
    - `folder`: where uploads are kept; it is made where it does not exist.
    - `meaning`: one sentence about the data set.
    - `others`: more folders of uploads, where the name must not stand for other arrays. Nothing is
      written there.
    - `uploaded_by`: who brings it.
    - `max_bytes`: how large the arrays may be; None: MAX_BYTES.
    - `admit`: is called with the size of the arrays before they are written, and may raise.

    **Returns:**

    The facts of the data set. Where the same arrays have that name already, those that were kept
    then.

    **Raises:**

    - `NameTaken`: other arrays have that name.
    - `NotStored`: it cannot be written.
    - `DatasetError`: the name cannot be used, or the archive is not valid.
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
    with opened(source) as archive:
        found = _Conversion(archive, MAX_BYTES if max_bytes is None else max_bytes)
        train, test = found.labels
        facts = partial(
            Upload,
            name=name,
            meaning=meaning,
            shape=found.shape[-3:],
            classes=int(train.max()) + 1,
            class_counts=tuple(np.bincount(train).tolist()),
            train_samples=len(train),
            test_samples=len(test),
            held_out=found.held_out,
            uploaded_by=uploaded_by,
        )
        for taken in (*others, folder):
            if (taken / name).exists():
                return _same(facts(digest=_written(found.parts(), None)), taken)
        admit(found.bytes)
        return _stored(name, facts, found.parts(), folder)


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


def recover(folder: Path, find: Callable[[str, Path], Kept | None] | None = None) -> list[str]:
    """Finish what a process that died left half done: put back what it put aside.

    **Arguments:**

    - `folder`: where uploads are kept. Nothing is done while a living process removes one from it.
    - `find`: finds the facts of an upload there; None: as of data sets.

    **Returns:**

    What was done, and what must be done by hand, in words.
    """
    try:
        with _locked(folder, wait=False):
            return _recovered(folder, find or _kept)
    except OSError:  # there is no such folder, it cannot be written, or another process is at it
        return []


def _kept(name: str, folder: Path) -> Kept | None:
    return find(name, folder)


def _recovered(folder: Path, find: Callable[[str, Path], Kept | None]) -> list[str]:
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
                f"{path.name} is removed; or remove that folder"
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


def mapped(name: str, folder: Path) -> Arrays:
    """Map the arrays of an upload into memory, so that only what is looked at is read.

    They are not compared with their digest.

    **Arguments:**

    - `name`: of the upload.
    - `folder`: where uploads are kept.

    **Returns:**

    The arrays, read-only.

    **Raises:**

    - `DatasetError`: they cannot be read.
    """
    try:
        return mapped_file(arrays_file(name, folder))
    except DatasetError as error:
        raise DatasetError(f"{name}: {error}") from error


def mapped_file(path: Path) -> Arrays:
    """Map the arrays of an .npz that is not compressed into memory.

    **Arguments:**

    - `path`: of the file.

    **Returns:**

    The arrays, read-only.

    **Raises:**

    - `DatasetError`: they cannot be read.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            return Arrays(
                *(_mapped(path, file, archive.getinfo(f"{key}.npy")) for key in Arrays._fields)
            )
    except (OSError, ValueError, KeyError, EOFError, struct.error, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} cannot be read ({error})") from error


def _mapped(path: Path, file: IO[bytes], info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Map a member of an .npz that is not compressed."""
    file.seek(info.header_offset + LOCAL_NAMES_AT)
    name, extra = struct.unpack("<HH", file.read(4))
    file.seek(name + extra, io.SEEK_CUR)
    np.lib.format.read_magic(file)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    order: Literal["C", "F"] = "F" if fortran else "C"
    return np.memmap(path, dtype, mode="r", offset=file.tell(), shape=shape, order=order)


def _stored(
    name: str, facts: Callable[..., Upload], parts: Iterable["_Part"], folder: Path
) -> Upload:
    """Put an upload into its folder by one rename, so that no reader sees half of it.

    Returns the facts of what has the name now: another writer may have been first. They are on the
    disk then, and outlive a loss of power.
    """
    upload = None
    try:
        make_folder(folder)
        fresh = Path(tempfile.mkdtemp(prefix=DRAFT, dir=folder))
        try:
            digest = _written(parts, fresh / "arrays.npz")
            upload = facts(digest=digest, figures=_figures_of(fresh))
            (fresh / "facts.json").write_text(upload.model_dump_json(exclude_none=True))
            fresh.chmod(0o755)
            sync_files(fresh)
            fresh.replace(folder / name)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        if upload and (folder / name).is_dir():
            return _same(upload, folder)
        raise NotStored(name, folder, error) from error
    try:
        sync(folder)
    except OSError as error:
        raise NotStored(name, folder, error) from error
    return upload


def _figures_of(written: Path) -> InputFigures:
    """Measure arrays that were just written. Raises OSError where they cannot be read back."""
    try:
        return measured(mapped(written.name, written.parent))
    except DatasetError as error:
        raise OSError(errno.EIO, str(error)) from error


def remove_drafts(folder: Path, older_than: float) -> list[str]:
    """Remove what a writer left behind that was killed.

    **Arguments:**

    - `folder`: where uploads are kept.
    - `older_than`: only drafts in which nothing was written since then, in seconds since 1970.

    **Returns:**

    The names of the folders that were removed.
    """
    gone = []
    for draft in folder.glob(f"{DRAFT}*"):
        with contextlib.suppress(OSError):  # finished just now
            if max(path.stat().st_mtime for path in (draft, *draft.iterdir())) < older_than:
                shutil.rmtree(draft)
                gone.append(draft.name)
    return gone


def bytes_of(name: str, folder: Path) -> int:
    """Return how much room an upload takes up.

    **Arguments:**

    - `name`: of the upload.
    - `folder`: where it is kept.

    **Returns:**

    Bytes; 0 where it is gone.
    """
    try:
        return sum(path.stat().st_size for path in (folder / name).iterdir())
    except OSError:
        return 0


# From what was brought to what is kept


class _Part(NamedTuple):
    """An array that is kept, with what makes its blocks anew each time that it is called."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[npt.NDArray[np.generic]]]


class _Conversion:
    """What an archive becomes: arrays of Arrays' fields and types, block by block.

    **Attributes:**

    - `labels`: (N,) of the training and of the test partition.
    - `held_out`: whether the test samples were held out of x here.
    - `bytes`: how large the arrays are.
    """

    def __init__(self, archive: NpzArchive, max_bytes: int) -> None:
        self._archive = archive
        x = archive.headers["x"]
        self.dtype: np.dtype[np.generic] = np.dtype(np.uint8 if x.dtype == np.uint8 else np.float32)
        self.shape = (*(1,) * (4 - len(x.shape)), *x.shape[1:])
        samples = sum(archive.headers[name].shape[0] for name in archive.headers if name[0] == "x")
        self.bytes = samples * (math.prod(self.shape) * self.dtype.itemsize + LABEL_BYTES)
        if self.bytes > max_bytes:
            raise DatasetError(
                f"the arrays are {self.bytes:,} bytes; at most {max_bytes:,} are taken"
            )
        labels = _labels(archive, "y")
        _refuse_gaps(labels)
        self.held_out = "x_test" not in archive.headers
        if self.held_out:
            self._is_test = held_out(labels)
            self.labels = labels[~self._is_test], labels[self._is_test]
        else:
            self.labels = labels, _labels(archive, "y_test")
            if int(self.labels[1].max()) > int(labels.max()):
                raise DatasetError(f"y_test has label {int(self.labels[1].max())}, which y has not")

    def parts(self) -> Iterator[_Part]:
        """Yield the arrays in the order of Arrays' fields."""
        for partition, labels in zip(("train", "test"), self.labels, strict=True):
            images = partial(self._images, partition)
            shape = (len(labels), *self.shape)
            yield _Part(f"x_{partition}", self.dtype, shape, images)
            once = partial(iter, (labels,))
            yield _Part(f"y_{partition}", labels.dtype, labels.shape, once)

    def _images(self, partition: str) -> Iterator[npt.NDArray[np.generic]]:
        """Yield the images of a partition as they are kept, block by block."""
        source = "x_test" if partition == "test" and not self.held_out else "x"
        for first, block in self._archive.blocks(source):
            chosen = block
            if self.held_out:
                is_test = self._is_test[first : first + len(block)]
                chosen = block[is_test if partition == "test" else ~is_test]
            yield self._converted(source, chosen)

    def _converted(self, source: str, block: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        with np.errstate(over="ignore"):
            images = np.ascontiguousarray(block, dtype=self.dtype)
        if self.dtype.kind == "f" and not np.isfinite(images).all():
            raise DatasetError(f"{source} has values that are not finite numbers of float32")
        return images.reshape(len(block), *self.shape)


def _written(parts: Iterable[_Part], path: Path | None) -> str:
    """Write arrays to an .npz, or nowhere; return their digest, as `digest_of` gives it."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(path, "w") if path else contextlib.nullcontext() as target:
        for part in parts:
            digest.update(described(part.name, part.dtype, part.shape))
            member = (
                target.open(zipfile.ZipInfo(f"{part.name}.npy"), "w", force_zip64=True)
                if target
                else contextlib.nullcontext()
            )
            with member as file:
                if file:
                    header = {
                        "descr": np.lib.format.dtype_to_descr(part.dtype),
                        "fortran_order": False,
                        "shape": part.shape,
                    }
                    np.lib.format.write_array_header_1_0(file, header)
                for block in part.blocks():
                    raw = block.tobytes()
                    digest.update(raw)
                    if file:
                        file.write(raw)
    return digest.hexdigest()


def _refuse_gaps(labels: Labels) -> None:
    """Raise DatasetError unless the labels are 0 to C - 1, each at least once."""
    classes = int(labels.max()) + 1
    missing = np.flatnonzero(np.bincount(labels, minlength=classes) == 0)
    if classes < 2 or classes > MAX_CLASSES or len(missing):
        gap = f", and none of {missing[0]}" if len(missing) else ""
        raise DatasetError(
            f"y has labels up to {classes - 1}{gap}; expected every one from 0 to C - 1, C from 2 "
            f"to {MAX_CLASSES}"
        )


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


def _labels(archive: NpzArchive, name: str) -> Labels:
    """Read the labels of a member. Raises DatasetError for labels that no class has."""
    labels = np.empty(archive.headers[name].shape, dtype=np.int64)
    low, high = MAX_CLASSES, -1
    for first, block in archive.blocks(name):
        low, high = min(low, int(block.min())), max(high, int(block.max()))
        labels[first : first + len(block)] = block.astype(np.int64)
    if low < 0 or high >= MAX_CLASSES:
        raise DatasetError(
            f"{name} has labels from {low} to {high}; expected 0 to at most {MAX_CLASSES - 1}"
        )
    return labels
