"""Catalogue of activations: sigma and its slope, in tensor methods only."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from ffengine.additions import OpenNames

if TYPE_CHECKING:
    from torch import Tensor


class Activation(ABC):
    """An elementwise nonlinearity sigma; h = sigma(z)."""

    name: ClassVar[str]
    # True where sigma'(z) = 1 wherever h != 0, so that h sigma'(z) = h
    slope_where_active_is_one: ClassVar[bool] = False
    # a, where sigma(z) = max(z, 0) + a min(z, 0); None for any other sigma
    slope_below_zero: ClassVar[float | None] = None

    @property
    def homogeneous(self) -> bool:
        """Whether sigma(c z) = c sigma(z) for every c > 0."""
        return self.slope_below_zero is not None

    @abstractmethod
    def value(self, z: Tensor) -> Tensor:
        """Compute sigma(z).

        **Arguments:**

        - `z`: of any shape; it is not changed.

        **Returns:**

        h, in the shape and type of z.
        """

    @abstractmethod
    def slope(self, z: Tensor) -> Tensor:
        """Compute sigma'(z); at a kink the slope is 0, as in the mask [h > 0].

        **Arguments:**

        - `z`: of any shape.

        **Returns:**

        The slope, in the shape and type of z.
        """

    def value_(self, z: Tensor) -> Tensor:
        """Compute sigma(z) in the memory of z.

        **Arguments:**

        - `z`: of any shape; it is overwritten.

        **Returns:**

        h, in that memory.
        """
        return z.copy_(self.value(z))


class Relu(Activation):
    """Rectified linear unit, max(z, 0): the paper's activation."""

    name = "relu"
    slope_where_active_is_one = True
    slope_below_zero = 0.0

    def value(self, z: Tensor) -> Tensor:
        return z.clamp_min(0)

    def slope(self, z: Tensor) -> Tensor:
        return (z > 0).to(z.dtype)

    def value_(self, z: Tensor) -> Tensor:
        return z.clamp_min_(0)


class LeakyRelu(Activation):
    """Rectified linear unit with slope 0.01 below zero."""

    name = "leaky_relu"
    slope_below_zero = 0.01

    def value(self, z: Tensor) -> Tensor:
        return z.clamp_min(0) + 0.01 * z.clamp_max(0)

    def slope(self, z: Tensor) -> Tensor:
        return (z > 0).to(z.dtype) * 0.99 + 0.01


class Elu(Activation):
    """Exponential linear unit: z above zero, exp(z) - 1 below (arXiv 1511.07289)."""

    name = "elu"

    def value(self, z: Tensor) -> Tensor:
        return z.clamp_min(0) + z.clamp_max(0).expm1()

    def slope(self, z: Tensor) -> Tensor:
        return z.clamp_max(0).exp()


class Gelu(Activation):
    """Gaussian error linear unit: z times the normal distribution function of z (arXiv
    1606.08415).
    """

    name = "gelu"

    def value(self, z: Tensor) -> Tensor:
        return z * _normal_cdf(z)

    def slope(self, z: Tensor) -> Tensor:
        return _normal_cdf(z) + z * (z.square() / -2).exp() / math.sqrt(2 * math.pi)


class Silu(Activation):
    """Sigmoid linear unit, z sigmoid(z), also called swish (arXiv 1702.03118)."""

    name = "silu"

    def value(self, z: Tensor) -> Tensor:
        return z * z.sigmoid()

    def slope(self, z: Tensor) -> Tensor:
        gate = z.sigmoid()
        return gate * (1 + z * (-z).sigmoid())


class Softplus(Activation):
    """Smooth rectifier, log(1 + exp(z))."""

    name = "softplus"

    def value(self, z: Tensor) -> Tensor:
        return z.clamp_min(0) + (-z.abs()).exp().log1p()

    def slope(self, z: Tensor) -> Tensor:
        return z.sigmoid()


class Tanh(Activation):
    """Hyperbolic tangent."""

    name = "tanh"

    def value(self, z: Tensor) -> Tensor:
        return z.tanh()

    def slope(self, z: Tensor) -> Tensor:
        return 1 - z.tanh().square()


class SquaredRelu(Activation):
    """Square of the rectified linear unit, max(z, 0)^2 (arXiv 2109.08668)."""

    name = "squared_relu"

    def value(self, z: Tensor) -> Tensor:
        return z.clamp_min(0).square()

    def slope(self, z: Tensor) -> Tensor:
        return 2 * z.clamp_min(0)


class Identity(Activation):
    """No nonlinearity: h = z, for which the theorems' conditions decide nothing in the limit of
    infinite width.
    """

    name = "identity"
    slope_where_active_is_one = True
    slope_below_zero = 1.0

    def value(self, z: Tensor) -> Tensor:
        return z.clone()

    def slope(self, z: Tensor) -> Tensor:
        return z.new_ones(z.shape)

    def value_(self, z: Tensor) -> Tensor:
        return z


def _normal_cdf(z: Tensor) -> Tensor:
    """Return the normal distribution function of z."""
    return (-z / math.sqrt(2)).erfc() / 2


ActivationName = Literal[
    "relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "tanh", "squared_relu", "identity"
]
AnyActivation = Annotated[ActivationName, OpenNames("activations")]
ACTIVATIONS: dict[str, Activation] = {
    entry.name: entry
    for entry in (
        Relu(),
        LeakyRelu(),
        Elu(),
        Gelu(),
        Silu(),
        Softplus(),
        Tanh(),
        SquaredRelu(),
        Identity(),
    )
}
