"""What is found out of a trained network, against slow forms: loops, float64, other optimisers."""

import math

import pytest
import torch

import ffengine
from ffengine import evaluation
from ffengine.baseline_training import Stack
from ffengine.baselines import Batch
from ffengine.checkpoint import Checkpoint
from ffengine.interrupts import Interrupted
from ffengine.monitor import paired
from ffengine.network import Network
from ffengine.objectives import Difference
from ffengine.optimizers import Sgd
from ffengine.random_streams import Draws
from ffengine.results import TrainResult
from ffengine.samples import load_samples
from ffengine.spec import TrainSpec
from ffengine.training import BatchReport, EpochReport
from tests.engine import reference
from tests.engine.specs import spec_of

CPU = torch.device("cpu")

# The whole evaluation of a run

WHOLE = spec_of(
    network={"widths": [10, 8], "normalize": "l2"},
    dataset={"train_samples": 120, "validation_samples": 60, "test_samples": 50},
    evaluation={
        "linear_classifier": True,
        "linear_layers": "all",
        "linear_penalties": [0.1, 0.01],
        "ensembles": True,
    },
    seeds=[4, 5],
)


@pytest.fixture(scope="module")
def whole() -> TrainResult:
    return ffengine.train(WHOLE)


@pytest.mark.slow
def test_measures_equal_a_loop_over_samples() -> None:
    reports: list[EpochReport] = []
    result = ffengine.train(WHOLE, on_epoch=reports.append)  # type: ignore[arg-type]
    network = Network(WHOLE.network, reports[-1].checkpoint.weights)
    test = load_samples(WHOLE.dataset, CPU).test
    everything = torch.arange(50).expand(2, -1)
    x = paired(WHOLE, test, everything, Draws(WHOLE.seeds), ("test-negatives", 0), None)
    row = next(
        row for row in result.measures if (row.seed, row.layer, row.partition) == (5, 1, "test")
    )
    h = network.activations(x)[1][1]
    positive = [values for values in h[:50].tolist() if any(values)]
    assert row.samples == 50
    assert row.dead_samples == 50 - len(positive)
    for name, slow in (
        ("gini", reference.gini),
        ("treves_rolls", reference.treves_rolls),
        ("kurtosis", reference.kurtosis),
    ):
        assert getattr(row, name) == pytest.approx(
            math.fsum(map(slow, positive)) / len(positive), rel=1e-5
        ), name
    assert row.sparsity == pytest.approx(
        math.fsum(map(reference.hoyer, positive)) / len(positive), rel=1e-6
    )
    assert row.zero_fraction == pytest.approx(float((h[:50] == 0).double().mean()))
    goodness = h.square().sum(1)
    assert row.auc == pytest.approx(
        float((goodness[:50, None] > goodness[None, 50:]).double().mean()), abs=1e-4
    )
    for label, mean in enumerate(row.class_sparsity):
        own = [
            reference.hoyer(values)
            for values, of in zip(h[:50].tolist(), test.labels.tolist(), strict=True)
            if of == label and any(values)
        ]
        assert mean == (pytest.approx(math.fsum(own) / len(own), rel=1e-6) if own else None)


@pytest.mark.slow
def test_partitions_are_reported_apart_and_training_samples_are_never_called_held_out(
    whole: TrainResult,
) -> None:
    result = whole
    assert {row.partition for row in result.accuracy} == {"train", "validation", "test"}
    assert {row.partition for row in result.measures} == {"validation", "test"}
    assert {row.partition for row in result.ensembles} == {"validation", "test"}
    linear = [row for row in result.accuracy if row.method == "linear"]
    assert {(row.seed, row.partition, row.samples) for row in linear} == {
        (seed, partition, count)
        for seed in (4, 5)
        for partition, count in (("train", 120), ("validation", 60), ("test", 50))
    }
    assert all(row.layers == (0, 1) for row in linear)
    for row in result.ensembles:
        assert len(row.sizes) == 10
        assert all(row.overlap[a][b] == row.overlap[b][a] for a in range(10) for b in range(10))


@pytest.mark.slow
def test_accuracy_by_a_linear_classifier_is_that_of_its_features() -> None:
    reports: list[EpochReport] = []
    result = ffengine.train(WHOLE, on_epoch=reports.append)  # type: ignore[arg-type]
    network = Network(WHOLE.network, [weight[:1] for weight in reports[-1].checkpoint.weights])
    partitions = load_samples(WHOLE.dataset, CPU)
    features = evaluation.neutral_features(network, WHOLE, partitions.test, (0, 1))
    x = partitions.test.plain.clone()
    x[:, :10] = 0.1
    first = torch.relu(x @ network.weights[0][0].T)
    first = first / first.norm(dim=1, keepdim=True).clamp_min(1e-12)
    second = torch.relu(first @ network.weights[1][0].T)
    second = second / second.norm(dim=1, keepdim=True).clamp_min(1e-12)
    assert torch.allclose(features[0], torch.cat([first, second], dim=1), atol=1e-5)
    assert (
        next(
            row.accuracy
            for row in result.accuracy
            if row.method == "linear" and row.partition == "train"
        )
        > 0.5
    )


