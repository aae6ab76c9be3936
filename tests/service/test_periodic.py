"""A periodic thread: it ticks by itself, at once when woken, and outlives what a tick raises."""

import sqlite3
import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.exc import OperationalError

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.background.periodic import PeriodicThread

AWAY = OperationalError("SELECT 1", {}, sqlite3.OperationalError("unable to open\nanother line"))
FOR_EVER = 10 * PATIENCE_SECONDS


class Counting(PeriodicThread):
    """Counts what it was asked to do."""

    def __init__(self, interval_seconds: float) -> None:
        super().__init__("counting", interval_seconds)
        self.ticks = self.wakes = self.outages = 0
        self.left, self.failures = 0, list[Exception]()

    def tick(self) -> None:
        self.ticks += 1
        if self.failures:
            raise self.failures.pop()
        self.left -= 1
        self.has_more = self.left > 0

    def on_wake(self) -> None:
        self.wakes += 1

    def on_database_away(self) -> None:
        self.outages += 1


@pytest.fixture
def counting() -> Iterator[Callable[[float], Counting]]:
    made: list[Counting] = []

    def make(interval_seconds: float) -> Counting:
        made.append(Counting(interval_seconds))
        return made[-1]

    yield make
    for thread in made:
        if thread.is_alive():
            thread.stop()


def test_it_ticks_at_its_interval(counting: Callable[[float], Counting]) -> None:
    thread = counting(0.01)
    thread.start()
    wait_until(lambda: thread.ticks >= 3, "it has ticked three times")
    assert thread.wakes == 0


def test_a_wake_is_acted_on_before_the_next_tick(counting: Callable[[float], Counting]) -> None:
    thread = counting(FOR_EVER)
    thread.start()
    wait_until(lambda: thread.ticks == 1, "it ticks when it starts")
    for wakes in (1, 2):
        thread.wake()
        wait_until(lambda wakes=wakes: thread.wakes == wakes, "it was woken")
    assert thread.ticks == 1


def test_without_an_own_way_a_wake_ticks(counting: Callable[[float], Counting]) -> None:
    class Plain(Counting):
        on_wake = PeriodicThread.on_wake

    thread = Plain(FOR_EVER)
    thread.start()
    wait_until(lambda: thread.ticks == 1, "it ticks when it starts")
    thread.wake()
    wait_until(lambda: thread.ticks == 2, "it ticks when it is woken")
    thread.stop()


def test_what_is_left_is_done_without_a_pause(counting: Callable[[float], Counting]) -> None:
    thread = counting(FOR_EVER)
    thread.left = 5
    thread.start()
    wait_until(lambda: thread.ticks == 5, "nothing is left")
    assert (thread.left, thread.has_more) == (0, False)


def test_it_outlives_the_database_and_every_other_error(
    counting: Callable[[float], Counting], caplog: pytest.LogCaptureFixture
) -> None:
    thread = counting(0.01)
    thread.failures = [ZeroDivisionError("a fault"), AWAY]
    thread.start()
    wait_until(lambda: thread.ticks >= 3, "it goes on after both")
    assert thread.outages == 1
    [away] = [message for message in caplog.messages if "the database is away" in message]
    assert away.startswith("counting: the database is away: ")
    assert "another line" not in away
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.getMessage().startswith("counting: a tick failed")


def test_a_long_outage_is_two_lines_and_a_lasting_fault_one(
    counting: Callable[[float], Counting], caplog: pytest.LogCaptureFixture
) -> None:
    thread = counting(0.001)
    thread.failures = [*[ZeroDivisionError("a fault")] * 20, *[AWAY] * 20]
    thread.start()
    wait_until(lambda: thread.ticks > 40, "it goes on after all of them")
    thread.stop()
    assert thread.outages == 20
    assert [message.partition(":")[2].strip()[:23] for message in caplog.messages] == [
        "the database is away: (",
        "a tick failed; the next",
        "the database is back, a",
    ]


def test_a_stop_waits_for_the_tick_at_hand(counting: Callable[[float], Counting]) -> None:
    begun, release = threading.Event(), threading.Event()

    class Slow(Counting):
        def tick(self) -> None:
            begun.set()
            release.wait(PATIENCE_SECONDS)
            super().tick()

    thread = Slow(FOR_EVER)
    thread.start()
    assert begun.wait(PATIENCE_SECONDS)
    stopper = threading.Thread(target=thread.stop)
    stopper.start()
    release.set()
    stopper.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert thread.ticks == 1
