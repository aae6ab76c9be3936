"""The finding `depth`: what the theorems say of the layers of a deep network."""

from collections.abc import Sequence

from ffengine.findings.bases import LARGE, SEEDS, TINY, layer
from ffengine.findings.finding import Finding, Plot, Point, Run, Table
from ffengine.findings.measured import SPLITS, at_end, at_start, curve, points
from ffengine.findings.wording import number, pair
from ffengine.intervals import interval
from ffengine.optimizers import Sgd
from ffengine.spec import NetworkSpec, StudyPart, StudySpec, TrainSpec

DEPTHS = (1, 2, 3, 4, 6)
WIDTH = 256


def _base() -> TrainSpec:
    """Return a stack of layers whose inputs have length 1."""
    network = NetworkSpec(widths=(WIDTH,), normalize="l2", normalize_first=True)
    return layer().model_copy(
        update={
            "network": network,
            # inputs of length 1 have a tenth of the energy of pixels: steps are larger
            "optimizer": Sgd(lr=0.5, scale_lr_by_width=False),
            "seeds": SEEDS[:3],
            "epochs": 30,
        }
    )


class Depth(Finding):
    """Local and total condition against the observed sign, layer by layer."""

    name = "depth"
    question = "Do the theorems predict sparsity in the layers of a deep network?"
    method = (
        "Stacks of 1 to 6 layers of 256 units learn mnist-mini with G(negative) - G(positive), "
        "inputs of every layer scaled to length 1, layer after layer (greedy) and all at once "
        "(simultaneous). The local condition takes the layers below as fixed; the total condition "
        "follows the joint step through all of them. Each is compared with the observed sign of "
        "the change of S of every sample in the joint step."
    )
    falsified_by = (
        "An agreement of the total condition below that of the local one in a layer above the "
        "first."
    )
    study = StudySpec(
        parts={
            "stacks": StudyPart(
                base=_base(),
                grid={
                    "layers": ["greedy", "simultaneous"],
                    "network.widths": [[WIDTH] * depth for depth in DEPTHS],
                },
            )
        }
    )
    large = LARGE
    tiny = TINY

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Compare the conditions above the first layer, and S by layer."""
        local, total = _means(runs, "local_agreement"), _means(runs, "total_agreement")
        lines = []
        if local and total:
            lines.append(
                f"Above the first layer of stacks that learn all at once, the total condition "
                f"predicts the sign of the change of S for {number(interval(total))} of the "
                f"samples, the local one for {number(interval(local))} (mean over layers, epochs "
                f"and seeds)."
            )
        deepest = [run for run in runs if _layers(run) == max(map(_layers, runs))]
        for run in deepest:
            ends = [at_end(run, "sparsity", "positive", index) for index in range(_layers(run))]
            texts = [f"{found.mean:.2f}" for found in ends if found]
            lines.append(
                f"{_name(run)}: S of positives at the end, layer by layer, is {', '.join(texts)}."
            )
        return lines

    def table(self, runs: Sequence[Run]) -> Table:
        """Return S, theorem 2 and the agreements of each layer."""
        rows = [
            (
                _name(run),
                str(index + 1),
                number(at_start(run, "sparsity", "positive", index)),
                number(at_end(run, "sparsity", "positive", index)),
                pair(at_end(run, "theorem2_ratio", split, index) for split in SPLITS),
                *(
                    _mean_text(run, figure, index)
                    for figure in ("agreement", "local_agreement", "total_agreement")
                ),
            )
            for run in runs
            for index in range(_layers(run))
        ]
        return Table(
            (
                "stack",
                "layer",
                "S at start",
                "S at end",
                "theorem 2 at end",
                "agreement, own step",
                "local condition, joint step",
                "total condition, joint step",
            ),
            tuple(rows),
        )

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return S of each layer of the deepest stacks, and both agreements of the joint step."""
        drawn: list[Point] = []
        for run in runs:
            if _layers(run) != max(map(_layers, runs)):
                continue
            for index in range(_layers(run)):
                series = f"layer {index + 1}"
                drawn += points(
                    run, "sparsity", f"S, {_order(run)}", series, layer=index, over="epoch"
                )
                for figure, title in (("local_agreement", "local"), ("total_agreement", "total")):
                    drawn += points(
                        run,
                        figure,
                        f"agreement of the {title} condition",
                        series,
                        layer=index,
                        over="epoch",
                    )
        return Plot("S of the layers of a deep network", "epoch", "", tuple(drawn))


def _layers(run: Run) -> int:
    assert isinstance(run.spec, TrainSpec)  # noqa: S101 - narrows the type
    return len(run.spec.network.widths)


def _order(run: Run) -> str:
    return str(run.params["layers"])


def _name(run: Run) -> str:
    return f"{_order(run)}, {_layers(run)} layers"


def _values(run: Run, figure: str, index: int) -> list[float]:
    """Return the means over seeds of a figure of positives, epoch by epoch."""
    return [moment.found.mean for moment in curve(run, figure, "positive", index)]


def _means(runs: Sequence[Run], figure: str) -> list[float]:
    """Return a figure's values in all layers but the first of all runs."""
    return [
        value
        for run in runs
        for index in range(1, _layers(run))
        for value in _values(run, figure, index)
    ]


def _mean_text(run: Run, figure: str, index: int) -> str:
    values = _values(run, figure, index)
    return f"{sum(values) / len(values):.3f}" if values else "-"
