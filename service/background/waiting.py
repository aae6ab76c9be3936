"""Says why queued jobs are not begun: there is nobody who could, or nobody hears of them."""

from collections.abc import Sequence

from service.schemas import CANNOT_COMPUTE, WorkerLine
from service.store.queue import WAITS

NO_WORKER = f"{WAITS}no worker is running: start one with `fflab worker`"
NO_BROKER = (
    f"{WAITS}the API was started without FFLAB_REDIS_URL, so that no worker hears of new jobs"
)
REPAIR = "repair its installation, `fflab doctor` on its machine says more"
MAKE_ROOM = "delete jobs that are not needed, or make room"
BROKER_AWAY = f"{WAITS}Redis does not answer, so that no worker hears of new jobs"


def why_jobs_wait(
    workers: Sequence[WorkerLine], broker_ok: bool | None, no_room: str | None
) -> str | None:
    """Why no queued job can begin now; None where one can, or only waits for its turn.

    **Arguments:**

    - `workers`: those that are alive.
    - `broker_ok`: whether the broker answered last; None: there is none.
    - `no_room`: what lacks on the disk; None: nothing.
    """
    if not workers:
        return NO_WORKER
    if broker_ok is None:
        return NO_BROKER
    if no_room:
        return f"{WAITS}{no_room}: {MAKE_ROOM}"
    paused = [worker.paused for worker in workers if worker.can_compute]
    if not paused:
        return f"{WAITS}no worker can compute: {_without_beginning(workers[0])}; {REPAIR}"
    if all(paused):
        return f"{WAITS}every worker pauses, {paused[0]}: {MAKE_ROOM}"
    return None if broker_ok else BROKER_AWAY


def _without_beginning(worker: WorkerLine) -> str:
    """Return why a worker cannot compute."""
    return (worker.paused or "").removeprefix(CANNOT_COMPUTE)
