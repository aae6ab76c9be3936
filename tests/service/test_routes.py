"""The routes over HTTP: what they accept, what they answer, and that no body, header or address
makes them fail.
"""

import csv
import html
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from benchmarks.waiting import wait_until
from ffengine.attempts import with_attempts
from ffengine.cost import Limits
from ffengine.results import CheckResult, StudyResult, TrainResult
from ffengine.spec_versions import SPEC_VERSION
from ffengine.version import VERSION
from service.cli.doctor import _service
from service.jobs import Job, JobState, Progress
from service.schemas import WorkerInfo
from service.settings import Settings
from service.store import Store
from service.web.app import create_app
from service.web.dependencies import Resources
from service.web.problems import PROBLEMS, ProblemDetails
from tests.commands import Fflab
from tests.factories import ERROR, HALF, LEASE, claimed, finished
from tests.over_http import NOBODY, TRAIN, refused, submit, succeed
from tests.presets import EACH_PRESET
from tests.service.samples import check_result, epoch_row, train_result
from tests.serving import client_of

# Submitting


def test_a_submitted_job_is_shown_as_it_was_asked_for(client: httpx.Client) -> None:
    job = submit(client, name="first", tags=["a"], priority="low")
    assert (job.state, job.name, job.tags, job.priority, job.cached) == (
        JobState.queued,
        "first",
        ["a"],
        "low",
        False,
    )
    assert Job.model_validate(client.get(job.links["self"]).json()) == job
    assert client.get(f"/v1/jobs/{job.id}").json()["spec"]["network"]["widths"] == [500]
    assert job.created_at.utcoffset() is not None


def test_an_idempotency_key_is_answered_with_the_same_job(client: httpx.Client) -> None:
    def send(body: dict[str, Any], key: str = "k") -> httpx.Response:
        return client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})

    first, again = send({"spec": TRAIN}), send({"spec": TRAIN})
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    refused(send({"spec": {"kind": "train", "epochs": 3}}), 422, "key-reused")
    refused(send({"spec": TRAIN}, key="x" * 256), 422, "invalid")
    assert len(client.get("/v1/jobs").json()["items"]) == 1


@pytest.mark.slow
def test_a_key_in_flight_is_refused_and_many_at_once_make_one_job(
    client: httpx.Client, resources: Resources
) -> None:
    resources.submissions.in_flight.add(("anyone", "busy"))
    response = client.post("/v1/jobs", json={"spec": TRAIN}, headers={"Idempotency-Key": "busy"})
    refused(response, 409, "still-in-flight")
    assert response.headers["retry-after"] == "1"
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: client.post(
                    "/v1/jobs", json={"spec": TRAIN}, headers={"Idempotency-Key": "k"}
                ),
                range(16),
            )
        )
    assert {answer.status_code for answer in answers} <= {200, 202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code != 409}) == 1
    assert len(client.get("/v1/jobs").json()["items"]) == 1


def test_a_known_spec_is_answered_from_the_cache_unless_it_is_to_be_fresh(
    client: httpx.Client, store: Store
) -> None:
    first = submit(client)
    succeed(store, first.id)
    again = submit(client, {"epochs": 2, "kind": "train", "optimizer": {"name": "sgd", "lr": 1}})
    assert (again.cached, again.cached_from, again.state) == (True, first.id, JobState.succeeded)
    assert (
        client.get(f"/v1/jobs/{again.id}/result").json()
        == client.get(f"/v1/jobs/{first.id}/result").json()
    )
    assert submit(client, fresh=True).state is JobState.queued


@pytest.fixture
def strict(settings: Settings) -> Iterator[httpx.Client]:
    narrow = settings.model_copy(
        update={"limits": Limits(memory_bytes=2**28, flops=1e12), "max_queued": 3}
    )
    with client_of(create_app(narrow)) as client:
        yield client


def test_what_is_too_large_is_refused_with_its_estimate(strict: httpx.Client) -> None:
    body = {"spec": {"kind": "train", "epochs": 100_000, "network": {"widths": [65536]}}}
    problem = refused(strict.post("/v1/jobs", json=body), 422, "too-large")
    assert "memory" in problem.detail
    document = strict.post("/v1/jobs", json=body).json()
    assert document["estimate"]["flops"] > document["limits"]["flops"]
    estimate = strict.post("/v1/estimate", json=body)
    assert estimate.status_code == 200
    assert estimate.json() == document["estimate"]
    assert strict.get("/v1/jobs").json()["items"] == []


