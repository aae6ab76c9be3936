"""What a study of the paper found, in sentences that are read in seconds: each has its figure, its
interval over seeds and the verdict on what the paper claims.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ffengine.datasets import DATASETS
from ffengine.flow import flow_times
from ffengine.intervals import interval, interval_of
from ffengine.objectives import Difference
from ffengine.optimizers import Adam
from ffengine.results import AccuracyRow, Interval, TrainResult
from ffengine.spec import CheckSpec, TrainSpec
from ffengine.theorems import THEOREMS, TheoremNumber
from service.results.course import SPLITS, Course, Moment, change_between, course_of
from service.results.paper_comparison import ComparisonRow, comparison
from service.results.shares import of_means, share, shares, with_interval
from service.results.sources import Source

HALF = 0.5


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
        return f"epoch {moment.epoch}" if tau is None else f"tau {tau:.2g}"

    def tau(self, epoch: float) -> float | None:
        """The flow time after so many epochs, of which the last may be a part.

        None where it says little of the course: for other objectives, for Adam, and for uploads,
        whose number of samples is not at hand.
        """
        facts = DATASETS.get(self.spec.dataset.name)
        known = isinstance(self.spec.objective, Difference)
        if facts is None or not known or isinstance(self.spec.optimizer, Adam):
            return None
        times = flow_times(self.spec, self.spec.dataset.train_count(facts))
        before = min(int(epoch), len(times) - 2)
        return times[before] + (epoch - before) * (times[before + 1] - times[before])


def summary(sources: Sequence[Source]) -> list[str]:
    """The sentences; none unless the results have checks of both theorems and training runs."""
    numbers = {s.spec.theorem for s in sources if isinstance(s.spec, CheckSpec)}
    runs = list(_runs(sources))
    if numbers != {1, 2} or not runs:
        return []
    lines = [*_theorem(sources, 1), *_theorem(sources, 2)]
    main = _main(runs)
    for run in main:
        lines += _training(run)
    lines += _signs(main)
    lines += _widths(runs)
    lines += _accuracies(runs)
    return lines


def _runs(sources: Sequence[Source]) -> Iterator[Run]:
    for source in sources:
        if isinstance(source.spec, TrainSpec) and isinstance(source.result, TrainResult):
            course = course_of(source.result.curves)
            if course is not None and len(source.spec.network.widths) == 1:
                yield Run(source, source.spec, source.result, course)


def _main(runs: Sequence[Run]) -> list[Run]:
    """The longest runs of the objective `difference` with most seeds, one for each preprocessing
    of the pixels; of several, the first.
    """
    found: dict[str, Run] = {}
    for run in runs:
        if run.objective != "difference":
            continue
        known = found.get(run.spec.dataset.preprocess)
        if known is None or _weight(run) > _weight(known):
            found[run.spec.dataset.preprocess] = run
    return list(found.values())


def _weight(run: Run) -> tuple[int, int]:
    return len(run.spec.seeds), run.spec.epochs


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
    more = "half" if published == HALF else f"{100 * published:g} %"
    samples = max(row.samples // max(1, row.seeds) for row in rows)
    of = "samples" if number == 1 else "positive / negative samples"
    when = "at initialisation" if not (rows[0].key.at and rows[0].key.at.epoch) else "trained"
    yield (
        f"Theorem {number} {when}: holds for {shares([_interval(row) for row in rows])} of "
        f"{samples:,} {of} (n = {width}; the paper: more than {more}): {_verdicts(rows)}."
    )


def _interval(row: ComparisonRow) -> Interval:
    return Interval(mean=row.measured, low=row.low, high=row.high, seeds=row.seeds)


def _verdicts(rows: Sequence[ComparisonRow]) -> str:
    """The verdicts of both splits, once where they agree."""
    return " / ".join(dict.fromkeys(row.judgement for row in rows if row.verdict)) or "no verdict"


# Training


def _training(run: Run) -> Iterator[str]:
    """When theorem 2 holds for less than half and for more, and how S goes meanwhile."""
    course, known = run.course, run.tau(0) is not None
    inputs = "centred pixels" if run.spec.dataset.preprocess == "center" else "pixels as they are"
    who = f"while training, {inputs}, n = {run.width}"
    rows = comparison([run.source])
    at_end = [
        row
        for row in rows
        if row.key.figure == "theorem2_training" and row.key.at and row.key.at.role == "last"
    ]
    crossings = _crossings(course)
    end = f"{shares(course.last.ratio)} at {run.at(course.last)}: {_verdicts(at_end)}"
    if crossings is None or course.rarest is None:
        always = _least(course.moments[1:])
        yield (
            f"Theorem 2 {who}: holds for at least {always} of samples from the first epoch on; "
            f"{end}."
        )
    else:
        low = shares(course.rarest.ratio)
        until = " / ".join(
            f"{run.tau(one):.2f}" if known else f"epoch {one:.1f}" for one in crossings
        )
        when = f"tau < {until}" if known else f"until {until}"
        predicted = run.result.onset.tau_star if run.result.onset else None
        said = f"; predicted {predicted:.2f} for both" if predicted else ""
        yield (
            f"Theorem 2 {who}: below one half while units are recruited ({when}{said}; "
            f"lowest {low}), above one half for both afterwards: {end}."
        )
    yield _sparsity(run, who, rows)


def _sparsity(run: Run, who: str, rows: Sequence[ComparisonRow]) -> str:
    course = run.course
    start = min((course.first, course.lowest), key=lambda moment: moment.mean_sparsity)
    since = [
        row
        for row in rows
        if row.key.figure == "sparsity_rise"
        and row.key.since
        and row.key.since.epoch == start.epoch
        and row.key.at
        and row.key.at.role == "last"
    ]
    fall = "" if start is course.first else f"falls from {of_means(course.first.sparsity)} and "
    change = " / ".join(_signed(one) for one in change_between(start, course.last))
    return (
        f"S {who}: {fall}rises from {of_means(start.sparsity)} at {run.at(start)} to "
        f"{of_means(course.last.sparsity)} at {run.at(course.last)}, by {change}: "
        f"{_verdicts(since)}."
    )


def _crossings(course: Course) -> tuple[float, float] | None:
    """The epochs at which theorem 2's mean ratio rises through one half for good, between two
    measured ones by a straight line. None unless both splits do, from below one half.
    """
    found = []
    for split in range(len(SPLITS)):
        line = [(moment.epoch, moment.ratio[split].mean) for moment in course.moments[1:]]
        below = [place for place, (_, ratio) in enumerate(line) if ratio < HALF]
        if not below or below[-1] + 1 == len(line):
            return None
        (epoch, ratio), (after, higher) = line[below[-1]], line[below[-1] + 1]
        found.append(epoch + (after - epoch) * (HALF - ratio) / (higher - ratio))
    return found[0], found[1]


def _least(moments: Sequence[Moment]) -> str:
    return " / ".join(
        share(min(moment.ratio[split].mean for moment in moments)) for split in (0, 1)
    )


def _signed(found: Interval) -> str:
    if found.low is None or found.high is None:
        return f"{found.mean:+.3f}"
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


# Signs, widths and accuracy


def _signs(runs: Sequence[Run]) -> Iterator[str]:
    """How often the predicted sign of the change of S is that of a real step, over all epochs."""
    rows = [row for run in runs for row in run.result.curves if row.agreement is not None]
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row.seed, []).append(row.agreement or 0.0)
    if rows:
        means = [sum(values) / len(values) for values in by_seed.values()]
        yield (
            "Predicted sign of the change of S, and its observed sign in the real step: equal for "
            f"{with_interval(interval(means, share=True))} of samples, over all epochs of these "
            f"runs."
        )


def _widths(runs: Sequence[Run]) -> Iterator[str]:
    """S of positives at a flow time that runs of several widths share, without the factor of the
    width; nothing is said of runs whose flow time is not known.
    """
    alike = {
        run.width: run
        for run in sorted(runs, key=lambda run: run.spec.epochs)
        if run.spec.dataset.preprocess == "unit" and run.tau(0) is not None
    }
    if len(alike) < 2:
        return
    lines = {width: _by_flow_time(alike[width]) for width in sorted(alike)}
    common = sorted(set.intersection(*(set(line) for line in lines.values())))
    if len(common) < 2:
        return
    spread = max(
        max(line[tau] for line in lines.values()) - min(line[tau] for line in lines.values())
        for tau in common
    )
    figures = ", ".join(f"{line[common[-1]]:.3f}" for line in lines.values())
    yield (
        f"Widths {', '.join(map(str, lines))}: over tau, S without its width factor is one curve: "
        f"{figures} of positives at tau {common[-1]:g}; the curves are at most {spread:.3f} apart."
    )


def _by_flow_time(run: Run) -> dict[float, float]:
    """C = S (sqrt(n) - 1) / sqrt(n) of positives by flow time, the mean over seeds."""
    root = run.width**0.5
    return {
        round(run.tau(moment.epoch) or 0.0, 6): moment.sparsity[0].mean * (root - 1) / root
        for moment in run.course.moments
    }


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
    told = " to ".join(with_interval(found) for found in accuracies if found)
    return (
        f"Objective {objective}, epoch {moments[0].epoch} to {moments[1].epoch}: S "
        f"{_way(*values)} from {values[0]:.3f} to {values[1]:.3f}, the share of zeros "
        f"{_way(*zeros)} from {share(zeros[0])} to {share(zeros[1])}, test accuracy by goodness "
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
