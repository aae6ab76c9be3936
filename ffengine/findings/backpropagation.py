"""The finding `backpropagation`: sparsity of FF beside networks trained by backpropagation."""

from collections.abc import Sequence
from typing import NamedTuple

from ffengine.baselines import CrossEntropy, FFObjective
from ffengine.findings.bases import LARGE, SEEDS, TINY
from ffengine.findings.finding import Finding, Plot, Point, Run, Table
from ffengine.findings.measured import accuracy
from ffengine.findings.wording import listed, number
from ffengine.intervals import interval
from ffengine.objectives import AnyObjective, Bce, Difference, MeanSquares
from ffengine.optimizers import Adam, AnyOptimizer, Sgd
from ffengine.results import BaselineRow, Interval, MeasureRow, TrainResult
from ffengine.spec import (
    DatasetSpec,
    EvaluationSpec,
    MonitorSpec,
    NetworkSpec,
    StudyPart,
    StudySpec,
    TrainSpec,
)

# With inputs of length 1 this step size takes both layers through all acts before any weight leaves
# float32, where backpropagation would lose it: it rescales nothing.
ETA = 0.5
ALIKE = 0.05  # S below which units are as good as equal
DOMINATED = 0.1  # of S, by gradients that pass between layers
FF, AT_ONCE = "FF, layer after layer", "FF, all layers at once"
BACKWARD = "backpropagation, ff_objective"
CHANCE = 0.1  # ten classes of equal size


class Way(NamedTuple):
    """What a way of training leads to.

    **Attributes:**

    - `sparsity`: S of each layer.
    - `accuracy`: of the stack.
    - `ensembles`: Tosato's measure of each layer, as texts; none of a baseline.
    - `diverged`: whether weights of a seed are not finite.
    """

    sparsity: list[Interval]
    accuracy: Interval | None
    ensembles: Sequence[str] = ()
    diverged: bool = False


def _of(
    objective: AnyObjective, optimizer: AnyOptimizer, *, epochs: int, unit_inputs: bool
) -> TrainSpec:
    """Return a stack of two layers that all ways of training learn with."""
    return TrainSpec(
        dataset=DatasetSpec(name="mnist-mini"),
        network=NetworkSpec(widths=(256, 256), normalize="l2", normalize_first=unit_inputs),
        objective=objective,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=100,
        seeds=SEEDS[:3],
        monitor=MonitorSpec(every_epochs=epochs, samples=500),
        evaluation=EvaluationSpec(ensembles=True, baselines=(CrossEntropy(), FFObjective())),
    )


def _parts() -> dict[str, StudyPart]:
    """Return a greedy and a simultaneous run for each objective; one of them has the baselines."""
    found = {}
    for name, base in {
        "difference": _of(
            Difference(), Sgd(lr=ETA, scale_lr_by_width=False), epochs=15, unit_inputs=True
        ),
        "bce": _of(
            Bce(goodness=MeanSquares(), threshold=2.0),
            Adam(lr=0.003),
            epochs=30,
            unit_inputs=False,
        ),
    }.items():
        evaluation = base.evaluation.model_copy(update={"baselines": ()})
        together = {"layers": "simultaneous", "evaluation": evaluation}
        found[name] = StudyPart(base=base)
        found[f"{name}, all layers at once"] = StudyPart(base=base.model_copy(update=together))
    return found


class Backpropagation(Finding):
    """Hoyer's S, the zero fraction and Tosato's ensembles of FF and of both baselines."""

    name = "backpropagation"
    question = (
        "Is a Forward-Forward network sparser than the same network trained by backpropagation?"
    )
    method = (
        "Two layers of 256 units, the second with inputs of length 1, learn mnist-mini by FF, by "
        "backpropagation of the same objective (summed over layers) and by backpropagation of the "
        "cross-entropy, with the same data, batches, optimiser, learning rate and epochs. FF "
        "trains one layer after the other, or, as backpropagation does, all at once: then nothing "
        "but the gradients that pass from layer to layer differs. Learning rates are those that FF "
        f"layers learn with, and were not tuned for backpropagation. With the difference it is "
        f"{ETA} and images have length 1 too, so that no weight leaves single precision. S is that "
        "of held-out samples; guessing is right for a tenth of them."
    )
    falsified_by = (
        "An order of S between the ways of training other than the table's in every seed."
    )
    study = StudySpec(parts=_parts())
    large = LARGE | {"batch_size": 1_000}
    tiny = TINY

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say S of the last layer for each way of training, what separates them, and accuracy."""
        lines = []
        for objective, ways in _by_objective(runs).items():
            last = {name: way.sparsity[-1] for name, way in ways.items() if way.sparsity}
            lines += _answer(objective, last)
            lines += _causes(ways)
            lines += [
                f"Not finite, so without figures: {name}."
                for name, way in ways.items()
                if way.diverged
            ]
            if guessing := [name for name, way in ways.items() if _guesses(way.accuracy)]:
                lines.append(
                    f"With {objective}, {listed(guessing)} "
                    f"{'classify' if len(guessing) > 1 else 'classifies'} not clearly better than "
                    f"guessing ({CHANCE:.2f}): such a network is no example of a sparse one that "
                    "tells classes apart."
                )
        return lines

    def table(self, runs: Sequence[Run]) -> Table:
        """Return S by layer and accuracy for each way of training."""
        rows = [
            (
                objective,
                name,
                str(index + 1),
                number(one),
                number(way.accuracy) + (" (guessing)" if _guesses(way.accuracy) else ""),
                way.ensembles[index] if way.ensembles else "-",
            )
            for objective, ways in _by_objective(runs).items()
            for name, way in ways.items()
            for index, one in enumerate(way.sparsity or [None])
        ]
        return Table(
            ("objective", "trained by", "layer", "S", "accuracy", "units in an ensemble (Tosato)"),
            tuple(rows),
        )

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return S by layer."""
        drawn = [
            Point(objective, name, f"layer {index + 1}", one.mean, one.low, one.high)
            for objective, ways in _by_objective(runs).items()
            for name, way in ways.items()
            for index, one in enumerate(way.sparsity)
        ]
        return Plot(
            "S of FF beside backpropagation",
            "layer",
            "S of held-out samples",
            tuple(drawn),
            mark="point",
        )


