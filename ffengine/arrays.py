"""The arrays of a data set, and where they come from. The engine makes tensors of them."""

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class DatasetError(Exception):
    """A data set cannot be found, fetched, read or verified."""


class Arrays(NamedTuple):
    """Both partitions of a data set.

    **Attributes:**

    - `x_train`, `x_test`: images (N, channels, height, width), uint8 or float32.
    - `y_train`, `y_test`: labels (N,) int64.
    """

    x_train: Images
    y_train: Labels
    x_test: Images
    y_test: Labels


class FromTorchvision(NamedTuple):
    """A download by a class of torchvision.datasets, which knows addresses and checksums.

    **Attributes:**

    - `name`: the name of the class.
    - `options`: its arguments beside root and download; one call for each entry.
    """

    name: str
    options: tuple[dict[str, str], ...] = ({},)  # arguments of each call


class Archive(NamedTuple):
    """A download of one archive, which is unpacked once its checksum is right.

    **Attributes:**

    - `url`: the address.
    - `md5`: the checksum in hexadecimal.
    """

    url: str
    md5: str


def digest_of(arrays: Arrays) -> str:
    """Return the sha256 over name, type, shape and bytes of each array, in hexadecimal.

    **Arguments:**

    - `arrays`: a data set.

    **Returns:**

    64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, array in arrays._asdict().items():
        digest.update(described(name, array.dtype, array.shape))
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def described(name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> bytes:
    """Return what `digest_of` takes in before the bytes of an array.

    **Arguments:**

    - `name`, `dtype`, `shape`: of the array.

    **Returns:**

    A text, as bytes.
    """
    return f"{name}:{dtype.str}:{shape};".encode()


def read_only(arrays: Arrays) -> Arrays:
    """Make the arrays read-only, because their callers share them.

    **Arguments:**

    - `arrays`: a data set.

    **Returns:**

    The same arrays.
    """
    for array in arrays:
        array.setflags(write=False)
    return arrays
