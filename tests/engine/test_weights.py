"""Exported weights: what any safetensors reader sees, and that what comes back checks and computes
as the run did.
"""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ffengine
from ffengine.datasets import Datasets
from ffengine.spec import CheckSpec, TrainSpec
from ffengine.training import EpochReport
from ffengine.weights import Weights, export_weights, import_weights
from tests.examples import examples

SPEC = TrainSpec.model_validate(
    {
        "dataset": {"train_samples": 60, "test_samples": 10},
        "network": {"widths": [7, 5], "bias": True, "normalize": "l2"},
        "epochs": 2,
        "batch_size": 20,
        "seeds": [3, 5],
    }
)


def trained(spec: TrainSpec) -> Weights:
    last: list[EpochReport] = []
    ffengine.train(spec, on_epoch=last.append)
    return last[-1].checkpoint.weights_of(spec, last[-1].epoch)


def test_any_reader_sees_weights_and_biases_and_how_they_were_made() -> None:
    weights = trained(SPEC)
    data = export_weights(weights)
    tensors = safetensors.numpy.load(data)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "layers.0.weight": (2, 7, 784),
        "layers.0.bias": (2, 7),
        "layers.1.weight": (2, 5, 7),
        "layers.1.bias": (2, 5),
    }
    np.testing.assert_array_equal(tensors["layers.0.bias"], weights.layers[0][..., -1])
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert (header["epoch"], header["seeds"], TrainSpec.model_validate_json(header["spec"])) == (
        "2",
        "3,5",
        SPEC,
    )


@pytest.mark.parametrize("bias", [False, True])
def test_what_comes_back_is_what_went_out(bias: bool) -> None:
    spec = SPEC.model_copy(update={"network": SPEC.network.model_copy(update={"bias": bias})})
    weights = trained(spec)
    back = import_weights(export_weights(weights))
    assert (back.spec, back.epoch) == (spec, 2)
    for one, other in zip(back.layers, weights.layers, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_check_at_imported_weights_is_the_check_at_the_checkpoint() -> None:
    last: list[EpochReport] = []
    ffengine.train(SPEC, on_epoch=last.append)
    checkpoint = last[-1].checkpoint
    at = {"job": "job_" + "0" * 32, "epoch": 2, "layer": 1}
    spec = CheckSpec.model_validate(
        {
            "at": at,
            "samples": 40,
            "batch_size": 20,
            "methods": ["exact"],
            "seeds": [5],
            "dataset": {"train_samples": 60},
        }
    )
    imported = ffengine.Checkpoint.of_weights(
        import_weights(export_weights(checkpoint.weights_of(SPEC, 2)))
    )
    found = [
        ffengine.check(spec, trained=one, trained_spec=SPEC).cells for one in (checkpoint, imported)
    ]
    assert found[0] == found[1]


def test_of_a_checkpoint_file_no_torch_is_needed() -> None:
    last: list[EpochReport] = []
    ffengine.train(SPEC, on_epoch=last.append)
    weights = Weights.from_checkpoint(last[-1].checkpoint.to_bytes(), SPEC, 2)
    for one, other in zip(weights.layers, last[-1].checkpoint.weights, strict=True):
        assert torch.equal(torch.from_numpy(np.array(one)), other)
    with pytest.raises(ValueError, match="not a checkpoint"):
        Weights.from_checkpoint(b"nonsense", SPEC, 2)


def changed(**tensors: np.ndarray) -> bytes:
    data = export_weights(trained(SPEC))
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    return safetensors.numpy.save(
        safetensors.numpy.load(data) | {k.replace("_", "."): v for k, v in tensors.items()}, header
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "damaged"),
        (safetensors.numpy.save({"a": np.zeros(3, np.float32)}), "not a file that fflab exported"),
        (
            changed(layers_0_weight=np.zeros((2, 7, 784), np.float64)),
            "not a file that fflab exported",
        ),
        (changed(layers_1_weight=np.zeros((2, 5, 9), np.float32)), "layer 1 is float32"),
        (changed(layers_1_bias=np.zeros((2, 4), np.float32)), "not a file that fflab exported"),
        (changed(layers_0_weight=np.full((2, 7, 784), np.nan, np.float32)), "not finite"),
    ],
)
def test_files_that_do_not_fit_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_weights(data)


DATA = export_weights(
    Weights(SPEC, 2, tuple(np.ones(shape, np.float32) for shape in ((2, 7, 785), (2, 5, 8))))
)


@settings(max_examples=examples(200))
@given(st.integers(0, len(DATA) - 1), st.binary(min_size=1, max_size=20))
def test_no_damage_escapes_as_another_error(at: int, noise: bytes) -> None:
    try:
        back = import_weights(DATA[:at] + noise + DATA[at + len(noise) :])
    except ValueError:
        return
    assert back.layers[0].shape[:2] == (len(back.spec.seeds), back.spec.network.widths[0])


@pytest.mark.slow
def test_from_the_command_line_weights_are_written_and_checked(tmp_path: Path) -> None:
    from service.cli.local_run import run_here

    file = tmp_path / "weights.safetensors"
    local = functools.partial(run_here, datasets=Datasets(tmp_path), device="cpu", as_json=False)
    local(SPEC, output=file)
    assert import_weights(file.read_bytes()).spec == SPEC
    check = CheckSpec.model_validate(
        {"samples": 40, "batch_size": 20, "methods": ["exact"], "seeds": [3]}
    )
    local(check, output=tmp_path / "check.json", weights=file)
    cells = json.loads((tmp_path / "check.json").read_text())["cells"]
    assert {(cell["width"], cell["epoch"], cell["layer"]) for cell in cells} == {(7, 2, 0)}
