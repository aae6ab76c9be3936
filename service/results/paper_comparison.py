"""Measured beside published: one row for each figure of the paper that the results speak to."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from ffengine.diagnostics import UNDECIDED_SHARE
from ffengine.intervals import interval, interval_of
from ffengine.results import (
    CheckCell,
    CheckResult,
    EpochRow,
    Interval,
    Onset,
    Split,
    TrainResult,
)
from ffengine.spec import CheckSpec, ForecastSpec
from ffengine.theorems import THEOREMS
from service.results.course import SPLITS, Course, course_of
from service.results.paper_setting import departures, nearest_first
from service.results.row_keys import EpochRef, RowKey, quantity_of
from service.results.sources import Source

Verdict = Literal[
    "met",
    "NOT met",
    "open",
    "one seed: no verdict",
    "rounding: no verdict",
    "chosen epoch: no verdict",
    "before the turn: no verdict",
    "not the paper's setting",
    "setting unknown",
    "",
]
MEANINGS: dict[Verdict, str] = {
    "met": "the whole interval is above the paper's figure",
    "NOT met": "the whole interval is at or below the paper's figure, so these seeds contradict "
    "the paper",
    "open": "the interval includes the paper's figure, so these seeds do not decide",
    "one seed: no verdict": "an interval needs two seeds or more",
    "rounding: no verdict": "more than 1 % of the margins are so close to zero that rounding "
    "decides their sign; they count as not satisfied, so the figure is too low",
    "chosen epoch: no verdict": "the epoch was chosen because the figure is lowest there, which an "
    "interval over seeds does not allow for",
    "before the turn: no verdict": "on these data S is expected to fall at first, and the figure "
    "begins before the turn that is predicted from them; the paper does not say when S rises",
    "not the paper's setting": "the paper makes no claim about this setting; the fields in which "
    "the run differs are named",
    "setting unknown": "the job that trained these weights was deleted, so it is not known whether "
    "the paper's claim applies",
}
COLOURS: dict[Verdict, str] = {"met": "met", "NOT met": "unmet"}  # classes of the style sheets


class ComparisonRow(NamedTuple):
    """One figure: its mean over seeds with a 95 % interval, and the verdict on the paper's claim.

    key: what was measured. published: the paper's claim, "" where it makes none. verdict: see
    MEANINGS, "" where the paper makes no claim. differs: the fields in which the run is not of the
    paper's setting. label: the run in words, where there are several.
    """

    key: RowKey
    measured: float
    low: float | None
    high: float | None
    published: str
    verdict: Verdict
    samples: int
    seeds: int
    differs: str = ""
    label: str = ""

    @property
    def quantity(self) -> str:
        """What was measured, in words."""
        return ", ".join(filter(None, (quantity_of(self.key), self.label)))

    @property
    def mean(self) -> str:
        """The figure with four digits; one that is rounded to zero has no sign."""
        return f"{self.measured:z.4f}"

    @property
    def interval(self) -> str:
        """The interval in words."""
        return (
            "one seed"
            if self.low is None or self.high is None
            else f"{_four_digits(self.low)} to {_four_digits(self.high)}"
        )

    @property
    def colour(self) -> str:
        """The class of the verdict in style sheets, "" where it has none."""
        return COLOURS.get(self.verdict, "")

    @property
    def judgement(self) -> str:
        """The verdict in words."""
        return f"{self.verdict} ({self.differs})" if self.differs else self.verdict

    def document(self) -> dict[str, Any]:
        """The row as JSON."""
        fields = self._asdict()
        del fields["key"], fields["label"]
        return {"quantity": self.quantity, **fields}


def _four_digits(value: float) -> str:
    """A bound with four digits, or six where these would make it 0 or 1 and it is not."""
    short = f"{value:z.4f}"
    return f"{value:z.6f}" if float(short) in (0.0, 1.0) and value != float(short) else short


def comparison(sources: Sequence[Source]) -> list[ComparisonRow]:
    """The rows of all results: those of the paper's setting first, each in their order."""
    ordered = nearest_first(sources, lambda source: (source.spec, source.trained))
    return [row for source in ordered for row in _rows_of(source)]


class RunRows(NamedTuple):
    """The rows of one run of a study.

    heading: the run in words, with the fields in which it is not of the paper's setting; "" for
    rows that name no run.
    """

    heading: str
    rows: Sequence[ComparisonRow]


def by_run(rows: Sequence[ComparisonRow]) -> list[RunRows]:
    """The rows of each run, which follow each other."""
    found = []
    for label, group in itertools.groupby(rows, key=attrgetter("label")):
        own = list(group)
        differs = next((row.differs for row in own if row.differs), "")
        aside = f"not the paper's setting: {differs}" if label and differs else ""
        found.append(RunRows(" - ".join(filter(None, (label, aside))), own))
    return found


def legend(rows: Iterable[ComparisonRow]) -> list[str]:
    """The meaning of each verdict that occurs in the rows, in one sentence each."""
    given = {row.verdict for row in rows}
    return [f"{verdict}: {meaning}." for verdict, meaning in MEANINGS.items() if verdict in given]


