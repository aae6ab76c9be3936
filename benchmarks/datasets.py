"""`python -m benchmarks.datasets`: train on data sets that are not MNIST, as a newcomer would.

Ten data sets, three of scikit-learn's and seven that are made, are uploaded to a folder of their
own and trained on with default settings, after what refusals, advice and findings say, and so with
an objective and an optimizer that are made for accuracy. The table is written into
docs/howto/datasets.md; it takes a quarter of a minute on one core.
"""

import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

import ffengine
from ffengine.advice import advice_on
from ffengine.arrays import DatasetError
from ffengine.availability import check_available
from ffengine.datasets import Datasets
from ffengine.results import EpochRow, TrainResult
from ffengine.spec import TrainSpec

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "datasets.md"
BEGIN, END = "<!-- measured -->", "<!-- end -->"
TABLES = Path(__file__).parent / "tables"
ROUNDS = 5  # of following advice
FOR_ACCURACY: dict[str, Any] = {
    "objective": {"name": "softplus"},
    "optimizer": {"name": "adam", "lr": 0.01},
}
SCALED = "-scaled"  # behind the name of an upload whose inputs were scaled one by one
SMALL: dict[str, Any] = {
    "network": {"widths": [64]},
    "epochs": 20,
    "batch_size": 40,
    "monitor": {"samples": 200},
}
Arrays = dict[str, npt.NDArray[Any]]


class Made(NamedTuple):
    """A data set, and what is special about it."""

    name: str
    meaning: str
    make: Callable[[np.random.Generator], Arrays]


class Outcome(NamedTuple):
    """How a run ended, in words and numbers; None where it has no such figure."""

    spec: dict[str, Any]
    ended: str
    accuracy: float | None = None
    guessing: float | None = None
    theorem1: float | None = None
    theorem2: float | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    suggestion: str = ""

    @property
    def codes(self) -> set[str]:
        """All that was said of it."""
        return {*self.before, *self.after}


