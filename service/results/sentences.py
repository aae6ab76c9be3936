"""What was found, in sentences: each figure with its interval, the epochs that it is about, and
what the paper reports.
"""

from collections.abc import Sequence

from ffengine.datasets import DATASETS
from ffengine.results import CheckResult, Interval, TrainResult
from ffengine.spec import CheckSpec, Preprocess, TrainSpec
from ffengine.study import interval_of
from ffengine.theorems import THEOREMS
from service.results.course import SPLITS, Course, Moment, course_of, rises
from service.results.paper_setting import is_papers_setting
from service.results.sources import Source

INPUTS: dict[Preprocess, str] = {
    "unit": "{} as they are",
    "standardize": "standardised {}",
    "center": "centred {}",
    "unit_norm": "{} of each sample scaled to length 1",
}
HALF = THEOREMS[2].published
BESIDE_HALF = {
    1: "holds for more than half of {}",
    -1: "holds for less than half of {}",
    0: "does not differ clearly from one half for {}",
}
MOST_TOLD = 6  # checks, and trainings, of one study


def sentences(sources: Sequence[Source]) -> list[str]:
    """The findings of all results: how to read them, checks, then the training of each first
    layer.
    """
    checks = [source for source in sources if isinstance(source.result, CheckResult)]
    trainings = [source for source in sources if isinstance(source.result, TrainResult)]
    lines = [line for source in checks[:MOST_TOLD] for line in _of_check(source)]
    lines += [line for source in trainings[:MOST_TOLD] for line in _of_training(source)]
    more = sum(max(0, len(found) - MOST_TOLD) for found in (checks, trainings))
    rest = [f"The figures of {more} more runs are in the table."] if more else []
    return [_how_to_read(sources), *lines, *rest] if lines else []


def _how_to_read(sources: Sequence[Source]) -> str:
    data = ", ".join(dict.fromkeys(source.result.provenance.dataset.name for source in sources))
    counts = sorted({len(source.result.provenance.seeds) for source in sources})
    seeds = f"{' or '.join(map(str, counts))} seed{'' if counts == [1] else 's'}"
    brackets = "" if counts == [1] else " Brackets hold 95 % intervals over seeds."
    pairs = "Of two figures the first is of positive, the second of negative samples."
    return f"Data: {data}; {seeds}. {pairs}{brackets} S is the mean Hoyer sparsity."


def _of_training(source: Source) -> list[str]:
    """A headline, and a sentence for each way that S went."""
    assert isinstance(source.result, TrainResult)  # noqa: S101 - narrows the type
    course = course_of(source.result.curves)
    if course is None:
        return []
    lines = [f"{_title(source)}: {_headline(course, judged=_is_judged(source))}"]
    if rarest := course.rarest:
        way = _way(course.first, course.lowest)
        lines.append(
            f"  {way} Theorem 2 holds for {_shares(rarest.ratio)} of samples at epoch "
            f"{rarest.epoch}."
        )
    if rising := course.rising:
        end = rising[-1]
        least = " / ".join(
            _share(min(moment.ratio[split].mean for moment in rising)) for split in (0, 1)
        )
        lines.append(
            f"  {_way(course.lowest, end)} Theorem 2 holds for {_shares(end.ratio)} of samples at "
            f"epoch {end.epoch}; its lowest means "
            f"from epoch {rising[0].epoch} on are {least}."
        )
        if end is not course.last:
            lines.append(f"  {_way(end, course.last)}")
    if unsure := [moment for moment in course.moments if not moment.is_decided]:
        worst = max(unsure, key=lambda moment: moment.undecided)
        lines.append(
            f"  At epoch {worst.epoch} the margins of up to {_share(worst.undecided)} of samples "
            f"are within rounding of zero and count as "
            "not satisfied: ratios there are too low."
        )
    return lines


def _way(before: Moment, after: Moment) -> str:
    """From where to where S went, and whether its interval over seeds says so."""
    both = (before, after)
    word = "rises" if rises(*both) else "falls" if rises(*both[::-1]) else "goes"
    clear = "" if word != "goes" or len(before.seeds[0]) == 1 else ", which is no clear change"
    digits = (
        3 if _means(before.sparsity) != _means(after.sparsity) else 6
    )  # a small change is to be seen
    way = f"from {_means(before.sparsity, digits)} to {_means(after.sparsity, digits)}"
    return f"From epoch {before.epoch} to {after.epoch} S {word} {way}{clear}."


