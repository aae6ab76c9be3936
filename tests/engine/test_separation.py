"""The area under the curve, against every pair counted one by one."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ffengine.separation import auc

few = st.sampled_from(
    [-0.0, 0.0, 1e-300, 0.1, 0.5, 0.5000000000000001, 2.0, 1e300, float("inf"), float("-inf")]
)
goodness = st.lists(few, min_size=1, max_size=25)


def counted(positive: list[float], negative: list[float]) -> float:
    won = sum(Fraction(int(p > q)) + Fraction(int(p == q), 2) for p in positive for q in negative)
    return float(won / (len(positive) * len(negative)))


@given(goodness, goodness)
def test_equals_the_count_over_all_pairs_exactly_even_under_ties(
    positive: list[float], negative: list[float]
) -> None:
    found = auc(
        torch.tensor([positive], dtype=torch.float64), torch.tensor([negative], dtype=torch.float64)
    )
    assert found.dtype == torch.float64
    assert found.tolist() == [counted(positive, negative)]


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 30), st.integers(1, 30))
def test_replicas_are_taken_by_themselves_and_swapping_sides_gives_the_rest(
    seed: int, replicas: int, n: int, m: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    positive = torch.randint(0, 5, (replicas, n), generator=generator).float()
    negative = torch.randint(0, 5, (replicas, m), generator=generator).double()
    found = auc(positive, negative)
    assert found.tolist() == [
        counted(p, q) for p, q in zip(positive.tolist(), negative.tolist(), strict=True)
    ]
    assert torch.allclose(
        found + auc(negative, positive), torch.ones(replicas, dtype=torch.float64), rtol=1e-15
    )


def test_a_clean_separation_is_one_and_none_is_a_half() -> None:
    assert auc(torch.tensor([[2.0, 3.0]]), torch.tensor([[0.0, 1.0]])).tolist() == [1.0]
    assert auc(torch.tensor([[2.0, 2.0]]), torch.tensor([[2.0]])).tolist() == [0.5]


@pytest.mark.parametrize(
    ("positive", "negative", "message"),
    [
        (torch.zeros(3), torch.zeros(1, 3), "expected positive"),
        (torch.zeros(2, 3), torch.zeros(1, 3), "expected positive"),
        (torch.zeros(1, 0), torch.zeros(1, 3), "positive: is empty"),
        (torch.zeros(1, 3), torch.tensor([[float("nan")]]), "negative: holds NaN"),
    ],
)
def test_bad_input_is_named(positive: torch.Tensor, negative: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        auc(positive, negative)
