"""What a page and a report open with: one line for each figure that matters, with its verdict, and
the two charts that carry it.

Each kind of job has one function, which gives both; KINDS lists them, and the first one that knows
the job answers.
"""

import math
from collections.abc import Callable, Container, Iterator, Sequence
from typing import NamedTuple

from ffengine.acts import ACTS
from ffengine.percents import digits_of
from ffengine.presets import PRESETS
from ffengine.results import Diagnostic, EpochRow, ForecastResult, Interval, TrainResult
from ffengine.spec import CheckSpec, StudySpec, TrainSpec, digest
from ffengine.study import Cell
from ffengine.summary_keys import ALL_LAYERS, SummaryKey
from ffengine.theorems import DIRECTIONS, THEOREMS
from service.results.baseline_table import (
    accuracy_of,
    baselines_of,
    how_chosen,
    names_of,
    own_accuracy,
)
from service.results.compared_runs import compared
from service.results.course import Course, change_between, course_of, rises
from service.results.finding_runs import answered
from service.results.forecasts import forecast_lines
from service.results.leading_charts import GRID_CHARTS, PAPER_CHARTS, SEARCH_CHARTS
from service.results.paper_comparison import COLOURS, ComparisonRow, Verdict, comparison
from service.results.paper_summary import is_paper_study
from service.results.run_labels import inputs_of, labels_of
from service.results.shares import (
    number,
    of_means,
    share,
    shares,
    shares_alone,
    signed,
    with_interval,
)
from service.results.sources import ChartSource, GridCell, PartialRun, Source, StudyGrid
from service.results.stored_rows import StoredRows
from service.results.trials import best_in_words
from service.results.trials import compared as trials_compared

MOSTLY = 0.5  # of the margins
MOST_BASELINES = 3  # that have a line of their own
MOST_RUNS = 2  # of one kind, that have lines of their own
EPOCHS_AT_AN_END = 3  # of a run without a result, that are read at either end


class Statement(NamedTuple):
    """A line of an answer: what it is about, what was found, and the verdict on that.

    colour: the class of the verdict in style sheets, "" where it has none.
    """

    subject: str
    found: str
    verdict: str = ""
    colour: str = ""


class Opening(NamedTuple):
    """What a kind of job opens with.

    charts: names by preference, one sequence for each place; each place has the first that can be
    drawn and stands in no place before.
    """

    statements: Sequence[Statement]
    charts: Sequence[Sequence[str]]


class Answer(NamedTuple):
    """What a page opens with: lines, names of two charts at most, and how to read them."""

    statements: Sequence[Statement] = ()
    charts: Sequence[str] = ()
    legend: Sequence[str] = ()


def answer(drawn: Sequence[ChartSource], names: Sequence[str]) -> Answer:
    """What the page of a job opens with; nothing is said where nothing was measured.

    **Arguments:**

    - `drawn`: what the charts of the job are drawn of.
    - `names`: the charts that can be drawn.
    """
    openings = (opening for kind in KINDS if (opening := kind(drawn)) is not None)
    found = next(openings, Opening((), ()))
    return Answer(found.statements, chosen(found.charts, names), _legend(found.statements, drawn))


def chosen(places: Sequence[Sequence[str]], names: Sequence[str]) -> list[str]:
    """The first chart of each place that can be drawn, else those that pages show first."""
    chosen: list[str] = []
    for place in (*places, names, names):
        chosen += [name for name in place if name in names and name not in chosen][:1]
    return chosen[:2]


