"""Studies and costs: expansion, overrides, intervals; operations that grow as the products do."""

import json
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import ffengine
from ffengine.cost import Limits, check_cost, estimate, train_cost
from ffengine.datasets import DATASETS
from ffengine.intervals import T_975, interval, student_t, wilson
from ffengine.negatives import Noise
from ffengine.presets import PRESETS
from ffengine.results import ForecastResult, ForecastRow, Interval, SelectionOnset, Split, StudyCell
from ffengine.spec import (
    CheckSpec,
    ForecastSpec,
    StudyPart,
    StudySpec,
    TrainSpec,
    as_document,
    digest,
)
from ffengine.study import (
    FIGURE_COLUMNS,
    TRAIN_FIGURES,
    GridError,
    expand,
    figure_rows,
    is_resolved,
    resolved,
    study_cell,
    summarise,
)
from tests.service.samples import provenance


def test_a_grid_is_every_combination_in_order() -> None:
    study = StudySpec.model_validate(
        {
            "base": {"kind": "train", "epochs": 5},
            "grid": {
                "network.widths": [[64], [256], [512]],
                "negatives.strategy": ["wrong_label", "hybrid"],
            },
        }
    )
    cells = expand(study)
    assert [(c.spec.network.widths, c.spec.negatives.strategy) for c in cells] == [  # type: ignore[union-attr]
        ((width,), strategy) for width in (64, 256, 512) for strategy in ("wrong_label", "hybrid")
    ]
    assert cells[3].params == {"network.widths": [256], "negatives.strategy": "hybrid"}
    assert all(c.spec.epochs == 5 for c in cells)  # type: ignore[union-attr]


def test_forecasts_are_runs_of_a_study_like_any_other() -> None:
    study = StudySpec.model_validate(
        {
            "base": {"kind": "forecast", "until_tau": 2.0},
            "grid": {"units": [64, 128], "optimizer.name": ["sgd", "momentum"]},
        }
    )
    found = [cell.spec for cell in expand(study)]
    assert [(one.units, one.optimizer.name, one.until_tau) for one in found] == [  # type: ignore[union-attr]
        (units, name, 2.0) for units in (64, 128) for name in ("sgd", "momentum")
    ]
    assert expand(resolved(study)) == expand(study)
    cells = expand(
        StudySpec.model_validate({"preset": "forecast", "base": {"kind": "forecast", "blocks": 4}})
    )
    own = expand(PRESETS["forecast"].spec)
    for cell, before in zip(cells, own, strict=True):
        if isinstance(cell.spec, ForecastSpec):
            assert cell.spec.blocks == 4
        else:
            assert cell.spec == before.spec


def test_a_value_that_a_forecast_does_not_cover_is_named_by_its_field() -> None:
    study = StudySpec.model_validate(
        {"base": {"kind": "forecast"}, "grid": {"blocks": [16, 4], "units": [512, 16]}}
    )
    with pytest.raises(GridError, match="blocks need 32 units") as refused:
        expand(study)
    assert refused.value.path == ("grid", "blocks")


def test_a_presets_base_and_grid_are_overridden_field_by_field() -> None:
    cells = expand(
        StudySpec.model_validate(
            {"preset": "paper", "base": {"kind": "train", "epochs": 2, "network": {"bias": True}}}
        )
    )
    training = next(c.spec for c in cells if c.part == "training")
    assert isinstance(training, TrainSpec)
    assert (training.epochs, training.network.bias, training.network.widths, training.seeds) == (
        2,
        True,
        (256,),
        (0, 1, 2, 3, 4),
    )
    assert [c.part for c in cells][:4] == ["theorem-1", "theorem-2", "training", "training"]


