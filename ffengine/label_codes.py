"""Catalogue of label codes: which pattern of inputs stands for a class.

An entry says how many inputs its patterns have and which data sets it fits, without torch;
`ffengine.label_patterns` makes the patterns and puts them into samples.

Legend: C classes, m inputs of an image, K inputs of a label.
"""

import math
from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from ffengine.entry import Entry, SpecFieldError

MOST_LABEL_INPUTS = 65_536
MANY_ONES = (
    16  # of 32 inputs there are 601 080 390 patterns; numbers of thousands of digits are slow
)


class LabelCode(Entry, ABC):
    """How a label is written into the inputs of a sample."""

    # whether a pattern is added to all inputs of the image, in place of having inputs of its own
    added: ClassVar[bool] = False
    # its name, which each entry has
    name: str

    @abstractmethod
    def label_inputs(self, classes: int) -> int:
        """Return how many inputs are the label's alone: K, or 0 where a pattern is added.

        **Arguments:**

        - `classes`: C.
        """

    @abstractmethod
    def length(self, inputs: int) -> float:
        """Return the Euclidean length of a pattern of strength 1, the same for every class.

        **Arguments:**

        - `inputs`: m.
        """

    @abstractmethod
    def most_classes(self, shape: tuple[int, int, int]) -> float:
        """Return how many classes have a pattern of their own; infinity where all do.

        **Arguments:**

        - `shape`: channels, height and width of an image.
        """


class OneHot(LabelCode):
    """One input for each class, of which that of the label is on (Hinton 2022)."""

    name: Literal["one_hot"] = "one_hot"

    def label_inputs(self, classes: int) -> int:
        return classes

    def length(self, inputs: int) -> float:
        return 1.0

    def most_classes(self, shape: tuple[int, int, int]) -> float:
        return math.inf


class RandomPatterns(LabelCode):
    """A random pattern for each class, drawn once, with as many inputs on in each (Terres-Escudero
    et al. 2024).
    """

    name: Literal["random"] = "random"
    inputs: int = Field(
        100, ge=2, le=MOST_LABEL_INPUTS, description="number of inputs of a pattern, K"
    )
    ones: int = Field(
        10,
        ge=1,
        le=MOST_LABEL_INPUTS,
        description="how many of them are on: as many in each pattern, so that no label is longer "
        "than another",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**63 - 1,
        description="seed of the patterns alone: all seeds of a run have the same patterns, and "
        "so have its checks and evaluations",
    )

    @model_validator(mode="after")
    def _some_are_off(self) -> "RandomPatterns":
        if self.ones >= self.inputs:
            raise SpecFieldError(
                ("ones",), f"{self.ones} of {self.inputs} inputs leave one pattern; take fewer"
            )
        return self

    def label_inputs(self, classes: int) -> int:
        return self.inputs

    def length(self, inputs: int) -> float:
        return math.sqrt(self.ones)

    def most_classes(self, shape: tuple[int, int, int]) -> float:
        # with more ones it is a lower bound: the number itself has thousands of digits
        return math.comb(self.inputs, min(self.ones, self.inputs - self.ones, MANY_ONES))


class FourierPatterns(LabelCode):
    """A wave over the whole image for each class, of a frequency of its own, added to the pixels
    (Scodellaro et al. 2023).
    """

    added: ClassVar[bool] = True
    name: Literal["fourier"] = "fourier"

    def label_inputs(self, classes: int) -> int:
        return 0

    def length(self, inputs: int) -> float:
        return math.sqrt(inputs / 2)

    def most_classes(self, shape: tuple[int, int, int]) -> float:
        _, height, width = shape
        own_negatives = (2 - height % 2) * (2 - width % 2)  # those that `frequencies` leaves out
        return (height * width - own_negatives) // 2


def frequencies(height: int, width: int) -> list[tuple[int, int]]:
    """List the frequencies of waves over an image, the lowest first.

    They are whole numbers of periods, so each wave has the mean 0 and the mean square 1/2, and two
    of them are orthogonal. Left out are the negative of one that is listed, which is the same
    wave, and those that are their own negative, whose mean square is 1.

    **Arguments:**

    - `height`, `width`: of the image, in pixels.

    **Returns:**

    Periods over the height and over the width.
    """
    found = [
        (down, across)
        for down in range(height // 2 + 1)
        for across in range(-((width - 1) // 2), width // 2 + 1)
        if _is_listed(down, across, height, width)
    ]
    return sorted(
        found, key=lambda one: ((one[0] * width) ** 2 + (one[1] * height) ** 2, one[0], -one[1])
    )


def _is_listed(down: int, across: int, height: int, width: int) -> bool:
    """Whether a frequency is neither its own negative nor that of another one."""
    down_ends, across_ends = down in (0, height / 2), across in (0, width / 2)
    if down_ends:  # the negative of (down, across) is (down, -across)
        return not across_ends and across > 0
    return True


def _by_name(code: object) -> object:
    """Return the object that a bare name stands for."""
    return {"name": code} if isinstance(code, str) else code


def _name_alone(code: LabelCode) -> object:
    """Return the bare name of an entry without parameters, and the fields of any other."""
    fields = code.model_dump()
    return fields["name"] if len(fields) == 1 else fields


LabelCodeName = Literal["one_hot", "random", "fourier"]
LabelCodeEntry = Annotated[OneHot | RandomPatterns | FourierPatterns, Field(discriminator="name")]
AnyLabelCode = Annotated[
    LabelCodeEntry,
    BeforeValidator(_by_name, json_schema_input_type=LabelCodeName | LabelCodeEntry),
    PlainSerializer(_name_alone, return_type=LabelCodeName | dict[str, str | int]),
]
