"""The supervisor: how an attempt is watched, stopped, by force if need be, and written down."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from ffengine.spec import CheckSpec, TrainSpec
from service.artifacts import Artifacts
from service.background.waiting import why_jobs_wait
from service.jobs import JobState
from service.settings import Settings
from service.store import Store, Workers
from tests.factories import losses
from tests.workers.jobs import TRAIN, WORKER
from workers.heartbeat import HeartbeatThread
from workers.process import runner_command
from workers.supervisor import TRY_AGAIN_SECONDS, Supervisor

# Runners that compute nothing: what the supervisor sees of a runner is its messages and its end.
PREAMBLE = """
import json, os, signal, sys, time
def send(**message): print(json.dumps(message), flush=True)
def ended(start, outcome, **rest):
    send(type="ended", job_id=start["job_id"], attempt=start["attempt"], outcome=outcome, **rest)
def next_start():
    start = json.loads(sys.stdin.readline())
    send(type="begins", job_id=start["job_id"], attempt=start["attempt"])
    return start
send(type="ready", device="cpu", device_name="none", memory_bytes=2**40)
"""
NEVER_BEGINNING = PREAMBLE + "sys.stdin.read()"
UNREADING = PREAMBLE + "sys.stdin.readline(); sys.exit(3)"
UNFIT = PREAMBLE + "while True: ended(next_start(), 'unfit', reason='EROFS')"
PREAMBLE += """
start = next_start()
open(sys.argv[1], "w").write(str(os.getpid()))
"""
BROKEN_DEVICE = PREAMBLE + "sys.exit(70)"
OBEDIENT = PREAMBLE + "sys.stdin.readline(); ended(start, 'stopped'); sys.stdin.read()"
DEAF = PREAMBLE + "sys.stdin.read()"
STUBBORN = PREAMBLE + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(60)"
FULL = (
    PREAMBLE.replace("start = next_start()", "first = next_start()")
    + """
ended(first, "out_of_memory", reason="MemoryError")
second = next_start()
open(sys.argv[1], "a").write(f" {first['in_parts']} {second['in_parts']}")
ended(second, "out_of_memory", reason="MemoryError, again")
sys.stdin.read()
"""
)
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
        for runner in (one.supervisor.runner, one.supervisor.successor):
            if runner is not None:
                runner.kill()


def state_of(store: Store, job_id: str) -> JobState:
    job = store.jobs.get(job_id)
    assert job is not None
    return job.state


@pytest.mark.parametrize(
    ("script", "killed"),
    [(OBEDIENT, False), (STUBBORN, True)],
    ids=["by its flag", "by SIGKILL"],
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


@pytest.mark.parametrize("script", [OBEDIENT, STUBBORN], ids=["by its flag", "by SIGKILL"])
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


def test_a_run_whose_memory_runs_out_is_tried_again_in_smaller_pieces_at_once(
    store: Store, submit: Submit, scene: Callable[[str], Scene]
) -> None:
    """Then it fails: there is no other machine."""
    job_id = submit(TRAIN)
    there = scene(FULL)
    there.supervisor.run()
    job = store.jobs.get(job_id)
    assert job is not None
    assert job.error is not None
    assert (job.state, job.attempts, job.error.code) == (JobState.failed, 2, "out_of_memory")
    assert job.error.evidence["message"] == "MemoryError, again"
    assert there.mark.read_text().split()[1:] == ["False", "True"]
    assert losses(store, job_id) == 0
    assert there.supervisor.machine_failures == []


@pytest.mark.parametrize(("kills", "code"), [(1, "out_of_memory"), (0, "worker_lost")])
def test_a_runner_that_the_kernel_killed_for_memory_is_told_from_others(
    store: Store,
    submit: Submit,
    scene: Callable[[str], Scene],
    monkeypatch: pytest.MonkeyPatch,
    kills: int,
    code: str,
) -> None:
    """Only the kernel's count of such kills is not the real one."""
    job_id, counted = submit(TRAIN), iter(range(0, 100 * kills + 1, kills or 1))
    monkeypatch.setattr("workers.supervisor.memory_kills", lambda: next(counted, 0))
    there = scene(DYING)
    there.supervisor.run()
    job = store.jobs.get(job_id)
    assert job is not None
    assert job.error is not None
    assert job.error.code == code
    assert job.attempts == (2 if kills else there.supervisor.settings.max_losses)


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
        PREAMBLE + "ended(start, 'succeeded')\nended(next_start(), 'succeeded')\nsys.stdin.read()"
    )
    there = scene(looping)
    runner = there.supervisor.ensure_runner()
    for _ in range(2):
        submit(TRAIN)
        there.supervisor.run()
    assert there.supervisor.runner is runner
    assert runner.alive


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (UNFIT, "EROFS"),
        (BROKEN_DEVICE, "its device failed"),
        (UNREADING, "its runner did not begin the job: its process ended with code 3"),
        (NEVER_BEGINNING, "its runner did not begin the job: its process was killed"),
    ],
    ids=["says so", "device", "gone", "silent"],
)
def test_after_two_failures_of_its_machine_a_worker_begins_no_job_for_a_while(
    store: Store,
    submit: Submit,
    scene: Callable[[str], Scene],
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    words: str,
) -> None:
    monkeypatch.setattr("workers.supervisor.BEGIN_SECONDS", 0.5)
    passed = 0.0
    job_id = submit(TRAIN)
    supervisor = scene(script).supervisor
    supervisor.clock = lambda: time.monotonic() + passed
    supervisor.run()
    supervisor.run()
    job = store.jobs.get(job_id)
    assert job is not None
    assert (job.state, job.attempts, losses(store, job_id)) == (JobState.queued, 2, 0)
    assert supervisor.paused is not None
    assert supervisor.paused.startswith(f"cannot compute: unfit: {words}")
    reasons = [
        event.data["reason"]
        for event in store.events.of(job_id, after=0, limit=100)
        if event.data.get("reason")
    ]
    assert reasons == 2 * [f"{WORKER} is unfit: {supervisor.machine_failures[-1]}"]
    passed += TRY_AGAIN_SECONDS
    assert supervisor.paused is None
    supervisor.run()
    assert store.jobs.get(job_id).attempts == 3, "one job is tried"  # type: ignore[union-attr]
    supervisor.command = [sys.executable, "-c", FINISHING, str(scene(FINISHING).mark)]
    passed += TRY_AGAIN_SECONDS
    supervisor.close()
    supervisor.run()
    assert (supervisor.paused, supervisor.machine_failures) == (None, [])


