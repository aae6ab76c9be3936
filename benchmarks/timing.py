"""Medians of alternating rounds, so that what else the machine does hits both sides alike."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

Work = Callable[[], object]


class Row(NamedTuple):
    """One line of the table: a ratio of medians, and the bar that it is to stay under."""

    name: str
    meaning: str
    shapes: str
    ours_seconds: float
    other_seconds: float
    ratio: float
    bar: float | None  # None: there is none for these shapes
    rounds: int

    @property
    def met(self) -> bool:
        """Whether the ratio is at or under its bar."""
        return self.bar is None or self.ratio <= self.bar


def compare(
    name: str,
    meaning: str,
    shapes: str,
    bar: float | None,
    ours: Work,
    other: Work,
    *,
    rounds: int,
    device: torch.device,
    of: Callable[[list[float]], float] = statistics.median,
) -> Row:
    """Time both works alternately after one untimed round each; the ratio is that of the medians,
    or of what else `of` takes: `min` where the machine does other things.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for work, found in zip((ours, other), seconds, strict=True):
            spent = timed(work, device)
            if number:
                found.append(spent)
    mine, theirs = (of(found) for found in seconds)
    return Row(name, meaning, shapes, mine, theirs, mine / theirs, bar, rounds)


def timed(work: Work, device: torch.device) -> float:
    """Wall seconds of one run, the device's queue included."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def median_seconds(work: Work, rounds: int, device: torch.device) -> float:
    """The median over rounds, after one untimed."""
    work()
    return statistics.median(timed(work, device) for _ in range(rounds))


def wait(device: torch.device) -> None:
    """Until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
