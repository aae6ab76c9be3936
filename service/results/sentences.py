"""What was found, in sentences: figures with their intervals and epochs, and what the paper
reports.
"""

from collections.abc import Iterator, Sequence

from ffengine.datasets import DATASETS
from ffengine.intervals import interval_of
from ffengine.percents import digits_of, percent
from ffengine.results import CheckResult, TrainResult
from ffengine.spec import CheckSpec, TrainSpec
from ffengine.theorems import DIRECTIONS, THEOREMS
from service.results.course import SPLITS, Course, Moment, course_of, rises
from service.results.forecasts import forecast_sentences
from service.results.paper_comparison import Verdict, verdict_on
from service.results.paper_setting import is_papers_setting
from service.results.paper_summary import summary
from service.results.run_labels import INPUTS, RunKey
from service.results.shares import of_means, share, shares, shares_alone
from service.results.sources import Source

HALF = THEOREMS[2].published
COMPARED_WITH_HALF = {
    1: "holds for more than half of {}",
    -1: "holds for less than half of {}",
    0: "holds for about half of {} (the interval includes one half)",
}
SIDES: dict[Verdict, int] = {"met": 1, "NOT met": -1}  # of one half, 0 where the interval has it
BOTH = "both positive and negative samples"
STEPS = {
    1: "a step that lowers the goodness of its batch",
    2: "a step that raises the goodness of positive samples and lowers that of negative ones",
}
ALONG = f"theorem 2 {DIRECTIONS['training_step']}"
MOST_RUNS = 6  # that have sentences: so many checks, and so many trainings, of one study


def sentences(sources: Sequence[Source]) -> list[str]:
    """What was found in all results: the forecasts; for a study of the paper its summary and how to
    read it; for others how to read the rest, then the checks, then the training of each run's first
    layer. A sentence that begins with two spaces belongs to the one before it.
    """
    found = forecast_sentences(sources)
    if paper := summary(sources):
        warnings = [line for source in sources for line in _warnings(source)]
        return [*found, *paper, *warnings, how_to_read(sources)]
    rest = _of_runs(sources)
    how = " ".join([how_to_read(sources), *_terms(sources)])
    return [*found, *([how, *rest] if rest else [])]


def _terms(sources: Sequence[Source]) -> Iterator[str]:
    """What the words of the sentences mean, those that occur."""
    checks = {one.spec.theorem for one in sources if isinstance(one.spec, CheckSpec)}
    trains = any(isinstance(one.result, TrainResult) for one in sources)
    for number in sorted({*checks, *([2] if trains else [])}):
        step = STEPS[number]
        yield f"Theorem {number} holds for a sample where {step} raises its S, to first order."
    yield "n is the number of units of a layer."
    if trains and any(len(one.result.provenance.seeds) > 1 for one in sources):
        yield "A change of S is clear where its interval is above or below 0 for both splits."


def _of_runs(sources: Sequence[Source]) -> list[str]:
    """The sentences of the first checks and of the first trainings."""
    checks = [source for source in sources if isinstance(source.result, CheckResult)]
    trainings = [source for source in sources if isinstance(source.result, TrainResult)]
    lines = [line for source in checks[:MOST_RUNS] for line in _of_check(source)]
    lines += [line for source in trainings[:MOST_RUNS] for line in _of_training(source)]
    more = sum(max(0, len(found) - MOST_RUNS) for found in (checks, trainings))
    told = f"These sentences are of the first {MOST_RUNS} runs"
    rest = [f"{told}; the figures of {more} more are in the table."] if more else []
    return [*lines, *rest]


def how_to_read(sources: Sequence[Source]) -> str:
    """What data and how many seeds the sentences are of, and what their signs mean."""
    data = ", ".join(dict.fromkeys(source.result.provenance.dataset.name for source in sources))
    counts = sorted({len(source.result.provenance.seeds) for source in sources})
    seeds = f"{' or '.join(map(str, counts))} seed{'' if counts == [1] else 's'}"
    brackets = "" if counts == [1] else "; [x, y] is a 95 % interval over seeds"
    pairs = "A pair x / y is of positive / negative samples"
    return (
        f"Data: {data}; {seeds}. S is the mean Hoyer sparsity (1: a single unit is active), G the "
        f"goodness. {pairs}{brackets}."
    )


