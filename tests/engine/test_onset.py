"""What is predicted before training, beside slow independent forms and measured values."""

import itertools
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ffengine
from ffengine.advice import advice_on
from ffengine.arrays import Arrays
from ffengine.class_means import TrainingInputs, class_means, largest_second_moment
from ffengine.datasets import Dataset, Datasets, Loaded
from ffengine.flow import flow_times
from ffengine.network import normalized
from ffengine.onset import (
    critical_eta,
    growth_factor,
    halfway_lr,
    onset_before,
    onset_of,
)
from ffengine.optimizers import Momentum, Nesterov, Sgd
from ffengine.samples import load_samples
from ffengine.spec import DatasetSpec, NetworkSpec, TrainSpec
from tests.examples import examples

PREPROCESS = ["unit", "standardize", "center", "unit_norm"]


class Made:
    """A data set that is nowhere on the disk."""

    def __init__(self, x: np.ndarray, y: np.ndarray, *, uploaded: bool, classes: int) -> None:
        images = x.reshape(len(x), 1, 1, -1)
        counts = tuple(np.bincount(y, minlength=classes).tolist())
        self.facts = Dataset(
            "made", "", images.shape[1:], counts, 1, "00" * 32, "", "", uploaded=uploaded
        )
        self.arrays = Loaded(Arrays(images, y, images[:1], y[:1]), "ab" * 32)

    def facts_of(self, _name: str) -> Dataset:
        return self.facts

    def loaded(self, _name: str) -> Loaded:
        return self.arrays

    def inputs(self, spec: DatasetSpec, network: NetworkSpec) -> TrainingInputs:
        return TrainingInputs(spec, self.facts, self.arrays, network)


def as_layer_receives(samples: torch.Tensor, network: NetworkSpec, apart: int = 0) -> np.ndarray:
    """By the engine's own functions, in float64; `apart` first inputs are not normalised."""
    x = samples.double()
    if network.normalize_first:
        x = torch.cat([x[:, :apart], normalized(x[:, apart:], network.normalize)], dim=1)
    if network.bias:
        x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    return x.numpy()


def apart_of(spec: DatasetSpec, case: dict[str, Any]) -> int:
    """How many label inputs stand beside what is normalised."""
    return int(case["classes"]) if spec.labels == "every_layer" else 0


