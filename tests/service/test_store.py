"""The store, on SQLite and on PostgreSQL: claims, leases, actions, idempotency, studies, schema."""

import inspect
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text, update
from sqlalchemy.event import listen

from ffengine.attempts import with_attempts
from ffengine.results import StudyResult
from ffengine.spec import CheckSpec, StudySpec, TrainSpec
from ffengine.study import expand
from service.jobs import Command, JobState, Wanted, Webhook
from service.schemas import WorkerInfo
from service.store import (
    Idempotency,
    IdempotencyConflict,
    LeaseLost,
    NewJob,
    NotAllowed,
    QueueFull,
    Store,
)
from service.store.database import Database
from service.store.inserts import CELLS_AT_ONCE, PRIORITIES, draft, insert_jobs
from service.store.tables import Base, JobRow, now_seconds
from tests.factories import (
    ERROR,
    HALF,
    LEASE,
    QUEUE_LIMIT,
    STUDY,
    TRAIN,
    claimed,
    end,
    history,
    let_lease_run_out,
    losses,
    read,
    submit,
)
from tests.service.samples import check_result, epoch_row, train_result


def test_the_migrations_make_the_schema_that_the_code_declares(either_store: Store) -> None:
    with either_store.database.engine.connect() as connection:
        difference = compare_metadata(
            MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata
        )
    assert difference == []


def test_two_processes_may_migrate_at_once(database_url: str) -> None:
    stores = [Store(database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Store.migrate, stores))
    assert stores[0].jobs.counts()["queued"] == 0
    for store in stores:
        store.close()


def test_a_job_lives_from_submit_to_its_result(either_store: Store) -> None:
    job = submit(either_store, name="first", tags=["a", "b"], priority="high")
    assert (job.state, job.kind, job.name, job.tags, job.priority) == (
        JobState.queued,
        "train",
        "first",
        ["a", "b"],
        "high",
    )
    assert job.spec == TRAIN
    assert job.started_at is None
    claim = either_store.queue.claim(job.id, "w1", LEASE)
    assert claim is not None
    assert (claim.attempt, claim.spec) == (1, TRAIN)
    rows = [epoch_row(0), epoch_row(0, "negative")]
    progress = either_store.queue.record(
        job.id,
        1,
        lease_seconds=LEASE,
        progress=HALF,
        rows=rows,
        checkpoint="epoch-00-000000.safetensors",
    )
    assert progress is Command.run
    assert either_store.queue.latest_checkpoint(job.id) == "epoch-00-000000.safetensors"
    assert either_store.jobs.rows(job.id) == [row.model_dump(mode="json") for row in rows]
    either_store.queue.finish(job.id, 1, train_result())
    ended = read(either_store, job.id)
    assert (ended.state, ended.progress.fraction, ended.progress.eta_seconds, ended.attempts) == (
        JobState.succeeded,
        1.0,
        None,
        1,
    )
    assert ended.provenance is not None
    (only,) = ended.provenance.attempts
    assert (only.number, only.ended_as) == (1, "succeeded")
    listed = with_attempts(train_result(), ended.provenance.attempts)
    assert ended.provenance == listed.provenance
    assert ended.finished_at is not None
    assert ended.started_at is not None
    assert ended.created_at <= ended.started_at <= ended.finished_at
    assert either_store.jobs.result(job.id) == listed.model_dump_json()
    assert history(either_store, job.id) == [
        "state queued",
        "state running",
        "rows",
        "progress",
        "state succeeded",
        "end succeeded",
    ]


def test_of_many_claims_at_once_exactly_one_wins(either_store: Store) -> None:
    job = submit(either_store)
    stores = [
        Store(str(either_store.database.url.render_as_string(hide_password=False)))
        for _ in range(6)
    ]
    start = threading.Barrier(len(stores))

    def claim(number: int) -> bool:
        start.wait()
        return stores[number].queue.claim(job.id, f"w{number}", LEASE) is not None

    with ThreadPoolExecutor(len(stores)) as pool:
        won = list(pool.map(claim, range(len(stores))))
    assert sum(won) == 1
    assert read(either_store, job.id).attempts == 1
    for store in stores:
        store.close()


