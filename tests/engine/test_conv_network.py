"""Layers of images: maps, steps and rows against double loops and float64 autograd; whole runs."""

import io
import math
from itertools import product as combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ffengine
from ffengine.checkpoint import Checkpoint
from ffengine.class_updates import ClassLearner, class_logits
from ffengine.conv_network import ConvNetwork
from ffengine.datasets import DATASETS, Datasets
from ffengine.entry import SpecFieldError
from ffengine.layer_kinds import ConvLayer, DenseLayer, LayerPlan, PoolLayer, plans_of
from ffengine.network import ALIKE
from ffengine.objectives import ClassBlock
from ffengine.optimizers import Sgd
from ffengine.pairs import LabelledBatch
from ffengine.random_streams import Draws
from ffengine.samples import load_samples
from ffengine.spec import CheckSpec, NetworkSpec, TrainSpec, as_document, digest
from ffengine.training import EpochReport
from ffengine.uploaded_weights import BadWeights, Description, WeightUploads
from ffengine.weight_evaluation import evaluate_weights
from ffengine.weights import export_weights, import_weights
from tests.engine.interrupted import stopped_every
from tests.engine.reference import cross_entropy
from tests.examples import examples

CPU = torch.device("cpu")
LAYERS: list[dict[str, Any]] = [
    {"kind": "conv", "channels": 20, "kernel": 3},
    {"kind": "pool"},
    {"kind": "conv", "channels": 10, "kernel": 2, "padding": 1},
    {"kind": "dense", "units": 10},
]
SMALL: dict[str, Any] = {
    "dataset": {
        "name": "digits",
        "train_samples": 60,
        "validation_samples": 20,
        "test_samples": 20,
    },
    "network": {"layers": LAYERS, "bias": True, "init": "torch", "normalize": "group"},
    "objective": {"name": "class_block", "power": 2},
    "optimizer": {"name": "adam", "lr": 0.02},
    "layers": "simultaneous",
    "epochs": 2,
    "batch_size": 25,
    "monitor": {"samples": 40, "accuracy": True},
}


def spec_of(**changes: Any) -> TrainSpec:
    return TrainSpec.model_validate({**SMALL, **changes})


def slow_z(plan: LayerPlan, maps: Tensor, weight: Tensor, *, bias: bool) -> Tensor:
    """The map (B, C, H, W) of a layer from maps (B, C', H', W'), position by position."""
    layer = plan.layer
    added = weight[:, -1] if bias else torch.zeros(len(weight), dtype=weight.dtype)
    kernels = weight[:, : plan.inputs]
    if isinstance(layer, DenseLayer):
        return (maps.flatten(1) @ kernels.T + added)[..., None, None]
    zeros = torch.zeros(
        *maps.shape[:2], *(side + 2 * layer.padding for side in maps.shape[2:]), dtype=maps.dtype
    )
    at = slice(layer.padding, -layer.padding or None)
    zeros[:, :, at, at] = maps
    rows = []
    for row in range(plan.made[1]):
        found = []
        for column in range(plan.made[2]):
            top, left = row * layer.stride, column * layer.stride
            patch = zeros[:, :, top : top + layer.kernel, left : left + layer.kernel]
            found.append(patch.flatten(1) @ kernels.T + added)
        rows.append(torch.stack(found, dim=-1))
    return torch.stack(rows, dim=-2)


def slow_pooled(plan: LayerPlan, maps: Tensor) -> Tensor:
    for pool in plan.pools:
        pieces = maps.unfold(2, pool.size, pool.size).unfold(3, pool.size, pool.size)
        maps = pieces.mean((-1, -2)) if pool.of == "mean" else pieces.amax((-1, -2))
    return maps


def slow_normalized(maps: Tensor, how: str, classes: int) -> Tensor:
    """Mean 0 and variance 1 within the parts of each map, part by part."""
    if how == "none":
        return maps
    parts = {"group": classes, "instance": maps.shape[1], "layer": 1}[how]
    found = []
    for part in maps.chunk(parts, dim=1):
        mean = part.mean((1, 2, 3), keepdim=True)
        spread = part.var((1, 2, 3), correction=0, keepdim=True).sqrt()
        found.append(torch.where(spread > ALIKE * mean.abs(), (part - mean) / spread, 0.0))
    return torch.cat(found, dim=1)


