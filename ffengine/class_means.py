"""Class means of the training samples as the first layer receives them, without torch.

How training begins follows from them (`ffengine.onset`). Sums go over blocks of samples, in
float64: nothing of the size N x N, or m x m, is formed.

Legend: N samples, C classes, m inputs besides those of the label, the bias input among them.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ffengine.arrays import Images, Labels
from ffengine.datasets import Dataset, Loaded
from ffengine.input_figures import NUMBERS_AT_ONCE
from ffengine.lanczos import Matrix, largest_eigenvalue
from ffengine.partitions import Choice, chosen
from ffengine.spec import DatasetSpec, NetworkSpec

LABEL_SHARE = 0.1  # of a sample's length, in the label inputs of an upload: as in ffengine.samples
EVEN_NUMBERS = 2**23  # of the evenly spaced samples that second moments are taken of
OVERLAP_SAMPLES = 1000


class Prepared(NamedTuple):
    """Some samples as the first layer receives them.

    **Attributes:**

    - `x`: (B, m) the inputs besides those of the label.
    - `on`, `off`: (B,) the input of the sample's label, and each of the other label inputs.
    - `labels`: (B,).
    - `label_inputs`: C.
    """

    x: Matrix
    on: Matrix
    off: Matrix
    labels: Labels
    label_inputs: int

    @property
    def label_energy(self) -> Matrix:
        """(B,): the squared length of the label inputs."""
        energy: Matrix = np.square(self.on) + (self.label_inputs - 1) * np.square(self.off)
        return energy

    @property
    def energy(self) -> Matrix:
        """(B,): ||x||^2 with the label."""
        energy: Matrix = np.square(self.x).sum(1) + self.label_energy
        return energy

    def whole(self) -> Matrix:
        """(B, C + m): the samples with their label inputs in front."""
        labels = np.repeat(self.off[:, None], self.label_inputs, axis=1)
        labels[np.arange(len(labels)), self.labels] = self.on
        return np.concatenate([labels, self.x], axis=1)


class TrainingInputs:
    """The training partition as the first layer receives it, a block of samples at a time.

    **Arguments:**

    - `spec`: which samples they are, how they are preprocessed, and how labels are put there.
    - `facts`: the facts of the data set.
    - `loaded`: its arrays.
    - `network`: whether the first layer normalises its input, and whether there is a bias.
    """

    def __init__(
        self, spec: DatasetSpec, facts: Dataset, loaded: Loaded, network: NetworkSpec
    ) -> None:
        self.spec, self.network, self.classes = spec, network, facts.classes
        self._images, self._labels = loaded.arrays.x_train, loaded.arrays.y_train
        self.samples = spec.train_count(facts)
        sizes = (self.samples, spec.validation_samples, spec.test_count(facts))
        digest = loaded.digest if facts.uploaded else None
        self._chosen: Choice = chosen(loaded.arrays, sizes, digest, spec.held_out_classes)[0]
        self._as_pixels = spec.labels_are_pixels and not facts.uploaded
        self._mean, self._deviation = self._fitted()
        given = spec.label_strength or (None if facts.uploaded else 1.0)
        self._strength = given or self._fitting_strength()

    def blocks(self, most: int | None = None) -> Iterator[Prepared]:
        """Yield the samples.

        **Arguments:**

        - `most`: of more samples than this, as many are taken, evenly spaced; None: all.

        **Returns:**

        Some samples at a time, in their order.
        """
        for pixels, labels in self._pixels(most):
            yield self._prepared(pixels, labels)

    def evenly_spaced(self) -> Iterator[Prepared]:
        """Yield the samples that second moments are taken of: all, or evenly spaced ones."""
        inputs = math.prod(self._images.shape[1:])
        return self.blocks(max(self.classes, EVEN_NUMBERS // inputs))

    def _pixels(self, most: int | None = None) -> Iterator[tuple[Matrix, Labels]]:
        """Yield samples (B, pixels) as numbers, bytes from 0 to 1, with their labels (B,)."""
        where = np.arange(self.samples)
        if most is not None and most < self.samples:
            where = np.linspace(0, self.samples - 1, most).astype(np.int64)
        if not isinstance(self._chosen, slice):
            where = self._chosen[where]
        rows = max(1, NUMBERS_AT_ONCE // math.prod(self._images.shape[1:]))
        for start in range(0, len(where), rows):
            some = where[start : start + rows]
            yield _numbers(self._images[some]), self._labels[some]

    def _fitted(self) -> tuple[Matrix | float, float]:
        """Return what preprocessing subtracts from pixels, and what it divides them by."""
        if self.spec.preprocess not in ("center", "standardize"):
            return 0.0, 1.0
        total, squares = 0.0, 0.0
        for pixels, _labels in self._pixels():
            total = total + pixels.sum(0)
            squares = squares + np.square(pixels).sum(0)
        mean, square = np.asarray(total) / self.samples, np.asarray(squares) / self.samples
        if self.spec.preprocess == "center":
            return mean, 1.0
        blank = 0
        if self._as_pixels:  # the label inputs are black pixels there
            blank = self.classes
            covered = self.classes if self.spec.labels == "overlay" else 0
            mean, square = mean[covered:], square[covered:]
        inputs = len(mean) + blank
        middle = float(mean.sum()) / inputs
        variance = float(square.sum()) / inputs - middle**2
        return middle, math.sqrt(max(variance, 0.0)) or 1.0

    def _fitting_strength(self) -> float:
        """Return the strength of an upload's labels where the spec gives none."""
        squares = sum(
            float(np.square(self._plain(pixels)).sum()) for pixels, _labels in self._pixels()
        )
        return LABEL_SHARE * math.sqrt(squares / self.samples) or 1.0

    def _plain(self, pixels: Matrix) -> Matrix:
        """Preprocess samples (B, pixels) that have no label."""
        if self.spec.preprocess == "unit_norm":
            length = np.linalg.norm(pixels, axis=1, keepdims=True)
            return pixels / np.where(length > 0, length, 1.0)
        return (pixels - self._mean) / self._deviation

    def _prepared(self, pixels: Matrix, labels: Labels) -> Prepared:
        """Return samples (B, pixels) with their labels as the first layer receives them."""
        covered = self.classes if self.spec.labels == "overlay" else 0
        on, off = np.full(len(pixels), self._strength), np.zeros(len(pixels))
        if self._as_pixels and self.spec.preprocess == "unit_norm":
            x = pixels[:, covered:]
            length = np.sqrt(np.square(x).sum(1) + 1)
            x, on = x / length[:, None], on / length
        else:
            x = self._plain(pixels)[:, covered:]
            if self._as_pixels and self.spec.preprocess == "standardize":
                on, off = (on - self._mean) / self._deviation, (off - self._mean) / self._deviation
        return self._received(Prepared(x, on, off, labels, self.classes))

    def _received(self, samples: Prepared) -> Prepared:
        """Normalise samples, and add the bias input, where the network does so."""
        x, on, off, labels, classes = samples
        scaled = self.network.normalize_first and self.network.normalize != "none"
        if scaled and self.spec.labels == "every_layer":  # the label is not scaled there
            x = self._scaled_images(x)
        elif scaled:
            inputs = x.shape[1] + classes
            if self.network.normalize == "layer":
                mean = (x.sum(1) + on + (classes - 1) * off) / inputs
                x, on, off = x - mean[:, None], on - mean, off - mean
                samples = Prepared(x, on, off, labels, classes)
            length = np.sqrt(samples.energy)
            if self.network.normalize not in ("l2", "halves"):  # the inputs have no halves
                length = length / math.sqrt(inputs)
            length = np.where(length > 0, length, 1.0)
            x, on, off = x / length[:, None], on / length, off / length
        if self.network.bias:
            x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        return Prepared(x, on, off, labels, classes)

    def _scaled_images(self, x: Matrix) -> Matrix:
        """Normalise images (B, m) that have no label inputs."""
        if self.network.normalize == "layer":
            x = x - x.mean(1, keepdims=True)
        length = np.linalg.norm(x, axis=1, keepdims=True)
        if self.network.normalize not in ("l2", "halves"):
            length = length / math.sqrt(x.shape[1])
        return x / np.where(length > 0, length, 1.0)


