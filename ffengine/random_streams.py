"""All randomness: streams addressed by (seed, purpose, address), not advanced, so that a resumed
run draws the same.

Each stream is a Philox counter generator (Salmon et al. 2011) keyed by a hash of its address. Draws
are made on the CPU and moved, so they are the same on every device.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Draw:
    """One stream for each replica; the leading axis of every shape is the replicas', R."""

    def __init__(self, generators: Sequence[np.random.Generator], device: torch.device) -> None:
        self._generators = generators
        self._device = device

    def integers(self, low: int, high: int, shape: Sequence[int]) -> Tensor:
        """Uniform integers in [low, high), int64."""
        return self._stack(
            [generator.integers(low, high, tuple(shape[1:])) for generator in self._of(shape)]
        )

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Uniform float32 in [0, 1)."""
        return self._stack(
            [generator.random(tuple(shape[1:]), dtype=np.float32) for generator in self._of(shape)]
        )

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal float32."""
        return self._stack(
            [
                generator.standard_normal(tuple(shape[1:]), dtype=np.float32)
                for generator in self._of(shape)
            ]
        )

    def permutation(self, count: int) -> Tensor:
        """A permutation of 0 .. count - 1 for each replica, (R, count) int64."""
        return self._stack([generator.permutation(count) for generator in self._generators])

    def _of(self, shape: Sequence[int]) -> Sequence[np.random.Generator]:
        if shape[0] != len(self._generators):
            raise ValueError(
                f"shape: leads with {shape[0]}, but there are {len(self._generators)} replicas"
            )
        return self._generators

    def _stack(self, arrays: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self._device)


class Draws:
    """The randomness of a run: one independent stream per seed, purpose and address."""

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.seeds = tuple(seeds)
        self._device = torch.device(device)

    def at(self, purpose: str, *address: int) -> Draw:
        """The streams at an address, such as ("negatives", layer, epoch, batch)."""
        return Draw([self._generator(seed, purpose, address) for seed in self.seeds], self._device)

    @staticmethod
    def _generator(seed: int, purpose: str, address: tuple[int, ...]) -> np.random.Generator:
        key = hashlib.blake2b(
            f"{seed}/{purpose}/{'/'.join(map(str, address))}".encode(), digest_size=16
        ).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "big")))
