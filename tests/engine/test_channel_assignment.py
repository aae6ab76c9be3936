"""Channels that learn their classes (CAW-Conv): pulls, penalties and steps against autograd."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ffengine
from ffengine.checkpoint import Checkpoint
from ffengine.class_updates import ClassLearner, new_heads
from ffengine.conv_network import ConvNetwork
from ffengine.cost import cost_of
from ffengine.datasets import DATASETS
from ffengine.layer_kinds import ConvLayer, DenseLayer, PoolLayer, plans_of
from ffengine.objectives import ChannelAssignment
from ffengine.optimizers import Sgd
from ffengine.pairs import LabelledBatch
from ffengine.random_streams import Draws
from ffengine.spec import NetworkSpec, TrainSpec
from ffengine.spec_versions import version_needed
from ffengine.training import EpochReport
from ffengine.weight_evaluation import evaluate_weights
from ffengine.weights import export_weights, import_weights
from tests.engine.interrupted import stopped_every
from tests.engine.reference import cross_entropy
from tests.examples import examples

CPU = torch.device("cpu")
STEEP = ChannelAssignment(
    temperature=0.7, entropy=0.3, orthogonality=40.0, mean=0.8, largest=0.5, smallest=-0.4
)
SMALL: dict[str, Any] = {
    "dataset": {
        "name": "digits",
        "train_samples": 60,
        "validation_samples": 20,
        "test_samples": 20,
    },
    "network": {
        "layers": [
            {"kind": "conv", "channels": 13, "kernel": 3},
            {"kind": "pool"},
            {"kind": "dense", "units": 11},
        ],
        "bias": True,
        "init": "torch",
        "normalize": "instance",
    },
    "objective": {"name": "channel_assignment", "temperature": 0.5},
    "optimizer": {"name": "adam", "lr": 0.02},
    "layers": "simultaneous",
    "epochs": 3,
    "batch_size": 25,
    "monitor": {"samples": 40, "accuracy": True, "measures": ["readings"]},
}


def spec_of(**changes: Any) -> TrainSpec:
    return TrainSpec.model_validate({**SMALL, **changes})


def slow_logits(one: ChannelAssignment, maps: Tensor, v: Tensor) -> Tensor:
    """Logits (B, C) of maps (B, n, P) with V (C, n), as the authors' program has them."""
    pooled = one.mean * maps.mean(2) + one.largest * maps.amax(2) + one.smallest * maps.amin(2)
    return pooled @ torch.softmax(v.T / one.temperature, dim=1)


def slow_penalty(one: ChannelAssignment, v: Tensor) -> Tensor:
    shares = torch.softmax(v.T / one.temperature, dim=1)
    classes, channels = v.shape
    entropy = -(shares * torch.log(shares + 1e-10)).sum(0).mean()
    unit = shares / shares.norm(dim=0, keepdim=True)
    gram = unit.T @ unit
    off = ((gram - torch.eye(classes, dtype=v.dtype)) ** 2).mean() / (classes**2 * channels)
    return one.entropy * entropy + one.orthogonality * off


@settings(deadline=None, max_examples=examples(20))
@given(
    classes=st.integers(2, 5),
    channels=st.integers(1, 9),
    positions=st.integers(1, 6),
    batch=st.integers(1, 6),
    ties=st.booleans(),
    seed=st.integers(0, 999),
)
def test_the_pull_is_the_gradient_of_loss_and_penalties(
    classes: int, channels: int, positions: int, batch: int, ties: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, batch, channels * positions)
    h = torch.randn(shape, generator=generator, dtype=torch.float64)
    if ties:
        h = h.clamp(-0.3, 0.3)
    labels = torch.randint(classes, (2, batch), generator=generator)
    v = torch.randn(2, classes, channels, generator=generator, dtype=torch.float64)
    pull = STEEP.pull(h.clone(), labels, classes, v, torch.bmm)
    logits, penalty = STEEP.logits(h, classes, v, torch.bmm), STEEP.penalty(v)
    assert pull.head is not None
    for replica in range(2):
        leaf, vectors = h[replica].clone().requires_grad_(), v[replica].clone().requires_grad_()
        expected = slow_logits(STEEP, leaf.view(batch, channels, positions), vectors)
        torch.testing.assert_close(logits[replica], expected.detach())
        extra = slow_penalty(STEEP, vectors)
        torch.testing.assert_close(penalty[replica], extra.detach())
        (cross_entropy(expected, labels[replica]) + extra).backward()
        assert leaf.grad is not None
        assert vectors.grad is not None
        torch.testing.assert_close(pull.activations[replica], -leaf.grad, atol=1e-12, rtol=1e-9)
        torch.testing.assert_close(pull.head[replica], -vectors.grad, atol=1e-12, rtol=1e-9)


