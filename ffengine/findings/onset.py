"""The finding `onset`: class means and angles of the data say when sparsity begins to rise."""

import math
from collections.abc import Sequence

from ffengine.findings.bases import LARGE, TINY, layer
from ffengine.findings.finding import Finding, Plot, Point, Rule, Run, Table
from ffengine.findings.measured import crossing, curve, lowest, rows_of, turns
from ffengine.findings.wording import number
from ffengine.intervals import interval
from ffengine.onset import TURN, TURN_SPREAD
from ffengine.percents import in_percent
from ffengine.results import Interval, TrainResult
from ffengine.spec import DatasetName, Preprocess, StudyPart, StudySpec, TrainSpec

CLOSE = 0.4  # of the mean: nearer than that all settings are foretold
EPOCHS = 12
SAMPLES = 6_000  # of larger data sets, so that epochs have the steps of mnist-mini


def _of(
    name: DatasetName,
    *,
    strength: float | None = None,
    preprocess: Preprocess = "unit",
    slow: float = 1.0,
    samples: int | None = None,
    epochs: int = EPOCHS,
) -> TrainSpec:
    """Return a run whose label inputs have a strength.

    It turns `slow` times later than that on mnist-mini, so its steps are as many times larger.
    """
    base = layer(eta=slow / 30, epochs=epochs)
    dataset = base.dataset.model_copy(
        update={
            "name": name,
            "label_strength": strength,
            "preprocess": preprocess,
            "train_samples": samples,
        }
    )
    return base.model_copy(
        update={
            "dataset": dataset,
            "monitor": base.monitor.model_copy(update={"samples": 1_000}),
        }
    )


def _parts(**runs: TrainSpec) -> dict[str, StudyPart]:
    """Return parts by the text that names them."""
    return {name: StudyPart(base=base) for name, base in runs.items()}


class Onset(Finding):
    """q lambda_1 tau* is about the same whatever the data, the labels and the preprocessing."""

    name = "onset"
    question = (
        "Can the time at which sparsity begins to rise be told from the data before training?"
    )
    method = (
        "One layer of 256 units learns with G(negative) - G(positive). tau* is the flow time at "
        "which the mean S of both splits is lowest, by a parabola through three epochs; theorem 2 "
        "along the expected step crosses one half about then, but in some seeds of 256 units "
        "much later. lambda_1 "
        "and q are computed from the samples before the first step: lambda_1, the largest "
        "eigenvalue of the difference of second moments, is how fast the class means' own "
        "direction grows in units that are active on all samples; q is the mean of 1 - t / pi "
        "over pairs of samples at an angle t, how likely a unit at random weights that is active "
        "on one of them is active on the other. At first a unit sees a share q of the samples "
        "beside each that it is active on, so that the direction grows at q lambda_1."
    )
    falsified_by = (
        f"A product q lambda_1 tau* outside {TURN - TURN_SPREAD:.2f} to "
        f"{TURN + TURN_SPREAD:.2f} for data of five or more classes of which S falls first, or "
        "a spread over settings that is not smaller than that of lambda_1 tau*."
    )
    study = StudySpec(
        parts=_parts(
            **{
                "mnist-mini": _of("mnist-mini"),
                "labels 1/4": _of("mnist-mini", strength=0.25, slow=4.0),
                "labels 1/2": _of("mnist-mini", strength=0.5, slow=2.0),
                "labels 2": _of("mnist-mini", strength=2.0, slow=0.5),
                "labels 4": _of("mnist-mini", strength=4.0, slow=0.25),
                "standardised": _of("mnist-mini", preprocess="standardize", slow=0.35),
                "images of length 1": _of("mnist-mini", preprocess="unit_norm", slow=70.0),
                "mnist": _of("mnist", samples=SAMPLES),
                "digits": _of("digits", slow=4.0, epochs=36),
                "digits, labels 1/4": _of("digits", strength=0.25, slow=16.0, epochs=36),
                "digits, standardised": _of(
                    "digits", preprocess="standardize", slow=0.6, epochs=36
                ),
            }
        )
    )
    further = _parts(
        **{
            "fashion-mnist": _of("fashion-mnist", slow=0.5, samples=SAMPLES),
            "fashion-mnist, labels 1/4": _of(
                "fashion-mnist", strength=0.25, slow=2.0, samples=SAMPLES
            ),
            "fashion-mnist, standardised": _of(
                "fashion-mnist", preprocess="standardize", slow=0.17, samples=SAMPLES
            ),
            "fashion-mnist, images of length 1": _of(
                "fashion-mnist", preprocess="unit_norm", slow=60.0, samples=SAMPLES
            ),
            "cifar10": _of("cifar10", samples=SAMPLES),
            "cifar10, grey": _of("cifar10-grey", samples=SAMPLES),
        }
    )
    large = LARGE
    tiny = TINY

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say how far both products are apart, and in which settings the second one is as said."""
        rates = {run.part: one for run in runs if (one := _product(run))}
        found = {run.part: one for run in runs if (one := _product(run, overlap=True))}
        missing = [run.part for run in runs if run.part not in rates]
        if not rates or not found:
            return ["S falls first and then rises in no setting, so there is no tau* to compare."]
        outside = [
            f"{name} ({number(one, 2)})"
            for name, one in found.items()
            if abs(one.mean - TURN) > TURN_SPREAD
        ]
        sure = "Yes" if _farthest(found) <= CLOSE else "Only roughly"
        lines = [
            f"{sure}, to within {in_percent(_farthest(found), 0)}: q lambda_1 tau* is "
            f"{_middle(found):.2f} "
            f"over {len(found)} settings ({_range(found)}).",
            f"The spread from setting to setting, as a standard deviation, is "
            f"{in_percent(_spread(found), 0)}; that of lambda_1 tau*, without q, is "
            f"{in_percent(_spread(rates), 0)} ({_middle(rates):.2f}, {_range(rates)}).",
            f"q lambda_1 tau* is within {TURN} +- {TURN_SPREAD} in {len(found) - len(outside)} "
            f"of {len(found)} settings."
            + (f" Outside are {', '.join(outside)}." if outside else ""),
        ]
        lines += _by_data(runs)
        if missing:
            lines.append(
                f"No tau* is given of {', '.join(missing)}: there S of a seed does not fall first, "
                f"or does not rise afterwards."
            )
        return lines

    def table(self, runs: Sequence[Run]) -> Table:
        """Return lambda_1, q, tau* and the products for each setting."""
        rows = tuple(
            (
                run.part,
                "-" if (rate := _rate(run)) is None else f"{rate:.3f}",
                "-" if (overlap := _overlap(run)) is None else f"{overlap:.3f}",
                number(_turn(run)),
                number(_product(run), 2),
                number(_product(run, overlap=True), 2),
                number(crossing(run, "theorem2_expected_ratio", after_fall=True)),
                "-" if (fall := _fall(run)) is None else f"{fall:.3f}",
            )
            for run in runs
        )
        columns = ("setting", "lambda_1", "q", "tau*", "lambda_1 tau*", "q lambda_1 tau*")
        return Table((*columns, "theorem 2 crosses 1/2", "fall of S"), rows)

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return the product of each setting beside the expected one."""
        drawn = [
            Point(title, "measured", run.part, found.mean, found.low, found.high)
            for title, overlap in (("lambda_1 tau*", False), ("q lambda_1 tau*", True))
            for run in runs
            if (found := _product(run, overlap=overlap))
        ]
        drawn += [
            Point("q", "measured", run.part, overlap)
            for run in runs
            if (overlap := _overlap(run)) is not None
        ]
        return Plot(
            "When S stops falling, by data, labels and preprocessing",
            "setting",
            "",
            tuple(drawn),
            mark="point",
            rules=(Rule("y", TURN, f"{TURN}", "q lambda_1 tau*"),),
        )


