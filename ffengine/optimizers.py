"""Catalogue of optimisers and learning-rate schedules.

An optimiser turns the gradient into the step eta * D that is really taken.

Legend: R replicas, n width, m inputs, W (R, n, m) the weights of one layer, descent (R, n, m) =
-dL/dW. `state` holds the optimiser's tensors of a layer, by the names in `slots` and `counters`.
Nothing but tensors and the constants of a spec enters an update, so that a step can be captured and
replayed on a GPU.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from ffengine.additions import OpenUnion
from ffengine.entry import Entry, default_choice

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]
MAX_EPOCHS = 100_000


class Schedule(NamedTuple):
    """How the step size changes over the epochs of a layer.

    **Attributes:**

    - `meaning`: one phrase for the catalogue.
    - `factor`: gives the factor of the step size from the epoch (1 .. epochs) and the number of
      epochs.
    """

    meaning: str
    factor: Callable[[int, int], float]


ScheduleName = Literal["constant", "linear_cooldown", "cosine"]
SCHEDULES: dict[ScheduleName, Schedule] = {
    "constant": Schedule("the same step size throughout", lambda epoch, epochs: 1.0),
    "linear_cooldown": Schedule(
        "constant for the first half of the epochs, then linearly down to 2 / epochs in the last "
        "(Löwe 2023)",
        lambda epoch, epochs: 1.0 if epoch <= epochs // 2 else 2 * (1 + epochs - epoch) / epochs,
    ),
    "cosine": Schedule(
        "half a cosine from the full step size towards 0 after the last epoch (arXiv 1608.03983)",
        lambda epoch, epochs: (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2,
    ),
}


class Optimizer(Entry, ABC):
    """How the gradient becomes a step: W <- W + eta * D."""

    slots: ClassVar[tuple[str, ...]] = ()  # state tensors of the weights' shape, 0 at the start
    counters: ClassVar[tuple[str, ...]] = ()  # state scalars, 0 at the start
    # True where D is c times as large if weights, descent and state all are
    linear: ClassVar[bool] = False

    lr: float = Field(1.0, gt=0, le=1e9, description="eta, or eta * n with scale_lr_by_width")
    scale_lr_by_width: bool = Field(
        True, description="eta = lr / n, as the infinite-width limit needs"
    )
    schedule: ScheduleName = Field(
        "constant", description="how the step size changes over the epochs of a layer"
    )
    weight_decay: float = Field(
        0.0, ge=0, le=1e3, description="lambda of the penalty lambda / 2 ||W||^2 on the weights"
    )

    @property
    def has_state(self) -> bool:
        """Whether a step depends on earlier ones by more than the weights."""
        return bool(self.slots or self.counters)

    def eta(self, width: int, epoch: int = 1, epochs: int = 1) -> float:
        """Return the step size of a layer in an epoch.

        **Arguments:**

        - `width`: n.
        - `epoch`: the epoch; 0 counts as 1.
        - `epochs`: how many epochs the layer learns.

        **Returns:**

        eta.
        """
        base = self.lr / width if self.scale_lr_by_width else self.lr
        return base * SCHEDULES[self.schedule].factor(max(epoch, 1), epochs)

    def new_state(self, weight: Tensor) -> State:
        """Return the state of a layer before its first step.

        **Arguments:**

        - `weight`: W (R, n, m).

        **Returns:**

        Zeros: (R, n, m) for each slot, () float32 for each counter.
        """
        state = {slot: weight.new_zeros(weight.shape) for slot in self.slots}
        return state | {counter: weight.new_zeros(()).float() for counter in self.counters}

    @property
    def persistence(self) -> float:
        """The share of a descent that the next step takes again."""
        return 0.0

    @abstractmethod
    def direction(self, weight: Tensor, descent: Tensor, state: State) -> Tensor:
        """Compute the direction of the next step.

        **Arguments:**

        - `weight`: W (R, n, m).
        - `descent`: -dL/dW (R, n, m), in memory that may be overwritten.
        - `state`: the optimiser's tensors; they are updated in place.

        **Returns:**

        D (R, n, m).
        """

    def preview(self, weight: Tensor, descent: Tensor, state: State) -> Tensor:
        """Compute the direction of the next step; nothing changes.

        **Arguments:**

        - `weight`: W (R, n, m).
        - `descent`: -dL/dW (R, n, m).
        - `state`: the optimiser's tensors.

        **Returns:**

        D (R, n, m).
        """
        return self.direction(
            weight, descent.clone(), {name: value.clone() for name, value in state.items()}
        )

    def decayed(self, weight: Tensor, descent: Tensor) -> Tensor:
        """Add the descent of the penalty on the weights, in place.

        **Arguments:**

        - `weight`: W (R, n, m).
        - `descent`: -dL/dW (R, n, m).

        **Returns:**

        `descent`.
        """
        return descent.sub_(weight, alpha=self.weight_decay) if self.weight_decay else descent


class Sgd(Optimizer):
    """Plain gradient descent: D is the gradient's descent."""

    linear: ClassVar[bool] = True

    name: Literal["sgd"] = "sgd"

    def direction(self, weight: Tensor, descent: Tensor, state: State) -> Tensor:
        return self.decayed(weight, descent)


