"""The label at every layer: z = W norm(h) + V y, written out beside the engine's one product."""

import io
import itertools
import math
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

import ffengine
from ffengine.bank import Bank
from ffengine.checkpoint import Checkpoint
from ffengine.cost import train_cost
from ffengine.datasets import DATASETS
from ffengine.foreign_weights import convert_weights
from ffengine.interrupts import Interrupted
from ffengine.layer_updates import Learner
from ffengine.monitor import layer_pairs, paired
from ffengine.network import Network, SummedGoodness
from ffengine.pairs import RelabelledPairs
from ffengine.random_streams import Draws
from ffengine.samples import Samples, load_samples
from ffengine.spec import CheckSpec, DatasetSpec, ForecastSpec, TrainedWeights, TrainSpec, digest
from ffengine.training import BatchReport, EpochReport
from ffengine.weight_evaluation import evaluate_weights
from ffengine.weights import Weights, export_weights, import_weights
from tests.engine.reference import goodness_gradient, sparsity
from tests.examples import examples

CPU = torch.device("cpu")
RANDOM = {"name": "random", "inputs": 12, "ones": 3, "seed": 5}
JOB = "job_" + "0" * 32


def spec_of(dataset: dict[str, Any] | None = None, **changes: Any) -> TrainSpec:
    """Three small layers on digits, all of which receive the label."""
    return TrainSpec.model_validate(
        {
            "dataset": {
                "name": "digits",
                "train_samples": 60,
                "test_samples": 20,
                "labels": "every_layer",
            }
            | (dataset or {}),
            "network": {"widths": [9, 7, 6], "normalize": "l2", "bias": True},
            "objective": {"name": "softplus", "goodness": "sum_squares", "threshold": 0.4},
            "optimizer": {"name": "momentum", "lr": 0.2},
            "layers": "simultaneous",
            "epochs": 2,
            "batch_size": 30,
            "seeds": [3, 8],
            "monitor": {"samples": 40},
            "evaluation": {"measures": False},
        }
        | changes
    )


def made(spec: TrainSpec) -> tuple[Network, Samples]:
    """The network at initialisation, and the training samples."""
    inputs, draws = spec.inputs(DATASETS["digits"]), Draws(spec.seeds)
    carried = spec.carried_inputs(10)
    network = Network.initial(spec.network, inputs, draws, CPU, label_inputs=carried)
    return network, load_samples(spec.dataset, CPU).train


def normed(x: Tensor, how: str) -> Tensor:
    if how == "layer":
        x = x - x.mean(-1, keepdim=True)
    length = x.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return x if how == "none" else x / length * (1 if how == "l2" else x.shape[-1] ** 0.5)


def slow_activations(
    spec: TrainSpec, weights: list[Tensor], image: Tensor, label: Tensor, *, local: bool = False
) -> list[Tensor]:
    """h of each layer from W and V as matrices of their own, in float64."""
    found, count, how = list[Tensor](), label.shape[-1], spec.network.normalize
    x = normed(image, how) if spec.network.normalize_first else image
    gains = (1.0, *(spec.network.label_gains or (1.0, 1.0)))
    for weight, gain in zip(weights, gains, strict=False):
        v, w = weight[:, :count], weight[:, count:]
        z = gain * label @ v.T
        if spec.network.bias:
            z, w = z + w[:, -1], w[:, :-1]
        found.append(torch.relu(z + x @ w.T))
        x = normed(found[-1].detach() if local else found[-1], how)
    return found


networks = st.fixed_dictionaries(
    {
        "widths": st.just([9, 7, 6]),
        "normalize": st.sampled_from(["none", "l2", "rms", "layer"]),
        "normalize_first": st.booleans(),
        "bias": st.booleans(),
        "label_gains": st.sampled_from([(), (2.5, 2.5), (0.3, 7.0)]),
    }
)


