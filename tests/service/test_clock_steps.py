"""A clock that is set back while a job runs."""

from sqlalchemy import text

from service.jobs import JobState
from service.store import Store
from service.store.tables import JobRow
from tests.factories import claimed, read
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
    with either_store.database.reading() as session:
        assert session.execute(text("select ran_seconds from jobs")).scalar_one() >= 0
