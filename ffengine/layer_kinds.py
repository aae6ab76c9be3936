"""Layers of a network of images: what a spec may name in `network.layers`, and the maps they make.

Legend: C channels, a map (C, H, W) of one sample, P = H W its positions. The learning layers are
convolutions and fully connected ones; pools stand between them and learn nothing. A layer's
activations are kept flat (C P), channel after channel, as `torch.flatten` leaves a map.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from ffengine.entry import Entry, SpecFieldError

MOST_ACTIVATIONS = 4_000_000  # of a layer and sample
PIECE_ACTIVATIONS = 2**24  # of the largest layer that are held at once, for each seed
Shape = tuple[int, int, int]
Side = Annotated[int, Field(ge=1, le=64)]


class ConvLayer(Entry):
    """A convolution that learns: the same kernels at every position of a map."""

    kind: Literal["conv"] = "conv"
    channels: int = Field(ge=2, le=65_536, description="kernels, each with a map of its own")
    kernel: Side = Field(3, description="side of a kernel, in pixels")
    stride: Side = Field(1, description="pixels from one position to the next")
    padding: int = Field(
        0, ge=0, le=63, description="rows and columns of zeros around the map; less than kernel"
    )


class PoolLayer(Entry):
    """A pool, which learns nothing: each channel's map in pieces of size x size that touch."""

    kind: Literal["pool"] = "pool"
    size: int = Field(2, ge=2, le=64, description="side of a piece; a rest at the edge is left out")
    of: Literal["mean", "max"] = Field("mean", description="what is kept of each piece")


class DenseLayer(Entry):
    """A fully connected layer that learns, from all numbers of the map below it."""

    kind: Literal["dense"] = "dense"
    units: int = Field(ge=2, le=65_536, description="units, first to last")


AnyLayer = Annotated[ConvLayer | PoolLayer | DenseLayer, Field(discriminator="kind")]


class LayerPlan(NamedTuple):
    """A layer that learns, with the pools below it, on samples of a certain shape.

    **Attributes:**

    - `layer`: the convolution or the fully connected layer.
    - `below`: the map that the layer below hands on, or a sample.
    - `pools`: what that map goes through first.
    - `received`: the map that the layer receives.
    - `made`: the map of its activations; (units, 1, 1) of a fully connected layer.
    - `blocks`: into how many blocks of channels `normalize: group` divides the map below.
    """

    layer: ConvLayer | DenseLayer
    below: Shape
    pools: tuple[PoolLayer, ...]
    received: Shape
    made: Shape
    blocks: int

    @property
    def positions(self) -> int:
        """P of the activations; 1 of a fully connected layer."""
        return self.made[1] * self.made[2]

    @property
    def activations(self) -> int:
        """Activations of a sample, C P."""
        return self.made[0] * self.positions

    @property
    def inputs(self) -> int:
        """m: what a kernel or a unit sees, without the bias input."""
        channels, height, width = self.received
        if isinstance(self.layer, ConvLayer):
            return channels * self.layer.kernel**2
        return channels * height * width


def layer_in_words(layer: ConvLayer | PoolLayer | DenseLayer) -> str:
    """Say what a layer is.

    **Arguments:**

    - `layer`: as a spec names it.

    **Returns:**

    A phrase with its article.
    """
    if isinstance(layer, DenseLayer):
        return f"a fully connected layer of {layer.units:,} units"
    if isinstance(layer, PoolLayer):
        return f"a pool by the {layer.of} of {layer.size} x {layer.size}"
    more = f", stride {layer.stride}" if layer.stride > 1 else ""
    more += f", padding {layer.padding}" if layer.padding else ""
    return f"a convolution of {layer.channels:,} channels ({layer.kernel} x {layer.kernel}{more})"


def layer_in_short(layer: ConvLayer | PoolLayer | DenseLayer) -> str:
    """Name a layer as shortly as papers do.

    **Arguments:**

    - `layer`: as a spec names it.

    **Returns:**

    Such as "conv 100 (5x5)", "pool 2" or "dense 500".
    """
    if isinstance(layer, DenseLayer):
        return f"dense {layer.units}"
    if isinstance(layer, PoolLayer):
        return f"pool {layer.size}"
    return f"conv {layer.channels} ({layer.kernel}x{layer.kernel})"


