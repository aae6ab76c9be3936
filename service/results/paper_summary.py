"""What a study of the paper found, in sentences that are read in seconds: each has its figure, its
interval over seeds and the verdict on what the paper claims. A word or sign is explained where it
first occurs.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ffengine.datasets import DATASETS
from ffengine.flow import flow_times
from ffengine.intervals import interval, interval_of
from ffengine.negatives import WrongLabel
from ffengine.objectives import Difference, SumSquares
from ffengine.optimizers import Momentum, Nesterov, Sgd
from ffengine.percents import digits_of, percent
from ffengine.results import AccuracyRow, EpochRow, Interval, TrainResult
from ffengine.spec import CheckSpec, TrainSpec
from ffengine.theorems import THEOREMS, TheoremNumber
from service.results.compared_runs import compared, without_width
from service.results.course import SPLITS, Course, Moment, change_between, course_of
from service.results.paper_comparison import ComparisonRow, comparison
from service.results.shares import (
    number,
    of_means,
    share,
    shares,
    shares_alone,
    signed,
    with_interval,
)
from service.results.sources import Source

HALF = 0.5
OBJECTIVES = {
    "difference": "goodness of negatives less that of positives",
    "softplus": "softplus of the goodness beside a threshold",
}


class Run(NamedTuple):
    """A training run of the study, and the course of its layer."""

    source: Source
    spec: TrainSpec
    result: TrainResult
    course: Course

    @property
    def width(self) -> int:
        """The number of units."""
        return self.spec.network.widths[0]

    @property
    def objective(self) -> str:
        """The name of the objective."""
        return self.spec.objective.name

    def at(self, moment: Moment) -> str:
        """When a moment is, in words: in flow time if that is known."""
        tau = self.tau(moment.epoch)
        return f"epoch {moment.epoch:,}" if tau is None else f"tau = {tau:.3g}"

    def tau(self, epoch: float) -> float | None:
        """The flow time after so many epochs, of which the last may be a part.

        None where it says little of the course: for other objectives, for optimisers other than
        descent with or without momentum, and for uploads, whose number of samples is not at hand.
        """
        facts = DATASETS.get(self.spec.dataset.name)
        descends = isinstance(self.spec.optimizer, Sgd | Momentum | Nesterov)
        known = isinstance(self.spec.objective, Difference) and descends
        if facts is None or not known:
            return None
        times = flow_times(self.spec, self.spec.dataset.train_count(facts))
        before = min(int(epoch), len(times) - 2)
        return times[before] + (epoch - before) * (times[before + 1] - times[before])


def summary(sources: Sequence[Source]) -> list[str]:
    """The sentences; none unless it is a study of the paper."""
    if not is_paper_study(sources):
        return []
    runs = list(_runs(sources))
    lines = [*_theorem(sources, 1), *_theorem(sources, 2)]
    main = _of(runs, compared(sources, "dataset.preprocess", over_flow_time=False))
    for place, run in enumerate(main):
        lines += _training(run, first=place == 0)
    lines += _signs(main)
    lines += _widths(_of(runs, compared(sources, "network.widths")))
    lines += _accuracies(runs)
    return lines


def is_paper_study(sources: Sequence[Source]) -> bool:
    """Whether the results have checks of both theorems and training runs of one layer."""
    numbers = {source.spec.theorem for source in sources if isinstance(source.spec, CheckSpec)}
    return numbers == {1, 2} and any(True for _ in _runs(sources))


def _runs(sources: Sequence[Source]) -> Iterator[Run]:
    for source in sources:
        if isinstance(source.spec, TrainSpec) and isinstance(source.result, TrainResult):
            course = course_of(source.result.curves)
            if course is not None and len(source.spec.network.widths) == 1:
                yield Run(source, source.spec, source.result, course)


def _of(runs: Sequence[Run], chosen: Sequence[Source]) -> list[Run]:
    """The runs of the chosen sources."""
    return [run for source in chosen for run in runs if run.source is source]


# The checks


def _theorem(sources: Sequence[Source], number: TheoremNumber) -> Iterator[str]:
    """The widest layer by the exact condition."""
    figure = "theorem1" if number == 1 else "theorem2"
    rows = [
        row
        for row in comparison(sources)
        if row.key.figure == figure and row.key.method == "exact" and row.key.width
    ]
    if not rows:
        return
    width = max(row.key.width or 0 for row in rows)
    rows = [row for row in rows if row.key.width == width]
    published = THEOREMS[number].published
    more = "half" if published == HALF else f"{percent(published)} %"
    samples = f"{max(row.samples // max(1, row.seeds) for row in rows):,}"
    spec = next(
        s.spec for s in sources if isinstance(s.spec, CheckSpec) if s.spec.theorem == number
    )
    tell = _lowered if number == 1 else _trained
    told = tell(spec, shares([_interval(row) for row in rows]), samples)
    units = f"n = {width:,} units; {_brackets(rows[0].seeds)}" if number == 1 else f"n = {width:,}"
    when = "at initialisation" if not (rows[0].key.at and rows[0].key.at.epoch) else "trained"
    yield (
        f"Theorem {number} {when}: {told}, to first order ({units}; attributed to the "
        f"paper: more than {more}): {_verdicts(rows)}."
    )


def _lowered(spec: CheckSpec, held: str, samples: str) -> str:
    """Theorem 1 in words, with the shares for which it holds."""
    squares = isinstance(spec.goodness, SumSquares)
    aside = " (sum of squared activations)" if squares else f" ({spec.goodness.name})"
    return (
        f"a step that lowers the goodness{aside} of all samples raises the sparsity of {held} of "
        f"{samples} samples"
    )


def _trained(spec: CheckSpec, held: str, samples: str) -> str:
    """Theorem 2 in words, with the shares for which it holds."""
    labelled = isinstance(spec.negatives, WrongLabel)
    aside = "with the right / a wrong label" if labelled else f"{spec.negatives.strategy}"
    return (
        f"a step that raises the goodness of positive samples and lowers that of negative ones "
        f"raises the sparsity of {held} of {samples} positive / negative samples ({aside})"
    )


def _brackets(seeds: int) -> str:
    return f"[x, y]: 95 % interval over {seeds} seeds" if seeds > 1 else "one seed"


def _interval(row: ComparisonRow) -> Interval:
    return Interval(mean=row.measured, low=row.low, high=row.high, seeds=row.seeds)


def _verdicts(rows: Sequence[ComparisonRow]) -> str:
    """The verdicts of both splits, once where they agree."""
    return " / ".join(dict.fromkeys(row.judgement for row in rows if row.verdict)) or "no verdict"


# Training


def _training(run: Run, *, first: bool) -> Iterator[str]:
    """When theorem 2 holds for less than half and for more, and how S goes meanwhile.

    **Arguments:**

    - `first`: whether tau and S have not been explained yet.
    """
    course = run.course
    inputs = "centred pixels" if run.spec.dataset.preprocess == "center" else "pixels as they are"
    who = f"while training ({inputs}, n = {run.width:,})"
    rows = comparison([run.source])
    at_end = [
        row
        for row in rows
        if row.key.figure == "theorem2_training" and row.key.at and row.key.at.role == "last"
    ]
    rarest = course.rarest or min(course.moments[1:], key=lambda moment: moment.mean_ratio)
    digits = digits_of([*course.last.ratio, *rarest.ratio])
    end = f"{run.at(course.last)}, for {shares(course.last.ratio, digits)}: {_verdicts(at_end)}"
    low = f"{shares_alone(rarest.ratio, digits)} at {run.at(rarest)}"
    crossings = _crossings(run)
    if crossings is None or course.rarest is None:
        lowest = [
            min(moment.ratio[split].mean for moment in course.moments[1:]) for split in (0, 1)
        ]
        least = " / ".join(share(one, digits) for one in lowest)
        held = (
            f"at least {least} of samples at every epoch from the first on"
            if min(lowest) > HALF
            else f"{shares_alone(rarest.ratio, digits)} of samples at its lowest, {run.at(rarest)}"
        )
        yield f"Theorem 2 {who}: it holds for {held}; at the end, {end}."
    else:
        yield (
            f"Theorem 2 {who}: it holds for less than half (lowest: {low}) "
            f"while units switch on, until {_until(run, crossings, first=first)}; then it holds "
            f"for more than half; at the end, {end}."
        )
    yield _sparsity(run, who, rows, first=first)


def _until(run: Run, crossings: Sequence[Interval], *, first: bool) -> str:
    """When theorem 2's ratio rises through one half."""
    found = " / ".join(number(one, 2) for one in crossings)
    if run.tau(0) is None:
        return f"epoch {found}"
    return f"tau = {found}" + (" (tau: step size times number of steps)" if first else "")


