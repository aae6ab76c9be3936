"""Weights that another program trained: what is read, and what is refused."""

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ffengine import (
    Checkpoint,
    CheckSpec,
    LayerNames,
    TrainSpec,
    Weights,
    check,
    convert_weights,
    evaluate_weights,
    export_weights,
    import_weights,
    train,
)
from ffengine.spec import DatasetSpec, EvaluationSpec, MonitorSpec, NetworkSpec, TrainedWeights
from ffengine.training import EpochReport

DIGITS = DatasetSpec(name="digits")
INPUTS = 64


def network(bias: bool = True, widths: tuple[int, ...] = (12, 7)) -> nn.Sequential:
    torch.manual_seed(2)
    sizes = (INPUTS, *widths)
    layers = [nn.Linear(a, b, bias=bias) for a, b in zip(sizes, widths, strict=False)]
    return nn.Sequential(*[one for layer in layers for one in (layer, nn.ReLU())])


def saved(tensors: Mapping[str, torch.Tensor]) -> io.BytesIO:
    return io.BytesIO(safetensors.torch.save(dict(tensors)))


def npz(compressed: bool = False, **arrays: Any) -> io.BytesIO:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file


def converted(source: io.BytesIO, **options: Any) -> tuple[np.ndarray[Any, Any], ...]:
    return convert_weights(source, dataset=DIGITS, **options).layers


@pytest.mark.parametrize("bias", [True, False])
def test_a_network_of_pytorch_is_read_with_its_biases(bias: bool) -> None:
    net = network(bias)
    found = convert_weights(saved(net.state_dict()), dataset=DIGITS, network={"normalize": "l2"})
    for layer, module in zip(found.layers, (net[0], net[2]), strict=True):
        assert isinstance(module, nn.Linear)
        weight = module.weight.detach()
        expected = torch.cat([weight, module.bias[:, None].detach()], 1) if bias else weight
        assert np.array_equal(layer[0], expected.numpy())
    assert (found.spec.network.widths, found.spec.network.bias) == ((12, 7), bias)
    assert found.spec.network.normalize == "l2"
    again = import_weights(export_weights(found))
    assert all(map(np.array_equal, again.layers, found.layers))


def test_a_check_of_such_weights_is_that_of_the_layer_itself() -> None:
    net = network()
    weights = convert_weights(saved(net.state_dict()), dataset=DIGITS)
    spec = CheckSpec(
        theorem=2,
        at=TrainedWeights(job="job_" + "0" * 32, epoch=1, layer=0),
        dataset=DIGITS,
        samples=50,
        batch_size=50,
        seeds=(0,),
        methods=("exact",),
    )
    result = check(spec, trained=Checkpoint.of_weights(weights), trained_spec=weights.spec)
    assert {cell.width for cell in result.cells} == {12}
    assert {cell.epoch for cell in result.cells} == {1}


@pytest.mark.slow
def test_weights_are_evaluated_as_the_run_that_trained_them() -> None:
    spec = TrainSpec(
        dataset=DatasetSpec(name="digits", train_samples=200, test_samples=100),
        network=NetworkSpec(widths=(9, 8)),
        epochs=1,
        seeds=(0, 4),
        monitor=MonitorSpec(samples=50),
        evaluation=EvaluationSpec(ensembles=True, linear_classifier=True),
    )
    kept: list[Weights] = []

    def keep(report: EpochReport) -> Literal["run"]:
        kept.append(report.checkpoint.weights_of(spec, report.epoch))
        return "run"

    result = train(spec, on_epoch=keep)
    found = evaluate_weights(import_weights(export_weights(kept[-1])))
    assert found.accuracy == result.accuracy
    assert found.measures == result.measures
    assert found.ensembles == result.ensembles


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floats_are_read_as_pytorch_reads_them(dtype: torch.dtype) -> None:
    net = network().to(dtype)
    (first, _) = converted(saved(net.state_dict()))
    assert isinstance(net[0], nn.Linear)
    assert np.array_equal(first[0, :, :-1], net[0].weight.detach().float().numpy())


def test_an_npz_with_inputs_first_is_read_the_other_way_round() -> None:
    w, b = np.ones((INPUTS, 5)), np.arange(5.0)
    (layer,) = converted(npz(W1=w, b1=b), layout="in_out")
    assert np.array_equal(layer[0], np.column_stack([w.T, b]).astype(np.float32))
    (packed,) = converted(npz(compressed=True, W1=np.asfortranarray(w), b1=b), layout="in_out")
    assert np.array_equal(packed, layer)


def test_layers_are_ordered_by_their_numbers_and_named_ones_as_they_are_named() -> None:
    widths = tuple(range(2, 14))
    net = network(widths=widths)
    state = {f"layers.{k // 2}.{kind}": v for k in range(0, 24, 2) for kind, v in
             net[k].state_dict().items()}  # fmt: skip
    assert [len(layer[0]) for layer in converted(saved(state))] == list(widths)
    named = [LayerNames("layers.0.weight"), LayerNames("layers.1.weight", "layers.1.bias")]
    first, second = converted(saved(state), layers=named)
    assert not first[0, :, -1].any()
    assert second[0, :, -1].any()


