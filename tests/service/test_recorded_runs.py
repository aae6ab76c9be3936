"""Runs that another program computed: what is taken, and how they are shown."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import torch
from torch import nn

from ffengine import watch
from ffengine.results import RecordedResult, RecordedRow
from fflab import Client, Refused
from service.jobs import JobState
from service.store import Store
from tests.commands import Fflab
from tests.over_http import TRAIN

ROW: dict[str, Any] = {"layer": 0, "epoch": 0, "samples": 10, "sparsity": 0.4}


def rows(epochs: int = 3, layers: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "layer": layer,
            "epoch": epoch,
            "split": split,
            "samples": 10,
            "dead_samples": 1,
            "sparsity": 0.4 + epoch / 100,
            "goodness": 2.0 + epoch,
            "theorem1_ratio": 0.5,
            "zero_fraction": 0.5,
            "dead_units": 3,
            "width": 9,
            "auc": 0.7,
        }
        for epoch in range(epochs)
        for layer in range(layers)
        for split in ("positive", "negative")
    ]


@pytest.fixture
def api(client: httpx.Client) -> Iterator[Client]:
    with Client(str(client.base_url)) as found:
        yield found


def test_a_watched_loop_is_brought_with_its_rows_and_names(api: Client) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU())
    with watch(model, splits="halves", steps_per_epoch=2, every=1) as watched:
        for _ in range(3):
            model(torch.randn(8, 4))
    job = api.submit_run(
        "mine", watched, config={"lr": 0.1, "batch": 8, "peer": True}, program="lab/code", key="k"
    )
    assert (job.job.kind, job.job.state, job.job.progress.fraction) == (
        "recorded",
        JobState.succeeded,
        1,
    )
    found = api.result(job.id)
    assert isinstance(found, RecordedResult)
    assert list(found.curves) == watched.rows
    assert found.recorded.computed_by_fflab is False
    assert {"python", "torch", "fflab"} <= found.recorded.versions.keys()
    assert job.job.spec.model_dump()["layers"] == ("0", "2")
    again = api.submit_run(
        "mine", watched, config={"lr": 0.1, "batch": 8, "peer": True}, program="lab/code", key="k"
    )
    assert again.id == job.id


@pytest.mark.slow
def test_it_is_shown_with_charts_and_says_everywhere_that_it_was_recorded(
    api: Client, client: httpx.Client, store: Store
) -> None:
    job = api.submit_run("mine", rows(), program="lab/code <b>1</b>", data="my digits")
    assert job.job.attempts == 0
    assert {"sparsity", "theorem1"} <= set(api.charts(job.id))
    page = client.get(f"/jobs/{job.id}", headers={"accept": "text/html"}).text
    assert "fflab shows these curves and did not compute them" in page
    assert "lab/code &lt;b&gt;1&lt;/b&gt;" in page
    assert "Clone and edit" not in page
    assert "recorded by" in page
    assert client.get(f"/new?like={job.id}").status_code == 422
    listed = client.get("/", params={"kind": "recorded"}, headers={"accept": "text/html"}).text
    assert job.id in listed
    assert "not by fflab" in client.get(f"/v1/jobs/{job.id}/methods.txt").text
    (line,) = store.jobs.headlines([job.job]).values()
    assert line.figures == {"S+": pytest.approx(0.42), "S-": pytest.approx(0.42)}
    assert [one.id for one in api.jobs(kind="recorded")] == [job.id]
    table = list(api.job_table(["S+", "state"], sort="-S+"))
    assert table[0]["S+"] == pytest.approx(0.42)


@pytest.mark.slow  # a chart is drawn in a process of its own
@pytest.mark.parametrize("splits", [["positive"], ["positive", "negative"]])
def test_legends_name_the_splits_that_there_are(
    api: Client, client: httpx.Client, splits: list[str]
) -> None:
    job = api.submit_run("mine", [row for row in rows() if row["split"] in splits])
    chart = client.get(f"/v1/jobs/{job.id}/chart/sparsity.json")
    assert chart.status_code == 200
    named = re.findall(r'"values": ?(\[[^\]]*"positive"[^\]]*\])', chart.text)
    assert all(json.loads(one) == splits for one in named)
    assert bool(named) == (len(splits) == 1)  # else a legend has all of its scale


@pytest.mark.slow
def test_it_is_compared_and_exported_beside_others(
    api: Client, client: httpx.Client, fflab: Fflab
) -> None:
    one, other = api.submit_run("one", rows(2), config={"lr": 1}), api.submit_run("other", rows(4))
    compared = client.get(
        "/compare", params={"job": [one.id, other.id]}, headers={"accept": "text/html"}
    )
    assert compared.status_code == 200
    assert "sparsity" in compared.text
    text = client.get(f"/v1/jobs/{one.id}/result.csv").text.splitlines()
    assert text[0] == ",".join(RecordedRow.model_fields)
    assert len(text) == 1 + len(rows(2))
    means = client.get(f"/v1/jobs/{one.id}/curves.csv", params={"mean": "true"}).text
    assert "sparsity" in means
    assert len(api.rows(one.id)) == len(rows(2))
    assert client.get(f"/v1/jobs/{one.id}/result.npz").status_code == 409
    assert client.get(f"/v1/jobs/{one.id}/curves.parquet").status_code == 200
    assert client.get(f"/v1/jobs/{one.id}/report.html").status_code == 200
    for command in (["show", one.id], ["jobs"], ["diff", one.id, other.id]):
        assert fflab(*command).code == 0, command
    api.delete(one.id)
    assert client.get(f"/v1/jobs/{one.id}").status_code == 404


def test_no_result_answers_another_and_nothing_runs(api: Client, store: Store) -> None:
    first, second = api.submit_run("a", rows()), api.submit_run("a", rows())
    assert first.id != second.id
    assert not second.job.cached
    assert store.jobs.counts()["queued"] == 0


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"rows": []}, "/rows"),
        ({"rows": [ROW, ROW]}, "/rows"),
        ({"rows": [{**ROW, "sparsity": 1.5}]}, "/rows/0/sparsity"),
        ({"rows": [{**ROW, "samples": -1}]}, "/rows/0/samples"),
        ({"rows": [{**ROW, "samples": True}]}, "/rows/0/samples"),
        ({"rows": [{**ROW, "layer": 10_000}]}, "/rows/0/layer"),
        ({"rows": [{**ROW, "dead_samples": 11}]}, "/rows/0"),
        ({"rows": [{**ROW, "dead_units": 3, "width": 2}]}, "/rows/0"),
        ({"rows": [{**ROW, "split": "both"}]}, "/rows/0/split"),
        ({"rows": [{**ROW, "mine": 1}]}, "/rows/0/mine"),
        ({"spec": {"kind": "train"}}, "/spec/kind"),
        ({"spec": {"kind": "recorded", "config": {"a": [1]}}}, "/spec/config/a"),
        ({"spec": {"kind": "recorded", "config": {"a\u0001": 1}}}, "/spec/config"),
        ({"spec": {"kind": "recorded", "program": "x" * 201}}, "/spec/program"),
        ({"priority": "high"}, "/priority"),
    ],
)
def test_what_cannot_be_a_recorded_run_is_refused(
    client: httpx.Client, change: dict[str, Any], pointer: str
) -> None:
    answer = client.post("/v1/runs", json={"rows": [ROW], **change})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)


def test_a_number_that_is_none_is_refused(client: httpx.Client) -> None:
    body = '{"rows":[{"layer":0,"epoch":0,"samples":1,"goodness":1e999}]}'
    headers = {"Content-Type": "application/json"}
    assert client.post("/v1/runs", content=body, headers=headers).status_code in (400, 422)


@pytest.mark.slow
def test_a_recorded_run_is_never_submitted_as_a_job(client: httpx.Client, api: Client) -> None:
    answer = client.post("/v1/jobs", json={"spec": {"kind": "recorded"}})
    assert answer.status_code == 422
    with pytest.raises(Refused):
        api.submit_run("too many", [{**ROW, "epoch": epoch} for epoch in range(25_000)])


def test_a_check_names_no_recorded_run(client: httpx.Client, api: Client) -> None:
    job = api.submit_run("mine", rows())
    at = {"job": job.id, "epoch": 0}
    answer = client.post("/v1/jobs", json={"spec": {"kind": "check", "at": at}})
    assert answer.status_code == 422
    assert client.get(f"/v1/jobs/{job.id}/checkpoints").status_code == 409
    assert client.post("/v1/jobs", json={"spec": TRAIN}).status_code == 202
