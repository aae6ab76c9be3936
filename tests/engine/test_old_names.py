"""Module paths of earlier versions: they give the modules that replaced them."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from ffengine._old_names import OLD_NAMES

ROOT = Path(__file__).parents[2]
CODE = ("benchmarks", "examples", "ffengine", "fflab", "scripts", "service", "tests", "workers")


def run(program: str, *options: str) -> str:
    return subprocess.run(
        [sys.executable, *options, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout.strip()


@pytest.mark.parametrize("old", OLD_NAMES)
def test_an_old_path_is_the_new_module(old: str) -> None:
    sys.modules.pop(f"ffengine.{old}", None)
    with pytest.warns(DeprecationWarning, match=rf"ffengine\.{old} is now called ffengine\."):
        found = importlib.import_module(f"ffengine.{old}")
    new = importlib.import_module(f"ffengine.{OLD_NAMES[old]}")
    assert found is new
    assert new.__name__ == f"ffengine.{OLD_NAMES[old]}"
    assert new.__spec__ is not None
    assert new.__spec__.name == new.__name__


@pytest.mark.slow
def test_an_old_path_is_an_attribute_without_an_import_of_its_own() -> None:
    assert run("import ffengine; print(ffengine.control.Control)", "-W", "ignore")
    assert run("from ffengine import draws; print(draws.__name__)") == "ffengine.random_streams"


@pytest.mark.slow
def test_the_warning_names_the_importing_line() -> None:
    program = (
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    import ffengine.control\n"
        "print([(w.filename, w.lineno) for w in caught])\n"
    )
    assert run(program) == "[('<string>', 4)]"


@pytest.mark.slow
def test_importing_the_package_loads_neither_torch_nor_a_module_by_its_old_path() -> None:
    program = (
        "import sys, ffengine\n"
        f"print({sorted(OLD_NAMES)!r}, 'torch' in sys.modules)\n"
        f"print([n for n in {sorted(OLD_NAMES)!r} if 'ffengine.' + n in sys.modules])\n"
    )
    assert run(program).splitlines() == [f"{sorted(OLD_NAMES)!r} False", "[]"]


def test_an_unknown_module_stays_unknown() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("ffengine.nothing_of_this_name")


def imported(path: Path) -> set[str]:
    """The names of modules that a file imports, and of what it imports from them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""}
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.slow
def test_nothing_in_the_project_imports_an_old_path() -> None:
    old = {f"ffengine.{name}" for name in OLD_NAMES}
    files = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    assert files
    assert [path for path in files if imported(path) & old] == []