def clouds(
    random: np.random.Generator, counts: list[int], inputs: int, apart: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Normal clouds around random centres, one for each class, in the order of the classes."""
    y = np.repeat(np.arange(len(counts)), counts)
    centres = random.normal(size=(len(counts), inputs)) * apart
    return (centres[y] + random.normal(size=(len(y), inputs))).astype(np.float32), y


def table(name: str) -> Arrays:
    """A table of scikit-learn's: quantities of each sample, then its class."""
    read = np.loadtxt(TABLES / f"{name}.csv", delimiter=",", skiprows=1)
    return {"x": read[:, :-1].astype(np.float32), "y": read[:, -1].astype(np.int64)}


def digits() -> Arrays:
    """The bundled digits as somebody would upload them: sorted by class, counts from 0 to 16."""
    there = Datasets(Path()).load("digits")
    x, y = np.concatenate(there[::2]), np.concatenate(there[1::2])
    order = np.argsort(y, kind="stable")
    return {"x": x[order, 0].astype(np.float32) * 16 / 255, "y": y[order]}


def five_features(random: np.random.Generator) -> Arrays:
    """As many classes as inputs, which an overlay would cover."""
    x, y = clouds(random, [120] * 5, 5, 2.0)
    return {"x": x, "y": y}


def hundred_classes(random: np.random.Generator) -> Arrays:
    """Many classes of few samples."""
    x, y = clouds(random, [40] * 100, 128, 2.0)
    return {"x": x, "y": y}


def imbalanced(random: np.random.Generator) -> Arrays:
    """One sample of the second class to 50 of the first."""
    x, y = clouds(random, [2_000, 40], 20, 1.0)
    return {"x": x, "y": y}


def bands(random: np.random.Generator, channels: int, classes: int, size: int) -> Arrays:
    """Pictures of noise with a bright band at the height of the class."""
    y = np.arange(400) % classes
    x = random.integers(0, 100, (400, channels, size, size))
    wide = size // classes
    for picture, label in zip(x, y, strict=True):
        picture[:, wide * label : wide * (label + 1)] += 80
    return {"x": x.astype(np.uint8 if channels != 4 else np.float32), "y": y}


def kelvin(random: np.random.Generator) -> Arrays:
    """Values that are far from 0 beside their differences."""
    x, y = clouds(random, [100] * 4, 64, 2.0)
    return {"x": x + np.float32(300), "y": y}


MADE = (
    Made("iris", "iris: 4 quantities, 3 classes", lambda _: table("iris")),
    Made("wine", "wine: 13 quantities from 0.1 to 1700, 3 classes", lambda _: table("wine")),
    Made("digits8", "digits 8 x 8, floats to 16, sorted by class", lambda _: digits()),
    Made("five-features", "5 inputs, 5 classes", five_features),
    Made("hundred", "100 classes of 40 samples, 128 inputs", hundred_classes),
    Made("imbalanced", "50 to 1, 20 inputs", imbalanced),
    Made("bands-1", "pictures 16 x 16, 2 classes", lambda random: bands(random, 1, 2, 16)),
    Made("bands-3", "colour pictures 12 x 12, 4 classes", lambda random: bands(random, 3, 4, 12)),
    Made(
        "bands-4", "4 channels of floats to 180, 4 classes", lambda random: bands(random, 4, 4, 8)
    ),
    Made("kelvin", "64 inputs near 300, sorted by class", kelvin),
)
HEAD = (
    "| data set | settings | test accuracy | guessing | theorem 1 | theorem 2 | said before | "
    "said after |",
    "|---|---|---:|---:|---:|---:|---|---|",
)


def main() -> None:
    """Make the data sets, train, print the table and write it into the page."""
    torch.set_num_threads(1)  # the layers are small, and sums are then the same on every machine
    lines = [*HEAD]
    with tempfile.TemporaryDirectory() as folder:
        for line in rows(Datasets(Path(folder))):
            print(line, flush=True)
            lines.append(line)
    before, rest = PAGE.read_text().split(BEGIN)
    measured = "\n".join(lines)
    PAGE.write_text(f"{before}{BEGIN}\n{measured}\n{END}{rest.split(END)[1]}")


def rows(datasets: Datasets) -> Iterator[str]:
    """The lines of the table: each data set by default, with the advice followed, for accuracy."""
    for number, made in enumerate(MADE):
        arrays = made.make(np.random.default_rng(number))
        upload(datasets, made.name, arrays)
        first = last = outcome({**SMALL, "dataset": {"name": made.name}}, datasets)
        for _ in range(ROUNDS):
            if (better := followed(last)) is None:
                break
            if better["dataset"]["name"].endswith(SCALED):
                x = arrays["x"]
                scaled = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
                upload(datasets, better["dataset"]["name"], {**arrays, "x": scaled})
            last = outcome(better, datasets)
        yield row(made.meaning, first)
        if last is not first:
            yield row("", last)
        best = outcome({**last.spec, **FOR_ACCURACY}, datasets)
        yield row("", best, "the same, for accuracy")


def upload(datasets: Datasets, name: str, arrays: Arrays) -> None:
    """Keep arrays as a data set; the same ones may come again."""
    archive = io.BytesIO()
    np.savez(archive, **arrays)  # type: ignore[arg-type]
    archive.seek(0)
    datasets.keep(name, archive)


def outcome(document: dict[str, Any], datasets: Datasets) -> Outcome:
    """Ask for advice, train, and return how it ended."""
    spec = TrainSpec.model_validate(document)
    before: tuple[str, ...] = ()
    try:
        check_available(spec, datasets)
        before = tuple(advice.code for advice in advice_on([spec], datasets))
        result = ffengine.train(spec, datasets=datasets)
    except DatasetError as error:
        return Outcome(document, "refused", suggestion=str(error))
    except ffengine.Diverged as error:
        found = error.diagnostic
        return Outcome(
            document, "diverged", before=before, after=(found.code,), suggestion=found.suggestion
        )
    accuracy = next(
        one.accuracy for one in result.accuracy if one.layer is None and one.partition == "test"
    )
    labels = datasets.load(spec.dataset.name).y_test
    return Outcome(
        document,
        "ended",
        accuracy,
        float(np.bincount(labels).max() / len(labels)),
        ratio(result, lambda one: one.theorem1_ratio),
        ratio(result, lambda one: one.theorem2_ratio),
        before,
        tuple(found.code for found in result.diagnostics),
    )


def ratio(result: TrainResult, of: Callable[[EpochRow], float | None]) -> float | None:
    """The ratio of the positive samples after the last epoch."""
    return of([one for one in result.curves if one.split == "positive"][-1])


def followed(last: Outcome) -> dict[str, Any] | None:
    """The settings that the advice of a run leads to; None where it has none."""
    spec, codes = last.spec, last.codes
    dataset = spec["dataset"]
    if "use append" in last.suggestion or "overlay_covers_data" in codes:
        return {**spec, "dataset": {**dataset, "labels": "append"}}
    if "one_input_dominates" in codes:
        return {**spec, "dataset": {**dataset, "name": dataset["name"] + SCALED}}
    may_standardize = "preprocess" not in dataset
    if may_standardize and ("inputs_large" in codes or "accuracy_at_chance" in codes):
        return {**spec, "dataset": {**dataset, "preprocess": "standardize"}}
    if last.ended == "diverged":
        lr = spec.get("optimizer", {"lr": TrainSpec().optimizer.lr})["lr"] / 10
        return {**spec, "optimizer": {"name": "sgd", "lr": lr}}
    return None


def row(meaning: str, found: Outcome, settings: str = "") -> str:
    """A line of the table; what was said before is not said again after."""
    accuracy = found.ended if found.accuracy is None else f"{found.accuracy:.2f}"
    numbers = (
        "" if value is None else f"{value:.2f}"
        for value in (found.guessing, found.theorem1, found.theorem2)
    )
    new = [code for code in found.after if code not in {"diverged", *found.before}]
    before, after = (", ".join(f"`{code}`" for code in codes) for codes in (found.before, new))
    if found.ended == "refused":
        before = found.suggestion
    cells = [meaning, settings or settings_of(found.spec), accuracy, *numbers, before, after]
    return f"| {' | '.join(cells)} |"


def settings_of(spec: dict[str, Any]) -> str:
    """What of a run is not as in the first one."""
    settings = {**spec["dataset"]}
    said = ["each input scaled"] if settings.pop("name").endswith(SCALED) else []
    if "optimizer" in spec:
        settings["lr"] = spec["optimizer"]["lr"]
    said += [f"`{name}: {value}`" for name, value in settings.items()]
    return ", ".join(said) or "default"


if __name__ == "__main__":
    main()