def _sparsity(run: Run, who: str, rows: Sequence[ComparisonRow], *, first: bool) -> str:
    """How S goes: where it falls first, its rise since the predicted turn, else since the lowest
    epoch.
    """
    course = run.course
    rises = [
        row
        for row in rows
        if row.key.figure == "sparsity_rise"
        and row.key.since
        and row.key.at
        and row.key.at.role == "last"
    ]
    start = rises[-1].key.since
    assert start is not None  # noqa: S101 - narrows the type: the rows are chosen by it
    since = [row for row in rises if row.key.since == start]
    begins = next(moment for moment in course.moments if moment.epoch == start.epoch)
    fall = "" if begins is course.first else f"falls from {of_means(course.first.sparsity)} and "
    change = " / ".join(signed(one) for one in change_between(begins, course.last))
    what = "Sparsity S (1: a single unit is active)" if first else "S"
    return (
        f"{what} {who}: it {fall}rises from {of_means(begins.sparsity)} at {run.at(begins)}"
        f"{_predicted(run, nearest=start.role == 'predicted_turn')} "
        f"to {of_means(course.last.sparsity)} at {run.at(course.last)}, by {change}: "
        f"{_verdicts(since)}."
    )


def _predicted(run: Run, *, nearest: bool) -> str:
    """Where S was predicted to be lowest, after the epoch from which its rise is told.

    **Arguments:**

    - `nearest`: whether that epoch was chosen by the prediction.
    """
    turn = run.result.onset.tau_star if run.result.onset else None
    if turn is None or run.tau(0) is None:
        return ""
    if nearest:
        return f", nearest to {turn:.2f}, where it is predicted from the data to be lowest,"
    return f" (predicted from the data to be lowest at {turn:.2f})"


