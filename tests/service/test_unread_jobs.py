"""Rows that another version of fflab wrote and this one cannot read: each is shown as such, and
nothing fails beside it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import insert

from ffengine.spec import TrainSpec, UnreadSpec
from fflab import Client
from service.artifacts import Artifacts
from service.background.retention import find_expired, sweep
from service.jobs import TERMINAL
from service.settings import Retention, RetentionRule, Settings
from service.store import Store
from service.store.tables import EventRow, JobRow
from service.web.app import create_app
from tests.addresses import addresses
from tests.commands import Fflab
from tests.factories import STUDY, aged, claimed, end, read, set_values, submit
from tests.serving import client_of

NEW_LAYER = {"kind": "attention", "heads": 4}
PAGES = (
    "/",
    "/runs",
    "/metrics",
    "/v1/jobs",
    "/v1/workers",
    "/v1/retention",
    "/v1/projects",
    "/v1/usage",
    "/usage",
)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def either_app(
    request: pytest.FixtureRequest, tmp_path: Path, migrated: Path
) -> Iterator[tuple[FastAPI, httpx.Client, Store]]:
    """The app over either database."""
    if request.param == "sqlite":
        settings: Settings = request.getfixturevalue("settings")
    else:
        url = request.getfixturevalue("migrated_postgres_url")
        settings = Settings(home=tmp_path, database_url=url)
    app = create_app(settings)
    with client_of(app) as client:
        yield app, client, app.state.resources.store


def spec_of(store: Store, job_id: str) -> dict[str, Any]:
    with store.database.reading() as session:
        return dict(session.get_one(JobRow, job_id).spec)


def stored(store: Store, job_id: str, **values: object) -> None:
    """Give columns other values, as a change does: what is kept of the job is read anew."""
    set_values(store, job_id, **values, version=JobRow.version + 1)


def with_unknown_field(store: Store, job_id: str) -> None:
    stored(store, job_id, spec=spec_of(store, job_id) | {"of_tomorrow": 1})


def with_unknown_entry(store: Store, job_id: str) -> None:
    spec = spec_of(store, job_id)
    spec["network"] = spec["network"] | {"layers": [NEW_LAYER]}
    stored(store, job_id, spec=spec)


def with_unknown_kind(store: Store, job_id: str) -> None:
    stored(store, job_id, spec={"kind": "distil", "teacher": job_id}, kind="distil")


def with_unknown_needs(store: Store, job_id: str) -> None:
    stored(store, job_id, needs={"gpus": 4}, priority=7)


def with_unknown_provenance(store: Store, job_id: str) -> None:
    stored(store, job_id, provenance={"by": "a fleet"}, place=None)


ODDITIES = [
    with_unknown_field,
    with_unknown_entry,
    with_unknown_kind,
    with_unknown_needs,
    with_unknown_provenance,
]


def planted(store: Store) -> list[str]:
    """A job of each oddity that waits, runs, has failed and has succeeded, and two studies."""
    found = []
    for number, spoil in enumerate(ODDITIES):
        jobs = [
            submit(store, TrainSpec(epochs=10 * number + at), name=f"odd {number} {at}").id
            for at in range(1, 5)
        ]
        claimed(store, read(store, jobs[1]))
        end(store, read(store, jobs[2]), well=False)
        end(store, read(store, jobs[3]), well=True)
        for job in jobs:
            spoil(store, job)
        found += jobs
    study = submit(store, STUDY.model_copy(update={"base": TrainSpec(seeds=(7,))}), fresh=True)
    with_unknown_field(store, study.id)
    with_unknown_kind(store, store.jobs.children(study.id)[0][0].id)
    return [*found, study.id]


def test_no_list_and_no_page_fails_beside_what_cannot_be_read(
    either_app: tuple[FastAPI, httpx.Client, Store],
) -> None:
    _, client, store = either_app
    odd, plain = planted(store), submit(store).id
    listed = client.get("/v1/jobs?limit=100").json()["items"]
    unread = {job["id"]: job for job in listed if job["kind"] == "unread"}
    assert set(odd) == set(unread)
    assert plain in {job["id"] for job in listed}
    first = unread[odd[0]]
    assert (first["state"], first["name"]) == ("queued", "odd 0 1")
    assert first["created_at"]
    assert first["spec"]["stored_kind"] == "train"
    assert "was stored by another version of fflab" in first["spec"]["why"]
    assert "of_tomorrow" in first["spec"]["why"]
    assert unread[odd[8]]["spec"]["stored_kind"] == "distil"
    for path in PAGES:
        answer = client.get(path)
        assert answer.status_code in (200, 404), (path, answer.text)
    assert "odd 0 1" in client.get("/").text
    queries = ("?sort=lr", "?where=lr>0", "?columns=lr,widths,accuracy", "?sort=-duration")
    for query in queries:
        assert client.get(f"/{query}").status_code < 500, query
        assert client.get(f"/v1/jobs{query}").status_code < 500, query


def test_no_address_of_such_a_job_fails(either_app: tuple[FastAPI, httpx.Client, Store]) -> None:
    app, client, store = either_app
    seen = set()
    for job in planted(store):
        for address, methods in addresses(app, job):
            if "GET" not in methods or address.endswith("/events"):
                continue
            answer = client.get(address, headers={"Accept": "text/html, application/json"})
            assert answer.status_code < 500 or address == "/readyz", (address, answer.text)
            if address == f"/jobs/{job}":
                assert "this one cannot read it" in answer.text
                assert answer.status_code == 200
            seen.add(answer.status_code)
        events = client.get(f"/v1/jobs/{job}/events", headers={"Accept": "application/json"})
        assert events.status_code == 200
    assert 409 in seen


def test_a_job_that_cannot_be_read_is_paused_cancelled_and_deleted(
    either_app: tuple[FastAPI, httpx.Client, Store],
) -> None:
    _, client, store = either_app
    job = submit(store).id
    with_unknown_field(store, job)
    for action, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        answer = client.post(f"/v1/jobs/{job}/{action}")
        assert answer.status_code < 300, answer.text
        assert client.get(f"/v1/jobs/{job}").json()["state"] == state
    assert client.patch(f"/v1/jobs/{job}", json={"note": "odd"}).json()["note"] == "odd"
    assert client.delete(f"/v1/jobs/{job}").status_code == 204


def test_retention_figures_and_studies_go_on_beside_it(
    either_app: tuple[FastAPI, httpx.Client, Store],
) -> None:
    _, _, store = either_app
    rule = RetentionRule(days=30)
    policy = Retention(train=rule, study=rule)
    for job in planted(store):
        if read(store, job).state in TERMINAL:
            aged(store, job, 90)
    study = submit(store, STUDY, fresh=True)
    for run, _ in store.jobs.children(study.id):
        end(store, run, well=True)
    odd = store.jobs.children(study.id)[1][0].id
    with_unknown_entry(store, odd)
    while store.studies.advance(study.id):
        pass
    assert read(store, study.id).state == "succeeded"
    store.jobs.refresh_figures()
    assert store.jobs.page(limit=100).jobs
    assert find_expired(store, policy, 100), "those that have ended are listed"
    artifacts = Artifacts(either_app[0].state.resources.settings.artifact_place)
    while sweep(store, artifacts, policy):
        pass
    assert find_expired(store, policy, 100) == []


@pytest.mark.slow
def test_a_study_is_shown_with_a_run_that_cannot_be_read(
    either_app: tuple[FastAPI, httpx.Client, Store],
) -> None:
    app, client, store = either_app
    study = submit(store, STUDY)
    runs = [run for run, _ in store.jobs.children(study.id)]
    end(store, runs[0], well=True)
    with_unknown_entry(store, runs[1].id)
    with_unknown_kind(store, runs[2].id)
    for address, methods in addresses(app, study.id):
        if "GET" in methods and not address.endswith("/events"):
            answer = client.get(address, headers={"Accept": "text/html, application/json"})
            assert answer.status_code < 500 or address == "/readyz", (address, answer.text)


def test_an_event_of_an_unknown_type_is_told_as_a_note(
    either_app: tuple[FastAPI, httpx.Client, Store],
) -> None:
    _, client, store = either_app
    job = submit(store).id
    event = {"job_id": job, "seq": 2, "type": "moved", "at": 1.0, "data": {"to": "gpu2"}}
    with store.database.writing() as session:
        session.execute(insert(EventRow), [event])
        session.get_one(JobRow, job).last_event = 2
    answer = client.get(f"/v1/jobs/{job}/events", headers={"Accept": "application/json"})
    assert answer.json()["items"][-1]["data"]["message"].endswith("version of fflab: moved")


def test_clients_and_commands_show_it(client: httpx.Client, store: Store, fflab: Fflab) -> None:
    job = submit(store, name="odd").id
    with_unknown_field(store, job)
    assert "odd" in fflab("jobs").out
    shown = fflab("show", job)
    assert shown.code == 0
    assert "another version of fflab" in shown.out
    with Client(str(client.base_url)) as ours:
        assert isinstance(ours.job(job).refresh().spec, UnreadSpec)
