"""How many threads take the steps of training: as many as make them fastest, whatever else runs.

A step is some hundred short parallel regions, and each ends when its last thread does. A thread
that waits for a processor makes all others wait. So beside another busy process one thread less may
be faster; beside many, each thread is one more share of the machine. Linux says how long threads
waited: alone, hardly ever, and then all are used. Where they wait, fewer are tried for a moment,
and what makes more steps a second is kept, until the next trial.

No figure depends on the choice. Another number of threads is taken only if a step of this training
has the same bits with it, and that is tried out before.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

TASKS = Path("/proc/self/task")
LOOK_SECONDS = 0.2  # between two looks at how long threads waited
MOST_WAITING = 0.25  # threads that may wait on average; alone it is some thousandths
FASTER = 1.15  # as many times as fast at least: what another number of threads is taken for
FIRST_HOLD, LONGEST_HOLD = 0.5, 8.0  # seconds from one trial to the next


def waited() -> dict[str, int]:
    """Return for how many nanoseconds each thread of this process has waited for a processor.

    **Returns:**

    By the number of the thread; nothing where the system does not say.
    """
    found = {}
    with suppress(OSError):
        for task in TASKS.iterdir():
            with suppress(OSError, IndexError, ValueError):  # it may have ended meanwhile
                found[task.name] = int((task / "schedstat").read_text().split()[1])
    return found


class ThreadChoice:
    """The number of threads for steps of training, chosen anew while they run.

    **Arguments:**

    - `adapts`: whether it ever changes.
    - `clock`: gives seconds.
    - `delays`: gives what `waited` does.
    """

    def __init__(
        self,
        *,
        adapts: bool = True,
        clock: Callable[[], float] = time.monotonic,
        delays: Callable[[], dict[str, int]] = waited,
    ) -> None:
        self.clock, self.delays = clock, delays
        self.most = torch.get_num_threads()
        self.threads = self.most
        self._adapts = adapts and self.most > 1
        self._hold, self._tried_at = FIRST_HOLD, -math.inf
        self._beaten: tuple[int, float] | None = None  # in a trial: the threads before, their rate
        self._same_bits: Callable[[int], bool] = lambda _threads: False
        self._known: dict[tuple[object, int], bool] = {}
        self._left, self._between = clock(), 0.0  # what is between steps is no time of theirs
        self._begin_window()

    @contextmanager
    def for_steps(self, kind: object, same_bits: Callable[[int], bool]) -> Iterator[None]:
        """Take the steps inside with as many threads as are chosen; afterwards with all again.

        **Arguments:**

        - `kind`: names these steps; of one kind a number of threads is tried out once.
        - `same_bits`: tells whether a step has the same bits with so many threads as with all.
        """
        if not self._adapts:
            yield
            return

        def known(threads: int) -> bool:
            if (kind, threads) not in self._known:
                self._known[kind, threads] = same_bits(threads)
            return self._known[kind, threads]

        self._same_bits = known
        self._take(self.threads)
        self._between += self.clock() - self._left
        try:
            yield
        finally:
            self._left = self.clock()
            torch.set_num_threads(self.most)

    def look(self) -> None:
        """Choose again, from what has happened since the last look; call it after every step."""
        if not self._adapts:
            return
        self._steps += 1
        seconds = self._time - self._began
        if seconds < LOOK_SECONDS:
            return
        rate, waiting = self._steps / seconds, self._waiting(seconds)
        if self._beaten is not None:
            self._end_trial(rate)
        elif self._is_due(waiting):
            self._beaten = self.threads, rate
            fewer = max(1, self.most - max(1, round(waiting)))
            self._take(fewer if self.threads == self.most else self.most)
        self._begin_window()

    @property
    def _time(self) -> float:
        """Seconds that steps have taken, from an arbitrary start."""
        return self.clock() - self._between

    def _is_due(self, waiting: float) -> bool:
        """Whether another number of threads is to be tried."""
        held = self._time - self._tried_at < self._hold
        return not held and (self.threads < self.most or waiting > MOST_WAITING)

    def _end_trial(self, rate: float) -> None:
        """Keep the number of threads that was tried where it is faster, else go back."""
        assert self._beaten is not None  # noqa: S101 - a trial runs
        before, least = self._beaten
        if rate > FASTER * least:
            self._hold = FIRST_HOLD
        else:
            self._take(before)
            self._hold = min(2 * self._hold, LONGEST_HOLD)
        self._beaten, self._tried_at = None, self._time

    def _begin_window(self) -> None:
        """Count steps and waiting anew."""
        self._steps, self._began = 0, self._time
        self._waited = self.delays() if self._adapts else {}

    def _waiting(self, seconds: float) -> float:
        """Return how many threads have waited on average over so many seconds."""
        return sum(
            (after - self._waited[task]) / 1e9 / seconds
            for task, after in self.delays().items()
            if task in self._waited
        )

    def _take(self, threads: int) -> None:
        """Use so many threads from now on, where that changes no bit."""
        if threads != self.most and not self._same_bits(threads):
            threads = self.most
        self.threads = threads
        torch.set_num_threads(threads)
