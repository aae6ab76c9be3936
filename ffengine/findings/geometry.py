"""The finding `geometry`: which samples push S up and down in each act, by class and angle."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple

from ffengine.findings.bases import SEEDS, TINY, TINY_CHECK, layer
from ffengine.findings.finding import Finding, Plot, Point, Rule, Run, Table, Tile
from ffengine.findings.measured import SPLITS, crossing, crossing_of
from ffengine.findings.wording import is_above, is_below, listed, number
from ffengine.intervals import interval
from ffengine.objectives import MeanSquares, SoftplusLoss
from ffengine.optimizers import Sgd
from ffengine.percents import in_percent
from ffengine.results import (
    CheckResult,
    Interval,
    PushedSample,
    PushRow,
    Relation,
    Split,
    TrainResult,
)
from ffengine.spec import CheckSpec, DatasetSpec, MonitorSpec, StudyPart, StudySpec, TrainSpec

WIDTH, PAIRS = 500, 500
EPOCHS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20)
START, LIMIT = "initialisation", "initialisation (limit)"
OWN_CLASS: tuple[Relation, ...] = ("same_class_label", "same_class")
OTHER_CLASSES: tuple[Relation, ...] = ("other_class_label", "other_class")
GROUPS: dict[str, tuple[Relation, ...]] = {
    "own pair": ("own_pair",),
    "own class": OWN_CLASS,
    "other classes": OTHER_CLASSES,
}
COLUMNS: dict[str, tuple[Relation, ...]] = {
    "own pair": ("own_pair",),
    "own class, its label": ("same_class_label",),
    "own class, no label of it": ("same_class",),
    "other classes, its label": ("other_class_label",),
    "other classes, no label of it": ("other_class",),
}
RELATIONS: tuple[Relation, ...] = ("own_pair", *OWN_CLASS, *OTHER_CLASSES)
UNLABELLED: tuple[Relation, ...] = ("same_class", "other_class")
NOT_CENTRED = ("pixels", "digits")  # runs of `difference` whose pixels are as they are
SMALL = 0.1  # of the sizes of the pushes of the three groups: a small term
EXACTLY = 1e-9
ROWS_OF_TILES = 3  # samples of each split whose pictures are shown


def _monitor(epochs: Sequence[int], pairs: int = PAIRS) -> MonitorSpec:
    return MonitorSpec(samples=pairs, decomposition=tuple(epochs))


def _training(**changes: object) -> TrainSpec:
    """Return a layer that passes through the acts, all monitored pairs of which are split."""
    base = layer(WIDTH, epochs=EPOCHS[-1])
    return base.model_copy(update={"monitor": _monitor(EPOCHS), "seeds": SEEDS, **changes})


class Geometry(Finding):
    """Own class against other classes, and the angles at which they are."""

    name = "geometry"
    question = "Which samples push the sparsity of a sample up, and which push it down?"
    method = (
        "The margin of theorem 2 of a sample, whose sign says whether its S rises, is a sum over "
        "the pairs of its batch: a positive and its negative, which is the same image under a "
        "wrong label. One layer of 500 units learns mnist-mini with G(negative) - G(positive), "
        "pixels as they are and less the mean image, and with the softplus loss; another learns "
        "the digits of 8 x 8 pixels. At the same 500 pairs (300 of the digits) the sum is split by "
        "whether a pair is the sample's own, of its class or of another, shows its label or not, "
        "and by the angle between the sample and the mean of the pair. A push is given in standard "
        "deviations of the margin over samples; below zero it lowers S. The limit of infinite "
        "width is computed for the same data at initialisation. Epochs of one act are averaged for "
        "each seed; an act that fewer than half of the seeds pass through is left out. The "
        "pictures show, of the first seed, the samples with the most negative "
        "margins (class, label of a negative, margin), each with the pairs that push it down most "
        "(class, wrong label, push, angle)."
    )
    falsified_by = (
        "While units are recruited, a push of other classes that is not below zero, or that is "
        "smaller than that of the own class; while some are selected, a push of the own class that "
        "is not above zero; with centred inputs, other classes that push S down in the first "
        "epochs."
    )
    study = StudySpec(
        parts={
            "infinite width": StudyPart(
                base=CheckSpec(
                    dataset=DatasetSpec(name="mnist-mini"),
                    widths=(WIDTH,),
                    samples=PAIRS,
                    batch_size=PAIRS,
                    seeds=SEEDS,
                    methods=("infinite_width",),
                    decomposition=True,
                )
            ),
            "pixels": StudyPart(base=_training()),
            "centred": StudyPart(
                base=_training(
                    dataset=DatasetSpec(name="mnist-mini", preprocess="center"),
                    epochs=10,
                    monitor=_monitor([epoch for epoch in EPOCHS if epoch <= 10]),
                )
            ),
            "digits": StudyPart(
                base=_training(
                    dataset=DatasetSpec(name="digits", labels="append"),
                    # 1 437 images in batches of 300: an epoch has a flow time of 0.5
                    optimizer=Sgd(lr=WIDTH * 0.1),
                    epochs=30,
                    batch_size=300,
                    monitor=_monitor((0, 2, 4, 6, 8, 10, 12, 16, 20, 25, 30), 300),
                )
            ),
            "softplus": StudyPart(
                base=_training(
                    objective=SoftplusLoss(goodness=MeanSquares(), threshold=2.0),
                    optimizer=Sgd(lr=WIDTH * 0.01, scale_lr_by_width=False),
                    epochs=30,
                    monitor=_monitor((0, 1, 2, 4, 8, 12, 16, 20, 25, 30)),
                )
            ),
        }
    )
    tiny: ClassVar = {**TINY, "monitor.decomposition": [0, 1, 2, 3], "network.widths": [24]}
    tiny_check = TINY_CHECK

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say who pushes where in each act of each run, and where the theory's statements hold."""
        stretches = [one for run in runs for one in stretches_of(run)]
        pixels = [one for one in stretches if one.run == "pixels"]
        not_centred = [one for one in stretches if one.run in NOT_CENTRED]
        of_pixels = next(run for run in runs if run.part == "pixels")
        return [
            _answer(pixels),
            _recruiting(not_centred),
            _selecting(not_centred),
            _outweighing(not_centred),
            *(sentence for run in runs if run.part in NOT_CENTRED for sentence in _turn(run)),
            _own_pair(stretches),
            _centred([one for one in stretches if one.run == "centred"]),
            _cancelling([one for one in stretches if one.act == LIMIT]),
            *(_course(both) for both in _both_splits(stretches) if both[0].run not in NOT_CENTRED),
            *(
                sentence
                for both in _both_splits(pixels)
                if both[0].act != START and (sentence := _angles(both))
            ),
            *_strongest(of_pixels),
        ]

    def table(self, runs: Sequence[Run]) -> Table:
        """Return the pushes of each relation, by run, act and split."""
        columns = ("run", "act", "tau", "split", "margin", "margins above 0", *COLUMNS)
        rows = (_row(stretch) for run in runs for stretch in stretches_of(run))
        return Table(columns, tuple(rows))

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return pushes over flow time and by angle, and the samples that are pushed most."""
        by_part = {run.part: run for run in runs}
        over_tau = [point for name in ("pixels", "centred") for point in _over_tau(by_part[name])]
        by_angle = list(_by_angle(stretches_of(by_part["pixels"])))
        panels = dict.fromkeys(point.panel for point in by_angle)
        return Plot(
            "What pairs of the own class and of other classes add to the margin of theorem 2",
            "flow time tau",
            "",
            (*over_tau, *by_angle),
            rules=(Rule("y", 0.0, ""),),
            x_titles=tuple((panel, "angle between sample and pair, degrees") for panel in panels),
            tiles=tuple(_tiles(by_part["pixels"])),
        )


Batch = dict[Relation, PushRow]  # the rows of one seed, epoch and split


class Stretch(NamedTuple):
    """What was decomposed of one run within one act, of one split.

    **Attributes:**

    - `run`: the part of the study.
    - `act`: its name; START or LIMIT before the first step.
    - `split`: of the samples that are pushed.
    - `batches`: of each seed, epoch after epoch.
    - `ratios`: the share of margins above 0, in the same order.
    """

    run: str
    act: str
    split: Split
    batches: dict[int, list[Batch]]
    ratios: dict[int, list[float]]

    def over_seeds(self, figure: Callable[[Batch], float]) -> Interval:
        """Return the interval over seeds of a figure's mean over epochs.

        **Arguments:**

        - `figure`: of one batch.

        **Returns:**

        The interval.
        """
        return interval([_mean(map(figure, of_seed)) for of_seed in self.batches.values()])

    def push(self, relations: Iterable[Relation]) -> Interval:
        """Return what pairs of these relations add to the margin, in deviations of the margin.

        **Arguments:**

        - `relations`: of the pairs.

        **Returns:**

        The interval over seeds.
        """
        wanted = tuple(relations)
        return self.over_seeds(lambda batch: _push(batch, wanted))

    @property
    def margin(self) -> Interval:
        """The mean margin, in its deviations."""
        return self.push(RELATIONS)

    @property
    def above(self) -> Interval:
        """The share of margins above 0."""
        return interval([_mean(of_seed) for of_seed in self.ratios.values()], share=True)

    @property
    def taus(self) -> tuple[float, float]:
        """The first and the last flow time."""
        rows = (batch["own_pair"] for of_seed in self.batches.values() for batch in of_seed)
        taus = [row.tau or 0.0 for row in rows]
        return min(taus), max(taus)


def stretches_of(run: Run) -> list[Stretch]:
    """Group the decomposition of a run by act and split.

    **Arguments:**

    - `run`: one of the study's.

    **Returns:**

    The acts in the order in which they are first met, each with positives first. An act that fewer
    than half of the seeds pass through is left out: their epochs lie between two acts.
    """
    assert isinstance(run.result, TrainResult | CheckResult)  # noqa: S101 - narrows the type
    batches: dict[tuple[str, Split], dict[int, dict[int, Batch]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    for row in run.result.decomposition:
        act = row.act or (START if row.method == "exact" else LIMIT)
        batches[act, row.split][row.seed][row.epoch][row.relation] = row
    ratios = _ratios(run)
    seeds = {row.seed for row in run.result.decomposition}
    return [
        Stretch(
            run.part,
            act,
            split,
            {seed: list(by_epoch.values()) for seed, by_epoch in by_seed.items()},
            {
                seed: [ratios[seed, epoch, split] for epoch in by_epoch]
                for seed, by_epoch in by_seed.items()
            },
        )
        for (act, split), by_seed in batches.items()
        if 2 * len(by_seed) >= len(seeds)
    ]


def _ratios(run: Run) -> dict[tuple[int, int, Split], float]:
    """Return the share of margins above 0, by seed, epoch and split."""
    if isinstance(run.result, CheckResult):
        cells = run.result.cells
        return {(one.seed, one.epoch, one.split): one.ratio or 0.0 for one in cells}
    assert isinstance(run.result, TrainResult)  # noqa: S101 - narrows the type
    curves = run.result.curves
    return {(row.seed, row.epoch, row.split): row.theorem2_ratio or 0.0 for row in curves}


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _push(batch: Batch, relations: Iterable[Relation]) -> float:
    """Return what pairs of these relations add to the margin; 0 where no margin differs."""
    return sum(batch[relation].push or 0.0 for relation in relations)


def _both_splits(stretches: Sequence[Stretch]) -> list[tuple[Stretch, Stretch]]:
    """Return positives and negatives of each run and act."""
    by_place: dict[tuple[str, str], list[Stretch]] = defaultdict(list)
    for one in stretches:
        by_place[one.run, one.act].append(one)
    return [(both[0], both[1]) for both in by_place.values() if len(both) == len(SPLITS)]


def _figures(both: Iterable[Stretch], relations: Iterable[Relation]) -> str:
    """Write a push on positives and on negatives."""
    wanted = tuple(relations)
    return " / ".join(f"{one.push(wanted).mean:+.2f}" for one in both)


def _of_act(stretches: Sequence[Stretch], act: str) -> list[Stretch]:
    return [one for one in stretches if one.act == act]


def _answer(pixels: Sequence[Stretch]) -> str:
    """Answer the question by the two acts in which S changes most."""
    told = [
        f"in the {act} act pairs of other classes push it {_way(found, OTHER_CLASSES)} and pairs "
        f"of its own class {_way(found, OWN_CLASS)} ({_against(found)})"
        for act in ("recruiting", "selecting")
        if (found := _of_act(pixels, act))
    ]
    return (
        f"Who pushes S of a sample, pixels as they are: {'; '.join(told or ['no act was met'])}, "
        f"in standard deviations of the margin."
    )


def _way(both: Sequence[Stretch], relations: Sequence[Relation]) -> str:
    """Say into which direction a group pushes both splits."""
    means = [one.push(relations).mean for one in both]
    return "up" if min(means) > 0 else "down" if max(means) < 0 else "up and down"


def _against(both: Sequence[Stretch]) -> str:
    """Write other classes against the own class, for each split."""
    texts = [
        f"{one.push(OTHER_CLASSES).mean:+.2f} against {one.push(OWN_CLASS).mean:+.2f} on "
        f"{one.split}s"
        for one in both
    ]
    return ", ".join(texts)


def _course(both: tuple[Stretch, Stretch]) -> str:
    """Say who pushes in one act of a run, and for how many samples S rises."""
    first, last = both[0].taus
    when = f" (tau {first:.2f} to {last:.2f})" if last > 0 else ""
    groups = listed([f"{name} {_figures(both, of)}" for name, of in GROUPS.items()])
    above = " / ".join(f"{one.above.mean:.2f}" for one in both)
    return (
        f"{both[0].run}, {both[0].act}{when}: {groups}; the margin is above 0 for {above} of "
        f"positives / negatives."
    )


def _angle_means(both: Iterable[Stretch], relations: Sequence[Relation]) -> list[Interval | None]:
    """Return the push of each bin of angles, mean of both splits; None where no pair is."""
    stretches = list(both)
    rows = [
        row
        for one in stretches
        for of_seed in one.batches.values()
        for batch in of_seed
        for relation in relations
        if (row := batch[relation]).by_angle
    ]
    bins = max((len(row.by_angle) for row in rows), default=0)
    return [
        _angle_mean(stretches, relations, at)
        if any(row.pairs_by_angle[at] for row in rows)
        else None
        for at in range(bins)
    ]


def _angle_mean(stretches: Sequence[Stretch], relations: Sequence[Relation], at: int) -> Interval:
    """Return the push of one bin of angles, its mean over splits and epochs, over seeds."""

    def of_batch(batch: Batch) -> float:
        return sum(
            batch[relation].by_angle[at] for relation in relations if batch[relation].by_angle
        )

    seeds = stretches[0].batches
    means = [
        [_mean(map(of_batch, one.batches[seed])) for one in stretches if seed in one.batches]
        for seed in seeds
    ]
    return interval([_mean(of_splits) for of_splits in means])


def _angles(both: tuple[Stretch, Stretch]) -> str | None:
    """Say at which angles pairs push up and down in one act."""
    told = []
    for name, relations in (("own class", OWN_CLASS), ("other classes", OTHER_CLASSES)):
        bins = _angle_means(both, relations)
        width = 180 / max(len(bins), 1)
        for word, sign in (("up", 1), ("down", -1)):
            place = [
                (at, one.mean) for at, one in enumerate(bins) if one and sign * one.mean > 0.005
            ]
            if place:
                low, high = width * place[0][0], width * (place[-1][0] + 1)
                total = sum(push for _, push in place)
                told.append(f"{name} {word} at {low:.0f} to {high:.0f} degrees ({total:+.2f})")
    if not told:
        return None
    return f"By angle, {both[0].run}, {both[0].act}, mean of both splits: {listed(told)}."


def _strongest(run: Run) -> Iterator[str]:
    """Say who the strongest pushers of the most negative margins are, act by act."""
    assert isinstance(run.result, TrainResult)  # noqa: S101 - narrows the type
    by_act: dict[str, list[PushedSample]] = defaultdict(list)
    for one in run.result.most_pushed:
        if one.act:
            by_act[one.act].append(one)
    for act, samples in by_act.items():
        pushers = [by for one in samples for by in one.pushers]
        if not pushers:
            continue
        others = sum(by.relation in OTHER_CLASSES for by in pushers) / len(pushers)
        classes = [by.image_class for by in pushers]
        most = max(sorted(set(classes)), key=classes.count)
        angles = sorted(by.angle for by in pushers)
        yield (
            f"The pairs that push the most negative margins down most, {act}: "
            f"{in_percent(others, 0)} are of other classes, "
            f"{in_percent(classes.count(most) / len(classes), 0)} of class {most}; their "
            f"median angle is {angles[len(angles) // 2]:.0f} degrees."
        )


def _verdict(statement: str, clear: Sequence[bool], against: Sequence[bool], why: str) -> str:
    """Say whether a statement holds: everywhere, or clearly not somewhere, or neither."""
    if not clear:
        word = "Not tested"
    elif all(clear):
        word = "Holds"
    else:
        word = "Does not hold" if any(against) else "Not clear"
    return f"{word}: {statement} ({why})."


def _recruiting(stretches: Sequence[Stretch]) -> str:
    found = _of_act(stretches, "recruiting")
    others = [one.push(OTHER_CLASSES) for one in found]
    nets = [one.margin for one in found]
    return _verdict(
        "while units are recruited, other classes push S down, and by more than the own class "
        "pushes it up",
        [is_below(one, 0) for one in (*others, *nets)],
        [is_above(one, 0) for one in (*others, *nets)],
        f"other classes {_written(found, others)}, all pairs together {_written(found, nets)}",
    )


def _selecting(stretches: Sequence[Stretch]) -> str:
    found = _of_act(stretches, "selecting")
    own = [one.push(OWN_CLASS) for one in found]
    others = [one.push(OTHER_CLASSES) for one in found]
    return _verdict(
        "while some units are selected, the own class pushes S up and other classes push it down",
        [is_above(one, 0) for one in own] + [is_below(one, 0) for one in others],
        [is_below(one, 0) for one in own] + [is_above(one, 0) for one in others],
        f"own class {_written(found, own)}, other classes {_written(found, others)}",
    )


def _outweighing(stretches: Sequence[Stretch]) -> str:
    found = _of_act(stretches, "selecting")
    nets = [one.margin for one in found]
    return _verdict(
        "while some units are selected, what pushes S up outweighs other classes in the mean over "
        "samples",
        [is_above(one, 0) for one in nets],
        [is_below(one, 0) for one in nets],
        f"all pairs together {_written(found, nets)}; it does for "
        f"{_written(found, [one.above for one in found])} of the samples",
    )


def _turn(run: Run) -> Iterator[str]:
    """Say when the pushes up begin to outweigh those down, beside theorem 2's crossing."""
    assert isinstance(run.result, TrainResult)  # noqa: S101 - narrows the type
    courses: dict[int, dict[float, dict[Split, float]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(float))
    )
    for row in run.result.decomposition:
        courses[row.seed][row.tau or 0.0][row.split] += row.push or 0.0
    times = [
        time
        for course in courses.values()
        if (time := crossing_of([(tau, min(net.values())) for tau, net in course.items()], 0.0))
        is not None
    ]
    ratio = crossing(run, "theorem2_ratio")
    if times and ratio:
        some = "" if len(times) == len(courses) else f" in {len(times)} of {len(courses)} seeds"
        yield (
            f"{run.part}: pushes up begin to outweigh pushes down, in the mean of both splits, at "
            f"tau = {number(interval(times), 2)}{some}; theorem 2 comes back to one half at tau = "
            f"{number(ratio, 2)}."
        )


