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

from ffengine.plugins import REGISTRY
from service.artifacts import Artifacts
from service.encoding.escaping import for_log
from service.host.disk import lack_of_room
from service.host.log_limits import Outage
from service.host.memory import memory_kills
from service.host.stay import FOR_EVER, Stay
from service.jobs import Command, JobState
from service.placement import Fitness
from service.schemas import CANNOT_COMPUTE
from service.settings import Settings
from service.store import Claim, LeaseLost, Queue
from service.store.database import DATABASE_ERRORS
from workers.db_retry import DatabaseStillAway, retry_while_unavailable
from workers.devices import AUTO
from workers.process import LONGEST_REASON, RunnerProcess
from workers.protocol import EXIT_DEVICE_FAILED, Ended, Start, Stop, log_fields

TICK_SECONDS = 0.2
RENEW_SECONDS = 0.6  # together with a tick, a cancellation is noticed within a second
CLOSE_SECONDS = 2.0
BEGIN_SECONDS = 30.0  # in which a runner that is ready must say that it begins a job
UNFIT_AFTER = 2  # attempts in a row that failed because of the machine: then no job is begun
TRY_AGAIN_SECONDS = 60.0  # after which an unfit worker tries one job
PROVE_SECONDS = 5.0  # between two proofs that results can be stored
# then a new runner takes over as soon as it is ready, in case a library leaks memory
JOBS_PER_RUNNER = 100

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
    """A request to a runner to stop: first by a message, then by SIGKILL."""

    reason: Reason
    since: float
    limit_seconds: float

    @property
    def share(self) -> float:
        """The share of `limit_seconds` that the runner has: less if no checkpoint is needed."""
        return 1.0 if self.reason in ("pause", "expire", "shutdown") else 0.2

    def escalate(self, runner: RunnerProcess, now: float) -> None:
        """Kill the runner when it is time to. `now` is in seconds of the supervisor's clock."""
        waited, limit = now - self.since, self.limit_seconds * self.share
        if waited >= limit:
            log.warning("runner %d did not stop (%s) and is killed", runner.pid, self.reason)
            runner.kill()


def _plugins_changed(runner: RunnerProcess) -> str | None:
    """Say that a runner has other plug-ins than this process, which claims jobs for it."""
    theirs = runner.ready.plugins if runner.ready else None
    if theirs is None or theirs == [plugin.identity for plugin in REGISTRY.plugins]:
        return None
    return "its plug-ins were changed after it was started; restart the worker"


def _ended_by_kernel(claim: Claim) -> Ended:
    """The message that a runner could not send, as the kernel killed it for want of memory."""
    return Ended(
        job_id=claim.job_id,
        attempt=claim.attempt,
        outcome="out_of_memory",
        reason="the kernel killed its process, because the machine's memory ran out",
    )