def verdict_on(found: Interval, reference: float) -> Verdict:
    """Whether a figure is greater than `reference`, by its interval over seeds alone."""
    if found.low is None or found.high is None:
        return "one seed: no verdict"
    if found.low > reference:
        return "met"
    return "open" if found.high > reference else "NOT met"


class _Claim(NamedTuple):
    """The paper's claim about a figure: it is greater than `reference` (None: no claim).

    differs: the fields in which the run is not of the paper's setting. known: whether the setting
    is known. decided: whether rounding leaves the figure as it is. unjudged: why several seeds have
    no verdict either, "" where they have one.
    """

    reference: float | None
    differs: str = ""
    known: bool = True
    decided: bool = True
    unjudged: Verdict = ""

    def verdict(self, found: Interval) -> Verdict:
        if self.reference is None:
            return ""
        if not self.known:
            return "setting unknown"
        if self.differs:
            return "not the paper's setting"
        if found.low is None or found.high is None:
            return "one seed: no verdict"
        if self.unjudged:
            return self.unjudged
        return verdict_on(found, self.reference) if self.decided else "rounding: no verdict"


def _claim(reference: float | None, source: Source, *further: str) -> _Claim:
    """The paper's claim as it applies to a result; `further`: departures from the paper's setting
    that its spec does not show.
    """
    spec = source.spec
    if reference is None:
        return _Claim(None)
    if spec is None or isinstance(spec, ForecastSpec):
        return _Claim(reference, known=False)
    of_trained_weights = isinstance(spec, CheckSpec) and spec.at != "initialization"
    if of_trained_weights and source.trained is None:
        return _Claim(reference, known=False)
    return _Claim(reference, ", ".join([*departures(spec, source.trained), *further]))


def _rows_of(source: Source) -> Iterator[ComparisonRow]:
    if isinstance(source.result, TrainResult):
        yield from _training_rows(source, source.result)
    elif isinstance(source.result, CheckResult):
        yield from _check_rows(source, source.result)


def _row(
    key: RowKey, source: Source, found: Interval | None, claim: _Claim, samples: int
) -> Iterator[ComparisonRow]:
    """The row of a figure; none where no seed has it."""
    if found is None:
        return
    published = "" if claim.reference is None else f"> {claim.reference:g}"
    verdict = claim.verdict(found)
    yield ComparisonRow(
        key._replace(run=source.run),
        found.mean,
        found.low,
        found.high,
        published,
        verdict,
        samples,
        found.seeds,
        claim.differs if verdict == "not the paper's setting" else "",
        source.label,
    )


# Checks


def _check_rows(source: Source, result: CheckResult) -> Iterator[ComparisonRow]:
    """A row for each split, method and width; the infinite-width limit, which is the same at every
    width, has one row for each split.
    """
    groups: dict[tuple[bool, str, int], list[CheckCell]] = defaultdict(list)
    for cell in result.cells:
        groups[cell.split == "negative", cell.method, cell.width].append(cell)
    least = min((cell.width for cell in result.cells), default=0)
    for _, group in sorted(groups.items()):
        if group[0].method == "exact" or group[0].width == least:
            yield from _check_row(source, group)


def _check_row(source: Source, group: Sequence[CheckCell]) -> Iterator[ComparisonRow]:
    """The row of cells that differ by their seed alone."""
    cell = group[0]
    exact = cell.method == "exact"
    key = RowKey(
        "theorem1" if cell.theorem == 1 else "theorem2",
        at=EpochRef(cell.epoch),
        split=cell.split if cell.theorem == 2 else None,
        method=cell.method,
        width=cell.width if exact else None,
        along="training_step" if cell.theorem2_direction == "training_step" else None,
    )
    claim = _claim(THEOREMS[cell.theorem].published if exact else None, source)
    claim = claim._replace(decided=_are_decided([(one.undecided, one.live) for one in group]))
    yield from _row(key, source, interval_of(group, "ratio"), claim, _counted(group, "ratio"))


# Training


class _Span(NamedTuple):
    """From which epoch to which the rise of S is measured.

    claimed: whether the paper says anything of it. unjudged: why it has no verdict all the same, ""
    where it has one.
    """

    start: EpochRef
    end: EpochRef
    claimed: bool = True
    unjudged: Verdict = ""


class _Layer(NamedTuple):
    """The rows of one layer of a training run.

    number: its number, None where the network has this one alone. epochs: those that have rows of
    their own. spans: those over which the rise of S is measured.
    """

    rows: Sequence[EpochRow]
    number: int | None
    epochs: Sequence[EpochRef]
    spans: Sequence[_Span]


def _training_rows(source: Source, result: TrainResult) -> Iterator[ComparisonRow]:
    for index in sorted({row.layer for row in result.curves}):
        layer = _layer(result, index)
        further = [f"layer {index}"] if index else []
        theorem2 = _claim(THEOREMS[2].published, source, *further)
        rise = _claim(0.0, source, *further)
        for at in layer.epochs:
            for split in SPLITS:
                yield from _theorem2_row(source, layer, at, split, theorem2)
        for span in layer.spans:
            for split in SPLITS:
                yield from _rise_row(source, layer, span, split, rise)
    yield from _accuracy_row(source, result)


