"""Whitened goodness: its moments, its pull, and what the scale of the weights has no part in."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

import ffengine
from ffengine.checkpoint import Checkpoint
from ffengine.cost import cost_of
from ffengine.datasets import DATASETS
from ffengine.layer_updates import STATISTICS, Learner
from ffengine.network import Network
from ffengine.objectives import (
    AnyGoodness,
    Difference,
    Kurtosis,
    SoftplusLoss,
    SumSquares,
    Whitened,
)
from ffengine.optimizers import Sgd
from ffengine.pairs import Pairs
from ffengine.spec import ADDED_LATER, CheckSpec, ForecastSpec, NetworkSpec, TrainSpec
from ffengine.training import EpochReport
from ffengine.weight_evaluation import evaluate_weights
from ffengine.weights import export_weights, import_weights
from tests.examples import examples

SMALL: dict[str, Any] = {
    "dataset": {"train_samples": 100, "test_samples": 30},
    "network": {"widths": [12, 8], "normalize": "l2"},
    "objective": {"name": "softplus", "goodness": {"name": "whitened", "momentum": 0.5}},
    "optimizer": {"lr": 0.05},
    "epochs": 2,
    "batch_size": 40,
    "monitor": {"samples": 40},
    "seeds": [3, 8],
}


def slow_factors(batches: list[Tensor], goodness: Whitened) -> Tensor:
    """The factors (R, n) after batches of activations (R, B, n), by the definition."""
    count, width = len(batches), batches[0].shape[2]
    weights = [goodness.momentum ** (count - 1 - number) for number in range(count)]
    found = torch.empty(len(batches[0]), width, dtype=batches[0].dtype)
    for replica in range(len(found)):
        moments = [
            sum(
                weight * float(batch[replica, :, unit].square().mean())
                for weight, batch in zip(weights, batches, strict=True)
            )
            / sum(weights)
            for unit in range(width)
        ]
        for unit in range(width):
            found[replica, unit] = 1 / (moments[unit] + goodness.eps * sum(moments) / width)
    return found


@settings(max_examples=examples(20), deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batches=st.integers(1, 4),
    width=st.integers(2, 9),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    eps=st.sampled_from([1e-6, 1e-3, 0.5]),
)
def test_value_and_pull_are_those_of_squares_over_the_running_moments(
    seed: int, batches: int, width: int, momentum: float, eps: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    goodness = Whitened(momentum=momentum, eps=eps)
    seen = [
        torch.randn(2, 5, width, generator=generator, dtype=torch.float64).relu()
        for _ in range(batches)
    ]
    statistics = goodness.new_statistics(torch.zeros(2, width, 3, dtype=torch.float64))
    for batch in seen:
        goodness.beside(statistics).follow(statistics, batch)
    beside = goodness.beside(statistics)
    factors = slow_factors(seen, goodness)
    h = torch.randn(2, 4, width, generator=generator, dtype=torch.float64).relu()
    s = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    leaf = h.clone().requires_grad_()
    expected = torch.einsum("rbn,rn->rb", leaf**2, factors)
    (slope,) = torch.autograd.grad((s * expected).sum(), leaf)
    value, saved = beside.value_and_saved(h)
    assert torch.allclose(value, expected, rtol=1e-10)
    assert torch.allclose(beside.pull(h.clone(), value, s, saved), slope, rtol=1e-10)
    # labels have a dimension of their own, and replicas are theirs alone
    assert torch.allclose(beside.value(h.unsqueeze(2))[:, :, 0], value, rtol=1e-14)
    assert torch.equal(goodness.beside(statistics[1:]).value(h[1:]), value[1:])


def test_before_the_first_step_it_is_the_sum_of_squares() -> None:
    h = torch.randn(1, 6, 5, dtype=torch.float64)
    for statistics in (None, Whitened().new_statistics(torch.zeros(1, 5, 3).double())):
        found = Whitened().beside(statistics)
        assert torch.allclose(found.value(h), SumSquares().value(h), rtol=1e-14)


def test_a_layer_that_was_silent_has_finite_goodness() -> None:
    statistics = Whitened().new_statistics(torch.zeros(1, 5, 3))
    Whitened().beside(statistics).follow(statistics, torch.zeros(1, 4, 5))
    beside = Whitened().beside(statistics)
    h = torch.ones(1, 2, 5)
    assert bool(beside.value(h).isfinite().all())
    assert bool(beside.value(torch.zeros(1, 2, 5)).eq(0).all())


def stepped(weight: Tensor, batches: list[Tensor], goodness: AnyGoodness, eta: float) -> Learner:
    """A layer after a step on each batch."""
    spec = NetworkSpec(widths=(weight.shape[1],))
    learner = Learner(
        Network(spec, [weight.clone()]),
        SoftplusLoss(goodness=goodness, threshold=3.0),
        Sgd(lr=eta, scale_lr_by_width=False),
        epochs=1,
    )
    for x in batches:
        learner.step((0,), Pairs(x), 1)
    return learner


def test_steps_are_those_of_autograd_with_moments_as_constants() -> None:
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(2, 6, 7, generator=generator, dtype=torch.float64)
    batches = [torch.randn(2, 8, 7, generator=generator, dtype=torch.float64) for _ in range(3)]
    goodness, eta = Whitened(momentum=0.6, eps=1e-2), 0.1
    found = stepped(weight, batches, goodness, eta)
    seen: list[Tensor] = []
    for x in batches:
        leaf = weight.clone().requires_grad_()
        h = torch.relu(x @ leaf.mT)
        factors = slow_factors(seen, goodness) if seen else torch.ones(2, 6).double()
        excess = torch.einsum("rbn,rn->rb", h**2, factors) - 3.0
        loss = torch.nn.functional.softplus(-excess[:, :4]).mean(1)
        loss = loss + torch.nn.functional.softplus(excess[:, 4:]).mean(1)
        (slope,) = torch.autograd.grad(loss.sum(), leaf)
        seen.append(h.detach())
        weight = weight - eta * slope
    assert torch.allclose(found.network.weights[0], weight, rtol=1e-9)
    assert found.network.statistics[0] is found.states[0][STATISTICS]


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_the_weights_is_no_part_of_it(scale: float) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(1, 6, 7, generator=generator, dtype=torch.float64)
    x = torch.randn(1, 8, 7, generator=generator, dtype=torch.float64)
    values = []
    for c in (1.0, scale):
        learner = stepped(c * weight, [x], Whitened(), 1e-14)
        h = torch.relu(x @ learner.network.weights[0].mT)
        values.append(learner.network.goodness(0, Whitened()).value(h))
    assert torch.allclose(values[0], values[1], rtol=1e-10)
    # over the batch of the moments, the mean is the number of units that are ever active
    assert float(values[0].mean()) == pytest.approx(6, rel=1e-2)


@pytest.mark.parametrize(
    ("goodness", "degree"), [(SumSquares(), 2), (Whitened(), 2), (Kurtosis(), 0)]
)
def test_the_length_of_weights_goes_by_the_difference_of_goodness(
    goodness: AnyGoodness, degree: int
) -> None:
    """docs/theory.md, "The scale of the weights"."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(1, 6, 7, generator=generator, dtype=torch.float64)
    x = torch.randn(1, 8, 7, generator=generator, dtype=torch.float64)
    learner = stepped(weight, [x], goodness, 1e-14)
    learner.objective = Difference(goodness=goodness)
    weight = learner.network.weights[0]
    g = learner.network.goodness(0, goodness).value(torch.relu(x @ weight.mT))
    descent = learner.preview(0, Pairs(x), x @ weight.mT).direction
    along = float((weight * descent).sum())
    assert along == pytest.approx(degree * float(g[:, :4].mean() - g[:, 4:].mean()), abs=1e-9)
    if isinstance(goodness, Whitened):  # over the batch of its moments
        assert 0 < float(g.mean()) <= 6


