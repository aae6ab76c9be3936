"""The headline of a job in lists: means over its seeds at the last epoch that all seeds have.

Rows are those of GET /v1/jobs/{id}/curves: one for each seed, layer, epoch and split of a training
run, or the cells of a check.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import Any, NamedTuple

from ffengine.results import AccuracyRow, EpochAccuracyRow, is_of_all_layers
from ffengine.spec import CheckSpec, ForecastSpec, RecordedSpec, StoredSpec, TrainSpec
from ffengine.theorems import DIRECTIONS

Row = Mapping[str, Any]
MINUS = "−"
SPLITS = (("positive", "+"), ("negative", "-"))
# the names of the figures, with a plain "-", as people type it
FIGURES = {
    "S+": "Hoyer sparsity of positive samples at the last epoch",
    "S-": "Hoyer sparsity of negative samples at the last epoch",
    "T1": "share of samples that satisfy theorem 1, of a check at its largest width",
    "T2+": "share of positive samples that satisfy theorem 2",
    "T2-": "share of negative samples that satisfy theorem 2",
    "C+": "Hoyer sparsity of positive samples at infinite width, of a forecast",
    "C-": "Hoyer sparsity of negative samples at infinite width, of a forecast",
    "accuracy": "accuracy on test samples, by the goodness of all layers",
    "train_accuracy": "accuracy on the monitored training samples at the last epoch, by the "
    "goodness of all layers; monitor.accuracy measures it",
    "validation_accuracy": "the same on the validation samples",
    "train_auc": "probability that a positive of the monitored training samples has more goodness "
    "than a negative, at the last epoch; monitor.accuracy measures it",
    "validation_auc": "the same on the validation samples",
}
NONE: Mapping[str, float] = MappingProxyType({})
EPOCHS_READ = 2  # the newest, which may be incomplete, and the one before


class Headline(NamedTuple):
    """The figures of a job in short, a sentence that explains them, and the figures by name."""

    text: str = ""
    meaning: str = ""
    figures: Mapping[str, float] = NONE


class RunFigures(NamedTuple):
    """What the runs of a study of one kind have that have succeeded: how many they are, and the
    smallest and the largest of each figure.
    """

    kind: str
    runs: int
    ranges: Mapping[str, tuple[float, float]]


# of those of the runs, what tells studies apart in one line
OF_STUDIES = ("T1", "S+", "T2+", "C+", "accuracy")
RUNS = {"train": "training run", "check": "check", "forecast": "forecast"}


def headline_of_study(found: Sequence[RunFigures]) -> Headline:
    """The headline of a study: the range of each figure over its runs. It has no figures by name:
    what a list is sorted and filtered by is of one run.
    """
    told = [one for one in found if one.ranges]
    if not told:
        return Headline()
    names = [name for name in OF_STUDIES if any(name in one.ranges for one in told)]
    meanings = "; ".join(f"{name}: {FIGURES[name]}" for name in names)
    return Headline(
        "; ".join(
            f"{one.runs:,} {RUNS.get(one.kind, one.kind)}{'' if one.runs == 1 else 's'}: "
            f"{', '.join(_range(name, *one.ranges[name]) for name in names if name in one.ranges)}"
            for one in told
        ),
        f"of the runs that have succeeded, from the smallest to the largest; of each run the mean "
        f"over its seeds. {meanings}",
    )


def _range(name: str, low: float, high: float) -> str:
    digits = 4 if name == "T1" else 3
    first, last = f"{low:.{digits}f}", f"{high:.{digits}f}"
    return f"{name} {first}" if first == last else f"{name} {first} to {last}"


def headline(
    spec: StoredSpec,
    rows: Sequence[Row],
    accuracies: Sequence[AccuracyRow] = (),
    monitored: Sequence[EpochAccuracyRow] = (),
) -> Headline:
    """The headline of a job; it is empty before anything is measured, and for a study, which has
    that of its runs: see `headline_of_study`.

    **Arguments:**

    - `accuracies`: of a training run that has succeeded, those after training.
    - `monitored`: those while it learnt, of all layers together at the last epochs.
    """
    if isinstance(spec, TrainSpec):
        found = _of_training(spec, newest_complete(rows), accuracies)
        return found._replace(figures={**found.figures, **_monitored(monitored)})
    if isinstance(spec, ForecastSpec):
        return _of_forecast(spec, newest_complete(rows))
    if isinstance(spec, RecordedSpec):
        return _of_recorded(newest_complete(rows))
    return _of_check(spec, widest(rows)) if isinstance(spec, CheckSpec) else Headline()


def newest_complete(rows: Sequence[Row]) -> list[Row]:
    """The rows of the newest epoch of the last layer that every seed has in every split."""
    places: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        places[int(row["layer"]), int(row["epoch"])].append(row)
    everyone = _sides(rows)
    return next(
        (found for _, found in sorted(places.items(), reverse=True) if _sides(found) == everyone),
        [],
    )


def widest(rows: Sequence[Row]) -> list[Row]:
    """The cells of the largest width that were computed by the exact method."""
    exact = [row for row in rows if row["method"] == "exact"]
    largest = max((row["width"] for row in exact), default=0)
    return [row for row in exact if row["width"] == largest]


def mean(rows: Iterable[Row], figure: str) -> float | None:
    """The mean of a figure over the rows that have it; None where no row has it."""
    values = [float(row[figure]) for row in rows if row.get(figure) is not None]
    return sum(values) / len(values) if values else None


def places_of_interest(spec: StoredSpec, newest: Row) -> Iterator[Row]:
    """The fields that identify the rows of a headline, to read these alone.

    They identify more rows than needed, or, in rare cases, too few: see `suffices`.

    **Arguments:**

    - `newest`: the job's newest row.
    """
    seeds = getattr(spec, "seeds", ())
    if isinstance(spec, TrainSpec):
        stage = next(layers for layers in spec.stages if int(newest["layer"]) in layers)
        measured = [epoch for epoch in range(int(newest["epoch"]) + 1) if spec.is_monitored(epoch)][
            -EPOCHS_READ:
        ]
        for seed, epoch, (split, _) in product(seeds, measured, SPLITS):
            yield {"seed": seed, "layer": stage[-1], "epoch": epoch, "split": split}
    elif isinstance(spec, ForecastSpec):
        # the last epoch may be fewer after the one before
        last = int(newest["epoch"])
        before = (last - 1) // spec.every_epochs * spec.every_epochs
        for seed, epoch, (split, _) in product(seeds, {before, last} - {-1}, SPLITS):
            yield {"seed": seed, "layer": 0, "epoch": epoch, "split": split}
    elif isinstance(spec, CheckSpec):
        widths = spec.widths if spec.at == "initialization" else (int(newest["width"]),)
        cells = {
            *product(seeds, [max(widths)]),
            *product(seeds[:1], widths),
        }  # seeds are checked one after the other
        for (seed, width), (split, _) in product(sorted(cells), SPLITS):
            yield {**newest, "seed": seed, "width": width, "split": split, "method": "exact"}


def suffices(spec: StoredSpec, rows: Sequence[Row]) -> bool:
    """Whether the rows suffice for the headline of all seeds; if not, all rows have to be read."""
    if isinstance(spec, TrainSpec | ForecastSpec):
        return {row["seed"] for row in newest_complete(rows)} == set(spec.seeds)
    return bool(widest(rows)) or (isinstance(spec, CheckSpec) and "exact" not in spec.methods)


def _sides(rows: Iterable[Row]) -> set[tuple[int, str]]:
    return {(int(row["seed"]), str(row["split"])) for row in rows}


def _of_training(
    spec: TrainSpec, rows: Sequence[Row], accuracies: Sequence[AccuracyRow]
) -> Headline:
    if not rows:
        return Headline()
    layer, epoch = rows[0]["layer"], rows[0]["epoch"]
    deep = len(spec.network.widths) > 1
    where = f"layer {layer}, epoch {epoch:,}" if deep else f"epoch {epoch:,}"
    found = _by_split(rows, {"S": "sparsity", "T2": "theorem2_ratio"})
    tested = [
        row.accuracy
        for row in accuracies
        if row.method == "goodness"
        and row.partition == "test"
        and is_of_all_layers(row, accuracies)
    ]
    if tested:
        found["accuracy"] = sum(tested) / len(tested)
    if not found:
        return Headline()
    explained = (
        f"S: Hoyer sparsity; T2: share of samples that satisfy theorem 2 "
        f"{DIRECTIONS['training_step']}; + of positive, − of negative samples"
    )
    further = "; accuracy: on test samples, by the goodness of all layers" if tested else ""
    return Headline(
        f"{where}: {_in_words(found)}",
        f"{_seeds(spec.seeds, rows)} at {where}. {explained}{further}",
        found,
    )


def _monitored(told: Sequence[EpochAccuracyRow]) -> dict[str, float]:
    """The means over seeds of what all layers together tell apart at the last epoch of each."""
    last: dict[tuple[str, int], EpochAccuracyRow] = {}
    for row in sorted(told, key=lambda one: one.epoch):
        last[row.partition, row.seed] = row
    found: dict[str, list[float]] = defaultdict(list)
    for (partition, _), row in last.items():
        for name in ("accuracy", "auc"):
            if (value := getattr(row, name)) is not None:
                found[f"{partition}_{name}"].append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def _of_recorded(rows: Sequence[Row]) -> Headline:
    if not rows or not (found := _by_split(rows, {"S": "sparsity"})):
        return Headline()
    where = f"layer {rows[0]['layer']}, epoch {rows[0]['epoch']:,}"
    return Headline(
        f"{where}: {_in_words(found)}",
        f"at {where}, recorded by another program. S: Hoyer sparsity; + of positive, − of negative "
        f"samples",
        found,
    )


def _by_split(rows: Sequence[Row], names: Mapping[str, str]) -> dict[str, float]:
    """The means of some fields of the rows, of each split."""
    means = {
        f"{name}{sign}": mean((row for row in rows if row["split"] == split), field)
        for name, field in names.items()
        for split, sign in SPLITS
    }
    return {name: value for name, value in means.items() if value is not None}


def _in_words(found: Mapping[str, float], digits: Mapping[str, int] = MappingProxyType({})) -> str:
    """Figures in one line; `digits` of a name without its sign are 3 unless they are given."""
    return " ".join(
        f"{name.replace('-', MINUS)} {value:.{digits.get(name.rstrip('+-'), 3)}f}"
        for name, value in found.items()
    )


def _of_forecast(spec: ForecastSpec, rows: Sequence[Row]) -> Headline:
    if not rows:
        return Headline()
    where = f"τ = {float(rows[0]['tau']):.3g}"
    found = _by_split(rows, {"C": "c", "T2": "theorem2_ratio"})
    if not found:
        return Headline()
    return Headline(
        f"{where}: {_in_words(found, {'T2': 2})}",
        f"{_seeds(spec.seeds, rows)} at {where}. C: Hoyer sparsity of infinitely many units; T2: "
        "share of samples that satisfy theorem 2 along the expected step; + of positive, "
        "− of negative samples",
        found,
    )


def _of_check(spec: CheckSpec, rows: Sequence[Row]) -> Headline:
    if not rows:
        return Headline()
    epoch, width = rows[0]["epoch"], rows[0]["width"]
    ratios = _by_split(rows, {f"T{spec.theorem}": "ratio"})
    # theorem 1 is of positive samples alone
    found = {name if spec.theorem == 2 else "T1": value for name, value in ratios.items()}
    if not found:
        return Headline()
    where = f"n = {width:,}" if epoch == 0 else f"epoch {epoch:,}, n = {width:,}"
    along = f" {DIRECTIONS[spec.along]}, + of positive, − of negative samples"
    signs = along if spec.theorem == 2 else ""
    explained = (
        f"T{spec.theorem}: share of samples that satisfy theorem {spec.theorem}{signs}, by "
        f"the exact margin"
    )
    return Headline(
        f"{where}: {_in_words(found, {f'T{spec.theorem}': 4})}",
        f"{_seeds(spec.seeds, rows)} at {where}. {explained}",
        found,
    )


def _seeds(asked: Sequence[int], rows: Iterable[Row]) -> str:
    there = len({row["seed"] for row in rows})
    counted = (
        f"{there} seed{'s' if there > 1 else ''}"
        if there == len(asked)
        else f"{there} of {len(asked)} seeds"
    )
    return f"mean over {counted}"
