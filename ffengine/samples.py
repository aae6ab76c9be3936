"""A data set as the engine sees it: preprocessed inputs on the device, with and without the label.

Legend: R replicas, N samples, m inputs, C classes, K label inputs. The label, where there is one,
is a pattern in the first K inputs (a one-hot: K = C), or one that is added to all of them.
"""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ffengine.arrays import DatasetError
from ffengine.datasets import Dataset, Datasets
from ffengine.label_patterns import LabelPatterns, OneHotPatterns, label_patterns
from ffengine.partitions import chosen
from ffengine.random_streams import Draw
from ffengine.spec import DatasetSpec, LabelPlace, OtherDataSpec, Preprocess

LABEL_SHARE = 0.1  # of a sample's length, in the label inputs of an upload


class LabelsAsPixels(NamedTuple):
    """Label inputs are white and black pixels, preprocessed with the image.

    So it is for data sets of the catalogue, as published programs do it with MNIST.
    """

    preprocess: "Preprocessor"  # fitted on training images with blank label inputs
    place: LabelPlace

    def __call__(self, pixels: Tensor, _plain: "Preprocessor", label: Tensor) -> Tensor:
        """Inputs (N, m) for pixels (N, m) and a label (N, K)."""
        return self.preprocess(overlay(pixels, label, self.place))


class LabelsOfStrength(NamedTuple):
    """Label inputs are set after preprocessing, to a strength in units of the inputs."""

    strength: float
    place: LabelPlace

    def __call__(self, pixels: Tensor, plain: "Preprocessor", label: Tensor) -> Tensor:
        """Inputs (N, m) for pixels (N, m) and a label (N, K)."""
        return overlay(plain(pixels), self.strength * label, self.place)


class LabelsAdded(NamedTuple):
    """Patterns of labels are added to the preprocessed image, to a strength in its units."""

    strength: float

    def __call__(self, pixels: Tensor, plain: "Preprocessor", label: Tensor) -> Tensor:
        """Inputs (N, m) for pixels (N, m) and a label (N, m)."""
        return plain(pixels) + self.strength * label


class Preprocessing(NamedTuple):
    """How pixels become inputs, fitted on training images alone, and how labels are put there."""

    plain: "Preprocessor"
    labels: LabelsAsPixels | LabelsOfStrength | LabelsAdded


class Samples:
    """One partition on the device. Inputs are made when they are first asked for, and kept."""

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor,
        classes: int,
        shape: tuple[int, int, int],
        preprocessing: Preprocessing,
        patterns: LabelPatterns | None = None,
    ) -> None:
        self.labels = labels  # (N,) int64
        self.classes = classes
        self.shape = shape
        self.patterns = patterns or OneHotPatterns(classes)
        self._pixels = pixels  # (N, m) as stored: uint8, or float32 for uploaded data
        self._preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def plain(self) -> Tensor:
        """(N, m): the images alone."""
        return self._preprocessing.plain(_inputs(self._pixels))

    @cached_property
    def labelled(self) -> Tensor:
        """(N, m): with the pattern of the label."""
        return self._overlaid(self.patterns.of(self.labels))

    @cached_property
    def neutral(self) -> Tensor:
        """(N, m): with the mean of all patterns; of a one-hot that is 1 / C in every label input
        (Hinton 2022, section 3.3).
        """
        return self._overlaid(self.patterns.neutral(self.labels))

    def image(self, at: int) -> Tensor:
        """The pixels (channels, height, width) of one sample, as stored."""
        return self._pixels[at].reshape(self.shape)

    def some(self, index: Tensor) -> "Samples":
        """The samples at these positions (N,), as a partition of their own."""
        index = index.to(self.labels.device)
        return Samples(
            self._pixels[index],
            self.labels[index],
            self.classes,
            self.shape,
            self._preprocessing,
            self.patterns,
        )

    def with_others(self, others: "Samples") -> "Samples":
        """These samples, and then others of the same data set, as one partition."""
        return Samples(
            torch.cat([self._pixels, others._pixels]),
            torch.cat([self.labels, others.labels]),
            self.classes,
            self.shape,
            self._preprocessing,
            self.patterns,
        )

    def relabelled(self, x: Tensor, labels: Tensor, wrong: Tensor) -> Tensor:
        """Samples (..., m) of one label each (...,), under another label (...,)."""
        return self.patterns.swapped(x, labels, wrong)

    def positives(self, *, labelled: bool) -> Tensor:
        """What a positive sample is: with its label, or for strategies without labels the image
        alone.
        """
        return self.labelled if labelled else self.plain

    def other_class(self, labels: Tensor, draw: Draw) -> Tensor:
        """For each label (R, B) the index of a random sample of another class, uniform over
        those.
        """
        others = len(self) - self._counts  # (C,)
        place = (
            draw.uniform(labels.shape).double() * others[labels]
        ).long()  # among the samples of other classes, by class
        first = self._first[labels]
        return self._by_class[torch.where(place < first, place, place + self._counts[labels])]

    def _overlaid(self, label: Tensor) -> Tensor:
        plain, labels = self._preprocessing
        return labels(_inputs(self._pixels), plain, label)

    @property
    def label_strength(self) -> float | None:
        """What patterns are multiplied with; None where labels are preprocessed as pixels."""
        labels = self._preprocessing.labels
        return None if isinstance(labels, LabelsAsPixels) else labels.strength

    @cached_property
    def _counts(self) -> Tensor:
        counts = torch.bincount(self.labels, minlength=self.classes)
        if int((counts > 0).sum()) < 2:
            raise DatasetError(
                "dataset.train_samples: the chosen samples are all of one class; negatives need "
                "at least two"
            )
        return counts

    @cached_property
    def _first(self) -> Tensor:
        return self._counts.cumsum(0) - self._counts

    @cached_property
    def _by_class(self) -> Tensor:
        return self.labels.argsort(stable=True)


