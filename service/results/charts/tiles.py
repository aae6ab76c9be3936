"""Images of samples in rows, with words below each."""

import base64
import io
from collections.abc import Sequence

import altair as alt
import numpy as np
from PIL import Image

from ffengine.findings import Tile
from service.results.charts.style import AnyChart, data_of

SIDE = 56  # of an image, in pixels
COLUMN, ROW = 88, 82  # from image to image
WORDS_BELOW = 8
COLUMNS = 2  # of groups


def tiled(tiles: Sequence[Tile]) -> AnyChart:
    """Draw images in rows, one block for each group.

    **Arguments:**

    - `tiles`: the images; one at least.
    """
    groups = list(dict.fromkeys(tile.group for tile in tiles))
    blocks = [_block(group, [one for one in tiles if one.group == group]) for group in groups]
    drawn: AnyChart = alt.concat(*blocks, columns=COLUMNS).resolve_scale(x="independent")
    return drawn


def _block(title: str, tiles: Sequence[Tile]) -> AnyChart:
    """Return the images of one group: places are pixels, so that no axis is drawn."""
    rows = [
        {
            "x": COLUMN * tile.column + COLUMN / 2,
            "y": ROW * tile.row + SIDE / 2,
            "below": ROW * tile.row + SIDE + WORDS_BELOW,
            "url": data_uri(tile),
            "words": tile.words,
        }
        for tile in tiles
    ]
    width = COLUMN * (1 + max(tile.column for tile in tiles))
    height = ROW * (1 + max(tile.row for tile in tiles))
    base = alt.Chart(data_of(rows)).encode(
        x=alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, width], nice=False)),
    )
    down = alt.Scale(domain=[height, 0], nice=False)
    images = base.mark_image(width=SIDE, height=SIDE).encode(
        y=alt.Y("y:Q", axis=None, scale=down),
        url=alt.Url("url:N"),
        tooltip=alt.Tooltip("words:N"),
        description=alt.Description("words:N"),
    )
    words = base.mark_text(fontSize=9, baseline="middle").encode(
        y=alt.Y("below:Q", axis=None, scale=down), text="words:N"
    )
    return alt.layer(images, words).properties(width=width, height=height, title=title)


def data_uri(tile: Tile) -> str:
    """Return an image as a PNG within an address, large enough to be drawn without blur."""
    pixels = np.frombuffer(base64.b64decode(tile.pixels), np.uint8).reshape(tile.shape)
    scale = max(1, round(SIDE / max(tile.shape[1:])))
    image = np.broadcast_to(pixels[:3].transpose(1, 2, 0), (*tile.shape[1:], 3))
    content = io.BytesIO()
    large = image.repeat(scale, 0).repeat(scale, 1)
    grey = tile.shape[0] == 1
    Image.fromarray(large[..., 0] if grey else large).save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