def test_what_is_not_queued_cannot_be_claimed(either_store: Store) -> None:
    study = submit(either_store, STUDY)
    done = submit(either_store)
    either_store.actions.cancel(done.id)
    assert either_store.queue.claim(study.id, "w1", LEASE) is None
    assert either_store.queue.claim(done.id, "w1", LEASE) is None
    assert either_store.queue.claim("job_" + "0" * 32, "w1", LEASE) is None


WRITES: dict[str, Callable[[Store, str, int], object]] = {
    "renew": lambda store, job, attempt: store.queue.renew(job, attempt, LEASE),
    "record": lambda store, job, attempt: store.queue.record(
        job,
        attempt,
        lease_seconds=LEASE,
        progress=HALF,
        rows=[epoch_row(7)],
        checkpoint="step.safetensors",
    ),
    "finish": lambda store, job, attempt: store.queue.finish(job, attempt, train_result()),
    "fail": lambda store, job, attempt: store.queue.fail(job, attempt, ERROR),
    "stopped": lambda store, job, attempt: store.queue.finish_stopped(job, attempt),
    "lost": lambda store, job, attempt: store.queue.lose(job, attempt, "killed", 3),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_worker_that_lost_its_lease_writes_nothing(either_store: Store, name: str) -> None:
    job_id, attempt = claimed(either_store)
    let_lease_run_out(either_store, job_id)
    assert either_store.queue.expire_leases(3) == [job_id]
    claimed(either_store, read(either_store, job_id))
    before = either_store.jobs.get_with_version(job_id), history(either_store, job_id)
    with pytest.raises(LeaseLost):
        WRITES[name](either_store, job_id, attempt)
    assert (either_store.jobs.get_with_version(job_id), history(either_store, job_id)) == before
    assert either_store.jobs.rows(job_id) == []
    assert either_store.jobs.result(job_id) is None
    assert either_store.queue.latest_checkpoint(job_id) is None


@pytest.mark.parametrize("name", WRITES)
def test_a_job_that_has_ended_cannot_be_written_by_its_own_attempt(
    either_store: Store, name: str
) -> None:
    job_id, attempt = claimed(either_store)
    either_store.queue.fail(job_id, attempt, ERROR)
    with pytest.raises(LeaseLost):
        WRITES[name](either_store, job_id, attempt)
    assert read(either_store, job_id).error == ERROR


def test_a_lease_that_is_renewed_does_not_expire(either_store: Store) -> None:
    job_id, attempt = claimed(either_store)
    let_lease_run_out(either_store, job_id)
    either_store.queue.renew(job_id, attempt, LEASE)
    assert either_store.queue.expire_leases(3) == []
    assert read(either_store, job_id).state is JobState.running


def test_a_job_that_keeps_losing_its_worker_fails_and_says_so(either_store: Store) -> None:
    job = submit(either_store)
    for lost in (1, 2):
        job_id, attempt = claimed(either_store, job)
        assert either_store.queue.lose(job_id, attempt, "killed by signal 9", 3) is JobState.queued
        assert read(either_store, job_id).attempts == lost
    job_id, attempt = claimed(either_store, job)
    let_lease_run_out(either_store, job_id)
    either_store.queue.expire_leases(3)
    failed = read(either_store, job_id)
    assert failed.state is JobState.failed
    assert failed.error is not None
    assert failed.error.code == "worker_lost"
    assert history(either_store, job_id)[-1] == "end failed"
    assert read(either_store, either_store.actions.retry(job_id).id).state is JobState.queued
    job_id, attempt = claimed(either_store, job)
    assert either_store.queue.lose(job_id, attempt, "killed", 3) is JobState.queued, (
        "a retry forgives earlier losses"
    )


@pytest.mark.parametrize(
    ("wish", "state"), [("cancel", JobState.cancelled), ("pause", JobState.paused)]
)
def test_a_worker_learns_what_is_wanted_and_it_is_done_when_the_run_stops(
    either_store: Store, wish: str, state: JobState
) -> None:
    job_id, attempt = claimed(either_store)
    shown = getattr(either_store.actions, wish)(job_id)
    assert (shown.state, shown.wanted) == (JobState.running, Wanted(wish))
    assert either_store.queue.renew(job_id, attempt, LEASE) is Command(wish)
    assert either_store.queue.record(
        job_id, attempt, lease_seconds=LEASE, progress=HALF
    ) is Command(wish)
    assert either_store.queue.finish_stopped(job_id, attempt) is state
    assert read(either_store, job_id).state is state
    assert getattr(either_store.actions, wish)(job_id).state is state, "again is no error"


@pytest.mark.parametrize(
    ("wish", "state"), [("cancel", JobState.cancelled), ("pause", JobState.paused)]
)
def test_what_is_wanted_outlives_the_worker(
    either_store: Store, wish: str, state: JobState
) -> None:
    job_id, _ = claimed(either_store)
    getattr(either_store.actions, wish)(job_id)
    let_lease_run_out(either_store, job_id)
    either_store.queue.expire_leases(3)
    assert read(either_store, job_id).state is state


def test_a_cancel_is_not_undone_by_a_pause_or_resume(either_store: Store) -> None:
    job_id, _ = claimed(either_store)
    either_store.actions.cancel(job_id)
    either_store.actions.pause(job_id)
    either_store.actions.resume(job_id)
    assert read(either_store, job_id).wanted is Wanted.cancel


def test_a_worker_that_shuts_down_hands_its_job_back_without_a_loss(either_store: Store) -> None:
    job_id, attempt = claimed(either_store)
    either_store.queue.mark_dispatched([job_id])
    assert either_store.queue.finish_stopped(job_id, attempt) is JobState.queued
    assert either_store.queue.due_for_dispatch(10, 60.0) == [job_id]
    assert either_store.queue.claim(job_id, "w2", LEASE) is not None
    assert losses(either_store, job_id) == 0


def test_a_paused_job_resumes_and_what_has_ended_does_not(either_store: Store) -> None:
    job = submit(either_store)
    assert either_store.actions.pause(job.id).state is JobState.paused
    assert either_store.queue.claim(job.id, "w1", LEASE) is None
    assert either_store.actions.resume(job.id).state is JobState.queued
    assert either_store.actions.resume(job.id).state is JobState.queued
    job_id, attempt = claimed(either_store, job)
    either_store.queue.finish(job_id, attempt, train_result())
    for action in (
        either_store.actions.cancel,
        either_store.actions.pause,
        either_store.actions.resume,
        either_store.actions.retry,
    ):
        with pytest.raises(NotAllowed):
            action(job_id)
    with pytest.raises(LookupError):
        either_store.actions.cancel("job_" + "0" * 32)


def test_a_resumed_run_does_not_repeat_rows(either_store: Store) -> None:
    job_id, attempt = claimed(either_store)
    either_store.queue.record(
        job_id, attempt, lease_seconds=LEASE, progress=HALF, rows=[epoch_row(0), epoch_row(1)]
    )
    either_store.queue.record(
        job_id, attempt, lease_seconds=LEASE, progress=HALF, rows=[epoch_row(1), epoch_row(2)]
    )
    assert [row["epoch"] for row in either_store.jobs.rows(job_id)] == [0, 1, 2]
    measured = [
        event
        for event in either_store.events.of(job_id, after=0, limit=100)
        if event.type == "rows"
    ]
    assert [[row["epoch"] for row in event.data["rows"]] for event in measured] == [[0, 1], [2]]


@pytest.mark.parametrize("after", [2**31 - 1, 2**31, 2**62])
def test_no_event_follows_a_number_beyond_all(either_store: Store, after: int) -> None:
    job = submit(either_store)
    assert either_store.events.of(job.id, after=after, limit=10) == []
    assert either_store.events.page(job.id, after=after, limit=10).items == []
    assert either_store.events.of_types(job.id, ["state"], after=after, limit=10) == []
    assert len(either_store.events.last(job.id, ["state"], upto=after, limit=10)) == 1
    assert list(either_store.jobs.row_ids(job.id, after=after)) == []
    assert len(either_store.events.of(job.id, after=0, limit=10)) == 1


def test_jobs_are_dispatched_by_priority_then_age_and_again_after_a_while(
    either_store: Store,
) -> None:
    low, normal, high = (
        submit(either_store, TrainSpec(epochs=n), priority=p).id
        for n, p in ((3, "low"), (4, "normal"), (5, "high"))
    )
    study = submit(either_store, STUDY, fresh=True)
    children = [child.id for child, _ in either_store.jobs.children(study.id)]
    assert either_store.queue.due_for_dispatch(10, 60.0) == [high, normal, *children, low]
    either_store.queue.mark_dispatched([low, normal, high, *children])
    assert either_store.queue.due_for_dispatch(10, 60.0) == []
    assert len(either_store.queue.due_for_dispatch(10, -1.0)) == 6


def test_an_identical_spec_is_answered_from_the_result(either_store: Store) -> None:
    first_id, attempt = claimed(either_store)
    either_store.queue.record(
        first_id, attempt, lease_seconds=LEASE, progress=HALF, rows=[epoch_row(0)]
    )
    waiting = submit(either_store)
    assert (waiting.state, waiting.waits_for) == (JobState.queued, first_id), "no result yet"
    either_store.queue.finish(first_id, attempt, train_result())
    again = submit(either_store, name="another name")
    assert (again.state, again.cached, again.cached_from, again.progress.fraction) == (
        JobState.succeeded,
        True,
        first_id,
        1.0,
    )
    assert again.finished_at is not None
    assert again.provenance == read(either_store, first_id).provenance
    assert either_store.jobs.result(again.id) == either_store.jobs.result(first_id)
    assert either_store.jobs.rows(again.id) == either_store.jobs.rows(first_id)
    assert history(either_store, again.id) == ["state succeeded", "end succeeded"]
    assert submit(either_store).cached_from == first_id, "the source is the job that was run"
    assert submit(either_store, fresh=True).state is JobState.queued
    assert submit(either_store, TrainSpec(epochs=3)).state is JobState.queued


def test_an_idempotency_key_makes_one_job(either_store: Store) -> None:
    order = NewJob(spec=TRAIN)

    def send(
        key: str = "k", fingerprint: str = "f", owner: str = "o", hours: float = 1.0
    ) -> tuple[str, bool]:
        found = either_store.jobs.submit(
            order, idempotency=Idempotency(owner, key, fingerprint, hours), max_queued=QUEUE_LIMIT
        )
        return found.job.id, found.replayed

    first, _ = send()
    assert send() == (first, True)
    with pytest.raises(IdempotencyConflict):
        send(fingerprint="g")
    assert send(owner="p")[1] is False
    assert send(key="l")[1] is False
    assert send(hours=-1.0)[1] is False, "a key is forgotten after its time"
    assert either_store.jobs.counts()["queued"] == 4


def test_one_key_sent_many_times_at_once_makes_one_job(either_store: Store) -> None:
    idempotency, start = Idempotency("o", "k", "f", 1.0), threading.Barrier(6)

    def send(_: int) -> tuple[str, bool] | None:
        start.wait()
        found = either_store.jobs.submit(
            NewJob(spec=TRAIN), idempotency=idempotency, max_queued=QUEUE_LIMIT
        )
        return found.job.id, found.replayed

    with ThreadPoolExecutor(6) as pool:
        answers = [answer for answer in pool.map(send, range(6)) if answer]
    assert len({job for job, _ in answers}) == 1
    assert [replayed for _, replayed in answers].count(False) == 1
    assert either_store.jobs.counts()["queued"] == 1


def test_a_full_queue_refuses_all_of_a_study_or_nothing(either_store: Store) -> None:
    with pytest.raises(QueueFull):
        either_store.jobs.submit(NewJob(spec=STUDY), expand(STUDY), max_queued=2)
    assert either_store.jobs.page(limit=10).jobs == []


def test_jobs_are_listed_newest_first_by_pages_and_filters(either_store: Store) -> None:
    ids = [
        submit(
            either_store,
            TrainSpec(epochs=n),
            name=f"n{n % 2}",
            tags=["odd"] if n % 2 else ["even", 'a"b'],
        ).id
        for n in range(1, 8)
    ]
    study = submit(either_store, STUDY)
    either_store.actions.cancel(ids[0])
    page = either_store.jobs.page(limit=3)
    assert [job.id for job in page.jobs] == [study.id, ids[6], ids[5]]
    assert [job.id for job in either_store.jobs.page(limit=9, before=page.next_id).jobs] == ids[
        4::-1
    ]
    assert either_store.jobs.page(limit=9, before=page.next_id).next_id is None

    def found(**filters: object) -> list[str]:
        return [job.id for job in either_store.jobs.page(limit=50, **filters).jobs]  # type: ignore[arg-type]

    assert found(state="cancelled") == [ids[0]]
    assert found(kind="study") == [study.id]
    assert found(name="n0") == ids[5::-2]
    assert found(tag="odd") == ids[6::-2]
    assert found(tag='a"b') == ids[5::-2]
    assert found(tag="od") == []
    children = [child.id for child, _ in either_store.jobs.children(study.id)]
    assert found(parent=study.id) == children[::-1]
    assert set(children) <= set(found(children=True))
    assert not set(children) & set(found())


def test_deleting_takes_what_has_ended_with_its_children(either_store: Store) -> None:
    study = submit(either_store, STUDY)
    with pytest.raises(NotAllowed):
        either_store.actions.delete(study.id)
    either_store.actions.cancel(study.id)
    family = {study.id, *(child.id for child, _ in either_store.jobs.children(study.id))}
    assert set(either_store.actions.delete(study.id)) == family
    assert either_store.jobs.get(study.id) is None
    assert either_store.events.of(study.id, after=0, limit=10) == []
    with pytest.raises(LookupError):
        either_store.actions.delete(study.id)


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ((True, True, True), JobState.succeeded),
        ((True, False, False), JobState.succeeded),
        ((False, False, False), JobState.failed),
    ],
)
def test_a_study_follows_its_runs(
    either_store: Store, outcomes: tuple[bool, ...], state: JobState
) -> None:
    study = submit(either_store, STUDY)
    children = [child for child, _ in either_store.jobs.children(study.id)]
    either_store.studies.advance(study.id)
    assert read(either_store, study.id).state is JobState.queued
    for number, (child, well) in enumerate(zip(children, outcomes, strict=True)):
        end(either_store, child, well=well)
        assert either_store.studies.unfinished() == [study.id]
        either_store.studies.advance(study.id)
        shown = read(either_store, study.id)
        if number < 2:
            assert (shown.state, shown.progress.fraction) == (
                JobState.running,
                pytest.approx((number + 1) / 3, abs=0.001),
            )
    shown = read(either_store, study.id)
    assert (shown.state, shown.progress.fraction) == (state, 1.0)
    assert either_store.studies.unfinished() == []
    assert history(either_store, study.id)[-2:] == [f"state {state}", f"end {state}"]
    document = either_store.jobs.result(study.id)
    if state is JobState.failed:
        assert document is None
        return
    assert document is not None
    cells = StudyResult.model_validate_json(document).cells
    assert [cell.state for cell in cells] == [
        "succeeded" if well else "failed" for well in outcomes
    ]
    assert [cell.job for cell in cells] == [child.id for child in children]
    assert [bool(cell.summary) for cell in cells] == list(outcomes)


