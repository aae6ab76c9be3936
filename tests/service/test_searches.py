"""Studies that search, in a store: made-up workers, real rows on SQLite and PostgreSQL."""

import threading
from typing import Any

import pytest

from ffengine import proposals
from ffengine.spec import StudySpec
from service.jobs import Job, JobState, Progress
from service.store import Store
from tests.factories import LEASE, read, submit
from tests.service.samples import epoch_row, train_result
from tests.service.trial_runs import (
    BASE,
    advance,
    finish,
    params_of,
    queued,
    runs_of,
    search,
    work_through,
)

STARTUP = 3  # trials before TPE has its say, so that few are enough
HALF = Progress(fraction=0.5, message="half way", eta_seconds=2.0)


@pytest.fixture(autouse=True)
def _short_startup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "STARTUP_TRIALS", STARTUP)


@pytest.mark.slow(in_each_part=True)
def test_a_search_makes_a_trial_when_those_that_it_may_know_have_ended(either_store: Store) -> None:
    study = submit(either_store, search()).id
    assert runs_of(either_store, study) == []
    advance(either_store, study)
    first, second, third = runs_of(either_store, study)
    finish(either_store, third)
    finish(either_store, second)
    advance(either_store, study)
    assert len(runs_of(either_store, study)) == 3, "the first goes on"
    finish(either_store, first)
    advance(either_store, study)
    assert len(runs_of(either_store, study)) == 6
    work_through(either_store, study)
    assert len(runs_of(either_store, study)) == 8
    assert read(either_store, study).state == JobState.succeeded
    assert either_store.jobs.result(study)


@pytest.mark.slow(in_each_part=True)
def test_the_trials_do_not_depend_on_which_run_ends_first(either_store: Store) -> None:
    found = []
    for order in (0, -1):
        study = submit(either_store, search(trials=9), fresh=True).id
        work_through(either_store, study, order)
        found.append(params_of(either_store, study))
    assert found[0] == found[1]
    assert len(found[0]) == 9


@pytest.mark.slow(in_each_part=True)
def test_a_search_goes_on_after_its_process_was_lost(either_store: Store) -> None:
    whole = submit(either_store, search(trials=8), fresh=True).id
    work_through(either_store, whole)
    cut = submit(either_store, search(trials=8), fresh=True).id
    advance(either_store, cut)
    while waiting := queued(either_store, cut):
        finish(either_store, waiting[0])
        other = Store(either_store.database.url.render_as_string(hide_password=False))
        advance(other, cut)  # a process that knows nothing but the database
        other.close()
    assert params_of(either_store, cut) == params_of(either_store, whole)


