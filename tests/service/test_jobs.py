"""The life of a job: whatever is done in whatever order, states change only as the table of
transitions says.
"""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import select, update

from ffengine.spec import StudySpec, TrainSpec
from ffengine.study import expand
from service.jobs import (
    ACTIONS,
    TERMINAL,
    TRANSITIONS,
    Command,
    JobState,
    Progress,
    Wanted,
    new_job_id,
    source_states,
)
from service.schemas import row_key
from service.store import Claim, LeaseLost, NewJob, NotAllowed, Store
from service.store.tables import JobRow, now_seconds
from tests.examples import examples
from tests.factories import ERROR
from tests.service.samples import epoch_row, train_result

MAX_LOSSES = 2
STUDY = StudySpec.model_validate({"base": {"kind": "train"}, "grid": {"epochs": [1, 2]}})
PLACES = st.integers(0, 6)
ATTEMPTS = st.integers(0, 1)  # how far behind its job's newest attempt a worker is
Shown = tuple[JobState, Wanted, int]


def test_ids_sort_by_the_time_of_their_making_and_fit_their_pattern() -> None:
    ids = [new_job_id() for _ in range(200)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 200
    assert all(re.fullmatch(r"job_[0-9a-f]{32}", job_id) for job_id in ids)


def test_only_a_retry_leaves_an_end() -> None:
    leaving = {
        (change.action, change.source) for change in TRANSITIONS if change.source in TERMINAL
    }
    assert leaving == {
        ("retry", JobState.failed),
        ("retry", JobState.cancelled),
        ("retry_failed", JobState.succeeded),
    }
    assert set(source_states("cancel", JobState.cancelled)) == {JobState.queued, JobState.paused}


def test_every_state_can_be_reached_and_every_waiting_one_left() -> None:
    assert {change.target for change in TRANSITIONS} == set(JobState)
    assert {change.source for change in TRANSITIONS} == set(JobState)


class JobLife(RuleBasedStateMachine):
    """Users, workers and the reconciler do things to six jobs: two are the cells of a study, two
    others are identical.
    """

    @initialize()
    def submit(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(f"sqlite:///{Path(self.folder.name) / 'jobs.db'}")
        self.store.migrate()
        for epochs in (3, 4, 3):
            self.store.jobs.submit(
                NewJob(spec=TrainSpec(epochs=epochs), timeout_seconds=1000.0), max_queued=100
            )
        self.study = self.store.jobs.submit(
            NewJob(spec=STUDY), expand(STUDY), max_queued=100
        ).job.id
        self.ids = sorted(job.id for job in self.store.jobs.page(limit=10, children=True).jobs)
        self.runs = {job.id for job, _ in self.store.jobs.children(self.study)}
        self.cancelled_alone: set[str] = set()  # runs of the study

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    def _shown(self) -> dict[str, Shown]:
        with self.store.database.reading() as session:
            rows = session.execute(
                select(JobRow.id, JobRow.state, JobRow.wanted, JobRow.attempt)
            ).all()
        return {row.id: (JobState(row.state), Wanted(row.wanted), row.attempt) for row in rows}

    def _do(self, what: Callable[[], object], *actions: str) -> bool:
        """Whether it was done; each change that it made is in the table, under one of the
        actions.
        """
        before = self._shown()
        try:
            what()
        except (LeaseLost, NotAllowed):
            assert self._shown() == before, "what is refused changes nothing"
            return False
        after = self._shown()
        allowed = {
            (change.source, change.target) for change in TRANSITIONS if change.action in actions
        }
        for job_id, (state, _, _) in before.items():
            now = after[job_id][0]
            assert state == now or (state, now) in allowed, f"{actions}: {state} -> {now}"
        return True

    def _attempt(self, place: int, behind: int) -> tuple[str, int]:
        job_id = self.ids[place % len(self.ids)]
        return job_id, self._shown()[job_id][2] - behind

    @rule(place=PLACES)
    def claim(self, place: int) -> None:
        job_id = self.ids[place % len(self.ids)]
        state, _, attempt = self._shown()[job_id]
        waiting = self._waits_for(job_id)
        claims: list[object] = []
        self._do(lambda: claims.append(self.store.queue.claim(job_id, "w", 30.0)), "claim")
        won = state is JobState.queued and job_id != self.study and not waiting
        assert (claims != [None]) == won
        assert self._shown()[job_id][2] == attempt + won

    def _waits_for(self, job_id: str) -> str | None:
        with self.store.database.reading() as session:
            return session.scalar(select(JobRow.waits_for).where(JobRow.id == job_id))

    @rule()
    def claim_next(self) -> None:
        """Whichever job a message was sent for, a worker claims the first one of the queue."""
        before = self._shown()
        claims: list[Claim | None] = []
        self._do(lambda: claims.append(self.store.queue.claim_next("w", 30.0)), "claim")
        ready = [
            job
            for job, (state, _, _) in before.items()
            if state is JobState.queued and job != self.study and not self._waits_for(job)
        ]
        if claims[0] is None:
            assert not ready
        else:
            assert before[claims[0].job_id][0] is JobState.queued
            assert claims[0].attempt == before[claims[0].job_id][2] + 1

    @rule(place=PLACES)
    def time_is_over(self, place: int) -> None:
        job_id = self.ids[place % len(self.ids)]
        with self.store.database.writing() as session:
            session.execute(
                update(JobRow)
                .where(JobRow.id == job_id, JobRow.state == "running")
                .values(deadline_at=now_seconds() - 1)
            )

    @rule()
    def settle(self) -> None:
        self._do(self.store.queue.resolve_duplicates, "answer")

    @rule(place=PLACES, behind=ATTEMPTS, epoch=st.integers(0, 3))
    def record(self, place: int, behind: int, epoch: int) -> None:
        job_id, attempt = self._attempt(place, behind)
        state, wanted, _ = self._shown()[job_id]
        heard: list[object] = []
        progress = Progress(fraction=0.5, message="x", eta_seconds=None)
        measured: dict[str, Any] = {"progress": progress, "rows": [epoch_row(epoch)]}

        def write() -> None:
            heard.append(self.store.queue.record(job_id, attempt, lease_seconds=30.0, **measured))

        done = self._do(write)
        assert done == (state is JobState.running and not behind and job_id != self.study)
        assert (
            not done
            or heard[0] == wanted.value
            or (heard == [Command.expire] and wanted is Wanted.run)
        )

    @rule(place=PLACES, behind=ATTEMPTS)
    def finish(self, place: int, behind: int) -> None:
        job_id, attempt = self._attempt(place, behind)
        done = self._do(lambda: self.store.queue.finish(job_id, attempt, train_result()), "finish")
        assert not (done and job_id == self.study), "no worker writes to a study"

    @rule(place=PLACES, behind=ATTEMPTS)
    def fail(self, place: int, behind: int) -> None:
        job_id, attempt = self._attempt(place, behind)
        done = self._do(lambda: self.store.queue.fail(job_id, attempt, ERROR), "fail")
        assert not (done and job_id == self.study), "no worker writes to a study"

    @rule(place=PLACES, behind=ATTEMPTS)
    def stopped(self, place: int, behind: int) -> None:
        job_id, attempt = self._attempt(place, behind)
        wanted = self._shown()[job_id][1]
        if self._do(lambda: self.store.queue.finish_stopped(job_id, attempt), "stop", "hand_back"):
            assert job_id != self.study
            ended = self._shown()[job_id][0]
            expected = {
                Wanted.run: JobState.queued,
                Wanted.pause: JobState.paused,
                Wanted.cancel: JobState.cancelled,
            }
            assert ended is expected[wanted] or (
                ended is JobState.failed and wanted is Wanted.run
            ), "only a deadline makes it fail"

    @rule(place=PLACES, behind=ATTEMPTS)
    def lost(self, place: int, behind: int) -> None:
        job_id, attempt = self._attempt(place, behind)
        done = self._do(
            lambda: self.store.queue.lose(job_id, attempt, "killed", MAX_LOSSES), "expire"
        )
        assert not (done and job_id == self.study), "no worker writes to a study"

    @rule(place=PLACES)
    def expire(self, place: int) -> None:
        job_id = self.ids[place % len(self.ids)]
        with self.store.database.writing() as session:
            session.execute(
                update(JobRow)
                .where(JobRow.id == job_id, JobRow.kind != "study")
                .values(lease_until=now_seconds() - 1)
            )
        self._do(lambda: self.store.queue.expire_leases(MAX_LOSSES), "expire")

    @rule(place=PLACES, action=st.sampled_from(["cancel", "pause", "resume", "retry"]))
    def act(self, place: int, action: str) -> None:
        job_id = self.ids[place % len(self.ids)]
        names = (action, "retry_failed") if action == "retry" else (action,)
        if self._do(lambda: getattr(self.store.actions, action)(job_id), *names):
            again = self._shown()
            assert self._do(lambda: getattr(self.store.actions, action)(job_id), *names), (
                "an action that was done may be repeated"
            )
            assert self._shown() == again
            if action == "cancel":
                self.cancelled_alone |= self.runs & {job_id}
            elif action == "retry":
                self.cancelled_alone -= self.runs if job_id == self.study else {job_id}

    @rule()
    def aggregate(self) -> None:
        self._do(lambda: self.store.studies.advance(self.study), "aggregate")

    @invariant()
    def a_study_that_ran_to_its_end_has_no_run_that_nobody_cancelled(self) -> None:
        if not hasattr(self, "ids"):
            return
        shown = self._shown()
        state, wanted, _ = shown[self.study]
        if state in TERMINAL and wanted is Wanted.run:
            cancelled = {run for run in self.runs if shown[run][0] is JobState.cancelled}
            assert cancelled <= self.cancelled_alone

    @invariant()
    def events_are_whole_and_end_where_the_job_does(self) -> None:
        for job_id in getattr(self, "ids", ()):
            job = self.store.jobs.get(job_id)
            events = self.store.events.of(job_id, after=0, limit=1000)
            assert job is not None
            assert [event.id for event in events] == list(range(1, len(events) + 1))
            states = [event.data["state"] for event in events if event.type == "state"]
            assert states[-1] == job.state
            assert (events[-1].type == "end") == (job.state in TERMINAL)
            assert (job.finished_at is not None) == (job.state in TERMINAL)
            assert (job.error is not None) == (job.state is JobState.failed)
            assert (self.store.jobs.result(job_id) is not None) == (job.state is JobState.succeeded)


JobLife.TestCase.settings = settings(
    max_examples=examples(20), stateful_step_count=40, deadline=None
)
TestJobLife = pytest.mark.slow(JobLife.TestCase)


def test_what_a_user_may_ask_follows_from_the_transitions() -> None:
    assert {
        JobState.queued: ("pause", "cancel"),
        JobState.running: ("pause", "cancel"),
        JobState.paused: ("resume", "cancel"),
        JobState.failed: ("retry",),
        JobState.cancelled: ("retry",),
        JobState.succeeded: (),
    } == ACTIONS


def test_a_row_is_the_same_in_the_store_and_on_the_command_line() -> None:
    row = {"seed": 1, "width": 64, "layer": 0, "epoch": 2, "split": "positive"}
    assert row_key(row | {"sparsity": 0.5}) == row_key(row | {"sparsity": 0.6})
    for field, other in {"seed": 2, "layer": 1, "epoch": 3, "split": "negative"}.items():
        assert row_key(row) != row_key(row | {field: other})
    cell = row | {"method": "exact"}
    for field, other in {"width": 128, "method": "infinite_width"}.items():
        assert row_key(cell) != row_key(cell | {field: other})