def test_a_study_of_known_runs_is_answered_at_once(either_store: Store) -> None:
    first = submit(either_store, STUDY)
    for child, _ in either_store.jobs.children(first.id):
        end(either_store, child, well=True)
    again = submit(either_store, STUDY)
    assert {child.state for child, _ in either_store.jobs.children(again.id)} == {
        JobState.succeeded
    }
    either_store.studies.advance(again.id)
    assert read(either_store, again.id).state is JobState.succeeded


def test_cancelling_a_study_cancels_its_runs(either_store: Store) -> None:
    study = submit(either_store, STUDY)
    first, second, third = (child for child, _ in either_store.jobs.children(study.id))
    end(either_store, first, well=True)
    running, attempt = claimed(either_store, second)
    either_store.studies.advance(study.id)
    either_store.actions.cancel(study.id)
    assert [read(either_store, job.id).state for job in (first, second, third)] == [
        "succeeded",
        "running",
        "cancelled",
    ]
    either_store.studies.advance(study.id)
    assert read(either_store, study.id).state is JobState.running
    assert either_store.queue.finish_stopped(running, attempt) is JobState.cancelled
    either_store.studies.advance(study.id)
    assert read(either_store, study.id).state is JobState.cancelled


@pytest.mark.slow(in_each_part=True)
def test_a_study_is_paused_resumed_and_retried_through_its_runs(either_store: Store) -> None:
    study = submit(either_store, STUDY)
    children = [child for child, _ in either_store.jobs.children(study.id)]
    running, attempt = claimed(either_store, children[0])
    either_store.studies.advance(study.id)
    either_store.actions.pause(study.id)
    either_store.queue.finish_stopped(running, attempt)
    either_store.studies.advance(study.id)
    assert read(either_store, study.id).state is JobState.paused
    assert {child.state for child, _ in either_store.jobs.children(study.id)} == {JobState.paused}
    either_store.actions.resume(study.id)
    either_store.studies.advance(study.id)
    assert read(either_store, study.id).state in (JobState.queued, JobState.running)
    assert {child.state for child, _ in either_store.jobs.children(study.id)} == {JobState.queued}
    for child in children:
        end(either_store, child, well=False)
    either_store.studies.advance(study.id)
    assert read(either_store, study.id).state is JobState.failed
    either_store.actions.retry(study.id)
    assert {child.state for child, _ in either_store.jobs.children(study.id)} == {JobState.queued}
    for child in children:
        end(either_store, child, well=True)
    either_store.studies.advance(study.id)
    assert read(either_store, study.id).state is JobState.succeeded
    assert read(either_store, study.id).error is None