def test_a_full_queue_refuses_for_a_while(strict: httpx.Client) -> None:
    small = {
        "kind": "train",
        "epochs": 1,
        "dataset": {"train_samples": 10, "test_samples": 10},
        "monitor": {"samples": 10},
        "network": {"widths": [8]},
    }
    for seed in range(3):
        submit(strict, {**small, "seeds": [seed]})
    response = strict.post("/v1/jobs", json={"spec": {**small, "seeds": [9]}})
    refused(response, 429, "queue-is-full")
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.slow
def test_a_check_at_trained_weights_is_refused_until_they_are_there(
    client: httpx.Client, store: Store
) -> None:
    trained = submit(
        client, {"kind": "train", "epochs": 4, "seeds": [0, 1], "monitor": {"every_epochs": 2}}
    )

    def pointer(at: dict[str, Any], **fields: Any) -> str:
        body = {"spec": {"kind": "check", "at": {"job": trained.id, **at}, "seeds": [0], **fields}}
        return refused(client.post("/v1/jobs", json=body), 422, "invalid").errors[0].pointer

    assert pointer({"epoch": 2}) == "/spec/at/epoch"
    claim = store.queue.claim(trained.id, "w", LEASE)
    assert claim is not None
    store.queue.record(
        trained.id, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=[epoch_row(2)]
    )
    assert pointer({"epoch": 3}) == "/spec/at/epoch"
    assert pointer({"epoch": 4}) == "/spec/at/epoch"
    assert pointer({"epoch": 2, "layer": 1}) == "/spec/at/layer"
    assert pointer({"epoch": 2}, seeds=[0, 7]) == "/spec/seeds"
    assert (
        submit(client, {"kind": "check", "at": {"job": trained.id, "epoch": 2}, "seeds": [1]}).state
        is JobState.queued
    )
    base = {"kind": "check", "at": {"job": trained.id, "epoch": 2}, "seeds": [0]}
    assert (
        submit(client, {"kind": "study", "base": base, "grid": {"theorem": [1, 2]}}).state
        is JobState.queued
    )
    study = {"kind": "study", "base": base, "grid": {"at.epoch": [2, 3]}}
    assert (
        refused(client.post("/v1/jobs", json={"spec": study}), 422, "invalid").errors[0].pointer
        == "/spec"
    )


# Reading


def test_jobs_are_paged_by_cursor_and_link(client: httpx.Client) -> None:
    ids = [submit(client, {"kind": "train", "seeds": [seed]}, tags=["t"]).id for seed in range(5)]
    seen: list[str] = []
    url: str | None = "/v1/jobs?limit=2&tag=t"
    while url:
        response = client.get(url)
        seen += [item["id"] for item in response.json()["items"]]
        following = response.links.get("next", {}).get("url")
        assert bool(following) == bool(response.json()["next_cursor"])
        url = following
    assert seen == ids[::-1]
    refused(client.get("/v1/jobs?cursor=zzz"), 400, "bad-cursor")


def test_a_studys_cells_are_listed_only_when_asked_for(client: httpx.Client) -> None:
    study = submit(client, {"kind": "study", "base": TRAIN, "grid": {"seeds": [[0], [1]]}})

    def listed(query: str) -> set[str]:
        return {item["id"] for item in client.get(f"/v1/jobs{query}").json()["items"]}

    children = listed(f"?parent={study.id}")
    assert len(children) == 2
    assert listed("") == {study.id}
    assert listed("?children=true") == {study.id, *children}
    assert all(client.get(f"/v1/jobs/{child}").json()["parent"] == study.id for child in children)
    assert listed("?parent=nonsense") == set()


def test_an_unchanged_job_is_not_sent_again(client: httpx.Client, store: Store) -> None:
    job = submit(client)
    etag = client.get(f"/v1/jobs/{job.id}").headers["etag"]
    for value in (etag, f'"x", W/{etag}', "*"):
        response = client.get(f"/v1/jobs/{job.id}", headers={"If-None-Match": value})
        assert (response.status_code, response.content, response.headers["etag"]) == (
            304,
            b"",
            etag,
        )
    store.actions.cancel(job.id)
    response = client.get(f"/v1/jobs/{job.id}", headers={"If-None-Match": etag})
    assert response.status_code == 200
    assert response.headers["etag"] != etag


def test_results_are_refused_until_there_are_some(client: httpx.Client, store: Store) -> None:
    job = submit(client)
    for path in ("result", "result.csv"):
        refused(client.get(f"/v1/jobs/{job.id}/{path}"), 409, "no-result-yet")
    assert client.get(f"/v1/jobs/{job.id}/result").json()["state"] == "queued"
    claim = store.queue.claim(job.id, "w", LEASE)
    assert claim is not None
    store.queue.record(
        job.id, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=[epoch_row(0)]
    )
    assert [row["epoch"] for row in client.get(f"/v1/jobs/{job.id}/curves").json()["items"]] == [0]
    store.queue.fail(job.id, claim.attempt, ERROR)
    assert (
        ERROR.detail
        in refused(client.get(f"/v1/jobs/{job.id}/result"), 409, "no-result-yet").detail
    )
    assert client.get(f"/v1/jobs/{job.id}/curves").json()["items"], (
        "what was computed stays readable"
    )
    assert client.get(f"/v1/jobs/{job.id}").json()["error"] == ERROR.model_dump(mode="json")