def _own_pair(stretches: Sequence[Stretch]) -> str:
    """Compare the own pair's push with those of all groups, where it is largest."""
    shares = {
        (one.run, one.act, one.split): abs(one.push(("own_pair",)).mean)
        / (sum(abs(one.push(of).mean) for of in GROUPS.values()) or 1.0)
        for one in stretches
        if one.act not in (START, LIMIT)
    }
    if not shares:
        return _verdict("the own pair is a small term", [], [], "no act was measured")
    where = max(shares, key=lambda place: shares[place])
    small = shares[where] < SMALL
    return _verdict(
        f"while training, the own pair is a small term: below {in_percent(SMALL, 0)} of the three "
        f"groups' "
        f"sizes",
        [small],
        [not small],
        f"at most {in_percent(shares[where], 1)}, {', '.join(where)}",
    )


def _centred(centred: Sequence[Stretch]) -> str:
    trained = [one for one in centred if one.act not in (START, LIMIT)]
    recruits = any(one.act == "recruiting" for one in trained)
    others = [one.push(OTHER_CLASSES) for one in trained]
    return _verdict(
        "with centred inputs other classes do not push S down, and nothing recruits",
        [not is_below(one, 0) for one in others] + [not recruits],
        [is_below(one, 0) for one in others] + [recruits],
        f"other classes {_written(trained, others)}; acts: "
        f"{listed(list(dict.fromkeys(one.act for one in trained)) or ['none'])}",
    )


