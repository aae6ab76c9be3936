"""Baselines of a training run: how each was trained and chosen, in words and as a table."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from ffengine.intervals import interval_of
from ffengine.results import BaselineRow, Interval, TrainResult
from service.results.shares import share, with_interval
from service.results.text_tables import Column, TextTable

COLUMNS = (
    Column("trained by", is_number=False),
    Column("optimiser", is_number=False),
    Column("learning rate", "that of each seed", is_number=False),
    Column("chosen", "how the learning rate and the weights were chosen", is_number=False),
    Column("epochs", "epochs after which the last layer's weights were kept, of those trained"),
    Column("batch"),
    Column("test accuracy", "mean over seeds with its 95 % interval"),
    Column("readouts of layers", "test accuracy of each layer's own linear readout, first to last"),
    Column("S", "mean over seeds on test samples, of each layer"),
)
UNTUNED = (
    "A learning rate that is not tuned was not chosen for that way of training, so that its "
    "accuracy says little against it; rates of a baseline are tried on the validation samples."
)


def baselines_of(result: TrainResult) -> list[list[BaselineRow]]:
    """The rows of each baseline, in the order of the spec."""
    found: dict[tuple[int, str], list[BaselineRow]] = defaultdict(list)
    for row in result.baselines:
        found[row.place, row.baseline].append(row)
    return list(found.values())


def names_of(baselines: Sequence[Sequence[BaselineRow]]) -> list[str]:
    """A name for each baseline; two of one name have their optimiser and how they are chosen."""
    short = [rows[0].baseline for rows in baselines]
    alike = Counter(short)
    longer = [
        name if alike[name] == 1 else f"{name} ({_optimizer(rows[0])}, {_told_apart(rows[0])})"
        for name, rows in zip(short, baselines, strict=True)
    ]
    again = Counter(longer)
    return [
        name if again[name] == 1 else f"{name}, no. {rows[0].place + 1}"
        for name, rows in zip(longer, baselines, strict=True)
    ]


def how_chosen(row: BaselineRow) -> str:
    """How the learning rate was chosen: tuned or not, and on what."""
    if row.tuned:
        found = f"best of {len(row.trials)} rates on validation"
    else:
        found = "given, not tuned" if row.own_optimizer else "the run's own, not tuned"
    return f"{found}; best epoch on validation" if row.select == "best_validation" else found


def rows_on_test(rows: Sequence[BaselineRow], layer: int | None = None) -> list[BaselineRow]:
    """The rows of test samples, of one layer or of all."""
    return [row for row in rows if row.partition == "test" and layer in (None, row.layer)]


def accuracy_of(rows: Sequence[BaselineRow]) -> Interval | None:
    """The test accuracy of a baseline over seeds."""
    return interval_of(rows_on_test(rows, 0), "accuracy")


def baseline_table(result: TrainResult) -> TextTable:
    """Return what each baseline is and what it reaches, after Forward-Forward itself."""
    baselines = baselines_of(result)
    rows = [_cells(name, rows) for name, rows in zip(names_of(baselines), baselines, strict=True)]
    if rows and (own := own_accuracy(result)):
        rows.insert(0, ["Forward-Forward", *["–"] * 5, with_interval(own), "–", "–"])
    return TextTable("Beside other ways of training", COLUMNS, rows, list(_notes(baselines)))


def own_accuracy(result: TrainResult) -> Interval | None:
    """The test accuracy of the run itself, by the goodness of all layers."""
    return interval_of(
        [
            row
            for row in result.accuracy
            if row.method == "goodness" and row.partition == "test" and result.is_of_all_layers(row)
        ],
        "accuracy",
    )


def _cells(name: str, rows: Sequence[BaselineRow]) -> list[str]:
    layers = sorted({row.layer for row in rows})
    of_last = rows_on_test(rows, layers[-1])
    first = of_last[0]
    found = accuracy_of(rows)
    accuracy = with_interval(found) if found else "not finite" if first.diverged else "–"
    readouts = [_mean(rows_on_test(rows, layer), "layer_accuracy") for layer in layers]
    return [
        name,
        _optimizer(first),
        rates_in_words(of_last),
        how_chosen(first),
        _epochs(of_last),
        f"{first.batch_size:,}" if first.batch_size else "the run's",
        accuracy,
        "–" if "–" in readouts else ", ".join(readouts),
        ", ".join(_sparsity(rows_on_test(rows, layer)) for layer in layers),
    ]


def rates_in_words(rows: Sequence[BaselineRow]) -> str:
    """The learning rates of seeds: `0.003 (2 seeds), 0.01 (1 seed)`; one alone where all agree."""
    found = Counter(row.lr for row in rows)
    if None in found:
        return "the run's"
    if len(found) == 1:
        return f"{next(iter(found)):g}"
    return ", ".join(
        f"{lr:g} ({count} seed{'s' if count > 1 else ''})" for lr, count in sorted(found.items())
    )


def _epochs(rows: Sequence[BaselineRow]) -> str:
    kept = sorted({row.epoch for row in rows if row.epoch is not None})
    trained = rows[0].epochs
    if not kept or trained is None:
        return "the run's"
    some = f"{kept[0]:,}" if len(kept) == 1 else f"{kept[0]:,} to {kept[-1]:,}"
    return some if kept == [trained] else f"{some} of {trained:,}"


def _mean(rows: Sequence[BaselineRow], name: str) -> str:
    found = interval_of(rows, name)
    return share(found.mean) if found else "–"


def _sparsity(rows: Sequence[BaselineRow]) -> str:
    found = interval_of(rows, "sparsity")
    return f"{found.mean:.3f}" if found else "–"


def _optimizer(row: BaselineRow) -> str:
    return row.optimizer or "the run's"


def _told_apart(row: BaselineRow) -> str:
    return "tuned" if row.tuned else "not tuned"


def _notes(baselines: Sequence[Sequence[BaselineRow]]) -> Iterator[str]:
    if any(not rows[0].tuned for rows in baselines):
        yield UNTUNED
    for name, rows in zip(names_of(baselines), baselines, strict=True):
        if rows[0].trials:
            yield f"{name} tried the learning rates {', '.join(_tried(rows_on_test(rows, 0)))}."


def _tried(rows: Sequence[BaselineRow]) -> Iterator[str]:
    """Each learning rate with its accuracy on the validation samples, mean over seeds."""
    for trials in zip(*(row.trials for row in rows), strict=True):
        found = [trial.accuracy for trial in trials if trial.accuracy is not None]
        lost = len(trials) - len(found)
        mean = f"{share(sum(found) / len(found), 1)} on validation" if found else ""
        diverged = f"not finite in {lost} of {len(trials)} seeds" if lost else ""
        yield f"{trials[0].lr:g} ({', '.join(filter(None, (mean, diverged)))})"
