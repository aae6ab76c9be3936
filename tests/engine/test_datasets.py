"""Data sets: bundled and local files, verification, and errors that say what to do."""

import functools
import gzip
import hashlib
import http.server
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import ffengine
from ffengine import download
from ffengine.arrays import Archive, Arrays, DatasetError, digest_of
from ffengine.dataformats import (
    CIFAR10_FILES,
    CIFAR100_FILES,
    EMNIST_FILES,
    MNIST_FILES,
    read_idx,
    read_mnist,
)
from ffengine.datasets import DATASETS, Datasets, present_folder, verified
from ffengine.spec import TrainSpec


def test_the_bundled_sample_is_balanced_and_verified() -> None:
    arrays = Datasets.of_environment().load("mnist-mini")
    assert arrays.x_train.shape == (6000, 1, 28, 28)
    assert np.bincount(arrays.y_train).tolist() == [600] * 10
    assert np.bincount(arrays.y_test).tolist() == [100] * 10
    assert digest_of(arrays) == DATASETS["mnist-mini"].digest
    with pytest.raises(ValueError, match="read-only"):
        arrays.x_train[0] = 0


def test_the_other_bundled_one_is_as_its_facts_say() -> None:
    arrays = Datasets.of_environment().load("digits")
    assert arrays.x_train.shape == (1437, 1, 8, 8)
    assert arrays.x_test.shape == (360, 1, 8, 8)
    assert (arrays.x_train.min(), arrays.x_train.max()) == (0, 255)
    assert Datasets.of_environment().loaded("digits").digest == DATASETS["digits"].digest


def test_files_are_read_gzipped_or_not(tmp_path: Path) -> None:
    arrays = random_arrays((1, 28, 28))
    write_idx(tmp_path / "plain", MNIST_FILES, arrays)
    (tmp_path / "zipped").mkdir()
    for path in (tmp_path / "plain").iterdir():
        (tmp_path / "zipped" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    for folder in ("plain", "zipped"):
        same(read_mnist(tmp_path / folder), arrays)


def test_files_that_are_not_the_published_ones_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path / "FashionMNIST/raw", MNIST_FILES, random_arrays((1, 28, 28)))
    with pytest.raises(DatasetError, match="fashion-mnist: the files are not the published data"):
        Datasets(tmp_path).load("fashion-mnist")


def test_without_files_and_network_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(what: object, root: Path, folder: str) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(download, "download", refused)
    with pytest.raises(
        DatasetError, match=r"kmnist: not found below .*no route to host.*or set FFLAB_DATA"
    ):
        Datasets(tmp_path).load("kmnist")


@pytest.mark.slow
def test_torchvision_imports_beside_this_torch() -> None:
    assert download.torchvision().datasets.MNIST.__name__ == "MNIST"


def test_the_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FFLAB_DATA", str(tmp_path))
    assert Datasets.of_environment().root == tmp_path
    with pytest.raises(DatasetError, match="'mist' is not known; choose one of mnist-mini"):
        Datasets.of_environment().load("mist")


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


# Readers against files that are written here, byte for byte as their formats say


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, names: tuple[str, ...], arrays: Arrays) -> None:
    """Write the files of the MNIST family."""
    folder.mkdir(parents=True)
    for name, array in zip(names, arrays, strict=True):
        (folder / name).write_bytes(idx(array[:, 0] if array.ndim == 4 else array))