def test_held_out_choices_do_not_move_the_training_result(whole: TrainResult) -> None:
    plain = ffengine.train(WHOLE.model_copy(update={"evaluation": TrainSpec().evaluation}))
    assert plain.curves == whole.curves


# Baselines

BACKPROP = spec_of(
    dataset={"train_samples": 300, "test_samples": 100},
    network={"widths": [20, 15], "bias": True, "normalize": "l2"},
    objective={"name": "softplus", "goodness": "sum_squares", "threshold": 1.0},
    optimizer={"name": "adam", "lr": 0.01},
    epochs=15,
    evaluation={"baselines": ["cross_entropy", "ff_objective"]},
    seeds=[1, 2],
)


@pytest.fixture(scope="module")
def backprop() -> TrainResult:
    return ffengine.train(BACKPROP)


@pytest.mark.slow
def test_backpropagation_learns_to_classify_and_every_layer_is_described(
    backprop: TrainResult,
) -> None:
    rows = backprop.baselines
    assert {(row.baseline, row.seed, row.layer) for row in rows} == {
        (name, seed, layer)
        for name in ("cross_entropy", "ff_objective")
        for seed in (1, 2)
        for layer in (0, 1)
    }
    assert all(
        row.partition == "test" and row.samples == 100 and row.sparsity is not None for row in rows
    )
    assert min(row.accuracy or 0 for row in rows if row.baseline == "cross_entropy") > 0.4
    assert min(row.accuracy or 0 for row in rows if row.baseline == "ff_objective") > 0.15


@pytest.mark.slow
def test_a_baseline_of_a_replica_equals_the_one_of_its_seed_alone(backprop: TrainResult) -> None:
    together = [row for row in backprop.baselines if row.seed == 2]
    alone = ffengine.train(BACKPROP.model_copy(update={"seeds": (2,)})).baselines
    for one, other in zip(together, alone, strict=True):
        assert one.sparsity == pytest.approx(other.sparsity, abs=1e-4)
        assert one.accuracy == pytest.approx(other.accuracy, abs=0.02)


@pytest.mark.slow
def test_without_labels_the_objectives_baseline_has_no_accuracy() -> None:
    spec = BACKPROP.model_copy(
        update={
            "epochs": 2,
            "negatives": TrainSpec.model_validate({"negatives": {"strategy": "hybrid"}}).negatives,
        }
    )
    rows = ffengine.train(spec).baselines
    assert {row.accuracy is None for row in rows if row.baseline == "ff_objective"} == {True}


@pytest.mark.slow
def test_a_baseline_that_diverged_has_no_figures_and_is_named() -> None:
    """Layers that learn the difference are rescaled; backpropagation of it grows without limit."""
    spec = BACKPROP.model_copy(
        update={
            "objective": Difference(),
            "optimizer": Sgd(lr=20.0, scale_lr_by_width=False),
            "epochs": 60,
        }
    )
    found = ffengine.train(spec)
    lost = [row for row in found.baselines if row.baseline == "ff_objective"]
    assert {(row.diverged, row.sparsity, row.accuracy) for row in lost} == {(True, None, None)}
    (named,) = (one for one in found.diagnostics if one.code == "baseline_diverged")
    assert named.severity == "warning"
    assert named.evidence == {"baseline": "ff_objective", "seeds": [1, 2]}
    assert "no lower bound" in str(named.suggestion)


def test_the_divergence_of_one_seed_leaves_the_figures_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learn = Stack.learn

    def spoilt(stack: Stack, batch: Batch) -> None:
        learn(stack, batch)
        if stack.baseline.name == "cross_entropy":
            stack.parameters[0][1, 3, 2] = math.nan

    monkeypatch.setattr(Stack, "learn", spoilt)
    found = ffengine.train(BACKPROP.model_copy(update={"epochs": 1}))
    rows = [row for row in found.baselines if row.baseline == "cross_entropy"]
    assert {
        (row.seed, row.diverged, row.sparsity is None, row.accuracy is None) for row in rows
    } == {
        (1, False, False, False),
        (2, True, True, True),
    }
    (named,) = (one for one in found.diagnostics if one.code == "baseline_diverged")
    assert named.evidence == {"baseline": "cross_entropy", "seeds": [2]}
    assert "by ten" in str(named.suggestion)


@pytest.mark.slow
def test_a_run_stopped_while_a_baseline_learns_ends_with_the_same_result(
    backprop: TrainResult,
) -> None:
    left = [290]  # 180 batches of the layers, 90 of each baseline

    def stop_late(_report: BatchReport) -> str | None:
        left[0] -= 1
        return "stop" if left[0] == 0 else None

    with pytest.raises(Interrupted) as stopped:
        ffengine.train(BACKPROP, on_batch=stop_late)  # type: ignore[arg-type]
    checkpoint = Checkpoint.from_bytes(stopped.value.checkpoint.to_bytes())  # type: ignore[union-attr]
    assert ffengine.train(BACKPROP, resume=checkpoint).model_dump(
        exclude={"provenance"}
    ) == backprop.model_dump(exclude={"provenance"})
