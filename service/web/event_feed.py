"""Server-Sent Events and long polling: one poll of the database serves all waiting clients."""

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.jobs import TERMINAL, Event, Job
from service.store import Events, Jobs, Store
from service.store.database import DATABASE_ERRORS

POLL_SECONDS = 0.05
HEARTBEAT_SECONDS = 15.0
PAGE_EVENTS = 500
AT_ONCE = 2_000  # events per poll
ENCODED_AT_ONCE = 50
LONGEST_PENDING = 1_000  # events; a slower client reads the database again
MOST_PENDING_BYTES = 8 * 2**20  # which many clients share
HOLE_SECONDS = 5.0  # a number missing for so long was rolled back or deleted
POLL_FAULT_SECONDS = 1.0
FULL_SECONDS = 1.0  # the wait of a client beyond the bound


class EncodedEvent(NamedTuple):
    """An event in its SSE form, encoded once for all clients."""

    id: int
    type: str
    encoded: bytes


class Subscription:
    """The events of one job since a client subscribed."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.pending: deque[EncodedEvent] = deque()
        self._bytes = 0  # of the pending events
        self._news = asyncio.Event()

    def push(self, encoded_event: EncodedEvent) -> None:
        """Add an event.

        A client that is too slow loses what it has not taken yet; it notices by the numbers.
        """
        self._bytes += len(encoded_event.encoded)
        if len(self.pending) >= LONGEST_PENDING or self._bytes > MOST_PENDING_BYTES:
            self.pending.clear()
            self._bytes = len(encoded_event.encoded)
        self.pending.append(encoded_event)
        self._news.set()

    def wake(self) -> None:
        """Let the client stop waiting."""
        self._news.set()

    async def next(self, seconds: float) -> EncodedEvent | None:
        """Return the next event; None after `seconds`, or when the process is about to end."""
        if not self.pending:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), timeout=max(0.0, seconds))
        if not self.pending:
            return None
        first = self.pending.popleft()
        self._bytes -= len(first.encoded)
        return first


class EventFeed:
    """Polls the events of all jobs every 50 ms while any client waits, and not at all otherwise."""

    def __init__(self, events: Events, most_clients: int = 500) -> None:
        self._events, self._most_clients = events, most_clients
        self._subscriptions: dict[str, set[Subscription]] = defaultdict(set)
        self._horizon: int | None = None  # all events up to this number were pushed
        # events beyond the horizon that were pushed before a smaller number was committed
        self._ahead: set[int] = set()
        self._hole_since: float | None = None
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.closing = False

    def start(self) -> None:
        """Start to poll."""
        self._task = asyncio.create_task(self._poll())

    def close(self) -> None:
        """Let all clients stop waiting."""
        self.closing = True
        for subscriptions in list(self._subscriptions.values()):
            for subscription in list(subscriptions):
                subscription.wake()

    async def stop(self) -> None:
        """Let all clients stop waiting, and end the polling."""
        self.close()
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def subscribe(self, job_id: str) -> Subscription | None:
        """Subscribe to a job; None where too many clients wait.

        Nothing is awaited between the look at the bound and the new place: of many who ask at
        once, only so many get one. Nothing is pushed before `follow`.
        """
        if self.waiting >= self._most_clients:
            return None
        subscription = Subscription(job_id)
        self._subscriptions[job_id].add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Give the place of a subscription to others; again has no effect."""
        others = self._subscriptions.get(subscription.job_id, set())
        others.discard(subscription)
        if not others:
            self._subscriptions.pop(subscription.job_id, None)

    async def follow(self) -> None:
        """Have every event pushed to its subscriptions that is committed from now on."""
        async with self._lock:
            if self._horizon is None:
                self._horizon = await run_in_threadpool(self._events.newest)

    @property
    def waiting(self) -> int:
        """The number of clients that wait."""
        return sum(len(subscriptions) for subscriptions in self._subscriptions.values())

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                async with self._lock:
                    while await self._push_new():
                        pass
            except DATABASE_ERRORS:
                await asyncio.sleep(POLL_FAULT_SECONDS)

    async def _push_new(self) -> bool:
        """Push the new events to their subscriptions; return whether there may be more."""
        if not self._subscriptions:
            self._horizon, self._ahead, self._hole_since = None, set(), None
            return False
        if self._horizon is None:
            return False
        found = await run_in_threadpool(self._events.beyond, self._horizon, AT_ONCE)
        wanted = [
            number
            for number, job_id in found
            if job_id in self._subscriptions and number not in self._ahead
        ]
        for first in range(0, len(wanted), ENCODED_AT_ONCE):
            some = wanted[first : first + ENCODED_AT_ONCE]
            for event in await run_in_threadpool(self._events.numbered, some):
                encoded_event = EncodedEvent(event.id, event.type, _encoded(event))
                for subscription in self._subscriptions.get(event.job, ()):
                    subscription.push(encoded_event)
        self._advance([number for number, _ in found])
        return len(found) == AT_ONCE

    def _advance(self, numbers: Iterable[int]) -> None:
        """Move the horizon up to the first missing number.

        PostgreSQL does not commit in the order of the numbers, so that a smaller one may follow.
        """
        self._ahead |= set(numbers)
        now = time.monotonic()
        while self._ahead and self._horizon is not None:
            first = min(self._ahead)
            if first > self._horizon + 1:
                self._hole_since = self._hole_since or now
                if now - self._hole_since < HOLE_SECONDS:
                    return
            self._hole_since = None
            self._ahead.remove(first)
            self._horizon = first