@pytest.mark.slow(in_each_part=True)
def test_two_processes_make_no_trial_twice(either_store: Store) -> None:
    study = submit(either_store, search(trials=30, at_once=30, method="random")).id
    url = either_store.database.url.render_as_string(hide_password=False)
    others = [Store(url) for _ in range(2)]
    threads = [threading.Thread(target=advance, args=(store, study)) for store in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    advance(either_store, study)
    made = params_of(either_store, study)
    assert len(made) == 30
    assert len({str(one) for one in made}) == 30
    for store in others:
        store.close()


@pytest.mark.slow(in_each_part=True)
def test_failed_trials_count_and_the_search_goes_on(either_store: Store) -> None:
    study = submit(either_store, search(trials=4, at_once=1)).id
    advance(either_store, study)
    finish(either_store, queued(either_store, study)[0], well=False)
    work_through(either_store, study)
    states = [job.state for job in runs_of(either_store, study)]
    assert states == [JobState.failed, *[JobState.succeeded] * 3]
    assert read(either_store, study).state == JobState.succeeded


@pytest.mark.slow(in_each_part=True)
def test_a_cancelled_search_makes_no_more_trials(either_store: Store) -> None:
    study = submit(either_store, search()).id
    advance(either_store, study)
    either_store.actions.cancel(study)
    advance(either_store, study)
    assert [job.state for job in runs_of(either_store, study)] == [JobState.cancelled] * 3
    assert read(either_store, study).state == JobState.cancelled
    assert either_store.actions.retry(study).state == JobState.queued
    work_through(either_store, study)
    assert read(either_store, study).state == JobState.succeeded
    assert len(runs_of(either_store, study)) == 8


@pytest.mark.slow(in_each_part=True)
def test_a_paused_search_goes_on_when_it_is_resumed(either_store: Store) -> None:
    study = submit(either_store, search()).id
    either_store.actions.pause(study)
    advance(either_store, study)
    assert runs_of(either_store, study) == []
    either_store.actions.resume(study)
    work_through(either_store, study)
    assert read(either_store, study).state == JobState.succeeded


def test_a_deleted_search_leaves_nothing(either_store: Store) -> None:
    study = submit(either_store, search(trials=3)).id
    work_through(either_store, study)
    either_store.actions.delete(study)
    assert either_store.jobs.get(study) is None


def test_a_space_that_fits_nowhere_ends_the_search(either_store: Store) -> None:
    spec = StudySpec.model_validate(
        {
            "base": BASE,
            "search": {
                "space": {
                    "dataset.validation_samples": {"low": 5_999, "high": 6_000, "type": "int"}
                }
            },
        }
    )
    study = submit(either_store, spec).id
    advance(either_store, study)
    ended = read(either_store, study)
    assert ended.state == JobState.failed
    assert ended.error is not None
    assert ended.error.code == "search_exhausted"
    assert "no samples to train on" in ended.error.detail


# Pruning


def measure(store: Store, job: Job, attempt: int, epochs: range, sparsity: float) -> None:
    rows = [
        epoch_row(epoch, split).model_copy(
            update={"sparsity": sparsity if split == "positive" else 0.0}
        )
        for epoch in epochs
        for split in ("positive", "negative")
    ]
    store.queue.record(job.id, attempt, lease_seconds=LEASE, progress=HALF, rows=rows)


def pruning(**fields: Any) -> StudySpec:
    return search(objective="sparsity[split=positive]", prune="median", at_once=1, **fields)


def run_to_the_end(store: Store, job: Job, sparsity: float) -> None:
    claim = store.queue.claim(job.id, "w1", LEASE)
    assert claim is not None
    measure(store, job, claim.attempt, range(7), sparsity)
    result = train_result(epochs=6)
    curves = tuple(row.model_copy(update={"sparsity": sparsity}) for row in result.curves)
    store.queue.finish(job.id, claim.attempt, result.model_copy(update={"curves": curves}))


@pytest.mark.slow(in_each_part=True)
def test_a_worse_trial_is_stopped_and_counts_as_pruned(either_store: Store) -> None:
    study = submit(either_store, pruning()).id
    advance(either_store, study)
    for _ in range(5):
        run_to_the_end(either_store, queued(either_store, study)[0], 0.5)
        advance(either_store, study)
    (bad,) = queued(either_store, study)
    claim = either_store.queue.claim(bad.id, "w1", LEASE)
    assert claim is not None
    measure(either_store, bad, claim.attempt, range(1), 0.1)
    advance(either_store, study)
    assert either_store.queue.renew(bad.id, claim.attempt, LEASE) == "run", "nothing is trained yet"
    measure(either_store, bad, claim.attempt, range(1, 3), 0.1)
    advance(either_store, study)
    assert either_store.queue.renew(bad.id, claim.attempt, LEASE) == "cancel"
    either_store.queue.finish_stopped(bad.id, claim.attempt)
    advance(either_store, study)
    cell = either_store.studies.result(study).cells[5]
    assert (cell.state, cell.pruned_at) == ("cancelled", 1)
    log = [event.data.get("message") for event in either_store.events.of(bad.id, after=0, limit=99)]
    assert "pruned: worse than earlier trials at epoch 1" in log
    assert len(runs_of(either_store, study)) == 7, "the search goes on"


@pytest.mark.slow(in_each_part=True)
def test_a_worse_trial_that_ended_before_it_was_stopped_counts_as_pruned(
    either_store: Store,
) -> None:
    study = submit(either_store, pruning()).id
    advance(either_store, study)
    for _ in range(5):
        run_to_the_end(either_store, queued(either_store, study)[0], 0.5)
        advance(either_store, study)
    run_to_the_end(either_store, queued(either_store, study)[0], 0.1)
    advance(either_store, study)
    cells = either_store.studies.result(study).cells
    assert (cells[5].state, cells[5].pruned_at) == ("succeeded", 1)
    assert cells[4].pruned_at is None


def test_nothing_is_written_while_a_trial_is_chosen(
    either_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.store import searches

    study = submit(either_store, search()).id

    other = Store(either_store.database.url.render_as_string(hide_password=False))

    def propose(*arguments: Any) -> Any:
        submit(other)  # it would wait for a transaction that is open here
        return chosen(*arguments)

    chosen = searches.propose
    monkeypatch.setattr(searches, "propose", propose)
    advance(either_store, study)
    assert len(runs_of(either_store, study)) == 3
    other.close()
