"""The label of a study's run: one in charts, tables, command line and pages."""

from typing import Any

import httpx
import pytest
from pydantic import JsonValue

from ffengine.presets import PRESETS
from ffengine.spec import CheckSpec, StudyPart, StudySpec, TrainSpec
from ffengine.spec_values import params_in_words, value_in_words
from ffengine.study import expand
from service.jobs import Job
from service.results.descriptions import place_of, title_of
from service.results.run_labels import RunKey, cell_of, labels_of, run_keys
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


def test_runs_of_a_study_have_names_of_their_own(store: Store, client: httpx.Client) -> None:
    base, check = TrainSpec(epochs=1), CheckSpec(widths=(8,))
    grid: dict[str, list[JsonValue]] = {"optimizer.lr": [0.5]}
    parts = {
        "slow": StudyPart(base=base, grid=grid),
        "fast": StudyPart(base=base.model_copy(update={"epochs": 2}), grid=grid),
        "theorem": StudyPart(base=check),
    }
    study = submit(store, StudySpec(parts=parts), name="mine")
    runs = [run for run, _ in store.jobs.children(study.id)]
    names = ["mine / slow, lr 0.5", "mine / fast, lr 0.5", "mine / theorem"]
    assert [title_of(run) for run in runs] == names
    told = client.get("/v1/jobs", params={"parent": study.id}).json()["items"]
    assert [job["label"] for job in told] == ["theorem", "fast, lr 0.5", "slow, lr 0.5"]
    assert client.get(f"/v1/jobs/{study.id}").json()["label"] is None
    assert title_of(study) == "mine"
    page = client.get(f"/jobs/{study.id}").text
    for run, label in zip(runs, ("slow, lr 0.5", "fast, lr 0.5", "theorem"), strict=True):
        assert f'<a href="/jobs/{run.id}">{label}</a>' in page
        assert f"<h1>{title_of(run)}</h1>" in client.get(f"/jobs/{run.id}").text


def test_a_part_is_named_where_runs_of_one_kind_vary_alike() -> None:
    part = StudyPart(base=TrainSpec(), grid={"optimizer.lr": [1.0, 2.0]})
    alone = StudyPart(base=TrainSpec(), grid={"epochs": [3]})
    keys = run_keys(expand(StudySpec(parts={"slow": part, "fast": part, "long": alone})))
    assert [key.part for key in keys] == ["slow", "slow", "fast", "fast", ""]
    assert len(set(keys)) == len(keys)
    assert keys[0] == RunKey("slow", (("optimizer.lr", "1"),))


def test_runs_of_the_papers_study_are_named_by_what_they_are() -> None:
    study = StudySpec(preset="paper")
    assert labels_of(expand(study), study) == [
        "",  # the only checks of their theorems, which their figures name
        "",
        "n = 256, pixels as they are, 8 epochs, lr 2.13",
        "n = 256, centred pixels, 8 epochs, lr 2.13",
        "n = 64, pixels as they are, 8 epochs, lr 0.533",
        "n = 1024, pixels as they are, 8 epochs, lr 8.53",
        "n = 256, pixels as they are, 2 epochs, lr 2.13",
        "n = 256, pixels as they are, softplus, 2 epochs, lr 2.13",
        "n = 256, pixels as they are, softplus, 8 epochs, lr 2.13",
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_labels_tell_the_runs_of_every_preset_apart(name: str) -> None:
    study = StudySpec.model_validate({"preset": name})
    cells = expand(study)
    kinds = [cell.spec.kind if cell.spec.kind == "train" else cell.part for cell in cells]
    labels = list(zip(kinds, labels_of(cells, study), strict=True))
    assert len(set(labels)) == len(labels)


def test_parts_that_a_user_names_keep_their_names() -> None:
    grid: dict[str, list[JsonValue]] = {"optimizer.lr": [0.5]}
    parts = {
        "slow": StudyPart(base=TrainSpec(epochs=1), grid=grid),
        "fast": StudyPart(base=TrainSpec(epochs=2), grid=grid),
    }
    for study in (StudySpec(parts=parts), StudySpec(preset="paper", parts=parts)):
        assert labels_of(expand(study), study) == ["slow, lr 0.5", "fast, lr 0.5"]
    assert labels_of(expand(StudySpec(preset="quick")), None)[:2] == ["theorem-1", "theorem-2"]


def test_fields_with_the_same_last_name_are_named_in_full() -> None:
    params: dict[str, JsonValue] = {"optimizer.name": "sgd", "objective.name": "swish", "epochs": 3}
    assert params_in_words(params) == "optimizer.name sgd, objective.name swish, epochs 3"
    assert params_in_words({"optimizer.lr": 0.1, "seeds": [3]}) == "lr 0.1, seed 3"


def test_a_run_of_a_study_without_a_name_says_what_it_varies(store: Store) -> None:
    grid: dict[str, list[JsonValue]] = {"optimizer.lr": [0.1], "seeds": [[3]]}
    job = submit(store, StudySpec(base=TrainSpec(epochs=1), grid=grid))
    ((run, _),) = store.jobs.children(job.id)
    assert title_of(run) == "train 500 on mnist-mini, 1 epoch / lr 0.1, seed 3"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "true"),
        (1.0, "1"),
        (None, "null"),
        ("center", "center"),
        ([8, 16], "8 · 16"),
        ({"name": "swish", "beta": 2}, "swish beta 2"),
    ],
)
def test_values_are_worded_as_specs_are_written(value: Any, words: str) -> None:
    assert value_in_words(value) == words


def test_a_value_has_one_spelling() -> None:
    """2 and 2.0 are the same rate, in labels and in what identifies a run."""
    whole, point = ({"optimizer.lr": lr, "network.widths": [8]} for lr in (2, 2.0))
    assert RunKey.of("", whole) == RunKey.of("", point)
    assert RunKey.of("", point).label == "lr 2, widths 8"
    assert RunKey.of("", {"optimizer.lr": 0.5, "x": 1e30, "y": True}).label == (
        "lr 0.5, x 1e+30, y true"
    )
