"""`make dev`: `fflab up` from this checkout, started again whenever its code changes. Ctrl-C ends
it.

API, worker and Redis are stopped in order and started again together: a job that runs is handed
back with a checkpoint and goes on from it. Templates are read anew by each request and need no
restart.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from service.host.end_signals import noted_signals
from service.host.processes import with_parent_death_signal

ROOT = Path(__file__).parents[1]
CODE = [ROOT / name for name in ("ffengine", "fflab", "service", "workers")]
RESTARTING = {
    ".py",
    ".js",
    ".css",
}  # the addresses of scripts and styles hold a digest that each process works out once
POLL_SECONDS = 0.5
STOP_SECONDS = 60.0


def times_of(folders: Sequence[Path]) -> dict[Path, int]:
    """When each file of code was changed last."""
    found = {}
    for path in (
        path for folder in folders for path in folder.rglob("*") if path.suffix in RESTARTING
    ):
        with contextlib.suppress(FileNotFoundError):  # an editor's draft
            found[path] = path.stat().st_mtime_ns
    return found


class Restarted:
    """A command that is started, stopped and started again.

    All methods are for the main thread: the kernel ties the child to it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the command in a session of its own, so that the terminal's Ctrl-C reaches this
        program alone.
        """
        self.process = subprocess.Popen(
            with_parent_death_signal(self.command, signal.SIGTERM), cwd=ROOT, start_new_session=True
        )

    def stop(self) -> None:
        """Stop the command; kill it where it does not stop in time."""
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def note_end(self) -> None:
        """Say so once where the command ended by itself, as it does after a mistake in the code."""
        if self.process is not None and (code := self.process.poll()) is not None:
            self.process = None
            say(f"fflab up ended with code {code}; it is started again after the next change")


def say(text: str) -> None:
    """Print a line at once."""
    print(f"dev: {text}", flush=True)


def develop(command: Sequence[str], folders: Sequence[Path]) -> None:
    """Run the command until a signal ends it; start it again when code in the folders changes."""
    with noted_signals() as stopping:
        _restart_on_changes(command, folders, stopping)


def _restart_on_changes(
    command: Sequence[str], folders: Sequence[Path], stopping: threading.Event
) -> None:
    child = Restarted(command)
    running = times_of(folders)
    child.start()
    try:
        while not stopping.wait(POLL_SECONDS):
            child.note_end()
            now = times_of(folders)
            if now != running:
                running = settled(now, folders, stopping)
                say("the code has changed: starting again")
                child.stop()
                if not stopping.is_set():
                    child.start()
    finally:
        child.stop()
        say("stopped")


def settled(
    before: dict[Path, int], folders: Sequence[Path], stopping: threading.Event
) -> dict[Path, int]:
    """The times of the files once they stay the same: an editor writes a file in several steps, and
    git many files.
    """
    while not stopping.wait(POLL_SECONDS) and (now := times_of(folders)) != before:
        before = now
    return before


def main() -> None:
    """`python -m scripts.dev --home HOME --port PORT --device DEVICE --watch FOLDER...`."""
    parser = argparse.ArgumentParser(prog="make dev")
    parser.add_argument(
        "--home",
        type=Path,
        default=ROOT / ".dev",
        help="state of this stack; not that of your own `fflab up`",
    )
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--watch", type=Path, nargs="+", default=CODE, help="folders whose code is watched"
    )
    given = parser.parse_args()
    up = ["up", "--home", str(given.home), "--port", str(given.port), "--device", given.device]
    develop([sys.executable, "-m", "service.cli", *up], given.watch)


if __name__ == "__main__":
    main()
