"""How many jobs may wait: the bound on all of them, and counting at a price that stays the same."""

import threading
import time

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.jobs import JobState, Wanted
from service.store.needs import UNFINISHED
from service.store.tables import JobRow, now_seconds

RECOUNT_SECONDS = 1.0
# the bound is counted for exactly from so many jobs below it on: between two counts of this process
# the others can add far fewer
SPARE_JOBS = 1_000
_QUEUED = select(func.count()).where(JobRow.state == JobState.queued.value, JobRow.kind != "study")
# runs that have no row yet. A study that is paused, or is to be, makes none: like its paused runs,
# they wait again when it is resumed
UNMADE = select(func.coalesce(func.sum(JobRow.cells - JobRow.cells_made), 0)).where(
    JobRow.kind == "study", UNFINISHED
)
WAITING_UNMADE = UNMADE.where(
    JobRow.wanted == Wanted.run.value, JobRow.state != JobState.paused.value
)
# built once, because submits ask it
_WAITING = select(_QUEUED.scalar_subquery() + WAITING_UNMADE.scalar_subquery())
_NOW = select(now_seconds())


class QueueFull(Exception):
    """Too many jobs wait already."""


def count_waiting(session: Session) -> int:
    """How many jobs wait for a worker or are not made yet."""
    return session.scalar(_WAITING) or 0


def read_clock(session: Session) -> float:
    """The database's clock."""
    return session.scalar(_NOW) or 0.0


class QueueLimit:
    """Refuses jobs beyond the number that may wait, mostly without counting those that do.

    A count costs as much as there are jobs in the queue. So a single job is let in by the count of
    the last second and what this process has added since, as long as it is far from the bound.
    Studies, and whatever comes near the bound, are counted exactly.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting, self._counted_at = 0, -float("inf")

    def admit(self, session: Session, jobs: int, most: int) -> None:
        """Raise QueueFull where more than `most` jobs would wait with these `jobs` more."""
        if jobs == 1 and self._is_far_from(most):
            return
        waiting = count_waiting(session) + jobs
        if waiting > most:
            raise QueueFull
        with self._lock:
            self._waiting, self._counted_at = waiting, time.monotonic()

    def _is_far_from(self, most: int) -> bool:
        """Whether one more job surely has room; it is counted then."""
        with self._lock:
            is_recent = time.monotonic() - self._counted_at < RECOUNT_SECONDS
            if not is_recent or self._waiting + SPARE_JOBS >= most:
                return False
            self._waiting += 1
            return True
