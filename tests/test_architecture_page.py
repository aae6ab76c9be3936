"""docs/architecture.md: what it draws is what there is."""

import re
import tomllib
from pathlib import Path

from service.store import Store
from tests.documents import ROOT, titled

PAGE = ROOT / "docs" / "architecture.md"
SERVICE = ROOT / "service"


def drawn() -> list[set[str]]:
    """The layers of the drawing, from the top: what stands before the gap of each line."""
    lines = [
        line for line in titled("docs/architecture.md")["rooms"].splitlines() if line.strip() != "↓"
    ]
    return [set(line.split("   ")[0].split(", ")) for line in lines]


def contracted() -> list[set[str]]:
    """The layers that import-linter holds."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
    [layers] = [
        contract["layers"] for contract in contracts if contract.get("containers") == ["service"]
    ]
    return [set(re.split(r"\s*[|:]\s*", layer)) for layer in layers]


def modules() -> set[str]:
    """The rooms, which are folders with code, and the modules beside them."""
    folders = {path.parent.name for path in SERVICE.glob("*/__init__.py")}
    return folders | {path.stem for path in SERVICE.glob("*.py") if path.stem != "__init__"}


def test_the_drawing_has_the_layers_of_the_contract() -> None:
    assert drawn() == contracted()


def test_the_drawing_has_every_room_and_module() -> None:
    assert set[str]().union(*drawn()) == modules()


def test_every_room_is_described() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rooms = {path.parent.name for path in SERVICE.glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` \|", page, re.MULTILINE)) == rooms
    for name in modules() - rooms:
        assert f"`{name}.py`" in page


def test_every_part_of_the_store_is_named(tmp_path: Path) -> None:
    with Store(f"sqlite:///{tmp_path / 'fflab.db'}") as store:
        parts = set(vars(store)) - {"database"}
    assert set(re.findall(r"`store\.(\w+)`", PAGE.read_text(encoding="utf-8"))) == parts


def test_every_file_and_folder_that_it_names_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in set(re.findall(r"`((?:service|workers|ffengine)/[\w/]+(?:\.py|/))`", page)):
        assert (ROOT / name).exists(), name
    for name in set(
        re.findall(r"\| `((?:cli|stack|web|background|results|specs|client)/\w+\.py)`", page)
    ):
        assert (SERVICE / name).exists(), name


def test_each_word_of_the_glossary_is_there_once_and_in_order() -> None:
    glossary = PAGE.read_text(encoding="utf-8").partition("## Glossary")[2]
    words = re.findall(r"^\| ([^|]+?) \|", glossary, re.MULTILINE)[1:]
    assert words
    first = [word.split(",")[0].lower() for word in words]
    assert len(set(first)) == len(first)
    assert [word[:1] for word in first] == sorted(word[:1] for word in first)
