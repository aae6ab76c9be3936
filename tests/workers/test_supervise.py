"""The supervisor: how an attempt is watched, stopped, by force if need be, and written down."""

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from ffengine.spec import CheckSpec, TrainSpec
from service.background.waiting import why_jobs_wait
from service.jobs import JobState
from service.settings import Settings
from service.store import Store, Workers
from tests.factories import losses
from tests.workers.jobs import TRAIN, WORKER
from workers.heartbeat import HeartbeatThread
from workers.process import runner_command
from workers.supervisor import Supervisor

# Runners that compute nothing: what the supervisor sees of a runner is its messages and its end.
PREAMBLE = """
import json, os, signal, sys, time
def send(**message): print(json.dumps(message), flush=True)
def ended(start, outcome):
    send(type="ended", job_id=start["job_id"], attempt=start["attempt"], outcome=outcome)
send(type="ready", device="cpu", device_name="none", memory_bytes=1)
start = json.loads(sys.stdin.readline())
open(sys.argv[1], "w").write(str(os.getpid()))
"""
OBEDIENT = PREAMBLE + "sys.stdin.readline(); ended(start, 'stopped'); sys.stdin.read()"
DEAF = PREAMBLE + "sys.stdin.read()"
STUBBORN = PREAMBLE + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(60)"
DYING = PREAMBLE + "os.kill(os.getpid(), signal.SIGKILL)"
QUITTING = PREAMBLE + "sys.exit(7)"
FINISHING = PREAMBLE + "ended(start, 'succeeded'); sys.stdin.read()"

Submit = Callable[[TrainSpec | CheckSpec], str]

pytestmark = pytest.mark.slow  # each starts a process


class Scene:
    """A supervisor with a runner of a kind, and what became of a job in its hands."""

    def __init__(self, store: Store, settings: Settings, script: str, mark: Path) -> None:
        self.store, self.mark = store, mark
        self.supervisor = Supervisor(
            store.queue, settings, WORKER, [sys.executable, "-c", script, str(mark)]
        )

    @contextmanager
    def running(self, job_id: str) -> Iterator[None]:
        """Act while the job is in the runner's hands; afterwards the supervisor has let it go."""
        actor = threading.Thread(target=self._act, args=(job_id,))
        self.acts: list[Callable[[], object]] = []
        yield
        actor.start()
        self.supervisor.run()
        actor.join()

    def _act(self, job_id: str) -> None:
        wait_until(
            lambda: self.mark.exists() and self.mark.read_text(),
            f"{job_id} is handed over",
            pause=0.01,
        )
        for act in self.acts:
            act()

    def runner_is_gone(self) -> bool:
        return not psutil.pid_exists(int(self.mark.read_text()))


@pytest.fixture
def scene(store: Store, settings: Settings, tmp_path: Path) -> Iterator[Callable[[str], Scene]]:
    scenes: list[Scene] = []

    def made(script: str) -> Scene:
        # who obeys is given the time that a busy machine may need for it; force is for the others
        given = {"stop_seconds": 5 * PATIENCE_SECONDS} if script == OBEDIENT else {}
        scenes.append(Scene(store, settings.model_copy(update=given), script, tmp_path / "mark"))
        return scenes[-1]

    yield made
    for one in scenes:
        one.supervisor.shutdown.set()
        if one.supervisor.runner is not None:
            one.supervisor.runner.kill()


def state_of(store: Store, job_id: str) -> JobState:
    job = store.jobs.get(job_id)
    assert job is not None
    return job.state


@pytest.mark.parametrize(
    ("script", "killed"),
    [(OBEDIENT, False), (DEAF, True), (STUBBORN, True)],
    ids=["by its flag", "by SIGTERM", "by SIGKILL"],
)
def test_a_cancelled_run_is_stopped(
    store: Store, submit: Submit, scene: Callable[[str], Scene], script: str, killed: bool
) -> None:
    job_id = submit(TRAIN)
    there = scene(script)
    with there.running(job_id):
        there.acts.append(lambda: store.actions.cancel(job_id))
    assert state_of(store, job_id) == JobState.cancelled
    assert there.runner_is_gone() == killed


def test_a_paused_run_is_paused(
    store: Store, submit: Submit, scene: Callable[[str], Scene]
) -> None:
    job_id = submit(TRAIN)
    there = scene(OBEDIENT)
    with there.running(job_id):
        there.acts.append(lambda: store.actions.pause(job_id))
    assert state_of(store, job_id) == JobState.paused


def test_no_job_is_begun_while_the_disk_has_less_free_than_the_reserve(
    store: Store,
    submit: Submit,
    scene: Callable[[str], Scene],
    caplog: pytest.LogCaptureFixture,
) -> None:
    job_id = submit(TRAIN)
    supervisor = scene(FINISHING).supervisor
    enough = supervisor.settings
    supervisor.settings = enough.model_copy(update={"disk_reserve": 2**60})
    for _ in range(3):
        supervisor.run()
    assert state_of(store, job_id) == JobState.queued
    assert [record.getMessage() for record in caplog.records] == [
        f"no job is begun: {supervisor.lack_of_room}"
    ]
    heartbeat = HeartbeatThread(supervisor, Workers(store.database), "cpu")
    supervisor.idle_since = 0.0
    assert not heartbeat._is_starved(), "it hears of the job, and need not be replaced"
    supervisor.settings = enough
    supervisor.run()
    assert supervisor.lack_of_room is None
    assert store.jobs.get(job_id).attempts == 1  # type: ignore[union-attr]
    assert "jobs are begun again" in caplog.text


