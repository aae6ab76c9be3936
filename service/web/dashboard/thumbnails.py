"""Pictures of data sets: samples in a grid with a row for each class."""

import io
import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from ffengine.arrays import Images
from ffengine.datasets import Dataset, Datasets

COLUMNS, GAP, LEAST_SIDE = 12, 1, 28
MOST_ROWS = 20  # classes
MOST_VALUES = 400_000_000  # pixels; a larger data set is not read for a picture


def has_thumbnail(facts: Dataset, datasets: Datasets) -> bool:
    """Whether the data set consists of images, is on this machine, and is small enough to read."""
    values = math.prod(facts.shape) * (facts.train_samples + facts.test_samples)
    return facts.shape[0] in (1, 3) and values <= MOST_VALUES and datasets.is_present(facts)


def thumbnail_size(facts: Dataset) -> tuple[int, int]:
    """Return width and height of the picture in pixels."""
    _, height, width = facts.shape
    scale, rows = _scale(facts), min(facts.classes, MOST_ROWS)
    return COLUMNS * (scale * width + GAP) - GAP, rows * (scale * height + GAP) - GAP


@lru_cache(maxsize=64)
def thumbnail(name: str, digest: str | None, datasets: Datasets) -> bytes:
    """Return the first training samples of each class as a PNG. Raises DatasetError."""
    facts, arrays = datasets.facts_of(name), datasets.mapped(name)
    width, height = thumbnail_size(facts)
    canvas = np.zeros((height, width, 3), np.uint8)
    rows = [
        arrays.x_train[np.flatnonzero(arrays.y_train == row)[:COLUMNS]]
        for row in range(min(facts.classes, MOST_ROWS))
    ]
    scale, low, high = _scale(facts), *_range(rows)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            tile = _tile(image, low, high).repeat(scale, 0).repeat(scale, 1)
            top, left = row * (tile.shape[0] + GAP), column * (tile.shape[1] + GAP)
            canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    content = io.BytesIO()
    Image.fromarray(canvas).save(content, "PNG", optimize=True)
    return content.getvalue()


def _scale(facts: Dataset) -> int:
    return max(1, math.ceil(LEAST_SIDE / max(facts.shape[1:])))


def _range(rows: list[Images]) -> tuple[float, float]:
    """Return the pixel values that are drawn black and white."""
    if rows[0].dtype == np.uint8:
        return 0.0, 255.0
    return min(float(row.min()) for row in rows), max(float(row.max()) for row in rows)


def _tile(image: npt.NDArray[np.generic], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Convert an image of shape (channels, height, width) to bytes of (height, width, 3)."""
    grey = (image.astype(np.float64) - low) / max(high - low, 1e-12) * 255
    return np.broadcast_to(grey.astype(np.uint8).transpose(1, 2, 0), (*image.shape[1:], 3))
