"""A few renderers and the queue before them.

Each renderer belongs to a thread, which starts it with the first request, ends it when nothing was
asked for some minutes, and replaces one that has died.
"""

import logging
import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

from service.web.drawing.process import COMMAND, Drawn, Limits, RendererFailed, RendererProcess
from service.web.drawing.protocol import Request, Setup

CORES_FOR_ONE, MOST_RENDERERS = 2, 2
MOST_WAITING = 64  # requests; those beyond are refused
IDLE_SECONDS = 180.0
DRAWN_BY_ONE = 500  # then a renderer is replaced, in case a library leaks memory

log = logging.getLogger(__name__)


class RenderersBusy(Exception):
    """Too many requests wait already."""


class _Task(NamedTuple):
    request: Request
    result: Future[Drawn]


def how_many() -> int:
    """Return how many renderers this machine has room for."""
    return max(1, min(MOST_RENDERERS, (os.cpu_count() or 1) // CORES_FOR_ONE))


class RendererPool:
    """Answers requests in order, as many at once as there are renderers."""

    def __init__(
        self,
        setup: Setup,
        limits: Limits | None = None,
        *,
        command: Sequence[str] = COMMAND,
        most_renderers: int | None = None,
        most_waiting: int = MOST_WAITING,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._setup, self._command, self._idle_seconds = setup, command, idle_seconds
        self._limits = limits or Limits(memory_bytes=setup.memory_bytes)
        self._most = most_renderers or how_many()
        self._tasks: queue.Queue[_Task | None] = queue.Queue(most_waiting)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._running: set[RendererProcess] = set()
        self._closed = False

    @property
    def memory_bytes(self) -> int:
        """How much memory a renderer may take."""
        return self._limits.memory_bytes

    @property
    def pids(self) -> list[int]:
        """The process ids of the renderers that run."""
        with self._lock:
            return [process.pid for process in self._running]

    @property
    def waiting(self) -> int:
        """How many requests wait for a renderer."""
        return self._tasks.qsize()

    def submit(self, request: Request) -> Future[Drawn]:
        """Queue a request. Its future raises RendererFailed where the renderer dies of it.

        Raises RenderersBusy where too many wait.
        """
        result: Future[Drawn] = Future()
        with self._lock:
            if self._closed:
                raise RenderersBusy
            try:
                self._tasks.put_nowait(_Task(request, result))
            except queue.Full:
                raise RenderersBusy from None
            if self._tasks.qsize() > self._idle and len(self._threads) < self._most:
                thread = threading.Thread(target=self._serve, name="renderer", daemon=True)
                self._threads.append(thread)
                thread.start()
        return result

    def close(self) -> None:
        """End all renderers, and let nobody wait any longer."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        while True:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                break
            if task is not None:
                task.result.set_exception(RenderersBusy())
        for _ in self._threads:
            self._tasks.put(None)
        for process in running:
            process.kill()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        """Answer requests until the pool is closed: the life of one renderer after the other."""
        process: RendererProcess | None = None
        while True:
            try:
                task = self._next(self._idle_seconds if process else None)
            except queue.Empty:
                process = self._end(process)
                continue
            if task is None:
                break
            if task.result.set_running_or_notify_cancel():
                process = self._answer(task, process)
        self._end(process)

    def _next(self, seconds: float | None) -> _Task | None:
        """Return the next request; None: the pool is closed. Raises queue.Empty after `seconds`."""
        with self._lock:
            self._idle += 1
        try:
            return self._tasks.get(timeout=seconds)
        finally:
            with self._lock:
                self._idle -= 1

    def _answer(self, task: _Task, process: RendererProcess | None) -> RendererProcess | None:
        """Answer a request; return the renderer for the next one, None where it has ended."""
        try:
            process = self._ready(process)
            drawn = process.draw(task.request)
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            log.warning("a renderer has ended: %s (%s)", error, task.request)
            process = self._end(process)
            task.result.set_exception(error)
            return process
        if drawn.answer.outcome == "memory":  # what is left of it is scattered
            process = self._end(process)
        task.result.set_result(drawn)
        return process

    def _ready(self, process: RendererProcess | None) -> RendererProcess:
        """Return a renderer that lives. Raises RendererFailed."""
        if process is not None and process.alive and process.drawn < DRAWN_BY_ONE:
            return process
        self._end(process)
        try:
            fresh = RendererProcess(self._setup, self._limits, self._command)
        except OSError as error:
            raise RendererFailed(f"it could not be started: {error}") from error
        with self._lock:
            self._running.add(fresh)
            closed = self._closed
        if closed:
            fresh.kill()
        try:
            fresh.start()
        except RendererFailed:
            self._end(fresh)
            raise
        return fresh

    def _end(self, process: RendererProcess | None) -> RendererProcess | None:
        """End a renderer; return None in its place."""
        if process is not None:
            process.close()
            with self._lock:
                self._running.discard(process)
        return None