class ClassMeans(NamedTuple):
    """What of the samples decides how training with wrong labels begins; docs/theory.md derives it.

    A = E[x x^T] over positives less that over negatives, for units that are active on every sample.
    Its image-image block is 0: a wrong label changes no other input.

    **Attributes:**

    - `contrast`: M (C, m), the block of A between label inputs and the others. With labels of
      amplitude a, M_l = a (C/(C-1) p_l mu_l - mu/(C-1)): p_l the share and mu_l the mean of class
      l, mu that of all.
    - `labels`: (C, C), the block of A between label inputs; 0 for classes of equal size.
    - `drift`: mean over samples of (x/||x||) . V, with V = mean of a x (x/||x|| . M_y).
    - `label_energy`: energy of the label inputs over that of the others.
    - `overlap`: q, how likely a unit at random weights that is active on one sample is active on
      another.
    """

    contrast: Matrix
    labels: Matrix
    drift: float
    label_energy: float
    overlap: float

    def growth_rates(self) -> Matrix:
        """Compute the eigenvalues of A that are above zero, largest first.

        A vanishes beside the label inputs and the directions of M, so that a small matrix has them
        all. For classes of equal size they are the singular values of M.

        **Returns:**

        At most C numbers, and at least one (0 where all class means are equal).
        """
        left, values, _ = np.linalg.svd(self.contrast, full_matrices=False)
        between = left * values  # (C, min(C, m))
        small = np.block(
            [[self.labels, between], [between.T, np.zeros((len(values), len(values)))]]
        )
        found: Matrix = np.linalg.eigvalsh(small)[::-1][: len(self.labels)]
        grow = found > 1e-12 * float(np.abs(found).max())
        return found[grow] if grow.any() else np.zeros(1)

    @property
    def recruitment(self) -> float:
        """R = `drift` / lambda_1^2: how far units switch on before the classes' own directions
        grow. 0 where nothing grows.
        """
        rate = float(self.growth_rates()[0])
        square = rate**2  # 0 also where labels are too weak for a square
        return self.drift / square if square else 0.0


