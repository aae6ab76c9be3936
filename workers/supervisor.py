"""The supervisor of one device: claims jobs and oversees the runner that computes them.

It renews their leases, stops them on request and replaces a runner that died.

`Supervisor.run` is the body of the Celery task. This module knows nothing of Celery.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from service.host.disk import lack_of_room
from service.host.log_limits import Outage
from service.jobs import Command
from service.schemas import CANNOT_COMPUTE
from service.settings import Settings
from service.store import Claim, LeaseLost, Queue
from service.store.database import DATABASE_ERRORS
from workers.db_retry import DatabaseStillAway, retry_while_unavailable
from workers.process import RunnerProcess
from workers.protocol import Ended, Start, Stop, log_fields

TICK_SECONDS = 0.2
RENEW_SECONDS = 0.6  # together with a tick, a cancellation is noticed within a second
CLOSE_SECONDS = 2.0
JOBS_PER_RUNNER = 100  # then the runner is replaced, in case a library leaks memory

Reason = Literal["cancel", "pause", "expire", "shutdown", "lease_lost"]
STOP_REASONS: dict[Command, Reason | None] = {
    Command.run: None,
    Command.pause: "pause",
    Command.cancel: "cancel",
    Command.expire: "expire",
}

log = logging.getLogger(__name__)


@dataclass
class StopRequest:
    """A request to a runner to stop: first by a message, then by SIGTERM, then by SIGKILL."""

    reason: Reason
    since: float
    limit_seconds: float
    terminated: bool = False

    @property
    def share(self) -> float:
        """The share of `limit_seconds` that the runner has: less if no checkpoint is needed."""
        return 1.0 if self.reason in ("pause", "expire", "shutdown") else 0.2

    def escalate(self, runner: RunnerProcess, now: float) -> None:
        """Send the signal that is due. `now` is in seconds of the supervisor's clock."""
        waited, limit = now - self.since, self.limit_seconds * self.share
        if waited >= limit:
            log.warning("runner %d did not stop (%s) and is killed", runner.pid, self.reason)
            runner.kill()
        elif waited >= limit / 2 and not self.terminated:
            self.terminated = True
            runner.terminate()


