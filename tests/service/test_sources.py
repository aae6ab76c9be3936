"""What charts are drawn of: a job's rows, result, kept margins and data; a study's runs and the
whole of its grid.
"""

from pathlib import Path

import pytest
from sqlalchemy import update

from ffengine.margin_files import CellMargins, MarginFileWriter, write_margins
from ffengine.results import CheckCell
from ffengine.spec import CheckSpec, StudyPart, StudySpec, TrainSpec
from ffengine.study import expand
from service.artifacts import Artifacts, margins_name
from service.jobs import Job
from service.results.charts import ChartSource, PartialRun, Source, StudyGrid, available
from service.results.load import MOST_DRAWN_RUNS, drawable, sources_of
from service.results.paper_comparison import comparison
from service.results.run_labels import run_keys
from service.store import NewJob, Store
from service.store.tables import JobRow
from tests.factories import HALF, LEASE, claimed, read, submit
from tests.service.samples import check_cell, check_result, epoch_row, train_result

CHECK = CheckSpec(theorem=1, widths=(64,), samples=4, seeds=(0, 1, 2))
STUDY = StudySpec(base=TrainSpec(epochs=1, seeds=(0,)), grid={"optimizer.lr": [0.5, 1.0, 2.0]})


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


def done(store: Store, job: Job) -> None:
    claim = store.queue.claim(job.id, "w", LEASE)
    assert claim is not None
    store.queue.finish(
        job.id, claim.attempt, check_result() if job.kind == "check" else train_result()
    )


def margins_of(cell: CheckCell) -> CellMargins:
    sheet = MarginFileWriter(cell.samples)
    none = [False] * cell.samples
    sheet.add(
        sample=range(4),
        margin=[1.0, 2, 3, -4],
        satisfied=[True, True, True, False],
        dead=none,
        undecided=none,
    )
    return sheet.of(cell)


def keep(artifacts: Artifacts, owner: str, seeds: tuple[int, ...]) -> None:
    for seed in seeds:
        artifacts.put(
            owner, margins_name(seed, 64), write_margins([margins_of(check_cell(seed=seed))])
        )


def counts(source: ChartSource) -> list[tuple[int, int, int]]:
    assert isinstance(source, Source | PartialRun)
    assert source.margins is not None
    return [(one.live, one.satisfied, one.seeds) for one in source.margins()]


def test_a_check_of_trained_weights_knows_how_they_were_trained_while_that_job_is_there(
    store: Store,
) -> None:
    spec = TrainSpec.model_validate({"objective": {"name": "softplus"}})
    training = submit(store, spec)
    check = submit(
        store,
        CheckSpec.model_validate({**CHECK.model_dump(), "at": {"job": training.id, "epoch": 0}}),
    )
    done(store, training)
    done(store, check)
    (source,) = drawable(store, check)
    assert isinstance(source, Source)
    assert source.trained == spec
    assert {line.verdict for line in comparison([source])} == {"not the paper's setting"}
    store.actions.delete(training.id)
    (source,) = drawable(store, check)
    assert isinstance(source, Source)
    assert {line.verdict for line in comparison([source])} == {"setting unknown"}


def test_a_check_has_the_margins_that_are_kept_of_it_also_while_it_runs(
    store: Store, artifacts: Artifacts
) -> None:
    job = submit(store, CHECK)
    assert available(drawable(store, job, artifacts)) == []
    _, attempt = claimed(store, job)
    store.queue.record(
        job.id,
        attempt,
        lease_seconds=LEASE,
        progress=HALF,
        rows=[check_cell(seed=seed) for seed in (0, 1)],
    )
    keep(artifacts, job.id, (0, 1))
    (so_far,) = drawable(store, read(store, job.id), artifacts)
    assert (type(so_far), counts(so_far)) == (PartialRun, [(8, 6, 2)])
    store.queue.finish(job.id, attempt, check_result())
    keep(artifacts, job.id, (2,))
    (source,) = drawable(store, read(store, job.id), artifacts)
    assert (type(source), counts(source)) == (Source, [(12, 9, 3)])
    assert "margins" not in available(drawable(store, read(store, job.id)))  # without the artifacts


