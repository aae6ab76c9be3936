"""Parts of a long list of tests: each run takes one of them."""

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def outside(part: str, items: Sequence[Item]) -> list[Item]:
    """What is not in part K/N of the items: the part has every N-th one, from the K-th on, so that
    neighbours, which cost much the same, are in different parts.

    **Raises:** ValueError: the part is not K/N with 1 <= K <= N.
    """
    number, _, of = part.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise ValueError(f"{part} is no part: write K/N with 1 <= K <= N, such as 2/4")
    return [item for place, item in enumerate(items) if place % int(of) != int(number) - 1]
