"""The house rules that a machine can check."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

import ffengine

ROOT = Path(__file__).parents[1]


def test_no_module_imports_itself_by_way_of_others() -> None:
    """An import that only a type checker follows counts too, and so does one within a function."""
    packages = ("ffengine", "service", "workers", "fflab")
    graph = grimp.build_graph(*packages, exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert "ffengine.negatives" in imports["ffengine.spec"]
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the modules


def test_the_public_names_of_the_engine_are_there_and_stay_what_they_are() -> None:
    for (
        name
    ) in ffengine.__all__:  # twice: importing a submodule must not replace a function of its name
        assert getattr(ffengine, name) is getattr(ffengine, name)
    assert sorted(ffengine.__all__) == sorted(set(ffengine.__all__))


def test_sql_is_written_in_the_store_alone() -> None:
    for path in (ROOT / "service").rglob("*.py"):
        if (ROOT / "service" / "store") in path.parents:
            continue
        imported = re.findall(
            r"^ *from sqlalchemy(\S*) import (.*)", path.read_text(), re.MULTILINE
        )
        assert all(module == ".exc" for module, _ in imported), (
            f"{path}: SQL belongs into the store"
        )


def test_pages_call_no_route_and_routes_no_page() -> None:
    web = ROOT / "service" / "web"
    for room, other in (("dashboard", "routes"), ("routes", "dashboard")):
        for path in (web / room).rglob("*.py"):
            assert f"service.web.{other}" not in path.read_text(encoding="utf-8"), (
                f"{path}: what both need lies below both, beside these folders"
            )


def test_every_finding_is_documented() -> None:
    said = "".join(
        (ROOT / "ffengine" / name).read_text()
        for name in (
            "diagnostics.py",
            "advice.py",
            "scale_runaway.py",
            "free_riding.py",
            "forecast_findings.py",
            "attempts.py",
        )
    )
    codes = set(re.findall(r'code="([a-z_]+)"', said))
    headings = set(
        re.findall(r"^## ([a-z_]+)$", (ROOT / "docs" / "diagnostics.md").read_text(), re.MULTILINE)
    )
    assert codes == headings


def test_no_test_module_is_imported_by_another() -> None:
    """What tests share stands in a module of its own; a module of tests, or a conftest, is pytest's
    alone.
    """
    for path in (ROOT / "tests").rglob("*.py"):
        found = re.findall(
            r"^\s*(?:from|import) tests\b.*\b(?:test_\w+|conftest)\b.*",
            path.read_text(),
            re.MULTILINE,
        )
        assert not found, f"{path.relative_to(ROOT)}: {found}"
