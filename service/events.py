"""Waiting for something to happen: one tail of the events for all waiting clients of a process; Server-Sent Events."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool

from service.jobs import TERMINAL, Event, Job
from service.store import Store

POLL_SECONDS = 0.1
HEARTBEAT_SECONDS = 10.0
PAGE_EVENTS = 500
POLL_FAULT_SECONDS = 1.0


class Tail:
    """Wakes whoever waits when any job has a new event. One query each 100 ms, and none while nobody waits."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = asyncio.Condition()
        self._waiting = 0
        self._newest = -1
        self._task: asyncio.Task[None] | None = None
        self.closing = asyncio.Event()

    def start(self) -> None:
        """Begin to poll."""
        self._task = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        """Let all waiters go, and end."""
        self.closing.set()
        async with self._changed:
            self._changed.notify_all()
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def wait(self, seconds: float) -> None:
        """Return when something has happened, after `seconds` at the latest, or at once while the service shuts down."""
        if self.closing.is_set():
            return
        self._waiting += 1
        try:
            async with self._changed:
                await asyncio.wait_for(self._changed.wait(), timeout=seconds)
        except TimeoutError:
            return
        finally:
            self._waiting -= 1

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if not self._waiting:
                continue
            try:
                newest = await run_in_threadpool(self._store.newest_event)
            except Exception:  # noqa: BLE001 - the boundary of a background task: the database may be away, and comes back
                await asyncio.sleep(POLL_FAULT_SECONDS)
                continue
            if newest != self._newest:
                self._newest = newest
                async with self._changed:
                    self._changed.notify_all()


async def until_terminal(tail: Tail, store: Store, job_id: str, seconds: float) -> tuple[Job, int] | None:
    """The job and its version, when it has ended or the time is over; None where there is no such job."""
    deadline = time.monotonic() + seconds
    while True:
        found = await run_in_threadpool(store.versioned, job_id)
        left = deadline - time.monotonic()
        if found is None or found[0].state in TERMINAL or left <= 0 or tail.closing.is_set():
            return found
        await tail.wait(min(left, HEARTBEAT_SECONDS))


async def stream(tail: Tail, store: Store, job_id: str, after: int) -> AsyncIterator[bytes]:
    """A job's events from after a number on, as Server-Sent Events, with heartbeats, to the last one of a job that has ended."""
    beat = time.monotonic()
    while not tail.closing.is_set():
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
        await tail.wait(HEARTBEAT_SECONDS / 2)


async def _ended(store: Store, job_id: str, after: int) -> bool:
    job = await run_in_threadpool(store.job, job_id)
    if job is not None and job.state not in TERMINAL:
        return False
    return not await run_in_threadpool(store.events, job_id, after=after, limit=1)


def _encoded(event: Event) -> bytes:
    return format_sse_event(data_str=event.model_dump_json(), event=event.type, id=str(event.id))
