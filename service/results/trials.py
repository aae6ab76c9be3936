"""The runs of a study as trials: by which figure they are compared, and the columns that any two of
them may be seen over.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from ffengine.results import StudyCell
from ffengine.search import Objective, Trial, default_objective, objective_of, trials_of
from ffengine.search_spec import Direction
from ffengine.spec_values import params_in_words, value_in_words
from ffengine.summary_keys import ALL_LAYERS, SummaryKey
from service.results.sources import ChartSource, StudyGrid
from service.schemas import SearchReport, TrialLine

NUMBER = "trial"  # the column of the number of a run
MOST_LISTED = 5  # trials that tie with the best
MOST_FIGURES = 150  # columns of figures that are offered


class Compared(NamedTuple):
    """The runs of a study, and what they are compared by."""

    grid: StudyGrid
    objective: Objective
    trials: list[Trial]

    @property
    def complete(self) -> list[Trial]:
        """The runs that have the objective."""
        return [trial for trial in self.trials if trial.value is not None]

    @property
    def others(self) -> dict[str, int]:
        """How many runs do not have the objective, by what became of them.

        A run that has succeeded may lack it all the same, such as an accuracy without labels.
        """
        states = Counter(
            "succeeded"
            if trial.state == "failed" and self.grid.cells[trial.number].found.state == "succeeded"
            else trial.state
            for trial in self.trials
        )
        return {
            one: states[one]
            for one in ("pruned", "failed", "succeeded", "unfinished")
            if states[one]
        }

    @property
    def seeds(self) -> list[int]:
        """Over how many seeds each objective is a mean."""
        found = (self.objective.interval(cell.found.summary) for cell in self.grid.cells)
        return [interval.seeds for interval in found if interval]

    def part_of(self, trial: Trial) -> str:
        """The part of the study that a run belongs to; empty where the study has no parts."""
        return str(self.grid.cells[trial.number].found.part)

    @property
    def parts(self) -> list[str]:
        """The parts of the study that the runs with the objective belong to."""
        return list(dict.fromkeys(map(self.part_of, self.complete)))

    @property
    def best(self) -> Trial | None:
        """The best run so far."""
        return self.objective.best(self.trials)

    @property
    def varied(self) -> list[str]:
        """The fields of which the runs that have the objective have several values."""
        complete = self.complete
        fields = dict.fromkeys(field for trial in complete for field in trial.params)
        return [
            field
            for field in fields
            if len({value_in_words(trial.params.get(field)) for trial in complete}) > 1
        ]


def compared(sources: Iterable[ChartSource]) -> Compared | None:
    """The runs of the study among some sources.

    None where no figure compares them, and where there are several studies.
    """
    grids = [source for source in sources if isinstance(source, StudyGrid)]
    if len(grids) != 1:
        return None
    (grid,) = grids
    cells = [cell.found for cell in grid.cells]
    objective = grid.objective or default_objective(cells)
    return Compared(grid, objective, trials_of(cells, objective)) if objective else None


def seen(
    source: ChartSource,
    objective: str | None = None,
    direction: Direction | None = None,
    x: str | None = None,
    y: str | None = None,
) -> ChartSource:
    """A study compared by another figure, or with other columns; other sources as they are.

    Raises ValueError where the objective or a column is no key of a summary.
    """
    if not isinstance(source, StudyGrid):
        return source
    chosen = source.objective
    if objective:
        chosen = objective_of(objective, direction or "maximize")
    elif direction and (found := compared([source])):
        chosen = found.objective._replace(direction=direction)
    for column in (x, y):
        if column:
            objective_of(column)
    return source._replace(objective=chosen, x=x or None, y=y or None)


def columns_of(cells: Sequence[StudyCell]) -> list[str]:
    """What runs have a value of: their number, the varied fields, and figures of their summaries.

    A figure is that of the last epoch.
    """
    fields = dict.fromkeys(field for cell in cells for field in cell.params)
    return [NUMBER, *fields, *figures_of(cells)]


def figures_of(cells: Sequence[StudyCell]) -> list[str]:
    """The figures that runs may be compared by, without their epoch."""
    keys = dict.fromkeys(text for cell in cells for text in cell.summary)
    plain = dict.fromkeys(str(SummaryKey.parse(text)._replace(epoch=None)) for text in keys)
    return list(plain)[:MOST_FIGURES]


def default_columns(found: Compared) -> tuple[str, str]:
    """The columns where nobody chose others: the field with the most values, and the objective."""
    values = {
        field: len({value_in_words(trial.params.get(field)) for trial in found.trials})
        for field in found.varied
    }
    x = max(values, key=lambda field: values[field], default=NUMBER)
    return x, str(found.objective.key)


def value_of(cell: StudyCell, number: int, column: str) -> JsonValue:
    """The value of a run in a column; None where it has none. Raises ValueError for no column."""
    if column == NUMBER:
        return number
    if column in cell.params:
        return cell.params[column]
    return objective_of(column).value(cell.summary)


def is_number(value: JsonValue) -> bool:
    """Whether a value has a place on an axis of numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def spans_decades(values: Iterable[JsonValue]) -> bool:
    """Whether numbers are above 0 and spread over a decade, so that their logarithms are shown."""
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return bool(numbers) and min(numbers) > 0 and max(numbers) >= 10 * min(numbers)


