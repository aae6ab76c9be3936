"""The supervisor's handle on a runner process: start it, exchange messages, end it."""

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from pydantic import BaseModel, ValidationError

from service.encoding.escaping import for_log
from service.host.processes import kill_group, with_parent_death_signal
from workers.protocol import FROM_RUNNER, Begins, Ended, Ready, line

REAP_SECONDS = 2.0
STDERR = 2
LONGEST_REASON = 300

log = logging.getLogger(__name__)


def runner_command(device: str) -> list[str]:
    """The command of the program that computes jobs on a device."""
    return [sys.executable, "-P", "-m", "workers.runner", "--device", device]


class RunnerProcess:
    """A runner in a session of its own. The kernel kills it when its parent ends.

    Create it in the main thread: the kernel sends that signal when the *thread* that started the
    process ends.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.ready: Ready | None = None
        self.jobs = 0
        self.closed = threading.Event()
        self.started = threading.Event()  # it is ready, or gone before it was
        self.began: tuple[str, int] | None = None  # the attempt that it said it began
        self._is_ours = False  # the signal that ended it
        self._said = ""  # its last line on standard error before it was ready
        self._ended: queue.SimpleQueue[Ended | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            with_parent_death_signal(command, signal.SIGKILL),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, name="runner-output", daemon=True)
        self._listener.start()
        self._errors = threading.Thread(target=self._pass_on, name="runner-errors", daemon=True)
        self._errors.start()

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its session."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be given a job."""
        return not self.closed.is_set() and self._process.poll() is None

    def send(self, message: BaseModel) -> None:
        """Send a message. If the runner is gone, `closed` is set."""
        try:
            os.write(self._process.stdin.fileno(), line(message))  # type: ignore[union-attr]
        except (BrokenPipeError, ValueError):
            self.closed.set()

    def wait_for_end(self, seconds: float) -> Ended | None:
        """Wait for the message that an attempt has ended, for `seconds` at most.

        Returns None if none came in that time, or if the runner is gone (then `closed` is set).
        """
        try:
            return self._ended.get(timeout=seconds)
        except queue.Empty:
            return None

    def kill(self) -> None:
        """Send SIGKILL to the runner's whole session, and reap it."""
        self._is_ours = self._is_ours or self._process.poll() is None
        kill_group(self._process.pid)
        self._process.kill()
        self._process.wait()
        self.closed.set()
        if self._process.stdin:
            self._process.stdin.close()

    def close(self, seconds: float) -> None:
        """Close the runner's input, which ends it; kill it if it runs on for `seconds`."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            log.warning("runner %d did not end and is killed", self.pid)
        self.kill()

    def start_failure(self) -> str:
        """Say in one line why a runner could not start that is gone before it was ready."""
        how = self.exit_description()
        self._errors.join(REAP_SECONDS)
        return for_log(self._said, LONGEST_REASON) if self._said else how

    def exit_code(self) -> int | None:
        """The code with which a runner has ended that is not alive; None: it ended by a signal."""
        try:
            code = self._process.wait(REAP_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        return code if code >= 0 else None

    @property
    def was_killed(self) -> bool:
        """Whether a runner that is not alive was ended by SIGKILL, and not by its supervisor."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(REAP_SECONDS) == -signal.SIGKILL and not self._is_ours
        return False

    def exit_description(self) -> str:
        """Describe how a runner has ended that is not alive."""
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
                self._receive(raw)
        self.closed.set()
        self.started.set()
        self._ended.put(None)

    def _pass_on(self) -> None:
        """Write what it says on standard error to that of this process."""
        assert self._process.stderr is not None  # noqa: S101 - narrows the type
        with self._process.stderr as errors:
            for raw in errors:
                with contextlib.suppress(OSError):  # nobody reads it any more
                    os.write(STDERR, raw)
                if self.ready is None and raw.strip():
                    self._said = raw.decode(errors="replace").strip()

    def _receive(self, raw: bytes) -> None:
        try:
            message = FROM_RUNNER.validate_json(raw)
        except ValidationError:
            log.exception("runner %d sent an unreadable message", self.pid)
            return
        if isinstance(message, Ready):
            self.ready = message
            self.started.set()
        elif isinstance(message, Begins):
            self.began = message.job_id, message.attempt
        else:
            self._ended.put(message)
