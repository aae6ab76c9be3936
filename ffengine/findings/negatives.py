"""The finding `negatives`: what a strategy does to sparsity can be told before training."""

from collections.abc import Sequence

from ffengine.findings.bases import LARGE, TINY, layer
from ffengine.findings.finding import Finding, Plot, Point, Run, Table
from ffengine.findings.measured import SPLITS, accuracy, at_end, at_start
from ffengine.findings.wording import number, pair
from ffengine.intervals import interval
from ffengine.results import Interval, TrainResult
from ffengine.spec import EvaluationSpec, StudyPart, StudySpec

STRATEGIES = (
    "wrong_label",
    "hardest_label",
    "sampled_label",
    "other_image",
    "hybrid",
    "mix",
    "noise",
    "shuffle_pixels",
    "masked",
    "adversarial",
    "self_contrastive",
)
STRATEGY = "negatives.strategy"
COMPARED = "wrong_label"


class Negatives(Finding):
    """S, theorem 2 and accuracy for every strategy of the catalogue."""

    name = "negatives"
    question = "How does the way in which negatives are made change sparsity and accuracy?"
    method = (
        "One layer of 256 units learns mnist-mini with G(negative) - G(positive) for 20 epochs of "
        "flow time 0.4, with each strategy of the catalogue. The difference of the final S from "
        "that of wrong_label is taken seed by seed, since both begin with the same weights."
    )
    falsified_by = "A paired difference of S whose interval excludes the one in the table."
    study = StudySpec(
        parts={
            "strategies": StudyPart(
                base=layer().model_copy(
                    update={"evaluation": EvaluationSpec(measures=False, linear_classifier=True)}
                ),
                grid={STRATEGY: list(STRATEGIES)},
            )
        }
    )
    large = LARGE
    tiny = TINY

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say which strategies end with clearly larger or smaller S than wrong_label."""
        more: list[str] = []
        less: list[str] = []
        same: list[str] = []
        base = _of(runs, COMPARED)
        for run in runs:
            if _name(run) == COMPARED:
                continue
            found = _difference(run, base)
            if found is None or found.low is None or found.high is None:
                continue
            (more if found.low > 0 else less if found.high < 0 else same).append(_name(run))
        if not any((more, less, same)):
            return ["How S ends cannot be compared: that needs an interval over two seeds or more."]
        texts = (("larger", more), ("smaller", less), ("no clearly different", same))
        return [
            f"S of positives ends {word} than with {COMPARED} for {', '.join(names)}."
            if word != "no clearly different"
            else f"S of positives does not end clearly different for {', '.join(names)}."
            for word, names in texts
            if names
        ]

    def table(self, runs: Sequence[Run]) -> Table:
        """Return theorem 2 at the start, S at start and end, the paired difference, accuracy."""
        base = _of(runs, COMPARED)
        rows = tuple(
            (
                _name(run),
                pair(at_start(run, "theorem2_ratio", split) for split in SPLITS),
                number(at_start(run, "sparsity", "positive")),
                number(at_end(run, "sparsity", "positive")),
                number(_difference(run, base)),
                number(accuracy(run, "goodness")),
                number(accuracy(run, "linear")),
            )
            for run in runs
        )
        return Table(
            (
                "strategy",
                "theorem 2 at start",
                "S at start",
                "S at end",
                f"S less that of {COMPARED}, seed by seed",
                "accuracy by goodness",
                "accuracy, linear",
            ),
            rows,
        )

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return the final S of both splits for each strategy."""
        drawn = tuple(
            Point("", split, _name(run), found.mean, found.low, found.high)
            for run in runs
            for split in SPLITS
            if (found := at_end(run, "sparsity", split))
        )
        return Plot(
            "The final S, by how negatives are made",
            "strategy",
            "S at the end",
            drawn,
            mark="point",
        )


def _name(run: Run) -> str:
    return str(run.params[STRATEGY])


def _of(runs: Sequence[Run], name: str) -> Run:
    return next(run for run in runs if _name(run) == name)


def _difference(run: Run, base: Run) -> Interval | None:
    """Return the difference of the final S of positives, seed by seed."""
    ends = [_final(one) for one in (run, base)]
    both = [ends[0][seed] - ends[1][seed] for seed in ends[0] if seed in ends[1]]
    return interval(both) if both else None


def _final(run: Run) -> dict[int, float]:
    """Return the final S of positives by seed."""
    assert isinstance(run.result, TrainResult)  # noqa: S101 - narrows the type
    last = max(row.epoch for row in run.result.curves)
    return {
        row.seed: row.sparsity
        for row in run.result.curves
        if row.epoch == last and row.split == "positive" and row.sparsity is not None
    }