def small(name: str, folder: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """Load small files as if they were the data set of that name."""
    counts = tuple(np.bincount(arrays.y_train, minlength=10).tolist())
    facts = DATASETS[name]._replace(
        class_counts=counts, test_samples=len(arrays.y_test), digest=None
    )
    monkeypatch.setitem(DATASETS, name, facts)
    found = present_folder(facts, folder)
    assert found is not None
    assert facts.files is not None
    return verified(facts, facts.files.read(found)).arrays


def random_arrays(shape: tuple[int, ...]) -> Arrays:
    generator = np.random.default_rng(3)
    train, test = (generator.integers(0, 256, (n, *shape), dtype=np.uint8) for n in (30, 20))
    return Arrays(train, np.arange(30) % 10, test, np.arange(20) % 10)


def same(found: Arrays, expected: Arrays) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_kmnist_is_read_as_mnist_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = random_arrays((1, 28, 28))
    raw = tmp_path / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in zip(MNIST_FILES, arrays, strict=True):
        (raw / f"{name}.gz").write_bytes(gzip.compress(idx(array.squeeze())))
    same(small("kmnist", tmp_path, arrays, monkeypatch), arrays)


def test_emnist_digits_are_stood_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = random_arrays((1, 28, 28))
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in zip(EMNIST_FILES, arrays, strict=True):
        stored = np.stack([image[0].T for image in array]) if array.ndim == 4 else array
        (raw / name).write_bytes(idx(stored))
    same(small("emnist-digits", tmp_path, arrays, monkeypatch), arrays)


def test_cifar10_is_read_from_its_binary_version_in_colour_and_grey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = random_arrays((3, 32, 32))
    folder = tmp_path / "CIFAR10" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    batches = [
        (arrays.x_train[at : at + 6], arrays.y_train[at : at + 6]) for at in range(0, 30, 6)
    ] + [(arrays.x_test, arrays.y_test)]
    for name, (images, labels) in zip(CIFAR10_FILES, batches, strict=True):
        (folder / name).write_bytes(
            b"".join(
                bytes([label]) + image.tobytes()
                for image, label in zip(images, labels.tolist(), strict=True)
            )
        )
    same(small("cifar10", tmp_path, arrays, monkeypatch), arrays)
    grey = small("cifar10-grey", tmp_path, arrays, monkeypatch)
    for image, colour in zip(grey.x_train, arrays.x_train, strict=True):
        expected = 0.299 * colour[0].astype(float) + 0.587 * colour[1] + 0.114 * colour[2]
        assert np.abs(image[0] - expected).max() <= 0.5 + 1e-9


def write_cifar100(folder: Path, arrays: Arrays) -> None:
    """Write records of a group, a class, and pixels."""
    folder.mkdir(parents=True)
    parts = ((arrays.x_train, arrays.y_train), (arrays.x_test, arrays.y_test))
    for name, (images, labels) in zip(CIFAR100_FILES, parts, strict=True):
        (folder / name).write_bytes(
            b"".join(
                bytes([label // 5, label]) + image.tobytes()
                for image, label in zip(images, labels.tolist(), strict=True)
            )
        )


@pytest.mark.parametrize("folder", ["CIFAR100/cifar-100-binary", "CIFAR100"])
def test_cifar100_is_read_from_its_binary_version_and_its_colours_reach_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    generator = np.random.default_rng(4)
    train, test = (generator.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8) for n in (200, 100))
    arrays = Arrays(train, np.arange(200) % 100, test, np.arange(100))
    write_cifar100(tmp_path / folder, arrays)
    facts = DATASETS["cifar100"]
    assert (facts.classes, facts.shape, facts.test_samples) == (100, (3, 32, 32), 10_000)
    small_one = facts._replace(class_counts=(2,) * 100, test_samples=100)
    monkeypatch.setitem(DATASETS, "cifar100", small_one)
    found = present_folder(small_one, tmp_path)
    assert found is not None
    assert small_one.files is not None
    same(verified(small_one, small_one.files.read(found)).arrays, arrays)
    spec = TrainSpec.model_validate(
        {
            "dataset": {"name": "cifar100", "preprocess": "standardize"},
            "network": {
                "layers": [
                    {"kind": "conv", "channels": 100, "kernel": 4, "stride": 4},
                    {"kind": "pool", "size": 4},
                    {"kind": "dense", "units": 100},
                ],
                "init": "torch",
                "normalize": "instance",
            },
            "objective": {"name": "class_block"},
            "layers": "simultaneous",
            "epochs": 1,
            "batch_size": 50,
            "monitor": {"samples": 20},
        }
    )
    result = ffengine.train(spec, datasets=Datasets(tmp_path))
    assert {row.samples for row in result.accuracy} == {200, 100}
    assert {row.layer for row in result.curves} == {0, 1}


def test_damaged_cifar100_files_are_named(tmp_path: Path) -> None:
    files = DATASETS["cifar100"].files
    assert files is not None
    for content, message in (
        (b"x" * 3073, "not a number of records of 3074"),
        (bytes([0, 100]) + b"x" * 3072, "has label 100; CIFAR-100's are 0 to 99"),
        (b"", "holds 0 bytes"),
    ):
        (tmp_path / CIFAR100_FILES[0]).write_bytes(content)
        with pytest.raises(DatasetError, match=message):
            files.read(tmp_path)


def test_damaged_cifar_files_are_named(tmp_path: Path) -> None:
    files = DATASETS["cifar10"].files
    assert files is not None
    for content, message in (
        (b"x" * 3072, "not a number of records"),
        (bytes([10]) + b"x" * 3072, "has label 10"),
        (b"", "holds 0 bytes"),
    ):
        (tmp_path / CIFAR10_FILES[0]).write_bytes(content)
        with pytest.raises(DatasetError, match=message):
            files.read(tmp_path)


def test_svhn_is_read_from_matlab_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    savemat = pytest.importorskip(
        "scipy.io", reason="svhn needs scipy: pip install 'fflab[svhn]'"
    ).savemat
    arrays = random_arrays((3, 32, 32))
    folder = tmp_path / "SVHN"
    folder.mkdir()
    for name, images, labels in (
        ("train", arrays.x_train, arrays.y_train),
        ("test", arrays.x_test, arrays.y_test),
    ):
        one_based = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        savemat(folder / f"{name}_32x32.mat", {"X": images.transpose(2, 3, 1, 0), "y": one_based})
    same(small("svhn", tmp_path, arrays, monkeypatch), arrays)
    (folder / "test_32x32.mat").write_bytes(b"no MATLAB file " * 20)
    files = DATASETS["svhn"].files
    assert files is not None
    with pytest.raises(DatasetError, match="not a MATLAB 5 file"):
        files.read(folder)


def test_data_that_is_not_pinned_must_still_have_the_published_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = random_arrays((1, 28, 28))
    raw = tmp_path / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in zip(MNIST_FILES, arrays, strict=True):
        (raw / name).write_bytes(idx(array.squeeze()))
    with pytest.raises(DatasetError, match="kmnist: the files are not the published data"):
        Datasets(tmp_path).load("kmnist")


def test_an_archive_is_fetched_checked_and_unpacked(tmp_path: Path) -> None:
    """The path that cifar10 takes, over real HTTP."""
    served, root = tmp_path / "served", tmp_path / "root"
    (served / "cifar-10-batches-bin").mkdir(parents=True)
    (served / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(b"records")
    shutil.make_archive(str(served / "small"), "gztar", served, "cifar-10-batches-bin")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/small.tar.gz"
        md5 = hashlib.md5((served / "small.tar.gz").read_bytes(), usedforsecurity=False).hexdigest()
        download.download(Archive(url, md5), root, "CIFAR10")
        assert (root / "CIFAR10/cifar-10-batches-bin/test_batch.bin").read_bytes() == b"records"
        with pytest.raises((RuntimeError, OSError)):
            download.download(Archive(url, "0" * 32), tmp_path / "other", "CIFAR10")
        server.shutdown()
    assert not (tmp_path / "other/CIFAR10/cifar-10-batches-bin").exists()
