"""What docs/numerics.md says of bits: the same whatever else runs, and within rounding for other
chunks and thread counts.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

import ffengine
from ffengine import evaluation, margins
from ffengine.results import CheckCell, EpochRow, TrainResult
from ffengine.spec import CheckSpec, TrainSpec

TRAIN = TrainSpec.model_validate(
    {
        "dataset": {"train_samples": 700, "validation_samples": 100, "test_samples": 150},
        "network": {"widths": [40, 30], "normalize": "layer", "bias": True},
        "optimizer": {"name": "adam", "lr": 0.01},
        "negatives": {"strategy": "sampled_label"},
        "evaluation": {"linear_classifier": True, "ensembles": True},
        "epochs": 2,
        "batch_size": 90,
        "seeds": [1, 2],
        "monitor": {"samples": 300, "measures": ["gini", "kurtosis", "spectral_norm", "weights"]},
    }
)
CHECK = CheckSpec.model_validate(
    {"widths": [50, 90], "samples": 900, "batch_size": 300, "seeds": [1]}
)


@pytest.fixture
def busy() -> Iterator[None]:
    """Other products in this process meanwhile."""
    done = threading.Event()

    def work() -> None:
        x = torch.randn(300, 300)
        while not done.is_set():
            x = torch.tanh(x @ x)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    done.set()
    thread.join()


def figures(result: TrainResult) -> tuple[object, ...]:
    return result.curves, result.accuracy, result.measures, result.ensembles


@pytest.fixture(scope="module")
def undisturbed() -> TrainResult:
    return ffengine.train(TRAIN)


@pytest.mark.slow
@pytest.mark.usefixtures("busy")
def test_what_else_runs_changes_no_bit(undisturbed: TrainResult) -> None:
    torch.manual_seed(99)
    torch.rand(7)  # nor does the state of torch's own generator
    assert figures(ffengine.train(TRAIN)) == figures(undisturbed)


def near(one: EpochRow | CheckCell, other: EpochRow | CheckCell) -> None:
    """Alike up to rounding: figures close, and shares of samples off by one or two that were
    undecided or on a kink.
    """
    for name, value in one.model_dump().items():
        also = getattr(other, name)
        if isinstance(value, float):
            assert value == pytest.approx(also, rel=2e-3, abs=2.5 / one.samples), name
        elif name in (
            "satisfied",
            "undecided",
            "theorem1_undecided",
            "theorem2_undecided",
            "dead_units",
            "live",
        ):
            assert abs(value - also) <= 2, name
        else:
            assert value == also, name


@pytest.mark.slow
def test_the_pieces_of_an_evaluation_change_no_decision(
    monkeypatch: pytest.MonkeyPatch, undisturbed: TrainResult
) -> None:
    monkeypatch.setattr(evaluation, "CHUNK_SAMPLES", 37)
    other = ffengine.train(TRAIN)
    assert other.curves == undisturbed.curves
    assert [row.correct for row in other.accuracy] == [row.correct for row in undisturbed.accuracy]
    for one, also in zip(other.measures, undisturbed.measures, strict=True):
        assert (one.dead_samples, one.dead_units) == (also.dead_samples, also.dead_units)
        assert one.sparsity == pytest.approx(also.sparsity, rel=1e-6)


@pytest.mark.slow
def test_the_blocks_of_a_check_stay_within_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ffengine.check(CHECK)
    monkeypatch.setattr(margins, "HELD_BYTES", 900 * 4 * 17)
    monkeypatch.setattr(margins, "CHUNK_ELEMENTS", 1000)
    for one, other in zip(ffengine.check(CHECK).cells, whole.cells, strict=True):
        near(one, other)


PROGRAM = """
import json, sys, torch, ffengine
from ffengine.spec import CheckSpec, TrainSpec
torch.set_num_threads(int(sys.argv[1]))
train = TrainSpec.model_validate_json(sys.argv[2])
check = CheckSpec.model_validate_json(sys.argv[3])
result = ffengine.train(train)
cells = ffengine.check(check).cells
print(json.dumps({"threads": result.provenance.threads,
                  "curves": [row.model_dump() for row in result.curves],
                  "cells": [cell.model_dump() for cell in cells]}))
"""


def computed_with(threads: int) -> dict[str, list[dict[str, object]]]:
    spec = TRAIN.model_copy(
        update={"negatives": ffengine.TrainSpec().negatives}
    )  # sampling amplifies rounding to other labels
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        str(threads),
        spec.model_dump_json(),
        CHECK.model_dump_json(),
    ]
    found: dict[str, list[dict[str, object]]] = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )
    return found


@pytest.mark.soak
def test_another_number_of_threads_stays_within_rounding_and_is_recorded() -> None:
    one, two = computed_with(1), computed_with(2)
    assert (one["threads"], two["threads"]) == (1, 2)
    for row, other in zip(one["curves"], two["curves"], strict=True):
        near(EpochRow.model_validate(row), EpochRow.model_validate(other))
    for cell, also in zip(one["cells"], two["cells"], strict=True):
        near(CheckCell.model_validate(cell), CheckCell.model_validate(also))