def test_the_refusal_of_a_result_says_how_there_will_be_one(
    client: httpx.Client, store: Store
) -> None:
    def detail(job: str) -> str:
        return refused(client.get(f"/v1/jobs/{job}/result"), 409, "no-result-yet").detail

    never = submit(client).id
    assert detail(never).startswith(f"{never} is queued and has no result. Wait until")
    store.actions.cancel(never)
    assert detail(never) == (
        f"{never} is cancelled and has no result. POST /v1/jobs/{never}/retry queues it again."
    )
    paused = submit(client).id
    store.actions.pause(paused)
    assert detail(paused).endswith(f"POST /v1/jobs/{paused}/resume lets it go on.")
    job, attempt = claimed(store, store.jobs.get(submit(client).id))
    store.queue.record(job, attempt, lease_seconds=LEASE, progress=HALF)
    store.queue.fail(job, attempt, ERROR)
    assert detail(job) == (
        f"{job} is failed and has no result: {ERROR.detail.rstrip('.')}. It came to 50%. "
        f"POST /v1/jobs/{job}/retry queues it again, and it goes on from its last checkpoint."
    )
    job, attempt = claimed(store, store.jobs.get(submit(client).id))
    store.queue.fail(job, attempt, ERROR.model_copy(update={"code": "diverged"}))
    assert detail(job).endswith("A retry would fail in the same way: submit a changed spec.")


def table(response: httpx.Response, job_id: str) -> list[dict[str, str]]:
    assert response.headers["content-type"].startswith("text/csv")
    assert f'-{job_id}-result.csv"' in response.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(response.text)))


@pytest.mark.slow
def test_every_kind_of_result_is_json_and_a_table(client: httpx.Client, store: Store) -> None:
    train, check = submit(client), submit(client, {"kind": "check", "theorem": 1})
    study = submit(client, {"kind": "study", "base": {"kind": "train"}, "grid": {"epochs": [4, 5]}})
    for job_id in (train.id, check.id):
        succeed(store, job_id)
    first, second = (child.id for child, _ in store.jobs.children(study.id))
    succeed(store, first)
    claim = store.queue.claim(second, "w", LEASE)
    assert claim is not None
    store.queue.fail(second, claim.attempt, ERROR)
    assert client.get(f"/v1/jobs/{study.id}?wait=10").json()["state"] == "succeeded"

    trained = TrainResult.model_validate_json(client.get(f"/v1/jobs/{train.id}/result").content)
    assert trained == with_attempts(train_result(), trained.provenance.attempts)
    checked = CheckResult.model_validate_json(client.get(f"/v1/jobs/{check.id}/result").content)
    assert checked == with_attempts(check_result(), checked.provenance.attempts)
    found = StudyResult.model_validate_json(client.get(f"/v1/jobs/{study.id}/result").content)
    assert [(cell.job, cell.state) for cell in found.cells] == [
        (first, "succeeded"),
        (second, "failed"),
    ]

    rows = table(client.get(f"/v1/jobs/{train.id}/result.csv"), train.id)
    assert [(row["epoch"], row["split"], row["sparsity"]) for row in rows] == [
        ("0", "positive", "0.5"),
        ("1", "positive", "0.5"),
    ]
    assert len(table(client.get(f"/v1/jobs/{check.id}/result.csv"), check.id)) == len(
        check_result().cells
    )
    figures = table(client.get(f"/v1/jobs/{study.id}/result.csv"), study.id)
    assert len(figures) == len(found.cells[0].summary)
    assert {row["job"] for row in figures} == {first}


def test_a_cancelled_study_shows_the_cells_as_far_as_they_came(
    client: httpx.Client, store: Store
) -> None:
    study = submit(client, {"kind": "study", "base": {"kind": "train"}, "grid": {"epochs": [4, 5]}})
    first = store.jobs.children(study.id)[0][0].id
    succeed(store, first)
    refused(client.get(f"/v1/jobs/{study.id}/result"), 409, "no-result-yet")
    client.post(f"/v1/jobs/{study.id}/cancel")
    assert client.get(f"/v1/jobs/{study.id}?wait=10").json()["state"] == "cancelled"
    cells = client.get(f"/v1/jobs/{study.id}/result").json()["cells"]
    assert [cell["state"] for cell in cells] == ["succeeded", "cancelled"]


# Acting


def test_actions_are_idempotent_and_refused_where_the_state_forbids_them(
    client: httpx.Client, store: Store
) -> None:
    job = submit(client)
    for action, shown in (
        ("pause", "paused"),
        ("resume", "queued"),
        ("cancel", "cancelled"),
        ("retry", "queued"),
    ):
        for _ in range(2):
            response = client.post(f"/v1/jobs/{job.id}/{action}")
            assert (response.status_code, response.json()["state"]) == (200, shown)
    succeed(store, job.id)
    for action in ("pause", "resume", "cancel", "retry"):
        problem = refused(client.post(f"/v1/jobs/{job.id}/{action}"), 409, "wrong-state")
        assert "succeeded" in problem.detail
        refused(client.post(f"/v1/jobs/{NOBODY}/{action}"), 404, "no-such-job")


