"""One contract for every entry of a catalogue: a new entry passes or fails it unchanged."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ffengine
from ffengine.activations import ACTIVATIONS, ActivationName
from ffengine.datasets import DATASETS, DatasetName
from ffengine.draws import Draws
from ffengine.entry import describe, entries, meaning_of, name_of
from ffengine.negatives import AnyNegatives, Negatives
from ffengine.objectives import AnyObjective, Objective
from ffengine.presets import PRESETS
from ffengine.spec import PREPROCESS_MEANING, Preprocess, TrainSpec
from ffengine.study import expand
from ffengine.theorems import THEOREMS, TheoremNumber
from tests.engine.reference import SIGMA

NEGATIVES: list[Negatives] = [entry() for entry in entries(AnyNegatives)]  # type: ignore[misc]
OBJECTIVES: list[Objective] = [entry() for entry in entries(AnyObjective)]  # type: ignore[misc]
CLASSES, SHAPE = 4, (1, 3, 4)


def labelled_batch(seed: int, replicas: int, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positives (R, B, m) with the one-hot of their label in the first inputs, and the labels (R, B)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.stack([torch.randperm(samples, generator=generator) % CLASSES for _ in range(replicas)])
    positive = torch.rand(replicas, samples, math.prod(SHAPE), generator=generator)
    positive[..., :CLASSES] = torch.nn.functional.one_hot(labels, CLASSES).float()
    return positive, labels


def test_names_are_the_literals_that_specs_accept() -> None:
    assert set(ACTIVATIONS) == set(ActivationName.__args__) == set(SIGMA)
    assert set(DATASETS) == set(DatasetName.__args__)
    assert set(THEOREMS) == set(TheoremNumber.__args__)
    assert set(PREPROCESS_MEANING) == set(Preprocess.__args__)


@pytest.mark.parametrize(("entry", "key"), [(e, "strategy") for e in entries(AnyNegatives)] + [(e, "name") for e in entries(AnyObjective)])
def test_every_entry_describes_itself(entry: type, key: str) -> None:
    line = describe(entry, key)
    assert line.name == name_of(entry, key)
    assert len(line.meaning) > 20
    assert all("description" in schema for schema in line.parameters.values())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_what_its_reference_says_with_its_own_slope(name: str) -> None:
    activation = ACTIVATIONS[name]
    z = torch.cat(
        [torch.linspace(-6, 6, 1201, dtype=torch.float64) + 1e-3, torch.tensor([-700.0, 700.0], dtype=torch.float64)]
    ).requires_grad_()
    (slope,) = torch.autograd.grad(SIGMA[name](z).sum(), z)
    assert torch.allclose(activation.value(z), SIGMA[name](z), rtol=1e-12, atol=1e-300)
    assert torch.allclose(activation.slope(z), slope, rtol=1e-9, atol=1e-12)
    assert activation.slope(z.float()).dtype == torch.float32
    assert len(meaning_of(type(activation))) > 10


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)
@given(goodness=st.lists(st.floats(-800, 800), min_size=1, max_size=20), negative=st.booleans())
def test_every_objectives_coefficient_is_the_autograd_slope_of_its_loss(
    objective: Objective, goodness: list[float], negative: bool
) -> None:
    values = torch.tensor(goodness, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(objective.loss(values, negative=negative).sum(), values)
    assert torch.allclose(objective.coefficient(values, negative=negative), slope, rtol=1e-9, atol=1e-12) or 0.0 in goodness
    assert bool(objective.loss(values, negative=negative).isfinite().all())


@pytest.mark.parametrize("negatives", NEGATIVES, ids=lambda n: n.strategy)
@given(seed=st.integers(0, 2**31), replicas=st.integers(1, 3), samples=st.integers(CLASSES, 12))
def test_every_negative_strategy_keeps_its_promises(negatives: Negatives, seed: int, replicas: int, samples: int) -> None:
    positive, labels = labelled_batch(seed, replicas, samples)
    before = positive.clone()
    draws = Draws(range(replicas))
    one, other = (negatives(positive, labels, CLASSES, SHAPE, draws.at("negatives", seed)) for _ in range(2))
    assert one.shape == positive.shape
    assert one.dtype == positive.dtype
    assert torch.equal(one, other)  # the same draw, the same bits
    assert torch.equal(positive, before)  # the input is left alone
    assert not torch.equal(one, positive)
    for replica in range(replicas):  # each replica equals the run of its seed alone
        single = negatives(
            positive[replica : replica + 1], labels[replica : replica + 1], CLASSES, SHAPE, Draws((replica,)).at("negatives", seed)
        )
        assert torch.equal(single[0], one[replica])


@given(seed=st.integers(0, 2**31), samples=st.integers(1, 40))
def test_a_wrong_label_is_never_the_true_one_and_the_image_stays(seed: int, samples: int) -> None:
    positive, labels = labelled_batch(seed, 1, samples)
    negative = NEGATIVES[0](positive, labels, CLASSES, SHAPE, Draws((seed,)).at("negatives"))
    assert bool((negative[..., :CLASSES].argmax(-1) != labels).all())
    assert torch.equal(negative[..., :CLASSES].sum(-1), torch.ones(1, samples))
    assert torch.equal(negative[..., CLASSES:], positive[..., CLASSES:])


def test_wrong_labels_are_uniform_over_the_others() -> None:
    positive, _ = labelled_batch(0, 1, 30_000)
    labels = torch.full((1, 30_000), 2)
    positive[..., :CLASSES] = torch.nn.functional.one_hot(labels, CLASSES).float()
    counts = NEGATIVES[0](positive, labels, CLASSES, SHAPE, Draws((0,)).at("negatives"))[..., :CLASSES].sum((0, 1))
    assert counts[2] == 0
    assert bool(((counts[[0, 1, 3]] - 10_000).abs() < 5 * math.sqrt(10_000)).all())


def test_a_hybrid_needs_two_classes_in_a_batch() -> None:
    positive, labels = labelled_batch(0, 1, 8)
    with pytest.raises(ValueError, match="at least two classes"):
        NEGATIVES[1](positive, labels * 0, CLASSES, SHAPE, Draws((0,)).at("negatives"))


def test_a_hybrid_takes_each_pixel_from_one_of_two_images_of_different_classes() -> None:
    positive, labels = labelled_batch(0, 1, 12)
    negative = NEGATIVES[1](positive, labels, CLASSES, SHAPE, Draws((0,)).at("negatives"))[0]
    for sample, label, made in zip(positive[0], labels[0], negative, strict=True):
        others = [o for o, other in zip(positive[0], labels[0], strict=True) if other != label]
        assert any(bool(((made == sample) | (made == other)).all()) for other in others)


@pytest.mark.parametrize("entry", list(entries(AnyNegatives) + entries(AnyObjective)), ids=lambda e: e.__name__)
def test_every_entry_changes_a_short_run(entry: type) -> None:
    field = "negatives" if issubclass(entry, Negatives) else "objective"
    base = {
        "dataset": {"train_samples": 60, "test_samples": 20},
        "network": {"widths": [8]},
        "epochs": 1,
        "batch_size": 20,
        "monitor": {"samples": 40},
    }
    key = "strategy" if field == "negatives" else "name"
    runs = {}
    for other in entries(AnyNegatives if field == "negatives" else AnyObjective):
        spec = TrainSpec.model_validate({**base, field: {key: name_of(other, key)}})
        runs[other] = [row.goodness for row in ffengine.train(spec).curves if row.epoch == 1]
    assert all(runs[entry] != rows for other, rows in runs.items() if other is not entry)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_expands(name: str) -> None:
    assert len(PRESETS[name].meaning) > 20
    assert {cell.part for cell in expand(PRESETS[name].spec)} == set(PRESETS[name].spec.parts)