def test_no_job_is_begun_where_results_cannot_be_stored(
    store: Store,
    settings: Settings,
    submit: Submit,
    scene: Callable[[str], Scene],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As on a network folder that is not mounted: it is empty, or a file, or cannot be written."""
    job_id = submit(TRAIN)
    supervisor = scene(FINISHING).supervisor
    supervisor.service_id = lambda: "ours"
    supervisor.run()
    why = (
        f"{settings.artifact_place} has no service id, instead of ours: is the folder of the "
        "service mounted there?"
    )
    assert supervisor.paused == f"cannot compute: {why}"
    assert caplog.messages == [f"no job is begun: {why}"]
    Artifacts(settings.artifact_place).put_label("ours")
    (settings.artifact_place / ".service").rename(settings.home / "aside")
    settings.artifact_place.rmdir()
    settings.artifact_place.write_text("a file where a folder should be")
    supervisor.run()
    assert (
        supervisor.paused
        == f"cannot compute: {settings.artifact_place} cannot be used: Not a directory"
    )
    assert state_of(store, job_id) == JobState.queued
    settings.artifact_place.unlink()
    settings.artifact_place.mkdir()
    (settings.home / "aside").rename(settings.artifact_place / ".service")
    supervisor.run()
    assert not supervisor.paused
    assert store.jobs.get(job_id).attempts == 1  # type: ignore[union-attr]
    assert [path.name for path in settings.artifact_place.iterdir()] == [".service"]


LOOPING = PREAMBLE.rpartition("start =")[0] + "while True: ended(next_start(), 'succeeded')"


def test_a_runner_works_until_its_successor_is_ready(
    store: Store,
    submit: Submit,
    scene: Callable[[str], Scene],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("workers.supervisor.JOBS_PER_RUNNER", 2)
    there = scene(LOOPING)
    supervisor, gate = there.supervisor, tmp_path / "gate"
    first = supervisor.ensure_runner()

    def worked_off(count: int) -> None:
        jobs = [submit(TRAIN) for _ in range(count)]
        supervisor.run()
        assert [store.jobs.get(job).attempts for job in jobs] == count * [1]  # type: ignore[union-attr]

    waiting = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
    supervisor.command = [sys.executable, "-c", waiting + LOOPING, str(there.mark)]
    worked_off(4)
    assert (supervisor.runner, first.jobs) == (first, 4)
    gate.touch()
    wait_until(lambda: supervisor.successor and supervisor.successor.ready, "it is ready")
    worked_off(1)
    assert supervisor.runner is not first
    assert not first.alive
    broken = [sys.executable, "-c", "raise SystemExit('no torch')"]
    supervisor.command, second = broken, supervisor.runner
    worked_off(2)
    wait_until(lambda: supervisor.successor and supervisor.successor.closed.is_set(), "it ended")
    worked_off(1)
    assert supervisor.runner is second, "the one that works is kept"


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