def _legend(statements: Sequence[Statement], drawn: Sequence[ChartSource]) -> list[str]:
    """How to read the lines: pairs, intervals and the verdicts that occur."""
    text = " ".join(line.found for line in statements)
    seeds = {len(one.result.provenance.seeds) for one in drawn if isinstance(one, Source)}
    several = f" over {min(seeds)} seeds" if len(seeds) == 1 else " over seeds"
    if seeds == {1}:  # of a forecast, whose intervals are over units
        several = ""
    verdicts = {word for line in statements for word in line.verdict.split(" / ")}
    return [
        *(["x / y: of positive / negative samples."] if " / " in text else []),
        *([f"[x, y]: 95 % interval{several}."] if "[" in text else []),
        *(f"{word}: {meaning}." for word, meaning in SHORT.items() if word in verdicts),
    ]


SHORT: dict[Verdict, str] = {
    "met": "the interval is above the paper's figure",
    "NOT met": "it is at or below it, which contradicts the paper",
    "open": "it includes the paper's figure, which is not decided",
}


# A finding


def of_finding(drawn: Sequence[ChartSource]) -> Opening | None:
    """The conclusion of a finding, and its chart."""
    found = answered(drawn)
    if found is None:
        return None
    first, *more = found.conclusion
    lines = [Statement("Answer", first), *(Statement("", line) for line in more[:MOST_RUNS])]
    return Opening(lines, (("finding",), ("sparsity_flow", "sparsity", "theorem2_widths")))


# A study of the paper


def of_paper(drawn: Sequence[ChartSource]) -> Opening | None:
    """Both theorems at initialisation, then theorem 2 and S while training, run by run."""
    sources = _sources(drawn)
    if not is_paper_study(sources):
        return None
    lines = [*_theorem(sources, 1), *_theorem(sources, 2)]
    for run in compared(sources, "dataset.preprocess", over_flow_time=False)[:MOST_RUNS]:
        lines += _of_run(run)
    return Opening(lines, PAPER_CHARTS)


def _theorem(sources: Sequence[Source], theorem: int) -> Iterator[Statement]:
    """The widest layer by the exact condition, and narrower ones with another verdict."""
    rows = [
        row
        for row in comparison(sources)
        if row.key.figure == f"theorem{theorem}" and row.key.method == "exact" and row.key.width
    ]
    widths = sorted({row.key.width or 0 for row in rows})
    if not rows:
        return
    widest = [row for row in rows if row.key.width == widths[-1]]
    verdict = _verdict(widest)
    others = {
        width: found
        for width in widths[:-1]
        if (found := _verdict([row for row in rows if row.key.width == width])) != verdict
    }
    at = widest[0].key.at
    moment = "at initialisation" if at is None or not at.epoch else f"at epoch {at.epoch:,}"
    along = widest[0].key.direction
    step = f" {DIRECTIONS[along]}" if along == "training_step" else ""
    published = _published(widest[0])
    yield Statement(
        f"Theorem {theorem}{step} {moment}",
        f"{shares(_intervals(widest))} of samples, n = {widths[-1]:,}{published}"
        + "".join(f"; at n = {width:,} {found}" for width, found in others.items() if found),
        *_coloured(widest),
    )


def _of_run(run: Source) -> Iterator[Statement]:
    """Theorem 2 and S of one training run, with the verdicts on the paper's claims."""
    assert isinstance(run.result, TrainResult)  # noqa: S101 - narrows the type
    course = course_of(run.result.curves)
    if course is None:
        return
    rows = comparison([run])
    aside = f", {inputs_of(run.spec)}" if isinstance(run.spec, TrainSpec) else ""
    end = [row for row in rows if row.key.figure == "theorem2_training" and _is_last(row)]
    digits = digits_of([*course.last.ratio, *(course.rarest.ratio if course.rarest else ())])
    lowest = (
        f"; lowest {shares_alone(course.rarest.ratio, digits)} at epoch {course.rarest.epoch:,}"
        if course.rarest
        else ""
    )
    yield Statement(
        f"Theorem 2 after epoch {course.last.epoch:,}{aside}",
        f"{shares(course.last.ratio, digits)} of samples{lowest}",
        *_coloured(end),
    )
    rise = [row for row in rows if row.key.figure == "sparsity_rise" and _is_last(row)]
    last_span = [row for row in rise if row.key.since == rise[-1].key.since]
    start = last_span[0].key.since if last_span else None
    begins = next((one for one in course.moments if start and one.epoch == start.epoch), None)
    if begins is None:
        return
    before = "" if begins is course.first else f"{of_means(course.first.sparsity)} → "
    change = " / ".join(signed(one) for one in change_between(begins, course.last))
    yield Statement(
        f"Sparsity S{aside}",
        f"{before}{of_means(begins.sparsity)} (epoch {begins.epoch:,}) → "
        f"{of_means(course.last.sparsity)}, by {change}",
        *_coloured(last_span),
    )


