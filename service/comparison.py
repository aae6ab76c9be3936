"""Measured beside published: one line for each figure of the paper that the results speak to."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from ffengine.results import CheckCell, EpochRow, TrainResult
from ffengine.study import interval
from ffengine.theorems import THEOREMS

if TYPE_CHECKING:
    from service.charts import Source  # the command line shows lines without the charting library

Verdict = Literal["met", "NOT met", "open", ""]  # open: the interval holds the paper's figure; "": the paper gives none


class Line(NamedTuple):
    """A quantity: the mean over seeds with its 95 % interval, what the paper says, and whether that is met."""

    quantity: str
    measured: float
    low: float | None
    high: float | None
    published: str
    verdict: Verdict
    samples: int
    seeds: int

    @property
    def interval(self) -> str:
        """The interval in words."""
        return "one seed" if self.low is None or self.high is None else f"{self.low:.4f} to {self.high:.4f}"


def comparison(sources: "Sequence[Source]") -> list[Line]:
    """The lines of all results, checks first."""
    lines: list[Line] = []
    for source in sources:
        found = _of_training(source.result) if isinstance(source.result, TrainResult) else _of_check(source.result.cells)
        lines += [line._replace(quantity=f"{line.quantity}, {source.label}" if source.label else line.quantity) for line in found]
    return lines


def _of_check(cells: Sequence[CheckCell]) -> list[Line]:
    groups: dict[tuple[int, str, str], list[CheckCell]] = defaultdict(list)
    for cell in cells:
        groups[cell.width, cell.split, cell.method].append(cell)
    lines = []
    for (width, split, method), group in sorted(groups.items(), key=lambda item: (item[0][1] == "negative", item[0][2], item[0][0])):
        theorem, place = group[0].theorem, "at initialisation" if group[0].epoch == 0 else f"at epoch {group[0].epoch}"
        which = f", {split} samples" if theorem == 2 else ""
        how = "infinite-width limit" if method == "infinite_width" else f"n = {width}"
        if method == "infinite_width" and width != min(cell.width for cell in cells):
            continue  # the limit is the same at every width
        ratios = [cell.ratio for cell in group if cell.ratio is not None]
        judged = THEOREMS[theorem].published if method == "exact" else None
        lines.append(_line(f"Theorem {theorem} {place}{which}, {how}", ratios, judged, sum(cell.live for cell in group)))
    return [line for line in lines if line is not None]


def _of_training(result: TrainResult) -> list[Line]:
    lines: list[Line | None] = []
    for layer in sorted({row.layer for row in result.curves}):
        rows = [row for row in result.curves if row.layer == layer]
        last = max(row.epoch for row in rows)
        where = f", layer {layer}" if len({row.layer for row in result.curves}) > 1 else ""
        for epoch in (0, last):
            for split in ("positive", "negative"):
                here = [row for row in rows if row.epoch == epoch and row.split == split]
                ratios = [row.theorem2_ratio for row in here if row.theorem2_ratio is not None]
                name = f"Theorem 2 along the training step, epoch {epoch}, {split} samples{where}"
                lines.append(_line(name, ratios, THEOREMS[2].published, sum(row.samples - row.dead_samples for row in here)))
        lines += [_change(rows, last, split, where) for split in ("positive", "negative")]
    whole = [row for row in result.accuracy if result.is_of_all_layers(row) and row.method == "goodness"]
    accuracies = [row for row in whole if row.partition == "test"]
    lines.append(_line("Test accuracy by goodness", [row.accuracy for row in accuracies], None, sum(row.samples for row in accuracies)))
    return [line for line in lines if line is not None]


def _line(quantity: str, values: list[float], reference: float | None, samples: int) -> Line | None:
    if not values:
        return None
    found = interval(values)
    low = None if found.low is None else max(0.0, found.low)
    high = None if found.high is None else min(1.0, found.high)
    published = "" if reference is None else f"> {reference:g}"
    verdict: Verdict = "" if reference is None else _verdict(found.mean, low, high, reference)
    return Line(quantity, found.mean, low, high, published, verdict, samples, found.seeds)


def _verdict(mean: float, low: float | None, high: float | None, reference: float) -> Verdict:
    if (mean if low is None else low) > reference:
        return "met"
    return "open" if high is not None and high > reference else "NOT met"


def _change(rows: Sequence[EpochRow], last: int, split: str, where: str) -> Line | None:
    """How much S rose from the first epoch to the last, seed by seed."""
    start = {row.seed: row.sparsity for row in rows if row.epoch == 0 and row.split == split and row.sparsity is not None}
    end = {row.seed: row.sparsity for row in rows if row.epoch == last and row.split == split and row.sparsity is not None}
    rises = [end[seed] - start[seed] for seed in start if seed in end]
    if not rises:
        return None
    found = interval(rises)
    samples = sum(row.samples - row.dead_samples for row in rows if row.epoch == last and row.split == split)
    name = f"Rise of S from epoch 0 to {last}, {split} samples{where}"
    return Line(name, found.mean, found.low, found.high, "> 0", _verdict(found.mean, found.low, found.high, 0.0), samples, found.seeds)
