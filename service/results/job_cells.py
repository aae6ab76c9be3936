"""Values of the columns of a list of jobs in words, for pages and for the command line."""

from datetime import UTC, datetime

from ffengine.text import shortened, visible
from service.lists.columns import Column, Value, Values
from service.results.descriptions import duration

LONGEST = 60  # characters of a text; a note may have thousands
MOST_SHOWN = 8  # of several values


def cell_text(column: Column, value: Values) -> str:
    """Return a value in words; "" where there is none."""
    if isinstance(value, list):
        shown = ", ".join(_text(column, one) for one in value[:MOST_SHOWN])
        return f"{shown}, …" if len(value) > MOST_SHOWN else shown
    return "" if value is None else _text(column, value)


def _text(column: Column, value: Value) -> str:
    if isinstance(value, str):
        return visible(shortened(value, LONGEST).replace("\n", " "))
    if column.type == "flag" or isinstance(value, bool):
        return "yes" if value else "no"
    number = float(value or 0)
    if column.type == "time":
        moment = datetime.fromtimestamp(number, UTC).isoformat(timespec="seconds")
        return moment.replace("+00:00", "Z")
    if column.type == "duration":
        return duration(number)
    return f"{number:.4f}" if column.group == "figure" else f"{number:.6g}"
