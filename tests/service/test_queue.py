"""The queue and what shares an answer: who goes first, identical jobs, deadlines, growing studies,
legal transitions, the upgrade.
"""

import contextlib
import itertools
import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue
from sqlalchemy import insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError

from ffengine.results import StudyResult
from ffengine.spec import StudySpec, TrainSpec, digest
from ffengine.study import expand, resolved
from ffengine.version import NUMERICS_VERSION
from service.jobs import TERMINAL, TRANSITIONS, Command, JobState
from service.schemas import WorkerInfo
from service.store import LeaseLost, NotAllowed, PartOfStudy, Queue, StillNeeded, Store
from service.store.database import Database
from service.store.inserts import PRIORITIES, PRIORITY_SECONDS, rank_of
from service.store.job_cache import to_job
from service.store.leases import MOST_RETURNS
from service.store.migrations.versions import __file__ as versions
from service.store.queue import AVOID_SECONDS
from service.store.tables import JobRow, WorkerRow, now_seconds
from tests.examples import examples
from tests.factories import (
    ERROR,
    HALF,
    LEASE,
    STUDY,
    TRAIN,
    claimed,
    end,
    history,
    let_lease_run_out,
    losses,
    read,
    set_values,
    submit,
    upload_draft,
)
from tests.service.samples import epoch_row, train_result


def claim_all(store: Store) -> list[str]:
    """Work the queue off; the jobs in the order in which they were taken."""
    taken = []
    while claim := store.queue.claim_next("w", LEASE):
        taken.append(claim.job_id)
    return taken


def said(store: Store, job_id: str) -> list[str]:
    """What stands in the log of a job, besides its states."""
    events = store.events.of(job_id, after=0, limit=1000)
    return [event.data["message"] for event in events if event.type == "log"]


# Who goes first


def test_jobs_are_taken_by_priority_then_age(either_store: Store) -> None:
    made = [
        (priority, submit(either_store, TrainSpec(epochs=n), priority=priority).id)
        for n, priority in enumerate(PRIORITIES * 3, 1)
    ]
    expected = [
        job_id
        for level in ("high", "normal", "low")
        for priority, job_id in made
        if priority == level
    ]
    assert claim_all(either_store) == expected


# Jobs that a machine gave back


def worker_of(store: Store, host: str, paused: str | None = None) -> str:
    """Let a worker of a host be alive."""
    info = WorkerInfo(
        id=f"{host}-1",
        host=host,
        pid=1,
        device="cpu",
        device_name=None,
        memory_bytes=None,
        version="1",
        job=None,
        paused=paused,
        plugins=[],
    )
    store.workers.heartbeat(info)
    return info.id


@pytest.mark.parametrize("how", ["given back", "lost"])
def test_a_job_goes_to_another_machine_first(either_store: Store, how: str) -> None:
    here, there = (Queue(either_store.database, host=host) for host in ("here", "there"))
    worker = worker_of(either_store, "here")

    def taken_and_let_go() -> str:
        claim = here.claim_next(worker, LEASE)
        assert claim is not None
        if how == "lost":
            here.lose(claim.job_id, claim.attempt, "a test", max_losses=99)
        else:
            here.return_unfit(claim.job_id, claim.attempt, "EROFS")
        return claim.job_id

    job_id = submit(either_store, TRAIN).id
    assert taken_and_let_go() == job_id
    assert taken_and_let_go() == job_id, "there is no other machine"
    worker_of(either_store, "there", paused="cannot compute")
    assert taken_and_let_go() == job_id, "the other machine begins no job"
    worker_of(either_store, "there")
    assert here.claim_next(worker, LEASE) is None
    set_values(either_store, job_id, queued_at=JobRow.queued_at - AVOID_SECONDS)
    assert taken_and_let_go() == job_id, "it does not wait for ever"
    assert here.claim_next(worker, LEASE) is None
    claim = there.claim_next("there-1", LEASE)
    assert claim is not None
    assert claim.job_id == job_id


def test_what_a_machine_gives_back_is_no_loss_and_goes_round_ten_times(either_store: Store) -> None:
    job_id = submit(either_store, TRAIN).id
    for count in range(1, MOST_RETURNS + 1):
        claim = either_store.queue.claim(job_id, "w", LEASE)
        assert claim is not None
        assert claim.attempt == count
        state = either_store.queue.return_unfit(job_id, claim.attempt, "EROFS")
    assert state == JobState.failed
    job = read(either_store, job_id)
    assert job.error is not None
    assert (job.error.code, job.error.evidence) == ("no_fit_worker", {"returns": MOST_RETURNS})
    assert "EROFS" in job.error.detail
    assert losses(either_store, job_id) == 0
    either_store.actions.retry(job_id)
    claim = either_store.queue.claim(job_id, "w", LEASE)
    assert claim is not None
    assert either_store.queue.return_unfit(job_id, claim.attempt, "EROFS") == JobState.queued


