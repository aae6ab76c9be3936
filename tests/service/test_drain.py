"""Drained workers: they finish what they have, take nothing new, and say so everywhere."""

import httpx
import pytest

from ffengine.spec import TrainSpec
from service.background.waiting import NO_WORKER, room_for, why_jobs_wait
from service.cli.doctor import _workers
from service.schemas import WorkerInfo
from service.store import Store
from service.web import auth
from service.web.auth import create_key
from tests.commands import Fflab
from tests.factories import LEASE, claimed, submit, worker_info
from tests.over_http import refused
from tests.service.samples import train_result


def alive(store: Store, name: str, host: str = "box", device: str = "cpu") -> WorkerInfo:
    info = worker_info(name, host=host, device=device)
    store.workers.heartbeat(info)
    return info


def test_a_drained_worker_finishes_its_job_and_claims_no_other(either_store: Store) -> None:
    info = alive(either_store, "w")
    first = either_store.queue.claim_next("w", LEASE) if submit(either_store) else None
    assert first is not None
    other = submit(either_store, TrainSpec(epochs=7))
    line = either_store.workers.drain("w", "ada")
    assert line is not None
    assert line.job == first.job_id, "although no heartbeat has said so yet"
    assert line.draining
    assert (line.paused or "").startswith("draining since 20")
    assert (line.paused or "").endswith(" UTC by ada")
    assert either_store.queue.claim_next("w", LEASE) is None
    either_store.queue.finish(first.job_id, first.attempt, train_result())
    assert either_store.workers.heartbeat(info), "the worker is told, and the drain lasts"
    (line,) = either_store.workers.alive(60.0)
    assert (line.job, line.draining, line.can_compute) == (None, True, True)
    assert either_store.queue.claim_next("w", LEASE) is None
    again = either_store.workers.undrain("w")
    assert again is not None
    assert (again.draining, again.paused) == (False, None)
    assert not either_store.workers.heartbeat(info)
    claim = either_store.queue.claim_next("w", LEASE)
    assert claim is not None
    assert claim.job_id == other.id


def test_who_drained_a_worker_is_noted_once(either_store: Store) -> None:
    alive(either_store, "w")
    for _ in range(2):
        either_store.workers.drain("w")
    for _ in range(2):
        either_store.workers.undrain("w")
    assert either_store.workers.drain("unknown") is None
    done = [(one.action, one.target) for one in either_store.audit.page(limit=10).items]
    assert done == [("undrain", "w"), ("drain", "w")]


def test_a_drain_ends_with_its_worker(either_store: Store) -> None:
    assert either_store.workers.drain("w") is None, "nobody of that name is alive"
    info = alive(either_store, "w")
    first, second = (either_store.workers.drain("w", by) for by in (None, "another"))
    assert first is not None
    assert second is not None
    assert second.paused == first.paused, "by whom it was first"
    either_store.workers.sign_off("w")
    assert either_store.workers.undrain("w") is None
    assert not either_store.workers.heartbeat(info), "who is started anew takes jobs"


def test_a_job_that_was_lost_does_not_wait_for_a_drained_host(either_store: Store) -> None:
    """It may come back at once to the host that lost it, where every other one is drained."""
    alive(either_store, "w", host=either_store.queue._host)
    alive(either_store, "other", host="elsewhere")
    job_id, attempt = claimed(either_store, submit(either_store))
    either_store.workers.heartbeat(
        alive(either_store, "w", host=either_store.queue._host).model_copy(update={"job": job_id})
    )
    either_store.queue.lose(job_id, attempt, "it died", 3)
    assert either_store.workers.drain("other") is not None
    assert either_store.queue.claim_next("w", LEASE) is not None


def test_jobs_say_that_they_wait_for_drained_workers(either_store: Store) -> None:
    alive(either_store, "a", device="cuda:0")
    alive(either_store, "b")

    def why() -> str | None:
        workers = either_store.workers.alive(60.0)
        return why_jobs_wait(workers, broker_ok=True, no_room=None)

    either_store.workers.drain("a")
    assert why() is None
    room = room_for(either_store.workers.alive(60.0), "cuda", ())
    assert (room.none or "").startswith("waits: needs device=cuda, and the live workers have cpu")
    either_store.workers.drain("b")
    assert (why() or "").startswith("waits: every worker is draining since ")
    assert "fflab worker undrain" in (why() or "")
    assert why_jobs_wait([], broker_ok=True, no_room=None) == NO_WORKER


def test_it_is_asked_for_over_http_by_administrators_alone(
    client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive(store, "box-1 a")
    answer = client.post("/v1/workers/box-1%20a/drain")
    assert answer.status_code == 200, answer.text
    assert answer.json()["draining"]
    (shown,) = client.get("/v1/workers").json()["items"]
    assert shown["paused"] == answer.json()["paused"]
    page = client.get("/workers").text
    assert "draining since" in page
    assert "Take jobs again" in page
    metrics = client.get("/metrics").text
    assert "fflab_draining_workers 1.0" in metrics
    assert "fflab_paused_workers 0.0" in metrics, "no alarm: somebody meant it"
    (check, *_) = _workers([shown])
    assert check.verdict == "note"
    back = client.post("/workers/box-1%20a/undrain", follow_redirects=False)
    assert (back.status_code, back.headers["location"]) == (303, "/workers")
    assert not client.get("/v1/workers").json()["items"][0]["draining"]
    refused(client.post("/v1/workers/nobody/drain"), 404, "no-such-worker")
    refused(client.post("/v1/workers/nobody/undrain"), 404, "no-such-worker")

    monkeypatch.setattr(auth, "REMEMBERED_SECONDS", 0.0)
    ada = create_key(store.api_keys, "ada", scope="submit").secret
    root = create_key(store.api_keys, "root", scope="admin").secret
    for path in ("/v1/workers/box-1%20a/drain", "/workers/box-1%20a/drain"):
        problem = client.post(path, headers={"X-API-Key": ada})
        assert problem.status_code == 403, path
    assert "Drain" not in client.get("/workers", headers={"X-API-Key": ada}).text
    answer = client.post("/v1/workers/box-1%20a/drain", headers={"X-API-Key": root})
    assert answer.json()["paused"].endswith(" by root")


def test_the_command_drains_a_worker_or_all_of_a_host(fflab: Fflab, store: Store) -> None:
    alive(store, "big-1", host="big", device="cuda:0")
    alive(store, "big-2", host="big", device="cuda:1")
    alive(store, "small-1", host="small")
    ended = fflab("worker", "drain", "big", "--wait")
    assert ended.code == 0, ended.err
    assert ended.lines == [
        "big-1 (cuda:0) has no job and takes no other",
        "big-2 (cuda:1) has no job and takes no other",
    ]
    assert [one.draining for one in store.workers.alive(60.0)] == [True, True, False]
    assert "big: 2 devices, 0 with a job" in fflab("workers").lines
    assert fflab("worker", "undrain", "big-2").lines == ["big-2 (cuda:1) takes jobs"]
    assert [one.draining for one in store.workers.alive(60.0)] == [True, False, False]
    wrong = fflab("worker", "drain", "smal")
    assert wrong.code == 4
    assert "did you mean 'small'?" in wrong.err
