"""The inputs of a stage whose negatives are drawn once: they stay the same while the stage learns.

Where a negative is its positive under another label, the bank of the first layer holds the
positives once, for all replicas, and what the labels change. Above the first layer, and for other
strategies, it holds both splits.

Legend: R replicas, N samples, B samples of one split in a batch, m inputs.
"""

import torch
from torch import Tensor

from ffengine.monitor import layer_pairs
from ffengine.network import Network
from ffengine.pairs import AnyPairs, Pairs, RelabelledPairs
from ffengine.products import product
from ffengine.random_streams import Draws
from ffengine.samples import Samples
from ffengine.spec import TrainSpec

CHUNK = 1000  # samples whose negatives are drawn together


class Bank:
    """Positives and negatives of all training samples, as a layer receives them.

    The bits are the same whether it is made from the samples or from the bank of the layer below.

    **Arguments:**

    - `spec`: its strategy makes the negatives.
    - `network`: the layers below.
    - `train`: the training partition.
    - `draws`: the randomness of the run.
    """

    def __init__(self, spec: TrainSpec, network: Network, train: Samples, draws: Draws) -> None:
        self.spec, self.network, self.train, self.draws = spec, network, train, draws
        self._held: tuple[int, AnyPairs] | None = None

    def batch(self, layer: int, index: Tensor) -> AnyPairs:
        """Return the pairs of a batch.

        A batch of all samples is taken in their order: its sums have one order in every epoch, and
        nothing is copied.

        **Arguments:**

        - `layer`: the layer that receives them, from 0.
        - `index`: (R, B) int64, positions in the training partition.

        **Returns:**

        B pairs.
        """
        pairs = self.hold(layer)
        if index.shape[1] < len(self.train):
            return pairs.some(index)
        return pairs.of_replicas(len(index))

    def hold(self, layer: int) -> AnyPairs:
        """Return all pairs as a layer receives them; those of one layer are kept.

        **Arguments:**

        - `layer`: the layer that receives them, from 0.

        **Returns:**

        The pairs of all samples.
        """
        if self._held is None or self._held[0] != layer:
            below = self._held if self._held is not None and self._held[0] == layer - 1 else None
            self._held = (layer, self._above(*below) if below else self._from_samples(layer))
        return self._held[1]

    def _from_samples(self, layer: int) -> AnyPairs:
        """Return the pairs of a layer, made from the samples."""
        everything = torch.arange(len(self.train), device=self.train.labels.device).expand(
            len(self.spec.seeds), -1
        )
        found = _Collected(len(self.train))
        for number, index in enumerate(everything.split(CHUNK, dim=1)):
            address = ("negatives-once", number)
            pairs = layer_pairs(
                self.spec, self.network, 0, self.train, index, self.draws, address, None
            )
            for below in range(layer):
                pairs = self._through(below, pairs)
            found.add(pairs)
        return found.pairs

    def _above(self, layer: int, pairs: AnyPairs) -> AnyPairs:
        """Return the pairs of the layer above a layer, made from those of that layer.

        The memory of the latter may be overwritten.
        """
        found = _Collected(len(self.train))
        if (
            isinstance(pairs, Pairs)
            and pairs.x.shape[-1] == self.network.weights[layer + 1].shape[-1]
        ):
            found.tensors = [pairs.x.unflatten(1, (2, -1))]  # a chunk is read before it is written
        for chunk in pairs.of_replicas(len(self.spec.seeds)).pieces(CHUNK):
            found.add(self._through(layer, chunk))
        return found.pairs

    def _through(self, layer: int, pairs: AnyPairs) -> Pairs:
        """Return what the layer above a layer receives of pairs."""
        network, count = self.network, self.network.label_inputs
        h = network.activation.value_(pairs.times(network.weights[layer], product))
        return Pairs(network.next_input(layer, h, pairs.first(count) if count else None))


class _Collected:
    """Chunks of pairs, one after the other, in memory that the first one makes."""

    def __init__(self, samples: int) -> None:
        self.samples, self.done = samples, 0
        self.tensors: list[Tensor] = []
        self.relabelled = False

    def add(self, pairs: AnyPairs) -> None:
        """Copy a chunk behind those before it."""
        self.relabelled = isinstance(pairs, RelabelledPairs)
        parts = (
            (pairs.x[:1], pairs.change)  # all replicas have the same positives
            if isinstance(pairs, RelabelledPairs)
            else (pairs.x.unflatten(1, (2, -1)),)
        )
        if not self.tensors:
            self.tensors = [
                part.new_empty((*part.shape[:-2], self.samples, part.shape[-1])) for part in parts
            ]
        size = parts[0].shape[-2]
        for tensor, part in zip(self.tensors, parts, strict=True):
            tensor[..., self.done : self.done + size, :] = part
        self.done += size

    @property
    def pairs(self) -> AnyPairs:
        """All of them."""
        if self.relabelled:
            return RelabelledPairs(*self.tensors)
        return Pairs(self.tensors[0].flatten(1, 2))
