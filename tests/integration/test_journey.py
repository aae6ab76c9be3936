"""A user's way through the real stack over HTTP: every kind of job, its figures against direct
calls of the engine.
"""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ffengine
from benchmarks.waiting import PATIENCE_SECONDS, PROGRAM_SECONDS
from ffengine.results import CheckResult, ForecastResult, TrainResult
from ffengine.spec import CheckSpec, ForecastSpec, StudySpec, TrainSpec
from ffengine.study import expand, summarise
from ffengine.training import EpochReport
from service.client import Client, JobFailed, NotFound, Refused
from tests.stack import Lab

TRAIN = {
    "kind": "train",
    "dataset": {"train_samples": 400, "test_samples": 100},
    "network": {"widths": [32, 16], "normalize": "l2"},
    "epochs": 2,
    "batch_size": 100,
    "seeds": [0, 1],
    "monitor": {"samples": 200},
}


@pytest.fixture
def client(lab: Lab) -> Iterator[Client]:
    with Client(lab.stack.url) as client:
        yield client


def directly(spec: TrainSpec) -> tuple[TrainResult, list[EpochReport]]:
    reports: list[EpochReport] = []
    return ffengine.train(spec, on_epoch=reports.append), reports


def test_a_training_job_reports_what_the_engine_computes(client: Client) -> None:
    expected, _ = directly(TrainSpec.model_validate(TRAIN))
    job = client.submit(TRAIN, fresh=True).wait(PATIENCE_SECONDS)
    result = job.result
    assert isinstance(result, TrainResult)
    assert result.curves == expected.curves
    assert result.accuracy == expected.accuracy
    assert result.diagnostics == expected.diagnostics
    assert job.rows == [row.model_dump(mode="json") for row in expected.curves]
    assert job.job.provenance == result.provenance
    assert result.provenance.dataset == expected.provenance.dataset


@pytest.mark.parametrize("theorem", [1, 2])
def test_a_check_reports_what_the_engine_computes(client: Client, theorem: int) -> None:
    spec = {
        "kind": "check",
        "theorem": theorem,
        "widths": [16, 32],
        "samples": 300,
        "batch_size": 100,
        "seeds": [0, 1],
    }
    result = client.submit(spec, fresh=True).wait(PATIENCE_SECONDS).result
    assert isinstance(result, CheckResult)
    assert result.cells == ffengine.check(CheckSpec.model_validate(spec)).cells


def test_a_check_at_the_weights_of_a_training_job(client: Client) -> None:
    spec = TrainSpec.model_validate(TRAIN)
    _, reports = directly(spec)
    trained = client.submit(TRAIN, fresh=True).wait(PATIENCE_SECONDS)
    asked = {
        "kind": "check",
        "theorem": 2,
        "at": {"job": trained.id, "epoch": 1, "layer": 1},
        "samples": 200,
        "batch_size": 100,
        "seeds": [1],
    }
    result = client.submit(asked).wait(PATIENCE_SECONDS).result
    checkpoint = next(
        report.checkpoint for report in reports if report.layers == (1,) and report.epoch == 1
    )
    expected = ffengine.check(
        CheckSpec.model_validate(asked), trained=checkpoint, trained_spec=spec
    )
    assert isinstance(result, CheckResult)
    assert result.cells == expected.cells
    with pytest.raises(Refused, match="/spec/at/epoch"):
        client.submit({**asked, "at": {"job": trained.id, "epoch": 9, "layer": 1}})


FORECAST = {
    "kind": "forecast",
    "dataset": {"train_samples": 400, "test_samples": 100},
    "units": 48,
    "widths": [32, 256],
    "blocks": 8,
    "batch_size": 100,
    "samples": 200,
    "until_tau": 3.0,
    "optimizer": {"name": "sgd", "lr": 0.1, "scale_lr_by_width": False},
}


