"""Placement: what jobs need of a worker, what workers have, who takes what, and who waits why."""

import itertools
import random
from collections.abc import Collection
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy import text, update

from ffengine.cost import cost_of
from ffengine.datasets import DATASETS
from ffengine.spec import TrainSpec, digest
from service.background.waiting import room_for
from service.jobs import JobState
from service.placement import (
    GB,
    Fitness,
    Needs,
    joined_tags,
    needs_in_words,
    needs_of_words,
    split_tags,
    worker_tags,
)
from service.schemas import WorkerInfo
from service.store import Store
from service.store.queue import NEEDS
from service.store.tables import JobRow
from tests.commands import Fflab
from tests.factories import LEASE, STUDY, TRAIN, read, set_values, submit

CPU = Fitness("cpu", 16 * GB)
GPU = Fitness("cuda:1", 80 * GB, ["a100", "80g"])


def worker_of(store: Store, name: str, fitness: Fitness, **facts: Any) -> WorkerInfo:
    """Let a worker of that fitness be alive."""
    info = WorkerInfo(
        id=name,
        host=name,
        pid=1,
        device=fitness.device or "auto",
        device_name=None,
        memory_bytes=fitness.memory_bytes,
        version="1",
        job=None,
        tags=sorted(fitness.tags),
        **facts,
    )
    store.workers.heartbeat(info)
    return info


def taken(store: Store, fitness: Fitness | None) -> str | None:
    claim = store.queue.claim_next("w", LEASE, fitness)
    return claim.job_id if claim else None


def meets(fitness: Fitness, needs: dict[str, Any], estimated: int) -> bool:
    """The same as the queue's SQL, in Python."""
    asked = Needs.model_validate(needs)
    memory = estimated if asked.memory_gb is None else asked.memory_gb * GB
    return (
        asked.device in (None, fitness.kind)
        and set(asked.tags) <= set(fitness.tags)
        and (fitness.memory_bytes is None or memory <= fitness.memory_bytes)
    )


# Who takes what


def test_each_worker_takes_the_first_job_that_fits(either_store: Store) -> None:
    """Against a plain loop over all jobs, on all combinations of needs, in a random order."""
    devices: list[str | None] = [None, "cpu", "cuda"]
    tags: list[Collection[str]] = [(), ("a100",), ("80g", "a100"), ("a10",)]
    asked = [
        {"device": device, "memory_gb": memory, "tags": list(wanted)}
        for device, memory, wanted in itertools.product(devices, [None, 20, 90], tags)
    ]
    random.Random(1).shuffle(asked)
    made = {
        submit(either_store, TrainSpec(epochs=number + 1), needs=needs).id: needs
        for number, needs in enumerate(asked)
    }
    estimated = cost_of(TRAIN, DATASETS["mnist-mini"]).memory_bytes
    workers = [CPU, GPU, Fitness(None, None, ["a10"]), Fitness("cuda:0", None), GPU, CPU]
    for fitness in workers * 3:
        first = next((one for one in made if meets(fitness, made[one], estimated)), None)
        assert taken(either_store, fitness) == first, (fitness, first and made[first])
        made.pop(first or "", None)
    assert taken(either_store, None) == next(iter(made)), "who is not asked takes any"


