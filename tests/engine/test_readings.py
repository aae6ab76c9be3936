"""The readings of a map's sparsity, against float64 loops over samples and positions."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import ffengine
from ffengine.checkpoint import Checkpoint
from ffengine.datasets import DATASETS
from ffengine.layer_kinds import ConvLayer, LayerPlan
from ffengine.random_streams import Draws
from ffengine.results import EpochRow
from ffengine.samples import load_samples
from ffengine.spec import TrainSpec
from ffengine.training import EpochReport

CPU = torch.device("cpu")
SPEC: dict[str, Any] = {
    "dataset": {"name": "digits", "train_samples": 60, "test_samples": 20},
    "network": {
        "layers": [{"kind": "conv", "channels": 10, "kernel": 3, "padding": 1, "stride": 2}],
        "bias": True,
        "init": "torch",
    },
    "objective": {"name": "class_block", "power": 2},
    "optimizer": {"name": "sgd", "lr": 1e-3},
    "epochs": 1,
    "batch_size": 25,
    "seeds": [0, 3],
    "monitor": {"samples": 40, "measures": ["readings"]},
}
STEP = 1e-6


def at_initialisation(spec: TrainSpec) -> tuple[ffengine.TrainResult, Checkpoint]:
    seen: list[Checkpoint] = []

    def keep_it(report: EpochReport) -> Any:
        seen.append(report.checkpoint)
        return "run"

    return ffengine.train(spec, on_epoch=keep_it), seen[0]


def map_of(plan: LayerPlan, image: Tensor, weight: Tensor, sigma: Any) -> Tensor:
    """The map (C, P) of one image, position after position."""
    layer = plan.layer
    assert isinstance(layer, ConvLayer)
    edge, size = layer.padding, layer.kernel
    height, width = image.shape
    around = torch.zeros(height + 2 * edge, width + 2 * edge, dtype=torch.float64)
    around[edge : edge + height, edge : edge + width] = image
    found = []
    for row in range(plan.made[1]):
        for column in range(plan.made[2]):
            top, left = row * layer.stride, column * layer.stride
            patch = around[top : top + size, left : left + size].flatten()
            found.append(weight[:, :-1] @ patch + weight[:, -1])
    maps: Tensor = sigma(torch.stack(found, dim=1))
    return maps


def hoyer(v: Tensor) -> float:
    root = math.sqrt(len(v))
    return float((root - v.abs().sum() / v.norm()) / (root - 1))


def vectors(maps: Tensor, reading: str) -> Iterator[Tensor]:
    if reading == "position":
        yield from maps.T
    else:
        yield maps.flatten() if reading == "map" else maps.sum(1)


def shares(before: list[Tensor], after: list[Tensor], reading: str) -> tuple[float, float, float]:
    """How many live vectors grow sparser, their mean S, and the share of dead ones."""
    rising, live, dead, total = 0, 0, 0, 0.0
    for one, other in zip(before, after, strict=True):
        for v, moved in zip(vectors(one, reading), vectors(other, reading), strict=True):
            if not v.any():
                dead += 1
                continue
            live += 1
            total += hoyer(v)
            rising += hoyer(moved) > hoyer(v)
    return rising / live, total / live, dead / (dead + live)


def block_loss(maps: list[Tensor], labels: Tensor) -> Tensor:
    terms = []
    for one, label in zip(maps, labels.tolist(), strict=True):
        logits = torch.stack([block.square().mean() for block in one.chunk(10)])
        terms.append(torch.log(torch.exp(logits - logits[label]).sum()))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("activation", ["relu", pytest.param("tanh", marks=pytest.mark.slow)])
def test_columns_are_those_of_loops_over_samples_and_positions(activation: Any) -> None:
    spec = TrainSpec.model_validate(
        {**SPEC, "network": {**SPEC["network"], "activation": activation}}
    )
    sigma = {"relu": torch.relu, "tanh": torch.tanh}[activation]
    result, first = at_initialisation(spec)
    (plan,) = spec.plans(DATASETS["digits"])
    train = load_samples(spec.dataset, CPU).train
    chosen = Draws(spec.seeds, CPU).at("monitor").permutation(len(train))[:, :40]
    for replica, seed in enumerate(spec.seeds):
        row = next(one for one in result.curves if (one.seed, one.epoch) == (seed, 0))
        weight = first.weights[0][replica].double().requires_grad_()
        before, lowered, stepped = list[Tensor](), list[Tensor](), list[Tensor]()
        for index in chosen[replica].split(spec.batch_size):
            images = train.plain[index].double().view(-1, 8, 8)
            maps = [map_of(plan, image, weight, sigma) for image in images]
            squares = torch.stack([one.square().sum() for one in maps]).mean()
            loss = block_loss(maps, train.labels[index])
            before += [one.detach() for one in maps]
            for scalar, into in ((squares, lowered), (loss, stepped)):
                (slope,) = torch.autograd.grad(scalar, weight, retain_graph=True)
                after = weight.detach() - STEP * slope
                into += [map_of(plan, image, after, sigma) for image in images]
        close = {"position": 0.003, "map": 0.03, "pooled": 0.03}
        for reading, within in close.items():
            first_ratio, sparsity, dead = shares(before, lowered, reading)
            second_ratio, _, _ = shares(before, stepped, reading)
            name = "theorem2_ratio" if reading == "map" else f"theorem2_{reading}_ratio"
            assert getattr(row, f"theorem1_{reading}_ratio") == pytest.approx(
                first_ratio, abs=within
            )
            assert getattr(row, name) == pytest.approx(second_ratio, abs=within)
            of = "sparsity" if reading == "map" else f"{reading}_sparsity"
            assert getattr(row, of) == pytest.approx(sparsity, rel=1e-5)
            if reading == "position":
                assert row.dead_positions == pytest.approx(dead)


COLUMNS = [
    name
    for name in EpochRow.model_fields
    if "position" in name or "pooled" in name or name == "theorem1_map_ratio"
]


def test_nothing_is_measured_that_was_not_asked_for() -> None:
    without = TrainSpec.model_validate({**SPEC, "monitor": {"samples": 40}})
    asked, plain = (ffengine.train(one).curves for one in (TrainSpec.model_validate(SPEC), without))
    assert len(COLUMNS) == 8
    nulls = dict.fromkeys(COLUMNS)
    assert [row.model_copy(update=nulls) for row in asked] == [*plain]
    second = TrainSpec.model_validate(
        {**SPEC, "monitor": {"samples": 40, "measures": ["readings"], "theorems": [2]}}
    )
    for row in ffengine.train(second).curves:
        assert row.theorem1_map_ratio is row.theorem1_position_ratio is None
        assert row.theorem2_position_ratio is not None


def test_of_a_dense_layer_all_readings_are_one() -> None:
    layers = [{"kind": "dense", "units": 10}]
    spec = TrainSpec.model_validate({**SPEC, "network": {"layers": layers, "init": "torch"}})
    for row in ffengine.train(spec).curves:
        assert row.position_sparsity == pytest.approx(row.sparsity, rel=1e-6)
        assert row.pooled_sparsity == pytest.approx(row.sparsity, rel=1e-6)
        assert row.theorem2_position_ratio == row.theorem2_pooled_ratio == row.theorem2_ratio
        assert row.theorem1_position_ratio == row.theorem1_pooled_ratio == row.theorem1_map_ratio


def test_readings_without_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="readings are of maps"):
        TrainSpec.model_validate({"monitor": {"measures": ["readings"]}})


def test_a_step_that_is_rounding_alone_makes_no_reading_sparser() -> None:
    """At initialisation all classes have nearly the same logit here, and the pull cancels."""
    spec = TrainSpec.model_validate(
        {
            "network": {
                "layers": [
                    {"kind": "conv", "channels": 20, "kernel": 5, "padding": 2},
                    {"kind": "pool", "size": 2},
                    {"kind": "conv", "channels": 20},
                ],
                "bias": True,
                "init": "torch",
                "normalize": "group",
            },
            "objective": {"name": "channel_assignment"},
            "dataset": {"preprocess": "standardize", "train_samples": 100, "test_samples": 20},
            "layers": "simultaneous",
            "epochs": 1,
            "batch_size": 50,
            "monitor": {"samples": 50, "measures": ["readings"]},
        }
    )
    for row in (row for row in ffengine.train(spec).curves if row.epoch == 0):
        assert row.theorem2_undecided == 50
        assert row.theorem2_pooled_ratio is not None
        assert row.theorem2_pooled_ratio <= 0.1
        assert row.theorem2_position_ratio == 0
