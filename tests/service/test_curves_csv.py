"""Curves as tables: of jobs in every state, and of studies with every epoch of every run."""

import csv
import io
import re

import httpx
import pytest

from ffengine.theorems import FIGURE_DIRECTIONS
from service.jobs import JobError
from service.store import Store
from tests.factories import HALF, LEASE, finished
from tests.over_http import NOBODY, refused, submit, succeed
from tests.service.samples import check_result, train_result

ERROR = JobError(code="diverged", title="It diverged", detail="The loss is not finite.")


def table(client: httpx.Client, address: str) -> list[dict[str, str]]:
    response = client.get(address)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/csv")
    assert response.headers["content-disposition"].endswith('.csv"')
    found = list(csv.DictReader(io.StringIO(response.text)))
    assert not [cell for row in found for cell in row.values() if cell.startswith(("{", "["))]
    return found


def measured(store: Store, job: str) -> int:
    """Claim the job and measure some rows; the attempt."""
    claim = store.queue.claim(job, "w", LEASE)
    assert claim is not None
    rows = train_result().curves
    store.queue.record(job, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    return claim.attempt


@pytest.mark.slow
@pytest.mark.parametrize("state", ["running", "failed", "cancelled", "succeeded"])
def test_a_job_in_any_state_gives_its_curves(
    client: httpx.Client, store: Store, state: str
) -> None:
    job = submit(client)
    assert table(client, job.links["curves_csv"]) == []
    if state == "succeeded":
        succeed(store, job.id)
    else:
        attempt = measured(store, job.id)
        if state == "failed":
            store.queue.fail(job.id, attempt, ERROR)
        if state == "cancelled":
            client.post(f"/v1/jobs/{job.id}/cancel")
            store.queue.finish_stopped(job.id, attempt)
    assert client.get(f"/v1/jobs/{job.id}").json()["state"] == state
    rows = table(client, job.links["curves_csv"])
    assert [(row["epoch"], row["split"], row["sparsity"]) for row in rows] == [
        ("0", "positive", "0.5"),
        ("1", "positive", "0.5"),
    ]
    page = client.get(f"/jobs/{job.id}").text
    assert f'href="/v1/jobs/{job.id}/curves.csv"' in page
    assert ("result.npz" in page) is (state == "succeeded")


@pytest.mark.slow
def test_curves_that_grow_have_another_etag_and_no_parts(
    client: httpx.Client, store: Store
) -> None:
    job = submit(client).id
    address = f"/v1/jobs/{job}/curves.csv"
    before = client.get(address).headers["etag"]
    measured(store, job)
    after = client.get(address, headers={"If-None-Match": before, "Range": "bytes=0-3"})
    assert after.status_code == 200
    assert after.headers["etag"] != before


def test_a_study_gives_every_epoch_of_every_run(client: httpx.Client, store: Store) -> None:
    grid = {"network.widths": [[8], [8, 16]], "negatives.strategy": ["wrong_label"]}
    spec = {"kind": "study", "base": {"kind": "train", "epochs": 2}, "grid": grid}
    study = submit(client, spec).id
    address = f"/v1/jobs/{study}/curves.csv"
    first, second = (run.id for run, _ in store.jobs.children(study))
    etag = client.get(address).headers["etag"]
    measured(store, first)
    assert client.get(address).headers["etag"] != etag
    measured(store, second)
    rows = table(client, address)
    assert len(rows) == 2 * len(train_result().curves)
    assert [row["network.widths"] for row in rows] == ["8", "8", "8 · 16", "8 · 16"]
    assert {row["negatives.strategy"] for row in rows} == {"wrong_label"}
    assert {row["job"] for row in rows} == {first, second}
    assert [row["epoch"] for row in rows] == ["0", "1", "0", "1"]


def test_means_over_seeds_have_intervals_and_shares_stay_within_0_and_1(
    client: httpx.Client, store: Store
) -> None:
    study = submit(
        client,
        {"kind": "study", "base": {"kind": "train"}, "grid": {"seeds": [[0, 1]]}},
    ).id
    run = store.jobs.children(study)[0][0].id
    claim = store.queue.claim(run, "w", LEASE)
    assert claim is not None
    once = train_result().curves
    rows = [
        row.model_copy(update={"seed": seed, "sparsity": 0.4 + 0.2 * seed, "zero_fraction": seed})
        for seed in (0, 1)
        for row in once
    ]
    store.queue.record(run, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    means = table(client, f"/v1/jobs/{study}/curves.csv?mean=true")
    sparsity = [row for row in means if row["figure"] == "sparsity"]
    assert [(row["epoch"], row["seeds"]) for row in sparsity] == [("0", "2"), ("1", "2")]
    assert {row["params.seeds"] for row in means} == {"0 · 1"}
    assert float(sparsity[0]["mean"]) == pytest.approx(0.5)
    for row in means:
        if row["figure"] in ("sparsity", "zero_fraction") and row["low"]:
            assert 0 <= float(row["low"]) <= float(row["mean"]) <= float(row["high"]) <= 1
    assert means == table(client, f"/v1/jobs/{study}/curves.csv?mean=1")
    assert table(client, f"/v1/jobs/{run}/curves.csv?mean=true")


def test_a_check_gives_its_cells_and_their_means(client: httpx.Client, store: Store) -> None:
    job = submit(client, {"kind": "check", "theorem": 1, "widths": [8]}).id
    succeed(store, job)
    cells = client.get(f"/v1/jobs/{job}/result").json()["cells"]
    assert len(table(client, f"/v1/jobs/{job}/curves.csv")) == len(cells)
    means = table(client, f"/v1/jobs/{job}/curves.csv?mean=true")
    assert {"ratio"} <= {row["figure"] for row in means}


def test_the_result_of_a_study_is_a_tidy_table(client: httpx.Client, store: Store) -> None:
    grid = {"network.widths": [[8, 16]], "optimizer": [{"name": "sgd", "lr": 0.5}]}
    spec = {"kind": "study", "base": {"kind": "train", "epochs": 2}, "grid": grid}
    study = submit(client, spec).id
    succeed(store, store.jobs.children(study)[0][0].id)
    assert client.get(f"/v1/jobs/{study}?wait=10").json()["state"] == "succeeded"
    rows = table(client, f"/v1/jobs/{study}/result.csv")
    assert list(rows[0]) == [
        *("part", "network.widths", "optimizer", "job", "state", "theorem", "figure"),
        *("layer", "layers", "epoch", "split", "width", "method", "partition"),
        *("act", "theorem2_direction", "mean", "low", "high", "seeds"),
    ]
    for row in rows:
        assert row["network.widths"] == "8 · 16"
        assert row["optimizer"] == "sgd lr 0.5"
        assert not re.search(r"[\[{=]", "".join(row.values())), "neither JSON nor a packed text"
    assert {row["epoch"] for row in rows if row["figure"] == "sparsity"} == {"0", "1"}


@pytest.mark.slow
def test_every_table_says_along_which_direction_theorem_2_is_measured(
    client: httpx.Client, store: Store
) -> None:
    parts = {
        "training": {"base": {"kind": "train", "epochs": 1}},
        "first": {"base": {"kind": "check", "theorem": 1}},
        "second": {"base": {"kind": "check", "theorem": 2}},
    }
    study = submit(client, {"kind": "study", "parts": parts}).id
    jobs = {str(run.place["part"]): run.id for run, _ in store.jobs.children(study) if run.place}
    first = check_result()
    second = {"theorem": 2, "theorem2_direction": "goodness_difference"}
    cells = tuple(cell.model_copy(update=second) for cell in first.cells)
    finished(store, jobs["training"], train_result())
    finished(store, jobs["first"], first)
    finished(store, jobs["second"], first.model_copy(update={"theorem": 2, "cells": cells}))
    assert client.get(f"/v1/jobs/{study}?wait=10").json()["state"] == "succeeded"
    expected = {
        "training": ("", "training_step"),
        "first": ("1", ""),
        "second": ("2", "goodness_difference"),
    }
    for file in ("result.csv", "curves.csv?mean=true"):
        rows = table(client, f"/v1/jobs/{study}/{file}")
        assert {row["part"] for row in rows} == set(parts)
        for row in rows:
            theorem, direction = expected[row["part"]]
            if row["part"] == "training":
                direction = str(FIGURE_DIRECTIONS.get(row["figure"], ""))
            assert (row["theorem"], row["theorem2_direction"]) == (theorem, direction), row
    for row in table(client, f"/v1/jobs/{study}/curves.csv"):
        assert (row["theorem"], row["theorem2_direction"]) == expected[row["part"]]
    for part, job in jobs.items():
        for file in ("result.csv", "curves.csv"):
            for row in table(client, f"/v1/jobs/{job}/{file}"):
                assert row["theorem2_direction"] == expected[part][1]


def test_there_is_no_table_of_no_job(client: httpx.Client) -> None:
    refused(client.get(f"/v1/jobs/{NOBODY}/curves.csv"), 404, "no-such-job")
