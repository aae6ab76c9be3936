"""A command in a terminal of its own, as a person sees it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping

from benchmarks.waiting import PATIENCE_SECONDS

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
SIZE = ("COLUMNS", "LINES")  # of another terminal: they would hide the size of this one
NEW_FRAME = re.compile(r"(?:\x1b\[1A\x1b\[2K)+")


class Terminal:
    """`fflab ARGUMENTS` behind a pseudo-terminal."""

    def __init__(
        self, *arguments: str, environment: Mapping[str, str], columns: int = 110, lines: int = 34
    ) -> None:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("FFLAB_") and name not in SIZE
        }
        self._fd, inside = pty.openpty()
        self.resize(columns, lines)
        # whoever runs the tests in the background has them ignore Ctrl-C, and what they start with
        # them
        command = ["env", "--default-signal=INT", sys.executable, "-m", "service.cli", *arguments]
        environment = {**inherited, "TERM": "xterm", **environment}
        self._process = subprocess.Popen(
            command,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env=environment,
            start_new_session=True,
        )
        os.close(inside)
        self._raw = b""

    def __del__(self) -> None:
        if self._process.poll() is None:  # of a test that has failed
            self._process.kill()
            self._process.wait()

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    @property
    def frames(self) -> list[str]:
        """What was shown, picture by picture, without colours."""
        text = self._raw.decode(errors="replace").replace("\r", "")
        return [CONTROL.sub("", frame) for frame in NEW_FRAME.split(text)]

    def until(self, *words: str) -> str:
        """Read until a picture holds all of the words; that picture.

        Patient as long as anything is shown.
        """
        while True:
            for frame in self.frames[::-1]:
                if all(word in frame for word in words):
                    return frame
            assert self._read(), f"ended without {words}; last seen:\n{self.frames[-1]}"

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        code = self._process.wait(PATIENCE_SECONDS)
        os.close(self._fd)
        return code

    def _read(self) -> bool:
        """Wait for something to be shown, and take it; whether there was more."""
        ready, _, _ = select.select([self._fd], [], [], PATIENCE_SECONDS)
        assert ready, f"for {PATIENCE_SECONDS:g} s nothing was shown; last seen:\n{self.frames[-1]}"
        try:
            found = os.read(self._fd, 65_536)
        except OSError:  # Linux says so when the other side is closed
            return False
        self._raw += found
        return bool(found)