def difference_by_loops(x: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """A of units that are all active: a loop over samples, and over the wrong labels of each."""
    found = np.zeros((x.shape[1],) * 2)
    for sample, label in zip(x, labels, strict=True):
        found += np.outer(sample, sample) / len(x)
        for wrong in set(range(classes)) - {int(label)}:
            other = sample.copy()
            other[[label, wrong]] = sample[[wrong, label]]
            found -= np.outer(other, other) / (classes - 1) / len(x)
    return found


datasets_of_any_kind = st.fixed_dictionaries(
    {
        "classes": st.integers(2, 5),
        "seed": st.integers(0, 10_000),
        "as_bytes": st.booleans(),
        "uploaded": st.booleans(),
        "preprocess": st.sampled_from(PREPROCESS),
        "labels": st.sampled_from(["overlay", "append", "every_layer"]),
        "label_strength": st.sampled_from([None, 0.3, 2.0]),
        "normalize": st.sampled_from(["none", "l2", "rms", "layer"]),
        "bias": st.booleans(),
    }
)


def made(case: dict[str, Any]) -> tuple[Made, DatasetSpec, NetworkSpec]:
    random, classes = np.random.default_rng(case["seed"]), case["classes"]
    shares = random.dirichlet(np.full(classes, 2.0))
    y = np.concatenate([np.arange(classes), random.choice(classes, 40, p=shares)])
    x = (random.normal(size=(len(y), 9)) + random.normal(size=(classes, 9))[y]).astype(np.float32)
    if case["as_bytes"]:
        x = random.integers(0, 256, x.shape).astype(np.uint8)
    data = Made(x, y, uploaded=case["uploaded"], classes=classes)
    spec = DatasetSpec.model_validate(
        {"name": "made", **{key: case[key] for key in ("preprocess", "labels", "label_strength")}}
    )
    normalize = case["normalize"]
    network = NetworkSpec(
        normalize=normalize, normalize_first=normalize != "none", bias=case["bias"]
    )
    return data, spec, network


@settings(max_examples=examples(60), deadline=None)
@given(case=datasets_of_any_kind, at_once=st.integers(1, 200))
@example(  # the mean is almost an eigenvector, and not of the largest eigenvalue
    case={
        "classes": 5,
        "seed": 270,
        "as_bytes": True,
        "uploaded": False,
        "preprocess": "center",
        "labels": "append",
        "label_strength": 0.3,
        "normalize": "l2",
        "bias": False,
    },
    at_once=1,
)
def test_growth_rates_are_the_eigenvalues_of_the_whole_matrix(
    case: dict[str, Any], at_once: int
) -> None:
    data, spec, network = made(case)
    train = load_samples(spec, torch.device("cpu"), cast("Datasets", data)).train
    x = as_layer_receives(train.labelled, network, apart_of(spec, case))
    labels, classes = train.labels.numpy(), case["classes"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ffengine.class_means.NUMBERS_AT_ONCE", at_once)
        inputs = data.inputs(spec, network)
        np.testing.assert_allclose(
            np.concatenate([block.whole() for block in inputs.blocks()]), x, atol=2e-5, rtol=2e-5
        )
        found = class_means(inputs)
        largest = largest_second_moment(inputs)
    slow = difference_by_loops(x, labels, classes)
    size = np.abs(slow).max()
    np.testing.assert_allclose(found.contrast, slow[:classes, classes:], atol=1e-5 * size)
    np.testing.assert_allclose(found.labels, slow[:classes, :classes], atol=1e-5 * size)
    np.testing.assert_allclose(slow[classes:, classes:], 0, atol=1e-9 * size)
    rates = np.linalg.eigvalsh(slow)[::-1]
    for rate, expected in itertools.zip_longest(found.growth_rates(), rates[:classes]):
        assert (rate or 0.0) == pytest.approx(max(expected, 0.0), abs=2e-5 * size)
    assert largest == pytest.approx(np.linalg.eigvalsh(x.T @ x / len(x))[-1], rel=1e-4)
    of_label = np.square(x[:, :classes]).sum()
    of_others = np.square(x[:, classes:]).sum()
    assert found.label_energy == pytest.approx(of_label / of_others, rel=1e-4)


@settings(max_examples=examples(30), deadline=None)
@given(case=datasets_of_any_kind)
def test_recruitment_is_that_of_the_formula_term_by_term(case: dict[str, Any]) -> None:
    case |= {"label_strength": case["label_strength"] or 1.0, "normalize": "none"}
    data, spec, network = made(case)
    train = load_samples(spec, torch.device("cpu"), cast("Datasets", data)).train
    x, labels = as_layer_receives(train.labelled, network), train.labels.numpy()
    classes, amplitude = case["classes"], case["label_strength"]
    images, lengths = x[:, classes:], np.linalg.norm(x, axis=1)
    whole, contrast = images.mean(0), []
    for label in range(classes):  # as docs/theory.md writes it
        share = float(np.mean(labels == label))
        contrast.append((classes * share * images[labels == label].mean(0) - whole) / (classes - 1))
    drift = sum(
        image * (image @ contrast[label]) / length
        for image, label, length in zip(images, labels, lengths, strict=True)
    ) / len(x)
    mean = np.mean([image @ drift / length for image, length in zip(images, lengths, strict=True)])
    found = class_means(data.inputs(spec, network))
    rate = np.linalg.eigvalsh(difference_by_loops(x, labels, classes))[-1]
    scale = amplitude**2 / rate**2
    assert found.recruitment == pytest.approx(scale * mean, rel=1e-3, abs=1e-4 * scale)


@pytest.mark.slow
def test_the_mean_unit_drifts_as_far_as_recruitment_says() -> None:
    """E[wddot] over Gaussian units, by drawing them: 8 C/(C-1) / (2 sqrt(2 pi m)) V."""
    data = Datasets.of_environment().loaded("digits").arrays
    x, y = data.x_train[:300].reshape(300, -1).astype(np.float64) / 255, data.y_train[:300]
    one_hot, strength = np.eye(10)[y], 0.3
    positive = np.concatenate([strength * one_hot, x], axis=1)
    signed = [(positive, np.full(300, 1 / 300))]
    for shift in range(1, 10):
        wrong = np.concatenate([strength * np.roll(one_hot, shift, axis=1), x], axis=1)
        signed.append((wrong, np.full(300, -1 / 2700)))
    rows, signs = (np.concatenate(part) for part in zip(*signed, strict=True))
    random, inputs, total, units = np.random.default_rng(0), rows.shape[1], 0.0, 6_000
    for _ in range(units // 500):
        w = random.normal(size=(500, inputs)) / math.sqrt(inputs)
        z = w @ rows.T
        velocity = 2 * (signs * np.maximum(z, 0)) @ rows
        total = total + (2 * (signs * (z > 0) * (velocity @ rows.T)) @ rows).sum(0)
    measured = np.asarray(total)[10:] / units
    contrast = (10 * one_hot - 1).T @ x / 9 / 300
    alike = np.einsum("nm,nm->n", x, contrast[y]) / np.linalg.norm(positive, axis=1)
    predicted = 8 * (10 / 9) / (2 * math.sqrt(2 * math.pi * inputs)) * strength**2 * alike @ x / 300
    cosine = measured @ predicted / np.linalg.norm(measured) / np.linalg.norm(predicted)
    assert cosine > 0.97
    assert np.linalg.norm(measured) == pytest.approx(np.linalg.norm(predicted), rel=0.12)


@settings(max_examples=examples(30), deadline=None)
@given(case=datasets_of_any_kind)
def test_the_overlap_of_masks_is_the_mean_over_pairs_one_by_one(case: dict[str, Any]) -> None:
    data, spec, network = made(case)
    train = load_samples(spec, torch.device("cpu"), cast("Datasets", data)).train
    x = as_layer_receives(train.labelled, network, apart_of(spec, case))
    shares = []
    for one, other in itertools.combinations(x, 2):
        cosine = one @ other / math.sqrt((one @ one) * (other @ other))
        shares.append(1 - math.acos(min(1.0, max(-1.0, cosine))) / math.pi)
    assert class_means(data.inputs(spec, network)).overlap == pytest.approx(
        np.mean(shares), abs=1e-4
    )


@pytest.mark.slow
def test_at_random_the_classes_direction_grows_at_the_overlap_times_lambda_1() -> None:
    """v . A(w) v over units and the samples that they are active on, by drawing units."""
    spec = TrainSpec(dataset=DatasetSpec(name="digits", label_strength=0.3))
    found = onset_of(spec)
    assert found.lambda_1 is not None
    assert found.overlap is not None
    x = load_samples(spec.dataset, torch.device("cpu")).train.labelled.double().numpy()[:500]
    y = np.argmax(x[:, :10], axis=1)
    labels, others = x[:, :10], x[:, 10:]
    whole = difference_by_loops(x, y, 10)
    rate, direction = np.linalg.eigh(whole)
    v = direction[:, -1]
    random, grown, counts = np.random.default_rng(0), 0.0, 0.0
    for _ in range(400):
        w = random.normal(size=x.shape[1])
        own = (x @ w > 0) * np.square(x @ v)
        wrong = np.zeros(len(x))
        for shift in range(1, 10):
            other = np.concatenate([np.roll(labels, shift, axis=1), others], axis=1)
            wrong += (other @ w > 0) * np.square(other @ v) / 9
        active = float((x @ w > 0).mean())
        grown += active * float((own - wrong).mean())
        counts += active
    assert grown / counts == pytest.approx(found.overlap * rate[-1], rel=0.06)


@pytest.mark.slow
def test_mnist_mini_has_the_measured_values() -> None:
    found = onset_of(TrainSpec())
    assert found.overlap == pytest.approx(0.634, abs=6e-3)
    # theory: .639, then .55 .49 .38 .33 .28 .26 .17 .15
    expected = (0.639, 0.554, 0.490, 0.375, 0.328, 0.278, 0.261, 0.171, 0.147)
    assert found.growth_rates == pytest.approx(expected, abs=6e-4)
    assert found.recruitment == pytest.approx(1.267, abs=2e-3)
    assert found.falls
    assert found.overlap is not None
    rate = 0.6388 * found.overlap
    assert found.tau_star == pytest.approx(0.9 / rate, rel=1e-3)
    assert found.tau_star_low == pytest.approx(0.65 / rate, rel=1e-3)
    assert found.tau_star_high == pytest.approx(1.15 / rate, rel=1e-3)
    assert found.tau_end == pytest.approx(0.24)
    assert found.epochs_to_selection == pytest.approx(93, abs=1)
    assert halfway_lr(TrainSpec(), found) == pytest.approx(500 / 27, rel=0.03)
    for strength in (0.25, 0.5, 2.0):  # in proportion to the label's amplitude
        spec = TrainSpec(dataset=DatasetSpec(label_strength=strength))
        assert onset_of(spec).lambda_1 == pytest.approx(0.6388 * strength, rel=1e-3)


def test_centred_images_have_no_act_1_and_the_same_growth_rates() -> None:
    found = onset_of(TrainSpec(dataset=DatasetSpec(preprocess="center")))
    assert found.lambda_1 == pytest.approx(0.6388, abs=1e-4)
    assert abs(found.recruitment or 1) < 0.01
    assert found.falls is False
    assert found.tau_star is None
    assert "not expected to fall" in found.unknown["tau_star"]
    assert "rise from the start" in found.message


@pytest.mark.slow
@pytest.mark.parametrize(("name", "slow", "epochs"), [("mnist-mini", 1.0, 10), ("digits", 4.0, 24)])
def test_s_of_runs_is_lowest_within_the_predicted_band(name: str, slow: float, epochs: int) -> None:
    """The mean of five seeds, as in docs/findings/onset.md."""
    spec = TrainSpec.model_validate(
        {
            "dataset": {"name": name},
            "network": {"widths": [256]},
            "optimizer": {"lr": slow * 256 / 30},
            "epochs": epochs,
            "seeds": [0, 1, 2, 3, 4],
            "monitor": {"samples": 500, "theorems": []},
            "evaluation": {"measures": False},
        }
    )
    result = ffengine.train(spec)
    assert result.onset is not None
    assert result.onset.tau_star_low is not None
    assert result.onset.tau_star_high is not None
    means: dict[float, float] = {}
    for row in result.curves:
        means[row.tau or 0.0] = means.get(row.tau or 0.0, 0.0) + (row.sparsity or 0.0)
    lowest = min(means, key=means.__getitem__)
    assert result.onset.tau_star_low <= lowest <= result.onset.tau_star_high
    assert max(means) > result.onset.tau_star_high  # it rises since


def mnist_first(count: int, **dataset: Any) -> TrainSpec:
    return TrainSpec(dataset=DatasetSpec(name="mnist", train_samples=count, **dataset))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "dataset", "rate", "recruitment"),
    [
        (60_000, {}, 0.619, None),
        (10_000, {}, 0.638, None),
        (2_000, {}, 0.609, 1.35),
        (2_000, {"label_strength": 0.25}, 0.152, 1.37),
        (2_000, {"label_strength": 0.5}, 0.304, 1.37),
        (2_000, {"label_strength": 2.0}, 1.22, 1.30),
        (2_000, {"label_strength": 4.0}, 2.45, 1.14),
        (2_000, {"preprocess": "center"}, 0.64, -0.001),
        (2_000, {"preprocess": "standardize", "label_strength": 1.0}, 2.03, 0.95),
    ],
)
def test_mnist_has_the_measured_values(
    count: int, dataset: dict[str, Any], rate: float, recruitment: float | None
) -> None:
    found = onset_of(mnist_first(count, **dataset), Datasets.of_environment())
    assert found.lambda_1 == pytest.approx(rate, rel=8e-3)
    if recruitment is not None:
        assert found.recruitment == pytest.approx(recruitment, abs=0.011)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("digits", "share", "rate", "recruitment"),
    [
        ((3, 5, 8), 0.0, 1.41, 0.58),
        ((0, 1, 2, 3, 4), 0.0, 1.32, 0.70),
        ((4, 9), 0.0, 1.89, 0.25),
        (range(10), 0.25, 0.62, 0.90),
        (range(10), 0.5, 0.62, 0.45),
        (range(10), 0.75, 0.63, 0.12),
    ],
)
def test_subsets_and_images_less_a_part_of_their_mean_have_the_measured_values(
    digits: tuple[int, ...], share: float, rate: float, recruitment: float
) -> None:
    arrays = Datasets.of_environment().loaded("mnist").arrays
    ours = np.isin(arrays.y_train, digits)
    x = arrays.x_train[ours][:2_000].reshape(2_000, -1)[:, 10:] / np.float32(255)
    y = np.searchsorted(np.array(digits), arrays.y_train[ours][:2_000])
    data = Made((x - share * x.mean(0)).astype(np.float32), y, uploaded=True, classes=len(digits))
    found = class_means(
        data.inputs(DatasetSpec(name="made", labels="append", label_strength=1.0), NetworkSpec())
    )
    assert found.growth_rates()[0] == pytest.approx(rate, rel=0.011)  # given to two digits
    assert found.recruitment == pytest.approx(recruitment, abs=0.011)


