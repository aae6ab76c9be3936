"""R replicas of a stack of fully connected Forward-Forward layers, one for each seed, in batched products.

Legend: R replicas, B samples, m inputs, n width, layer l. A bias is the weight of one more input that is always 1,
so that every formula of a layer holds with and without.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ffengine.activations import ACTIVATIONS
from ffengine.draws import Draws
from ffengine.objectives import Objective
from ffengine.spec import NetworkSpec

TINY = 1e-12  # keeps the normalisation of a dead sample at zero


class Network:
    """Weights (R, n, m) of each layer, m counting the bias input where there is one."""

    def __init__(self, spec: NetworkSpec, weights: Sequence[Tensor]) -> None:
        self.spec = spec
        self.weights = list(weights)
        self.activation = ACTIVATIONS[spec.activation]

    @classmethod
    def initial(cls, spec: NetworkSpec, inputs: int, draws: Draws, device: torch.device) -> "Network":
        """Weights ~ N(0, 1/m), biases 0; each layer and seed has a stream of its own."""
        weights = []
        for layer, width in enumerate(spec.widths):
            weight = draws.at("weights", layer).normal((len(draws.seeds), width, inputs)) / math.sqrt(inputs)
            weights.append(_with_ones(weight, 0.0) if spec.bias else weight)
            inputs = width
        return cls(spec, [weight.to(device) for weight in weights])

    def layer_input(self, layer: int, x: Tensor) -> Tensor:
        """What a layer sees of the samples (R, B, m): through the layers below, normalised, with the bias input."""
        for below in range(layer):
            x = self.activation.value(self.pre_activation(below, self._prepared(below, x)))
        return self._prepared(layer, x)

    def next_input(self, layer: int, h: Tensor) -> Tensor:
        """What the layer above `layer` sees of its activations (R, B, n)."""
        return self._prepared(layer + 1, h)

    def pre_activation(self, layer: int, x: Tensor) -> Tensor:
        """z (R, B, n) of a layer's input (R, B, m)."""
        return torch.bmm(x, self.weights[layer].mT)

    def _prepared(self, layer: int, x: Tensor) -> Tensor:
        if layer > 0:
            x = normalized(x, self.spec.normalize)
        return _with_ones(x, 1.0) if self.spec.bias else x


def normalized(h: Tensor, how: str) -> Tensor:
    """Activations (..., n) scaled to length 1 (l2) or root mean square 1 (rms); dead samples stay zero."""
    if how == "none":
        return h
    length: Tensor = torch.linalg.vector_norm(h, dim=-1, keepdim=True)
    if how == "rms":
        length = length / math.sqrt(h.shape[-1])
    return h / length.clamp_min(TINY)


def goodness_of(objective: Objective, h: Tensor) -> Tensor:
    """G (R, B) of activations (R, B, n): the scaled square of their length, less the threshold."""
    return h.square().sum(-1) * objective.goodness_scale(h.shape[-1]) - objective.offset


def coefficients(objective: Objective, goodness: Tensor, positives: int) -> Tensor:
    """s = dL/dG (R, 2B) of a batch whose first B samples are positive; L is the mean over the samples of each split."""
    positive, negative = goodness[..., :positives], goodness[..., positives:]
    return torch.cat(
        [
            objective.coefficient(positive, negative=False) / positive.shape[-1],
            objective.coefficient(negative, negative=True) / negative.shape[-1],
        ],
        dim=-1,
    )


def direction(x: Tensor, pull: Tensor, weight: Tensor | None = None) -> Tensor:
    """D = -2 sum_i s_i c h_i sigma'(z_i) x_i^T (R, n, m) of inputs (R, B, m), pull h sigma'(z) (R, B, n) and s c (R, B)."""
    weighted = pull if weight is None else pull * weight.unsqueeze(-1)
    return torch.bmm(weighted.mT, x).mul_(-2.0)  # (R, n, B) x (R, B, m) -> (R, n, m)


def _with_ones(x: Tensor, value: float) -> Tensor:
    return torch.cat([x, x.new_full((*x.shape[:-1], 1), value)], dim=-1)
