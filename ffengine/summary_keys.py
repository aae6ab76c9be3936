"""The keys of a summary: `ratio[width=64 split=negative method=exact]` as text and as fields."""

from typing import Final, Literal, NamedTuple

ALL_LAYERS: Final = "all"


class SummaryKey(NamedTuple):
    """What one figure of a run's summary is of; a field that does not apply is None.

    layer: one layer, or "all" layers together.
    layers: several layers together, but not all.
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

    @classmethod
    def parse(cls, text: str) -> "SummaryKey":
        """The fields of a key's text, the inverse of `str`.

        Fields that this version does not know are left out: results of other versions stay
        readable. Raises ValueError where a layer, epoch or width is not a number.
        """
        _, _, place = text.removesuffix("]").partition("[")
        values = dict(field.split("=", 1) for field in place.split() if "=" in field)
        layer, layers = values.get("layer"), values.get("layers")
        return cls(
            figure_of(text),
            layer=ALL_LAYERS if layer == ALL_LAYERS else _number(layer),
            layers=None if layers is None else tuple(map(int, layers.split("+"))),
            epoch=_number(values.get("epoch")),
            width=_number(values.get("width")),
            split=values.get("split"),
            partition=values.get("partition"),
            method=values.get("method"),
        )


def figure_of(text: str) -> str:
    """The figure that a key's text names."""
    return text.partition("[")[0]


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
