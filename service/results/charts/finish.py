"""What all charts have in common, done to the finished specification: one title for the vertical
axes of all panels, an axis below each panel, short tick labels, whole numbers on axes that count,
and the dark theme.
"""

import re
from collections.abc import Iterator
from typing import Any

from service.results.chart_formats import Theme
from service.results.charts.style import AnyChart
from service.results.csv_export import csv_pieces

Document = dict[str, Any]
Rows = list[dict[str, Any]]
Tables = dict[str, Rows]

# Numbers of many digits are told by three: 4e+37, not 4.0000000000000003e+37. So is the one tick of
# an axis with one value, which the library rounds to a whole number: it would call 0.4 a 0.
SHORT_LABELS = (
    "datum.value != 0 && (abs(datum.value) >= 1e6 || abs(datum.value) < 1e-4 "
    "|| (datum.value % 1 && !test(/[.%]/, datum.label))) "
    "? format(datum.value, '.3~g') : datum.label"
)
WHOLE_LABELS = "datum.value % 1 ? '' : format(datum.value, ',d')"
FEW_TICKS = 12  # so many whole numbers have a tick each
# the page's own dark colours, so that a saved picture looks as the page does
DARK_PAGE, DARK_INK, DARK_GRID = "#14181d", "#e6edf3", "#8b949e"
# Okabe and Ito's colours, each of which has a contrast of at least 4.5 to DARK_PAGE
DARK_COLOURS = {
    "#0072B2": "#4FB0E8",
    "#D55E00": "#FF8A4C",
    "#009E73": "#2CC79B",
    "#E69F00": "#F2B632",
    "#CC79A7": "#E39AC4",
    "#56B4E9": "#A8DBFF",
    "#808080": "#9AA4AE",
}
NEEDED = re.compile(r"isValid\(datum\.(\w+)\)")  # fields that a layer's filter asks for
OF_THE_PICTURE = (
    "panel",
    "note",
    "ink",
    "url",
    "marked",
    "band_start",
    "band_end",
)  # fields that say where and how a row is drawn


def finished(document: Document, theme: Theme = "light") -> Document:
    """The specification as it is drawn. It is changed in place."""
    _leave_out_empty(document, document.get("datasets", {}), [])
    for facet in _facets(document):
        _give_one_title(facet)
    splits = _splits(document)
    for encoding in _encodings(document):
        _shorten_labels(encoding)
        _leave_out_splits(encoding, splits)
    _count_in_whole_numbers(document, [])
    return darkened(document) if theme == "dark" else document


def document_of(chart: AnyChart) -> Document:
    """A chart as JSON has it: its rows, tuples until here, are lists."""
    document: Document = chart.to_dict(validate=False)
    tables = document.get("datasets", {})
    return document | {"datasets": {name: list(rows) for name, rows in tables.items()}}


def drawn_rows(document: Document) -> bytes:
    """What a chart draws, as CSV: the rows of its data, those of reference lines left out."""
    tables = document.get("datasets", {}).values()
    rows = [row for table in tables if len(table) > 1 for row in table]
    rows = rows or [row for table in tables for row in table]
    columns = dict.fromkeys(name for row in rows for name in row if name not in OF_THE_PICTURE)
    return b"".join(csv_pieces(list(columns), rows))


def darkened(document: Document) -> Document:
    """The specification with light text and lighter marks on a dark page."""
    config = document.setdefault("config", {})
    config["background"] = DARK_PAGE
    for part, inks in {
        "title": ("color", "subtitleColor"),
        "axis": ("labelColor", "titleColor"),
        "legend": ("labelColor", "titleColor"),
        "header": ("labelColor", "titleColor"),
        "text": ("color",),
    }.items():
        config[part] = {**config.get(part, {}), **dict.fromkeys(inks, DARK_INK)}
    lines = {"domainColor": DARK_GRID, "tickColor": DARK_GRID, "gridColor": DARK_GRID}
    config["axis"] = {**config["axis"], **lines}
    found: Document = _recoloured(document)
    return found


