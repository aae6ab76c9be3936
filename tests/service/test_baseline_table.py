"""How baselines are shown: table, chart, first lines, CSV and LaTeX, against rows made by hand."""

import csv
import io
from typing import Any

import httpx
import pytest

from ffengine.results import BaselineRow, BaselineTrial, TrainResult
from ffengine.spec import TrainSpec, digest
from service.results.answers import answer
from service.results.baseline_table import baseline_table, how_chosen, names_of
from service.results.charts import Source, available
from service.results.latex_tables import latex
from service.results.methods import methods
from service.results.paper_tables import paper_tables
from service.store import NewJob, Store
from tests.factories import finished
from tests.service.drawn import caption, drawn, points
from tests.service.samples import train_result, trained

OLD: dict[str, Any] = {  # a row as fflab 0.2.0 stored it
    "seed": 0,
    "baseline": "cross_entropy",
    "layer": 0,
    "partition": "test",
    "samples": 1000,
    "sparsity": 0.5,
    "dead_units": 1,
    "accuracy": 0.25,
}
TUNED: dict[str, Any] = {
    **OLD,
    "baseline": "greedy_cross_entropy",
    "place": 1,
    "optimizer": "adam",
    "epochs": 20,
    "batch_size": 100,
    "own_optimizer": True,
    "tuned": True,
    "select": "best_validation",
    "trials": (
        BaselineTrial(lr=0.001, accuracy=0.5, epoch=20),
        BaselineTrial(lr=0.1, accuracy=None, epoch=20, diverged=True),
    ),
}


def tuned(seed: int, layer: int, **changes: object) -> BaselineRow:
    """A row whose figures tell seeds and layers apart."""
    own = {"seed": seed, "layer": layer, "lr": 0.001 * (1 + seed), "epoch": 10 + seed}
    figures = {"layer_accuracy": 0.5 + layer / 4, "accuracy": 0.75, "sparsity": 0.25 + layer / 4}
    return BaselineRow.model_validate({**TUNED, **own, **figures, **changes})


def with_baselines(*rows: BaselineRow) -> TrainResult:
    return trained((0, 1)).model_copy(update={"baselines": rows})


RESULT = with_baselines(
    BaselineRow.model_validate(OLD),
    BaselineRow.model_validate({**OLD, "seed": 1, "accuracy": 0.75}),
    *(tuned(seed, layer) for seed in (0, 1) for layer in (0, 1)),
    tuned(0, 1, partition="validation", accuracy=0.9),
)


def test_the_table_says_of_each_baseline_how_it_was_trained_chosen_and_what_it_reaches() -> None:
    own, old, new = baseline_table(RESULT).rows
    assert own[0] == "Forward-Forward"
    assert own[6].startswith("85 %")
    assert old[:6] == [
        *("cross_entropy", "the run's", "the run's", "the run's own, not tuned", "the run's"),
        "the run's",
    ]
    assert old[6].startswith("50 %")
    assert new == [
        *("greedy_cross_entropy", "adam", "0.001 (1 seed), 0.002 (1 seed)"),
        "best of 2 rates on validation; best epoch on validation",
        *("10 to 11 of 20", "100", new[6], "50 %, 75 %", "0.250, 0.500"),
    ]
    assert new[6].startswith("75 %")


def test_notes_name_what_was_tried_and_that_a_rate_of_the_run_is_not_tuned() -> None:
    untuned, tried = baseline_table(RESULT).notes
    assert "not tuned" in untuned
    assert tried == (
        "greedy_cross_entropy tried the learning rates 0.001 (50.0 % on validation), "
        "0.1 (not finite in 2 of 2 seeds)."
    )
    [only] = baseline_table(with_baselines(tuned(0, 0))).notes
    assert "not tuned" not in only


def test_a_run_without_baselines_has_no_table() -> None:
    assert not baseline_table(trained()).rows
    assert "baselines" not in paper_tables([Source("", train_result())])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "best of 2 rates on validation; best epoch on validation"),
        ({"select": "last"}, "best of 2 rates on validation"),
        ({"tuned": False, "select": "last"}, "given, not tuned"),
        ({"tuned": False, "own_optimizer": False}, "the run's own, not tuned; best epoch on"),
    ],
)
def test_how_a_rate_was_chosen_is_said(changes: dict[str, Any], told: str) -> None:
    assert how_chosen(tuned(0, 0, **changes)).startswith(told)