def test_a_preview_changes_no_moment() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 8, 7, generator=generator)
    learner = stepped(torch.randn(1, 6, 7, generator=generator), [x], Whitened(), 0.1)
    before = learner.states[0][STATISTICS].clone()
    learner.preview(0, Pairs(x), x @ learner.network.weights[0].mT)
    assert torch.equal(learner.states[0][STATISTICS], before)
    other = learner.copy()
    other.step((0,), Pairs(x), 1)
    assert torch.equal(learner.states[0][STATISTICS], before)
    assert other.network.statistics[0] is other.states[0][STATISTICS]


def last_checkpoint(seeds: list[int]) -> Checkpoint:
    reports: list[EpochReport] = []
    ffengine.train(TrainSpec.model_validate({**SMALL, "seeds": seeds}), on_epoch=reports.append)
    return reports[-1].checkpoint


@pytest.mark.slow
def test_seeds_have_moments_of_their_own_which_a_checkpoint_keeps() -> None:
    together, alone = last_checkpoint([3, 8]), last_checkpoint([8])
    again = Checkpoint.from_bytes(together.to_bytes())
    for layer in (0, 1):
        kept, own = (one.states[layer][STATISTICS] for one in (together, alone))
        assert torch.equal(again.states[layer][STATISTICS], kept)
        assert torch.allclose(kept[1:], own, rtol=1e-4)  # as far as a batched product allows
        assert float(kept[0, -1]) > 0.9
        assert not torch.equal(kept[0], kept[1])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"select": "best_validation", "dataset": {"validation_samples": 20}}, "select"),
        ({"stop": {"patience": 1}, "dataset": {"validation_samples": 20}}, "stop"),
        ({"evaluation": {"baselines": ["ff_objective"]}}, "evaluation.baselines"),
    ],
)
def test_what_would_take_other_moments_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=rf"{field}: .*running moments"):
        TrainSpec.model_validate({**SMALL, **change})


