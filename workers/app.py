"""The Celery application: one task, whose message wakes the worker."""

import functools
import logging
import os
import platform
import select
import signal
import threading

from celery import Celery
from celery.signals import (
    after_setup_logger,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutting_down,
)

from service.background.dispatcher import QUEUE, TASK
from service.encoding.log_format import LogFormatter, formatter, is_json
from service.host.end_signals import ignore_again, ignored_signals
from service.host.stay import FOR_EVER, Stay
from service.settings import Settings
from service.store import Store
from workers.departure import DepartureThread
from workers.heartbeat import HeartbeatThread
from workers.process import runner_command
from workers.supervisor import Supervisor

# without effect under early acknowledgement, but it must be longer than any delay of a message
VISIBILITY_SECONDS = 24 * 3600
IDLE_CHILD_SECONDS = 30.0

log = logging.getLogger(__name__)


class NoBroker(Exception):
    """No broker is configured, so that no message could wake the worker."""

    def __init__(self) -> None:
        super().__init__(
            "FFLAB_REDIS_URL is not set: a worker hears of jobs through Redis. Set it, or use "
            "`fflab up`, which brings its own."
        )


def configuration(settings: Settings) -> dict[str, object]:
    """Celery's settings: early acknowledgement, no results in Redis, and endless reconnecting.

    Raises NoBroker if FFLAB_REDIS_URL is not set.
    """
    if settings.redis_url is None:
        raise NoBroker
    return {
        "broker_url": settings.redis_url.get_secret_value(),
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        "task_ignore_result": True,
        "task_default_queue": QUEUE,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_publish_retry": False,
        "task_track_started": False,
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_concurrency": 1,
        "worker_pool": "prefork",
        "worker_proc_alive_timeout": IDLE_CHILD_SECONDS,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_SECONDS,
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    }


class ShutdownPipe:
    """A pipe from Celery's main process to its forked child.

    The child reads its end: the pipe is closed when the worker shuts down or its main process dies.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._open = True

    def close(self, **_signal: object) -> None:
        """Close this process's copy of the write end."""
        if self._open:
            self._open = False
            os.close(self._write)

    def wait(self, also: int) -> None:
        """Return when no process holds the write end open, or `also`, another pipe, has a byte."""
        select.select([self._read, also], [], [])


class WorkerSlot:
    """Celery's one child process, which runs one job at a time."""

    def __init__(
        self, settings: Settings, device: str, shutdown_pipe: ShutdownPipe, stay: Stay
    ) -> None:
        self.settings, self.device, self.shutdown_pipe = settings, device, shutdown_pipe
        self.stay = stay
        self.worker = f"{platform.node()}-{os.getpid()}"
        self.supervisor: Supervisor | None = None
        self.heartbeat: HeartbeatThread | None = None
        self.terminated = False

    def open(self, **_signal: object) -> None:
        """Start supervisor, runner and heartbeat in the child process, when it begins."""
        self.shutdown_pipe.close()  # so that only the main process holds the write end
        self._terminated_read, self._terminated_write = os.pipe()
        store = Store(self.settings.database, kept_connections=1)
        self.supervisor = Supervisor(
            store.queue,
            self.settings,
            self.worker,
            runner_command(self.device),
            service_id=functools.cache(store.database.service_id),
            stay=self.stay,
        )
        self.supervisor.ensure_runner()
        self.heartbeat = HeartbeatThread(self.supervisor, store.workers, self.device)
        self.supervisor.on_state_change = self.heartbeat.wake
        self.heartbeat.start()
        if self.stay != FOR_EVER:
            DepartureThread(self.supervisor, self.stay).start()
        threading.Thread(target=self._await_shutdown, name="await-shutdown", daemon=True).start()

    def run(self, job_id: str) -> None:
        """The task: run jobs until the queue is empty.

        The job that the message names is not looked for: another worker may have it by now.
        """
        log.debug("woken for %s", job_id, extra={"job_id": job_id, "worker": self.worker})
        if self.supervisor is None:
            return
        before = signal.signal(signal.SIGTERM, self._on_terminate)
        try:
            self.supervisor.run()
        finally:
            signal.signal(signal.SIGTERM, before)
        if self.terminated:
            signal.raise_signal(signal.SIGTERM)

    def close(self, **_signal: object) -> None:
        """Sign off, when the child process ends: the worker is listed no longer."""
        if self.heartbeat is not None:
            self.heartbeat.sign_off()

    def _on_terminate(self, _number: int, _frame: object) -> None:
        """Have the job handed back: systemd and Slurm send SIGTERM to all processes at once.

        A byte in a pipe, because a handler must not take the lock of an event. Between two tasks
        the pool's own handler ends the process.
        """
        self.terminated = True
        os.write(self._terminated_write, b"x")

    def _await_shutdown(self) -> None:
        self.shutdown_pipe.wait(self._terminated_read)
        if self.supervisor is not None:
            self.supervisor.shutdown.set()


def escape_lines(logger: logging.Logger, format: str, **_signal: object) -> None:
    """Write Celery's form of log lines with control characters as escapes, or as JSON."""
    for handler in logger.handlers:
        handler.setFormatter(formatter("worker") if is_json() else LogFormatter(format))


def create_app(settings: Settings, device: str, stay: Stay = FOR_EVER) -> Celery:
    """Create the application, and connect its slot to the signals of Celery's processes."""
    app = Celery("fflab", set_as_current=False)
    app.conf.update(configuration(settings))
    shutdown_pipe = ShutdownPipe()
    slot = WorkerSlot(settings, device, shutdown_pipe, stay)
    app.task(name=TASK)(slot.run)
    after_setup_logger.connect(escape_lines, weak=False)
    worker_process_init.connect(slot.open, weak=False)
    worker_process_shutdown.connect(slot.close, weak=False)
    worker_shutting_down.connect(shutdown_pipe.close, weak=False)
    ignored = ignored_signals()  # Celery handles SIGHUP anyway, by starting anew
    worker_ready.connect(lambda **_signal: ignore_again(ignored), weak=False)
    return app
