"""Changes of workers that administrators ask for, over REST or in the page."""

from ffengine.text import visible
from service.encoding.viewer import VIEWER
from service.schemas import WorkerLine
from service.web import problems
from service.web.dependencies import Resources


def drain(resources: Resources, worker_id: str) -> WorkerLine:
    """Let a live worker finish what it has and begin nothing else. Raises NoSuchWorker."""
    return _alive(resources.store.workers.drain(worker_id, VIEWER.get().name), worker_id)


def undrain(resources: Resources, worker_id: str) -> WorkerLine:
    """Let a drained worker take jobs again, those that wait at once. Raises NoSuchWorker."""
    found = _alive(resources.store.workers.undrain(worker_id), worker_id)
    resources.reconciler.wake()
    return found


def _alive(worker: WorkerLine | None, worker_id: str) -> WorkerLine:
    if worker is None:
        raise problems.NoSuchWorker(f"no worker {visible(worker_id)!r} is alive")
    return worker
