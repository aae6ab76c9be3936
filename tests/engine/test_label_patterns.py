"""Label codes: patterns of the classes, samples under other labels, and runs with them."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import ffengine
from ffengine.advice import Asked, _advice
from ffengine.cost import train_cost
from ffengine.data_figures import data_figures
from ffengine.datasets import DATASETS, Datasets
from ffengine.input_figures import InputFigures
from ffengine.label_codes import FourierPatterns, OneHot, RandomPatterns, frequencies
from ffengine.label_patterns import random_patterns, waves
from ffengine.monitor import layer_pairs
from ffengine.network import Network, SummedGoodness
from ffengine.objectives import SumSquares
from ffengine.onset import onset_before
from ffengine.pairs import Pairs
from ffengine.presets import LABEL_CODES
from ffengine.random_streams import Draws
from ffengine.results import Split
from ffengine.samples import Samples, load_samples
from ffengine.spec import CheckSpec, DatasetSpec, ForecastSpec, NetworkSpec, TrainSpec, digest
from ffengine.study import expand
from ffengine.training import EpochReport
from tests.engine.reference import goodness_gradient, sparsity
from tests.examples import examples

CPU = torch.device("cpu")
RANDOM = {"name": "random", "inputs": 12, "ones": 3, "seed": 5}
CODES: tuple[Any, ...] = ("one_hot", "random", RANDOM, "fourier")


def some(**fields: Any) -> Samples:
    """Training samples of digits."""
    spec = {"name": "digits", "train_samples": 40, "test_samples": 5, **fields}
    return load_samples(DatasetSpec.model_validate(spec), CPU).train


def under(samples: Samples, labels: torch.Tensor) -> torch.Tensor:
    """The samples (N, m) as if these were their labels, made from the pixels."""
    found = samples.some(torch.arange(len(samples)))
    found.labels = labels
    return found.labelled


@settings(max_examples=examples(10))
@given(
    inputs=st.integers(4, 12),
    ones=st.integers(1, 3),
    classes=st.integers(2, 6),
    seed=st.integers(0, 2**63 - 1),
)
def test_random_patterns_have_as_many_ones_each_and_differ(
    inputs: int, ones: int, classes: int, seed: int
) -> None:
    code = RandomPatterns(inputs=inputs, ones=ones, seed=seed)
    classes = min(classes, int(code.most_classes((1, 1, 1))))
    patterns = random_patterns(code, classes)
    assert patterns.sum(1).tolist() == [ones] * classes
    assert len({tuple(one) for one in patterns.tolist()}) == classes
    assert set(patterns.flatten().tolist()) <= {0.0, 1.0}
    assert torch.equal(random_patterns(code, classes), patterns)
    assert torch.equal(random_patterns(code, classes - 1), patterns[:-1])


def test_every_pattern_that_there_is_can_be_drawn() -> None:
    patterns = random_patterns(RandomPatterns(inputs=4, ones=2), 6)
    assert len({tuple(one) for one in patterns.tolist()}) == 6


def test_another_seed_has_other_patterns() -> None:
    one, other = (random_patterns(RandomPatterns(seed=seed), 10) for seed in (0, 1))
    assert not torch.equal(one, other)


@settings(max_examples=examples(15))
@given(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9))
def test_waves_are_orthogonal_have_no_mean_and_one_length(
    channels: int, height: int, width: int
) -> None:
    shape = (channels, height, width)
    most = int(FourierPatterns().most_classes(shape))
    own_negative = (2 - height % 2) * (2 - width % 2)  # 0 or half a period a pixel, each way
    assert most == (height * width - own_negative) / 2 == len(frequencies(height, width))
    if not most:
        return
    found = waves(most, shape).double()
    inputs = channels * height * width
    assert torch.allclose(found @ found.T, torch.eye(most).double() * inputs / 2, atol=1e-4)
    assert torch.allclose(found.sum(1), torch.zeros(most).double(), atol=1e-5)
    assert FourierPatterns().length(inputs) == pytest.approx(float(found[0].norm()), rel=1e-5)


@given(st.integers(2, 40), st.integers(1, 40))
def test_as_many_random_patterns_as_there_are_combinations(inputs: int, ones: int) -> None:
    if ones < inputs:
        found = RandomPatterns(inputs=inputs, ones=ones).most_classes((1, 1, 1))
        true = math.comb(inputs, ones)
        assert found == true or 600_000_000 < found < true


def test_a_wave_is_the_cosine_of_its_frequency_lowest_first() -> None:
    listed = frequencies(4, 6)
    sizes = [math.hypot(down / 4, across / 6) for down, across in listed]
    assert sizes == sorted(sizes)
    for (down, across), wave in zip(listed, waves(len(listed), (1, 4, 6)), strict=True):
        for row in range(4):
            for column in range(6):
                true = math.cos(2 * math.pi * (down * row / 4 + across * column / 6))
                assert float(wave[6 * row + column]) == pytest.approx(true, abs=1e-6)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("preprocess", ["unit", "center", "standardize", "unit_norm"])
@pytest.mark.parametrize("place", ["overlay", "append"])
@pytest.mark.parametrize("strength", [None, 2.5])
def test_a_sample_under_another_label_is_made_as_with_that_label_from_the_pixels(
    code: Any, preprocess: str, place: str, strength: float | None
) -> None:
    if code == "fourier" and place == "append":
        return
    if code == "random" and place == "overlay":
        code = RANDOM  # a hundred inputs are more than the image has
    samples = some(preprocess=preprocess, labels=place, label_strength=strength, label_code=code)
    wrong = (samples.labels + 3) % 10
    swapped = samples.relabelled(samples.labelled, samples.labels, wrong)
    assert torch.allclose(swapped, under(samples, wrong), atol=2e-6)
    assert torch.equal(
        samples.relabelled(samples.labelled, samples.labels, samples.labels), samples.labelled
    )
    mean = torch.stack([under(samples, torch.full((40,), label)) for label in range(10)]).mean(0)
    if preprocess != "unit_norm" or strength or code == "fourier":
        assert torch.allclose(samples.neutral, mean, atol=2e-6)


@pytest.mark.parametrize("code", CODES)
def test_the_share_of_a_label_is_the_length_of_its_pattern(code: Any) -> None:
    fields = {"label_code": code, "label_strength": 0.7}
    if code == "random":
        fields["labels"] = "append"
    spec = DatasetSpec.model_validate({"name": "digits", "train_samples": 40, **fields})
    partitions = load_samples(spec, CPU)
    x = partitions.train.labelled.double()
    length = math.sqrt(float(x.square().sum(1).mean()))
    share = data_figures(spec, partitions, labelled=True).label_share
    assert share == pytest.approx(0.7 * spec.label_code.length(64) / length, rel=1e-5)


def test_a_pattern_that_is_given_no_strength_has_a_tenth_of_the_length_of_a_sample() -> None:
    samples = some(label_code="fourier", preprocess="standardize")
    added = samples.labelled - samples.plain
    mean = float(samples.plain.double().square().sum(1).mean().sqrt())
    assert torch.allclose(added.norm(dim=1), torch.full((40,), mean / 10), rtol=1e-4)
    assert samples.label_strength == pytest.approx(mean / 10 / math.sqrt(32), rel=1e-5)


@settings(max_examples=examples(6))
@given(
    code=st.sampled_from(CODES[1:]),
    preprocess=st.sampled_from(["unit", "standardize", "unit_norm"]),
    normalize=st.sampled_from(["none", "l2", "layer"]),
    first=st.booleans(),
    bias=st.booleans(),
    block=st.sampled_from([100, 2**19]),
)
def test_goodness_of_labels_is_that_of_each_label_by_itself(
    code: Any, preprocess: str, normalize: Any, first: bool, bias: bool, block: int
) -> None:
    place = "append" if code == "random" else "overlay"
    samples = some(preprocess=preprocess, labels=place, label_code=code, train_samples=15)
    spec = NetworkSpec(
        widths=(9, 7), normalize=normalize, normalize_first=first and normalize != "none", bias=bias
    )
    network = Network.initial(spec, samples.labelled.shape[1], Draws((3, 4)), CPU)
    labels = samples.labels.expand(2, -1)
    x = samples.labelled.expand(2, -1, -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ffengine.network.LABEL_BLOCK_ELEMENTS", block)
        found = network.label_goodness(SumSquares(), x, labels, samples.patterns)
    for label in range(10):
        each = under(samples, torch.full((15,), label)).expand(2, -1, -1)
        for layer, h in enumerate(network.activations(each)):
            true = h.double().square().sum(-1)
            assert torch.allclose(found[:, layer, :, label].double(), true, rtol=1e-3, atol=1e-4)
    summed = SummedGoodness(network, SumSquares(), (0, 1), samples.patterns)
    assert torch.allclose(summed.label_goodness(x, labels, 10), found.sum(1), rtol=1e-6)
    with pytest.raises(ValueError, match="9 asked"):
        summed.label_goodness(x, labels, 9)


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"label_code": {"name": "random", "inputs": 4, "ones": 4}}, "4 of 4 inputs leave one"),
    ({"label_code": "fourier", "labels": "append"}, "lie over the image"),
    ({"label_code": "wave"}, "label_code"),
    ({"name": "digits", "label_code": "random"}, "100 inputs of a label leave nothing of 64"),
    (
        {"name": "digits", "label_code": {"name": "random", "inputs": 9, "ones": 1}},
        "9 patterns here, and digits has 10 classes",
    ),
)


@pytest.mark.parametrize(("fields", "said"), REFUSED)
def test_codes_that_make_no_sense_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DatasetSpec.model_validate(fields)


@pytest.mark.parametrize("kind", [TrainSpec, CheckSpec, ForecastSpec])
def test_negatives_that_are_made_of_one_hot_labels_need_them(kind: Any) -> None:
    dataset = {"label_code": "random"}
    for strategy in ("other_image", "masked", "noise"):
        with pytest.raises(ValidationError, match="need negatives that are images"):
            kind.model_validate({"dataset": dataset, "negatives": {"strategy": strategy}})
    taken = ("wrong_label",) if kind is ForecastSpec else ("wrong_label", "sampled_label", "hybrid")
    for strategy in taken:
        kind.model_validate({"dataset": dataset, "negatives": {"strategy": strategy}})


def test_margins_are_split_by_pairs_of_one_hot_labels_alone() -> None:
    dataset = {"label_code": "fourier"}
    for kind, fields in (
        (TrainSpec, {"monitor": {"decomposition": [0]}}),
        (CheckSpec, {"decomposition": True}),
    ):
        with pytest.raises(ValidationError, match="it needs dataset"):
            kind.model_validate({"dataset": dataset, **fields})


def test_one_hot_labels_keep_the_digest_and_others_have_another() -> None:
    assert digest(TrainSpec(dataset=DatasetSpec(label_code=OneHot()))) == digest(TrainSpec())
    others = [DatasetSpec.model_validate({"label_code": code}) for code in CODES]
    assert len({digest(TrainSpec(dataset=one)) for one in others}) == len(CODES)


def test_codes_without_parameters_are_written_by_name() -> None:
    assert DatasetSpec().model_dump()["label_code"] == "one_hot"
    given = DatasetSpec.model_validate({"label_code": RANDOM})
    assert given.model_dump()["label_code"] == RANDOM
    assert DatasetSpec.model_validate(given.model_dump()) == given


def test_what_is_known_of_one_hot_labels_alone_says_so() -> None:
    spec = TrainSpec.model_validate({"dataset": {"name": "digits", "label_code": "fourier"}})
    onset = onset_before(spec, Datasets.of_environment())
    assert onset is not None
    assert "not of fourier patterns" in onset.unknown["lambda_1"]


def test_a_weak_pattern_is_found_by_its_length() -> None:
    figures = InputFigures(
        size=1.0,
        spread=1.0,
        overlay_share=0.9,
        largest_input=0,
        largest_share=0.1,
        test_class_counts=(1,) * 10,
        copies=0,
    )
    for code, found in (
        ("one_hot", {"overlay_covers_data", "label_weak"}),
        ("fourier", set[str]()),
    ):
        dataset = {"name": "digits", "label_strength": 0.05, "label_code": code}
        asked = Asked(DatasetSpec.model_validate(dataset), labelled=True, trains=True)
        codes = {one.code for one in _advice(asked, DATASETS["digits"], figures)}
        assert codes & {"overlay_covers_data", "label_weak"} == found


def test_other_patterns_cost_a_product_of_the_first_layer_for_each_label() -> None:
    facts = DATASETS["mnist-mini"]
    flops = {
        code: train_cost(TrainSpec.model_validate({"dataset": {"label_code": code}}), facts).flops
        for code in ("one_hot", "fourier")
    }
    assert flops["fourier"] > flops["one_hot"]


@pytest.mark.parametrize("code", ["random", "fourier"])
def test_pairs_are_the_image_under_its_label_and_under_a_wrong_one(code: str) -> None:
    dataset = {"train_samples": 30, "test_samples": 5, "label_code": code}
    spec = TrainSpec.model_validate({"dataset": dataset, "network": {"widths": [5]}})
    train = load_samples(spec.dataset, CPU).train
    network = Network.initial(spec.network, 784, Draws((0, 1)), CPU)
    index = torch.arange(30).expand(2, -1)
    pairs = layer_pairs(spec, network, 0, train, index, Draws((0, 1)), ("negatives", 0), None)
    assert isinstance(pairs, Pairs)
    each = torch.stack([under(train, torch.full((30,), label)) for label in range(10)], 1)
    for x in pairs.x:
        assert torch.equal(x[:30], train.labelled)
        wrong = (x[30:].unsqueeze(1) - each).square().sum(-1).argmin(1)
        assert bool((wrong != train.labels).all())
        assert torch.allclose(x[30:], under(train, wrong), atol=1e-6)


@pytest.mark.parametrize("code", ["random", "fourier"])
def test_margins_of_a_check_are_those_of_the_samples_under_both_labels(code: str) -> None:
    dataset = {"train_samples": 60, "test_samples": 5, "label_code": code}
    spec = CheckSpec.model_validate(
        {"dataset": dataset, "widths": [24], "samples": 60, "batch_size": 60, "seeds": [3]}
    )
    cells = {(cell.split, cell.method): cell.satisfied for cell in ffengine.check(spec).cells}
    train, draws = load_samples(spec.dataset, CPU).train, Draws((3,))
    weight = Network.initial(NetworkSpec(widths=(24,)), 784, draws, CPU).weights[0][0].double()
    index = draws.at("samples").permutation(60)
    wrong = (train.labels[index] + draws.at("negatives", 0).integers(1, 10, index.shape))[0] % 10
    some = train.some(index[0])
    groups = [some.labelled.double(), under(some, wrong).double()]
    descent = goodness_gradient(weight, groups, [-1.0, 1.0], "relu")
    splits: tuple[Split, ...] = ("positive", "negative")
    for split, x in zip(splits, groups, strict=True):
        step = 1e-6 * weight.norm() / descent.norm()
        after, before = (
            sparsity((x @ (weight + sign * step * descent).T).relu()) for sign in (1, -1)
        )
        assert cells[split, "exact"] == int((after > before).sum())


@pytest.mark.parametrize("code", ["random", "fourier"])
def test_a_run_is_as_accurate_as_each_label_by_itself_says(code: str) -> None:
    dataset = {"train_samples": 100, "test_samples": 40, "label_code": code}
    spec = TrainSpec.model_validate(
        {
            "dataset": dataset,
            "network": {"widths": [12]},
            "epochs": 2,
            "batch_size": 50,
            "monitor": {"samples": 20},
        }
    )
    reports: list[EpochReport] = []
    result = ffengine.train(spec, on_epoch=reports.append)
    weight = reports[-1].checkpoint.weights[0][0].double()
    test = load_samples(spec.dataset, CPU).test
    each = [under(test, torch.full((40,), label)).double() for label in range(10)]
    goodness = torch.stack([(x @ weight.T).relu().square().sum(1) for x in each], 1)
    hits = float((goodness.argmax(1) == test.labels).double().mean())
    rows = [row for row in result.accuracy if row.partition == "test"]
    assert [row.accuracy for row in rows] == [pytest.approx(hits, abs=1e-9)] * len(rows)
    assert rows


def test_the_study_compares_codes_at_equal_lengths() -> None:
    found: dict[str, list[float]] = {}
    for cell in expand(LABEL_CODES):
        assert isinstance(cell.spec, TrainSpec)
        dataset = cell.spec.dataset
        assert dataset.label_strength is not None
        length = dataset.label_strength * dataset.label_code.length(784)
        found.setdefault(dataset.label_code.name, []).append(length)
    assert list(found) == ["one_hot", "random", "fourier"]
    for lengths in found.values():
        assert lengths == pytest.approx([1, 3, 9], rel=5e-3)