def test_checks_and_forecasts_have_no_moments() -> None:
    with pytest.raises(ValidationError, match="before training it is sum_squares"):
        CheckSpec.model_validate({"goodness": "whitened"})
    with pytest.raises(ValidationError, match="no forecast is known"):
        ForecastSpec.model_validate({"objective": {"goodness": "whitened"}})


def test_a_file_of_weights_has_no_moments() -> None:
    spec = TrainSpec.model_validate({**SMALL, "seeds": [3]})
    weights = import_weights(export_weights(last_checkpoint([3]).weights_of(spec, 2)))
    with pytest.raises(ValueError, match="read the result of the training run"):
        evaluate_weights(weights)


def slow_matrix(batches: list[Tensor], goodness: Whitened) -> Tensor:
    """The inverse (R, n, n) after batches of activations (R, B, n), sample by sample."""
    count, (replicas, size, width) = len(batches), batches[0].shape
    weights = [goodness.momentum ** (count - 1 - number) for number in range(count)]
    found = []
    for replica in range(replicas):
        moments = torch.zeros(width, width, dtype=torch.float64)
        for weight, batch in zip(weights, batches, strict=True):
            for h in batch[replica]:
                moments = moments + weight * torch.outer(h, h).double() / size
        moments = moments / sum(weights)
        mean = moments.diagonal().mean()
        found.append((moments + goodness.eps * mean * torch.eye(width).double()).inverse())
    return torch.stack(found)


