"""Sparsity measures: against exact loops, their bounds, their invariances, and samples for which
they are undefined.
"""

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import ffengine
from ffengine.sparsity import (
    CHUNK_ELEMENTS,
    gini,
    kurtosis,
    sparsity_and_dead,
    treves_rolls,
    treves_rolls_of_norms,
)
from tests.engine import reference

activations = st.lists(
    st.floats(-1e3, 1e3).filter(lambda v: v == 0 or abs(v) > 1e-3), min_size=2, max_size=40
).filter(any)


@given(activations)
def test_equals_the_exactly_summed_form(h: list[float]) -> None:
    assert float(ffengine.hoyer_sparsity(torch.tensor(h, dtype=torch.float64))) == pytest.approx(
        reference.hoyer(h), abs=1e-12
    )


@given(activations, st.sampled_from([1e-300, 1e-30, 1e30, 1e300]))
def test_ignores_the_scale_even_where_squares_overflow_or_vanish(
    h: list[float], scale: float
) -> None:
    tensor = torch.tensor(h, dtype=torch.float64)
    assert float(ffengine.hoyer_sparsity(tensor * scale)) == pytest.approx(
        float(ffengine.hoyer_sparsity(tensor)), abs=1e-12
    )


@given(st.integers(2, 500), st.floats(1e-20, 1e20))
def test_one_active_unit_gives_one_and_equal_units_give_zero(width: int, value: float) -> None:
    one = torch.zeros(width)
    one[width // 2] = value
    assert float(ffengine.hoyer_sparsity(one)) == 1.0
    assert float(ffengine.hoyer_sparsity(torch.full((width,), value))) == pytest.approx(
        0.0, abs=1e-9
    )


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


def slow_gini(h: list[float]) -> Fraction:
    """Half the mean difference of two units over their mean: another definition, without
    sorting.
    """
    values = [abs(Fraction(value)) for value in h]
    return sum((abs(a - b) for a in values for b in values), Fraction()) / (
        2 * len(h) * sum(values)
    )


def slow_treves_rolls(h: list[float]) -> Fraction:
    values, n = [abs(Fraction(value)) for value in h], len(h)
    a = (sum(values) / n) ** 2 / (sum(value**2 for value in values) / n)
    return (1 - a) / (1 - Fraction(1, n))


def slow_kurtosis(h: list[float]) -> Fraction:
    values, n = [Fraction(value) for value in h], len(h)
    mean = sum(values) / n
    variance = sum((value - mean) ** 2 for value in values) / n
    return (
        sum((value - mean) ** 4 for value in values) / n / variance**2 - 3
        if variance
        else Fraction(0)
    )


Measure = Callable[[Tensor], Tensor]
MEASURES: list[tuple[Measure, Callable[[list[float]], Fraction]]] = [
    (gini, slow_gini),
    (treves_rolls, slow_treves_rolls),
    (kurtosis, slow_kurtosis),
]
every_measure = pytest.mark.parametrize("measure", [measure for measure, _ in MEASURES])


@pytest.mark.parametrize(("measure", "slow"), MEASURES)
@given(
    activations,
    st.sampled_from([1.0, 1e-30, 1e30]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_measures_equal_their_definitions_in_fractions(
    measure: Measure,
    slow: Callable[[list[float]], Fraction],
    h: list[float],
    scale: float,
    dtype: torch.dtype,
) -> None:
    tensor = torch.tensor([value * scale for value in h], dtype=dtype)
    assert float(measure(tensor)) == pytest.approx(
        float(slow(tensor.tolist())), rel=1e-10, abs=1e-12
    )


@every_measure
@given(
    activations,
    st.randoms(use_true_random=False),
    st.floats(-1e30, 1e30).filter(lambda c: abs(c) > 1e-30),
)
def test_measures_ignore_scale_and_the_order_of_units(
    measure: Measure, h: list[float], random: object, scale: float
) -> None:
    shuffled = list(h)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = float(measure(torch.tensor(h, dtype=torch.float64)))
    assert float(measure(torch.tensor(shuffled, dtype=torch.float64))) == pytest.approx(
        found, rel=1e-10, abs=1e-11
    )
    assert float(measure(scale * torch.tensor(h, dtype=torch.float64))) == pytest.approx(
        found, rel=1e-9, abs=1e-10
    )


@given(activations)
def test_measures_stay_within_their_bounds(h: list[float]) -> None:
    n, tensor = len(h), torch.tensor(h, dtype=torch.float64)
    assert 0 <= float(gini(tensor)) <= 1 - 1 / n
    assert 0 <= float(treves_rolls(tensor)) <= 1
    assert -2 - 1e-9 <= float(kurtosis(tensor)) <= max(0.0, n - 5 + 1 / (n - 1)) + 1e-9


@given(st.integers(2, 300), st.floats(1e-30, 1e30), st.sampled_from([torch.float32, torch.float64]))
def test_measures_of_one_active_unit_and_of_equal_units(
    width: int, value: float, dtype: torch.dtype
) -> None:
    one = torch.zeros(width, dtype=dtype)
    one[width // 2] = value
    equal = torch.full((width,), value, dtype=dtype)
    assert float(gini(one)) == pytest.approx(1 - 1 / width, abs=1e-15)
    assert float(treves_rolls(one)) == 1.0
    assert float(kurtosis(one)) == pytest.approx(width - 5 + 1 / (width - 1))
    assert float(gini(equal)) == pytest.approx(0.0, abs=1e-13)
    assert float(treves_rolls(equal)) == pytest.approx(0.0, abs=1e-13)
    assert float(kurtosis(equal)) == 0.0


@every_measure
def test_a_dead_sample_has_the_value_zero(measure: Measure) -> None:
    h = torch.tensor([[0.0, 0.0, -0.0], [1.0, 0.0, 2.0]])
    assert float(measure(h)[0]) == 0.0
    assert bool(measure(h).isfinite().all())


@pytest.mark.parametrize(
    "measure", [gini, treves_rolls, kurtosis, lambda h: sparsity_and_dead(h)[0]]
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_not_passed_off_as_a_figure(measure: Measure, value: float) -> None:
    found = measure(torch.tensor([[1.0, value, 0.0], [1.0, 2.0, 0.0]]))
    assert found.isnan().tolist() == [True, False]


@given(activations, st.floats(-100, 100))
def test_kurtosis_ignores_a_shift(h: list[float], shift: float) -> None:
    tensor = (
        torch.tensor(h, dtype=torch.float64).mul(2**10).round()
    )  # whole numbers: the shift is exact
    assert float(kurtosis(tensor + round(shift))) == pytest.approx(
        float(kurtosis(tensor)), rel=1e-9, abs=1e-9
    )


def test_kurtosis_of_units_that_differ_in_the_last_bit_alone() -> None:
    h = torch.full((8,), 0.1)
    h[3] = (
        math.nextafter(0.1, 1.0)
        if h.dtype == torch.float64
        else torch.nextafter(h[3], torch.tensor(1.0))
    )
    assert float(kurtosis(h)) == pytest.approx(8 - 5 + 1 / 7)


@given(activations)
def test_treves_rolls_is_hoyers_in_other_units(h: list[float]) -> None:
    root, s = math.sqrt(len(h)), reference.hoyer(h)
    tensor = torch.tensor(h, dtype=torch.float64)
    assert float(treves_rolls(tensor)) == pytest.approx(
        s * (2 * root - s * (root - 1)) / (root + 1), abs=1e-11
    )
    assert float(
        treves_rolls_of_norms(tensor.norm(1), tensor.square().sum(), len(h))
    ) == pytest.approx(float(treves_rolls(tensor)), abs=1e-12)


@every_measure
@given(st.integers(0, 2**31), st.lists(st.integers(1, 4), max_size=3), st.integers(2, 30))
def test_measures_keep_leading_axes_and_are_float64(
    measure: Measure, seed: int, leading: list[int], width: int
) -> None:
    found = measure(torch.rand(*leading, width, generator=torch.Generator().manual_seed(seed)))
    assert found.dtype == torch.float64
    assert found.shape == tuple(leading)


@every_measure
def test_measures_do_not_depend_on_chunks_and_leave_their_input_alone(measure: Measure) -> None:
    h = torch.randn(
        CHUNK_ELEMENTS // 300 + 500, 300, generator=torch.Generator().manual_seed(0)
    ).relu()
    before = h.clone()
    assert torch.allclose(measure(h)[-1], measure(h[-1]), rtol=1e-13, atol=0)
    assert torch.equal(h, before)


@every_measure
@pytest.mark.parametrize("shape", [(3, 1), (), (0,)])
def test_measures_need_two_units(measure: Measure, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="n >= 2"):
        measure(torch.zeros(shape))