def test_a_machine_without_the_data_passes_a_job_on_while_there_is_another(
    either_store: Store,
) -> None:
    here = Queue(either_store.database, host="here")
    worker = worker_of(either_store, "here")
    job_id = submit(either_store, TRAIN).id

    def passed_on() -> JobState:
        claim = here.claim(job_id, worker, LEASE)
        assert claim is not None
        return here.pass_on(job_id, claim.attempt, ERROR)

    assert passed_on() == JobState.failed, "there is no other machine"
    job = read(either_store, job_id)
    assert job.error == ERROR
    assert losses(either_store, job_id) == 0
    either_store.actions.retry(job_id)
    worker_of(either_store, "there")
    assert passed_on() == JobState.queued
    assert here.claim_next(worker, LEASE) is None, "the other machine goes first"
    for _ in range(MOST_RETURNS - 2):
        assert passed_on() == JobState.queued
    assert passed_on() == JobState.failed, "it does not go round for ever"
    history(either_store, job_id)


@pytest.mark.parametrize(("action", "state"), [("cancel", "cancelled"), ("pause", "paused")])
def test_what_is_given_back_obeys_its_user(either_store: Store, action: str, state: str) -> None:
    job_id, attempt = claimed(either_store)
    getattr(either_store.actions, action)(job_id)
    either_store.queue.return_unfit(job_id, attempt, "EROFS")
    assert read(either_store, job_id).state == state
    with pytest.raises(LeaseLost):
        either_store.queue.return_unfit(job_id, attempt, "EROFS")


def test_a_worker_that_signs_off_is_listed_no_longer(either_store: Store) -> None:
    first, second = (worker_of(either_store, host) for host in ("here", "there"))
    either_store.workers.sign_off(first)
    assert [worker.id for worker in either_store.workers.alive(600.0)] == [second]


@pytest.fixture(scope="module")
def one_queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('queue') / 'fflab.db'}")
    store.migrate()
    yield store
    store.close()


@pytest.mark.slow(in_each_part=True)
@settings(max_examples=examples(30), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20_000), st.sampled_from(PRIORITIES)), min_size=2, max_size=8)
)
def test_nothing_starves(one_queue: Store, arrivals: list[tuple[int, str]]) -> None:
    """A job is overtaken by jobs of a higher level only if they came within an hour a level after
    it.
    """
    came: dict[str, tuple[int, int]] = {}
    for at, priority in arrivals:
        job_id = submit(one_queue, priority=priority, fresh=True).id
        level = PRIORITIES.index(priority)
        set_values(one_queue, job_id, rank=rank_of(at, level))
        came[job_id] = (at, level)
    order = claim_all(one_queue)
    assert sorted(order) == sorted(came)
    for first, second in itertools.combinations(order, 2):
        (later, higher), (earlier, lower) = came[first], came[second]
        if later > earlier:
            assert higher > lower
            assert later - earlier <= (higher - lower) * PRIORITY_SECONDS


def test_a_job_that_lost_its_worker_keeps_its_place(either_store: Store) -> None:
    first, second = (
        submit(either_store, TrainSpec(epochs=1)).id,
        submit(either_store, TrainSpec(epochs=2)).id,
    )
    claim = either_store.queue.claim_next("w", LEASE)
    assert claim is not None
    assert claim.job_id == first
    either_store.queue.lose(first, claim.attempt, "killed", 3)
    assert claim_all(either_store) == [first, second]


def test_a_changed_priority_moves_a_job_and_a_studys_runs(either_store: Store) -> None:
    single, study = submit(either_store, TrainSpec(epochs=9)), submit(either_store, STUDY)
    runs = [child.id for child, _ in either_store.jobs.children(study.id)]
    changed = either_store.actions.update(
        study.id, given={"priority": "high", "name": "urgent", "pinned": True}
    )
    assert (changed.priority, changed.name, changed.pinned, changed.tags) == (
        "high",
        "urgent",
        True,
        study.tags,
    )
    assert [
        (child.priority, child.name, child.pinned)
        for child, _ in either_store.jobs.children(study.id)
    ] == [("high", "urgent", False)] * 3
    assert claim_all(either_store) == [*runs, single.id]
    with pytest.raises(LookupError):
        either_store.actions.update("job_" + "0" * 32, given={"name": "nobody"})


@pytest.mark.slow(in_each_part=True)
def test_of_many_workers_and_jobs_each_job_is_taken_once(database_url: str) -> None:
    """Ten workers over two stores: two API processes' worth of connections."""
    stores = [Store(database_url) for _ in range(2)]
    stores[0].migrate()
    jobs = [submit(stores[0], TrainSpec(epochs=number)).id for number in range(1, 31)]
    barrier = threading.Barrier(10)

    def work(number: int) -> list[str]:
        barrier.wait()
        return claim_all(stores[number % 2])

    with ThreadPoolExecutor(10) as pool:
        taken = list(pool.map(work, range(10)))
    assert sorted(itertools.chain(*taken)) == sorted(jobs)
    assert {read(stores[0], job_id).attempts for job_id in jobs} == {1}
    for store in stores:
        store.close()


