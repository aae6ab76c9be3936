"""Jobs side by side: figures are joined by their keys, whatever their words."""

from collections.abc import Sequence
from typing import Any

import pytest

from ffengine.results import EpochRow, TrainResult
from ffengine.spec import StudySpec, TrainSpec
from ffengine.study import expand
from service.jobs import Job
from service.results import descriptions, job_diff, paper_comparison, row_keys, run_labels
from service.results.job_diff import JobDiff, align_rows, flatten
from service.results.paper_comparison import ComparisonRow, comparison
from service.results.row_keys import EpochRef, RowKey, quantity_of
from service.results.run_labels import run_keys
from service.results.sources import Source
from service.store import Store
from tests.factories import read, submit
from tests.service.samples import check_result, epoch_row, provenance, train_result

FALLS_THEN_RISES = [(0.7, 0.5), (0.1, 0.45), (0.3, 0.4), (0.6, 0.45), (0.7, 0.49)]  # ratio, S


def training(course: Sequence[tuple[float, float]]) -> TrainResult:
    """A run of two seeds whose ratio and S take these values, epoch by epoch."""
    rows: list[EpochRow] = [
        epoch_row(epoch, split, seed=seed, ratio=ratio).model_copy(update={"sparsity": sparsity})
        for seed in (0, 1)
        for epoch, (ratio, sparsity) in enumerate(course)
        for split in ("positive", "negative")  # type: ignore[assignment]
    ]
    return train_result((0, 1)).model_copy(update={"curves": tuple(rows)})


def rows_of(result: Any) -> list[ComparisonRow]:
    return comparison([Source("", result)])


def joined(diff: JobDiff) -> list[tuple[RowKey, list[bool]]]:
    return [(figure.key, [row is not None for row in figure.rows]) for figure in diff.figures]


def jobs(store: Store, epochs: Sequence[int]) -> list[Job]:
    return [
        read(store, submit(store, TrainSpec(epochs=number, seeds=(0, 1))).id).model_copy(
            update={"provenance": provenance((0, number))}
        )
        for number in epochs
    ]


