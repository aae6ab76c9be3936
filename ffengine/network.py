"""R replicas of a stack of fully connected Forward-Forward layers, one for each seed.

Legend: R replicas, B samples, m inputs, n width, layer l, K label inputs. All replicas are computed
in batched products. A bias is the weight of one more input that is always 1, so that every formula
of a layer holds with and without a bias. Where the label is at every layer, its K inputs are the
first ones of each: a layer hands on those that it received, beside its activations.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ffengine.activations import ACTIVATIONS
from ffengine.inits import INITS
from ffengine.label_patterns import LabelPatterns, OneHotPatterns
from ffengine.objectives import Goodness, halves
from ffengine.pairs import Product
from ffengine.products import linear
from ffengine.random_streams import Draws
from ffengine.scaling import by_replica, goodness_factors, power_of_two
from ffengine.spec import NetworkSpec

TINY = 1e-12  # keeps the normalisation of a dead sample at zero
MOST_TINY = 86  # TINY 2^-86 is still a normal number
ALIKE = 2.0**-18  # of the mean: units that deviate by less are all alike, but for rounding
MOST_SAMPLES = 2**31
LABEL_BLOCK_ELEMENTS = 2**19  # activations under all labels that are held at once: 2 MiB


class Network:
    """A stack of layers with their weights.

    **Arguments:**

    - `spec`: widths, activation, bias and normalisation.
    - `weights`: 2^-k W (R, n, m) of each layer; m counts the bias input where there is one.
    - `exponents`: k (R,) int32 of each layer (see ffengine.scaling); None: 0, the weights are W.
    - `statistics`: what the goodness of each layer goes by beside its activations, where it does;
      None: nothing yet.
    - `heads`: class vectors (R, C, n) of each layer, of objectives that learn some; None: none.
    - `label_inputs`: K, how many inputs of a sample, the first ones, every layer receives; 0: the
      first layer alone receives the label, if any.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        weights: Sequence[Tensor],
        exponents: Sequence[Tensor] | None = None,
        statistics: Sequence[Tensor | None] | None = None,
        heads: Sequence[Tensor] | None = None,
        *,
        label_inputs: int = 0,
    ) -> None:
        self.spec = spec
        self.label_inputs = label_inputs
        self.heads = list(heads or ())
        self.weights = list(weights)
        self.statistics = list(statistics) if statistics else [None] * len(self.weights)
        self.exponents = (
            [weight.new_zeros(len(weight), dtype=torch.int32) for weight in weights]
            if exponents is None
            else list(exponents)
        )
        self.activation = ACTIVATIONS[spec.activation]

    @classmethod
    def initial(
        cls,
        spec: NetworkSpec,
        inputs: int,
        draws: Draws,
        device: torch.device,
        *,
        label_inputs: int = 0,
    ) -> "Network":
        """Make a network with the weights that `spec.init` draws.

        Each layer and seed has a random stream of its own.

        **Arguments:**

        - `spec`: widths, activation, bias and initialisation.
        - `inputs`: m of the first layer, without the bias input.
        - `draws`: the randomness of the run; it has a seed for each replica.
        - `device`: where the weights are put.
        - `label_inputs`: K, how many inputs each layer above the first has beside activations.

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
            inputs = label_inputs + width
        return cls(spec, weights, label_inputs=label_inputs)

    def replica(self, number: int) -> "Network":
        """Return the network of one replica; it shares the memory of the weights.

        **Arguments:**

        - `number`: the replica.

        **Returns:**

        A network with R = 1.
        """
        one = slice(number, number + 1)
        return self._alike(
            self.spec,
            [weight[one] for weight in self.weights],
            [exponent[one] for exponent in self.exponents],
            [None if found is None else found[one] for found in self.statistics],
            [head[one] for head in self.heads],
        )

    def copy(self) -> "Network":
        """Copy the network.

        **Returns:**

        An equal network with tensors of its own.
        """
        return self._alike(
            self.spec,
            [weight.clone() for weight in self.weights],
            [exponent.clone() for exponent in self.exponents],
            heads=[head.clone() for head in self.heads],
        )

    def lowest(self, depth: int) -> "Network":
        """Return the network of the lowest layers; it shares their memory.

        **Arguments:**

        - `depth`: how many layers.

        **Returns:**

        A network with these layers alone.
        """
        return self._alike(
            self.spec.model_copy(update={"widths": self.spec.widths[:depth]}),
            self.weights[:depth],
            self.exponents[:depth],
            self.statistics[:depth],
            self.heads[:depth],
        )

    def _alike(
        self,
        spec: NetworkSpec,
        weights: Sequence[Tensor],
        exponents: Sequence[Tensor],
        statistics: Sequence[Tensor | None] | None = None,
        heads: Sequence[Tensor] = (),
    ) -> "Network":
        """Return a network of the same kind."""
        return Network(spec, weights, exponents, statistics, heads, label_inputs=self.label_inputs)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many activations of a sample each layer has."""
        return self.spec.widths

    @property
    def most_samples(self) -> int:
        """How many samples may go through at once."""
        return MOST_SAMPLES

    def positions(self, layer: int) -> int:
        """Return at how many positions the units of a layer stand; 1 without maps.

        **Arguments:**

        - `layer`: the layer, from 0.
        """
        return 1

    def times(self, layer: int, x: Tensor, product: Product) -> Tensor:
        """Compute z of a layer in the precision of a product.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `x`: (R, B, m), as `layer_input` returns it.
        - `product`: multiplies batched matrices.

        **Returns:**

        z (R, B, n).
        """
        return self.moved(layer, x, self.weights[layer], product)

    def moved(self, layer: int, x: Tensor, weight: Tensor, product: Product) -> Tensor:
        """Compute what other weights of a layer make of its input, such as a step's direction.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `x`: (R, B, m), as `layer_input` returns it.
        - `weight`: (R, n, m).
        - `product`: multiplies batched matrices.

        **Returns:**

        (R, B, n).
        """
        return product(x, weight.mT)

    def gathered(self, layer: int, pull: Tensor, x: Tensor, product: Product) -> Tensor:
        """Compute sum_i pull_i x_i^T over a batch.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `pull`: (R, B, n).
        - `x`: (R, B, m), as `layer_input` returns it.
        - `product`: multiplies batched matrices.

        **Returns:**

        (R, n, m).
        """
        return product(pull.mT, x)

    def by_position(self, layer: int, values: Tensor) -> Tensor:
        """Return values of a layer's units, position after position of each sample.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `values`: (R, B, n) of all its activations.

        **Returns:**

        (R, B P, units); the values themselves without maps.
        """
        return values

    def seen_lengths(self, layer: int, x: Tensor) -> Tensor:
        """Return how long what a unit sees is, position after position of each sample.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `x`: (R, B, m), as `layer_input` returns it.

        **Returns:**

        (R, B P); ||x|| without maps.
        """
        lengths: Tensor = torch.linalg.vector_norm(x, dim=-1)
        return lengths

    def pooled(self, layer: int, h: Tensor) -> Tensor:
        """Return the mean over positions of a layer's activations.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `h`: (..., n) of all its activations.

        **Returns:**

        (..., units); the activations themselves without maps.
        """
        return h

    def seen_by_readout(self, layer: int, h: Tensor, tiny: float | Tensor = TINY) -> Tensor:
        """Return what a linear classifier sees of a layer: activations as the layer above has them.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `h`: (R, B, n) of all its activations.
        - `tiny`: the least scale.

        **Returns:**

        (R, B, units).
        """
        return normalized(h, self.spec.normalize, tiny)

    def input_sums(self, layer: int, x: Tensor) -> Tensor:
        """Sum |x| of what each weight of a unit sees, over samples and positions.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `x`: (1, B, m), as `layer_input` returns it.

        **Returns:**

        (m without a bias,) float64.
        """
        seen = x[0, :, :-1] if self.spec.bias else x[0]
        return seen.abs().double().sum(0)

    def goodness(self, layer: int, goodness: Goodness) -> Goodness:
        """Return a goodness function as a layer has it, beside its statistics if it has any.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `goodness`: the function.

        **Returns:**

        The function of the layer's activations.
        """
        return goodness.beside(self.statistics[layer])

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
            h = self.activation.value(self.pre_activation(below, x))
            x = self.next_input(below, h, self.label_of(x))
        return x

    def next_input(self, layer: int, h: Tensor, label: Tensor | None = None) -> Tensor:
        """Return what the layer above receives of a layer's activations.

        **Arguments:**

        - `layer`: the layer whose activations they are.
        - `h`: (R, B, n).
        - `label`: (R or 1, B, K), the label inputs that this layer received, where every layer
          receives them.

        **Returns:**

        (R, B, m of the layer above).
        """
        change = self.label_gain(layer + 1) / self.label_gain(layer)
        if label is not None and change != 1:
            label = label * change
        return self.prepared(layer + 1, h, label)

    def label_gain(self, layer: int) -> float:
        """Return by what the label of a sample is multiplied in front of a layer's input.

        **Arguments:**

        - `layer`: the layer, from 0.

        **Returns:**

        The gain, 1 for the first layer.
        """
        gains = self.spec.label_gains
        return gains[layer - 1] if layer and gains else 1.0

    def label_of(self, x: Tensor) -> Tensor | None:
        """Return the label inputs that every layer receives of samples, or of a layer's input.

        **Arguments:**

        - `x`: (..., m) samples, or the input of any layer: the label inputs are the first of both.

        **Returns:**

        (..., K); None where the first layer alone receives the label.
        """
        return x[..., : self.label_inputs] if self.label_inputs else None

    def pre_activation(self, layer: int, x: Tensor) -> Tensor:
        """Compute z = x W^T of a layer.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `x`: (R, B, m), as `layer_input` returns it.

        **Returns:**

        z (R, B, n).
        """
        return linear(x, self.weights[layer])

    def prepared(self, layer: int, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Normalise the input of a layer where the spec says so, and add the bias input.

        Label inputs that every layer receives are not normalised: where `label_gains` says nothing
        else they are the same in all layers.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `x`: (R, B, m without bias), samples or activations of the layer below, as many times
          smaller than the true ones as its weights are.
        - `label`: (R or 1, B, K), what stands beside activations where every layer receives the
          label; samples have it themselves.

        **Returns:**

        (R, B, m); it may be x itself.

        **Raises:**

        - `ValueError`: activations come without the label that the layer receives.
        """
        tiny = self.least_scale(layer - 1) if layer else TINY
        scaled = (layer > 0 or self.spec.normalize_first) and self.spec.normalize != "none"
        how = self.spec.normalize if layer else of_samples(self.spec.normalize)
        if self.label_inputs:
            if not layer:
                label, x = x[..., : self.label_inputs], x[..., self.label_inputs :]
            if label is None:
                raise ValueError(f"label: layer {layer} receives it beside the activations")
            parts = [label.expand(*x.shape[:-1], -1), normalized(x, how, tiny) if scaled else x]
            bias = [x.new_ones((*x.shape[:-1], 1))] if self.spec.bias else []
            return torch.cat([*parts, *bias], dim=-1)
        if not self.spec.bias:
            return normalized(x, how, tiny) if scaled else x
        if not scaled or x.requires_grad:
            x = normalized(x, how, tiny) if scaled else x
            return torch.cat([x, x.new_ones((*x.shape[:-1], 1))], dim=-1)
        # The same in one pass over the memory.
        both = x.new_empty((*x.shape[:-1], x.shape[-1] + 1))
        both[..., -1] = 1
        offset, scale = _offset_and_scale(x, how, tiny)
        if offset is None:
            torch.div(x, scale, out=both[..., :-1])
        else:
            torch.sub(x, offset, out=both[..., :-1]).div_(scale)
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
        found = list[Tensor]()
        x = self.prepared(0, x)
        for layer in range(len(self.weights)):
            h = self.activation.value(self.pre_activation(layer, x))
            found.append(self.passed_on(layer, h))
            if layer + 1 < len(self.weights):
                x = self.next_input(layer, found[-1], self.label_of(x))
        return found

    def passed_on(self, _layer: int, h: Tensor) -> Tensor:
        """Return what is left of a layer's activations; a network with lesions passes on less.

        **Arguments:**

        - `_layer`: the layer, from 0.
        - `h`: (R, ..., n); it may be overwritten.

        **Returns:**

        (R, ..., n).
        """
        return h

    def label_goodness(
        self, goodness: Goodness, x: Tensor, labels: Tensor, patterns: LabelPatterns
    ) -> Tensor:
        """Compute the stored goodness of every layer for labelled samples under each label.

        The true one is 4^k times as large (see ffengine.scaling.goodness_factors).

        Two one-hot labels differ in two inputs only: the first layer costs one product for all
        labels, and a column of its weights for each. With other patterns it costs C products, as
        the layers above do, which have other inputs under each label; all labels of a block of
        samples make one.

        **Arguments:**

        - `goodness`: the goodness function.
        - `x`: (R, B, m) samples that carry a label.
        - `labels`: (R, B) int64, the label that each sample carries.
        - `patterns`: what a label is in a sample.

        **Returns:**

        g (R, L, B, C) of L layers.
        """
        if not isinstance(patterns, OneHotPatterns):
            return self._goodness_of_each_label(goodness, x, labels, patterns)
        classes, x = patterns.classes, self.prepared(0, x)
        on = x.gather(-1, labels.unsqueeze(-1))
        off = x.gather(-1, ((labels + 1) % classes).unsqueeze(-1))
        blank = linear(x.scatter(-1, labels.unsqueeze(-1), off), self.weights[0]).unsqueeze(2)
        # The one-hot of a sample has two values, whichever its label is; this is their difference.
        contrast = (on - off).unsqueeze(2)
        columns = self.weights[0][..., :classes].mT.contiguous().unsqueeze(1)  # (R, 1, C, n)
        widest = max(weight.shape[1] for weight in self.weights)
        size = max(1, LABEL_BLOCK_ELEMENTS // (len(x) * classes * widest))
        parts = (part.split(size, dim=1) for part in (blank, contrast, off.unsqueeze(2)))
        return torch.cat(
            [
                self._goodness_by_layer(
                    goodness, torch.addcmul(z, ratio, columns), self._one_hots(dark, ratio)
                )
                for z, ratio, dark in zip(*parts, strict=True)
            ],
            dim=2,
        )

    def _one_hots(self, off: Tensor, contrast: Tensor) -> Tensor | None:
        """Return the label inputs (R, B, C, C) of samples under each label, from what an input has
        where it is off, and how much more where it is on, (R, B, 1, 1) each.
        """
        if not self.label_inputs:
            return None
        return off + contrast * torch.eye(self.label_inputs).to(contrast)

    def _goodness_of_each_label(
        self, goodness: Goodness, x: Tensor, labels: Tensor, patterns: LabelPatterns
    ) -> Tensor:
        """Return `label_goodness` from the sample under each label, made as negatives are."""
        classes = patterns.classes
        each = torch.arange(classes, device=x.device)
        widest = max(x.shape[-1], *(weight.shape[1] for weight in self.weights))
        size = max(1, LABEL_BLOCK_ELEMENTS // (len(x) * classes * widest))
        found = []
        for some, own in zip(x.split(size, dim=1), labels.split(size, dim=1), strict=True):
            shape = (*own.shape, classes)
            under = patterns.swapped(
                some.unsqueeze(2).expand(*shape, -1),
                own.unsqueeze(2).expand(shape),
                each.expand(shape),
            )
            z = linear(self.prepared(0, under.flatten(1, 2)), self.weights[0])
            found.append(
                self._goodness_by_layer(goodness, z.unflatten(1, shape[1:]), self.label_of(under))
            )
        return torch.cat(found, dim=2)

    def _goodness_by_layer(self, goodness: Goodness, z: Tensor, label: Tensor | None) -> Tensor:
        """Return the goodness (R, L, B, C) of every layer from z (R, B, C, n) of the first, which
        is overwritten, and the label inputs (R, B, C, K) that the first layer received, if the
        others receive them, too.
        """
        h = self.passed_on(0, self.activation.value_(z))
        by_layer = [self.goodness(0, goodness).value(h)]
        label = None if label is None else label.flatten(1, 2)
        for layer in range(1, len(self.weights)):
            x = self.next_input(layer - 1, h.flatten(1, 2), label)
            label = self.label_of(x)
            z = linear(x, self.weights[layer]).unflatten(1, h.shape[1:3])
            h = self.passed_on(layer, self.activation.value_(z))
            by_layer.append(self.goodness(layer, goodness).value(h))
        return torch.stack(by_layer, dim=1)


class SummedGoodness:
    """The goodness of a network, summed over the layers that learn; it is what strategies ask for.

    **Arguments:**

    - `network`: the network.
    - `goodness`: the goodness function.
    - `layers`: the layers over which it is summed, in increasing order.
    - `patterns`: what a label is in the samples.
    """

    def __init__(
        self,
        network: Network,
        goodness: Goodness,
        layers: tuple[int, ...],
        patterns: LabelPatterns,
    ) -> None:
        self.network = network.lowest(layers[-1] + 1)
        self.goodness, self.layers, self.patterns = goodness, list(layers), patterns

    def label_goodness(self, x: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Compute the goodness of labelled samples under each label.

        **Arguments:**

        - `x`: (R, B, m) samples that carry a label.
        - `labels`: (R, B) int64, the label that each sample carries.
        - `classes`: C, that of the patterns.

        **Returns:**

        g (R, B, C).

        **Raises:**

        - `ValueError`: there are patterns of another number of classes.
        """
        if classes != self.patterns.classes:
            raise ValueError(
                f"classes: {classes} asked, but labels have {self.patterns.classes} patterns"
            )
        goodness = self.network.label_goodness(self.goodness, x, labels, self.patterns)
        stored = goodness[:, self.layers]
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
                [
                    self.network.goodness(layer, self.goodness).value(h[layer])
                    for layer in self.layers
                ],
                dim=1,
            )  # (R, L, B)
            total = (by_layer.sum(-1) * self._factors).sum()
            (slope,) = torch.autograd.grad(total, leaf)
        return slope

    @property
    def _factors(self) -> Tensor:
        """What the stored goodness of each layer is multiplied with (R, L)."""
        return goodness_factors([self.network.exponents[layer] for layer in self.layers])


