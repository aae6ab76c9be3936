"""Potentials of strategies: against loops over samples, theorem 2 in the limit and measured, and
the theory's table.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ffengine
from ffengine.datasets import Datasets
from ffengine.entry import entries
from ffengine.negatives import (
    AnyNegatives,
    HardestLabel,
    Hybrid,
    Masked,
    Mix,
    Negatives,
    Noise,
    NoNegatives,
    OtherImage,
    SelfContrastive,
    ShufflePixels,
    WrongLabel,
)
from ffengine.objectives import PowerSum, TopK
from ffengine.potentials import potential, potential_rows, strategy_potentials
from ffengine.spec import CheckSpec, DatasetSpec
from tests.engine.reference import limit_sum

FREE: list[Negatives] = [
    entry()  # type: ignore[misc]
    for entry in entries(AnyNegatives)
    if not entry.asks_network and entry is not NoNegatives  # type: ignore[attr-defined]
]


@given(seed=st.integers(0, 2**31), points=st.integers(1, 6), sources=st.integers(1, 6))
def test_a_potential_is_the_mean_over_sources_of_energy_times_kernel(
    seed: int, points: int, sources: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(points, 5, generator=generator, dtype=torch.float64)
    p = torch.randn(sources, 5, generator=generator, dtype=torch.float64)
    found = potential(x, p)
    expected = [limit_sum([p.tolist()], [1.0], row) / sources for row in x.tolist()]
    assert found.tolist() == pytest.approx(expected, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("goodness", [PowerSum(q=1.5), TopK(k=2)], ids=str)
@given(seed=st.integers(0, 2**31))
def test_theorem_2_in_the_limit_holds_where_negatives_have_the_larger_potential(
    goodness: PowerSum | TopK, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    positive, negative = torch.rand(2, 12, 6, generator=generator, dtype=torch.float64)
    rows = potential_rows({"positive": positive, "negative": negative}, goodness=goodness, width=40)
    limit = ffengine.infinite_width_theorem2(positive, negative, goodness=goodness, width=40)
    for row, check in zip(rows, limit, strict=True):
        assert abs(row.predicted_ratio - check.ratio) * 12 <= int(check.undecided.sum()) + 1e-9
        difference = row.negative_potential - row.positive_potential
        assert difference == pytest.approx(float(check.margin.mean()) / 24, abs=1e-7)
    energy = float(negative.square().sum() / positive.square().sum())
    assert rows[0].energy_ratio == pytest.approx(energy)


@pytest.mark.slow
def test_a_check_of_theorem_2_carries_the_potentials_of_each_seed() -> None:
    spec = CheckSpec(widths=(16,), samples=200, batch_size=100, seeds=(0, 3))
    found = ffengine.check(spec).potentials
    assert [(row.seed, row.split) for row in found] == [
        (0, "positive"),
        (0, "negative"),
        (3, "positive"),
        (3, "negative"),
    ]
    assert ffengine.check(spec.model_copy(update={"theorem": 1})).potentials == ()


def test_the_function_for_plans_draws_what_a_check_draws() -> None:
    spec = CheckSpec(widths=(16,), samples=100, batch_size=100, seeds=(3,), negatives=Noise())
    found = strategy_potentials(spec.dataset, spec.negatives, samples=100, seed=3)
    assert found == ffengine.check(spec).potentials


def test_strategies_that_ask_the_network_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="negatives: this strategy asks the network"):
        strategy_potentials(DatasetSpec(), HardestLabel())


def test_blank_samples_are_left_out() -> None:
    positive, negative = torch.zeros(3, 4), torch.rand(3, 4)
    at_positives, at_negatives = potential_rows({"positive": negative, "negative": negative})
    assert at_positives.samples == 3
    positive[0] = 1
    at_positives, at_negatives = potential_rows({"positive": positive, "negative": negative})
    assert (at_positives.samples, at_negatives.samples) == (1, 3)


def ranks(values: list[float]) -> list[float]:
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) - 1) / 2
        for value in values
    ]


def rank_correlation(a: list[float], b: list[float]) -> float:
    pairs = torch.tensor([ranks(a), ranks(b)], dtype=torch.float64)
    return float(torch.corrcoef(pairs)[0, 1])


@pytest.mark.soak
def test_potentials_before_training_rank_strategies_by_measured_theorem_2() -> None:
    ratios, measured = [], []
    for negatives in [*FREE, Noise(scale=0.1), WrongLabel(image="any")]:
        spec = CheckSpec(
            negatives=negatives, widths=(500,), samples=500, methods=("exact",), seeds=(0, 1)
        )
        result = ffengine.check(spec)
        for row in result.potentials:
            (found,) = [c.ratio for c in result.cells if (c.seed, c.split) == (row.seed, row.split)]
            assert row.potential_ratio is not None
            assert found is not None
            if abs(row.potential_ratio - 1) > 0.01:
                assert (found > 0.5) == (row.potential_ratio > 1), (negatives, row)
            ratios.append(row.potential_ratio)
            measured.append(found)
    assert len(ratios) >= 40
    assert rank_correlation(ratios, measured) > 0.9


# energy neg/pos and U ratio at positives and negatives on MNIST, and how far a draw may be away
TABLE: list[tuple[Negatives, float, float, float, float]] = [
    (Noise(scale=0.5), 3.24, 2.05, 1.84, 0.1),
    (Noise(scale=0.1), 1.09, 1.06, 1.06, 0.01),
    (Hybrid(), 1.03, 1.04, 1.03, 0.06),
    (OtherImage(), 1.05, 1.06, 1.06, 0.1),
    (WrongLabel(image="any"), 1.05, 1.06, 1.06, 0.1),
    (WrongLabel(), 1.0, 1.002, 1.0, 0.001),
    (ShufflePixels(), 1.0, 0.46, 2.25, 0.3),
    (Mix(), 0.72, 0.80, 0.76, 0.05),
    (SelfContrastive(), 0.72, 0.80, 0.76, 0.05),
    (Masked(), 0.51, 0.40, 0.38, 0.02),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("negatives", "energy", "at_positives", "at_negatives", "spread"), TABLE, ids=str
)
def test_potentials_on_mnist_are_those_of_the_theory(
    negatives: Negatives, energy: float, at_positives: float, at_negatives: float, spread: float
) -> None:
    datasets = Datasets.of_environment()
    dataset = DatasetSpec(name="mnist", train_samples=10_000, test_samples=1)
    rows = strategy_potentials(dataset, negatives, datasets=datasets)
    assert rows[0].energy_ratio == pytest.approx(energy, abs=max(spread, 0.11))
    for row, expected in zip(rows, (at_positives, at_negatives), strict=True):
        assert row.potential_ratio == pytest.approx(expected, abs=spread)
    assert math.isclose(rows[0].energy_ratio, rows[1].energy_ratio)
