"""Homes that fflab 0.2.0 left in the middle of their work, opened by today's code: all is readable,
and all goes on.

tests/data/make_home.py made them with the code of that time; a file of JSON beside each says what
is in it. The jobs of one run on a bundled data set, whose figures are what they were: its results
answer, and its checkpoints are gone on with. Those of the other run on an upload. Partitions and
labels of uploads follow other rules since, so nothing of it is mixed with what is computed now, and
each job that is computed anew says why.
"""

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

import ffengine
from ffengine.version import NUMERICS_VERSION, UPLOADS_VERSION
from fflab import Client, StudyResult, TrainResult
from service.artifacts import Artifacts
from service.settings import Settings
from service.stack.stack import Stack
from service.store import Store
from tests.stack import Lab

DATA = Path(__file__).parents[1] / "data"
RESUMED, ANEW = "resumed at epoch", "begins anew, because what it had computed is of version 0.2.0"
RUNS = ["train", "check", "check at weights"]  # those that have ended


class Home(NamedTuple):
    """A home that was left: its files, what is in it, whether its figures are those of today."""

    name: str
    facts: dict[str, Any]
    version: str  # today's of the figures on its data

    @property
    def same_figures(self) -> bool:
        """Whether what it computed is still what would be computed."""
        return self.version == "0.2.0"

    @property
    def jobs(self) -> dict[str, str]:
        """The id of each job."""
        return dict(self.facts["jobs"])


def left(name: str, version: str) -> Home:
    return Home(name, json.loads((DATA / f"{name}.json").read_text()), version)


HOMES = [
    left("home-0.2.0", UPLOADS_VERSION),
    left("home-0.2.0-digits", NUMERICS_VERSION),
]


@pytest.fixture(
    scope="module",
    params=[HOMES[0], pytest.param(HOMES[1], marks=pytest.mark.soak)],
    ids=["upload", "bundled"],
)
def home(request: pytest.FixtureRequest) -> Home:
    """One of the homes."""
    found: Home = request.param
    return found