def _cancelling(limit: Sequence[Stretch]) -> str:
    pushes = [one.push((relation,)).mean for one in limit for relation in UNLABELLED]
    largest = max(map(abs, pushes), default=0.0)
    exact = largest < EXACTLY
    return _verdict(
        "at infinite width and initialisation, pairs that do not show the sample's label cancel "
        "exactly",
        [exact] * bool(limit),
        [not exact],
        f"largest push {largest:.0e}",
    )


def _written(stretches: Sequence[Stretch], found: Sequence[Interval]) -> str:
    """Write a figure of positives / negatives, run by run."""
    by_run: dict[str, list[str]] = defaultdict(list)
    for one, figure in zip(stretches, found, strict=True):
        by_run[one.run].append(number(figure, 2))
    return listed([f"{' / '.join(texts)} ({run})" for run, texts in by_run.items()] or ["-"])


def _row(one: Stretch) -> tuple[str, ...]:
    first, last = one.taus
    return (
        one.run,
        one.act,
        f"{first:.2f} to {last:.2f}" if last > first else f"{first:.2f}",
        one.split,
        number(one.margin, 2),
        number(one.above, 2),
        *(number(one.push(relations), 2) for relations in COLUMNS.values()),
    )


def _over_tau(run: Run) -> Iterator[Point]:
    """Yield the push of each group at each epoch."""
    assert isinstance(run.result, TrainResult)  # noqa: S101 - narrows the type
    for split in SPLITS:
        by_epoch: dict[int, dict[int, Batch]] = defaultdict(lambda: defaultdict(dict))
        for row in run.result.decomposition:
            if row.split == split:
                by_epoch[row.epoch][row.seed][row.relation] = row
        for name, relations in GROUPS.items():
            for by_seed in by_epoch.values():
                batches = list(by_seed.values())
                found = interval([_push(batch, relations) for batch in batches])
                tau = batches[0]["own_pair"].tau or 0.0
                panel = f"push on {split}s, {run.part}"
                yield Point(panel, name, tau, found.mean, found.low, found.high)