class Supervisor:
    """Owns one runner. Call `run` and `ensure_runner` in the main thread."""

    def __init__(
        self,
        queue: Queue,
        settings: Settings,
        worker: str,
        command: Sequence[str],
        *,
        service_id: Callable[[], str | None] = lambda: None,
        stay: Stay = FOR_EVER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue, self.settings, self.worker = queue, settings, worker
        self.command, self.service_id, self.clock = command, service_id, clock
        self.stay = stay
        self.artifacts = Artifacts(settings.artifact_place)
        self.shutdown = threading.Event()
        self.on_state_change: Callable[[], None] = lambda: None  # called at a new job, or none
        self.runner: RunnerProcess | None = None
        self.successor: RunnerProcess | None = None  # it starts while the runner works
        self.current_job: str | None = None
        self.idle_since: float | None = clock()
        self.lack_of_room: str | None = None  # for which no job is begun
        self.again: str | None = None  # the job to try once more, whose memory ran out here
        self.is_drained = False  # the database says so, and gives no job
        self.runner_fault: str | None = None  # why the runner cannot start
        self.storage_fault: str | None = None  # why results cannot be stored
        self.machine_failures: list[str] = []  # of the last attempts in a row, the reasons
        self._failed_at = self._proven_at = float("-inf")
        self._outage = Outage(log, "renewing leases: the database")

    def ensure_runner(self) -> RunnerProcess:
        """Return the live runner, or start a new one, which loads torch in the background."""
        if self.runner is None or not self.runner.alive:
            if self.runner is not None:
                self.runner.close(CLOSE_SECONDS)
            self.runner, self.successor = self.successor or RunnerProcess(self.command), None
        elif self.runner.jobs >= JOBS_PER_RUNNER:
            self._renew_runner(self.runner)
        return self.runner

    def _renew_runner(self, runner: RunnerProcess) -> None:
        """Replace the runner as soon as its successor is ready; it goes on until then."""
        if self.successor is None:
            # on the same device, which its predecessor still holds
            device = runner.ready.device if runner.ready else AUTO
            self.successor = RunnerProcess([device if one == AUTO else one for one in self.command])
        elif self.successor.ready is not None and self.successor.alive:
            self.runner, self.successor = self.successor, None
            runner.close(CLOSE_SECONDS)
        elif self.successor.closed.is_set():
            log.warning(
                "the runner goes on: its successor cannot start: %s",
                self.successor.start_failure(),
                extra={"worker": self.worker},
            )
            self.successor.close(CLOSE_SECONDS)
            self.successor, runner.jobs = None, 0

    def close(self) -> None:
        """Close the runner, and its successor where there is one."""
        for runner in (self.runner, self.successor):
            if runner is not None:
                runner.close(CLOSE_SECONDS)

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
        if self.shutdown.is_set() or not self.has_room() or not self._has_storage():
            return None
        if self.unfit or self.stay.begins_none(time.time()) or not self._has_runner():
            return None
        try:
            if (claim := self._claim_again()) is not None:
                return claim
            return self.queue.claim_next(
                self.worker,
                self.settings.lease_seconds,
                self.fitness,
                self.settings.max_running_per_key,
            )
        except DATABASE_ERRORS as error:
            log.warning(
                "no job could be claimed, until the next message: %s",
                str(error).splitlines()[0],
                extra={"worker": self.worker},
            )
            return None

    def _claim_again(self) -> Claim | None:
        """Claim the job whose memory ran out here, to try it in smaller pieces."""
        job_id, self.again = self.again, None
        if job_id is None or self.is_drained:
            return None
        return self.queue.claim(job_id, self.worker, self.settings.lease_seconds)

    @property
    def fitness(self) -> Fitness:
        """What this worker is fit for, as far as its runner has said it."""
        ready = self.runner.ready if self.runner else None
        tags = self.settings.tags_of_workers
        if ready is None:
            return Fitness(None, None, tags)
        return Fitness(ready.device, ready.memory_bytes, tags)

    @property
    def paused(self) -> str | None:
        """Why no job is begun; None where jobs are begun."""
        if fault := self.runner_fault or self.storage_fault or self.unfit:
            return f"{CANNOT_COMPUTE}{fault}"
        return self.lack_of_room or self.stay.begins_none(time.time())

    @property
    def unfit(self) -> str | None:
        """Why no job is begun after several failures of this machine; None where one is."""
        if len(self.machine_failures) < UNFIT_AFTER:
            return None
        if self.clock() - self._failed_at >= TRY_AGAIN_SECONDS:
            return None
        return f"unfit: {self.machine_failures[-1]}"

    def prove_storage(self) -> None:
        """Note whether results can be stored; a change is logged."""
        now, before = self.clock(), self.storage_fault
        if before is None and now - self._proven_at < PROVE_SECONDS:
            return
        try:
            self.storage_fault = self.artifacts.fault(self.service_id())
        except DATABASE_ERRORS:  # a claim fails with it as well
            return
        self._proven_at = now
        self._log_change(before, self.storage_fault)

    def _has_storage(self) -> bool:
        self.prove_storage()
        return self.storage_fault is None

    def _log_change(self, before: str | None, fault: str | None, of: str = "") -> None:
        """Log a fault for which no job is begun, where it was none or another one before."""
        if fault and fault != before:
            log.error("no job is begun%s: %s", of, fault, extra={"worker": self.worker})
        elif before and not fault:
            log.warning("jobs are begun again", extra={"worker": self.worker})

    def look_at_runner(self) -> None:
        """Note whether the runner has started; a change is logged."""
        before, runner = self.runner_fault, self.runner
        if runner is None or not runner.started.is_set():
            return
        self.runner_fault = _plugins_changed(runner) if runner.ready else runner.start_failure()
        self._log_change(before, self.runner_fault, ", the runner cannot start")

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
        before, folder = self.lack_of_room, self.settings.artifact_disk
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
        runner.send(Start(**claim._asdict()))
        kills = memory_kills()
        stopping: StopRequest | None = None
        renewed = asked = self.clock()
        while (ended := runner.wait_for_end(TICK_SECONDS)) is None and not runner.closed.is_set():
            now, reason = self.clock(), None
            if not runner.started.is_set():
                asked = now
            elif runner.began != (claim.job_id, claim.attempt) and now - asked >= BEGIN_SECONDS:
                log.error("runner %d did not begin %s and is killed", runner.pid, claim.job_id)
                runner.kill()
                continue
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
        ended = ended or runner.wait_for_end(0)
        if ended is None and stopping is None and runner.was_killed and memory_kills() > kills:
            ended = _ended_by_kernel(claim)
        self._record_end(claim, runner, ended, stopping)

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
        if ended is not None and ended.outcome not in ("stopped", "unfit", "out_of_memory"):
            self.machine_failures.clear()
            return
        lacking = ended.error if ended else None
        fault = None if lacking else self._machine_fault(claim, runner, ended, stopping)
        try:
            if ended is not None and ended.outcome == "out_of_memory":
                state = self._record_outgrown(claim, ended.reason or "memory ran out")
            elif lacking is not None:
                state = retry_while_unavailable(
                    lambda: self.queue.pass_on(claim.job_id, claim.attempt, lacking), self.shutdown
                )
            elif fault is not None:
                self.machine_failures.append(fault)
                self._failed_at = self.clock()
                state = retry_while_unavailable(
                    lambda: self.queue.return_unfit(claim.job_id, claim.attempt, fault),
                    self.shutdown,
                )
            elif ended is not None or stopping is not None:
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

    def _record_outgrown(self, claim: Claim, reason: str) -> JobState:
        """Record that memory ran out; this worker tries the job again where it is to."""
        state, is_again = retry_while_unavailable(
            lambda: self.queue.outgrow(claim.job_id, claim.attempt, reason), self.shutdown
        )
        self.again = claim.job_id if is_again else None
        return state

    def _machine_fault(
        self, claim: Claim, runner: RunnerProcess, ended: Ended | None, stopping: StopRequest | None
    ) -> str | None:
        """Why an attempt failed through this machine; None where it did not.

        A runner that dies in the middle of a job may have died of it, of its memory for instance.
        """
        if ended is not None and ended.outcome == "unfit":
            return for_log(ended.reason or "the runner gave no reason", LONGEST_REASON)
        if ended is not None:
            return None
        if stopping is not None:
            return None
        if runner.began != (claim.job_id, claim.attempt):
            return f"its runner did not begin the job: {runner.exit_description()}"
        if runner.exit_code() == EXIT_DEVICE_FAILED:
            return "its device failed; the worker's log says how"
        return None

    def _log_fields(self, claim: Claim) -> dict[str, object]:
        return log_fields(claim) | {"worker": self.worker}
