"""Hoyer sparsity: against exact loops, its bounds, its invariances, and samples for which it is undefined."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ffengine
from ffengine.sparsity import gini, kurtosis, sparsity_and_dead, treves_rolls, zero_fraction
from tests.engine import reference

activations = st.lists(st.floats(-1e3, 1e3).filter(lambda v: v == 0 or abs(v) > 1e-3), min_size=2, max_size=40).filter(any)


@given(activations)
def test_equals_the_exactly_summed_form(h: list[float]) -> None:
    assert float(ffengine.hoyer_sparsity(torch.tensor(h, dtype=torch.float64))) == pytest.approx(reference.hoyer(h), abs=1e-12)


@given(activations, st.sampled_from([1e-300, 1e-30, 1e30, 1e300]))
def test_ignores_the_scale_even_where_squares_overflow_or_vanish(h: list[float], scale: float) -> None:
    tensor = torch.tensor(h, dtype=torch.float64)
    assert float(ffengine.hoyer_sparsity(tensor * scale)) == pytest.approx(float(ffengine.hoyer_sparsity(tensor)), abs=1e-12)


@given(st.integers(2, 500), st.floats(1e-20, 1e20))
def test_one_active_unit_gives_one_and_equal_units_give_zero(width: int, value: float) -> None:
    one = torch.zeros(width)
    one[width // 2] = value
    assert float(ffengine.hoyer_sparsity(one)) == 1.0
    assert float(ffengine.hoyer_sparsity(torch.full((width,), value))) == pytest.approx(0.0, abs=1e-9)


@given(st.integers(0, 2**31), st.lists(st.integers(1, 4), max_size=3), st.integers(2, 30))
def test_keeps_leading_axes_and_is_float64(seed: int, leading: list[int], width: int) -> None:
    h = torch.rand(*leading, width, generator=torch.Generator().manual_seed(seed)) + 0.01
    found = ffengine.hoyer_sparsity(h)
    assert found.dtype == torch.float64
    assert found.shape == tuple(leading)
    assert bool(((found >= 0) & (found <= 1)).all())


def test_chunks_do_not_matter() -> None:
    h = torch.rand(5000, 300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ffengine.hoyer_sparsity(h)[4321], ffengine.hoyer_sparsity(h[4321]))


def test_dead_samples_are_counted_aloud_and_never_nan() -> None:
    h = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    with pytest.warns(ffengine.DeadSamplesWarning, match="1 of 2 samples are dead"):
        found = ffengine.hoyer_sparsity(h)
    assert found.tolist() == [0.0, 1.0]
    assert ffengine.dead_samples(h).tolist() == [True, False]


def test_sparsity_at_random_initialisation_is_the_theorys() -> None:
    # theory: S_init = (1 - 1/sqrt(pi)) sqrt(n) / (sqrt(n) - 1)
    for width in (200, 1000, 8000):
        weight, x = reference.random_layer(width, 400, 50, width)
        mean = float(ffengine.hoyer_sparsity(torch.relu(x @ weight.T)).mean())
        expected = (1 - 1 / math.sqrt(math.pi)) * math.sqrt(width) / (math.sqrt(width) - 1)
        assert mean == pytest.approx(expected, abs=0.6 / math.sqrt(width))


@pytest.mark.parametrize(
    ("h", "message"),
    [
        (torch.tensor([1, 2, 3]), "h: expected float32 or float64, got int64"),
        (torch.tensor([1.0, math.nan]), "h: holds NaN or infinity"),
        (torch.tensor([1.0, math.inf]), "h: holds NaN or infinity"),
        (torch.tensor([[1.0], [2.0]]), "n >= 2"),
        (torch.tensor(1.0), "n >= 2"),
        (torch.zeros(0, 5), "h: is empty"),
        ([1.0, 2.0], "h: expected a torch.Tensor, got list"),
    ],
)
def test_bad_input_is_named(h: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ffengine.hoyer_sparsity(h)  # type: ignore[arg-type]


def test_the_quiet_form_agrees() -> None:
    h = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    values, dead = sparsity_and_dead(h)
    assert values[1] == pytest.approx(reference.hoyer([3.0, 4.0]))
    assert dead.tolist() == [True, False]


# The measures beside Hoyer's

MEASURES = {
    "gini": (gini, reference.gini),
    "treves_rolls": (treves_rolls, reference.treves_rolls),
    "kurtosis": (kurtosis, reference.kurtosis),
}


@pytest.mark.parametrize("name", MEASURES)
@given(seed=st.integers(0, 2**31), width=st.integers(2, 12), scale=st.sampled_from([1e-30, 1.0, 1e30]))
def test_every_measure_equals_its_definition_whatever_the_scale_and_order(name: str, seed: int, width: int, scale: float) -> None:
    measure, slow = MEASURES[name]
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(3, width, generator=generator, dtype=torch.float64)
    expected = [slow(row) for row in h.tolist()]
    assert measure(h * scale).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert measure(h[:, torch.randperm(width, generator=generator)]).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert measure((h * scale).float()).dtype == torch.float64


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_is_zero_for_dead_and_for_equal_units_and_largest_for_one(name: str) -> None:
    measure = MEASURES[name][0]
    h = torch.zeros(4, 10)
    h[1], h[2, 3], h[3] = 0.1, 5.0, torch.arange(10)
    dead, equal, single, graded = measure(h).tolist()
    assert dead == 0.0
    assert equal == pytest.approx(0.0, abs=1e-6)
    assert single > graded > -2.0
    assert single == pytest.approx({"gini": 0.9, "treves_rolls": 1.0, "kurtosis": 0.73 / 0.09 - 3}[name])


def test_the_zero_fraction_counts_exact_zeros() -> None:
    assert zero_fraction(torch.tensor([[0.0, 1e-30, -0.0, 2.0]])).tolist() == [0.5]
