"""The benchmarks start from a fresh clone: without all of MNIST they measure on the bundled sample
and say so, never with a traceback.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import datasets
from ffengine.datasets import Datasets

pytestmark = pytest.mark.slow  # processes that load torch
ROOT = Path(__file__).parents[1]


def bench(*arguments: str, data: Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "FFLAB_DATA": str(data),
        "PYTHONPATH": str(ROOT),
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "",
    }
    return subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=cwd, env=environment
    )


def test_without_all_of_mnist_the_bundled_sample_is_measured_and_said(tmp_path: Path) -> None:
    done = bench("benchmarks", "--only", "monitoring", data=tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["shapes"] == "6000 samples of mnist-mini, n = 500, batch 500"
    assert row["bar"] is None  # that of 10 000 samples says nothing of these
    assert done.stderr == (
        f"All of MNIST is not below {tmp_path}: measuring on the bundled mnist-mini, 6,000 "
        f"samples. "
        "Set FFLAB_DATA to a folder that holds MNIST to measure on all of it.\n"
    )


def test_a_device_that_is_not_here_is_said_in_one_line(tmp_path: Path) -> None:
    for device in ("cuda:7", "nonsense"):
        done = bench("benchmarks", "--only", "monitoring", "--device", device, data=tmp_path)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith(
            f"python -m benchmarks: error: --device {device}: torch cannot use it here ("
        )
        assert "Traceback" not in done.stderr


def test_a_recipe_without_its_data_says_where_they_are_looked_for(tmp_path: Path) -> None:
    done = bench("benchmarks.recipes", "tosato", "--epochs", "1", data=tmp_path)
    assert done.returncode == 2
    assert f"mnist: not found below {tmp_path}" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_what_is_advised_helps_on_data_sets_that_are_not_mnist(tmp_path: Path) -> None:
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in datasets.rows(Datasets(tmp_path))
    ]
    begins = [number for number, line in enumerate(lines) if line[0]]
    assert [lines[number][0] for number in begins] == [made.meaning for made in datasets.MADE]
    for first, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        default, *advised, best = lines[first:end]
        if default[2] in ("refused", "diverged"):
            assert advised, f"{default[0]}: nothing is advised"
            assert default[6], f"{default[0]}: nothing is said before it runs"
        for _, _, accuracy, guessing, *_ in advised:
            assert float(accuracy) > float(guessing), default[0]
        assert best[1] == "the same, for accuracy"
        assert float(best[2]) > max(0.8, float(best[3]) + 0.005), default[0]


def test_the_page_has_the_table_that_the_program_prints() -> None:
    page = datasets.PAGE.read_text()
    table = page.split(datasets.BEGIN)[1].split(datasets.END)[0].strip().splitlines()
    assert tuple(table[:2]) == datasets.HEAD
    named = [line.split("|")[1].strip() for line in table[2:]]
    assert [name for name in named if name] == [made.meaning for made in datasets.MADE]