@given(seed=st.integers(0, 99))
def test_slopes_of_any_sum_are_taken_back(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(1, 4, 12, generator=generator, dtype=torch.float64).requires_grad_()
    v = torch.randn(1, 3, 6, generator=generator, dtype=torch.float64).requires_grad_()
    slopes = torch.randn(1, 4, 3, generator=generator, dtype=torch.float64)
    logits = slow_logits(STEEP, h[0].view(4, 6, 2), v[0])
    (logits * slopes[0]).sum().backward()
    found = STEEP.back(h.detach(), logits.detach()[None], slopes, v.detach(), torch.bmm)
    assert h.grad is not None
    torch.testing.assert_close(found.activations, h.grad)
    torch.testing.assert_close(found.head, v.grad)


def test_channels_begin_with_all_classes_alike_and_kernels_wait_for_them() -> None:
    (v,) = new_heads(ChannelAssignment(), (8,), 3, Draws((4, 5)), CPU)
    assert v.shape == (2, 3, 8)
    assert not v.any()
    generator = torch.Generator().manual_seed(0)
    h = torch.rand(2, 7, 16, generator=generator)
    labels = torch.randint(3, (2, 7), generator=generator)
    pull = ChannelAssignment().pull(h, labels, 3, v, torch.bmm)
    assert not pull.activations.any()
    assert pull.head is not None
    assert pull.head.any()


@settings(deadline=None, max_examples=examples(6))
@given(dense=st.booleans(), activation=st.sampled_from(("relu", "tanh")), seed=st.integers(0, 99))
def test_joint_steps_are_those_of_autograd(dense: bool, activation: Any, seed: int) -> None:
    layers: tuple[ConvLayer | PoolLayer | DenseLayer, ...] = (
        ConvLayer(channels=5, kernel=2, padding=1),
        PoolLayer(of="max"),
        DenseLayer(units=4) if dense else ConvLayer(channels=4, kernel=2),
    )
    plans = plans_of(layers, (2, 5, 4), 3)
    spec = NetworkSpec(layers=layers, activation=activation, bias=True, init="torch")
    generator = torch.Generator().manual_seed(seed)
    weights = [
        torch.randn(2, plan.made[0], plan.inputs + 1, generator=generator).double()
        for plan in plans
    ]
    heads = [torch.randn(2, 3, plan.made[0], generator=generator).double() for plan in plans]
    exact = [one[1].clone().requires_grad_() for one in (*weights, *heads)]
    network = ConvNetwork(
        spec,
        [one.clone() for one in weights],
        heads=[one.clone() for one in heads],
        plans=plans,
    )
    optimizer = Sgd(lr=0.5, scale_lr_by_width=False)
    learner = ClassLearner(network, STEEP, optimizer, classes=3, epochs=1)
    x = torch.randn(2, 6, 40, generator=generator).double()
    labels = torch.randint(3, (2, 6), generator=generator)
    sigma = {"relu": torch.relu, "tanh": torch.tanh}[activation]
    maps, total = x[1].view(6, 2, 5, 4), torch.zeros((), dtype=torch.float64)
    for plan, weight, v in zip(plans, exact[:2], exact[2:], strict=True):
        if plan.pools:
            maps = torch.nn.functional.max_pool2d(maps, 2)
        if isinstance(plan.layer, ConvLayer):
            kernels = weight[:, :-1].view(plan.made[0], plan.received[0], 2, 2)
            z = torch.nn.functional.conv2d(maps, kernels, weight[:, -1], padding=plan.layer.padding)
        else:
            z = (maps.flatten(1) @ weight[:, :-1].T + weight[:, -1])[..., None, None]
        h = sigma(z)
        logits = slow_logits(STEEP, h.flatten(2), v)
        total = total + cross_entropy(logits, labels[1]) + slow_penalty(STEEP, v)
        maps = h.detach()
    total.backward()
    learner.step((0, 1), LabelledBatch(network.layer_input(0, x), labels), 1)
    for after, leaf in zip((*network.weights, *network.heads), exact, strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(after[1], leaf.detach() - 0.5 * leaf.grad)


def final_checkpoint(spec: TrainSpec) -> tuple[Checkpoint, ffengine.TrainResult]:
    kept: list[Checkpoint] = []

    def keep_it(report: EpochReport) -> Any:
        kept.append(report.checkpoint)
        return "run"

    result = ffengine.train(spec, on_epoch=keep_it)
    return kept[-1], result


def test_a_file_has_the_assignment_of_channels_and_its_accuracy() -> None:
    spec = spec_of(epochs=2)
    checkpoint, result = final_checkpoint(spec)
    read = Checkpoint.from_bytes(checkpoint.to_bytes())
    weights = import_weights(export_weights(read.without_states.weights_of(spec, 2)))
    assert [head.shape for head in weights.heads] == [(1, 10, 13), (1, 10, 11)]
    found = evaluate_weights(weights)
    assert found.accuracy == result.accuracy
    assert found.measures == result.measures


def test_an_interrupted_run_ends_with_the_same_bits() -> None:
    spec = spec_of(select="best_validation", stop={"patience": 1}, seeds=[0, 1])
    whole = ffengine.train(spec).model_dump(exclude={"provenance"})
    resumed, stops = stopped_every(spec, 3)
    assert stops >= 1
    assert resumed.model_dump(exclude={"provenance"}) == whole


def test_a_seed_beside_another_has_what_it_has_alone() -> None:
    at, both = final_checkpoint(spec_of(seeds=[3, 4]))
    for place, seed in enumerate((3, 4)):
        own, alone = final_checkpoint(spec_of(seeds=[seed]))
        for one, other in zip((*at.weights, *at.heads), (*own.weights, *own.heads), strict=True):
            torch.testing.assert_close(one[place], other[0], rtol=1e-4, atol=1e-6)
        assert [row for row in both.accuracy if row.seed == seed] == [*alone.accuracy]


@pytest.mark.slow
@pytest.mark.parametrize("layers", [None, SMALL["network"]["layers"]])
def test_classes_are_learnt(layers: Any) -> None:
    network = {"widths": [60], "init": "torch"} if layers is None else SMALL["network"]
    spec = spec_of(
        dataset={"name": "digits", "train_samples": 500, "test_samples": 200},
        network=network,
        epochs=15,
        monitor={"samples": 2, "every_epochs": 15},
    )
    found = ffengine.train(spec)
    best = max(row.accuracy for row in found.accuracy if row.partition == "test")
    assert best > 0.6


def test_it_goes_without_blocks_and_its_vectors_are_of_channels() -> None:
    spec = spec_of()
    facts = DATASETS["digits"]
    spec.refuse_misfit(facts)
    assert version_needed(spec) == 2
    grouped = {**SMALL["network"], "normalize": "group"}
    with pytest.raises(ValueError, match="13 are not 10 equal blocks"):
        spec_of(network=grouped)
    without = spec_of(
        objective={"name": "class_block"},
        network={
            **grouped,
            "layers": [
                {"kind": "conv", "channels": 20, "kernel": 3},
                {"kind": "dense", "units": 20},
            ],
        },
    )
    with_heads = without.model_copy(update={"objective": ChannelAssignment()})
    more = cost_of(with_heads, facts).flops - cost_of(without, facts).flops
    assert more > 0
    assert math.isfinite(more)
