"""Searches: what may be asked, which trials are drawn, and what Optuna says of them."""

import math
from typing import Any

import optuna
import pytest

from ffengine import summary_keys
from ffengine.cost import estimate
from ffengine.proposals import importances, known_of, propose, pruned_at, pruner_of
from ffengine.results import Interval
from ffengine.search import (
    Searched,
    Trial,
    drawn,
    example_cells,
    objective_of,
    rounded,
    searched,
    trials_of,
)
from ffengine.search_spec import Range
from ffengine.spec import StudySpec, as_document
from ffengine.study import GridError, expand, is_resolved, resolved, study_cell

SPACE = {
    "optimizer.lr": {"low": 0.01, "high": 10, "log": True},
    "network.widths.0": {"low": 16, "high": 256, "type": "int", "log": True},
    "negatives.strategy": ["wrong_label", "noise"],
}
BASE = {"kind": "train", "epochs": 3, "dataset": {"validation_samples": 100}}


def study(*, base: Any = BASE, **search: Any) -> StudySpec:
    return StudySpec.model_validate({"base": base, "search": {"space": SPACE, **search}})


def parts(**search: Any) -> Searched:
    found = searched(study(**search))
    assert found is not None
    return found


def height(params: dict[str, Any]) -> float:
    """A smooth objective whose best is lr 1 and width 256."""
    return float(params["network.widths.0"]) / 256 - math.log10(params["optimizer.lr"]) ** 2


def run(found: Searched, count: int) -> list[Trial]:
    trials: list[Trial] = []
    for number in range(count):
        params = propose(found, trials, number).params
        trials.append(Trial(number, params, "complete", height(params)))
    return trials


# What may be asked


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"space": {}}, "search.space", "names no field"),
        ({"space": {"optimizer.rate": [1]}}, "search.space.optimizer.rate", "Extra inputs"),
        ({"space": {"epochs": [1, -1]}}, "search.space.epochs", "-1"),
        ({"space": {"network.widths.1": [16]}}, "search.space.network.widths.1", "'1' is no place"),
        ({"objective": "accurcy"}, "search.objective", "'accurcy' is no figure of a train"),
        ({"objective": "sparsity"}, "search.objective", "sparsity[split=positive]"),
        ({"objective": "sparsity[spilt=positive]"}, "search.objective", "places are layer"),
        ({"prune": "median"}, "search.prune", "measured once, at the end"),
        ({"base": {**BASE, "dataset": {}}}, "search.objective", "validation_samples"),
    ],
)
def test_an_impossible_search_is_refused_at_its_field(
    changes: dict[str, Any], path: str, words: str
) -> None:
    with pytest.raises(GridError) as refused:
        example_cells(study(**changes))
    assert ".".join(refused.value.path) == path
    assert words in refused.value.message


@pytest.mark.parametrize(
    "values",
    [
        {"low": 2, "high": 1},
        {"low": 0, "high": 1, "log": True},
        {"low": 0.5, "high": 2, "type": "int"},
        {"low": 1, "high": 2, "int": True},
    ],
)
def test_an_impossible_range_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"low|int"):
        Range.model_validate(values)


def test_a_search_with_a_grid_or_several_parts_is_refused() -> None:
    document = study().model_dump(mode="json")
    with pytest.raises(GridError, match="a search has no grid"):
        example_cells(StudySpec.model_validate({**document, "grid": {"epochs": [1]}}))
    with pytest.raises(GridError, match="3 parts"):
        example_cells(StudySpec.model_validate({"preset": "quick", "search": {"space": SPACE}}))


def test_a_search_is_written_out_and_read_back() -> None:
    given = study(trials=3)
    whole = resolved(given)
    assert is_resolved(whole)
    assert whole.search == given.search
    assert expand(given) == [], "its runs depend on its results"
    assert StudySpec.model_validate(as_document(given)) == given
    assert resolved(StudySpec.model_validate(as_document(whole))) == whole


def test_fields_beside_a_preset_override_its_search() -> None:
    whole = resolved(
        StudySpec.model_validate({"preset": "search", "search": {"trials": 3, "seed": 5}})
    )
    assert whole.search is not None
    assert (whole.search.trials, whole.search.seed) == (3, 5)
    assert "optimizer.lr" in whole.search.space
    assert is_resolved(whole)


