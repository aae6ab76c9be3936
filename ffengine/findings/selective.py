"""The finding `selective`: what makes layers of squares worse at telling classes apart."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import JsonValue

from ffengine.findings.bases import NO_MEASURES, TINY
from ffengine.findings.finding import Finding, Plot, Point, Run, Table
from ffengine.findings.measured import accuracy
from ffengine.findings.wording import listed, number
from ffengine.intervals import interval
from ffengine.objectives import AnyGoodness, Entmax, MeanSquares, SoftplusLoss, SumSquares, TopK
from ffengine.optimizers import Adam
from ffengine.results import Interval, TrainResult
from ffengine.spec import (
    DatasetSpec,
    Grid,
    MonitorSpec,
    NetworkSpec,
    StudyPart,
    StudySpec,
    TrainSpec,
)

EPOCHS = 5
PEERS: Grid = {"objective.peer_normalization": [0.0, 0.03]}
UNITS: Grid = {"network.activation": ["relu", "gelu"]}
# of arXiv 2604.13081 on Fashion-MNIST with 4 x 2000 units; entmax with the label at every layer
PUBLISHED = {"mean squares 2": 0.564, "top-k": 0.790, "entmax 1.5": 0.871}
FAMILIES = ("squares", "top-k", "entmax 1.5")
READOUTS = {"goodness": "goodness of all layers", "linear": "linear classifier, layers 1 to 3"}


def _part(goodness: AnyGoodness, threshold: float | None, grid: Grid) -> StudyPart:
    """Return runs of four layers that learn a goodness beside a threshold."""
    base = TrainSpec(
        dataset=DatasetSpec(name="mnist-mini"),
        network=NetworkSpec(widths=(500,) * 4, normalize="rms"),
        objective=SoftplusLoss(goodness=goodness, threshold=threshold),
        optimizer=Adam(lr=1e-3),
        layers="simultaneous",
        epochs=EPOCHS,
        batch_size=100,
        seeds=(0, 1, 2),
        monitor=MonitorSpec(every_epochs=EPOCHS, samples=300),
        evaluation=NO_MEASURES.model_copy(update={"linear_classifier": True}),
    )
    return StudyPart(base=base, grid=grid)


class Selective(Finding):
    """Test accuracy by goodness function, threshold, peer normalisation and readout."""

    name = "selective"
    question = (
        "Does a goodness of the loudest units classify better than squares, or are squares "
        "mistuned?"
    )
    method = (
        "Four layers of 500 units, each with inputs of root mean square 1, learn all at once with "
        "softplus and Adam at 0.001. The goodness is the mean of squares or their sum, each with "
        "two thresholds (0.5 and 2, or 2 and the width n), with or without peer normalisation of "
        "0.03; or the mean of the 2 % largest activations (top-k), or squares weighted by their "
        "1.5-entmax, each with relu and gelu and threshold 2. One network is read off twice: by "
        "the label whose goodness, summed over layers, is largest, and by a linear classifier on "
        "the activations of layers 1 to 3 under a neutral label."
    )
    falsified_by = (
        "A goodness of squares that, read off by goodness, is as accurate as top-k; or a linear "
        "classifier on top-k's activations that is better than on those of squares by as much."
    )
    study = StudySpec(
        parts={
            "mean squares 0.5": _part(MeanSquares(), 0.5, PEERS),
            "mean squares 2": _part(MeanSquares(), 2.0, PEERS),
            "sum squares 2": _part(SumSquares(), 2.0, PEERS),
            "sum squares n": _part(SumSquares(), None, PEERS),
            "top-k": _part(TopK(share=0.02, of="activations"), 2.0, UNITS),
            "entmax 1.5": _part(Entmax(), 2.0, UNITS),
        }
    )
    large: ClassVar[dict[str, JsonValue]] = {
        "seeds": list(range(10)),
        "network.widths": [2_000] * 4,
    }
    tiny = TINY | {"network.widths": [20, 20, 20, 20], "epochs": 1, "monitor.every_epochs": 1}

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say what the best setting of each family reaches, by both readouts."""
        lines = []
        for method, title in READOUTS.items():
            best = [pair for family in FAMILIES if (pair := _best(runs, family, method))]
            if best:
                told = [f"{number(found)} ({_setting(run)})" for run, found in best]
                lines.append(
                    f"Read off by {title}, the best setting of each family reaches {listed(told)}."
                )
        squares = [
            (one.mean, run) for run in runs if "squares" in run.part and (one := accuracy(run))
        ]
        if squares:
            (low, worst), (high, best_run) = (
                chosen(squares, key=lambda pair: pair[0]) for chosen in (min, max)
            )
            lines.append(
                f"By goodness, squares range from {low:.3f} ({_setting(worst)}) to {high:.3f} "
                f"({_setting(best_run)}): {100 * (high - low):.0f} points between settings."
            )
        gaps = [
            by_line.mean - by_goodness.mean
            for run in runs
            if "squares" in run.part
            and (by_line := accuracy(run, "linear"))
            and (by_goodness := accuracy(run))
        ]
        if gaps:
            lines.append(
                f"From the same networks of squares a linear classifier reads "
                f"{100 * min(gaps):.0f} to {100 * max(gaps):.0f} points more than goodness."
            )
        return lines

    def table(self, runs: Sequence[Run]) -> Table:
        """Return both accuracies of each setting, that of layer 0, and the published figure."""
        rows = [
            (
                _setting(run),
                number(_first_layer(run)),
                number(accuracy(run)),
                number(accuracy(run, "linear")),
                f"{PUBLISHED[run.part]:.3f}" if run.part in PUBLISHED else "-",
            )
            for run in runs
        ]
        return Table(
            (
                "goodness",
                "goodness, layer 0",
                READOUTS["goodness"],
                READOUTS["linear"],
                "published (Fashion-MNIST, 4 x 2000)",
            ),
            tuple(rows),
        )

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return test accuracy by setting, for both readouts."""
        drawn = tuple(
            Point("", title, _setting(run), one.mean, one.low, one.high)
            for method, title in READOUTS.items()
            for run in runs
            if (one := accuracy(run, method))
        )
        return Plot(
            "Test accuracy by goodness and readout",
            "goodness",
            "test accuracy",
            drawn,
            mark="point",
        )


def _setting(run: Run) -> str:
    """Name a run by its part and what its grid varies."""
    if unit := run.params.get("network.activation"):
        return f"{run.part}, {unit}"
    return f"{run.part}, peers" if run.params["objective.peer_normalization"] else run.part


def _best(runs: Sequence[Run], family: str, method: str) -> tuple[Run, Interval] | None:
    """Return the run of a family that a readout is most accurate on."""
    found = [(run, one) for run in runs if family in run.part and (one := accuracy(run, method))]
    return max(found, key=lambda pair: pair[1].mean, default=None)


def _first_layer(run: Run) -> Interval | None:
    """Return the test accuracy by the goodness of layer 0 alone, over seeds."""
    assert isinstance(run.result, TrainResult)  # noqa: S101 - narrows the type
    rows = [
        row
        for row in run.result.accuracy
        if (row.method, row.partition, row.layers) == ("goodness", "test", (0,))
    ]
    values = [row.accuracy for row in rows]
    return interval(values, share=True, samples=[row.samples for row in rows]) if rows else None