def test_deleting_a_job_takes_its_artifacts(client: httpx.Client, resources: Resources) -> None:
    job = submit(client)
    refused(client.delete(f"/v1/jobs/{job.id}"), 409, "wrong-state")
    resources.artifacts.put(job.id, "step.safetensors", b"x")
    client.post(f"/v1/jobs/{job.id}/cancel")
    assert client.delete(f"/v1/jobs/{job.id}").status_code == 204
    assert resources.artifacts.names(job.id) == []
    refused(client.get(f"/v1/jobs/{job.id}"), 404, "no-such-job")
    refused(client.delete(f"/v1/jobs/{job.id}"), 404, "no-such-job")


@pytest.mark.slow
def test_a_training_is_kept_while_a_check_of_its_weights_waits(
    client: httpx.Client, resources: Resources
) -> None:
    training = submit(client, {"kind": "train", "epochs": 2})
    finished(resources.store, training.id, train_result())
    at = {"job": training.id, "epoch": 0}
    checks = [
        submit(
            client, {"kind": "check", "theorem": 2, "at": at, "seeds": [0], "samples": 50 + number}
        )
        for number in range(7)
    ]
    problem = refused(client.delete(f"/v1/jobs/{training.id}"), 409, "wrong-state")
    assert f"{training.id} is needed by {checks[0].id}, " in problem.detail
    assert " and 2 more: wait for the end of these, or cancel" in problem.detail
    needed_by = client.delete(f"/v1/jobs/{training.id}").json()["needed_by"]
    assert needed_by == [check.id for check in checks[:5]]
    for check in checks:
        client.post(f"/v1/jobs/{check.id}/cancel")
    assert client.delete(f"/v1/jobs/{training.id}").status_code == 204


# The catalogue and the system


def test_the_catalogue_describes_every_choice_and_its_schema(client: httpx.Client) -> None:
    catalog = client.get("/v1/catalog").json()
    assert {entry["name"] for entry in catalog["negatives"]} >= {"wrong_label", "hybrid", "noise"}
    noise = next(entry for entry in catalog["negatives"] if entry["name"] == "noise")
    assert noise["parameters"]["scale"]["exclusiveMinimum"] == 0
    for name in (
        "datasets",
        "preprocess",
        "activations",
        "objectives",
        "optimizers",
        "theorems",
        "kinds",
    ):
        assert catalog[name], name
        assert all(entry["meaning"] for entry in catalog[name])
    assert "oneOf" in catalog["spec_schema"] or "discriminator" in catalog["spec_schema"]


def preset_of(client: httpx.Client, name: str) -> dict[str, Any]:
    found = client.get("/v1/presets").json()["items"]
    return next(preset for preset in found if preset["name"] == name)


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH_PRESET)
def test_a_preset_can_be_submitted_by_its_name(client: httpx.Client, name: str) -> None:
    by_spec = client.post("/v1/estimate", json={"spec": preset_of(client, name)["spec"]}).json()
    assert by_spec["problems"] == []
    by_name = {"kind": "study", "preset": name}
    assert client.post("/v1/estimate", json={"spec": by_name}).json() == by_spec


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH_PRESET)
def test_a_preset_is_answered_as_what_runs(client: httpx.Client, store: Store, name: str) -> None:
    preset = preset_of(client, name)
    job = client.post("/v1/jobs", json={"spec": {"kind": "study", "preset": preset["name"]}}).json()
    assert job["spec"] == preset["spec"]
    searches = {"search"} & set(job["spec"])
    assert set(job["spec"]) == {"kind", "preset", "parts"} | searches
    assert client.get(f"/v1/jobs/{job['id']}").json()["spec"] == job["spec"]
    listed = client.get("/v1/jobs?limit=1").json()["items"]
    assert [one["spec"] for one in listed] == [job["spec"]]
    again = client.post("/v1/jobs", json={"spec": job["spec"]}).json()
    assert (again["spec"], again["spec_digest"]) == (job["spec"], job["spec_digest"])
    runs = [
        [child.spec_digest for child, _ in store.jobs.children(one["id"])] for one in (job, again)
    ]
    if not searches:  # whose trials are chosen one after the other
        assert runs[0] == runs[1]
        assert runs[0]
    client.post(f"/v1/jobs/{again['id']}/cancel")
    assert client.get(f"/v1/jobs/{again['id']}?wait=60").json()["state"] == "cancelled"
    report = html.unescape(client.get(f"/v1/jobs/{again['id']}/report.html").text)
    assert f'"preset": "{preset["name"]}"' in report
    assert '"epochs": 5,' not in report or 5 in [
        part["base"].get("epochs") for part in job["spec"]["parts"].values()
    ]
    page = client.get(f"/jobs/{job['id']}").text
    assert f"preset: {preset['name']}\nparts:\n" in page, "the YAML"


def test_a_study_is_answered_with_its_changes(client: httpx.Client) -> None:
    changed = {"kind": "study", "preset": "quick", "base": {"kind": "train", "epochs": 2}}
    spec = client.post("/v1/jobs", json={"spec": changed}).json()["spec"]
    quick = next(
        one["spec"] for one in client.get("/v1/presets").json()["items"] if one["name"] == "quick"
    )
    quick["parts"]["training"]["base"]["epochs"] = 2
    assert spec == quick
    grid = client.post(
        "/v1/jobs", json={"spec": {"kind": "study", "grid": {"epochs": [1, 2]}}}
    ).json()["spec"]
    assert set(grid) == {"kind", "base", "grid"}
    assert grid["base"]["network"]["widths"] == [500]


