"""How large the pieces are in which what needs much memory is computed.

Where memory has run out, the same is computed once more in smaller pieces. Steps of training are
not divided: a batch is a batch. What is measured over many samples or units is, so that its last
bits may differ.
"""

from collections.abc import Iterator
from contextlib import contextmanager

SMALLER = 8  # times

_divisor = 1  # of this process, which computes one run at a time


def piece(size: int) -> int:
    """Return how much is computed at once.

    **Arguments:**

    - `size`: how much by default.

    **Returns:**

    As much, or less where memory has run out; at least 1.
    """
    return max(1, size // _divisor)


@contextmanager
def smaller_pieces(*, are_wanted: bool = True) -> Iterator[None]:
    """Compute in smaller pieces within the block.

    **Arguments:**

    - `are_wanted`: False: in those that are usual.
    """
    global _divisor  # noqa: PLW0603 - as it says above
    before, _divisor = _divisor, SMALLER if are_wanted else 1
    try:
        yield
    finally:
        _divisor = before
