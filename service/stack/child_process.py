"""A child process: logged, restarted with growing pauses, ended with us."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from service.host.processes import kill_group, with_parent_death_signal
from service.host.start_failures import reason_in

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 10.0  # after so long a life a child is restarted with the first pause
LOG_BYTES = 10_000_000

log = logging.getLogger(__name__)


class ChildProcess:
    """One supervised program; without a `log_file` it writes where this process does.

    Call all methods in one thread: the kernel ends a child when the *thread* that started it ends.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log_file: Path | None = None,
        folder: Path | None = None,
        after_failure: Callable[[], None] | None = None,
    ) -> None:
        self.name, self.command, self.environment = name, command, environment
        self.log_file, self.folder, self.after_failure = log_file, folder, after_failure
        self.process: subprocess.Popen[bytes] | None = None
        self.failures = 0
        self._started = self._due = 0.0
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        return self.process.pid if self.process and self.process.poll() is None else None

    def start(self) -> None:
        """Start it in a session of its own: Ctrl-C of the terminal must not reach it."""
        self._started = time.monotonic()
        with self.log_file.open("ab") if self.log_file else contextlib.nullcontext() as output:
            self._log_start = output.tell() if output else 0
            self.process = subprocess.Popen(
                with_parent_death_signal(self.command, signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                cwd=self.folder,
                env=dict(self.environment),
                start_new_session=True,
            )

    def restart_if_dead(self) -> bool:
        """Restart a child that has ended and whose pause is over. Returns whether it did."""
        now = time.monotonic()
        self._bound_log()
        if self.process is not None and (code := self.process.poll()) is not None:
            self._ended(code, now)
        if self.process is None and now >= self._due:
            self.start()
            return True
        return False

    def _bound_log(self) -> None:
        """Put the end of a log that is too large aside while the child goes on writing to it."""
        if self.log_file is None:
            return
        with contextlib.suppress(OSError):
            if self.log_file.stat().st_size <= LOG_BYTES:
                return
            try:
                copy_end(self.log_file, self.log_file.with_suffix(".log.1"), LOG_BYTES)
            finally:  # on a full disk, too
                os.truncate(self.log_file, 0)
                self._log_start = 0

    def _ended(self, code: int, now: float) -> None:
        self.process = None
        self.failures = 1 if now - self._started > STEADY_SECONDS else self.failures + 1
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (self.failures - 1))
        self._due = now + pause
        log.warning(
            "%s ended with code %s (%s); it is started again in %.1f s",
            self.name,
            code,
            f"{self.reason()}, see {self.log_file}" if self.log_file else "its log says why",
            pause,
        )
        if self.after_failure and self.failures > 1:
            self.after_failure()

    def stop(self, seconds: float) -> None:
        """Send SIGTERM, and after `seconds` SIGKILL to the rest of its session."""
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            log.warning("%s did not stop within %.0f s and is killed", self.name, seconds)
        kill_group(process.pid)
        process.wait()

    def reason(self) -> str:
        """Why it ended, as its log says since it was started."""
        return reason_in(self.log_file, self._log_start) if self.log_file else ""


def copy_end(source: Path, target: Path, most: int) -> None:
    """Copy the last bytes of a file, at most so many."""
    with source.open("rb") as content, target.open("wb") as copy:
        content.seek(max(0, content.seek(0, os.SEEK_END) - most))
        shutil.copyfileobj(content, copy)


def rotate(log_file: Path) -> None:
    """Rename a log larger than LOG_BYTES; the one that was renamed before is overwritten."""
    with contextlib.suppress(FileNotFoundError):
        if log_file.stat().st_size > LOG_BYTES:
            log_file.replace(log_file.with_suffix(".log.1"))
