"""/metrics: what Prometheus reads of an app, and how it is counted."""

import re
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from ffengine.spec import CheckSpec, TrainSpec
from service.artifacts import Artifacts
from service.jobs import new_job_id
from service.schemas import WorkerInfo
from service.settings import Settings
from service.store import Store
from service.web import metrics
from service.web.app import create_app
from service.web.metrics import METHODS, JobMetrics
from tests.documents import ROOT
from tests.factories import LEASE, STUDY, claimed, end, submit
from tests.service.arrays import X, Y, npz
from tests.serving import serving

Samples = dict[str, float]  # a series as NAME{label="value"}, its labels in order, and its value


WORKER = WorkerInfo(
    id="w1",
    host="box1",
    pid=1,
    device="cpu",
    device_name=None,
    memory_bytes=None,
    version="1",
    job=None,
)


def samples(client: httpx.Client) -> Samples:
    response = client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        series(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def series(name: str, labels: dict[str, str]) -> str:
    labelled = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{labelled}}}" if labelled else name


def requests(found: Samples, method: str, route: str, status: str) -> float:
    labels = {"method": method, "route": route, "status": status}
    return found.get(series("fflab_http_request_seconds_count", labels), 0.0)


def test_gauges_are_those_of_the_database(client: httpx.Client, store: Store) -> None:
    submit(store)
    end(store, submit(store, TrainSpec(epochs=3)), well=False)
    found = samples(client)
    assert found['fflab_jobs{state="queued"}'] == 1
    assert found['fflab_jobs{state="failed"}'] == 1
    assert found["fflab_longest_wait_seconds"] > 0
    assert (found["fflab_workers"], found["fflab_busy_workers"]) == (0, 0)
    assert found["fflab_broker_up"] == 0
    assert found["process_resident_memory_bytes"] > 0


def test_gauges_say_what_the_service_takes_up(
    client: httpx.Client, app: FastAPI, settings: Settings
) -> None:
    artifacts: Artifacts = app.state.resources.artifacts
    job = new_job_id()
    artifacts.put(job, "step.safetensors", b"x" * 1_000)
    client.post("/v1/datasets?name=mine", content=npz(x=X, y=Y))
    app.state.resources.disk_usage.tick()
    found = samples(client)
    assert found["fflab_artifacts_bytes"] == 1_032
    assert found["fflab_uploads_bytes"] == settings.datasets.bytes_kept()
    assert found["fflab_uploads_bytes"] > X.nbytes
    assert found["fflab_database_bytes"] >= (settings.root / "fflab.db").stat().st_size > 0


def test_the_size_of_either_database_is_known(either_store: Store) -> None:
    assert either_store.database.size_bytes() > 50_000


@pytest.mark.slow
def test_requests_are_counted_by_route_method_and_status(client: httpx.Client) -> None:
    for path in ("/v1/jobs", "/v1/jobs/job_none", "/", "/jobs/job_none", "/static/style.css"):
        client.get(path)
    client.post("/v1/jobs", json={"spec": {}})
    client.put("/v1/jobs")
    client.request("BREW", "/healthz")
    client.get("/healthz", headers={"Host": "elsewhere.example"})
    client.get("/v1/jobs", headers={"Host": "elsewhere.example"})
    found = samples(client)
    assert requests(found, "GET", "/v1/jobs", "2xx") == 1
    assert requests(found, "GET", "/v1/jobs/{job_id}", "4xx") == 1
    assert requests(found, "GET", "/", "2xx") == 1
    assert requests(found, "GET", "/jobs/{job_id}", "4xx") == 1
    assert requests(found, "GET", "/static/{name}", "2xx") == 1
    assert requests(found, "POST", "/v1/jobs", "4xx") == 1
    assert requests(found, "PUT", "/v1/jobs", "4xx") == 1
    assert requests(found, "other", "/healthz", "4xx") == 1
    assert requests(found, "GET", "/healthz", "2xx") == 1
    assert requests(found, "GET", "none", "4xx") == 1


@pytest.mark.slow
def test_no_path_that_a_client_makes_up_is_a_series(app: FastAPI, client: httpx.Client) -> None:
    for number in range(30):
        client.get(f"/made-up-{number}")
        client.get(f"/v1/jobs/job_{number}")
        client.get(f"/static/{number}")
        client.request(f"VERB{number}", "/v1/jobs")
    routes = {
        label
        for name in samples(client)
        for label in re.findall(r'fflab_http_request_seconds_count{.*route="([^"]*)"', name)
    }
    assert routes == {"none", "/v1/jobs/{job_id}", "/static/{name}", "/v1/jobs"}
    methods = set(re.findall(r'method="(\w+)"', client.get("/metrics").text))
    assert methods <= METHODS | {"other"}


def test_a_stream_is_not_held_and_counts_from_its_first_byte_on(
    client: httpx.Client, store: Store
) -> None:
    job = submit(store)
    with client.stream("GET", f"/v1/jobs/{job.id}/events") as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("event: state")  # long before the job ends
        found = samples(client)
        assert requests(found, "GET", "/v1/jobs/{job_id}/events", "2xx") == 1
        assert found["fflab_event_clients"] == 1
        store.actions.cancel(job.id)
        assert any("end" in line for line in lines)
    wait_until(lambda: samples(client)["fflab_event_clients"] == 0, "nobody waits any more")