def of_samples(how: str) -> str:
    """Return how samples are scaled, whose inputs have no halves, where layers are in some way.

    **Arguments:**

    - `how`: the normalisation of activations.

    **Returns:**

    "l2" for "halves", else the same.
    """
    return "l2" if how == "halves" else how


def normalized(h: Tensor, how: str, tiny: float | Tensor = TINY) -> Tensor:
    """Scale activations within each sample, or centre and scale them.

    l2 makes the length 1, halves that of each half of the units, rms the root mean square; layer
    makes the mean 0 and the variance 1.

    **Arguments:**

    - `h`: (..., n).
    - `how`: "none", "l2", "rms", "layer" or "halves".
    - `tiny`: the least scale.

    **Returns:**

    (..., n); dead samples stay zero, and with "layer" those whose units are all alike are zero.

    **Source:**

    J. Ba, J. Kiros & G. Hinton, Layer Normalization (arXiv 1607.06450), without its learnt gain and
    bias.
    """
    if how == "none":
        return h
    offset, scale = _offset_and_scale(h, how, tiny)
    return (h if offset is None else h - offset) / scale


def scale_of(h: Tensor, how: str, tiny: float | Tensor = TINY) -> Tensor:
    """Return what `normalized` divides activations by.

    **Arguments:**

    - `h`: (..., n).
    - `how`: "l2", "rms", "layer" or "halves".
    - `tiny`: the least scale, a number or (R, 1, 1).

    **Returns:**

    (..., 1), above zero also for dead samples; with "layer" infinite where all units are alike.
    With "halves" (..., n).
    """
    return _offset_and_scale(h, how, tiny)[1]


def _offset_and_scale(h: Tensor, how: str, tiny: float | Tensor) -> tuple[Tensor | None, Tensor]:
    """Return what `normalized` subtracts (..., 1), None for nothing, and what it divides by."""
    if how == "halves":
        return None, torch.cat(
            [_scale(part, "l2", tiny).expand_as(part) for part in halves(h)], dim=-1
        )
    if how != "layer":
        return None, _scale(h, how, tiny)
    mean = h.mean(-1, keepdim=True)
    scale = _scale(h - mean, "rms", tiny)
    # units that are all alike differ from their mean by its rounding alone, which is no pattern
    alike = scale <= ALIKE * mean.abs()
    return mean, scale.masked_fill(alike, math.inf)


def _scale(h: Tensor, how: str, tiny: float | Tensor) -> Tensor:
    """Return the length (l2) or the root mean square of h (..., 1), `tiny` at least."""
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
