"""Waiting for what must happen: patient, for a machine may be busy, and telling what was seen where
it did not.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_SECONDS = 2.0  # between two looks at the progress, which may cost those who make it
# without any progress; on an idle machine most of what is waited for takes less than five
PATIENCE_SECONDS = 180.0
PROGRAM_SECONDS = 800.0  # of a program that computes; on an idle machine it takes less than sixty


def wait_until(
    found: Callable[[], T | None],
    description: str,
    *,
    seen: Callable[[], object] | None = None,
    seconds: float = PATIENCE_SECONDS,
    pause: float = 0.02,
) -> T:
    """What `found` finds, as soon as it is there.

    AssertionError where what is seen has not changed for so long, with it.
    """
    last: object = None
    since = looked = time.monotonic()
    while not (result := found()):
        now = time.monotonic()
        if seen and now - looked > min(LOOK_SECONDS, seconds):
            looked, before, last = now, last, seen()
            since = now if last != before else since
        if now - since > seconds:
            raise AssertionError(
                f"for {seconds:g} s in vain: {description}"
                + (f"; last seen: {last}" if seen else "")
            )
        time.sleep(pause)
    return result
