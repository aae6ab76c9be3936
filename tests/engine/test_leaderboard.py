"""The protocol of `fflab bench`: what runs, and what of the results stands in its table."""

import math
from itertools import product

import numpy as np
import pytest

import ffengine as ff
from ffengine.leaderboard import (
    BASELINES,
    METHODS,
    PROTOCOLS,
    RATE_FACTORS,
    Entry,
    Method,
    Protocol,
    entries,
    standings,
)
from ffengine.presets import TOGETHER
from ffengine.results import TrainResult
from ffengine.spec import DatasetSpec

TINY = Protocol(
    "tiny",
    "For tests.",
    (DatasetSpec(name="digits", train_samples=100, validation_samples=60, test_samples=80),),
    ((12, 8),),
    (0, 1, 2),
    2,
)
ONE = Method("one", "For tests.", TOGETHER)
T_2 = 4.303  # 0.975 quantile of Student's t, two degrees of freedom


@pytest.fixture(scope="module")
def found() -> list[tuple[Entry, TrainResult | None]]:
    """The runs of a tiny protocol, the largest rate of which counts as diverged."""
    runs = list(entries(TINY, [ONE]))
    largest = max(run.lr for run in runs if run.lr is not None)
    return [(run, None if run.lr == largest else ff.train(run.spec)) for run in runs]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_every_method_has_the_same_data_widths_seeds_and_budget(protocol: Protocol) -> None:
    runs = list(entries(protocol, METHODS))
    cells = list(product(protocol.datasets, protocol.widths))
    assert len(runs) == len(cells) * (len(METHODS) * len(RATE_FACTORS) + 1)
    for (name, widths), spec in (((run.dataset, run.widths), run.spec) for run in runs):
        dataset = next(one for one in protocol.datasets if one.name == name)
        assert spec.dataset.name == name
        assert spec.dataset.train_samples == dataset.train_samples
        assert spec.dataset.validation_samples == dataset.validation_samples
        assert (spec.network.widths, spec.seeds) == (widths, protocol.seeds)
        assert spec.select == "best_validation"
        budgets = {baseline.epochs for baseline in spec.evaluation.baselines} or {spec.epochs}
        assert budgets == {protocol.epochs}


def test_a_method_keeps_what_is_its_own() -> None:
    for run in entries(PROTOCOLS["small"], METHODS):
        method = next((one.run for one in METHODS if one.name == run.method), None)
        if method is None:
            continue
        for field in ("objective", "negatives", "layers"):
            assert getattr(run.spec, field) == getattr(method, field), run.method
        assert run.spec.optimizer.model_copy(update={"lr": 1}) == method.optimizer.model_copy(
            update={"lr": 1}
        )
        assert run.spec.dataset.preprocess == method.dataset.preprocess
        assert run.spec.network.normalize == method.network.normalize


@pytest.mark.slow
def test_each_seed_has_the_rate_that_its_validation_samples_chose(
    found: list[tuple[Entry, TrainResult | None]],
) -> None:
    (row,) = (row for row in standings(found) if row.method == "one")
    results = {run.lr: result for run, result in found if run.lr is not None}
    shares, rates = [], []
    for seed in TINY.seeds:
        best = (-1.0, math.inf, math.nan)
        for lr, result in results.items():
            if result is None or lr is None:
                continue
            share = {
                one.partition: one.accuracy
                for one in result.accuracy
                if (one.seed, one.layers, one.method) == (seed, (0, 1), "goodness")
            }
            if (share["validation"], -lr) > (best[0], -best[1]):
                best = (share["validation"], lr, share["test"])
        rates.append(best[1])
        shares.append(best[2])
    assert row.rates == tuple(rates)
    assert row.accuracy is not None
    assert row.accuracy.mean == pytest.approx(np.mean(shares))
    half = T_2 * np.std(shares, ddof=1) / math.sqrt(3)
    assert row.accuracy.low is not None
    assert row.accuracy.low <= max(0, np.mean(shares) - half) + 1e-3
    tried = [lr for lr in results if lr is not None]
    assert row.at_edge == any(lr in (min(tried), max(tried)) for lr in rates)
    for layer in range(2):
        values = [
            next(
                one.sparsity
                for one in results[lr].measures  # type: ignore[union-attr]
                if (one.seed, one.layer, one.partition) == (seed, layer, "test")
            )
            for seed, lr in zip(TINY.seeds, rates, strict=True)
        ]
        sparsity = row.sparsity[layer]
        assert sparsity is not None
        assert sparsity.mean == pytest.approx(np.mean([one for one in values if one is not None]))


@pytest.mark.slow
def test_baselines_stand_beside_and_the_best_is_first(
    found: list[tuple[Entry, TrainResult | None]],
) -> None:
    rows = standings(found)
    assert {row.method for row in rows} == {"one", *BASELINES}
    means = [row.accuracy.mean for row in rows if row.accuracy]
    assert means == sorted(means, reverse=True)
    (result,) = (result for run, result in found if run.lr is None)
    assert result is not None
    for name, baseline in BASELINES.items():
        (row,) = (row for row in rows if row.method == name)
        test = [
            one
            for one in result.baselines
            if (one.baseline, one.partition, one.layer) == (baseline, "test", 1)
        ]
        assert row.accuracy is not None
        assert row.accuracy.mean == pytest.approx(np.mean([one.accuracy for one in test]))
        assert row.rates == tuple(one.lr for one in test)


@pytest.mark.slow
def test_a_method_whose_every_rate_diverges_has_no_figures_and_is_last(
    found: list[tuple[Entry, TrainResult | None]],
) -> None:
    rows = standings([(run, None if run.lr else result) for run, result in found])
    assert rows[-1].method == "one"
    assert rows[-1].accuracy is None
