"""The embedded stack: Redis, API and worker as one supervised process tree on loopback.

All of its state is in one folder, the home.
"""

import fcntl
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

import httpx
from pydantic import BaseModel, ValidationError

from service.background.broker_check import is_reachable, warn_if_unfit
from service.host.disk import Ballast
from service.host.end_signals import EndRequest
from service.host.listening import listen
from service.host.private import make_private_folder
from service.host.processes import belongs_to_home, kill_group, start_ticks
from service.host.start_failures import ServeError
from service.settings import Settings
from service.stack.child_process import ChildProcess, rotate
from service.stack.redis_server import BrokerError, EmbeddedRedis
from service.store.start_checks import refuse_others_state

HOST = "127.0.0.1"
START_SECONDS = 60.0
STATE_FILE = "stack.json"
POLL_SECONDS = 0.1
STOP_GRACE_SECONDS = 5.0  # beyond the time that a runner is given
ORPHAN_SECONDS = 20.0

log = logging.getLogger(__name__)


class StackError(Exception):
    """The stack cannot start; the message is one line that says why and what to do."""


class StartInterrupted(StackError):
    """A signal to end came before the stack was up; nothing is left running."""


class Stack:
    """Redis, API and worker: started together, restarted when they die, stopped together.

    One thread starts, restarts and stops all children, because the kernel ends a child when the
    *thread* that started it ends.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        port: int = 8000,
        device: str = "auto",
        end_request: EndRequest | None = None,
    ) -> None:
        self.settings = settings
        self.port = port
        self.device = device
        self.home = settings.root
        self.redis_url = settings.redis_url.get_secret_value() if settings.redis_url else ""
        self.children: dict[str, ChildProcess] = {}
        self._lock: IO[str] | None = None
        self._thread: threading.Thread | None = None
        # whether stack.json is to be written, and whether the last try failed
        self._is_state_due = self._is_unwritten = False
        self._settled, self._stopping = threading.Event(), end_request or EndRequest()
        # None once the start has succeeded
        self._error: StackError | None = StackError("the stack's own thread failed")

    def __enter__(self) -> "Stack":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL of the API."""
        return f"http://{HOST}:{self.port}"

    @property
    def state_file(self) -> Path:
        """The file that says what runs: URL, process ids, broker.

        It holds the broker's password, so that only the owner may read it.
        """
        return self.home / STATE_FILE

    def start(self) -> None:
        """Start all children, and return when the API is ready.

        Raises StackError, with nothing left running.
        """
        self._lock = lock(self.home)
        Ballast(self.home).drop_if_full()
        try:
            stop_orphans(self.home, self._stopping)
            self.port = claim_port(self.port)
            refuse_foreign_artifacts(self.settings)
            self._refuse_interrupted()
            self._thread = threading.Thread(target=self._supervise, name="stack")
            self._thread.start()
            self._settled.wait()
            if self._error:
                raise self._error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop worker, API and Redis, in this order, and return when none is left running.

        The running job is queued again.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def run(self) -> None:
        """Wait until the end is requested, then stop."""
        try:
            while self._thread is not None and self._thread.is_alive():
                self._thread.join(1.0)
        finally:
            self.stop()

    def _refuse_interrupted(self) -> None:
        if self._stopping.is_set():
            raise StartInterrupted(
                f"{self._stopping.name or 'the end'} came before fflab was up: nothing is left "
                f"running"
            )

    def _supervise(self) -> None:
        try:
            self._start_children()
            self._error = None
            self._settled.set()
            while not self._stopping.wait(POLL_SECONDS):
                self._restart_children()
        except StackError as error:
            self._error = error
        except OSError as error:
            self._error = cannot_write(self.home, error)
        finally:
            for child in reversed(self.children.values()):
                child.stop(self.settings.stop_seconds + STOP_GRACE_SECONDS)
            self.state_file.unlink(missing_ok=True)
            self._settled.set()

    def _restart_children(self) -> None:
        """Start dead children again. On a full disk they run on, and stack.json is not renewed."""
        try:
            if [child for child in self.children.values() if child.restart_if_dead()]:
                self._is_state_due = True
            if self._is_state_due:
                self._write_state()
        except OSError as error:
            if not self._is_unwritten:
                log.warning("%s", cannot_write(self.home, error))
            self._is_unwritten = True
        else:
            self._is_unwritten = False

    def _start_children(self) -> None:
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        if self.redis_url:
            warn_if_unfit(self.settings.redis_url)
        else:
            self._start_redis()
        environment = environment_of(self.settings, self.redis_url)
        python = [sys.executable, "-P", "-m"]
        api = [*python, "service.serve", "--host", HOST, "--port", str(self.port)]
        self._start(
            ChildProcess("api", api, environment=environment, log_file=self._log_file("api"))
        )
        worker = [*python, "workers", "--device", self.device]
        self._start(
            ChildProcess(
                "worker", worker, environment=environment, log_file=self._log_file("worker")
            )
        )
        self._wait_until_ready(self.children["api"], lambda: is_ready(self.url), failures=1)

    def _start_redis(self) -> None:
        try:
            server = EmbeddedRedis(self.home / "redis")
            server.prepare()
        except BrokerError as error:
            raise StackError(str(error)) from error
        self.redis_url = server.url
        child = ChildProcess(
            "redis",
            server.command,
            environment=os.environ | {"FFLAB_HOME": str(self.home)},
            log_file=self._log_file("redis"),
            folder=server.folder,
            after_failure=server.delete_data,
        )
        self._start(child)
        self._wait_until_ready(child, lambda: is_reachable(server.url), failures=3)

    def _log_file(self, name: str) -> Path:
        path = self.home / "logs" / f"{name}.log"
        rotate(path)
        return path

    def _start(self, child: ChildProcess) -> None:
        self.children[child.name] = child
        child.start()
        self._write_state()

    def _wait_until_ready(
        self, child: ChildProcess, ready: Callable[[], bool], *, failures: int
    ) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            for other in self.children.values():
                other.restart_if_dead()
            if child.failures >= failures:
                raise StackError(
                    f"{child.name} did not start: {child.reason()} (log: {child.log_file})"
                )
            if time.monotonic() > deadline:
                raise StackError(
                    f"{child.name} was not ready within {START_SECONDS:.0f} s (log: "
                    f"{child.log_file})"
                )
            self._stopping.wait(POLL_SECONDS)
            self._refuse_interrupted()
        self._write_state()

    def _write_state(self) -> None:
        running = {name: child.pid for name, child in self.children.items() if child.pid}
        state = StackState(
            url=self.url,
            redis_url=self.redis_url,
            pid=os.getpid(),
            home=Home.of(self.home),
            children={
                name: ProcessId(pid=pid, started=start_ticks(pid)) for name, pid in running.items()
            },
        )
        draft = self.state_file.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(state.model_dump_json(indent=1))
        draft.replace(self.state_file)
        self._is_state_due = False


