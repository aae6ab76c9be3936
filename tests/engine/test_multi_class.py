"""Objectives over classes: pulls and steps against float64 autograd, and whole runs."""

import math
from itertools import product as combinations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ffengine
from ffengine.checkpoint import Checkpoint
from ffengine.class_updates import ClassLearner, class_logits, new_heads
from ffengine.cost import cost_of
from ffengine.datasets import DATASETS, Datasets
from ffengine.entry import SpecFieldError
from ffengine.network import Network
from ffengine.objectives import (
    ClassBlock,
    MonoForward,
    MultiClass,
    Prototypes,
    class_blocks,
)
from ffengine.optimizers import Adam, AnyOptimizer, Momentum, Sgd
from ffengine.pairs import LabelledBatch
from ffengine.random_streams import Draws
from ffengine.samples import load_samples
from ffengine.spec import CheckSpec, ForecastSpec, NetworkSpec, StudySpec, TrainSpec
from ffengine.study import expand
from ffengine.training import EpochReport
from ffengine.weight_evaluation import evaluate_weights
from ffengine.weights import export_weights, import_weights
from tests.engine.interrupted import stopped_every
from tests.engine.reference import cross_entropy
from tests.examples import examples

CPU = torch.device("cpu")
OBJECTIVES: dict[str, dict[str, Any]] = {
    "mono_forward": {"name": "mono_forward"},
    "activations": {"name": "class_block", "power": 1},
    "squares": {"name": "class_block", "power": 2},
    "prototypes": {"name": "prototypes", "temperature": 0.3},
}
BUILT: dict[str, MultiClass] = {
    "mono_forward": MonoForward(),
    "activations": ClassBlock(power=1),
    "squares": ClassBlock(power=2),
    "prototypes": Prototypes(temperature=0.3),
}
SMALL: dict[str, Any] = {
    "dataset": {"train_samples": 60, "validation_samples": 30, "test_samples": 20},
    "network": {"widths": [13, 11], "bias": True, "init": "torch"},
    "optimizer": {"name": "adam", "lr": 0.02},
    "epochs": 3,
    "batch_size": 25,
    "monitor": {"samples": 40, "accuracy": True, "measures": ["gini"]},
}


def spec_of(name: str, **changes: Any) -> TrainSpec:
    return TrainSpec.model_validate({**SMALL, "objective": OBJECTIVES[name], **changes})


def slow_logits(name: str, h: Tensor, classes: int, head: Tensor | None) -> Tensor:
    """Logits (B, C) of activations (B, n), class by class."""
    if name == "mono_forward":
        assert head is not None
        return torch.stack([(h * vector).sum(-1) for vector in head], dim=-1)
    if name == "prototypes":
        assert head is not None
        norms = h.norm(dim=-1)
        safe = torch.where(norms > 0, norms, 1.0)
        return torch.stack([h @ one / (safe * one.norm()) / 0.3 for one in head], dim=-1)
    raised, found, start = (h if name == "activations" else h * h), [], 0
    for label in range(classes):
        size = h.shape[-1] // classes + (label < h.shape[-1] % classes)
        found.append(raised[:, start : start + size].sum(-1) / size)
        start += size
    return torch.stack(found, dim=-1)


@settings(deadline=None, max_examples=examples(20))
@given(
    name=st.sampled_from(sorted(OBJECTIVES)),
    classes=st.integers(2, 5),
    more=st.integers(0, 9),
    batch=st.integers(1, 6),
    dead=st.booleans(),
    seed=st.integers(0, 999),
)
def test_the_pull_is_the_gradient_of_the_cross_entropy(
    name: str, classes: int, more: int, batch: int, dead: bool, seed: int
) -> None:
    generator, width, objective = torch.Generator().manual_seed(seed), classes + more, BUILT[name]
    h = torch.randn(2, batch, width, generator=generator, dtype=torch.float64)
    if dead:
        h[0, 0] = 0
    labels = torch.randint(classes, (2, batch), generator=generator)
    head = torch.randn(2, classes, width, generator=generator, dtype=torch.float64)
    given_head = head if objective.has_head else None
    pull = objective.pull(h.clone(), labels, classes, given_head, torch.bmm)
    logits = objective.logits(h, classes, given_head, torch.bmm)
    for replica in range(2):
        leaf = h[replica].clone().requires_grad_()
        vectors = head[replica].clone().requires_grad_()
        expected = slow_logits(name, leaf, classes, vectors)
        torch.testing.assert_close(logits[replica], expected.detach())
        own = objective.losses(logits, labels)[replica].mean()
        loss = cross_entropy(expected, labels[replica])
        torch.testing.assert_close(own, loss.detach())
        loss.backward()
        assert leaf.grad is not None
        of_h = -leaf.grad
        if dead and name == "prototypes" and replica == 0:
            of_h[0] = 0  # the angle of a dead sample is undefined
        torch.testing.assert_close(pull.activations[replica], of_h, atol=1e-12, rtol=1e-9)
        if objective.has_head:
            assert pull.head is not None
            assert vectors.grad is not None
            torch.testing.assert_close(pull.head[replica], -vectors.grad, atol=1e-12, rtol=1e-9)
        else:
            assert pull.head is None


