"""The Lanczos method beside the decomposition of the whole matrix."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffengine.lanczos import RESIDUAL_WITHIN, Matrix, largest_eigenvalue
from tests.examples import examples


@settings(max_examples=examples(30), deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 40),
    rank=st.integers(1, 40),
    decay=st.sampled_from([0.0, 0.01, 1.0]),
    within=st.sampled_from([RESIDUAL_WITHIN, 1e-3]),
)
def test_the_largest_eigenvalue_is_found(
    seed: int, size: int, rank: int, decay: float, within: float
) -> None:
    random = np.random.default_rng(seed)
    factor = random.normal(size=(size, rank)) * np.exp(-decay * np.arange(rank))
    matrix: Matrix = factor @ factor.T
    expected = float(np.linalg.eigvalsh(matrix)[-1])
    found = largest_eigenvalue(lambda vector: matrix @ vector, size, within=within)
    assert found == pytest.approx(expected, rel=max(1e-10, within))


def test_of_nothing_it_is_zero_and_of_equal_ones_their_value() -> None:
    assert largest_eigenvalue(np.zeros_like, 5) == 0
    assert largest_eigenvalue(lambda vector: 3 * vector, 5) == pytest.approx(3)
