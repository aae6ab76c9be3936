"""Readers of published file formats: each turns a folder into Arrays.

Sizes are checked against headers before memory is allocated. No pickles are read.
"""

import gzip
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ffengine.arrays import Arrays, DatasetError

UInt8 = npt.NDArray[np.uint8]

MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
EMNIST_FILES = tuple(
    f"emnist-digits-{split}-{kind}-ubyte"
    for split in ("train", "test")
    for kind in ("images-idx3", "labels-idx1")
)
CIFAR100_FILES = ("train.bin", "test.bin")
CIFAR10_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
SVHN_FILES = ("train_32x32.mat", "test_32x32.mat")
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def present(folder: Path, name: str) -> Path | None:
    """Return the path of a file, plain or gzipped.

    **Arguments:**

    - `folder`: where it is looked for.
    - `name`: its name without `.gz`.

    **Returns:**

    The path; None where there is no such file.
    """
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def content(folder: Path, name: str) -> bytes:
    """Read a file, gzipped or not.

    **Arguments:**

    - `folder`: where it lies.
    - `name`: its name without `.gz`.

    **Returns:**

    Its unpacked bytes.

    **Raises:**

    - `DatasetError`: the file is absent or damaged.
    """
    path = present(folder, name)
    if path is None:
        raise DatasetError(f"{folder / name}(.gz): no such file")
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DatasetError(f"{path}: cannot be read ({error})") from error


# IDX, the format of the MNIST family: two zero bytes, type code (8: uint8), rank, sizes as
# big-endian uint32, data