def test_a_check_is_recorded_as_a_training_is(either_store: Store) -> None:
    job_id, attempt = claimed(either_store, submit(either_store, CheckSpec(theorem=1)))
    result = check_result()
    either_store.queue.record(
        job_id, attempt, lease_seconds=LEASE, progress=HALF, rows=result.cells
    )
    either_store.queue.finish(job_id, attempt, result)
    assert either_store.jobs.rows(job_id) == [cell.model_dump(mode="json") for cell in result.cells]
    provenance = read(either_store, job_id).provenance
    assert provenance is not None
    listed = with_attempts(result, provenance.attempts)
    assert either_store.jobs.result(job_id) == listed.model_dump_json()


def test_a_heartbeat_is_the_workers_last_word(either_store: Store) -> None:
    info = WorkerInfo(
        id="w1",
        host="h",
        pid=1,
        device="cpu",
        device_name=None,
        memory_bytes=2**40,
        version="0",
        job=None,
    )
    either_store.workers.heartbeat(info)
    either_store.workers.heartbeat(info.model_copy(update={"job": "job_x", "paused": "no room"}))
    (seen,) = either_store.workers.alive(30.0)
    assert (seen.job, seen.memory_bytes, seen.paused) == ("job_x", 2**40, "no room")
    assert seen.silent_seconds < 10.0
    assert either_store.workers.alive(-1.0) == []


