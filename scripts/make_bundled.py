"""Make the data sets that the package carries, and print the digests that ffengine/datasets.py
records.

    python scripts/make_bundled.py mnist path/to/MNIST/raw
    python scripts/make_bundled.py mnist-mini path/to/MNIST/raw
    python scripts/make_bundled.py digits path/to/digits.csv.gz

mnist: all images of the four original files, packed with LZMA: 9.5 MB, where the files have 11.4.
mnist-mini: of each class the first 600 training and the first 100 test images, in the order of the
original files.
digits: scikit-learn's copy (sklearn/datasets/data/digits.csv.gz) of the test part of the UCI data,
0..16 brought to
0..255; the first 1 437 images to learn from, the last 360 to test. All are reproducible from the
public files alone.
"""

import gzip
import sys
import zipfile
from pathlib import Path

import numpy as np

from ffengine.arrays import Arrays, digest_of
from ffengine.dataformats import read_mnist

TRAIN_PER_CLASS, TEST_PER_CLASS, DIGITS_TRAIN = 600, 100, 1_437
FOLDER = Path(__file__).parents[1] / "ffengine" / "data"


def mnist_mini(raw: Path) -> Arrays:
    """The sample of the four IDX files in a folder."""
    full = read_mnist(raw)
    train = first_of_each_class(full.y_train, TRAIN_PER_CLASS)
    test = first_of_each_class(full.y_test, TEST_PER_CLASS)
    return Arrays(full.x_train[train], full.y_train[train], full.x_test[test], full.y_test[test])


def first_of_each_class(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Indices, ascending, of the first `per_class` samples of each class."""
    return np.sort(
        np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in range(10)])
    )


def digits(table: Path) -> Arrays:
    """Rows of 64 counts from 0 to 16 and a label."""
    with gzip.open(table) as file:
        rows = np.loadtxt(file, delimiter=",")
    images = np.rint(rows[:, :-1] * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = rows[:, -1].astype(np.int64)
    return Arrays(
        images[:DIGITS_TRAIN], labels[:DIGITS_TRAIN], images[DIGITS_TRAIN:], labels[DIGITS_TRAIN:]
    )


def _member(name: str) -> zipfile.ZipInfo:
    """A member without a date, so that the file is the same each time."""
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_LZMA
    return info


def save_packed(target: Path, **arrays: np.ndarray) -> None:
    """Write an .npz as numpy.savez_compressed does, with LZMA in place of deflate.

    `numpy.load` reads it with the standard library. Of pixel bytes row by row, column by column,
    pixel by pixel of all images, and split into masks and values, rows were the smallest.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            with archive.open(_member(f"{name}.npy"), "w") as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)


MAKERS = {
    "mnist": (read_mnist, save_packed),
    "mnist-mini": (mnist_mini, np.savez_compressed),
    "digits": (digits, np.savez_compressed),
}


def main(name: str, source: Path) -> None:
    """Write one of them and print its digest."""
    make, save = MAKERS[name]
    arrays = make(source)
    target = FOLDER / f"{name}.npz"
    save(target, **arrays._asdict())
    print(
        f"{target}: {target.stat().st_size} bytes, digest {digest_of(arrays)}, "
        f"{np.bincount(arrays.y_train).tolist()} to learn from"
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
