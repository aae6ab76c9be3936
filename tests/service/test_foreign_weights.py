"""`fflab weights convert`: a network trained elsewhere becomes a file that `fflab run` checks."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.commands import Fflab

CHECK = """kind: check
theorem: 1
at: {job: job_00000000000000000000000000000000, epoch: 1, layer: 1}
dataset: {name: digits}
samples: 60
batch_size: 60
seeds: [0]
methods: [exact]
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    file = tmp_path / "own.npz"
    shapes = {"fc1.weight": (12, 64), "fc1.bias": (12,), "fc2.weight": (7, 12), "fc2.bias": (7,)}
    np.savez(file, **{name: draw.normal(size=shape) for name, shape in shapes.items()})
    return file


def test_a_converted_network_is_listed_by_its_layers(
    fflab: Fflab, own: Path, tmp_path: Path
) -> None:
    to = tmp_path / "own.safetensors"
    ended = fflab("weights", "convert", str(own), str(to), "--data", "digits", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == {"layers": [[12, 65], [7, 13]], "bias": True, "file": str(to)}
    first = ("--layer", "fc1.weight,fc1.bias")
    ended = fflab("weights", "convert", str(own), str(to), "--data", "digits", *first)
    assert ended.out.endswith("12 x 65 (units x inputs, the last input the bias)\n")


def test_its_layer_is_checked_by_run(fflab: Fflab, own: Path, tmp_path: Path) -> None:
    to, spec, out = (tmp_path / name for name in ("own.safetensors", "check.yaml", "out.json"))
    spec.write_text(CHECK)
    assert fflab("weights", "convert", str(own), str(to), "--data", "digits").code == 0
    ended = fflab("run", str(spec), "--weights", str(to), "--device", "cpu", "-o", str(out))
    assert ended.code == 0, ended.err
    cells = json.loads(out.read_text())["cells"]
    assert {(cell["width"], cell["layer"], cell["samples"]) for cell in cells} == {(7, 1, 60)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "mnist-mini"), "fc1.weight has 64 inputs, but a sample of mnist-mini has 784"),
        (("--data", "nothing"), "'nothing' is not known"),
        (("--data", "digits", "--layer", "fc9"), "there is no tensor 'fc9'; there are fc1.bias"),
        (("--data", "digits", "--activation", "x"), "network: activation"),
        (("--data", "digits", "--inputs-first"), "cannot be told apart"),
    ],
)
def test_a_mistake_is_one_line(
    fflab: Fflab, own: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    ended = fflab("weights", "convert", str(own), str(tmp_path / "x.safetensors"), *options)
    assert ended.code == 2
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_converted_network_is_evaluated(fflab: Fflab, own: Path, tmp_path: Path) -> None:
    to = tmp_path / "own.safetensors"
    assert fflab("weights", "convert", str(own), str(to), "--data", "digits").code == 0
    ended = fflab("weights", "evaluate", str(to))
    assert ended.code == 0, ended.err
    assert ended.lines[0].split("\t") == ["partition", "layers", "method", "seed", "accuracy"]
    assert "dead units" in ended.lines[-1]
    found = json.loads(fflab("weights", "evaluate", str(to), "--json", "--ensembles").out)
    assert {row["layer"] for row in found["measures"]} == {0, 1}
    assert len(found["ensembles"]) == 2
    assert fflab("weights", "evaluate", str(own)).code == 2