def class_means(inputs: TrainingInputs) -> ClassMeans:
    """Measure the training samples.

    **Arguments:**

    - `inputs`: the samples.

    **Returns:**

    The figures. `drift` is that of evenly spaced samples, where there are very many, and `overlap`
    that of a thousand.
    """
    classes, contrast = inputs.classes, np.zeros(())
    squares, crossed, energies = np.zeros(classes), np.zeros(classes), np.zeros(2)
    for samples in inputs.blocks():
        amplitude, own = samples.on - samples.off, _signs(samples)
        contrast = contrast + (own * amplitude[:, None]).T @ samples.x
        squares += own.T @ np.square(amplitude)
        crossed += own.T @ (amplitude * samples.off)
        of_label = float(samples.label_energy.sum())
        energies += of_label, float(samples.energy.sum()) - of_label
    contrast = contrast / inputs.samples
    labels = np.diag(squares) + crossed[:, None] + crossed[None, :]
    share = float(energies[0] / energies[1]) if energies[1] else math.inf
    drift, overlap = _drift(inputs, contrast), mask_overlap(inputs)
    return ClassMeans(contrast, labels / inputs.samples, drift, share, overlap)


def mask_overlap(inputs: TrainingInputs) -> float:
    """Compute how likely a unit that is active on one sample is active on another.

    A unit with weights from N(0, 1) is active on two samples at an angle t with probability
    (pi - t) / (2 pi), and on one with 1/2.

    **Arguments:**

    - `inputs`: the samples; of more than a thousand, as many are taken, evenly spaced.

    **Returns:**

    q, the mean of 1 - t / pi over pairs of two samples; 1/2 where there are none.
    """
    x = np.concatenate([samples.whole() for samples in inputs.blocks(OVERLAP_SAMPLES)])
    length = np.linalg.norm(x, axis=1)
    unit = x[length > 0] / length[length > 0, None]
    angles = np.arccos(np.clip(unit @ unit.T, -1, 1))[np.triu_indices(len(unit), 1)]
    return float(1 - angles.mean() / math.pi) if len(angles) else 0.5


def largest_second_moment(inputs: TrainingInputs) -> float:
    """Compute e_1, the largest eigenvalue of E[x x^T] over positives, by the Lanczos method.

    **Arguments:**

    - `inputs`: the samples; where there are very many, evenly spaced ones are taken.

    **Returns:**

    e_1.
    """
    x = np.concatenate([samples.whole() for samples in inputs.evenly_spaced()])

    def times(vector: Matrix) -> Matrix:
        moved: Matrix = x.T @ (x @ vector) / len(x)
        return moved

    return largest_eigenvalue(times, x.shape[1])


def _drift(inputs: TrainingInputs, contrast: Matrix) -> float:
    """Return the mean over samples of (x/||x||) . V."""
    pushed, facing, count = np.zeros(contrast.shape[1]), np.zeros(contrast.shape[1]), 0
    for samples in inputs.evenly_spaced():
        length = np.sqrt(samples.energy)
        inverse = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
        alike = np.einsum("bm,bm->b", samples.x, contrast[samples.labels]) * inverse
        pushed += ((samples.on - samples.off) * alike) @ samples.x
        facing += inverse @ samples.x
        count += len(length)
    return float(pushed @ facing) / count**2


def _signs(samples: Prepared) -> Matrix:
    """Return (B, C): 1 for a sample's own label, -1/(C-1) for each of the others."""
    others = max(samples.label_inputs - 1, 1)
    signs = np.full((len(samples.labels), samples.label_inputs), -1.0 / others)
    signs[np.arange(len(signs)), samples.labels] = 1.0
    return signs


def _numbers(images: Images) -> Matrix:
    """Return samples (B, pixels) as numbers, bytes from 0 to 1."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    return flat / 255.0 if images.dtype == np.uint8 else flat
