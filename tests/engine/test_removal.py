"""Removing an upload: it is there as a whole or not at all, whatever fails or dies meanwhile."""

import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ffengine import uploads
from ffengine.arrays import DatasetError
from ffengine.datasets import Datasets
from tests.engine.arrays import LABELS

DYING = """
import os, pathlib, shutil, signal, sys, tempfile
from ffengine import uploads
from ffengine.datasets import Datasets

root, answer = pathlib.Path(sys.argv[1]), sys.argv[2]
steps = {"left": 0}

def dying(step):
    def taken(*arguments, **named):
        if steps["left"] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps["left"] -= 1
        return step(*arguments, **named)
    return taken

def needed_by():
    if answer == "failure":
        raise RuntimeError("away")
    return ["job_1"] if answer == "needed" else []

uploads.shutil.rmtree = dying(shutil.rmtree)
uploads.tempfile.mkdtemp = dying(tempfile.mkdtemp)
for name in ("rename", "rmdir"):
    setattr(pathlib.Path, name, dying(getattr(pathlib.Path, name)))
needed_by = dying(needed_by)
steps["left"] = int(sys.argv[3])
try:
    uploads.remove("mine", root / "uploads", needed_by)
except (RuntimeError, uploads.InUse):
    pass
"""


def archive(shift: int = 0) -> io.BytesIO:
    target = io.BytesIO()
    x = np.arange(20 * 16, dtype=np.uint8).reshape(20, 4, 4) + np.uint8(shift)
    np.savez(target, x=x, y=LABELS)
    target.seek(0)
    return target


@pytest.fixture
def datasets(tmp_path: Path) -> Datasets:
    found = Datasets(tmp_path)
    found.keep("mine", archive())
    return found


def there(datasets: Datasets) -> list[str]:
    """What is in the folder of uploads, hidden or not."""
    return sorted(path.name for path in datasets.kept_in.iterdir())


def answers(*given: Sequence[str] | BaseException) -> Callable[[], Sequence[str]]:
    left = list(given)

    def needed_by() -> Sequence[str]:
        answer = left.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return needed_by


@pytest.mark.parametrize("failure", [RuntimeError("the database is away"), KeyboardInterrupt()])
def test_an_upload_is_put_back_where_nobody_can_say_whether_it_is_needed(
    datasets: Datasets, failure: BaseException
) -> None:
    with pytest.raises(type(failure)):
        datasets.remove("mine", answers([], failure))
    assert there(datasets) == ["mine"]
    assert len(datasets.load("mine").y_train) == 16
    datasets.remove("mine", answers([], []))
    assert there(datasets) == []


def test_an_upload_that_cannot_be_let_go_is_put_back(
    datasets: Datasets, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if target.name.startswith(uploads.GONE):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(DatasetError, match=r"mine: cannot be removed from .*Input/output error"):
        datasets.remove("mine")
    assert there(datasets) == ["mine"]


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["free", "needed", "failure"])
def test_no_death_in_the_middle_of_a_removal_loses_an_upload_or_leaves_half_of_one(
    answer: str, tmp_path: Path
) -> None:
    original = Datasets(tmp_path / "original")
    digest = original.keep("mine", archive()).digest
    steps, gone = 0, []
    while True:
        datasets = Datasets(tmp_path / str(steps))
        shutil.copytree(original.root, datasets.root)
        arguments = [str(datasets.root), answer, str(steps)]
        code = subprocess.run([sys.executable, "-c", DYING, *arguments], check=False).returncode
        assert code in (0, -9)
        assert datasets.uploaded() in ([], ["mine"])
        datasets.recover()
        assert there(datasets) in ([], ["mine"]), "nothing is left but whole uploads"
        gone.append(there(datasets) == [])
        if not gone[-1]:
            assert datasets.loaded("mine").digest == digest
        if code == 0:
            break
        steps += 1
    assert steps >= 5
    assert gone == sorted(gone), "it is gone only after nothing was found to need it"
    assert gone[-1] == (answer == "free")
    assert not any(gone[:3])


def test_what_an_earlier_version_put_aside_is_found_by_the_next_use(datasets: Datasets) -> None:
    aside = datasets.kept_in / ".x7_a2b"
    aside.mkdir()
    (datasets.kept_in / "mine").rename(aside / "mine")
    draft = datasets.kept_in / ".half"
    draft.mkdir()
    (draft / "facts.json").write_text("{}")
    assert datasets.uploaded() == []
    datasets.keep("other", archive(1))
    assert there(datasets) == [".half", "mine", "other"], "drafts are no uploads"
    assert datasets.recover() == []


def test_an_upload_whose_name_was_given_away_is_kept_aside_and_told(datasets: Datasets) -> None:
    aside = datasets.kept_in / f"{uploads.ASIDE}abc"
    aside.mkdir()
    (datasets.kept_in / "mine").rename(aside / "mine")
    shutil.copytree(aside / "mine", aside / "copy")
    uploads.keep("mine", archive(1), datasets.kept_in)
    uploads.keep("copy", archive(), datasets.kept_in)
    [told] = datasets.recover()
    assert told.startswith(f"{aside / 'mine'} is an upload whose name stands for other arrays now")
    assert there(datasets) == [aside.name, "copy", "mine"]
    datasets.remove("mine")
    [told] = datasets.recover()
    assert told == f"mine is put back into {datasets.kept_in}: its removal was not finished"
    assert len(datasets.load("mine").y_train) == 16
    assert there(datasets) == ["copy", "mine"]


def test_what_a_living_process_puts_aside_is_left_to_it(datasets: Datasets) -> None:
    seen: list[list[str]] = []

    def needed_by() -> list[str]:
        seen.append(datasets.recover())
        return []

    uploads.remove("mine", datasets.kept_in, needed_by)
    assert (seen, there(datasets)) == ([[]], [])