class Supervisor:
    """Owns one runner. Call `run` and `ensure_runner` in the main thread."""

    def __init__(
        self,
        queue: Queue,
        settings: Settings,
        worker: str,
        command: Sequence[str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue, self.settings, self.worker = queue, settings, worker
        self.command, self.clock = command, clock
        self.shutdown = threading.Event()
        self.on_state_change: Callable[[], None] = lambda: None  # called at a new job, or none
        self.runner: RunnerProcess | None = None
        self.current_job: str | None = None
        self.idle_since: float | None = clock()
        self.lack_of_room: str | None = None  # for which no job is begun
        self.runner_fault: str | None = None  # why the runner cannot start
        self._outage = Outage(log, "renewing leases: the database")

    def ensure_runner(self) -> RunnerProcess:
        """Return the live runner, or start a new one, which loads torch in the background."""
        if self.runner is not None and self.runner.alive and self.runner.jobs < JOBS_PER_RUNNER:
            return self.runner
        if self.runner is not None:
            self.runner.close(CLOSE_SECONDS)
        self.runner = RunnerProcess(self.command)
        return self.runner

    def close(self) -> None:
        """Close the runner."""
        if self.runner is not None:
            self.runner.close(CLOSE_SECONDS)

    def run(self) -> None:
        """Claim and run the first job of the queue, until the queue is empty.

        The order is therefore that of the database at each claim, and the queue is worked off even
        while the broker is away.
        """
        try:
            while (claim := self._claim()) is not None:
                self.current_job, self.idle_since = claim.job_id, None
                self.on_state_change()
                self._supervise_attempt(claim)
                if not self.shutdown.is_set():
                    self.ensure_runner()
        finally:
            if self.current_job is not None:
                self.current_job, self.idle_since = None, self.clock()
                self.on_state_change()

    def _claim(self) -> Claim | None:
        if self.shutdown.is_set() or not self.has_room() or not self._has_runner():
            return None
        try:
            return self.queue.claim_next(self.worker, self.settings.lease_seconds)
        except DATABASE_ERRORS as error:
            log.warning(
                "no job could be claimed, until the next message: %s",
                str(error).splitlines()[0],
                extra={"worker": self.worker},
            )
            return None

    @property
    def paused(self) -> str | None:
        """Why no job is begun; None where jobs are begun."""
        if self.runner_fault:
            return f"{CANNOT_COMPUTE}{self.runner_fault}"
        return self.lack_of_room

    def look_at_runner(self) -> None:
        """Note whether the runner has started; a change is logged."""
        before, runner = self.runner_fault, self.runner
        if runner is None or not runner.started.is_set():
            return
        self.runner_fault = None if runner.ready else runner.start_failure()
        if self.runner_fault and self.runner_fault != before:
            log.error(
                "no job is begun, the runner cannot start: %s",
                self.runner_fault,
                extra={"worker": self.worker},
            )
        elif before and not self.runner_fault:
            log.warning("jobs are begun again", extra={"worker": self.worker})

    def _has_runner(self) -> bool:
        """Whether the runner has started, which is waited for; one that could not is tried anew.

        A job that is claimed before is lost with a runner that cannot start, and after some such
        losses it fails, although another worker could compute it.
        """
        if self.runner is None:  # the first attempt starts it
            return True
        runner = self.ensure_runner()
        while not runner.started.wait(TICK_SECONDS) and not self.shutdown.is_set():
            pass
        self.look_at_runner()
        return self.runner_fault is None

    def has_room(self) -> bool:
        """Whether the disk of the artifacts has the reserve free; a change is logged."""
        before, folder = self.lack_of_room, self.settings.artifacts
        try:
            self.lack_of_room = lack_of_room(folder, self.settings.disk_reserve)
        except OSError as error:  # as of a network folder that is gone
            self.lack_of_room = f"{folder} cannot be reached ({error.strerror})"
        if self.lack_of_room and not before:
            log.warning("no job is begun: %s", self.lack_of_room, extra={"worker": self.worker})
        elif before and not self.lack_of_room:
            log.warning("jobs are begun again", extra={"worker": self.worker})
        return self.lack_of_room is None

    def _supervise_attempt(self, claim: Claim) -> None:
        runner = self.ensure_runner()
        runner.jobs += 1
        runner.send(Start(job_id=claim.job_id, attempt=claim.attempt, spec=claim.spec))
        stopping: StopRequest | None = None
        renewed = self.clock()
        while (ended := runner.wait_for_end(TICK_SECONDS)) is None and not runner.closed.is_set():
            now, reason = self.clock(), None
            if now - renewed >= RENEW_SECONDS:
                renewed, reason = now, self._renew(claim)
            if stopping is not None:
                stopping.escalate(runner, now)
            elif reason or self.shutdown.is_set():
                stopping = StopRequest(reason or "shutdown", now, self.settings.stop_seconds)
                log.info(
                    "%s attempt %d is asked to stop: %s",
                    claim.job_id,
                    claim.attempt,
                    stopping.reason,
                    extra=self._log_fields(claim),
                )
                runner.send(Stop(save_checkpoint=stopping.reason != "lease_lost"))
        self._record_end(claim, runner, ended or runner.wait_for_end(0), stopping)

    def _renew(self, claim: Claim) -> Reason | None:
        """Renew the lease. Returns why the attempt must stop, or None."""
        try:
            wanted = self.queue.renew(claim.job_id, claim.attempt, self.settings.lease_seconds)
            self._outage.over()
        except LeaseLost:
            return "lease_lost"
        except DATABASE_ERRORS as error:
            self._outage.noticed(error, extra=self._log_fields(claim))
            return None
        return STOP_REASONS[wanted]

    def _record_end(
        self, claim: Claim, runner: RunnerProcess, ended: Ended | None, stopping: StopRequest | None
    ) -> None:
        """Record how the attempt ended, unless the runner has done so or another attempt began."""
        if ended is not None and ended.outcome != "stopped":
            return
        try:
            if ended is not None or stopping is not None:
                state = retry_while_unavailable(
                    lambda: self.queue.finish_stopped(claim.job_id, claim.attempt), self.shutdown
                )
            else:
                how = runner.exit_description()
                state = retry_while_unavailable(
                    lambda: self.queue.lose(
                        claim.job_id, claim.attempt, how, self.settings.max_losses
                    ),
                    self.shutdown,
                )
            log.info(
                "%s attempt %d: %s",
                claim.job_id,
                claim.attempt,
                state,
                extra=self._log_fields(claim),
            )
        except LeaseLost:
            log.info(
                "%s attempt %d has lost its lease",
                claim.job_id,
                claim.attempt,
                extra=self._log_fields(claim),
            )
        except DatabaseStillAway:
            log.warning(
                "%s attempt %d: the database is away; its lease runs out",
                claim.job_id,
                claim.attempt,
                extra=self._log_fields(claim),
            )

    def _log_fields(self, claim: Claim) -> dict[str, object]:
        return log_fields(claim) | {"worker": self.worker}
