"""What may be changed of a job, and what it leaves: downloads, figures of samples, the log; what is
kept of it all.
"""

import io
import json
import logging
import os
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from sqlalchemy import delete, update

from ffengine.results import Provenance
from ffengine.spec import CheckSpec, StudySpec, TrainSpec
from ffengine.study import expand
from service.artifacts import DIGEST_BYTES, Artifacts
from service.background.retention import (
    UNKNOWN_SECONDS,
    find_expired,
    find_unknown,
    remove_unknown,
    sweep,
)
from service.jobs import LogLine
from service.results.charts.finish import DARK_PAGE
from service.results.descriptions import provenance_lines
from service.settings import Retention, Settings
from service.store import NewJob, StillNeeded, Store
from service.store.tables import JobRow, ResultRow, SummaryRow
from service.web.app import create_app
from tests.factories import (
    ERROR,
    HALF,
    LEASE,
    STUDY,
    aged,
    claimed,
    end,
    ended,
    finished,
    read,
    submit,
)
from tests.over_http import NOBODY, TRAIN, refused
from tests.over_http import submit as submit_over
from tests.service.samples import check_result, provenance, train_result
from tests.serving import client_of


def test_what_does_not_touch_the_computation_can_be_changed(client: httpx.Client) -> None:
    job = submit_over(client, tags=["a"])
    changed = client.patch(
        f"/v1/jobs/{job.id}", json={"name": "better", "priority": "high", "pinned": True}
    ).json()
    assert (changed["name"], changed["priority"], changed["pinned"], changed["tags"]) == (
        "better",
        "high",
        True,
        ["a"],
    )
    assert (
        client.patch(f"/v1/jobs/{job.id}", json={"name": None, "tags": []}).json()["name"] is None
    )
    assert client.get(f"/v1/jobs/{job.id}").json()["priority"] == "high"
    assert "/epochs" in [
        error.pointer
        for error in refused(
            client.patch(f"/v1/jobs/{job.id}", json={"epochs": 3}), 422, "invalid"
        ).errors
    ]
    refused(client.patch(f"/v1/jobs/{NOBODY}", json={"pinned": True}), 404, "no-such-job")


def test_limits_and_pins_are_given_with_the_job(client: httpx.Client) -> None:
    job = submit_over(client, timeout_seconds=90, pinned=True)
    assert (job.timeout_seconds, job.pinned) == (90.0, True)
    for wrong in (0, -1, 1e12, "soon"):
        refused(
            client.post("/v1/jobs", json={"spec": TRAIN, "timeout_seconds": wrong}), 422, "invalid"
        )


@pytest.mark.slow
def test_downloads_have_names_and_are_not_sent_again(client: httpx.Client, store: Store) -> None:
    job = submit_over(client, name="Größe 12 / ü")
    finished(store, job.id, train_result(epochs=2))
    names = {
        "result": "result.json",
        "result.csv": "result.csv",
        "result.npz": "result.npz",
        "report.html": "report.html",
    }
    names |= {"chart/sparsity.svg": "sparsity.svg", "chart/sparsity.json": "sparsity.json"}
    names |= {"chart/sparsity.svg?theme=dark": "sparsity-dark.svg"}
    for path, name in names.items():
        first = client.get(f"/v1/jobs/{job.id}/{path}")
        assert first.status_code == 200, first.text
        assert (
            f'filename="fflab-train-grosse-12-u-{job.id}-{name}"'
            in first.headers["content-disposition"]
        )
        again = client.get(
            f"/v1/jobs/{job.id}/{path}",
            headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'},
        )
        assert (again.status_code, again.content, again.headers["etag"]) == (
            304,
            b"",
            first.headers["etag"],
        )
        assert client.get(f"/v1/jobs/{job.id}/{path}").content == first.content
    tags = [client.get(f"/v1/jobs/{job.id}/{path}").headers["etag"] for path in names]
    assert len(set(tags)) == len(tags)