def _crossings(run: Run) -> list[Interval] | None:
    """When theorem 2's ratio of each split rises through one half for good, in flow time or else in
    epochs: the mean over seeds. Where it does not for every seed, the crossing of the mean ratio,
    without an interval; None where that does not cross either.
    """
    found = []
    for place, split in enumerate(SPLITS):
        rows = [row for row in run.result.curves if row.layer == 0 and row.split == split]
        lines = [
            [
                (row.epoch, row.theorem2_ratio)
                for row in rows
                if row.seed == seed and row.theorem2_ratio is not None
            ]
            for seed in dict.fromkeys(row.seed for row in rows)
        ]
        means = [(moment.epoch, moment.ratio[place].mean) for moment in run.course.moments]
        times = [time for line in lines if (time := _crossing(run, line)) is not None]
        of_means = _crossing(run, means)
        if len(times) == len(lines):
            found.append(interval(times))
        elif of_means is not None:
            found.append(Interval(mean=of_means, low=None, high=None, seeds=len(lines)))
        else:
            return None
    return found


def _crossing(run: Run, line: Sequence[tuple[int, float]]) -> float | None:
    """When a ratio rises through one half for good, between two measured epochs by a straight line.
    None unless it is below one half at some epoch after the first, and above at the end.
    """
    after_first = line[1:]
    below = [place for place, (_, ratio) in enumerate(after_first) if ratio < HALF]
    if not below or below[-1] + 1 == len(after_first):
        return None
    (epoch, ratio), (after, higher) = after_first[below[-1] : below[-1] + 2]
    crossed = epoch + (after - epoch) * (HALF - ratio) / (higher - ratio)
    tau = run.tau(crossed)
    return crossed if tau is None else tau


# Signs, widths and accuracy


def _signs(runs: Sequence[Run]) -> Iterator[str]:
    """How often the predicted sign of the change of S is that of a real step, over all epochs."""
    by_seed: dict[int, list[EpochRow]] = {}
    for row in (row for run in runs for row in run.result.curves if row.agreement is not None):
        by_seed.setdefault(row.seed, []).append(row)
    if not by_seed:
        return
    counts = [sum(row.counted("agreement") for row in rows) for rows in by_seed.values()]
    agreeing = [
        sum((row.agreement or 0.0) * row.counted("agreement") for row in rows)
        for rows in by_seed.values()
    ]
    found = interval(
        [agree / max(1, count) for agree, count in zip(agreeing, counts, strict=True)],
        share=True,
        samples=counts,
    )
    yield (
        f"Signs: the predicted sign of a sample's change of S is the observed one in a real step "
        f"for {with_interval(found)} of samples, over all epochs of the runs above."
    )


