"""The reconciler, with a real Redis.

Messages are sent once, and again when they are lost; the thread outlives every fault.
"""

import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text, update

from benchmarks.waiting import wait_until
from service.background.broker_check import is_reachable
from service.background.dispatcher import QUEUE, TASK, BrokerAway, Dispatcher
from service.background.reconciler import (
    DISPATCH_AGAIN_SECONDS,
    EXPLAINED_AFTER_SECONDS,
    Reconciler,
)
from service.background.retention import UNKNOWN_SECONDS
from service.host.clock import clock
from service.host.disk import BALLAST_BYTES
from service.jobs import JobState
from service.schemas import WorkerInfo
from service.settings import Retention, Settings
from service.stack.redis_server import EmbeddedRedis
from service.store import Store
from service.store.tables import JobRow, now_seconds
from tests.factories import STUDY, claimed, end, history, let_lease_run_out, read, submit


class Broker:
    """A Redis that can be stopped, emptied and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.redis = EmbeddedRedis(folder)
        self.redis.prepare()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.redis.command, cwd=self.redis.folder, stdout=subprocess.DEVNULL
        )
        wait_until(lambda: is_reachable(self.redis.url), "Redis answers")

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def take_messages(self) -> list[str]:
        """Receive the waiting messages as a worker would; their job ids."""
        found: list[str] = []
        with Redis.from_url(self.redis.url) as client:
            while raw := client.rpop(QUEUE):
                message = json.loads(raw)
                assert message["headers"]["task"] == TASK
                arguments, keywords, _ = json.loads(base64.b64decode(message["body"]))
                assert keywords == {}
                found += arguments
        return found


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "redis")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'jobs.db'}")
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def reconciler(own_store: Store, broker: Broker, settings: Settings) -> Iterator[Reconciler]:
    """A reconciler that ticks when the test says so."""
    dispatcher = Dispatcher(broker.redis.url)
    yield Reconciler(own_store, settings, dispatcher)
    dispatcher.close()


def as_if_dispatched_long_ago(store: Store) -> None:
    with store.database.writing() as session:
        long_ago = now_seconds() - DISPATCH_AGAIN_SECONDS - 1
        session.execute(update(JobRow).values(dispatched_at=long_ago))


@pytest.mark.slow
def test_each_queued_run_is_dispatched_once(
    reconciler: Reconciler, own_store: Store, broker: Broker
) -> None:
    job, study = submit(own_store), submit(own_store, STUDY, fresh=True)
    children = [child.id for child, _ in own_store.jobs.children(study.id)]
    for _ in range(3):
        reconciler.tick()
    assert broker.take_messages() == [job.id, *children]


def waited(store: Store) -> None:
    with store.database.writing() as session:
        long_ago = now_seconds() - EXPLAINED_AFTER_SECONDS - 1
        session.execute(update(JobRow).values(queued_at=long_ago))


def explained(reconciler: Reconciler) -> None:
    reconciler._explain_due = 0.0
    reconciler.tick()
    reconciler.tick()  # a study says it when its runs do


def worker(store: Store, **said: Any) -> None:
    info = {"id": "lab-1", "host": "lab", "pid": 1, "device": "cpu", "device_name": None}
    info |= {"memory_bytes": None, "version": "1", "job": None}
    store.workers.heartbeat(WorkerInfo.model_validate(info | said))


@pytest.mark.slow
def test_a_job_that_nobody_can_begin_says_why_until_somebody_can(
    reconciler: Reconciler, own_store: Store, broker: Broker
) -> None:
    job, follower = submit(own_store), submit(own_store)
    study = submit(own_store, STUDY, fresh=True)

    def messages() -> list[str]:
        return [read(own_store, one.id).progress.message for one in (job, study, follower)]

    explained(reconciler)
    assert messages()[0] == "queued", "a worker may be about to begin it"
    waited(own_store)
    for _ in range(2):
        explained(reconciler)
        said = "waits: no worker is running: start one with `fflab worker`"
        assert messages() == [
            said,
            f"0 of 3 runs ended, {said}",
            f"waits for the identical {job.id}",
        ]
    assert history(own_store, job.id) == ["state queued", "log"]
    assert history(own_store, own_store.jobs.children(study.id)[0][0].id) == ["state queued"]
    worker(own_store)
    explained(reconciler)
    assert messages()[:2] == ["queued", "0 of 3 runs ended"]
    broker.stop()
    explained(reconciler)
    assert "Redis does not answer" in messages()[0]
    claimed(own_store, job)
    assert messages()[0] == "starting"
    broker.start()


@pytest.mark.slow
def test_an_api_without_a_broker_says_so_in_the_jobs_that_wait(
    own_store: Store, settings: Settings
) -> None:
    job = submit(own_store)
    waited(own_store)
    worker(own_store)
    explained(Reconciler(own_store, settings, None))
    assert "without FFLAB_REDIS_URL" in read(own_store, job.id).progress.message


def test_the_sweep_removes_unfinished_uploads(store: Store, settings: Settings) -> None:
    folder = settings.datasets.kept_in
    for name, at in ((".draft-old", 1.0), (".draft-new", time.time())):
        (folder / name).mkdir(parents=True)
        os.utime(folder / name, (at, at))
    reconciler = Reconciler(store, settings, None)
    reconciler._sweep_due = 0.0
    reconciler.tick()
    assert [path.name for path in folder.iterdir()] == [".draft-new"]


@pytest.mark.slow
def test_a_job_that_waits_for_room_on_the_disk_says_so(
    reconciler: Reconciler, own_store: Store
) -> None:
    job = submit(own_store)
    waited(own_store)
    worker(own_store)
    enough = reconciler.settings
    reconciler.settings = enough.model_copy(update={"disk_reserve": 2**60})
    explained(reconciler)
    said = read(own_store, job.id).progress.message
    assert said.startswith(f"waits: {enough.artifact_place} has ")
    assert " free, less than the reserve of 1.0 EiB (FFLAB_DISK_RESERVE): " in said
    assert not (enough.root / "ballast").exists()
    reconciler.settings = enough.model_copy(update={"disk_reserve": 1000})
    explained(reconciler)
    assert read(own_store, job.id).progress.message == "queued"
    assert (enough.root / "ballast").stat().st_blocks * 512 >= BALLAST_BYTES


@pytest.mark.slow
def test_a_lost_message_is_sent_again_but_a_long_queue_is_not_flooded(
    reconciler: Reconciler, own_store: Store, broker: Broker
) -> None:
    job = submit(own_store)
    reconciler.tick()
    as_if_dispatched_long_ago(own_store)
    reconciler.tick()
    assert broker.take_messages() == [job.id], "its message still waits in the broker"
    reconciler.tick()
    assert broker.take_messages() == [job.id], "its message was lost"
    reconciler.tick()
    assert broker.take_messages() == [], "it was dispatched just now"


def test_jobs_are_dispatched_when_the_broker_is_back(
    reconciler: Reconciler, own_store: Store, broker: Broker
) -> None:
    broker.stop()
    job = submit(own_store)
    began = time.monotonic()
    reconciler.tick()
    assert time.monotonic() - began < 60.0  # it would be for ever
    assert not reconciler.broker_ok
    broker.start()
    wait_until(lambda: reconciler.tick() is None and reconciler.broker_ok, "the broker is seen")
    assert broker.take_messages() == [job.id]


def test_a_broker_that_does_not_answer_is_no_wait_for_ever(broker: Broker) -> None:
    dispatcher = Dispatcher(broker.redis.url)
    broker.stop()
    began = time.monotonic()
    with pytest.raises(BrokerAway):
        dispatcher.dispatch(["job_x"])
    with pytest.raises(BrokerAway):
        dispatcher.queue_length()
    assert time.monotonic() - began < 60.0
    dispatcher.close()


@pytest.mark.slow
def test_a_job_whose_worker_vanished_is_queued_and_dispatched_in_one_tick(
    reconciler: Reconciler, own_store: Store, broker: Broker
) -> None:
    job_id, _ = claimed(own_store)
    reconciler.tick()
    assert broker.take_messages() == []
    let_lease_run_out(own_store, job_id)
    reconciler.tick()
    assert read(own_store, job_id).state is JobState.queued
    assert broker.take_messages() == [job_id]


@pytest.mark.slow
def test_studies_are_advanced(reconciler: Reconciler, own_store: Store) -> None:
    study = submit(own_store, STUDY)
    for child, _ in own_store.jobs.children(study.id):
        end(own_store, child, well=True)
    reconciler.tick()
    assert read(own_store, study.id).state is JobState.succeeded


@pytest.mark.slow
def test_two_reconcilers_do_everything_once(
    reconciler: Reconciler, own_store: Store, broker: Broker, settings: Settings
) -> None:
    job_id, _ = claimed(own_store)
    study = submit(own_store, STUDY, fresh=True)
    for child, _ in own_store.jobs.children(study.id):
        end(own_store, child, well=True)
    let_lease_run_out(own_store, job_id)
    dispatcher = Dispatcher(broker.redis.url)
    start = threading.Barrier(2)

    def tick(one: Reconciler) -> None:
        start.wait()
        one.tick()

    threads = [
        threading.Thread(target=tick, args=(one,))
        for one in (reconciler, Reconciler(own_store, settings, dispatcher))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    dispatcher.close()
    assert read(own_store, job_id).attempts == 1
    assert [event.type for event in own_store.events.of(study.id, after=0, limit=50)].count(
        "end"
    ) == 1
    states = [
        event.data["state"]
        for event in own_store.events.of(job_id, after=0, limit=50)
        if event.type == "state"
    ]
    assert states == ["queued", "running", "queued"]
    assert set(broker.take_messages()) == {job_id}, (
        "a second message for it is harmless: the claim decides"
    )


def test_the_thread_dispatches_when_woken_and_outlives_the_database(
    own_store: Store, broker: Broker, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    reconciler = Reconciler(own_store, settings, Dispatcher(broker.redis.url))
    reconciler.start()
    try:
        wait_until(lambda: reconciler.broker_ok, "the first tick")
        with own_store.database.engine.connect() as connection:
            connection.execute(text("ALTER TABLE jobs RENAME TO gone"))
            connection.commit()
            wait_until(lambda: "the database is away" in caplog.text, "a tick has failed")
            connection.execute(text("ALTER TABLE gone RENAME TO jobs"))
            connection.commit()
        wait_until(lambda: "the database is back" in caplog.text, "it ticks again")
        job = submit(own_store)
        reconciler.wake()
        wait_until(lambda: own_store.queue.due_for_dispatch(10, 60.0) == [], "it is dispatched")
        assert broker.take_messages() == [job.id]
    finally:
        reconciler.stop()
    assert not reconciler.is_alive()


@pytest.mark.slow
def test_no_lease_is_taken_back_right_after_the_database_was_away(
    own_store: Store, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker could not renew its lease meanwhile.

    It does not matter how short the last gap between two ticks was.
    """
    reconciler = Reconciler(own_store, settings.model_copy(update={"lease_seconds": 600.0}), None)
    running, _ = claimed(own_store)
    reconciler.start()
    try:
        assert reconciler._spare_until > clock()  # as after an outage of the whole machine
        reconciler._spare_until = 0.0
        with own_store.database.engine.connect() as connection:
            connection.execute(text("ALTER TABLE jobs RENAME TO gone"))
            connection.commit()
            wait_until(lambda: "the database is away" in caplog.text, "a tick has failed")
            connection.execute(text("UPDATE gone SET lease_until = 1"))
            connection.execute(text("ALTER TABLE gone RENAME TO jobs"))
            connection.commit()
        study = submit(own_store, STUDY, fresh=True)
        for child, _ in own_store.jobs.children(study.id):
            end(own_store, child, well=True)
        wait_until(
            lambda: read(own_store, study.id).state is JobState.succeeded, "a whole tick has passed"
        )
    finally:
        reconciler.stop()
    assert (read(own_store, running).state, read(own_store, running).attempts) == (
        JobState.running,
        1,
    )


