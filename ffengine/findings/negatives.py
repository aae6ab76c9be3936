"""The finding `negatives`: what a strategy does to sparsity can be told before training."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ffengine.findings.bases import LARGE, SEEDS, TINY, TINY_CHECK, layer
from ffengine.findings.finding import Finding, Plot, Point, Run, Table
from ffengine.findings.measured import SPLITS, accuracy, at_epoch, at_start, rows_of
from ffengine.findings.wording import number, pair
from ffengine.intervals import interval
from ffengine.results import CheckResult, EpochRow, Interval, Split, TrainResult
from ffengine.spec import CheckSpec, DatasetSpec, EvaluationSpec, StudyPart, StudySpec

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
FEW_LIVE = 0.1  # of the monitored samples
APART = 0.05  # potentials that differ by less are equal within what a draw changes


class Negatives(Finding):
    """S, theorem 2 and accuracy for every strategy of the catalogue."""

    name = "negatives"
    question = "How does the way in which negatives are made change sparsity and accuracy?"
    method = (
        "One layer of 256 units learns mnist-mini with G(negative) - G(positive) for 20 epochs of "
        "flow time 0.4, with each strategy of the catalogue. The difference of the final S from "
        "that of wrong_label is taken seed by seed, since both begin with the same weights. S is "
        "that of samples with an active unit (live), so it says little where few are left. hybrid "
        "and self_contrastive show no labels, and have no accuracy by goodness. Before any "
        "training the potentials U of negatives and of positives at the same samples are compared "
        "(docs/theory.md, Negatives): in the limit of infinite width theorem 2 holds where that of "
        "the negatives is the larger one."
    )
    falsified_by = (
        "A paired difference of S whose interval excludes the one in the table; a strategy whose "
        "potentials differ by more than 5 % and whose theorem 2 begins on the other side of one "
        "half."
    )
    study = StudySpec(
        parts={
            "strategies": StudyPart(
                base=layer().model_copy(
                    update={"evaluation": EvaluationSpec(measures=False, linear_classifier=True)}
                ),
                grid={STRATEGY: list(STRATEGIES)},
            ),
            "before training": StudyPart(
                base=CheckSpec(
                    theorem=2,
                    dataset=DatasetSpec(name="mnist-mini"),
                    widths=(256,),
                    samples=2_000,
                    batch_size=500,
                    seeds=SEEDS,
                    methods=("infinite_width",),
                ),
                grid={STRATEGY: list(STRATEGIES)},
            ),
        }
    )
    large = LARGE
    tiny = TINY
    tiny_check = TINY_CHECK

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say which strategies end with clearly larger or smaller S than wrong_label."""
        more: list[str] = []
        less: list[str] = []
        same: list[str] = []
        asides: list[str] = []
        trained, checked = _by_kind(runs)
        base = trained[COMPARED]
        for run in trained.values():
            if _name(run) == COMPARED:
                continue
            found = _difference(run, base)
            if found is None or found.seeds < len(_final(base)):
                asides.append(_left_out(run))
                continue
            if found.low is None or found.high is None:
                continue
            (more if found.low > 0 else less if found.high < 0 else same).append(_name(run))
            if max(_live(run).values()) < FEW_LIVE * _samples(run):
                asides.append(_of_few_samples(run))
        if not any((more, less, same)):
            none = "How S ends cannot be compared: that needs an interval over two seeds or more."
            return [none, *asides, *_foretold(trained, checked)]
        texts = (("larger", more), ("smaller", less), ("no clearly different", same))
        return [
            f"S of positives ends {word} than with {COMPARED} for {', '.join(names)}."
            if word != "no clearly different"
            else f"S of positives does not end clearly different for {', '.join(names)}."
            for word, names in texts
            if names
        ] + [*asides, *_foretold(trained, checked)]

    def table(self, runs: Sequence[Run]) -> Table:
        """Return U and theorem 2 at the start, S at start and end, the difference, accuracy."""
        trained, checked = _by_kind(runs)
        base = trained[COMPARED]
        rows = tuple(
            (
                name,
                pair(_potential_ratio(checked.get(name), split) for split in SPLITS),
                pair(at_start(run, "theorem2_ratio", split) for split in SPLITS),
                number(at_start(run, "sparsity", "positive")),
                number(interval(list(ends.values())) if ends else None, of=len(seeds)),
                _range(_live(run).values(), _samples(run)),
                number(_difference(run, base), of=len(seeds)),
                number(accuracy(run, "goodness")),
                number(accuracy(run, "linear")),
            )
            for name, run in trained.items()
            for ends, seeds in [(_final(run), _live(run))]
        )
        return Table(
            (
                "strategy",
                "U of negatives / of positives, before",
                "theorem 2 at start",
                "S at start",
                "S at end",
                "live positives at end",
                f"S less that of {COMPARED}, seed by seed",
                "accuracy by goodness",
                "accuracy, linear",
            ),
            rows,
        )

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return the final S of both splits for each strategy that has it in every seed."""
        drawn = tuple(
            Point("", split, name, found.mean, found.low, found.high)
            for name, run in _by_kind(runs)[0].items()
            for split in SPLITS
            if (found := at_epoch(run, "sparsity", split, _last(run)[0].epoch))
            and found.seeds == len(_live(run))
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


def _by_kind(runs: Sequence[Run]) -> tuple[dict[str, Run], dict[str, Run]]:
    """Return the training runs and the checks before training, by strategy."""
    trained = {_name(run): run for run in runs if isinstance(run.result, TrainResult)}
    checked = {_name(run): run for run in runs if isinstance(run.result, CheckResult)}
    return trained, checked


def _potential_ratio(run: Run | None, split: Split) -> Interval | None:
    """Return the potential of negatives over that of positives at samples of a split."""
    if run is None or not isinstance(run.result, CheckResult):
        return None
    found = [row.potential_ratio for row in run.result.potentials if row.split == split]
    values = [ratio for ratio in found if ratio is not None]
    return interval(values) if values else None


def _foretold(trained: Mapping[str, Run], checked: Mapping[str, Run]) -> Iterator[str]:
    """Say how often the potentials tell on which side of one half theorem 2 begins."""
    told: list[bool] = []
    near: list[str] = []
    for name, run in trained.items():
        for split in SPLITS:
            ratio = _potential_ratio(checked.get(name), split)
            first = at_start(run, "theorem2_ratio", split)
            if ratio is None or first is None:
                continue
            if abs(ratio.mean - 1) < APART:
                near.append(name)
            else:
                told.append((ratio.mean > 1) == (first.mean > 0.5))
    if told:
        left = f" Nearer to each other ({', '.join(dict.fromkeys(near))}) the draw decides."
        yield (
            f"Before training, where the potentials of negatives and positives differ by more than "
            f"{APART:.0%}, they tell on which side of one half theorem 2 begins in {sum(told)} of "
            f"{len(told)} cases (a strategy and a split).{left if near else ''}"
        )


def _difference(run: Run, base: Run) -> Interval | None:
    """Return the difference of the final S of positives, seed by seed."""
    ends = [_final(one) for one in (run, base)]
    both = [ends[0][seed] - ends[1][seed] for seed in ends[0] if seed in ends[1]]
    return interval(both) if both else None


def _last(run: Run) -> list[EpochRow]:
    """Return the rows of positives after the last epoch."""
    rows = rows_of(run, 0, "positive")
    last = max(row.epoch for row in rows)
    return [row for row in rows if row.epoch == last]


def _final(run: Run) -> dict[int, float]:
    """Return the final S of positives by seed, of seeds with a live sample."""
    return {row.seed: row.sparsity for row in _last(run) if row.sparsity is not None}


def _live(run: Run) -> dict[int, int]:
    """Return by seed on how many positives a unit is active at the end."""
    return {row.seed: row.samples - row.dead_samples for row in _last(run)}


def _samples(run: Run) -> int:
    return _last(run)[0].samples


def _range(counts: Iterable[int], samples: int) -> str:
    """Write how many of the samples there are from seed to seed."""
    low, high = min(counts := list(counts)), max(counts)
    return f"{low:,} of {samples:,}" if low == high else f"{low:,} to {high:,} of {samples:,}"


def _left_out(run: Run) -> str:
    """Say why a strategy is not compared."""
    live = _live(run)
    some = [count for count in live.values() if count]
    have = (
        f"{len(some)} of {len(live)} seeds {'has' if len(some) == 1 else 'have'} a live positive "
        f"({_range(some, _samples(run))})"
        if some
        else "no seed has a live positive"
    )
    return (
        f"{_name(run)} is left out: its units fall silent. At the end {have}; without one S is "
        f"undefined."
    )


def _of_few_samples(run: Run) -> str:
    """Say of how few samples the final S of a strategy is."""
    left = _range(_live(run).values(), _samples(run))
    return f"With {_name(run)} the final S is that of few samples: {left} positives are live."
