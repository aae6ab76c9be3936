"""Threads for the steps of training are chosen by what makes most steps, and change no bit."""

from collections.abc import Iterator

import pytest
import torch

import ffengine
from ffengine import thread_choice, training
from ffengine.products import has_onednn
from ffengine.thread_choice import LONGEST_HOLD, ThreadChoice, waited
from tests.engine.specs import spec_of


class Machine:
    """Time passes with every step, as fast as so many threads are; they may wait meanwhile."""

    def __init__(self) -> None:
        self.now, self.delay = 0.0, 0
        self.seconds = {1: 0.019, 2: 0.010}  # a step takes
        self.waiting = {1: 0.0, 2: 0.0}  # threads that wait meanwhile

    def step(self) -> None:
        threads = torch.get_num_threads()
        self.now += self.seconds[threads]
        self.delay += int(1e9 * self.seconds[threads] * self.waiting[threads])


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def choice_on(machine: Machine) -> ThreadChoice:
    return ThreadChoice(clock=lambda: machine.now, delays=lambda: {"1": machine.delay})


def shares(choice: ThreadChoice, machine: Machine, steps: int, *, same: bool = True) -> list[int]:
    """How many threads each of so many steps has."""
    found = []
    with choice.for_steps("steps", lambda _threads: same):
        for _ in range(steps):
            found.append(torch.get_num_threads())
            machine.step()
            choice.look()
    assert torch.get_num_threads() == 2
    return found


def test_alone_all_threads_take_every_step() -> None:
    machine = Machine()
    assert set(shares(choice_on(machine), machine, 2000)) == {2}


def test_beside_a_busy_process_fewer_are_taken_where_that_is_faster_and_all_when_it_ends() -> None:
    machine = Machine()
    choice = choice_on(machine)
    machine.seconds[2], machine.waiting[2] = 0.035, 0.7
    busy = shares(choice, machine, 2000)
    assert busy.count(1) > 0.9 * len(busy)
    machine.seconds[2], machine.waiting[2] = 0.010, 0.0
    alone = shares(choice, machine, 4000)
    assert set(alone[-2000:]) == {2}


def test_epochs_shorter_than_a_look_are_looked_at_together() -> None:
    machine = Machine()
    choice = choice_on(machine)
    machine.seconds[2], machine.waiting[2] = 0.035, 0.7
    taken: list[int] = []
    for _ in range(600):
        taken += shares(choice, machine, 3)
        machine.now += 5.0  # a measurement
    assert taken.count(1) > 0.9 * len(taken)


def test_where_threads_wait_but_fewer_are_slower_all_stay() -> None:
    machine = Machine()
    machine.seconds, machine.waiting = {1: 0.06, 2: 0.025}, {1: 0.9, 2: 1.5}
    taken = shares(choice_on(machine), machine, 4000)
    # a trial takes a fifth of a second, at last every eight
    assert taken.count(1) < 0.03 * len(taken)
    assert LONGEST_HOLD == 8.0


def test_threads_that_change_bits_are_never_taken() -> None:
    machine = Machine()
    machine.seconds[2], machine.waiting[2] = 0.035, 0.7
    assert set(shares(choice_on(machine), machine, 1000, same=False)) == {2}


def test_a_choice_that_does_not_adapt_changes_nothing() -> None:
    machine = Machine()
    machine.waiting[2] = 1.0
    choice = ThreadChoice(adapts=False, clock=lambda: machine.now, delays=dict)
    assert set(shares(choice, machine, 500)) == {2}


def test_the_system_says_how_long_threads_waited() -> None:
    if not thread_choice.TASKS.exists():
        pytest.skip("this system does not say how long threads waited")
    assert all(nanoseconds >= 0 for nanoseconds in waited().values())


@pytest.mark.slow
@pytest.mark.skipif(not has_onednn(), reason="torch is built without oneDNN")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"network": {"widths": [24, 16], "normalize": "l2", "bias": True}},
        {"layers": "simultaneous", "network": {"widths": [24, 16]}, "optimizer": {"name": "adam"}},
        {"negatives": {"strategy": "wrong_label", "redraw": "once"}},
        {"negatives": {"strategy": "hardest_label"}},
    ],
)
def test_a_run_whose_threads_change_all_the_time_has_the_same_bits(
    changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(**changes)
    plain = ffengine.train(spec)
    taken = set()

    class Restless(ThreadChoice):
        def look(self) -> None:
            self._take(3 - self.threads)
            taken.add(torch.get_num_threads())

    monkeypatch.setattr(training, "ThreadChoice", Restless)
    other = ffengine.train(spec)
    assert taken == {1, 2}
    assert other.curves == plain.curves
    assert other.accuracy == plain.accuracy
    assert other.provenance.threads == plain.provenance.threads
