"""What a check says of potentials and of who pushes: charts, tables and files against rows made by
hand.
"""

import csv
import io
from typing import Any

import httpx
import pytest

from ffengine.results import PotentialRow, PushRow, Split
from ffengine.spec import CheckSpec, TrainSpec, digest
from service.results.charts import NothingToDraw, Source, available, render
from service.results.text_tables import check_tables
from service.store import NewJob, Store
from service.web.dashboard.view_models import tables_of
from tests.factories import finished
from tests.service.drawn import caption, drawn, points
from tests.service.samples import check_result, train_result


def potential(split: Split, ratio: float | None, seed: int = 0) -> PotentialRow:
    return PotentialRow(
        seed=seed,
        split=split,
        samples=10,
        energy_ratio=1.0,
        positive_potential=2.0,
        negative_potential=2.0 * (ratio or 0),
        potential_ratio=ratio,
        predicted_ratio=0.75,
    )


def push(relation: str, value: float | None, **changes: Any) -> PushRow:
    fields = {
        "seed": 0,
        "width": 8,
        "layer": 0,
        "epoch": 0,
        "method": "exact",
        "split": "positive",
        "relation": relation,
        "samples": 10,
        "pairs": 20,
        "push": value,
        "agreement": 0.5,
        "margin": 0.1,
        "margin_deviation": 0.2,
    }
    return PushRow.model_validate({**fields, **changes})


def check_with(**rows: Any) -> Source:
    return Source("", check_result().model_copy(update={"theorem": 2, **rows}))


def test_potentials_are_means_over_seeds_at_each_split() -> None:
    rows = (
        potential("positive", 1.25),
        potential("positive", 1.75, seed=1),
        potential("negative", 0.5),
        potential("negative", None, seed=1),  # that of positives is 0
    )
    found = {row["at"]: row for row in points("potentials", check_with(potentials=rows))}
    assert found["at positive samples"]["mean"] == 1.5
    assert found["at positive samples"]["seeds"] == 2
    assert found["at negative samples"]["mean"] == 0.5
    assert found["at negative samples"]["low"] is None  # one seed
    text = caption(drawn("potentials", check_with(potentials=rows)))
    assert "along the step on G(negative) - G(positive)" in text
    assert "0.750 at positive samples" in text


@pytest.mark.parametrize("rows", [(), (potential("positive", None),)])
def test_a_check_without_potentials_has_no_chart_of_them(rows: tuple[PotentialRow, ...]) -> None:
    assert "potentials" not in available([check_with(potentials=rows)])
    with pytest.raises(NothingToDraw):
        render("potentials", [check_with(potentials=rows)], "json")


def test_pushes_are_means_over_seeds_with_the_limit_once() -> None:
    rows = (
        push("own_pair", 0.5),
        push("own_pair", 1.5, seed=1),
        push("own_pair", 3.0, width=16),
        push("own_pair", -1.0, method="infinite_width"),
        push("own_pair", -1.0, method="infinite_width", width=16),
        push("other_class", None),
    )
    found = points("decomposition", check_with(decomposition=rows))
    assert [(row["series"], row["relation"], row["mean"], row["seeds"]) for row in found] == [
        ("n = 8", "own pair", 1.0, 2),
        ("n = 16", "own pair", 3.0, 1),
        ("infinite width", "own pair", -1.0, 1),
    ]
    text = caption(drawn("decomposition", check_with(decomposition=rows)))
    assert "theorem 2 along the step on G(negative) - G(positive)" in text
    [alone] = points("decomposition", check_with(decomposition=rows[:1]))
    assert alone["series"] == ""  # one plot needs no name


def test_a_check_that_was_not_asked_who_pushes_has_no_chart_of_it() -> None:
    assert "decomposition" not in available([check_with()])
    for rows in ((), (push("own_pair", None),)):
        with pytest.raises(NothingToDraw):
            render("decomposition", [check_with(decomposition=rows)], "json")


