"""The how-to pages and the recipes of CONTRIBUTING.md, followed to the letter in a copy of the
project.
"""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.waiting import PROGRAM_SECONDS
from tests.documents import ROOT, Block, blocks

COPIED = ("benchmarks", "docs", "ffengine", "fflab", "scripts", "service", "tests", "workers")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What is needed of the project, to be changed."""
    for folder in COPIED:
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


def follow(found: list[Block], copy: Path) -> None:
    """Put blocks where their titles say: FILE, new | at the end | above TEXT | in place of NAME or
    TEXT | at the end of NAME.
    """
    for block in found:
        file, comma, place = (block.title or "").partition(", ")
        if not comma:  # a file of the reader's own, or none
            continue
        path = copy / file
        source = path.read_text(encoding="utf-8") if place != "new" else ""
        path.write_text(placed(source, block.text, place), encoding="utf-8")


def placed(source: str, block: str, place: str) -> str:
    """The source with a block put in its place."""
    lines = source.splitlines(keepends=True)
    if place == "new":
        return block
    if place == "at the end":
        return f"{source}\n\n{block}"
    if place.startswith("above "):
        number = line_of(lines, place.removeprefix("above "))
        gap = "\n\n" if block.startswith(("class ", "def ", "@")) else ""
        return "".join([*lines[:number], block, gap, *lines[number:]])
    how = next(how for how in ("in place of ", "at the end of ") if place.startswith(how))
    name = place.removeprefix(how)
    node = next((node for node in ast.parse(source).body if name in assigned(node)), None)
    if node is None:
        assert how == "in place of ", place
        number = line_of(lines, name)
        return "".join([*lines[:number], block, *lines[number + 1 :]])
    assert node.end_lineno
    if how == "in place of ":
        return "".join([*lines[: node.lineno - 1], block, *lines[node.end_lineno :]])
    end = node.end_lineno
    while not lines[end - 1].strip(" )]}\n"):
        end -= 1
    return "".join([*lines[:end], block, *lines[end:]])


def line_of(lines: list[str], text: str) -> int:
    """The number of the line that defines a name, or of the first that begins with a text; titles
    have no quotes.
    """
    begun = [line.strip().replace('"', "") for line in lines]
    defining = [
        number
        for number, line in enumerate(begun)
        if line.startswith((f"def {text}(", f"class {text}("))
    ]
    return next(
        iter([*defining, *(number for number, line in enumerate(begun) if line.startswith(text))])
    )


def assigned(node: ast.stmt) -> list[str]:
    """The names that a statement assigns to."""
    targets = (
        node.targets
        if isinstance(node, ast.Assign)
        else [node.target]
        if isinstance(node, ast.AnnAssign)
        else []
    )
    return [target.id for target in targets if isinstance(target, ast.Name)]


def run(copy: Path, *arguments: str) -> str:
    """Run Python in the copy; what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


CATALOGUE = """
import json
from pydantic import TypeAdapter
from ffengine.spec import AnySpec
from service.web.routes.catalog import read_catalog
found = read_catalog().model_dump(mode="json")
schema = json.dumps(found.pop("spec_schema"))
by_name = {key: {entry["name"]: entry for entry in found[key]} for key in found}
print(json.dumps({"schema": schema, **by_name}))
"""


@pytest.mark.soak
def test_a_new_negative_strategy_is_in_schema_and_catalogue_and_keeps_the_contract(
    copy: Path,
) -> None:
    follow(blocks(ROOT / "docs/howto/negatives.md"), copy)
    found = json.loads(run(copy, "-c", CATALOGUE))
    entry = found["negatives"]["salt"]
    assert entry["meaning"].startswith("The image with a random share")
    assert set(entry["parameters"]) == {"share", "white", "redraw"}
    assert '"salt"' in found["schema"]
    assert "passed" in run(
        copy,
        "-m",
        "pytest",
        "tests/engine/test_catalogues.py",
        "-k",
        "salt or Salt",
        "-p",
        "no:cacheprovider",
    )
    train = (
        "import ffengine as ff; print(ff.train(ff.TrainSpec(dataset={'name': 'digits'}, "
        "negatives={'strategy': 'salt'})).kind)"
    )
    assert run(copy, "-c", train) == "train\n"