@pytest.mark.parametrize(
    "optimizer",
    [
        Sgd(),
        Sgd(weight_decay=0.7),
        Momentum(momentum=0.9),
        Momentum(momentum=0.8, weight_decay=0.4),
        Nesterov(momentum=0.6),
        Nesterov(momentum=0.9, weight_decay=0.9),
    ],
    ids=lambda one: f"{one.name} {one.weight_decay:g}",
)
@pytest.mark.parametrize(("rate", "eta"), [(0.58, 0.1), (0.64, 0.002), (3.0, 0.3)])
def test_an_amplitude_grows_by_the_predicted_factor(
    optimizer: Any, rate: float, eta: float
) -> None:
    weight = torch.ones((1, 1, 1), dtype=torch.float64)
    state = optimizer.new_state(weight)
    for _ in range(400):
        before = weight / weight
        scale = weight.abs().max()
        state = {name: value / scale for name, value in state.items()}
        weight = before + eta * optimizer.direction(before, 2 * rate * before, state)
    assert float(weight) == pytest.approx(growth_factor(optimizer, rate, eta), rel=1e-9)


def test_growth_of_goodness_is_the_measured_one() -> None:
    """Measured at rate .58 and eta .1: log G grows by 2.196 per tau."""
    assert 2 * math.log(growth_factor(Sgd(), 0.58, 0.1)) / 0.1 == pytest.approx(2.196, abs=2e-3)


