"""Tables of a job's page as text, and those of what a check says beside its cells."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ffengine.intervals import interval
from ffengine.results import (
    CheckResult,
    Interval,
    PotentialRow,
    PushRow,
    Relation,
    RunResult,
    Split,
    TrainResult,
)
from ffengine.theorems import DIRECTIONS, Direction

RELATIONS: dict[Relation, str] = {
    "own_pair": "own pair",
    "same_class_label": "same class, with the label",
    "same_class": "same class, without it",
    "other_class_label": "other class, with the label",
    "other_class": "other class, without it",
}
ALONG = DIRECTIONS["goodness_difference"]


class Column(NamedTuple):
    """A column: its label, what it means, and whether it has numbers."""

    label: str
    meaning: str = ""
    is_number: bool = True


class TextTable(NamedTuple):
    """A table: its title, its columns, its rows as text, and sentences below it.

    folded: whether a page shows its title alone until somebody opens it.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    folded: bool = False


class Pushes(NamedTuple):
    """Who pushes: the rows, and the step whose margins they split."""

    rows: Sequence[PushRow]
    direction: Direction


def pushes_of(result: RunResult) -> Pushes:
    """Return who pushes by a result: a training run's margins are along its own step."""
    if isinstance(result, CheckResult):
        return Pushes(result.decomposition, "goodness_difference")
    rows = result.decomposition if isinstance(result, TrainResult) else ()
    return Pushes(rows, "training_step")


def check_tables(result: CheckResult) -> list[TextTable]:
    """What a check says of potentials and of who pushes; of what it has no rows there is none."""
    found = (_potentials(result.potentials), push_table(result))
    return [table for table in found if table.rows]


POTENTIALS = (
    Column("at", "the samples at which the potentials are compared", is_number=False),
    Column("U of negatives", "mean over these samples and over seeds"),
    Column("U of positives", "mean over these samples and over seeds"),
    Column("ratio", "U of negatives / U of positives; above 1, theorem 2 is expected"),
    Column("95 % interval", "of the ratio, Student's t over seeds"),
    Column("expected share", "share of these samples at which U of negatives is the larger"),
    Column("energy ratio", "mean squared length of negatives over that of positives"),
    Column("seeds"),
)


def _potentials(rows: Sequence[PotentialRow]) -> TextTable:
    groups: dict[Split, list[PotentialRow]] = defaultdict(list)
    for row in rows:
        groups[row.split].append(row)
    return TextTable(
        "Potentials before training",
        POTENTIALS,
        [_potential_row(split, group) for split, group in groups.items()],
        (
            "U of a set of samples says how strongly it pushes a sample at infinite width, before "
            "any training: the mean of squared length times cos θ φ(θ) for relu and squares. Where "
            f"U of negatives is the larger, theorem 2 is expected to hold {ALONG}.",
        ),
    )


def _potential_row(split: Split, rows: Sequence[PotentialRow]) -> list[str]:
    ratios = [row.potential_ratio for row in rows if row.potential_ratio is not None]
    ratio = interval(ratios) if ratios else None
    return [
        f"{split} samples",
        _mean([row.negative_potential for row in rows], ".4g"),
        _mean([row.positive_potential for row in rows], ".4g"),
        f"{ratio.mean:.4f}" if ratio else "–",
        _bounds(ratio, ".4f"),
        _mean([row.predicted_ratio for row in rows], ".4f"),
        _mean([row.energy_ratio for row in rows], ".4f"),
        str(len({row.seed for row in rows})),
    ]


DECOMPOSITION = (
    Column(
        "where",
        "width of the layer, or the limit of infinite width; the epoch of a training run",
        is_number=False,
    ),
    Column("samples", "the split of the samples that are pushed", is_number=False),
    Column("pairs", "which pairs push: by class, and by who shows the label", is_number=False),
    Column("push", "in standard deviations of the margin; above 0 towards sparsity"),
    Column("95 % interval", "Student's t over seeds"),
    Column("agreement", "share of samples whose margin has the sign of this push"),
    Column("number of pairs", "over all samples and seeds"),
    Column("seeds"),
)


def push_table(result: CheckResult | TrainResult) -> TextTable:
    """Return who pushes a sample, by relation and, of a training run, by epoch."""
    rows, direction = pushes_of(result)
    groups: dict[tuple[str, Split, Relation], list[PushRow]] = defaultdict(list)
    for row in one_limit(rows):
        if row.pairs:
            groups[layer_of(row), row.split, row.relation].append(row)
    return TextTable(
        "Who pushes a sample",
        DECOMPOSITION,
        [
            [layer, split, RELATIONS[relation], *_push_cells(group)]
            for (layer, split, relation), group in groups.items()
        ],
        (
            "A pair is a positive and its negative. Its push is what it adds to a sample's margin "
            f"of theorem 2 {DIRECTIONS[direction]}; the pushes of all relations add up to the "
            "margin. With the label: one of the pair shows the label that the sample shows.",
        ),
    )


def _push_cells(rows: Sequence[PushRow]) -> list[str]:
    pushes = [row.push for row in rows if row.push is not None]
    push = interval(pushes) if pushes else None
    return [
        f"{push.mean:+z.3f}" if push else "–",
        _bounds(push, "+z.3f"),
        _mean([row.agreement for row in rows if row.agreement is not None], ".3f"),
        f"{sum(row.pairs for row in rows):,}",
        str(len({row.seed for row in rows})),
    ]


def one_limit(rows: Sequence[PushRow]) -> Iterator[PushRow]:
    """The rows, widths in order and then the limit, which is the same for each width, once."""
    exact = sorted((row for row in rows if row.method == "exact"), key=lambda row: row.width)
    yield from exact
    widths = [row.width for row in rows if row.method != "exact"]
    yield from (row for row in rows if row.method != "exact" and row.width == min(widths))


def layer_of(row: PushRow) -> str:
    """Which layer is pushed: that of a width, or the limit; of a training run also when."""
    layer = f"n = {row.width:,}" if row.method == "exact" else "infinite width"
    if row.tau is None:
        return layer
    return f"layer {row.layer} ({layer}), epoch {row.epoch:,}, tau = {row.tau:.2f}"


def _mean(values: Sequence[float], form: str) -> str:
    return format(sum(values) / len(values), form) if values else "–"


def _bounds(found: Interval | None, form: str) -> str:
    if found is None:
        return "–"
    if found.low is None or found.high is None:
        return "one seed"
    return f"{found.low:{form}} to {found.high:{form}}"
