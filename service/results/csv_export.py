"""A result as a table of plain values and as CSV."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from ffengine.results import CheckResult, StudyResult, TrainResult

ROWS_AT_ONCE = 500


def table(result: TrainResult | CheckResult | StudyResult) -> list[dict[str, Any]]:
    """The rows of a training run, the cells of a check, or a row for each run and figure of a
    study. All rows have the same columns.
    """
    if isinstance(result, TrainResult):
        return [row.model_dump(mode="json") for row in result.curves]
    if isinstance(result, CheckResult):
        return [cell.model_dump(mode="json") for cell in result.cells]
    return [
        {
            "part": cell.part,
            "params": json.dumps(cell.params),
            "job": cell.job,
            "state": cell.state,
            "figure": figure,
            **found.model_dump(mode="json"),
        }
        for cell in result.cells
        for figure, found in cell.summary.items()
    ]


def csv_pieces(result: TrainResult | CheckResult | StudyResult) -> Iterator[bytes]:
    """The table as CSV with a header, ROWS_AT_ONCE rows at a time; undefined figures are empty."""
    rows = table(result)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for start in range(0, len(rows), ROWS_AT_ONCE):
        writer.writerows(rows[start : start + ROWS_AT_ONCE])
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def to_csv(result: TrainResult | CheckResult | StudyResult) -> str:
    """The table as CSV."""
    return b"".join(csv_pieces(result)).decode()