@pytest.mark.slow(in_each_part=True)
def test_whoever_races_no_history_is_illegal(database_url: str) -> None:
    """Ten workers, two users and two reconcilers over two stores do what they please with a dozen
    jobs for a while.
    """
    stores = [Store(database_url) for _ in range(2)]
    stores[0].migrate()
    for number in range(4):
        submit(stores[0], TrainSpec(epochs=number + 1))
        submit(stores[1], TrainSpec(epochs=number + 1), priority="high")
    submit(stores[0], STUDY, fresh=True)
    jobs = [job.id for job in stores[0].jobs.page(limit=50, children=True).jobs]
    stop = time.monotonic() + 4.0

    def work(number: int) -> None:
        store, chance = stores[number % 2], random.Random(number)
        while time.monotonic() < stop:
            claim = store.queue.claim_next(f"w{number}", LEASE)
            if claim is None:
                continue
            name = (claim.job_id, claim.attempt)
            ways = [
                lambda: store.queue.finish(*name, train_result()),  # noqa: B023
                lambda: store.queue.fail(*name, ERROR),  # noqa: B023
                lambda: store.queue.finish_stopped(*name),  # noqa: B023
                lambda: store.queue.lose(*name, "killed", 3),  # noqa: B023
                lambda: let_lease_run_out(store, claim.job_id),  # noqa: B023
            ]
            with contextlib.suppress(LeaseLost):
                store.queue.record(
                    *name, lease_seconds=LEASE, progress=HALF, rows=[epoch_row(chance.randrange(4))]
                )
                chance.choice(ways)()
                chance.choice(ways)()

    def ask(number: int) -> None:
        store, chance = stores[number % 2], random.Random(number)
        while time.monotonic() < stop:
            with contextlib.suppress(NotAllowed):
                getattr(
                    store.actions, chance.choice(["cancel", "pause", "resume", "retry", "retry"])
                )(chance.choice(jobs))

    def reconcile(number: int) -> None:
        store = stores[number % 2]
        while time.monotonic() < stop:
            store.queue.expire_leases(3)
            store.queue.resolve_duplicates()
            for study in store.studies.unfinished():
                store.studies.advance(study)

    with ThreadPoolExecutor(14) as pool:
        for done in [
            pool.submit(kind, number)
            for kind, count in ((work, 10), (ask, 2), (reconcile, 2))
            for number in range(count)
        ]:
            done.result()
    for job_id in jobs:
        legal_history(stores[0], job_id)
    for store in stores:
        store.close()


def legal_history(store: Store, job_id: str) -> None:
    """The events of a job are numbered without gaps, and tell of nothing that the table of
    transitions does not know.
    """
    found = store.events.of(job_id, after=0, limit=100_000)
    assert [event.id for event in found] == list(range(1, len(found) + 1))
    states = [JobState(event.data["state"]) for event in found if event.type == "state"]
    legal = {(change.source, change.target) for change in TRANSITIONS}
    assert set(itertools.pairwise(states)) <= legal
    assert [event.type for event in found].count("end") == sum(
        state in TERMINAL for state in states
    )
    attempts = [event.data["attempt"] for event in found if event.data.get("attempt")]
    assert attempts == list(range(1, len(attempts) + 1))
    job = read(store, job_id)
    assert (job.state, job.kind == "study" or job.attempts == len(attempts)) == (states[-1], True)
    assert (store.jobs.result(job_id) is not None) == (job.state is JobState.succeeded)
    rows = [row["epoch"] for event in found for row in event.data.get("rows", ())]
    assert len(rows) == len(set(rows))


# Identical jobs


def test_identical_jobs_compute_once(either_store: Store) -> None:
    leader, *followers = [submit(either_store, name=f"user {number}") for number in range(4)]
    assert [job.waits_for for job in (leader, *followers)] == [
        None,
        leader.id,
        leader.id,
        leader.id,
    ]
    assert claim_all(either_store) == [leader.id], "who waits is not claimed"
    assert either_store.queue.resolve_duplicates() == 0
    either_store.queue.record(leader.id, 1, lease_seconds=LEASE, progress=HALF, rows=[epoch_row(0)])
    either_store.queue.finish(leader.id, 1, train_result())
    assert either_store.queue.resolve_duplicates() == 3
    for follower in followers:
        job = read(either_store, follower.id)
        assert (job.state, job.cached, job.cached_from, job.waits_for) == (
            JobState.succeeded,
            True,
            leader.id,
            None,
        )
        assert either_store.jobs.result(job.id) == either_store.jobs.result(leader.id)
        assert either_store.jobs.rows(job.id) == either_store.jobs.rows(leader.id)
        assert history(either_store, job.id) == ["state queued", "state succeeded", "end succeeded"]