def test_tables_of_a_check_name_direction_and_units() -> None:
    rows = (
        potential("positive", 1.25),
        potential("positive", 1.75, 1),
        potential("negative", None),
    )
    pushes = (
        push("own_pair", 0.5),
        push("own_pair", 1.5, seed=1),
        push("own_pair", -0.0001, method="infinite_width"),
        push("same_class", None, pairs=0),
    )
    result = check_result().model_copy(update={"potentials": rows, "decomposition": pushes})
    potentials, decomposition = check_tables(result)
    assert [row[:5] for row in potentials.rows] == [
        ["positive samples", "3", "2", "1.5000", "-1.6765 to 4.6765"],
        ["negative samples", "0", "2", "–", "–"],
    ]
    assert [row[:5] for row in decomposition.rows] == [
        ["n = 8", "positive", "own pair", "+1.000", "-5.353 to +7.353"],
        ["infinite width", "positive", "own pair", "+0.000", "one seed"],
    ]
    for table in (potentials, decomposition):
        assert "along the step on G(negative) - G(positive)" in table.notes[0]
    assert not check_tables(check_result())
    assert not tables_of([result, result])  # a study's runs have theirs


def submitted(store: Store, *, spec: TrainSpec | CheckSpec) -> str:
    return store.jobs.submit(NewJob(spec=spec, spec_digest=digest(spec)), max_queued=100).job.id


def csv_of(client: httpx.Client, job: str, rows: str) -> list[dict[str, Any]]:
    answer = client.get(f"/v1/jobs/{job}/result.csv", params={"rows": rows})
    assert answer.status_code == 200, answer.text
    assert rows == "cells" or f"{rows}.csv" in answer.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_potentials_and_pushes_are_csv_files_too(client: httpx.Client, store: Store) -> None:
    rows, pushes = (
        (potential("positive", 1.25),),
        (push("own_pair", 0.5), push("other_class", None)),
    )
    result = check_result().model_copy(update={"potentials": rows, "decomposition": pushes})
    job = submitted(store, spec=CheckSpec())
    finished(store, job, result)
    [row] = csv_of(client, job, "potentials")
    assert row["potential_ratio"] == "1.25"
    assert row["theorem2_direction"] == "goodness_difference"
    own, other = csv_of(client, job, "decomposition")
    assert (own["relation"], own["push"]) == ("own_pair", "0.5")
    assert (other["relation"], other["push"]) == ("other_class", "")
    assert len(csv_of(client, job, "cells")) == len(result.cells)
    page = client.get(f"/jobs/{job}").text
    for kind in ("potentials", "decomposition"):
        assert f'href="/v1/jobs/{job}/result.csv?rows={kind}"' in page
    assert "Potentials before training" in page
    assert "Who pushes a sample" in page


@pytest.mark.slow
def test_rows_that_a_check_lacks_are_a_header_and_other_jobs_are_refused(
    client: httpx.Client, store: Store
) -> None:
    check, trained = submitted(store, spec=CheckSpec()), submitted(store, spec=TrainSpec())
    finished(store, check, check_result())
    finished(store, trained, train_result())
    assert csv_of(client, check, "potentials") == []
    text = client.get(f"/v1/jobs/{check}/result.csv?rows=decomposition").text
    assert text.startswith("seed,width,layer,")
    assert "rows=potentials" not in client.get(f"/jobs/{check}").text
    refused = client.get(f"/v1/jobs/{trained}/result.csv?rows=potentials")
    assert (refused.status_code, refused.json()["code"]) == (409, "no-rows")
    assert "only a check has potentials" in refused.json()["detail"]


def test_a_training_run_says_who_pushes_at_each_epoch_along_its_own_step(
    client: httpx.Client, store: Store
) -> None:
    pushes = tuple(
        push("own_pair", value, epoch=epoch, tau=float(epoch), seed=seed)
        for epoch, value in ((0, -0.5), (2, 1.5))
        for seed in (0, 1)
    )
    result = train_result().model_copy(update={"decomposition": pushes})
    source = Source("", result)
    found = points("decomposition", source)
    assert [(row["series"], row["mean"], row["seeds"]) for row in found] == [
        ("layer 0 (n = 8), epoch 0, tau = 0.00", -0.5, 2),
        ("layer 0 (n = 8), epoch 2, tau = 2.00", 1.5, 2),
    ]
    assert "along the training step" in caption(drawn("decomposition", source))
    job = submitted(store, spec=TrainSpec())
    finished(store, job, result)
    rows = csv_of(client, job, "decomposition")
    assert [row["epoch"] for row in rows] == ["0", "0", "2", "2"]
    assert {row["theorem2_direction"] for row in rows} == {"training_step"}
    assert "Who pushes a sample" in client.get(f"/jobs/{job}").text
