"""The Celery application: one task whose message is a doorbell with a job's id."""

import logging
import os
import platform
import threading

from celery import Celery
from celery.signals import worker_process_init, worker_shutting_down

from service.background.dispatcher import QUEUE, TASK
from service.settings import Settings
from service.store import Store
from workers.heartbeat import HeartbeatThread
from workers.process import runner_command
from workers.supervisor import Supervisor

VISIBILITY_SECONDS = (
    24 * 3600
)  # of no consequence with early acknowledgement, but it must be longer than any delay
IDLE_CHILD_SECONDS = 30.0

log = logging.getLogger(__name__)


class NoBroker(Exception):
    """FFLAB_REDIS_URL is not set: a worker hears of jobs through Redis.

    Set it, or use `fflab up`, which brings its own.
    """


def configuration(settings: Settings) -> dict[str, object]:
    """Celery's settings: early acknowledgement, nothing kept in Redis but doorbells, and no end to
    reconnecting.
    """
    if settings.redis_url is None:
        raise NoBroker(" ".join((NoBroker.__doc__ or "").split()))
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
    """The main process's line to its child, which is forked from it: closed means that the worker
    is to stop, or gone.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._open = True

    def say(self, **_signal: object) -> None:
        """Close our end of the line."""
        if self._open:
            self._open = False
            os.close(self._write)

    def wait(self) -> None:
        """Return when every other process has closed its end."""
        os.read(self._read, 1)


class WorkerSlot:
    """The place where one job at a time is seen through: Celery's one child process."""

    def __init__(self, settings: Settings, device: str, shutdown_pipe: ShutdownPipe) -> None:
        self.settings, self.device, self.shutdown_pipe = settings, device, shutdown_pipe
        self.worker = f"{platform.node()}-{os.getpid()}"
        self.supervisor: Supervisor | None = None

    def open(self, **_signal: object) -> None:
        """In the child, when it begins: a database connection of its own, a runner that loads
        torch, a heartbeat.
        """
        self.shutdown_pipe.say()  # the child's copy of the end that the main process will close
        store = Store(self.settings.database)
        self.supervisor = Supervisor(
            store.queue, self.settings, self.worker, runner_command(self.device)
        )
        self.supervisor.warm()
        HeartbeatThread(self.supervisor, store.workers, self.device).start()
        threading.Thread(target=self._await_shutdown, name="farewell", daemon=True).start()

    def run(self, job_id: str) -> None:
        """The task: work until the queue is empty.

        The job that the bell was rung for may be another's by now, or not yet due.
        """
        log.debug("the bell rang for %s", job_id)
        if self.supervisor is not None:
            self.supervisor.run()

    def _await_shutdown(self) -> None:
        self.shutdown_pipe.wait()
        if self.supervisor is not None:
            self.supervisor.shutdown.set()


def create_app(settings: Settings, device: str) -> Celery:
    """The application, with its slot wired to the life of Celery's processes."""
    app = Celery("fflab", set_as_current=False)
    app.conf.update(configuration(settings))
    shutdown_pipe = ShutdownPipe()
    slot = WorkerSlot(settings, device, shutdown_pipe)
    app.task(name=TASK)(slot.run)
    worker_process_init.connect(slot.open, weak=False)
    worker_shutting_down.connect(shutdown_pipe.say, weak=False)
    return app
