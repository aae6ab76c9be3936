"""A clock that is set, and time in which nothing runs, while a job does."""

from collections.abc import Callable

import pytest
from sqlalchemy import text

from service.jobs import Command, JobState
from service.store import Store
from service.store.tables import JobRow
from tests.factories import HALF, LEASE, claimed, read, submit
from tests.service.samples import train_result

BACK = 3600.0


def set_back(store: Store, job_id: str) -> None:
    """Let all that was written of the job lie an hour ahead of the clock."""
    with store.database.writing() as session:
        row = session.get_one(JobRow, job_id)
        assert row.started_at is not None
        assert row.claimed_at is not None
        row.created_at += BACK
        row.started_at += BACK
        row.claimed_at += BACK


def test_no_time_is_negative_after_the_clock_was_set_back(either_store: Store) -> None:
    job_id, attempt = claimed(either_store)
    set_back(either_store, job_id)
    either_store.queue.finish(job_id, attempt, train_result())
    job = read(either_store, job_id)
    assert job.state == JobState.succeeded
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.finished_at >= job.started_at >= job.created_at
    assert ran_seconds(either_store) >= 0


def ran_seconds(store: Store) -> float:
    with store.database.reading() as session:
        return float(session.execute(text("select ran_seconds from jobs")).scalar_one())


def let_pass(store: Store, job_id: str, seconds: float) -> None:
    """Let all that was written of the job lie so far back; negative: ahead of the clock."""
    with store.database.writing() as session:
        row = session.get_one(JobRow, job_id)
        for name in ("created_at", "queued_at", "started_at", "claimed_at", "lease_until"):
            setattr(row, name, getattr(row, name) - seconds)
        if row.deadline_at is not None:
            row.deadline_at -= seconds


def go_on(store: Store, job_id: str, attempt: int) -> Command:
    return store.queue.renew(job_id, attempt, LEASE)


def record(store: Store, job_id: str, attempt: int) -> Command:
    return store.queue.record(job_id, attempt, lease_seconds=LEASE, progress=HALF)


@pytest.mark.parametrize("tell", [go_on, record])
@pytest.mark.parametrize("seconds", [25.0, 8 * 3600.0, -3600.0], ids=["stopped", "asleep", "set"])
def test_time_in_which_the_work_stood_still_is_not_running_time(
    either_store: Store, seconds: float, tell: Callable[[Store, str, int], Command]
) -> None:
    job_id, attempt = claimed(either_store, submit(either_store, timeout_seconds=20.0))
    let_pass(either_store, job_id, seconds)
    assert tell(either_store, job_id, attempt) is Command.run
    let_pass(either_store, job_id, 2.0)
    either_store.queue.finish(job_id, attempt, train_result())
    assert 2.0 <= ran_seconds(either_store) < 4.0


def test_time_in_which_the_work_went_on_is_running_time(either_store: Store) -> None:
    job_id, attempt = claimed(either_store, submit(either_store, timeout_seconds=20.0))
    commands = []
    for _ in range(7):
        let_pass(either_store, job_id, 3.0)
        commands.append(go_on(either_store, job_id, attempt))
    assert commands == [*[Command.run] * 6, Command.expire]
    assert either_store.queue.finish_stopped(job_id, attempt) is JobState.failed


def test_a_job_whose_worker_slept_has_not_used_up_its_time(either_store: Store) -> None:
    job_id, _ = claimed(either_store, submit(either_store, timeout_seconds=LEASE + 20))
    let_pass(either_store, job_id, 8 * 3600.0)
    assert either_store.queue.expire_leases(3) == [job_id]
    assert read(either_store, job_id).state is JobState.queued
    assert ran_seconds(either_store) <= LEASE + 1
