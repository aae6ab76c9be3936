"""A data set as the engine sees it: preprocessed inputs on the device, with and without the label overlaid.

Legend: N samples, m inputs, C classes.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ffengine.datasets import Arrays, load
from ffengine.spec import DatasetSpec, Preprocess


class Samples(NamedTuple):
    """One partition. plain (N, m): the images alone; labelled (N, m): the first C inputs replaced by the label's one-hot."""

    plain: Tensor
    labelled: Tensor
    labels: Tensor  # (N,) int64
    classes: int
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.labels)

    def positives(self, *, labelled: bool) -> Tensor:
        """What a positive sample is: with its label, or for strategies without labels the image alone."""
        return self.labelled if labelled else self.plain


def load_samples(spec: DatasetSpec, device: torch.device) -> tuple[Samples, Samples]:
    """The training and test partitions; everything that preprocessing fits comes from the training partition."""
    arrays = load(spec.name)
    train = slice(spec.train_count)
    test = slice(spec.test_count)
    arrays = Arrays(arrays.x_train[train], arrays.y_train[train], arrays.x_test[test], arrays.y_test[test])
    pixels_train, pixels_test = _pixels(arrays.x_train), _pixels(arrays.x_test)
    classes = spec.facts.classes
    plain = Preprocessor(spec.preprocess, pixels_train)
    blanked = pixels_train.clone()
    blanked[:, :classes] = 0
    overlaid = Preprocessor(spec.preprocess, blanked)  # fitted without labels, so that all label inputs are treated alike

    def partition(pixels: Tensor, targets: np.ndarray) -> Samples:
        labels = torch.from_numpy(targets.copy())
        labelled = overlaid(overlay(pixels, labels, classes))
        return Samples(plain(pixels).to(device), labelled.to(device), labels.to(device), classes, spec.facts.shape)

    return partition(pixels_train, arrays.y_train), partition(pixels_test, arrays.y_test)


def overlay(pixels: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The images (N, m) with the first C inputs replaced by the one-hot of the label (Hinton 2022, section 3.3)."""
    labelled = pixels.clone()
    labelled[:, :classes] = 0
    return labelled.scatter_(1, labels.unsqueeze(1), 1.0)


class Preprocessor:
    """Pixels in [0, 1] -> inputs, fitted on training pixels (N, m) alone."""

    def __init__(self, how: Preprocess, train: Tensor) -> None:
        self.how = how
        self.mean, self.deviation = 0.0, 1.0
        self.center = torch.zeros(train.shape[1])
        if how == "standardize":
            self.mean, self.deviation = float(train.double().mean()), float(train.double().std(correction=0))
        elif how == "center":
            self.center = train.double().mean(0).float()

    def __call__(self, pixels: Tensor) -> Tensor:
        """Inputs (N, m) for pixels (N, m)."""
        if self.how == "standardize":
            return (pixels - self.mean) / self.deviation
        if self.how == "center":
            return pixels - self.center
        if self.how == "unit_norm":
            length = torch.linalg.vector_norm(pixels, dim=-1, keepdim=True)
            return pixels / torch.where(length > 0, length, 1.0)
        return pixels


def _pixels(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images.reshape(len(images), -1).astype(np.float32) / np.float32(255))  # (N, m) in [0, 1]