class Momentum(Optimizer):
    """Heavy-ball momentum: D is a decaying sum of the descents so far (Polyak 1964)."""

    slots: ClassVar[tuple[str, ...]] = ("velocity",)
    linear: ClassVar[bool] = True

    name: Literal["momentum"] = "momentum"
    momentum: float = Field(
        0.9, ge=0, lt=1, description="share of the velocity kept from step to step"
    )

    @property
    def persistence(self) -> float:
        return self.momentum

    def direction(self, weight: Tensor, descent: Tensor, state: State) -> Tensor:
        return state["velocity"].mul_(self.momentum).add_(self.decayed(weight, descent))


class Nesterov(Optimizer):
    """Momentum that looks one step ahead (Nesterov 1983, in the form of Sutskever et al. 2013)."""

    slots: ClassVar[tuple[str, ...]] = ("velocity",)
    linear: ClassVar[bool] = True

    name: Literal["nesterov"] = "nesterov"
    momentum: float = Field(
        0.9, gt=0, lt=1, description="share of the velocity kept from step to step"
    )

    @property
    def persistence(self) -> float:
        return self.momentum

    def direction(self, weight: Tensor, descent: Tensor, state: State) -> Tensor:
        descent = self.decayed(weight, descent)
        velocity = state["velocity"].mul_(self.momentum).add_(descent)
        return descent.add_(velocity, alpha=self.momentum)


class Adam(Optimizer):
    """Adam: descents divided by their running root mean square (Kingma & Ba 2015, arXiv
    1412.6980).
    """

    slots: ClassVar[tuple[str, ...]] = ("mean", "square")
    counters: ClassVar[tuple[str, ...]] = ("steps",)

    name: Literal["adam"] = "adam"
    lr: float = Field(1e-3, gt=0, le=1e9, description="eta, or eta * n with scale_lr_by_width")
    scale_lr_by_width: bool = Field(False, description="eta = lr / n")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the running mean of the gradient")
    beta2: float = Field(0.999, ge=0, lt=1, description="decay of the running mean of its square")
    epsilon: float = Field(1e-8, gt=0, le=1, description="added to the root mean square")

    def direction(self, weight: Tensor, descent: Tensor, state: State) -> Tensor:
        return self.adapted(self.decayed(weight, descent), state)

    def adapted(self, descent: Tensor, state: State) -> Tensor:
        """Divide the running mean by the running root mean square.

        Both are corrected for their start at zero.

        **Arguments:**

        - `descent`: (R, n, m).
        - `state`: mean, square and steps; they are updated in place.

        **Returns:**

        D (R, n, m).
        """
        steps = state["steps"].add_(1).double()
        first, second = self.beta1**steps, self.beta2**steps
        mean = state["mean"].lerp_(descent, 1 - self.beta1)
        square = state["square"].mul_(self.beta2).addcmul_(descent, descent, value=1 - self.beta2)
        correction = (1 - first) / (1 - second).sqrt()
        root = (
            square.sqrt()
            .add_((self.epsilon * (1 - second).sqrt()).to(square.dtype))
            .mul_(correction.to(square.dtype))
        )
        return mean / root


class AdamW(Adam):
    """Adam with the weight decay taken from the weights themselves, not through the gradient (arXiv
    1711.05101).
    """

    name: Literal["adamw"] = "adamw"  # type: ignore[assignment]
    weight_decay: float = Field(
        1e-2, ge=0, le=1e3, description="share of the weights, times eta, that each step removes"
    )

    def direction(self, weight: Tensor, descent: Tensor, state: State) -> Tensor:
        return self.adapted(descent, state).sub_(weight, alpha=self.weight_decay)


AnyOptimizer = Annotated[
    Sgd | Momentum | Nesterov | Adam | AdamW,
    Field(discriminator="name"),
    OpenUnion("optimizers", (Optimizer,), "name"),
    default_choice("name", "sgd"),
]
