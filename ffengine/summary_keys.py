"""The keys of a summary: `ratio[width=64 split=negative method=exact]` as text and as fields."""

from functools import lru_cache
from typing import Final, Literal, NamedTuple

ALL_LAYERS: Final = "all"
# of a table of figures; layers: several together, such as `1+2`, or `all`
PLACE_COLUMNS = ("layer", "layers", "epoch", "split", "width", "method", "partition")


class SummaryKey(NamedTuple):
    """What one figure of a summary is of; a field that does not apply is None.

    **Attributes:**

    - `figure`: the name of a field of a row, such as `theorem2_ratio`.
    - `layer`: one layer, or "all" layers together.
    - `layers`: several layers together, but not all.
    - `epoch`, `width`, `split`, `partition`, `method`: those of the row.
    """

    figure: str
    layer: int | Literal["all"] | None = None
    layers: tuple[int, ...] | None = None
    epoch: int | None = None
    width: int | None = None
    split: str | None = None
    partition: str | None = None
    method: str | None = None

    def __str__(self) -> str:
        values = self._asdict()
        del values["figure"]
        if self.layers is not None:
            values["layers"] = "+".join(map(str, self.layers))
        place = " ".join(f"{name}={value}" for name, value in values.items() if value is not None)
        return f"{self.figure}[{place}]" if place else self.figure

    def columns(self) -> dict[str, str | int | None]:
        """Return the cells of PLACE_COLUMNS, each of one type."""
        together = ALL_LAYERS if self.layer == ALL_LAYERS else None
        if self.layers is not None:
            together = "+".join(map(str, self.layers))
        own = {name: getattr(self, name) for name in PLACE_COLUMNS}
        return own | {"layer": None if self.layer == ALL_LAYERS else self.layer, "layers": together}

    @classmethod
    def parse(cls, text: str) -> "SummaryKey":
        """Read a key from its text; the inverse of `str`.

        Fields that this version does not know are left out: results of other versions stay
        readable.

        **Arguments:**

        - `text`: the key as text.

        **Returns:**

        The key.

        **Raises:**

        - `ValueError`: a layer, epoch or width is not a number.
        """
        return _parsed(text)


def figure_of(text: str) -> str:
    """Return the figure that the text of a key names.

    **Arguments:**

    - `text`: a key as text.

    **Returns:**

    The name of the figure.
    """
    return text.partition("[")[0]


def _number(text: str | None) -> int | None:
    """Convert a field of a key to a number; None stays None."""
    return None if text is None else int(text)


@lru_cache(maxsize=4096)  # hundreds of runs have the same keys
def _parsed(text: str) -> SummaryKey:
    _, _, place = text.removesuffix("]").partition("[")
    values = dict(field.split("=", 1) for field in place.split() if "=" in field)
    layer, layers = values.get("layer"), values.get("layers")
    return SummaryKey(
        figure_of(text),
        layer=ALL_LAYERS if layer == ALL_LAYERS else _number(layer),
        layers=None if layers is None else tuple(map(int, layers.split("+"))),
        epoch=_number(values.get("epoch")),
        width=_number(values.get("width")),
        split=values.get("split"),
        partition=values.get("partition"),
        method=values.get("method"),
    )