def test_a_job_that_was_answered_from_another_has_its_margins(
    store: Store, artifacts: Artifacts
) -> None:
    first = submit(store, CHECK)
    done(store, first)
    keep(artifacts, first.id, (0, 1, 2))
    again = store.jobs.submit(NewJob(spec=CHECK), max_queued=10).job
    assert again.cached_from == first.id
    (source,) = drawable(store, again, artifacts)
    assert counts(source) == [(12, 9, 3)]


def test_a_running_job_knows_its_spec(store: Store) -> None:
    job = submit(store, TrainSpec(epochs=2))
    _, attempt = claimed(store, job)
    store.queue.record(job.id, attempt, lease_seconds=LEASE, progress=HALF, rows=[epoch_row()])
    (so_far,) = drawable(store, job)
    assert isinstance(so_far, PartialRun)
    assert so_far.spec == job.spec


def test_a_study_is_its_grid_and_the_runs_that_have_ended(store: Store) -> None:
    job = submit(store, STUDY)
    children = [child for child, _ in store.jobs.children(job.id)]
    done(store, children[1])
    store.studies.advance(job.id)
    grid, run = drawable(store, read(store, job.id))
    assert isinstance(grid, StudyGrid)
    assert [cell.found.params["optimizer.lr"] for cell in grid.cells] == [0.5, 1.0, 2.0]
    assert [cell.found.state for cell in grid.cells] == ["queued", "succeeded", "queued"]
    assert [cell.spec for cell in grid.cells] == [child.spec for child in children]
    assert (type(run), run.label) == (Source, "lr 1")
    assert {"grid_sparsity", "sparsity"} <= set(available([grid, run]))
    done(store, children[0])
    done(store, children[2])
    result = store.studies.result(job.id).model_dump_json()
    found = sources_of(store, read(store, job.id), result)
    assert [source.label for source in found] == ["", "lr 0.5", "lr 1", "lr 2"]


def test_a_study_of_an_earlier_version_is_drawn_from_its_runs_whatever_has_become_of_its_preset(
    store: Store,
) -> None:
    job = submit(store, STUDY)
    children = [child for child, _ in store.jobs.children(job.id)]
    for child in children:
        done(store, child)
    for preset in ("gone", "quick"):
        with store.database.writing() as session:
            values = {"spec": {"kind": "study", "preset": preset}, "version": JobRow.version + 1}
            session.execute(update(JobRow).where(JobRow.id == job.id).values(**values))
        grid, *runs = drawable(store, read(store, job.id))
        assert isinstance(grid, StudyGrid)
        assert [cell.spec for cell in grid.cells] == [child.spec for child in children]
        assert [source.label for source in runs] == ["lr 0.5", "lr 1", "lr 2"]


def test_of_a_large_study_the_grid_alone_is_drawn(store: Store) -> None:
    job = submit(
        store,
        STUDY.model_copy(
            update={"grid": {"optimizer.lr": [0.01 * (n + 1) for n in range(MOST_DRAWN_RUNS + 1)]}}
        ),
    )
    for child, _ in store.jobs.children(job.id)[:2]:
        done(store, child)
    (grid,) = drawable(store, read(store, job.id))
    assert isinstance(grid, StudyGrid)
    assert len(grid.cells) == MOST_DRAWN_RUNS + 1


def test_runs_of_parts_that_vary_alike_are_told_apart_by_their_parts() -> None:
    part = StudyPart(base=TrainSpec(), grid={"optimizer.lr": [1.0, 2.0]})
    study = StudySpec(parts={"slow": part, "fast": part, "check": StudyPart(base=CHECK)})
    assert [key.label for key in run_keys(expand(study))] == [
        "slow, lr 1",
        "slow, lr 2",
        "fast, lr 1",
        "fast, lr 2",
        "",
    ]
