"""Baselines, a linear classifier and lesions of layers of images, against torch in float64."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import ffengine
from ffengine.baseline_training import Stack
from ffengine.baselines import Baseline, Batch, CrossEntropy, DeepSupervision, GreedyCrossEntropy
from ffengine.checkpoint import Checkpoint
from ffengine.conv_network import ConvNetwork, network_of
from ffengine.cost import cost_of
from ffengine.datasets import DATASETS
from ffengine.evaluation import neutral_features
from ffengine.layer_kinds import ConvLayer, LayerPlan
from ffengine.random_streams import Draws
from ffengine.samples import load_samples
from ffengine.spec import TrainSpec
from ffengine.training import EpochReport
from tests.engine.interrupted import stopped_every

CPU = torch.device("cpu")
LAYERS: list[dict[str, Any]] = [
    {"kind": "conv", "channels": 10, "kernel": 3, "padding": 1},
    {"kind": "pool"},
    {"kind": "conv", "channels": 20, "kernel": 2},
    {"kind": "dense", "units": 10},
]
SPEC: dict[str, Any] = {
    "dataset": {
        "name": "digits",
        "train_samples": 60,
        "validation_samples": 20,
        "test_samples": 40,
    },
    "network": {"layers": LAYERS, "bias": True, "init": "torch", "normalize": "layer"},
    "objective": {"name": "class_block"},
    "optimizer": {"name": "adam", "lr": 0.01},
    "layers": "simultaneous",
    "epochs": 2,
    "batch_size": 20,
    "seeds": [5, 7],
    "monitor": {"samples": 20, "every_epochs": 2},
}
PLANS = TrainSpec.model_validate(SPEC).plans(DATASETS["digits"])


def spec_of(**changes: Any) -> TrainSpec:
    return TrainSpec.model_validate({**SPEC, **changes})


def scaled(x: Tensor, parts: int) -> Tensor:
    """Mean 0 and variance 1 within each of the parts of a sample."""
    pieces = x.reshape(len(x), parts, -1)
    mean = pieces.mean(-1, keepdim=True)
    spread = pieces.var(-1, correction=0, keepdim=True)
    still = spread <= 1e-10
    root = torch.where(still, 1.0, spread).sqrt()
    return torch.where(still, 0.0, (pieces - mean) / root).view_as(x)


def parts_of(how: str, plan: LayerPlan) -> int:
    return {"layer": 1, "instance": plan.received[0], "group": 10}[how]


def maps_of(weights: list[Tensor], x: Tensor, how: str, *, local: bool = False) -> list[Tensor]:
    """The map (B, C, H, W) of each layer, by torch's own layers; `local`: no gradient passes."""
    found, maps = [], x.view(len(x), *PLANS[0].below)
    for place, (plan, weight) in enumerate(zip(PLANS, weights, strict=True)):
        for pool in plan.pools:
            maps = functional.avg_pool2d(maps, pool.size)
        if place:
            maps = scaled(maps, parts_of(how, plan))
        kernels, bias = weight[:, :-1], weight[:, -1]
        if isinstance(plan.layer, ConvLayer):
            size = plan.layer.kernel
            shape = (plan.made[0], plan.received[0], size, size)
            h = functional.conv2d(maps, kernels.reshape(shape), bias, padding=plan.layer.padding)
        else:
            h = functional.linear(maps.flatten(1), kernels, bias)[..., None, None]
        found.append(h.relu())
        maps = found[-1].detach() if local else found[-1]
    return found


def readout_of(maps: Tensor, head: Tensor) -> Tensor:
    """The logits of a linear readout of the means of channels."""
    return scaled(maps.mean((2, 3)), 1) @ head.T