@pytest.fixture(scope="module")
def old(redis_server: Path, home: Home) -> Iterator[Lab]:
    """Today's stack on that home, for whoever has its key."""
    folder = Path(tempfile.mkdtemp(prefix="fflab-"))
    with tarfile.open(DATA / f"{home.name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    try:
        with Stack(Settings(home=folder), port=0, device="cpu") as stack, Lab(stack) as lab:
            lab.http.headers["Authorization"] = f"Bearer {home.facts['key']}"
            yield lab
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def client(old: Lab, home: Home) -> Iterator[Client]:
    with Client(old.stack.url, home.facts["key"]) as client:
        yield client


def got(old: Lab, path: str) -> httpx.Response:
    answer = old.http.get(path)
    assert answer.status_code == 200, (path, answer.text)
    return answer


def test_its_key_opens_it_and_none_does_not(old: Lab, home: Home) -> None:
    assert httpx.get(f"{old.stack.url}/v1/jobs", trust_env=False).status_code == 401
    found = {job["id"]: job["name"] for job in got(old, "/v1/jobs?limit=100").json()["items"]}
    assert set(home.jobs.values()) <= set(found)
    assert got(old, "/v1/datasets/tiny").json()["uploaded"]


def test_its_artifacts_are_known_as_its_own(old: Lab) -> None:
    settings = Settings(home=old.stack.home)
    store = Store(settings.database)
    assert store.database.service_id() == Artifacts(settings.artifact_place).label()
    store.close()


@pytest.mark.parametrize("name", RUNS)
def test_every_figure_is_read_as_it_was(old: Lab, client: Client, home: Home, name: str) -> None:
    recorded, job_id = home.facts["results"][name], home.jobs[name]
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
    page = got(old, f"/jobs/{job_id}").text
    assert "fflab 0.2.0, numerics 0.2.0" in page
    assert ("the same spec is computed anew" in page) != home.same_figures
    assert "begins on lab" in got(old, f"/v1/jobs/{job_id}/log").text
    charts = got(old, f"/v1/jobs/{job_id}/charts").json()["items"]
    assert charts
    for chart in charts:
        assert got(old, f"/v1/jobs/{job_id}/chart/{chart['name']}.svg").text.startswith("<svg")


@pytest.mark.parametrize("name", ["check", "check at weights"])
def test_every_margin_is_there(old: Lab, home: Home, name: str) -> None:
    with np.load(
        io.BytesIO(got(old, f"/v1/jobs/{home.jobs[name]}/result.npz").content), allow_pickle=False
    ) as archive:
        satisfied = sum(
            int(archive[member].sum()) for member in archive.files if member.endswith("satisfied")
        )
    assert satisfied == sum(cell["satisfied"] for cell in home.facts["results"][name]["cells"])


def test_the_weights_are_what_they_were(old: Lab, home: Home) -> None:
    weights = ffengine.import_weights(
        got(old, f"/v1/jobs/{home.jobs['train']}/weights.safetensors").content
    )
    digests = [hashlib.sha256(layer.tobytes()).hexdigest() for layer in weights.layers]
    assert digests == home.facts["weights"]


@pytest.mark.parametrize("name", RUNS)
def test_the_same_spec_is_answered_from_it_or_says_why_not(old: Lab, home: Home, name: str) -> None:
    answer = old.http.post("/v1/jobs", json={"spec": home.facts["specs"][name]})
    assert answer.status_code in (200, 202), answer.text
    job, source = answer.json(), home.jobs[name]
    if home.same_figures:
        assert (job["state"], job["cached_from"]) == ("succeeded", source)
        return
    why = f"computed anew, because the result of {source} is of version 0.2.0 of the figures"
    assert why in job["progress"]["message"]
    assert job["cached_from"] is None
    assert old.until_state(job["id"], "succeeded", "failed")["error"] is None
    assert why in got(old, f"/v1/jobs/{job['id']}/log").text
    assert why in got(old, f"/jobs/{job['id']}").text
    again = old.http.post("/v1/jobs", json={"spec": home.facts["specs"][name]}).json()
    assert (again["state"], again["cached_from"]) == ("succeeded", job["id"])


def rows(old: Lab, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = got(old, f"/v1/jobs/{job_id}/curves").json()["items"]
    return found


def test_the_paused_job_comes_to_the_figures_of_an_undisturbed_one(
    old: Lab, client: Client, home: Home
) -> None:
    job_id, spec = home.jobs["paused"], home.facts["specs"]["paused"]
    assert old.job(job_id)["state"] == "paused"
    before = rows(old, job_id)
    stopped = max(row["epoch"] for row in before)
    assert 0 < stopped < spec["epochs"]
    assert old.http.post(f"/v1/jobs/{job_id}/resume").status_code == 200
    undisturbed_id = old.submit(spec)
    for each in (job_id, undisturbed_id):
        assert old.until_state(each, "succeeded", "failed")["error"] is None
    log = got(old, f"/v1/jobs/{job_id}/log").text
    assert (RESUMED in log, ANEW in log) == (home.same_figures, not home.same_figures)
    resumed, undisturbed = (client.job(each).result for each in (job_id, undisturbed_id))
    assert isinstance(resumed, TrainResult)
    assert isinstance(undisturbed, TrainResult)
    assert [row.epoch for row in resumed.curves] == [row.epoch for row in undisturbed.curves]
    early = [row.model_dump(mode="json") for row in undisturbed.curves if row.epoch <= stopped]
    # this machine computes the very bits of the one that made the home, or nothing of it is left
    if early == before or not home.same_figures:
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


def test_the_study_goes_on_to_its_end(old: Lab, client: Client, home: Home) -> None:
    job_id = home.jobs["study"]
    study = old.until_state(job_id, "succeeded", "failed")
    assert (study["state"], study["error"]) == ("succeeded", None)
    result = client.job(job_id).result
    assert isinstance(result, StudyResult)
    assert [cell.state for cell in result.cells] == ["succeeded"] * 4
    assert "sparsity" in got(old, f"/v1/jobs/{job_id}/result.csv").text
    runs = got(old, f"/v1/jobs?parent={job_id}&limit=100").json()["items"]
    logs = [got(old, f"/v1/jobs/{run_id}/log").text for run_id in sorted(run["id"] for run in runs)]
    same = home.same_figures
    assert [RESUMED in log for log in logs] == [False, False, same, False]
    assert [ANEW in log for log in logs] == [False, False, not same, False]
    several = f"are of several versions of the figures (0.2.0, {home.version})"
    assert (several in study["progress"]["message"]) != same
    assert (several in got(old, f"/v1/jobs/{job_id}/log").text) != same
