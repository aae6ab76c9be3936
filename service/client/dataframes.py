"""Converts rows to DataFrames of pandas or polars, whichever is installed."""

import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

from ffengine.results import CheckCell, EpochRow
from service.client.requests import Document

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Rows = list[Document]
Table: TypeAlias = "pd.DataFrame | pl.DataFrame | Rows"

STUDY_COLUMNS = (
    *("part", "job", "state", "figure", "layer", "epoch", "split", "width", "method", "partition"),
    *("mean", "low", "high", "seeds"),
)
COLUMNS: dict[str, Sequence[str]] = {
    "train": tuple(EpochRow.model_fields),
    "check": tuple(CheckCell.model_fields),
    "study": STUDY_COLUMNS,
}
SUMMARY_KEY = re.compile(
    r"(?P<figure>[^\[]*)\[(?P<place>.*)\]"
)  # of a summary's key, ratio[width=64 split=positive method=exact]


def to_table(rows: Rows, columns: Sequence[str] = ()) -> Table:
    """Return the rows as a DataFrame of pandas, else of polars, else as they are.

    `columns` are those of a table without rows.
    """
    if find_spec("pandas"):
        return to_pandas(rows, columns)
    return to_polars(rows, columns) if find_spec("polars") else rows


def to_pandas(rows: Rows, columns: Sequence[str] = ()) -> "pd.DataFrame":
    """Return a pandas DataFrame. Raises ImportError if pandas is not installed.

    Null figures become NaN; columns of integers that may be null become Int64.
    """
    import pandas as pd

    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(columns))
    values = {
        column: [row[column] for row in rows if row.get(column) is not None]
        for column in frame.columns
        if rows
    }
    gaps = {column: there for column, there in values.items() if 0 < len(there) < len(rows)}
    whole = {
        column: "Int64"
        for column, there in gaps.items()
        if {type(value) for value in there} == {int}
    }
    return frame.astype(
        whole | {column: "float64" for column, there in values.items() if not there}
    )


def to_polars(rows: Rows, columns: Sequence[str] = ()) -> "pl.DataFrame":
    """Return a polars DataFrame. Raises ImportError if polars is not installed.

    Columns that are null in every row become Float64.
    """
    import polars as pl

    if not rows:
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.Float64))
    empty = [column for column in rows[0] if all(row.get(column) is None for row in rows)]
    return pl.DataFrame(
        rows, schema_overrides=dict.fromkeys(empty, pl.Float64), infer_schema_length=None
    )


def tidy(kind: str, items: Rows) -> Rows:
    """Return rows that all have the same columns.

    The rows of a run are so already; each cell of a study becomes a row for each figure.
    """
    if kind != "study":
        return items
    found = [row for cell in items for row in _figures(cell)]
    columns = dict.fromkeys(column for row in found for column in row)
    return [{column: row.get(column) for column in columns} for row in found]


def _figures(cell: Document) -> Rows:
    """Return the rows of a study's cell: what was varied, each figure, its interval."""
    varied = {
        (f"params.{field}" if field in STUDY_COLUMNS else field): _scalar(value)
        for field, value in cell["params"].items()
    }
    about = {"part": cell["part"], **varied, "job": cell["job"], "state": cell["state"]}
    rows = []
    for key, interval in cell["summary"].items():
        match = SUMMARY_KEY.fullmatch(key)
        places = dict(part.split("=", 1) for part in match["place"].split()) if match else {}
        named = {
            field: _coordinate(places.get(field))
            for field in ("layer", "epoch", "split", "width", "method", "partition")
        }
        rows.append({**about, "figure": match["figure"] if match else key, **named, **interval})
    return rows


def _coordinate(text: str | None) -> str | int | None:
    """Convert a coordinate: layer, epoch and width to a number, `all` layers to null."""
    if text is None or text == "all":
        return None
    return int(text) if text.isdigit() else text


def _scalar(value: Any) -> Any:
    """Convert a value of a grid to one that a table can hold and group by."""
    return json.dumps(value) if isinstance(value, list | dict) else value
