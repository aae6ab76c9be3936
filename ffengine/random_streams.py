"""All randomness: streams addressed by seed, purpose and address, not advanced.

So a resumed run draws the same numbers. Each stream is a Philox counter generator (Salmon et al.
2011) keyed by a hash of its address. Numbers are drawn on the CPU and moved, so they are the same
on every device.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Draw:
    """One random stream for each of R replicas; R is the first axis of every shape.

    **Arguments:**

    - `generators`: one for each replica.
    - `device`: where the tensors are put.
    """

    def __init__(self, generators: Sequence[np.random.Generator], device: torch.device) -> None:
        self._generators = generators
        self._device = device

    def integers(self, low: int, high: int, shape: Sequence[int]) -> Tensor:
        """Draw uniform integers in [low, high).

        **Arguments:**

        - `low`, `high`: the bounds; `high` is excluded.
        - `shape`: (R, ...).

        **Returns:**

        (R, ...) int64.

        **Raises:**

        - `ValueError`: the shape does not begin with R.
        """
        return self._stack(
            [generator.integers(low, high, tuple(shape[1:])) for generator in self._of(shape)]
        )

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Draw uniform numbers in [0, 1).

        **Arguments:**

        - `shape`: (R, ...).

        **Returns:**

        (R, ...) float32.

        **Raises:**

        - `ValueError`: the shape does not begin with R.
        """
        return self._stack(
            [generator.random(tuple(shape[1:]), dtype=np.float32) for generator in self._of(shape)]
        )

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Draw standard normal numbers.

        **Arguments:**

        - `shape`: (R, ...).

        **Returns:**

        (R, ...) float32.

        **Raises:**

        - `ValueError`: the shape does not begin with R.
        """
        return self._stack(
            [
                generator.standard_normal(tuple(shape[1:]), dtype=np.float32)
                for generator in self._of(shape)
            ]
        )

    def permutation(self, count: int) -> Tensor:
        """Draw a permutation of 0 .. count - 1 for each replica.

        **Arguments:**

        - `count`: how many numbers are permuted.

        **Returns:**

        (R, count) int64.
        """
        return self._stack([generator.permutation(count) for generator in self._generators])

    def _of(self, shape: Sequence[int]) -> Sequence[np.random.Generator]:
        """Return the generators; raise ValueError unless the shape begins with their number."""
        if shape[0] != len(self._generators):
            raise ValueError(
                f"shape: leads with {shape[0]}, but there are {len(self._generators)} replicas"
            )
        return self._generators

    def _stack(self, arrays: Sequence[np.ndarray]) -> Tensor:
        """Return one tensor of the arrays of all replicas, on the device."""
        found = torch.from_numpy(np.stack(arrays))
        if self._device.type != "cuda":
            return found.to(self._device)
        return found.pin_memory().to(self._device, non_blocking=True)  # Python goes on meanwhile


class Draws:
    """The randomness of a run: an independent stream for every seed, purpose and address.

    **Arguments:**

    - `seeds`: one for each replica, at least 0.
    - `device`: where the tensors are put.

    **Source:**

    J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.seeds = tuple(seeds)
        self._device = torch.device(device)

    def at(self, purpose: str, *address: int) -> Draw:
        """Return the streams at an address, one for each seed.

        The same address gives the same numbers, whatever was drawn before.

        **Arguments:**

        - `purpose`: what the numbers are for, such as "negatives".
        - `address`: numbers such as layer, epoch and batch.

        **Returns:**

        The streams.
        """
        return Draw([self._generator(seed, purpose, address) for seed in self.seeds], self._device)

    @staticmethod
    def _generator(seed: int, purpose: str, address: tuple[int, ...]) -> np.random.Generator:
        """Return the generator of a seed, keyed by a hash of the address."""
        key = hashlib.blake2b(
            f"{seed}/{purpose}/{'/'.join(map(str, address))}".encode(), digest_size=16
        ).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "big")))
