"""Tables of Markdown pages."""

from collections.abc import Iterable, Sequence


def table_lines(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; a bar within a cell would end it.

    **Arguments:**

    - `columns`: the headings.
    - `rows`: the cells of each row.

    **Returns:**

    A line for the headings, one below them, and one for each row.
    """
    lines = [columns, ("---",) * len(columns), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines]