def test_the_longest_wait_is_that_of_the_oldest_queued_run(either_store: Store) -> None:
    assert either_store.queue.longest_wait_seconds() is None
    job = submit(either_store)
    with either_store.database.writing() as session:
        session.execute(
            update(JobRow).where(JobRow.id == job.id).values(queued_at=now_seconds() - 100)
        )
    submit(either_store)
    assert 99.0 < (either_store.queue.longest_wait_seconds() or 0.0) < 130.0


def test_the_databases_clock_is_the_time(either_store: Store) -> None:
    with either_store.database.reading() as session:
        assert Database.now(session) == pytest.approx(time.time(), abs=60.0)


@pytest.mark.slow(in_each_part=True)
def test_a_study_of_thousands_is_made_batch_by_batch(either_store: Store) -> None:
    seeds = [[number] for number in range(3_000)]
    study = StudySpec.model_validate({"base": {"kind": "train"}, "grid": {"seeds": seeds}})
    statements: list[str] = []
    listen(
        either_store.database.engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, *_: statements.append(statement),
    )
    job = either_store.jobs.submit(NewJob(spec=study), expand(study), max_queued=20_000).job
    assert len(either_store.jobs.children(job.id)) == CELLS_AT_ONCE
    most = len(statements)
    statements.clear()
    while either_store.studies.create_next_runs(job.id):
        most = max(most, len(statements))
        statements.clear()
    assert most < 40, "two hundred rows, each by itself, take long"
    assert not either_store.studies.create_next_runs(job.id)
    children = either_store.jobs.children(job.id)
    assert len(children) == 3_000
    assert [child.spec.seeds for child, _ in children[::500]] == [
        (number,) for number in range(0, 3_000, 500)
    ]  # type: ignore[union-attr]
    assert history(either_store, children[-1][0].id) == ["state queued"]


