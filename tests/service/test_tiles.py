"""Images of samples in the chart of a finding."""

import base64
import io
import json

import numpy as np
import pytest
import vl_convert
from PIL import Image

from ffengine.findings import Plot, Point, Tile
from service.encoding.escaping import for_drawing
from service.results.charts.finding import finding_chart
from service.results.charts.tiles import data_uri


def tile(shape: tuple[int, int, int], column: int = 0) -> Tile:
    values = np.random.default_rng(column).integers(0, 256, shape, np.uint8)
    pixels = base64.b64encode(values.tobytes()).decode()
    return Tile("a group", 0, column, f"words {column}", shape, pixels)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 5), (4, 2, 70)])
def test_an_image_is_drawn_with_its_pixels(shape: tuple[int, int, int]) -> None:
    one = tile(shape)
    head, _, content = data_uri(one).partition(",")
    assert head == "data:image/png;base64"
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))
    scale = image.shape[0] // shape[1]
    assert image.shape == (scale * shape[1], scale * shape[2], 3)
    values = np.frombuffer(base64.b64decode(one.pixels), np.uint8).reshape(shape)
    for channel in range(3):
        drawn = image[::scale, ::scale, channel]
        assert np.array_equal(drawn, values[min(channel, shape[0] - 1)])


def test_images_stand_below_the_plots_of_a_finding() -> None:
    points = tuple(Point("a panel", "a", float(at), 1.0) for at in range(2))
    tiles = tuple(tile((1, 4, 4), column) for column in range(3))
    plain, with_images = (
        finding_chart(Plot("title", "x", "y", points, tiles=some), ["caption"])
        for some in ((), tiles)
    )
    assert "data:image/png" not in json.dumps(plain.to_dict())
    picture = vl_convert.vegalite_to_svg(for_drawing(with_images.to_dict()))
    assert picture.count("<image") == 3
    assert all(data_uri(one) in picture for one in tiles)
    assert all(one.words in picture for one in tiles)
