"""Figures change only together with NUMERICS_VERSION: short runs beside what was recorded of them
(tests/engine/pinned.py says how).

On a processor, torch and numpy that were recorded, every bit counts; elsewhere some digits of each
column's mean and size.
"""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from ffengine.version import NUMERICS_VERSION
from tests.engine import pinned
from tests.engine.pinned import Figures, changes, computed, here

RECORDS: dict[str, Any] = json.loads(pinned.RECORD.read_text())
ADVICE = (
    "figures of this version changed: where that is meant, give NUMERICS_VERSION in "
    "ffengine/version.py another value, then "
    "python -m tests.engine.pinned"
)


@pytest.fixture(scope="module")
def figures() -> Figures:
    return computed()


def changed(figures: Figures, run: str, column: str, factor: float) -> Figures:
    """The same with one column off by a factor."""
    made = copy.deepcopy(figures)
    made[run][column] = [value * factor for value in made[run][column]]
    return made


@pytest.mark.slow
def test_no_figure_changes_while_the_version_of_the_figures_does_not(figures: Figures) -> None:
    assert NUMERICS_VERSION in RECORDS, (
        "record the figures of this version: python -m tests.engine.pinned"
    )
    found = changes(RECORDS[NUMERICS_VERSION], figures, here())
    assert not found, "\n".join([*found[:10], ADVICE])


@pytest.mark.parametrize(
    ("run", "column"), [("softplus, adam", "curves.loss"), ("theorem 2", "cells.input_norm")]
)
def test_a_change_is_noticed(figures: Figures, run: str, column: str) -> None:
    record = {
        "summaries": RECORDS[NUMERICS_VERSION]["summaries"],
        "exact": {"this": exact_of(figures)},
    }
    bit = changed(figures, run, column, 1 + 4 * math.ulp(1.0))
    assert changes(record, bit, "this") == [f"{run}: {column} has other bits"]
    assert changes(record, bit, "another") == [], "of another processor bits may differ"
    assert changes(record, changed(figures, run, column, 1.02), "another")[0].startswith(
        f"{run}: {column} was ["
    )
    without = figures | {
        run: {key: values for key, values in figures[run].items() if key != column}
    }
    assert changes(record, without, "another") == [f"{run}: {column} is gone"]
    assert (
        changes(
            record, {name: table | {"curves.new": [1.0]} for name, table in figures.items()}, "this"
        )
        == []
    )


def exact_of(figures: Figures) -> dict[str, dict[str, str]]:
    return {
        run: {column: pinned.digest_of(values) for column, values in table.items()}
        for run, table in figures.items()
    }


def test_other_figures_are_recorded_under_another_version_only(
    figures: Figures, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pinned, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(pinned, "computed", lambda: figures)
    pinned.main()
    before = pinned.RECORD.read_text()
    pinned.main()
    assert pinned.RECORD.read_text() == before
    monkeypatch.setattr(
        pinned, "computed", lambda: changed(figures, "theorem 1", "cells.ratio", 0.5)
    )
    with pytest.raises(SystemExit, match="NUMERICS_VERSION"):
        pinned.main()
    assert pinned.RECORD.read_text() == before
    monkeypatch.setattr(pinned, "NUMERICS_VERSION", "another")
    pinned.main()
    assert list(json.loads(pinned.RECORD.read_text())) == ["another"]


def test_what_another_platform_recorded_is_kept(
    figures: Figures, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pinned, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(pinned, "computed", lambda: figures)
    for name in ("one", "two"):
        monkeypatch.setattr(pinned, "here", lambda name=name: name)
        pinned.main()
    assert set(json.loads(pinned.RECORD.read_text())[NUMERICS_VERSION]["exact"]) == {"one", "two"}
