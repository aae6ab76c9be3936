"""Tables for papers in LaTeX.

They need no package. The rules are those of booktabs where that is loaded; a table of several pages
needs longtable, which comes with LaTeX.
"""

import textwrap
from collections.abc import Mapping, Sequence

from service.encoding.latex import for_latex
from service.results.paper_tables import PaperTable

LONG = 35  # rows that a page has room for
# characters of a line of 16 cm, in two sizes of text; a column has a blank on both sides
ROOM = {"footnotesize": 96, "scriptsize": 118}
BLANKS = 2
CM_PER_CHARACTER = {"footnotesize": 0.152, "scriptsize": 0.121}
NARROWEST_TEXT = 18  # characters of a column whose lines are broken

RULES = r"""\providecommand{\toprule}{\hline}
\providecommand{\midrule}{\hline}
\providecommand{\bottomrule}{\hline}"""
FORM = r"""%% A table by fflab.
%(rules)s
\begin{table}[htbp]
\centering\%(size)s
%(caption)s
\begin{tabular}{%(columns)s}
\toprule
%(head)s
\midrule
%(body)s
\bottomrule
\end{tabular}
\end{table}
"""
LONG_FORM = r"""%% A table by fflab; it needs \usepackage{longtable}.
%(rules)s
{\%(size)s\setlength{\LTcapwidth}{\linewidth}
\begin{longtable}{%(columns)s}
%(caption)s\\
\toprule
%(head)s
\midrule
\endfirsthead
\toprule
%(head)s
\midrule
\endhead
\bottomrule
\endlastfoot
%(body)s
\end{longtable}}
"""


def latex(table: PaperTable) -> str:
    """The table in LaTeX, with its caption; all text is escaped."""
    widths = _widths(table, stacked=False)
    stacked = _least(table, widths) > ROOM["scriptsize"]
    if stacked:
        widths = _widths(table, stacked=True)
    size = "footnotesize" if sum(widths) <= ROOM["footnotesize"] else "scriptsize"
    broken = _broken(table, widths, size)
    return (LONG_FORM if len(table.rows) > LONG else FORM) % {
        "rules": RULES,
        "size": size,
        "caption": rf"\caption{{{for_latex(table.caption)}}}\label{{tab:fflab-{table.name}}}",
        "columns": _columns(table, broken, size),
        "head": _head(table, widths),
        "body": "\n".join(
            _line(row, len(table.columns), broken, stacked=stacked) for row in table.rows
        ),
    }


def _least(table: PaperTable, widths: Sequence[int]) -> int:
    """How wide the table is once its texts have lines."""
    columns = zip(table.columns, widths, strict=True)
    return sum(
        width if column.is_number else min(width, NARROWEST_TEXT) for column, width in columns
    )


def _widths(table: PaperTable, *, stacked: bool) -> list[int]:
    """How many characters each column is wide, with the blanks beside it."""
    found = []
    for at, column in enumerate(table.columns):
        cells = [row[at] for row in table.rows if len(row) == len(table.columns)]
        lines = [part for cell in cells for part in (_parts(cell) if stacked else [cell])]
        words = column.label.split() or [""]
        found.append(max(map(len, [*lines, *words])) + BLANKS)
    return found


def _parts(cell: str) -> list[str]:
    """A mean and its interval, which may stand below each other."""
    mean, bracket, interval = cell.partition(" [")
    return [mean, f"[{interval}"] if bracket and interval.endswith("]") else [cell]


def _broken(table: PaperTable, widths: Sequence[int], size: str) -> dict[int, int]:
    """How many characters columns have room for whose texts get lines, because the table would be
    too wide.
    """
    texts = [at for at, column in enumerate(table.columns) if not column.is_number]
    over = sum(widths) - ROOM[size]
    broken: dict[int, int] = {}
    for at in sorted(texts, key=lambda at: -widths[at]):
        if over > 0 and widths[at] > NARROWEST_TEXT:
            broken[at] = max(NARROWEST_TEXT, widths[at] - over)
            over -= widths[at] - broken[at]
    return broken


def _columns(table: PaperTable, broken: Mapping[int, int], size: str) -> str:
    """The kinds of the columns."""
    return "".join(
        rf"p{{{broken[at] * CM_PER_CHARACTER[size]:.1f}cm}}"
        if at in broken
        else "r"
        if column.is_number
        else "l"
        for at, column in enumerate(table.columns)
    )


def _head(table: PaperTable, widths: Sequence[int]) -> str:
    """The titles of the columns, each in lines as wide as its figures."""
    cells = []
    for column, width in zip(table.columns, widths, strict=True):
        lines = textwrap.wrap(column.label, max(width - BLANKS, 8), break_long_words=False)
        side = "r" if column.is_number else "l"
        cells.append(_stack(lines, side))
    return " & ".join(cells) + r" \\"


def _stack(lines: Sequence[str], side: str) -> str:
    """Lines below each other; a single one needs no stack."""
    written = [for_latex(line) for line in lines]
    if len(written) < 2:
        return "".join(written) or "{}"
    below_each_other = r" \\ ".join(written)
    return rf"\shortstack[{side}]{{{below_each_other}}}"


def _line(row: Sequence[str], columns: int, broken: Mapping[int, int], *, stacked: bool) -> str:
    if len(row) == 1 < columns:  # a heading
        text = _breakable(row[0], NARROWEST_TEXT)
        return rf"\multicolumn{{{columns}}}{{p{{0.97\linewidth}}}}{{\itshape {text}}} \\"
    cells = [
        rf"\raggedright {_breakable(cell, broken[at] - BLANKS)}"
        if at in broken
        else _stack(_parts(cell) if stacked else [cell], "r")
        for at, cell in enumerate(row)
    ]
    return " & ".join(cells) + r" \tabularnewline"


def _breakable(text: str, room: int) -> str:
    """A text for lines of so many characters: words that are longer may be broken anywhere."""
    words = (
        r"\allowbreak{}".join(map(for_latex, word)) if len(word) > room else for_latex(word)
        for word in text.split(" ")
    )
    return " ".join(words)
