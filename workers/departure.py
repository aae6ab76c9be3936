"""Ends a worker whose stay is over, as a stop by its operator does."""

import logging
import os
import signal
import time

from service.background.periodic import PeriodicThread
from service.host.stay import Stay
from workers.supervisor import Supervisor

CHECK_SECONDS = 0.5

log = logging.getLogger(__name__)


class DepartureThread(PeriodicThread):
    """Sends SIGTERM to the worker's main process once the stay is over.

    Runs in Celery's child process, which knows whether the worker has a job. A job that runs then
    is handed back with a checkpoint, which counts as no loss.
    """

    def __init__(self, supervisor: Supervisor, stay: Stay) -> None:
        super().__init__("departure", CHECK_SECONDS)
        self.supervisor, self.stay = supervisor, stay
        self.main_pid = os.getppid()
        self._ready_since: float | None = None

    def tick(self) -> None:
        """End the worker if its stay is over."""
        why = self.stay.over(self._idle_seconds(), time.time())
        if why is None or self.supervisor.shutdown.is_set():
            return
        log.info("this worker ends: %s", why, extra={"worker": self.supervisor.worker})
        self._stopping.set()
        if os.getppid() == self.main_pid:  # else it has ended, and its pid may be given again
            os.kill(self.main_pid, signal.SIGTERM)

    def _idle_seconds(self) -> float | None:
        """For how long the worker could have begun a job and has had none; None where it has one.

        The time in which the runner starts is no idling: to load PyTorch from a network folder may
        take minutes.
        """
        runner, idle_since = self.supervisor.runner, self.supervisor.idle_since
        if runner is None or not runner.started.is_set() or idle_since is None:
            return None
        now = self.supervisor.clock()
        if self._ready_since is None:
            self._ready_since = now
        return now - max(idle_since, self._ready_since)
