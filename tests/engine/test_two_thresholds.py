"""Thresholds of positives and of negatives that differ: against float64 autograd."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ffengine
from ffengine.layer_updates import Learner
from ffengine.network import Network
from ffengine.pairs import Pairs
from ffengine.push_monitor import gradient_coefficients
from ffengine.search import example_cells
from ffengine.spec import NetworkSpec, StudySpec, TrainSpec, digest
from tests.examples import examples

NAMES = ("softplus", "bce", "linear_threshold")
OLD_DIGEST = "dbb1baafca1e40cd51ccd0ead24a00ec44e79689d8269e9bd5d1e9c678efe852"


def spec_of(name: str, negative: float | None, **changes: Any) -> TrainSpec:
    return TrainSpec.model_validate(
        {
            "dataset": {"train_samples": 60, "test_samples": 20},
            "network": {"widths": [7]},
            "objective": {"name": name, "threshold": 0.4, "negative_threshold": negative},
            "epochs": 1,
            "batch_size": 60,
            "monitor": {"samples": 60, "accuracy": True},
            "evaluation": {"measures": False},
        }
        | changes
    )


def loss_of(name: str, g: torch.Tensor, positives: int, thresholds: tuple[float, float]) -> Any:
    """Terms of each sample, written out anew."""
    u = torch.cat([thresholds[0] - g[:positives], g[positives:] - thresholds[1]])
    if name == "linear_threshold":
        return u.relu()
    return torch.nn.functional.softplus(u) / (2 if name == "bce" else 1)


@settings(deadline=None, max_examples=examples(10))
@given(
    name=st.sampled_from(NAMES),
    negative=st.floats(-2, 2),
    split=st.sampled_from((None, "positive", "negative")),
    seed=st.integers(0, 999),
)
def test_a_step_goes_down_the_gradient_with_both_thresholds(
    name: str, negative: float, split: Any, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(1, 12, 9, generator=random), torch.randn(1, 7, 9, generator=random) / 3
    spec = spec_of(name, negative)
    leaf = weight[0].double().requires_grad_()
    g = torch.relu(x[0].double() @ leaf.T).square()
    g = g.sum(-1) if spec.objective.goodness.name == "sum_squares" else g.mean(-1)
    terms = loss_of(name, g, 6, (0.4, negative))
    parts = {None: terms, "positive": terms[:6], "negative": terms[6:]}[split]
    (gradient,) = torch.autograd.grad(parts.sum() / 6, leaf, retain_graph=True)
    network = Network(NetworkSpec(widths=(7,)), [weight])
    learner = Learner(network, spec.objective, spec.optimizer, epochs=1)
    found = learner.preview(0, Pairs(x), x @ weight.mT, split).direction[0]
    torch.testing.assert_close(found.double(), -gradient, atol=1e-5, rtol=1e-4)
    if split is None:
        (s,) = torch.autograd.grad(terms.sum() / 6, g)
        pushed = gradient_coefficients(spec.objective, weight[0], x[0])
        torch.testing.assert_close(pushed, s / (s.abs().mean() or 1.0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_rows_and_losses_are_of_the_threshold_of_their_split(name: str) -> None:
    """Before the first step the weights are the same, whatever the thresholds are."""
    same, other = (ffengine.train(spec_of(name, negative)) for negative in (None, -0.6))
    for one, two in zip(same.curves[:2], other.curves[:2], strict=True):
        assert one.goodness is not None
        assert two.goodness == pytest.approx(one.goodness + (one.split == "negative"), abs=1e-5)
        assert (one.loss == two.loss) == (one.split == "positive")
    for first, second in zip(same.accuracy_curves, other.accuracy_curves, strict=True):
        if first.epoch == 0:
            assert (first.accuracy, first.auc) == (second.accuracy, second.auc)
    rows = [row for row in other.accuracy_curves if row.epoch == 0 and row.loss is not None]
    losses = [row.loss for row in other.curves[:2]]
    assert rows[0].loss == pytest.approx(sum(losses), rel=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_an_equal_threshold_changes_no_bit(name: str) -> None:
    one, two = (ffengine.train(spec_of(name, negative)).curves for negative in (None, 0.4))
    assert one == two


def test_a_spec_with_one_threshold_keeps_the_digest_that_it_had() -> None:
    objective = {"name": "softplus", "threshold": 1.5}
    assert digest(TrainSpec.model_validate({"objective": objective})) == OLD_DIGEST
    two = TrainSpec.model_validate({"objective": objective | {"negative_threshold": 1.0}})
    assert digest(two) != OLD_DIGEST


def test_a_grid_and_a_search_vary_it_as_any_other_field() -> None:
    base = spec_of("softplus", None).model_dump()
    base["dataset"]["validation_samples"] = 20
    study = StudySpec.model_validate(
        {"base": base, "grid": {"objective.negative_threshold": [None, 0.1, 0.2]}}
    )
    assert [
        cell.spec.objective.offsets(7)  # type: ignore[union-attr]
        for cell in example_cells(study)
    ] == [(0.4, 0.4), (0.4, 0.1), (0.4, 0.2)]
    space = {"objective.negative_threshold": {"low": 0.1, "high": 1.0}}
    search = StudySpec.model_validate({"base": base, "search": {"space": space, "trials": 2}})
    for cell in example_cells(search):
        assert 0.1 <= cell.spec.objective.offsets(7)[1] <= 1  # type: ignore[union-attr]