class Partitions(NamedTuple):
    """What is learnt from, what choices are made on, and what is reported; they share no sample.

    **Attributes:**

    - `train`, `validation`, `test`: the partitions.
    - `held_out`: test samples of the classes that the others have none of; None where there are no
      such classes.
    - `other`: samples of another data set, without labels of meaning; None where none is asked for.
    """

    train: Samples
    validation: Samples | None
    test: Samples
    held_out: Samples | None = None
    other: Samples | None = None


def load_samples(
    spec: DatasetSpec,
    device: torch.device,
    datasets: Datasets | None = None,
    other: OtherDataSpec | None = None,
) -> Partitions:
    """Load the partitions of a data set.

    Of a data set of the catalogue, the training samples are the first ones, and the validation
    samples those that follow. Of an upload, each partition is drawn by class, see
    `ffengine.partitions`. Everything that preprocessing fits comes from the training partition.

    **Arguments:**

    - `spec`: which samples, and how pixels become inputs.
    - `device`: where samples lie.
    - `datasets`: where data sets are; None: where the environment says.
    - `other`: of another data set, which samples are loaded beside.

    **Returns:**

    The samples of each partition.

    **Raises:**

    - `DatasetError`: the data set cannot be found, fetched or read, or the chosen test samples are
      all of classes that are held out, or none is.
    """
    datasets = datasets or Datasets.of_environment()
    loaded = datasets.loaded(spec.name)
    arrays, facts = loaded.arrays, datasets.facts_of(spec.name)
    sizes = (spec.train_count(facts), spec.validation_samples, spec.test_count(facts))
    without, digest = spec.held_out_classes, loaded.digest if facts.uploaded else None
    learnt, held, tested = chosen(arrays, sizes, digest, without)
    train = _pixels(arrays.x_train[learnt])
    preprocessing = _fitted(spec, facts, _inputs(train))
    strength = getattr(preprocessing.labels, "strength", None)
    patterns = label_patterns(spec.label_code, facts.classes, facts.shape, strength, device)

    def partition(pixels: Tensor, targets: np.ndarray) -> Samples:
        labels = torch.from_numpy(np.array(targets, dtype=np.int64)).to(device)
        return Samples(
            pixels.to(device), labels, facts.classes, facts.shape, preprocessing, patterns
        )

    test = partition(_pixels(arrays.x_test[tested]), arrays.y_test[tested])
    known = ~torch.isin(test.labels, torch.tensor(without, dtype=torch.int64, device=device))
    if without and bool(known.all() | (~known).all()):
        raise DatasetError(
            f"dataset.held_out_classes: of the {len(test)} test samples "
            f"{'none is' if bool(known.all()) else 'all are'} of these classes; take more"
        )
    return Partitions(
        partition(train, arrays.y_train[learnt]),
        partition(_pixels(arrays.x_train[held]), arrays.y_train[held])
        if spec.validation_samples
        else None,
        test.some(known.nonzero().squeeze(1)) if without else test,
        test.some((~known).nonzero().squeeze(1)) if without else None,
        _other(other, datasets, partition) if other else None,
    )