def _warnings(source: Source) -> Iterator[str]:
    """Of a training run whose ratios rounding makes too low: where."""
    course = course_of(source.result.curves) if isinstance(source.result, TrainResult) else None
    if course is not None:
        yield from (f"{_title(source)}: {warning}" for warning in _rounding(course))


def _of_training(source: Source) -> list[str]:
    """A headline, then a sentence for each fall and rise of S, and a warning about rounding."""
    assert isinstance(source.result, TrainResult)  # noqa: S101 - narrows the type
    course = course_of(source.result.curves)
    if course is None:
        return []
    details = [*_fall(course), *_rise(course), *_end(course), *_rounding(course)]
    headline = f"{_title(source)}: {_headline(course, judged=_is_judged(source))}"
    return [headline, *(f"  {sentence}" for sentence in details)]


def _fall(course: Course) -> Iterator[str]:
    """From the beginning to where S is lowest, and where theorem 2 is rarest on the way."""
    if rarest := course.rarest:
        epochs = [moment for moment in course.moments if moment.mean_ratio == rarest.mean_ratio]
        alike = [one for one in epochs if rarest.epoch < one.epoch <= course.lowest.epoch]
        yield (
            f"{_change(course.first, course.lowest)} On the way, {ALONG} holds for the fewest "
            f"samples at epoch {rarest.epoch:,}: {shares(rarest.ratio)}{_and_later(alike)}."
        )


def _rise(course: Course) -> Iterator[str]:
    """From where S is lowest to where it is highest since, and from there to the end."""
    if not course.rising:
        return
    top = course.rising[-1]
    rarest = min(course.rising, key=lambda moment: moment.mean_ratio)
    digits = digits_of([*top.ratio, *rarest.ratio])
    least = (
        f"; the fewest on the way are {shares_alone(rarest.ratio, digits)}, at epoch "
        f"{rarest.epoch:,}"
        if rarest is not top
        else ""
    )
    yield (
        f"{_change(course.lowest, top)} At epoch {top.epoch:,}, {ALONG} holds for "
        f"{shares(top.ratio, digits)} of samples{least}."
    )
    if top is not course.last:
        yield _change(top, course.last)


def _end(course: Course) -> Iterator[str]:
    """How often theorem 2 holds after the last epoch, unless that has been said."""
    told = (course.rarest, course.rising[-1] if course.rising else None)
    if course.last not in told:
        yield (
            f"At the end, epoch {course.last.epoch:,}, {ALONG} holds for "
            f"{shares(course.last.ratio)} of samples."
        )


def _and_later(alike: Sequence[Moment]) -> str:
    """The epochs that share a figure with the one that is told."""
    if not alike:
        return ""
    epochs = ", ".join(f"{one.epoch:,}" for one in alike[:MOST_RUNS])
    more = f" and {len(alike) - MOST_RUNS} more" if len(alike) > MOST_RUNS else ""
    return f"; the same at epoch{'' if len(alike) == 1 else 's'} {epochs}{more}"


def _rounding(course: Course) -> Iterator[str]:
    """A warning where rounding makes ratios too low."""
    worst = max(course.moments, key=lambda moment: moment.undecided)
    unsure = [moment for moment in course.moments if not moment.is_decided]
    if unsure:
        more = len(unsure) - 1
        rest = f", and fewer at {more} more epoch{'' if more == 1 else 's'}" if more else ""
        yield (
            f"At epoch {worst.epoch:,} rounding hides whether theorem 2 holds for up to "
            f"{share(worst.undecided)} of the samples of a seed{rest}: their margins are too close "
            f"to zero. They count as not satisfied, so ratios there are too low."
        )


def _change(before: Moment, after: Moment) -> str:
    """How S changed between two epochs, and whether its interval over seeds is clear of zero."""
    both = (before, after)
    word = "rises" if rises(*both) else "falls" if rises(*both[::-1]) else "goes"
    clear = "" if word != "goes" or len(before.seeds[0]) == 1 else ", which is no clear change"
    digits = (
        3 if of_means(before.sparsity) != of_means(after.sparsity) else 6
    )  # a small change is to be seen
    way = f"from {of_means(before.sparsity, digits)} to {of_means(after.sparsity, digits)}"
    return f"From epoch {before.epoch:,} to {after.epoch:,} S {word} {way}{clear}."