def test_sqlite_is_durable_and_checks_references(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'x.db'}")
    store.migrate()
    with store.database.engine.connect() as connection:
        pragmas = {
            name: connection.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 15_000,
    }
    store.close()


def test_rows_of_tables_do_not_leave_the_store() -> None:
    tables = {mapper.class_.__name__ for mapper in Base.registry.mappers}
    with Store("sqlite://") as store:
        parts = [type(part) for part in vars(store).values()]
    methods = [
        method
        for part in parts
        for name, method in inspect.getmembers(part, inspect.isfunction)
        if not name.startswith("_")
    ]
    answers = {
        method.__qualname__: str(inspect.signature(method).return_annotation) for method in methods
    }
    assert len(answers) > 40
    assert not {
        name: answer for name, answer in answers.items() if tables & set(re.findall(r"\w+", answer))
    }


def test_every_option_of_a_submission_has_a_column_and_is_stored(either_store: Store) -> None:
    columns = set(JobRow.__table__.columns.keys())
    assert set(NewJob.model_fields) <= columns
    new = NewJob(
        spec=STUDY,
        name="n",
        tags=["a"],
        priority="high",
        fresh=True,
        timeout_seconds=5.0,
        pinned=True,
        webhook=Webhook(url="https://example.org/"),
        submitted_by="Ada",
    )
    study = either_store.jobs.submit(new, expand(STUDY), max_queued=QUEUE_LIMIT).job
    with either_store.database.reading() as session:
        rows = session.scalars(select(JobRow).order_by(JobRow.cell.nulls_first())).all()
    kept = [(row.name, row.tags, row.fresh, row.timeout_seconds, row.submitted_by) for row in rows]
    assert kept == [("n", ["a"], True, 5.0, "Ada")] * 4, "runs share what the study was given"
    assert {row.priority for row in rows} == {PRIORITIES.index("high")}
    assert [(row.pinned, bool(row.webhook)) for row in rows] == [
        (True, True),
        *[(False, False)] * 3,
    ]
    assert [row.parent_id for row in rows] == [None, *[study.id] * 3]