@pytest.mark.slow(in_each_part=True)
def test_two_submitted_at_the_same_moment_compute_once(database_url: str) -> None:
    stores = [Store(database_url) for _ in range(2)]
    stores[0].migrate()
    barrier = threading.Barrier(8)

    def one(number: int) -> str:
        barrier.wait()
        return submit(stores[number % 2]).id

    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(one, range(8)))
    waiting = [job_id for job_id in jobs if read(stores[0], job_id).waits_for]
    if stores[0].database.is_sqlite:
        assert len(waiting) == 7
    assert len(claim_all(stores[0])) == 8 - len(waiting)
    for store in stores:
        store.close()


@pytest.mark.slow(in_each_part=True)
@pytest.mark.parametrize("ending", ["failed", "cancelled", "paused", "deleted"])
def test_when_the_one_that_is_waited_for_ends_otherwise_one_of_the_others_goes_on(
    either_store: Store, ending: str
) -> None:
    leader, heir, other = (submit(either_store) for _ in range(3))
    if ending == "failed":
        either_store.queue.fail(*claimed(either_store, leader), ERROR)
    elif ending == "paused":
        either_store.actions.pause(leader.id)
    else:
        either_store.actions.cancel(leader.id)
    if ending == "deleted":
        either_store.actions.delete(leader.id)
    either_store.queue.resolve_duplicates()
    assert read(either_store, heir.id).waits_for is None
    assert read(either_store, other.id).waits_for == heir.id
    assert claim_all(either_store) == [heir.id]


def test_a_result_is_kept_until_those_that_wait_for_it_have_it(either_store: Store) -> None:
    leader, waiting = submit(either_store), submit(either_store)
    end(either_store, leader, well=True)
    with pytest.raises(StillNeeded) as needed:
        either_store.actions.delete(leader.id)
    assert needed.value.by == [waiting.id]
    either_store.queue.resolve_duplicates()
    either_store.actions.delete(leader.id)
    assert read(either_store, waiting.id).state == "succeeded"
    assert either_store.jobs.result(waiting.id) is not None