def _headline(course: Course, *, judged: bool) -> str:
    """How S went in one sentence or two, and what that says about theorem 2."""
    if len(course.first.seeds[0]) == 1:
        return "one seed, so there is no verdict."
    falls = rises(course.lowest, course.first)
    start = f"S falls first{_while_falling(course)}. Then S" if falls else "S"
    if course.rising and rises(course.lowest, course.rising[-1]):
        claim = _claim(course.rising, judged=judged)
        return f"{start} rises{_span_of_the_rise(course)}, and theorem 2 {claim}."
    if falls and not course.rising:
        return (
            f"S falls until the end, epoch {course.last.epoch:,}. Whether it rises afterwards "
            f"is not seen in this run."
        )
    return f"{start} does not change clearly."


def _while_falling(course: Course) -> str:
    """How often theorem 2 holds where that is rarest, if it is clearly less than half."""
    rarest = course.rarest
    if rarest is None or {verdict_on(found, HALF) for found in rarest.ratio} != {"NOT met"}:
        return ""
    return f", while theorem 2 holds for less than half of {BOTH}"


def _span_of_the_rise(course: Course) -> str:
    """From where to where S rises, unless it is from its lowest point to the end."""
    start = " from the beginning" if course.lowest is course.first else ""
    top = course.rising[-1]
    if not rises(course.last, top):
        return start
    return f"{start} until epoch {top.epoch:,}, and falls afterwards"


def _claim(rising: Sequence[Moment], *, judged: bool) -> str:
    """What the run says about theorem 2 while S rises; where `judged`, compared with the paper."""
    last = rising[-1]
    if not last.is_decided:
        return (
            f"is not decided at its end, epoch {last.epoch}: too many margins are within "
            f"rounding of zero"
        )
    sides = [SIDES.get(verdict_on(found, HALF), 0) for found in last.ratio]
    if sides == [1, 1]:
        always = min(found.mean for moment in rising for found in moment.ratio) > HALF
        when = "" if always else " at the end"
        source = ", as is attributed to the paper" if judged else ""
        return f"holds for more than half of {BOTH}{when}{source}"
    if sides[0] == sides[1]:
        found = COMPARED_WITH_HALF[sides[0]].format(BOTH)
    else:
        found = " and ".join(
            COMPARED_WITH_HALF[side].format(f"{split} samples")
            for side, split in zip(sides, SPLITS, strict=True)
        )
    return found + ("; attributed to the paper: more than half" if judged else "")


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
    said = RunKey.of("", {"dataset.preprocess": preprocess})
    start = f"Training{_aside(source, said)} with {inputs}"
    if not isinstance(source.spec, TrainSpec):
        return start
    widths = source.spec.network.widths
    layer = f"n = {widths[0]}" if len(widths) == 1 else f"layer 0 of {len(widths)}, n = {widths[0]}"
    objective = (
        ""
        if source.spec.objective.name == "difference"
        else f", objective {source.spec.objective.name}"
    )
    phases = source.spec.phases
    rates = (
        f" with learning rates of 1 to {phases.lr_ratio:g}"
        if phases.positive_steps and phases.lr_ratio != 1
        else ""
    )
    turns = (
        f", phases of {phases.positive_steps} positive and {phases.negative_steps} negative "
        f"{phases.unit}{rates}{' and a state each' * phases.own_states}"
        if phases.alternate
        else ""
    )
    return f"{start}, {layer}{objective}{turns}"


def _aside(source: Source, said: RunKey) -> str:
    """The label of the run in brackets, unless the sentence says the same."""
    return f" ({source.label})" if source.label and source.run != said else ""


def _of_check(source: Source) -> list[str]:
    """A sentence about the widest layer of a check, by the exact condition."""
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
    held = shares([found for found in by_split if found])
    moment = "at initialisation" if widest[0].epoch == 0 else f"at epoch {widest[0].epoch:,}"
    published = "half" if theorem.published == HALF else f"{percent(theorem.published)} %"
    paper = f" Attributed to the paper: more than {published}." if _is_judged(source) else ""
    aside = _aside(source, RunKey.of(f"theorem-{theorem.number}", {}))
    direction = widest[0].theorem2_direction
    along = f" {DIRECTIONS[direction]}," if direction else ""
    return [
        f"Theorem {theorem.number}{along} {moment}{aside}, n = {width:,}, holds for {held} of "
        f"samples.{paper}"
    ]