@pytest.mark.parametrize(
    ("study", "pointer", "message"),
    [
        ({"preset": "papre"}, "/preset", "choose one of paper"),
        ({"grid": {"network.width": [[64]]}}, "/grid/network.width", "Extra inputs"),
        ({"grid": {"nothing.at": [1]}}, "/grid/nothing.at", "there is no object 'nothing'"),
        ({"grid": {"epochs": [1, "x"]}}, "/grid/epochs", "valid integer"),
        (
            {"grid": {"epochs": list(range(1, 200)), "batch_size": list(range(2, 200))}},
            "/grid",
            "cells; at most",
        ),
        (
            {"parts": {"a": {"base": {"kind": "check"}, "grid": {"epochs": [1]}}}},
            "/parts/a/grid/epochs",
            "Extra inputs",
        ),
        (
            {"preset": "mpezeshki", "base": {"kind": "train", "dataset": {"name": "digits"}}},
            "/base/dataset",
            "digits has",
        ),
    ],
)
def test_what_cannot_be_expanded_says_where(
    study: dict[str, object], pointer: str, message: str
) -> None:
    with pytest.raises(GridError, match=message) as caught:
        expand(StudySpec.model_validate({**study}))
    assert caught.value.pointer == pointer


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40))
def test_an_interval_is_students(values: list[float]) -> None:
    found = interval(values)
    half = student_t(len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.high is not None
    assert found.high - found.mean == pytest.approx(half, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=2, max_size=9))
def test_a_share_has_the_wider_of_students_and_wilsons_interval_within_0_and_1(
    counts: list[tuple[int, int]],
) -> None:
    samples = [hits + misses for hits, misses in counts]
    values = [hits / total for (hits, _), total in zip(counts, samples, strict=True)]
    found, students = interval(values, share=True, samples=samples), interval(values)
    low, high = wilson(sum(hits for hits, _ in counts), sum(samples))
    assert found.mean == students.mean
    assert found.low == max(0.0, min(students.low or 0.0, low))
    assert found.high == min(1.0, max(students.high or 0.0, high))


@pytest.mark.parametrize(
    ("successes", "trials"), [(0, 10), (1, 1), (5, 10), (10, 10), (29_998, 30_000)]
)
def test_wilsons_interval_is_scipys(successes: int, trials: int) -> None:
    from scipy import stats  # slow to import: every lane of the tests imports this file

    exact = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson(successes, trials) == pytest.approx((exact.low, exact.high), abs=1e-7)


def test_seeds_that_agree_have_an_interval_nevertheless() -> None:
    """No sample of five seeds fails: that is 30 000 samples, not certainty."""
    found = interval([1.0] * 5, share=True, samples=[6_000] * 5)
    assert found.high == 1.0
    assert found.low == pytest.approx(0.99987, abs=5e-6)
    assert interval([1.0], share=True, samples=[6_000]).low is None, (
        "of one seed nothing is known of others"
    )
    assert interval([0.1, 0.9], share=True) == Interval(mean=0.5, low=0.0, high=1.0, seeds=2)


def test_a_share_that_is_not_a_number_is_not_one_of_0() -> None:
    for found in (interval([math.nan], share=True), interval([0.5, math.nan], share=True)):
        assert math.isnan(found.mean)


def test_intervals_of_earlier_versions_are_read_within_0_and_1() -> None:
    beyond = {"mean": 0.67, "low": -1.18, "high": 2.53, "seeds": 2}
    summary = {
        "ratio[width=64 split=positive method=exact]": beyond,
        "goodness[layer=0 epoch=1 split=positive]": beyond,
    }
    stored = {
        "part": "",
        "params": {},
        "kind": "check",
        "spec_digest": "",
        "state": "succeeded",
        "summary": summary,
    }
    share, goodness = StudyCell.model_validate_json(json.dumps(stored)).summary.values()
    assert (share.low, share.high) == (0.0, 1.0)
    assert (goodness.low, goodness.high) == (-1.18, 2.53)


