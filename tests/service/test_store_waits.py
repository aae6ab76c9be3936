"""Where others are faster or hold a lock, the store waits, or gives up and says why."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import delete, insert
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.jobs import JobState
from service.store import Store, database, job_cache
from service.store.tables import DeliveryRow, JobRow
from tests.factories import claimed, let_lease_run_out, read, submit

PATIENCE_SECONDS = 60.0
SECRET_RACERS = 8


def test_a_writer_that_gets_no_turn_says_so(store: Store) -> None:
    def write() -> None:
        with store.database.writing(wait_milliseconds=1):
            pytest.fail("two write at once")

    with ThreadPoolExecutor(1) as pool, store.database.writing():
        waiting = pool.submit(write)
        with pytest.raises(PoolTimeout, match="others of this process wait to write"):
            waiting.result(PATIENCE_SECONDS)
    assert submit(store).state == JobState.queued


def test_the_switch_to_the_log_waits_for_a_process_that_just_makes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself may refuse the switch at once, without a wait: here it always does."""
    other, ours = (
        sqlite3.connect(
            tmp_path / "fflab.db", timeout=0, isolation_level=None, check_same_thread=False
        )
        for _ in range(2)
    )
    other.execute("BEGIN EXCLUSIVE")
    other.execute("CREATE TABLE anything (x)")
    monkeypatch.setattr(database, "BUSY_MILLISECONDS", 0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        database._use_wal(ours)
    waits = threading.Event()

    class Clock:
        """The module's clock, which tells of the first wait."""

        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(seconds: float) -> None:
            waits.set()
            time.sleep(seconds)

    monkeypatch.setattr(database, "BUSY_MILLISECONDS", 60_000)
    monkeypatch.setattr(database, "time", Clock)
    with ThreadPoolExecutor(1) as pool:
        switched = pool.submit(database._use_wal, ours)
        assert waits.wait(PATIENCE_SECONDS)
        assert not switched.done()
        other.execute("COMMIT")
        switched.result(PATIENCE_SECONDS)
    assert ours.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
    ours.close()


def test_processes_that_ask_at_once_agree_on_one_signing_secret(database_url: str) -> None:
    stores = [Store(database_url) for _ in range(SECRET_RACERS)]
    stores[0].migrate()
    together = threading.Barrier(SECRET_RACERS)

    def ask(store: Store) -> str:
        store.deliveries.webhook_address("job_none")  # connected
        together.wait(PATIENCE_SECONDS)
        return store.deliveries.signing_secret()

    with ThreadPoolExecutor(SECRET_RACERS) as pool:
        found = set(pool.map(ask, stores))
    assert len(found) == 1
    for store in stores:
        store.close()


def test_a_try_of_a_message_whose_job_was_deleted_meanwhile_leaves_nothing(
    either_store: Store,
) -> None:
    job = submit(
        either_store, webhook={"url": "https://example.org", "states": ["queued"], "secret": None}
    )
    with either_store.database.writing() as session:
        facts = {
            "id": "msg_a",
            "job_id": job.id,
            "type": "job.queued",
            "body": "{}",
            "attempts": [],
        }
        session.execute(insert(DeliveryRow).values(**facts, created_at=0.0, next_at=0.0))
    [due] = either_store.deliveries.due(10, 60.0)
    with either_store.database.writing() as session:
        session.execute(delete(DeliveryRow).where(DeliveryRow.id == due.id))
    either_store.deliveries.record_attempt(
        due.id, {"status": 200}, delivered=True, again_seconds=None
    )
    assert either_store.deliveries.of(job.id) == []


def test_no_lease_expires_where_the_database_itself_was_away_for_so_long(
    either_store: Store,
) -> None:
    """Its workers could not renew theirs either: they get their time once it answers again."""
    job_id, _ = claimed(either_store)
    let_lease_run_out(either_store, job_id)
    assert either_store.queue.expire_leases(max_losses=3, longest_wait=-1.0) == []
    assert read(either_store, job_id).state == JobState.running
    assert either_store.queue.expire_leases(max_losses=3, longest_wait=PATIENCE_SECONDS) == [job_id]


def test_only_so_many_jobs_are_remembered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_cache, "REMEMBERED_JOBS", 2)
    ids = [submit(store, name=f"job {number}").id for number in range(4)]
    kept = job_cache.JobCache()
    with store.database.reading() as session:
        rows = [session.get_one(JobRow, job_id) for job_id in ids]
        made = [kept.job_of(row)[0] for row in rows]
        assert [kept.get(row.id, row.version) is not None for row in rows] == [
            False,
            False,
            True,
            True,
        ]
        assert [job.id for job in made] == ids
