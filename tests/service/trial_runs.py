"""Searches in a store, whose trials are run by made-up workers."""

from typing import Any

from ffengine.results import AccuracyRow, TrainResult
from ffengine.spec import StudySpec, TrainSpec
from service.jobs import Job, JobState
from service.store import Store
from tests.factories import ERROR, LEASE
from tests.service.samples import train_result

SPACE = {
    "optimizer.lr": {"low": 0.01, "high": 10, "log": True},
    "network.widths.0": {"low": 16, "high": 256, "type": "int", "log": True},
}
BASE = {"kind": "train", "epochs": 6, "dataset": {"validation_samples": 100}}


def search(**fields: Any) -> StudySpec:
    asked = {"space": SPACE, "trials": 8, "at_once": 3, **fields}
    return StudySpec.model_validate({"base": BASE, "search": asked})


def advance(store: Store, study: str) -> None:
    """What the reconciler does, until there is nothing left to do."""
    while store.studies.advance(study):
        pass


def runs_of(store: Store, study: str) -> list[Job]:
    return [job for job, _ in store.jobs.children(study)]


def params_of(store: Store, study: str) -> list[dict[str, Any]]:
    return [dict((job.place or {})["params"]) for job in runs_of(store, study)]  # type: ignore[arg-type]


def result_of(job: Job) -> TrainResult:
    """A result whose accuracy follows from the width, so that the same trial has the same one."""
    assert isinstance(job.spec, TrainSpec)
    correct = job.spec.network.widths[0]
    row = AccuracyRow(
        seed=0,
        layer=None,
        layers=(0,),
        epoch=6,
        partition="validation",
        samples=1_000,
        correct=correct,
        accuracy=correct / 1_000,
    )
    return train_result(epochs=6).model_copy(update={"accuracy": (row,)})


def finish(store: Store, job: Job, *, well: bool = True) -> None:
    claim = store.queue.claim(job.id, "w1", LEASE)
    assert claim is not None
    if well:
        store.queue.finish(job.id, claim.attempt, result_of(job))
    else:
        store.queue.fail(job.id, claim.attempt, ERROR)


def queued(store: Store, study: str) -> list[Job]:
    return [job for job in runs_of(store, study) if job.state == JobState.queued]


def work_through(store: Store, study: str, order: int = 0) -> None:
    """Let all runs succeed, the oldest first, or the newest where `order` is -1."""
    advance(store, study)
    while waiting := queued(store, study):
        finish(store, waiting[order])
        advance(store, study)
