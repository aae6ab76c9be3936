"""What is used, by owner, project and device; and a limit on the bytes of an owner's artifacts."""

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from service.artifacts import Artifacts
from service.background.disk_usage import DiskUsage
from service.encoding.viewer import Viewer, seen_by
from service.schemas import UsageLine
from service.settings import Settings
from service.storage.files import DIGEST_BYTES
from service.store import OwnerLimitReached, OwnerLimits, Store, SubmitLimits
from service.store.usage import By
from service.web.auth import create_key
from tests.commands import Fflab
from tests.factories import STUDY, aged, end, set_values, submit, worker_info
from tests.over_http import refused
from tests.over_http import submit as submit_over_http


def used(store: Store, by: By = "owner", days: float | None = None) -> dict[str | None, UsageLine]:
    since = None if days is None else datetime.now(UTC) - timedelta(days=days)
    return {one.name: one for one in store.usage.page(by, since).items}


def filled(store: Store) -> dict[str, str]:
    """Jobs of two owners, one of them with a study, whose use is known."""
    study = submit(store, STUDY, submitted_by="ada", project="thesis")
    for run, _ in store.jobs.children(study.id):
        end(store, run, well=True)
        set_values(store, run.id, cpu_seconds=10.0, artifact_bytes=100)
    set_values(store, study.id, state="succeeded")
    single = submit(store, submitted_by="bob", fresh=True)
    end(store, single, well=True)
    set_values(store, single.id, gpu_seconds=5.0, device_class="cuda", artifact_bytes=7)
    set_values(store, single.id, cpu_seconds=0.0)
    aged(store, study.id, 1)
    for run, _ in store.jobs.children(study.id):
        aged(store, run.id, 1)
    aged(store, single.id, 20)
    return {"study": study.id, "single": single.id}


def test_what_is_used_is_summed_up(either_store: Store) -> None:
    filled(either_store)
    ada = UsageLine(
        name="ada",
        jobs=1,
        runs=3,
        cpu_seconds=30.0,
        gpu_seconds=0.0,
        artifact_bytes=300,
        upload_bytes=0,
    )
    bob = UsageLine(
        name="bob",
        jobs=1,
        runs=0,
        cpu_seconds=0.0,
        gpu_seconds=5.0,
        artifact_bytes=7,
        upload_bytes=0,
    )
    assert either_store.usage.page("owner").items == [ada, bob]
    of_none = {"name": None, "upload_bytes": None}
    assert used(either_store, "project") == {
        "thesis": ada.model_copy(update={"name": "thesis", "upload_bytes": None}),
        None: bob.model_copy(update=of_none),
    }
    assert used(either_store, "device")["cuda"].gpu_seconds == 5.0
    assert list(used(either_store, days=7)) == ["ada"]


def test_deleted_jobs_count_with_what_they_used(either_store: Store) -> None:
    ids = filled(either_store)
    before = used(either_store)
    for job_id in ids.values():
        either_store.actions.delete(job_id)
    gone = {name: one.model_copy(update={"artifact_bytes": 0}) for name, one in before.items()}
    assert used(either_store) == gone
    assert list(used(either_store, days=7)) == ["ada"]
    again = filled(either_store)
    either_store.actions.delete(again["study"])
    assert used(either_store)["ada"].runs == 6, "days are added up"


def test_time_is_counted_by_the_kind_of_device(either_store: Store) -> None:
    for device in ("cpu", "cuda:0"):
        either_store.workers.heartbeat(worker_info("w1", device=device))
        end(either_store, submit(either_store, submitted_by=device, fresh=True), well=True)
    found = used(either_store)
    assert found["cpu"].cpu_seconds > 0 == found["cpu"].gpu_seconds
    assert found["cuda:0"].gpu_seconds > 0 == found["cuda:0"].cpu_seconds


