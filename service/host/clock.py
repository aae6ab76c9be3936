"""The clock that leases are measured with in one process."""

import time

# macOS has no such clock; its monotonic one is the nearest
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds of a clock that also runs while the machine sleeps, as a lease does.

    The time that a job may take is another matter: it stands still with the machine, see
    `service.store.leases.renewed`.
    """
    return time.clock_gettime(_CLOCK)