@pytest.mark.slow
def test_the_document_of_the_api_describes_a_study_in_an_answer(client: httpx.Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    studies = [schema for name, schema in schemas.items() if name.startswith("StudySpec")]
    assert studies
    assert all(
        set(schema["properties"]) == {"kind", "preset", "base", "grid", "parts", "search"}
        for schema in studies
    )


def test_data_sets_are_listed_and_read(client: httpx.Client) -> None:
    items = client.get("/v1/datasets").json()["items"]
    assert "mnist-mini" in [item["name"] for item in items]
    for item in items:
        assert client.get(f"/v1/datasets/{item['name']}").json() == item
    refused(client.get("/v1/datasets/nothing"), 404, "no-such-dataset")


def test_a_worker_that_cannot_compute_is_shown_as_such(
    client: httpx.Client, store: Store, settings: Settings, fflab: Fflab
) -> None:
    why = "cannot compute: ImportError: libtorch_cpu.so: cannot open it"
    info = WorkerInfo(
        id="w1",
        host="h",
        pid=7,
        device="cpu",
        device_name=None,
        memory_bytes=None,
        version=VERSION,
        spec_version=SPEC_VERSION,
        job=None,
        paused=why,
    )
    store.workers.heartbeat(info)
    told = settings.model_copy(update={"url": str(client.base_url)})

    def checked() -> list[tuple[str, str, str]]:
        found = [check for check in _service(told) if check.what.startswith("worker")]
        return [(check.what, check.verdict, check.finding) for check in found]

    assert checked() == [("worker w1", "fail", why), ("workers", "warn", "none can compute")]
    store.workers.heartbeat(info.model_copy(update={"id": "w2", "paused": None}))
    assert checked() == [("worker w1", "fail", why), ("workers", "ok", "w2 (cpu)")]
    shown = client.get("/v1/workers").json()["items"]
    assert [(one["can_compute"], one["paused"]) for one in shown] == [(False, why), (True, None)]
    assert f"<b>{why}</b>" in client.get("/workers").text
    assert f"\t{why}\t" in fflab("workers").out


def test_live_workers_are_shown(client: httpx.Client, store: Store, fflab: Fflab) -> None:
    info = WorkerInfo(
        id="w1",
        host="h",
        pid=7,
        device="cpu",
        device_name="a processor",
        memory_bytes=2**40,
        host_memory_bytes=2**41,
        threads=12,
        tags=["a100", "<b>"],
        version=VERSION,
        spec_version=SPEC_VERSION,
        job=None,
    )
    store.workers.heartbeat(info)
    page = client.get("/workers").text
    assert "<td>a100, &lt;b&gt;</td>" in page
    assert '<td class="number">12</td>' in page
    assert "\t12\ta100,<b>\t" in fflab("workers").out
    assert 'fflab_device_workers{device="cpu"} 1.0' in client.get("/metrics").text
    (shown,) = client.get("/v1/workers").json()["items"]
    beside = {
        "silent_seconds": shown["silent_seconds"],
        "can_compute": True,
        "differs": None,
        "draining": False,
    }
    assert {**info.model_dump(), **beside} == shown


def test_a_worker_that_pauses_says_why_everywhere(
    client: httpx.Client, store: Store, settings: Settings, fflab: Fflab
) -> None:
    info = WorkerInfo(
        id="w1",
        host="h",
        pid=7,
        device="cpu",
        device_name=None,
        memory_bytes=None,
        version=VERSION,
        spec_version=SPEC_VERSION,
        job=None,
        paused="the disk has no room",
    )
    store.workers.heartbeat(info)
    store.workers.heartbeat(info.model_copy(update={"id": "w2", "paused": None}))
    shown = client.get("/v1/workers").json()["items"]
    assert [worker["paused"] for worker in shown] == ["the disk has no room", None]
    assert "paused: the disk has no room" in client.get("/workers").text
    metrics = client.get("/metrics").text
    assert "fflab_workers 2.0" in metrics
    assert "fflab_paused_workers 1.0" in metrics
    assert "paused: the disk has no room" in fflab("workers").out
    told = settings.model_copy(update={"url": str(client.base_url)})
    found = [check for check in _service(told) if check.what == "worker w1"]
    assert [(check.verdict, check.finding) for check in found] == [
        ("warn", "paused: the disk has no room")
    ]


def test_health_readiness_and_metrics(client: httpx.Client, resources: Resources) -> None:
    submit(client)
    assert client.get("/healthz").json() == {"status": "ok"}
    response = client.get("/readyz")
    assert (response.status_code, response.json()["database"], response.json()["broker"]) == (
        503,
        True,
        False,
    )
    resources.reconciler.broker_ok = True
    assert client.get("/readyz").status_code == 200
    metrics = dict(
        line.rsplit(" ", 1)
        for line in client.get("/metrics").text.splitlines()
        if not line.startswith("#")
    )
    assert float(metrics['fflab_jobs{state="queued"}']) == 1
    assert float(metrics["fflab_longest_wait_seconds"]) >= 0.0
    assert float(metrics["fflab_workers"]) == 0


def test_the_type_of_every_problem_is_an_address_that_explains_it(client: httpx.Client) -> None:
    for code, kind in PROBLEMS.items():
        assert client.get(f"/problems/{code}").json()["title"] == kind.title
    refused(client.get("/problems/nothing"), 404, "no-such-page")


def test_a_database_that_is_away_is_said_so(client: httpx.Client, store: Store) -> None:
    with store.database.engine.connect() as connection:
        connection.execute(text("ALTER TABLE jobs RENAME TO gone"))
        connection.commit()
    for response in (
        client.post("/v1/jobs", json={"spec": TRAIN}),
        client.get("/v1/jobs"),
        client.get(f"/v1/jobs/{NOBODY}"),
    ):
        refused(response, 503, "database-away")
        assert int(response.headers["retry-after"]) > 0
    assert client.get("/healthz").status_code == 200
    with store.database.engine.connect() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO jobs"))
        connection.commit()
    assert submit(client).state is JobState.queued


def test_a_study_needs_a_part(client: httpx.Client) -> None:
    for route in ("/v1/jobs", "/v1/estimate"):
        for spec in (
            {"preset": "quick", "parts": {}},
            {"preset": "paper", "parts": {}, "base": {"kind": "train"}, "grid": {}},
        ):
            problem = refused(
                client.post(route, json={"spec": {"kind": "study", **spec}}), 422, "invalid"
            )
            assert problem.errors[0].pointer == "/spec/parts"
            assert "leaves nothing of the preset" in problem.errors[0].message
    alone = client.post("/v1/jobs", json={"spec": {"kind": "study", "parts": {}}}).json()["spec"]
    assert set(alone) == {"kind", "base", "grid"}  # without a preset its own base is what runs


# Hostile input: one app for all of it, which it is to survive


DEEP = b"[" * 100_000 + b"]" * 100_000
BODIES: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"spec": "\xff\xfe"}',
    "null": b"null",
    "a list": b"[]",
    "a text": b'"x"',
    "no parts": b'{"spec": {"kind": "study", "preset": "quick", "parts": {}}}',
    "NaN": b'{"spec": {"kind": "train", "optimizer": {"lr": NaN}}}',
    "a number": b"1e999",
    "a huge integer": b'{"spec": {"kind": "train", "epochs": ' + b"9" * 10_000 + b"}}",
    "a large integer": b'{"spec": {"kind": "train", "seeds": [' + b"9" * 400 + b"]}}",
    "infinity where it is ignored": b'{"spec": {"kind": "study", "grid": {"x": [1e999]}, '
    b'"parts": {"a": {"base": {"kind": "train"}}}}}',
    "NUL": b'{"spec": {"kind": "study", "parts": {"a\\u0000": {"base": {"kind": "train"}}}}}',
    "a lone surrogate": b'{"spec": {"kind": "study", "parts": {"\\ud800": {"base": {"kind": '
    b'"train"}}}}}',
    "depth": DEEP,
    "depth in a field": b'{"spec": {"kind": "study", "grid": {"x": ' + DEEP + b"}}}",
    "depth that parses": b'{"spec": {"kind": "train", "x": ' + b"[" * 900 + b"]" * 900 + b"}}",
    "ten megabytes": b'{"spec": "' + b"x" * 10_000_000 + b'"}',
    "many cells": json.dumps(
        {
            "spec": {
                "kind": "study",
                "grid": {"epochs": list(range(1, 999)), "batch_size": list(range(2, 999))},
            }
        }
    ).encode(),
    "many mistakes": json.dumps(
        {"spec": {"kind": "train", **{f"x{n}": n for n in range(10_000)}}}
    ).encode(),
}
TYPES = (
    "application/json",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json; charset=utf-16",
    "",
)

