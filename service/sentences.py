"""What was found, in sentences: each figure with its interval, the epochs that it is about, and what the paper reports."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ffengine.results import CheckCell, EpochRow, Interval, Split, TrainResult
from ffengine.spec import Preprocess, TrainSpec
from ffengine.study import interval
from ffengine.theorems import THEOREMS

if TYPE_CHECKING:
    from service.charts import Source  # the command line shows sentences without the charting library

SPLITS: tuple[Split, Split] = ("positive", "negative")
INPUTS: dict[Preprocess, str] = {
    "unit": "pixels as they are",
    "standardize": "standardised pixels",
    "center": "centred pixels",
    "unit_norm": "images of length 1",
}
HALF = THEOREMS[2].published


class Moment(NamedTuple):
    """A layer at the end of an epoch: theorem 2's ratio and S of positive and of negative samples, over seeds."""

    epoch: int
    ratio: tuple[Interval, Interval]
    sparsity: tuple[Interval, Interval]

    @property
    def mean_ratio(self) -> float:
        """Over both splits."""
        return (self.ratio[0].mean + self.ratio[1].mean) / 2

    @property
    def mean_sparsity(self) -> float:
        """Over both splits."""
        return (self.sparsity[0].mean + self.sparsity[1].mean) / 2


def sentences(sources: "Sequence[Source]") -> list[str]:
    """The findings of all results: how to read them, checks, then the training of each first layer."""
    lines = [line for source in sources if not isinstance(source.result, TrainResult) for line in _of_check(source.result.cells)]
    for source in sources:
        if isinstance(source.result, TrainResult):
            lines += _of_training(source.result, source.spec if isinstance(source.spec, TrainSpec) else None)
    return [_how_to_read(sources), *lines] if lines else []


def _how_to_read(sources: "Sequence[Source]") -> str:
    data = ", ".join(dict.fromkeys(source.result.provenance.dataset.name for source in sources))
    counts = sorted({len(source.result.provenance.seeds) for source in sources})
    seeds = f"{' or '.join(map(str, counts))} seed{'' if counts == [1] else 's'}"
    brackets = "" if counts == [1] else " Brackets hold 95 % intervals over seeds."
    return f"Data: {data}; {seeds}. Two figures are of positive / negative samples.{brackets} S is the mean Hoyer sparsity."


def moments(rows: Sequence[EpochRow], layer: int = 0) -> list[Moment]:
    """The epochs at which a layer has both figures of both splits for every seed, in their order."""
    seeds = {row.seed for row in rows}
    by_epoch: dict[int, dict[Split, list[EpochRow]]] = defaultdict(lambda: {"positive": [], "negative": []})
    for row in rows:
        if row.layer == layer and row.theorem2_ratio is not None and row.sparsity is not None:
            by_epoch[row.epoch][row.split].append(row)
    whole = [(epoch, found) for epoch, found in sorted(by_epoch.items()) if all(len(found[split]) == len(seeds) for split in SPLITS)]
    return [
        Moment(
            epoch,
            _both(tuple(interval([row.theorem2_ratio or 0.0 for row in found[split]]) for split in SPLITS)),
            _both(tuple(interval([row.sparsity or 0.0 for row in found[split]]) for split in SPLITS)),
        )
        for epoch, found in whole
    ]


def _both(pair: tuple[Interval, ...]) -> tuple[Interval, Interval]:
    positive, negative = pair
    return positive, negative