# A forecast


def of_forecast(drawn: Sequence[ChartSource]) -> Opening | None:
    """S of wide layers, and when it turns."""
    found = [one for one in _sources(drawn) if isinstance(one.result, ForecastResult)]
    if not found or len(found) < len(_sources(drawn)):
        return None
    lines = [Statement(*line) for line in forecast_lines(found[0])]
    return Opening(lines, (("forecast_sparsity",), ("forecast_theorem2",)))


# A grid


class _Best(NamedTuple):
    """A figure of a study's runs: its name, and the key of it in their summaries."""

    subject: str
    figure: str
    is_share: bool
    matches: Callable[[SummaryKey], bool]


GRID_FIGURES = (
    _Best(
        "Test accuracy by goodness",
        "accuracy",
        True,
        lambda key: key == SummaryKey("accuracy", layer=ALL_LAYERS, partition="test"),
    ),
    _Best(
        "Theorem 2, mean of both splits",
        "theorem2_ratio",
        True,
        lambda key: key.figure == "theorem2_ratio",
    ),
    _Best(
        "Sparsity S, mean of both splits", "sparsity", False, lambda key: key.figure == "sparsity"
    ),
    _Best(
        "Theorem's ratio, mean of both splits",
        "ratio",
        True,
        lambda key: key.figure == "ratio" and key.method == "exact",
    ),
)


def of_search(drawn: Sequence[ChartSource]) -> Opening | None:
    """The best trial so far, of how many; the objective over trials, and what it depends on."""
    found = trials_compared(drawn)
    if found is None or not found.grid.is_search:
        return None
    lines = [Statement("Best trial", sentence) for sentence in best_in_words(found)]
    return Opening(lines, SEARCH_CHARTS)


def of_grid(drawn: Sequence[ChartSource]) -> Opening | None:
    """Between which runs each figure goes at their ends."""
    grid = next((one for one in drawn if isinstance(one, StudyGrid)), None)
    if grid is None or len(grid.cells) < 2:
        return None
    labels = labels_in(grid)
    unsure = _with_undecided_margins(drawn)
    lines = [line for best in GRID_FIGURES for line in _range(grid.cells, labels, best, unsure)]
    if not lines:
        return None
    return Opening(lines, GRID_CHARTS)


def labels_in(grid: StudyGrid) -> list[str]:
    """The labels of a study's runs, in its order: what varies, else the part or the kind."""
    cells = [
        Cell(one.found.part, one.found.params, one.spec)
        for one in grid.cells
        if one.spec is not None
    ]
    if len(cells) < len(grid.cells):
        return [one.found.part or one.found.kind for one in grid.cells]
    study = StudySpec(preset=grid.preset) if grid.preset in PRESETS else None
    found = labels_of(cells, study)
    return [label or cell.part or cell.spec.kind for label, cell in zip(found, cells, strict=True)]


def _with_undecided_margins(drawn: Sequence[ChartSource]) -> set[str]:
    """The digests of runs whose margins are mostly within rounding of zero: their ratio is low,
    and says nothing.
    """
    return {
        digest(source.spec)
        for source in _sources(drawn)
        if source.spec is not None
        for finding in source.result.diagnostics
        if finding.code == "margins_undecided"
        and _number(finding, "undecided") > MOSTLY * _number(finding, "live")
    }