@pytest.mark.slow
def test_the_charts_that_there_are_can_be_listed_and_each_of_them_is_there(
    client: httpx.Client, store: Store
) -> None:
    job = submit_over(client)
    assert client.get(f"/v1/jobs/{job.id}/charts").json() == {"items": []}
    refused(client.get(f"/v1/jobs/{job.id}/chart/sparsity.png"), 404, "no-such-chart")
    finished(store, job.id, train_result(epochs=2))
    charts = client.get(f"/v1/jobs/{job.id}/charts").json()["items"]
    assert {"theorem2", "sparsity"} <= {chart["name"] for chart in charts}
    for chart in charts:
        assert chart["meaning"]
        assert set(chart["links"]) == {"png", "svg", "pdf", "json", "html", "csv"}
        light = client.get(chart["links"]["svg"]).text
        dark = client.get(chart["links"]["svg"], params={"theme": "dark"}).text
        assert (light.startswith("<svg"), DARK_PAGE in light, DARK_PAGE in dark) == (
            True,
            False,
            True,
        )
        assert client.get(chart["links"]["csv"]).headers["content-type"].startswith("text/csv")
    assert client.get(charts[0]["links"]["svg"], params={"theme": "blue"}).status_code == 422
    refused(client.get(f"/v1/jobs/{NOBODY}/charts"), 404, "no-such-job")


def test_figures_of_samples_come_as_arrays(client: httpx.Client, store: Store) -> None:
    job = submit_over(client)
    finished(store, job.id, train_result(epochs=2))
    arrays = np.load(
        io.BytesIO(client.get(f"/v1/jobs/{job.id}/result.npz").content), allow_pickle=False
    )
    assert json.loads(arrays["header"].item())["kind"] == "train"
    study = submit_over(
        client, {"kind": "study", "base": {"kind": "train"}, "grid": {"epochs": [4]}}
    )
    refused(client.get(f"/v1/jobs/{study.id}/result.npz"), 409, "no-result-yet")


@pytest.mark.slow
def test_intervals_that_an_earlier_version_stored_are_answered_within_0_and_1(
    client: httpx.Client, store: Store
) -> None:
    beyond = {
        "ratio[width=64 split=positive method=exact]": {
            "mean": 0.67,
            "low": -1.18,
            "high": 2.53,
            "seeds": 2,
        }
    }
    study = submit_over(
        client, {"kind": "study", "base": {"kind": "check"}, "grid": {"theorem": [1]}}
    )
    (child,) = (child for child, _ in store.jobs.children(study.id))
    claim = store.queue.claim(child.id, "w", LEASE)
    assert claim is not None
    store.queue.finish(child.id, claim.attempt, check_result())
    assert client.get(f"/v1/jobs/{study.id}?wait=10").json()["state"] == "succeeded"
    result = client.get(f"/v1/jobs/{study.id}/result").json()
    result["cells"][0]["summary"] = beyond
    with store.database.writing() as session:
        session.execute(
            update(ResultRow)
            .where(ResultRow.job_id == study.id)
            .values(document=json.dumps(result))
        )
        session.execute(
            update(SummaryRow)
            .where(SummaryRow.job_id == child.id)
            .values(document=json.dumps(result["cells"][0]))
        )
    for path, items in (("result", "cells"), ("curves", "items")):
        (found,) = client.get(f"/v1/jobs/{study.id}/{path}").json()[items][0]["summary"].values()
        assert (found["low"], found["high"]) == (0.0, 1.0), path
    assert ",0.0,1.0," in client.get(f"/v1/jobs/{study.id}/result.csv").text


def test_the_log_tells_of_states_and_of_what_was_noted(client: httpx.Client, store: Store) -> None:
    job = submit_over(client)
    claim = store.queue.claim(job.id, "worker-7", LEASE)
    assert claim is not None
    lines = [LogLine(level="warning", message="a checkpoint cannot be used", attempt=1)]
    store.queue.record(job.id, 1, lease_seconds=LEASE, progress=HALF, log=lines)
    store.queue.fail(job.id, 1, ERROR)
    response = client.get(f"/v1/jobs/{job.id}/log")
    assert response.headers["content-type"].startswith("text/plain")
    lines = [line.split(maxsplit=1)[1] for line in response.text.splitlines()]
    assert [line.split()[0] for line in lines] == ["info", "info", "warning", "error"]
    assert "running (attempt 1, worker worker-7)" in lines[1]
    assert "attempt 1: a checkpoint cannot be used" in lines[2]
    assert ERROR.detail in lines[3]
    last = client.get(f"/v1/jobs/{job.id}/events", headers={"Accept": "application/json"}).json()[
        "items"
    ][-1]["id"]
    assert client.get(f"/v1/jobs/{job.id}/log", params={"after": last}).text == ""
    refused(client.get(f"/v1/jobs/{NOBODY}/log"), 404, "no-such-job")


# What is kept