def test_a_forecast_reports_what_the_engine_computes(lab: Lab, client: Client) -> None:
    expected = ffengine.forecast(ForecastSpec.model_validate(FORECAST))
    job = client.submit(FORECAST, fresh=True).wait(PATIENCE_SECONDS)
    result = job.result
    assert isinstance(result, ForecastResult)
    assert result.rows == expected.rows
    assert result.onset == expected.onset
    assert result.epochs_needed == expected.epochs_needed
    assert [row["c"] for row in job.rows] == [point.c for point in expected.points]
    document = lab.http.get(f"/v1/jobs/{job.id}/result").json()
    assert document["kind"] == "forecast"
    table = list(csv.DictReader(io.StringIO(lab.http.get(f"/v1/jobs/{job.id}/result.csv").text)))
    assert len(table) == len(expected.rows)
    assert [row["width"] for row in table[:1]] == [""]
    assert float(table[-1]["run_high"]) == expected.rows[-1].run_high
    measured = lab.http.get(f"/v1/jobs/{job.id}/curves.csv").text
    assert "c_without" not in measured.splitlines()[0]
    means = lab.http.get(f"/v1/jobs/{job.id}/curves.csv?mean=true").text
    assert means.startswith("epoch,tau,split,figure")
    for name in ("forecast_sparsity", "forecast_theorem2"):
        assert lab.http.get(f"/v1/jobs/{job.id}/chart/{name}.svg").text.startswith("<svg")
    assert lab.http.get(f"/v1/jobs/{job.id}/result.npz").status_code == 409
    page = lab.http.get(f"/jobs/{job.id}").text
    assert "Forecast for layers of any width" in page
    assert "Epochs needed" in page
    report = lab.http.get(f"/v1/jobs/{job.id}/report.html").text
    assert "Epochs needed" in report
    assert "Measured beside published" not in report


def test_a_study_has_forecasts_among_its_runs(lab: Lab, client: Client) -> None:
    study = {"kind": "study", "base": FORECAST, "grid": {"units": [32, 48]}}
    estimated = lab.http.post("/v1/estimate", json={"spec": study})
    assert estimated.json()["runs"] == 2
    job = client.submit(study, fresh=True).wait(PATIENCE_SECONDS)
    for run, units in zip(job.result.cells, (32, 48), strict=True):
        expected = ffengine.forecast(ForecastSpec.model_validate({**FORECAST, "units": units}))
        assert run.kind == "forecast"
        assert run.summary == summarise(expected)
    page = lab.http.get(f"/jobs/{job.id}").text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Epochs needed" in page
    assert "units 48: Forecast for layers of any width" in page
    assert "tau_star" in lab.http.get(f"/v1/jobs/{job.id}/result.csv").text
    means = lab.http.get(f"/v1/jobs/{job.id}/curves.csv?mean=true").text
    assert "units" in means.splitlines()[0].split(",")
    body = {"spec": {**study, "grid": {"blocks": [64]}}}
    refused = lab.http.post("/v1/jobs", json=body).json()
    assert refused["errors"][0]["pointer"].startswith("/spec/grid/blocks")


def test_a_forecast_that_the_theory_does_not_cover_is_refused_with_its_field(lab: Lab) -> None:
    body = {"spec": {**FORECAST, "network": {"widths": [500, 500]}}}
    answer = lab.http.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"].startswith("/spec/network")
    assert "one layer" in error["message"]


def test_the_weights_of_a_training_job_are_those_that_the_engine_learns(client: Client) -> None:
    spec = TrainSpec.model_validate(TRAIN)
    _, reports = directly(spec)
    trained = client.submit(TRAIN).wait(PATIENCE_SECONDS)
    for query, report in (("", reports[-1]), ("?epoch=1&layer=0", reports[1])):
        weights = ffengine.import_weights(
            client.download(trained.id, f"weights.safetensors{query}")
        )
        assert (weights.spec, weights.epoch) == (spec, report.epoch)
        for found, expected in zip(weights.layers, report.checkpoint.weights, strict=True):
            assert found.tobytes() == expected.numpy().tobytes()
    with pytest.raises(Refused, match="no such weights"):
        client.download(trained.id, "weights.safetensors?epoch=7")


