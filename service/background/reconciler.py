"""Relay and reconciler: one thread that rings for queued jobs, takes back expired leases, follows
studies, applies the retention.

Everything it does is a conditional update, so that each API process may have one.
"""

import logging
import threading
import time

from service.artifacts import Artifacts
from service.background.dispatcher import BrokerAway, Dispatcher
from service.background.retention import described, sweep, unknown
from service.settings import Settings
from service.store import Store
from service.store.database import DATABASE_ERRORS
from service.store.identity import NotOurs

TICK_SECONDS = 0.5
RING_AGAIN_SECONDS = 5.0
BREATH_SECONDS = 0.005
SWEEP_SECONDS = 600.0  # between applications of the retention
BELLS = 100  # in the broker at a time

log = logging.getLogger(__name__)


class Reconciler(threading.Thread):
    """Ticks twice a second, and at once when a job was submitted.

    `broker_ok`: whether the broker answered last.
    """

    def __init__(self, store: Store, settings: Settings, dispatcher: Dispatcher | None) -> None:
        super().__init__(name="reconciler", daemon=True)
        self.store, self.settings, self.dispatcher = store, settings, dispatcher
        self.artifacts = Artifacts(settings.artifacts)
        self._sweep_due = time.monotonic() + SWEEP_SECONDS
        self._ticked = time.monotonic()
        self._spare_until = 0.0
        self._more = True  # there may be something to do at once
        self._told: set[str] = set()  # what the log says already of artifacts
        self.broker_ok = False
        self._wake = threading.Event()
        self._stopping = threading.Event()

    def wake(self) -> None:
        """Something was submitted: tick now."""
        self._wake.set()

    def stop(self) -> None:
        """End after the current tick."""
        self._stopping.set()
        self._wake.set()
        self.join()

    def run(self) -> None:
        """Tick until stopped; what fails is tried again in the next tick."""
        self._spare_leases()  # the machine, and the database with it, may have been away until now
        while not self._stopping.is_set():
            busy, self._more = (
                self._more,
                False,
            )  # where this fails, the next tick comes in its time
            try:
                if time.monotonic() - self._ticked < TICK_SECONDS and not busy:
                    self.dispatch()  # woken between two ticks: something was submitted
                else:
                    self.tick()
            except DATABASE_ERRORS as error:
                log.warning("the database is away: %s", str(error).splitlines()[0])
                self._spare_leases()
            except Exception:
                log.exception(
                    "a tick of the reconciler failed"
                )  # the thread must live: without it no job is run
            self._stopping.wait(BREATH_SECONDS)  # what is submitted meanwhile is rung for at once
            self._wake.wait(0.0 if self._more else TICK_SECONDS)
            self._wake.clear()

    def tick(self) -> None:
        """Everything once.

        What takes longer is done in small portions, one a tick, so that bells are never late.
        """
        self._expire()
        self.dispatch()
        more = self.store.queue.resolve_duplicates() > 0
        for study_id in self.store.studies.unfinished():
            more |= self._follow(study_id)
        self._more = more | self._sweep()

    def _spare_leases(self) -> None:
        """Take back no lease for the length of one: database or machine stood still, so workers
        could not renew theirs.
        """
        self._spare_until = time.monotonic() + self.settings.lease_seconds

    def _expire(self) -> None:
        """Take back leases that have run out; not when no one could renew them, because database or
        machine stood still.
        """
        now = time.monotonic()
        if now - self._ticked > self.settings.lease_seconds / 2:
            self._spare_leases()
        if now >= self._spare_until:
            for job_id in self.store.queue.expire_leases(
                self.settings.max_losses, longest_wait=self.settings.lease_seconds / 2
            ):
                log.warning("%s: its lease ran out", job_id)
        self._ticked = now

    def _sweep(self) -> bool:
        """Apply the retention from time to time; whether there may be more to do."""
        if time.monotonic() < self._sweep_due:
            return False
        try:
            if sweep(self.store, self.artifacts, self.settings.retention):
                return True
            self._report_unknown()
            self.store.jobs.forget_idempotency_keys(self.settings.idempotency_hours)
        except (NotOurs, OSError) as error:
            self._tell(logging.ERROR, f"nothing is swept: {error}", {str(error)})
        self._sweep_due = time.monotonic() + SWEEP_SECONDS
        return False

    def _report_unknown(self) -> None:
        """Say which artifacts belong to no job.

        They may be all that is left of it: the operator decides.
        """
        if found := unknown(self.store, self.artifacts):
            advice = (
                f"`fflab retention` lists and `fflab retention --apply` removes them (in "
                f"{self.artifacts.root})"
            )
            self._tell(logging.WARNING, f"{described(found)}; {advice}", {one.job for one in found})

    def _tell(self, level: int, message: str, facts: set[str]) -> None:
        """Log what has something new in it: once, not after every sweep."""
        if not facts <= self._told:
            log.log(level, "%s", message)
        self._told |= facts

    def _follow(self, study_id: str) -> bool:
        try:
            return self.store.studies.advance(study_id)
        except DATABASE_ERRORS:
            raise
        except Exception:
            log.exception("%s could not be followed", study_id)  # the others are
            return False

    def dispatch(self) -> None:
        """Ring for jobs that were never rung for, and again for those whose bell must have been
        lost.

        A worker that hears a bell works until the queue is empty: a few bells in the broker are
        enough, however long the queue.
        """
        if self.dispatcher is None:
            return
        try:
            queue_length = self.dispatcher.queue_length()
            self.broker_ok = True
            room = BELLS - queue_length
            again = (
                RING_AGAIN_SECONDS
                if queue_length < self.store.queue.length(BELLS)
                else float("inf")
            )
            due = self.store.queue.due_for_dispatch(room, again) if room > 0 else []
            if due:
                self.dispatcher.dispatch(due)
                self.store.queue.mark_dispatched(due)
        except BrokerAway as error:
            if self.broker_ok:
                log.warning("the broker is away: %s", error)
            self.broker_ok = False