def in_words(column: str) -> str:
    """A figure as a reader says it: `accuracy on validation samples`; other columns as they are."""
    if "[" not in column:
        return column.replace("_", " ") if "." not in column else column
    key = SummaryKey.parse(column)
    parts = [
        key.figure.replace("_", " "),
        f"by {key.method}" if key.method else "",
        f"of {key.split} samples" if key.split else "",
        f"on {key.partition} samples" if key.partition else "",
        "" if key.layer in (None, ALL_LAYERS) else f"in layer {key.layer}",
        f"of layers {' + '.join(map(str, key.layers))}" if key.layers else "",
        f"at n = {key.width}" if key.width is not None else "",
    ]
    return " ".join(filter(None, parts))


def report_of(found: Compared) -> SearchReport:
    """What a search has found so far."""
    lines, best = [], None
    for trial in found.trials:
        value = trial.value
        if value is not None and found.objective.is_better(value, best):
            best = value
        lines.append(TrialLine(**_fields(trial), best_so_far=best))
    winner = found.best
    return SearchReport(
        objective=str(found.objective.key),
        direction=found.objective.direction,
        trials=lines,
        best=lines[winner.number] if winner else None,
    )


def best_in_words(found: Compared) -> list[str]:
    """What a search has found, in sentences; none while no run has the objective."""
    best = found.best
    if best is None or best.value is None:
        return []
    most = "largest" if found.objective.direction == "maximize" else "smallest"
    figure = in_words(str(found.objective.key))
    trials = [trial.number for trial in found.complete if trial.value == best.value]
    others = [number for number in trials if number != best.number]
    ties = "Trials {} tie with it." if len(others) > 1 else "Trial {} ties with it."
    tied = f" {ties.format(_listed(others))}" if others else ""
    without = found.others.get("succeeded", 0)
    lacking = f" {without:,} more succeeded without that figure." if without else ""
    return [
        f"The {most} {figure} of {len(found.complete):,} runs is {shown(best.value)}, that of "
        f"trial {best.number}: {params_in_words(best.params)}.{tied}{lacking}"
    ]


def _listed(numbers: Sequence[int]) -> str:
    """Some numbers of trials, and how many more there are."""
    told = ", ".join(map(str, numbers[:MOST_LISTED]))
    more = len(numbers) - MOST_LISTED
    return f"{told} and {more} more" if more > 0 else told


def _fields(trial: Trial) -> dict[str, object]:
    fields = trial._asdict()
    del fields["curve"]
    return fields


def shown(value: float) -> str:
    """A value of an objective, with as many digits as tell runs apart."""
    return f"{value:.4g}" if math.isfinite(value) else "–"
