"""How a layer learns from a batch: the gradient in closed form, then the optimiser's step.

Legend: R replicas, B pairs, m inputs, n width. x (R, 2B, m), positives first; z = x W^T, h =
sigma(z), g goodness, s = dL/dG. Then -dL/dW = -(s dg/dh sigma'(z))^T x: a step takes two products,
z and this one. There is no autograd.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from ffengine.network import Network
from ffengine.objectives import Difference, LayerObjective, Objective
from ffengine.optimizers import Adam, AdamW, AnyOptimizer, Momentum, Nesterov, Sgd, State
from ffengine.pairs import AnyBatch, AnyPairs, LabelledBatch, Pairs, half
from ffengine.products import product
from ffengine.results import Split
from ffengine.scaling import (
    by_replica,
    is_in_range,
    power_of_two,
    shifts,
    steps_between_looks,
)
from ffengine.spec import PhasesSpec

STEP_PAIRS = 1000  # of a larger batch so many go through a layer at a time, in the caches
BOTH_SIDES = PhasesSpec()
STATISTICS = "goodness"  # the name of the goodness's statistics among the tensors of a layer
EITHER: tuple[Split | None, ...] = (None, "positive", "negative")
OF_NEGATIVES = "negative_"  # before the names of what negative phases have to themselves
FIRST_ACTIVITY = 0.5  # start of peer normalisation's running mean activity (Löwe 2023)


class Preview(NamedTuple):
    """A step that has not been taken.

    **Attributes:**

    - `direction`: D (R, n, m).
    - `cancellation`: (R,) float64, how much longer the samples' parts of the gradient are together
      than their sum.
    """

    direction: Tensor
    cancellation: Tensor


class LayerLearner(ABC):
    """The layers of a network with the state of their optimisers.

    **Arguments:**

    - `network`: its weights are changed in place.
    - `optimizer`: how the gradient becomes a step.
    - `epochs`: how many epochs each layer learns; schedules need it.
    - `precision`: of the products of training, "float32", "tf32" or "bf16".
    - `phases`: how fast steps on one split learn.
    """

    objective: LayerObjective
    states: list[State]

    def __init__(
        self,
        network: Network,
        optimizer: AnyOptimizer,
        *,
        epochs: int,
        precision: str,
        phases: PhasesSpec,
    ) -> None:
        self.network, self.optimizer = network, optimizer
        self.epochs, self.precision, self.phases = epochs, precision, phases
        self._held: dict[tuple[int, Split | None], Tensor] = {}  # step sizes, () float32

    @abstractmethod
    def copy(self) -> "LayerLearner":
        """Return a learner with weights and states of its own, equal to these."""

    @abstractmethod
    def step(
        self, layers: tuple[int, ...], inputs: AnyBatch, epoch: int, split: Split | None = None
    ) -> None:
        """Take one step in every layer that learns, in place.

        A layer above another that learns in the same step receives what that layer made of the
        batch before its own step.

        **Arguments:**

        - `layers`: the layers that learn together, in increasing order.
        - `inputs`: the batch as the lowest of them receives it.
        - `epoch`: the epoch, from 1.
        - `split`: of which all samples of the batch are; None: positives and negatives, or samples
          without a split.
        """

    def is_homogeneous(self, layer: int) -> bool:
        """Whether a layer's step is c times as large if its weights and state are, for every c > 0.

        What its goodness and that of the layers above depend on must not change with c: so the
        layer above normalises its input, or there is none.

        **Arguments:**

        - `layer`: the layer, from 0.
        """
        return False

    def rescale(self, layers: tuple[int, ...]) -> None:
        """Bring the weights of homogeneous layers into range by a power of two, and keep it.

        On a GPU nothing waits for the device.

        **Arguments:**

        - `layers`: the layers that learn.
        """
        for layer in filter(self.is_homogeneous, layers):
            weight = self.network.weights[layer]
            if weight.device.type == "cpu" and is_in_range(weight):
                continue
            shift = shifts(weight)
            factor = power_of_two(-shift)
            for tensor in (weight, *self.states[layer].values()):
                tensor.mul_(by_replica(factor, tensor))
            self.network.exponents[layer] += shift

    def steps_between_looks(self, layers: tuple[int, ...], inputs: AnyBatch, epoch: int) -> int:
        """Return after how many steps at the latest `rescale` is to be called.

        **Arguments:**

        - `layers`: the layers that learn together.
        - `inputs`: a batch as the lowest of them receives it.
        - `epoch`: the epoch, from 1.

        **Returns:**

        The number of steps, at least 1.
        """
        optimizer, spec, count = self.optimizer, self.network.spec, self.network.label_inputs
        energies = {layers[0]: float(inputs.lengths().max()) ** 2}
        label = 0.0
        if count and not isinstance(inputs, LabelledBatch):
            label = float(torch.linalg.vector_norm(inputs.first(count), dim=-1).max()) ** 2
        for layer in layers[1:]:
            length = {"l2": 1, "halves": 2}.get(spec.normalize, spec.widths[layer - 1])
            gain = self.network.label_gain(layer) / self.network.label_gain(layers[0])
            energies[layer] = length + spec.bias + label * gain**2
        return min(
            steps_between_looks(
                self.eta(layer, epoch) * self.phases.largest_rate,
                energy,
                optimizer.persistence,
                optimizer.weight_decay,
            )
            for layer, energy in energies.items()
        )

    def eta(self, layer: int, epoch: int, split: Split | None = None) -> float:
        """Return the step size of a layer in an epoch.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `epoch`: the epoch; 0 counts as 1.
        - `split`: from which the step learns; None: from both.

        **Returns:**

        eta.
        """
        width = self.network.spec.widths[layer]
        return self.optimizer.eta(width, epoch, self.epochs) * self.phases.rate(split)

    def hold_rates(self, layers: tuple[int, ...], epoch: int) -> None:
        """Keep the step sizes of an epoch on the device, in tensors that later epochs change.

        A step that is captured reads them at each replay, so that one graph serves all epochs.

        **Arguments:**

        - `layers`: the layers that learn together.
        - `epoch`: the epoch, from 1.
        """
        for layer in layers:
            weight = self.network.weights[layer]
            for split in EITHER:
                held = self._held.setdefault((layer, split), weight.new_zeros(()).float())
                held.fill_(self.eta(layer, epoch, split))  # a kernel; nothing waits for it

    def rate(self, layer: int, epoch: int, split: Split | None = None) -> float | Tensor:
        """Return the step size that a step takes: eta, or the tensor that holds it.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `epoch`: the epoch, from 1; of a tensor the one of the last `hold_rates`.
        - `split`: from which the step learns; None: from both.
        """
        held = self._held.get((layer, split))
        return self.eta(layer, epoch, split) if held is None else held

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply batched matrices in the precision of training.

        **Arguments:**

        - `a`: (R, i, j) float32.
        - `b`: (R, j, k) float32.

        **Returns:**

        (R, i, k) float32.
        """
        if self.precision == "bf16":
            a, b = a.bfloat16(), b.bfloat16()
            if a.device.type == "cuda":  # sums leave the product as they are, in float32
                return torch.bmm(a, b, out_dtype=torch.float32)
            return torch.bmm(a, b).to(torch.float32)
        return product(a, b)


