"""The reconciler: the thread that makes the rows of the database and the world agree.

It wakes workers for queued jobs, takes back expired leases, advances studies and applies the
retention.
Each API process may run one: every change that it makes is a conditional update.
"""

import contextlib
import logging
import time
from functools import partial

from ffengine.uploaded_weights import WeightUploads
from ffengine.uploads import remove_drafts
from service.artifacts import Artifacts
from service.background.dispatcher import BrokerAway, Dispatcher
from service.background.periodic import PeriodicThread
from service.background.retention import describe_unknown, find_unknown, sweep
from service.background.waiting import (
    room_for,
    why_jobs_wait,
    why_not_understood,
    why_plugins_lack,
)
from service.host.clock import clock
from service.host.disk import BALLAST_BYTES, Ballast, free_bytes, lack_of_room
from service.host.log_limits import Outage, Rarely
from service.settings import Settings
from service.store import DEAD_WORKER_SECONDS, Store
from service.store.audit import FORGOTTEN_AT_ONCE
from service.store.database import DATABASE_ERRORS
from service.store.identity import NotOurs
from service.store.jobs import FIGURES_AT_ONCE

TICK_SECONDS = 0.5
DISPATCH_AGAIN_SECONDS = 5.0
FIGURES_SECONDS = 2.0  # between looks at figures that have changed
EXPLAIN_SECONDS = 5.0  # between looks at why jobs wait
EXPLAINED_AFTER_SECONDS = 10.0  # that a job has been queued
SWEEP_SECONDS = 600.0  # between applications of the retention
DRAFT_SECONDS = 3600.0  # without a write, after which an unfinished upload is given up
MOST_MESSAGES = 100  # in the broker at a time

log = logging.getLogger(__name__)