def _recoloured(part: Any) -> Any:
    """A part of a specification with each colour of the palette in its dark variant."""
    if isinstance(part, dict):
        return {
            name: value if name in ("datasets", "usermeta") else _recoloured(value)
            for name, value in part.items()
        }
    if isinstance(part, list):
        return [_recoloured(one) for one in part]
    return DARK_COLOURS.get(part.upper(), part) if isinstance(part, str) else part


def svg_with_dark_variant(svg: str) -> str:
    """An SVG in light colours that is dark where the reader prefers dark pages."""
    rules = "".join(
        f'[fill="{light}" i]{{fill:{dark}}}[stroke="{light}" i]{{stroke:{dark}}}'
        for light, dark in {**DARK_COLOURS, "#ddd": DARK_GRID, "#888": DARK_GRID}.items()
    )
    ink = f'[fill="black"],[fill="#000"]{{fill:{DARK_INK}}}'
    page = f'svg>rect[fill="white"]{{fill:{DARK_PAGE}}}'
    style = f"<style>@media (prefers-color-scheme:dark){{{page}{ink}{rules}}}</style>"
    return re.sub(r"(<svg[^>]*>)", lambda found: found[1] + style, svg, count=1)


def _count_in_whole_numbers(part: Document, rows: Rows, tables: Tables | None = None) -> None:
    """Give axes of whole numbers, such as epochs and trials, ticks at whole numbers alone.

    The library would put ticks at halves of a short axis, and round their labels.

    **Arguments:**

    - `rows`: the data of the view around this one.
    """
    tables = part.get("datasets", {}) if tables is None else tables
    rows = _own_rows(part, tables) or rows
    for channel in ("x", "y"):
        found = part.get("encoding", {}).get(channel, {})
        counted = _whole_numbers(found, rows)
        if len(counted) > 1 and not _is_background(part, channel):
            axis = {**found.get("axis", {}), "tickMinStep": 1}
            axis.setdefault("labelExpr", WHOLE_LABELS)
            axis.pop("format", None)
            if max(counted) - min(counted) <= FEW_TICKS and "values" not in axis:
                axis["values"] = list(range(min(counted), max(counted) + 1))
            found["axis"] = axis
    for inner in _inner_views(part):
        _count_in_whole_numbers(inner, rows, tables)


def _is_background(part: Document, channel: str) -> bool:
    """Whether a view marks a range of an axis that the curves before it reach beyond."""
    mark = part.get("mark")
    kind = mark.get("type") if isinstance(mark, dict) else mark
    return kind == "rect" and f"{channel}2" in part.get("encoding", {})


def _inner_views(part: Document) -> list[Document]:
    """The views that a view consists of."""
    found = [
        one for kind in ("layer", "concat", "hconcat", "vconcat") for one in part.get(kind, ())
    ]
    return [*found, part["spec"]] if "spec" in part else found


def _own_rows(part: Document, tables: Tables) -> Rows | None:
    """The data of a view; None where it has none of its own."""
    data = part.get("data", {})
    found: Rows | None = tables.get(str(data.get("name")), data.get("values"))
    return found


def _whole_numbers(encoded: Document, rows: Rows) -> set[int]:
    """The numbers along an axis, where all are whole; none of an axis of another kind."""
    is_log = encoded.get("scale", {}).get("type", "linear") != "linear"
    if encoded.get("type") != "quantitative" or is_log or encoded.get("axis", {}) is None:
        return set()
    found = (row.get(str(encoded.get("field"))) for row in rows)
    values = [value for value in found if value is not None]
    if not all(isinstance(value, int | float) and float(value).is_integer() for value in values):
        return set()
    return {int(value) for value in values}


