"""Sparsity, signs and directions of the weights of a layer, against slow forms."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

import ffengine
from ffengine.spec import TrainSpec
from ffengine.weight_sparsity import NOT_MEASURED, weight_sparsity
from tests.engine import reference


def slow_rank(weight: torch.Tensor) -> float:
    """exp(H(p)) from the eigenvalues of the products of rows, value by value."""
    values = [math.sqrt(max(float(v), 0)) for v in torch.linalg.eigvalsh(weight @ weight.T)]
    shares = [value / sum(values) for value in values]
    return math.exp(-sum(share * math.log(share) for share in shares if share > 0))


def slow_sparsity(values: list[float]) -> float:
    root = math.sqrt(len(values))
    l1, l2 = sum(map(abs, values)), math.sqrt(sum(value * value for value in values))
    return (root - l1 / l2) / (root - 1)


@given(n=st.integers(2, 6), more=st.integers(0, 4), zeros=st.floats(0, 0.9), seed=st.integers(0))
def test_figures_equal_their_definitions(n: int, more: int, zeros: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed % 2**31)
    weight = torch.randn(n, n + more, generator=generator, dtype=torch.float64)
    weight[torch.rand(weight.shape, generator=generator) < zeros] = 0
    weight[0, 0] = 0.5
    found, values = weight_sparsity(weight), weight.flatten().tolist()
    positive = sum(value > 0 for value in values)
    assert found.sparsity == pytest.approx(slow_sparsity(values), abs=1e-12)
    assert found.gini == pytest.approx(reference.gini(values), abs=1e-12)
    assert found.excitatory_share == positive / sum(value != 0 for value in values)
    assert found.entropy_rank == pytest.approx(slow_rank(weight), abs=1e-4)


def test_known_matrices_and_scale() -> None:
    eye = weight_sparsity(torch.eye(5))
    assert eye.entropy_rank == pytest.approx(5)
    assert eye.excitatory_share == 1
    ones = weight_sparsity(-torch.ones(4, 3))
    assert ones == pytest.approx((0, 0, 0, 1), abs=1e-6)
    weight = torch.randn(7, 9, generator=torch.Generator().manual_seed(3))
    assert weight_sparsity(weight * 2.0**-90) == weight_sparsity(weight)
    assert weight_sparsity(torch.zeros(3, 4)) == NOT_MEASURED


@pytest.mark.parametrize("objective", ["difference", "mono_forward"])
def test_rows_have_them_only_where_they_are_asked_for(objective: str) -> None:
    def curves(*measures: str) -> list[dict[str, object]]:
        spec = {
            "dataset": {"train_samples": 40, "test_samples": 10},
            "network": {"widths": [8, 6]},
            "objective": {"name": objective},
            "epochs": 1,
            "batch_size": 20,
            "seeds": [0, 3],
            "monitor": {"samples": 10, "theorems": [], "measures": measures},
        }
        found = ffengine.train(TrainSpec.model_validate(spec)).curves
        return [row.model_dump() for row in found]

    names = ("weight_sparsity", "weight_gini", "excitatory_share", "entropy_rank")
    for row, without in zip(curves("weights"), curves(), strict=True):
        assert all(row[name] is not None for name in names)
        assert row | dict.fromkeys(names) == without
