"""Accuracy once parts of a network are removed, against a float64 network that is cut to pieces."""

import math
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

import ffengine
from ffengine.cost import lesions_of, suite_bytes, suite_flops
from ffengine.datasets import DATASETS
from ffengine.lesions import Drive, Intact, Lesioned, driven, first_of, order_of, without
from ffengine.network import Network
from ffengine.random_streams import Draws
from ffengine.results import LesionRow, TrainResult
from ffengine.samples import load_samples
from ffengine.spec import LesionsSpec, NetworkSpec, TrainSpec, digest
from ffengine.training import EpochReport
from tests.engine.interrupted import stopped_every
from tests.engine.specs import spec_of

CPU = torch.device("cpu")
SMALL = {
    "dataset": {"train_samples": 80, "test_samples": 40},
    "network": {"widths": [12, 9], "normalize": "l2", "bias": True},
    "optimizer": {"name": "adam", "lr": 0.02},
    "epochs": 1,
    "batch_size": 40,
    "monitor": {"samples": 10, "theorems": []},
    "evaluation": {
        "measures": False,
        "baselines": ["cross_entropy", "ff_objective"],
        "lesions": {"shares": [0.6, 0.25], "where": ["network", "layer"]},
    },
}
BOTH = spec_of(**SMALL, seeds=[2, 7])
Removed = Literal["units", "weights"]


@pytest.fixture(scope="module")
def trained() -> tuple[TrainResult, list[Tensor]]:
    reports: list[EpochReport] = []
    found = ffengine.train(BOTH, on_epoch=reports.append)  # type: ignore[arg-type]
    return found, [weight[1].double() for weight in reports[-1].checkpoint.weights]


EVERY_LAYER = spec_of(
    **{**SMALL, "dataset": {**SMALL["dataset"], "labels": "every_layer"}},  # type: ignore[dict-item]
    seeds=[2, 7],
)


@pytest.fixture(scope="module")
def trained_with_labels() -> tuple[TrainResult, list[Tensor]]:
    reports: list[EpochReport] = []
    found = ffengine.train(EVERY_LAYER, on_epoch=reports.append)  # type: ignore[arg-type]
    return found, [weight[1].double() for weight in reports[-1].checkpoint.weights]


def with_bias(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)


def layers_of(weights: list[Tensor], x: Tensor, labels: int) -> tuple[list[Tensor], list[Tensor]]:
    """The inputs (N, m + 1) and activations (N, n) of each layer, in float64.

    `labels`: how many inputs of the samples, the first ones, every layer receives.
    """
    inputs, found = [with_bias(x)], []
    for weight in weights:
        h = (inputs[-1] @ weight.T).relu()
        found.append(h)
        handed_on = h / h.norm(dim=1, keepdim=True).clamp_min(1e-12)
        inputs.append(with_bias(torch.cat([x[:, :labels], handed_on], dim=1)))
    return inputs, found


def slow_order(score: list[float]) -> list[int]:
    return sorted(range(len(score)), key=lambda number: (score[number], number))


def cut(weights: list[Tensor], x: Tensor, labels: int, removed: Removed, by: str) -> list[Tensor]:
    """The weights without a quarter: units are cut out of the matrices, weights set to 0."""
    inputs, units = layers_of(weights, x, labels)
    left, keep = [], list(range(weights[0].shape[1]))
    for layer, weight in enumerate(weights):
        incoming = weight[:, :-1]
        if removed == "weights":
            drive = inputs[layer][:, :-1].abs().sum(0) if by == "usage" else torch.ones(1)
            score = (incoming.abs() * drive).flatten().tolist()
            cleared = incoming.clone().flatten()
            cleared[slow_order(score)[: math.floor(0.25 * len(score) + 0.5)]] = 0
            left.append(torch.cat([cleared.view_as(incoming), weight[:, -1:]], dim=1))
            continue
        score = (units[layer].sum(0) if by == "usage" else weight.norm(dim=1)).tolist()
        gone = slow_order(score)[: math.floor(0.25 * len(score) + 0.5)]
        rows = [unit for unit in range(len(weight)) if unit not in gone]
        left.append(weight[rows][:, keep])
        keep = [*range(labels), *(labels + row for row in rows), labels + len(weight)]
    return left