def test_the_estimates_memory_is_needed_unless_another_is_asked_for(either_store: Store) -> None:
    large = TrainSpec.model_validate({"network": {"widths": [2000]}})
    estimated = cost_of(large, DATASETS["mnist-mini"]).memory_bytes
    job = submit(either_store, large)
    assert (job.needs, job.need_memory_bytes) == (None, estimated)
    assert taken(either_store, Fitness("cpu", estimated - 1)) is None
    changed = either_store.actions.update(job.id, given={"needs": {"memory_gb": 0.001}})
    assert (changed.need_memory_bytes, changed.needs) == (GB // 1000, Needs(memory_gb=0.001))
    assert taken(either_store, Fitness("cpu", GB // 1000)) == job.id
    assert either_store.actions.update(job.id, given={"needs": None}).need_memory_bytes == estimated


def test_the_runs_of_a_study_inherit_what_it_needs(either_store: Store) -> None:
    study = submit(either_store, STUDY, needs={"device": "cuda", "tags": ["A100"]})
    assert study.need_memory_bytes is None, "each run has an estimate of its own"
    assert taken(either_store, CPU) is None
    first = taken(either_store, GPU)
    assert first is not None
    assert read(either_store, first).needs == Needs(device="cuda", tags=["a100"])
    either_store.actions.update(study.id, given={"needs": {"device": "cpu"}})
    assert taken(either_store, GPU) is None
    assert taken(either_store, CPU) is not None


def test_needs_are_no_part_of_what_is_computed(either_store: Store) -> None:
    first = submit(either_store, needs={"device": "cuda"})
    assert first.spec_digest == digest(TRAIN)
    other = submit(either_store)
    assert other.waits_for is None, "it would wait for a job that needs what may not be there"
    assert submit(either_store, needs={"device": "cuda"}).waits_for == first.id
    assert submit(either_store).waits_for == other.id
    assert taken(either_store, GPU) == first.id
    assert submit(either_store, needs={"tags": ["x"]}).waits_for == first.id, "it runs"


@pytest.mark.parametrize("fitness", [CPU, GPU])
def test_the_index_of_the_queue_serves_the_claim(store: Store, fitness: Fitness) -> None:
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        statements.append((statement, values))

    from sqlalchemy.event import listen

    listen(store.database.engine, "before_cursor_execute", note)
    assert store.queue.claim_next("w", LEASE, fitness) is None
    claim, values = next((one, given) for one, given in statements if "ORDER BY jobs.rank" in one)
    with store.database.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {claim}", values).all()
    said = "\n".join(str(line) for line in plan)
    assert "USING INDEX jobs_by_owner (state=? AND submitted_by=?)" in said
    assert "TEMP B-TREE" not in said, "the order is the index's"


# Who waits, and why


def why(store: Store, needs: dict[str, Any], *fitness: Fitness, epochs: int) -> str | None:
    """What a job says that is queued beside workers."""
    alive = [worker_of(store, f"w{number}", one) for number, one in enumerate(fitness)]
    job = submit(store, TrainSpec(epochs=epochs), needs=needs)
    del alive
    store.queue.explain_waiting(
        None, -1.0, room=partial(room_for, store.workers.alive(60.0)), of_job=job.id
    )
    return read(store, job.id).held_up


def test_a_job_that_nobody_could_take_says_which_need_and_what_there_is(
    either_store: Store,
) -> None:
    change = ": start a worker that has it, or change what the job needs"
    tell = partial(why, either_store)
    assert tell({"device": "cuda"}, epochs=1) is None, "without workers something else is said"
    assert tell({"device": "cuda"}, CPU, epochs=2) == (
        f"needs device=cuda, and the live workers have cpu{change}"
    )
    assert tell({"device": "cuda", "tags": ["h100"]}, CPU, GPU, epochs=3) == (
        f"needs tags=h100, and w1 has 80g,a100{change}"
    )
    assert tell({"memory_gb": 100}, CPU, GPU, epochs=4) == (
        "needs more memory than the live workers that it could have, which have 80.0 GB at most"
        + change
    )
    assert tell({"memory_gb": 50, "device": "cpu"}, CPU, GPU, epochs=5) is not None
    assert tell({"memory_gb": 50, "device": "cuda", "tags": ["80g"]}, CPU, GPU, epochs=6) is None
    assert tell({"memory_gb": 500}, Fitness("cpu", None), epochs=7) is None, "it is not known"


def test_the_message_goes_when_a_worker_comes(either_store: Store) -> None:
    worker_of(either_store, "w0", CPU)
    job = submit(either_store, needs={"device": "cuda"})

    def look() -> str:
        there = either_store.workers.alive(60.0)
        either_store.queue.explain_waiting(None, -1.0, room=partial(room_for, there))
        return read(either_store, job.id).progress.message

    assert look().startswith(NEEDS)
    either_store.queue.mark_dispatched([job.id])
    set_values(either_store, job.id, dispatched_at=1.0)
    assert either_store.queue.due_for_dispatch(9, 5.0) == [], "nobody is woken for it"
    worker_of(either_store, "w1", GPU)
    assert look() == "queued"
    assert either_store.queue.due_for_dispatch(9, 5.0) == [job.id]


def test_a_worker_is_not_starved_by_jobs_that_it_is_not_fit_for(either_store: Store) -> None:
    submit(either_store, needs={"device": "cuda"})
    assert either_store.queue.longest_wait_seconds(able=True, fitness=CPU) is None
    assert either_store.queue.longest_wait_seconds(able=True, fitness=GPU) is not None


# What users see


def test_the_answer_of_a_submit_says_that_nobody_could_take_it(
    client: httpx.Client, store: Store, fflab: Fflab
) -> None:
    worker_of(store, "w0", CPU)
    spec = {"kind": "train", "epochs": 2}
    body = {"spec": spec, "needs": {"device": "cuda", "tags": ["A100"], "memory_gb": 40}}
    answer = client.post("/v1/jobs", json=body)
    job = answer.json()
    assert answer.status_code == 202
    assert job["held_up"].startswith("needs device=cuda, and the live workers have cpu")
    assert job["needs"] == {"device": "cuda", "memory_gb": 40.0, "tags": ["a100"]}
    assert job["need_memory_bytes"] == 40 * GB
    page = client.get(f"/jobs/{job['id']}").text
    assert "needs device=cuda, and the live workers have cpu" in page
    assert "device=cuda memory_gb=40 tags=a100" in page
    shown = fflab("show", job["id"]).out
    assert "needs        device=cuda memory_gb=40 tags=a100" in shown
    assert "waits: needs device=cuda" in shown
    study = {"kind": "study", "base": spec, "grid": {"epochs": [3, 4]}}
    answer = client.post("/v1/jobs", json={"spec": study, "needs": {"tags": ["x"]}})
    assert answer.json()["held_up"].startswith("needs tags=x, and w0 has none")
    assert client.get(f"/new?like={job['id']}").text.count('value="40"') == 1
    wrong = client.post("/v1/jobs", json={"spec": spec, "needs": {"tags": ["a b"]}})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/needs/tags/0")


def test_commands_ask_for_needs(client: httpx.Client, store: Store, fflab: Fflab) -> None:
    worker_of(store, "w0", CPU)
    sent = fflab("submit", "quick", "--needs", "device=cuda", "--needs", "tags=a100,80g")
    job_id = sent.lines[0]
    assert sent.err.startswith("waits: needs device=cuda, and the live workers have cpu")
    assert read(store, job_id).needs == Needs(device="cuda", tags=["80g", "a100"]) or read(
        store, job_id
    ).needs == Needs(device="cuda", tags=["a100", "80g"])
    fflab("change", job_id, "--needs", "memory_gb=2.5")
    assert read(store, job_id).needs == Needs(memory_gb=2.5)
    store.actions.cancel(job_id)
    fflab("retry", job_id, "--needs", "device=cpu")
    job = read(store, job_id)
    assert (job.needs, job.state) == (Needs(device="cpu"), JobState.queued)
    for words in ("gpu=1", "memory_gb=much", "device"):
        ended = fflab("submit", "quick", "--needs", words)
        assert (ended.code, len(ended.err.splitlines())) == (2, 1)


def test_needs_in_words_are_read_as_they_are_written() -> None:
    for needs in (
        Needs(device="cuda", memory_gb=2.5, tags=["80g", "a100"]),
        Needs(tags=["a"]),
        Needs(),
    ):
        assert Needs.model_validate(needs_of_words(needs_in_words(needs).split())) == needs
    assert worker_tags(" A100,80g, a100,") == ["80g", "a100"]
    assert split_tags(joined_tags(["b", "a", "b"])) == ["a", "b"]
    with pytest.raises(ValueError, match="at most 20 tags"):
        worker_tags(",".join(f"t{number}" for number in range(21)))


def test_rows_of_earlier_versions_need_nothing(either_store: Store) -> None:
    job = submit(either_store)
    with either_store.database.writing() as session:
        session.execute(update(JobRow).values(need_memory_bytes=None, estimated_bytes=None))
        session.execute(text("SELECT 1"))
    assert taken(either_store, Fitness("cpu", 1)) == job.id
