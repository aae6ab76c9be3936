"""Large results: one request at a time takes one into memory, whatever the number of readers."""

import contextlib
import threading
from collections.abc import Iterator, Sequence

from service.jobs import Job
from service.store import Store

LARGE_BYTES = 8 * 2**20  # of a result's JSON; as objects it takes five times as much

_turn = threading.Lock()


@contextlib.contextmanager
def turn_for(store: Store, jobs: Sequence[Job]) -> Iterator[None]:
    """Wait until no other request holds a large result, where those of these jobs are large."""
    if store.jobs.result_bytes([job.id for job in jobs]) <= LARGE_BYTES:
        yield
        return
    with _turn:
        yield