@pytest.mark.soak
def test_a_new_activation_and_objective_are_in_schema_and_catalogue_and_keep_the_contract(
    copy: Path,
) -> None:
    follow(blocks(ROOT / "docs/howto/objectives.md"), copy)
    found = json.loads(run(copy, "-c", CATALOGUE))
    assert "softsign" in found["activations"]
    assert set(found["objectives"]["hinge"]["parameters"]) >= {"goodness", "gap"}
    said = run(
        copy,
        "-m",
        "pytest",
        "tests/engine/test_catalogues.py",
        "-k",
        "softsign or hinge or literals",
        "-p",
        "no:cacheprovider",
    )
    assert "passed" in said


@pytest.mark.slow
def test_a_new_data_set_is_in_the_catalogue_and_is_read(copy: Path) -> None:
    follow(blocks(ROOT / "docs/howto/datasets.md"), copy)
    facts = json.loads(run(copy, "-c", CATALOGUE))["datasets"]["letters-mini"]
    assert facts["class_counts"] == [30, 30]
    data = copy / "data" / "LettersMini" / "raw"
    data.mkdir(parents=True)
    for name, count in (("train", 60), ("t10k", 20)):
        header = bytes([0, 0, 8])
        (data / f"{name}-images-idx3-ubyte").write_bytes(
            header
            + b"\3"
            + count.to_bytes(4, "big")
            + (28).to_bytes(4, "big") * 2
            + bytes(count * 784)
        )
        (data / f"{name}-labels-idx1-ubyte").write_bytes(
            header + b"\1" + count.to_bytes(4, "big") + bytes([0, 1] * (count // 2))
        )
    load = (
        "from pathlib import Path; from ffengine.datasets import Datasets; "
        "print(Datasets(Path('data')).load('letters-mini').x_train.shape)"
    )
    assert run(copy, "-c", load) == "(60, 1, 28, 28)\n"


# The recipes of CONTRIBUTING.md

CONTRIBUTING = ROOT / "CONTRIBUTING.md"
RECIPES = (
    "Add a route",
    "Add a command",
    "Add a field of jobs, with its migration",
    "Add a finding",
    "Add a chart",
)
VERSIONS = "service/store/migrations/versions"


def recipe(heading: str) -> list[Block]:
    """The blocks below a heading."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    found = re.search(
        rf"^## {re.escape(heading)}$.*?(?=^## (?:Add|Before) |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found, heading
    first, last = (text.count("\n", 0, place) for place in found.span())
    return [block for block in blocks(CONTRIBUTING) if first < block.line <= last]


def numbered(block: Block) -> Block:
    """A migration with the numbers that are next, where later ones than those of the page have
    come.
    """
    newest = max(int(path.name[:4]) for path in (ROOT / VERSIONS).glob("[0-9]*.py"))
    text = re.sub(
        r'^revision = "\d+"', f'revision = "{newest + 1:04}"', block.text, flags=re.MULTILINE
    )
    return block._replace(
        text=re.sub(
            r'^down_revision = "\d+"', f'down_revision = "{newest:04}"', text, flags=re.MULTILINE
        )
    )


def type_in(block: Block, copy: Path) -> None:
    """Run the commands of a block; `python` is that of the tests."""
    for line in block.text.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "python", line
        tested = ["-p", "no:cacheprovider"] if arguments[:2] == ["-m", "pytest"] else []
        said = run(copy, *arguments, *tested)
        assert not tested or "passed" in said, line


@pytest.mark.soak
@pytest.mark.parametrize("heading", RECIPES)
def test_a_recipe_does_what_it_says_and_leaves_clean_code(heading: str, copy: Path) -> None:
    found = recipe(heading)
    follow([numbered(block) if VERSIONS in (block.title or "") else block for block in found], copy)
    for arguments in (["check", "."], ["format", "--check", "."]):
        run(copy, "-m", "ruff", *arguments, "--no-cache")
    commands = [block for block in found if block.language == "bash"]
    assert commands
    for block in commands:
        type_in(block, copy)


def test_every_recipe_is_followed() -> None:
    headings = re.findall(r"^## (Add .*)$", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE)
    assert tuple(headings) == RECIPES
    for heading in RECIPES:
        for block in recipe(heading):
            assert block.title or block.language == "bash", block.place