@pytest.mark.parametrize("schedule", ["constant", "linear_cooldown", "cosine"])
@pytest.mark.parametrize("goodness", ["sum_squares", "mean_squares"])
def test_growth_is_that_of_the_first_epoch_s_steps_less_decay(schedule: str, goodness: str) -> None:
    """log G of the fastest amplitude over the flow time of a step, step by step."""
    optimizer = {"name": "sgd", "lr": 0.1, "scale_lr_by_width": False, "weight_decay": 0.5}
    spec = TrainSpec.model_validate(
        {
            "optimizer": optimizer | {"schedule": schedule},
            "objective": {"name": "difference", "goodness": goodness},
        }
    )
    found = onset_of(spec)
    assert found.lambda_1 is not None
    pull = 2 * found.lambda_1 / (500 if goodness == "mean_squares" else 1)
    amplitude = 1 + 0.1 * (pull - 0.5)
    flow = flow_times(spec, 6_000)[1] / 12
    assert found.goodness_growth == pytest.approx(2 * math.log(amplitude) / flow)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 12 * 1 / 500),
        ({"optimizer": {"lr": 0.1, "scale_lr_by_width": False}}, 12 * 0.1),
        ({"optimizer": {"name": "momentum", "lr": 2.0, "momentum": 0.9}}, 12 * 2 / 500 * 10),
        ({"objective": {"goodness": "mean_squares"}}, 12 / 500 / 500),
        ({"optimizer": {"lr": 50.0, "weight_decay": 2.0}}, 12 * 0.1 / 0.8),
    ],
)
def test_flow_time_is_the_sum_of_step_sizes(changes: dict[str, Any], expected: float) -> None:
    spec = TrainSpec.model_validate(changes)
    assert flow_times(spec, 12 * 500) == pytest.approx([expected * epoch for epoch in range(11)])
    assert onset_of(spec).tau_end == pytest.approx(10 * expected)