def _widths(runs: Sequence[Run]) -> Iterator[str]:
    """S of positives at a flow time that runs of several widths share, without the factor of the
    width; nothing is said of runs whose flow time is not known.
    """
    lines = {run.width: _by_flow_time(run) for run in runs if run.tau(0) is not None}
    if len(lines) < 2:
        return
    common = sorted(set.intersection(*(set(line) for line in lines.values())))
    if len(common) < 2:
        return
    means = [[line[tau].mean for line in lines.values()] for tau in common]
    spread = max(max(found) - min(found) for found in means)
    figures = ", ".join(number(line[common[-1]], 3) for line in lines.values())
    widths = ", ".join(f"{width:,}" for width in lines)
    yield (
        f"Widths: layers of n = {widths} follow one curve over tau: S without its width factor is "
        f"{figures} for positive samples at tau = {common[-1]:g}; the means differ by at most "
        f"{spread:.3f} at any tau."
    )


def _by_flow_time(run: Run) -> dict[float, Interval]:
    """C = S (sqrt(n) - 1) / sqrt(n) of positives by flow time, over seeds."""
    return {
        round(run.tau(moment.epoch) or 0.0, 6): _scaled(
            moment.sparsity[0], without_width(run.width)
        )
        for moment in run.course.moments
    }


def _scaled(found: Interval, factor: float) -> Interval:
    low, high = (None if end is None else factor * end for end in (found.low, found.high))
    return Interval(mean=factor * found.mean, low=low, high=high, seeds=found.seeds)


def _accuracies(runs: Sequence[Run]) -> Iterator[str]:
    """S beside accuracy and the share of zeros, early and late, for each objective."""
    for objective in dict.fromkeys(run.objective for run in runs):
        own = [
            run
            for run in runs
            if run.objective == objective and run.spec.dataset.preprocess == "unit"
        ]
        lengths = {
            width: sorted((run for run in own if run.width == width), key=lambda r: r.spec.epochs)
            for width in {run.width for run in own}
        }
        for found in lengths.values():
            if len(found) > 1 and found[0].spec.epochs < found[-1].spec.epochs:
                yield _beside(objective, found[0], found[-1])


def _beside(objective: str, early: Run, late: Run) -> str:
    """Two lengths of one run: how S, accuracy and the share of zeros of positives differ."""
    moments = early.course.last, late.course.last
    values = [moment.sparsity[0].mean for moment in moments]
    zeros = [_zeros(run) for run in (early, late)]
    accuracies = [_accuracy(run) for run in (early, late)]
    if None in accuracies:
        return ""
    digits = digits_of([*(found for found in accuracies if found), *zeros])
    told = " to ".join(with_interval(found, digits) for found in accuracies if found)
    silent = " to ".join(share(zero, digits) for zero in zeros)
    return (
        f"Accuracy (objective: {OBJECTIVES.get(objective, objective)}): from epoch "
        f"{moments[0].epoch:,} to {moments[1].epoch:,}, S {_way(*values)} from {values[0]:.3f} to "
        f"{values[1]:.3f}, the share of silent units {_way(*zeros)} from {silent}, "
        f"and test accuracy by goodness "
        f"{_way(*(found.mean for found in accuracies if found))} from {told}."
    )


def _way(before: float, after: float) -> str:
    return "rises" if after > before else "falls"


def _zeros(run: Run) -> float:
    rows = [
        row.zero_fraction
        for row in run.result.curves
        if row.epoch == run.course.last.epoch and row.split == "positive"
    ]
    return sum(rows) / len(rows)


def _accuracy(run: Run) -> Interval | None:
    rows: list[AccuracyRow] = [
        row
        for row in run.result.accuracy
        if row.method == "goodness" and row.partition == "test" and run.result.is_of_all_layers(row)
    ]
    return interval_of(rows, "accuracy")
