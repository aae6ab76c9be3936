"""Measured beside published: one line for each figure of the paper that the results speak to."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from ffengine.diagnostics import UNDECIDED_SHARE
from ffengine.results import CheckCell, CheckResult, EpochRow, Interval, Split, TrainResult
from ffengine.spec import CheckSpec, TrainedWeights
from ffengine.study import interval, interval_of
from ffengine.theorems import THEOREMS
from service.results.course import SPLITS, course_of
from service.results.paper_setting import departures
from service.results.sources import Source

Verdict = Literal[
    "met",
    "NOT met",
    "open",
    "one seed: no verdict",
    "rounding: no verdict",
    "not the paper's setting",
    "setting unknown",
    "",
]
MEANINGS: dict[Verdict, str] = {
    "met": "the whole interval is above the paper's figure",
    "NOT met": "the whole interval is at the paper's figure or below; what contradicts the paper "
    "is shown as measured",
    "open": "the interval includes the paper's figure, so these seeds do not decide",
    "one seed: no verdict": "an interval takes two seeds or more",
    "rounding: no verdict": "more than 1 % of the margins are within rounding of zero and count "
    "as not satisfied, so the figure is too low",
    "not the paper's setting": "the paper claims nothing of it; the field in which it differs "
    "stands beside",
    "setting unknown": "the job that trained these weights is not there any more",
}


class ComparisonRow(NamedTuple):
    """A quantity: the mean over seeds with its 95 % interval, what the paper says, and whether that
    is met.

    `verdict`: see MEANINGS; "" where the paper gives no figure. `differs`: in what it is not the
    paper's setting.
    """

    quantity: str
    measured: float
    low: float | None
    high: float | None
    published: str
    verdict: Verdict
    samples: int
    seeds: int
    differs: str = ""

    @property
    def interval(self) -> str:
        """The interval in words."""
        return (
            "one seed"
            if self.low is None or self.high is None
            else f"{self.low:.4f} to {self.high:.4f}"
        )

    @property
    def judgement(self) -> str:
        """The verdict in words."""
        return f"{self.verdict} ({self.differs})" if self.differs else self.verdict


def comparison(sources: Sequence[Source]) -> list[ComparisonRow]:
    """The lines of all results, checks first."""
    lines: list[ComparisonRow] = []
    for source in sources:
        found = (
            _of_training(source) if isinstance(source.result, TrainResult) else _of_check(source)
        )
        lines += [
            line._replace(
                quantity=f"{line.quantity}, {source.label}" if source.label else line.quantity
            )
            for line in found
        ]
    return lines


def legend(lines: Iterable[ComparisonRow]) -> list[str]:
    """What the verdicts of some lines mean, each in a sentence."""
    there = {line.verdict for line in lines}
    return [f"{verdict}: {meaning}." for verdict, meaning in MEANINGS.items() if verdict in there]


class _Claim(NamedTuple):
    """What the paper says of a quantity: it is more than this, unless the setting is another (or
    not known).
    """

    reference: float | None
    differs: str = ""
    known: bool = True
    decided: bool = True  # rounding leaves the figure what it is

    def verdict(self, found: Interval) -> Verdict:
        if self.reference is None:
            return ""
        if not self.known:
            return "setting unknown"
        if self.differs:
            return "not the paper's setting"
        if found.low is None or found.high is None:
            return "one seed: no verdict"
        if not self.decided:
            return "rounding: no verdict"
        if found.low > self.reference:
            return "met"
        return "open" if found.high > self.reference else "NOT met"


def _claim(reference: float | None, source: Source, *further: str) -> _Claim:
    """What the paper says of a figure of this source.

    One whose spec is not at hand is of an unknown setting.
    """
    spec = source.spec
    if reference is None or spec is None:
        return _Claim(reference, known=reference is None)
    if (
        isinstance(spec, CheckSpec)
        and isinstance(spec.at, TrainedWeights)
        and source.trained is None
    ):
        return _Claim(reference, known=False)
    return _Claim(reference, ", ".join([*departures(spec, source.trained), *further]))


def _of_check(source: Source) -> list[ComparisonRow]:
    assert isinstance(source.result, CheckResult)  # noqa: S101 - narrows the type
    cells = source.result.cells
    groups: dict[tuple[int, str, str], list[CheckCell]] = defaultdict(list)
    for cell in cells:
        groups[cell.width, cell.split, cell.method].append(cell)
    lines = []
    for (width, split, method), group in sorted(
        groups.items(), key=lambda item: (item[0][1] == "negative", item[0][2], item[0][0])
    ):
        theorem, place = (
            group[0].theorem,
            "at initialisation" if group[0].epoch == 0 else f"at epoch {group[0].epoch}",
        )
        which = f", {split} samples" if theorem == 2 else ""
        how = "infinite-width limit" if method == "infinite_width" else f"n = {width}"
        if method == "infinite_width" and width != min(cell.width for cell in cells):
            continue  # the limit is the same at every width
        claim = _claim(THEOREMS[theorem].published if method == "exact" else None, source)
        claim = claim._replace(
            decided=_are_decided([(cell.undecided, cell.live) for cell in group])
        )
        lines.append(
            _line(
                f"Theorem {theorem} {place}{which}, {how}",
                interval_of(group, "ratio"),
                claim,
                _counted(group, "ratio"),
            )
        )
    return [line for line in lines if line is not None]


def _of_training(source: Source) -> list[ComparisonRow]:
    result = source.result
    assert isinstance(result, TrainResult)  # noqa: S101 - narrows the type
    lines: list[ComparisonRow | None] = []
    layers = sorted({row.layer for row in result.curves})
    for layer in layers:
        rows = [row for row in result.curves if row.layer == layer]
        where, further = (
            (f", layer {layer}" if len(layers) > 1 else ""),
            [f"layer {layer}"] if layer else [],
        )
        epochs, turn = _told_epochs(result.curves, layer)
        for epoch, when in epochs.items():
            for split in SPLITS:
                here = [row for row in rows if row.epoch == epoch and row.split == split]
                name = (
                    f"Theorem 2 along the training step, epoch {epoch}{when}, {split} "
                    f"samples{where}"
                )
                margins = [(row.theorem2_undecided, row.samples - row.dead_samples) for row in here]
                claim = _claim(THEOREMS[2].published, source, *further)._replace(
                    decided=_are_decided(margins)
                )
                lines.append(
                    _line(
                        name,
                        interval_of(here, "theorem2_ratio"),
                        claim,
                        _counted(here, "theorem2_ratio"),
                    )
                )
        last = max(epochs)
        for start, end in ((0, last), *(((0, turn), (turn, last)) if turn else ())):
            lines += [
                _change(rows, (start, end), turn, split, where, _claim(0.0, source, *further))
                for split in SPLITS
            ]
    whole = [
        row for row in result.accuracy if result.is_of_all_layers(row) and row.method == "goodness"
    ]
    accuracies = [row for row in whole if row.partition == "test"]
    counted = sum(row.samples for row in accuracies)
    lines.append(
        _line(
            "Test accuracy by goodness", interval_of(accuracies, "accuracy"), _Claim(None), counted
        )
    )
    return [line for line in lines if line is not None]


def _told_epochs(rows: Sequence[EpochRow], layer: int) -> tuple[dict[int, str], int | None]:
    """The epochs of a layer that have lines of their own, with what S does there, and the one at
    which S turns from falling to rising.
    """
    course, last = course_of(rows, layer), max(row.epoch for row in rows if row.layer == layer)
    if (
        course is None
        or course.rarest is None
        or course.lowest is course.last
        or course.last.epoch != last
    ):
        return {0: "", last: ""}, None
    return {
        0: "",
        course.rarest.epoch: " (lowest ratio while S falls)",
        last: "",
    }, course.lowest.epoch


def _are_decided(margins: Sequence[tuple[int | None, int]]) -> bool:
    """Whether few enough margins are within rounding of zero; `margins`: those, and all live
    samples.
    """
    return sum(unsure or 0 for unsure, _ in margins) <= UNDECIDED_SHARE * sum(
        live for _, live in margins
    )


def _counted(rows: Sequence[EpochRow] | Sequence[CheckCell], figure: str) -> int:
    return sum(row.counted(figure) for row in rows)


def _line(
    quantity: str, found: Interval | None, claim: _Claim, samples: int
) -> ComparisonRow | None:
    if found is None:
        return None
    published, verdict = (
        "" if claim.reference is None else f"> {claim.reference:g}",
        claim.verdict(found),
    )
    differs = claim.differs if verdict == "not the paper's setting" else ""
    return ComparisonRow(
        quantity,
        found.mean,
        found.low,
        found.high,
        published,
        verdict,
        samples,
        found.seeds,
        differs,
    )


def _change(
    rows: Sequence[EpochRow],
    epochs: tuple[int, int],
    turn: int | None,
    split: Split,
    where: str,
    claim: _Claim,
) -> ComparisonRow | None:
    """How much S rose from one epoch to another, seed by seed; `turn`: the epoch of the lowest
    mean, which the data have chosen.
    """
    here = [row for row in rows if row.split == split and row.sparsity is not None]
    before, after = (
        {row.seed: row.sparsity or 0.0 for row in here if row.epoch == epoch} for epoch in epochs
    )
    rises = [after[seed] - before[seed] for seed in before if seed in after]
    samples = _counted(
        [row for row in rows if row.epoch == epochs[1] and row.split == split], "sparsity"
    )
    start, end = (f"{epoch} (lowest S)" if epoch == turn else f"{epoch}" for epoch in epochs)
    name = f"Rise of S from epoch {start} to {end}, {split} samples{where}"
    return _line(name, interval(rises) if rises else None, claim, samples)