@pytest.mark.parametrize("schedule", ["constant", "linear_cooldown", "cosine"])
@pytest.mark.parametrize("batch_size", [500, 700, 9_999])
def test_epochs_are_counted_step_by_step(schedule: str, batch_size: int) -> None:
    spec = TrainSpec.model_validate(
        {"optimizer": {"lr": 300.0, "schedule": schedule}, "batch_size": batch_size, "epochs": 12}
    )
    found = onset_of(spec)
    steps = len(range(0, 6_000, batch_size))
    tau, passed = 0.0, 0
    assert found.tau_star is not None
    for epoch, _ in itertools.product(range(1, 13), range(steps)):
        if tau >= found.tau_star:
            break
        tau += spec.optimizer.eta(500, epoch, 12)
        passed += 1
    assert found.epochs_to_selection == pytest.approx(passed / steps, abs=1.01 / steps)


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"negatives": {"strategy": "hybrid"}}, "lambda_1", "not of hybrid"),
        ({"negatives": {"strategy": "hardest_label"}}, "tau_star", "not of hardest_label"),
        ({"objective": {"name": "softplus"}}, "tau_star", "not of softplus"),
        ({"objective": {"goodness": "l1"}}, "tau_star", "not of l1"),
        ({"objective": {"peer_normalization": 0.1}}, "tau_star", "peer_normalization"),
        ({"network": {"activation": "gelu"}}, "tau_star", "not of gelu"),
        ({"optimizer": {"name": "adam"}}, "tau_end", "steps of adam"),
        ({"dataset": {"label_strength": 30.0}}, "recruitment", "of the others' energy"),
        ({}, "eta_c", "no threshold"),
        (
            {"objective": {"name": "softplus"}, "optimizer": {"name": "adam"}},
            "eta_c",
            "not of adam",
        ),
        ({"objective": {"name": "bce", "goodness": "l2"}}, "eta_c", "not of l2"),
        ({"objective": {"name": "softplus", "threshold": 500.0}}, "eta_c", "4.0 at most"),
        ({"objective": {"name": "softplus", "threshold": 0.0}}, "eta_c", "above 0"),
        ({"objective": {"name": "softplus", "negative_threshold": 1.0}}, "eta_c", "not of two"),
        (
            {"negatives": {"strategy": "other_image"}, "dataset": {"name": "digits"}},
            "lambda_1",
            "equal size",
        ),
    ],
)
def test_what_the_theory_does_not_say_is_null_with_the_reason(
    changes: dict[str, Any], field: str, why: str
) -> None:
    found = onset_of(TrainSpec.model_validate(changes))
    assert getattr(found, field) is None
    assert why in found.unknown[field]


