"""What was found, in sentences: each figure with its interval, the epochs that it is about, and what the paper reports."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ffengine.results import CheckResult, Interval, TrainResult
from ffengine.spec import CheckSpec, Preprocess, TrainSpec
from ffengine.study import interval_of
from ffengine.theorems import THEOREMS
from service.results.course import SPLITS, Course, Moment, course_of
from service.results.paper_setting import is_papers_setting

if TYPE_CHECKING:
    from service.results.charts import Source  # the command line shows sentences without the charting library

INPUTS: dict[Preprocess, str] = {
    "unit": "pixels as they are",
    "standardize": "standardised pixels",
    "center": "centred pixels",
    "unit_norm": "images of length 1",
}
HALF = THEOREMS[2].published
MOST_TOLD = 6  # checks, and trainings, of one study


def sentences(sources: "Sequence[Source]") -> list[str]:
    """The findings of all results: how to read them, checks, then the training of each first layer."""
    checks = [source for source in sources if isinstance(source.result, CheckResult)]
    trainings = [source for source in sources if isinstance(source.result, TrainResult)]
    lines = [line for source in checks[:MOST_TOLD] for line in _of_check(source)]
    lines += [line for source in trainings[:MOST_TOLD] for line in _of_training(source)]
    more = sum(max(0, len(found) - MOST_TOLD) for found in (checks, trainings))
    rest = [f"The figures of {more} more runs are in the table."] if more else []
    return [_how_to_read(sources), *lines, *rest] if lines else []


def _how_to_read(sources: "Sequence[Source]") -> str:
    data = ", ".join(dict.fromkeys(source.result.provenance.dataset.name for source in sources))
    counts = sorted({len(source.result.provenance.seeds) for source in sources})
    seeds = f"{' or '.join(map(str, counts))} seed{'' if counts == [1] else 's'}"
    brackets = "" if counts == [1] else " Brackets hold 95 % intervals over seeds."
    return f"Data: {data}; {seeds}. Two figures are of positive / negative samples.{brackets} S is the mean Hoyer sparsity."


def _of_training(source: "Source") -> list[str]:
    """A headline, and a sentence for each way that S went."""
    assert isinstance(source.result, TrainResult)  # noqa: S101 - narrows the type
    course = course_of(source.result.curves)
    if course is None:
        return []
    first, lowest, last = course.first, course.lowest, course.last
    lines = [f"{_title(source)}: {_headline(course, judged=_is_judged(source))}"]
    if course.rarest:
        lines.append(
            f"  Until epoch {lowest.epoch} S falls from {_means(first.sparsity)} to {_means(lowest.sparsity)}. "
            f"Theorem 2 holds for {_shares(course.rarest.ratio)} of samples at epoch {course.rarest.epoch}."
        )
    if rising := course.rising:
        least = [min((moment.ratio[split] for moment in rising), key=lambda one: one.mean) for split in (0, 1)]
        lines.append(
            f"  From epoch {lowest.epoch} to {last.epoch} S rises from {_means(lowest.sparsity)} to {_means(last.sparsity)}. "
            f"Theorem 2 holds for {_shares(last.ratio)} of samples at epoch {last.epoch}, "
            f"and for {' / '.join(_share(one.mean) for one in least)} at the least from epoch {rising[0].epoch} on."
        )
    return lines


def _headline(course: Course, *, judged: bool) -> str:
    if not course.rising:
        return f"S falls until the end, epoch {course.last.epoch}. Whether it rises afterwards is not seen in this run."
    claim = _claim(course.rising, judged=judged)
    if course.rarest is None:
        return f"S rises from the beginning, and theorem 2 {claim}."
    return f"S falls first and theorem 2 with it. Then S rises, and theorem 2 {claim}."


def _claim(rising: Sequence[Moment], *, judged: bool) -> str:
    """What can be said of theorem 2 while S rises; beside the paper's "more than half" where that is about such a run."""
    last = rising[-1].ratio
    if last[0].low is None or last[1].low is None:
        return f"holds for {_shares(last)} of samples at the end (one seed: no verdict)"
    if min(last[0].low, last[1].low) > HALF and min(one.mean for moment in rising for one in moment.ratio) > HALF:
        return "holds for more than half of both splits" + (", as the paper reports" if judged else "")
    less = max(one.high or 0.0 for one in last) < HALF
    found = "holds for less than half of both splits" if less else "does not differ clearly from one half for both splits"
    return found + ("; the paper reports more than half" if judged else "")


def _is_judged(source: "Source") -> bool:
    spec = source.spec
    return isinstance(spec, TrainSpec | CheckSpec) and is_papers_setting(spec, source.trained)


def _title(source: "Source") -> str:
    preprocess = source.result.provenance.dataset.preprocess
    inputs = next((words for name, words in INPUTS.items() if name == preprocess), preprocess)
    start = f"Training{_aside(source, f'preprocess {preprocess}')} with {inputs}"
    if not isinstance(source.spec, TrainSpec):
        return start
    widths = source.spec.network.widths
    layer = f"n = {widths[0]}" if len(widths) == 1 else f"layer 0 of {len(widths)}, n = {widths[0]}"
    objective = "" if source.spec.objective.name == "difference" else f", objective {source.spec.objective.name}"
    return f"{start}, {layer}{objective}"


def _aside(source: "Source", said: str) -> str:
    """What tells the run from others of its study, unless the sentence says it."""
    return f" ({source.label})" if source.label not in ("", said) else ""


def _of_check(source: "Source") -> list[str]:
    """A sentence on the widest layer of a check, by the exact condition."""
    assert isinstance(source.result, CheckResult)  # noqa: S101 - narrows the type
    exact = [cell for cell in source.result.cells if cell.method == "exact" and cell.ratio is not None]
    if not exact:
        return []
    width = max(cell.width for cell in exact)
    widest = [cell for cell in exact if cell.width == width]
    theorem = THEOREMS[widest[0].theorem]
    by_split = (interval_of([cell for cell in widest if cell.split == split], "ratio") for split in SPLITS)
    shares = _shares([found for found in by_split if found])
    moment = "at initialisation" if widest[0].epoch == 0 else f"at epoch {widest[0].epoch}"
    published = "half" if theorem.published == HALF else f"{100 * theorem.published:g} %"
    beside = f" The paper reports more than {published}." if _is_judged(source) else ""
    aside = _aside(source, f"theorem-{theorem.number}")
    return [f"Theorem {theorem.number} {moment}{aside}, n = {width}, holds for {shares} of samples.{beside}"]


def _means(pair: Sequence[Interval]) -> str:
    return " / ".join(f"{one.mean:.3f}" for one in pair)


def _shares(found: Sequence[Interval]) -> str:
    return " / ".join(_with_interval(one) for one in found)


def _with_interval(found: Interval) -> str:
    if found.low is None or found.high is None:
        return _share(found.mean)
    return f"{_share(found.mean)} [{_percent(found.low)}, {_percent(found.high)}]"


def _share(value: float) -> str:
    return f"{_percent(value)} %"


def _percent(value: float) -> str:
    """A share in percent, with as many digits as it takes to tell it from none and from all."""
    digits = 0 if value in (0.0, 1.0) or 0.1 <= value <= 0.95 else 1 if value < 0.995 else 2
    return f"{100 * value:.{digits}f}"
