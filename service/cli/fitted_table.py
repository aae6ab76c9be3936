"""A table that fits a terminal: texts are cut, and columns left out, the least important first."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, chop_cells
from rich.text import Text

GAP = 2  # spaces between columns
LEAST_TEXT = 16  # a text is cut to this width before a column is left out
SHORTEST_TEXT = 4


class Fitted(NamedTuple):
    """The lines of a table, its head first, and the names of the columns that are left out."""

    lines: list[Text]
    left_out: list[str]


def fitted(
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    width: int | None,
    *,
    texts: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    right: Sequence[str] = (),
    ellipsis: str = "…",
) -> Fitted:
    """Lay a table out.

    **Arguments:**

    - `columns`: the names, which stand above the columns.
    - `rows`: a cell for each column.
    - `width`: of the terminal, in characters; None: whatever the table needs.
    - `texts`: the columns that may be cut.
    - `leave_out`: the columns that may be left out, the first of them first.
    - `right`: the columns of numbers.
    - `ellipsis`: what ends a text that is cut.

    **Returns:**

    Its lines. They are longer than `width` only where the other columns alone are.
    """
    cells = {
        name: [Text(name, "bold"), *(_text(row[at]) for row in rows)]
        for at, name in enumerate(columns)
    }
    wide = {name: max(cell.cell_len for cell in column) for name, column in cells.items()}
    left_out = _left_out(wide, width, texts, leave_out)
    shown = [name for name in columns if name not in left_out]
    widths = _cut({name: wide[name] for name in shown}, width, texts)
    lines = [
        _line([_cell(cells[name][at], widths[name], ellipsis, name in right) for name in shown])
        for at in range(len(rows) + 1)
    ]
    return Fitted(lines, [name for name in columns if name in left_out])


def _left_out(
    wide: dict[str, int], width: int | None, texts: Sequence[str], leave_out: Sequence[str]
) -> set[str]:
    """Return the columns to leave out, so that the texts of the others keep a readable width."""
    least = {name: min(one, LEAST_TEXT) if name in texts else one for name, one in wide.items()}
    gone: set[str] = set()
    for name in leave_out:
        if width is None or _total(least) <= width:
            break
        if least.pop(name, None) is not None:
            gone.add(name)
    return gone


def _cut(wide: dict[str, int], width: int | None, texts: Sequence[str]) -> dict[str, int]:
    """Return the width of each column: the widest text is cut first."""
    found = dict(wide)
    cuttable = [name for name in texts if name in found]
    while width is not None and cuttable and _total(found) > width:
        widest = max(cuttable, key=found.__getitem__)
        if found[widest] <= SHORTEST_TEXT:
            break
        found[widest] -= 1
    return found


def _total(wide: dict[str, int]) -> int:
    return sum(wide.values()) + GAP * (len(wide) - 1)


def _text(cell: str | Text) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)


def _cell(cell: Text, width: int, ellipsis: str, is_right: bool) -> Text:
    """Cut a cell, or fill it with spaces."""
    if cell.cell_len > width:
        room = max(0, width - cell_len(ellipsis))
        cell = Text(next(iter(chop_cells(cell.plain, room)), "") + ellipsis, cell.style)
    space = " " * (width - cell.cell_len)
    return Text.assemble(space, cell) if is_right else Text.assemble(cell, space)


def _line(cells: Sequence[Text]) -> Text:
    found = Text(" " * GAP).join(cells)
    found.rstrip()
    return found
