"""Preprocessing and the label overlay."""

import pytest
import torch

from ffengine.negatives import swap_label
from ffengine.samples import Preprocessor, load_samples, overlay
from ffengine.spec import DatasetSpec

CPU = torch.device("cpu")


def test_the_overlay_replaces_the_first_inputs_by_the_one_hot() -> None:
    train, _ = load_samples(DatasetSpec(), CPU)
    assert torch.equal(train.labelled[:, :10], torch.nn.functional.one_hot(train.labels, 10).float())
    assert torch.equal(train.labelled[:, 10:], train.plain[:, 10:])
    assert float(train.plain.max()) == 1.0


def test_center_and_standardize_are_fitted_on_the_training_partition_alone() -> None:
    centered, centered_test = load_samples(DatasetSpec(preprocess="center"), CPU)
    assert float(centered.plain.double().mean(0).abs().max()) < 1e-6
    assert float(centered_test.plain.double().mean(0).abs().max()) > 1e-3
    standard, _ = load_samples(DatasetSpec(preprocess="standardize"), CPU)
    assert float(standard.plain.double().mean()) == pytest.approx(0, abs=1e-5)
    assert float(standard.plain.double().std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_unit_norm_samples_have_length_one_with_and_without_label() -> None:
    train, _ = load_samples(DatasetSpec(preprocess="unit_norm", train_samples=500), CPU)
    for x in (train.plain, train.labelled):
        assert torch.allclose(x.norm(dim=1), torch.ones(500), atol=1e-5)


@pytest.mark.parametrize("preprocess", ["unit", "center", "standardize", "unit_norm"])
def test_swapping_the_label_equals_overlaying_the_other_one_before_preprocessing(preprocess: str) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels, labels, wrong = torch.rand(50, 30, generator=generator), torch.arange(50) % 10, (torch.arange(50) + 3) % 10
    blanked = pixels.clone()
    blanked[:, :10] = 0
    prepare = Preprocessor(preprocess, blanked)  # type: ignore[arg-type]
    swapped = swap_label(prepare(overlay(pixels, labels, 10)), labels, wrong)
    assert torch.allclose(swapped, prepare(overlay(pixels, wrong, 10)), atol=1e-6)
