"""What the package carries is in the wheel and in the source distribution, with its licences."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from ffengine.datasets import DATASETS

ROOT = Path(__file__).parents[1]
BUNDLED = [name for name, facts in DATASETS.items() if facts.bundled]
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])('dist'))"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files that a distribution is made of."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for package in ("ffengine", "fflab", "service", "workers"):
        shutil.copytree(ROOT / package, folder / package)
    return folder


def built(what: str, sources: Path) -> Path:
    command = [sys.executable, "-c", BUILD, what]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return sources / "dist" / done.stdout.splitlines()[-1]


def test_the_bundled_ones_are_those_with_a_file_and_a_licence_note() -> None:
    assert BUNDLED == ["mnist-mini", "digits", "mnist"]
    licences = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license-files"]
    for name in BUNDLED:
        assert f"ffengine/data/LICENSE-{name}.txt" in licences
        note = (ROOT / f"ffengine/data/LICENSE-{name}.txt").read_text()
        assert note.startswith(f"{name}.npz holds ")
        assert re.search(r"https?://", note)


@pytest.mark.slow
def test_wheel_and_sdist_contain_them_bit_by_bit(sources: Path) -> None:
    with zipfile.ZipFile(built("build_wheel", sources)) as wheel:
        names = set(wheel.namelist())
        for name in BUNDLED:
            inside = f"ffengine/data/{name}.npz"
            assert wheel.read(inside) == (ROOT / inside).read_bytes()
            assert any(
                file.endswith(f".dist-info/licenses/ffengine/data/LICENSE-{name}.txt")
                for file in names
            )
    with tarfile.open(built("build_sdist", sources)) as sdist:
        inside = {file.partition("/")[2] for file in sdist.getnames()}
        for name in BUNDLED:
            assert {f"ffengine/data/{name}.npz", f"ffengine/data/LICENSE-{name}.txt"} <= inside


@pytest.mark.slow
def test_mnist_works_on_a_fresh_machine_without_a_network(tmp_path: Path) -> None:
    """In a home that is not there yet; sockets to elsewhere are refused."""
    code = """
import socket
def refused(*_):
    raise OSError("no network here")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
import ffengine
from ffengine.spec import CheckSpec
spec = CheckSpec.model_validate({
    "dataset": {"name": "mnist"}, "theorem": 1, "widths": [8], "samples": 20, "seeds": [0],
})
result = ffengine.check(spec)
print(result.provenance.dataset.train_samples, [cell.samples for cell in result.cells][:1])
"""
    environment = {**os.environ, "FFLAB_HOME": str(tmp_path / "new"), "FFLAB_DATA": ""}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.stdout == "60000 [20]\n", done.stderr
    assert (tmp_path / "new").stat().st_mode & 0o77 == 0