@settings(deadline=None, max_examples=examples(6))
@given(
    network=networks,
    code=st.sampled_from(["one_hot", RANDOM]),
    strength=st.sampled_from([None, 2.5]),
    preprocess=st.sampled_from(["unit", "standardize", "unit_norm"]),
    block=st.sampled_from([100, 2**19]),
)
def test_goodness_under_each_label_is_that_of_every_layer_seeing_it(
    network: Any, code: Any, strength: float | None, preprocess: str, block: int
) -> None:
    dataset = {"label_code": code, "label_strength": strength, "preprocess": preprocess}
    spec = spec_of(dataset, network=network)
    stack, train = made(spec)
    x = train.labelled[:5].expand(2, -1, -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ffengine.network.LABEL_BLOCK_ELEMENTS", block)
        found = stack.label_goodness(
            spec.pairwise.layer_goodness, x, train.labels[:5].expand(2, -1), train.patterns
        )
    for replica, label in itertools.product(range(2), (0, 4, 9)):
        y = (strength or 1.0) * train.patterns.of(torch.full((5,), label)).double()
        weights = [weight[replica].double() for weight in stack.weights]
        slow = slow_activations(spec, weights, train.plain[:5].double(), y)
        for layer, h in enumerate(slow):
            torch.testing.assert_close(
                found[replica, layer, :, label].double(), h.square().sum(-1), rtol=1e-3, atol=1e-4
            )
    assert train.label_strength == (strength or 1.0)


@settings(deadline=None, max_examples=examples(8))
@given(
    network=networks,
    code=st.sampled_from(["one_hot", RANDOM]),
    split=st.sampled_from([None, "positive", "negative"]),
    inherits=st.booleans(),
)
def test_a_step_goes_down_the_gradients_of_w_and_v(
    network: Any, code: Any, split: Any, inherits: bool
) -> None:
    objective = {"name": "softplus", "threshold": 0.4, "goodness": "mean_squares"}
    objective |= {"collaboration": {"of": "earlier", "weight": 0.5}} if inherits else {}
    spec = spec_of(
        {"label_code": code},
        network=network,
        objective=objective,
        optimizer={"name": "sgd", "lr": 0.1, "scale_lr_by_width": False},
    )
    stack, train = made(spec)
    before = [weight.clone() for weight in stack.weights]
    index, draws = torch.arange(12).expand(2, -1), Draws(spec.seeds)
    pairs = layer_pairs(spec, stack, 0, train, index, draws, ("negatives", 1), None)
    assert isinstance(pairs, RelabelledPairs) == (code == "one_hot")
    x = paired(spec, train, index, draws, ("negatives", 1), None).double()
    Learner(stack, spec.pairwise, spec.optimizer, epochs=1).step(
        (0, 1, 2), pairs if split is None else pairs.only(split), 1, split
    )
    count, chosen = spec.carried_inputs(10), {None: x, "positive": x[:, :12], "negative": x[:, 12:]}
    for replica, part in enumerate(chosen[split]):
        leaves = [weight[replica].double().requires_grad_() for weight in before]
        image, label = part[:, count:], part[:, :count]
        hs = slow_activations(spec, leaves, image, label, local=True)
        goodness = [h.square().mean(-1) for h in hs]
        for layer, leaf in enumerate(leaves):
            added = sum((one.detach() for one in goodness[:layer]), torch.zeros(()))
            g = goodness[layer] + (0.5 * added if inherits else 0.0)
            sign = torch.ones(len(g))
            sign[: {None: 12, "positive": 12, "negative": 0}[split]] = -1
            loss = torch.nn.functional.softplus(sign * (g - 0.4)).sum() / 12
            (gradient,) = torch.autograd.grad(loss, leaf)
            moved = (stack.weights[layer][replica] - before[layer][replica]).double()
            torch.testing.assert_close(moved / 0.1, -gradient, atol=2e-5, rtol=2e-3)


STRATEGIES: tuple[dict[str, Any], ...] = (
    {"strategy": "wrong_label"},
    {"strategy": "wrong_label", "image": "any"},
    {"strategy": "hardest_label"},
    {"strategy": "sampled_label"},
    {"strategy": "other_image"},
    {"strategy": "mix"},
    {"strategy": "noise"},
    {"strategy": "shuffle_pixels"},
    {"strategy": "masked"},
    {"strategy": "adversarial"},
)


@pytest.mark.parametrize("negatives", STRATEGIES)
def test_the_label_of_a_negative_enters_every_layer(negatives: dict[str, Any]) -> None:
    spec = spec_of(negatives=negatives)
    stack, train = made(spec)
    index, draws = torch.arange(10).expand(2, -1), Draws(spec.seeds)
    asked = SummedGoodness(stack, spec.pairwise.layer_goodness, (0, 1, 2), train.patterns)
    x = paired(spec, train, index, draws, ("negatives", 1), asked)
    wrong = x[:, 10:, :10].argmax(-1) != train.labels[:10]
    assert bool(wrong.all() if "label" in negatives["strategy"] else ~wrong.any()) or (
        negatives["strategy"] == "noise" or negatives.get("image") == "any"
    )
    for layer in (1, 2):
        received = stack.layer_input(layer, x)
        assert torch.equal(received[..., :10], x[..., :10])
        pairs = layer_pairs(spec, stack, layer, train, index, draws, ("negatives", 1), asked)
        assert torch.equal(pairs.split()[1], received[:, 10:])


@pytest.mark.parametrize("code", ["one_hot", RANDOM])
def test_negatives_that_are_drawn_once_have_their_label_in_every_layer(code: Any) -> None:
    spec = spec_of({"label_code": code}, negatives={"redraw": "once"}, layers="greedy")
    stack, train = made(spec)
    everything = torch.arange(len(train)).expand(2, -1)
    x = paired(spec, train, everything, Draws(spec.seeds), ("negatives-once", 0), None)
    bank = Bank(spec, stack, train, Draws(spec.seeds))
    for layer in range(3):  # each from that of the layer below
        held = torch.cat(bank.batch(layer, everything).split(), dim=1)
        assert torch.allclose(held, stack.layer_input(layer, x), atol=1e-6)


def test_margins_of_upper_layers_are_split_by_who_pushes() -> None:
    """A mean of |margin| lies between |mean| and root mean square of the margins that are split."""
    spec = spec_of(
        network={"widths": [9, 7], "normalize": "l2"},
        objective={"name": "difference"},
        optimizer={"name": "sgd", "lr": 0.1},
        batch_size=40,
        monitor={"samples": 40, "decomposition": [0]},
        seeds=[3],
        epochs=1,
    )
    result = ffengine.train(spec)
    for row in (row for row in result.curves if row.epoch == 0):
        split = [
            one for one in result.decomposition if (one.layer, one.split) == (row.layer, row.split)
        ]
        assert split[0].margin is not None
        margin, deviation = split[0].margin / 40, split[0].margin_deviation / 40  # of a pair
        assert row.theorem2_margin is not None
        assert abs(margin) * (1 - 1e-5) <= row.theorem2_margin
        assert row.theorem2_margin <= math.hypot(margin, deviation) * (1 + 1e-5)


RUNS: dict[str, dict[str, Any]] = {
    "together": {},
    "one after another": {"layers": "greedy", "network": {"widths": [9, 7], "normalize": "rms"}},
    "phases": {"phases": {"positive_steps": 1, "negative_steps": 2}},
    "drawn once": {"layers": "greedy", "negatives": {"redraw": "once"}},
    "random patterns": {"dataset": {"label_code": RANDOM}, "layers": "greedy"},
    "gains": {
        "network": {"widths": [9, 7, 6], "normalize": "l2", "label_gains": [0.7, 3.0]},
        "layers": "greedy",
        "negatives": {"redraw": "once"},
    },
    "kept rescaled": {
        "objective": {"name": "difference"},
        "optimizer": {"name": "sgd", "lr": 1e3},
        "network": {"widths": [9, 7], "normalize": "l2"},
    },
}


@pytest.mark.parametrize(
    "name",
    [
        name if name == "one after another" else pytest.param(name, marks=pytest.mark.slow)
        for name in RUNS
    ],
)
def test_runs_resume_bit_by_bit_and_each_seed_is_as_alone(name: str) -> None:
    baselines = ["ff_objective"] if name == "together" else []
    spec = spec_of(**RUNS[name], evaluation={"measures": False, "baselines": baselines})
    last: list[EpochReport] = []
    whole = ffengine.train(spec, on_epoch=last.append)
    resume, calls = None, 0

    def stop_soon(_report: EpochReport | BatchReport) -> Any:
        nonlocal calls
        calls += 1
        return "stop" if calls % 5 == 0 else "run"

    for _ in range(30):
        try:
            found = ffengine.train(spec, on_epoch=stop_soon, on_batch=stop_soon, resume=resume)
            break
        except Interrupted as stopped:
            resume = Checkpoint.from_bytes(stopped.checkpoint.to_bytes())
    assert (found.curves, found.accuracy) == (whole.curves, whole.accuracy)
    assert found.baselines == whole.baselines
    scaled = [bool(one.any()) for one in last[-1].checkpoint.exponents]
    assert any(scaled) == (name == "kept rescaled")
    alone: list[EpochReport] = []
    ffengine.train(spec.model_copy(update={"seeds": (8,)}), on_epoch=alone.append)
    for one, other in zip(alone[-1].checkpoint.weights, last[-1].checkpoint.weights, strict=True):
        assert float((one[0] - other[1]).norm()) <= 1e-4 * float(one[0].norm())


def test_rows_of_a_run_are_those_of_the_layers_written_out() -> None:
    """Accuracy, and S along theorem 2's step by differences of the whole input of a layer."""
    spec = spec_of(
        {"validation_samples": 30, "label_strength": 2.0},
        network={"widths": [12, 11], "normalize": "l2"},
        monitor={"samples": 40, "accuracy": True},
        batch_size=40,
        layers="greedy",
        seeds=[4],
    )
    reports: list[EpochReport] = []
    result = ffengine.train(spec, on_epoch=reports.append)
    weights = [weight[0].double() for weight in reports[-1].checkpoint.weights]
    test = load_samples(spec.dataset, CPU).test
    each = [2 * torch.eye(10).double()[label].expand(len(test), -1) for label in range(10)]
    slow = [slow_activations(spec, weights, test.plain.double(), y) for y in each]
    goodness = torch.stack([sum(h.square().sum(-1) for h in one) for one in slow], -1)
    hits = float((goodness.argmax(-1) == test.labels).double().mean())
    found = [row for row in result.accuracy if (row.partition, row.layers) == ("test", (0, 1))]
    assert found[0].accuracy == pytest.approx(hits)

    train, draws = load_samples(spec.dataset, CPU).train, Draws(spec.seeds)
    index = draws.at("monitor").permutation(len(train))[:, :40]
    x = paired(spec, train, index, draws, ("monitor-negatives", 0), None)[0].double()
    h = slow_activations(spec, weights, x[:, 10:], x[:, :10])[0]
    received = torch.cat([x[:, :10], normed(h, "l2")], dim=1)
    groups = list(received.chunk(2))
    descent = goodness_gradient(weights[1], groups, [-1.0, 1.0], "relu")
    step = 1e-6 * weights[1].norm() / descent.norm()
    for split, part in zip(("positive", "negative"), groups, strict=True):
        (row,) = (
            one for one in result.curves if (one.layer, one.epoch, one.split) == (1, 2, split)
        )
        after, before = (
            sparsity((part @ (weights[1] + sign * step * descent).T).relu()) for sign in (1, -1)
        )
        live = after.isfinite()
        assert row.theorem2_difference_ratio == pytest.approx(
            float((after > before)[live].double().mean()), abs=0.01
        )


def test_the_joint_step_of_layers_with_labels_moves_s_as_it_says() -> None:
    """The label's inputs stand still while the layers below step."""
    spec = spec_of(
        network={"widths": [12, 11], "normalize": "rms", "bias": True},
        optimizer={"name": "sgd", "lr": 0.5},
        batch_size=40,
        seeds=[4],
        epochs=1,
    )
    result = ffengine.train(spec)
    stack, train = made(spec)
    draws = Draws(spec.seeds)
    index = draws.at("monitor").permutation(len(train))[:, :40]
    x = paired(spec, train, index, draws, ("monitor-negatives", 0), None)
    weights = [weight[0].double() for weight in stack.weights]
    before = slow_activations(spec, weights, x[0, :, 10:].double(), x[0, :, :10].double())[1]
    learner = Learner(stack, spec.pairwise, spec.optimizer, epochs=1)
    pairs = layer_pairs(spec, stack, 0, train, index, draws, ("monitor-negatives", 0), None)
    learner.step((0, 1), pairs, 1)
    weights = [weight[0].double() for weight in stack.weights]
    after = slow_activations(spec, weights, x[0, :, 10:].double(), x[0, :, :10].double())[1]
    rises = (sparsity(after) > sparsity(before)).double()
    for split, part in zip(("positive", "negative"), rises.chunk(2), strict=True):
        (row,) = (
            one for one in result.curves if (one.layer, one.epoch, one.split) == (1, 0, split)
        )
        assert row.joint_increase_ratio == pytest.approx(float(part.mean()), abs=0.03)


def test_weights_say_their_label_inputs_and_are_evaluated_and_checked_as_the_run() -> None:
    spec = spec_of(evaluation={"ensembles": True}, network={"widths": [9, 7]}, epochs=1)
    reports: list[EpochReport] = []
    result = ffengine.train(spec, on_epoch=reports.append)
    checkpoint = reports[-1].checkpoint
    file = export_weights(checkpoint.weights_of(spec, 1))
    with_header = safetensors.torch.load(file)
    assert with_header["layers.1.weight"].shape == (2, 7, 10 + 9)
    assert b'"label_inputs":"10"' in file
    weights = import_weights(file)
    assert weights.label_inputs == 10
    found = evaluate_weights(weights)
    assert (found.accuracy, found.measures) == (result.accuracy, result.measures)
    at = TrainedWeights(job=JOB, epoch=1, layer=1)
    check = CheckSpec(
        at=at, dataset=spec.dataset, samples=40, batch_size=40, seeds=(3,), methods=("exact",)
    )
    kept = Checkpoint.of_weights(weights)
    cells = ffengine.check(check, trained=kept, trained_spec=spec).cells
    assert {cell.width for cell in cells} == {7}
    other = check.model_copy(
        update={"dataset": spec.dataset.model_copy(update={"labels": "append"})}
    )
    with pytest.raises(ValueError, match="use every_layer here, too"):
        ffengine.check(other, trained=kept, trained_spec=spec)
    cut = Weights(spec, 1, (weights.layers[0], weights.layers[1][..., 1:]))
    assert import_weights(export_weights(cut)).label_inputs == 9  # uploads are told K of their data


def test_networks_of_other_programs_may_take_the_label_at_every_layer() -> None:
    dataset = DatasetSpec(name="digits", labels="every_layer")
    state = {"0.weight": torch.randn(8, 74), "2.weight": torch.randn(6, 18)}
    found = convert_weights(io.BytesIO(safetensors.torch.save(state)), dataset=dataset)
    assert [layer.shape for layer in found.layers] == [(1, 8, 74), (1, 6, 18)]
    assert np.array_equal(found.layers[1][0], state["2.weight"].numpy())
    state["2.weight"] = torch.randn(6, 8)
    named = [ffengine.foreign_weights.LayerNames(name) for name in state]
    with pytest.raises(ValueError, match="8 units and the label 10 inputs"):
        convert_weights(io.BytesIO(safetensors.torch.save(state)), dataset=dataset, layers=named)


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"dataset": {"label_code": "fourier"}}, "the code one_hot or random"),
    ({"negatives": {"strategy": "hybrid"}}, "carry no label that every layer could receive"),
    ({"objective": {"name": "mono_forward"}}, "leave labels out"),
    (
        {
            "dataset": {"labels": "append"},
            "network": {"widths": [9, 7, 6], "label_gains": [2.0, 2.0]},
        },
        "receive no label with dataset.labels: append",
    ),
    (
        {"network": {"widths": [9, 7, 6], "label_gains": [2.0]}},
        "1 for 2 layers above the first; give one for each",
    ),
    ({"network": {"widths": [9, 7], "label_gains": [0.0]}}, "greater than 0"),
)


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_has_no_label_to_hand_on_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        spec_of(**changes)


