"""Does harm at random to a running stack: kills, freezes, empties, locks, repeats messages."""

import contextlib
import random
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable

import psutil
import redis

from benchmarks.stack import Processes, signalled
from service.background.dispatcher import BrokerAway, Dispatcher
from service.stack.stack import Stack
from service.store import Store


class Monkey(threading.Thread):
    """Causes one fault after the other until it is stopped. `done` counts them."""

    def __init__(
        self, stack: Stack, seed: int, pause: tuple[float, float], faults: list[str]
    ) -> None:
        super().__init__(name="monkey")
        self.processes, self.stack, self.pause = Processes(stack), stack, pause
        self.done: Counter[str] = Counter()
        self._chance = random.Random(f"{seed}/monkey")  # noqa: S311 - no secret
        self._ending = threading.Event()
        self.faults = faults

    def stop(self) -> None:
        """End after the fault at hand; nothing stays frozen."""
        self._ending.set()
        self.join()

    def run(self) -> None:
        """Cause faults at random until stopped."""
        while not self._ending.wait(self._chance.uniform(*self.pause)):
            name = self._chance.choice(self.faults)
            with contextlib.suppress(psutil.NoSuchProcess, AssertionError):  # it was dead already
                FAULT_ACTIONS[name](self)
                self.done[name] += 1

    def kill(self, name: str) -> None:
        """Kill a child of the supervisor."""
        signalled([self.processes.child(name)], psutil.Process.kill)

    def freeze(self, processes: list[psutil.Process], least: float, most: float) -> None:
        """Hold processes for a while."""
        signalled(processes, psutil.Process.suspend)
        self._ending.wait(self._chance.uniform(least, most))
        signalled(processes, psutil.Process.resume)

    def drop_redis(self) -> None:
        """Kill Redis and drop its data."""
        self.kill("redis")
        for folder in (self.stack.home / "redis").glob("appendonly*"):
            shutil.rmtree(folder, ignore_errors=True)

    def flush(self) -> None:
        """Empty Redis."""
        with (
            contextlib.suppress(redis.RedisError),
            redis.Redis.from_url(self.stack.redis_url, socket_timeout=2.0) as client,
        ):
            client.flushall()

    def lock_database(self) -> None:
        """Keep everybody from writing for a while."""
        connection = sqlite3.connect(
            self.stack.home / "fflab.db", isolation_level=None, timeout=5.0
        )
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(self._chance.uniform(0.5, 4.0))
            connection.execute("ROLLBACK")
        connection.close()

    def dispatch(self) -> None:
        """Send the messages of some jobs again, three times each."""
        store, dispatcher = Store(self.stack.settings.database), Dispatcher(self.stack.redis_url)
        with contextlib.suppress(BrokerAway):
            jobs = [job.id for job in store.jobs.page(limit=5, children=True).jobs]
            dispatcher.dispatch(jobs * 3)
        dispatcher.close()
        store.close()


FAULT_ACTIONS: dict[str, Callable[[Monkey], None]] = {
    "worker killed": lambda monkey: monkey.kill("worker"),
    "worker tree killed": lambda monkey: signalled(
        monkey.processes.worker_tree(), psutil.Process.kill
    ),
    "pool child killed": lambda monkey: signalled(
        [monkey.processes.pool_child()], psutil.Process.kill
    ),
    "runner killed": lambda monkey: signalled([monkey.processes.runner()], psutil.Process.kill),
    "worker terminated": lambda monkey: signalled(
        [monkey.processes.child("worker")], psutil.Process.terminate
    ),
    "worker tree frozen": lambda monkey: monkey.freeze(monkey.processes.worker_tree(), 1.0, 9.0),
    "runner frozen": lambda monkey: monkey.freeze([monkey.processes.runner()], 1.0, 7.0),
    "API killed": lambda monkey: monkey.kill("api"),
    "API terminated": lambda monkey: signalled(
        [monkey.processes.child("api")], psutil.Process.terminate
    ),
    "API frozen": lambda monkey: monkey.freeze([monkey.processes.child("api")], 0.5, 3.0),
    "Redis killed": lambda monkey: monkey.kill("redis"),
    "Redis killed and its data dropped": Monkey.drop_redis,
    "Redis emptied": Monkey.flush,
    "Redis frozen": lambda monkey: monkey.freeze([monkey.processes.child("redis")], 1.0, 6.0),
    "database locked": Monkey.lock_database,
    "messages sent three times": Monkey.dispatch,
}
FAULTS = list(FAULT_ACTIONS)