def test_tensors_that_cannot_be_guessed_are_listed() -> None:
    state = {**network().state_dict(), "norm.running_mean": torch.ones(12)}
    with pytest.raises(ValueError, match=r"layers\)\. The file has .*norm.running_mean F32 12"):
        converted(saved(state))
    with pytest.raises(ValueError, match=r"no tensor 'fc1.weight'; there are 0.bias F32 12"):
        converted(saved(state), layers=[LayerNames("fc1.weight")])
    with pytest.raises(ValueError, match="takes 12 inputs, and the layer below has 7 units"):
        converted(saved(state), layers=[LayerNames("2.weight"), LayerNames("2.weight")])


def test_a_network_that_does_not_fit_the_data_is_refused_in_words() -> None:
    state = saved(network().state_dict())
    with pytest.raises(ValueError, match=r"0.weight has 64 inputs, but a sample of mnist-mini has"):
        convert_weights(state, dataset=DatasetSpec(name="mnist-mini"))
    with pytest.raises(ValueError, match="network: activation"):
        converted(state, network={"activation": "nothing"})


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.full((5, INPUTS), float("nan")), "not finite"),
        (torch.full((5, INPUTS), 1e300, dtype=torch.float64), "not finite"),
        (torch.ones(5, INPUTS, dtype=torch.int64), "is I64; expected floats"),
        (torch.ones(5, INPUTS, 3, 3), "cannot be told apart"),
        (torch.ones(1, INPUTS), "network: widths"),
    ],
)
def test_tensors_that_are_no_layer_are_refused(tensor: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        converted(saved({"0.weight": tensor}))


def written(header: object, data: bytes = b"", length: int | None = None) -> io.BytesIO:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return io.BytesIO(struct.pack("<Q", len(text) if length is None else length) + text + data)


def described(**changes: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16], **changes}}


@pytest.mark.parametrize(
    "file",
    [
        io.BytesIO(b""),
        io.BytesIO(b"\x80\x04pickle"),
        written(b"{}", length=2**63),
        written(b"{}", length=1),
        written(b"[" * 5000),
        written([1]),
        written(b"\xff\xfe"),
        written({"w": 3}, b"\0" * 16),
        written(described(shape=[2, -2]), b"\0" * 16),
        written(described(shape=[2, True]), b"\0" * 16),
        written(described(shape=[2**40, 2**40]), b"\0" * 16),
        written(described(shape="ab"), b"\0" * 16),
        written(described(shape=[2] * 9), b"\0" * 16),
        written(described(dtype="OBJ"), b"\0" * 16),
        written(described(dtype=["F32"]), b"\0" * 16),
        written(described(data_offsets=[0, 99]), b"\0" * 16),
        written(described(data_offsets=[16, 0]), b"\0" * 16),
        written(described(data_offsets=[0]), b"\0" * 16),
        written(described(), b"\0" * 8),
        written({"a\u0001": described()["w"]}, b"\0" * 16),
        written({f"t{k}": described()["w"] for k in range(1_001)}, b"\0" * 16),
        npz(w=np.array([object()])),
        io.BytesIO(b"PK\x03\x04 and no more"),
    ],
)
def test_hostile_files_are_refused_with_a_value_error(file: io.BytesIO) -> None:
    with pytest.raises(ValueError, match=r"."):
        converted(file)


def test_an_archive_of_hostile_members_is_refused() -> None:
    def with_member(name: str, content: bytes) -> io.BytesIO:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
        return file

    header = b"\x93NUMPY\1\0" + struct.pack("<H", 80)
    for name, content in (
        ("../w.npy", b""),
        ("w.pkl", b"\x80\x04"),
        ("w.npy", b"nothing"),
        ("w.npy", header + b"{'descr': '<f4', 'fortran_order': False, 'shape': (9, 9)}".ljust(80)),
        ("w.npy", header + b"{'descr': (".ljust(80)),
        ("w.npy", header + b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}".ljust(80)),
    ):
        with pytest.raises(ValueError, match=r"."):
            converted(with_member(name, content))


def test_a_bomb_is_refused_by_what_it_declares(monkeypatch: pytest.MonkeyPatch) -> None:
    file = npz(compressed=True, w=np.zeros((1_000, 1_000)))
    assert len(file.getvalue()) < 20_000
    monkeypatch.setattr("ffengine.foreign_weights.MAX_FILE_BYTES", 1_000_000)
    with pytest.raises(ValueError, match="would have 8,000,128 bytes"):
        converted(file)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_damage_is_anything_but_a_value_error(noise: bytes, at: int) -> None:
    for whole in (saved({"w": torch.ones(3, INPUTS)}), npz(w=np.ones((3, INPUTS)))):
        content = whole.getvalue()
        damaged = io.BytesIO(content[:at] + noise + content[at + len(noise) :])
        try:
            converted(damaged)
        except ValueError:
            continue
