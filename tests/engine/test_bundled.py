"""All of MNIST comes with the package: its bits, its decoded copy, and what may befall that."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ffengine import bundled
from ffengine.arrays import Arrays, digest_of
from ffengine.bundled import copy_path, mapped_copy, read_bundled, write_copy
from ffengine.datasets import DATASETS, Datasets
from ffengine.input_figures import measured

# of the arrays that the four downloaded files hold: stored results name it
DOWNLOADED = "77eb540ab17a9c2897c208e56c321ce09d0d354bce2865c85d9db1d64ede1521"
COPY = f"mnist-{DOWNLOADED[:16]}.npz"


@pytest.fixture(scope="module")
def mnist() -> Arrays:
    return read_bundled("mnist")


def place(folder: Path) -> Datasets:
    return Datasets(folder / "data", folder / "datasets", folder / "cache")


@pytest.mark.slow
def test_it_is_what_is_downloaded_and_smaller(mnist: Arrays) -> None:
    assert digest_of(mnist) == DATASETS["mnist"].digest == DOWNLOADED
    assert np.bincount(mnist.y_train).tolist() == list(DATASETS["mnist"].class_counts)
    assert (bundled.FOLDER / "mnist.npz").stat().st_size < 10_000_000


@pytest.mark.slow
def test_its_figures_are_those_that_measuring_gives(mnist: Arrays) -> None:
    said = DATASETS["mnist"].figures
    assert said is not None
    for field, value in measured(mnist):
        assert getattr(said, field) == pytest.approx(value, rel=1e-12), field


def test_the_sample_is_of_it(mnist: Arrays) -> None:
    mini = Datasets.of_environment().load("mnist-mini")
    for full, small, per_class in (
        ((mnist.x_train, mnist.y_train), (mini.x_train, mini.y_train), 600),
        ((mnist.x_test, mnist.y_test), (mini.x_test, mini.y_test), 100),
    ):
        first = [np.flatnonzero(full[1] == label)[:per_class] for label in range(10)]
        chosen = np.sort(np.concatenate(first))
        np.testing.assert_array_equal(full[0][chosen], small[0])
        np.testing.assert_array_equal(full[1][chosen], small[1])


@pytest.mark.slow
def test_a_fresh_machine_loads_it_and_the_next_process_maps_its_copy(tmp_path: Path) -> None:
    for _ in range(2):
        loaded = place(tmp_path).read("mnist")
        assert loaded.digest == DOWNLOADED
        assert isinstance(loaded.arrays.x_train, np.memmap)
        assert loaded.arrays.y_train.flags.aligned
        assert not any(array.flags.writeable for array in loaded.arrays)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [COPY]
    assert (tmp_path / "cache").stat().st_mode & 0o77 == 0


@pytest.mark.slow
def test_a_copy_is_mapped_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path).read("mnist")
    monkeypatch.setattr("ffengine.datasets.read_bundled", lambda _name: pytest.fail("decoded"))
    assert place(tmp_path).read("mnist").digest == DOWNLOADED


def truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(30_000_000)


def with_another_pixel(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(20_000_000)
        file.write(b"\x07" * 9)


def of_zeros(path: Path) -> None:
    path.write_bytes(bytes(55_441_002))  # as some file systems leave it after a loss of power


@pytest.mark.slow
@pytest.mark.parametrize("damage", [Path.unlink, truncated, with_another_pixel, of_zeros])
def test_a_copy_that_is_gone_or_damaged_is_made_anew(tmp_path: Path, damage: object) -> None:
    place(tmp_path).read("mnist")
    damage(tmp_path / "cache" / COPY)  # type: ignore[operator]
    for _ in range(2):
        assert place(tmp_path).read("mnist").digest == DOWNLOADED
    copy = mapped_copy(tmp_path / "cache" / COPY)
    assert copy is not None
    assert digest_of(copy) == DOWNLOADED


@pytest.mark.slow
def test_a_mapped_copy_outlives_its_file(tmp_path: Path) -> None:
    arrays = place(tmp_path).read("mnist").arrays
    (tmp_path / "cache" / COPY).unlink()
    assert digest_of(arrays) == DOWNLOADED


@pytest.mark.slow
@pytest.mark.parametrize("cache", [None, Path("/proc/fflab/cache"), Path("/dev/null/cache")])
def test_where_nothing_can_be_written_it_is_decoded(tmp_path: Path, cache: Path | None) -> None:
    loaded = Datasets(tmp_path, cache=cache).read("mnist")
    assert loaded.digest == DOWNLOADED
    assert not isinstance(loaded.arrays.x_train, np.memmap)


def test_a_full_disk_leaves_no_half_of_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist: Arrays
) -> None:
    def full(file: object, **_arrays: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert not write_copy(mnist, tmp_path / COPY)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_removed_once_it_is_old(tmp_path: Path, mnist: Arrays) -> None:
    old, new = tmp_path / f"{bundled.DRAFT}old", tmp_path / f"{bundled.DRAFT}new"
    for draft in (old, new):
        draft.write_bytes(b"half")
    os.utime(old, (1, 1))
    assert write_copy(mnist, tmp_path / COPY)
    assert {path.name for path in tmp_path.iterdir()} == {COPY, new.name}


@pytest.mark.slow
def test_processes_that_begin_at_once_all_have_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ffengine.datasets import Datasets; "
        "print(Datasets(Path(sys.argv[1]), cache=Path(sys.argv[1]) / 'cache').read('mnist').digest)"
    )
    found: list[str] = []

    def run() -> None:
        command = [sys.executable, "-c", code, str(tmp_path)]
        found.append(subprocess.run(command, capture_output=True, text=True).stdout.strip())

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [DOWNLOADED] * 3
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [COPY]


def test_a_small_data_set_has_no_copy(tmp_path: Path) -> None:
    assert copy_path("mnist-mini", DATASETS["mnist-mini"].digest, tmp_path) is None
    place(tmp_path).read("mnist-mini")
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_files_of_earlier_versions_below_the_data_root_do_no_harm(tmp_path: Path) -> None:
    raw = tmp_path / "data/MNIST/raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"damaged")
    assert place(tmp_path).read("mnist").digest == DOWNLOADED
