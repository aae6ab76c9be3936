"""Margins of any goodness at finite width, against autograd in float64, and the own-sample law."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ffengine
from ffengine import margins
from ffengine.activations import ACTIVATIONS
from ffengine.entry import entries, name_of
from ffengine.goodness_margins import lowering_checks, lowering_direction, own_term
from ffengine.infinite_width import infinite_width_checks
from ffengine.objectives import (
    L2,
    Entmax,
    Goodness,
    GoodnessEntry,
    Kurtosis,
    Moment,
    PowerSum,
    SumSquares,
    TopK,
)
from tests.engine import reference
from tests.engine.reference import SIGMA, margin_of_rate, random_layer, sparsity_rate

GOODNESS: dict[str, Goodness] = {
    name_of(entry, "name"): entry() for entry in entries(GoodnessEntry)
}  # type: ignore[misc]


@pytest.mark.parametrize("name", GOODNESS)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh"])
@given(seed=st.integers(0, 2**31), samples=st.integers(1, 8), width=st.integers(12, 40))
def test_margins_equal_autograd(
    name: str, activation: str, seed: int, samples: int, width: int
) -> None:
    weight, x = random_layer(seed, 2 * samples, 6, width)
    groups = [x[:samples], x[samples:] - 0.5]
    generator = torch.Generator().manual_seed(seed)
    s = [torch.randn(samples, generator=generator, dtype=torch.float64) for _ in groups]
    leaf = weight.clone().requires_grad_()
    loss = sum(
        (w * reference.GOODNESS[name](SIGMA[activation](g @ leaf.T))).sum()
        for w, g in zip(s, groups, strict=True)
    )
    (gradient,) = torch.autograd.grad(loss, leaf)
    checks = lowering_checks(weight, groups, s, GOODNESS[name], activation=activation)
    for check, g in zip(checks, groups, strict=True):
        rate = sparsity_rate(weight, g, -gradient, activation)
        expected = margin_of_rate(weight, g, rate, activation)
        live = ~check.dead
        scale = 1 + float(expected[live].abs().max()) if bool(live.any()) else 1
        assert torch.allclose(check.margin[live], expected[live], rtol=1e-6, atol=1e-9 * scale)


def test_squares_give_the_margins_of_the_theorems(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = random_layer(0, 30, 10, 50)
    one = torch.ones(15, dtype=torch.float64)
    found = lowering_checks(weight, [x[:15], x[15:]], [-one, one], SumSquares())
    expected = ffengine.theorem2(weight, x[:15], x[15:])
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a.margin, b.margin, rtol=1e-10)
        assert torch.equal(a.satisfied, b.satisfied)
        assert torch.allclose(a.rounding, b.rounding, rtol=1e-6)
    monkeypatch.setattr("ffengine.goodness_margins.CHUNK_ELEMENTS", 100)
    monkeypatch.setattr(margins, "CHUNK_ELEMENTS", 100)
    again = lowering_checks(weight, [x[:15], x[15:]], [-one, one], SumSquares())
    assert torch.allclose(again[0].margin, found[0].margin, rtol=1e-10)


# The own-sample law


def random_activations(seed: int, units: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.relu(torch.randn(4, units, generator=generator, dtype=torch.float64))


@given(
    seed=st.integers(0, 2**31),
    units=st.integers(2, 60),
    q=st.floats(0.5, 5.0),
    s=st.sampled_from([-2.0, -1.0, 0.5, 1.0]),
)
def test_the_own_term_of_powers_has_the_sign_of_s_times_2_minus_q(
    seed: int, units: int, q: float, s: float
) -> None:
    h = random_activations(seed, units)
    energy = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    found = own_term(h, energy, torch.full((4,), s, dtype=torch.float64), PowerSum(q=q))
    for row, value in zip(h, found.tolist(), strict=True):
        active = row[row > 0]
        if len(active) == 0:
            assert value == 0
            continue
        scale = float(active.pow(q).sum() / active.square().sum())
        if len(active) == 1 or abs(q - 2) < 0.01:
            assert abs(value) < 0.2 * scale * 4 + 1e-6
        else:
            tiny = 1e-9 * scale
            assert math.copysign(1, s * (2 - q)) * value > -tiny


@given(seed=st.integers(0, 2**31), units=st.integers(2, 60))
def test_functions_of_the_length_are_neutral_and_top_k_is_like_large_powers(
    seed: int, units: int
) -> None:
    h = random_activations(seed, units)
    one = torch.ones(4, dtype=torch.float64)
    for goodness in (SumSquares(), L2(), PowerSum(q=2.0)):
        assert float(own_term(h, one, one, goodness).abs().max()) < 1e-12
    few = TopK(k=max(1, units // 6))
    assert bool((own_term(h, one, -one, few) >= -1e-12).all())  # raised: sparser


@given(seed=st.integers(0, 2**31), units=st.integers(100, 400), scale=st.sampled_from([0.1, 3.0]))
def test_selective_goodness_that_is_raised_makes_the_sample_itself_sparser(
    seed: int, units: int, scale: float
) -> None:
    h = random_activations(seed, units) * scale
    one = torch.ones(4, dtype=torch.float64)
    for goodness in (
        TopK(share=0.02, of="activations"),
        Entmax(alpha=1.2),
        Entmax(),
        Kurtosis(),
        Moment(),
        Moment(p=6),
    ):
        assert bool((own_term(h, one, -one, goodness) > 0).all()), goodness


@given(seed=st.integers(0, 2**31), units=st.integers(20, 200), share=st.floats(0.05, 0.5))
def test_the_mean_of_the_largest_is_selective_where_it_is_above_the_mean_weighted_by_h(
    seed: int, units: int, share: float
) -> None:
    h = random_activations(seed, units)
    one = torch.ones(4, dtype=torch.float64)
    goodness = TopK(share=share, of="activations")
    for row, own in zip(h, own_term(h, one, -one, goodness).tolist(), strict=True):
        top = row.sort(descending=True).values[: goodness.count(units)]
        if float(top[-1]) == 0:
            continue  # fewer units are active than count
        excess = float(top.mean() - row.square().sum() / row.sum())
        assert abs(excess) < 1e-9 or math.copysign(1, excess) == math.copysign(1, own)


@given(seed=st.integers(0, 2**31), name=st.sampled_from(sorted(GOODNESS)))
def test_the_own_term_is_the_margin_of_a_batch_of_one(seed: int, name: str) -> None:
    weight, x = random_layer(seed, 1, 8, 40)
    s = torch.tensor([-0.7], dtype=torch.float64)
    (check,) = lowering_checks(weight, [x], [s], GOODNESS[name])
    h = torch.relu(x @ weight.T)
    found = own_term(h, x.square().sum(1), s, GOODNESS[name])
    assert torch.allclose(found, check.margin, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("q", [0.8, 1.5, 3.0, 4.0])
def test_the_own_term_of_a_wide_layer_is_the_limit_at_angle_zero(q: float) -> None:
    weight, x = random_layer(3, 1, 10, 300_000)
    one = torch.ones(1, dtype=torch.float64)
    h = torch.relu(x @ weight.T)
    # the margin of a sample that is a batch of its own
    (limit,) = infinite_width_checks([x], [one], goodness=PowerSum(q=q))
    found = own_term(h, x.square().sum(1), one, PowerSum(q=q))
    assert float(found) == pytest.approx(float(limit.margin), rel=0.05)


def test_the_direction_is_that_of_the_engine_for_squares() -> None:
    weight, x = random_layer(2, 9, 5, 7)
    D, longer = lowering_direction(
        weight, [x], [torch.ones(9, dtype=torch.float64)], ACTIVATIONS["relu"], SumSquares()
    )
    assert torch.allclose(D, reference.goodness_gradient(weight, [x], [1.0], "relu"), rtol=1e-10)
    assert longer == 1.0
