"""The heartbeat: it shows at once what the worker does, and stops at shutdown."""

import errno
import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.exc import OperationalError

from benchmarks.waiting import wait_until
from ffengine.spec import CheckSpec, TrainSpec
from service.background.waiting import why_jobs_wait
from service.settings import Settings
from service.store import Store
from tests.workers.jobs import TRAIN, WORKER
from workers import heartbeat
from workers.heartbeat import HeartbeatThread
from workers.supervisor import Supervisor

AWAY = OperationalError("INSERT", {}, Exception("database is locked"))


@pytest.fixture
def supervisor(store: Store, settings: Settings) -> Supervisor:
    return Supervisor(store.queue, settings, WORKER, [])


@pytest.fixture
def beating(store: Store, supervisor: Supervisor) -> Iterator[HeartbeatThread]:
    thread = HeartbeatThread(supervisor, store.workers, "cpu")
    supervisor.on_state_change = thread.wake
    yield thread
    if thread.is_alive():
        thread.stop()


def shown_job(store: Store) -> str | None:
    return next((worker.job for worker in store.workers.alive(600.0)), "no worker")


def test_a_change_of_state_is_shown_at_once(
    store: Store,
    supervisor: Supervisor,
    beating: HeartbeatThread,
    submit: Callable[[TrainSpec | CheckSpec], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Although the next heartbeat by itself is an hour away."""
    beating.interval_seconds = 3600.0
    beating.start()
    wait_until(lambda: shown_job(store) is None, "an idle worker is shown")
    job_id, seen = submit(TRAIN), threading.Event()

    def supervise(_claim: object) -> None:
        wait_until(lambda: shown_job(store) == job_id, "the job is shown")
        seen.set()
        supervisor.shutdown.set()

    monkeypatch.setattr(supervisor, "_supervise_attempt", supervise)
    supervisor.run()
    assert seen.is_set()


def test_a_worker_without_room_says_that_it_pauses_and_goes_on_by_itself(
    store: Store, supervisor: Supervisor, beating: HeartbeatThread, settings: Settings
) -> None:
    supervisor.settings = settings.model_copy(update={"disk_reserve": 2**60})
    beating.tick()
    (worker,) = store.workers.alive(600.0)
    assert worker.paused is not None
    assert "less than the reserve of" in worker.paused
    assert why_jobs_wait([worker], broker_ok=True, no_room=None) == (
        f"waits: every worker pauses, {worker.paused}: delete jobs that are not needed, or make "
        f"room"
    )
    supervisor.settings = settings
    beating.tick()
    assert [worker.paused for worker in store.workers.alive(600.0)] == [None]
    assert (
        why_jobs_wait([worker, *store.workers.alive(600.0)], broker_ok=True, no_room=None) is None
    )


def test_a_worker_that_cannot_reach_the_artifacts_pauses(
    store: Store,
    supervisor: Supervisor,
    beating: HeartbeatThread,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(*_arguments: object) -> str:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("workers.supervisor.lack_of_room", gone)
    beating.tick()
    (worker,) = store.workers.alive(600.0)
    folder = supervisor.settings.artifact_place
    assert worker.paused == f"{folder} cannot be reached (Stale file handle)"
    assert not supervisor.has_room()


def test_it_outlives_an_error(
    store: Store,
    beating: HeartbeatThread,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    beating.interval_seconds = 0.01
    write, failures = store.workers.heartbeat, [OSError(24, "too many open files"), AWAY]

    def failing(info: heartbeat.WorkerInfo) -> None:
        if failures:
            raise failures.pop()
        write(info)

    monkeypatch.setattr(store.workers, "heartbeat", failing)
    beating.start()
    wait_until(lambda: shown_job(store) is None, "it beats again")
    assert "heartbeat: the database is away" in caplog.text
    assert "heartbeat: a tick failed" in caplog.text


def test_a_worker_that_stops_beats_no_more(store: Store, beating: HeartbeatThread) -> None:
    beating.supervisor.shutdown.set()
    beating.tick()
    assert store.workers.alive(600.0) == []
