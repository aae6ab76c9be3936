"""Attempts: what a result says of them, and where a job goes whose memory ran out."""

import json
from pathlib import Path
from typing import Any

import pytest

from ffengine.attempts import device_changed, stretches
from ffengine.spec import TrainSpec
from service.host.memory import memory_kills
from service.jobs import JobState
from service.placement import GB, Fitness
from service.results.charts.epochs import devices_note
from service.results.descriptions import provenance_lines
from service.results.methods import methods
from service.results.sources import Source
from service.store import Claim, Queue, Store
from service.store.tables import JobRow
from tests.factories import HALF, LEASE, let_lease_run_out, read, submit, worker_info
from tests.service.samples import train_result

CPU, GPU = Fitness("cpu", 16 * GB), Fitness("cuda:0", 80 * GB)


def worker(store: Store, name: str, fitness: Fitness) -> Queue:
    """A worker of that name on a host of that name, and its view of the queue."""
    store.workers.heartbeat(
        worker_info(
            name,
            host=name,
            device=fitness.device or "auto",
            device_name=f"processor of {name}",
            memory_bytes=fitness.memory_bytes,
            threads=4,
        )
    )
    return Queue(store.database, host=name)


def claim(queue: Queue, name: str, fitness: Fitness) -> Claim:
    found = queue.claim_next(name, LEASE, fitness)
    assert found is not None
    return found


def test_a_result_lists_its_attempts_and_says_that_its_device_changed(either_store: Store) -> None:
    here, there = worker(either_store, "small", CPU), worker(either_store, "big", GPU)
    job = submit(either_store)
    result = train_result(epochs=3)
    early = [row for row in result.curves if row.epoch < 2]
    first = claim(here, "small", CPU)
    here.record(first.job_id, first.attempt, lease_seconds=LEASE, progress=HALF, rows=early)
    let_lease_run_out(either_store, job.id)
    assert either_store.queue.expire_leases(max_losses=9) == [job.id]
    second = claim(there, "big", GPU)
    there.record(second.job_id, second.attempt, lease_seconds=LEASE, progress=HALF)
    there.finish_stopped(second.job_id, second.attempt)
    last = claim(there, "big", GPU)
    # a resumed run measures some of its rows again: they stay those of the first attempt
    there.record(job.id, last.attempt, lease_seconds=LEASE, progress=HALF, rows=result.curves)
    there.finish(job.id, last.attempt, result)

    document = json.loads(either_store.jobs.result(job.id) or "")
    attempts: list[dict[str, Any]] = document["provenance"]["attempts"]
    assert [
        (one["number"], one["host"], one["first_epoch"], one["last_epoch"]) for one in attempts
    ] == [
        (1, "small", 0, 1),
        (2, "big", None, None),
        (3, "big", 2, 3),
    ]
    assert [one["device"] for one in attempts[:2]] == ["cpu", "cuda:0"]
    assert attempts[0]["device_name"] == "processor of small"
    assert "the lease ran out" in attempts[0]["ended_as"]
    assert [one["ended_as"] for one in attempts[1:]] == ["handed back", "succeeded"]
    assert attempts[2]["device"] == result.provenance.device, "the runner itself knows best"


def test_a_curve_of_two_kinds_of_device_says_so_wherever_it_is_shown(store: Store) -> None:
    here, there = worker(store, "small", CPU), worker(store, "big", GPU)
    submit(store)
    result = train_result(epochs=3)
    on_gpu = result.provenance.model_copy(update={"device": "cuda:0", "device_name": "H100"})
    result = result.model_copy(update={"provenance": on_gpu})
    first = claim(here, "small", CPU)
    early = [row for row in result.curves if row.epoch < 2]
    here.record(first.job_id, first.attempt, lease_seconds=LEASE, progress=HALF, rows=early)
    here.finish_stopped(first.job_id, first.attempt)
    last = claim(there, "big", GPU)
    there.record(last.job_id, last.attempt, lease_seconds=LEASE, progress=HALF, rows=result.curves)
    there.finish(last.job_id, last.attempt, result)

    job = read(store, first.job_id)
    assert job.provenance is not None
    assert stretches(job.provenance.attempts) == ["epochs 0 to 1 on cpu", "epochs 2 to 3 on cuda"]
    found = json.loads(store.jobs.result(job.id) or "")["diagnostics"]
    assert found[-1]["code"] == "device_changed"
    assert device_changed(job.provenance.attempts[:1]) is None
    source = Source("", result.model_copy(update={"provenance": job.provenance}))
    assert devices_note([source]) == (
        "changed its kind of device: epochs 0 to 1 on cpu, then epochs 2 to 3 on cuda"
    )
    assert devices_note([Source("", result)]) == ""
    lines = dict(provenance_lines(job.provenance))
    assert lines["attempts"].startswith(
        "1: small, cpu (processor of small), 4 threads, epochs 0 to 1"
    )
    text = methods(job.spec, [job.provenance], (), form="txt")
    assert "took 2 attempts and changed its kind of device: epochs 0 to 1 on cpu" in " ".join(
        text.replace("\u00a0", " ").split()
    )


def test_memory_that_runs_out_is_tried_again_here_then_elsewhere_then_never(
    either_store: Store,
) -> None:
    here, there = worker(either_store, "a_box", CPU), worker(either_store, "abox", CPU)
    job = submit(either_store)
    first = claim(here, "a_box", CPU)
    assert not first.in_parts
    assert here.outgrow(job.id, first.attempt, "MemoryError") == (JobState.queued, True)
    second = here.claim(job.id, "a_box", LEASE)
    assert second is not None
    assert second.in_parts
    assert here.outgrow(job.id, second.attempt, "MemoryError") == (JobState.queued, False)
    assert here.claim_next("a_box", LEASE, CPU) is None, "this host has tried it"
    third = claim(there, "abox", CPU)
    assert third.in_parts
    state, again = there.outgrow(job.id, third.attempt, "CUDA out of memory")
    assert (state, again) == (JobState.failed, False)
    failed = read(either_store, job.id)
    assert failed.error is not None
    assert failed.error.code == "out_of_memory"
    assert "alive are a_box cpu 16.0 GB, abox cpu 16.0 GB" in failed.error.detail
    assert "The estimate was" in failed.error.detail
    assert "--needs memory_gb=16.1" in failed.error.detail
    with either_store.database.reading() as session:
        row = session.get_one(JobRow, job.id)
        assert (row.losses, row.returns, row.outgrown_hosts) == (0, 0, "|a_box||abox|")
    either_store.actions.retry(job.id)
    again_here = claim(here, "a_box", CPU)
    assert not again_here.in_parts, "a retry begins anew"


def test_a_smaller_worker_elsewhere_is_no_way_out(either_store: Store) -> None:
    big = worker(either_store, "big", GPU)
    worker(either_store, "small", Fitness("cpu", 1))
    job = submit(either_store, TrainSpec(epochs=1))
    first = claim(big, "big", GPU)
    big.outgrow(job.id, first.attempt, "MemoryError")
    second = big.claim(job.id, "big", LEASE)
    assert second is not None
    assert big.outgrow(job.id, second.attempt, "MemoryError")[0] == JobState.failed


@pytest.mark.parametrize(("said", "count"), [("nr_free 9\noom_kill 3\n", 3), ("nr_free 9\n", 0)])
def test_the_kernel_says_how_often_it_killed_for_memory(
    tmp_path: Path, said: str, count: int
) -> None:
    assert memory_kills(tmp_path) == 0
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_text(said)
    assert memory_kills(tmp_path) == count