def _rate(run: Run) -> float | None:
    """Return lambda_1 of the data of a run."""
    assert isinstance(run.result, TrainResult)  # noqa: S101 - narrows the type
    return run.result.onset.lambda_1 if run.result.onset else None


def _turn(run: Run) -> Interval | None:
    """Return tau* over seeds; None where S of a seed does not fall first, or not rise then."""
    found, seeds = turns(run), {row.seed for row in rows_of(run)}
    return interval(found) if len(found) == len(seeds) else None


def _overlap(run: Run) -> float | None:
    """Return q of the data of a run."""
    assert isinstance(run.result, TrainResult)  # noqa: S101 - narrows the type
    return run.result.onset.overlap if run.result.onset else None


def _fall(run: Run) -> float | None:
    """Return by how much S of positives falls from the start to its lowest point."""
    found = curve(run, "sparsity", "positive")
    return found[0].found.mean - lowest(found).found.mean if found else None


def _product(run: Run, *, overlap: bool = False) -> Interval | None:
    """Return lambda_1 tau*, or q lambda_1 tau*, over seeds; None where a seed does not turn."""
    rate, turn = _rate(run), _turn(run)
    share = _overlap(run) if overlap else 1.0
    if rate is None or turn is None or share is None:
        return None
    bounds = {
        name: None if value is None else share * rate * value
        for name, value in (("mean", turn.mean), ("low", turn.low), ("high", turn.high))
    }
    return turn.model_copy(update=bounds)


def _middle(found: dict[str, Interval]) -> float:
    """Return the mean over settings."""
    return math.fsum(one.mean for one in found.values()) / len(found)


def _range(found: dict[str, Interval]) -> str:
    """Return the least and the largest mean of a setting."""
    means = [one.mean for one in found.values()]
    return f"{min(means):.2f} to {max(means):.2f}"


def _farthest(found: dict[str, Interval]) -> float:
    """Return how far the setting that is farthest from the mean is from it, relative to it."""
    middle = _middle(found)
    return max(abs(one.mean - middle) for one in found.values()) / middle


def _spread(found: dict[str, Interval]) -> float:
    """Return the standard deviation over settings, relative to their mean."""
    middle = _middle(found)
    squares = math.fsum((one.mean - middle) ** 2 for one in found.values())
    return math.sqrt(squares / len(found)) / middle


def _by_data(runs: Sequence[Run]) -> list[str]:
    """Say both products of each data set."""
    kinds: dict[str, list[Run]] = {}
    for run in runs:
        assert isinstance(run.spec, TrainSpec)  # noqa: S101 - narrows the type
        kinds.setdefault(run.spec.dataset.name.removesuffix("-mini"), []).append(run)
    texts = []
    for name, of_data in kinds.items():
        rates = {run.part: one for run in of_data if (one := _product(run))}
        found = {run.part: one for run in of_data if (one := _product(run, overlap=True))}
        if found:
            texts.append(f"{name} lambda_1 tau* {_range(rates)}, q lambda_1 tau* {_range(found)}")
    return [f"By data: {'; '.join(texts)}."] if texts else []
