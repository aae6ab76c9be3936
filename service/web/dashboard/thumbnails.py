"""Pictures of data sets: samples in a grid with a row for each class."""

import io
import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from ffengine.arrays import Images
from ffengine.datasets import Dataset, Datasets

COLUMNS, GAP = 12, 1
LEAST_SIDE, MOST_SIDE = 28, 96  # of a sample in the picture, in pixels
MOST_ROWS = 20  # classes
MOST_VALUES = 400_000_000  # pixels; a larger data set is not read for a picture


def lack_of_thumbnail(facts: Dataset, datasets: Datasets) -> str | None:
    """Say why there is no picture of a data set; None: there is one."""
    if not datasets.is_present(facts):
        return f"Not on this machine yet: fflab data fetch {facts.name}"
    if facts.shape[0] not in (1, 3, 4):
        return f"No picture: its samples have {facts.shape[0]} channels."
    if math.prod(facts.shape) * (facts.train_samples + facts.test_samples) > MOST_VALUES:
        return "No picture: it is too large to be read for one."
    return None


def thumbnail_size(facts: Dataset) -> tuple[int, int]:
    """Return width and height of the picture in pixels."""
    (height, width), rows = _tile_size(facts), min(facts.classes, MOST_ROWS)
    return COLUMNS * (width + GAP) - GAP, rows * (height + GAP) - GAP


@lru_cache(maxsize=64)
def thumbnail(name: str, digest: str | None, datasets: Datasets) -> bytes:
    """Return the first training samples of each class as a PNG. Raises DatasetError.

    Small samples are enlarged. Of large ones every second, third, ... pixel is drawn.
    """
    facts, arrays = datasets.facts_of(name), datasets.mapped(name)
    width, height = thumbnail_size(facts)
    canvas = np.zeros((height, width, 3), np.uint8)
    scale, step = _scale(facts), _step(facts)
    rows = [
        arrays.x_train[np.flatnonzero(arrays.y_train == row)[:COLUMNS], :3, ::step, ::step]
        for row in range(min(facts.classes, MOST_ROWS))
    ]
    (tall, wide), (low, high) = _tile_size(facts), _range(rows)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            tile = _tile(image, low, high).repeat(scale, 0).repeat(scale, 1)
            top, left = row * (tall + GAP), column * (wide + GAP)
            canvas[top : top + tall, left : left + wide] = tile
    content = io.BytesIO()
    Image.fromarray(canvas).save(content, "PNG", optimize=True)
    return content.getvalue()


def _tile_size(facts: Dataset) -> tuple[int, int]:
    """Return height and width of a sample in the picture, in pixels."""
    _, height, width = facts.shape
    scale, step = _scale(facts), _step(facts)
    return scale * math.ceil(height / step), scale * math.ceil(width / step)


def _scale(facts: Dataset) -> int:
    return max(1, math.ceil(LEAST_SIDE / max(facts.shape[1:])))


def _step(facts: Dataset) -> int:
    return math.ceil(max(facts.shape[1:]) / MOST_SIDE)


def _range(rows: list[Images]) -> tuple[float, float]:
    """Return the pixel values that are drawn black and white."""
    if rows[0].dtype == np.uint8:
        return 0.0, 255.0
    return min(float(row.min()) for row in rows), max(float(row.max()) for row in rows)


def _tile(image: npt.NDArray[np.generic], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Convert an image of shape (channels, height, width) to bytes of (height, width, 3)."""
    grey = (image.astype(np.float64) - low) / max(high - low, 1e-12) * 255
    return np.broadcast_to(grey.astype(np.uint8).transpose(1, 2, 0), (*image.shape[1:], 3))
