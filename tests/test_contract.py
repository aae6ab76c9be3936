"""What others rely on is what tests/contract says: a change of it is deliberate, and stands in the
diff of its commit.
"""

import difflib
import re

import pytest

from tests.contract import CONTRACT, FOLDER, PROGRAMS, ROOT

SHOWN_LINES = 40


def assert_same(name: str, pinned: str, present: str) -> None:
    """Fail with a short diff and with what to do."""
    lines = list(
        difflib.unified_diff(
            pinned.splitlines(),
            present.splitlines(),
            f"tests/contract/{name}",
            "now",
            lineterm="",
            n=2,
        )
    )
    if lines:
        left_out = (
            [f"... and {len(lines) - SHOWN_LINES} more lines"] if len(lines) > SHOWN_LINES else []
        )
        shown = "\n".join([*lines[:SHOWN_LINES], *left_out])
        pytest.fail(
            f"the contract changed:\n{shown}\nwhere this is meant: python -m tests.contract",
            pytrace=False,
        )


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_is_as_it_was(name: str) -> None:
    assert_same(name, (FOLDER / name).read_text(encoding="utf-8"), CONTRACT[name]())


def test_a_change_is_shown_shortly_and_with_what_to_do() -> None:
    pinned = "".join(f"line {number}\n" for number in range(500))
    with pytest.raises(pytest.fail.Exception) as failed:
        assert_same("help.txt", pinned, pinned.replace("line 7\n", "line seven\n"))
    message = str(failed.value)
    assert "-line 7\n+line seven\n" in message
    assert message.endswith("where this is meant: python -m tests.contract")
    with pytest.raises(pytest.fail.Exception, match=r"\.\.\. and \d+ more lines"):
        assert_same("help.txt", pinned, pinned.replace("line", "row"))


def documented_programs() -> set[str]:
    """Our modules that documentation, containers and docstrings run with `python -m`."""
    places = [
        ROOT / "README.md",
        ROOT / "docker-compose.yml",
        ROOT / "Dockerfile",
        *(ROOT / "docs").rglob("*.md"),
    ]
    places += [
        path
        for package in ("service", "workers", "benchmarks")
        for path in (ROOT / package).rglob("*.py")
    ]
    texts = (path.read_text(encoding="utf-8") for path in places if path.is_file())
    return {
        name
        for text in texts
        for name in re.findall(
            r"python3? (?:-P )?-m ((?:service|workers|benchmarks)[\w.]*\b)", text
        )
    }


def test_every_program_that_is_documented_is_in_the_contract() -> None:
    # started by the worker, by its start, by the API, and by the benchmarks
    inner = {
        "workers.runner",
        "workers.gpus",
        "service.web.drawing.renderer",
        "benchmarks.memory",
        "benchmarks.conv_cost",
    }
    assert documented_programs() - inner <= set(PROGRAMS)
    pinned = (FOLDER / "names.txt").read_text(encoding="utf-8")
    assert all(f"python -m {module}\n" in pinned for module in PROGRAMS)
