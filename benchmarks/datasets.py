"""`python -m benchmarks.datasets`: train on data sets that are not MNIST, as a newcomer would.

Ten data sets are made, uploaded to a folder of their own, and trained on twice: with default
settings, and after what refusals and findings advise. The table is written into
docs/howto/datasets.md; it takes a quarter of a minute on one core.
"""

import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import ffengine
from ffengine.arrays import DatasetError
from ffengine.datasets import Datasets
from ffengine.results import EpochRow, TrainResult
from ffengine.spec import TrainSpec

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "datasets.md"
BEGIN, END = "<!-- measured -->", "<!-- end -->"
ROUNDS = 4  # of following advice
SMALL: dict[str, Any] = {
    "network": {"widths": [64]},
    "epochs": 20,
    "batch_size": 40,
    "monitor": {"samples": 200},
}
# findings that say what to change; the others say how to read the figures
ADVISING = ("diverged", "overlay_covers_data", "accuracy_at_chance", "label_weak")

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
    codes: tuple[str, ...] = ()
    advice: str = ""


def clouds(
    random: np.random.Generator, counts: list[int], inputs: int, apart: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Normal clouds around random centres, one for each class, in the order of the classes."""
    y = np.repeat(np.arange(len(counts)), counts)
    centres = random.normal(size=(len(counts), inputs)) * apart
    return (centres[y] + random.normal(size=(len(y), inputs))).astype(np.float32), y


def moons(random: np.random.Generator) -> Arrays:
    """Two half circles that reach into each other."""
    y = np.arange(600) % 2
    angle = random.random(600) * np.pi
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], 1)
    x = np.where(y[:, None] == 0, upper, lower) + random.normal(size=(600, 2)) * 0.1
    return {"x": x.astype(np.float32), "y": y}


def five_features(random: np.random.Generator) -> Arrays:
    """As many classes as overlay can hold beside some inputs."""
    x, y = clouds(random, [200] * 3, 5, 2.0)
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


def thousands(random: np.random.Generator) -> Arrays:
    """Values in the thousands."""
    x, y = clouds(random, [100] * 4, 64, 2.0)
    return {"x": x * 1_000, "y": y}


def duplicates(random: np.random.Generator) -> Arrays:
    """Every sample ten times."""
    x, y = clouds(random, [20] * 4, 32, 2.0)
    return {"x": np.repeat(x, 10, axis=0), "y": np.repeat(y, 10)}


MADE = (
    Made("moons", "two moons: 2 inputs, 2 classes", moons),
    Made("five-features", "5 inputs, 3 classes", five_features),
    Made("hundred", "100 classes of 40 samples, 128 inputs", hundred_classes),
    Made("imbalanced", "50 to 1, 20 inputs", imbalanced),
    Made("bands-1", "pictures 16 x 16, 2 classes", lambda random: bands(random, 1, 2, 16)),
    Made("bands-3", "colour pictures 12 x 12, 4 classes", lambda random: bands(random, 3, 4, 12)),
    Made(
        "bands-4", "4 channels of floats to 180, 4 classes", lambda random: bands(random, 4, 4, 8)
    ),
    Made("kelvin", "64 inputs near 300, sorted by class", kelvin),
    Made("thousands", "64 inputs in the thousands", thousands),
    Made("duplicates", "every sample 10 times, 32 inputs", duplicates),
)


def main() -> None:
    """Make the data sets, train, print the table and write it into the page."""
    lines = [
        "| data set | settings | test accuracy | guessing | theorem 1 | theorem 2 | findings |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for line in rows(Datasets(Path(folder))):
            print(line, flush=True)
            lines.append(line)
    before, rest = PAGE.read_text().split(BEGIN)
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}")


def rows(datasets: Datasets) -> Iterator[str]:
    """The lines of the table: each data set by default, and with the advice followed."""
    for number, made in enumerate(MADE):
        archive = io.BytesIO()
        np.savez(archive, **made.make(np.random.default_rng(number)))  # type: ignore[arg-type]
        archive.seek(0)
        datasets.keep(made.name, archive, made.meaning)
        first = last = outcome({"name": made.name}, SMALL, datasets)
        for _ in range(ROUNDS):
            if (better := followed(last)) is None:
                break
            last = outcome(better["dataset"], better, datasets)
        yield row(made.meaning, first)
        if last is not first:
            yield row("", last)


def outcome(dataset: dict[str, Any], settings: dict[str, Any], datasets: Datasets) -> Outcome:
    """Train, and return how it ended."""
    spec = {**settings, "dataset": dataset}
    try:
        result = ffengine.train(TrainSpec.model_validate(spec), datasets=datasets)
    except DatasetError as error:
        return Outcome(spec, "refused", advice=str(error))
    except ffengine.Diverged as error:
        found = error.diagnostic
        return Outcome(spec, "diverged", codes=(found.code,), advice=found.suggestion)
    accuracy = next(
        one.accuracy for one in result.accuracy if one.layer is None and one.partition == "test"
    )
    labels = datasets.load(dataset["name"]).y_test
    return Outcome(
        spec,
        "ended",
        accuracy,
        float(np.bincount(labels).max() / len(labels)),
        ratio(result, lambda one: one.theorem1_ratio),
        ratio(result, lambda one: one.theorem2_ratio),
        tuple(found.code for found in result.diagnostics),
    )


def ratio(result: TrainResult, of: Callable[[EpochRow], float | None]) -> float | None:
    """The ratio of the positive samples after the last epoch."""
    return of([one for one in result.curves if one.split == "positive"][-1])


def followed(last: Outcome) -> dict[str, Any] | None:
    """The settings that the advice of a run leads to; None where it has none."""
    dataset, spec = last.spec["dataset"], last.spec
    codes = set(last.codes) & set(ADVISING)
    if "use append" in last.advice or "overlay_covers_data" in codes:
        return {**spec, "dataset": {**dataset, "labels": "append"}}
    if (
        codes
        and "preprocess" not in dataset
        and ("accuracy_at_chance" in codes or "preprocess" in last.advice)
    ):
        return {**spec, "dataset": {**dataset, "preprocess": "standardize"}}
    if "diverged" in codes:
        lr = spec.get("optimizer", {"lr": TrainSpec().optimizer.lr})["lr"] / 10
        return {**spec, "optimizer": {"name": "sgd", "lr": lr}}
    if "accuracy_at_chance" in codes:
        return {**spec, "epochs": 3 * spec["epochs"]}
    return None


def row(meaning: str, found: Outcome) -> str:
    """A line of the table."""
    given = {**found.spec["dataset"]}
    given.pop("name")
    if (epochs := found.spec["epochs"]) != SMALL["epochs"]:
        given["epochs"] = epochs
    if "optimizer" in found.spec:
        given["lr"] = found.spec["optimizer"]["lr"]
    settings = ", ".join(f"`{name}: {value}`" for name, value in given.items()) or "default"
    accuracy = found.ended if found.accuracy is None else f"{found.accuracy:.2f}"
    numbers = (
        "" if value is None else f"{value:.2f}"
        for value in (found.guessing, found.theorem1, found.theorem2)
    )
    said = ", ".join(f"`{code}`" for code in found.codes if code != "diverged")
    if found.ended == "refused":
        said = found.advice
    return f"| {meaning} | {settings} | {accuracy} | {' | '.join(numbers)} | {said} |"


if __name__ == "__main__":
    main()