def test_a_search_costs_between_its_cheapest_and_its_dearest_trials() -> None:
    found = estimate(study(trials=10))

    def once(width: int) -> float:
        return estimate(
            StudySpec.model_validate({"base": BASE, "grid": {"network.widths": [[width]]}})
        ).flops

    assert found.least is not None
    assert found.runs == 10
    assert found.flops == pytest.approx(10 * once(256))
    assert found.least.flops == pytest.approx(10 * once(16))
    assert found.disk_bytes.total > found.least.disk_bytes.total


def test_the_objective_takes_the_validation_samples_the_deepest_layer_and_the_last_epoch() -> None:
    summary = {
        "accuracy[layer=all partition=validation]": 0.5,
        "accuracy[layer=all partition=test]": 0.6,
        "accuracy[layer=0 partition=validation]": 0.7,
        "accuracy[layer=all partition=validation method=linear]": 0.8,
        "sparsity[layer=0 epoch=3 split=positive]": 1.0,
        "sparsity[layer=1 epoch=0 split=positive]": 2.0,
        "sparsity[layer=1 epoch=3 split=positive]": 3.0,
        "sparsity[layer=1 epoch=3 split=negative]": 4.0,
    }
    given = {
        key: Interval(mean=value, low=None, high=None, seeds=1) for key, value in summary.items()
    }
    for text, value in (
        ("accuracy", 0.5),
        ("accuracy[partition=test]", 0.6),
        ("accuracy[layer=0]", 0.7),
        ("accuracy[method=linear]", 0.8),
        ("sparsity[split=positive]", 3.0),
        ("sparsity[split=positive layer=0]", 1.0),
        ("goodness[split=positive]", None),
    ):
        assert objective_of(text).value(given) == value, text


def test_the_keys_of_hundreds_of_runs_are_read_once() -> None:
    keys = [f"sparsity[layer={layer} epoch=1 split=positive]" for layer in range(50)]
    objective = objective_of("sparsity[split=positive]")
    found = summary_keys._parsed.cache_info
    before = found().hits + found().misses
    for run in range(300):
        summary = {
            key: Interval(mean=run + layer, low=None, high=None, seeds=1)
            for layer, key in enumerate(keys)
        }
        assert objective.value(summary) == run + 49  # of the deepest layer
    assert found().hits + found().misses - before <= len(keys)


def test_a_failed_a_pruned_and_an_unfinished_run_are_no_best_trial() -> None:
    found = parts()
    key = "accuracy[layer=all partition=validation]"
    cells = []
    for state, value in (("succeeded", 0.2), ("failed", 0), ("running", 0), ("succeeded", 0.9)):
        cell = study_cell(found.cell({"epochs": 1}), job=None, state=state, result=None)
        summary = {key: Interval(mean=value, low=None, high=None, seeds=1)} if value else {}
        cells.append(cell.model_copy(update={"summary": summary}))
    cells[3] = cells[3].model_copy(update={"pruned_at": 1})
    trials = trials_of(cells, found.objective)
    assert [trial.state for trial in trials] == ["complete", "failed", "unfinished", "pruned"]
    best = found.objective.best(trials)
    assert best is not None
    assert best.number == 0


# Which trials are drawn


@pytest.mark.parametrize("method", ["random", "optuna"])
def test_the_same_seed_has_the_same_trials_and_another_one_others(method: str) -> None:
    first, again, other = (
        [trial.params for trial in run(parts(method=method, seed=seed), 14)] for seed in (1, 1, 2)
    )
    assert first == again
    assert all(one != two for one, two in zip(first, other, strict=True))


def test_results_that_are_not_defined_to_be_known_change_nothing() -> None:
    found = parts(at_once=4)
    trials = run(found, 20)
    known = known_of(20, 4)
    unfinished = [
        trial if trial.number < known else trial._replace(state="unfinished", value=None)
        for trial in trials
    ]
    turned = [trial if trial.number < known else trial._replace(value=-1e9) for trial in trials]
    expected = propose(found, trials, 20).params
    assert propose(found, unfinished, 20).params == expected
    assert propose(found, turned, 20).params == expected
    opposite = [trial._replace(value=-(trial.value or 0)) for trial in trials]
    assert propose(found, opposite, 20).params != expected


@pytest.mark.slow
def test_tpe_finds_more_than_chance() -> None:
    best = {
        method: max(trial.value or -9 for trial in run(parts(method=method, seed=3), 40)[20:])
        for method in ("random", "optuna")
    }
    assert best["optuna"] > best["random"]


