"""The readings of a map's sparsity beside that of the whole map, and what the theorems say of them.

A map of C channels at P positions has three vectors whose sparsity can be meant: those of the
channels at each position, that of all channels at all positions, and the pooled one, which sums
over positions. They have one formula of the margin, and can differ in sign for the same step. A
sample has P vectors of the first reading, and one of each other.

Legend: R replicas, B samples, C channels, P positions; x (R, B, m), z, h and zdot (R, B, C P),
channel after channel.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.activations import ACTIVATIONS, Activation
from ffengine.layer_updates import parts_over_whole
from ffengine.margins import EPSILON, LayerSums
from ffengine.network import Network
from ffengine.products import product

_IDENTITY = ACTIVATIONS["identity"]


class Step(NamedTuple):
    """How a step moves pre-activations.

    **Attributes:**

    - `zdot`: (R, B, C P), per unit of the step size.
    - `cancellation`: (R,), how much cancels in its gradient.
    """

    zdot: Tensor
    cancellation: Tensor


class ReadingsTally:
    """Figures of each reading over the monitored samples of a layer, by replica.

    **Arguments:**

    - `network`: the network.
    - `layer`: the layer, from 0.
    - `theorems`: those that are measured.
    """

    def __init__(self, network: Network, layer: int, theorems: Collection[int]) -> None:
        self.network, self.layer, self.theorems = network, layer, theorems
        self._totals = defaultdict[str, Tensor | int](int)

    def add(self, x: Tensor, z: Tensor, h: Tensor, step: Step) -> None:
        """Add a batch.

        **Arguments:**

        - `x`: as the layer receives it.
        - `z`, `h`: of the layer.
        - `step`: the one that training would take; nothing in it is overwritten.
        """
        for reading in ("position", "pooled"):
            sums = self._sums(reading, z, h, step)
            self._count(f"{reading}_sparsity", sums.sparsity)
            self._count(f"live_{reading}", ~sums.dead)
            self._count(f"dead_{reading}", sums.dead)
            if 2 in self.theorems:
                self._count(f"theorem2_{reading}", sums.check().satisfied)
        if 1 in self.theorems:
            lowering = lowering_step(self.network, self.layer, x, z, h)
            for reading in ("position", "map", "pooled"):
                sums = self._sums(reading, z, h, lowering)
                self._count(f"theorem1_{reading}", sums.check().satisfied)
                if reading == "map":
                    self._count("live_map", ~sums.dead)

    def columns(self, replica: int) -> dict[str, float | None]:
        """Return the figures of a replica by the names of their columns.

        **Arguments:**

        - `replica`: its number.

        **Returns:**

        The figures; None over no live vectors, and of theorems that are not measured.
        """
        found: dict[str, float | None] = {
            f"{reading}_sparsity": self._mean(f"{reading}_sparsity", reading, replica)
            for reading in ("position", "pooled")
        }
        dead, live = (self._total(f"{one}_position", replica) or 0.0 for one in ("dead", "live"))
        found["dead_positions"] = dead / (dead + live)
        for reading in ("position", "map", "pooled"):
            found[f"theorem1_{reading}_ratio"] = self._mean(f"theorem1_{reading}", reading, replica)
        for reading in ("position", "pooled"):
            found[f"theorem2_{reading}_ratio"] = self._mean(f"theorem2_{reading}", reading, replica)
        return found

    def _sums(self, reading: str, z: Tensor, h: Tensor, step: Step) -> LayerSums:
        """Sum over the units of each vector what a step does to it."""
        network, layer = self.network, self.layer
        activation = network.activation
        if reading == "map":
            return _sums_of(z, h, step.zdot.clone(), step.cancellation, activation)
        if reading == "position":
            of_z, of_h, zdot = (network.by_position(layer, one) for one in (z, h, step.zdot))
            return _sums_of(of_z, of_h, zdot.clone(), step.cancellation, activation)
        hdot = step.zdot * activation.slope(z)
        positions = (-1, network.positions(layer))
        v, vdot = (one.unflatten(-1, positions).sum(-1) for one in (h, hdot))
        # Where positions cancel, the sum over them has more rounding than its size says. What is
        # wrong with the step is so at all positions: it adds up.
        moved = hdot.unflatten(-1, positions).abs().sum(-1)
        noise = (torch.linalg.vector_norm(moved, dim=-1).double() * EPSILON[z.dtype]).square()
        sums = _sums_of(v, v, vdot, step.cancellation, _IDENTITY)
        return replace(sums, noise=noise.flatten())

    def _count(self, key: str, values: Tensor) -> None:
        """Add values of R times as many vectors to the totals of each replica."""
        by_replica = values.view(len(self.network.weights[self.layer]), -1)
        self._totals[key] = self._totals[key] + by_replica.double().sum(1)

    def _total(self, key: str, replica: int) -> float | None:
        """Return a total of a replica; None where it is not measured."""
        found = self._totals.get(key)
        return float(found[replica]) if isinstance(found, Tensor) else None

    def _mean(self, key: str, reading: str, replica: int) -> float | None:
        """Return the mean over the live vectors of a reading; None where there is none."""
        total, live = self._total(key, replica), self._total(f"live_{reading}", replica)
        return total / live if total is not None and live else None


def lowering_step(network: Network, layer: int, x: Tensor, z: Tensor, h: Tensor) -> Step:
    """Compute how theorem 1's step moves a batch: it lowers the mean of ||h||^2 over whole maps.

    **Arguments:**

    - `network`: the network.
    - `layer`: the layer, from 0.
    - `x`: as the layer receives it.
    - `z`, `h`: of the layer.

    **Returns:**

    The step, which needs no labels.
    """
    pull = h * network.activation.slope(z)
    pull.mul_(-2 / h.shape[1])
    descent = network.gathered(layer, pull, x, product)
    lengths = torch.linalg.vector_norm(network.by_position(layer, pull), dim=-1)
    parts = (lengths * network.seen_lengths(layer, x)).sum(-1).double()
    zdot = network.moved(layer, x, descent, product)
    return Step(zdot, parts_over_whole(parts, descent))


def _sums_of(
    z: Tensor, h: Tensor, zdot: Tensor, cancellation: Tensor, activation: Activation
) -> LayerSums:
    """Sum over units (R, V, n) what a step does to R * V vectors; zdot is overwritten."""
    vectors, width = z.shape[1:]
    sums = LayerSums.zeros(len(z) * vectors, width, z.device)
    sums.cancellation = cancellation.repeat_interleave(vectors)
    z, h, zdot = (one.reshape(-1, width) for one in (z, h, zdot))
    sums.add(slice(None), z, h, zdot, activation)
    return sums