@given(classes=st.integers(1, 20), more=st.integers(0, 50))
def test_each_class_has_a_block_and_sizes_differ_by_one_at_most(classes: int, more: int) -> None:
    width = classes + more
    blocks = class_blocks(width, classes)
    units = [unit for block in blocks for unit in range(block.start, block.stop)]
    assert len(blocks) == classes
    assert units == list(range(width))
    sizes = [block.stop - block.start for block in blocks]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[-1] <= 1


def torch_optimizer(one: AnyOptimizer, tensors: list[Tensor]) -> torch.optim.Optimizer:
    if isinstance(one, Adam):
        return torch.optim.Adam(tensors, lr=one.lr)
    return torch.optim.SGD(tensors, lr=one.lr, momentum=getattr(one, "momentum", 0.0))


@settings(deadline=None, max_examples=examples(8))
@given(
    name=st.sampled_from(sorted(OBJECTIVES)),
    optimizer=st.sampled_from(
        (
            Sgd(lr=0.2, scale_lr_by_width=False),
            Momentum(lr=0.1, scale_lr_by_width=False),
            Adam(lr=0.01),
        )
    ),
    activation=st.sampled_from(("relu", "tanh")),
    normalize=st.sampled_from(("none", "l2", "layer")),
    seed=st.integers(0, 99),
)
def test_joint_steps_are_those_of_autograd_with_gradients_that_stay_in_their_layer(
    name: str, optimizer: AnyOptimizer, activation: Any, normalize: Any, seed: int
) -> None:
    spec = NetworkSpec(
        widths=(9, 7), activation=activation, normalize=normalize, bias=True, init="torch"
    )
    objective, draws = BUILT[name], Draws((seed, seed + 1), CPU)
    network = Network.initial(spec, 6, draws, CPU)
    network.heads = new_heads(objective, spec.widths, 3, draws, CPU)
    weights = [weight[1].double().requires_grad_() for weight in network.weights]
    heads = [head[1].double().requires_grad_() for head in network.heads]
    other = torch_optimizer(optimizer, [*weights, *heads])
    learner = ClassLearner(network, objective, optimizer, classes=3, epochs=1)
    sigma = {"relu": torch.relu, "tanh": torch.tanh}[activation]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(2):
        x = torch.randn(2, 8, 6, generator=generator)
        labels = torch.randint(3, (2, 8), generator=generator)
        learner.step((0, 1), LabelledBatch(network.layer_input(0, x), labels), 1)
        other.zero_grad()
        received, total = x[1].double(), torch.zeros((), dtype=torch.float64)
        for layer, weight in enumerate(weights):
            ones = torch.ones(8, 1, dtype=torch.float64)
            h = sigma(torch.cat([received, ones], dim=1) @ weight.T)
            head = heads[layer] if heads else None
            total = total + cross_entropy(slow_logits(name, h, 3, head), labels[1])
            received = h.detach()
            if normalize == "l2":
                received = received / received.norm(dim=-1, keepdim=True).clamp_min(1e-12)
            elif normalize == "layer":
                received = torch.nn.functional.layer_norm(received, received.shape[-1:], eps=1e-24)
        total.backward()
        other.step()
        if name == "prototypes":
            with torch.no_grad():
                for vectors in heads:
                    vectors.div_(vectors.norm(dim=-1, keepdim=True))
    for layer in range(2):
        for mine, theirs in (
            (network.weights[layer][1], weights[layer]),
            *(
                (head[1], vectors)
                for head, vectors in [*zip(network.heads, heads, strict=True)][layer : layer + 1]
            ),
        ):
            torch.testing.assert_close(mine.double(), theirs.detach(), atol=2e-4, rtol=2e-3)