@pytest.mark.slow
def test_students_quantiles_are_those_of_sampling() -> None:
    generator = torch.Generator().manual_seed(0)
    for degrees in (3, 10, 40):
        normal = torch.randn(400_000, degrees + 1, generator=generator, dtype=torch.float64)
        t = normal[:, 0] / (normal[:, 1:].square().sum(1) / degrees).sqrt()
        assert float((t.abs() < student_t(degrees)).double().mean()) == pytest.approx(
            0.95, abs=0.0015
        )
    assert student_t(31) < T_975[-1]
    assert interval([1.0]).low is None


def test_results_are_summarised_over_seeds() -> None:
    spec = CheckSpec(theorem=1, widths=(8,), samples=50, seeds=(0, 1, 2), methods=("exact",))
    result = ffengine.check(spec)
    figures = summarise(result)
    assert figures["ratio[width=8 split=negative method=exact]"].mean == pytest.approx(
        np.mean([c.ratio for c in result.cells if c.ratio is not None])
    )
    training = TrainSpec.model_validate(
        {
            "dataset": {"train_samples": 60, "test_samples": 20},
            "network": {"widths": [8]},
            "epochs": 2,
            "batch_size": 20,
            "seeds": [0, 1],
        }
    )
    trained = ffengine.train(training)
    figures = summarise(trained)
    assert {
        "sparsity[layer=0 epoch=0 split=positive]",
        "theorem2_ratio[layer=0 epoch=2 split=negative]",
        "accuracy[layer=all partition=test]",
    } <= set(figures)
    assert figures["sparsity[layer=0 epoch=0 split=positive]"].seeds == 2
    rows = [row for row in trained.curves if (row.epoch, row.split) == (2, "positive")]
    for figure in TRAIN_FIGURES:
        values = [value for row in rows if (value := getattr(row, figure)) is not None]
        key = f"{figure}[layer=0 epoch=2 split=positive]"
        # what only layers that learn together have
        assert (key in figures) == bool(values), figure
        if values:
            assert figures[key].mean == pytest.approx(np.mean(values))
    assert {"tau", "kappa_gap", "theorem2_expected_ratio", "log_goodness"} <= {
        key.partition("[")[0] for key in figures
    }
    cell = study_cell(
        expand(StudySpec(base=training))[0], job=None, state="succeeded", result=trained
    )
    assert cell.summary == figures


@pytest.mark.slow
def test_a_study_tells_the_act_of_each_run_and_when_the_next_was_expected() -> None:
    base = {
        "kind": "train",
        "dataset": {"train_samples": 1_000, "test_samples": 20},
        "network": {"widths": [64]},
        "optimizer": {"name": "sgd", "lr": 64 / 30},
        "epochs": 15,
        "batch_size": 200,
        "seeds": [0, 1],
        "monitor": {"samples": 200, "every_epochs": 5},
    }
    study = StudySpec.model_validate({"base": base, "grid": {"epochs": [3, 22]}})
    results = [ffengine.train(cell.spec) for cell in expand(study)]  # type: ignore[arg-type]
    cells = [
        study_cell(cell, job="job", state="succeeded", result=result)
        for cell, result in zip(expand(study), results, strict=True)
    ]
    for cell, result in zip(cells, results, strict=True):
        last = max(row.epoch for row in result.curves)
        for split in ("positive", "negative"):
            acts = [row.act for row in result.curves if (row.epoch, row.split) == (last, split)]
            key = f"act[layer=0 epoch={last} split={split}]"
            assert cell.acts[key] == " or ".join(dict.fromkeys(map(str, acts)))
        assert result.onset is not None
        assert result.onset.tau_star is not None
        star = cell.summary["tau_star"]
        assert (star.mean, star.low) == (result.onset.tau_star, result.onset.tau_star_low)
    assert [set(cell.acts.values()) for cell in cells] == [{"recruiting"}, {"selecting"}]
    rows = figure_rows(cells)
    assert {(row["epochs"], row["act"]) for row in rows if row["epoch"] in (3, 22)} == {
        (3, "recruiting"),
        (22, "selecting"),
    }
    assert all(row["act"] is None for row in rows if row["epoch"] not in (3, 22))
    along = {row["figure"]: row["theorem2_direction"] for row in rows}
    assert along["theorem2_margin"] == "training_step"
    assert along["theorem2_expected_ratio"] == "expected_difference"
    assert along["sparsity"] is along["tau_star"] is None
    assert tuple(rows[0]) == tuple(
        dict.fromkeys([*FIGURE_COLUMNS[:1], "epochs", *FIGURE_COLUMNS[1:]])
    )


