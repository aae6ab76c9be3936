"""What a list shows of a job: means over seeds, held beside means that are worked out here from the
rows of real runs.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, update

import ffengine
from ffengine.checkpoint import Position
from ffengine.interrupts import Control, Interrupted
from ffengine.results import CheckResult, EpochRow, RunResult, Split, TrainResult
from ffengine.spec import AnySpec, CheckSpec, StudySpec, TrainSpec
from ffengine.training import EpochReport
from service.cli.job_watcher import JobProgress
from service.cli.live_view import newest
from service.headline import FIGURES, headline, newest_complete
from service.jobs import Event, Job
from service.lists.conditions import parse_order
from service.results.row_keys import EpochRef, RowKey, quantity_of
from service.store import Store
from service.store.tables import ResultRow
from tests.factories import HALF, LEASE, claimed, read, submit
from tests.service.samples import check_cell, check_result, epoch_row, train_result
from workers.attempt import resumed_in_words

TINY: dict[str, Any] = {
    "dataset": {"train_samples": 60, "test_samples": 30},
    "batch_size": 30,
    "epochs": 2,
    "monitor": {"samples": 40},
}
SPECS: dict[str, AnySpec] = {
    "one layer": TrainSpec.model_validate({**TINY, "network": {"widths": [8]}, "seeds": [0, 1, 2]}),
    "every third epoch": TrainSpec.model_validate(
        {
            **TINY,
            "network": {"widths": [8]},
            "seeds": [4, 2],
            "epochs": 7,
            "monitor": {"samples": 40, "every_epochs": 3},
        }
    ),
    "greedy": TrainSpec.model_validate({**TINY, "network": {"widths": [8, 6, 4]}, "seeds": [0, 1]}),
    "simultaneous": TrainSpec.model_validate(
        {**TINY, "network": {"widths": [8, 6]}, "layers": "simultaneous", "seeds": [0, 1, 2]}
    ),
    "without theorems": TrainSpec.model_validate(
        {**TINY, "network": {"widths": [8]}, "monitor": {"samples": 40, "theorems": []}}
    ),
    "theorem 1": CheckSpec(
        theorem=1, widths=(4, 16, 8), samples=40, batch_size=20, seeds=(0, 1, 2)
    ),
    "theorem 2": CheckSpec(theorem=2, widths=(16, 4), samples=40, batch_size=20, seeds=(3, 1)),
    "infinite width alone": CheckSpec(
        theorem=2, widths=(16,), samples=40, methods=("infinite_width",)
    ),
}
SPLITS: tuple[Split, ...] = ("positive", "negative")
# accuracy is measured while they learn
FOLLOWED: dict[str, AnySpec] = {
    "monitored": TrainSpec.model_validate(
        {
            **TINY,
            "dataset": TINY["dataset"] | {"validation_samples": 20},
            "network": {"widths": [8, 6]},
            "monitor": {"samples": 40, "accuracy": True},
            "seeds": [0, 1],
        }
    ),
    "stopped": TrainSpec.model_validate(
        {
            **TINY,
            "dataset": TINY["dataset"] | {"validation_samples": 20},
            "network": {"widths": [8]},
            "epochs": 5,
            "stop": {"patience": 1},
            "seeds": [0, 1],
        }
    ),
}
SIGNS = {"positive": "+", "negative": "−"}


@pytest.fixture(scope="module")
def results() -> dict[str, RunResult]:
    return {
        name: ffengine.train(spec) if isinstance(spec, TrainSpec) else ffengine.check(spec)
        for name, spec in (SPECS | FOLLOWED).items()
    }  # type: ignore[arg-type]


def expected(spec: AnySpec, result: RunResult) -> str:
    """The text, from the definition."""
    if isinstance(result, CheckResult):
        assert isinstance(spec, CheckSpec)
        width, parts = max(spec.widths), []
        for split, sign in SIGNS.items():
            ratios = [
                c.ratio
                for c in result.cells
                if (c.width, c.split, c.method) == (width, split, "exact")
            ]
            if ratios:
                parts.append(
                    f"T{spec.theorem}{sign if spec.theorem == 2 else ''} "
                    f"{np.mean([r or 0 for r in ratios]):.4f}"
                )
        return f"n = {width}: {' '.join(parts)}" if parts else ""
    assert isinstance(spec, TrainSpec)
    layer, epoch = len(spec.network.widths) - 1, spec.epochs
    rows = [row for row in result.curves if (row.layer, row.epoch) == (layer, epoch)]
    parts = []
    for name, figure in (("S", "sparsity"), ("T2", "theorem2_ratio")):
        for split, sign in SIGNS.items():
            values = [getattr(row, figure) for row in rows if row.split == split]
            parts += [f"{name}{sign} {np.mean(values):.3f}"] if None not in values else []
    places = [(r.accuracy, (r.layer, r.layers, r.partition, r.method)) for r in result.accuracy]
    whole = [
        accuracy
        for accuracy, place in places
        if place == (None, tuple(range(layer + 1)), "test", "goodness")
    ]
    assert len(whole) == len(spec.seeds)
    where = f"layer {layer}, epoch {epoch}" if layer else f"epoch {epoch}"
    return f"{where}: {' '.join(parts)} accuracy {np.mean(whole):.3f}"


def finish(store: Store, job: Job, result: RunResult) -> Job:
    _, attempt = claimed(store, job)
    rows = result.curves if isinstance(result, TrainResult) else result.cells
    store.queue.record(job.id, attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    store.queue.finish(job.id, attempt, result)
    return read(store, job.id)


def text_of(store: Store, job: Job) -> str:
    return store.jobs.headlines([read(store, job.id)])[job.id].text


@pytest.mark.slow
def test_the_headline_is_the_mean_over_seeds_at_the_end(
    either_store: Store, results: dict[str, RunResult]
) -> None:
    jobs = {
        name: finish(either_store, submit(either_store, spec), results[name])
        for name, spec in SPECS.items()
    }
    found = either_store.jobs.headlines(list(jobs.values()))
    for name, spec in SPECS.items():
        assert found[jobs[name].id].text == expected(spec, results[name]), name
        count = len(getattr(spec, "seeds", ()))
        mean = f"mean over {count} seed{'s' if count > 1 else ''} at "
        assert found[jobs[name].id].meaning.startswith(mean if found[jobs[name].id].text else ""), (
            name
        )
    nothing = found[jobs["infinite width alone"].id]
    assert nothing == ("", "", {}), "the limit is no figure of a network"
    assert either_store.jobs.headlines(list(jobs.values())) == found, (
        "what is remembered is the same"
    )


def test_while_it_runs_it_is_the_newest_epoch_that_all_seeds_have(
    either_store: Store, results: dict[str, RunResult]
) -> None:
    spec, result = SPECS["greedy"], results["greedy"]
    assert isinstance(result, TrainResult)
    by_place: dict[tuple[int, int], list[EpochRow]] = defaultdict(list)
    for row in result.curves:
        by_place[row.layer, row.epoch].append(row)
    job = submit(either_store, spec)
    assert text_of(either_store, job) == ""
    _, attempt = claimed(either_store, job)
    for (layer, epoch), rows in sorted(by_place.items()):
        either_store.queue.record(job.id, attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
        means = [
            np.mean([row.sparsity or 0 for row in rows if row.split == split]) for split in SIGNS
        ]
        assert text_of(either_store, job).startswith(
            f"layer {layer}, epoch {epoch}: S+ {means[0]:.3f} S− {means[1]:.3f} T2+ "
        )


def test_seeds_that_are_behind_hold_the_epoch_back(either_store: Store) -> None:
    job = submit(either_store, TrainSpec(epochs=9, seeds=(0, 1)))
    _, attempt = claimed(either_store, job)
    record = partial(either_store.queue.record, job.id, attempt, lease_seconds=LEASE, progress=HALF)
    record(
        rows=[
            epoch_row(epoch, split, seed=0, ratio=0.1 * epoch)
            for epoch in range(6)
            for split in ("positive", "negative")
        ]
    )
    assert text_of(either_store, job) == "epoch 5: S+ 0.500 S− 0.500 T2+ 0.500 T2− 0.500"
    assert either_store.jobs.headlines([read(either_store, job.id)])[job.id].meaning.startswith(
        "mean over 1 of 2 seeds at epoch 5"
    )
    record(
        rows=[
            epoch_row(epoch, split, seed=1, ratio=0.3)
            for epoch in range(2)
            for split in ("positive", "negative")
        ]
    )
    assert text_of(either_store, job) == "epoch 1: S+ 0.500 S− 0.500 T2+ 0.200 T2− 0.200"
    record(rows=[epoch_row(2, "positive", seed=1, ratio=0.3)])
    assert text_of(either_store, job).startswith("epoch 1"), "one split is not an epoch"


def test_a_check_that_runs_shows_the_seeds_that_there_are(either_store: Store) -> None:
    job = submit(either_store, CheckSpec(theorem=1, widths=(16, 64), samples=4, seeds=(0, 1, 2)))
    _, attempt = claimed(either_store, job)
    seen = []
    for seed, width in ((0, 16), (0, 64), (1, 16), (1, 64)):
        either_store.queue.record(
            job.id, attempt, lease_seconds=LEASE, progress=HALF, rows=[check_cell(width, seed=seed)]
        )
        found = either_store.jobs.headlines([read(either_store, job.id)])[job.id]
        seen.append((found.text, found.meaning.partition(" at ")[0]))
    assert seen == [
        ("n = 16: T1 0.7500", "mean over 1 of 3 seeds"),
        ("n = 64: T1 0.7500", "mean over 1 of 3 seeds"),
        ("n = 64: T1 0.7500", "mean over 1 of 3 seeds"),
        ("n = 64: T1 0.7500", "mean over 2 of 3 seeds"),
    ]


def test_a_check_of_trained_weights_says_of_which_epoch(either_store: Store) -> None:
    training = submit(either_store)
    job = submit(
        either_store,
        CheckSpec.model_validate(
            {"theorem": 1, "at": {"job": training.id, "epoch": 2}, "seeds": [0]}
        ),
    )
    _, attempt = claimed(either_store, job)
    cell = check_cell(500).model_copy(update={"epoch": 2})
    either_store.queue.record(job.id, attempt, lease_seconds=LEASE, progress=HALF, rows=[cell])
    assert text_of(either_store, job) == "epoch 2, n = 500: T1 0.7500"


def trained_with(ratio: float) -> TrainResult:
    rows = tuple(epoch_row(epoch, ratio=ratio) for epoch in (0, 1))
    return train_result().model_copy(update={"curves": rows})


def test_a_study_has_the_range_of_its_runs_that_have_succeeded(either_store: Store) -> None:
    spec = {
        "parts": {
            "training": {"base": {"kind": "train"}, "grid": {"epochs": [1, 2, 3]}},
            "check": {"base": {"kind": "check", "theorem": 1, "seeds": [0]}},
        }
    }
    study = submit(either_store, StudySpec.model_validate(spec))
    first, second, third, check = (job for job, _ in either_store.jobs.children(study.id))
    assert text_of(either_store, study) == ""
    for job, rate in ((first, 0.25), (second, 0.5)):
        finish(either_store, job, trained_with(rate))
    assert text_of(either_store, study) == ("2 training runs: S+ 0.500, T2+ 0.250 to 0.500")
    _, attempt = claimed(either_store, third)
    rows = trained_with(0.9).curves
    either_store.queue.record(third.id, attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    finish(either_store, check, check_result())
    told = either_store.jobs.headlines([read(either_store, study.id)])[study.id]
    assert told.text == ("2 training runs: S+ 0.500, T2+ 0.250 to 0.500; 1 check: T1 0.7500")
    assert "of the runs that have succeeded" in told.meaning
    assert told.figures == {}


@pytest.mark.slow
def test_a_retry_is_not_taken_for_what_it_was(either_store: Store) -> None:
    job = submit(either_store, TrainSpec(epochs=4))
    _, attempt = claimed(either_store, job)
    either_store.queue.record(
        job.id, attempt, lease_seconds=LEASE, progress=HALF, rows=[epoch_row(0)]
    )
    either_store.actions.cancel(job.id)
    either_store.queue.finish_stopped(job.id, attempt)
    assert text_of(either_store, job).startswith("epoch 0")
    either_store.actions.retry(job.id)
    _, attempt = claimed(either_store, job)
    either_store.queue.record(
        job.id, attempt, lease_seconds=LEASE, progress=HALF, rows=[epoch_row(1)]
    )
    assert text_of(either_store, job).startswith("epoch 1")


@pytest.mark.parametrize("name", ["one layer", "monitored", "stopped"])
def test_accuracies_of_the_monitor_are_figures_of_the_last_epoch(
    either_store: Store, results: dict[str, RunResult], name: str
) -> None:
    spec, result = (SPECS | FOLLOWED)[name], results[name]
    assert isinstance(spec, TrainSpec)
    assert isinstance(result, TrainResult)
    job = finish(either_store, submit(either_store, spec), result)
    found = either_store.jobs.headlines([job])[job.id].figures
    everything = tuple(range(len(spec.network.widths)))
    wanted: dict[str, float] = {}
    for partition in ("train", "validation"):
        for field in ("accuracy", "auc"):
            last = []
            for seed in spec.seeds:
                rows = [
                    row
                    for row in result.accuracy_curves
                    if (row.seed, row.partition, row.layers, row.method)
                    == (seed, partition, everything, "goodness")
                ]
                last += [getattr(max(rows, key=lambda one: one.epoch), field)] if rows else []
            if last:
                wanted[f"{partition}_{field}"] = sum(last) / len(last)
    assert len(wanted) == (0 if name == "one layer" else 4)
    assert {one: found[one] for one in found if one.startswith(("train", "valid"))} == (
        pytest.approx(wanted)
    )
    assert set(found) <= set(FIGURES)
    either_store.jobs.refresh_figures()
    by_auc = parse_order("-train_auc")
    assert [one.id for one in either_store.jobs.page(limit=5, order=by_auc).jobs] == [job.id]


@contextmanager
def counted(store: Store) -> Iterator[list[str]]:
    """The statements that are sent meanwhile."""
    sent: list[str] = []
    listen = lambda *given: sent.append(given[2])  # noqa: E731
    event.listen(store.database.engine, "before_cursor_execute", listen)
    yield sent
    event.remove(store.database.engine, "before_cursor_execute", listen)


@pytest.mark.slow
def test_hundreds_of_jobs_take_as_many_queries_as_one(either_store: Store) -> None:
    jobs = [
        finish(either_store, submit(either_store, TrainSpec(epochs=1), fresh=True), train_result())
        for _ in range(30)
    ]
    with counted(either_store) as for_one:
        either_store.jobs.headlines(jobs[:1])
    with counted(either_store) as for_many:
        either_store.jobs.headlines(jobs[1:])
    assert 0 < len(for_many) == len(for_one)
    with counted(either_store) as again:
        either_store.jobs.headlines(jobs)
    assert again == []


def test_rows_that_do_not_fit_the_spec_are_shown_as_they_are(either_store: Store) -> None:
    job = finish(
        either_store, submit(either_store, TrainSpec(epochs=3, seeds=(7, 8))), train_result((0, 1))
    )
    assert text_of(either_store, job) == "epoch 1: S+ 0.500 T2+ 0.750"
    with either_store.database.writing() as session:
        session.execute(update(ResultRow).where(ResultRow.job_id == job.id).values(document="{}"))
    changed = job.model_copy(update={"finished_at": job.created_at})
    assert either_store.jobs.headlines([changed])[job.id].text == "epoch 1: S+ 0.500 T2+ 0.750"


def test_large_numbers_have_marks_of_thousands() -> None:
    long = TrainSpec(epochs=20_000)
    rows = [epoch_row(12_345).model_dump()]
    assert headline(long, rows).text.startswith("epoch 12,345: ")
    reports: list[EpochReport] = []

    def stop(report: EpochReport) -> Control:
        reports.append(report)
        return "stop"

    with pytest.raises(Interrupted):
        ffengine.train(
            TrainSpec.model_validate({**TINY, "network": {"widths": [4]}, "epochs": 20_000}),
            on_epoch=stop,
        )
    assert [one.message for one in reports] == ["layer 0: epoch 0 of 20,000"]
    assert resumed_in_words(long, Position(0, 12_345)) == "resumed at epoch 12,345"
    key = RowKey("theorem2_training", at=EpochRef(12_345), width=4096)
    assert quantity_of(key) == "Theorem 2 along the training step, epoch 12,345, n = 4,096"


def test_dead_samples_have_no_sparsity_to_show() -> None:
    dead = [epoch_row(0, ratio=None).model_copy(update={"sparsity": None}).model_dump()]
    assert headline(TrainSpec(), dead).text == ""
    assert newest_complete([]) == []


def test_the_live_view_shows_the_same_epoch(either_store: Store) -> None:
    """Seed 1 is behind: the means are those of the epoch that both have."""
    job = submit(either_store, TrainSpec(epochs=9, seeds=(0, 1)))
    watched = JobProgress(job)
    epochs = [
        epoch_row(epoch, split, seed=seed, ratio=0.2 * seed + 0.1)
        for seed in (0, 1)
        for epoch in range(3 - seed)
        for split in SPLITS
    ]
    rows = [row.model_dump(mode="json") for row in epochs]
    watched.apply(
        Event.model_validate(
            {"id": 1, "job": job.id, "type": "rows", "at": job.created_at, "data": {"rows": rows}}
        )
    )
    shown = newest(watched)
    assert shown.columns[0].header == "epoch 1"
    (ratios,) = (column for column in shown.columns if column.header == "theorem 2, own step")
    assert list(ratios.cells) == ["0.2000", "0.2000"]
    assert headline(job.spec, watched.rows).text.endswith("T2+ 0.200 T2− 0.200")
