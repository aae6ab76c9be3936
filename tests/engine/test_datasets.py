"""Data sets: bundled and local files, verification, and errors that say what to do."""

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ffengine import datasets, download
from ffengine.datasets import DATASETS, DatasetError, digest_of, load, read_idx

RAW = Path(os.environ.get("FFLAB_TEST_MNIST", Path(__file__).parents[3] / "shared/data/MNIST/raw"))
needs_mnist = pytest.mark.skipif(not RAW.is_dir(), reason=f"the full MNIST is not at {RAW}; set FFLAB_TEST_MNIST to its raw folder")


def test_the_bundled_sample_is_balanced_and_verified() -> None:
    arrays = load("mnist-mini")
    assert arrays.x_train.shape == (6000, 1, 28, 28)
    assert np.bincount(arrays.y_train).tolist() == [600] * 10
    assert np.bincount(arrays.y_test).tolist() == [100] * 10
    assert digest_of(arrays) == DATASETS["mnist-mini"].digest
    with pytest.raises(ValueError, match="read-only"):
        arrays.x_train[0] = 0


@needs_mnist
def test_the_full_mnist_loads_from_a_data_root_gzipped_or_not(tmp_path: Path) -> None:
    (tmp_path / "zipped/MNIST").mkdir(parents=True)
    (tmp_path / "zipped/MNIST/raw").symlink_to(RAW)
    plain = tmp_path / "plain/MNIST/raw"
    plain.mkdir(parents=True)
    for path in RAW.glob("*.gz"):
        (plain / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    for root in ("zipped", "plain"):
        assert load("mnist", tmp_path / root).x_train.shape == (60_000, 1, 28, 28)


@needs_mnist
def test_the_bundled_sample_is_of_the_full_mnist(tmp_path: Path) -> None:
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "MNIST/raw").symlink_to(RAW)
    full, mini = load("mnist", tmp_path), load("mnist-mini")
    known = {image.tobytes() for image in full.x_train}
    assert all(image.tobytes() in known for image in mini.x_train)


@needs_mnist
def test_files_that_are_not_the_published_ones_are_refused(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST/raw"
    raw.parent.mkdir()
    shutil.copytree(RAW, raw)
    with pytest.raises(DatasetError, match="fashion-mnist: the files are not the published data"):
        load("fashion-mnist", tmp_path)


def test_without_files_and_network_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str, root: Path) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(download, "download", refused)
    with pytest.raises(DatasetError, match=r"mnist: not found below .*no route to host.*or set FFLAB_DATA"):
        load("mnist", tmp_path)


def test_torchvision_imports_beside_this_torch() -> None:
    assert download.torchvision().datasets.MNIST.__name__ == "MNIST"


def test_the_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FFLAB_DATA", str(tmp_path))
    assert datasets.data_root() == tmp_path
    with pytest.raises(DatasetError, match="'mist' is not known; choose one of mnist-mini"):
        load("mist")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x09abc", "holds 3 bytes of data where its header says 9"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01abcd", "not an IDX file"),
        (b"\x00\x00\x08\xff\x00", "not an IDX file"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "stem").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_idx(tmp_path, "stem")
    (tmp_path / "zipped.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_idx(tmp_path, "zipped")