def test_baselines_of_one_name_are_told_apart() -> None:
    same = [tuned(0, 0)], [tuned(0, 0, place=2, tuned=False)], [tuned(0, 0, place=3)]
    assert names_of(same[:2]) == [
        "greedy_cross_entropy (adam, tuned)",
        "greedy_cross_entropy (adam, not tuned)",
    ]
    assert len(set(names_of(same))) == 3


@pytest.mark.slow
def test_the_chart_has_baselines_and_readouts_beside_the_runs_own_accuracy() -> None:
    source = Source("", RESULT)
    found = {
        (row["way"], row["partition"]): row["mean"]
        for row in points("accuracy", source)
        if row["partition"] != "train"
    }
    assert found["cross_entropy", "test"] == 0.5
    assert found["greedy_cross_entropy", "test"] == 0.75
    assert found["greedy_cross_entropy", "validation"] == 0.9
    assert found["greedy_cross_entropy, layer 0", "test"] == 0.5
    assert "Learning rate not tuned: cross_entropy." in caption(drawn("accuracy", source))
    alone = train_result().model_copy(update={"baselines": (tuned(0, 0),)})
    assert "accuracy" in available([Source("", alone)])


def test_first_lines_say_the_accuracy_of_baselines_and_whether_they_were_tuned() -> None:
    lines = {line.subject: line for line in answer([Source("", RESULT)], []).statements}
    assert lines["Test accuracy of cross_entropy"].verdict == (
        "learning rate: the run's own, not tuned"
    )
    assert lines["Test accuracy of greedy_cross_entropy"].found.startswith("75 %")
    assert "best of 2 rates" in lines["Test accuracy of greedy_cross_entropy"].verdict


@pytest.mark.slow
def test_a_page_has_the_table_and_files_have_the_rows(client: httpx.Client, store: Store) -> None:
    new = NewJob(spec=TrainSpec(), spec_digest=digest(TrainSpec()))
    job = store.jobs.submit(new, max_queued=100).job.id
    finished(store, job, RESULT)
    page = client.get(f"/jobs/{job}").text
    assert "Beside other ways of training" in page
    assert "result.csv?rows=baselines" in page
    text = client.get(f"/v1/jobs/{job}/result.csv", params={"rows": "baselines"}).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(RESULT.baselines)
    assert rows[0]["trials"] == ""
    assert rows[2]["trials"] == "0.001: 0.5; 0.1: not finite"
    table = client.get(f"/v1/jobs/{job}/result.tex", params={"rows": "baselines"}).text
    assert "best of 2 rates on validation" in table
    check = client.get(f"/v1/jobs/{job}/result.csv", params={"rows": "potentials"})
    assert "only a check has potentials" in check.json()["detail"]


def test_the_table_for_a_paper_and_the_methods_say_what_was_chosen() -> None:
    table = paper_tables([Source("", RESULT)])["baselines"]()
    assert "10 to 11 of 20" in latex(table)
    spec = TrainSpec.model_validate(
        {
            "dataset": {"train_samples": 100, "validation_samples": 20},
            "evaluation": {
                "baselines": [
                    "cross_entropy",
                    {
                        "name": "deep_supervision",
                        "optimizer": {"name": "adam"},
                        "rates": [0.01, 0.001],
                        "epochs": 30,
                        "select": "best_validation",
                    },
                    {"name": "cross_entropy", "rates": [0.5], "batch_size": 20},
                ]
            },
        }
    )
    text = methods(spec, [RESULT.provenance], [], form="txt")
    assert "The baseline cross_entropy is the same stack with a linear readout" in text
    assert "the learning rate of 0.001, 0.01 that is best on the validation samples" in text
    assert "30 epochs" in text
    assert "with batches of 20 and the learning rate 0.5." in text