def test_what_is_fresh_waits_for_none_and_other_data_or_engines_are_not_identical(
    either_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = submit(either_store)
    assert submit(either_store, fresh=True).waits_for is None
    set_values(either_store, leader.id, dataset_digest="of other data")
    assert submit(either_store, name="x").waits_for != leader.id
    monkeypatch.setattr("ffengine.datasets.NUMERICS_VERSION", "another")
    assert submit(either_store).waits_for is None


def test_figures_of_uploads_have_a_version_of_their_own(
    either_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_upload = TrainSpec.model_validate({"dataset": {"name": "mine"}})
    of_catalogue, of_upload = submit(either_store), submit(either_store, on_upload)
    monkeypatch.setattr("ffengine.datasets.UPLOADS_VERSION", "another")
    assert submit(either_store).waits_for == of_catalogue.id
    again = submit(either_store, on_upload)
    assert again.waits_for is None
    assert submit(either_store, on_upload).waits_for == again.id
    assert of_upload.id != again.id


def test_a_result_on_an_upload_of_an_earlier_version_answers_no_new_job(
    either_store: Store,
) -> None:
    on_upload = TrainSpec.model_validate({"dataset": {"name": "mine"}})
    job = submit(either_store, on_upload)
    end(either_store, job, well=True)
    answered = submit(either_store, on_upload)
    assert answered.cached
    for one in (job, answered):
        set_values(either_store, one.id, engine_version=NUMERICS_VERSION)  # as 0.2.0 wrote it
    anew = submit(either_store, on_upload)
    assert not anew.cached
    why = f"computed anew, because the result of {answered.id} is of version {NUMERICS_VERSION}"
    assert why in anew.progress.message
    assert [line for line in said(either_store, anew.id) if why in line]
    assert read(either_store, job.id).state is JobState.succeeded, "what there is stays"


def test_a_result_on_other_arrays_of_the_same_name_answers_no_new_job(
    either_store: Store,
) -> None:
    job = submit(either_store)
    end(either_store, job, well=True)
    set_values(either_store, job.id, dataset_digest="of what had that name before")
    anew = submit(either_store)
    assert not anew.cached
    why = f"because the result of {job.id} is of other arrays, which had the name mnist-mini"
    assert why in anew.progress.message


def test_an_attempt_on_other_data_of_the_same_name_begins_anew(either_store: Store) -> None:
    job_id, attempt = claimed(
        either_store, submit(either_store, TrainSpec.model_validate({"dataset": {"name": "mine"}}))
    )
    either_store.queue.record(
        job_id,
        attempt,
        lease_seconds=LEASE,
        progress=HALF,
        rows=[epoch_row(0)],
        checkpoint="step.safetensors",
    )
    either_store.queue.finish_stopped(job_id, attempt)
    set_values(either_store, job_id, dataset_digest="of what had that name before")
    either_store.uploads.add(upload_draft("mine", "f" * 64))
    claim = either_store.queue.claim(job_id, "w2", LEASE)
    assert claim is not None
    assert claim.dataset_digest == "f" * 64
    assert either_store.queue.latest_checkpoint(job_id) is None
    assert either_store.jobs.rows(job_id) == []
    with either_store.database.reading() as session:
        assert session.get_one(JobRow, job_id).dataset_digest == "f" * 64
    [line] = said(either_store, job_id)
    assert "begins anew, because what it had computed is of other arrays" in line
    history(either_store, job_id)


@pytest.mark.parametrize("same", [True, False])
def test_a_checkpoint_is_gone_on_with_where_the_figures_are_the_same(
    either_store: Store, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    job_id, attempt = claimed(either_store)
    either_store.queue.record(
        job_id,
        attempt,
        lease_seconds=LEASE,
        progress=HALF,
        rows=[epoch_row(0)],
        checkpoint="step.safetensors",
    )
    either_store.queue.finish_stopped(job_id, attempt)
    if not same:
        monkeypatch.setattr("ffengine.datasets.NUMERICS_VERSION", "another")
    assert claim_all(either_store) == [job_id]
    assert either_store.queue.latest_checkpoint(job_id) == ("step.safetensors" if same else None)
    assert len(either_store.jobs.rows(job_id)) == same
    assert len(said(either_store, job_id)) == (not same)


def test_a_job_that_had_not_begun_says_nothing_of_beginning_anew(
    either_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(either_store)
    monkeypatch.setattr("ffengine.datasets.NUMERICS_VERSION", "another")
    assert claim_all(either_store) == [job.id]
    assert said(either_store, job.id) == []
    with either_store.database.reading() as session:
        assert session.get_one(JobRow, job.id).engine_version == "another"


def test_who_is_more_urgent_hurries_the_one_it_waits_for(either_store: Store) -> None:
    slow = submit(either_store, priority="low")
    between = submit(either_store, TrainSpec(epochs=7))
    assert submit(either_store, priority="high").waits_for == slow.id
    assert claim_all(either_store) == [slow.id, between.id]


def test_an_answer_comes_from_a_class_of_device_that_there_is(either_store: Store) -> None:
    source, attempt = claimed(either_store)
    either_store.queue.finish(source, attempt, train_result())
    set_values(either_store, source, device_class="cuda")
    assert submit(either_store, name="no worker is there").cached_from == source

    def worker(device: str) -> None:
        facts = {"host": "h", "pid": 1, "version": "0", "seen_at": now_seconds()}
        with either_store.database.writing() as session:
            session.execute(insert(WorkerRow).values(id=device, device=device, **facts))

    worker("cpu")
    assert not submit(either_store).cached
    worker("cuda:1")
    assert submit(either_store).cached_from == source


def test_an_answer_outlives_its_source_and_takes_over_its_artifacts(either_store: Store) -> None:
    source, attempt = claimed(either_store)
    either_store.queue.finish(source, attempt, train_result())
    copies = [submit(either_store).id for _ in range(2)]
    assert either_store.actions.delete(source) == [], "its weights are those of its copies"
    assert submit(either_store).cached_from == source
    assert either_store.actions.delete(copies[0]) == [copies[0]]
    last = [job.id for job in either_store.jobs.page(limit=10).jobs]
    gone = [owner for job_id in last for owner in either_store.actions.delete(job_id)]
    assert sorted(gone) == sorted([*last, source])


# Deadlines


def overdue(store: Store, job_id: str) -> None:
    set_values(store, job_id, deadline_at=now_seconds() - 1)


def test_a_job_whose_time_is_over_is_stopped_and_fails_saying_so(either_store: Store) -> None:
    job_id, attempt = claimed(either_store, submit(either_store, timeout_seconds=60.0))
    assert either_store.queue.renew(job_id, attempt, LEASE) is Command.run
    overdue(either_store, job_id)
    assert either_store.queue.renew(job_id, attempt, LEASE) is Command.expire
    assert (
        either_store.queue.record(
            job_id, attempt, lease_seconds=LEASE, progress=HALF, rows=[epoch_row(0)]
        )
        is Command.expire
    )
    assert either_store.queue.finish_stopped(job_id, attempt) is JobState.failed
    job = read(either_store, job_id)
    assert job.error is not None
    assert (job.error.code, job.error.evidence) == ("timeout", {"timeout_seconds": 60.0})
    assert either_store.jobs.rows(job_id), "what was computed stays readable"


def test_attempts_share_the_time_and_a_retry_has_it_anew(either_store: Store) -> None:
    job_id, attempt = claimed(either_store, submit(either_store, timeout_seconds=1000.0))
    set_values(either_store, job_id, claimed_at=now_seconds() - 900)
    either_store.queue.lose(job_id, attempt, "killed", 9)
    job_id, attempt = claimed(either_store, read(either_store, job_id))
    with either_store.database.reading() as session:
        left = session.scalar(select(JobRow.deadline_at - now_seconds()).where(JobRow.id == job_id))
    assert left is not None
    assert 0.0 < left <= 100.0
    overdue(either_store, job_id)
    either_store.queue.lose(job_id, attempt, "killed", 9)
    assert read(either_store, job_id).state is JobState.failed
    either_store.actions.retry(job_id)
    claimed(either_store, read(either_store, job_id))
    with either_store.database.reading() as session:
        left = session.scalar(select(JobRow.deadline_at - now_seconds()).where(JobRow.id == job_id))
    assert left is not None
    assert left > 900.0


def test_a_cancel_goes_before_a_deadline(either_store: Store) -> None:
    job_id, attempt = claimed(either_store, submit(either_store, timeout_seconds=60.0))
    overdue(either_store, job_id)
    either_store.actions.cancel(job_id)
    assert either_store.queue.renew(job_id, attempt, LEASE) is Command.cancel
    let_lease_run_out(either_store, job_id)
    either_store.queue.expire_leases(3)
    assert read(either_store, job_id).state is JobState.cancelled


# Studies


def big_study(cells: int) -> StudySpec:
    return StudySpec.model_validate(
        {"base": {"kind": "train"}, "grid": {"epochs": list(range(1, cells + 1))}}
    )


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.jobs.CELLS_AT_ONCE", 2)
    monkeypatch.setattr("service.store.studies.CELLS_AT_ONCE", 2)


@pytest.mark.slow(in_each_part=True)
@pytest.mark.usefixtures("small_batches")
def test_a_study_grows_and_is_summarised_as_its_runs_end(either_store: Store) -> None:
    study = submit(either_store, big_study(5))
    ended = 0
    while read(either_store, study.id).state not in TERMINAL:
        either_store.studies.advance(study.id)
        assert len(either_store.jobs.children(study.id)) <= ended + 4, "no more than a batch ahead"
        claim = either_store.queue.claim_next("w", LEASE)
        if claim:
            ended += 1
            if ended == 3:
                either_store.queue.fail(claim.job_id, claim.attempt, ERROR)
            else:
                either_store.queue.finish(claim.job_id, claim.attempt, train_result())
            either_store.studies.advance(study.id)
            partial = [cell for cell in either_store.studies.result(study.id).cells if cell.summary]
            assert len(partial) == ended - (ended >= 3)
    result = StudyResult.model_validate_json(either_store.jobs.result(study.id) or "")
    assert [cell.state for cell in result.cells] == [
        "succeeded",
        "succeeded",
        "failed",
        "succeeded",
        "succeeded",
    ]
    assert [cell.params for cell in result.cells] == [{"epochs": number} for number in range(1, 6)]
    assert read(either_store, study.id).state is JobState.succeeded, (
        "one run that failed does not fail the rest"
    )


@pytest.mark.slow(in_each_part=True)
def test_a_study_whose_runs_are_of_several_versions_says_so(
    either_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for several in (False, True):
        study = submit(either_store, big_study(2), fresh=True)
        first, second = (child for child, _ in either_store.jobs.children(study.id))
        end(either_store, first, well=True)
        if several:
            monkeypatch.setattr("ffengine.datasets.NUMERICS_VERSION", "another")
        end(either_store, second, well=True)
        while read(either_store, study.id).state not in TERMINAL:
            either_store.studies.advance(study.id)
        told = f"on mnist-mini are of several versions of the figures ({NUMERICS_VERSION}, another)"
        assert (told in read(either_store, study.id).progress.message) == several
        assert len(said(either_store, study.id)) == several
        history(either_store, study.id)


@pytest.mark.slow(in_each_part=True)
@pytest.mark.usefixtures("small_batches")
def test_only_the_failed_runs_of_a_study_are_retried(either_store: Store) -> None:
    study = submit(either_store, big_study(3))
    either_store.studies.advance(study.id)
    runs = [child for child, _ in either_store.jobs.children(study.id)]
    for number, run in enumerate(runs):
        end(either_store, run, well=number != 1)
    either_store.studies.advance(study.id)
    assert read(either_store, study.id).state is JobState.succeeded
    either_store.actions.retry(study.id)
    assert either_store.jobs.result(study.id) is None
    either_store.studies.advance(study.id)
    assert [child.state.value for child, _ in either_store.jobs.children(study.id)] == [
        "succeeded",
        "queued",
        "succeeded",
    ]
    end(either_store, read(either_store, runs[1].id), well=True)
    either_store.studies.advance(study.id)
    result = StudyResult.model_validate_json(either_store.jobs.result(study.id) or "")
    assert {cell.state for cell in result.cells} == {"succeeded"}
    with pytest.raises(NotAllowed):
        either_store.actions.retry(study.id)


def test_a_run_that_is_retried_alone_opens_its_study_again_and_none_is_deleted_alone(
    either_store: Store,
) -> None:
    study = submit(either_store, big_study(2))
    good, bad = (child for child, _ in either_store.jobs.children(study.id))
    end(either_store, good, well=True)
    end(either_store, bad, well=False)
    either_store.studies.advance(study.id)
    assert read(either_store, study.id).state is JobState.succeeded
    with pytest.raises(PartOfStudy, match=study.id):
        either_store.actions.delete(bad.id)
    either_store.actions.retry(bad.id)
    assert (read(either_store, study.id).state, either_store.jobs.result(study.id)) == (
        JobState.queued,
        None,
    )
    end(either_store, read(either_store, bad.id), well=True)
    either_store.studies.advance(study.id)
    result = StudyResult.model_validate_json(either_store.jobs.result(study.id) or "")
    assert [cell.state for cell in result.cells] == ["succeeded", "succeeded"]


@pytest.mark.usefixtures("small_batches")
def test_a_study_that_is_cancelled_grows_no_more_and_a_retry_goes_on(either_store: Store) -> None:
    study = submit(either_store, big_study(5))
    either_store.actions.cancel(study.id)
    either_store.studies.advance(study.id)
    either_store.studies.advance(study.id)
    assert read(either_store, study.id).state is JobState.cancelled
    assert [cell.state for cell in either_store.studies.result(study.id).cells] == ["cancelled"] * 2
    either_store.actions.retry(study.id)
    while either_store.studies.create_next_runs(study.id):
        pass
    assert [child.state.value for child, _ in either_store.jobs.children(study.id)] == [
        "queued"
    ] * 5


@pytest.mark.usefixtures("small_batches")
def test_a_study_that_is_paused_grows_no_more_until_it_is_resumed(either_store: Store) -> None:
    study = submit(either_store, big_study(5))
    either_store.actions.pause(study.id)
    either_store.studies.advance(study.id)
    assert read(either_store, study.id).state is JobState.paused
    assert len(either_store.jobs.children(study.id)) == 2
    either_store.actions.resume(study.id)
    either_store.studies.advance(study.id)
    assert len(either_store.jobs.children(study.id)) == 4
    assert len(claim_all(either_store)) == 4


# What the database itself refuses, and the upgrade

GRID: dict[str, list[JsonValue]] = {"network.widths": [[8], [16]]}
OVERRIDDEN = {"kind": "study", "preset": "quick", "base": {"kind": "train", "epochs": 2}}
OF_EARLIER_VERSIONS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("same", {"kind": "study", "preset": "quick"}, {}),
    ("grid", {"kind": "study", "base": {"kind": "train", "epochs": 2}, "grid": GRID}, {}),
    ("other", OVERRIDDEN, {"seeds": [5]}),  # the runs of a preset that is another one now
]


@pytest.mark.slow(in_each_part=True)
def test_the_database_refuses_every_change_of_state_that_is_not_in_the_table(
    either_store: Store,
) -> None:
    legal = {
        (change.source, change.target) for change in TRANSITIONS if change.action != "retry_failed"
    }
    of_studies = {
        (change.source, change.target) for change in TRANSITIONS if change.action == "retry_failed"
    }
    single, study = submit(either_store), submit(either_store, STUDY)
    for source, target in itertools.product(JobState, JobState):
        for job, allowed in ((single, legal), (study, legal | of_studies)):
            with either_store.database.writing() as session:
                session.execute(
                    update(JobRow).where(JobRow.id == job.id).values(kind="check")
                )  # so that no trigger knows it
            force(either_store, job.id, source, "study" if job is study else "train")
            if source == target or (source, target) in allowed:
                set_values(either_store, job.id, state=target.value)
            else:
                with pytest.raises(IntegrityError):
                    set_values(either_store, job.id, state=target.value)


def force(store: Store, job_id: str, state: JobState, kind: str) -> None:
    """Put a job into a state, by way of a copy: inserts are not transitions."""
    with store.database.writing() as session:
        row = session.get_one(JobRow, job_id)
        values = {
            attribute.key: getattr(row, attribute.key) for attribute in inspect(JobRow).column_attrs
        }
        session.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": job_id})
        session.execute(insert(JobRow).values(**(values | {"state": state.value, "kind": kind})))


def test_a_database_of_the_first_version_is_upgraded_with_its_jobs(database_url: str) -> None:
    database = Database(database_url)
    config = Config()
    config.set_main_option("script_location", str(Path(versions).parent.parent))
    with database.engine.execution_options(write=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        facts = "'[]', 2, 'queued', 'run', 1, 0, '{}', 'd', '0', 0, 0, 0.0, '', 1.0, 5000.0"
        columns = (
            "tags, priority, state, wanted, version, last_event, spec, spec_digest, "
            "engine_version, attempt, losses, fraction, message"
        )
        for job_id, kind, parent in (
            ("job_s", "study", "NULL"),
            ("job_a", "train", "'job_s'"),
            ("job_b", "train", "'job_s'"),
        ):
            named = f"id, kind, parent_id, {columns}, created_at, queued_at"
            values = f"'{job_id}', '{kind}', {parent}, {facts}"
            connection.execute(text(f"INSERT INTO jobs ({named}) VALUES ({values})"))  # noqa: S608
        connection.execute(
            text(
                "INSERT INTO events (job_id, seq, type, at, data) VALUES ('job_a', 1, 'state', "
                "1.0, '{}')"
            )
        )
    database.migrate()
    with database.reading() as session:
        rows = session.execute(
            select(JobRow.id, JobRow.rank, JobRow.cells, JobRow.cells_made).order_by(JobRow.id)
        ).all()
        events = session.execute(text("SELECT id, job_id, seq FROM events")).all()
    assert [tuple(row) for row in rows] == [
        ("job_a", -2200.0, None, None),
        ("job_b", -2200.0, None, None),
        ("job_s", -2200.0, 2, 2),
    ]
    assert [tuple(row) for row in events] == [(1, "job_a", 1)]
    database.close()


def test_studies_of_earlier_versions_say_what_ran_where_the_runs_show_it(database_url: str) -> None:
    database = Database(database_url)
    with database.engine.execution_options(write=True).begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(versions).parent.parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        columns = (
            "tags, priority, state, wanted, version, last_event, spec_digest, engine_version, "
            "attempt, losses, fraction, message"
        )
        facts = "'[]', 1, 'queued', 'run', 1, 0, 'd', '0', 0, 0, 0.0, '', 1.0, 5000.0"
        named = "id, kind, parent_id, cell, cells, cells_made, spec"
        given = ":id, :kind, :parent, :cell, :cells, :made, :spec"
        all_named = f"{named}, {columns}, created_at, queued_at"
        statement = text(f"INSERT INTO jobs ({all_named}) VALUES ({given}, {facts})")  # noqa: S608

        def stored(job_id: str, kind: str, spec: dict[str, Any], **values: Any) -> None:
            blank = {"parent": None, "cell": None, "cells": None, "made": None}
            connection.execute(
                statement, {"id": job_id, "kind": kind, "spec": json.dumps(spec), **blank, **values}
            )

        for name, given, change in OF_EARLIER_VERSIONS:
            runs = [
                cell.spec.model_dump(mode="json")
                for cell in expand(StudySpec.model_validate(given))
            ]
            stored(f"job_{name}", "study", given, cells=len(runs), made=len(runs))
            for number, run in enumerate(runs):
                stored(
                    f"job_{name}_{number}",
                    run["kind"],
                    run | change,
                    parent=f"job_{name}",
                    cell=number,
                )
        stored("job_gone", "study", {"kind": "study", "preset": "gone"}, cells=1, made=1)
        stored(
            "job_gone_0", "train", TrainSpec().model_dump(mode="json"), parent="job_gone", cell=0
        )
    database.migrate()
    with database.reading() as session:
        found = {
            name: to_job(session.get_one(JobRow, f"job_{name}"))
            for name in ("same", "grid", "other", "gone")
        }
        assert session.get_one(JobRow, "job_same").version == 2
    assert found["same"].spec.model_dump(mode="json") == resolved(
        StudySpec(preset="quick")
    ).model_dump(mode="json")
    assert found["same"].spec_digest == digest(resolved(StudySpec(preset="quick")))
    assert found["grid"].spec.model_dump(mode="json") == resolved(
        StudySpec(base=TrainSpec(epochs=2), grid=GRID)
    ).model_dump(mode="json")
    assert found["other"].spec.model_dump(mode="json") == OF_EARLIER_VERSIONS[2][1], (
        "what was given, and nothing that was not"
    )
    assert found["gone"].spec.model_dump(mode="json") == {"kind": "study", "preset": "gone"}
    database.close()


def test_the_number_of_an_event_is_never_given_twice(either_store: Store) -> None:
    submit(either_store)
    either_store.actions.cancel(last := submit(either_store, TrainSpec(epochs=8)).id)
    newest = either_store.events.newest()
    either_store.actions.delete(last)
    submit(either_store, TRAIN, fresh=True)
    assert either_store.events.newest() > newest
