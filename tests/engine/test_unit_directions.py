"""Norms, effective units, effective rank and basins beside slow forms of their definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ffengine.unit_directions import (
    BASIN_COSINE,
    SPECTRAL_WITHIN,
    UnitDirections,
    unit_directions,
)


def scaled(found: UnitDirections, exponent: int) -> UnitDirections:
    """The figures of weights that are 2^exponent times as large."""
    assert found.spectral_norm is not None
    return found._replace(
        norm=math.ldexp(found.norm, exponent),
        spectral_norm=math.ldexp(found.spectral_norm, exponent),
    )


def slow_basins(weight: Tensor) -> float:
    """By lists, a unit at a time."""
    lengths = [math.sqrt(math.fsum(value * value for value in row)) for row in weight.tolist()]
    free = sorted(range(len(lengths)), key=lambda unit: -lengths[unit])
    squares = 0
    while free:
        leader, *others = free
        members = [
            unit
            for unit in others
            if math.fsum(
                a * b for a, b in zip(weight[leader].tolist(), weight[unit].tolist(), strict=True)
            )
            > BASIN_COSINE * lengths[leader] * lengths[unit]
        ]
        squares += (1 + len(members)) ** 2
        free = [unit for unit in others if unit not in members]
    return len(lengths) ** 2 / squares


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 40),
    m=st.integers(2, 30),
    centres=st.integers(1, 5),
    noise=st.floats(0.01, 3),
)
def test_each_figure_is_its_definition(
    seed: int, n: int, m: int, centres: int, noise: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    around = torch.randn(centres, m, generator=generator, dtype=torch.float64)
    chosen = torch.randint(centres, (n,), generator=generator)
    weight = (
        around[chosen] + noise * torch.randn(n, m, generator=generator, dtype=torch.float64)
    ) * torch.rand(n, 1, generator=generator, dtype=torch.float64)
    found = unit_directions(weight, spectral=True)
    squares = weight.square().sum(1)
    values = torch.linalg.svdvals(weight)
    assert found.effective_units == pytest.approx(
        float(squares.sum() ** 2 / squares.square().sum()), rel=1e-9
    )
    assert found.effective_rank == pytest.approx(
        float(values.square().sum() ** 2 / values.pow(4).sum()), rel=1e-9
    )
    assert found.basins == pytest.approx(slow_basins(weight), rel=1e-12)
    assert found.norm == pytest.approx(float(values.square().sum().sqrt()), rel=1e-9)
    assert found.spectral_norm == pytest.approx(float(values[0]), rel=SPECTRAL_WITHIN)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999), exponent=st.integers(-60, 60))
def test_a_power_of_two_changes_no_bit(seed: int, exponent: int) -> None:
    weight = torch.randn(30, 20, generator=torch.Generator().manual_seed(seed))
    found = unit_directions(weight, spectral=True)
    assert unit_directions(weight * 2.0**exponent, spectral=True) == scaled(found, exponent)


def test_rows_longer_than_the_largest_number_have_figures() -> None:
    weight = torch.randn(30, 400, generator=torch.Generator().manual_seed(0))
    long = weight * 2.0**125
    assert bool(long.isfinite().all())
    assert not bool(torch.linalg.vector_norm(long, dim=1).isfinite().any())
    found = unit_directions(weight, spectral=True)
    assert unit_directions(long, spectral=True) == scaled(found, 125)


def test_random_units_have_a_direction_each_and_equal_ones_share_one() -> None:
    weight = torch.randn(64, 784, generator=torch.Generator().manual_seed(0))
    assert unit_directions(weight).basins == 64
    same = unit_directions(weight[:1].repeat(64, 1))
    assert same.basins == 1
    assert 1 <= same.effective_rank <= 1 + 1e-5  # products in float32, in any order
    assert same.effective_units == pytest.approx(64)
    # opposite directions are two
    assert unit_directions(torch.cat([weight[:1], -weight[:1]])).basins == 2
    assert unit_directions(torch.zeros(3, 4)) == (0.0, 0.0, None, 0.0, None)
    assert unit_directions(torch.zeros(3, 4), spectral=True).spectral_norm == 0


def test_a_layer_wider_than_its_inputs_has_the_rank_of_the_inputs_at_most() -> None:
    weight = torch.randn(9_000, 3, generator=torch.Generator().manual_seed(0))
    found = unit_directions(weight)
    assert found.basins is None
    assert found.effective_rank == pytest.approx(3, rel=0.01)
    assert found.spectral_norm is None, "not asked for"