class Learner(LayerLearner):
    """A learner whose layers compare positives with negatives.

    **Arguments:**

    - `network`: its weights are changed in place.
    - `objective`: what each layer minimises.
    - `optimizer`: how the gradient becomes a step.
    - `epochs`: how many epochs each layer learns; schedules need it.
    - `precision`: of the products of training, "float32", "tf32" or "bf16".
    - `phases`: how fast steps on one split learn.
    - `states`: the optimiser's tensors of each layer; None makes new ones.
    """

    def __init__(
        self,
        network: Network,
        objective: Objective,
        optimizer: AnyOptimizer,
        *,
        epochs: int,
        precision: str = "float32",
        phases: PhasesSpec = BOTH_SIDES,
        states: list[State] | None = None,
    ) -> None:
        super().__init__(network, optimizer, epochs=epochs, precision=precision, phases=phases)
        self.objective: Objective = objective
        self.states = (
            states
            if states is not None
            else [self._new_state(weight) for weight in network.weights]
        )
        # the same memory: steps change it in place
        network.statistics = [state.get(STATISTICS) for state in self.states]

    def copy(self) -> "Learner":
        return Learner(
            self.network.copy(),
            self.objective,
            self.optimizer,
            epochs=self.epochs,
            precision=self.precision,
            phases=self.phases,
            states=[
                {name: value.clone() for name, value in state.items()} for state in self.states
            ],
        )

    def step(
        self, layers: tuple[int, ...], inputs: AnyBatch, epoch: int, split: Split | None = None
    ) -> None:
        assert not isinstance(inputs, LabelledBatch)  # noqa: S101 - narrows the type
        if self.objective.collaborates:
            self._step_together(layers, inputs, epoch, split)
            return
        for layer in layers:
            last = layer == layers[-1]
            in_pieces = last and split is None and not self._needs_whole_batch
            descent, above = (
                (self._descent_in_pieces(layer, inputs), inputs)
                if in_pieces
                else self._descent(layer, inputs, split, hands_on=not last)
            )
            take_step(
                self.optimizer,
                self.network.weights[layer],
                descent,
                state_of(split, self.states[layer], self.phases),
                self.rate(layer, epoch, split),
            )
            inputs = above

    def _step_together(
        self, layers: tuple[int, ...], inputs: AnyPairs, epoch: int, split: Split | None
    ) -> None:
        """Take the step of layers whose losses depend on each other's goodness before it."""
        network, passes = self.network, list[tuple[AnyPairs, Tensor, Tensor]]()
        goodness: list[Tensor] = []
        for layer in layers:
            z = inputs.times(network.weights[layer], self.product)
            h = network.activation.value(z)
            passes.append((inputs, z, h))
            goodness.append(network.goodness(layer, self.objective.layer_goodness).value(h))
            if layer != layers[-1]:
                inputs = Pairs(self._next_input(layer, h, inputs))
        for place, (layer, (received, z, h)) in enumerate(zip(layers, passes, strict=True)):
            inherited = self.objective.inherited(goodness, place)
            pull = self.pull(z, h, self.states[layer], split, inherited=inherited)
            take_step(
                self.optimizer,
                network.weights[layer],
                received.gathered(pull, self.product),
                state_of(split, self.states[layer], self.phases),
                self.rate(layer, epoch, split),
            )

    def _descent_in_pieces(self, layer: int, inputs: AnyPairs) -> Tensor:
        """Return -dL/dW (R, n, m) of a batch whose pairs have nothing to do with each other."""
        total: Tensor | None = None
        for piece in inputs.pieces(STEP_PAIRS):
            part, _ = self._descent(layer, piece, share=piece.batch_size / inputs.batch_size)
            total = part if total is None else total.add_(part)
        assert total is not None  # noqa: S101 - a batch has pairs
        return total

    def _descent(
        self,
        layer: int,
        inputs: AnyPairs,
        split: Split | None = None,
        *,
        share: float = 1.0,
        hands_on: bool = False,
    ) -> tuple[Tensor, AnyPairs]:
        """Return -dL/dW (R, n, m) of a share of the batch, and what the layer hands on of it.

        The latter is the input itself where nothing is handed on.
        """
        network = self.network
        z = inputs.times(network.weights[layer], self.product)
        h = network.activation.value_(z) if self._slope_is_implied else network.activation.value(z)
        above = Pairs(self._next_input(layer, h, inputs)) if hands_on else inputs
        pull = self.pull(z, h, self.states[layer], split, share)
        return inputs.gathered(pull, self.product), above

    def preview(
        self,
        layer: int,
        inputs: AnyPairs,
        z: Tensor,
        split: Split | None = None,
        inherited: Tensor | None = None,
    ) -> Preview:
        """Compute the step that a layer would take next; nothing changes.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `inputs`: the batch as the layer receives it.
        - `z`: its pre-activations (R, 2B, n).
        - `split`: from which the step learns; None: from both.
        - `inherited`: (R, 2B), what the goodness of other layers adds to its own; None: nothing.

        **Returns:**

        The step, and how much cancels in its gradient.
        """
        state = {name: value.clone() for name, value in self.states[layer].items()}
        if split is not None:
            one = half(split, z.shape[1])
            inputs, z = inputs.only(split), z[:, one]
            inherited = None if inherited is None else inherited[:, one]
        pull = self.pull(z, self.network.activation.value(z), state, split, inherited=inherited)
        descent = inputs.gathered(pull, product)
        parts = (torch.linalg.vector_norm(pull, dim=-1) * inputs.lengths()).sum(-1).double()
        cancellation = parts_over_whole(parts, descent)
        state = state_of(split, state, self.phases)
        return Preview(
            self.optimizer.direction(self.network.weights[layer], descent, state), cancellation
        )

    def is_homogeneous(self, layer: int) -> bool:
        spec = self.network.spec
        return (
            self.objective.linear
            and self.objective.goodness.quadratic
            and not self.objective.goodness.has_statistics
            and self.network.activation.homogeneous
            and self.optimizer.linear
            and (layer == len(spec.widths) - 1 or spec.normalize != "none")
        )

    @property
    def steps_on_difference(self) -> bool:
        """Whether every step is one on G(negative) - G(positive)."""
        return (
            isinstance(self.objective, Difference)
            and isinstance(self.optimizer, Sgd)
            and not self.optimizer.weight_decay
            and not self.objective.peer_normalization
            and not self.network.spec.pass_dead_units
        )

    def pull(
        self,
        z: Tensor,
        h: Tensor,
        state: State,
        split: Split | None = None,
        share: float = 1.0,
        inherited: Tensor | None = None,
    ) -> Tensor:
        """Compute -dL/dz of a batch.

        **Arguments:**

        - `z`: (R, 2B, n) pre-activations, positives first.
        - `h`: (R, 2B, n) activations, in memory that is overwritten; it may be z.
        - `state`: the optimiser's tensors of the layer; the running activity of peer normalisation
          is updated in it from the positives, and the statistics of the goodness from all samples.
        - `split`: of which all samples of the batch are; None: B positives, then B negatives.
        - `share`: of the batch's pairs, over which the loss is the mean; these are so many.
        - `inherited`: (R, 2B), what the goodness of other layers adds to G, which no gradient goes
          through; None: nothing.

        **Returns:**

        -dL/dz (R, 2B, n).
        """
        objective, activation = self.objective, self.network.activation
        statistics = state.get(STATISTICS)
        goodness, g, saved = objective.layer_goodness.learning(statistics, h)
        positives = {None: z.shape[1] // 2, "positive": z.shape[1], "negative": 0}[split]
        above = objective.above(g, positives, h.shape[-1])
        if inherited is not None:
            above += inherited
        s = (
            objective.coefficients(above, positives)
            if split is None
            else objective.coefficients_of(split, above)
        )
        peers = (
            self._peer_slope(h[:, :positives], state)
            if objective.peer_normalization and positives
            else None
        )
        slope = None if self._slope_is_implied else activation.slope(z)
        pull = goodness.pull(h, g, s.mul_(-share), saved)
        if peers is not None:
            pull[:, :positives] -= peers
        if slope is not None:
            pull *= slope
        return pull

    @property
    def _needs_whole_batch(self) -> bool:
        """Whether a running figure takes in what a layer makes of a batch."""
        return bool(self.objective.peer_normalization) or self.objective.goodness.has_statistics

    @property
    def _slope_is_implied(self) -> bool:
        """Whether the slope of sigma needs no factor of its own.

        That is so where a unit has no pull unless it is active, and an active unit has slope 1.
        """
        if self.network.spec.pass_dead_units:
            return True
        return (
            self.network.activation.slope_where_active_is_one
            and not self.objective.peer_normalization
        )

    def _next_input(self, layer: int, h: Tensor, inputs: AnyPairs) -> Tensor:
        """Return the input of the layer above, in memory that the pull does not overwrite."""
        count = self.network.label_inputs
        x = self.network.next_input(layer, h, inputs.first(count) if count else None)
        return x.clone() if x is h else x  # the pull overwrites h

    def _peer_slope(self, h: Tensor, state: State) -> Tensor:
        """Return the slope (R, 1, n) of peer normalisation in each positive's h.

        The penalty is weight * mean_j (mean(r) - r_j)^2, r being the running mean activity.
        """
        objective = self.objective
        fresh = 1 - objective.peer_momentum
        activity = state["activity"].lerp_(h.mean(1), fresh)
        excess = activity - activity.mean(-1, keepdim=True)
        slope: Tensor = excess.mul_(
            objective.peer_normalization * 2 / h.shape[-1] * fresh / h.shape[1]
        ).unsqueeze(1)
        return slope

    def _new_state(self, weight: Tensor) -> State:
        """Return the state of a layer before its first step."""
        state = new_state(self.optimizer, weight, self.phases)
        if self.objective.peer_normalization:
            state["activity"] = weight.new_full(weight.shape[:2], FIRST_ACTIVITY)
        if self.objective.goodness.has_statistics:
            state[STATISTICS] = self.objective.goodness.new_statistics(weight)
        return state


def new_state(optimizer: AnyOptimizer, weight: Tensor, phases: PhasesSpec) -> State:
    """Return an optimiser's tensors before the first step, twice where phases have their own.

    **Arguments:**

    - `optimizer`: whose they are.
    - `weight`: W (R, n, m).
    - `phases`: whether negative phases have theirs.

    **Returns:**

    The tensors by name.
    """
    state = optimizer.new_state(weight)
    if not phases.own_states:
        return state
    return state | {OF_NEGATIVES + name: value.clone() for name, value in state.items()}


def state_of(split: Split | None, state: State, phases: PhasesSpec) -> State:
    """Return the tensors that the optimiser goes by in a step, in their memory.

    **Arguments:**

    - `split`: from which the step learns; None: from both.
    - `state`: all tensors of a layer.
    - `phases`: whether negative phases have theirs.

    **Returns:**

    Tensors under the optimiser's own names.
    """
    if split != "negative" or not phases.own_states:
        return state
    return {
        name.removeprefix(OF_NEGATIVES): value
        for name, value in state.items()
        if name.startswith(OF_NEGATIVES)
    }


def parts_over_whole(parts: Tensor, descent: Tensor) -> Tensor:
    """Compute how much longer the samples' parts of a gradient are together than their sum.

    **Arguments:**

    - `parts`: (R,) float64, the sum of the parts' lengths.
    - `descent`: their sum (R, n, m).

    **Returns:**

    (R,) float64; 1 where the sum is zero.
    """
    whole = torch.linalg.vector_norm(descent.flatten(1), dim=1).double()
    return torch.where(whole > 0, parts / whole, 1.0)


def take_step(
    optimizer: AnyOptimizer, weight: Tensor, descent: Tensor, state: State, eta: float | Tensor
) -> None:
    """Take the optimiser's step, W <- W + eta D, in one pass where torch has such a form.

    Weights and state change in place, and `descent` may be overwritten. torch goes down the
    gradient that it is given; a descent is the way down already, hence the signs.

    **Arguments:**

    - `optimizer`: how the descent becomes D.
    - `weight`: W (R, n, m), contiguous.
    - `descent`: -dL/dW (R, n, m).
    - `state`: the optimiser's tensors.
    - `eta`: the step size; () float32 on the device of the weights, or a number.

    **Raises:**

    - `ValueError`: `weight` is not contiguous.
    """
    if not weight.is_contiguous():
        raise ValueError(
            f"weight: a fused step goes through memory, not through strides {weight.stride()}; "
            f"make it contiguous"
        )
    if isinstance(optimizer, Adam):
        _adam(optimizer, weight, descent, state, eta)
    elif not isinstance(optimizer, Momentum | Nesterov):  # sgd, and what a plug-in brings
        direction = optimizer.direction(weight, descent, state)
        if isinstance(eta, Tensor):
            weight.addcmul_(direction, eta)
        else:
            weight.add_(direction, alpha=eta)
    else:
        with torch.no_grad():
            sgd(
                [weight],
                [descent.contiguous()],
                [state["velocity"]],
                fused=True,
                maximize=False,
                lr=-eta,  # type: ignore[arg-type]  # a tensor, too: the kernel reads it
                momentum=optimizer.momentum,
                weight_decay=-optimizer.weight_decay,
                dampening=0.0,
                nesterov=isinstance(optimizer, Nesterov),
            )


def _adam(
    optimizer: Adam, weight: Tensor, descent: Tensor, state: State, eta: float | Tensor
) -> None:
    """Take a step of Adam or AdamW with torch's fused form."""
    if isinstance(optimizer, AdamW):
        weight.mul_(1 - eta * optimizer.weight_decay)
    with torch.no_grad():
        adam(
            [weight],
            [descent.contiguous()],
            [state["mean"]],
            [state["square"]],
            [],
            [state["steps"]],
            fused=True,
            amsgrad=False,
            maximize=False,
            lr=-eta,
            beta1=optimizer.beta1,
            beta2=optimizer.beta2,
            eps=optimizer.epsilon,
            weight_decay=0.0 if isinstance(optimizer, AdamW) else -optimizer.weight_decay,
        )


@contextmanager
def matmul_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Let the products inside round their inputs to TF32 where this is asked for.

    **Arguments:**

    - `precision`: "tf32"; any other changes nothing.
    - `device`: where the products are done.

    **Raises:**

    - `ValueError`: the device has no TF32 unit.
    """
    if precision != "tf32":
        yield
        return
    if device.type != "cuda":
        raise ValueError(f"precision: tf32 needs a GPU, this is {device}; ask for float32 or bf16")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