def test_a_study_runs_its_grid_and_aggregates_over_seeds(client: Client) -> None:
    spec = {
        "kind": "study",
        "base": TRAIN,
        "grid": {"network.widths": [[8], [16]], "negatives.strategy": ["wrong_label", "hybrid"]},
    }
    job = client.submit(spec, fresh=True).wait(PATIENCE_SECONDS)
    result = job.result
    assert result.kind == "study"
    cells = expand(StudySpec.model_validate(spec))
    assert [cell.params for cell in result.cells] == [cell.params for cell in cells]
    for cell, found in zip(cells, result.cells, strict=True):
        assert found.state == "succeeded"
        assert isinstance(cell.spec, TrainSpec)
        assert found.summary == summarise(ffengine.train(cell.spec))
    assert len(list(client.jobs(parent=job.id))) == 4
    assert b"<html" in client.download(job.id, "report.html")
    assert job.chart("sparsity").startswith(b"\x89PNG")


def test_an_idempotency_key_makes_one_job(lab: Lab) -> None:
    body = {"spec": {**TRAIN, "seeds": [5]}, "fresh": True}
    key = {"Idempotency-Key": "journey-1"}
    first = lab.http.post("/v1/jobs", json=body, headers=key)
    again = lab.http.post("/v1/jobs", json=body, headers=key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.json()["id"] == again.json()["id"]
    other = lab.http.post("/v1/jobs", json={**body, "name": "another"}, headers=key)
    assert other.status_code == 422
    assert other.headers["Content-Type"] == "application/problem+json"


def test_an_identical_spec_is_answered_from_the_cache(client: Client) -> None:
    spec = {**TRAIN, "seeds": [6]}
    first = client.submit(spec).wait(PATIENCE_SECONDS)
    second = client.submit(spec)
    assert (second.job.state.value, second.job.cached, second.job.cached_from) == (
        "succeeded",
        True,
        first.id,
    )
    assert second.result == first.result


def test_reading_waiting_and_paging(lab: Lab, client: Client) -> None:
    job = client.submit({**TRAIN, "seeds": [7]}, tags=["paged"], name="one")
    waited = lab.http.get(f"/v1/jobs/{job.id}", params={"wait": 30})
    assert waited.json()["state"] == "succeeded"
    assert (
        lab.http.get(
            f"/v1/jobs/{job.id}", headers={"If-None-Match": waited.headers["ETag"]}
        ).status_code
        == 304
    )
    others = [
        client.submit({**TRAIN, "seeds": [8 + number]}, tags=["paged"]).id for number in range(3)
    ]
    assert [found.id for found in client.jobs(tag="paged", limit=2)] == [*reversed(others), job.id]


def test_a_stream_resumed_in_its_middle_is_the_whole_stream(lab: Lab, client: Client) -> None:
    job = client.submit({**TRAIN, "seeds": [20]}, fresh=True)
    whole = list(job.events())
    assert [event.id for event in whole] == list(range(1, len(whole) + 1))
    assert (whole[-1].type, whole[-1].data["state"]) == ("end", "succeeded")
    assert list(job.events(after=3)) == whole[3:]
    page = lab.http.get(f"/v1/jobs/{job.id}/events", headers={"Accept": "application/json"}).json()[
        "items"
    ]
    assert [event["id"] for event in page] == [event.id for event in whole]


def test_the_table_is_the_result(client: Client) -> None:
    job = client.submit(TRAIN).wait(PATIENCE_SECONDS)
    rows = list(csv.DictReader(io.StringIO(client.download(job.id, "result.csv").decode())))
    for row, expected in zip(rows, job.rows, strict=True):
        assert row.pop("theorem2_direction") == "training_step"
        assert {
            key: (json.loads(text) if text and key not in ("split", "act") else text or None)
            for key, text in row.items()
        } == dict.fromkeys(row) | expected, "a table has all columns, a row what was measured"


def test_numbers_that_diverge_fail_with_a_diagnosis_and_their_curves(client: Client) -> None:
    job = client.submit(
        {
            **TRAIN,
            "optimizer": {"lr": 1e9},
            "epochs": 30,
            "network": {"widths": [16], "activation": "squared_relu"},
        }
    )
    with pytest.raises(JobFailed, match="diverged"):
        job.wait(PATIENCE_SECONDS)
    assert job.curves
    with pytest.raises(Refused, match="has no result"):
        _ = job.result


def test_malformed_bodies_to_every_route_are_refused_with_a_problem(lab: Lab) -> None:
    document = lab.http.get("/openapi.json").json()
    bodies: list[Any] = [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"spec": {"kind": "train", "epochs": "x"}}',
        b'{"spec": {"kind": "nothing"}}',
    ]
    bodies += [
        b'{"spec":' + b"[" * 100_000,
        b'{"spec": {"kind": "train", "seeds": [1' + b"0" * 5000 + b"]}}",
        b'{"spec": {"kind": "train", "nol": NaN}}',
    ]
    for path, methods in document["paths"].items():
        for method in methods:
            for body in bodies if method == "post" and "{" not in path else bodies[:2]:
                address = (
                    path.replace("{job_id}", "job_" + "f" * 32)
                    .replace("{name}", "..%2f")
                    .replace("{file}", "x.png")
                    .replace("{code}", "x")
                )
                answer = lab.http.request(
                    method, address, content=body, headers={"Content-Type": "application/json"}
                )
                assert answer.status_code < 500, (method, path, body[:40], answer.text)
                if answer.status_code >= 400:
                    assert answer.headers["Content-Type"] == "application/problem+json", (
                        method,
                        path,
                        body[:40],
                    )
    wrong = lab.http.post(
        "/v1/jobs", json={"spec": {"kind": "train", "negatives": {"strategy": "noise", "sigma": 1}}}
    )
    assert wrong.json()["errors"] == [
        {
            "pointer": "/spec/negatives/sigma",
            "message": "is not a known field; known are redraw, strategy, scale",
        }
    ]