def test_log_records_of_an_attempt_have_fields_to_search_by(
    submit: Submit, scene: Callable[[str], Scene], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    job_id = submit(TRAIN)
    there = scene(DYING)
    there.supervisor.run()
    records = [record for record in caplog.records if record.message.startswith(job_id)]
    assert [
        (record.__dict__["job_id"], record.__dict__["attempt"], record.__dict__["worker"])
        for record in records
    ] == [(job_id, attempt, WORKER) for attempt in (1, 2, 3)]


@pytest.mark.parametrize(
    "script", [OBEDIENT, DEAF, STUBBORN], ids=["by its flag", "by SIGTERM", "by SIGKILL"]
)
def test_at_shutdown_the_job_is_handed_back_uncounted(
    store: Store, submit: Submit, scene: Callable[[str], Scene], script: str
) -> None:
    job_id = submit(TRAIN)
    there = scene(script)
    with there.running(job_id):
        there.acts.append(there.supervisor.shutdown.set)
    assert state_of(store, job_id) == JobState.queued
    again = store.queue.claim(job_id, WORKER, 5)
    assert again is not None
    assert (again.attempt, losses(store, job_id)) == (2, 0)


@pytest.mark.parametrize(
    ("script", "words"),
    [(DYING, "was killed (by hand, or because memory ran out)"), (QUITTING, "ended with code 7")],
    ids=["killed", "quit"],
)
def test_a_run_that_keeps_dying_fails_in_the_end(
    store: Store, submit: Submit, scene: Callable[[str], Scene], script: str, words: str
) -> None:
    job_id = submit(TRAIN)
    there = scene(script)
    there.supervisor.run()
    states = [
        event.data["state"]
        for event in store.events.of(job_id, after=0, limit=100)
        if event.type == "state"
    ]
    assert states == [*["queued", "running"] * 3, "failed"]
    job = store.jobs.get(job_id)
    assert job is not None
    assert job.error is not None
    assert job.error.code == "worker_lost"
    assert words in job.error.detail


def test_a_run_that_lost_its_lease_is_stopped_and_nothing_is_written(
    store: Store, submit: Submit, scene: Callable[[str], Scene], settings: Settings
) -> None:
    job_id = submit(TRAIN)
    there = scene(DEAF)

    def take_over() -> None:
        store.queue.lose(job_id, 1, "a test", max_losses=9)
        assert store.queue.claim(job_id, "another", settings.lease_seconds)

    with there.running(job_id):
        there.acts.append(take_over)
    assert state_of(store, job_id) == JobState.running
    assert there.runner_is_gone()
    store.queue.renew(job_id, 2, settings.lease_seconds)


def test_the_same_message_delivered_twice_runs_once(
    store: Store, submit: Submit, scene: Callable[[str], Scene]
) -> None:
    submit(TRAIN)
    there = scene(FINISHING)
    there.supervisor.run()
    there.mark.unlink()
    there.supervisor.run()
    assert not there.mark.exists()


def test_a_runner_stays_warm_from_job_to_job(
    store: Store, submit: Submit, scene: Callable[[str], Scene]
) -> None:
    looping = (
        PREAMBLE + "ended(start, 'succeeded')\nstart = "
        "json.loads(sys.stdin.readline())\nended(start, 'succeeded')\nsys.stdin.read()"
    )
    there = scene(looping)
    runner = there.supervisor.ensure_runner()
    for _ in range(2):
        submit(TRAIN)
        there.supervisor.run()
    assert there.supervisor.runner is runner
    assert runner.alive


def test_a_worker_whose_torch_is_broken_begins_no_job_and_says_why(
    store: Store,
    settings: Settings,
    submit: Submit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would lose every job until the job fails, although another worker could compute it."""
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch_cpu.so: cannot open it')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    supervisor = Supervisor(store.queue, settings, WORKER, runner_command("cpu"))
    heartbeat = HeartbeatThread(supervisor, store.workers, "cpu")
    job_id = submit(TRAIN)
    supervisor.ensure_runner()
    try:
        supervisor.run()
        assert state_of(store, job_id) == JobState.queued
        assert losses(store, job_id) == 0
        heartbeat.tick()
        (worker,) = store.workers.alive(600.0)
        why = "ImportError: libtorch_cpu.so: cannot open it"
        assert (worker.can_compute, worker.paused) == (False, f"cannot compute: {why}")
        assert why_jobs_wait([worker], broker_ok=True, no_room=None) == (
            f"waits: no worker can compute: {why}; repair its installation, `fflab doctor` on its "
            f"machine says more"
        )
        supervisor.command = [sys.executable, "-c", FINISHING, str(tmp_path / "mark")]
        supervisor.shutdown.clear()
        assert supervisor._has_runner(), "it is tried anew at the next message"
        heartbeat.tick()
        (worker,) = store.workers.alive(600.0)
        assert (worker.can_compute, worker.paused) == (True, None)
    finally:
        supervisor.close()