def _number(finding: Diagnostic, name: str) -> float:
    value = finding.evidence.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _range(
    cells: Sequence[GridCell], labels: Sequence[str], best: _Best, unsure: Container[str]
) -> Iterator[Statement]:
    """The highest and the lowest of a figure, each with its run."""
    left_out = [
        label
        for cell, label in zip(cells, labels, strict=False)
        if best.figure == "theorem2_ratio" and cell.found.spec_digest in unsure
    ]
    found = [
        (value, label)
        for cell, label in zip(cells, labels, strict=False)
        if label not in left_out and (value := _at_end(cell, best)) is not None
    ]
    if not found:
        return
    high, low = max(found, key=_mean_of), min(found, key=_mean_of)
    ends = [high[0].value, low[0].value]
    digits = digits_of(ends) if best.is_share else 3
    most, least = (with_interval(end, digits) if best.is_share else number(end, 3) for end in ends)
    told = len(found) + len(left_out)
    rest = "" if told == len(cells) else f"; {told:,} of {len(cells):,} runs have it"
    if left_out:
        rest += f"; without {', '.join(left_out)}, where most margins are undecided"
    if _alike(high, low):
        where = high[1] if len(found) == 1 else f"the same in all {len(found)} runs"
        yield Statement(best.subject, f"{most} ({where}){_when(found)}{rest}")
        return
    yield Statement(
        best.subject,
        f"highest {most} ({_tied(found, high)}), lowest {least} ({_tied(found, low)})"
        f"{_when(found)}{rest}",
    )


class _End(NamedTuple):
    """A figure of a run after its last epoch; None: a figure that is of no epoch."""

    value: Interval
    epoch: int | None


_Found = tuple[_End, str]  # with the label of the run


def _mean_of(one: _Found) -> float:
    return one[0].value.mean


def _alike(one: _Found, other: _Found) -> bool:
    return math.isclose(_mean_of(one), _mean_of(other), rel_tol=1e-9, abs_tol=1e-12)


def _tied(found: Sequence[_Found], end: _Found) -> str:
    """The label of a run, and of those that have the same figure."""
    labels = [label for one, label in found if _alike((one, label), end)]
    if len(labels) == 1:
        return labels[0]
    if len(labels) == 2:
        return f"tied: {labels[0]}; {labels[1]}"
    return f"tied: {labels[0]}, and {len(labels) - 1} more"


def _when(found: Sequence[_Found]) -> str:
    """After which epoch the figures are."""
    epochs = {one.epoch for one, _ in found}
    if len(epochs) > 1:
        return ", after the last epoch of each run"
    (epoch,) = epochs
    if epoch is None:
        return ""
    return f", after epoch {epoch:,}" if epoch else ", at initialisation"


def _at_end(cell: GridCell, best: _Best) -> _End | None:
    """The figure after the last epoch; of several layers or splits their mean, which has no
    interval.
    """
    own = [
        (key, value)
        for text, value in cell.found.summary.items()
        if text.startswith(best.figure) and best.matches(key := SummaryKey.parse(text))
    ]
    last = max((key.epoch for key, _ in own if key.epoch is not None), default=None)
    found = [value for key, value in own if key.epoch == last]
    if len(found) < 2:
        return _End(found[0], last) if found else None
    mean = sum(one.mean for one in found) / len(found)
    return _End(Interval(mean=mean, low=None, high=None, seeds=found[0].seeds), last)


# One training run


def of_training(drawn: Sequence[ChartSource]) -> Opening | None:
    """S from the beginning to now, theorem 2 now, the accuracy and the act; of deep networks for
    the first and the last layer.
    """
    runs = [one for one in drawn if _is_training(one)]
    lines = [line for run in runs[:MOST_RUNS] for line in _training_lines(run, alone=len(runs) < 2)]
    if not lines:
        return None
    return Opening(lines, (("theorem2", "deep_theorem2"), ("sparsity", "layers")))


