"""Catalogue of activations: sigma and its slope, in tensor methods only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor


class Activation(ABC):
    """An elementwise nonlinearity sigma; h = sigma(z)."""

    name: ClassVar[str]
    infinite_width: ClassVar[bool] = False  # True where the theorems' infinite-width limit is known in closed form

    @abstractmethod
    def value(self, z: Tensor) -> Tensor:
        """sigma(z), elementwise."""

    @abstractmethod
    def slope(self, z: Tensor) -> Tensor:
        """sigma'(z), elementwise, in the type of z; 0 at a kink, as the mask [h > 0] has it."""


class Relu(Activation):
    """Rectified linear unit, max(z, 0): the paper's activation."""

    name = "relu"
    infinite_width = True

    def value(self, z: Tensor) -> Tensor:
        return z.clamp_min(0)

    def slope(self, z: Tensor) -> Tensor:
        return (z > 0).to(z.dtype)


class LeakyRelu(Activation):
    """Rectified linear unit with slope 0.01 below zero."""

    name = "leaky_relu"

    def value(self, z: Tensor) -> Tensor:
        return z.clamp_min(0) + 0.01 * z.clamp_max(0)

    def slope(self, z: Tensor) -> Tensor:
        return (z > 0).to(z.dtype) * 0.99 + 0.01


class Tanh(Activation):
    """Hyperbolic tangent."""

    name = "tanh"

    def value(self, z: Tensor) -> Tensor:
        return z.tanh()

    def slope(self, z: Tensor) -> Tensor:
        return 1 - z.tanh().square()


class Softplus(Activation):
    """Smooth rectifier, log(1 + exp(z))."""

    name = "softplus"

    def value(self, z: Tensor) -> Tensor:
        return z.clamp_min(0) + (-z.abs()).exp().log1p()

    def slope(self, z: Tensor) -> Tensor:
        return z.sigmoid()


ActivationName = Literal["relu", "leaky_relu", "tanh", "softplus"]
ACTIVATIONS: dict[str, Activation] = {entry.name: entry for entry in (Relu(), LeakyRelu(), Tanh(), Softplus())}
