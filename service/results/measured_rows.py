"""The measured rows of a job as a tidy table, whatever its state; of a study those of all its runs,
each with the values that the study varies.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ffengine.intervals import interval_of
from ffengine.results import CheckCell, EpochRow, ForecastPoint, RecordedRow, StudyCell
from ffengine.spec_values import varied_columns
from ffengine.study import CHECK_FIGURES
from ffengine.theorems import FIGURE_DIRECTIONS

TidyRow = dict[str, Any]
MeasuredRow = EpochRow | CheckCell | ForecastPoint | RecordedRow
TRAIN_PLACE = ("layer", "epoch", "split")
CHECK_PLACE = ("width", "layer", "epoch", "split", "method")
COUNTS = (
    *("samples", "dead_samples", "dead_units", "used_units"),
    *("theorem1_undecided", "theorem2_undecided"),
)
TRAIN_FIGURES = tuple(
    name for name in EpochRow.model_fields if name not in ("seed", "act", *TRAIN_PLACE, *COUNTS)
)
RECORDED_FIGURES = tuple(
    name
    for name in RecordedRow.model_fields
    if name not in ("seed", "width", *TRAIN_PLACE, *COUNTS)
)
DIRECTION = "theorem2_direction"
POINT_PLACE = ("epoch", "tau", "split")
POINT_FIGURES = ("c", "theorem2_ratio")
# without what a point is without each block of units
POINT_COLUMNS = tuple(
    name for name in ForecastPoint.model_fields if name not in ("c_without", "theorem2_without")
)
MEANS = ("figure", DIRECTION, "mean", "low", "high", "seeds")
_TAKEN = (
    *("part", "job", "state"),
    *(
        name
        for row in (EpochRow, CheckCell, ForecastPoint, RecordedRow)
        for name in row.model_fields
    ),
    *MEANS,
)


class MeasuredRun(NamedTuple):
    """A run whose rows are shown.

    `about` are its columns, which tell it from other runs. `seeds`: how many it has, where that is
    known.
    """

    job: str
    kind: str
    about: Mapping[str, Any]
    seeds: int | None = None


class RowTable(NamedTuple):
    """The columns of a table, and its rows while they are read; a row may lack some columns."""

    columns: Sequence[str]
    rows: Iterable[TidyRow]


def runs_of_study(cells: Sequence[StudyCell]) -> list[MeasuredRun]:
    """Return the runs of a study that are made."""
    columns = varied_columns([cell.params for cell in cells], _TAKEN)
    return [
        MeasuredRun(
            cell.job,
            cell.kind,
            {"part": cell.part, **varied, "job": cell.job, "state": cell.state},
        )
        for cell, varied in zip(cells, columns, strict=True)
        if cell.job is not None
    ]


def measured_rows(
    runs: Sequence[MeasuredRun], read: Callable[[str], Iterable[TidyRow]], *, means: bool
) -> RowTable:
    """Return the rows of these runs.

    **Arguments:**

    - `runs`: of one job, or of a study.
    - `read`: reads the rows of a job by its id.
    - `means`: one row for each figure, with its mean over seeds and the 95 % interval, in place of
      one row for each seed with all figures.
    """
    kinds = dict.fromkeys(run.kind for run in runs)
    columns = dict.fromkeys(name for run in runs for name in run.about)
    for kind in kinds or ("train",):
        columns |= dict.fromkeys(_columns(kind, means))
    make = _means if means else _rows
    return RowTable(list(columns), (row for run in runs for row in make(run, read(run.job))))


def _columns(kind: str, means: bool) -> Sequence[str]:
    if kind == "recorded":
        return (*TRAIN_PLACE, *MEANS) if means else tuple(RecordedRow.model_fields)
    if kind == "forecast":
        return (*POINT_PLACE, *MEANS) if means else POINT_COLUMNS
    if means:
        return (*(TRAIN_PLACE if kind == "train" else ("theorem", *CHECK_PLACE)), *MEANS)
    return (*EpochRow.model_fields, DIRECTION) if kind == "train" else tuple(CheckCell.model_fields)


def _rows(run: MeasuredRun, rows: Iterable[TidyRow]) -> Iterator[TidyRow]:
    if run.kind == "recorded":
        return ({**run.about, **row} for row in rows)
    if run.kind == "train":
        return ({**run.about, **with_direction(row)} for row in rows)
    if run.kind == "forecast":
        return ({**run.about, **{name: row.get(name) for name in POINT_COLUMNS}} for row in rows)
    cells = (CheckCell.model_validate(row) for row in rows)
    return ({**run.about, **cell.model_dump(mode="json")} for cell in cells)


def with_direction(row: TidyRow) -> TidyRow:
    """Return a row of a training run, with the direction of its theorem 2."""
    return {**row, DIRECTION: "training_step"}


def _means(run: MeasuredRun, rows: Iterable[TidyRow]) -> Iterator[TidyRow]:
    """Yield the means of each place as soon as all seeds have come to it, so that few are held."""
    model, place = _FORMS[run.kind]
    groups: dict[tuple[Any, ...], list[MeasuredRow]] = {}
    for data in rows:
        row = model.model_validate(data)
        at = tuple(getattr(row, name) for name in place)
        alike = groups.setdefault(at, [])
        alike.append(row)
        if len(alike) == run.seeds:
            yield from _means_at(run, place, at, groups.pop(at))
    for at, alike in groups.items():
        yield from _means_at(run, place, at, alike)


_FORMS: dict[str, tuple[type[MeasuredRow], Sequence[str]]] = {
    "train": (EpochRow, TRAIN_PLACE),
    "check": (CheckCell, CHECK_PLACE),
    "forecast": (ForecastPoint, POINT_PLACE),
    "recorded": (RecordedRow, TRAIN_PLACE),
}
_FIGURES: dict[str, Sequence[str]] = {
    "train": TRAIN_FIGURES,
    "check": CHECK_FIGURES,
    "forecast": POINT_FIGURES,
    "recorded": RECORDED_FIGURES,
}


def _means_at(
    run: MeasuredRun,
    place: Sequence[str],
    at: Sequence[Any],
    alike: Sequence[MeasuredRow],
) -> Iterator[TidyRow]:
    for figure in _FIGURES[run.kind]:
        if interval := interval_of(alike, figure):
            first = alike[0]
            check = first if isinstance(first, CheckCell) else None
            along = FIGURE_DIRECTIONS.get(figure) if run.kind in ("train", "recorded") else None
            yield {
                **run.about,
                "theorem": check.theorem if check else None,
                **dict(zip(place, at, strict=True)),
                "figure": figure,
                DIRECTION: check.theorem2_direction if check else along,
                **interval.model_dump(),
            }