@pytest.mark.parametrize("by", ["usage", "magnitude"])
@pytest.mark.parametrize("removed", ["units", "weights"])
@pytest.mark.parametrize(
    ("run", "spec"), [("trained", BOTH), ("trained_with_labels", EVERY_LAYER)], ids=["", "labels"]
)
def test_accuracy_is_that_of_a_network_that_is_cut_to_pieces(
    request: pytest.FixtureRequest, run: str, spec: TrainSpec, removed: Removed, by: str
) -> None:
    result, weights = request.getfixturevalue(run)
    partitions = load_samples(spec.dataset, CPU)
    labels = 10 if spec is EVERY_LAYER else 0
    left = cut(weights, partitions.train.labelled.double(), labels, removed, by)
    test = partitions.test
    scores = []
    for guess in range(test.classes):
        x = test.relabelled(test.labelled, test.labels, torch.full_like(test.labels, guess))
        scores.append(sum(h.square().sum(1) for h in layers_of(left, x.double(), labels)[1]))
    told = torch.stack([torch.as_tensor(score) for score in scores]).argmax(0)
    (row,) = (
        row
        for row in result.lesions
        if (row.seed, row.baseline, row.layer) == (7, None, None)
        and (row.removed, row.by, row.share) == (removed, by, 0.25)
    )
    assert abs(row.correct - int((told == test.labels).sum())) <= 1  # float32 against float64
    of = [len(w) if removed == "units" else w[:, :-1].numel() for w in weights]
    assert row.total == sum(of)
    assert row.lost == sum(math.floor(0.25 * one + 0.5) for one in of)
    assert row.accuracy == row.correct / 40


def test_every_curve_begins_with_the_accuracy_of_the_whole_network(
    trained: tuple[TrainResult, list[Tensor]],
) -> None:
    result, _ = trained
    curves: dict[tuple[object, ...], list[LesionRow]] = {}
    for row in result.lesions:
        key = (row.seed, row.baseline, row.layer, row.removed, row.by)
        curves.setdefault(key, []).append(row)
    assert len(curves) == 2 * 3 * 3 * 2 * 3
    whole = {
        (row.seed, None): row.accuracy
        for row in result.accuracy
        if row.partition == "test" and row.layers == (0, 1) and row.method == "goodness"
    } | {(row.seed, row.baseline): row.accuracy for row in result.baselines if row.layer == 1}
    for (seed, baseline, *_), rows in curves.items():
        assert [row.share for row in rows] == [0, 0.25, 0.6]
        assert rows[0].accuracy == whole[seed, baseline]  # type: ignore[index]
        assert rows[0].lost == 0
    assert {row.place for row in result.lesions} == {None, 0, 1}


def test_a_seed_has_the_same_lesions_alone(trained: tuple[TrainResult, list[Tensor]]) -> None:
    alone = ffengine.train(spec_of(**SMALL, seeds=[7]))
    assert alone.lesions == tuple(row for row in trained[0].lesions if row.seed == 7)


@pytest.mark.slow
def test_interrupted_baselines_have_the_same_lesions(
    trained: tuple[TrainResult, list[Tensor]],
) -> None:
    found, stops = stopped_every(BOTH, 3)
    assert stops
    assert found.lesions == trained[0].lesions


def test_the_estimate_counts_rows_and_passes(trained: tuple[TrainResult, list[Tensor]]) -> None:
    rows, facts = trained[0].lesions, DATASETS["mnist-mini"]
    assert len(rows) == 2 * 3 * lesions_of(BOTH)  # seeds, networks
    stored = sum(len(row.model_dump_json()) for row in rows)
    assert stored <= suite_bytes(BOTH, facts, 1) <= 1.3 * stored
    with_bias = [785 * 12, 13 * 9]
    products = [2.0 * count for count in with_bias]
    by_label = 40 * (products[0] + 10 * products[1])  # the first layer is shared by all labels
    expected = lesions_of(BOTH) * (2 * by_label + 40 * sum(products)) + 3 * 80 * sum(products)
    assert suite_flops(BOTH, facts, products, products[0]) == expected


def intact_of(normalize: str, seed: int = 0, activation: str = "relu") -> Intact:
    spec = NetworkSpec.model_validate(
        {"widths": [6, 5], "normalize": normalize, "bias": True, "activation": activation}
    )
    draws = Draws((seed,))
    network = Network.initial(spec, 4, draws, CPU)
    x = torch.rand(8, 4, generator=torch.Generator().manual_seed(seed))
    readout = torch.rand(1, 3, 5, generator=torch.Generator().manual_seed(seed))
    return Intact(network, {1: readout}, driven(network, x), draws)


