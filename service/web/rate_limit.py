"""A limit on how often something is done, for each key."""

import time
from collections import deque
from collections.abc import Callable
from threading import Lock

MOST_KEYS = 1_000  # beyond them, those that may do it as often as ever are forgotten


class RateLimit:
    """Allows something `most` times within any `seconds`, to each key, in this process."""

    def __init__(
        self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._done: dict[str, deque[float]] = {}
        self._lock = Lock()

    def wait_seconds(self, key: str) -> float:
        """Return 0 and count it, or how long the key must wait, which counts for nothing."""
        with self._lock:
            now = self._clock()
            if len(self._done) >= MOST_KEYS:
                for one in [one for one in self._done if not self._recent(one, now)]:
                    del self._done[one]
            times = self._recent(key, now)
            if len(times) >= self._most:
                return times[0] + self._seconds - now
            times.append(now)
            self._done[key] = times
            return 0.0

    def _recent(self, key: str, now: float) -> deque[float]:
        times = self._done.get(key, deque())
        while times and times[0] <= now - self._seconds:
            times.popleft()
        return times
