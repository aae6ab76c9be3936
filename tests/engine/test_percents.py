"""Shares in percent: rounded half up, and as many digits as a line needs."""

import math

import pytest

from ffengine.percents import digits_of, in_percent, percent
from ffengine.results import Interval


def around(mean: float, half: float) -> Interval:
    return Interval(mean=mean, low=mean - half, high=mean + half, seeds=3)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.125, 0, "13"),
        (0.135, 0, "14"),
        (0.145, 0, "15"),  # below it as a binary number, and not as a decimal one
        (0.0965, 1, "9.7"),
        (0.28, None, "28"),
        (0.05, None, "5.0"),
        (0.9998, None, "99.98"),
        (0.0, 1, "0"),
        (1.0, 2, "100"),
        (0.004, 0, "<1"),
        (0.0004, 1, "<0.1"),
        (0.997, 0, ">99"),
        (0.99996, 2, ">99.99"),
        (0.00001, None, "0.001"),
        (12.3, 0, "1230"),
        (1e30, 0, "1e+32"),
        (math.inf, 0, "inf"),
        (math.nan, None, "nan"),
    ],
)
def test_the_decimal_text_is_rounded_half_up_and_only_0_and_1_are_written_so(
    value: float, digits: int | None, text: str
) -> None:
    assert percent(value, digits) == text
    assert in_percent(value, digits) == f"{text} %"


@pytest.mark.parametrize(
    ("line", "digits"),
    [
        ([0.2, 0.04], 1),
        ([0.2, 0.3], 0),
        ([0.2, 0.0, 1.0], 0),
        ([around(0.2, 0.02), around(0.04, 0.02)], 0),
        ([around(0.2, 0.002)], 1),
        ([around(0.5, 0.1), around(0.2, 0.0005)], 1),
        ([around(0.5, 0.1), 0.04], 0),
        ([around(0.003, 0.1)], 1),
        ([0.9996], 2),
        ([], 0),
    ],
)
def test_a_line_has_one_number_of_digits(line: list[float | Interval], digits: int) -> None:
    assert digits_of(line) == digits
