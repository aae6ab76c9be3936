"""Plots of characters: braille dots for lines, markers for values; readable without colours."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from rich.text import Text

BRAILLE = 0x2800
DOTS = (
    (0x01, 0x08),
    (0x02, 0x10),
    (0x04, 0x20),
    (0x40, 0x80),
)  # bit of the dot in row, column of a character
LABEL = 8  # width of a number at the axis, characters
SPARSE = 4  # characters that each marker needs; with less room only the last is drawn


class PlottedCurve(NamedTuple):
    """Points in the order of x; every `gap`-th dot of the line is drawn."""

    marker: str
    style: str
    gap: int
    points: Sequence[tuple[float, float]]


def plot(
    title: str,
    curves: Sequence[PlottedCurve],
    *,
    width: int,
    height: int,
    last: float,
    reference: float | None = None,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    across: str = "epoch",
) -> Text:
    """Return the curves in a box of characters.

    **Arguments:**

    - `title`, `curves`: what is drawn.
    - `width`, `height`: of the box, characters.
    - `last`: the largest x; the smallest is 0.
    - `reference`: a value that a dashed line marks.
    - `bounds`: the limits of the y axis.
    - `across`: the name of x.
    """
    inner = max(8, width - LABEL - 2)
    values = [y for curve in curves for _, y in curve.points] + (
        [] if reference is None else [reference]
    )
    low, high = _range(values, bounds)
    cells = _Cells(inner, height, low, high, max(last, 1.0))
    for curve in curves:
        cells.draw(curve)
    lines = [Text(f"{'':{LABEL}} {title}", style="bold")]
    dashed = None if reference is None else cells.row(reference)
    for row in range(height):
        label = _number(high if row == 0 else low) if row in (0, height - 1) else ""
        label = _number(reference) if reference is not None and row == dashed else label
        lines.append(
            Text(f"{label:>{LABEL}} ┤" if label else f"{'':{LABEL}} │").append_text(
                cells.line(row, dashed=row == dashed)
            )
        )
    lines.append(Text(f"{'':{LABEL}} └{'─' * inner}"))
    lines.append(Text(f"{'':{LABEL}}  0{f'{across} {last:g}':>{inner - 1}}"))
    return Text("\n").join(lines)


class _Cells:
    """A grid of characters, each of 2 x 4 dots."""

    def __init__(self, width: int, height: int, low: float, high: float, last: float) -> None:
        self.width, self.height, self.low, self.high, self.last = width, height, low, high, last
        self._dots: dict[tuple[int, int], tuple[int, str]] = {}
        self._markers: dict[tuple[int, int], tuple[str, str]] = {}

    def row(self, y: float) -> int:
        return self._place(0.0, y)[1] // 4

    def draw(self, curve: PlottedCurve) -> None:
        places = [self._place(x, y) for x, y in curve.points]
        for start, end in pairwise(places):
            for x, y in _between(start, end):
                if x % curve.gap == 0:
                    bits, _ = self._dots.get((x // 2, y // 4), (0, ""))
                    self._dots[x // 2, y // 4] = (bits | DOTS[y % 4][x % 2], curve.style)
        marked = places if len(places) * SPARSE <= self.width else places[-1:]
        self._markers |= {(x // 2, y // 4): (curve.marker, curve.style) for x, y in marked}

    def line(self, row: int, *, dashed: bool) -> Text:
        text = Text()
        for column in range(self.width):
            if marker := self._markers.get((column, row)):
                text.append(*marker)
            elif found := self._dots.get((column, row)):
                text.append(chr(BRAILLE + found[0]), found[1])
            else:
                text.append("╌" if dashed else " ", "dim")
        return text

    def _place(self, x: float, y: float) -> tuple[int, int]:
        across = round(x / self.last * (2 * self.width - 1))
        down = round((self.high - y) / (self.high - self.low) * (4 * self.height - 1))
        return min(2 * self.width - 1, max(0, across)), min(4 * self.height - 1, max(0, down))


def _between(start: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    for step in range(steps + 1):
        yield (
            start[0] + round(step * (end[0] - start[0]) / steps),
            start[1] + round(step * (end[1] - start[1]) / steps),
        )


def _range(values: Sequence[float], bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return max(low - room, bounds[0]), min(high + room, bounds[1])


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1_000 else f"{value:.2e}"
