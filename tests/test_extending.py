"""The how-to pages that add to the catalogues, followed to the letter in a copy of the project."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT, titled

SECONDS = 120.0


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What is needed of the project, to be changed."""
    for folder in ("ffengine", "service", "tests", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def follow(page: str, copy: Path) -> None:
    """Put the blocks of a page where their titles say: FILE, above TEXT | in place of NAME | at the end of NAME."""
    for title, block in titled(page).items():
        file, comma, place = title.partition(", ")
        if not comma:  # a file of the reader's own
            continue
        path = copy / file
        path.write_text(placed(path.read_text(encoding="utf-8"), block, place), encoding="utf-8")


def placed(source: str, block: str, place: str) -> str:
    """The source with a block put in its place."""
    lines = source.splitlines(keepends=True)
    if place.startswith("above "):
        text = place.removeprefix("above ")
        starts = (text, f"def {text}(", f"class {text}(")
        number = next(number for number, line in enumerate(lines) if line.strip().startswith(starts))
        gap = "" if block.startswith(" ") else "\n\n"
        return "".join([*lines[:number], block, gap, *lines[number:]])
    how, _, name = place.rpartition(" ")
    assert how in ("in place of", "at the end of"), place
    node = next(node for node in ast.parse(source).body if name in assigned(node))
    assert node.end_lineno
    if how == "in place of":
        return "".join([*lines[: node.lineno - 1], block, *lines[node.end_lineno :]])
    end = node.end_lineno
    while not lines[end - 1].strip(" )]}\n"):
        end -= 1
    return "".join([*lines[:end], block, *lines[end:]])


def assigned(node: ast.stmt) -> list[str]:
    """The names that a statement assigns to."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def run(copy: Path, *arguments: str) -> str:
    """Run Python in the copy; what it printed."""
    done = subprocess.run([sys.executable, *arguments], cwd=copy, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


CATALOGUE = """
import json
from pydantic import TypeAdapter
from ffengine.spec import AnySpec
from service.web.routes.catalog import read_catalog
found = read_catalog().model_dump(mode="json")
schema = json.dumps(found.pop("spec_schema"))
print(json.dumps({"schema": schema, **{key: {entry["name"]: entry for entry in found[key]} for key in found}}))
"""


def test_a_new_negative_strategy_is_in_schema_and_catalogue_and_keeps_the_contract(copy: Path) -> None:
    follow("docs/howto/negatives.md", copy)
    found = json.loads(run(copy, "-c", CATALOGUE))
    entry = found["negatives"]["salt"]
    assert entry["meaning"].startswith("The image with a random share")
    assert set(entry["parameters"]) == {"share", "white", "redraw"}
    assert '"salt"' in found["schema"]
    assert "passed" in run(copy, "-m", "pytest", "tests/engine/test_catalogues.py", "-k", "salt or Salt", "-p", "no:cacheprovider")
    train = "import ffengine as ff; print(ff.train(ff.TrainSpec(dataset={'name': 'digits'}, negatives={'strategy': 'salt'})).kind)"
    assert run(copy, "-c", train) == "train\n"


def test_a_new_activation_and_objective_are_in_schema_and_catalogue_and_keep_the_contract(copy: Path) -> None:
    follow("docs/howto/objectives.md", copy)
    found = json.loads(run(copy, "-c", CATALOGUE))
    assert "softsign" in found["activations"]
    assert set(found["objectives"]["hinge"]["parameters"]) >= {"goodness", "gap"}
    said = run(copy, "-m", "pytest", "tests/engine/test_catalogues.py", "-k", "softsign or hinge or literals", "-p", "no:cacheprovider")
    assert "passed" in said


def test_a_new_data_set_is_in_the_catalogue_and_is_read(copy: Path) -> None:
    follow("docs/howto/datasets.md", copy)
    facts = json.loads(run(copy, "-c", CATALOGUE))["datasets"]["letters-mini"]
    assert facts["class_counts"] == [30, 30]
    data = copy / "data" / "LettersMini" / "raw"
    data.mkdir(parents=True)
    for name, count in (("train", 60), ("t10k", 20)):
        header = bytes([0, 0, 8])
        (data / f"{name}-images-idx3-ubyte").write_bytes(
            header + b"\3" + count.to_bytes(4, "big") + (28).to_bytes(4, "big") * 2 + bytes(count * 784)
        )
        (data / f"{name}-labels-idx1-ubyte").write_bytes(header + b"\1" + count.to_bytes(4, "big") + bytes([0, 1] * (count // 2)))
    load = "from pathlib import Path; from ffengine.datasets import load; print(load('letters-mini', Path('data')).x_train.shape)"
    assert run(copy, "-c", load) == "(60, 1, 28, 28)\n"
