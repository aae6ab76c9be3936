"""R replicas of a stack of fully connected Forward-Forward layers, one for each seed.

Legend: R replicas, B samples, m inputs, n width, layer l. All replicas are computed in batched
products. A bias is the weight of one more input that is always 1, so that every formula of a layer
holds with and without a bias.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ffengine.activations import ACTIVATIONS
from ffengine.inits import INITS
from ffengine.objectives import Goodness
from ffengine.products import linear
from ffengine.random_streams import Draws
from ffengine.scaling import by_replica, goodness_factors, power_of_two
from ffengine.spec import NetworkSpec

TINY = 1e-12  # keeps the normalisation of a dead sample at zero
MOST_TINY = 86  # TINY 2^-86 is still a normal number
LABEL_BLOCK_ELEMENTS = 2**19  # activations under all labels that are held at once: 2 MiB


class Network:
    """A stack of layers with their weights.

    **Arguments:**

    - `spec`: widths, activation, bias and normalisation.
    - `weights`: 2^-k W (R, n, m) of each layer; m counts the bias input where there is one.
    - `exponents`: k (R,) int32 of each layer (see ffengine.scaling); None: 0, the weights are W.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        weights: Sequence[Tensor],
        exponents: Sequence[Tensor] | None = None,
    ) -> None:
        self.spec = spec
        self.weights = list(weights)
        self.exponents = (
            [weight.new_zeros(len(weight), dtype=torch.int32) for weight in weights]
            if exponents is None
            else list(exponents)
        )
        self.activation = ACTIVATIONS[spec.activation]

    @classmethod
    def initial(
        cls, spec: NetworkSpec, inputs: int, draws: Draws, device: torch.device
    ) -> "Network":
        """Make a network with the weights that `spec.init` draws.

        Each layer and seed has a random stream of its own.

        **Arguments:**

        - `spec`: widths, activation, bias and initialisation.
        - `inputs`: m of the first layer, without the bias input.
        - `draws`: the randomness of the run; it has a seed for each replica.
        - `device`: where the weights are put.

        **Returns:**

        The network at initialisation.
        """
        weights = []
        replicas, init = len(draws.seeds), INITS[spec.init]
        for layer, width in enumerate(spec.widths):
            weight = init.weight(draws.at("weights", layer), replicas, width, inputs)
            if spec.bias:
                bias = init.bias(draws.at("biases", layer), replicas, width, inputs)
                weight = torch.cat([weight, bias.unsqueeze(-1)], dim=-1)
            # The fused steps of optimisers need contiguous memory.
            weights.append(weight.to(device).contiguous())
            inputs = width
        return cls(spec, weights)

    def replica(self, number: int) -> "Network":
        """Return the network of one replica; it shares the memory of the weights.

        **Arguments:**

        - `number`: the replica.

        **Returns:**

        A network with R = 1.
        """
        one = slice(number, number + 1)
        return Network(
            self.spec,
            [weight[one] for weight in self.weights],
            [exponent[one] for exponent in self.exponents],
        )

    def layer_input(self, layer: int, x: Tensor) -> Tensor:
        """Return what a layer receives of samples: they pass through the layers below.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `x`: (R, B, m) samples.

        **Returns:**

        (R, B, m of the layer), normalised as the spec says, with the bias input.
        """
        x = self.prepared(0, x)
        for below in range(layer):
            x = self.next_input(below, self.activation.value(self.pre_activation(below, x)))
        return x

    def next_input(self, layer: int, h: Tensor) -> Tensor:
        """Return what the layer above receives of a layer's activations.

        **Arguments:**

        - `layer`: the layer whose activations they are.
        - `h`: (R, B, n).

        **Returns:**

        (R, B, m of the layer above).
        """
        return self.prepared(layer + 1, h)

    def pre_activation(self, layer: int, x: Tensor) -> Tensor:
        """Compute z = x W^T of a layer.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `x`: (R, B, m), as `layer_input` returns it.

        **Returns:**

        z (R, B, n).
        """
        return linear(x, self.weights[layer])

    def prepared(self, layer: int, x: Tensor) -> Tensor:
        """Normalise the input of a layer where the spec says so, and add the bias input.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `x`: (R, B, m without bias), samples or activations of the layer below, as many times
          smaller than the true ones as its weights are.

        **Returns:**

        (R, B, m); it may be x itself.
        """
        tiny = self.least_scale(layer - 1) if layer else TINY
        scaled = (layer > 0 or self.spec.normalize_first) and self.spec.normalize != "none"
        if not self.spec.bias:
            return normalized(x, self.spec.normalize, tiny) if scaled else x
        if not scaled or x.requires_grad:
            x = normalized(x, self.spec.normalize, tiny) if scaled else x
            return torch.cat([x, x.new_ones((*x.shape[:-1], 1))], dim=-1)
        # The same in one pass over the memory.
        both = x.new_empty((*x.shape[:-1], x.shape[-1] + 1))
        both[..., -1] = 1
        torch.div(x, scale_of(x, self.spec.normalize, tiny), out=both[..., :-1])
        return both

    def least_scale(self, layer: int) -> Tensor:
        """Return what the normalisation of a layer's activations divides by at least.

        **Arguments:**

        - `layer`: the layer whose activations they are.

        **Returns:**

        TINY (R, 1, 1) in units of the stored activations.
        """
        factor = power_of_two(-self.exponents[layer].clamp_max(MOST_TINY))
        return by_replica(factor * TINY, self.weights[layer])

    def activations(self, x: Tensor) -> list[Tensor]:
        """Compute the activations of every layer.

        **Arguments:**

        - `x`: (R, B, m) samples.

        **Returns:**

        h (R, B, n) of each layer.
        """
        found = []
        x = self.prepared(0, x)
        for layer in range(len(self.weights)):
            found.append(self.activation.value(self.pre_activation(layer, x)))
            if layer + 1 < len(self.weights):
                x = self.next_input(layer, found[-1])
        return found

    def label_goodness(self, goodness: Goodness, x: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Compute the stored goodness of every layer for labelled samples under each label.

        The true one is 4^k times as large (see ffengine.scaling.goodness_factors).

        Two labels differ in two inputs only: the first layer costs one product for all labels, and
        a column of its weights for each. The layers above have other inputs under each label, so
        they cost C products; all labels of a block of samples make one.

        **Arguments:**

        - `goodness`: the goodness function.
        - `x`: (R, B, m) samples that carry a label in their first C inputs.
        - `labels`: (R, B) int64, the label that each sample carries.
        - `classes`: C.

        **Returns:**

        g (R, L, B, C) of L layers.
        """
        x = self.prepared(0, x)
        on = x.gather(-1, labels.unsqueeze(-1))
        off = x.gather(-1, ((labels + 1) % classes).unsqueeze(-1))
        blank = linear(x.scatter(-1, labels.unsqueeze(-1), off), self.weights[0]).unsqueeze(2)
        # The one-hot of a sample has two values, whichever its label is; this is their difference.
        contrast = (on - off).unsqueeze(2)
        columns = self.weights[0][..., :classes].mT.contiguous().unsqueeze(1)  # (R, 1, C, n)
        widest = max(weight.shape[1] for weight in self.weights)
        size = max(1, LABEL_BLOCK_ELEMENTS // (len(x) * classes * widest))
        return torch.cat(
            [
                self._goodness_by_layer(goodness, torch.addcmul(z, ratio, columns))
                for z, ratio in zip(
                    blank.split(size, dim=1), contrast.split(size, dim=1), strict=True
                )
            ],
            dim=2,
        )

    def _goodness_by_layer(self, goodness: Goodness, z: Tensor) -> Tensor:
        """Return the goodness (R, L, B, C) of every layer from z (R, B, C, n) of the first, which
        is overwritten.
        """
        h = self.activation.value_(z)
        by_layer = [goodness.value(h)]
        for layer in range(1, len(self.weights)):
            x = self.next_input(layer - 1, h.flatten(1, 2))
            z = linear(x, self.weights[layer]).unflatten(1, h.shape[1:3])
            h = self.activation.value_(z)
            by_layer.append(goodness.value(h))
        return torch.stack(by_layer, dim=1)


class SummedGoodness:
    """The goodness of a network, summed over the layers that learn; it is what strategies ask for.

    **Arguments:**

    - `network`: the network.
    - `goodness`: the goodness function.
    - `layers`: the layers over which it is summed, in increasing order.
    """

    def __init__(self, network: Network, goodness: Goodness, layers: tuple[int, ...]) -> None:
        depth = layers[-1] + 1
        below = network.spec.model_copy(update={"widths": network.spec.widths[:depth]})
        self.network = Network(below, network.weights[:depth], network.exponents[:depth])
        self.goodness, self.layers = goodness, list(layers)

    def label_goodness(self, x: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Compute the goodness of labelled samples under each label.

        **Arguments:**

        - `x`: (R, B, m) samples that carry a label in their first C inputs.
        - `labels`: (R, B) int64, the label that each sample carries.
        - `classes`: C.

        **Returns:**

        g (R, B, C).
        """
        stored = self.network.label_goodness(self.goodness, x, labels, classes)[:, self.layers]
        return (stored * self._factors.view(*stored.shape[:2], 1, 1)).sum(1)

    def goodness_slope(self, x: Tensor) -> Tensor:
        """Compute the gradient of each sample's goodness with respect to its inputs, by autograd.

        **Arguments:**

        - `x`: (R, B, m) samples.

        **Returns:**

        dg/dx (R, B, m).
        """
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            h = self.network.activations(leaf)
            by_layer = torch.stack(
                [self.goodness.value(h[layer]) for layer in self.layers], dim=1
            )  # (R, L, B)
            total = (by_layer.sum(-1) * self._factors).sum()
            (slope,) = torch.autograd.grad(total, leaf)
        return slope

    @property
    def _factors(self) -> Tensor:
        """What the stored goodness of each layer is multiplied with (R, L)."""
        return goodness_factors([self.network.exponents[layer] for layer in self.layers])


def normalized(h: Tensor, how: str, tiny: float | Tensor = TINY) -> Tensor:
    """Scale activations to length 1 (l2) or to root mean square 1 (rms).

    **Arguments:**

    - `h`: (..., n).
    - `how`: "none", "l2" or "rms".
    - `tiny`: the least scale.

    **Returns:**

    (..., n); dead samples stay zero.
    """
    return h if how == "none" else h / scale_of(h, how, tiny)


def scale_of(h: Tensor, how: str, tiny: float | Tensor = TINY) -> Tensor:
    """Return what `normalized` divides activations by.

    **Arguments:**

    - `h`: (..., n).
    - `how`: "l2" or "rms".
    - `tiny`: the least scale, a number or (R, 1, 1).

    **Returns:**

    (..., 1), above zero also for dead samples.
    """
    length: Tensor = torch.linalg.vector_norm(h, dim=-1, keepdim=True)
    if isinstance(tiny, Tensor):  # activations that are kept smaller than they are
        # squares of what is shorter are below float32; a power of two changes nothing else
        short = length < 2.0**-50
        if h.device.type == "cpu" and not h.requires_grad:
            rows = short.squeeze(-1).nonzero(as_tuple=True)  # hardly any, so these alone
            length[rows] = _length_of_short(h[rows])
        else:
            length = torch.where(short, _length_of_short(h), length)
    if how == "rms":
        length = length / math.sqrt(h.shape[-1])
    return length.clamp_min(tiny)


def _length_of_short(h: Tensor) -> Tensor:
    """Return ||h|| (..., 1) of activations whose squares may be below float32."""
    longer: Tensor = torch.linalg.vector_norm(h * 2.0**64, dim=-1, keepdim=True)
    return longer * 2.0**-64