def read_idx(folder: Path, name: str) -> UInt8:
    """Read one IDX file of unsigned bytes.

    **Arguments:**

    - `folder`: where it lies.
    - `name`: its name without `.gz`.

    **Returns:**

    The array, in the shape of the header.

    **Raises:**

    - `DatasetError`: the file is absent, truncated or of another type.
    """
    raw = content(folder, name)
    header = 4 + 4 * raw[3] if len(raw) > 4 else 0
    if raw[:3] != b"\x00\x00\x08" or len(raw) < header:
        raise DatasetError(f"{folder / name}: not an IDX file of unsigned bytes")
    sizes = tuple(int(size) for size in np.frombuffer(raw, dtype=">u4", count=raw[3], offset=4))
    if len(raw) - header != math.prod(sizes):
        raise DatasetError(
            f"{folder / name}: holds {len(raw) - header} bytes of data where its header says "
            f"{math.prod(sizes)}"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(sizes).copy()


def read_mnist(folder: Path) -> Arrays:
    """Read four IDX files, as MNIST has them.

    **Arguments:**

    - `folder`: where they lie.

    **Returns:**

    The data set, images (N, 1, 28, 28) uint8.

    **Raises:**

    - `DatasetError`: a file is absent or damaged.
    """
    return _idx_arrays(folder, MNIST_FILES)


def read_emnist_digits(folder: Path) -> Arrays:
    """Read four IDX files of EMNIST, which stores columns first, and turn the images upright.

    **Arguments:**

    - `folder`: where they lie.

    **Returns:**

    The data set, images (N, 1, 28, 28) uint8.

    **Raises:**

    - `DatasetError`: a file is absent or damaged.
    """
    arrays = _idx_arrays(folder, EMNIST_FILES)
    return arrays._replace(x_train=_upright(arrays.x_train), x_test=_upright(arrays.x_test))


def _idx_arrays(folder: Path, names: tuple[str, ...]) -> Arrays:
    """Read the images and labels of both partitions from IDX files."""
    x_train, y_train, x_test, y_test = (read_idx(folder, name) for name in names)
    for images, labels, name in ((x_train, y_train, names[0]), (x_test, y_test, names[2])):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise DatasetError(
                f"{folder / name}: images {images.shape} and labels {labels.shape} do not fit "
                f"together"
            )
    return Arrays(
        x_train[:, None], y_train.astype(np.int64), x_test[:, None], y_test.astype(np.int64)
    )


def _upright(images: npt.NDArray[np.generic]) -> UInt8:
    """Exchange the rows and columns of images."""
    return np.ascontiguousarray(images.swapaxes(2, 3), dtype=np.uint8)


# The binary versions of CIFAR: records of label bytes and 3 x 32 x 32 pixel bytes, one channel
# after the other. CIFAR-10 has one label, and CIFAR-100 a group of five classes before it


def read_cifar10(folder: Path) -> Arrays:
    """Read six files of records, in colour.

    **Arguments:**

    - `folder`: where they lie.

    **Returns:**

    The data set, images (N, 3, 32, 32) uint8.

    **Raises:**

    - `DatasetError`: a file is absent or damaged.
    """
    parts = [_cifar_records(folder, name) for name in CIFAR10_FILES]
    train, test = np.concatenate(parts[:-1]), parts[-1]
    return Arrays(*_cifar_split(train), *_cifar_split(test))


def read_cifar10_grey(folder: Path) -> Arrays:
    """Read CIFAR-10 in grey: the luma of ITU-R BT.601, rounded.

    **Arguments:**

    - `folder`: where the files lie.

    **Returns:**

    The data set, images (N, 1, 32, 32) uint8.

    **Raises:**

    - `DatasetError`: a file is absent or damaged.
    """
    colour = read_cifar10(folder)
    return colour._replace(x_train=_grey(colour.x_train), x_test=_grey(colour.x_test))


def read_cifar100(folder: Path) -> Arrays:
    """Read two files of records with the labels of the hundred classes.

    **Arguments:**

    - `folder`: where they lie.

    **Returns:**

    The data set, images (N, 3, 32, 32) uint8.

    **Raises:**

    - `DatasetError`: a file is absent or damaged.
    """
    train, test = (_cifar_records(folder, name, groups=1) for name in CIFAR100_FILES)
    return Arrays(*_cifar_split(train), *_cifar_split(test))


def _cifar_records(folder: Path, name: str, groups: int = 0) -> UInt8:
    """Read the records of one file, (N, 3073) uint8, without the bytes before the label."""
    raw, size = content(folder, name), 3073 + groups
    if not raw or len(raw) % size:
        raise DatasetError(
            f"{folder / name}: holds {len(raw)} bytes, not a number of records of {size}"
        )
    records = np.frombuffer(raw, dtype=np.uint8).reshape(-1, size)[:, groups:]
    classes = 100 if groups else 10
    if int(records[:, 0].max()) >= classes:
        raise DatasetError(
            f"{folder / name}: has label {int(records[:, 0].max())}; CIFAR-{classes}'s are 0 to "
            f"{classes - 1}"
        )
    return records


def _cifar_split(records: UInt8) -> tuple[UInt8, npt.NDArray[np.int64]]:
    """Return the images and labels of records."""
    return records[:, 1:].reshape(-1, 3, 32, 32).copy(), records[:, 0].astype(np.int64)


def _grey(images: npt.NDArray[np.generic]) -> UInt8:
    """Return the luma of colour images, rounded."""
    parts = [
        np.rint(np.einsum("nchw,c->nhw", part, LUMA))[:, None]
        for part in np.array_split(images, max(1, len(images) // 1000))
    ]
    return np.concatenate(parts).astype(np.uint8)


# SVHN, cropped digits: MATLAB 5 files with X (32, 32, 3, N) and y (N, 1); the label 10 is the digit
# 0


def read_svhn(folder: Path) -> Arrays:
    """Read two MATLAB files, in colour.

    **Arguments:**

    - `folder`: where they lie.

    **Returns:**

    The data set, images (N, 3, 32, 32) uint8.

    **Raises:**

    - `DatasetError`: a file is absent or damaged, or scipy is not installed.
    """
    (x_train, y_train), (x_test, y_test) = (_mat(folder / name) for name in SVHN_FILES)
    return Arrays(x_train, y_train, x_test, y_test)


def _mat(path: Path) -> tuple[UInt8, npt.NDArray[np.int64]]:
    """Read the images and labels of one MATLAB file."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DatasetError(
            "svhn: its MATLAB files need scipy: pip install 'fflab[svhn]'"
        ) from error
    try:
        found = loadmat(path, variable_names=("X", "y"))
        images, labels = found["X"], found["y"].reshape(-1)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise DatasetError(f"{path}: not a MATLAB 5 file with X and y ({error})") from error
    if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)):
        raise DatasetError(
            f"{path}: X is {images.dtype} {images.shape}, expected uint8 (32, 32, 3, {len(labels)})"
        )
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels.astype(np.int64) % 10
