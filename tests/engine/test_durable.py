"""What was answered for is on the disk: contents, then names, and only then the answer."""

import io
import os
from pathlib import Path

import numpy as np
import pytest

from ffengine import uploads
from ffengine.datasets import Datasets
from tests.engine.arrays import LABELS


def name_of(opened: int) -> str:
    """The last name of an open file or folder."""
    return Path(f"/proc/self/fd/{opened}").readlink().name


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written to the disk and what is given its name, in order, by the last name."""
    taken: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(opened: int) -> None:
        taken.append(f"sync {name_of(opened)}")
        fsync(opened)

    def replaced(path: Path, target: Path) -> Path:
        taken.append(f"rename to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    return taken


def archive() -> io.BytesIO:
    target = io.BytesIO()
    np.savez(target, x=np.arange(20 * 16, dtype=np.uint8).reshape(20, 4, 4), y=LABELS)
    target.seek(0)
    return target


def test_an_upload_is_on_the_disk_before_it_is_answered_for(
    tmp_path: Path, steps: list[str]
) -> None:
    Datasets(tmp_path, tmp_path / "home" / "datasets").keep("mine", archive())
    made = [f"sync {tmp_path.name}", "sync home"]
    assert steps[:2] == made, "the folders that were made for it"
    assert sorted(steps[2:4]) == ["sync arrays.npz", "sync facts.json"]
    assert steps[4].startswith("sync .")
    assert steps[5:] == ["rename to mine", "sync datasets"]


def test_what_may_not_be_on_the_disk_is_not_answered_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def failing(opened: int) -> None:
        if name_of(opened) == "uploads":
            raise OSError(5, "Input/output error")
        fsync(opened)

    monkeypatch.setattr(os, "fsync", failing)
    datasets = Datasets(tmp_path)
    with pytest.raises(uploads.NotStored, match="Input/output error"):
        datasets.keep("mine", archive())
    monkeypatch.setattr(os, "fsync", fsync)
    assert len(datasets.load("mine").y_train) == 16
    assert datasets.keep("mine", archive()) == uploads.find("mine", datasets.kept_in)
