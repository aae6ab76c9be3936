"""Converts rows to DataFrames of pandas or polars, whichever is installed."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeAlias

from ffengine.results import CheckCell, EpochRow, ForecastPoint, RecordedRow, StudyCell
from ffengine.study import FIGURE_COLUMNS, figure_rows
from service.client.requests import Document

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Rows = list[Document]
Table: TypeAlias = "pd.DataFrame | pl.DataFrame | Rows"

COLUMNS: dict[str, Sequence[str]] = {
    "train": tuple(EpochRow.model_fields),
    "check": tuple(CheckCell.model_fields),
    "forecast": tuple(ForecastPoint.model_fields),
    "recorded": tuple(RecordedRow.model_fields),
    "study": FIGURE_COLUMNS,
}


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
    return figure_rows([_cell(item) for item in items])


def _cell(item: Document) -> StudyCell:
    """Convert a row; fields that only a later version of the service knows are left out."""
    return StudyCell.model_validate(
        {name: item[name] for name in StudyCell.model_fields if name in item}
    )