def forecast_row(
    width: int | None, epoch: int, split: Split = "positive", ratio: float | None = 0.5
) -> ForecastRow:
    return ForecastRow(
        width=width,
        split=split,
        epoch=epoch,
        tau=0.5 * epoch,
        c=0.4,
        sparsity=0.25 + 0.0625 * epoch,
        low=0.3,
        high=0.5,
        run_low=0.2,
        run_high=0.6,
        theorem2_ratio=ratio,
        theorem2_low=None if ratio is None else 0.4,
        theorem2_high=None if ratio is None else 0.6,
        seeds=2,
    )


@pytest.mark.parametrize("high", [2.5, None])
def test_a_forecast_is_summarised_with_its_own_bounds(high: float | None) -> None:
    result = ForecastResult(
        rows=tuple(forecast_row(width, epoch) for width in (None, 64) for epoch in (0, 1, 2)),
        onset=SelectionOnset(outcome="crossed", tau=2.0, low=1.5, high=high),
        epochs_needed=(),
        points=(),
        units=32,
        units_interact=False,
        diagnostics=(),
        provenance=provenance((0, 1)),
    )
    found = summarise(result)
    assert set(found) == {
        "sparsity[epoch=0 split=positive]",
        "sparsity[epoch=2 split=positive]",
        "sparsity[epoch=0 width=64 split=positive]",
        "sparsity[epoch=2 width=64 split=positive]",
        "theorem2_ratio[epoch=2 split=positive]",
        "tau_star",
    }
    end = Interval(mean=0.375, low=0.3, high=0.5, seeds=2)
    assert found["sparsity[epoch=2 width=64 split=positive]"] == end
    assert found["theorem2_ratio[epoch=2 split=positive]"].low == 0.4
    low = None if high is None else 1.5  # an interval has both bounds or none
    assert found["tau_star"] == Interval(mean=2.0, low=low, high=high, seeds=2)
    unknown = result.model_copy(
        update={
            "rows": (forecast_row(None, 1, ratio=None),),
            "onset": SelectionOnset(outcome="not_reached", tau=None, low=None, high=None),
        }
    )
    assert set(summarise(unknown)) == {"sparsity[epoch=1 split=positive]"}


def test_each_way_of_telling_the_label_is_a_figure_of_its_own() -> None:
    training = TrainSpec.model_validate(
        {
            "dataset": {"train_samples": 60, "test_samples": 20},
            "network": {"widths": [8, 8, 8]},
            "epochs": 1,
            "batch_size": 20,
        }
    )
    trained = ffengine.train(training)
    figures = summarise(trained)
    for row in trained.accuracy:
        method = "" if row.method == "goodness" else f" method={row.method}"
        where = (
            "layer=all" if row.layers == (0, 1, 2) else f"layers={'+'.join(map(str, row.layers))}"
        )
        where = f"layer={row.layer}" if row.layer is not None else where
        found = figures[f"accuracy[{where} partition={row.partition}{method}]"]
        assert (found.mean, found.seeds) == (row.accuracy, 1)


def test_another_choice_takes_the_place_of_the_presets_own() -> None:
    study = StudySpec(preset="quick", base=TrainSpec(negatives=Noise(scale=0.25), epochs=2))
    trained = [cell.spec for cell in expand(study) if isinstance(cell.spec, TrainSpec)]
    assert trained
    assert {(spec.negatives, spec.epochs) for spec in trained} == {(Noise(scale=0.25), 2)}
    assert {spec.network for spec in trained} == {
        cell.spec.network
        for cell in expand(StudySpec(preset="quick"))
        if isinstance(cell.spec, TrainSpec)
    }


