"""Baselines against plain loops in float64, and how learning rates and epochs are chosen."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

import ffengine
from ffengine.baseline_training import Kept, Stack, learnable_linear
from ffengine.baselines import Batch, CrossEntropy, DeepSupervision, GreedyCrossEntropy
from ffengine.checkpoint import Checkpoint, Position, fraction_done
from ffengine.datasets import DATASETS
from ffengine.interrupts import Interrupted
from ffengine.random_streams import Draws
from ffengine.results import BaselineRow, TrainResult
from ffengine.spec import TrainSpec, as_document, digest
from ffengine.training import BatchReport
from tests.engine.reference import SIGMA
from tests.engine.specs import spec_of
from tests.examples import examples

CLASSES = 4
OPTIMIZERS: dict[str, Callable[[list[Tensor], float], torch.optim.Optimizer]] = {
    "sgd": lambda weights, lr: torch.optim.SGD(weights, lr=lr),
    "momentum": lambda weights, lr: torch.optim.SGD(weights, lr=lr, momentum=0.9),
    "adam": lambda weights, lr: torch.optim.Adam(weights, lr=lr),
}


class RandomSamples:
    """Samples of a seed: random inputs and labels."""

    def __init__(self, seed: int, count: int, inputs: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.plain = torch.rand(count, inputs, generator=generator)
        self.labels = torch.randint(0, CLASSES, (count,), generator=generator)
        self.classes = CLASSES

    def __len__(self) -> int:
        return len(self.labels)


def scaled(h: Tensor, how: str) -> Tensor:
    """Activations as the layer above receives them, in a form of its own."""
    if how == "none":
        return h
    if how == "layer":  # few of so narrow layers have units that are all alike, and not dead
        middle = h - h.mean(1, keepdim=True)
        return middle / middle.pow(2).mean(1, keepdim=True).sqrt().clamp_min(1e-12)
    squares = (h**2).sum(1, keepdim=True) if how == "l2" else (h**2).mean(1, keepdim=True)
    return h / squares.sqrt().clamp_min(1e-12)


def _entries(gradient: Tensor | None) -> list[float]:
    """The entries of a gradient."""
    return gradient.flatten().tolist() if gradient is not None else []


def slow(
    spec: TrainSpec,
    data: RandomSamples,
    weights: list[Tensor],
    plan: list[tuple[tuple[int, ...], int, Tensor]],
    *,
    local: bool,
) -> list[Tensor]:
    """Weights and readouts of one replica after steps on (layers, epoch, index), in float64.

    Adam divides by gradients: what nearly cancels is rounding in float32, and no case for it.
    """
    network, layers = spec.network, len(spec.network.widths)
    own = [w.double().clone().requires_grad_() for w in weights]
    own += [
        torch.zeros(CLASSES, width, dtype=torch.float64, requires_grad=True)
        for width in network.widths
    ]
    optimizers = [OPTIMIZERS[spec.optimizer.name]([w], spec.optimizer.lr) for w in own]
    for learning, epoch, index in plan:
        x, y = data.plain[index].double(), data.labels[index]
        total = torch.zeros((), dtype=torch.float64)
        for layer in range(learning[-1] + 1):
            if network.bias:
                x = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
            h = SIGMA[network.activation](x @ own[layer].T)
            logits = scaled(h, network.normalize) @ own[layers + layer].T
            if layer in learning:
                total = total - logits.log_softmax(1)[torch.arange(len(y)), y].mean()
            x = scaled(h.detach() if local else h, network.normalize)
        for optimizer in optimizers:
            optimizer.zero_grad()
        total.backward()
        factor = (1 + math.cos(math.pi * (epoch - 1) / spec.epochs)) / 2
        for number, optimizer in enumerate(optimizers):
            if number % layers in learning:
                if spec.optimizer.name == "adam":
                    assume(not any(0 < abs(value) < 1e-6 for value in _entries(own[number].grad)))
                optimizer.param_groups[0]["lr"] = spec.optimizer.lr * factor
                optimizer.step()
    return [w.detach() for w in own]


@pytest.mark.slow
@settings(deadline=None, max_examples=examples(15))
@given(
    seed=st.integers(0, 10**6),
    widths=st.lists(st.integers(2, 7), min_size=1, max_size=3),
    activation=st.sampled_from(["softplus", "tanh", "silu", "leaky_relu"]),
    normalize=st.sampled_from(["none", "l2", "rms", "layer"]),
    optimizer=st.sampled_from([("sgd", 0.3), ("momentum", 0.1), ("adam", 0.01)]),
    bias=st.booleans(),
    layers=st.sampled_from(["greedy", "simultaneous"]),
    local=st.booleans(),
)
def test_readouts_of_layers_learn_as_a_plain_loop_in_float64_does(
    seed: int,
    widths: list[int],
    activation: str,
    normalize: str,
    optimizer: tuple[str, float],
    bias: bool,
    layers: str,
    local: bool,
) -> None:
    name, lr = optimizer
    spec = spec_of(
        network={
            "widths": widths,
            "activation": activation,
            "normalize": normalize,
            "bias": bias,
        },
        optimizer={"name": name, "lr": lr, "scale_lr_by_width": False, "schedule": "cosine"},
        layers=layers,
        epochs=3,
        seeds=[seed, seed + 1],
    )
    baseline = GreedyCrossEntropy() if local else DeepSupervision()
    data = RandomSamples(seed, 30, 6)
    stack = Stack(baseline, spec, data, Draws(spec.seeds))  # type: ignore[arg-type]
    start = [weight.clone() for weight in stack.network.weights]
    generator = torch.Generator().manual_seed(seed)
    plan = [
        (stage, epoch, torch.randint(0, 30, (2, 8), generator=generator))
        for stage in baseline.stages(spec.stages)
        for epoch in (1, 2, 3)
    ]
    for number, (stage, epoch, index) in enumerate(plan):
        stack.learn(Batch(index, stage, epoch, number))
    for replica in (0, 1):
        expected = slow(
            spec,
            data,
            [weight[replica] for weight in start],
            [(stage, epoch, index[replica]) for stage, epoch, index in plan],
            local=local,
        )
        for found, wanted in zip(stack.parameters, expected, strict=True):
            # Adam divides by gradients, so that tiny ones have few digits
            assert torch.allclose(found[replica].double(), wanted, atol=2e-3 * lr, rtol=1e-4)


def test_the_gradients_of_products_are_those_of_float64() -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(3, 6, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(learnable_linear, (x, weight))


def test_of_one_layer_all_with_a_readout_are_the_same_network() -> None:
    """The products differ in their last bits, so that the weights agree, not their bits."""
    spec = spec_of(network={"widths": [9]}, optimizer={"name": "adam", "lr": 0.01})
    data = RandomSamples(3, 40, 6)
    index = torch.arange(40).reshape(1, 40)
    found = []
    for baseline in (CrossEntropy(), DeepSupervision(), GreedyCrossEntropy()):
        stack = Stack(baseline, spec, data, Draws(spec.seeds))  # type: ignore[arg-type]
        for epoch in (1, 2, 3):
            stack.learn(Batch(index, (0,), epoch, 0))
        found.append(stack.parameters)
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            assert torch.allclose(one, same, atol=1e-5)


# Choices on validation samples

TUNED: dict[str, Any] = {
    "dataset": {"train_samples": 100, "validation_samples": 60, "test_samples": 40},
    "network": {"widths": [12, 8], "normalize": "l2"},
    "epochs": 2,
    "monitor": {"samples": 20},
    "optimizer": {"name": "adam", "lr": 0.002},
    "seeds": [1, 2],
}
RATES = [0.2, 0.02, 1e-5]


def tuned(*baselines: object, **changes: object) -> TrainSpec:
    return spec_of(**{**TUNED, "evaluation": {"baselines": list(baselines)}, **changes})


def rows_of(result: TrainResult, place: int = 0) -> list[BaselineRow]:
    return [row for row in result.baselines if row.place == place]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["cross_entropy", pytest.param("greedy_cross_entropy", marks=pytest.mark.slow)]
)
def test_the_rate_with_the_best_validation_accuracy_is_that_of_its_training_alone(
    name: str,
) -> None:
    chosen = rows_of(ffengine.train(tuned({"name": name, "rates": RATES, "epochs": 3})))
    alone = {
        lr: rows_of(ffengine.train(tuned({"name": name, "rates": [lr], "epochs": 3})))
        for lr in RATES
    }
    for row in chosen:
        assert (row.tuned, row.epochs, row.batch_size) == (True, 3, 50)
        assert [trial.lr for trial in row.trials] == sorted(RATES)
        for trial in row.trials:
            (other,) = [
                other
                for other in alone[trial.lr]
                if (other.seed, other.layer, other.partition) == (row.seed, 1, "validation")
            ]
            assert trial.accuracy == other.accuracy
        best = max(trial.accuracy or 0 for trial in row.trials)
        lr = min(trial.lr for trial in row.trials if trial.accuracy == best)
        assert row.lr == lr
        (same,) = [
            other
            for other in alone[lr]
            if (other.seed, other.layer, other.partition) == (row.seed, row.layer, row.partition)
        ]
        assert row == same.model_copy(update={"tuned": True, "trials": row.trials})


def test_of_equal_rates_the_smaller_and_never_one_that_diverged() -> None:
    spec = spec_of(seeds=[1, 2])
    kept = Kept.nothing(spec)
    for lr, scores in ((0.1, [0.5, -1.0]), (0.2, [0.5, 0.1]), (0.3, [0.4, -1.0])):
        kept.offer(scores, lr, [[1], [1]], [torch.full((2, 1), lr)])
    assert kept.lr == [0.1, 0.2]
    assert kept.weights[0].flatten().tolist() == pytest.approx([0.1, 0.2])


def test_a_rate_that_diverges_loses_and_says_so() -> None:
    sgd = {"name": "sgd", "scale_lr_by_width": False}
    baseline = {"name": "deep_supervision", "optimizer": sgd, "rates": [1e9, 0.1], "epochs": 4}
    network = {"widths": [8, 8], "activation": "squared_relu"}
    for row in rows_of(ffengine.train(tuned(baseline, network=network))):
        assert (row.lr, row.diverged, row.own_optimizer) == (0.1, False, True)
        assert [(trial.diverged, trial.accuracy is None) for trial in row.trials] == [
            (False, False),
            (True, True),
        ]


def test_where_every_rate_diverges_there_are_no_figures() -> None:
    sgd = {"name": "sgd", "scale_lr_by_width": False}
    baseline = {"name": "deep_supervision", "optimizer": sgd, "rates": [1e9, 1e8], "epochs": 4}
    network = {"widths": [8, 8], "activation": "squared_relu"}
    result = ffengine.train(tuned(baseline, network=network))
    assert {(row.lr, row.diverged, row.accuracy) for row in rows_of(result)} == {(1e8, True, None)}
    (named,) = (one for one in result.diagnostics if one.code == "baseline_diverged")
    assert "evaluation.baselines.0" in str(named.suggestion)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "cross_entropy",
        pytest.param("greedy_cross_entropy", marks=pytest.mark.slow),
        pytest.param("ff_objective", marks=pytest.mark.slow),
    ],
)
def test_the_best_epoch_on_validation_is_that_of_a_training_that_ends_there(name: str) -> None:
    """The schedule is constant, so a shorter training is the beginning of a longer one."""
    changes: dict[str, Any] = {"layers": "simultaneous"}
    rate = {"optimizer": {"name": "adam", "lr": 0.05}}
    best = rows_of(
        ffengine.train(
            tuned({"name": name, **rate, "epochs": 4, "select": "best_validation"}, **changes)
        )
    )
    ends = {
        epochs: rows_of(ffengine.train(tuned({"name": name, **rate, "epochs": epochs}, **changes)))
        for epochs in (1, 2, 3, 4)
    }

    def validated(epochs: int, seed: int) -> float:
        return next(
            row.accuracy or 0
            for row in ends[epochs]
            if (row.seed, row.layer, row.partition) == (seed, 1, "validation")
        )

    for row in best:
        wanted = max(ends, key=lambda epochs: (validated(epochs, row.seed), -epochs))
        assert row.epoch == wanted
        (same,) = [
            other
            for other in ends[wanted]
            if (other.seed, other.layer, other.partition) == (row.seed, row.layer, row.partition)
        ]
        assert (row.accuracy, row.sparsity) == (same.accuracy, same.sparsity)


def test_test_samples_are_touched_by_the_chosen_weights_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = Stack.measured
    seen: list[tuple[int, float]] = []

    def watched(stack: Stack, samples: Any) -> Any:
        seen.append((len(samples), stack.lr))
        return measured(stack, samples)

    monkeypatch.setattr(Stack, "measured", watched)
    ffengine.train(tuned({"name": "cross_entropy", "rates": RATES}))
    assert [count for count, _ in seen] == [60, 60, 60, 60, 40]


# Replicas, settings, interruption

MANY = (
    "greedy_cross_entropy",
    "deep_supervision",
    {"name": "deep_supervision", "rates": [0.1, 0.01], "epochs": 1, "batch_size": 30},
    {"name": "greedy_cross_entropy", "select": "best_validation", "rates": [0.1, 0.01]},
)


@pytest.fixture(scope="module")
def many() -> TrainResult:
    return ffengine.train(tuned(*MANY))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_replica_has_the_bits_of_its_seed_alone(many: TrainResult, seed: int) -> None:
    alone = ffengine.train(tuned(*MANY, seeds=[seed])).baselines
    assert tuple(row for row in many.baselines if row.seed == seed) == alone


def test_every_layer_has_an_accuracy_and_the_stacks_is_that_of_the_last(
    many: TrainResult,
) -> None:
    for row in many.baselines:
        assert row.layer_accuracy is not None
        if row.layer == 1:
            assert row.layer_accuracy == row.accuracy
    assert {row.batch_size for row in rows_of(many, 2)} == {30}
    assert {row.batch_size for row in rows_of(many, 0)} == {50}


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [5, 9, 16, 22])
def test_a_run_that_is_stopped_while_a_baseline_learns_goes_on_from_there(
    many: TrainResult, stop_at: int
) -> None:
    spec, left, batches = tuned(*MANY), [stop_at], [0]

    def stop(report: BatchReport) -> str:
        left[0] -= bool(report.message)
        return "stop" if left[0] == 0 else "run"

    def count(report: BatchReport) -> str:
        batches[0] += bool(report.message)
        return "run"

    with pytest.raises(Interrupted) as stopped:
        ffengine.train(spec, on_batch=stop)  # type: ignore[arg-type]
    checkpoint = Checkpoint.from_bytes(stopped.value.checkpoint.to_bytes())  # type: ignore[union-attr]
    resumed = ffengine.train(spec, on_batch=count, resume=checkpoint)  # type: ignore[arg-type]
    assert resumed.model_dump(exclude={"provenance"}) == many.model_dump(exclude={"provenance"})
    whole = 8 + 4 + 2 * 4 + 2 * 8  # steps of all trials
    assert batches[0] == whole - stop_at


def test_progress_goes_on_while_baselines_learn_and_says_which() -> None:
    reports: list[BatchReport] = []
    baseline = {"name": "cross_entropy", "rates": [0.1, 0.01], "epochs": 3, "batch_size": 100}
    ffengine.train(tuned(baseline), on_batch=reports.append)  # type: ignore[arg-type]
    assert [round(report.fraction * 10, 6) for report in reports] == [
        *[0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4],
        *[5, 6, 7, 8, 9, 10],
    ]
    assert [report.message for report in reports if report.message] == [
        f"baseline cross_entropy: rate {rate} of 2, epoch {epoch} of 3"
        for rate in (1, 2)
        for epoch in (1, 2, 3)
    ]


def test_a_checkpoint_between_training_and_baselines_counts_the_epochs_of_both() -> None:
    spec = tuned("cross_entropy")
    facts = DATASETS["mnist-mini"]
    assert fraction_done(spec, facts, Position(2, 0, 0)) == pytest.approx(4 / 6)
    assert fraction_done(spec, facts, Position(2, 1, 1)) == pytest.approx(5.5 / 6)
    assert fraction_done(spec, facts, Position(2, 2, 0)) == 1


# Specs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baselines": ["cross_entropy", {"name": "cross_entropy"}]}, "each value once"),
        (
            {"baselines": [{"name": "cross_entropy", "rates": [0.1, 0.2]}]},
            "evaluation.baselines.0.rates: choosing among several needs dataset.validation_samples",
        ),
        (
            {"baselines": ["ff_objective", {"name": "cross_entropy", "select": "best_validation"}]},
            "evaluation.baselines.1.select: choosing among several needs "
            "dataset.validation_samples",
        ),
        ({"baselines": [{"name": "cross_entropy", "rates": [0.1, 0.1]}]}, "each value once"),
    ],
)
def test_what_a_baseline_cannot_choose_is_refused_in_words(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message.replace(".", r"\.")):
        spec_of(evaluation=changes)


def test_without_labels_the_objectives_baseline_has_nothing_to_choose_by() -> None:
    with pytest.raises(ValidationError, match="predicts no labels"):
        tuned({"name": "ff_objective", "rates": RATES}, negatives={"strategy": "hybrid"})


def test_a_name_alone_is_written_as_it_was_and_keeps_the_digest_of_the_spec() -> None:
    """The digest is that of fflab 0.3, computed before baselines had settings."""
    spec = spec_of(evaluation={"baselines": ["cross_entropy", {"name": "ff_objective"}]})
    assert spec.evaluation.model_dump()["baselines"] == ("cross_entropy", "ff_objective")
    assert digest(spec) == "d73ad93cdfd1aad5df287a1c7bfaf948d8142c166ea9486ddddf43fbff3fdaf1"


def test_settings_are_read_back_as_they_were_written() -> None:
    spec = tuned(*MANY)
    assert TrainSpec.model_validate(as_document(spec)) == spec
    assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec
    assert digest(spec) != digest(tuned(*MANY[:3]))


def test_rows_of_earlier_results_are_still_read() -> None:
    row = BaselineRow.model_validate(
        {
            "seed": 0,
            "baseline": "cross_entropy",
            "layer": 0,
            "partition": "test",
            "samples": 50,
            "sparsity": 0.5,
            "dead_units": 1,
            "accuracy": 0.5,
        }
    )
    assert (row.place, row.lr, row.tuned, row.trials) == (0, None, False, ())


def test_the_example_tunes_every_rival_on_validation_samples() -> None:
    text = (Path(__file__).parents[2] / "examples" / "baselines.yaml").read_text(encoding="utf-8")
    spec = TrainSpec.model_validate(yaml.safe_load(text))
    assert all(one.tuned and one.optimizer for one in spec.evaluation.baselines)
