"""Says why queued jobs are not begun: there is nobody who could, or nobody hears of them."""

from collections.abc import Sequence

from ffengine.spec_versions import FIRST_VERSION, SPEC_VERSION
from ffengine.version import VERSION
from service.placement import GB
from service.schemas import CANNOT_COMPUTE, WorkerLine
from service.store.inserts import MISSING_PLUGIN, WAITS
from service.store.queue import ANY_ROOM, NEEDS, Room

NO_WORKER = f"{WAITS}no worker is running: start one with `fflab worker`"
NO_BROKER = (
    f"{WAITS}the API was started without FFLAB_REDIS_URL, so that no worker hears of new jobs"
)
REPAIR = "repair its installation, `fflab doctor` on its machine says more"
MAKE_ROOM = "delete jobs that are not needed, or make room"
UNDRAIN = "start another one, or let it take jobs again with `fflab worker undrain`"
REINSTALL = "install it again for the API and its workers, and submit the job anew"
INSTALL = "install the same one for the API and its workers, and restart them"
UPGRADE = "upgrade a worker"
START_OR_CHANGE = "start a worker that has it, or change what the job needs"
MOST_NAMED = 3  # workers that lack a plug-in
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
    if all(worker.draining for worker in workers if worker.can_compute):
        return f"{WAITS}every worker is {paused[0]}: {UNDRAIN}"
    if all(paused):
        lacking = next(one.paused for one in workers if one.can_compute and not one.draining)
        return f"{WAITS}every worker pauses, {lacking}: {MAKE_ROOM}"
    return None if broker_ok else BROKER_AWAY


def why_plugins_lack(workers: Sequence[WorkerLine], needed: Sequence[str]) -> str | None:
    """Why no worker can begin a job that needs plug-ins; None where one has them all.

    **Arguments:**

    - `workers`: those that are alive.
    - `needed`: the identities of the plug-ins, see PluginUse.
    """
    if missing := [one for one in needed if one.startswith(MISSING_PLUGIN)]:
        entries = ", ".join(one.removeprefix(MISSING_PLUGIN) for one in missing)
        return f"{WAITS}the plug-in of {entries} is not installed: {REINSTALL}"
    able = [worker for worker in workers if worker.can_compute]
    have = [{plugin.identity: plugin for plugin in worker.plugins} for worker in able]
    if not able or any(set(needed) <= set(found) for found in have):
        return None
    lacking = [
        f"needs {_in_words(one)}, which {_and_others(able, one)}"
        for one in needed
        if not all(one in found for found in have)
    ]
    return f"{WAITS}{'; '.join(lacking)}: {INSTALL}"


def why_not_understood(workers: Sequence[WorkerLine], needed: int) -> str | None:
    """Why no worker can begin a job of a newer version of specs; None where one understands it.

    **Arguments:**

    - `workers`: those that are alive.
    - `needed`: the version of specs that the job needs.
    """
    able = [worker for worker in workers if worker.can_compute]
    if not able or any(_known_by(worker) >= needed for worker in able):
        return None
    known = sorted({(_known_by(worker), worker.version) for worker in able})
    there = ", ".join(f"{version} (fflab {package})" for version, package in known[:MOST_NAMED])
    ours = f"this API is fflab {VERSION} and knows {SPEC_VERSION}"
    return (
        f"{NEEDS}version {needed} of specs, and the live workers know {there}, while {ours}: "
        f"{UPGRADE}"
    )


def _known_by(worker: WorkerLine) -> int:
    """The version of specs that a worker knows; those from before there were any say none."""
    return worker.spec_version or FIRST_VERSION


def room_for(workers: Sequence[WorkerLine], device: str | None, tags: Sequence[str]) -> Room:
    """What live workers have for jobs that need a kind of device and tags.

    **Arguments:**

    - `workers`: those that are alive. Those that cannot compute, or are drained, do not count.
    - `device`: the kind of device; None: either.
    - `tags`: a worker must have all of them.
    """
    able = [worker for worker in workers if worker.can_compute and not worker.draining]
    if not able:
        return ANY_ROOM
    of_kind = [one for one in able if device in (None, _kind(one))]
    if not of_kind:
        there = ", ".join(sorted({_kind(one) for one in able}))
        return Room(f"{NEEDS}device={device}, and the live workers have {there}: {START_OR_CHANGE}")
    tagged = [one for one in of_kind if set(tags) <= set(one.tags)]
    if not tagged:
        said = [f"{one.id} has {','.join(one.tags) or 'none'}" for one in of_kind[:MOST_NAMED]]
        others = len(of_kind) - MOST_NAMED
        said += [f"{others} others do not have them"] if others > 0 else []
        return Room(f"{NEEDS}tags={','.join(tags)}, and {', '.join(said)}: {START_OR_CHANGE}")
    known = [one.memory_bytes for one in tagged if one.memory_bytes is not None]
    if len(known) < len(tagged):
        return ANY_ROOM
    most = max(known)
    return Room(
        None,
        most,
        f"{NEEDS}more memory than the live workers that it could have, which have "
        f"{most / GB:.1f} GB at most: {START_OR_CHANGE}",
    )


def _kind(worker: WorkerLine) -> str:
    return worker.device.partition(":")[0]


def _in_words(identity: str) -> str:
    """Write an identity as a package and its version."""
    package, _, rest = identity.partition("==")
    return f"{package} {rest.partition('@')[0]}"


def _and_others(workers: Sequence[WorkerLine], needed: str) -> str:
    """Say what workers have instead of a plug-in; the first few of those that lack it."""
    said = [
        f"{worker.id} {differs}" for worker in workers if (differs := _difference(worker, needed))
    ]
    others = f" and {len(said) - MOST_NAMED} others" if len(said) > MOST_NAMED else ""
    return ", ".join(said[:MOST_NAMED]) + others


def _difference(worker: WorkerLine, needed: str) -> str | None:
    """Say what a worker has of a plug-in that it should have; None where it has that."""
    package, version = needed.partition("@")[0].split("==")
    found = next((plugin for plugin in worker.plugins if plugin.package == package), None)
    if found is None:
        return "does not have"
    if found.identity == needed:
        return None
    if found.version == version:
        return f"has with other code ({found.code_digest[:8]})"
    return f"has as {found.version}"


def _without_beginning(worker: WorkerLine) -> str:
    """Return why a worker cannot compute."""
    return (worker.paused or "").removeprefix(CANNOT_COMPUTE)