MINI = DATASETS["mnist-mini"]
OVERRIDES: list[dict[str, object]] = [
    {},
    {"base": {"kind": "train", "epochs": 40, "network": {"bias": True}}},
    {"base": {"kind": "check", "seeds": [2**63 - 1]}},
    {
        "base": {
            "kind": "train",
            "optimizer": {"name": "adam"},
            "objective": {"name": "softplus", "goodness": {"name": "top_k", "k": 3}},
        }
    },
    {"grid": {"dataset.labels": ["append"], "seeds": [[0, 1, 2, 3], [4, 5, 6, 7]]}},
    {"base": {"kind": "train", "epochs": 30}, "grid": {"dataset.preprocess": ["unit", "center"]}},
    {
        "parts": {
            "mine": {"base": {"kind": "train", "epochs": 2}, "grid": {"optimizer.lr": [1.0, 1e-5]}}
        }
    },
    {
        "base": {"kind": "train", "batch_size": 50},
        "parts": {"mine": {"base": {"kind": "train", "epochs": 2}}},
    },
]


@given(st.sampled_from([None, *PRESETS]), st.sampled_from(OVERRIDES))
def test_a_resolved_study_has_the_same_cells_however_it_is_written(
    preset: str | None, given_beside: dict[str, object]
) -> None:
    assume(preset is None or PRESETS[preset].spec.search is None)  # see test_search.py
    study = StudySpec.model_validate(
        given_beside if preset is None else {"preset": preset, **given_beside}
    )
    try:
        written = resolved(study)
        cells = [(cell.part, cell.params, digest(cell.spec)) for cell in expand(study)]
    except GridError as error:
        # epochs, goodness or data that the preset's decomposition is not of, a share beside k,
        # negatives, labels or pairs of an objective over classes, labels beside an image that waves
        # lie over
        refused = (
            "monitor.decomposition|k or share|makes no negatives|fourier patterns"
            "|samples carry no label with|which go by channels"
        )
        assume(not re.search(refused, str(error)))
        raise
    assert cells
    for document in (
        written.model_dump(mode="json"),
        as_document(written),
        written.model_dump(mode="json", exclude_unset=True),
    ):
        again = StudySpec.model_validate(document)
        assert [(cell.part, cell.params, digest(cell.spec)) for cell in expand(again)] == cells
        assert digest(resolved(again)) == digest(written)
    assert is_resolved(written)
    assert not is_resolved(study)
    assert written.preset == preset


def test_a_resolved_study_says_nothing_that_does_not_run() -> None:
    document = resolved(StudySpec(preset="quick")).model_dump(mode="json")
    assert document["preset"] == "quick"
    assert set(document) == {"kind", "preset", "parts"}
    assert document["parts"]["training"]["base"] == PRESETS["quick"].spec.parts[
        "training"
    ].base.model_dump(mode="json")
    assert all(set(part) == {"base", "grid"} for part in document["parts"].values())
    of_parts = StudySpec(parts={"one": StudyPart(base=CheckSpec())}, base=TrainSpec(epochs=7))
    assert set(resolved(of_parts).model_dump()) == {"kind", "parts"}
    bare = resolved(StudySpec()).model_dump(mode="json")
    assert bare == {
        "kind": "study",
        "base": TrainSpec(epochs=5).model_dump(mode="json"),
        "grid": {},
    }


def test_a_resolved_study_does_not_depend_on_its_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    written = resolved(StudySpec(preset="paper", base=TrainSpec(epochs=2)))
    cells = expand(written)
    monkeypatch.setattr("ffengine.study.PRESETS", {})
    assert expand(StudySpec.model_validate(written.model_dump(mode="json"))) == cells
    assert is_resolved(written)
    assert not is_resolved(StudySpec(preset="paper"))