def test_no_wording_decides_which_rows_are_joined(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = jobs(store, (2, 4))
    results = (training(FALLS_THEN_RISES[:3]), training(FALLS_THEN_RISES))
    before = JobDiff.of(both, [rows_of(result) for result in results])
    assert [figure.quantity for figure in before.figures][:4] == [
        "Theorem 2 along the training step, epoch 0, positive samples",
        "Theorem 2 along the training step, epoch 0, negative samples",
        "Theorem 2 along the training step, last epoch, positive samples",
        "Theorem 2 along the training step, last epoch, negative samples",
    ]
    monkeypatch.setattr(paper_comparison, "quantity_of", lambda key: "a figure")
    monkeypatch.setattr(row_keys, "ROLES", dict.fromkeys(row_keys.ROLES, " reworded"))
    monkeypatch.setattr(run_labels, "params_in_words", lambda params: "a run")
    labels = {fact: f"fact {number}" for number, fact in enumerate(descriptions.PROVENANCE_LABELS)}
    monkeypatch.setattr(job_diff, "PROVENANCE_LABELS", labels)
    monkeypatch.setattr(descriptions, "PROVENANCE_LABELS", labels)
    after = JobDiff.of(both, [rows_of(result) for result in results])
    assert {figure.quantity for figure in after.figures} == {"a figure"}
    assert joined(after) == joined(before)
    assert [values for _, values in after.provenance] == [["0, 2", "0, 4"]]


def test_the_last_epochs_of_unequal_runs_are_joined_and_their_words_say_so() -> None:
    short, long = rows_of(training(FALLS_THEN_RISES[:2])), rows_of(training(FALLS_THEN_RISES))
    figures = {figure.quantity: figure.rows for figure in align_rows([short, long])}
    both = {quantity for quantity, rows in figures.items() if all(rows)}
    assert both == {
        f"{words}, {split} samples"
        for words in (
            "Theorem 2 along the training step, epoch 0",
            "Theorem 2 along the training step, last epoch",
            "Rise of S from epoch 0 to the last epoch",
        )
        for split in ("positive", "negative")
    }
    assert "Rise of S from epoch 2 (lowest S) to the last epoch, positive samples" in figures
    for quantity, rows in figures.items():
        assert {row.document()["quantity"] for row in rows if row} == {quantity}


def test_equal_runs_keep_the_number_of_their_last_epoch_beside_jobs_of_another_kind() -> None:
    train, check = rows_of(training(FALLS_THEN_RISES)), rows_of(check_result())
    quantities = [figure.quantity for figure in align_rows([train, train, check, []])]
    assert "Theorem 2 along the training step, epoch 4, positive samples" in quantities
    assert "Rise of S from epoch 0 to 4, positive samples" in quantities
    assert "Theorem 1 at initialisation, n = 64" in quantities
    assert not [quantity for quantity in quantities if "last epoch" in quantity]


def deep(course: Sequence[tuple[float, float]]) -> TrainResult:
    """The same run, with a second layer that does the same."""
    one = training(course)
    second = tuple(row.model_copy(update={"layer": 1}) for row in one.curves)
    return one.model_copy(update={"curves": (*one.curves, *second)})


def test_an_only_layer_is_joined_with_layer_0_of_a_deeper_network_and_a_note_says_so(
    store: Store,
) -> None:
    shallow, deeper = rows_of(training(FALLS_THEN_RISES)), rows_of(deep(FALLS_THEN_RISES))
    diff = JobDiff.of(jobs(store, (4, 4)), [shallow, deeper])
    shared = [figure for figure in diff.figures if all(figure.rows)]
    of_layers = [figure for figure in shared if figure.key.figure != "test_accuracy"]
    assert of_layers
    assert {figure.key.layer for figure in of_layers} == {0}
    for figure in of_layers:
        assert {row.quantity for row in figure.rows if row} == {figure.quantity}
        assert figure.quantity.endswith("layer 0")
    alone = [figure.key.layer for figure in diff.figures if not all(figure.rows)]
    assert set(alone) == {1}
    (note,) = diff.notes
    assert "layer 0 of deeper ones" in note
    assert diff.document()["notes"] == [note]


def test_layers_keep_their_names_where_all_networks_are_alike(store: Store) -> None:
    shallow, deeper = rows_of(training(FALLS_THEN_RISES)), rows_of(deep(FALLS_THEN_RISES))
    for rows, layers in ((shallow, {None}), (deeper, {0, 1})):
        diff = JobDiff.of(jobs(store, (4, 4)), [rows, rows])
        of_layers = [one.key for one in diff.figures if one.key.figure != "test_accuracy"]
        assert {key.layer for key in of_layers} == layers
        assert list(diff.notes) == []


def test_the_runs_of_two_studies_are_joined_by_what_was_varied() -> None:
    def study(rates: list[float]) -> list[ComparisonRow]:
        spec = StudySpec(base=TrainSpec(epochs=1), grid={"optimizer.lr": list(rates)})
        cells = expand(spec)
        result = train_result((0, 1))
        return comparison(
            [
                Source(key.label, result, cell.spec, run=key)
                for key, cell in zip(run_keys(cells), cells, strict=True)
            ]
        )

    figures = align_rows([study([0.5, 1.0]), study([1.0, 2.0])])
    shared = {figure.key.run.label for figure in figures if figure.key.run and all(figure.rows)}
    assert shared == {"lr 1"}
    assert {figure.key.run.label for figure in figures if figure.key.run} == {
        "lr 0.5",
        "lr 1",
        "lr 2",
    }


def test_a_figure_as_json_has_its_key_and_the_fields_that_it_always_had() -> None:
    row = rows_of(training(FALLS_THEN_RISES))[-1]
    assert set(row.document()) == {
        *("quantity", "measured", "low", "high", "published"),
        *("verdict", "samples", "seeds", "differs"),
    }
    (figure,) = align_rows([[row], [row]])
    document = figure.document()
    assert set(document) == {"key", "quantity", "values", "apart"}
    assert document["key"] == {
        "figure": "sparsity_rise",
        "since": {"epoch": 2, "role": "lowest_sparsity"},
        "at": {"epoch": 4, "role": "last"},
        "split": "negative",
    }


@pytest.mark.parametrize(
    ("intervals", "disjoint"),
    [
        (((0.1, 0.2), (0.3, 0.4)), True),
        (((0.3, 0.4), (0.1, 0.2)), True),
        (((0.1, 0.3), (0.2, 0.4)), False),
        (((-0.2, 0.0), (0.0, 0.1)), False),
        (((None, None), (0.2, 0.4)), None),
        (((0.1, 0.2),), None),
        (((0.1, 0.2), (0.3, 0.4), (0.5, 0.6)), None),
    ],
)
def test_intervals_of_two_jobs_are_told_to_be_disjoint(
    intervals: Sequence[tuple[float | None, float | None]], disjoint: bool | None
) -> None:
    row = ComparisonRow(RowKey("test_accuracy"), 0.2, None, None, "", "", 4, 2)
    (figure,) = align_rows([[row._replace(low=low, high=high)] for low, high in intervals])
    assert figure.are_disjoint is disjoint


def test_a_figure_that_is_rounded_to_zero_has_no_sign() -> None:
    row = ComparisonRow(RowKey("test_accuracy"), -0.00004, -0.0000001, 0.2, "", "", 4, 2)
    assert (row.mean, row.interval) == ("0.0000", "0.000000 to 0.2000")
    assert row._replace(measured=-0.00006).mean == "-0.0001"


def test_a_key_has_words_for_all_that_it_names() -> None:
    last = EpochRef(None, "last")
    assert quantity_of(RowKey("theorem2", at=EpochRef(3), split="negative", width=8)) == (
        "Theorem 2 along the step on G(negative) - G(positive), at epoch 3, negative samples, n = 8"
    )
    assert quantity_of(RowKey("theorem1", at=EpochRef(0), method="infinite_width")) == (
        "Theorem 1 at initialisation, infinite-width limit"
    )
    own = RowKey("theorem2", at=EpochRef(3), split="negative", width=8, along="training_step")
    assert quantity_of(own) == (
        "Theorem 2 along the training step, at epoch 3, negative samples, n = 8"
    )
    assert own.document()["direction"] == "training_step"
    assert own._replace(along=None).document()["direction"] == "goodness_difference"
    assert "along" not in own.document()
    assert quantity_of(RowKey("theorem2_training", at=last, split="positive", layer=1)) == (
        "Theorem 2 along the training step, last epoch, positive samples, layer 1"
    )


def test_nested_documents_are_flattened_to_dotted_fields() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": [2]}, "e": None}) == {
        "a.b.c": 1,
        "a.d": [2],
        "e": None,
    }


def test_values_of_specs_are_shown_in_words_and_kept_as_json(store: Store) -> None:
    specs = (
        TrainSpec.model_validate(
            {"network": {"widths": [64, 32]}, "objective": {"name": "softplus"}}
        ),
        TrainSpec.model_validate({"dataset": {"name": "digits", "train_samples": 500}}),
    )
    diff = JobDiff.of([read(store, submit(store, spec).id) for spec in specs], [[], []])
    shown = dict(diff.spec_in_words)
    assert shown["network.widths"] == ["64 · 32", "500"]
    assert shown["objective.name"] == ["softplus", "difference"]
    assert shown["objective.threshold"] == ["2", "–"]
    assert shown["dataset.train_samples"] == ["not set", "500"]
    kept = {one["field"]: one["values"] for one in diff.document()["spec"]}
    assert kept["network.widths"] == [[64, 32], [500]]
