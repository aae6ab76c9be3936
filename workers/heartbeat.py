"""The worker's heartbeat in the database, while it works and while it idles, and its watchdog."""

import logging
import os
import platform
import signal
import threading
import time

from ffengine.plugins import REGISTRY
from ffengine.spec_versions import SPEC_VERSION
from ffengine.version import VERSION
from service.background.broker_check import is_reachable
from service.background.periodic import PeriodicThread
from service.schemas import WorkerInfo
from service.store import Workers
from workers.supervisor import Supervisor

HEARTBEAT_SECONDS = 3.0
# a worker that idles for so long, beside a job that waits for so long, receives no messages
STARVED_SECONDS = 60.0
KILL_SECONDS = 15.0
LEAVE_SECONDS = 2.0  # for signing off; the process ends then

log = logging.getLogger(__name__)


class HeartbeatThread(PeriodicThread):
    """Writes a heartbeat every few seconds, and at once when the supervisor's state changes.

    Runs in Celery's child process, which lives whether or not it has a job.
    """

    def __init__(self, supervisor: Supervisor, workers: Workers, device: str) -> None:
        super().__init__("heartbeat", HEARTBEAT_SECONDS)
        self.supervisor, self.workers, self.device = supervisor, workers, device
        self.main_pid = os.getppid()
        self._leaving = threading.Event()

    def tick(self) -> None:
        """Write a heartbeat, or sign off; replace a worker that is starved."""
        if self._leaving.is_set():
            self.workers.sign_off(self.supervisor.worker)
            self._stopping.set()
            return
        if self.supervisor.shutdown.is_set():
            return
        self.supervisor.is_drained = self.workers.heartbeat(self._info())
        if self._is_starved():
            self._replace_worker()

    def sign_off(self) -> None:
        """Write no more heartbeats, and remove the worker from the list.

        Where the database does not answer, the worker is forgotten when it has been silent.
        """
        self._leaving.set()
        self.wake()
        self.join(LEAVE_SECONDS)

    def _info(self) -> WorkerInfo:
        self.supervisor.has_room()  # an idle worker is not asked for another job
        self.supervisor.prove_storage()
        self.supervisor.look_at_runner()
        ready = self.supervisor.runner.ready if self.supervisor.runner else None
        return WorkerInfo(
            id=self.supervisor.worker,
            host=platform.node(),
            pid=self.main_pid,
            device=ready.device if ready else self.device,
            device_name=ready.device_name if ready else None,
            memory_bytes=ready.memory_bytes if ready else None,
            host_memory_bytes=ready.host_memory_bytes if ready else None,
            threads=ready.threads if ready else None,
            tags=self.supervisor.settings.tags_of_workers,
            version=VERSION,
            job=self.supervisor.current_job,
            paused=self.supervisor.paused,
            plugins=REGISTRY.plugins,
            spec_version=SPEC_VERSION,
        )

    def _is_starved(self) -> bool:
        """Whether this worker idles beside a waiting job although the broker answers.

        Its consumer must have stopped receiving messages.
        """
        idle_since, broker = self.supervisor.idle_since, self.supervisor.settings.redis_url
        if idle_since is None or broker is None or time.monotonic() - idle_since < STARVED_SECONDS:
            return False
        if (
            self.supervisor.paused or self.supervisor.is_drained
        ):  # it hears of jobs, and begins none
            return False
        waited = self.supervisor.queue.longest_wait_seconds(
            able=True, fitness=self.supervisor.fitness
        )
        return (
            waited is not None
            and waited > STARVED_SECONDS
            and is_reachable(broker.get_secret_value())
        )

    def _replace_worker(self) -> None:
        """End the worker with SIGTERM, then SIGKILL, so that its supervisor starts a new one."""
        log.error(
            "idle for %.0f s beside a waiting job while the broker answers: this worker ends, to "
            "be replaced",
            STARVED_SECONDS,
            extra={"worker": self.supervisor.worker},
        )
        self._signal(signal.SIGTERM)
        time.sleep(KILL_SECONDS)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Signal the worker's main process, unless it has ended: its pid may be given again."""
        if os.getppid() == self.main_pid:
            os.kill(self.main_pid, number)
