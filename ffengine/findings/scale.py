"""The finding `scale`: sparsity crossed with goodness that does not depend on the scale."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

from pydantic import JsonValue

from ffengine.findings.bases import NO_MEASURES, TINY
from ffengine.findings.finding import Finding, Plot, Point, Rule, Run, Table
from ffengine.findings.measured import accuracy, at_end, rows_of
from ffengine.findings.wording import listed, number
from ffengine.intervals import interval
from ffengine.objectives import AnyGoodness, Difference, Kurtosis, SumSquares, TopK, Whitened
from ffengine.optimizers import Adam
from ffengine.results import Interval
from ffengine.spec import (
    DatasetSpec,
    Grid,
    MonitorSpec,
    NetworkSpec,
    StudyPart,
    StudySpec,
    TrainSpec,
)

EPOCHS = 6
LAYER = 1  # the first layer receives the same inputs whatever is normalised between layers
NORMALIZE: Grid = {"network.normalize": ["none", "l2", "layer"]}
Figure = Callable[[Run], Interval | None]


def _part(goodness: AnyGoodness) -> StudyPart:
    """Return runs of two layers that learn a difference of goodness, by what is normalised."""
    base = TrainSpec(
        dataset=DatasetSpec(name="mnist-mini", train_samples=2_000, test_samples=1_000),
        network=NetworkSpec(widths=(200, 200)),
        objective=Difference(goodness=goodness),
        optimizer=Adam(lr=1e-3),
        epochs=EPOCHS,
        batch_size=100,
        seeds=(0, 1, 2),
        monitor=MonitorSpec(samples=300, theorems=()),
        evaluation=NO_MEASURES.model_copy(
            update={"linear_classifier": True, "linear_layers": "all"}
        ),
    )
    return StudyPart(base=base, grid=NORMALIZE)


class Scale(Finding):
    """Growth of the weights, sparsity and accuracy by goodness and normalisation."""

    name = "scale"
    question = (
        "Are a goodness of the loudest units and a goodness without scale two ways to the same end?"
    )
    method = (
        "Two layers of 200 units learn 2,000 images of mnist-mini, one after the other, with Adam "
        "at 0.001 and the objective G(negative) - G(positive), which has no best scale. The "
        "goodness is the sum of squares; the squares of the loudest 5 % of the units (top-k); "
        "squares over the running second moment of each unit (whitened); or the kurtosis over "
        "units, which is both selective and without scale. What the second layer receives is as "
        "it is (none), of length 1 (l2), or of mean 0 and variance 1 (layer). Growth is the norm "
        "of the second layer's weights at the end over that at the beginning. Steps of Adam have "
        "one size, and few units take them under top-k, so that six epochs say how fast weights "
        "begin to grow, not where they end."
    )
    falsified_by = (
        "Weights that grow as much with the whitened goodness as with squares, or a top-k goodness "
        "whose S is that of squares."
    )
    study = StudySpec(
        parts={
            "squares": _part(SumSquares()),
            "top-k": _part(TopK(share=0.05)),
            "whitened": _part(Whitened()),
            "kurtosis": _part(Kurtosis()),
        }
    )
    large: ClassVar[dict[str, JsonValue]] = {
        "seeds": list(range(10)),
        "dataset.train_samples": 6_000,
        "network.widths": [1_000, 1_000],
        "epochs": 30,
    }
    tiny = TINY | {"network.widths": [20, 20]}

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say how much weights grow, how sparse layers are, and what a classifier reads."""
        parts = list(dict.fromkeys(run.part for run in runs))
        return [
            "Over what is normalised between layers, the weights of the second layer grow by "
            f"factors of {_ranges(runs, parts, lambda run: growth(run, LAYER))}.",
            f"S of its positives ends at {_ranges(runs, parts, _sparsity)}.",
            *_beside_squares(runs),
            "A linear classifier on both layers reads "
            f"{_ranges(runs, parts, lambda run: accuracy(run, 'linear'))}.",
        ]

    def table(self, runs: Sequence[Run]) -> Table:
        """Return growth of both layers, S of the second, and both accuracies, of each run."""
        rows = [
            (
                run.part,
                str(run.params["network.normalize"]),
                number(growth(run, 0), 2),
                number(growth(run, LAYER), 2),
                number(_sparsity(run)),
                number(accuracy(run)),
                number(accuracy(run, "linear")),
            )
            for run in runs
        ]
        return Table(
            (
                "goodness",
                "normalised",
                "growth, layer 0",
                "growth, layer 1",
                "S, layer 1",
                "accuracy, goodness",
                "accuracy, linear classifier",
            ),
            tuple(rows),
        )

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return growth and sparsity of the second layer by goodness and normalisation."""
        panels: dict[str, Figure] = {
            "norm of W at the end over the beginning": lambda run: growth(run, LAYER),
            "sparsity S": _sparsity,
            "accuracy of a linear classifier": lambda run: accuracy(run, "linear"),
        }
        drawn = tuple(
            Point(
                panel,
                str(run.params["network.normalize"]),
                run.part,
                found.mean,
                found.low,
                found.high,
            )
            for panel, figure in panels.items()
            for run in runs
            if (found := figure(run))
        )
        return Plot(
            "Growth of the weights, sparsity and accuracy by goodness",
            "goodness",
            "",
            drawn,
            mark="point",
            rules=(Rule("y", 1.0, "none", "norm of W at the end over the beginning"),),
        )


def growth(run: Run, layer: int) -> Interval | None:
    """Compute by which factor the weights of a layer grew from the first to the last epoch.

    **Arguments:**

    - `run`: a training run.
    - `layer`: the layer, from 0.

    **Returns:**

    The interval over seeds; None where a norm was not measured or is 0.
    """
    norms: dict[int, list[float]] = {}
    for row in rows_of(run, layer, "positive"):
        if row.log_weight_norm is None:
            return None
        norms.setdefault(row.seed, []).append(row.log_weight_norm)
    factors = [math.exp(course[-1] - course[0]) for course in norms.values()]
    return interval(factors) if factors else None


def _sparsity(run: Run) -> Interval | None:
    return at_end(run, "sparsity", "positive", LAYER)


def _beside_squares(runs: Sequence[Run]) -> list[str]:
    """Say how far S of the other parts is from that of squares with the same normalisation."""
    by_place = {
        (run.part, run.params["network.normalize"]): found.mean
        for run in runs
        if (found := _sparsity(run))
    }
    told = []
    for part in dict.fromkeys(run.part for run in runs if run.part != "squares"):
        apart = [
            mean - by_place["squares", normalize]
            for (of, normalize), mean in by_place.items()
            if of == part and ("squares", normalize) in by_place
        ]
        if apart:
            told.append(f"{min(apart):+.2f} to {max(apart):+.2f} ({part})")
    return [f"Beside squares with the same normalisation, that is {listed(told)}."] if told else []


def _ranges(runs: Sequence[Run], parts: Sequence[str], figure: Figure) -> str:
    """Say from what to what a figure's mean goes in the runs of each part."""
    told = []
    for part in parts:
        found = [one.mean for run in runs if run.part == part and (one := figure(run))]
        if found:
            low, high = f"{min(found):.2f}", f"{max(found):.2f}"
            told.append(f"{low if low == high else f'{low} to {high}'} ({part})")
    return listed(told) if told else "nothing that was measured"