def test_draws_fill_a_range_evenly_on_its_scale() -> None:
    search = parts(method="random").search
    draws = [drawn(search, number) for number in range(2_000)]
    rates = [math.log10(float(str(one["optimizer.lr"]))) for one in draws]
    widths = [int(str(one["network.widths.0"])) for one in draws]
    assert all(-2 <= rate <= 1 for rate in rates)
    assert sum(rate < -0.5 for rate in rates) / 2_000 == pytest.approx(0.5, abs=0.05)
    assert (min(widths), max(widths)) == (16, 256)
    assert sum(width <= 64 for width in widths) / 2_000 == pytest.approx(0.5, abs=0.05)


def test_numbers_have_four_digits_and_more_in_a_narrow_range() -> None:
    assert rounded(0.123456, Range(low=0, high=1)) == 0.1235
    assert rounded(7.6, Range(low=1, high=8, type="int")) == 8
    assert rounded(9.9, Range(low=1, high=8, type="int")) == 8
    assert rounded(1.00001234, Range(low=1, high=1.0001)) == pytest.approx(1.00001234, abs=1e-7)


def test_values_that_do_not_go_together_are_drawn_anew() -> None:
    field = "dataset.validation_samples"  # of 6 000; two must be left to train on
    found = searched(
        StudySpec.model_validate(
            {"base": BASE, "search": {"space": {field: [100, 5_999]}, "method": "random"}}
        )
    )
    assert found is not None
    assert {propose(found, [], number).params[field] for number in range(20)} == {100}


# Pruning


def curve_of(number: int) -> list[tuple[int, float]]:
    """The objective by epoch of a trial: some are good, some are bad, some change."""
    level = (number * 7919 % 13) / 13
    return [(epoch, level + 0.02 * epoch * ((number % 3) - 1)) for epoch in range(28)]


@pytest.mark.parametrize("pruner", ["median", "successive_halving", "hyperband"])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_trials_one_after_the_other_are_pruned_as_by_optuna_itself(
    pruner: str, direction: str
) -> None:
    found = parts(
        base={**BASE, "epochs": 27},
        objective="sparsity[split=positive]",
        direction=direction,
        prune=pruner,
        at_once=1,
    )
    native = optuna.create_study(
        study_name=f"search-{found.search.seed}",
        direction=direction,
        pruner=pruner_of(found.search, found.longest),
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    trials: list[Trial] = []
    for number in range(40):
        params = drawn(found.search, number)
        theirs = native.ask()
        stopped = None
        for epoch, value in curve_of(number):
            if epoch == 0:
                continue
            theirs.report(value, epoch)
            if theirs.should_prune():
                stopped = epoch
                break
        state = optuna.trial.TrialState.PRUNED if stopped else None
        native.tell(theirs, None if stopped else curve_of(number)[-1][1], state=state)
        ours = pruned_at(found, trials, number, curve_of(number))
        assert ours == stopped, number
        trials.append(
            Trial(
                number,
                params,
                "pruned" if stopped else "complete",
                None if stopped else curve_of(number)[-1][1],
                pruned_at=stopped,
                curve=tuple(curve_of(number)),
            )
        )
    assert 5 < sum(trial.pruned_at is not None for trial in trials) < 40


def test_no_trial_is_pruned_before_the_warmup() -> None:
    found = parts(objective="sparsity[split=positive]", prune="median", warmup_epochs=6, at_once=1)
    trials = [
        Trial(n, drawn(found.search, n), "complete", 1.0, curve=tuple((e, 1.0) for e in range(9)))
        for n in range(6)
    ]
    assert pruned_at(found, trials, 6, [(epoch, 0.0) for epoch in range(6)]) is None
    assert pruned_at(found, trials, 6, [(epoch, 0.0) for epoch in range(9)]) in (6, 7)


# Importance


def test_the_field_that_decides_is_the_most_important() -> None:
    trials = run(parts(method="random"), 60)
    values = [float(str(trial.params["network.widths.0"])) for trial in trials]
    found = importances([trial.params for trial in trials], values)
    assert next(iter(found)) == "network.widths.0"
    assert sum(found.values()) == pytest.approx(1)


def test_few_runs_and_one_value_have_no_importance() -> None:
    alike = [{"width": n % 5, "lr": n % 5, "batch": n % 5} for n in range(20)]
    assert list(importances(alike, [n % 5 for n in range(20)])) == ["batch", "lr", "width"]
    assert importances([{"epochs": n} for n in range(9)], list(range(9))) == {}
    assert importances([{"epochs": 1}] * 20, list(range(20))) == {}