def test_strategies_of_one_expected_flow_have_one_prediction() -> None:
    own = onset_of(TrainSpec())
    for negatives in (
        {"strategy": "wrong_label", "image": "any"},
        {"strategy": "other_image"},
        {"strategy": "wrong_label", "redraw": "once"},
    ):
        assert onset_of(TrainSpec.model_validate({"negatives": negatives})) == own


def test_nothing_is_fetched_for_a_prediction(tmp_path: Path) -> None:
    there = Datasets(tmp_path)
    spec = TrainSpec(dataset=DatasetSpec(name="svhn"))
    found = onset_before(spec, there)
    assert found.lambda_1 is None
    assert "not fetched" in found.unknown["lambda_1"]
    assert onset_before(TrainSpec(), there) == onset_of(TrainSpec(), there)


@pytest.mark.parametrize("name", ["softplus", "bce"])
@pytest.mark.soak
def test_the_scale_alternates_above_the_critical_step_and_not_well_below(name: str) -> None:
    """One batch is all samples, so that rows are steps. G settles below the threshold, hence
    the room above.
    """
    common: dict[str, Any] = {
        "dataset": {"train_samples": 300, "test_samples": 10},
        "network": {"widths": [64]},
        "objective": {"name": name, "goodness": "mean_squares", "threshold": 2.0},
        "epochs": 100,
        "batch_size": 300,
        "monitor": {"samples": 300, "theorems": [2]},
        "evaluation": {"measures": False},
    }
    spec = TrainSpec.model_validate(common)
    critical = onset_of(spec).eta_c
    assert critical is not None
    assert critical == critical_eta(spec, second_moment_of(spec))
    for factor, alternates in ((0.6, False), (1.4, True)):
        lr = {"lr": factor * critical, "scale_lr_by_width": False}
        spec = TrainSpec.model_validate(common | {"optimizer": lr})
        advised = {advice.code: advice for advice in advice_on([spec], Datasets.of_environment())}
        result = ffengine.train(spec)
        found = {finding.code: finding for finding in result.diagnostics}
        assert ("scale_alternates" in found) == ("scale_alternates" in advised) == alternates
        ratios = [row.theorem2_ratio or 0.0 for row in result.curves if row.split == "positive"]
        swing = float(np.abs(np.diff(ratios[-20:])).mean())
        assert swing > 0.4 if alternates else swing < 0.15
        if alternates:
            better = cast("float", advised["scale_alternates"].value)
            assert better == pytest.approx(critical / 2, rel=0.5)