def slow_logits(maps: Tensor, classes: int, power: int) -> Tensor:
    """The mean of each class's channels at all positions (B, C)."""
    return torch.stack(
        [block.pow(power).mean((1, 2, 3)) for block in maps.chunk(classes, dim=1)], dim=1
    )


@settings(deadline=None, max_examples=examples(8))
@given(
    classes=st.integers(2, 3),
    power=st.sampled_from((1, 2)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    pool=st.sampled_from(("none", "mean", "max")),
    dense=st.booleans(),
    bias=st.booleans(),
    activation=st.sampled_from(("relu", "tanh")),
    normalize=st.sampled_from(("none", "layer", "group", "instance")),
    seed=st.integers(0, 99),
)
def test_a_joint_step_is_that_of_double_loops_and_autograd(
    classes: int,
    power: Any,
    kernel: int,
    stride: int,
    padding: int,
    pool: Any,
    dense: bool,
    bias: bool,
    activation: Any,
    normalize: Any,
    seed: int,
) -> None:
    layers: list[ConvLayer | PoolLayer | DenseLayer] = [
        ConvLayer(
            channels=2 * classes, kernel=kernel, stride=stride, padding=min(padding, kernel - 1)
        )
    ]
    plans = plans_of(layers, (2, 6, 5), classes)
    if pool != "none" and min(plans[-1].made[1:]) > 1:
        layers.append(PoolLayer(of=pool))
    layers.append(
        DenseLayer(units=2 * classes) if dense else ConvLayer(channels=classes, kernel=1, padding=0)
    )
    spec = NetworkSpec(
        layers=tuple(layers), activation=activation, normalize=normalize, bias=bias, init="torch"
    )
    plans = plans_of(layers, (2, 6, 5), classes)
    generator = torch.Generator().manual_seed(seed)
    weights = [
        torch.randn(2, plan.made[0], plan.inputs + bias, generator=generator).double() / 2
        for plan in plans
    ]
    exact = [weight[1].clone().requires_grad_() for weight in weights]
    network = ConvNetwork(spec, [weight.clone() for weight in weights], plans=plans)
    optimizer = Sgd(lr=0.5, scale_lr_by_width=False)
    learner = ClassLearner(network, ClassBlock(power=power), optimizer, classes=classes, epochs=1)
    x = torch.randn(2, 4, 60, generator=generator).double()
    labels = torch.randint(classes, (2, 4), generator=generator)
    logits = class_logits(network, ClassBlock(power=power), x, classes)[1]
    sigma = {"relu": torch.relu, "tanh": torch.tanh}[activation]
    maps, total = x[1].view(4, 2, 6, 5), torch.zeros((), dtype=torch.float64)
    for place, (plan, weight) in enumerate(zip(plans, exact, strict=True)):
        maps = slow_pooled(plan, maps)
        maps = slow_normalized(maps, normalize if place else "none", classes)
        h = sigma(slow_z(plan, maps, weight, bias=bias))
        assert h.shape[1:] == plan.made
        own = slow_logits(h, classes, power)
        torch.testing.assert_close(logits[place], own.detach())
        total = total + cross_entropy(own, labels[1])
        maps = h.detach()
    total.backward()
    learner.step((0, 1), LabelledBatch(network.layer_input(0, x), labels), 1)
    for after, weight in zip(network.weights, exact, strict=True):
        assert weight.grad is not None
        expected = weight.detach() - 0.5 * weight.grad
        torch.testing.assert_close(after[1], expected)


def test_positions_and_what_is_seen_there_follow_the_map() -> None:
    layer = ConvLayer(channels=4, kernel=2, stride=2, padding=1)
    (plan,) = plans_of([layer], (2, 3, 4), 2)
    spec = NetworkSpec(layers=(layer,), bias=True)
    generator = torch.Generator().manual_seed(0)
    network = ConvNetwork(spec, [torch.randn(2, 4, 9, generator=generator)], plans=(plan,))
    x = torch.randn(2, 3, 24, generator=generator)
    x[0, 0] = 0
    z = network.pre_activation(0, x)
    by_position, seen = network.by_position(0, z), network.seen_lengths(0, x)
    for replica, sample in combinations(range(2), range(3)):
        maps = torch.zeros(2, 5, 6)
        maps[:, 1:4, 1:5] = x[replica, sample].view(2, 3, 4)
        for place, (row, column) in enumerate(combinations(range(2), range(3))):
            patch = maps[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten()
            patch = torch.cat([patch, torch.ones(1)])
            at = sample * 6 + place
            assert float(seen[replica, at]) == pytest.approx(float(patch.norm()), rel=1e-5)
            torch.testing.assert_close(
                by_position[replica, at], network.weights[0][replica] @ patch, atol=1e-5, rtol=1e-4
            )
    pooled = network.pooled(0, z)
    torch.testing.assert_close(pooled, z.view(2, 3, 4, 6).mean(-1))


def final_checkpoint(spec: TrainSpec) -> tuple[Checkpoint, ffengine.TrainResult]:
    kept: list[Checkpoint] = []

    def keep_it(report: EpochReport) -> Any:
        kept.append(report.checkpoint)
        return "run"

    result = ffengine.train(spec, on_epoch=keep_it)
    return kept[-1], result


CASES = [
    pytest.param("simultaneous", "group"),
    pytest.param("greedy", "instance", marks=pytest.mark.slow),
    pytest.param("greedy", "none", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("layers", "normalize"), CASES)
def test_a_seed_beside_another_has_what_it_has_alone(layers: str, normalize: str) -> None:
    network = {**SMALL["network"], "normalize": normalize, "layers": LAYERS[:3]}
    changes = {"layers": layers, "network": network}
    at, both = final_checkpoint(spec_of(seeds=[3, 4], **changes))
    for place, seed in enumerate((3, 4)):
        own, alone = final_checkpoint(spec_of(seeds=[seed], **changes))
        for one, other in zip(at.weights, own.weights, strict=True):
            torch.testing.assert_close(one[place], other[0], rtol=1e-4, atol=1e-6)
        rows = [row for row in both.accuracy if row.seed == seed]
        assert rows == [*alone.accuracy]


@pytest.mark.parametrize(("layers", "normalize"), CASES)
def test_an_interrupted_run_ends_with_the_same_bits(layers: str, normalize: str) -> None:
    network = {**SMALL["network"], "normalize": normalize, "layers": LAYERS[:3]}
    spec = spec_of(
        layers=layers,
        network=network,
        select="best_validation",
        stop={"patience": 1},
        seeds=[0, 1],
    )
    whole = ffengine.train(spec).model_dump(exclude={"provenance"})
    resumed, stops = stopped_every(spec, 3)
    assert stops >= 1
    assert resumed.model_dump(exclude={"provenance"}) == whole


def test_a_file_of_weights_has_the_kernels_and_their_accuracy() -> None:
    spec = spec_of(epochs=1)
    checkpoint, result = final_checkpoint(spec)
    read = Checkpoint.from_bytes(checkpoint.to_bytes())
    weights = import_weights(export_weights(read.without_states.weights_of(spec, 1)))
    assert [layer.shape for layer in weights.layers] == [(1, 20, 10), (1, 10, 81), (1, 10, 161)]
    found = evaluate_weights(weights)
    assert found.accuracy == result.accuracy
    assert found.measures == result.measures


def test_a_file_whose_kernels_do_not_fit_is_refused(tmp_path: Path) -> None:
    spec = spec_of(epochs=1)
    checkpoint, _ = final_checkpoint(spec)
    whole = checkpoint.weights_of(spec, 1)
    with pytest.raises(BadWeights, match="fully connected"):
        WeightUploads(Datasets(tmp_path)).keep(
            "mine", io.BytesIO(export_weights(whole)), Description()
        )
    layers = list(whole.layers)
    layers[0] = torch.zeros(1, 20, 28).numpy()  # of three colours
    colours = import_weights(export_weights(type(whole)(spec, 1, tuple(layers))))
    with pytest.raises(ValueError, match=r"layer 0 is \(20, 28\)"):
        evaluate_weights(colours)
    for layer, shape in ((0, (1, 20, 9)), (1, (1, 10, 80)), (2, (1, 10, 158))):
        layers = list(whole.layers)
        layers[layer] = torch.zeros(shape).numpy()
        with pytest.raises(ValueError, match=f"layer {layer} is"):
            import_weights(export_weights(type(whole)(spec, 1, tuple(layers))))


def test_rows_are_those_of_the_whole_map_along_the_true_step() -> None:
    network = {**SMALL["network"], "layers": LAYERS[:1]}
    spec = spec_of(network=network, epochs=1, optimizer={"name": "sgd", "lr": 1e-3})
    seen: list[Checkpoint] = []

    def keep_it(report: EpochReport) -> Any:
        seen.append(report.checkpoint)
        return "run"

    result = ffengine.train(spec, on_epoch=keep_it)
    row, weight = result.curves[0], seen[0].weights[0][0].double().requires_grad_()
    (plan,) = spec.plans(DATASETS["digits"])
    train = load_samples(spec.dataset, CPU).train
    chosen = Draws(spec.seeds, CPU).at("monitor").permutation(len(train))[0, :40]
    rising, losses, sparsities, alive = 0, 0.0, 0.0, torch.zeros(20, dtype=torch.bool)
    for index in chosen.split(spec.batch_size):
        maps = train.plain[index].double().view(-1, 1, 8, 8)
        h = torch.relu(slow_z(plan, maps, weight, bias=True))
        loss = cross_entropy(slow_logits(h, 10, 2), train.labels[index])
        (slope,) = torch.autograd.grad(loss, weight)
        before, after = (
            hoyer(torch.relu(slow_z(plan, maps, weight - t * slope, bias=True)).flatten(1))
            for t in (0.0, 1e-6)
        )
        rising += int((after > before).sum())
        losses += float(loss.detach()) * len(index)
        sparsities += float(before.sum())
        alive |= (h > 0).any((0, 2, 3))
    assert row.loss == pytest.approx(losses / 40, rel=1e-5)
    assert row.sparsity == pytest.approx(sparsities / 40, rel=1e-5)
    assert row.theorem2_ratio == pytest.approx(rising / 40, abs=0.03)
    assert row.dead_units == int((~alive).sum())
    assert row.goodness is row.theorem1_ratio is row.theorem2_total_ratio is None


def hoyer(h: Tensor) -> Tensor:
    root = math.sqrt(h.shape[-1])
    found: Tensor = (root - h.abs().sum(-1) / h.norm(dim=-1)).div(root - 1).detach()
    return found


def test_classes_are_learnt() -> None:
    spec = spec_of(
        dataset={"name": "digits", "train_samples": 300, "test_samples": 100},
        network={**SMALL["network"], "layers": [*LAYERS[:2], {"kind": "dense", "units": 50}]},
        epochs=4,
        monitor={"samples": 2, "every_epochs": 4},
    )
    found = ffengine.train(spec)
    best = max(row.accuracy for row in found.accuracy if row.partition == "test")
    assert best > 0.6


def test_usage_and_selectivity_count_channels() -> None:
    spec = spec_of(evaluation={"usage": True, "selectivity": True}, epochs=1)
    reports: list[EpochReport] = []
    found = ffengine.train(spec, on_epoch=reports.append)  # type: ignore[arg-type]
    assert [row.units for row in found.usage if row.partition == "test"] == [20, 10, 10]
    plans = spec.plans(DATASETS["digits"])
    samples = load_samples(spec.dataset, CPU).test
    weight = reports[-1].checkpoint.weights[0][0]
    maps = slow_z(plans[0], samples.plain.reshape(-1, *plans[0].received), weight, bias=True)
    channels = maps.relu().mean((-1, -2))
    (row,) = (row for row in found.usage if (row.layer, row.partition) == (0, "test"))
    assert row.dead_units == int((channels == 0).all(0).sum())
    means = channels.mean(0)
    assert row.used_units == int((means > 0.01 * means.max()).sum())
    assert row.population_sparsity == pytest.approx(float(hoyer(channels).mean()), rel=1e-4)
    assert {row.inputs for row in found.selectivity} == {"plain"}


def test_a_document_names_layers_alone_and_old_digests_stay() -> None:
    spec = spec_of()
    document: Any = as_document(spec)
    assert "widths" not in document["network"]
    assert TrainSpec.model_validate(document) == spec
    assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec
    assert "widths" not in spec.model_dump()["network"]
    assert spec.network.widths == (20, 10, 10)
    beside: Any = {**document, "network": {**document["network"], "widths": [500]}}
    assert TrainSpec.model_validate(beside) == spec  # as a form with every field sends it
    assert digest(NetworkSpec(layers=())) == digest(NetworkSpec())
    assert digest(TrainSpec.model_validate(document)) == digest(spec)
    other = spec_of(network={**SMALL["network"], "layers": LAYERS[:3]})
    assert digest(other) != digest(spec)


CONV = {"kind": "conv", "channels": 10, "kernel": 3}
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"network": {"layers": [CONV], "widths": [20]}}, "widths", "either widths or layers"),
    ({"network": {"widths": [20], "normalize": "group"}}, "normalize", "of maps"),
    ({"network": {"layers": [CONV], "normalize": "halves"}}, "normalize", "no halves"),
    (
        {"network": {"layers": [CONV, LAYERS[3], LAYERS[3]], "normalize": "instance"}},
        "normalize",
        "each unit of a dense layer 0",
    ),
    ({"network": {"layers": [CONV, LAYERS[1]]}}, "layers.1", "last pool"),
    ({"network": {"layers": [LAYERS[3], CONV]}}, "layers.1", "needs a map"),
    ({"network": {"layers": [{**CONV, "padding": 3}]}}, "layers.0.padding", "at most 2"),
    ({"network": {"layers": [{**CONV, "channels": 15}]}}, "layers.0.channels", "multiple of 10"),
    ({"network": {"layers": [{"kind": "dense", "units": 11}]}}, "layers.0.units", "multiple of"),
    (
        {"network": {"layers": [CONV, {"kind": "pool", "size": 3}, CONV]}},
        "layers.2.kernel",
        "10 x 2 x 2",
    ),
    ({"network": {"layers": [CONV, {"kind": "pool", "size": 7}, CONV]}}, "layers.1.size", "10 x 6"),
    ({"network": {"layers": [{**CONV, "channels": 60_000, "padding": 2}] * 2}}, "layers.0", "more"),
    ({"objective": {"name": "mono_forward"}}, "objective", "class_block"),
    (
        {"objective": {"name": "difference"}, "negatives": {"strategy": "wrong_label"}},
        "objective",
        "class_block",
    ),
    ({"precision": "bf16"}, "precision", "float32"),
]


@pytest.mark.parametrize(("changes", "field", "message"), REFUSED)
def test_what_layers_cannot_do_is_refused_where_it_stands(
    changes: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as found:
        spec_of(**changes)
    errors: Any = found.value
    cause = errors.errors()[0]["ctx"]["error"]
    assert isinstance(cause, SpecFieldError)
    assert ".".join(cause.path).endswith(field)


def test_rows_of_numbers_are_no_images() -> None:
    facts = DATASETS["digits"]._replace(name="table", shape=(1, 1, 64))
    with pytest.raises(SpecFieldError, match="no images"):
        spec_of().refuse_misfit(facts)


def test_channels_that_stand_last_are_refused() -> None:
    facts = DATASETS["digits"]._replace(name="mine", shape=(9, 7, 3))
    with pytest.raises(SpecFieldError, match=r"channels stand last; store x as \(N, 3, 9, 7\)$"):
        spec_of().refuse_misfit(facts)


def test_a_check_of_a_convolution_is_refused() -> None:
    check = CheckSpec.model_validate({"at": {"job": "job_" + "0" * 32, "layer": 0, "epoch": 1}})
    with pytest.raises(SpecFieldError, match="fully connected"):
        check.refuse_misfit(spec_of(), Datasets.of_environment())
