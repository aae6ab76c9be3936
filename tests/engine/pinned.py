"""A few short runs of the engine, whose figures are pinned: `python -m tests.engine.pinned` records
them for the present numerics version.

The figures of a run are kept column by column (so that a column that is new is no change of a
figure) in two forms. Summaries to some digits hold everywhere. Digests of every bit hold where
processor, torch and numpy are those of a recorded platform: on others products are added in another
order. One thread computes, so that the number of cores does not matter.
"""

import hashlib
import json
import math
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ffengine
from ffengine.results import CheckResult, TrainResult
from ffengine.spec import CheckSpec, TrainSpec
from ffengine.version import NUMERICS_VERSION

RECORD = Path(__file__).with_name("pinned_figures.json")
TABLES = ("curves", "accuracy", "measures", "ensembles", "baselines", "cells", "geometry")
DIGITS = 5
WITHIN = 5e-3  # of a column's size
SHARE_WITHIN = 1e-3
FLIPS = 2  # counts of a column that may be one more or less

SMALL: dict[str, Any] = {
    "dataset": {"train_samples": 240, "validation_samples": 40, "test_samples": 60},
    "network": {"widths": [24, 16], "normalize": "l2", "bias": True},
    "epochs": 2,
    "batch_size": 60,
    "seeds": [0, 1, 2],
    "monitor": {"samples": 80, "measures": ["gini", "kurtosis"]},
}
TRAIN: dict[str, dict[str, Any]] = {
    "difference, sgd": {},
    "softplus, adam": {
        "objective": {"name": "softplus"},
        "optimizer": {"name": "adam", "lr": 0.01},
    },
    "simultaneous": {"layers": "simultaneous", "optimizer": {"name": "adam", "lr": 0.01}},
    "sampled labels, silu": {
        "negatives": {"strategy": "sampled_label"},
        "network": {"widths": [24], "activation": "silu"},
    },
    "digits, evaluated": {
        "dataset": {
            "name": "digits",
            "train_samples": 240,
            "validation_samples": 40,
            "test_samples": 60,
        },
        "evaluation": {
            "linear_classifier": True,
            "ensembles": True,
            "baselines": ["cross_entropy"],
        },
    },
}
CHECK: dict[str, dict[str, Any]] = {
    f"theorem {theorem}": {
        "theorem": theorem,
        "widths": [32, 64],
        "samples": 240,
        "batch_size": 80,
        "seeds": [0, 1],
    }
    for theorem in (1, 2)
}

Figures = dict[str, dict[str, list[Any]]]  # run -> table.column -> values in the order of the rows


def computed() -> Figures:
    """The figures of all runs, computed by one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = {
            name: ffengine.train(TrainSpec.model_validate(SMALL | given), device="cpu")
            for name, given in TRAIN.items()
        }
        checks = {
            name: ffengine.check(CheckSpec.model_validate(given), device="cpu")
            for name, given in CHECK.items()
        }
    finally:
        torch.set_num_threads(before)
    return {name: dict(columns(result)) for name, result in (results | checks).items()}


def columns(result: TrainResult | CheckResult) -> Iterator[tuple[str, list[Any]]]:
    """The columns of a result's tables."""
    document = result.model_dump(mode="json")
    for table in TABLES:
        rows = document.get(table) or []
        for column in rows[0] if rows else ():
            yield f"{table}.{column}", [row[column] for row in rows]


def digest_of(values: list[Any]) -> str:
    """Of every bit of a column."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def summary_of(values: list[Any]) -> list[Any]:
    """How many values there are, and how many of them are null; of numbers the mean and the root of
    the mean square.
    """
    flat = list(flattened(values))
    numbers = [float(value) for value in flat if isinstance(value, int | float)]
    means = (
        (
            math.fsum(numbers) / len(numbers),
            math.sqrt(math.fsum(value * value for value in numbers) / len(numbers)),
        )
        if numbers
        else ()
    )
    return [len(flat), flat.count(None), *(float(f"{value:.{DIGITS}g}") for value in means)]


def flattened(values: Any) -> Iterator[Any]:
    """The single values of a column of lists."""
    if isinstance(values, list):
        for value in values:
            yield from flattened(value)
    else:
        yield values


def differs(summary: list[Any], values: list[Any]) -> bool:
    """Whether the summary of a column is another, beyond what processors may differ by: roundings,
    and a few samples on the other side.
    """
    present = summary_of(values)
    if summary[:2] != present[:2] or len(summary) != len(present):
        return True
    numbers = [value for value in flattened(values) if value is not None]
    counts = all(isinstance(value, int) for value in numbers)
    shares = all(isinstance(value, float) and 0 <= value <= 1 for value in numbers)
    slack = (
        WITHIN * summary[-1] + (FLIPS / len(numbers) if counts else SHARE_WITHIN if shares else 0.0)
        if numbers
        else 0.0
    )
    return any(
        abs(one - other) > slack for one, other in zip(summary[2:], present[2:], strict=True)
    )


def here() -> str:
    """What bits depend on beside the figures: the processor by a digest of its name, and the
    versions of the libraries.
    """
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    processor = hashlib.sha256((found[1] if found else platform.processor()).encode()).hexdigest()[
        :8
    ]
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{platform.machine()} {capability} processor {processor}, torch {torch.__version__}, "
        f"numpy {np.__version__}"
    )


def changes(record: dict[str, Any], figures: Figures, platform_name: str) -> list[str]:
    """What of the figures is not as it was recorded, a column a line."""
    exact = record["exact"].get(platform_name, {})
    found = []
    for run, table in record["summaries"].items():
        for column, summary in table.items():
            values = figures.get(run, {}).get(column)
            if values is None:
                found.append(f"{run}: {column} is gone")
            elif differs(summary, values):
                found.append(f"{run}: {column} was {summary}, is {summary_of(values)}")
            elif exact.get(run, {}).get(column, digest_of(values)) != digest_of(values):
                found.append(f"{run}: {column} has other bits")
    return found


def main() -> None:
    """Record the figures, beside those of other platforms.

    Ends with an error where they changed and the version did not.
    """
    records = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    figures = computed()
    known = records.get(NUMERICS_VERSION, {"summaries": {}, "exact": {}})
    if found := changes(known, figures, here()):
        sys.exit(
            "\n".join(
                [
                    *found,
                    "figures changed: first give NUMERICS_VERSION in ffengine/version.py another "
                    "value",
                ]
            )
        )
    summaries = {
        run: {column: summary_of(values) for column, values in table.items()}
        for run, table in figures.items()
    }
    exact = {
        run: {column: digest_of(values) for column, values in table.items()}
        for run, table in figures.items()
    }
    kept = {run: table | known["summaries"].get(run, {}) for run, table in summaries.items()}
    record = {"summaries": kept, "exact": known["exact"] | {here(): exact}}
    RECORD.write_text(as_text({NUMERICS_VERSION: record}))


def as_text(record: dict[str, Any]) -> str:
    """JSON with a column a line."""
    return (
        re.sub(
            r"\[[^\[\]]*\]", lambda found: " ".join(found[0].split()), json.dumps(record, indent=1)
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