@pytest.mark.parametrize("how", ["layer", "instance"])
@pytest.mark.parametrize("baseline", [CrossEntropy(), GreedyCrossEntropy(), DeepSupervision()])
def test_steps_are_those_of_a_plain_network(baseline: Baseline, how: str) -> None:
    network = {**SPEC["network"], "normalize": how}
    optimizer = {"name": "sgd", "lr": 0.3, "scale_lr_by_width": False}
    spec = spec_of(network=network, optimizer=optimizer)
    train = load_samples(spec.dataset, CPU).train
    stack = Stack(baseline, spec, train, Draws(spec.seeds, CPU), PLANS)
    assert isinstance(stack.network, ConvNetwork)
    generator = torch.Generator().manual_seed(1)
    for head in stack.readouts.values():
        head.copy_(torch.randn(head.shape, generator=generator))
    stack.network.weights[0][:, 0] = 0
    stack.network.weights[0][:, 0, -1] = -1  # a dead channel, whose map is blank
    start = [one.clone() for one in stack.parameters]
    index = torch.stack([torch.arange(20), torch.arange(20, 40)])
    stages = baseline.stages(spec.stages)
    for stage in stages:
        stack.learn(Batch(index, stage, 1, 0))
    for replica in (0, 1):
        leaves = [one[replica].double().requires_grad_() for one in start]
        weights, heads = leaves[:3], dict(zip(stack.readouts, leaves[3:], strict=True))
        x = train.plain[index[replica]].double()
        local = not isinstance(baseline, CrossEntropy | DeepSupervision)
        maps = maps_of(weights, x, how, local=local)
        total = torch.zeros((), dtype=torch.float64)
        for layer, head in heads.items():
            logits = readout_of(maps[layer], head)
            total = total + functional.cross_entropy(logits, train.labels[index[replica]])
        gradients = torch.autograd.grad(total, leaves)
        for after, leaf, gradient in zip(stack.parameters, leaves, gradients, strict=True):
            wanted = leaf.detach() - 0.3 * gradient
            assert gradient.isfinite().all()
            torch.testing.assert_close(after[replica].double(), wanted, atol=2e-5, rtol=1e-4)
    assert len(stages) == 1


RIVALS: dict[str, Any] = {
    "baselines": [
        {"name": "cross_entropy", "rates": [0.01, 0.03], "select": "best_validation"},
        "greedy_cross_entropy",
        "deep_supervision",
    ],
    "linear_classifier": True,
    "linear_layers": "all",
    "lesions": {"shares": [0.25], "by": ["usage", "magnitude"], "where": ["network", "layer"]},
}


@pytest.fixture(scope="module")
def trained() -> tuple[ffengine.TrainResult, Checkpoint]:
    kept: list[Checkpoint] = []

    def keep_it(report: EpochReport) -> Any:
        kept.append(report.checkpoint)
        return "run"

    return ffengine.train(spec_of(evaluation=RIVALS), on_epoch=keep_it), kept[-1]


Trained = tuple[ffengine.TrainResult, Checkpoint]


def test_each_rival_has_rows_of_each_layer_and_count_channels(trained: Trained) -> None:
    result, _ = trained
    assert {(row.baseline, row.layer) for row in result.baselines} == {
        (name, layer)
        for name in ("cross_entropy", "greedy_cross_entropy", "deep_supervision")
        for layer in range(3)
    }
    for row in result.baselines:
        assert row.accuracy is not None
        assert row.dead_units is not None
        assert 0 <= row.dead_units < PLANS[row.layer].made[0]
    chosen = [row for row in result.baselines if row.baseline == "cross_entropy"]
    assert all(len(row.trials) == 2 for row in chosen)
    assert {row.baseline for row in result.lesions} == {
        None,
        *(r.baseline for r in result.baselines),
    }


@pytest.mark.slow
def test_a_run_with_rivals_that_is_interrupted_ends_with_the_same_bits(trained: Trained) -> None:
    resumed, stops = stopped_every(spec_of(evaluation=RIVALS), 7)
    assert stops >= 2
    assert resumed.model_dump(exclude={"provenance"}) == trained[0].model_dump(
        exclude={"provenance"}
    )


@pytest.mark.slow
def test_a_seed_beside_another_has_the_rivals_that_it_has_alone(trained: Trained) -> None:
    alone = ffengine.train(spec_of(evaluation=RIVALS, seeds=[7]))
    ours = [row for row in trained[0].baselines if row.seed == 7]
    assert [row.accuracy for row in ours] == [row.accuracy for row in alone.baselines]
    assert [row.dead_units for row in ours] == [row.dead_units for row in alone.baselines]


@pytest.mark.parametrize("how", ["none", "group"])
def test_a_linear_classifier_sees_the_means_of_channels(how: str) -> None:
    spec = spec_of(network={**SPEC["network"], "normalize": how}, seeds=[5])
    train = load_samples(spec.dataset, CPU).train
    stack = Stack(CrossEntropy(), spec, train, Draws(spec.seeds, CPU), PLANS)
    network = network_of(spec.network, PLANS, stack.network.weights, stack.network.exponents, ())
    found = neutral_features(network, spec, train, (0, 2))
    h = network.activations(train.plain.unsqueeze(0))
    expected = []
    for layer in (0, 2):
        means = torch.stack([one.mean(-1) for one in h[layer][0].chunk(PLANS[layer].made[0], 1)], 1)
        expected.append(scaled(means.double(), 1) if how == "group" else means.double())
    torch.testing.assert_close(found[0].double(), torch.cat(expected, 1), atol=1e-4, rtol=1e-4)