def second_moment_of(spec: TrainSpec) -> float:
    datasets = Datasets.of_environment()
    name = spec.dataset.name
    return largest_second_moment(
        TrainingInputs(spec.dataset, datasets.facts_of(name), datasets.loaded(name), NetworkSpec())
    )


@pytest.mark.parametrize("lr", [5e-324, 1e-308, 1e-300])
def test_steps_that_are_nothing_beside_the_turn_have_no_number_of_epochs(lr: float) -> None:
    spec = TrainSpec.model_validate({"optimizer": {"lr": lr}})
    datasets = Datasets.of_environment()
    onset = onset_before(spec, datasets)
    assert onset is not None
    assert onset.tau_star is not None
    if onset.epochs_to_selection is None:
        assert not any(found.code == "act_not_left" for found in advice_on([spec], datasets))
    else:
        assert onset.epochs_to_selection > 1e300
    assert onset.goodness_growth in (0.0, None)


@pytest.mark.parametrize("fields", [{}, {"train_samples": 2, "preprocess": "standardize"}])
def test_a_label_that_is_too_weak_for_a_square_is_said(fields: dict[str, object]) -> None:
    dataset = {"name": "mnist-mini", "label_strength": 5e-324, **fields}
    onset = onset_of(TrainSpec.model_validate({"dataset": dataset}))
    assert (onset.falls, onset.tau_star) == (None, None)
    assert onset.unknown["falls"] == "all classes have the same mean, or nearly"