OF_EVERY_TYPE = ("empty", "null", "not UTF-8")


def operations(app: FastAPI) -> list[tuple[str, str]]:
    """Every method and address of the OpenAPI document, with a job that there is not."""
    filled = {
        "{job_id}": NOBODY,
        "{name}": "nothing",
        "{file}": "sparsity.png",
        "{code}": "nothing",
        "{delivery_id}": "msg_0",
        "{form}": "md",
        "{share_id}": "nothing",
        "{worker_id}": "nothing",
    }
    found = []
    for path, known in app.openapi()["paths"].items():
        for placeholder, value in filled.items():
            path = path.replace(placeholder, value)  # noqa: PLW2901
        assert "{" not in path, f"say above what to put into {path}"
        found += [(method.upper(), path) for method in known]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in OF_EVERY_TYPE else name
        for name in BODIES
    ],
)
def test_no_body_makes_any_route_fail(hardy: httpx.Client, hostile_app: FastAPI, name: str) -> None:
    for method, path in operations(hostile_app):
        for kind in TYPES if name in OF_EVERY_TYPE else TYPES[:1]:
            response = hardy.request(
                method, path, content=BODIES[name], headers={"content-type": kind}
            )
            assert response.status_code < 500 or path == "/readyz", (
                f"{method} {path}: {response.text}"
            )
            if response.status_code >= 400 and path != "/readyz":
                problem = ProblemDetails.model_validate(response.json())
                assert response.headers["content-type"] == "application/problem+json"
                assert problem.status == response.status_code
            if path in ("/v1/jobs", "/v1/estimate") and method == "POST":
                assert 400 <= response.status_code < 500, f"{name} was accepted"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (
            {"spec": {"kind": "train", "negatives": {"strategy": "noise", "scale": 0}}},
            "/spec/negatives/scale",
        ),
        ({"spec": TRAIN, "webhook": "http://x"}, "/webhook"),
        ({"spec": TRAIN, "priority": "now"}, "/priority"),
        ({"spec": TRAIN, "nmae": "x"}, "/nmae"),
        ({"spec": {"kind": "train", "epoch": 3}}, "/spec/epoch"),
        ({"spec": TRAIN, "name": "a\nb"}, "/name"),
        ({"spec": TRAIN, "name": "\x00"}, "/name"),
        ({"spec": TRAIN, "tags": ["ok", ""]}, "/tags/1"),
        ({"spec": {"kind": "study", "preset": "papre"}}, "/spec/preset"),
        ({"spec": {"kind": "study", "grid": {"epochz": [1]}}}, "/spec/grid/epochz"),
        (
            {"spec": {"kind": "study", "grid": {"x": ["\ud800"]}, "parts": {"a": {"base": TRAIN}}}},
            "/spec/grid/x/0",
        ),
        ({"spec": {"kind": "check", "at": {"job": NOBODY, "epoch": 0}}}, "/spec/at/job"),
    ],
)
@pytest.mark.parametrize("route", ["/v1/jobs", "/v1/estimate"])
def test_a_mistake_is_pointed_at(
    hardy: httpx.Client, route: str, body: dict[str, Any], pointer: str
) -> None:
    response = hardy.post(
        route, content=json.dumps(body), headers={"content-type": "application/json"}
    )
    if route == "/v1/estimate" and pointer == "/spec/at/job":
        assert response.status_code == 200
        return
    assert pointer in [error.pointer for error in refused(response, 422, "invalid").errors]