@pytest.mark.parametrize("activation", ["relu", "softplus"])
@pytest.mark.parametrize("normalize", ["none", "layer", "halves"])
def test_a_silent_unit_neither_receives_nor_sends(normalize: str, activation: str) -> None:
    intact, gone = intact_of(normalize, activation=activation), {0: torch.tensor([1, 4])}
    before = [weight.clone() for weight in intact.network.weights]
    left = without(intact, "units", gone)
    x = torch.rand(1, 7, 4, generator=torch.Generator().manual_seed(5))
    found = left.network.activations(x)
    assert not found[0][..., gone[0]].any()
    for alike in (left.network.copy(), left.network.replica(0)):
        assert all(map(torch.equal, alike.activations(x), found))
    assert left.network.lowest(1).activations(x)[0].equal(found[0])
    for weight in left.network.weights[:1]:
        weight[:, gone[0]] = 9.0
    assert all(map(torch.equal, left.network.activations(x), found))
    for weight in before[1:]:  # the intact network is what it was
        assert torch.equal(weight, intact.network.weights[1])
    last = without(intact, "units", {1: torch.tensor([2])})
    assert not last.readouts[1][..., 2].any()
    assert last.readouts[1][..., 3].equal(intact.readouts[1][..., 3])


@given(count=st.integers(1, 300), share=st.floats(0, 1))
def test_shares_are_rounded_to_the_nearest_count(count: int, share: float) -> None:
    found = len(first_of(torch.arange(count), share))
    assert abs(found - share * count) <= 0.5


def test_random_orders_are_those_of_the_seed() -> None:
    for removed, count in (("units", 5), ("weights", 30)):
        orders = [order_of(intact_of("none", seed), 1, removed, "random") for seed in (0, 0, 1)]  # type: ignore[arg-type]
        assert sorted(orders[0].tolist()) == list(range(count))
        assert orders[0].equal(orders[1])
        assert not orders[0].equal(orders[2])


def test_of_equal_units_and_weights_the_first_go_first() -> None:
    intact = intact_of("none")
    intact.network.weights[0].fill_(1.0)
    even = intact._replace(drive=Drive([torch.ones(4)] * 2, [torch.ones(6)] * 2))
    for by in ("usage", "magnitude"):
        assert order_of(even, 0, "units", by).tolist() == list(range(6))  # type: ignore[arg-type]
        assert order_of(even, 0, "weights", by).tolist() == list(range(24))  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", ["mono_forward", "class_block", "polar"])
def test_other_objectives_lose_parts_too(objective: str) -> None:
    changes = {
        "network": {"widths": [12, 10]},
        "objective": {"name": objective},
        "evaluation": {"measures": False, "lesions": {"shares": [0.5]}},
    }
    found = ffengine.train(spec_of(**{**SMALL, **changes}))
    assert len(found.lesions) == 2 * 3 * 2


def test_lesions_need_labels_and_name_each_value_once() -> None:
    with pytest.raises(ValidationError, match="carry no label; leave lesions out"):
        spec_of(negatives={"strategy": "hybrid"}, evaluation={"lesions": {}})
    with pytest.raises(ValidationError, match="each value once"):
        LesionsSpec(shares=(0.5, 0.5))
    with pytest.raises(ValidationError, match="less than 1"):
        LesionsSpec(shares=(1.0,))


def test_digests_of_earlier_specs_are_those_that_they_were() -> None:
    assert digest(TrainSpec()) == digest(TrainSpec.model_validate({"evaluation": {"usage": False}}))
    for changes in ({"usage": True}, {"selectivity": True}, {"lesions": {}}):
        assert digest(TrainSpec.model_validate({"evaluation": changes})) != digest(TrainSpec())


def test_what_is_left_is_a_network_and_its_readouts() -> None:
    intact = intact_of("l2")
    left = without(
        intact, "weights", {0: torch.tensor([0, 5]), 1: torch.tensor([], dtype=torch.long)}
    )
    assert isinstance(left, Lesioned)
    assert [int((w[0, :, :-1] == 0).sum()) for w in left.network.weights] == [2, 0]
    assert left.network.weights[0][0, 0, 0] == 0
    assert left.network.weights[0][0, 1, 1] == 0