def _by_angle(stretches: Sequence[Stretch]) -> Iterator[Point]:
    """Yield the push of the own class and of other classes by angle, act by act."""
    for both in _both_splits(stretches):
        if both[0].act in (START, LIMIT):
            continue
        for name in ("own class", "other classes"):
            bins = _angle_means(both, GROUPS[name])
            for at, found in enumerate(bins):
                if found:
                    angle = 180 / len(bins) * (at + 0.5)
                    panel = f"push of a bin of 10 degrees, {both[0].act}"
                    yield Point(panel, name, angle, found.mean, found.low, found.high)


def _tiles(run: Run) -> Iterator[Tile]:
    """Yield the samples that are pushed down most in the middle of each act, with their pushers."""
    assert isinstance(run.result, TrainResult)  # noqa: S101 - narrows the type
    pictures = {one.sample: one for one in run.result.pictures}
    by_act: dict[str, list[PushedSample]] = defaultdict(list)
    for one in run.result.most_pushed:
        if one.act and pictures:
            by_act[one.act].append(one)
    for act, samples in by_act.items():
        epochs = sorted({one.epoch for one in samples})
        middle = epochs[len(epochs) // 2]
        for split in SPLITS:
            shown = [one for one in samples if (one.epoch, one.split) == (middle, split)]
            for row, one in enumerate(shown[:ROWS_OF_TILES]):
                group = f"{act}, {split}s, tau = {one.tau or 0.0:.1f}"
                name = _label(one.image_class, one.label)
                picture = pictures[one.sample]
                words = f"{name}: {one.margin:+.1f}"
                yield Tile(group, row, 0, words, picture.shape, picture.pixels)
                for column, by in enumerate(one.pushers, 1):
                    picture = pictures[by.sample]
                    words = (
                        f"{by.image_class}, {by.wrong_label}: {by.push:+.2f}, {by.angle:.0f}\u00b0"
                    )
                    yield Tile(group, row, column, words, picture.shape, picture.pixels)


def _label(image_class: int, label: int) -> str:
    return str(image_class) if image_class == label else f"{image_class} as {label}"
