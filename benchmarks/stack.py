"""The embedded stack seen from outside: its processes, found anew each time, for they are killed
and started again.
"""

import contextlib
from collections.abc import Callable

import psutil

from benchmarks.waiting import wait_until
from service.stack.stack import Stack, read_state


class Processes:
    """The processes of a running stack."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def running(self, name: str) -> psutil.Process | None:
        """A child of the supervisor (redis, api or worker), where it runs just now."""
        state = read_state(self.stack.state_file)
        known = state.children.get(name) if state else None
        try:
            return psutil.Process(known.pid) if known else None
        except psutil.NoSuchProcess:
            return None

    def child(self, name: str) -> psutil.Process:
        """The same, waited for."""
        return wait_until(lambda: self.running(name), f"{name} runs")

    def pool_child(self) -> psutil.Process:
        """Celery's one child process."""
        return wait_until(
            lambda: next(iter(children(self.child("worker"))), None), "Celery's child runs"
        )

    def runner(self) -> psutil.Process:
        """The process that computes."""
        return wait_until(lambda: next(iter(children(self.pool_child())), None), "the runner runs")

    def worker_tree(self) -> list[psutil.Process]:
        """The worker with everything below it."""
        worker = self.child("worker")
        return [worker, *children(worker, recursive=True)]


def children(process: psutil.Process, *, recursive: bool = False) -> list[psutil.Process]:
    """The children of a process; none of one that has ended."""
    try:
        return process.children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []


def signalled(processes: list[psutil.Process], act: Callable[[psutil.Process], object]) -> None:
    """Do something to each process that is still there."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            act(process)
