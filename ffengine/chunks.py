"""How much is computed at a time: pieces that fit the cache of a CPU, larger ones on a GPU."""

import torch

GPU_FACTOR = 16  # it has the memory, and each piece costs it a launch


def at_once(elements: int, device: torch.device) -> int:
    """Return how many elements a device works on at a time.

    **Arguments:**

    - `elements`: how many a CPU does.
    - `device`: where they lie.

    **Returns:**

    As many on a CPU, 16 times as many on a GPU.
    """
    return elements * GPU_FACTOR if device.type == "cuda" else elements
