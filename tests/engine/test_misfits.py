"""What does not fit together is refused with field and reason, before anything is computed."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import ffengine
from ffengine import checkpoint, uploads
from ffengine.arrays import DatasetError
from ffengine.checkpoint import Checkpoint
from ffengine.datasets import Datasets
from ffengine.spec import CheckSpec, TrainSpec

SMALL = {
    "dataset": {"name": "digits", "train_samples": 100, "test_samples": 50},
    "network": {"widths": [16]},
}
TRAINED = {
    "dataset": {"name": "digits"},
    "network": {"widths": [16, 16]},
    "epochs": 4,
    "seeds": [0, 1],
}
AT = {"job": "job_" + "a" * 32, "epoch": 4}


def test_tf32_is_refused_where_no_gpu_has_units_for_it() -> None:
    spec = TrainSpec.model_validate({**SMALL, "epochs": 1, "precision": "tf32"})
    with pytest.raises(
        ValueError, match="precision: tf32 needs a GPU, this is cpu; ask for float32 or bf16"
    ):
        ffengine.train(spec, device="cpu")


def test_a_checkpoint_of_another_format_is_told_from_a_damaged_one() -> None:
    spec = TrainSpec.model_validate({**SMALL, "epochs": 1})
    found: list[Checkpoint] = []
    ffengine.train(spec, device="cpu", on_epoch=lambda report: found.append(report.checkpoint))
    data = found[-1].to_bytes()
    tensors = safetensors.torch.load(data)
    state = json.loads(tensors["state"].numpy().tobytes()) | {"format": checkpoint.SCALED + 1}
    tensors["state"] = torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)
    with pytest.raises(
        ValueError, match=f"format {checkpoint.SCALED + 1}, expected {checkpoint.FORMAT}"
    ):
        Checkpoint.from_bytes(safetensors.torch.save(tensors))
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        Checkpoint.from_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("changes", "at", "trained", "message"),
    [
        ({}, {"layer": 2}, {}, "at.layer: 2 asked, but the job's network has layers 0 to 1"),
        ({}, {"epoch": 5}, {}, "at.epoch: 5 was not measured by the job; it has every 1 up to 4"),
        ({}, {"epoch": 3}, {"monitor": {"every_epochs": 2}}, "at.epoch: 3 was not measured"),
        ({"seeds": [0, 7]}, {}, {}, r"seeds: \[7\] were not trained by the job; it has \[0, 1\]"),
        (
            {"dataset": {"name": "mnist-mini"}},
            {},
            {},
            "does not fit the inputs of the job's digits: 784 inputs",
        ),
        (
            {"methods": ["infinite_width"]},
            {},
            {"network": {"widths": [16, 16], "bias": True}},
            "without bias",
        ),
    ],
)
def test_weights_that_a_job_does_not_have_are_refused_with_the_field(
    changes: dict[str, object], at: dict[str, object], trained: dict[str, object], message: str
) -> None:
    check = {
        "theorem": 1,
        "dataset": {"name": "digits"},
        "samples": 100,
        "seeds": [0],
        "at": AT | at,
        **changes,
    }
    spec = CheckSpec.model_validate(check)
    with pytest.raises(ValueError, match=message):
        spec.refuse_misfit(TrainSpec.model_validate(TRAINED | trained), Datasets.of_environment())


def test_a_check_of_fresh_weights_fits_every_job() -> None:
    spec = CheckSpec.model_validate({"dataset": {"name": "digits"}, "samples": 100, "seeds": [9]})
    spec.refuse_misfit(TrainSpec.model_validate(TRAINED), Datasets.of_environment())


def test_arrays_of_an_upload_that_are_gone_or_damaged_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    images = np.arange(200 * 4, dtype=np.uint8).reshape(200, 4)
    np.savez(path, x=images, y=np.arange(200) % 4)
    with path.open("rb") as file:
        uploads.keep("mine", file, tmp_path, "")
    [arrays] = tmp_path.rglob("arrays.npz")
    arrays.write_bytes(arrays.read_bytes()[:100])
    with pytest.raises(DatasetError, match=r"mine: .*arrays\.npz cannot be read"):
        uploads.arrays_of("mine", tmp_path)
    arrays.unlink()
    with pytest.raises(DatasetError, match=r"mine: .*arrays\.npz cannot be read \(.*No such file"):
        uploads.arrays_of("mine", tmp_path)


def test_an_archive_packed_as_numpy_does_not_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((4, 4), np.uint8), y=np.arange(4))
    packed = tmp_path / "bzip2.npz"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with (
        packed.open("rb") as file,
        pytest.raises(DatasetError, match="encrypted or packed as numpy does not"),
    ):
        uploads.keep("mine", file, tmp_path, "")


def test_a_download_that_leaves_no_files_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ffengine.download.download", lambda *_: None)
    with pytest.raises(DatasetError, match="kmnist: the download left no files below"):
        Datasets(tmp_path).read("kmnist")
