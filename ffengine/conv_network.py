"""R replicas of a stack of convolutions, pools and fully connected layers.

Legend: R replicas, B samples, C channels, P positions, m what a kernel sees. The weights of a
convolution are kept as a matrix (R, C, m), m in the order input channel, row, column, as
`torch.nn.Conv2d.weight.flatten(1)` has them, and a bias stands last. So initialisation, optimisers,
checkpoints and figures of weights are those of a fully connected layer, which a convolution is on
each patch. Activations are flat (R, B, C P), channel after channel.

z and the step are convolutions of torch, replica after replica. -dL/dW = sum_p pull_p patch_p^T is
the gradient of a convolution with respect to its kernels, which torch computes in closed form;
there is no autograd.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

from ffengine.inits import INITS
from ffengine.layer_kinds import ConvLayer, LayerPlan, samples_at_once
from ffengine.network import TINY, Network, normalized, of_samples
from ffengine.pairs import Product
from ffengine.random_streams import Draws
from ffengine.spec import NetworkSpec, TrainSpec


class ConvNetwork(Network):
    """A stack of layers of images with their weights.

    **Arguments:**

    - `spec`: layers, activation, bias and normalisation.
    - `weights`: W (R, n, m) of each layer that learns; m counts the bias input where there is one.
    - `exponents`, `statistics`, `heads`: as a network has them.
    - `plans`: the maps of each layer that learns.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        weights: Sequence[Tensor],
        exponents: Sequence[Tensor] | None = None,
        statistics: Sequence[Tensor | None] | None = None,
        heads: Sequence[Tensor] | None = None,
        *,
        plans: Sequence[LayerPlan],
    ) -> None:
        super().__init__(spec, weights, exponents, statistics, heads)
        self.plans = tuple(plans)

    def _alike(
        self,
        spec: NetworkSpec,
        weights: Sequence[Tensor],
        exponents: Sequence[Tensor],
        statistics: Sequence[Tensor | None] | None = None,
        heads: Sequence[Tensor] = (),
    ) -> "ConvNetwork":
        plans = self.plans[: len(weights)]
        return ConvNetwork(spec, weights, exponents, statistics, heads, plans=plans)

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(plan.activations for plan in self.plans)

    @property
    def most_samples(self) -> int:
        return samples_at_once(self.plans)

    def positions(self, layer: int) -> int:
        return self.plans[layer].positions

    def prepared(self, layer: int, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Pool and normalise the input of a layer, and add the bias input of a dense one.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `x`: (R, B, numbers of the map below), samples or activations of the layer below.
        - `label`: none: a map has no place for it.

        **Returns:**

        (R, B, numbers of the map that the layer receives); it may be x itself.
        """
        assert label is None  # noqa: S101 - the spec refuses it
        plan, spec = self.plans[layer], self.spec
        x = pooled_map(plan, x)
        if spec.normalize != "none" and (layer > 0 or spec.normalize_first):
            x = self._normalized(layer, x)
        if spec.bias and not isinstance(plan.layer, ConvLayer):
            x = torch.cat([x, x.new_ones((*x.shape[:-1], 1))], dim=-1)
        return x

    def _normalized(self, layer: int, x: Tensor) -> Tensor:
        """Scale the input of a layer as the spec says; samples have no blocks of channels."""
        plan, how = self.plans[layer], self.spec.normalize
        if how not in ("group", "instance"):
            return normalized(x, of_samples(how), TINY)
        parts = plan.received[0]
        if how == "group":
            parts = plan.blocks if layer else 1
        return normalized(x.unflatten(-1, (parts, -1)), "layer", TINY).flatten(-2)

    def pre_activation(self, layer: int, x: Tensor) -> Tensor:
        if not isinstance(self.plans[layer].layer, ConvLayer):
            return super().pre_activation(layer, x)
        return self._convolved(layer, x, self.weights[layer])

    def moved(self, layer: int, x: Tensor, weight: Tensor, product: Product) -> Tensor:
        if not isinstance(self.plans[layer].layer, ConvLayer):
            return super().moved(layer, x, weight, product)
        return self._convolved(layer, x, weight)

    def gathered(self, layer: int, pull: Tensor, x: Tensor, product: Product) -> Tensor:
        plan, bias = self.plans[layer], self.spec.bias
        if not isinstance(plan.layer, ConvLayer):
            return super().gathered(layer, pull, x, product)
        found = pull.new_empty((len(pull), plan.made[0], plan.inputs + bias))
        shape = (plan.made[0], plan.received[0], plan.layer.kernel, plan.layer.kernel)
        for one, maps, pulls in zip(found, x, pull, strict=True):
            upper = pulls.reshape(-1, *plan.made)
            with same_bits(x.device):
                kernels = conv2d_weight(
                    maps.reshape(-1, *plan.received),
                    shape,
                    upper,
                    stride=plan.layer.stride,
                    padding=plan.layer.padding,
                )
            one[:, : plan.inputs] = kernels.flatten(1)
            if bias:
                one[:, -1] = upper.sum((0, 2, 3))
        return found

    def by_position(self, layer: int, values: Tensor) -> Tensor:
        channels = self.plans[layer].made[0]
        found: Tensor = values.unflatten(-1, (channels, -1)).mT.flatten(1, 2)
        return found

    def seen_lengths(self, layer: int, x: Tensor) -> Tensor:
        plan = self.plans[layer]
        if not isinstance(plan.layer, ConvLayer):
            return super().seen_lengths(layer, x)
        energy = x.reshape(-1, *plan.received).square().sum(1, keepdim=True)
        size = plan.layer.kernel
        ones = x.new_ones((1, 1, size, size))
        with same_bits(x.device):
            found = torch.nn.functional.conv2d(
                energy, ones, stride=plan.layer.stride, padding=plan.layer.padding
            )
        # sums in another order may leave a blank patch with less than nothing
        lengths: Tensor = found.clamp_min(0).add(self.spec.bias).sqrt()
        return lengths.view(len(x), -1)

    def pooled(self, layer: int, h: Tensor) -> Tensor:
        found: Tensor = h.unflatten(-1, (self.plans[layer].made[0], -1)).mean(-1)
        return found

    def seen_by_readout(self, layer: int, h: Tensor, tiny: float | Tensor = TINY) -> Tensor:
        """Return what a linear classifier sees of a layer: the means of its channels, scaled.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `h`: (R, B, C P) of all its activations.
        - `tiny`: the least scale.

        **Returns:**

        (R, B, C); of means there are no parts of a map, so group and instance scale as layer does.
        """
        how = "layer" if self.spec.normalize in ("group", "instance") else self.spec.normalize
        return normalized(self.pooled(layer, h), how, tiny)

    def input_sums(self, layer: int, x: Tensor) -> Tensor:
        plan = self.plans[layer]
        if not isinstance(plan.layer, ConvLayer):
            return super().input_sums(layer, x)
        total = x[0].abs().double().sum(0).view(1, *plan.received)
        patches = torch.nn.functional.unfold(
            total, plan.layer.kernel, stride=plan.layer.stride, padding=plan.layer.padding
        )
        return patches[0].sum(-1)

    def _convolved(self, layer: int, x: Tensor, weight: Tensor) -> Tensor:
        """Return the maps (R, B, C P) that kernels (R, C, m) make of maps."""
        plan = self.plans[layer]
        conv = plan.layer
        assert isinstance(conv, ConvLayer)  # noqa: S101 - narrows the type
        shape = (plan.made[0], plan.received[0], conv.kernel, conv.kernel)
        found = []
        for maps, one in zip(x, weight, strict=True):
            with same_bits(x.device):
                made = torch.nn.functional.conv2d(
                    maps.reshape(-1, *plan.received),
                    one[:, : plan.inputs].reshape(shape),
                    one[:, -1].contiguous() if self.spec.bias else None,
                    stride=conv.stride,
                    padding=conv.padding,
                )
            found.append(made.flatten(1))
        return found[0].unsqueeze(0) if len(found) == 1 else torch.stack(found)


def pooled_map(plan: LayerPlan, x: Tensor) -> Tensor:
    """Send what the layer below hands on through the pools of a layer.

    **Arguments:**

    - `plan`: the layer.
    - `x`: (R, B, numbers of the map below).

    **Returns:**

    (R, B, numbers of the map that the layer receives); x itself without pools.
    """
    if not plan.pools:
        return x
    maps = x.reshape(-1, *plan.below)
    for pool in plan.pools:
        maps = (
            torch.nn.functional.avg_pool2d(maps, pool.size)
            if pool.of == "mean"
            else torch.nn.functional.max_pool2d(maps, pool.size)
        )
    return maps.reshape(*x.shape[:-1], -1)


@contextmanager
def same_bits(device: torch.device) -> Iterator[None]:
    """Let the convolutions inside be those of float32, in one order of their sums.

    A GPU's library would round to TF32, and choose by the clock how it adds.

    **Arguments:**

    - `device`: where they are done.
    """
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield


def initial_network(
    spec: TrainSpec,
    plans: Sequence[LayerPlan],
    inputs: int,
    draws: Draws,
    device: torch.device,
    *,
    label_inputs: int = 0,
) -> Network:
    """Make the network of a training run with the weights that `network.init` draws.

    **Arguments:**

    - `spec`: the run.
    - `plans`: the maps of its layers; none where it names widths.
    - `inputs`: m of the first layer, without the bias input.
    - `draws`: the randomness of the run.
    - `device`: where the weights are put.
    - `label_inputs`: how many inputs each layer above the first has beside activations.

    **Returns:**

    The network at initialisation; a kernel is drawn as the weights of a unit that sees its patch.
    """
    if not plans:
        return Network.initial(spec.network, inputs, draws, device, label_inputs=label_inputs)
    weights, init, replicas = [], INITS[spec.network.init], len(draws.seeds)
    for layer, plan in enumerate(plans):
        weight = init.weight(draws.at("weights", layer), replicas, plan.made[0], plan.inputs)
        if spec.network.bias:
            bias = init.bias(draws.at("biases", layer), replicas, plan.made[0], plan.inputs)
            weight = torch.cat([weight, bias.unsqueeze(-1)], dim=-1)
        weights.append(weight.to(device).contiguous())
    return ConvNetwork(spec.network, weights, plans=plans)


def network_of(
    spec: NetworkSpec,
    plans: Sequence[LayerPlan],
    weights: Sequence[Tensor],
    exponents: Sequence[Tensor],
    heads: Sequence[Tensor],
    *,
    label_inputs: int = 0,
) -> Network:
    """Make the network of kept weights.

    **Arguments:**

    - `spec`: its layers.
    - `plans`: their maps; none where it names widths.
    - `weights`, `exponents`, `heads`: as a network has them.
    - `label_inputs`: how many inputs each layer above the first has beside activations.

    **Returns:**

    The network.

    **Raises:**

    - `ValueError`: the kernels are not those of the maps.
    """
    if not plans:
        return Network(spec, weights, exponents, heads=heads, label_inputs=label_inputs)
    for layer, (plan, weight) in enumerate(zip(plans, weights, strict=True)):
        expected = (plan.made[0], plan.inputs + spec.bias)
        if weight.shape[1:] != expected:
            raise ValueError(
                f"weights: layer {layer} is {tuple(weight.shape[1:])}, and the data set's maps "
                f"need {expected}"
            )
    return ConvNetwork(spec, weights, exponents, heads=heads, plans=plans)