async def until_terminal(
    feed: EventFeed, jobs: Jobs, job_id: str, seconds: float
) -> tuple[Job, int] | None:
    """Wait until a job has ended, for `seconds` at most.

    Returns the job and its version; None if there is no such job.
    """
    found = jobs.cached_if_current(job_id) or await run_in_threadpool(jobs.get_with_version, job_id)
    if seconds <= 0 or found is None or found[0].state in TERMINAL:
        return found
    subscription = feed.subscribe(job_id)
    if subscription is None:  # the client asks again
        await asyncio.sleep(min(seconds, FULL_SECONDS))
        return await run_in_threadpool(jobs.get_with_version, job_id)
    deadline = time.monotonic() + seconds
    try:
        await feed.follow()
        while not feed.closing and (left := deadline - time.monotonic()) > 0:
            found = await run_in_threadpool(jobs.get_with_version, job_id)
            if found is None or found[0].state in TERMINAL:
                return found
            await _until_end(feed, subscription, min(left, HEARTBEAT_SECONDS))
    finally:
        feed.unsubscribe(subscription)
    return await run_in_threadpool(jobs.get_with_version, job_id)


async def _until_end(feed: EventFeed, subscription: Subscription, seconds: float) -> None:
    """Wait for the event `end`, for `seconds` at most."""
    deadline = time.monotonic() + seconds
    while not feed.closing and (left := deadline - time.monotonic()) > 0:
        encoded_event = await subscription.next(left)
        if encoded_event is not None and encoded_event.type == "end":
            return


class EventStream(StreamingResponse):
    """A job's events as Server-Sent Events, which holds its subscription until it has been sent."""

    def __init__(
        self, feed: EventFeed, store: Store, subscription: Subscription, after: int
    ) -> None:
        super().__init__(
            stream(feed, store, subscription, after),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
        self._feed, self._subscription = feed, subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; a client that left before the first one gives up its place too."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.unsubscribe(self._subscription)


async def stream(
    feed: EventFeed, store: Store, subscription: Subscription, after: int
) -> AsyncIterator[bytes]:
    """Yield a job's events after a number as Server-Sent Events, until the job has ended.

    The database is read once, then the feed is followed. A gap in the numbers makes it read the
    database again. Heartbeats fill the pauses.
    """
    job_id = subscription.job_id
    await feed.follow()
    behind = True
    while not feed.closing:
        while behind:
            page = await run_in_threadpool(
                store.events.page, job_id, after=after, limit=PAGE_EVENTS
            )
            for event in page.items:
                yield _encoded(event)
                after = event.id
            behind = page.next_cursor is not None
            if not behind and await _ended(store, job_id, after):
                return
        encoded_event = await subscription.next(HEARTBEAT_SECONDS)
        if encoded_event is None:
            yield KEEPALIVE_COMMENT
            behind = True  # in case the feed has missed something
        elif encoded_event.id == after + 1:
            yield encoded_event.encoded
            after += 1
            if encoded_event.type == "end" and await _ended(store, job_id, after):
                return
        else:
            behind = encoded_event.id > after


async def _ended(store: Store, job_id: str, after: int) -> bool:
    job = await run_in_threadpool(store.jobs.get, job_id)
    if job is not None and job.state not in TERMINAL:
        return False
    return not await run_in_threadpool(store.events.of, job_id, after=after, limit=1)


def _encoded(event: Event) -> bytes:
    return format_sse_event(data_str=event.model_dump_json(), event=event.type, id=str(event.id))
