"""The one way to wait in tests: at once where it is there, patient while there is progress, telling
what was seen last.
"""

import itertools

import pytest

from benchmarks import waiting
from benchmarks.waiting import wait_until


def test_what_is_found_is_returned_as_soon_as_it_is_there() -> None:
    answers = iter((None, 0, "found", "later"))
    assert wait_until(lambda: next(answers), "an answer", pause=0.0) == "found"


def test_who_waits_in_vain_is_told_what_was_seen_last() -> None:
    with pytest.raises(AssertionError, match=r"^for 0.05 s in vain: it ends; last seen: half way$"):
        wait_until(lambda: None, "it ends", seen=lambda: "half way", seconds=0.05, pause=0.0)
    with pytest.raises(AssertionError, match=r"^for 0.01 s in vain: it ends$"):
        wait_until(lambda: None, "it ends", seconds=0.01, pause=0.0)


def test_progress_lends_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, steps = itertools.count(0.0, 1.0), itertools.count()
    monkeypatch.setattr(waiting.time, "monotonic", lambda: next(clock))
    tries = itertools.count()
    assert wait_until(
        lambda: next(tries) > 100, "it ends", seen=lambda: next(steps), seconds=5.0, pause=0.0
    )