def test_jobs_beyond_the_retention_go_with_their_artifacts_and_pinned_ones_stay(
    either_store: Store, tmp_path: Path
) -> None:
    artifacts = Artifacts(tmp_path / "artifacts")
    old, new = ended(either_store, 1, 40), ended(either_store, 2, 1)
    pinned = ended(either_store, 3, 40, pinned=True)
    running, _ = claimed(either_store, submit(either_store, TrainSpec(epochs=4)))
    for owner in (old, new, pinned, running):
        artifacts.put(owner, "step.safetensors", b"weights")
    assert find_expired(either_store, Retention(), 10) == []
    policy = Retention.model_validate({"train": {"days": 30}})
    [found] = find_expired(either_store, policy, 10)
    assert (found.id, found.reason, found.ended_days_ago) == (
        old,
        "ended more than 30 days ago",
        40.0,
    )
    assert [job.id for job in sweep(either_store, artifacts, policy)] == [old]
    assert sweep(either_store, artifacts, policy) == []
    assert sorted(artifacts.owners()) == sorted([new, pinned, running])
    assert either_store.jobs.get(old) is None


@pytest.mark.slow
def test_so_many_of_a_kind_are_kept_the_newest(either_store: Store, tmp_path: Path) -> None:
    jobs = [ended(either_store, number, 10 - number) for number in range(1, 6)]
    pinned = ended(either_store, 9, 50, pinned=True)
    policy = Retention.model_validate({"train": {"count": 2}, "check": {"count": 0}})
    assert [(job.id, job.reason) for job in find_expired(either_store, policy, 10)] == [
        (job, "not among the newest 2") for job in jobs[:3]
    ]
    sweep(either_store, Artifacts(tmp_path), policy)
    assert {job.id for job in either_store.jobs.page(limit=10).jobs} == {*jobs[3:], pinned}


def test_a_study_goes_with_its_runs_and_they_do_not_go_before_it(
    either_store: Store, tmp_path: Path
) -> None:
    study = submit(either_store, STUDY)
    for child, _ in either_store.jobs.children(study.id):
        end(either_store, child, well=True)
        aged(either_store, child.id, 90)
    either_store.studies.advance(study.id)
    assert find_expired(either_store, Retention.model_validate({"train": {"days": 1}}), 10) == []
    aged(either_store, study.id, 90)
    assert [
        job.id
        for job in sweep(
            either_store, Artifacts(tmp_path), Retention.model_validate({"study": {"days": 1}})
        )
    ] == [study.id]
    assert either_store.jobs.page(limit=10, children=True).jobs == []


def test_weights_that_a_waiting_check_needs_are_kept(either_store: Store) -> None:
    old = ended(either_store, 1, 40)
    policy = Retention.model_validate({"train": {"days": 30}})
    check = submit(
        either_store, CheckSpec.model_validate({"kind": "check", "at": {"job": old, "epoch": 0}})
    )
    for state in ("queued", "paused", "running"):
        if state == "paused":
            either_store.actions.pause(check.id)
        elif state == "running":
            either_store.actions.resume(check.id)
            claimed(either_store, check)
        assert find_expired(either_store, policy, 10) == []
        with pytest.raises(StillNeeded, match=check.id):
            either_store.actions.delete(old)
    either_store.queue.fail(check.id, 1, ERROR)
    assert [job.id for job in find_expired(either_store, policy, 10)] == [old]
    assert either_store.actions.delete(old) == [old]


@pytest.mark.parametrize("where", ["base", "grid", "whole grid", "parts"])
def test_weights_that_the_runs_of_a_waiting_study_need_are_kept(
    either_store: Store, where: str
) -> None:
    old, other = ended(either_store, 1, 40), ended(either_store, 2, 50)
    base = {"kind": "check", "at": {"job": old, "epoch": 0}}
    studies: dict[str, dict[str, object]] = {
        "base": {"base": base, "grid": {"theorem": [1, 2]}},
        "grid": {"base": {**base, "at": {"job": NOBODY, "epoch": 0}}, "grid": {"at.job": [old]}},
        "whole grid": {"base": {"kind": "check"}, "grid": {"at": ["initialization", base["at"]]}},
        "parts": {"parts": {"a": {"base": {"kind": "train"}}, "b": {"base": base}}},
    }
    spec = StudySpec.model_validate(studies[where])
    new = NewJob(spec=spec)
    study = either_store.jobs.submit(new, expand(spec), max_queued=100).job
    with either_store.database.writing() as session:  # as where none of its runs was made yet
        session.execute(delete(JobRow).where(JobRow.parent_id == study.id))
    policy = Retention.model_validate({"train": {"days": 30}})
    assert [job.id for job in find_expired(either_store, policy, 1)] == [other]
    with pytest.raises(StillNeeded, match=study.id):
        either_store.actions.delete(old)
    either_store.actions.cancel(study.id)
    either_store.studies.advance(study.id)
    assert {job.id for job in find_expired(either_store, policy, 10)} == {old, other}


