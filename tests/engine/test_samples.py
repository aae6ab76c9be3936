"""Preprocessing and the label overlay."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ffengine.arrays import DatasetError
from ffengine.negatives import swap_label
from ffengine.random_streams import Draws
from ffengine.samples import Preprocessor, load_samples, overlay
from ffengine.spec import DatasetSpec

CPU = torch.device("cpu")


def test_the_overlay_replaces_the_first_inputs_by_the_one_hot() -> None:
    train = load_samples(DatasetSpec(), CPU).train
    assert torch.equal(
        train.labelled[:, :10], torch.nn.functional.one_hot(train.labels, 10).float()
    )
    assert torch.equal(train.labelled[:, 10:], train.plain[:, 10:])
    assert float(train.plain.max()) == 1.0


@pytest.mark.slow
def test_center_and_standardize_are_fitted_on_the_training_partition_alone() -> None:
    centered, _, centered_test = load_samples(DatasetSpec(preprocess="center"), CPU)[:3]
    assert float(centered.plain.double().mean(0).abs().max()) < 1e-6
    assert float(centered_test.plain.double().mean(0).abs().max()) > 1e-3
    standard = load_samples(DatasetSpec(preprocess="standardize"), CPU).train
    assert float(standard.plain.double().mean()) == pytest.approx(0, abs=1e-5)
    assert float(standard.plain.double().std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_unit_norm_samples_have_length_one_with_and_without_label() -> None:
    train = load_samples(DatasetSpec(preprocess="unit_norm", train_samples=500), CPU).train
    for x in (train.plain, train.labelled):
        assert torch.allclose(x.norm(dim=1), torch.ones(500), atol=1e-5)


@pytest.mark.parametrize("preprocess", ["unit", "center", "standardize", "unit_norm"])
def test_swapping_the_label_equals_overlaying_the_other_one_before_preprocessing(
    preprocess: str,
) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels, labels, wrong = (
        torch.rand(50, 30, generator=generator),
        torch.arange(50) % 10,
        (torch.arange(50) + 3) % 10,
    )
    blanked = pixels.clone()
    blanked[:, :10] = 0
    prepare = Preprocessor(preprocess, blanked)  # type: ignore[arg-type]
    one_hot, other = (torch.nn.functional.one_hot(label, 10).float() for label in (labels, wrong))
    swapped = swap_label(prepare(overlay(pixels, one_hot, "overlay")), labels, wrong)
    assert torch.allclose(swapped, prepare(overlay(pixels, other, "overlay")), atol=1e-6)


def test_an_appended_label_leaves_the_image_whole() -> None:
    train = load_samples(DatasetSpec(labels="append", train_samples=50), CPU).train
    assert train.labelled.shape == (50, 794)
    assert torch.equal(train.labelled[:, 10:], train.plain)
    assert torch.equal(train.labelled[:, :10].argmax(1), train.labels)


def test_the_neutral_label_is_the_same_for_all_classes() -> None:
    train = load_samples(DatasetSpec(train_samples=50), CPU).train
    assert torch.equal(train.neutral[:, :10], torch.full((50, 10), 0.1))
    assert torch.equal(train.neutral[:, 10:], train.plain[:, 10:])


def test_partitions_share_no_sample_and_validation_follows_training() -> None:
    train, validation, test = load_samples(
        DatasetSpec(train_samples=100, validation_samples=50, test_samples=30), CPU
    )[:3]
    everything = load_samples(DatasetSpec(train_samples=150), CPU).train
    assert validation is not None
    assert torch.equal(torch.cat([train.plain, validation.plain]), everything.plain)
    assert len(test) == 30
    assert len(load_samples(DatasetSpec(validation_samples=1_000), CPU).train) == 5_000


@given(seed=st.integers(0, 2**31))
def test_a_partner_is_of_another_class_and_uniform_over_those(seed: int) -> None:
    train = load_samples(DatasetSpec(train_samples=37, test_samples=1), CPU).train
    labels = train.labels.repeat(400).unsqueeze(0)
    partners = train.other_class(labels, Draws((seed,)).at("partners"))
    assert bool((train.labels[partners] != labels).all())
    of_first = partners[0][labels[0] == labels[0, 0]]
    expected = len(of_first) / int((train.labels != labels[0, 0]).sum())
    counts = torch.bincount(of_first, minlength=37)
    assert float((counts[train.labels != labels[0, 0]] - expected).abs().max()) < 6 * expected**0.5
    assert int(counts[train.labels == labels[0, 0]].sum()) == 0


def test_one_class_alone_has_no_partners() -> None:
    train = load_samples(DatasetSpec(train_samples=20), CPU).train
    train.labels = torch.zeros_like(train.labels)
    with pytest.raises(DatasetError, match="all of one class"):
        train.other_class(train.labels.unsqueeze(0), Draws((0,)).at("partners"))
