"""Lays a chart out for a width, so that its text keeps its size on paper.

Panels get narrower or wider, and fewer beside each other; legends get fewer columns; titles and
captions are wrapped again. What is left is a change of scale of a few percent.
"""

import copy
import math
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import vl_convert

from service.results.charts.style import CAPTION_CHARACTERS, WIDTH

Specification = dict[str, Any]

LEAST_PANEL_PX, LEAST_PLOT_PX = 190.0, 90.0  # with a title of its own above it; alone
IN_ONE_ROW = 3  # panels that have no row of two and one alone, where there is room
LOWEST, HIGHEST = 0.65, 1.25  # how much lower and higher plots get than on pages
PADDING_PX = 3
CLOSE_ENOUGH = 0.01  # of the width
TRIES = 3
LEGEND_COLUMNS = (None, 2, 1)
TITLE_PX_PER_CHARACTER = 8.2
TOP_WIDTH = re.compile(r'<svg[^>]*? width="([\d.]+)"')


def without_title(spec: Specification) -> Specification:
    """The chart without its title and its caption."""
    return {key: value for key, value in spec.items() if key not in ("title", "usermeta")}


def laid_out(spec: Specification, width_px: float) -> Specification:
    """The chart, as near to a width as its panels allow.

    A chart with pictures of samples keeps its layout: they have places and sizes of their own.
    """
    spec = {**spec, "config": {**spec.get("config", {}), "padding": PADDING_PX}}
    if any(view.get("mark") == "image" or _mark(view) == "image" for view in _views(spec)):
        return spec
    spec = _wrapped(spec, width_px)
    best, least = spec, math.inf
    for columns in LEGEND_COLUMNS:
        found = _fitted(_with_columns(spec, width_px, columns), width_px)
        off = abs(drawn_width(found) - width_px)
        if off < least - CLOSE_ENOUGH * width_px:
            best, least = found, off
        if least <= CLOSE_ENOUGH * width_px:
            break
    return best


def drawn_width(spec: Specification) -> float:
    """How wide the chart is, in pixels."""
    return svg_width(vl_convert.vegalite_to_svg(spec))


def svg_width(svg: str) -> float:
    """The width of an SVG of the drawing library, in pixels."""
    found = TOP_WIDTH.search(svg)
    return float(found[1]) if found else float(WIDTH)


def _is_close(width: float, wanted: float) -> bool:
    return abs(width - wanted) <= CLOSE_ENOUGH * wanted


def _fitted(spec: Specification, width_px: float) -> Specification:
    """Change the widths of plots until the chart is as wide as wanted, or cannot be."""
    found, factor = spec, 1.0
    panels = _columns(spec)
    natural = max((view["width"] for view in _plots(spec)), default=float(WIDTH))
    for _ in range(TRIES):
        width = drawn_width(found)
        if _is_close(width, width_px):
            break
        wider = (width_px - width) / panels / natural
        factor = max(LEAST_PLOT_PX / natural, factor + wider)
        found = _scaled(spec, factor)
    return found


def _scaled(spec: Specification, factor: float) -> Specification:
    found = copy.deepcopy(spec)
    tall = min(HIGHEST, max(LOWEST, factor))
    for view in _plots(found):
        view["width"] = round(view["width"] * factor)
        if isinstance(view.get("height"), int | float):
            view["height"] = round(view["height"] * tall)
    return found


def _with_columns(spec: Specification, width_px: float, legend: int | None) -> Specification:
    """As many panels beside each other as there is room for, and legends of so many columns."""
    found = copy.deepcopy(spec)
    for view in _views(found):
        if isinstance(view.get("columns"), int):
            room = max(1, int(width_px // (LEAST_PANEL_PX + 0.1 * LEAST_PANEL_PX)))
            three = len(view.get("facet", {}).get("sort", ())) == IN_ONE_ROW <= room
            view["columns"] = IN_ONE_ROW if three else min(view["columns"], room)
        if legend is not None:
            for channel in view.get("encoding", {}).values():
                if isinstance(channel, dict) and isinstance(channel.get("legend"), dict):
                    channel["legend"]["columns"] = legend
    if legend is not None:
        found["config"] = {**found["config"], "legend": _legend(found, legend)}
    return found


def _legend(spec: Specification, columns: int) -> dict[str, Any]:
    return {**spec["config"].get("legend", {}), "columns": columns}


def _columns(spec: Specification) -> int:
    """How many panels stand beside each other."""
    return max((view["columns"] for view in _views(spec) if "columns" in view), default=1)


def _wrapped(spec: Specification, width_px: float) -> Specification:
    """The title and the caption in lines that fit the width."""
    title = spec.get("title")
    if not isinstance(title, dict):
        return spec
    characters = max(20, int(CAPTION_CHARACTERS * (width_px - 2 * PADDING_PX) / WIDTH))
    caption = spec.get("usermeta", {}).get("caption", [])
    lines = [line for part in caption for line in textwrap.wrap(part, characters)]
    words = title["text"] if isinstance(title["text"], str) else " ".join(title["text"])
    heading = textwrap.wrap(words, max(12, int(width_px / TITLE_PX_PER_CHARACTER)))
    return {**spec, "title": {**title, "text": heading, "subtitle": lines}}


def _views(spec: Specification) -> Iterator[Specification]:
    """Yield the chart and every view within it."""
    yield spec
    for key in ("layer", "concat", "hconcat", "vconcat"):
        for view in spec.get(key, ()):
            yield from _views(view)
    if isinstance(spec.get("spec"), dict):
        yield from _views(spec["spec"])


def _plots(spec: Specification) -> list[Specification]:
    """The views that have a width of their own in pixels."""
    return [view for view in _views(spec) if isinstance(view.get("width"), int | float)]


def _mark(view: Specification) -> str:
    mark = view.get("mark")
    return str(mark.get("type")) if isinstance(mark, dict) else ""