def _layer(result: TrainResult, index: int) -> _Layer:
    """One layer of a run, with its first and last epoch.

    Where S falls before it rises, the epochs of the lowest ratio and of the lowest S count too, and
    that of the turn which was predicted before training.
    """
    own = [row for row in result.curves if row.layer == index]
    number = index if len({row.layer for row in result.curves}) > 1 else None
    first, last = EpochRef(0), EpochRef(max(row.epoch for row in own), "last")
    onset = (result.onset if index == 0 else None) or Onset()
    turn = _turn(own, onset)
    early: Verdict = "before the turn: no verdict" if onset.tau_star else ""
    whole = _Span(first, last, unjudged=early)
    course = course_of(result.curves, index)
    if course is None or course.rarest is None or not _turns(course, last):
        return _Layer(own, number, (first, last), (whole,))
    rarest = EpochRef(course.rarest.epoch, "lowest_ratio")
    lowest = EpochRef(course.lowest.epoch, "lowest_sparsity")
    fall = _Span(first, lowest, claimed=False)
    rise = _Span(turn, last) if turn else _Span(lowest, last, unjudged="chosen epoch: no verdict")
    return _Layer(own, number, (first, rarest, last), (whole, fall, rise))


def _turn(rows: Sequence[EpochRow], onset: Onset) -> EpochRef | None:
    """The measured epoch nearest to the flow time at which S is predicted to be lowest; None where
    none is predicted, and where the run ends before the prediction's upper end.
    """
    predicted, latest = onset.tau_star, onset.tau_star_high or onset.tau_star
    times = {row.epoch: row.tau for row in rows if row.tau is not None}
    if predicted is None or latest is None or max(times.values(), default=0.0) <= latest:
        return None
    before_end = [epoch for epoch in times if epoch < max(times)]
    nearest = min(before_end, key=lambda epoch: abs(times[epoch] - predicted))
    return EpochRef(nearest, "predicted_turn")


def _turns(course: Course, last: EpochRef) -> bool:
    """Whether S is lowest before the end, and the end is measured for every seed."""
    return course.lowest is not course.last and course.last.epoch == last.epoch


def _theorem2_row(
    source: Source, layer: _Layer, at: EpochRef, split: Split, claim: _Claim
) -> Iterator[ComparisonRow]:
    """How many samples satisfy theorem 2 at an epoch."""
    here = [row for row in layer.rows if row.epoch == at.epoch and row.split == split]
    margins = [(row.theorem2_undecided, row.samples - row.dead_samples) for row in here]
    chosen: Verdict = "chosen epoch: no verdict" if at.role == "lowest_ratio" else ""
    yield from _row(
        RowKey("theorem2_training", at=at, layer=layer.number, split=split),
        source,
        interval_of(here, "theorem2_ratio"),
        claim._replace(decided=_are_decided(margins), unjudged=chosen),
        _counted(here, "theorem2_ratio"),
    )


def _rise_row(
    source: Source, layer: _Layer, span: _Span, split: Split, claim: _Claim
) -> Iterator[ComparisonRow]:
    """How much S rose from one epoch to another, seed by seed."""
    start, end = span.start, span.end
    here = [row for row in layer.rows if row.split == split]
    before, after = (
        {
            row.seed: row.sparsity
            for row in here
            if row.epoch == at.epoch and row.sparsity is not None
        }
        for at in (start, end)
    )
    rises = [after[seed] - before[seed] for seed in before if seed in after]
    yield from _row(
        RowKey("sparsity_rise", since=start, at=end, layer=layer.number, split=split),
        source,
        interval(rises) if rises else None,
        claim._replace(unjudged=span.unjudged) if span.claimed else _Claim(None),
        _counted([row for row in here if row.epoch == end.epoch], "sparsity"),
    )


def _accuracy_row(source: Source, result: TrainResult) -> Iterator[ComparisonRow]:
    """The test accuracy by the goodness of all layers together."""
    rows = [
        row
        for row in result.accuracy
        if row.method == "goodness" and row.partition == "test" and result.is_of_all_layers(row)
    ]
    samples = sum(row.samples for row in rows)
    key = RowKey("test_accuracy")
    yield from _row(key, source, interval_of(rows, "accuracy"), _Claim(None), samples)


def _are_decided(margins: Sequence[tuple[int | None, int]]) -> bool:
    """Whether few enough margins are within rounding of zero.

    **Arguments:**

    - `margins`: for each seed, the number of such margins and of live samples.
    """
    undecided = sum(count or 0 for count, _ in margins)
    return undecided <= UNDECIDED_SHARE * sum(live for _, live in margins)


def _counted(rows: Sequence[EpochRow] | Sequence[CheckCell], figure: str) -> int:
    return sum(row.counted(figure) for row in rows)