def test_a_study_is_written_as_it_was_given() -> None:
    document = {
        "kind": "study",
        "preset": "paper",
        "base": {"kind": "train", "epochs": 2, "network": {"bias": True}},
    }
    study = StudySpec.model_validate(document)
    assert study.model_dump(mode="json") == as_document(study) == document
    assert StudySpec.model_validate_json(study.model_dump_json()) == study
    assert (
        StudySpec.model_json_schema(mode="serialization")["properties"].keys()
        == StudySpec.model_fields.keys()
    )


# Costs


@given(st.integers(2, 2000), st.integers(1, 4), st.integers(1, 50))
def test_costs_grow_with_width_seeds_and_epochs(width: int, seeds: int, epochs: int) -> None:
    spec = TrainSpec.model_validate(
        {"network": {"widths": [width]}, "seeds": list(range(seeds)), "epochs": epochs}
    )
    wider = spec.model_copy(
        update={"network": spec.network.model_copy(update={"widths": (2 * width,)})}
    )
    assert train_cost(wider, MINI).flops == pytest.approx(2 * train_cost(spec, MINI).flops)
    assert train_cost(wider, MINI).memory_bytes > train_cost(spec, MINI).memory_bytes
    steps = (
        2 * spec.dataset.train_count(MINI) * epochs * seeds * 2 * (2 * 784 * width)
    )  # both splits, two products
    assert train_cost(spec, MINI).flops > steps


def test_a_check_costs_its_products() -> None:
    spec = CheckSpec(
        theorem=1, widths=(100,), samples=1000, batch_size=None, seeds=(0,), methods=("exact",)
    )
    assert check_cost(spec, MINI).flops == 4 * 2 * 1000 * 100 * 784


@pytest.mark.slow
def test_limits_that_are_passed_are_named_with_the_numbers() -> None:
    huge = TrainSpec.model_validate(
        {"network": {"widths": [65536] * 8}, "epochs": 100_000, "seeds": list(range(64))}
    )
    found = estimate(huge, Limits())
    assert [problem.split()[0] for problem in found.problems] == ["needs"] * 3
    assert "TiB of memory; the limit is 16.0 GiB" in found.problems[0]
    assert " of disk, " in found.problems[2]
    assert estimate(TrainSpec()).problems == []
    assert estimate(StudySpec.model_validate({"preset": "paper"})).runs == 9


def test_small_batches_take_time_that_their_products_do_not_show() -> None:
    """Each step and each measured batch has a price of its own, which many of them add up to."""

    def run(batch_size: int, **fields: object) -> TrainSpec:
        dataset = {"name": "mnist-mini", "train_samples": 1000}
        given = {"epochs": 10, "network": {"widths": [64]}, "dataset": dataset, **fields}
        return TrainSpec.model_validate({**given, "batch_size": batch_size})

    by_batch = {size: estimate(run(size)) for size in (10, 100, 1000)}
    assert by_batch[10].flops == by_batch[1000].flops
    seconds = {size: found.seconds["cpu"] for size, found in by_batch.items()}
    # 1 000 steps and 1 100 measured batches, a tenth, a hundredth of them
    assert seconds[10] - seconds[100] == pytest.approx(0.9 + 9.9, abs=0.1)
    assert seconds[100] - seconds[1000] == pytest.approx(0.09 + 0.99, abs=0.1)
    sparse = estimate(run(10, monitor={"every_epochs": 10})).seconds["cpu"]
    assert sparse == pytest.approx(1 + 1 + 2, abs=0.3), (
        "a run, 1 000 steps and 200 measured batches"
    )
    greedy = estimate(run(10, network={"widths": [64, 64]}, layers="greedy")).seconds["cuda"]
    assert greedy == pytest.approx(1 + 2 * (1 + 11), abs=0.1)
    assert "1 ms a step" in by_batch[10].seconds_based_on
