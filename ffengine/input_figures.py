"""What is measured once on the arrays of a data set, so that advice on a spec costs nothing.

Uploads are measured when they are kept; the figures stand beside their facts.
"""

import math
import mmap
from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from ffengine.arrays import Arrays, Images

NUMBERS_AT_ONCE = 2**20

Matrix = npt.NDArray[np.float64]


class InputFigures(BaseModel):
    """Figures of a data set's inputs, of bytes as numbers from 0 to 1.

    **Attributes:**

    - `size`: the root mean square of an input, over the training samples.
    - `spread`: the same of what is left when each input's mean is taken away.
    - `overlay_share`: how much of the variance over training samples the first C inputs hold.
    - `largest_input`, `largest_share`: which input holds most of the variance, and how much.
    - `test_class_counts`: test samples of each class.
    - `copies`: how many test samples equal a training sample.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    size: float
    spread: float
    overlay_share: float
    largest_input: int
    largest_share: float
    test_class_counts: tuple[int, ...]
    copies: int


def measured(arrays: Arrays) -> InputFigures:
    """Measure a data set.

    **Arguments:**

    - `arrays`: its arrays; every class has a training sample.

    **Returns:**

    The figures.
    """
    classes = int(arrays.y_train.max()) + 1
    variance, square = _moments(arrays.x_train)
    total = float(variance.sum()) or 1.0
    return InputFigures(
        size=math.sqrt(square),
        spread=math.sqrt(float(variance.mean())),
        overlay_share=float(variance[:classes].sum()) / total,
        largest_input=int(variance.argmax()),
        largest_share=float(variance.max()) / total,
        test_class_counts=tuple(np.bincount(arrays.y_test, minlength=classes).tolist()),
        copies=_copies(arrays),
    )


def _moments(images: Images) -> tuple[Matrix, float]:
    """Return the variance of each input, and the mean square over all of them.

    Sums are over differences from the first sample, since inputs may be far from 0.
    """
    first = next(_pieces(images))[0]
    total, squares, square = np.zeros_like(first), np.zeros_like(first), 0.0
    for piece in _pieces(images):
        away = piece - first
        total += away.sum(0)
        squares += np.square(away).sum(0)
        square += float(np.square(piece).mean(1).sum())
    count = len(images)
    variance = np.maximum(squares / count - np.square(total / count), 0.0)
    return variance, square / count


def _pieces(images: Images) -> Iterator[Matrix]:
    """Yield the samples as numbers (B, m), some at a time."""
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    for piece in _blocks(images):
        yield piece.reshape(len(piece), -1).astype(np.float64) / scale


def _blocks(images: Images) -> Iterator[Images]:
    """Yield the samples (B, channels, height, width), some at a time.

    Of a mapped file no more than one block stays in memory.
    """
    rows = max(1, NUMBERS_AT_ONCE // math.prod(images.shape[1:]))
    mapping = getattr(images, "_mmap", None)
    for start in range(0, len(images), rows):
        yield images[start : start + rows]
        if mapping is not None:
            mapping.madvise(mmap.MADV_DONTNEED)


def _copies(arrays: Arrays) -> int:
    """Count the test samples that equal a training sample."""
    learnt = {_name_of(image) for block in _blocks(arrays.x_train) for image in block}
    return sum(_name_of(image) in learnt for block in _blocks(arrays.x_test) for image in block)


def _name_of(image: Images) -> bytes:
    return blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
