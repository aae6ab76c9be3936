"""What is found out of a trained network, against slow forms: loops, float64, other optimisers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ffengine
from ffengine import evaluation
from ffengine.checkpoint import Checkpoint
from ffengine.control import Interrupted
from ffengine.draws import Draws
from ffengine.ensembles import class_ensembles, ensemble_overlap, ensemble_sizes, units_in_ensembles
from ffengine.monitor import paired
from ffengine.network import Network
from ffengine.readout import choose_penalty, fit_linear
from ffengine.samples import load_samples
from ffengine.separation import auc
from ffengine.spec import TrainSpec
from ffengine.training import BatchReport, EpochReport
from tests.engine import reference
from tests.engine.test_training import spec_of

CPU = torch.device("cpu")

# Separation


@given(
    positive=st.lists(st.integers(-3, 3), min_size=1, max_size=12),
    negative=st.lists(st.integers(-3, 3), min_size=1, max_size=12),
)
def test_auc_equals_the_double_loop_with_ties(positive: list[int], negative: list[int]) -> None:
    wins = math.fsum((p > q) + (p == q) / 2 for p in positive for q in negative)
    found = auc(torch.tensor([positive, negative[:1] * len(positive)]).float(), torch.tensor([negative, negative]).float())
    assert float(found[0]) == pytest.approx(wins / len(positive) / len(negative))
    assert found.dtype == torch.float64


# Linear readout


def blobs(seed: int, samples: int, features: int, classes: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % classes
    centers = torch.randn(classes, features, generator=generator)
    return (centers[labels] + spread * torch.randn(samples, features, generator=generator)).unsqueeze(0), labels.unsqueeze(0)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), penalty=st.sampled_from([1e-3, 0.1]), classes=st.integers(2, 4))
def test_a_readout_is_at_the_minimum_of_its_loss(seed: int, penalty: float, classes: int) -> None:
    features, labels = blobs(seed, 40, 5, classes, 1.0)
    features[..., 4] = 7.0  # a unit that never changes
    readout = fit_linear(features, labels, classes, penalty=penalty)
    assert readout.converged
    x = features[0].double()
    deviation = x.std(0, correction=0)
    standard = (x - x.mean(0)) / torch.where(deviation > 0, deviation, 1.0)
    weight = readout.weight[0].double().requires_grad_()

    def loss(w: torch.Tensor) -> torch.Tensor:
        logits = standard @ w[:, :-1].T + w[:, -1]
        entropy = -(logits.softmax(1)[torch.arange(40), labels[0]].log().mean())
        return entropy + penalty / 2 * w[:, :-1].square().sum()

    (slope,) = torch.autograd.grad(loss(weight), weight)
    assert float(slope.abs().max()) < 3e-4
    slow = torch.zeros_like(weight, requires_grad=True)
    for _ in range(3000):  # plain gradient descent
        (slope,) = torch.autograd.grad(loss(slow), slow)
        slow = (slow - 0.5 * slope).detach().requires_grad_()
    assert float(loss(weight).detach()) <= float(loss(slow).detach()) + 1e-5


def test_a_readout_is_the_same_for_a_replica_alone_and_classifies_what_can_be_told_apart() -> None:
    (one, labels), (other, _) = blobs(0, 300, 8, 3, 0.2), blobs(1, 300, 8, 3, 0.2)
    both = fit_linear(torch.cat([one, other]), labels.expand(2, -1), 3, penalty=1e-3)
    alone = fit_linear(other, labels, 3, penalty=1e-3)
    assert torch.equal(both.predict(torch.cat([one, other]))[1], alone.predict(other)[0])
    assert torch.equal(alone.predict(other), labels)
    again = fit_linear(other, labels, 3, penalty=1e-3)
    assert torch.equal(alone.weight, again.weight)


def test_the_penalty_is_chosen_on_held_out_samples_and_ties_go_to_the_strongest() -> None:
    features, labels = blobs(0, 90, 8, 3, 0.1)
    assert choose_penalty(features[:, :60], labels[:, :60], features[:, 60:], labels[:, 60:], 3, penalties=(1e-4, 1e-2, 1e-3)) == 1e-2
    noisy, labels = blobs(2, 60, 30, 3, 2.5)
    scores = {
        penalty: int((fit_linear(noisy[:, :30], labels[:, :30], 3, penalty=penalty).predict(noisy[:, 30:]) == labels[:, 30:]).sum())
        for penalty in (1e-4, 1e-2, 1.0, 100.0)
    }
    assert len(set(scores.values())) > 1
    chosen = choose_penalty(noisy[:, :30], labels[:, :30], noisy[:, 30:], labels[:, 30:], 3, penalties=tuple(scores))
    assert chosen == max(penalty for penalty, score in scores.items() if score == max(scores.values()))


# Ensembles


@given(seed=st.integers(0, 2**31), samples=st.integers(0, 12), width=st.integers(1, 6))
def test_ensembles_equal_their_definition_in_loops(seed: int, samples: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    h = torch.relu(torch.randn(samples, width, generator=generator))
    labels = torch.randint(0, 3, (samples,), generator=generator)
    members = class_ensembles(h, labels, 3)
    expected = []
    for label in range(3):
        own = [row for row, of in zip(h.tolist(), labels.tolist(), strict=True) if of == label]
        expected.append([bool(own) and sum(abs(row[j]) > 0.1 * max(map(abs, row)) for row in own) > 0.5 * len(own) for j in range(width)])
    assert members.tolist() == expected
    sets = [{j for j in range(width) if row[j]} for row in expected]
    assert ensemble_sizes(members).tolist() == [len(one) for one in sets]
    assert ensemble_overlap(members).tolist() == [[len(a & b) / len(a | b) if a | b else 0.0 for b in sets] for a in sets]
    counts = [sum(row[j] for row in expected) for j in range(width)]
    assert units_in_ensembles(members) == pytest.approx((sum(c >= 1 for c in counts) / width, sum(c >= 2 for c in counts) / width))


# The whole evaluation of a run

WHOLE = spec_of(
    network={"widths": [10, 8], "normalize": "l2"},
    dataset={"train_samples": 120, "validation_samples": 60, "test_samples": 50},
    evaluation={"linear_classifier": True, "linear_layers": "all", "linear_penalties": [0.1, 0.01], "ensembles": True},
    seeds=[4, 5],
)


def test_measures_equal_a_loop_over_samples() -> None:
    reports: list[EpochReport] = []
    result = ffengine.train(WHOLE, on_epoch=reports.append)  # type: ignore[arg-type]
    network = Network(WHOLE.network, reports[-1].checkpoint.weights)
    test = load_samples(WHOLE.dataset, CPU).test
    everything = torch.arange(50).expand(2, -1)
    x = paired(WHOLE, test, everything, Draws(WHOLE.seeds), ("test-negatives", 0), None)
    row = next(row for row in result.measures if (row.seed, row.layer, row.partition) == (5, 1, "test"))
    h = network.activations(x)[1][1]
    positive = [values for values in h[:50].tolist() if any(values)]
    assert row.samples == 50
    assert row.dead_samples == 50 - len(positive)
    for name, slow in (("gini", reference.gini), ("treves_rolls", reference.treves_rolls), ("kurtosis", reference.kurtosis)):
        assert getattr(row, name) == pytest.approx(math.fsum(map(slow, positive)) / len(positive), rel=1e-5), name
    assert row.sparsity == pytest.approx(math.fsum(map(reference.hoyer, positive)) / len(positive), rel=1e-6)
    assert row.zero_fraction == pytest.approx(float((h[:50] == 0).double().mean()))
    goodness = h.square().sum(1)
    assert row.auc == pytest.approx(float((goodness[:50, None] > goodness[None, 50:]).double().mean()), abs=1e-4)
    for label, mean in enumerate(row.class_sparsity):
        own = [
            reference.hoyer(values) for values, of in zip(h[:50].tolist(), test.labels.tolist(), strict=True) if of == label and any(values)
        ]
        assert mean == (pytest.approx(math.fsum(own) / len(own), rel=1e-6) if own else None)


def test_partitions_are_reported_apart_and_training_samples_are_never_called_held_out() -> None:
    result = ffengine.train(WHOLE)
    assert {row.partition for row in result.accuracy} == {"train", "validation", "test"}
    assert {row.partition for row in result.measures} == {"validation", "test"}
    assert {row.partition for row in result.ensembles} == {"validation", "test"}
    linear = [row for row in result.accuracy if row.method == "linear"]
    assert {(row.seed, row.partition, row.samples) for row in linear} == {
        (seed, partition, count) for seed in (4, 5) for partition, count in (("train", 120), ("validation", 60), ("test", 50))
    }
    assert all(row.layers == (0, 1) for row in linear)
    for row in result.ensembles:
        assert len(row.sizes) == 10
        assert all(row.overlap[a][b] == row.overlap[b][a] for a in range(10) for b in range(10))


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
    assert next(row.accuracy for row in result.accuracy if row.method == "linear" and row.partition == "train") > 0.5


def test_held_out_choices_do_not_move_the_training_result() -> None:
    plain = ffengine.train(WHOLE.model_copy(update={"evaluation": TrainSpec().evaluation}))
    assert plain.curves == ffengine.train(WHOLE).curves


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


def test_backpropagation_learns_to_classify_and_every_layer_is_described() -> None:
    rows = ffengine.train(BACKPROP).baselines
    assert {(row.baseline, row.seed, row.layer) for row in rows} == {
        (name, seed, layer) for name in ("cross_entropy", "ff_objective") for seed in (1, 2) for layer in (0, 1)
    }
    assert all(row.partition == "test" and row.samples == 100 and row.sparsity is not None for row in rows)
    assert min(row.accuracy or 0 for row in rows if row.baseline == "cross_entropy") > 0.4
    assert min(row.accuracy or 0 for row in rows if row.baseline == "ff_objective") > 0.15


def test_a_baseline_of_a_replica_equals_the_one_of_its_seed_alone() -> None:
    together = [row for row in ffengine.train(BACKPROP).baselines if row.seed == 2]
    alone = ffengine.train(BACKPROP.model_copy(update={"seeds": (2,)})).baselines
    for one, other in zip(together, alone, strict=True):
        assert one.sparsity == pytest.approx(other.sparsity, abs=1e-4)
        assert one.accuracy == pytest.approx(other.accuracy, abs=0.02)


def test_without_labels_the_objectives_baseline_has_no_accuracy() -> None:
    spec = BACKPROP.model_copy(update={"negatives": TrainSpec.model_validate({"negatives": {"strategy": "hybrid"}}).negatives})
    rows = ffengine.train(spec).baselines
    assert {row.accuracy is None for row in rows if row.baseline == "ff_objective"} == {True}


def test_a_run_stopped_while_a_baseline_learns_ends_with_the_same_result() -> None:
    whole = ffengine.train(BACKPROP)
    left = [290]  # 180 batches of the layers, 90 of each baseline

    def stop_late(_report: BatchReport) -> str | None:
        left[0] -= 1
        return "stop" if left[0] == 0 else None

    with pytest.raises(Interrupted) as stopped:
        ffengine.train(BACKPROP, on_batch=stop_late)  # type: ignore[arg-type]
    checkpoint = Checkpoint.from_bytes(stopped.value.checkpoint.to_bytes())  # type: ignore[union-attr]
    assert ffengine.train(BACKPROP, resume=checkpoint).model_dump(exclude={"provenance"}) == whole.model_dump(exclude={"provenance"})
