"""How long a worker stays that is the guest of a scheduler, such as Slurm."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

HAND_BACK_SECONDS = 60.0  # before its end a worker hands its job back, with a checkpoint
LEAST_SECONDS = 60.0  # a worker begins no job that it would hand back sooner


class NoMoment(ValueError):
    """A text is no moment that is to come."""


def moment(text: str, now: float | None = None) -> float:
    """Read a moment that is to come.

    **Arguments:**

    - `text`: UNIX seconds, as Slurm's SLURM_JOB_END_TIME has them, or ISO 8601, such as
      2026-11-28T18:00; local time where it names no zone.
    - `now`: UNIX seconds; None: this moment.

    **Returns:**

    UNIX seconds.

    **Raises:**

    - `NoMoment`: it is neither, or it is over.
    """
    try:
        is_seconds = text.isascii() and text.isdecimal()
        found = float(text) if is_seconds else datetime.fromisoformat(text).timestamp()
        datetime.fromtimestamp(found, UTC)  # it can be written
    except (ValueError, OverflowError, OSError):
        raise NoMoment(
            f"{text!r} is no time: write UNIX seconds or, for instance, 2026-11-28T18:00"
        ) from None
    if found <= (time.time() if now is None else now):
        raise NoMoment(f"{text} is over")
    return found


@dataclass(frozen=True)
class Stay:
    """How long a worker stays. By itself it stays until it is stopped.

    **Arguments:**

    - `idle_seconds`: it ends once it has had no job for so long.
    - `until`: UNIX seconds; it ends a minute before, and hands its job back.
    """

    idle_seconds: float | None = None
    until: float | None = None

    def over(self, idle_seconds: float | None, now: float) -> str | None:
        """Say why the stay is over; None where it is not.

        **Arguments:**

        - `idle_seconds`: for how long the worker has had no job; None where it has one.
        - `now`: UNIX seconds.
        """
        if self.until is not None and now >= self.until - HAND_BACK_SECONDS:
            return f"it stays until {_written(self.until)}"
        if self.idle_seconds is None or idle_seconds is None or idle_seconds < self.idle_seconds:
            return None
        return f"it has had no job for {self.idle_seconds:g} s"

    def begins_none(self, now: float) -> str | None:
        """Say why no job is begun at a moment in UNIX seconds; None where one is."""
        if self.until is None or now < self.until - HAND_BACK_SECONDS - LEAST_SECONDS:
            return None
        return f"it leaves at {_written(self.until - HAND_BACK_SECONDS)}"


FOR_EVER = Stay()


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