def _result(run: Run) -> TrainResult:
    assert isinstance(run.result, TrainResult)  # noqa: S101 - narrows the type
    return run.result


def _by_layer(rows: Sequence[MeasureRow | BaselineRow]) -> list[Interval]:
    """Return S of each layer over seeds, of rows of test samples."""
    found = []
    for index in sorted({row.layer for row in rows}):
        values = [
            row.sparsity
            for row in rows
            if row.layer == index and row.partition == "test" and row.sparsity is not None
        ]
        if values:
            found.append(interval(values, share=True))
    return found


def _by_objective(runs: Sequence[Run]) -> dict[str, dict[str, Way]]:
    """Return the ways of training, by objective and name, in the order of the table."""
    found: dict[str, dict[str, Way]] = {}
    for run in runs:
        assert isinstance(run.spec, TrainSpec)  # noqa: S101 - narrows the type
        ways = found.setdefault(run.spec.objective.name, {})
        result, layers = _result(run), len(run.spec.network.widths)
        at_once = run.spec.layers == "simultaneous"
        ways[AT_ONCE if at_once else FF] = Way(
            _by_layer(result.measures),
            accuracy(run),
            [_ensembles(run, index) for index in range(layers)],
        )
        for baseline in dict.fromkeys(row.baseline for row in result.baselines):
            rows = [row for row in result.baselines if row.baseline == baseline]
            name = f"backpropagation, {baseline}"
            lost = any(row.diverged for row in rows)
            ways[name] = Way([] if lost else _by_layer(rows), _accuracy(rows), diverged=lost)
    return found


def _answer(objective: str, last: dict[str, Interval]) -> list[str]:
    """Say whether FF is sparser in the last layer, and where S is next to nothing."""
    texts = [
        f"{_compared(last[FF], other)} {name.partition(', ')[2]} ({number(other)})"
        for name, other in last.items()
        if name.startswith("backpropagation") and FF in last
    ]
    alike = [name for name, one in last.items() if one.mean < ALIKE]
    lines = []
    if texts:
        lines.append(
            f"With the objective {objective}, S of the last layer of FF is "
            f"{number(last[FF])} on held-out samples: {' and '.join(texts)} by backpropagation."
        )
    if alike:
        lines.append(
            f"S next to 0, of {listed(alike)}, is that of units which are almost all active and "
            f"nearly equal; samples without an active unit do not enter the mean."
        )
    return lines


def _compared(own: Interval, other: Interval) -> str:
    """Say how S compares; intervals that overlap decide nothing."""
    if own.low is None or own.high is None or other.low is None or other.high is None:
        return "not comparable, of one seed, with"
    if own.low > other.high:
        return "sparser than"
    return "less sparse than" if own.high < other.low else "not clearly different from"


def _causes(ways: dict[str, Way]) -> list[str]:
    """Say of each layer what learning all at once does to S, and what gradients between layers."""
    of = [ways[name].sparsity for name in (FF, AT_ONCE, BACKWARD) if name in ways]
    if len(of) < len((FF, AT_ONCE, BACKWARD)):
        return []
    found, largest = [], 0.0
    for index, (greedy, at_once, backward) in enumerate(zip(*of, strict=False)):
        together, gradients = at_once.mean - greedy.mean, backward.mean - at_once.mean
        largest = max(largest, abs(gradients))
        found.append(
            f"in layer {index + 1} S changes by {together:+.3f} where all layers learn at once, "
            f"and by another {gradients:+.3f} with the gradients that pass between them"
        )
    if not found:
        return []
    why = (
        " Under backpropagation a layer learns for the goodness of the layers above as well; the "
        "layer whose goodness is larger gives the larger gradients."
        if largest > DOMINATED
        else ""
    )
    return [f"From FF to backpropagation of its objective, {'; '.join(found)}.{why}"]


def _guesses(found: Interval | None) -> bool:
    """Whether an accuracy is not above that of guessing."""
    if found is None:
        return False
    return (found.mean if found.low is None else found.low) <= CHANCE


def _accuracy(baseline: Sequence[BaselineRow]) -> Interval | None:
    """Return the test accuracy of a baseline over seeds."""
    rows = [row for row in baseline if row.partition == "test" and row.layer == 0]
    values = [row.accuracy for row in rows if row.accuracy is not None]
    return interval(values, share=True, samples=[row.samples for row in rows]) if values else None


def _ensembles(run: Run, index: int) -> str:
    """Return the share of units in an ensemble of a layer on test samples."""
    values = [
        row.in_one
        for row in _result(run).ensembles
        if row.layer == index and row.partition == "test"
    ]
    return number(interval(values, share=True)) if values else "-"