def test_waits_and_runs_of_jobs_are_counted_once(client: httpx.Client, store: Store) -> None:
    submit(store, STUDY)  # is no work of its own; its runs are
    claimed(store, submit(store, CheckSpec()))
    end(store, submit(store, TrainSpec(epochs=7)), well=True)
    submit(store, TrainSpec(epochs=7))  # answered from the cache
    for _ in range(2):
        found = samples(client)
        assert found['fflab_job_wait_seconds_count{kind="train"}'] == 1
        assert found['fflab_job_wait_seconds_count{kind="check"}'] == 1
        assert found['fflab_job_run_seconds_count{kind="train",state="succeeded"}'] == 1
        assert not [name for name in found if "kind=" in name and "study" in name]
    assert 0 <= found['fflab_job_wait_seconds_sum{kind="train"}'] < PATIENCE_SECONDS


def test_a_job_that_is_retried_ends_twice_and_starts_once(
    client: httpx.Client, store: Store
) -> None:
    job = submit(store)
    end(store, job, well=False)
    samples(client)
    store.actions.retry(job.id)
    end(store, job, well=True)
    found = samples(client)
    assert found['fflab_job_run_seconds_count{kind="train",state="failed"}'] == 1
    assert found['fflab_job_run_seconds_count{kind="train",state="succeeded"}'] == 1
    assert found['fflab_job_wait_seconds_count{kind="train"}'] == 1


def test_what_ended_before_this_process_began_is_not_counted(settings: Settings) -> None:
    with Store(settings.database) as store:
        end(store, submit(store), well=True)
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, trust_env=False) as http:
        assert "fflab_job_wait_seconds_count" not in str(samples(http))


def test_an_event_that_is_committed_late_is_counted_and_none_twice(either_store: Store) -> None:
    registry = CollectorRegistry()
    histograms = JobMetrics(either_store.times, registry)
    histograms.start()
    first, second = submit(either_store), submit(either_store, TrainSpec(epochs=3))
    claimed(either_store, first)
    with either_store.database.engine.begin() as connection:  # as if its commit took long
        late = connection.execute(text("SELECT max(id) FROM events")).scalar_one()
        connection.execute(text("UPDATE events SET id = -1 WHERE id = :late"), {"late": late})
    claimed(either_store, second)
    histograms.update()
    assert registry.get_sample_value("fflab_job_wait_seconds_count", {"kind": "train"}) == 1
    with either_store.database.engine.begin() as connection:
        connection.execute(text("UPDATE events SET id = :late WHERE id = -1"), {"late": late})
    for _ in range(3):
        histograms.update()
        assert registry.get_sample_value("fflab_job_wait_seconds_count", {"kind": "train"}) == 2


def test_what_is_remembered_of_events_does_not_grow(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "OVERLAP_SECONDS", 0.0)
    registry = CollectorRegistry()
    histograms = JobMetrics(store.times, registry)
    histograms.start()
    for number in range(1, 6):
        end(store, submit(store, TrainSpec(epochs=number)), well=True)
        histograms.update()
        assert (
            registry.get_sample_value("fflab_job_wait_seconds_count", {"kind": "train"}) == number
        )
        assert len(histograms._looks) == 1
        assert not histograms._counted


def test_what_goes_wrong_is_counted_once_by_code_and_host(either_store: Store) -> None:
    store, registry = either_store, CollectorRegistry()
    store.workers.heartbeat(WORKER)
    histograms = JobMetrics(store.times, registry)
    histograms.start()
    end(store, submit(store, TrainSpec(epochs=1)), well=False)
    store.queue.lose(*claimed(store, submit(store, TrainSpec(epochs=2))), "it died", 3)
    returned = submit(store, TrainSpec(epochs=3))
    store.queue.return_unfit(*claimed(store, returned), "no GPU")
    claimed(store, returned)
    unheard = store.queue.claim(submit(store, TrainSpec(epochs=4)).id, "w2", LEASE)
    assert unheard is not None
    store.queue.lose(unheard.job_id, unheard.attempt, "it died", 1)
    for _ in range(2):
        histograms.update()

    def count(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"fflab_{name}_total", {"kind": "train", **labels})

    assert count("job_failures", code="out_of_memory", host="box1") == 1
    assert count("job_failures", code="worker_lost", host="unknown") == 1
    assert count("attempts_lost", host="box1") == 1
    assert count("attempts_lost", host="unknown") == 1
    assert count("attempts_returned", host="box1") == 1
    assert count("attempts_resumed") == 1


@pytest.mark.slow
def test_two_apps_of_one_process_count_for_themselves(
    client: httpx.Client, tmp_path: Path, settings: Settings
) -> None:
    client.get("/v1/jobs")
    other = settings.model_copy(update={"home": tmp_path / "other"})
    with serving(create_app(other)) as url, httpx.Client(base_url=url, trust_env=False) as http:
        assert requests(samples(http), "GET", "/v1/jobs", "2xx") == 0
    assert requests(samples(client), "GET", "/v1/jobs", "2xx") == 1


@pytest.mark.parametrize("query", ["?name[]=fflab_jobs", ""])
def test_a_database_that_is_away_is_said_so(client: httpx.Client, store: Store, query: str) -> None:
    with store.database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE jobs RENAME TO gone"))
    response = client.get(f"/metrics{query}")
    assert (response.status_code, response.json()["code"]) == (503, "database-away")


def test_every_metric_is_documented(client: httpx.Client) -> None:
    page = (ROOT / "docs" / "howto" / "server.md").read_text(encoding="utf-8")
    families = text_string_to_metric_families(client.get("/metrics").text)
    names = {family.name for family in families if family.name.startswith("fflab_")}
    documented = set(re.findall(r"^\| `(fflab_\w+)", page, re.MULTILINE))
    documented = {name.removesuffix("_total") for name in documented}
    assert documented == {name.removesuffix("_created") for name in names}