def samples_at_once(plans: Sequence[LayerPlan]) -> int:
    """Return how many samples go through layers at once where nothing is learnt from them.

    **Arguments:**

    - `plans`: the layers.

    **Returns:**

    So many that the largest map stays within PIECE_ACTIVATIONS, and at least one.
    """
    largest = max(max(plan.activations, plan.inputs) for plan in plans)
    return max(1, PIECE_ACTIVATIONS // largest)


def units_of(layers: Sequence[ConvLayer | PoolLayer | DenseLayer]) -> tuple[int, ...]:
    """Return how many channels or units each learning layer has.

    **Arguments:**

    - `layers`: as a spec names them.

    **Returns:**

    One number for each layer that learns.
    """
    return tuple(
        layer.channels if isinstance(layer, ConvLayer) else layer.units
        for layer in layers
        if not isinstance(layer, PoolLayer)
    )


def refuse_wrong_layers(layers: Sequence[ConvLayer | PoolLayer | DenseLayer]) -> None:
    """Raise SpecFieldError where layers cannot follow one another, whatever the samples are.

    **Arguments:**

    - `layers`: as a spec names them; not empty.

    **Raises:**

    - `SpecFieldError`: its path leads from the network to the layer.
    """
    dense = False
    for place, layer in enumerate(layers):
        path = ("layers", str(place))
        if dense and not isinstance(layer, DenseLayer):
            raise SpecFieldError(
                path, f"a {layer.kind} layer needs a map, and the dense layer below it makes none"
            )
        if isinstance(layer, ConvLayer) and layer.padding >= layer.kernel:
            raise SpecFieldError(
                (*path, "padding"),
                f"{layer.padding} rows of zeros and a kernel of {layer.kernel}: some positions "
                f"would see nothing; use at most {layer.kernel - 1}",
            )
        dense = isinstance(layer, DenseLayer)
    if isinstance(layers[-1], PoolLayer):
        raise SpecFieldError(
            ("layers", str(len(layers) - 1)), "nothing learns above the last pool; leave it out"
        )


def plans_of(
    layers: Sequence[ConvLayer | PoolLayer | DenseLayer], shape: Shape, classes: int
) -> tuple[LayerPlan, ...]:
    """Follow a sample through the layers.

    **Arguments:**

    - `layers`: as a spec names them.
    - `shape`: of a sample: channels, height and width.
    - `classes`: into so many blocks groups are divided.

    **Returns:**

    The plan of each layer that learns.

    **Raises:**

    - `SpecFieldError`: a layer does not fit the map that it would receive; its path leads from the
      network to the layer.
    """
    found = list[LayerPlan]()
    below, pools, received = shape, list[PoolLayer](), shape
    for place, layer in enumerate(layers):
        path, (channels, height, width) = ("layers", str(place)), received
        if isinstance(layer, PoolLayer):
            if layer.size > min(height, width):
                raise SpecFieldError(
                    (*path, "size"), f"{layer.size} is larger than the map here, {_said(received)}"
                )
            pools.append(layer)
            received = (channels, height // layer.size, width // layer.size)
            continue
        made = (layer.units, 1, 1) if isinstance(layer, DenseLayer) else _made(layer, received)
        if min(made) < 1:
            raise SpecFieldError(
                (*path, "kernel"),
                f"the map here is {_said(received)}, and a kernel of {_side(layer)} does not fit; "
                f"use a smaller one, or padding",
            )
        plan = LayerPlan(layer, below, tuple(pools), received, made, classes)
        if plan.activations > MOST_ACTIVATIONS:
            raise SpecFieldError(
                path,
                f"its map would be {_said(made)}, more than {MOST_ACTIVATIONS:,} activations of a "
                f"sample; use fewer channels, or a stride",
            )
        found.append(plan)
        below, pools, received = made, [], made
    return tuple(found)


def _made(layer: ConvLayer, received: Shape) -> Shape:
    """Return the map that a convolution makes of one; a side is 0 where the kernel does not fit."""
    height, width = (
        max(0, (side + 2 * layer.padding - layer.kernel) // layer.stride + 1)
        for side in received[1:]
    )
    return layer.channels, height, width


def _side(layer: ConvLayer | DenseLayer) -> str:
    """Say how large the kernel of a layer is."""
    return f"{layer.kernel} x {layer.kernel}" if isinstance(layer, ConvLayer) else "all"


def _said(shape: Shape) -> str:
    """Say how large a map is."""
    channels, height, width = shape
    return f"{channels} x {height} x {width} (channels, height, width)"