@pytest.mark.slow
def test_no_lease_is_taken_back_right_after_the_machine_slept(
    reconciler: Reconciler, own_store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease goes on while the machine sleeps, and so must the clock that looks for gaps."""
    running, _ = claimed(own_store)
    reconciler.tick()
    asleep = settings.lease_seconds * 10
    monkeypatch.setattr("service.background.reconciler.clock", lambda: clock() + asleep)
    let_lease_run_out(own_store, running)
    for _ in range(3):
        reconciler.tick()
    assert (read(own_store, running).state, read(own_store, running).attempts) == (
        JobState.running,
        1,
    )
    awake = asleep + settings.lease_seconds + 1  # the worker did not renew it: it has died
    monkeypatch.setattr("service.background.reconciler.clock", lambda: clock() + awake)
    reconciler._ticked_at = clock() + awake
    reconciler.tick()
    assert read(own_store, running).state is JobState.queued


@pytest.mark.slow
def test_one_study_that_cannot_be_made_to_its_end_fails_and_does_not_stop_the_others(
    reconciler: Reconciler, own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.jobs.CELLS_AT_ONCE", 2)
    broken, sound = submit(own_store, STUDY), submit(own_store, STUDY, fresh=True)
    with own_store.database.writing() as session:
        session.execute(
            update(JobRow)
            .where(JobRow.id == broken.id)
            .values(spec={"kind": "study", "preset": "of another version"})
        )
    reconciler.tick()
    assert [len(own_store.jobs.children(study.id)) for study in (broken, sound)] == [2, 3]
    for study in (broken, sound):
        for child, _ in own_store.jobs.children(study.id):
            end(own_store, child, well=True)
    reconciler.tick()
    failed = read(own_store, broken.id)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == (JobState.failed, "study_changed")
    assert read(own_store, sound.id).state is JobState.succeeded


def sweep_now(reconciler: Reconciler) -> None:
    reconciler._sweep_due = 0.0
    reconciler.tick()


def test_artifacts_of_no_job_are_left_alone_and_logged_once(
    reconciler: Reconciler, own_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    stray, known = "job_" + "a" * 32, submit(own_store).id
    sweep_now(reconciler)
    for owner in (stray, known):
        reconciler.artifacts.put(owner, "step.safetensors", b"weights")
        os.utime(reconciler.artifacts.root / owner, (1.0, time.time() - UNKNOWN_SECONDS - 9))
    for _ in range(3):
        sweep_now(reconciler)
    assert reconciler.artifacts.owners() == sorted([stray, known])
    [logged] = [message for message in caplog.messages if stray in message]
    assert logged.startswith("artifacts of 1 jobs that the database does not know (0.0 MB): ")
    assert "`fflab retention --apply` removes them" in logged
    assert known not in logged


@pytest.mark.slow
def test_nothing_is_swept_where_it_is_not_certain_whose_it_is(
    own_store: Store, broker: Broker, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    policy = Retention.model_validate({"train": {"count": 0}})
    reconciler = Reconciler(own_store, settings.model_copy(update={"retention": policy}), None)
    job = submit(own_store)
    end(own_store, job, well=True)
    reconciler.artifacts.put(job.id, "step.safetensors", b"weights")
    reconciler.artifacts.put_label("another")
    for _ in range(3):
        sweep_now(reconciler)
    assert reconciler.artifacts.owners() == [job.id]
    assert own_store.jobs.get(job.id) is not None
    [logged] = [message for message in caplog.messages if message.startswith("nothing is swept")]
    assert str(settings.artifact_place) in logged
    (settings.artifact_place / ".service").unlink()
    sweep_now(reconciler)
    assert reconciler.artifacts.owners() == []
    assert own_store.jobs.get(job.id) is None