def _other(
    spec: OtherDataSpec, datasets: Datasets, partition: Callable[[Tensor, np.ndarray], Samples]
) -> Samples:
    """Return samples of another data set; they have class 0, for theirs mean something else."""
    pixels = datasets.loaded(spec.dataset).arrays.x_test[: spec.count()]
    return partition(_pixels(pixels), np.zeros(len(pixels), dtype=np.int64))


def _fitted(spec: DatasetSpec, facts: Dataset, train: Tensor) -> Preprocessing:
    plain, strength = Preprocessor(spec.preprocess, train), spec.label_strength
    code = spec.label_code
    if spec.labels_are_pixels and not facts.uploaded and not code.added:
        label_inputs = code.label_inputs(facts.classes)
        blank = overlay(train, train.new_zeros(len(train), label_inputs), spec.labels)
        pixels = LabelsAsPixels(Preprocessor(spec.preprocess, blank), spec.labels)
        return Preprocessing(plain, pixels)
    if strength is None and spec.labels == "every_layer" and not facts.uploaded:
        strength = 1.0
    if strength is None:
        strength = fitting_strength(plain(train)) / code.length(train.shape[1])
    if code.added:
        return Preprocessing(plain, LabelsAdded(strength))
    return Preprocessing(plain, LabelsOfStrength(strength, spec.labels))


def fitting_strength(inputs: Tensor) -> float:
    """Return the length of a label that is to the samples (N, m) what a one-hot's is to MNIST's.

    It is a tenth of the root mean square length of a sample, so it follows the unit of the data and
    the number of inputs. A white pixel has 0.107 of the length of MNIST's samples.
    """
    lengths = torch.linalg.vector_norm(inputs, dim=1, dtype=torch.float64)
    return LABEL_SHARE * float(lengths.square().mean().sqrt()) or 1.0


def overlay(inputs: Tensor, label: Tensor, place: LabelPlace) -> Tensor:
    """The images (N, m) with the label's inputs (N, K) in place of the first K, or in front of all
    (Hinton 2022, section 3.3).
    """
    rest = inputs[:, label.shape[1] :] if place == "overlay" else inputs
    return torch.cat([label, rest], dim=1)


class Preprocessor:
    """Pixels in [0, 1] -> inputs, fitted on training pixels (N, m) alone."""

    def __init__(self, how: Preprocess, train: Tensor) -> None:
        self.how = how
        self.mean, self.deviation = 0.0, 1.0
        self.center = torch.zeros(train.shape[1])
        if how == "standardize":
            self.mean, self.deviation = (
                float(train.double().mean()),
                float(train.double().std(correction=0)) or 1.0,
            )
        elif how == "center":
            self.center = train.double().mean(0).float()

    def __call__(self, inputs: Tensor) -> Tensor:
        """Inputs (N, m) for pixels (N, m)."""
        if self.how == "standardize":
            return (inputs - self.mean) / self.deviation
        if self.how == "center":
            return inputs - self.center.to(inputs.device)
        if self.how == "unit_norm":
            length = torch.linalg.vector_norm(inputs, dim=-1, keepdim=True)
            return inputs / torch.where(length > 0, length, 1.0)
        return inputs


def _pixels(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(images.reshape(len(images), -1)))


def _inputs(pixels: Tensor) -> Tensor:
    """Bytes as numbers in [0, 1]; numbers as they are. In the device's memory, (N, m) float32."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