def _is_training(one: ChartSource) -> bool:
    if isinstance(one, Source):
        return isinstance(one.result, TrainResult)
    return isinstance(one, PartialRun) and isinstance(one.spec, TrainSpec)


def _training_lines(run: ChartSource, *, alone: bool) -> Iterator[Statement]:
    rows = _rows(run)
    layers = sorted({row.layer for row in rows})
    chosen = layers if len(layers) < 2 else [layers[0], layers[-1]]
    label = "" if alone or not run.label else f", {run.label}"
    for layer in chosen:
        last = " (last)" if layer == layers[-1] else ""
        aside = f", layer {layer}{last}{label}" if len(layers) > 1 else label
        course = course_of(rows, layer)
        if course is not None:
            yield from _course_lines(course, aside, ended=isinstance(run, Source))
            if len(layers) == 1:
                yield from _act_line(rows, aside)
        elif _is_dead([row for row in rows if row.layer == layer]):
            yield Statement(f"Sparsity S{aside}", "undefined: no unit is active for any sample")
    if isinstance(run, Source) and isinstance(run.result, TrainResult):
        yield from _accuracy_line(run.result, label)


def _is_dead(rows: Sequence[EpochRow]) -> bool:
    """Whether no sample activates a unit of the layer at the last measured epoch."""
    last = max((row.epoch for row in rows), default=0)
    ends = [row for row in rows if row.epoch == last]
    return bool(ends) and all(row.dead_samples == row.samples for row in ends)


def _course_lines(course: Course, aside: str, *, ended: bool) -> Iterator[Statement]:
    first, last, lowest = course.first, course.last, course.lowest
    turned = ended and lowest not in (first, last)
    through = f" → {of_means(lowest.sparsity)} (epoch {lowest.epoch:,})" if turned else ""
    yield Statement(
        f"Sparsity S{aside}",
        f"{of_means(first.sparsity)}{through} → {of_means(last.sparsity)} at epoch {last.epoch:,}",
        _way(course, turned=turned),
    )
    yield Statement(
        f"Theorem 2 {DIRECTIONS['training_step']}{aside}",
        f"{shares(last.ratio)} of samples at epoch {last.epoch:,}",
        _side(course),
    )


def _way(course: Course, *, turned: bool) -> str:
    """How S went, where its interval over seeds is clear of zero."""
    first, last, lowest = course.first, course.last, course.lowest
    if len(first.seeds[0]) < 2:
        return "one seed: no verdict"
    if turned and rises(lowest, first) and rises(lowest, last):
        return "falls, then rises"
    return "rises" if rises(first, last) else "falls" if rises(last, first) else "no clear change"


def _side(course: Course) -> str:
    """On which side of one half theorem 2's ratio is at the end, where both intervals are clear."""
    half = THEOREMS[2].published
    bounds = [(one.low, one.high) for one in course.last.ratio]
    if any(low is None or high is None for low, high in bounds):
        return "one seed: no verdict"
    if all(low is not None and low > half for low, _ in bounds):
        return "more than half"
    if all(high is not None and high < half for _, high in bounds):
        return "less than half"
    return "not clear of half"


def _act_line(rows: Sequence[EpochRow], aside: str) -> Iterator[Statement]:
    """The act of training at the last measured epoch, where all seeds and splits share one."""
    last = max(row.epoch for row in rows)
    acts = {row.act for row in rows if row.epoch == last}
    for act in acts if len(acts) == 1 else ():
        if act is not None:
            yield Statement(f"Act{aside}", f"{act}: {ACTS[act]}")


