"""Values of a spec in words and in the columns of a table."""

from typing import Any

import pytest

from ffengine.spec_values import varied_columns


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ([[8], [16]], [8, 16]),
        ([[8], [8, 16]], ["8", "8 · 16"]),
        ([0.1, 1, None], [0.1, 1, None]),
        ([True, False], [True, False]),
        (["unit", "center"], ["unit", "center"]),
        ([1, "all", None, True], ["1", "all", None, "true"]),
        ([[[2**63 - 1]], [[1]]], [2**63 - 1, 1]),
        ([{"name": "sgd", "lr": 0.5}, {"name": "adam"}], ["sgd lr 0.5", "adam"]),
        ([[], [1]], ["", "1"]),
    ],
)
def test_a_column_has_numbers_or_texts_and_never_both(values: list[Any], column: list[Any]) -> None:
    found = varied_columns([{"field": value} for value in values], ())
    assert [run["field"] for run in found] == column


def test_a_field_whose_name_another_column_has_is_told_apart() -> None:
    runs: list[dict[str, Any]] = [{"seeds": [1], "optimizer.lr": 0.1}, {"seeds": [2]}]
    assert varied_columns(runs, {"seeds", "mean"}) == [
        {"params.seeds": 1, "optimizer.lr": 0.1},
        {"params.seeds": 2},
    ]
