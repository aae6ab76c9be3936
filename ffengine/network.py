"""R replicas of a stack of fully connected Forward-Forward layers, one for each seed, in batched
products.

Legend: R replicas, B samples, m inputs, n width, layer l. A bias is the weight of one more input
that is always 1, so that every formula of a layer holds with and without.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ffengine.activations import ACTIVATIONS
from ffengine.inits import INITS
from ffengine.objectives import Goodness
from ffengine.random_streams import Draws
from ffengine.spec import NetworkSpec

TINY = 1e-12  # keeps the normalisation of a dead sample at zero


class Network:
    """Weights (R, n, m) of each layer, m counting the bias input where there is one."""

    def __init__(self, spec: NetworkSpec, weights: Sequence[Tensor]) -> None:
        self.spec = spec
        self.weights = list(weights)
        self.activation = ACTIVATIONS[spec.activation]

    @classmethod
    def initial(
        cls, spec: NetworkSpec, inputs: int, draws: Draws, device: torch.device
    ) -> "Network":
        """Weights as spec.init says; each layer and seed has a stream of its own."""
        weights = []
        replicas, init = len(draws.seeds), INITS[spec.init]
        for layer, width in enumerate(spec.widths):
            weight = init.weight(draws.at("weights", layer), replicas, width, inputs)
            if spec.bias:
                bias = init.bias(draws.at("biases", layer), replicas, width, inputs)
                weight = torch.cat([weight, bias.unsqueeze(-1)], dim=-1)
            weights.append(
                weight.to(device).contiguous()
            )  # a fused step goes through memory, not through strides
            inputs = width
        return cls(spec, weights)

    def layer_input(self, layer: int, x: Tensor) -> Tensor:
        """What a layer sees of the samples (R, B, m): through the layers below, normalised, with
        the bias input.
        """
        x = self.prepared(0, x)
        for below in range(layer):
            x = self.next_input(below, self.activation.value(self.pre_activation(below, x)))
        return x

    def next_input(self, layer: int, h: Tensor) -> Tensor:
        """What the layer above `layer` sees of its activations (R, B, n)."""
        return self.prepared(layer + 1, h)

    def pre_activation(self, layer: int, x: Tensor) -> Tensor:
        """z (R, B, n) of a layer's input (R, B, m)."""
        return torch.bmm(x, self.weights[layer].mT)

    def prepared(self, layer: int, x: Tensor) -> Tensor:
        """The input of a layer: what comes from below, normalised where the spec says, with the
        bias input.
        """
        scaled = (layer > 0 or self.spec.normalize_first) and self.spec.normalize != "none"
        if not self.spec.bias:
            return normalized(x, self.spec.normalize) if scaled else x
        if not scaled or x.requires_grad:
            x = normalized(x, self.spec.normalize) if scaled else x
            return torch.cat([x, x.new_ones((*x.shape[:-1], 1))], dim=-1)
        both = x.new_empty((*x.shape[:-1], x.shape[-1] + 1))  # the same in one pass
        both[..., -1] = 1
        torch.div(x, scale_of(x, self.spec.normalize), out=both[..., :-1])
        return both

    def activations(self, x: Tensor) -> list[Tensor]:
        """h (R, B, n) of every layer for samples (R, B, m)."""
        found = []
        x = self.prepared(0, x)
        for layer in range(len(self.weights)):
            found.append(self.activation.value(self.pre_activation(layer, x)))
            if layer + 1 < len(self.weights):
                x = self.next_input(layer, found[-1])
        return found

    def label_goodness(self, goodness: Goodness, x: Tensor, labels: Tensor, classes: int) -> Tensor:
        """g (R, layers, B, C) of samples (R, B, m) that carry `labels` (R, B), under each label.

        Labels differ in two inputs only, so that the first layer costs one product for all of them.
        """
        x = self.prepared(0, x)
        on = x.gather(-1, labels.unsqueeze(-1))
        off = x.gather(-1, ((labels + 1) % classes).unsqueeze(-1))
        columns = self.weights[0][..., :classes].mT.contiguous()  # (R, C, n)
        own = torch.stack(
            [column[label] for column, label in zip(columns, labels, strict=True)]
        )  # (R, B, n)
        blank = self.pre_activation(0, x).sub_(own.mul_(on - off))
        by_label = []
        for candidate in range(classes):
            h = self.activation.value(blank + (on - off) * columns[:, candidate : candidate + 1])
            by_layer = [goodness.value(h)]
            for layer in range(1, len(self.weights)):
                h = self.activation.value(self.pre_activation(layer, self.next_input(layer - 1, h)))
                by_layer.append(goodness.value(h))
            by_label.append(torch.stack(by_layer, dim=1))
        return torch.stack(by_label, dim=-1)


class SummedGoodness:
    """The network as the strategies of negatives ask it: goodness summed over the layers that
    learn.
    """

    def __init__(self, network: Network, goodness: Goodness, layers: tuple[int, ...]) -> None:
        below = network.spec.model_copy(update={"widths": network.spec.widths[: layers[-1] + 1]})
        self.network = Network(below, network.weights[: layers[-1] + 1])
        self.goodness, self.layers = goodness, list(layers)

    def label_goodness(self, x: Tensor, labels: Tensor, classes: int) -> Tensor:
        """g (R, B, C) of labelled samples (R, B, m) of labels (R, B) under each label."""
        return self.network.label_goodness(self.goodness, x, labels, classes)[:, self.layers].sum(1)

    def goodness_slope(self, x: Tensor) -> Tensor:
        """dg/dx (R, B, m) of each sample's own goodness."""
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            h = self.network.activations(leaf)
            total = torch.stack(
                [self.goodness.value(h[layer]).sum() for layer in self.layers]
            ).sum()
            (slope,) = torch.autograd.grad(total, leaf)
        return slope


def normalized(h: Tensor, how: str) -> Tensor:
    """Activations (..., n) scaled to length 1 (l2) or root mean square 1 (rms); dead samples stay
    zero.
    """
    return h if how == "none" else h / scale_of(h, how)


def scale_of(h: Tensor, how: str) -> Tensor:
    """What l2 or rms divides activations (..., n) by, (..., 1)."""
    length: Tensor = torch.linalg.vector_norm(h, dim=-1, keepdim=True)
    if how == "rms":
        length = length / math.sqrt(h.shape[-1])
    return length.clamp_min(TINY)