class Reconciler(PeriodicThread):
    """Ticks twice a second, and dispatches at once when a job was submitted.

    `broker_ok`: whether the broker answered last.
    """

    def __init__(self, store: Store, settings: Settings, dispatcher: Dispatcher | None) -> None:
        super().__init__("reconciler", TICK_SECONDS)
        self.store, self.settings, self.dispatcher = store, settings, dispatcher
        self.artifacts, self.ballast = Artifacts(settings.artifact_place), Ballast(settings.root)
        self._sweep_due = time.monotonic() + SWEEP_SECONDS
        # workers that start at the same time as this process have a while to report
        self._explain_due = time.monotonic() + EXPLAINED_AFTER_SECONDS
        self._figures_due = 0.0
        self._ticked_at = clock()
        self._spare_until = 0.0
        self._logged: set[str] = set()  # facts about artifacts that the log has already
        self.broker_ok = False
        self._broker_outage, self._study_faults = Outage(log, "the broker"), Rarely()

    def run(self) -> None:
        """Spare leases at first, then tick until stopped.

        The machine, and the database with it, may have stood still until now.
        """
        self._spare_leases()
        self._recover_uploads()
        super().run()

    def on_wake(self) -> None:
        """Dispatch the jobs that were submitted since the last tick."""
        self.dispatch()

    def on_database_away(self) -> None:
        """Spare leases: workers could not renew theirs either."""
        self._spare_leases()

    def tick(self) -> None:
        """Do every task once.

        Long tasks are done in small portions, one a tick, so that dispatching is not delayed.
        """
        self._expire_leases()
        self.dispatch()
        self._explain_waiting()
        more = self.store.queue.resolve_duplicates() > 0
        for study_id in self.store.studies.unfinished():
            more |= self._advance_study(study_id)
        self.has_more = more | self._refresh_figures() | self._sweep()

    def _spare_leases(self) -> None:
        """Take back no lease for the duration of one.

        While database or machine stand still, workers cannot renew their leases.
        """
        self._spare_until = clock() + self.settings.lease_seconds

    def _expire_leases(self) -> None:
        """Take back leases that have run out, unless leases are spared."""
        now = clock()
        if now - self._ticked_at > self.settings.lease_seconds / 2:
            self._spare_leases()
        if now >= self._spare_until:
            for job_id in self.store.queue.expire_leases(
                self.settings.max_losses, longest_wait=self.settings.lease_seconds / 2
            ):
                log.warning("%s: its lease ran out", job_id, extra={"job_id": job_id})
        # the time before the wait for the write lock: a long wait is a gap, too
        self._ticked_at = now

    def _explain_waiting(self) -> None:
        """Let queued jobs say why none of them can begin, when it is time to."""
        now = time.monotonic()
        if now < self._explain_due:
            return
        self._explain_due = now + EXPLAIN_SECONDS
        broker_ok = self.broker_ok if self.dispatcher else None
        workers = self.store.workers.alive(DEAD_WORKER_SECONDS)
        reason = why_jobs_wait(workers, broker_ok, self._watch_disk())
        self.store.queue.explain_waiting(
            reason,
            EXPLAINED_AFTER_SECONDS,
            partial(why_plugins_lack, workers),
            partial(room_for, workers),
            not_understood=partial(why_not_understood, workers),
        )

    def _refresh_figures(self) -> bool:
        """Store the figures of a portion of jobs. Returns whether there are more.

        Nothing depends on them but lists, so a fault of the database is left to others.
        """
        if time.monotonic() < self._figures_due:
            return False
        with contextlib.suppress(*DATABASE_ERRORS):
            if self.store.jobs.refresh_figures() == FIGURES_AT_ONCE:
                return True
        self._figures_due = time.monotonic() + FIGURES_SECONDS
        return False

    def _watch_disk(self) -> str | None:
        """Look after the ballast. Returns what lacks on the disk; None: nothing."""
        home, reserve = self.settings.root, self.settings.disk_reserve
        if self.ballast.drop_if_full():
            log.error(
                "the disk of %s is full: its ballast is deleted, for what must be written", home
            )
        elif free_bytes(home) >= reserve + 2 * BALLAST_BYTES and reserve:
            self.ballast.keep()
        return lack_of_room(self.settings.artifact_disk, reserve)

    def _sweep(self) -> bool:
        """Apply the retention when it is due. Returns whether expired jobs may be left."""
        if time.monotonic() < self._sweep_due:
            return False
        self._recover_uploads()
        try:
            if sweep(self.store, self.artifacts, self.settings.retention):
                return True
            self._report_unknown()
            self._remove_drafts()
            self.store.jobs.forget_idempotency_keys(self.settings.idempotency_hours)
            days = self.settings.audit_days
            if days and self.store.audit.forget(days) == FORGOTTEN_AT_ONCE:
                return True
        except (NotOurs, OSError) as error:
            self._log_once(logging.ERROR, f"nothing is swept: {error}", {str(error)})
        self._sweep_due = time.monotonic() + SWEEP_SECONDS
        return False

    def _recover_uploads(self) -> None:
        """Put back uploads whose removal was not finished."""
        kept = self.settings.datasets
        for told in (*kept.recover(), *WeightUploads(kept).recover()):
            self._log_once(logging.WARNING, told, {told})

    def _report_unknown(self) -> None:
        """Log which artifacts belong to no job of the database.

        They are not deleted: they may be all that is left of a lost job. The operator decides.
        """
        if found := find_unknown(self.store, self.artifacts):
            advice = (
                f"`fflab retention` lists and `fflab retention --apply` removes them (in "
                f"{self.artifacts.place})"
            )
            self._log_once(
                logging.WARNING, f"{describe_unknown(found)}; {advice}", {one.job for one in found}
            )

    def _remove_drafts(self) -> None:
        """Remove what uploads left behind whose process was killed."""
        kept = self.settings.datasets
        for folder in (kept.kept_in, kept.weights_kept_in):
            for draft in remove_drafts(folder, older_than=time.time() - DRAFT_SECONDS):
                log.info("%s: an unfinished upload is removed", folder / draft)

    def _log_once(self, level: int, message: str, facts: set[str]) -> None:
        """Log a message unless all of its facts were logged before: once, not at every sweep."""
        if not facts <= self._logged:
            log.log(level, "%s", message)
        self._logged |= facts

    def _advance_study(self, study_id: str) -> bool:
        """Advance a study by one portion. Returns whether there is more to do for it."""
        try:
            return self.store.studies.advance(study_id)
        except DATABASE_ERRORS:
            raise
        except Exception as error:  # the other studies are advanced all the same
            if self._study_faults.is_due(f"{study_id} {error!r}"):
                log.exception(
                    "%s: the study could not be advanced", study_id, extra={"job_id": study_id}
                )
            return False

    def dispatch(self) -> None:
        """Send a message for each queued job that had none, and again where it must have been lost.

        A worker that receives a message works until the queue is empty, so that a few messages in
        the broker are enough for a queue of any length.
        """
        if self.dispatcher is None:
            return
        try:
            queue_length = self.dispatcher.queue_length()
            self.broker_ok = True
            self._broker_outage.over()
            room = MOST_MESSAGES - queue_length
            again = (
                DISPATCH_AGAIN_SECONDS
                if queue_length < self.store.queue.length(MOST_MESSAGES)
                else float("inf")
            )
            due = self.store.queue.due_for_dispatch(room, again) if room > 0 else []
            if due:
                self.dispatcher.dispatch(due)
                self.store.queue.mark_dispatched(due)
        except BrokerAway as error:
            self._broker_outage.noticed(error)
            self.broker_ok = False
