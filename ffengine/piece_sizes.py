"""How large the pieces are in which what needs much memory is computed.

Where memory has run out, the same is computed once more in smaller pieces. Steps of training are
not divided: a batch is a batch. What is measured over many samples or units is, so that its last
bits may differ.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

GPU_FACTOR = 16  # a GPU has the memory, and each piece costs it a launch
SMALLER = 8  # times

_divisor = 1  # of this process, which computes one run at a time


def piece(size: int, device: torch.device | None = None) -> int:
    """Return how much is computed at once.

    **Arguments:**

    - `size`: how much by default, on a CPU.
    - `device`: where; None: a size that is the same everywhere.

    **Returns:**

    As much, 16 times as much on a GPU, and less where memory has run out; at least 1.
    """
    factor = GPU_FACTOR if device is not None and device.type == "cuda" else 1
    return max(1, size * factor // _divisor)


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