def test_layers_receive_the_label_with_the_gain_that_is_theirs() -> None:
    """Also where their input is made of that of the layer below, as a bank and a step make it."""
    gains = (0.5, 4.0)
    spec = spec_of(network={"widths": [9, 7, 6], "normalize": "l2", "label_gains": gains})
    stack, train = made(spec)
    x = train.labelled[:5].expand(2, -1, -1)
    below = stack.layer_input(0, x)
    for layer, gain in enumerate(gains, 1):
        h = stack.activation.value(stack.pre_activation(layer - 1, below))
        below = stack.next_input(layer - 1, h, below[..., :10])
        assert torch.equal(below, stack.layer_input(layer, x))
        assert torch.equal(below[..., :10], gain * x[..., :10])


def test_gains_of_one_are_no_gains_and_no_gains_have_the_digest_of_before() -> None:
    plain, ones = (
        spec_of(network={"widths": [9, 7, 6], "normalize": "l2", **gains})
        for gains in ({}, {"label_gains": [1.0, 1.0]})
    )
    assert ffengine.train(plain).curves == ffengine.train(ones).curves
    assert digest(plain) != digest(ones)
    older = plain.model_dump_json().replace(',"label_gains":[]', "")
    assert digest(TrainSpec.model_validate_json(older)) == digest(plain)


