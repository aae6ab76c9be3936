"""Catalogue of data sets: facts, where their files are found, and how they are verified.

Arrays are numpy here; the engine makes tensors of them. Pixels are uint8, labels int64.
"""

import gzip
import hashlib
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]

DATA_ROOT_VARIABLE = "FFLAB_DATA"


class DatasetError(Exception):
    """A data set could not be found, fetched or verified."""


class Arrays(NamedTuple):
    """Both partitions: images (N, channels, height, width) uint8 and labels (N,) int64."""

    x_train: UInt8Array
    y_train: Int64Array
    x_test: UInt8Array
    y_test: Int64Array


class Dataset(NamedTuple):
    """What is known of a data set before it is loaded."""

    name: str
    meaning: str
    shape: tuple[int, int, int]
    classes: int
    train_samples: int
    test_samples: int
    digest: str  # sha256 over shapes and bytes of the four arrays, see digest_of
    licence: str
    source: str
    folder: str | None  # below the data root, in torchvision's layout; None: bundled with the package

    @property
    def inputs(self) -> int:
        """m: the number of inputs of one sample."""
        return math.prod(self.shape)


MNIST_LICENCE = "CC BY-SA 3.0 (Yann LeCun and Corinna Cortes)"
MNIST_SOURCE = "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document recognition, Proc. IEEE 86, 1998"

DatasetName = Literal["mnist-mini", "mnist", "fashion-mnist"]
DATASETS: dict[str, Dataset] = {
    entry.name: entry
    for entry in (
        Dataset(
            name="mnist-mini",
            meaning="Class-balanced sample of real MNIST, bundled: the first 600 training and 100 test images of each digit.",
            shape=(1, 28, 28),
            classes=10,
            train_samples=6_000,
            test_samples=1_000,
            digest="a16bb9d20dca4ea3a58ed56e84bbcdce306a938d023a99dacecd1da0b27b2dd0",
            licence=MNIST_LICENCE,
            source=MNIST_SOURCE,
            folder=None,
        ),
        Dataset(
            name="mnist",
            meaning="Handwritten digits, 28 x 28 grey pixels.",
            shape=(1, 28, 28),
            classes=10,
            train_samples=60_000,
            test_samples=10_000,
            digest="77eb540ab17a9c2897c208e56c321ce09d0d354bce2865c85d9db1d64ede1521",
            licence=MNIST_LICENCE,
            source=MNIST_SOURCE,
            folder="MNIST",
        ),
        Dataset(
            name="fashion-mnist",
            meaning="Pictures of clothing in ten classes, 28 x 28 grey pixels.",
            shape=(1, 28, 28),
            classes=10,
            train_samples=60_000,
            test_samples=10_000,
            digest="e7b01118be67ccec596bae4173b0ee5249f3e373d744ba562cef7bb94bbaef67",
            licence="MIT (Zalando SE)",
            source="H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, arXiv 1708.07747",
            folder="FashionMNIST",
        ),
    )
}


def data_root() -> Path:
    """Where data sets are looked for and downloaded to: $FFLAB_DATA, else ~/.local/share/fflab/data."""
    chosen = os.environ.get(DATA_ROOT_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".local" / "share" / "fflab" / "data"


def load(name: str, root: Path | None = None) -> Arrays:
    """The verified arrays of a data set, read-only and kept in memory for the next caller.

    Looks below `root` (default: data_root()) first, then downloads with torchvision.
    Raises DatasetError where the files are absent and cannot be fetched, or are not what their digest says.
    """
    if name not in DATASETS:
        raise DatasetError(f"dataset.name: {name!r} is not known; choose one of {', '.join(DATASETS)}")
    return _load(name, root or data_root())


@lru_cache(maxsize=2)
def _load(name: str, root: Path) -> Arrays:
    facts = DATASETS[name]
    if facts.folder is None:
        return verified(facts, read_bundled(name))
    folder = present_folder(facts, root)
    if folder is None:
        fetch(facts, root)
        folder = present_folder(facts, root)
    if folder is None:
        raise DatasetError(f"{name}: the download left no files below {root}")
    return verified(facts, read_idx_folder(folder))


def fetch(facts: Dataset, root: Path) -> None:
    """Download a data set below `root` with torchvision; DatasetError says what to do where that fails."""
    from ffengine.download import download  # torch is imported only where a download is needed

    try:
        download(facts.name, root)
    except (OSError, RuntimeError) as error:
        raise DatasetError(
            f"{facts.name}: not found below {root} and the download failed ({error}). Put the four IDX files, gzipped or not, into "
            f"{root / str(facts.folder) / 'raw'}, or set {DATA_ROOT_VARIABLE} to a folder that has {facts.folder}/raw."
        ) from error


def present_folder(facts: Dataset, root: Path) -> Path | None:
    """The folder below `root` that holds all four files of a data set, if there is one."""
    candidates = (root / str(facts.folder) / "raw", root / str(facts.folder), root / facts.name)
    return next((folder for folder in candidates if all(idx_path(folder, stem) for stem in IDX_STEMS)), None)


def verified(facts: Dataset, arrays: Arrays) -> Arrays:
    """The same arrays, read-only; DatasetError where they are not the published ones."""
    found = digest_of(arrays)
    if found != facts.digest:
        raise DatasetError(
            f"{facts.name}: the files are not the published data (digest {found[:16]}..., expected {facts.digest[:16]}...). "
            "Remove them so that they are fetched again."
        )
    for array in arrays:
        array.setflags(write=False)
    return arrays


def digest_of(arrays: Arrays) -> str:
    """sha256 over name, type, shape and bytes of each array."""
    digest = hashlib.sha256()
    for name, array in arrays._asdict().items():
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read_bundled(name: str) -> Arrays:
    """The arrays of a data set that the package carries."""
    with np.load(Path(__file__).parent / "data" / f"{name}.npz", allow_pickle=False) as archive:
        return Arrays(**{key: archive[key] for key in Arrays._fields})


# IDX, the format of the MNIST family: two zero bytes, type code (8: uint8), rank, sizes as big-endian uint32, data

IDX_STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def read_idx_folder(folder: Path) -> Arrays:
    """The arrays of an MNIST-like folder of four IDX files, gzipped or not."""
    x_train, y_train, x_test, y_test = (read_idx(folder, stem) for stem in IDX_STEMS)
    return Arrays(x_train[:, None], y_train.astype(np.int64), x_test[:, None], y_test.astype(np.int64))


def idx_path(folder: Path, stem: str) -> Path | None:
    """The file of that stem, plain or gzipped, if there is one."""
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)


def read_idx(folder: Path, stem: str) -> UInt8Array:
    """One IDX file; DatasetError where it is truncated or of another type."""
    path = idx_path(folder, stem)
    if path is None:
        raise DatasetError(f"{folder / stem}(.gz): no such file")
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DatasetError(f"{path}: cannot be read ({error})") from error
    header = 4 + 4 * raw[3] if len(raw) > 4 else 0
    if raw[:3] != b"\x00\x00\x08" or len(raw) < header:
        raise DatasetError(f"{path}: not an IDX file of unsigned bytes")
    sizes = tuple(int(size) for size in np.frombuffer(raw, dtype=">u4", count=raw[3], offset=4))
    if len(raw) - header != math.prod(sizes):
        raise DatasetError(f"{path}: holds {len(raw) - header} bytes of data where its header says {math.prod(sizes)}")
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(sizes).copy()
