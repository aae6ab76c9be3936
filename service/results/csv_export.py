"""A result as a table of plain values and as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from ffengine.results import (
    BaselineRow,
    CheckResult,
    EpochAccuracyRow,
    EpochRow,
    ForecastResult,
    LayerRangeRow,
    LesionRow,
    OodRow,
    PotentialRow,
    PushRow,
    RecordedResult,
    Row,
    SelectivityRow,
    StudyResult,
    TrainResult,
    UsageRow,
)
from ffengine.study import figure_rows
from service.encoding.escaping import for_csv
from service.results.measured_rows import DIRECTION, with_direction
from service.results.text_tables import pushes_of

ROWS_AT_ONCE = 500
RowKind = Literal[
    "cells",
    "potentials",
    "decomposition",
    "accuracy",
    "baselines",
    "usage",
    "selectivity",
    "lesions",
    "layer_range",
    "ood",
]
OF_UNITS: dict[str, type[Row]] = {
    "usage": UsageRow,
    "selectivity": SelectivityRow,
    "lesions": LesionRow,
    "layer_range": LayerRangeRow,
    "ood": OodRow,
}


def table(
    result: TrainResult | CheckResult | ForecastResult | StudyResult | RecordedResult,
) -> list[dict[str, Any]]:
    """The rows of a training run or forecast, the cells of a check, or a row for each run and
    figure of a study. All rows have the same columns.
    """
    if isinstance(result, TrainResult):
        absent = dict.fromkeys(EpochRow.model_fields)  # what a row leaves out
        return [with_direction(absent | row.model_dump(mode="json")) for row in result.curves]
    if isinstance(result, CheckResult):
        return [cell.model_dump(mode="json") for cell in result.cells]
    if isinstance(result, RecordedResult):
        return [row.model_dump(mode="json") for row in result.curves]
    if isinstance(result, ForecastResult):
        return [row.model_dump(mode="json") for row in result.rows]
    return figure_rows(result.cells)


def csv_pieces(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """A table as CSV with a header, ROWS_AT_ONCE rows at a time.

    Undefined figures are empty, and no text is a formula.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(for_csv, columns))
    for number, row in enumerate(rows, 1):
        writer.writerow([for_csv(row.get(column)) for column in columns])
        if number % ROWS_AT_ONCE == 0:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def to_csv(
    result: TrainResult | CheckResult | ForecastResult | StudyResult | RecordedResult,
) -> str:
    """The table as CSV."""
    rows = table(result)
    return b"".join(csv_pieces(list(rows[0]) if rows else [], rows)).decode()


def rows_csv(result: CheckResult | TrainResult, rows: RowKind) -> str:
    """The rows of one kind of a check as CSV, or those of a training run that say who pushes, what
    layers told apart at each epoch, how its baselines did, what its units are for, or how it tells
    other data; a header alone where it has none.
    Potentials and pushes name the step that they are along.
    """
    if rows == "cells":
        return to_csv(result)
    if rows == "accuracy":
        told = result.accuracy_curves if isinstance(result, TrainResult) else ()
        cells = ({**row.model_dump(mode="json"), "layers": layers_of(row)} for row in told)
        return b"".join(csv_pieces(list(EpochAccuracyRow.model_fields), cells)).decode()
    if rows == "baselines":
        rivals = result.baselines if isinstance(result, TrainResult) else ()
        cells = ({**row.model_dump(mode="json"), "trials": trials_of(row)} for row in rivals)
        return b"".join(csv_pieces(list(BaselineRow.model_fields), cells)).decode()
    if rows in OF_UNITS:
        measured = getattr(result, rows) if isinstance(result, TrainResult) else ()
        cells = ({name: _cell(value) for name, value in row} for row in measured)
        return b"".join(csv_pieces(list(OF_UNITS[rows].model_fields), cells)).decode()
    columns: list[str]
    found: Sequence[PotentialRow | PushRow]
    pushes = pushes_of(result)
    if rows == "potentials" and isinstance(result, CheckResult):
        columns, found = list(PotentialRow.model_fields), result.potentials
    else:
        columns, found = list(PushRow.model_fields), pushes.rows
    along = {DIRECTION: pushes.direction}
    texts = csv_pieces(
        [*columns, DIRECTION], (row.model_dump(mode="json") | along for row in found)
    )
    return b"".join(texts).decode()


def _cell(value: object) -> object:
    """A value as one cell: numbers in a row have `; ` between them."""
    return "; ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else value


def layers_of(row: EpochAccuracyRow) -> str:
    """The layers of a row in one cell: `0+1`, as summaries have them."""
    return "+".join(map(str, row.layers))


def trials_of(row: BaselineRow) -> str:
    """The learning rates that were tried in one cell, with their accuracies on the validation
    samples: `0.001: 0.91; 0.1: not finite`.
    """
    return "; ".join(
        f"{trial.lr:g}: {'not finite' if trial.accuracy is None else f'{trial.accuracy:g}'}"
        for trial in row.trials
    )
