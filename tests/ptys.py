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
import time
from collections.abc import Mapping

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
NEW_FRAME = re.compile(r"(?:\x1b\[1A\x1b\[2K)+")


class Terminal:
    """`fflab ARGUMENTS` behind a pseudo-terminal."""

    def __init__(self, *arguments: str, environment: Mapping[str, str], columns: int = 110, lines: int = 34) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FFLAB_")}
        self._fd, inside = pty.openpty()
        self.resize(columns, lines)
        # whoever runs the tests in the background has them ignore Ctrl-C, and what they start with them
        command = ["env", "--default-signal=INT", sys.executable, "-m", "service.cli", *arguments]
        environment = {**inherited, "TERM": "xterm", **environment}
        self._process = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside, env=environment, start_new_session=True)
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

    def until(self, *words: str, seconds: float = 60.0) -> str:
        """Read until a picture holds all of the words; that picture."""
        deadline = time.monotonic() + seconds
        while True:
            for frame in self.frames[::-1]:
                if all(word in frame for word in words):
                    return frame
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {words}; last seen:\n{self.frames[-1]}"
            assert self._read(), f"ended without {words}; last seen:\n{self.frames[-1]}"

    def end(self, seconds: float = 60.0) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < deadline, f"did not end within {seconds:g} s"
        code = self._process.wait(timeout=10)
        os.close(self._fd)
        return code

    def _read(self) -> bool:
        ready, _, _ = select.select([self._fd], [], [], 0.1)
        if not ready:
            return True
        try:
            found = os.read(self._fd, 65_536)
        except OSError:  # Linux says so when the other side is closed
            return False
        self._raw += found
        return bool(found)
