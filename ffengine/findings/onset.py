"""The finding `onset`: the spread of the class means says when sparsity begins to rise."""

from collections.abc import Sequence

from ffengine.findings.bases import SEEDS, TINY, layer
from ffengine.findings.finding import Finding, Plot, Point, Rule, Run, Table
from ffengine.findings.measured import crossing
from ffengine.findings.wording import number
from ffengine.intervals import interval
from ffengine.results import Interval, TrainResult
from ffengine.spec import DatasetName, Preprocess, StudyPart, StudySpec, TrainSpec

EXPECTED, TOLERANCE = 1.25, 0.15
EPOCHS = 25


def _of(
    name: DatasetName,
    *,
    strength: float | None = None,
    preprocess: Preprocess = "unit",
    slow: float = 1.0,
) -> TrainSpec:
    """Return a run whose label inputs have a strength.

    It turns `slow` times later than that on mnist-mini, so its steps are as many times larger.
    """
    base = layer(eta=slow / 30, epochs=EPOCHS)
    dataset = base.dataset.model_copy(
        update={"name": name, "label_strength": strength, "preprocess": preprocess}
    )
    return base.model_copy(update={"dataset": dataset, "seeds": SEEDS[:3]})


class Onset(Finding):
    """lambda_1 tau* is about the same whatever the data, the labels and the preprocessing."""

    name = "onset"
    question = (
        "Can the time at which sparsity begins to rise be told from the data before training?"
    )
    method = (
        "One layer of 256 units learns with G(negative) - G(positive). tau* is the flow time at "
        "which theorem 2 along the expected step comes back to one half of both splits; lambda_1 "
        "is computed from the class means before the first step."
    )
    falsified_by = (
        f"A product lambda_1 tau* outside {EXPECTED - TOLERANCE:.2f} to {EXPECTED + TOLERANCE:.2f}."
    )
    study = StudySpec(
        parts={
            name: StudyPart(base=base)
            for name, base in {
                "mnist-mini": _of("mnist-mini"),
                "labels 1/4": _of("mnist-mini", strength=0.25, slow=4.0),
                "labels 1/2": _of("mnist-mini", strength=0.5, slow=2.0),
                "labels 2": _of("mnist-mini", strength=2.0, slow=0.5),
                "labels 4": _of("mnist-mini", strength=4.0, slow=0.25),
                "standardised": _of("mnist-mini", preprocess="standardize", slow=0.35),
                "images of length 1": _of("mnist-mini", preprocess="unit_norm", slow=70.0),
                "digits": _of("digits", slow=5.0),
            }.items()
        }
    )
    tiny = TINY

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say in how many settings the product is within the expected range."""
        found = {run.part: product for run in runs if (product := _product(run))}
        missing = [run.part for run in runs if run.part not in found]
        if not found:
            return [
                "Theorem 2 comes back to one half in no setting, so there is no tau* to compare."
            ]
        within = [name for name, one in found.items() if abs(one.mean - EXPECTED) <= TOLERANCE]
        outside = [f"{name} ({number(found[name], 2)})" for name in found if name not in within]
        mean = interval([one.mean for one in found.values()])
        lines = [
            f"lambda_1 tau* is {number(mean, 2)} over {len(found)} settings; in {len(within)} of "
            f"them it is within {EXPECTED} +- {TOLERANCE}."
        ]
        if outside:
            lines.append(f"Outside are {', '.join(outside)}.")
        if missing:
            lines.append(f"Not every seed turns in {', '.join(missing)}.")
        return lines

    def table(self, runs: Sequence[Run]) -> Table:
        """Return lambda_1, tau* and their product for each setting."""
        rows = tuple(
            (
                run.part,
                "-" if (rate := _rate(run)) is None else f"{rate:.3f}",
                number(crossing(run, "theorem2_expected_ratio")),
                number(_product(run), 2),
            )
            for run in runs
        )
        return Table(("setting", "lambda_1", "tau*", "lambda_1 tau*"), rows)

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return the product of each setting beside the expected one."""
        products = [
            Point("lambda_1 tau*", "measured", run.part, found.mean, found.low, found.high)
            for run in runs
            if (found := _product(run))
        ]
        rates = [
            Point("lambda_1", "measured", run.part, rate)
            for run in runs
            if (rate := _rate(run)) is not None
        ]
        return Plot(
            "lambda_1 tau* by data, label strength and preprocessing",
            "setting",
            "",
            (*products, *rates),
            mark="point",
            rules=(Rule("y", EXPECTED, "1.25", "lambda_1 tau*"),),
        )


def _rate(run: Run) -> float | None:
    """Return lambda_1 of the data of a run."""
    assert isinstance(run.result, TrainResult)  # noqa: S101 - narrows the type
    return run.result.onset.lambda_1 if run.result.onset else None


def _product(run: Run) -> Interval | None:
    """Return lambda_1 tau* over seeds; None where a seed does not turn."""
    rate, turn = _rate(run), crossing(run, "theorem2_expected_ratio")
    if rate is None or turn is None:
        return None
    bounds = {
        name: None if value is None else rate * value
        for name, value in (("mean", turn.mean), ("low", turn.low), ("high", turn.high))
    }
    return turn.model_copy(update=bounds)
