"""Every column of a training run's rows: its label, its meaning, and its figure at the end."""

import math

import httpx

from ffengine.results import EpochRow, Split
from ffengine.spec import TrainSpec, digest
from service.results.column_labels import LABELS, figure_tables, meaning_of
from service.store import NewJob, Store
from tests.factories import finished
from tests.service.samples import epoch_row, train_result

SPLITS: tuple[Split, Split] = ("positive", "negative")


def test_every_column_has_a_label_and_a_meaning() -> None:
    assert list(LABELS) == list(EpochRow.model_fields)
    assert len(set(LABELS.values())) == len(LABELS)
    for column in LABELS:
        assert meaning_of(column), column
        assert "`" not in meaning_of(column)


def test_figures_are_means_over_seeds_after_the_last_epoch_of_each_layer() -> None:
    rows = [
        epoch_row(epoch, split, seed=seed, layer=layer).model_copy(
            update={"kappa": 0.1 * epoch + 0.5 * seed, "act": "selecting" if epoch else None}
        )
        for seed in (0, 1)
        for layer, last in ((0, 2), (1, 1))
        for epoch in range(last + 1)
        for split in SPLITS
    ]
    first, second = figure_tables(train_result().model_copy(update={"curves": tuple(rows)}))
    assert first.title == "All figures after epoch 2, layer 0"
    assert second.title == "All figures after epoch 1, layer 1"
    found = {row[1]: row for row in first.rows}
    assert found["kappa"][:4] == ["evenness κ", "kappa", "0.4500", "0.4500"]
    assert found["act"][2:4] == ["selecting", "selecting"]
    assert "gini" not in found  # was not measured
    assert first.folded


def test_odd_rows_have_a_table_of_what_they_have() -> None:
    one = epoch_row(0).model_copy(update={"goodness": math.nan, "sparsity": None})
    [table] = figure_tables(train_result().model_copy(update={"curves": (one,)}))
    found = {row[1]: row for row in table.rows}
    assert found["goodness"][2:4] == ["–", "–"]  # no number, and no negative sample
    assert "sparsity" not in found
    assert not list(figure_tables(train_result().model_copy(update={"curves": ()})))


def test_the_page_of_a_run_has_every_figure_with_its_meaning(
    client: httpx.Client, store: Store
) -> None:
    spec = TrainSpec()
    order = NewJob(spec=spec, spec_digest=digest(spec))
    job = store.jobs.submit(order, max_queued=100).job.id
    assert "All figures" not in client.get(f"/jobs/{job}").text
    finished(store, job, train_result())
    text = client.get(f"/jobs/{job}").text
    assert "<summary>All figures after epoch 1</summary>" in text
    assert "<td>share of activations that are exactly 0</td>" in text