def test_class_vectors_come_from_the_stream_of_their_seed_and_layer() -> None:
    for objective in (MonoForward(), Prototypes()):
        both = new_heads(objective, (8, 8), 3, Draws((4, 5)), CPU)
        alone = new_heads(objective, (8, 8), 3, Draws((5,)), CPU)
        for two, one in zip(both, alone, strict=True):
            assert torch.equal(two[1], one[0])
        assert not torch.equal(both[0], both[1])
    assert new_heads(ClassBlock(), (8, 8), 3, Draws((4,)), CPU) == []
    bound = 1 / math.sqrt(400)
    (m,) = new_heads(MonoForward(), (400,), 10, Draws((0,)), CPU)
    assert float(m.abs().max()) <= bound
    assert float(m.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    (p,) = new_heads(Prototypes(), (400,), 10, Draws((0,)), CPU)
    torch.testing.assert_close(p.norm(dim=-1), torch.ones(1, 10))


def final_checkpoint(spec: TrainSpec) -> tuple[Checkpoint, ffengine.TrainResult]:
    """The weights that are evaluated, and the result."""
    kept: list[Checkpoint] = []

    def keep_it(report: EpochReport) -> Any:
        kept.append(report.checkpoint)
        return "run"

    result = ffengine.train(
        spec, on_epoch=keep_it, on_selected=lambda chosen, _rows: kept.append(chosen)
    )
    return kept[-1], result


CASES = [
    pytest.param(name, layers, marks=[] if name == "mono_forward" else pytest.mark.slow)
    for name, layers in combinations(sorted(OBJECTIVES), ("greedy", "simultaneous"))
]


@pytest.mark.parametrize(("name", "layers"), CASES)
def test_a_seed_beside_another_has_what_it_has_alone(name: str, layers: str) -> None:
    changes = {"layers": layers, "select": "best_validation", "stop": {"patience": 1}}
    at, both = final_checkpoint(spec_of(name, seeds=[3, 4], **changes))
    for place, seed in enumerate((3, 4)):
        own, alone = final_checkpoint(spec_of(name, seeds=[seed], **changes))
        assert [row for row in both.selected if row.seed == seed] == [*alone.selected]
        for one, other in zip(
            (*at.weights, *at.heads), (*own.weights, *own.heads), strict=True
        ):  # vector units take the ends of tensors in another way, which costs the last bits
            assert float((one[place] - other[0]).norm()) <= 1e-5 * float(other[0].norm())
        rows = [row for row in both.accuracy_curves if row.seed == seed]
        for row, expected in zip(rows, alone.accuracy_curves, strict=True):
            assert row.model_dump(exclude={"loss"}) == expected.model_dump(exclude={"loss"})
            both_losses = (row.loss or 0.0, expected.loss or 0.0)
            assert both_losses[0] == pytest.approx(both_losses[1], rel=1e-5)


@pytest.mark.parametrize(("name", "layers"), CASES)
def test_an_interrupted_run_ends_with_the_same_bits(name: str, layers: str) -> None:
    spec = spec_of(
        name, layers=layers, select="best_validation", stop={"patience": 1}, seeds=[0, 1]
    )
    whole = ffengine.train(spec).model_dump(exclude={"provenance"})
    resumed, stops = stopped_every(spec, 3)
    assert stops >= 2
    assert resumed.model_dump(exclude={"provenance"}) == whole


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_file_of_weights_has_the_class_vectors_and_their_accuracy(name: str) -> None:
    spec = spec_of(name, epochs=1, monitor={"samples": 20})
    checkpoint, result = final_checkpoint(spec)
    read = Checkpoint.from_bytes(checkpoint.to_bytes())
    weights = import_weights(export_weights(read.without_states.weights_of(spec, 1)))
    assert len(weights.heads) == (2 if BUILT[name].has_head else 0)
    found = evaluate_weights(weights)
    assert found.accuracy == result.accuracy
    assert found.measures == result.measures


def test_a_file_without_its_class_vectors_is_refused() -> None:
    checkpoint, _ = final_checkpoint(spec_of("mono_forward", epochs=1, monitor={"samples": 20}))
    spec = spec_of("mono_forward", epochs=1, monitor={"samples": 20})
    whole = checkpoint.weights_of(spec, 1)
    lacking = export_weights(type(whole)(spec, 1, whole.layers))
    with pytest.raises(ValueError, match=r"layers\.0\.classes"):
        import_weights(lacking)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_rows_have_what_single_samples_have_and_theorem_2_follows_the_true_step(name: str) -> None:
    spec = spec_of(name, epochs=1, layers="simultaneous")
    seen: list[Checkpoint] = []

    def keep_it(report: EpochReport) -> Any:
        seen.append(report.checkpoint)
        return "run"

    result = ffengine.train(spec, on_epoch=keep_it)
    assert [row.split for row in result.curves] == ["positive"] * 4
    for row in result.curves:
        assert row.goodness is row.theorem1_ratio is row.coefficient_sum is None
        assert row.log_goodness is row.theorem2_difference_ratio is row.act is None
        assert row.theorem2_expected_ratio is None
        assert row.sparsity is not None
        assert row.gini is not None
        assert row.loss is not None
        assert row.samples == 40
    start = [row for row in result.curves if (row.layer, row.epoch) == (0, 0)]
    figures = slow_first_rows(spec, name, seen[0])
    assert start[0].loss == pytest.approx(figures["loss"], rel=1e-5)
    assert start[0].sparsity == pytest.approx(figures["sparsity"], rel=1e-5)
    assert start[0].theorem2_ratio == pytest.approx(figures["rising"], abs=0.03)


def slow_first_rows(spec: TrainSpec, name: str, at: Checkpoint) -> dict[str, float]:
    """Figures of layer 0 before the first step, batch by batch with autograd in float64."""
    train = load_samples(spec.dataset, CPU).train
    chosen = Draws(spec.seeds, CPU).at("monitor").permutation(len(train))[0, :40]
    rising, losses, sparsities = 0, [], []
    for index in chosen.split(spec.batch_size):
        x = torch.cat([train.plain[index].double(), torch.ones(len(index), 1).double()], dim=1)
        weight = at.weights[0][0].double().requires_grad_()
        head = at.heads[0][0].double() if at.heads else None
        logits = slow_logits(name, torch.relu(x @ weight.T), 10, head)
        loss = cross_entropy(logits, train.labels[index])
        (slope,) = torch.autograd.grad(loss, weight)
        direction = -slope / (slope.abs() + 1e-8)  # the first step of Adam
        before, after = (hoyer(torch.relu(x @ (weight + t * direction).T)) for t in (0.0, 1e-7))
        rising += int((after > before).sum())
        losses.append(float(loss.detach()) * len(index))
        sparsities.append(float(before.sum()))
    return {"rising": rising / 40, "loss": sum(losses) / 40, "sparsity": sum(sparsities) / 40}


def hoyer(h: Tensor) -> Tensor:
    root = math.sqrt(h.shape[-1])
    found: Tensor = (root - h.abs().sum(-1) / h.norm(dim=-1)).div(root - 1).detach()
    return found


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_the_largest_logit_of_each_layer_and_of_their_sum_is_the_label(name: str) -> None:
    spec = spec_of(name, epochs=1)
    checkpoint, result = final_checkpoint(spec)
    network = Network(spec.network, checkpoint.weights, heads=checkpoint.heads)
    test = load_samples(spec.dataset, CPU).test
    logits = class_logits(network, BUILT[name], test.plain.unsqueeze(0), 10)[0]  # (L, N, C)
    x = test.plain
    for layer, weight in enumerate(checkpoint.weights):
        h = torch.relu(torch.cat([x, torch.ones(len(x), 1)], dim=1) @ weight[0].T)
        head = checkpoint.heads[layer][0] if checkpoint.heads else None
        torch.testing.assert_close(
            logits[layer], slow_logits(name, h, 10, head), atol=1e-4, rtol=1e-4
        )
        x = h
    expected = {
        (0,): logits[0],
        (1,): logits[1],
        (0, 1): logits.sum(0),
    }
    for row in result.accuracy:
        if row.partition == "test" and row.method == "goodness":
            hits = int((expected[row.layers].argmax(-1) == test.labels).sum())
            assert row.correct == hits
    told = {
        (row.layers, row.partition): row
        for row in result.accuracy_curves
        if row.epoch == 1 and row.method == "goodness"
    }
    for row in result.accuracy:
        if row.partition == "validation" and row.method == "goodness" and row.layers != (0,):
            assert told[row.layers, "validation"].correct == row.correct
    assert all(row.auc is None for row in result.accuracy_curves)
    assert all(row.auc is None for row in result.measures)


@pytest.mark.parametrize("name", ["mono_forward", "prototypes"])
def test_classes_are_learnt(name: str) -> None:
    spec = spec_of(
        name,
        dataset={"train_samples": 500, "test_samples": 200},
        network={"widths": [60]},
        epochs=6,
        monitor={"samples": 2, "every_epochs": 6},
    )
    found = ffengine.train(spec)
    assert next(row.accuracy for row in found.accuracy if row.partition == "test") > 0.75


REFUSED: list[tuple[dict[str, Any], tuple[str, ...], str]] = [
    ({"negatives": {"strategy": "wrong_label"}}, ("negatives",), "leave negatives out"),
    (
        {"negatives": {"strategy": "none", "redraw": "once"}},
        ("negatives", "redraw"),
        "leave redraw out",
    ),
    ({"dataset": {"label_strength": 2.0}}, ("dataset", "label_strength"), "leave label_strength"),
    ({"dataset": {"label_code": "random"}}, ("dataset", "label_code"), "leave label_code out"),
    ({"dataset": {"labels": "append"}}, ("dataset", "labels"), "leave labels out"),
    ({"phases": {"positive_steps": 1, "negative_steps": 1}}, ("phases",), "use 0 steps"),
    ({"network": {"pass_dead_units": True}}, ("network", "pass_dead_units"), "use false"),
    ({"monitor": {"decomposition": [0]}}, ("monitor", "decomposition"), "leave it out"),
    (
        {"dataset": {"validation_samples": 20}, "stop": {"measure": "auc"}},
        ("stop", "measure"),
        "use accuracy or loss",
    ),
    ({"evaluation": {"baselines": ["ff_objective"]}}, ("evaluation", "baselines"), "greedy_cross"),
]


@pytest.mark.parametrize(("change", "path", "message"), REFUSED)
@pytest.mark.parametrize(
    "objective", ["mono_forward", "class_block", "prototypes", "channel_assignment"]
)
def test_what_needs_pairs_is_refused_with_what_to_do(
    objective: str, change: dict[str, Any], path: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        TrainSpec.model_validate({"objective": {"name": objective}, **change})
    assert ".".join(path) in str(caught.value)


@pytest.mark.parametrize(
    "field", ["goodness", "threshold", "peer_normalization", "collaboration", "negative_threshold"]
)
def test_fields_of_goodness_are_unknown(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        TrainSpec.model_validate({"objective": {"name": "mono_forward", field: 1}})


def test_negatives_are_filled_in_and_objectives_of_pairs_need_some() -> None:
    for objective in (MonoForward(), {"name": "mono_forward"}):
        spec = TrainSpec.model_validate({"objective": objective})
        assert spec.negatives.strategy == "none"
        assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec
    none = {"strategy": "none"}
    with pytest.raises(ValueError, match="name another strategy"):
        TrainSpec.model_validate({"negatives": none})
    with pytest.raises(ValueError, match="name another strategy"):
        CheckSpec.model_validate({"negatives": none})
    with pytest.raises(ValueError, match="no forecast is known of mono_forward"):
        ForecastSpec.model_validate({"objective": {"name": "mono_forward"}})


def test_a_grid_may_vary_the_objective_and_each_has_the_negatives_that_it_needs() -> None:
    for base in ({}, {"objective": {"name": "mono_forward"}}):
        spec = TrainSpec.model_validate(base)
        study = StudySpec(base=spec, grid={"objective.name": ["softplus", "mono_forward"]})
        found = [cell.spec for cell in expand(study)]
        assert [one.negatives.strategy for one in found] == ["wrong_label", "none"]
    study = StudySpec(grid={"objective.name": ["mono_forward"], "negatives.strategy": ["noise"]})
    with pytest.raises(ValueError, match="leave negatives out"):
        expand(study)


def test_a_check_along_the_step_of_such_a_job_is_refused() -> None:
    trained = spec_of("mono_forward")
    check = CheckSpec.model_validate(
        {
            "at": {"job": "job_" + "0" * 32, "epoch": 1},
            "along": "training_step",
            "methods": ["exact"],
            "seeds": [0],
        }
    )
    with pytest.raises(SpecFieldError, match="theorem2_ratio"):
        check.refuse_misfit(trained, Datasets.of_environment())


def test_blocks_need_a_unit_for_each_class() -> None:
    with pytest.raises(ValueError, match="at least 10 wide"):
        TrainSpec.model_validate(
            {"objective": {"name": "class_block"}, "network": {"widths": [20, 9]}}
        )
    mine = TrainSpec.model_validate(
        {
            "dataset": {"name": "mine"},
            "objective": {"name": "class_block"},
            "network": {"widths": [9]},
        }
    )
    with pytest.raises(SpecFieldError, match="at least 10 wide"):
        mine.refuse_misfit(DATASETS["digits"])


def test_a_run_costs_half_and_keeps_its_class_vectors() -> None:
    facts = DATASETS["mnist-mini"]
    mono, blocks, pairs = (
        cost_of(
            TrainSpec.model_validate({"objective": {"name": name}, "network": {"widths": [500]}}),
            facts,
        )
        for name in ("mono_forward", "class_block", "softplus")
    )
    assert blocks.flops < mono.flops < pairs.flops
    assert blocks.disk.checkpoints < mono.disk.checkpoints
    assert mono.disk.database < pairs.disk.database
