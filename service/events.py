"""Waiting for something to happen: one tail of the events for all waiting clients of a process; Server-Sent Events."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool

from service.jobs import TERMINAL, Event, Job
from service.problems import DATABASE_ERRORS
from service.store import Store

POLL_SECONDS = 0.1
HEARTBEAT_SECONDS = 10.0
PAGE_EVENTS = 500
POLL_FAULT_SECONDS = 1.0


class Watch:
    """One waiting client's view of the tail: `look` before reading, then `wait`, so that nothing in between is missed."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()

    def look(self) -> None:
        """What has happened up to now is about to be read."""
        self.changed.clear()

    async def wait(self, seconds: float) -> None:
        """Return when something has happened since the last look, after `seconds` at the latest."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.changed.wait(), timeout=seconds)


class Tail:
    """Wakes whoever waits when any job has a new event. One query each 100 ms, and none while nobody waits."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watches: set[Watch] = set()
        self._newest = -1
        self._task: asyncio.Task[None] | None = None
        self.closing = False

    def start(self) -> None:
        """Begin to poll."""
        self._task = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        """Let all waiting clients go, and end."""
        self.closing = True
        self._wake()
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watch]:
        """A watch for as long as a client waits."""
        watch = Watch()
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.remove(watch)

    @property
    def waiting(self) -> int:
        """How many clients wait just now."""
        return len(self._watches)

    def _wake(self) -> None:
        for watch in self._watches:
            watch.changed.set()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if not self._watches:
                continue
            try:
                newest = await run_in_threadpool(self._store.newest_event)
            except DATABASE_ERRORS:
                await asyncio.sleep(POLL_FAULT_SECONDS)
                continue
            if newest != self._newest:
                self._newest = newest
                self._wake()


async def until_terminal(tail: Tail, store: Store, job_id: str, seconds: float) -> tuple[Job, int] | None:
    """The job and its version, when it has ended or the time is over; None where there is no such job."""
    deadline = time.monotonic() + seconds
    with tail.watching() as watch:
        while True:
            watch.look()
            found = await run_in_threadpool(store.versioned, job_id)
            left = deadline - time.monotonic()
            if found is None or found[0].state in TERMINAL or left <= 0 or tail.closing:
                return found
            await watch.wait(min(left, HEARTBEAT_SECONDS))


async def stream(tail: Tail, store: Store, job_id: str, after: int) -> AsyncIterator[bytes]:
    """A job's events from after a number on, as Server-Sent Events, with heartbeats, to the last one of a job that has ended."""
    beat = time.monotonic()
    with tail.watching() as watch:
        while not tail.closing:
            watch.look()
            events = await run_in_threadpool(store.events, job_id, after=after, limit=PAGE_EVENTS)
            for event in events:
                yield _encoded(event)
                after = event.id
                beat = time.monotonic()
            if len(events) == PAGE_EVENTS:
                continue
            if await _ended(store, job_id, after):
                return
            if time.monotonic() - beat >= HEARTBEAT_SECONDS:
                yield KEEPALIVE_COMMENT
                beat = time.monotonic()
            await watch.wait(HEARTBEAT_SECONDS / 2)


async def _ended(store: Store, job_id: str, after: int) -> bool:
    job = await run_in_threadpool(store.job, job_id)
    if job is not None and job.state not in TERMINAL:
        return False
    return not await run_in_threadpool(store.events, job_id, after=after, limit=1)


def _encoded(event: Event) -> bytes:
    return format_sse_event(data_str=event.model_dump_json(), event=event.type, id=str(event.id))
