"""Files of a known data set are imported as a whole: who dies meanwhile leaves what was there."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from ffengine.dataformats import MNIST_FILES, content
from ffengine.datasets import Datasets
from service.cli import imports
from tests.service.samples import any_files_pass_for_kmnist

DYING = """
import os, pathlib, shutil, signal, sys
from ffengine.datasets import Datasets
from service.cli import imports
from tests.service.samples import any_files_pass_for_kmnist
from tests.service.samples import any_files_pass_for_kmnist

source, root, left = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), [int(sys.argv[3])]

def dying(step):
    def taken(*arguments, **named):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return step(*arguments, **named)
    return taken

any_files_pass_for_kmnist(setattr)
shutil.copy2, os.fsync = dying(shutil.copy2), dying(os.fsync)
pathlib.Path.replace = dying(pathlib.Path.replace)
imports.import_files("kmnist", source, Datasets(root))
"""
INSIDE = Path("KMNIST") / "raw"


def write(folder: Path, what: bytes) -> Path:
    folder.mkdir(parents=True)
    for name in MNIST_FILES:
        (folder / name).write_bytes(what * 50_000)
    return folder


@pytest.mark.slow
@pytest.mark.soak
def test_a_death_while_files_are_copied_leaves_the_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, steps, states = write(tmp_path / "source", b"new"), 0, []
    while True:
        root = tmp_path / str(steps)
        target = write(root / INSIDE, b"old")
        arguments = [str(source), str(root), str(steps)]
        code = subprocess.run([sys.executable, "-c", DYING, *arguments], check=False).returncode
        assert code in (0, -9)
        found = [(target / name).read_bytes() for name in MNIST_FILES]
        assert set(found) <= {b"old" * 50_000, b"new" * 50_000}, "no file is cut off"
        states.append(sum(one.startswith(b"new") for one in found))
        if code == 0:
            break
        steps += 1
    copying = len(MNIST_FILES) * 2 + 1  # the copies, and that they are on the disk
    assert states[: copying + 1] == [0] * (copying + 1)
    assert states[-1] == len(MNIST_FILES)
    half = tmp_path / "2"
    assert (half / INSIDE / ".copying").is_dir()
    any_files_pass_for_kmnist(monkeypatch.setattr)
    imports.import_files("kmnist", source, Datasets(half))
    assert sorted(path.name for path in (half / INSIDE).iterdir()) == sorted(MNIST_FILES)


def test_files_are_imported_again_over_those_of_another_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_files_pass_for_kmnist(monkeypatch.setattr)
    target = write(tmp_path / INSIDE, b"damaged")
    source = tmp_path / "source"
    source.mkdir()
    for name in MNIST_FILES:
        (source / f"{name}.gz").write_bytes(gzip.compress(b"whole"))
    assert imports.import_files("kmnist", source, Datasets(tmp_path)) == target
    assert {content(target, name) for name in MNIST_FILES} == {b"whole"}
    assert imports.import_files("kmnist", target, Datasets(tmp_path)) == target
    assert sorted(path.name for path in target.iterdir()) == sorted(
        f"{name}.gz" for name in MNIST_FILES
    )
