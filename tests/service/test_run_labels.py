"""The label of a study's run: one in charts, tables, command line and pages."""

from typing import Any

import pytest
from pydantic import JsonValue

from ffengine.spec import StudyPart, StudySpec, TrainSpec
from ffengine.spec_values import value_in_words
from ffengine.study import expand
from service.jobs import Job
from service.results.descriptions import place_of
from service.results.run_labels import RunKey, cell_of, params_in_words, run_keys
from service.store import Store
from tests.factories import submit

GRID: dict[str, list[JsonValue]] = {
    "network.widths": [[8, 16], [32]],
    "negatives": [{"strategy": "wrong_label", "image": "any"}],
    "optimizer.lr": [0.5],
}


def test_every_run_has_the_same_label_in_the_grid_and_on_its_own(store: Store) -> None:
    job = submit(store, StudySpec(base=TrainSpec(epochs=1), grid=GRID))
    runs: list[Job] = [run for run, _ in store.jobs.children(job.id)]
    keys = run_keys([cell for run in runs if (cell := cell_of(run))])
    assert [key.label for key in keys] == [
        "widths 8 · 16, negatives wrong_label image any, lr 0.5",
        "widths 32, negatives wrong_label image any, lr 0.5",
    ]
    assert [place_of(run) for run in runs] == [key.label for key in keys]
    assert cell_of(job) is None


def test_a_part_is_named_where_runs_of_one_kind_vary_alike() -> None:
    part = StudyPart(base=TrainSpec(), grid={"optimizer.lr": [1.0, 2.0]})
    alone = StudyPart(base=TrainSpec(), grid={"epochs": [3]})
    keys = run_keys(expand(StudySpec(parts={"slow": part, "fast": part, "long": alone})))
    assert [key.part for key in keys] == ["slow", "slow", "fast", "fast", ""]
    assert len(set(keys)) == len(keys)
    assert keys[0] == RunKey("slow", (("optimizer.lr", "1.0"),))


def test_fields_with_the_same_last_name_are_named_in_full() -> None:
    params: dict[str, JsonValue] = {"optimizer.name": "sgd", "objective.name": "swish", "epochs": 3}
    assert params_in_words(params) == "optimizer.name sgd, objective.name swish, epochs 3"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "true"),
        (1.0, "1.0"),
        (None, "null"),
        ("center", "center"),
        ([8, 16], "8 · 16"),
        ({"name": "swish", "beta": 2}, "swish beta 2"),
    ],
)
def test_values_are_worded_as_specs_are_written(value: Any, words: str) -> None:
    assert value_in_words(value) == words
