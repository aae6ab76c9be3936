"""Pictures of data sets: bounded for samples of any shape, and where there is none the page says
why.
"""

import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from ffengine.datasets import Dataset, Datasets
from service.web.dashboard.thumbnails import lack_of_thumbnail, thumbnail, thumbnail_size
from tests.service.arrays import npz

MOST_PIXELS = (12 * 97, 20 * 97)


def kept(tmp_path: Path, shape: tuple[int, ...]) -> tuple[Dataset, Datasets]:
    datasets = Datasets(tmp_path, tmp_path / "datasets")
    values = np.arange(np.prod((100, *shape)), dtype=np.float32).reshape(100, *shape)
    y = np.arange(100) % 20
    datasets.keep("mine", io.BytesIO(npz(x=values, y=y)))
    return datasets.facts_of("mine"), datasets


@pytest.mark.parametrize(
    "shape", [(5,), (20_000,), (1, 300), (2000, 3), (8, 8), (3, 8, 8), (4, 200, 9), (1, 2, 97)]
)
def test_a_picture_has_the_size_that_the_page_says_and_a_bound(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    facts, datasets = kept(tmp_path, shape)
    assert lack_of_thumbnail(facts, datasets) is None
    picture = Image.open(io.BytesIO(thumbnail("mine", facts.digest, datasets)))
    assert picture.size == thumbnail_size(facts)
    assert picture.width <= MOST_PIXELS[0]
    assert picture.height <= MOST_PIXELS[1]
    assert len(picture.getcolors(10**6) or ()) > 1


def test_a_page_says_why_there_is_no_picture(client: httpx.Client) -> None:
    x = np.random.default_rng(0).random((40, 2, 8, 8), np.float32)
    sent = client.post("/v1/datasets?name=two", content=npz(x=x, y=np.arange(40) % 4))
    assert sent.status_code == 201, sent.text
    page = client.get("/datasets").text
    assert "No picture: its samples have 2 channels." in page
    assert "fflab data fetch two" not in page
    assert "Not on this machine yet: fflab data fetch kmnist" in page
    assert client.get("/datasets/two.png").status_code == 404
