"""The clock that leases are measured with in one process."""

import time

# macOS has no such clock; its monotonic one is the nearest
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds of a clock that also runs while the machine sleeps, as a lease does."""
    return time.clock_gettime(_CLOCK)