def slow_order(score: list[float]) -> list[int]:
    return sorted(range(len(score)), key=lambda number: (score[number], number))


def patches(plan: LayerPlan, maps: Tensor) -> Tensor:
    """What kernels see (B P, m), or what units of a dense layer see."""
    if not isinstance(plan.layer, ConvLayer):
        return maps.flatten(1)
    cut = functional.unfold(maps, plan.layer.kernel, padding=plan.layer.padding)
    return cut.mT.flatten(0, 1)


def received_of(weights: list[Tensor], x: Tensor) -> list[Tensor]:
    """What each layer receives, pooled and scaled."""
    found, maps = [], [x.view(len(x), *PLANS[0].below), *maps_of(weights, x, "layer")]
    for place, plan in enumerate(PLANS):
        seen = maps[place]
        for pool in plan.pools:
            seen = functional.avg_pool2d(seen, pool.size)
        found.append(scaled(seen, 1) if place else seen)
    return found


def lesioned_maps(
    weights: list[Tensor], x: Tensor, gone: dict[int, list[int]], *, units: bool
) -> list[Tensor]:
    """The maps without parts: silent channels are silent, and nothing above sees them."""
    if not units:
        left = []
        for layer, weight in enumerate(weights):
            flat = weight[:, :-1].clone().flatten()
            flat[gone.get(layer, [])] = 0
            left.append(torch.cat([flat.view(len(weight), -1), weight[:, -1:]], 1))
        return maps_of(left, x, "layer")
    found, maps = [], x.view(len(x), *PLANS[0].below)
    for place, (plan, weight) in enumerate(zip(PLANS, weights, strict=True)):
        for pool in plan.pools:
            maps = functional.avg_pool2d(maps, pool.size)
        if place:
            maps = scaled(maps, 1).clone()
            maps[:, gone.get(place - 1, [])] = 0  # after scaling, as weights of 0 have it
        columns = patches(plan, maps) @ weight[:, :-1].T + weight[:, -1]
        h = columns.view(len(x), -1, plan.made[0]).mT.reshape(len(x), *plan.made).relu()
        h[:, gone.get(place, [])] = 0
        found.append(h)
        maps = h
    return found


@pytest.mark.parametrize("removed", ["units", "weights"])
@pytest.mark.parametrize("by", ["usage", "magnitude"])
@pytest.mark.parametrize("where", [None, 1])
def test_lesions_leave_what_loops_leave(
    trained: Trained, removed: str, by: str, where: int | None
) -> None:
    result, last = trained
    weights = [weight[1].double() for weight in last.weights]
    partitions = load_samples(spec_of().dataset, CPU)
    train, test = partitions.train, partitions.test
    received = received_of(weights, train.plain.double())
    maps = maps_of(weights, train.plain.double(), "layer")
    gone, total = {}, 0
    for layer in range(3) if where is None else (where,):
        weight = weights[layer]
        if removed == "units":
            score = maps[layer].sum((0, 2, 3)) if by == "usage" else weight.norm(dim=1)
        else:
            drive = patches(PLANS[layer], received[layer]).abs().sum(0)
            score = (weight[:, :-1].abs() * (drive if by == "usage" else 1.0)).flatten()
        gone[layer] = slow_order(score.tolist())[: math.floor(0.25 * len(score) + 0.5)]
        total += len(score)
    left = lesioned_maps(weights, test.plain.double(), gone, units=removed == "units")
    logits = sum(
        torch.stack([block.mean((1, 2, 3)) for block in one.chunk(10, 1)], 1) for one in left
    )
    hits = int((torch.as_tensor(logits).argmax(1) == test.labels).sum())
    (row,) = (
        row
        for row in result.lesions
        if (row.seed, row.baseline, row.layer) == (7, None, where)
        and (row.removed, row.by, row.share) == (removed, by, 0.25)
    )
    assert abs(row.correct - hits) <= 1  # float32 against float64
    assert (row.lost, row.total) == (sum(map(len, gone.values())), total)


def test_rivals_cost_what_they_hold_and_compute() -> None:
    facts, plain, with_rivals = DATASETS["digits"], spec_of(), spec_of(evaluation=RIVALS)
    assert cost_of(with_rivals, facts).flops > 2 * cost_of(plain, facts).flops
    assert cost_of(with_rivals, facts).memory_bytes > cost_of(plain, facts).memory_bytes
