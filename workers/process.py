"""The handle on a runner: start it, talk to it, end it."""

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from pydantic import BaseModel, ValidationError

from service.processes import kill_group, tethered
from workers.protocol import FROM_RUNNER, Ended, Ready, line

REAP_SECONDS = 2.0

log = logging.getLogger(__name__)


def runner_command(device: str) -> list[str]:
    """The program that computes jobs on a device."""
    return [sys.executable, "-P", "-m", "workers.runner", "--device", device]


class RunnerProcess:
    """A runner in a session of its own, killed by the kernel when the process that started it is
    gone.

    To be made in the main thread: the kernel ties it to the thread that started it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.ready: Ready | None = None
        self.jobs = 0
        self.closed = threading.Event()
        self._ended: queue.SimpleQueue[Ended | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            tethered(command, signal.SIGKILL),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, name="runner-output", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """Its process id, which is also its session's."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be given work."""
        return not self.closed.is_set() and self._process.poll() is None

    def say(self, message: BaseModel) -> None:
        """Send a message; that it is gone shows in `next`."""
        try:
            os.write(self._process.stdin.fileno(), line(message))  # type: ignore[union-attr]
        except (BrokenPipeError, ValueError):
            self.closed.set()

    def next(self, seconds: float) -> Ended | None:
        """The end of an attempt, waited for; None where there was none in that time, or the runner
        is gone (see `closed`).
        """
        try:
            return self._ended.get(timeout=seconds)
        except queue.Empty:
            return None

    def terminate(self) -> None:
        """SIGTERM: it ends as soon as the interpreter has control."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to its whole session, and reap it."""
        kill_group(self._process.pid)
        self._process.kill()
        self._process.wait()
        self.closed.set()
        if self._process.stdin:
            self._process.stdin.close()

    def close(self, seconds: float) -> None:
        """Let it go: no more input, then after `seconds` SIGKILL."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            log.warning("runner %d did not end and is killed", self.pid)
        self.kill()

    def exit_description(self) -> str:
        """The end of a dead runner, in words."""
        try:
            code = self._process.wait(REAP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return "its process went silent and was killed"
        if code == -signal.SIGKILL:
            return "its process was killed (by hand, or because memory ran out)"
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with code {code}; the worker's log says more"

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - narrows the type
        with self._process.stdout as output:
            for raw in output:
                self._hear(raw)
        self.closed.set()
        self._ended.put(None)

    def _hear(self, raw: bytes) -> None:
        try:
            message = FROM_RUNNER.validate_json(raw)
        except ValidationError:
            log.exception("runner %d sent a message that is none", self.pid)
            return
        if isinstance(message, Ready):
            self.ready = message
        else:
            self._ended.put(message)
