"""What a trained network still tells once a share of its units or weights is removed.

Legend: L layers, B samples, m inputs, n width, C classes. A network here has one replica.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ffengine.conv_network import ConvNetwork
from ffengine.network import Network
from ffengine.random_streams import Draws
from ffengine.results import LesionRow
from ffengine.spec import LesionsSpec, NetworkSpec

Removed = Literal["units", "weights"]
By = Literal["usage", "magnitude", "random"]


class Drive(NamedTuple):
    """How much the parts of a network do on some samples.

    **Attributes:**

    - `inputs`: of each layer (m,) float64, the sum of |x| of its inputs, without a bias; of a
      convolution of what each weight of a kernel sees, over positions.
    - `units`: of each layer (n,) float64, the sum of |h|, of a channel over positions.
    """

    inputs: list[Tensor]
    units: list[Tensor]


class Intact(NamedTuple):
    """A trained network that is to lose parts.

    **Attributes:**

    - `network`: the network.
    - `readouts`: of layers that have one, (1, C, n); they lose what silent units send.
    - `drive`: how much units and inputs do on the training samples.
    - `draws`: the randomness of its seed.
    """

    network: Network
    readouts: dict[int, Tensor]
    drive: Drive
    draws: Draws


class Lesion(NamedTuple):
    """What is removed.

    **Attributes:**

    - `layer`: the only layer that loses some; None: each does.
    - `removed`: units or weights.
    - `by`: which go first.
    - `share`: the share of each of these layers; 0: nothing.
    - `lost`: how many are removed.
    - `total`: of how many.
    """

    layer: int | None
    removed: Removed
    by: By
    share: float
    lost: int
    total: int

    def row(
        self,
        seed: int,
        samples: int,
        correct: int,
        baseline: str | None = None,
        place: int | None = None,
    ) -> LesionRow:
        """Return the row of what is left.

        **Arguments:**

        - `seed`: of the network.
        - `samples`: how many are counted.
        - `correct`: how many of them are labelled correctly.
        - `baseline`, `place`: of which baseline it is, and where that stands in the spec; None: of
          the network itself.
        """
        return LesionRow(
            seed=seed,
            baseline=baseline,
            place=place,
            **self._asdict(),
            samples=samples,
            correct=correct,
            accuracy=correct / samples,
        )


class Lesioned(NamedTuple):
    """What is left.

    **Attributes:**

    - `network`: the network without what was removed.
    - `readouts`: as those of the intact.
    """

    network: Network
    readouts: dict[int, Tensor]


class _WithLesions(Network):
    """What networks with lesions have in common: `kept`, and who is silent by it."""

    kept: list[Tensor | None]

    def _alike(
        self,
        spec: NetworkSpec,
        weights: Sequence[Tensor],
        exponents: Sequence[Tensor],
        statistics: Sequence[Tensor | None] | None = None,
        heads: Sequence[Tensor] = (),
    ) -> Any:  # of its own kind
        alike = super()._alike(spec, weights, exponents, statistics, heads)
        return lesioned(alike, alike.weights, self.kept[: len(weights)])

    def passed_on(self, layer: int, h: Tensor) -> Tensor:
        return silenced(h, self.kept[layer])


class LesionedNetwork(_WithLesions):
    """A network of which some units are silent, whatever they receive.

    **Arguments:**

    - `network`: the network; its own tensors stay as they are.
    - `weights`: the weights that are left, of each layer.
    - `kept`: (n,) of each layer, 1 for a unit that is left and 0 for a silent one; None: all are.
    """

    def __init__(
        self, network: Network, weights: Sequence[Tensor], kept: Sequence[Tensor | None]
    ) -> None:
        super().__init__(
            network.spec,
            weights,
            network.exponents,
            network.statistics,
            network.heads,
            label_inputs=network.label_inputs,
        )
        self.kept = list(kept)


class LesionedConvNetwork(_WithLesions, ConvNetwork):
    """A network of images of which some channels and units are silent, whatever they receive.

    **Arguments:**

    - `network`: the network; its own tensors stay as they are.
    - `weights`, `kept`: as of `LesionedNetwork`.
    """

    def __init__(
        self, network: ConvNetwork, weights: Sequence[Tensor], kept: Sequence[Tensor | None]
    ) -> None:
        super().__init__(
            network.spec,
            weights,
            network.exponents,
            network.statistics,
            network.heads,
            plans=network.plans,
        )
        self.kept = list(kept)


def lesioned(
    network: Network, weights: Sequence[Tensor], kept: Sequence[Tensor | None]
) -> LesionedNetwork | LesionedConvNetwork:
    """Return a network with lesions, of the kind that it is.

    **Arguments:**

    - `network`, `weights`, `kept`: as of `LesionedNetwork`.
    """
    if isinstance(network, ConvNetwork):
        return LesionedConvNetwork(network, weights, kept)
    return LesionedNetwork(network, weights, kept)


def silenced(h: Tensor, kept: Tensor | None) -> Tensor:
    """Silence units at all their positions, in place.

    **Arguments:**

    - `h`: (R, B, n P), unit after unit.
    - `kept`: (n,), 1 for a unit that is left and 0 for a silent one; None: all are.

    **Returns:**

    h.
    """
    if kept is None:
        return h
    return h.mul_(kept.repeat_interleave(h.shape[-1] // len(kept)))


def driven(network: Network, x: Tensor) -> Drive:
    """Sum what inputs and units do over some samples.

    **Arguments:**

    - `network`: the network.
    - `x`: (B, m).

    **Returns:**

    The sums of |x| and |h| of each layer.
    """
    inputs, units = list[Tensor](), list[Tensor]()
    below = network.prepared(0, x.unsqueeze(0))
    for layer in range(len(network.weights)):
        h = network.activation.value(network.pre_activation(layer, below))
        inputs.append(network.input_sums(layer, below))
        sizes = h[0].abs().double().sum(0)
        units.append(sizes.view(network.weights[layer].shape[1], -1).sum(-1))
        if layer + 1 < len(network.weights):
            below = network.next_input(layer, h, network.label_of(below))
    return Drive(inputs, units)


def driven_by(network: Network, x: Tensor, chunks: Sequence[slice]) -> Drive:
    """Sum what inputs and units do over many samples, chunk by chunk.

    **Arguments:**

    - `network`: the network.
    - `x`: (N, m).
    - `chunks`: which samples go through together.

    **Returns:**

    The drive over all chunks, added in their order.
    """
    parts = [driven(network, x[rows]) for rows in chunks]
    inputs, units = (
        [torch.stack(found).sum(0) for found in zip(*(part[side] for part in parts), strict=True)]
        for side in (0, 1)
    )
    return Drive(inputs, units)


def lesions(
    spec: LesionsSpec, intact: Intact, correct: Callable[[Lesioned], int]
) -> Iterator[tuple[Lesion, int]]:
    """Remove parts as the spec says, each time from the whole network, and count what is left.

    **Arguments:**

    - `spec`: what is removed.
    - `intact`: the trained network.
    - `correct`: counts the samples that what is left labels correctly.

    **Returns:**

    Each lesion with its count; each curve begins with nothing removed.
    """
    layers = range(len(intact.network.weights))
    places: list[int | None] = [None] if "network" in spec.where else []
    places += layers if "layer" in spec.where else []
    whole = correct(Lesioned(intact.network, intact.readouts))
    for removed in spec.remove:
        for by in spec.by:
            orders = [order_of(intact, layer, removed, by) for layer in layers]
            for place in places:
                hurt = layers if place is None else (place,)
                total = sum(len(orders[layer]) for layer in hurt)
                yield Lesion(place, removed, by, 0.0, 0, total), whole
                for share in sorted(spec.shares):
                    gone = {layer: first_of(orders[layer], share) for layer in hurt}
                    left = without(intact, removed, gone)
                    lost = sum(map(len, gone.values()))
                    yield Lesion(place, removed, by, share, lost, total), correct(left)


def order_of(intact: Intact, layer: int, removed: Removed, by: By) -> Tensor:
    """Return the units or weights of a layer in the order in which they go.

    **Arguments:**

    - `intact`: the network.
    - `layer`: the layer.
    - `removed`: units or weights.
    - `by`: what goes first.

    **Returns:**

    Numbers of units, or of weights row by row (without biases), int64.
    """
    weight = intact.network.weights[layer][0].double()
    incoming = weight[:, :-1] if intact.network.spec.bias else weight
    if by == "random":
        count = len(weight) if removed == "units" else incoming.numel()
        return intact.draws.at(f"lesion-{removed}", layer).permutation(count)[0]
    if removed == "units":
        score = (
            intact.drive.units[layer] if by == "usage" else torch.linalg.vector_norm(weight, dim=1)
        )
    else:
        score = incoming.abs().flatten()
        if by == "usage":
            score = (incoming.abs() * intact.drive.inputs[layer]).flatten()
    return score.argsort(stable=True)


def first_of(order: Tensor, share: float) -> Tensor:
    """Return the share of an order that goes first, rounded to whole numbers, halves up.

    **Arguments:**

    - `order`: (M,).
    - `share`: from 0 to 1.
    """
    return order[: math.floor(share * len(order) + 0.5)]


def without(intact: Intact, removed: Removed, gone: dict[int, Tensor]) -> Lesioned:
    """Return a network without some of its parts.

    **Arguments:**

    - `intact`: the network; it stays as it is.
    - `removed`: units or weights.
    - `gone`: which of them, by layer.
    """
    network = intact.network
    weights, readouts = list(network.weights), dict(intact.readouts)
    kept: list[Tensor | None] = [None] * len(weights)
    for layer, numbers in gone.items():
        if removed == "weights":
            weights[layer] = _without_weights(weights[layer], numbers, bias=network.spec.bias)
            continue
        mask = weights[layer].new_ones(weights[layer].shape[1])
        mask[numbers] = 0
        kept[layer] = mask
        # a layer that centres its input would still see units that are silent
        if layer + 1 < len(weights):
            above = weights[layer + 1].clone()
            first = network.label_inputs
            # of a channel a kernel sees a patch, and a dense layer a map
            seen = mask.repeat_interleave(
                (above.shape[-1] - first - network.spec.bias) // len(mask)
            )
            above[0, :, first : first + len(seen)] *= seen
            weights[layer + 1] = above
        if layer in readouts:
            readouts[layer] = readouts[layer] * mask
    return Lesioned(lesioned(network, weights, kept), readouts)


def _without_weights(weight: Tensor, numbers: Tensor, *, bias: bool) -> Tensor:
    """Return weights (1, n, m) of which some are 0."""
    left = weight.clone()
    incoming = left[0, :, :-1] if bias else left[0]
    rows, columns = numbers // incoming.shape[1], numbers % incoming.shape[1]
    incoming[rows, columns] = 0
    return left
