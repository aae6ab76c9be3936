"""One device's work: claim a job, hand it to the runner, keep its lease, stop it when it is to
stop, replace what died.

`Supervisor.run` is the body of the queue's one task; it knows nothing of the queue.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from service.jobs import Command
from service.settings import Settings
from service.store import Claim, LeaseLost, Queue
from workers.db_retry import DATABASE_AWAY, DatabaseStillAway, patiently
from workers.process import RunnerProcess
from workers.protocol import Ended, Start, Stop

TICK_SECONDS = 0.2
RENEW_SECONDS = 0.6  # with the tick: a cancel is noticed within a second
CLOSE_SECONDS = 2.0
JOBS_PER_RUNNER = 100  # then it is replaced, against whatever leaks

Reason = Literal["cancel", "pause", "expire", "shutdown", "lease_lost"]
WISHES: dict[Command, Reason | None] = {
    Command.run: None,
    Command.pause: "pause",
    Command.cancel: "cancel",
    Command.expire: "expire",
}

log = logging.getLogger(__name__)


@dataclass
class StopRequest:
    """A runner that was told to stop: by a flag at first, then by SIGTERM, then by SIGKILL."""

    reason: Reason
    since: float
    limit_seconds: float
    terminated: bool = False

    @property
    def share(self) -> float:
        """The part of the time that it has: an attempt whose checkpoint no one needs is not waited
        for as long.
        """
        return 1.0 if self.reason in ("pause", "expire", "shutdown") else 0.2

    def escalate(self, runner: RunnerProcess, now: float) -> None:
        """Use force where its time is over."""
        waited, limit = now - self.since, self.limit_seconds * self.share
        if waited >= limit:
            log.warning("runner %d did not stop (%s) and is killed", runner.pid, self.reason)
            runner.kill()
        elif waited >= limit / 2 and not self.terminated:
            self.terminated = True
            runner.terminate()


class Supervisor:
    """The owner of one runner. `run` and `warm` are for the main thread."""

    def __init__(
        self,
        queue: Queue,
        settings: Settings,
        worker: str,
        command: Sequence[str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue, self.settings, self.worker, self.command, self.clock = (
            queue,
            settings,
            worker,
            command,
            clock,
        )
        self.shutdown = threading.Event()
        self.news = threading.Event()  # another job, or none: the heartbeat is to say so
        self.runner: RunnerProcess | None = None
        self.current_job: str | None = None
        self.idle_since: float | None = clock()

    def warm(self) -> RunnerProcess:
        """A runner that lives; a new one loads torch meanwhile."""
        if self.runner is not None and self.runner.alive and self.runner.jobs < JOBS_PER_RUNNER:
            return self.runner
        if self.runner is not None:
            self.runner.close(CLOSE_SECONDS)
        self.runner = RunnerProcess(self.command)
        return self.runner

    def close(self) -> None:
        """Let the runner go."""
        if self.runner is not None:
            self.runner.close(CLOSE_SECONDS)

    def run(self) -> None:
        """A bell: take jobs, the first in the queue first, until there is none left.

        So the order is that of the database at the moment of the claim, and a queue is worked off
        even while the broker is away.
        """
        try:
            while (claim := self._claim()) is not None:
                self.current_job, self.idle_since = claim.job_id, None
                self.news.set()
                self._supervise_attempt(claim)
                if not self.shutdown.is_set():
                    self.warm()
        finally:
            if self.current_job is not None:
                self.current_job, self.idle_since = None, self.clock()
                self.news.set()

    def _claim(self) -> Claim | None:
        if self.shutdown.is_set():
            return None
        try:
            return self.queue.claim_next(self.worker, self.settings.lease_seconds)
        except DATABASE_AWAY as error:
            log.warning(
                "no job could be claimed, the bell will ring again: %s", str(error).splitlines()[0]
            )
            return None

    def _supervise_attempt(self, claim: Claim) -> None:
        runner = self.warm()
        runner.jobs += 1
        runner.say(Start(job_id=claim.job_id, attempt=claim.attempt, spec=claim.spec))
        stopping: StopRequest | None = None
        renewed = self.clock()
        while (ended := runner.next(TICK_SECONDS)) is None and not runner.closed.is_set():
            now, reason = self.clock(), None
            if now - renewed >= RENEW_SECONDS:
                renewed, reason = now, self._renew(claim)
            if stopping is not None:
                stopping.escalate(runner, now)
            elif reason or self.shutdown.is_set():
                stopping = StopRequest(reason or "shutdown", now, self.settings.stop_seconds)
                log.info(
                    "%s attempt %d is told to stop: %s",
                    claim.job_id,
                    claim.attempt,
                    stopping.reason,
                )
                runner.say(Stop(keep=stopping.reason != "lease_lost"))
        self._settle(claim, runner, ended or runner.next(0), stopping)

    def _renew(self, claim: Claim) -> Reason | None:
        """Keep the lease; why the attempt is to stop, if it is."""
        try:
            wanted = self.queue.renew(claim.job_id, claim.attempt, self.settings.lease_seconds)
        except LeaseLost:
            return "lease_lost"
        except DATABASE_AWAY as error:
            log.warning(
                "the lease of %s could not be renewed: %s", claim.job_id, str(error).splitlines()[0]
            )
            return None
        return WISHES[wanted]

    def _settle(
        self, claim: Claim, runner: RunnerProcess, ended: Ended | None, stopping: StopRequest | None
    ) -> None:
        """Write down how the attempt ended, unless the runner has done so, or another attempt has
        begun.
        """
        if ended is not None and ended.outcome != "stopped":
            return
        try:
            if ended is not None or stopping is not None:
                state = patiently(
                    lambda: self.queue.finish_stopped(claim.job_id, claim.attempt), self.shutdown
                )
            else:
                how = runner.exit_description()
                state = patiently(
                    lambda: self.queue.lose(
                        claim.job_id, claim.attempt, how, self.settings.max_losses
                    ),
                    self.shutdown,
                )
            log.info("%s attempt %d: %s", claim.job_id, claim.attempt, state)
        except LeaseLost:
            log.info("%s attempt %d is no longer ours", claim.job_id, claim.attempt)
        except DatabaseStillAway:
            log.warning(
                "%s attempt %d: the database is away; its lease runs out",
                claim.job_id,
                claim.attempt,
            )
