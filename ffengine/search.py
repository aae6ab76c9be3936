"""Searches: what a study searches for, which runs it may have, and what its trials have found.

`ffengine.proposals` chooses the trials. A trial is a run of the study; its number is its place.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from pydantic import JsonValue

from ffengine.results import EpochRow, Interval, RunResult, StudyCell, TrainResult
from ffengine.search_spec import Direction, Range, SearchSpec
from ffengine.spec import CheckSpec, ForecastSpec, StudyPart, StudySpec, TrainSpec
from ffengine.study import (
    CHECK_FIGURES,
    TAU_STAR,
    TRAIN_FIGURES,
    Cell,
    GridError,
    expand,
    parts_of,
    search_of,
    with_params,
)
from ffengine.summary_keys import ALL_LAYERS, PLACE_COLUMNS, SummaryKey, figure_of

ACCURACY = "accuracy"
DIGITS = 4  # of a drawn number, unless the range is too narrow for them
MOST_REDRAWN = 100  # times that values are drawn anew which do not go together

Params = dict[str, JsonValue]
TrialState = Literal["complete", "pruned", "failed", "unfinished"]


class Trial(NamedTuple):
    """One trial of a search.

    **Attributes:**

    - `number`: its place, from 0.
    - `params`: the values of the searched fields.
    - `state`: `failed` for a run without a result, or without the objective.
    - `value`: the objective; of a pruned trial, where it was stopped.
    - `job`: the id of its job.
    - `pruned_at`: the epoch at which it was stopped.
    - `curve`: the objective by epoch, where it is measured.
    """

    number: int
    params: Params
    state: TrialState
    value: float | None = None
    job: str | None = None
    pruned_at: int | None = None
    curve: tuple[tuple[int, float], ...] = ()


class Objective(NamedTuple):
    """The figure that a search maximises or minimises.

    **Attributes:**

    - `key`: the figure; what it leaves out is chosen by `value`.
    - `direction`: which way is better.
    """

    key: SummaryKey
    direction: Direction = "maximize"

    def interval(self, summary: Mapping[str, Interval]) -> Interval | None:
        """Find the objective in the summary of a run.

        **Arguments:**

        - `summary`: intervals by the text of their keys.

        **Returns:**

        The interval; None where the run has no such figure.
        """
        chosen = _chosen(self.key, tuple(summary))
        interval = summary[chosen] if chosen else None
        return interval if interval and math.isfinite(interval.mean) else None

    def value(self, summary: Mapping[str, Interval]) -> float | None:
        """Find the value of the objective in the summary of a run.

        **Arguments:**

        - `summary`: intervals by the text of their keys.

        **Returns:**

        The mean over seeds; None where the run has no such figure.
        """
        found = self.interval(summary)
        return found.mean if found else None

    def is_better(self, value: float, other: float | None) -> bool:
        """Whether a value is better than another.

        **Arguments:**

        - `value`: the one.
        - `other`: the other; None is worse than every value.
        """
        if other is None:
            return True
        return value > other if self.direction == "maximize" else value < other

    def best(self, trials: Iterable[Trial]) -> Trial | None:
        """Find the best trial that ran to its end; of equal ones, the first.

        **Arguments:**

        - `trials`: in the order of their numbers.

        **Returns:**

        The trial; None while there is none.
        """
        best: Trial | None = None
        for trial in trials:
            if trial.state != "complete" or trial.value is None:
                continue
            if best is None or self.is_better(trial.value, best.value):
                best = trial
        return best


@lru_cache(maxsize=256)  # the runs of a study have the same keys, and hundreds of each
def _chosen(wanted: SummaryKey, texts: tuple[str, ...]) -> str | None:
    """Choose among the keys of a summary the figure that an objective names."""
    named = (text for text in texts if figure_of(text) == wanted.figure)
    keys = ((text, SummaryKey.parse(text)) for text in named)
    found = [(text, key) for text, key in keys if _fits(key, wanted)]
    text, _ = max(found, key=lambda one: _place_of(one[1]), default=(None, None))
    return text


def _fits(key: SummaryKey, wanted: SummaryKey) -> bool:
    """Whether a figure of that name may be the objective: in all that the objective names."""
    if wanted.method is None and key.method not in (None, "exact"):
        return False
    named = ((getattr(wanted, name), getattr(key, name)) for name in PLACE_COLUMNS)
    return all(one in (None, there) for one, there in named)


def _place_of(key: SummaryKey) -> tuple[int, int, int]:
    """Return what is taken of several places: the deepest layer, the widest, the last epoch."""
    layer = key.layer if isinstance(key.layer, int) else -1
    return (layer, key.width or 0, key.epoch or 0)


def objective_of(text: str, direction: Direction = "maximize") -> Objective:
    """Read an objective; an accuracy is that of all layers on the validation samples.

    **Arguments:**

    - `text`: a figure, or a part of a key of a summary, such as `sparsity[split=positive]`.
    - `direction`: which way is better.

    **Returns:**

    The objective.

    **Raises:**

    - `ValueError`: the text is no key.
    """
    key = SummaryKey.parse(text)
    _, bracket, place = text.partition("[")
    names = [field.partition("=")[0] for field in place.removesuffix("]").split()]
    unknown = [name for name in names if name not in PLACE_COLUMNS]
    if unknown or bool(bracket) != text.endswith("]"):
        raise ValueError(
            f"{text!r} is not of the form figure[split=positive layer=0]; places are "
            f"{', '.join(PLACE_COLUMNS)}"
        )
    if key.figure == ACCURACY:
        layer = key.layer if key.layer is not None or key.layers else ALL_LAYERS
        key = key._replace(partition=key.partition or "validation", layer=layer)
    return Objective(key, direction)


def default_objective(cells: Sequence[StudyCell]) -> Objective | None:
    """Choose by which figure the runs of a grid are compared: the accuracy, as far as it is there.

    **Arguments:**

    - `cells`: the runs.

    **Returns:**

    The accuracy on the validation samples, else on the test samples; None where no run has one.
    """
    for text in (ACCURACY, f"{ACCURACY}[partition=test]"):
        found = objective_of(text)
        if any(found.value(cell.summary) is not None for cell in cells):
            return found
    return None


def trials_of(cells: Sequence[StudyCell], objective: Objective) -> list[Trial]:
    """Return the runs of a study as trials.

    **Arguments:**

    - `cells`: the runs, in order.
    - `objective`: what is sought.

    **Returns:**

    The trials, without their curves.
    """
    return [_trial(number, cell, objective) for number, cell in enumerate(cells)]


def _trial(number: int, cell: StudyCell, objective: Objective) -> Trial:
    """Return one run as a trial."""
    value = objective.value(cell.summary)
    state: TrialState = "unfinished"
    if cell.pruned_at is not None:
        state = "pruned"
    elif cell.state in ("failed", "cancelled"):
        state = "failed"
    elif cell.state == "succeeded":
        state = "complete" if value is not None else "failed"
    shown = value if state == "complete" else None
    return Trial(number, cell.params, state, shown, cell.job, cell.pruned_at)


def curve_of(result: RunResult | None, objective: Objective) -> tuple[tuple[int, float], ...]:
    """Return the objective of a run by epoch, a mean over its seeds.

    **Arguments:**

    - `result`: that of the run; None where it has none.
    - `objective`: what is sought.

    **Returns:**

    Epochs with their values, in order; none for a figure that is not measured while training.
    """
    key = objective.key
    if not isinstance(result, TrainResult) or not is_measured_while_training(key.figure):
        return ()
    rows = [row for row in result.curves if row.split == key.split]
    layer = key.layer if isinstance(key.layer, int) else max((row.layer for row in rows), default=0)
    found: dict[int, list[float]] = {}
    for row in rows:
        value = getattr(row, key.figure)
        if row.layer == layer and value is not None:
            found.setdefault(row.epoch, []).append(value)
    seeds = len({row.seed for row in rows})
    return tuple(
        (epoch, sum(values) / seeds)
        for epoch, values in sorted(found.items())
        if len(values) == seeds
    )


# What a search may ask


class Searched(NamedTuple):
    """A study that searches, taken apart.

    **Attributes:**

    - `search`: what it searches.
    - `name`: that of its only part.
    - `base`: the spec that is varied.
    - `objective`: what it looks for.
    """

    search: SearchSpec
    name: str
    base: TrainSpec | CheckSpec | ForecastSpec
    objective: Objective

    def cell(self, params: Params, context: dict[str, str] | None = None) -> Cell:
        """Return the run with these values.

        **Arguments:**

        - `params`: the values by dotted field.
        - `context`: pydantic's validation context.

        **Returns:**

        The run.

        **Raises:**

        - `GridError`: a field is unknown or a value is refused.
        """
        return Cell(self.name, params, with_params(self.base, params, ("search", "space"), context))

    @property
    def longest(self) -> int:
        """The epochs of the longest trial."""
        own = self.base.epochs if isinstance(self.base, TrainSpec) else 1
        found = self.search.space.get("epochs", [own])
        values = ends_of(found)
        return max(int(value) for value in values if isinstance(value, int | float))


def searched(study: StudySpec, context: dict[str, str] | None = None) -> Searched | None:
    """Take a study apart that searches.

    **Arguments:**

    - `study`: the study.
    - `context`: pydantic's validation context, such as `ffengine.text.STORED`.

    **Returns:**

    Its parts; None for a study of grids.

    **Raises:**

    - `GridError`: it has a grid as well, several parts, no space, or an objective that is no key.
    """
    search = search_of(study, context)
    if search is None:
        return None
    parts = parts_of(study, context)
    name, part = _only_part(parts, study)
    if not search.space:
        raise GridError(("search", "space"), "names no field; give one with a list or a range")
    try:
        objective = objective_of(search.objective, search.direction)
    except ValueError as error:
        raise GridError(("search", "objective"), str(error)) from error
    return Searched(search, name, part.base, objective)


def _only_part(parts: Mapping[str, StudyPart], study: StudySpec) -> tuple[str, StudyPart]:
    """Return the part that a search varies; raise GridError for several, and for a grid."""
    if len(parts) != 1:
        raise GridError(
            ("search",), f"varies one base, and this study has {len(parts)} parts; leave one"
        )
    ((name, part),) = parts.items()
    if part.grid:
        path = ("parts", name, "grid") if study.parts else ("grid",)
        raise GridError(
            path, "a search has no grid; give these lists of values in search.space instead"
        )
    return name, part


def example_cells(study: StudySpec, context: dict[str, str] | None = None) -> list[Cell]:
    """List the runs that stand for all runs of a study.

    These are all of a grid, and of a search those with the ends of each range and the values of
    each list.

    **Arguments:**

    - `study`: the study.
    - `context`: pydantic's validation context, such as `ffengine.text.STORED`.

    **Returns:**

    The runs; of a search, each differs from the first in one field.

    **Raises:**

    - `GridError`: the study cannot be expanded, or the search is not possible.
    """
    found = searched(study, context)
    if found is None:
        return expand(study, context)
    first = {field: ends_of(space)[0] for field, space in found.search.space.items()}
    cells = [found.cell(first, context)]
    for field, space in found.search.space.items():
        cells += [found.cell(first | {field: value}, context) for value in ends_of(space)[1:]]
    _refuse_objective(found, cells)
    _refuse_pruning(found)
    return cells


def ends_of(space: Range | Sequence[JsonValue]) -> list[JsonValue]:
    """List the ends of a range, or the values of a list.

    **Arguments:**

    - `space`: what a field may be.

    **Returns:**

    The values.
    """
    if not isinstance(space, Range):
        return list(space)
    ends = (space.low, space.high)
    return [int(end) if space.type == "int" else end for end in ends]


def _refuse_objective(found: Searched, cells: Sequence[Cell]) -> None:
    """Raise GridError where no trial can have the objective."""
    key, path = found.objective.key, ("search", "objective")
    figures = _figures_of(found.base)
    if key.figure not in figures:
        raise GridError(
            path,
            f"{key.figure!r} is no figure of a {found.base.kind}; there are {', '.join(figures)}",
        )
    if key.figure in (ACCURACY, TAU_STAR):
        if key.partition == "validation":
            _refuse_no_validation(cells)
    elif key.split is None:
        raise GridError(
            path,
            f"{key.figure} is measured of both splits; write {key.figure}[split=positive] or "
            f"{key.figure}[split=negative]",
        )


def _figures_of(base: TrainSpec | CheckSpec | ForecastSpec) -> tuple[str, ...]:
    """List the figures in the summary of a run."""
    if isinstance(base, TrainSpec):
        return (ACCURACY, *TRAIN_FIGURES, TAU_STAR)
    return (
        CHECK_FIGURES if isinstance(base, CheckSpec) else ("sparsity", "theorem2_ratio", TAU_STAR)
    )


def _refuse_no_validation(cells: Sequence[Cell]) -> None:
    """Raise GridError where the accuracy of a trial has no samples to be measured on."""
    if all(cell.spec.dataset.validation_samples for cell in cells):
        return
    raise GridError(
        ("search", "objective"),
        "the accuracy is measured on validation samples, and there are none: set "
        "base.dataset.validation_samples, such as 1000 (a choice by accuracy[partition=test] "
        "makes the test samples part of training)",
    )


def _refuse_pruning(found: Searched) -> None:
    """Raise GridError where trials cannot be compared while they run."""
    figure = found.objective.key.figure
    if found.search.prune is None or (
        isinstance(found.base, TrainSpec) and is_measured_while_training(figure)
    ):
        return
    raise GridError(
        ("search", "prune"),
        f"{figure} is measured once, at the end of a run, so that no run can be stopped by it; "
        "leave prune out, or take an objective of every epoch, such as sparsity[split=positive]",
    )


def is_measured_while_training(figure: str) -> bool:
    """Whether a figure is in the rows of every epoch.

    **Arguments:**

    - `figure`: the name.

    **Returns:**

    True for the numeric fields of EpochRow that runs are summarised by.
    """
    return figure in TRAIN_FIGURES and figure in EpochRow.model_fields


# Drawing values


def drawn(search: SearchSpec, number: int, attempt: int = 0) -> Params:
    """Draw the values of a trial at random, whatever the other trials are.

    **Arguments:**

    - `search`: what is searched.
    - `number`: of the trial.
    - `attempt`: how often its values were refused before.

    **Returns:**

    The values by field.
    """
    generator = np.random.Generator(np.random.PCG64([search.seed, number, attempt]))
    return {field: _drawn_value(space, generator) for field, space in search.space.items()}


def _drawn_value(space: Range | Sequence[JsonValue], generator: "np.random.Generator") -> JsonValue:
    """Draw one value."""
    if not isinstance(space, Range):
        return space[int(generator.integers(len(space)))]
    share = float(generator.random())
    low, high = space.low, space.high
    if space.type == "int":
        low, high = low - 0.5, high + 0.5
    if space.log:
        low, high = math.log(low), math.log(high)
    value = low + share * (high - low)
    return rounded(math.exp(value) if space.log else value, space)


def rounded(value: float, space: Range) -> int | float:
    """Round a number of a range: whole numbers, or DIGITS digits that are worth it.

    **Arguments:**

    - `value`: the number.
    - `space`: its range.

    **Returns:**

    The number, which is within the range.
    """
    if space.type == "int":
        return int(min(max(round(value), space.low), space.high))
    largest = max(abs(space.low), abs(space.high))
    narrow = math.floor(-math.log10((space.high - space.low) / largest))
    short = float(f"{value:.{DIGITS + max(0, narrow)}g}")
    return min(max(short, space.low), space.high)