def test_a_study_whose_weights_a_waiting_check_needs_is_kept(
    either_store: Store, tmp_path: Path
) -> None:
    study = submit(either_store, STUDY)
    runs = [run.id for run, _ in either_store.jobs.children(study.id)]
    for run in runs:
        end(either_store, read(either_store, run), well=True)
    either_store.studies.advance(study.id)
    aged(either_store, study.id, 90)
    at = {"job": runs[1], "epoch": 0}
    check = submit(either_store, CheckSpec.model_validate({"kind": "check", "at": at}))
    policy, artifacts = Retention.model_validate({"study": {"days": 1}}), Artifacts(tmp_path)
    assert find_expired(either_store, policy, 10) == sweep(either_store, artifacts, policy) == []
    with pytest.raises(StillNeeded) as needed:
        either_store.actions.delete(study.id)
    assert needed.value.by == [check.id]
    either_store.actions.cancel(check.id)
    assert [job.id for job in sweep(either_store, artifacts, policy)] == [study.id]


def test_a_study_that_cannot_be_read_holds_up_no_retention(either_store: Store) -> None:
    old = ended(either_store, 1, 40)
    study = submit(either_store, STUDY)
    with either_store.database.writing() as session:
        changed = update(JobRow).where(JobRow.id == study.id)
        session.execute(changed.values(spec={"kind": "study", "parts": {"a": {"base": old}}}))
    policy = Retention.model_validate({"train": {"days": 30}})
    assert [job.id for job in find_expired(either_store, policy, 10)] == [old]


def test_artifacts_of_no_job_are_reported_after_a_while_and_removed_only_where_it_is_asked_for(
    either_store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    artifacts = Artifacts(tmp_path / "artifacts")
    sweep(either_store, artifacts, Retention())
    stray, young = "job_" + "a" * 32, "job_" + "b" * 32
    for owner in (stray, young):
        artifacts.put(owner, "step.safetensors", b"weights")
    os.utime(artifacts.root / stray, (1.0, time.time() - UNKNOWN_SECONDS - 9))
    (artifacts.root / "notes.txt").write_text("not ours")
    assert (
        sweep(either_store, artifacts, Retention.model_validate({"train": {"days": 1, "count": 0}}))
        == []
    )
    [found] = find_unknown(either_store, artifacts)
    assert (found.job, found.bytes) == (stray, len(b"weights") + DIGEST_BYTES)
    assert sorted(path.name for path in artifacts.root.iterdir()) == [
        ".service",
        stray,
        young,
        "notes.txt",
    ]
    assert remove_unknown(either_store, artifacts) == [found]
    assert sorted(path.name for path in artifacts.root.iterdir()) == [
        ".service",
        young,
        "notes.txt",
    ]
    assert (
        f"{stray}: its artifacts (39 bytes) are removed (the database knows no such job)"
        in caplog.messages
    )
    assert find_unknown(either_store, artifacts) == remove_unknown(either_store, artifacts) == []


@pytest.mark.slow
def test_what_would_go_can_be_seen_before(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, retention=Retention.model_validate({"train": {"days": 7}}))
    with client_of(create_app(settings)) as client:
        store = Store(settings.database)
        old = ended(store, 1, 8)
        answer = client.get("/v1/retention").json()
        store.close()
    assert answer["policy"]["train"] == {"days": 7.0, "count": None}
    assert [job["id"] for job in answer["items"]] == [old]


def test_the_program_is_told_by_both_versions() -> None:
    old = provenance().model_copy(update={"engine_version": "0.2.0", "git_revision": "b" * 40})
    assert Provenance.model_validate_json(old.model_dump_json(exclude={"fflab_version"})) == old, (
        "a result of an earlier version"
    )
    assert (
        dict(provenance_lines(old))["engine"]
        == "fflab 0.2.0, numerics 0.2.0, revision bbbbbbbbbbbb"
    )
    new = old.model_copy(update={"fflab_version": "7.1.0", "git_revision": None})
    assert dict(provenance_lines(new))["engine"] == "fflab 7.1.0, numerics 0.2.0"