CHECK = {"kind": "check", "theorem": 1}
DIGITS = {"dataset.name": ["digits"]}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (
            {"spec": {"kind": "study", "base": CHECK | {"samples": 1438}, "grid": DIGITS}},
            "/spec/grid/dataset.name: grid.samples: 1438 asked, but the data set gives",
        ),
        ({"spec": TRAIN, "nmae": "x"}, "/nmae: is not a known field; did you mean 'name'?"),
        (
            {"spec": {"kind": "train", "epoch": 3}},
            "/spec/epoch: is not a known field; did you mean 'epochs'?",
        ),
        (
            {"spec": {"kind": "study", "grid": {"network.width": [[8]]}}},
            "/spec/grid/network.width: is not a known field; did you mean 'network.widths'?",
        ),
        (
            {"spec": {"kind": "study", "preset": "papre"}},
            "/spec/preset: 'papre' is not one of paper,",
        ),
        (
            {"spec": {"kind": "study", "parts": {"a/b": {"base": TRAIN, "grid": {"x": [1]}}}}},
            "/spec/parts/a~1b/grid/x: ",
        ),
        (
            {"spec": {"kind": "study", "parts": {"a.b": {"base": CHECK, "grid": {"width": [1]}}}}},
            "/spec/parts/a.b/grid/width: is not a known field; did you mean 'widths'?",
        ),
        (
            {
                "spec": {
                    "kind": "study",
                    "parts": {"a.b": {"base": CHECK, "grid": {"theorem": [3]}}},
                }
            },
            "/spec/parts/a.b/grid/theorem: expected one of 1, 2, got 3",
        ),
    ],
)
@pytest.mark.parametrize("route", ["/v1/jobs", "/v1/estimate"])
def test_an_unknown_name_is_refused_with_the_nearest_one(
    hardy: httpx.Client, route: str, body: dict[str, Any], detail: str
) -> None:
    assert refused(hardy.post(route, json=body), 422, "invalid").detail.startswith(detail)


def test_a_body_of_unknown_length_is_cut_off(hardy: httpx.Client) -> None:
    response = hardy.post(
        "/v1/jobs",
        content=(b"x" * 100_000 for _ in range(100)),
        headers={"content-type": "application/json"},
    )
    refused(response, 413, "body-too-large")


