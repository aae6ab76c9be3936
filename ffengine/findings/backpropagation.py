"""The finding `backpropagation`: sparsity of FF beside networks trained by backpropagation."""

from collections.abc import Sequence

from ffengine.findings.bases import SEEDS, TINY
from ffengine.findings.finding import Finding, Plot, Point, Run, Table
from ffengine.findings.measured import accuracy
from ffengine.findings.wording import number
from ffengine.intervals import interval
from ffengine.objectives import Bce, Difference, MeanSquares
from ffengine.optimizers import Adam, Sgd
from ffengine.results import BaselineRow, Interval, MeasureRow, TrainResult
from ffengine.spec import DatasetSpec, EvaluationSpec, NetworkSpec, StudyPart, StudySpec, TrainSpec


def _of(**changes: object) -> TrainSpec:
    """Return a stack of two layers that both kinds of network learn with."""
    base = TrainSpec(
        dataset=DatasetSpec(name="mnist-mini"),
        network=NetworkSpec(widths=(256, 256), normalize="l2"),
        epochs=30,
        batch_size=100,
        seeds=SEEDS[:3],
        evaluation=EvaluationSpec(ensembles=True, baselines=("cross_entropy", "ff_objective")),
    )
    return base.model_copy(update=changes)


class Backpropagation(Finding):
    """Hoyer's S, the zero fraction and Tosato's ensembles of FF and of both baselines."""

    name = "backpropagation"
    question = (
        "Is a Forward-Forward network sparser than the same network trained by backpropagation?"
    )
    method = (
        "Two layers of 256 units learn mnist-mini by FF, by backpropagation of the same objective "
        "and by backpropagation of the cross-entropy, with the same data, batches, optimiser and "
        "epochs. S is that of held-out samples."
    )
    falsified_by = "An order of S between the three other than the table's in every seed."
    study = StudySpec(
        parts={
            "difference": StudyPart(base=_of(objective=Difference(), optimizer=Sgd(lr=256 / 30))),
            "bce": StudyPart(
                base=_of(
                    objective=Bce(goodness=MeanSquares(), threshold=2.0), optimizer=Adam(lr=0.003)
                )
            ),
        }
    )
    tiny = TINY

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say S of the last layer for the three ways of training."""
        lines = []
        for run in runs:
            found = {name: one[-1] for name, one in _sparsities(run).items() if one}
            texts = [f"{name} {number(one)}" for name, one in found.items()]
            lines.append(
                f"Objective {run.part}: S of the last layer on held-out samples is "
                f"{'; '.join(texts)}."
            )
        return lines

    def table(self, runs: Sequence[Run]) -> Table:
        """Return S by layer and accuracy for the three ways of training."""
        rows = []
        for run in runs:
            for name, found in _sparsities(run).items():
                right = accuracy(run) if name == "FF" else _accuracy(run, name)
                rows += [
                    (
                        run.part,
                        name,
                        str(index + 1),
                        number(one),
                        number(right),
                        _ensembles(run, index) if name == "FF" else "-",
                    )
                    for index, one in enumerate(found)
                ]
        return Table(
            ("objective", "trained by", "layer", "S", "accuracy", "units in an ensemble (Tosato)"),
            tuple(rows),
        )

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return S by layer."""
        drawn = [
            Point(run.part, name, f"layer {index + 1}", one.mean, one.low, one.high)
            for run in runs
            for name, found in _sparsities(run).items()
            for index, one in enumerate(found)
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


def _sparsities(run: Run) -> dict[str, list[Interval]]:
    """Return S by layer for each way of training."""
    result = _result(run)
    names = list(dict.fromkeys(row.baseline for row in result.baselines))
    return {"FF": _by_layer(result.measures)} | {
        f"backpropagation, {name}": _by_layer(
            [row for row in result.baselines if row.baseline == name]
        )
        for name in names
    }


def _accuracy(run: Run, name: str) -> Interval | None:
    """Return the test accuracy of a baseline over seeds."""
    rows = [
        row
        for row in _result(run).baselines
        if f"backpropagation, {row.baseline}" == name and row.partition == "test" and row.layer == 0
    ]
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
