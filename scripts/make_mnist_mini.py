"""Make ffengine/data/mnist-mini.npz: a class-balanced sample of MNIST, 6 000 train and 1 000 test images.

    python scripts/make_mnist_mini.py path/to/MNIST/raw

Of each class the first 600 training and the first 100 test images are taken, in the order of the original files,
so the sample is reproducible from the public files alone. Prints the digest that ffengine/datasets.py records.
"""

import sys
from pathlib import Path

import numpy as np

from ffengine.datasets import Arrays, digest_of, read_idx_folder

TRAIN_PER_CLASS, TEST_PER_CLASS = 600, 100
TARGET = Path(__file__).parents[1] / "ffengine" / "data" / "mnist-mini.npz"


def first_of_each_class(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Indices, ascending, of the first `per_class` samples of each class."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in range(10)]))


def main(raw: Path) -> None:
    """Write the sample and print its digest."""
    full = read_idx_folder(raw)
    train = first_of_each_class(full.y_train, TRAIN_PER_CLASS)
    test = first_of_each_class(full.y_test, TEST_PER_CLASS)
    mini = Arrays(full.x_train[train], full.y_train[train], full.x_test[test], full.y_test[test])
    np.savez_compressed(TARGET, **mini._asdict())
    print(f"{TARGET}: {TARGET.stat().st_size} bytes, digest {digest_of(mini)} (of the whole: {digest_of(full)})")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