def _accuracy_line(result: TrainResult, aside: str) -> Iterator[Statement]:
    """The test accuracy by the goodness of all layers, and of baselines."""
    found = own_accuracy(result)
    if found is not None:
        yield Statement(f"Test accuracy by goodness{aside}", with_interval(found))
    baselines = baselines_of(result)
    for name, rows in [*zip(names_of(baselines), baselines, strict=True)][:MOST_BASELINES]:
        if (one := accuracy_of(rows)) is not None:
            chosen = f"learning rate: {how_chosen(rows[0])}"
            yield Statement(f"Test accuracy of {name}{aside}", with_interval(one), chosen)


def _rows(run: ChartSource) -> list[EpochRow]:
    """The rows of a training run; of one without a result those of its first and last epochs."""
    if isinstance(run, Source) and isinstance(run.result, TrainResult):
        return list(run.result.curves)
    if not isinstance(run, PartialRun) or not isinstance(run.spec, TrainSpec):
        return []
    if not isinstance(run.curves, StoredRows):
        return list(run.curves)
    count = 2 * len(run.spec.seeds) * len(run.spec.network.widths) * EPOCHS_AT_AN_END
    return list(run.curves.at_ends(count))


# Checks


def of_checks(drawn: Sequence[ChartSource]) -> Opening | None:
    """Each theorem at the widest layer, and at infinite width."""
    checks = [one for one in _sources(drawn) if isinstance(one.spec, CheckSpec)]
    numbers = sorted({one.spec.theorem for one in checks if isinstance(one.spec, CheckSpec)})
    lines = [
        line for number_ in numbers for line in _theorem(_of_theorem(checks, number_), number_)
    ]
    lines += [line for number_ in numbers for line in _limit(_of_theorem(checks, number_), number_)]
    if not lines:
        return None
    widths = ("theorem2_widths", "theorem1_widths") if 2 in numbers else ("theorem1_widths",)
    return Opening(lines, (widths, ("margins", "geometry", "agreement_widths", "potentials")))


def _of_theorem(checks: Sequence[Source], theorem: int) -> list[Source]:
    return [
        one for one in checks if isinstance(one.spec, CheckSpec) and one.spec.theorem == theorem
    ][:1]


def _limit(checks: Sequence[Source], theorem: int) -> Iterator[Statement]:
    rows = [row for row in comparison(checks) if row.key.method == "infinite_width"]
    if rows:
        yield Statement(
            f"Theorem {theorem} at infinite width",
            f"{shares(_intervals(rows))} of samples",
        )


# What they share


def _sources(drawn: Sequence[ChartSource]) -> list[Source]:
    return [one for one in drawn if isinstance(one, Source)]


def _is_last(row: ComparisonRow) -> bool:
    return row.key.at is not None and row.key.at.role == "last"


def _intervals(rows: Sequence[ComparisonRow]) -> list[Interval]:
    return [
        Interval(mean=row.measured, low=row.low, high=row.high, seeds=row.seeds) for row in rows
    ]


def _published(row: ComparisonRow) -> str:
    """The paper's claim, where it makes one about this setting."""
    if row.verdict not in SHORT or not row.published:
        return ""
    return f"; paper: > {share(float(row.published.removeprefix('> ')))}"


def _verdict(rows: Sequence[ComparisonRow]) -> str:
    """The verdicts of both splits, once where they agree."""
    return " / ".join(dict.fromkeys(row.verdict for row in rows if row.verdict))


def _coloured(rows: Sequence[ComparisonRow]) -> tuple[str, str]:
    """The verdict on rows, and its colour where it is one for all."""
    verdicts = list(dict.fromkeys(row.verdict for row in rows if row.verdict))
    return _verdict(rows), COLOURS.get(verdicts[0], "") if len(verdicts) == 1 else ""


# in this order: the first that knows the job answers; another kind of study adds its function
KINDS: list[Callable[[Sequence[ChartSource]], Opening | None]] = [
    of_finding,
    of_paper,
    of_forecast,
    of_search,
    of_grid,
    of_training,
    of_checks,
]
