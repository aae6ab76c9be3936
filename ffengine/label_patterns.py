"""The patterns of labels as tensors, and samples under other labels.

Legend: R replicas, B samples, N samples of a partition, m inputs of a sample, C classes, K inputs
of a label.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ffengine.label_codes import FourierPatterns, LabelCode, RandomPatterns, frequencies
from ffengine.negatives import swap_label
from ffengine.random_streams import Draws


class LabelPatterns(ABC):
    """The pattern of each class, and how a sample gets another one.

    **Arguments:**

    - `classes`: C.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes

    @abstractmethod
    def of(self, labels: Tensor) -> Tensor:
        """Return the patterns of labels.

        **Arguments:**

        - `labels`: (N,) int64.

        **Returns:**

        (N, K), or (N, m) of patterns that are added to the image; of strength 1.
        """

    @abstractmethod
    def neutral(self, labels: Tensor) -> Tensor:
        """Return the mean of all patterns, once for each label.

        **Arguments:**

        - `labels`: (N,) int64.

        **Returns:**

        As `of` does.
        """

    @abstractmethod
    def swapped(self, x: Tensor, labels: Tensor, wrong: Tensor) -> Tensor:
        """Give samples another label.

        **Arguments:**

        - `x`: (..., m) preprocessed samples under their labels.
        - `labels`: (...,) int64, the label that each sample carries.
        - `wrong`: (...,) int64, the label that it gets.

        **Returns:**

        (..., m), a new tensor.
        """

    @abstractmethod
    def lengths(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return how far a label moves each sample from one whose label inputs are all off.

        **Arguments:**

        - `x`: (N, m) preprocessed samples under their labels.
        - `labels`: (N,) int64.

        **Returns:**

        (N,).
        """


class OneHotPatterns(LabelPatterns):
    """The one-hot of a label in the first C inputs."""

    def of(self, labels: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(labels, self.classes).float()

    def neutral(self, labels: Tensor) -> Tensor:
        return torch.full((len(labels), self.classes), 1 / self.classes, device=labels.device)

    def swapped(self, x: Tensor, labels: Tensor, wrong: Tensor) -> Tensor:
        return swap_label(x, labels, wrong)

    def lengths(self, x: Tensor, labels: Tensor) -> Tensor:
        of_label = labels.unsqueeze(1)
        return (x.gather(1, of_label) - x.gather(1, (of_label + 1) % self.classes)).squeeze(1)


class BinaryPatterns(LabelPatterns):
    """A pattern of zeros and ones in the first K inputs, with as many ones for each class.

    **Arguments:**

    - `patterns`: (C, K) of zeros and ones.
    """

    def __init__(self, patterns: Tensor) -> None:
        super().__init__(len(patterns))
        self._patterns = patterns
        self._on, self._off = patterns.argmax(1), patterns.argmin(1)  # (C,) an input of each kind

    def of(self, labels: Tensor) -> Tensor:
        return self._patterns[labels]

    def neutral(self, labels: Tensor) -> Tensor:
        return self._patterns.mean(0).expand(len(labels), -1)

    def swapped(self, x: Tensor, labels: Tensor, wrong: Tensor) -> Tensor:
        on, off = self._values(x, labels)
        is_on = self._patterns[wrong] > 0
        found = x.clone()
        found[..., : self._patterns.shape[1]] = torch.where(is_on, on, off)
        return found

    def lengths(self, x: Tensor, labels: Tensor) -> Tensor:
        on, off = self._values(x, labels)
        return (on - off).squeeze(-1) * math.sqrt(float(self._patterns[0].sum()))

    def _values(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the label inputs of each sample have where they are on, and off (..., 1).

        Preprocessing and normalisation treat all label inputs of a sample alike, and there are two
        values before.
        """
        on, off = (where[labels].unsqueeze(-1) for where in (self._on, self._off))
        return x.gather(-1, on), x.gather(-1, off)


class AddedPatterns(LabelPatterns):
    """A pattern that is added to the preprocessed inputs of the image.

    **Arguments:**

    - `patterns`: (C, m), of strength 1.
    - `strength`: what they are multiplied with.
    """

    def __init__(self, patterns: Tensor, strength: float) -> None:
        super().__init__(len(patterns))
        self._patterns, self._strength = patterns, strength

    def of(self, labels: Tensor) -> Tensor:
        return self._patterns[labels]

    def neutral(self, labels: Tensor) -> Tensor:
        return self._patterns.mean(0).expand(len(labels), -1)

    def swapped(self, x: Tensor, labels: Tensor, wrong: Tensor) -> Tensor:
        patterns = self._strength * self._patterns.to(x)
        return x + (patterns[wrong] - patterns[labels])

    def lengths(self, x: Tensor, labels: Tensor) -> Tensor:
        lengths: Tensor = torch.linalg.vector_norm(self._patterns.to(x)[labels], dim=1)
        return self._strength * lengths


def label_patterns(
    code: LabelCode,
    classes: int,
    shape: tuple[int, int, int],
    strength: float | None,
    device: torch.device,
) -> LabelPatterns:
    """Make the patterns of a label code.

    **Arguments:**

    - `code`: the entry.
    - `classes`: C.
    - `shape`: channels, height and width of an image.
    - `strength`: what patterns that are added are multiplied with; others do not use it.
    - `device`: where samples lie.

    **Returns:**

    The patterns, the same for the same arguments.
    """
    if isinstance(code, RandomPatterns):
        return BinaryPatterns(random_patterns(code, classes).to(device))
    if isinstance(code, FourierPatterns):
        patterns = waves(classes, shape).to(device)
        return AddedPatterns(patterns, 1.0 if strength is None else strength)
    return OneHotPatterns(classes)


def random_patterns(code: RandomPatterns, classes: int) -> Tensor:
    """Draw a pattern for each class; no two are equal.

    A class has the same pattern however many classes there are.

    **Arguments:**

    - `code`: how many inputs a pattern has, how many are on, and the seed.
    - `classes`: C.

    **Returns:**

    (C, K) float32 of zeros and ones.

    **Source:**

    E. Terres-Escudero, J. Del Ser & P. Garcia-Bringas, On the improvement of generalization and
    stability of forward-only learning via neural polarization (arXiv 2408.09210). There each input
    is on with a probability; here as many are on in each pattern.
    """
    draws, taken = Draws((code.seed,)), set[tuple[int, ...]]()
    patterns = torch.zeros(classes, code.inputs)
    for label in range(classes):
        attempt = 0
        while True:
            order = draws.at("label-patterns", label, attempt).permutation(code.inputs)[0]
            on = tuple(sorted(order[: code.ones].tolist()))
            if on not in taken:
                break
            attempt += 1
        taken.add(on)
        patterns[label, list(on)] = 1
    return patterns


def waves(classes: int, shape: tuple[int, int, int]) -> Tensor:
    """Make a cosine wave over the image for each class, the same in every channel.

    **Arguments:**

    - `classes`: C, at most as many as there are frequencies.
    - `shape`: channels, height and width of an image.

    **Returns:**

    (C, m) float32 from -1 to 1, of mean 0 and length sqrt(m / 2), orthogonal to one another.

    **Source:**

    R. Scodellaro, A. Kulkarni, F. Alves & M. Schröter, Training convolutional neural networks with
    the Forward-Forward algorithm (Scientific Reports 2025, arXiv 2312.14924).
    """
    channels, height, width = shape
    down = torch.arange(height, dtype=torch.float64)[:, None] / height
    across = torch.arange(width, dtype=torch.float64)[None, :] / width
    found = [
        torch.cos(2 * math.pi * (rows * down + columns * across)).expand(channels, -1, -1).flatten()
        for rows, columns in frequencies(height, width)[:classes]
    ]
    return torch.stack(found).float()