def test_inserting_jobs_changes_nothing_that_the_caller_holds(either_store: Store) -> None:
    rows = [draft(NewJob(spec=TrainSpec(epochs=3))) for _ in range(2)]
    before = [dict(row.columns()) for row in rows]
    with either_store.database.writing() as session:
        insert_jobs(session, rows, 1.0)
    assert [row.columns() for row in rows] == before
    first, second = (read(either_store, row.id) for row in rows)
    assert (first.waits_for, second.waits_for) == (None, first.id)


@pytest.mark.parametrize("has_begun", [False, True], ids=["queued", "running"])
@pytest.mark.parametrize("has_heard", [False, True], ids=["computing", "stopping"])
def test_a_study_retried_while_a_run_is_being_cancelled_runs_all_of_them(
    either_store: Store, has_begun: bool, has_heard: bool
) -> None:
    study = submit(either_store, STUDY)
    first, *_ = (child for child, _ in either_store.jobs.children(study.id))
    held = claimed(either_store, first)
    if has_begun:
        either_store.studies.advance(study.id)
    either_store.actions.cancel(study.id)
    if has_heard:
        assert either_store.queue.renew(*held, LEASE) is Command.cancel
    again = either_store.actions.retry(study.id)
    assert (again.state is JobState.running) == has_begun
    assert again.wanted is Wanted.run
    if has_heard:
        assert either_store.queue.finish_stopped(*held) is JobState.queued
    else:
        assert either_store.queue.renew(*held, LEASE) is Command.run
        either_store.queue.finish(*held, train_result())
    for child, _ in either_store.jobs.children(study.id):
        if read(either_store, child.id).state is JobState.queued:
            end(either_store, child, well=True)
    either_store.studies.advance(study.id)
    states = {child.state for child, _ in either_store.jobs.children(study.id)}
    assert states == {JobState.succeeded}
    assert read(either_store, study.id).state is JobState.succeeded


def test_a_retry_withdraws_a_cancel_that_has_not_happened_yet(either_store: Store) -> None:
    job_id, attempt = claimed(either_store)
    either_store.actions.cancel(job_id)
    either_store.actions.pause(job_id)
    assert either_store.actions.retry(job_id).wanted is Wanted.run
    assert either_store.queue.renew(job_id, attempt, LEASE) is Command.run
    either_store.actions.pause(job_id)
    assert either_store.actions.retry(job_id).wanted is Wanted.pause, "no cancel, nothing to retry"
