"""Jobs that need others: what is asked for and deleted at the same time, what is queued again."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from benchmarks.waiting import PATIENCE_SECONDS
from ffengine.spec import AnySpec, CheckSpec, Submission, TrainSpec
from service.jobs import JobState
from service.store import NewJob, QueueFull, StillNeeded, Store, WeightsGone
from service.store.database import Database
from service.store.inserts import draft, insert_jobs
from service.store.needs import hold
from tests.factories import STUDY, end, ended, read, submit
from tests.over_http import NOBODY


@pytest.mark.slow(in_each_part=True)
@pytest.mark.parametrize("as_study", [False, True], ids=["check", "study"])
def test_a_check_and_the_deletion_of_its_weights_never_both_succeed(
    either_store: Store, as_study: bool
) -> None:
    outcomes = set()
    for epochs in range(1, 26):
        old = ended(either_store, epochs, 1)
        document: dict[str, object] = {"kind": "check", "at": {"job": old, "epoch": 0}}
        if as_study:
            document = {"kind": "study", "base": document, "grid": {"theorem": [1, 2]}}
        spec = Submission.model_validate({"spec": document}).spec
        ready = threading.Barrier(2)

        def ask(spec: AnySpec = spec, ready: threading.Barrier = ready) -> str:
            ready.wait()
            try:
                return submit(either_store, spec).id
            except WeightsGone as error:
                return str(error)

        def remove(old: str = old, ready: threading.Barrier = ready) -> list[str]:
            ready.wait()
            try:
                return either_store.actions.delete(old)
            except StillNeeded:
                return []

        with ThreadPoolExecutor(2) as pool:
            asked, removed = pool.submit(ask), pool.submit(remove)
        gone = either_store.jobs.get(old) is None
        assert removed.result() == ([old] if gone else [])
        assert asked.result().startswith("there is no training job" if gone else "job_")
        outcomes.add(gone)
    assert outcomes  # which of them is first is left to chance


def test_the_deletion_waits_for_a_check_that_is_being_stored(either_store: Store) -> None:
    """On PostgreSQL, where two transactions write at the same time."""
    old = ended(either_store, 1, 1)
    spec = CheckSpec.model_validate({"kind": "check", "at": {"job": old, "epoch": 0}})
    deletion: Future[list[str]]
    with ThreadPoolExecutor(1) as pool:
        with either_store.database.writing() as session:
            assert hold(session, [old, NOBODY]) == {old}
            insert_jobs(session, [draft(NewJob(spec=spec))], Database.now(session))
            deletion = pool.submit(either_store.actions.delete, old)
            assert wait([deletion], timeout=0.3).not_done
        with pytest.raises(StillNeeded):
            deletion.result(PATIENCE_SECONDS)


def test_a_result_that_answers_an_identical_job_keeps_its_files(either_store: Store) -> None:
    old = ended(either_store, 1, 1)
    with ThreadPoolExecutor(1) as pool:
        with either_store.database.writing() as session:
            new = draft(NewJob(spec=TrainSpec(epochs=1)))
            insert_jobs(session, [new], Database.now(session))
            deletion = pool.submit(either_store.actions.delete, old)
            assert wait([deletion], timeout=0.3).not_done
        assert deletion.result(PATIENCE_SECONDS) == []
    assert read(either_store, new.id).cached_from == old


@pytest.mark.parametrize("as_study", [False, True], ids=["check", "study"])
def test_a_check_of_deleted_weights_is_not_retried(either_store: Store, as_study: bool) -> None:
    old = ended(either_store, 1, 1)
    document: dict[str, object] = {"kind": "check", "at": {"job": old, "epoch": 0}}
    if as_study:
        document = {"kind": "study", "base": document, "grid": {"theorem": [1, 2]}}
    job = submit(either_store, Submission.model_validate({"spec": document}).spec)
    either_store.actions.cancel(job.id)
    either_store.studies.advance(job.id)
    assert either_store.actions.retry(job.id).state == JobState.queued
    either_store.actions.cancel(job.id)
    either_store.studies.advance(job.id)
    either_store.actions.delete(old)
    with pytest.raises(WeightsGone, match=old):
        either_store.actions.retry(job.id)
    assert read(either_store, job.id).state == JobState.cancelled


@pytest.mark.slow(in_each_part=True)
def test_what_is_retried_or_resumed_counts_as_what_is_submitted(either_store: Store) -> None:
    failed, paused = (submit(either_store, TrainSpec(epochs=epochs)) for epochs in (7, 8))
    study = submit(either_store, STUDY)
    end(either_store, failed, well=False)
    either_store.actions.pause(paused.id)
    for run, _ in either_store.jobs.children(study.id):
        end(either_store, run, well=False)
    either_store.studies.advance(study.id)
    waiting = submit(either_store, TrainSpec(epochs=9))
    for action, job in (
        (either_store.actions.retry, failed),
        (either_store.actions.resume, paused),
        (either_store.actions.retry, study),
    ):
        before = read(either_store, job.id)
        with pytest.raises(QueueFull):
            action(job.id, max_queued=1)
        assert read(either_store, job.id) == before
    assert either_store.actions.resume(waiting.id, max_queued=0).state == JobState.queued
    assert either_store.actions.retry(failed.id, max_queued=2).state == JobState.queued
    with pytest.raises(QueueFull):  # it has three runs
        either_store.actions.retry(study.id, max_queued=4)
    assert either_store.actions.retry(study.id, max_queued=5).state == JobState.queued