def test_loud_labels_are_looked_after_where_weights_are_kept_in_range() -> None:
    """A louder label makes longer steps, after fewer of which the weights may leave the range."""
    looks = []
    for gains in ([1.0], [100.0]):
        network = {"widths": [9, 7], "normalize": "l2", "label_gains": gains}
        spec = spec_of(network=network, objective={"name": "difference"})
        stack, train = made(spec)
        learner = Learner(stack, spec.pairwise, spec.optimizer, epochs=2)
        index, draws = torch.arange(12).expand(2, -1), Draws(spec.seeds)
        pairs = layer_pairs(spec, stack, 0, train, index, draws, ("negatives", 1), None)
        looks.append(learner.steps_between_looks((0, 1), pairs, 1))
    assert looks[1] < looks[0]


def test_one_layer_receives_what_append_gives_it() -> None:
    """So a check at initialisation and a forecast, which are of one layer, are those of append."""
    places = ("append", "every_layer")
    one = {"widths": [9], "normalize": "none"}
    runs = [ffengine.train(spec_of({"labels": place}, network=one)) for place in places]
    assert runs[0].curves == runs[1].curves
    digits = [DatasetSpec(name="digits", train_samples=60, labels=place) for place in places]
    small: dict[str, Any] = {"samples": 40, "widths": (16,), "seeds": (0,)}
    first, second = (ffengine.check(CheckSpec(dataset=one, **small)) for one in digits)
    assert first.cells == second.cells
    assert digest(CheckSpec(dataset=digits[0])) != digest(CheckSpec(dataset=digits[1]))
    for dataset in digits:
        ForecastSpec(dataset=dataset)


def test_the_label_costs_its_columns_in_every_layer() -> None:
    facts = DATASETS["digits"]
    costs = {
        place: train_cost(spec_of({"labels": place}), facts) for place in ("append", "every_layer")
    }
    assert costs["every_layer"].flops > costs["append"].flops
    assert costs["every_layer"].disk.checkpoints > costs["append"].disk.checkpoints
    assert spec_of().fan_in(facts) == (74, 19, 17)


def test_layers_above_are_not_given_activations_without_the_label() -> None:
    stack, _ = made(spec_of())
    with pytest.raises(ValueError, match="layer 1 receives it beside"):
        stack.next_input(0, torch.zeros(2, 3, 9))
