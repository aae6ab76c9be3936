"""The API's handle on a renderer process: start it, exchange messages within limits, end it."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import psutil

from service.host.processes import kill_group, with_parent_death_signal
from service.storage.place import BucketPlace
from service.web.drawing.protocol import Answer, Message, Request, Setup, line

COMMAND = (sys.executable, "-P", "-m", "service.web.drawing.renderer")
TICK_SECONDS, REAP_SECONDS = 0.1, 10.0
PIECE = 2**18
# Of the environment a renderer is given what finds programs, fonts, texts and databases: no keys.
KEPT = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"})
KEPT_PREFIXES = ("LC_", "PYTHON", "PG", "FONTCONFIG_", "XDG_")


class RendererFailed(Exception):
    """The renderer did not answer; the message says why, as the end of a sentence."""


class RendererExceeded(RendererFailed):
    """The renderer took more time or memory than it may, and would do so again."""


class Drawn(NamedTuple):
    """The answer to a request, and what was drawn."""

    answer: Answer
    content: bytes


class Limits(NamedTuple):
    """What a renderer may take: seconds for its start and for a request, and bytes of memory."""

    seconds: float = 60.0
    start_seconds: float = 60.0
    memory_bytes: int = 2**30


class RendererProcess:
    """A renderer in a session of its own. The kernel kills it when its parent ends.

    Use it in one thread that outlives it: the kernel sends that signal when the *thread* that
    started the process ends.
    """

    def __init__(self, setup: Setup, limits: Limits, command: Sequence[str] = COMMAND) -> None:
        self._setup, self._limits = setup, limits
        self._process = subprocess.Popen(
            with_parent_death_signal(command, signal.SIGKILL),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=bare(os.environ, bucket=isinstance(setup.artifacts, BucketPlace)),
            start_new_session=True,
        )
        self._received = bytearray()
        self.drawn = 0

    def start(self) -> None:
        """Wait until it has loaded what it needs. Raises RendererFailed; it has ended then."""
        self._exchange(self._setup, self._limits.start_seconds)

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its session."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be given a request: not where it is dead, or its threads still end."""
        if self._process.poll() is not None:
            return False
        try:
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def draw(self, request: Request) -> Drawn:
        """Have a request answered. Raises RendererFailed; the renderer has ended then."""
        self.drawn += 1
        return self._exchange(request, self._limits.seconds)

    def kill(self) -> None:
        """Kill it, with whatever it is doing: it holds nothing that could be lost.

        Another thread may do so: the one that waits for an answer gets RendererFailed.
        """
        if self._process.poll() is None:
            kill_group(self._process.pid)
            self._process.wait()

    def close(self) -> None:
        """Kill it, and close its pipes."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _exchange(self, message: Message, seconds: float) -> Drawn:
        deadline = time.monotonic() + seconds
        try:
            self._send(line(message))
            answer = Answer.model_validate_json(self._line(deadline, seconds))
            return Drawn(answer, self._bytes(answer.length, deadline, seconds))
        except BaseException:
            self.close()
            raise

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 - narrows the type
        try:
            self._process.stdin.write(data)
        except OSError as error:
            raise RendererFailed(self._how_it_ended()) from error

    def _line(self, deadline: float, seconds: float) -> bytes:
        while (end := self._received.find(b"\n")) < 0:
            self._receive(deadline, seconds)
        return self._taken(end + 1)

    def _bytes(self, count: int, deadline: float, seconds: float) -> bytes:
        while len(self._received) < count:
            self._receive(deadline, seconds)
        return self._taken(count)

    def _taken(self, count: int) -> bytes:
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _receive(self, deadline: float, seconds: float) -> None:
        """Wait for the next bytes, and look at time and memory meanwhile. Raises RendererFailed."""
        assert self._process.stdout is not None  # noqa: S101 - narrows the type
        arrived = select.poll()  # which takes any number of a file, unlike select
        arrived.register(self._process.stdout, select.POLLIN)
        while not arrived.poll(1_000 * TICK_SECONDS):
            if time.monotonic() > deadline:
                raise RendererExceeded(f"it took longer than {seconds:g} s")
            if self._memory() > self._limits.memory_bytes:
                raise RendererExceeded(too_much(self._limits.memory_bytes))
        piece = os.read(self._process.stdout.fileno(), PIECE)
        if not piece:
            raise RendererFailed(self._how_it_ended())
        self._received += piece

    def _memory(self) -> int:
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:  # it has just ended
            return 0

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(REAP_SECONDS)
        except subprocess.TimeoutExpired:
            return "its process went silent"
        if code == -signal.SIGKILL:
            return "its process was killed, by hand or because memory ran out"
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with code {code}; the log of the API says more"


def too_much(memory_bytes: int) -> str:
    """Return what is said of a renderer that took too much memory."""
    return f"it took more than {memory_bytes / 2**20:,.0f} MiB of memory (FFLAB_RENDERER_MEMORY)"


def bare(environment: Mapping[str, str], *, bucket: bool = False) -> dict[str, str]:
    """Return the part of an environment that a renderer is given.

    `bucket`: with what opens a bucket, where artifacts are in one.
    """
    prefixes = (*KEPT_PREFIXES, "AWS_") if bucket else KEPT_PREFIXES
    return {
        name: value
        for name, value in environment.items()
        if name in KEPT or name.startswith(prefixes)
    }