@settings(max_examples=examples(20), deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batches=st.integers(1, 4),
    width=st.integers(2, 9),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    eps=st.sampled_from([1e-3, 0.5]),
)
def test_by_all_pairs_value_and_pull_are_those_of_the_inverse_second_moments(
    seed: int, batches: int, width: int, momentum: float, eps: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    goodness = Whitened(momentum=momentum, eps=eps, diagonal=False)
    seen = [
        torch.randn(2, 5, width, generator=generator, dtype=torch.float64).relu()
        for _ in range(batches)
    ]
    statistics = goodness.new_statistics(torch.zeros(2, width, 3))
    for batch in seen:
        goodness.learning(statistics, batch)
    beside = goodness.beside(statistics)
    h = torch.randn(2, 4, width, generator=generator, dtype=torch.float64).relu()
    s = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    leaf = h.clone().requires_grad_()
    inverse = slow_matrix(seen, goodness)
    expected = torch.einsum("rbi,rij,rbj->rb", leaf, inverse, leaf)
    (slope,) = torch.autograd.grad((s * expected).sum(), leaf)
    value, saved = beside.value_and_saved(h)
    near = {"rtol": 1e-7, "atol": 1e-9 * float(inverse.abs().max())}
    assert torch.allclose(value, expected, **near)
    assert torch.allclose(beside.pull(h.clone(), value, s, saved), slope * (h != 0), **near)
    assert torch.allclose(beside.value(h.unsqueeze(2))[:, :, 0], value, rtol=1e-12)
    assert torch.allclose(goodness.beside(statistics[1:]).value(h[1:]), value[1:], rtol=1e-12)


def test_by_all_pairs_it_goes_by_no_linear_change_of_the_activations() -> None:
    """Over the batch of its moments the mean is n, whatever the units have in common."""
    generator = torch.Generator().manual_seed(6)
    h = torch.randn(1, 50, 6, generator=generator, dtype=torch.float64)
    for change in (torch.eye(6).double(), torch.randn(6, 6, generator=generator).double()):
        goodness = Whitened(eps=1e-6, diagonal=False)
        statistics = goodness.new_statistics(torch.zeros(1, 6, 3))
        goodness.learning(statistics, h @ change)
        value = goodness.beside(statistics).value(h @ change)
        assert float(value.mean()) == pytest.approx(6, rel=1e-3)


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("moments", ["constant", "batch"])
def test_steps_are_those_of_autograd_through_the_moments_or_not(
    diagonal: bool, moments: Any
) -> None:
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(2, 6, 7, generator=generator, dtype=torch.float64)
    batches = [torch.randn(2, 8, 7, generator=generator, dtype=torch.float64) for _ in range(3)]
    goodness, eta = Whitened(momentum=0.6, eps=1e-2, diagonal=diagonal, moments=moments), 0.1
    found = stepped(weight, batches, goodness, eta)
    seen: list[Tensor] = []
    for x in batches:
        leaf = weight.clone().requires_grad_()
        h = torch.relu(x @ leaf.mT)
        counted = [*seen, h] if moments == "batch" else seen
        inverse = _inverse(counted, goodness) if counted else torch.eye(6).double().expand(2, 6, 6)
        excess = torch.einsum("rbi,rij,rbj->rb", h, inverse, h) - 3.0
        loss = torch.nn.functional.softplus(-excess[:, :4]).mean(1)
        loss = loss + torch.nn.functional.softplus(excess[:, 4:]).mean(1)
        (slope,) = torch.autograd.grad(loss.sum(), leaf)
        seen.append(h.detach())
        weight = weight - eta * slope
    assert torch.allclose(found.network.weights[0], weight, rtol=1e-8)


def _inverse(batches: list[Tensor], goodness: Whitened) -> Tensor:
    """The same as `slow_matrix`, through which autograd sees; its diagonal alone where asked."""
    weights = [goodness.momentum ** (len(batches) - 1 - place) for place in range(len(batches))]
    moments = sum(
        weight * torch.einsum("rbi,rbj->rij", batch, batch) / batch.shape[1]
        for weight, batch in zip(weights, batches, strict=True)
    ) / sum(weights)
    assert isinstance(moments, Tensor)
    own = moments.diagonal(dim1=-2, dim2=-1)
    if goodness.diagonal:
        moments = torch.diag_embed(own)
    mean = own.mean(-1)[:, None, None]
    return torch.linalg.inv(moments + goodness.eps * mean * torch.eye(len(own[0])).double())


@pytest.mark.parametrize("diagonal", [True, False])
def test_through_the_moments_of_the_batch_alone_the_length_of_weights_stays(diagonal: bool) -> None:
    """docs/theory.md, "The scale of the weights": only eps and the momentum see the scale."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(1, 6, 7, generator=generator, dtype=torch.float64)
    x = torch.randn(1, 8, 7, generator=generator, dtype=torch.float64)
    goodness = Whitened(momentum=0, diagonal=diagonal, moments="batch")
    learner = stepped(weight, [x], goodness, 1e-14)
    weight = learner.network.weights[0]
    descent = learner.preview(0, Pairs(x), x @ weight.mT).direction
    assert float(descent.norm()) > 1e-3
    assert float((weight * descent).sum()) == pytest.approx(0, abs=1e-9)


def test_moments_of_pairs_are_counted_in_the_cost() -> None:
    facts = DATASETS["mnist-mini"]
    goodness = {"name": "whitened", "diagonal": False}
    base = {**SMALL, "network": {"widths": [500]}}
    less, more = (
        cost_of(TrainSpec.model_validate({**base, "objective": {"goodness": one}}), facts)
        for one in ("whitened", goodness)
    )
    assert more.flops > less.flops
    assert more.memory_bytes - less.memory_bytes >= 2 * 2 * 8 * 500**2
    assert more.disk.checkpoints - less.disk.checkpoints >= 2 * 8 * 500**2


def test_specs_of_before_keep_their_digests() -> None:
    document = {"objective": {"goodness": {"name": "whitened", "momentum": 0.5}}}
    text = TrainSpec.model_validate(document).model_dump_json()
    for one in ADDED_LATER:
        text = text.replace(one, "")
    assert '"goodness":{"name":"whitened","momentum":0.5,"eps":0.001}' in text


def test_by_all_pairs_a_silent_layer_is_finite_and_a_tiny_eps_refused() -> None:
    goodness = Whitened(diagonal=False)
    statistics = goodness.new_statistics(torch.zeros(1, 5, 3))
    goodness.learning(statistics, torch.zeros(1, 4, 5))
    h = torch.ones(1, 2, 5)
    assert goodness.beside(statistics).value(h).tolist() == [[5.0, 5.0]]
    half_silent = torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0]).expand(1, 4, 5)
    goodness.learning(statistics, half_silent)
    assert bool(goodness.beside(statistics).value(half_silent).isfinite().all())
    with pytest.raises(ValidationError, match=r"eps: at least 1e-06"):
        TrainSpec.model_validate(
            {"objective": {"goodness": {"name": "whitened", "eps": 1e-7, "diagonal": False}}}
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "goodness",
    [
        {"name": "whitened", "diagonal": False, "momentum": 0.5},
        {"name": "whitened", "diagonal": False, "moments": "batch"},
        {"name": "whitened", "moments": "batch"},
    ],
    ids=["all pairs", "all pairs, batch", "batch"],
)
def test_an_interrupted_run_goes_on_with_the_same_bits(goodness: dict[str, Any]) -> None:
    spec = TrainSpec.model_validate(
        {**SMALL, "objective": {"name": "softplus", "goodness": goodness}}
    )
    whole: list[EpochReport] = []
    ffengine.train(spec, on_epoch=whole.append)
    batches = 0

    def stop(_: object) -> Any:
        nonlocal batches
        batches += 1
        return "stop" if batches == 4 else "run"

    with pytest.raises(ffengine.Interrupted) as error:
        ffengine.train(spec, on_batch=stop)
    assert error.value.checkpoint is not None
    again: list[EpochReport] = []
    kept = Checkpoint.from_bytes(error.value.checkpoint.to_bytes())
    ffengine.train(spec, resume=kept, on_epoch=again.append)
    for one, other in zip(whole[-1].checkpoint.weights, again[-1].checkpoint.weights, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(whole[-1].checkpoint.states, again[-1].checkpoint.states, strict=True):
        assert torch.equal(one[STATISTICS], other[STATISTICS])
    assert whole[-1].rows == again[-1].rows