ADDRESSES = [
    "/v1/jobs?limit=0",
    "/v1/jobs?limit=NaN",
    "/v1/jobs?limit=" + "9" * 5000,
    "/v1/jobs?cursor=%00",
    "/v1/jobs?cursor=" + "a" * 200,
    "/v1/jobs?state=x",
    "/v1/jobs?tag=%00",
    "/v1/jobs?parent=%ff",
    "/v1/jobs?name=%ED%A0%80",
    "/v1/jobs?kind=%C3%A9",
    "/v1/jobs/x",
    "/v1/jobs/%00",
    "/v1/jobs/..%2f..%2fetc",
    f"/v1/jobs/{NOBODY}",
    f"/v1/jobs/{NOBODY}%0a",
    f"/v1/jobs/{NOBODY}?wait=nan",
    f"/v1/jobs/{NOBODY}?wait=-1",
    f"/v1/jobs/{NOBODY}?wait=61",
    f"/v1/jobs/{NOBODY}/events?after=-1",
    f"/v1/jobs/{NOBODY}/result.npz",
    "/v1/datasets/%00",
    "/v1/datasets/..%2fx",
    "/problems/%ff",
    "/v1",
    "/",
    "/v1/nothing",
    "/openapi.json/x",
    "//",
    "/v1/jobs//",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_address_makes_a_route_fail(hardy: httpx.Client, address: str) -> None:
    response = hardy.get(address)
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("value", ["x", "-1", "9" * 40, "1.5", "\u00b2".encode()])
def test_a_bad_last_event_id_is_refused(hardy: httpx.Client, value: str) -> None:
    job = submit(hardy)
    response = hardy.get(
        f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": value, "Accept": "application/json"}
    )
    refused(response, 422, "invalid")


def test_a_method_that_a_route_does_not_know_is_told_those_that_it_knows(
    client: httpx.Client,
) -> None:
    response = client.put("/v1/jobs")
    refused(response, 405, "wrong-method")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert client.put(f"/v1/jobs/{NOBODY}").headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH"


def test_a_fault_of_the_service_is_a_problem_too(
    client: httpx.Client, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(resources.store.jobs, "page", broken)
    response = client.get("/v1/jobs")
    refused(response, 500, "unexpected")
    assert "secret" not in response.text


# The description


def test_the_description_has_every_route_of_the_contract_with_its_problems(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    contract = {
        "/v1/jobs": {"get", "post"},
        "/v1/jobs/{job_id}": {"get", "patch", "delete"},
        "/v1/jobs/{job_id}/result": {"get"},
        "/v1/jobs/{job_id}/result.csv": {"get"},
        "/v1/jobs/{job_id}/result.npz": {"get"},
        "/v1/jobs/{job_id}/report.html": {"get"},
        "/v1/jobs/{job_id}/charts": {"get"},
        "/v1/jobs/{job_id}/chart/{file}": {"get"},
        "/v1/jobs/{job_id}/log": {"get"},
        "/v1/retention": {"get"},
        "/v1/jobs/{job_id}/webhook": {"get"},
        "/v1/jobs/{job_id}/curves": {"get"},
        "/v1/jobs/{job_id}/events": {"get"},
        "/v1/jobs/{job_id}/cancel": {"post"},
        "/v1/jobs/{job_id}/pause": {"post"},
        "/v1/jobs/{job_id}/resume": {"post"},
        "/v1/jobs/{job_id}/retry": {"post"},
        "/v1/estimate": {"post"},
        "/v1/catalog": {"get"},
        "/v1/presets": {"get"},
        "/v1/datasets": {"get", "post"},
        "/v1/datasets/{name}": {"get", "delete"},
        "/v1/weights": {"get", "post"},
        "/v1/weights/{name}": {"get", "delete"},
        "/v1/workers": {"get"},
        "/v1/workers/{worker_id}/drain": {"post"},
        "/v1/workers/{worker_id}/undrain": {"post"},
        "/v1/usage": {"get"},
        "/v1/audit": {"get"},
        "/healthz": {"get"},
        "/readyz": {"get"},
        "/metrics": {"get"},
    }
    for path, methods in contract.items():
        assert set(paths[path]) == methods
        for operation in paths[path].values():
            assert operation["summary"]
            for status, answer in operation["responses"].items():
                if path.startswith("/v1") and int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"], (path, status)
            if path.startswith("/v1"):
                assert {"401", "422", "503"} <= set(operation["responses"])
    answers = set(paths["/v1/jobs"]["post"]["responses"])
    assert answers == {
        "200",
        "202",
        "400",
        "401",
        "403",
        "409",
        "413",
        "415",
        "421",
        "422",
        "429",
        "503",
    }


def test_progress_is_shown_while_a_job_runs(client: httpx.Client, store: Store) -> None:
    job = submit(client)
    claim = store.queue.claim(job.id, "w", LEASE)
    assert claim is not None
    store.queue.record(
        job.id,
        claim.attempt,
        lease_seconds=LEASE,
        progress=Progress(fraction=0.25, message="epoch 1", eta_seconds=9.0),
    )
    shown = client.get(f"/v1/jobs/{job.id}").json()
    assert shown["progress"] == {"fraction": 0.25, "message": "epoch 1", "eta_seconds": 9.0}
    assert (shown["state"], shown["attempts"]) == ("running", 1)
    wait_until(
        lambda: client.get(f"/v1/jobs/{job.id}").json()["started_at"] is not None,
        "the start is shown",
    )
