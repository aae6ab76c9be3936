"""Arrays of a data set, and whence they come. numpy here; the engine makes tensors of them."""

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class DatasetError(Exception):
    """A data set could not be found, fetched, read or verified."""


class Arrays(NamedTuple):
    """Both partitions: images (N, channels, height, width), bytes or float32, and labels (N,)
    int64.
    """

    x_train: Images
    y_train: Labels
    x_test: Images
    y_test: Labels


class FromTorchvision(NamedTuple):
    """A download by a class of torchvision.datasets, which knows the addresses and checksums."""

    name: str
    options: tuple[dict[str, str], ...] = ({},)  # one call each, beside root and download


class Archive(NamedTuple):
    """A download of one archive, unpacked once its checksum is right."""

    url: str
    md5: str


def digest_of(arrays: Arrays) -> str:
    """sha256 over name, type, shape and bytes of each array."""
    digest = hashlib.sha256()
    for name, array in arrays._asdict().items():
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read_only(arrays: Arrays) -> Arrays:
    """The same arrays, which their callers share, safe from writes."""
    for array in arrays:
        array.setflags(write=False)
    return arrays