class ProcessId(BaseModel):
    """A process: its id and when it was started, which together are never given twice."""

    pid: int
    started: str | None


class Home(BaseModel):
    """The identity of a home.

    A copy of it has another path, and a folder that was put in its place has another inode.
    """

    path: Path
    device: int
    inode: int

    @classmethod
    def of(cls, folder: Path) -> "Home":
        """The identity of a folder as it is now."""
        found = folder.stat()
        return cls(path=folder.resolve(), device=found.st_dev, inode=found.st_ino)


class StackState(BaseModel):
    """The content of stack.json. `home` is None if an earlier version wrote it."""

    url: str
    redis_url: str
    pid: int
    home: Home | None = None
    children: dict[str, ProcessId]


def read_state(file: Path) -> StackState | None:
    """Read stack.json; None if there is no readable one."""
    try:
        return StackState.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def lock(home: Path) -> IO[str]:
    """Lock the home for this process until the returned file is closed.

    Raises StackError if another stack has locked it.
    """
    try:
        make_private_folder(home)
        held = (home / "stack.lock").open("a")
    except OSError as error:
        raise StackError(
            f"the home {home} cannot be used: {error.strerror}; choose another with --home"
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        other = read_state(home / STATE_FILE)
        where = f" at {other.url}" if other else ""
        raise StackError(
            f"a stack is running already in {home}{where}: stop it first, or choose another --home"
        ) from error
    return held


def cannot_write(home: Path, error: OSError) -> StackError:
    """The error of a home that cannot be written to."""
    what = f"{error.strerror} ({error.filename or home})"
    return StackError(
        f"the home {home} cannot be written: {what}; make room, or choose another with --home"
    )


def claim_port(port: int) -> int:
    """Return the port, or a free one for 0. Raises StackError if something listens there."""
    try:
        with listen(HOST, port) as probe:
            claimed: int = probe.getsockname()[1]
            return claimed
    except ServeError as error:
        raise StackError(str(error)) from error


def refuse_foreign_artifacts(settings: Settings) -> None:
    """Raise StackError if the artifacts may belong to another database.

    The children check it too, but could say so only in a log.
    """
    try:
        refuse_others_state(settings)
    except ServeError as error:
        raise StackError(str(error)) from error


def stop_orphans(home: Path, end_request: EndRequest | None = None) -> None:
    """Wait for orphaned children to exit, then SIGKILL them.

    Orphans are left by a supervisor that was killed; the kernel has sent them SIGTERM. Processes
    that are not known to belong to this home are left alone: the home may be a copy of one whose
    stack runs. With an end request the rest is left to the next start.
    """
    state_file = home / STATE_FILE
    state = read_state(state_file)
    if state is None:
        return
    deadline = time.monotonic() + ORPHAN_SECONDS
    for name, child in state.children.items():
        if is_running(child) and not is_ours(child, state, home):
            log.warning(
                "%s names a running %s (process %d) that is not of this home: it is left alone",
                state_file,
                name,
                child.pid,
            )
            continue
        while is_running(child):
            if end_request is not None and end_request.is_set():
                return
            if time.monotonic() > deadline:
                kill_group(child.pid)
            time.sleep(POLL_SECONDS)
    state_file.unlink(missing_ok=True)


def is_running(child: ProcessId) -> bool:
    """Whether this process, and not another with its id, is running."""
    return child.started is not None and start_ticks(child.pid) == child.started


def is_ours(child: ProcessId, state: StackState, home: Path) -> bool:
    """Whether a process that stack.json names belongs to this home.

    Where stack.json names no home (earlier versions), the process itself must show that it belongs
    to it.
    """
    seen = belongs_to_home(child.pid, home)
    if state.home is None:
        return seen is True
    return state.home == Home.of(home) and seen is not False


def environment_of(settings: Settings, redis_url: str) -> dict[str, str]:
    """The environment by which a child reads the same settings, however this process got them."""
    given = settings.model_dump(
        mode="json",
        include=settings.model_fields_set - {"home", "redis_url", "api_key"},
        exclude_none=True,
    )
    variables = {
        f"FFLAB_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in given.items()
    }
    return (
        os.environ
        | variables
        | {"FFLAB_HOME": str(settings.root), "FFLAB_REDIS_URL": redis_url, "PYTHONUNBUFFERED": "1"}
    )


def is_ready(url: str) -> bool:
    """Whether an API at a URL answers that its database and broker are reachable."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False
