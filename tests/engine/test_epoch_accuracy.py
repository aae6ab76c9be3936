"""Accuracy, AUC and loss of layers while they train, against slow forms: a double loop in float64,
counted pairs, formulas by hand.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import ffengine
from ffengine.checkpoint import Checkpoint
from ffengine.cost import accuracy_rows
from ffengine.epoch_accuracy import AccuracyMonitor, areas_of, sum_of, ways_of
from ffengine.interrupts import Control, Interrupted
from ffengine.monitor import paired
from ffengine.network import Network, SummedGoodness
from ffengine.random_streams import Draws
from ffengine.results import EpochAccuracyRow, TrainResult
from ffengine.samples import Samples, load_samples
from ffengine.spec import TrainSpec, digest
from ffengine.training import BatchReport, EpochReport
from tests.engine.specs import spec_of

CPU = torch.device("cpu")
FIELDS: dict[str, Any] = {
    "dataset": {"train_samples": 90, "validation_samples": 40, "test_samples": 30},
    "network": {"widths": [12, 9, 7], "normalize": "l2"},
    "objective": {"name": "softplus", "threshold": 0.7, "goodness": "sum_squares"},
    "optimizer": {"name": "momentum", "lr": 0.05},
    "epochs": 2,
    "batch_size": 40,
    "monitor": {"samples": 50, "accuracy": True},
    "seeds": [3, 8],
}
BOTH = ["greedy", "simultaneous"]


def run_of(spec: TrainSpec) -> tuple[TrainResult, Network, Network]:
    """A result, and the network before the first and after the last step."""
    reports: list[EpochReport] = []
    result = ffengine.train(spec, on_epoch=reports.append)  # type: ignore[arg-type]
    first, last = (Network(spec.network, reports[at].checkpoint.weights) for at in (0, -1))
    return result, first, last


def goodness_in_float64(network: Network, replica: int, x: Tensor) -> list[float]:
    """The sum of squares of each layer of one sample, by products of float64."""
    found, x = [], x.double()
    for weight in network.weights:
        h = torch.relu(weight[replica].double() @ x)
        found.append(math.fsum(value * value for value in h.tolist()))
        x = h / max(float(h.norm()), 1e-12)
    return found


def labels_of(
    network: Network, replica: int, samples: Samples, index: list[int]
) -> list[list[list[float]]]:
    """The goodness by sample, label and layer, one product for each."""
    found = []
    for place in index:
        by_label = []
        for label in range(10):
            x = samples.labelled[place].clone()
            own = int(samples.labels[place])
            on, off = float(x[own]), float(x[(own + 1) % 10])
            x[:10] = off
            x[label] = on
            by_label.append(goodness_in_float64(network, replica, x))
        found.append(by_label)
    return found


def counted_area(positive: list[float], negative: list[float]) -> float:
    above = sum((a > b) + 0.5 * (a == b) for a in positive for b in negative)
    return above / len(positive) / len(negative)


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value - max(values)) for value in values]
    return [power / math.fsum(powers) for power in powers]


def softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


@pytest.mark.slow
@pytest.mark.parametrize("layers", BOTH)
def test_figures_are_those_of_a_double_loop_in_float64(layers: str) -> None:
    spec = TrainSpec.model_validate({**FIELDS, "layers": layers})
    result, _, network = run_of(spec)
    partitions = load_samples(spec.dataset, CPU)
    assert partitions.validation is not None
    stage = spec.stages[-1]
    chosen = Draws(spec.seeds).at("monitor").permutation(90)[1, :50]
    for partition, samples, index, purpose, size in (
        ("train", partitions.train, chosen, "monitor-negatives", 40),
        ("validation", partitions.validation, torch.arange(40), "validation-negatives", 1000),
    ):
        by_label = labels_of(network, 1, samples, index.tolist())
        own = samples.labels[index].tolist()
        positive, negative = list[list[float]](), list[list[float]]()
        for number, some in enumerate(index.split(size)):
            both = some.expand(2, -1)
            x = paired(spec, samples, both, Draws(spec.seeds), (purpose, number), None)[1]
            found = [goodness_in_float64(network, 1, one) for one in x]
            positive += found[: len(some)]
            negative += found[len(some) :]
        rows = [
            row
            for row in result.accuracy_curves
            if (row.seed, row.partition, row.epoch) == (8, partition, 2) and 2 in row.layers
        ]
        assert rows
        for row in rows:
            scores = [
                [
                    math.fsum(one[label][layer] for layer in row.layers)
                    if row.method == "goodness"
                    else math.fsum(
                        softmax([other[layer] for other in one])[label] for layer in row.layers
                    )
                    for label in range(10)
                ]
                for one in by_label
            ]
            right = sum(one.index(max(one)) == at for one, at in zip(scores, own, strict=True))
            assert (row.samples, row.correct) == (len(index), right)
            assert row.accuracy == right / len(index)
            if row.method == "softmax":
                assert row.auc is None
                continue
            sums = [
                [math.fsum(one[layer] for layer in row.layers) for one in part]
                for part in (positive, negative)
            ]
            assert row.auc == pytest.approx(counted_area(*sums), abs=1e-3)
            losses = [
                softplus(0.7 - a[layer]) + softplus(b[layer] - 0.7)
                for a, b in zip(positive, negative, strict=True)
                for layer in row.layers
            ]
            if row.layers in (stage, (row.layer,)):
                assert row.loss == pytest.approx(math.fsum(losses) / len(index), rel=1e-5)
            else:
                assert row.loss is None


@pytest.mark.slow
@pytest.mark.parametrize("layers", BOTH)
def test_each_way_is_measured_once_at_each_monitored_epoch(layers: str) -> None:
    spec = TrainSpec.model_validate({**FIELDS, "layers": layers, "epochs": 3})
    spec = spec.model_copy(update={"monitor": spec.monitor.model_copy(update={"every_epochs": 2})})
    rows = ffengine.train(spec).accuracy_curves
    keys = [(row.seed, row.layers, row.method, row.epoch, row.partition) for row in rows]
    assert len(set(keys)) == len(keys)
    assert {row.epoch for row in rows} == {0, 2, 3}
    ways = [way for stage in spec.stages for way in ways_of(stage)]
    assert len(keys) == len(ways) * 2 * 3 * 2
    alone = {row.layer for row in rows if len(row.layers) == 1}
    assert alone == {0, 1, 2}
    assert accuracy_rows(spec) == len(rows)
    of_sets = {(row.layers, row.method) for row in rows if row.layer is None}
    below = {((0, 1), "goodness"), ((0, 1), "softmax")} if layers == "greedy" else set()
    everything = {((0, 1, 2), way) for way in ("goodness", "softmax")}
    assert of_sets == below | everything | {((1, 2), "goodness"), ((1, 2), "softmax")}


@pytest.mark.slow
def test_the_last_epoch_is_what_the_evaluation_finds() -> None:
    spec = TrainSpec.model_validate(FIELDS)
    result = ffengine.train(spec)
    last = {
        (row.seed, row.layers, row.method): row
        for row in result.accuracy_curves
        if row.partition == "validation" and row.epoch == 2
    }
    found = [row for row in result.accuracy if row.partition == "validation" and row.layers != ()]
    for row in found:
        assert last[row.seed, row.layers, row.method].correct == row.correct  # type: ignore[index]
    for measure in result.measures:
        if measure.partition == "validation":
            own = last[measure.seed, (measure.layer,), "goodness"]
            assert own.auc == pytest.approx(measure.auc, abs=1e-9)


@pytest.mark.slow
def test_the_loss_on_monitored_samples_is_that_of_the_curves() -> None:
    result = ffengine.train(TrainSpec.model_validate(FIELDS))
    terms: dict[tuple[int, int, int], float] = {}
    for row in result.curves:
        assert row.loss is not None
        key = (row.seed, row.layer, row.epoch)
        terms[key] = terms.get(key, 0.0) + row.loss
    rows = [row for row in result.accuracy_curves if row.partition == "train"]
    alone = [row for row in rows if row.layer is not None]
    assert len(alone) == len(terms)
    for own in alone:
        assert own.layer is not None
        assert own.loss == pytest.approx(terms[own.seed, own.layer, own.epoch], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layers", BOTH)
def test_everything_else_has_the_bits_of_a_run_without(layers: str) -> None:
    spec = TrainSpec.model_validate({**FIELDS, "layers": layers})
    without = spec.model_copy(
        update={"monitor": spec.monitor.model_copy(update={"accuracy": False})}
    )
    excluded = {"provenance", "accuracy_curves"}
    found = ffengine.train(spec).model_dump(exclude=excluded)
    plain = ffengine.train(without)
    assert found == plain.model_dump(exclude=excluded)
    assert plain.accuracy_curves == ()


def test_a_spec_that_does_not_ask_keeps_its_digest() -> None:
    plain = spec_of()
    assert digest(plain) != digest(spec_of(monitor={"samples": 80, "accuracy": True}))
    assert digest(plain) == digest(spec_of(monitor={"samples": 80, "accuracy": False}))


@pytest.mark.slow
@pytest.mark.parametrize("layers", BOTH)
def test_seeds_together_have_the_rows_of_each_alone(layers: str) -> None:
    spec = TrainSpec.model_validate({**FIELDS, "layers": layers})
    together = ffengine.train(spec).accuracy_curves
    for seed in spec.seeds:
        alone = ffengine.train(spec.model_copy(update={"seeds": (seed,)})).accuracy_curves
        own = [row for row in together if row.seed == seed]
        assert len(own) == len(alone)
        for row, other in zip(own, alone, strict=True):  # a batched product adds in another order
            near = {"auc": other.auc, "loss": other.loss}
            for name, value in near.items():
                assert getattr(row, name) == (value and pytest.approx(value, rel=1e-5)), name
            assert row.model_copy(update=near) == other


def read_again(checkpoint: Checkpoint | None) -> Checkpoint | None:
    return checkpoint and Checkpoint.from_bytes(checkpoint.to_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("layers", BOTH)
def test_an_interrupted_run_has_the_same_rows(layers: str) -> None:
    spec = TrainSpec.model_validate({**FIELDS, "layers": layers})
    whole, resume, stops = ffengine.train(spec), None, 0
    while True:
        left = [3]

        def stop_soon(_report: EpochReport | BatchReport, left: list[int] = left) -> Control:
            left[0] -= 1
            return "stop" if left[0] == 0 else "run"

        try:
            found = ffengine.train(spec, on_epoch=stop_soon, on_batch=stop_soon, resume=resume)
            break
        except Interrupted as stopped:
            resume, stops = read_again(stopped.checkpoint), stops + 1
    assert stops >= 3
    assert found.accuracy_curves == whole.accuracy_curves


@pytest.mark.slow
def test_only_the_file_with_the_weights_has_the_rows() -> None:
    reports: list[EpochReport] = []
    ffengine.train(TrainSpec.model_validate(FIELDS), on_epoch=reports.append)  # type: ignore[arg-type]
    checkpoint = reports[-1].checkpoint
    assert checkpoint.accuracy
    assert checkpoint.without_weights.accuracy == ()
    assert Checkpoint.from_bytes(checkpoint.to_bytes()).accuracy == checkpoint.accuracy


@pytest.mark.slow
def test_samples_without_labels_have_auc_and_loss_alone() -> None:
    spec = TrainSpec.model_validate({**FIELDS, "negatives": {"strategy": "hybrid"}})
    assert not spec.negatives.labelled
    rows = ffengine.train(spec).accuracy_curves
    assert rows
    for row in rows:
        assert (row.correct, row.accuracy, row.method) == (None, None, "goodness")
        assert row.auc is not None
        assert (row.loss is None) == (row.layer is None)


def test_without_validation_samples_the_monitored_sample_is_measured_alone() -> None:
    rows = ffengine.train(spec_of(monitor={"samples": 80, "accuracy": True})).accuracy_curves
    assert {row.partition for row in rows} == {"train"}
    assert {row.layers for row in rows} == {(0,)}


def test_rescaled_weights_have_the_figures_of_their_true_ones() -> None:
    """The same network with exponents beside its weights: sums weigh layers as they are."""
    spec = TrainSpec.model_validate(
        {**FIELDS, "objective": {"name": "difference"}, "layers": "simultaneous"}
    )
    partitions = load_samples(spec.dataset, CPU)
    monitor = AccuracyMonitor(spec, partitions, Draws(spec.seeds))
    plain = Network.initial(spec.network, 784, Draws(spec.seeds), CPU)
    exponents = [torch.tensor(k, dtype=torch.int32) for k in ([3, -2], [0, 5], [-4, 1])]
    stored = [
        weight * 2.0 ** -exponent.float().view(-1, 1, 1)
        for weight, exponent in zip(plain.weights, exponents, strict=True)
    ]
    scaled = Network(spec.network, stored, exponents)
    found = monitor.rows(scaled, (0, 1, 2), 4)
    for row, true in zip(found, monitor.rows(plain, (0, 1, 2), 4), strict=True):
        assert (row.correct, row.auc) == (true.correct, true.auc)
        assert row.loss == (None if true.loss is None else pytest.approx(true.loss, rel=1e-6))


def test_goodness_that_is_not_a_number_has_no_area() -> None:
    goodness = torch.tensor([[[1.0, 2.0], [0.0, 3.0]], [[math.nan, 2.0], [0.0, 3.0]]])
    assert areas_of(goodness) == [0.5, None]
    assert sum_of([1.0, None]) is None
    assert sum_of([1e308, 1e308]) is None
    assert sum_of([1.0, 2.5]) == 3.5


def test_negatives_that_ask_the_network_are_those_of_the_layers_that_learn() -> None:
    spec = TrainSpec.model_validate({**FIELDS, "negatives": {"strategy": "sampled_label"}})
    network = Network.initial(spec.network, 784, Draws(spec.seeds), CPU)
    partitions = load_samples(spec.dataset, CPU)
    rows = AccuracyMonitor(spec, partitions, Draws(spec.seeds)).rows(network, (1,), 0)
    assert partitions.validation is not None
    everything = torch.arange(40).expand(2, -1)
    summed = SummedGoodness(network, spec.objective.goodness, (1,), partitions.train.patterns)
    address = ("validation-negatives", 0)
    x = paired(spec, partitions.validation, everything, Draws(spec.seeds), address, summed)
    h = network.activations(x)[1].double().square().sum(-1)
    own = next(row for row in rows if (row.seed, row.layer, row.partition) == (3, 1, "validation"))
    assert isinstance(own, EpochAccuracyRow)
    assert own.auc == pytest.approx(counted_area(h[0, :40].tolist(), h[0, 40:].tolist()), abs=1e-3)
