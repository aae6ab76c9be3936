"""The benchmarks start from a fresh clone without a network, and never end with a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import datasets, pages
from benchmarks.recipes import RECIPES
from ffengine.datasets import DATASETS, Datasets

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


@pytest.mark.soak
def test_it_needs_no_preparation(tmp_path: Path) -> None:
    done = bench("benchmarks", "--only", "monitoring", data=tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["shapes"] for row in rows] == [
        f"{count} samples of mnist, n = 500, batch 500" for count in (60_000, 10_000)
    ]
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_here_is_said_in_one_line(tmp_path: Path) -> None:
    for device in ("cuda:7", "nonsense"):
        done = bench("benchmarks", "--only", "monitoring", "--device", device, data=tmp_path)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith(
            f"python -m benchmarks: error: --device {device}: torch cannot use it here ("
        )
        assert "Traceback" not in done.stderr


def test_every_recipe_is_on_data_that_come_with_fflab() -> None:
    assert all(DATASETS[recipe.spec.dataset.name].bundled for recipe in RECIPES.values())


@pytest.mark.soak
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


def test_the_page_of_the_service_has_the_table_of_pages() -> None:
    page = pages.PAGE.read_text()
    table = page.split(pages.BEGIN)[1].split(pages.END)[0].strip().splitlines()
    rows = [line for line in table if line.startswith("|")]
    assert tuple(rows[:2]) == pages.HEAD
    named = [line.split("|")[1].strip() for line in rows[2:]]
    assert named == [meaning for meaning, _ in pages.PAGES.values()]


def test_a_page_misses_a_bar_by_its_slower_visit_and_by_its_frames() -> None:
    quick, slow = {"first_paint_ms": 120.0}, {"first_paint_ms": 301.0}
    smooth, jerky = {"frame_ms": 16.7, "long_share": 0.01}, {"frame_ms": 16.7, "long_share": 0.2}
    assert pages.Measured("jobs", quick, quick, smooth).missed == []
    assert pages.Measured("jobs", quick, slow, smooth).missed == ["first paint"]
    assert pages.Measured("jobs", slow, quick, jerky).missed == ["first paint", "frames"]
