"""Data sets that the package carries, and decoded copies of the large ones.

All of MNIST is packed with LZMA, which takes half a second to decode. Its decoded copy is mapped
into memory, so that processes share it. The copy is a cache: whoever loads it compares its digest,
and whoever finds it absent or damaged decodes again.
"""

import contextlib
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from ffengine.arrays import Arrays, DatasetError
from ffengine.uploads import mapped_file

FOLDER = Path(__file__).parent / "data"
PACKED_BYTES = 2**21  # a smaller file is decoded faster than a copy is found
DRAFT = ".draft-"  # what a copy that is being written is called, followed by random letters
ABANDONED_SECONDS = 60.0  # a draft this old is of a process that died


def read_bundled(name: str) -> Arrays:
    """Decode a data set that the package carries.

    **Arguments:**

    - `name`: of the data set.

    **Returns:**

    The arrays.

    **Raises:**

    - `OSError`: the file is not there.
    """
    with np.load(_packed(name), allow_pickle=False) as archive:
        return Arrays(**{key: archive[key] for key in Arrays._fields})


def copy_path(name: str, digest: str | None, cache: Path | None) -> Path | None:
    """Return where the decoded copy of a data set belongs.

    **Arguments:**

    - `name`, `digest`: of the data set.
    - `cache`: the folder of decoded copies; None: there is none.

    **Returns:**

    The path of an .npz; None where no copy is kept.
    """
    if cache is None or digest is None or _packed(name).stat().st_size < PACKED_BYTES:
        return None
    return cache / f"{name}-{digest[:16]}.npz"


def mapped_copy(path: Path) -> Arrays | None:
    """Map a decoded copy into memory, without comparing its digest.

    **Arguments:**

    - `path`: of the copy.

    **Returns:**

    The arrays, images mapped; None where they cannot be read.
    """
    try:
        arrays = mapped_file(path)
    except DatasetError:
        return None
    # labels are small, and in the file they need not stand where an int64 should
    return arrays._replace(y_train=np.array(arrays.y_train), y_test=np.array(arrays.y_test))


def write_copy(arrays: Arrays, path: Path) -> bool:
    """Write a decoded copy by one rename, so that no reader sees half of it.

    Two processes that write at once each write a whole copy, and the later one stays.

    **Arguments:**

    - `arrays`: of the data set.
    - `path`: of the copy.

    **Returns:**

    Whether it is there now; False where it cannot be written, such as in a read-only home.
    """
    try:
        _make_private(path.parent)
        _remove_abandoned(path.parent)
        opened, draft = tempfile.mkstemp(prefix=DRAFT, dir=path.parent)
        try:
            with os.fdopen(opened, "wb") as file:
                np.savez(file, allow_pickle=False, **arrays._asdict())
            Path(draft).replace(path)
        finally:
            Path(draft).unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _packed(name: str) -> Path:
    return FOLDER / f"{name}.npz"


def _make_private(folder: Path) -> None:
    """Make a folder and those above it, for this user alone: it may be the home that is made."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove what writers left behind that were killed.

    A slow writer whose draft vanishes has no copy, and goes on with what it decoded.
    """
    for draft in folder.glob(f"{DRAFT}*"):
        with contextlib.suppress(OSError):
            if draft.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                draft.unlink()