def _leave_out_empty(part: Document, tables: Tables, inherited: Rows) -> None:
    """Leave out the layers that have nothing to draw, such as the intervals of a single seed: the
    library warns of an axis without values.

    **Arguments:**

    - `part`: the specification, or a part of it.
    - `tables`: the rows of the specification by the name of their data.
    - `inherited`: the rows of what the part belongs to.
    """
    own = _own_rows(part, tables)
    rows = inherited if own is None else own
    for inner in _inner_views(part):
        _leave_out_empty(inner, tables, rows)
    if "layer" in part:
        drawn = [one for one in part["layer"] if not _is_empty(one, tables, rows)]
        part["layer"] = drawn or part["layer"]


def _splits(document: Document) -> set[str]:
    """The splits that any row of a chart is of."""
    tables: Tables = document.get("datasets", {})
    return {str(row["split"]) for rows in tables.values() for row in rows if row.get("split")}


def _leave_out_splits(encoding: Document, there: set[str]) -> None:
    """Name no split in a legend that no row is of, as of a recorded run of positives alone."""
    for found in encoding.values():
        if not isinstance(found, dict) or found.get("field") != "split" or not found.get("legend"):
            continue
        known = found.get("scale", {}).get("domain", [])
        values = [value for value in known if value in there]
        if values and len(values) < len(known):
            found["legend"] = {"values": values, **found["legend"]}


def _is_empty(layer: Document, tables: Tables, inherited: Rows) -> bool:
    """Whether a layer has a number to place its marks by that no row has."""
    own = _own_rows(layer, tables)
    rows = inherited if own is None else own
    encoding = layer.get("encoding", {})
    places = (encoding.get(channel, {}) for channel in ("x", "y"))
    fields = [
        one["field"] for one in places if one.get("type") == "quantitative" and "field" in one
    ]
    filters = " ".join(str(one.get("filter", "")) for one in layer.get("transform", ()))
    there = [
        row for row in rows if all(row.get(field) is not None for field in NEEDED.findall(filters))
    ]
    return bool(rows) and any(all(row.get(field) is None for row in there) for field in fields)


def _facets(part: Document) -> Iterator[Document]:
    """The faceted parts of a specification."""
    if "facet" in part and "spec" in part:
        yield part
    for kind in ("concat", "hconcat", "vconcat"):
        for inner in part.get(kind, ()):
            yield from _facets(inner)


def _give_one_title(facet: Document) -> None:
    """Write the title of the vertical axes once, above all panels, where it collides with nothing.

    Each panel has its own axes: where the last row is not full, none is left without a panel.
    """
    titles = []
    for encoding in _encodings(facet["spec"]):
        y = encoding.get("y", {})
        if y.get("title"):
            titles.append(y["title"])
        if "field" in y:
            y["title"] = None
    axes = facet.setdefault("resolve", {}).setdefault("axis", {})
    axes.update(x="independent", y="independent")
    header = facet["facet"].setdefault("header", {})
    if titles:
        facet["facet"]["title"] = f"↑ {titles[0]}"
        header.update(titleAnchor="start", titleFontWeight="normal", titlePadding=6)


def _encodings(part: Document) -> Iterator[Document]:
    """The encodings of a specification and of its parts."""
    if "encoding" in part:
        yield part["encoding"]
    for kind in ("layer", "concat", "hconcat", "vconcat"):
        for inner in part.get(kind, ()):
            yield from _encodings(inner)
    if "spec" in part:
        yield from _encodings(part["spec"])


def _shorten_labels(encoding: Document) -> None:
    """Shorten the labels of quantitative axes that have no format of their own."""
    for channel in ("x", "y"):
        found = encoding.get(channel, {})
        if found.get("type") != "quantitative" or "field" not in found:
            continue
        axis = found.get("axis", {})
        if axis is None or {"format", "labelExpr", "labels"} & set(axis):
            continue
        found["axis"] = {**axis, "labelExpr": SHORT_LABELS}