def fflab(lab: Lab, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "service.cli", *arguments]
    environment = {
        "FFLAB_URL": lab.stack.url,
        "FFLAB_HOME": str(lab.stack.home),
        "PATH": "/usr/bin:/bin",
    }
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=PROGRAM_SECONDS
    )


def test_the_command_line_against_the_stack(lab: Lab, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(json.dumps(TRAIN))
    submitted = fflab(
        lab, "submit", str(file), "--set", "seeds=[30]", "--set", "network.widths=[12]", "--wait"
    )
    assert submitted.returncode == 0, submitted.stderr
    job_id = submitted.stdout.splitlines()[0]
    assert client.read(job_id).state.value == "succeeded"
    assert job_id in fflab(lab, "jobs").stdout
    assert json.loads(fflab(lab, "show", "last", "--json").stdout)["id"] == job_id
    assert "succeeded" in fflab(lab, "watch", job_id[-8:]).stdout
    target = tmp_path / "curves.csv"
    assert fflab(lab, "result", job_id, "-o", str(target)).returncode == 0
    assert target.read_bytes() == client.download(job_id, "result.csv")
    cancelled = fflab(lab, "cancel", job_id)
    assert cancelled.returncode == 2
    assert "cannot be cancelled" in cancelled.stderr
    examined = fflab(lab, "doctor")
    assert examined.returncode == 0, examined.stdout
    assert "answers" in examined.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("submit", "papre"), 2, "did you mean 'paper'?"),
        (("submit", "paper", "--set", "prest=x"), 2, "did you mean 'preset'?"),
        (("show", "job_" + "0" * 32), 4, "no such job"),
        (("result", "nothing"), 4, "no job matches"),
        (("run", "quick", "--set", "base"), 2, "expected FIELD=VALUE"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line_that_helps(
    lab: Lab, arguments: tuple[str, ...], code: int, words: str
) -> None:
    answer = fflab(lab, *arguments)
    assert answer.returncode == code, answer.stderr
    assert words in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_an_unknown_job_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound):
        client.job("job_" + "0" * 32)
