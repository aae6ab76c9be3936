"""What a figure does in each phase of a run whose steps learn from positives and from negatives in
turn.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ffengine.findings.finding import Run
from ffengine.findings.measured import rows_of
from ffengine.intervals import interval
from ffengine.results import Interval, Split, TrainResult
from ffengine.spec import TrainSpec


class PhaseChange(NamedTuple):
    """How much a figure changes in a phase.

    **Attributes:**

    - `split`: what the steps of the phase learn from.
    - `start`, `end`: the epochs after which the phase begins and ends.
    - `by_seed`: the change of each seed that has the figure at both.
    """

    split: Split
    start: int
    end: int
    by_seed: dict[int, float]


def switch_count(run: Run) -> int:
    """Count how often a run goes from a phase of one split to one of the other.

    **Arguments:**

    - `run`: a training run.

    **Returns:**

    How often in each stage; 0 where all steps learn from the same.
    """
    return max(0, sum(1 for _ in _phases(run)) - 1)


def phase_changes(
    run: Run, figure: str, layer: int = 0, split: Split = "positive"
) -> list[PhaseChange]:
    """Find how much a figure changes in each whole phase.

    **Arguments:**

    - `run`: a training run.
    - `figure`: the name of a column.
    - `layer`: the layer, from 0.
    - `split`: of the samples.

    **Returns:**

    The phases in their order, of those that begin and end at a measured epoch.
    """
    values: dict[int, dict[int, float]] = {}
    for row in rows_of(run, layer, split):
        value = getattr(row, figure)
        if value is not None:
            values.setdefault(row.epoch, {})[row.seed] = value
    steps, found = _epoch_steps(run), []
    for learnt, first, last in _phases(run):
        if first % steps or last % steps:
            continue
        before, after = values.get(first // steps, {}), values.get(last // steps, {})
        by_seed = {seed: after[seed] - before[seed] for seed in before if seed in after}
        if by_seed:
            found.append(PhaseChange(learnt, first // steps, last // steps, by_seed))
    return found


def mean_change(changes: list[PhaseChange], split: Split) -> Interval | None:
    """Return the mean change in the phases of a split.

    **Arguments:**

    - `changes`: those of all phases.
    - `split`: what phases learn from.

    **Returns:**

    The interval over seeds, each with the mean of its phases; None where there is no such phase.
    """
    by_seed: dict[int, list[float]] = {}
    for change in changes:
        if change.split == split:
            for seed, value in change.by_seed.items():
                by_seed.setdefault(seed, []).append(value)
    means = [sum(values) / len(values) for values in by_seed.values()]
    return interval(means) if means else None


def _phases(run: Run) -> Iterator[tuple[Split, int, int]]:
    """Yield the phases of a stage: what it learns from, its first step, and the first one after it.

    The last one may go on beyond the run. There are none where steps never change sides.
    """
    if not isinstance(run.spec, TrainSpec):
        return
    spec = run.spec
    unit = _epoch_steps(run) if spec.phases.unit == "epochs" else 1
    lengths: tuple[tuple[Split, int], ...] = (
        ("positive", spec.phases.positive_steps * unit),
        ("negative", spec.phases.negative_steps * unit),
    )
    if not all(length for _, length in lengths):
        return
    first, end = 0, spec.epochs * _epoch_steps(run)
    while first < end:
        for split, length in lengths:
            if first < end:
                yield split, first, first + length
            first += length


def _epoch_steps(run: Run) -> int:
    """Return how many steps an epoch has."""
    if not (isinstance(run.spec, TrainSpec) and isinstance(run.result, TrainResult)):
        return 1
    return -(-run.result.provenance.dataset.train_samples // run.spec.batch_size)
