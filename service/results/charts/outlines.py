"""The text of an SVG as outlines, so that it looks the same on machines with other fonts.

The font is the one that the drawing library measures with.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import NamedTuple
from xml.etree import ElementTree

from fontTools.pens.svgPathPen import SVGPathPen
from fontTools.ttLib import TTFont

SVG = "http://www.w3.org/2000/svg"
FILES = {"normal": "LiberationSans-Regular.ttf", "bold": "LiberationSans-Bold.ttf"}
HEAVY = frozenset({"bold", "600", "700", "800", "900"})
SIZE = re.compile(r"([\d.]+)(?:px)?")
STARTS = {"middle": 0.5, "end": 1.0}  # how much of a line is left of its place
OF_TEXT = frozenset(
    {"text-anchor", "font-family", "font-size", "font-weight", "font-style", "x", "y", "dx", "dy"}
)

ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")


class Font:
    """Outlines and widths of one font, in its own units."""

    def __init__(self, file: str) -> None:
        folder = resources.files("service.results.charts") / "fonts"
        with resources.as_file(folder / file) as path:
            self._font = TTFont(path)
        self._names: dict[int, str] = self._font.getBestCmap()
        self._glyphs = self._font.getGlyphSet()
        self._kerns: dict[tuple[str, str], int] = self._font["kern"].kernTables[0].kernTable
        self.units: int = self._font["head"].unitsPerEm

    def has(self, text: str) -> bool:
        """Whether there is an outline for each character."""
        return all(ord(character) in self._names for character in text)

    def placed(self, text: str) -> tuple[list[tuple[str, int]], int]:
        """Return the name of each character's outline with its place, and the width of all."""
        found, at, before = [], 0, ""
        for character in text:
            name = self._names[ord(character)]
            at += self._kerns.get((before, name), 0)
            found.append((name, at))
            at += round(self._glyphs[name].width)
            before = name
        return found, at

    def outline(self, name: str) -> str:
        """Return an outline as the data of an SVG path, upside down as fonts have it."""
        pen = SVGPathPen(self._glyphs)
        self._glyphs[name].draw(pen)
        return str(pen.getCommands())


@cache
def font(weight: str) -> Font:
    """Return the font of a weight."""
    return Font(FILES["bold" if weight in HEAVY else "normal"])


class _Line(NamedTuple):
    """A line of text, and its place relative to that of its text."""

    text: str
    x: float
    y: float


class _Outlines:
    """The outlines that one picture uses, each once."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], str] = {}
        self.defs = ElementTree.Element(f"{{{SVG}}}defs")

    def reference(self, weight: str, name: str) -> str:
        """Return the reference to an outline."""
        if (key := (weight, name)) not in self._ids:
            self._ids[key] = f"glyph-{len(self._ids)}"
            data = font(weight).outline(name)
            self.defs.append(
                ElementTree.Element(f"{{{SVG}}}path", {"id": self._ids[key], "d": data})
            )
        return f"#{self._ids[key]}"


def outlined(svg: str) -> str:
    """Return an SVG of the drawing library with outlines in place of its text.

    Each text keeps its words as a label. Text with characters that the font lacks stays text.
    """
    root = ElementTree.fromstring(svg)  # noqa: S314 - the drawing library has written it
    outlines = _Outlines()
    for parent in list(root.iter()):
        for place, child in enumerate(list(parent)):
            if child.tag == f"{{{SVG}}}text" and _can_be_outlined(child):
                parent[place] = _drawn(child, outlines)
    if len(outlines.defs):
        root.insert(0, outlines.defs)
    return ElementTree.tostring(root, encoding="unicode")


def _can_be_outlined(text: ElementTree.Element) -> bool:
    weight, style = text.get("font-weight", "normal"), text.get("font-style", "normal")
    return style == "normal" and font(weight).has("".join(text.itertext()))


def _drawn(text: ElementTree.Element, outlines: _Outlines) -> ElementTree.Element:
    """Return the outlines of a text, with its place, colour and words."""
    kept = {name: value for name, value in text.attrib.items() if name not in OF_TEXT}
    group = ElementTree.Element(f"{{{SVG}}}g", {"stroke": "none", **kept})
    words = " ".join(filter(None, text.itertext()))
    if words:
        group.attrib = {"role": "img", "aria-label": words, **group.attrib}
    weight = text.get("font-weight", "normal")
    scale = _size(text) / font(weight).units
    left = STARTS.get(text.get("text-anchor", "start"), 0.0)
    for line in _lines(text):
        _add_line(group, line, weight, scale, left, outlines)
    return group


def _add_line(
    group: ElementTree.Element,
    line: _Line,
    weight: str,
    scale: float,
    left: float,
    outlines: _Outlines,
) -> None:
    glyphs, width = font(weight).placed(line.text)
    x = line.x - left * width * scale
    moved = f"translate({x:.4g},{line.y:.4g}) scale({scale:.6g},{-scale:.6g})"
    drawn = ElementTree.SubElement(group, f"{{{SVG}}}g", {"transform": moved})
    for name, at in glyphs:
        href = outlines.reference(weight, name)
        ElementTree.SubElement(
            drawn,
            f"{{{SVG}}}use",
            {"{http://www.w3.org/1999/xlink}href": href, **({"x": str(at)} if at else {})},
        )


def _lines(text: ElementTree.Element) -> Iterator[_Line]:
    """Yield the lines of a text: its own, and those of its spans, each below the one before."""
    x, y = float(text.get("x", 0)), float(text.get("y", 0))
    if text.text:
        yield _Line(text.text, x, y)
    for span in text:
        x, y = float(span.get("x", x)), y + float(span.get("dy", 0))
        yield _Line(span.text or "", x, y)


def _size(text: ElementTree.Element) -> float:
    found = SIZE.fullmatch(text.get("font-size", "11px"))
    return float(found[1]) if found else 11.0
