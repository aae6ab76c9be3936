"""The worker's sign of life in the database, while it works and while it idles, and its own
watchdog.
"""

import logging
import os
import platform
import signal
import threading
import time

from ffengine.version import VERSION
from service.background.broker_check import answers
from service.schemas import WorkerInfo
from service.store import Workers
from workers.db_retry import DATABASE_AWAY
from workers.supervisor import Supervisor

BEAT_SECONDS = 3.0
# idle for so long beside a job that waits for so long: this worker no longer hears its broker
STARVED_SECONDS = 60.0
KILL_SECONDS = 15.0

log = logging.getLogger(__name__)


class HeartbeatThread(threading.Thread):
    """Beats in the child process, which is there whether or not a job is."""

    def __init__(self, supervisor: Supervisor, workers: Workers, device: str) -> None:
        super().__init__(name="heart", daemon=True)
        self.supervisor, self.workers, self.device = supervisor, workers, device
        self.main_pid = os.getppid()

    def run(self) -> None:
        """Beat until the process ends."""
        while not self.supervisor.shutdown.is_set():
            try:
                self.workers.heartbeat(self._info())
                if self._starves():
                    self._replace_worker()
            except DATABASE_AWAY as error:
                log.warning("no heartbeat: %s", str(error).splitlines()[0])
            self.supervisor.news.wait(BEAT_SECONDS)
            self.supervisor.news.clear()

    def _info(self) -> WorkerInfo:
        ready = self.supervisor.runner.ready if self.supervisor.runner else None
        return WorkerInfo(
            id=self.supervisor.worker,
            host=platform.node(),
            pid=self.main_pid,
            device=ready.device if ready else self.device,
            device_name=ready.device_name if ready else None,
            memory_bytes=ready.memory_bytes if ready else None,
            version=VERSION,
            job=self.supervisor.current_job,
        )

    def _starves(self) -> bool:
        """Whether this slot has been idle beside a waiting job for so long that its consumer must
        have gone deaf.
        """
        idle_since, broker = self.supervisor.idle_since, self.supervisor.settings.redis_url
        if idle_since is None or broker is None or time.monotonic() - idle_since < STARVED_SECONDS:
            return False
        waited = self.supervisor.queue.longest_wait_seconds()
        return (
            waited is not None and waited > STARVED_SECONDS and answers(broker.get_secret_value())
        )

    def _replace_worker(self) -> None:
        """End the worker, so that whoever supervises it starts a new one: gently, then not."""
        log.error(
            "idle for %.0f s beside a waiting job while the broker answers: this worker ends, to "
            "be replaced",
            STARVED_SECONDS,
        )
        self._signal(signal.SIGTERM)
        time.sleep(KILL_SECONDS)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Signal the worker's main process while it is still our parent: once that has ended, its
        number may be another's.
        """
        if os.getppid() == self.main_pid:
            os.kill(self.main_pid, number)