def _of_training(result: TrainResult, spec: TrainSpec | None) -> list[str]:
    """A headline, and a sentence for each way that S went."""
    found = moments(result.curves)
    if len(found) < 2:
        return []
    lowest = min(found, key=lambda moment: moment.mean_sparsity)
    rising = [moment for moment in found if moment.epoch > lowest.epoch]
    lines = []
    if lowest is not found[0]:
        rare = min((moment for moment in found[1:] if moment.epoch <= lowest.epoch), key=lambda moment: moment.mean_ratio)
        lines.append(
            f"  Until epoch {lowest.epoch} S falls from {_means(found[0].sparsity)} to {_means(lowest.sparsity)}. "
            f"Theorem 2 holds for {_shares(rare.ratio)} of samples at epoch {rare.epoch}."
        )
    if lowest is not found[-1]:
        start = found[0] if lowest is found[0] else lowest
        least = [min((moment.ratio[split] for moment in rising), key=lambda one: one.mean) for split in (0, 1)]
        lines.append(
            f"  From epoch {start.epoch} to {found[-1].epoch} S rises from {_means(start.sparsity)} to {_means(found[-1].sparsity)}. "
            f"Theorem 2 holds for {_shares(found[-1].ratio)} of samples at epoch {found[-1].epoch}, "
            f"and for {' / '.join(_share(one.mean) for one in least)} at the least from epoch {rising[0].epoch} on."
        )
    return [f"{_title(result, spec)}: {_headline(found, lowest, rising)}", *lines]


def _headline(found: Sequence[Moment], lowest: Moment, rising: Sequence[Moment]) -> str:
    if lowest is found[-1]:
        return f"S falls until the end, epoch {lowest.epoch}. Whether it rises afterwards is not seen in this run."
    if lowest is found[0]:
        return f"S rises from the beginning, and theorem 2 {_claim(rising)}."
    return f"S falls first and theorem 2 with it. Then S rises, and theorem 2 {_claim(rising)}."


def _claim(rising: Sequence[Moment]) -> str:
    """What can be said of theorem 2 while S rises, beside the paper's "more than half"."""
    last = rising[-1].ratio
    if last[0].low is None or last[1].low is None:
        return f"holds for {_shares(last)} of samples at the end (one seed: no verdict)"
    if min(last[0].low, last[1].low) > HALF and min(one.mean for moment in rising for one in moment.ratio) > HALF:
        return "holds for more than half of both splits, as the paper reports"
    if max(one.high or 0.0 for one in last) < HALF:
        return "holds for less than half of both splits: the paper reports more"
    return "does not differ clearly from one half for both splits: the paper reports more than half"


def _title(result: TrainResult, spec: TrainSpec | None) -> str:
    preprocess = spec.dataset.preprocess if spec else result.provenance.dataset.preprocess
    inputs = next((words for name, words in INPUTS.items() if name == preprocess), preprocess)
    return f"Training with {inputs}" + (f", n = {spec.network.widths[0]}" if spec else "")


def _of_check(cells: Sequence[CheckCell]) -> list[str]:
    """A sentence on the widest layer of a check, by the exact condition."""
    exact = [cell for cell in cells if cell.method == "exact" and cell.ratio is not None]
    if not exact:
        return []
    width = max(cell.width for cell in exact)
    widest = [cell for cell in exact if cell.width == width]
    theorem = THEOREMS[widest[0].theorem]
    splits = SPLITS if theorem.needs_negatives else ("negative",)
    shares = _shares([interval([cell.ratio or 0.0 for cell in widest if cell.split == split]) for split in splits])
    moment = "at initialisation" if widest[0].epoch == 0 else f"at epoch {widest[0].epoch}"
    published = "half" if theorem.published == HALF else f"{100 * theorem.published:g} %"
    return [f"Theorem {theorem.number} {moment}, n = {width}, holds for {shares} of samples. The paper reports more than {published}."]


def _means(pair: Sequence[Interval]) -> str:
    return " / ".join(f"{one.mean:.3f}" for one in pair)


def _shares(found: Sequence[Interval]) -> str:
    return " / ".join(_with_interval(one) for one in found)


def _with_interval(found: Interval) -> str:
    if found.low is None or found.high is None:
        return _share(found.mean)
    return f"{_share(found.mean)} [{_percent(max(0.0, found.low))}, {_percent(min(1.0, found.high))}]"


def _share(value: float) -> str:
    return f"{_percent(value)} %"


def _percent(value: float) -> str:
    """A share in percent, with as many digits as it takes to tell it from none and from all."""
    digits = 0 if value in (0.0, 1.0) or 0.1 <= value <= 0.95 else 1 if value < 0.995 else 2
    return f"{100 * value:.{digits}f}"