def test_private_jobs_of_others_are_left_out(either_store: Store) -> None:
    kept = submit(either_store, submitted_by="ada", private=True, project="hidden")
    gone = submit(either_store, submitted_by="ada", private=True, project="gone", fresh=True)
    end(either_store, gone, well=True)
    either_store.actions.delete(gone.id)
    for viewer, seen in (
        (Viewer("bob", "submit"), set()),
        (Viewer("ada", "submit"), {"hidden", "gone"}),
        (Viewer("root", "admin"), {"hidden", "gone"}),
    ):
        with seen_by(viewer):
            assert set(used(either_store, "project")) == seen
    assert kept.private


def test_artifacts_are_measured(store: Store, settings: Settings) -> None:
    job = submit(store, submitted_by="ada")
    artifacts = Artifacts(settings.artifact_place)
    artifacts.put(job.id, "a", b"x" * 100)
    artifacts.put(f"job_{'0' * 32}", "a", b"of no job")
    version = store.jobs.get_with_version(job.id)
    measure = DiskUsage(store, settings)
    measure.tick()
    assert used(store)["ada"].artifact_bytes == 100 + DIGEST_BYTES
    assert store.jobs.get_with_version(job.id) == version, "the job is as it was, for its readers"
    artifacts.put(job.id, "a", b"x")
    measure.tick()
    assert used(store)["ada"].artifact_bytes == 1 + DIGEST_BYTES


def test_an_owner_has_so_many_bytes(either_store: Store) -> None:
    limits = SubmitLimits(OwnerLimits(max_bytes=1_000))
    first = submit(either_store, submitted_by="ada")
    end(either_store, first, well=False)
    set_values(either_store, first.id, artifact_bytes=999)
    either_store.actions.retry(first.id, limits=limits)
    either_store.actions.cancel(first.id)
    set_values(either_store, first.id, artifact_bytes=1_000)
    with pytest.raises(OwnerLimitReached) as refusal:
        either_store.actions.retry(first.id, limits=limits)
    assert (refusal.value.name, refusal.value.has, refusal.value.most) == ("bytes", 1_000, 1_000)
    either_store.actions.delete(first.id)
    other = submit(either_store, submitted_by="ada")
    either_store.actions.pause(other.id)
    either_store.actions.resume(other.id, limits=limits)


def test_a_submit_beyond_the_bytes_is_told_what_to_do(client: httpx.Client, store: Store) -> None:
    key = create_key(store.api_keys, "ada", max_bytes=1_000)
    client.headers["X-API-Key"] = key.secret
    job = submit_over_http(client)
    set_values(store, job.id, artifact_bytes=1_234)
    answer = client.post("/v1/jobs", json={"spec": {"kind": "train", "epochs": 7}})
    problem = refused(answer, 429, "limit-reached")
    assert "ada has 1,234 bytes of artifacts; the limit is 1,000" in problem.detail
    assert "Delete jobs that are not needed any more" in problem.detail
    assert answer.headers["ratelimit-policy"] == '"bytes";q=1000'
    found = client.get("/v1/usage?by=project").json()
    assert (found["by"], found["items"][0]["artifact_bytes"]) == ("project", 1_234)
    page = client.get("/usage?days=7").text
    assert "ada" in page
    assert client.get("/usage?by=device").status_code == 200


def test_the_command_shows_what_is_used(fflab: Fflab, store: Store) -> None:
    filled(store)
    assert fflab("usage").lines == [
        "owner\tjobs\truns\tCPU time\tGPU time\tartifacts\tuploads",
        "ada\t1\t3\t30 s\t0 s\t300 bytes\t0 bytes",
        "bob\t1\t0\t0 s\t5 s\t7 bytes\t0 bytes",
    ]
    found = json.loads(fflab("usage", "--by", "device", "--since", "7d", "--json").out)
    assert [(one["name"], one["runs"]) for one in found["items"]] == [("cpu", 3), (None, 0)]
    assert fflab("keys", "create", "x", "--max-bytes", "much").code == 2
