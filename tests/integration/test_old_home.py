"""A home that fflab 0.2.0 left in the middle of its work, opened by today's code: all is readable,
and all goes on.

tests/data/make_home.py made it with the code of that time; tests/data/home-0.2.0.json says what is
in it.
"""

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import ffengine
from fflab import Client, StudyResult, TrainResult
from service.artifacts import Artifacts
from service.settings import Settings
from service.stack.stack import Stack
from service.store import Store
from tests.stack import Lab

DATA = Path(__file__).parents[1] / "data"
FACTS: dict[str, Any] = json.loads((DATA / "home-0.2.0.json").read_text())
JOBS: dict[str, str] = FACTS["jobs"]
RESULTS: dict[str, dict[str, Any]] = FACTS["results"]
RESUMED = "resumed from step"


@pytest.fixture(scope="module")
def old(redis_server: Path) -> Iterator[Lab]:
    """Today's stack on that home, for whoever has its key."""
    home = Path(tempfile.mkdtemp(prefix="fflab-"))
    with tarfile.open(DATA / "home-0.2.0.tar.gz") as archive:
        archive.extractall(home, filter="data")
    try:
        with Stack(Settings(home=home), port=0, device="cpu") as stack, Lab(stack) as lab:
            lab.http.headers["Authorization"] = f"Bearer {FACTS['key']}"
            yield lab
    finally:
        shutil.rmtree(home)


@pytest.fixture
def client(old: Lab) -> Iterator[Client]:
    with Client(old.stack.url, FACTS["key"]) as client:
        yield client


def got(old: Lab, path: str) -> httpx.Response:
    answer = old.http.get(path)
    assert answer.status_code == 200, (path, answer.text)
    return answer


def test_its_key_opens_it_and_none_does_not(old: Lab) -> None:
    assert httpx.get(f"{old.stack.url}/v1/jobs", trust_env=False).status_code == 401
    found = {job["id"]: job["name"] for job in got(old, "/v1/jobs?limit=100").json()["items"]}
    assert set(JOBS.values()) <= set(found)
    assert got(old, "/v1/datasets/tiny").json()["uploaded"]


def test_its_artifacts_are_known_as_its_own(old: Lab) -> None:
    settings = Settings(home=old.stack.home)
    store = Store(settings.database)
    assert store.database.service_id() == Artifacts(settings.artifacts).label()
    store.close()


@pytest.mark.parametrize("name", RESULTS)
def test_every_figure_is_read_as_it_was(old: Lab, client: Client, name: str) -> None:
    recorded, job_id = RESULTS[name], JOBS[name]
    table = "curves" if name == "train" else "cells"
    result = client.job(job_id).result
    assert result.provenance.engine_version == "0.2.0"
    assert result.provenance.fflab_version is None
    read = result.model_dump(mode="json")[table]
    assert [
        {key: row[key] for key in before} for row, before in zip(read, recorded[table], strict=True)
    ] == recorded[table]
    assert got(old, f"/v1/jobs/{job_id}/result").json() == recorded
    assert (
        len(got(old, f"/v1/jobs/{job_id}/result.csv").text.splitlines()) == len(recorded[table]) + 1
    )
    assert "fflab 0.2.0, numerics 0.2.0" in got(old, f"/v1/jobs/{job_id}/report.html").text
    assert "fflab 0.2.0, numerics 0.2.0" in got(old, f"/jobs/{job_id}").text
    assert "begins on lab" in got(old, f"/v1/jobs/{job_id}/log").text
    charts = got(old, f"/v1/jobs/{job_id}/charts").json()["items"]
    assert charts
    for chart in charts:
        assert got(old, f"/v1/jobs/{job_id}/chart/{chart['name']}.svg").text.startswith("<svg")


@pytest.mark.parametrize("name", ["check", "check at weights"])
def test_every_margin_is_there(old: Lab, name: str) -> None:
    with np.load(
        io.BytesIO(got(old, f"/v1/jobs/{JOBS[name]}/result.npz").content), allow_pickle=False
    ) as archive:
        satisfied = sum(
            int(archive[member].sum()) for member in archive.files if member.endswith("satisfied")
        )
    assert satisfied == sum(cell["satisfied"] for cell in RESULTS[name]["cells"])


def test_the_weights_are_what_they_were(old: Lab) -> None:
    weights = ffengine.import_weights(
        got(old, f"/v1/jobs/{JOBS['train']}/weights.safetensors").content
    )
    assert [hashlib.sha256(layer.tobytes()).hexdigest() for layer in weights.layers] == FACTS[
        "weights"
    ]


@pytest.mark.parametrize("name", RESULTS)
def test_the_same_spec_is_answered_from_it(old: Lab, name: str) -> None:
    answer = old.http.post("/v1/jobs", json={"spec": FACTS["specs"][name]})
    assert answer.status_code in (200, 202), answer.text
    assert (answer.json()["state"], answer.json()["cached_from"]) == ("succeeded", JOBS[name])


def rows(old: Lab, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = got(old, f"/v1/jobs/{job_id}/curves").json()["items"]
    return found


def test_the_paused_job_goes_on_from_its_checkpoint_to_the_figures_of_an_undisturbed_one(
    old: Lab, client: Client
) -> None:
    job_id, spec = JOBS["paused"], FACTS["specs"]["paused"]
    assert old.job(job_id)["state"] == "paused"
    before = rows(old, job_id)
    stopped = max(row["epoch"] for row in before)
    assert 0 < stopped < spec["epochs"]
    assert old.http.post(f"/v1/jobs/{job_id}/resume").status_code == 200
    undisturbed_id = old.submit(spec)
    for each in (job_id, undisturbed_id):
        assert old.until_state(each, "succeeded", "failed")["error"] is None
    assert RESUMED in got(old, f"/v1/jobs/{job_id}/log").text
    resumed, undisturbed = (client.job(each).result for each in (job_id, undisturbed_id))
    assert isinstance(resumed, TrainResult)
    assert isinstance(undisturbed, TrainResult)
    assert [row.epoch for row in resumed.curves] == [row.epoch for row in undisturbed.curves]
    early = [row.model_dump(mode="json") for row in undisturbed.curves if row.epoch <= stopped]
    if early == before:  # this machine computes the very bits of the one that made the home
        assert (resumed.curves, resumed.accuracy, resumed.measures) == (
            undisturbed.curves,
            undisturbed.accuracy,
            undisturbed.measures,
        )
    else:
        sparsity, expected = (
            [row.sparsity for row in result.curves] for result in (resumed, undisturbed)
        )
        assert sparsity == pytest.approx(expected, abs=0.02)


def test_the_study_goes_on_to_its_end(old: Lab, client: Client) -> None:
    study = old.until_state(JOBS["study"], "succeeded", "failed")
    assert (study["state"], study["error"]) == ("succeeded", None)
    result = client.job(JOBS["study"]).result
    assert isinstance(result, StudyResult)
    assert [cell.state for cell in result.cells] == ["succeeded"] * 4
    assert "sparsity" in got(old, f"/v1/jobs/{JOBS['study']}/result.csv").text
    runs = got(old, f"/v1/jobs?parent={JOBS['study']}&limit=100").json()["items"]
    logs = [got(old, f"/v1/jobs/{run_id}/log").text for run_id in sorted(run["id"] for run in runs)]
    assert [RESUMED in log for log in logs] == [False, False, True, False]