def _headline(course: Course, *, judged: bool) -> str:
    if len(course.first.seeds[0]) == 1:
        return "one seed, so there is no verdict."
    falls, climbs = (
        rises(course.lowest, course.first),
        bool(course.rising) and rises(course.lowest, course.rising[-1]),
    )
    few = (
        course.rarest is not None and max(found.high or 0.0 for found in course.rarest.ratio) < HALF
    )
    start = (
        f"S falls "
        f"first{', while theorem 2 holds for less than half of both splits' if few else ''}. Then "
        f"S"
        if falls
        else "S"
    )
    if climbs:
        again = (
            f" until epoch {course.rising[-1].epoch}, and falls afterwards"
            if rises(course.last, course.rising[-1])
            else ""
        )
        from_start = " from the beginning" if course.lowest is course.first else ""
        return (
            f"{start} rises{from_start}{again}, and theorem 2 "
            f"{_claim(course.rising, judged=judged)}."
        )
    if falls and not course.rising:
        return (
            f"S falls until the end, epoch {course.last.epoch}. Whether it rises afterwards "
            f"is not seen in this run."
        )
    return f"{start} does not change clearly."


def _claim(rising: Sequence[Moment], *, judged: bool) -> str:
    """What can be said of theorem 2 while S rises; beside the paper's "more than half" where that
    is about such a run.
    """
    last = rising[-1]
    if not last.is_decided:
        return (
            f"is not decided at its end, epoch {last.epoch}: too many margins are within "
            f"rounding of zero"
        )
    sides = [
        1 if _is_beyond(found, 1) else -1 if _is_beyond(found, -1) else 0 for found in last.ratio
    ]
    if sides == [1, 1]:
        always = min(found.mean for moment in rising for found in moment.ratio) > HALF
        return (
            f"holds for more than half of both "
            f"splits{'' if always else ' at the end'}{', as the paper reports' if judged else ''}"
        )
    if sides[0] == sides[1]:
        told = BESIDE_HALF[sides[0]].format("both splits")
    else:
        told = " and ".join(
            BESIDE_HALF[side].format(f"{split} samples")
            for side, split in zip(sides, SPLITS, strict=True)
        )
    return told + ("; the paper reports more than half" if judged else "")


def _is_beyond(found: Interval, sign: int) -> bool:
    """Whether the whole interval is above (1) or below (-1) one half."""
    return (
        found.low is not None
        and found.high is not None
        and (found.low > HALF if sign > 0 else found.high < HALF)
    )


def _is_judged(source: Source) -> bool:
    spec = source.spec
    return isinstance(spec, TrainSpec | CheckSpec) and is_papers_setting(spec, source.trained)


def _title(source: Source) -> str:
    data = source.result.provenance.dataset
    preprocess = data.preprocess
    words = next((words for name, words in INPUTS.items() if name == preprocess), preprocess)
    inputs = words.format(
        "pixels" if data.name in DATASETS else "inputs"
    )  # the catalogue has images alone
    start = f"Training{_aside(source, f'preprocess {preprocess}')} with {inputs}"
    if not isinstance(source.spec, TrainSpec):
        return start
    widths = source.spec.network.widths
    layer = f"n = {widths[0]}" if len(widths) == 1 else f"layer 0 of {len(widths)}, n = {widths[0]}"
    objective = (
        ""
        if source.spec.objective.name == "difference"
        else f", objective {source.spec.objective.name}"
    )
    return f"{start}, {layer}{objective}"


def _aside(source: Source, said: str) -> str:
    """What tells the run from others of its study, unless the sentence says it."""
    return f" ({source.label})" if source.label not in ("", said) else ""


def _of_check(source: Source) -> list[str]:
    """A sentence on the widest layer of a check, by the exact condition."""
    assert isinstance(source.result, CheckResult)  # noqa: S101 - narrows the type
    exact = [
        cell for cell in source.result.cells if cell.method == "exact" and cell.ratio is not None
    ]
    if not exact:
        return []
    width = max(cell.width for cell in exact)
    widest = [cell for cell in exact if cell.width == width]
    theorem = THEOREMS[widest[0].theorem]
    by_split = (
        interval_of([cell for cell in widest if cell.split == split], "ratio") for split in SPLITS
    )
    shares = _shares([found for found in by_split if found])
    moment = "at initialisation" if widest[0].epoch == 0 else f"at epoch {widest[0].epoch}"
    published = "half" if theorem.published == HALF else f"{100 * theorem.published:g} %"
    beside = f" The paper reports more than {published}." if _is_judged(source) else ""
    aside = _aside(source, f"theorem-{theorem.number}")
    return [
        f"Theorem {theorem.number} {moment}{aside}, n = {width}, holds for {shares} of "
        f"samples.{beside}"
    ]


def _means(pair: Sequence[Interval], digits: int = 3) -> str:
    return " / ".join(f"{one.mean:.{digits}f}" for one in pair)


def _shares(found: Sequence[Interval]) -> str:
    return " / ".join(_with_interval(one) for one in found)


def _with_interval(found: Interval) -> str:
    if found.low is None or found.high is None:
        return _share(found.mean)
    return f"{_share(found.mean)} [{_percent(found.low)}, {_percent(found.high)}]"


def _share(value: float) -> str:
    return f"{_percent(value)} %"


def _percent(value: float) -> str:
    """A share in percent: whole numbers in the middle, more digits towards none and all."""
    digits = 0 if value in (0.0, 1.0) or 0.1 <= value <= 0.95 else 1 if value < 0.995 else 2
    return f"{100 * value:.{digits}f}"
