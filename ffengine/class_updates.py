"""How a layer learns labels from its own activations: cross-entropy over classes, step by step.

Legend: R replicas, B samples, m inputs, n width, C classes. x (R, B, m); z = x W^T, h = sigma(z),
and -dL/dW = (-dL/dh sigma'(z))^T x; a convolution is the same at each position of a map, and its
network has both products. Where the objective has class vectors, head (R, C, n), they
take a step of the same optimiser from the same batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ffengine.layer_updates import LayerLearner, Preview, parts_over_whole, take_step
from ffengine.network import Network
from ffengine.objectives import ClassPull, MultiClass
from ffengine.optimizers import AnyOptimizer, State
from ffengine.pairs import AnyBatch, LabelledBatch
from ffengine.products import product
from ffengine.random_streams import Draws
from ffengine.results import Split
from ffengine.spec import PhasesSpec

OF_HEAD = "head_"  # prefix of the optimiser's tensors of class vectors, among those of a layer


class ClassLearner(LayerLearner):
    """A learner whose layers each learn the classes of the samples.

    **Arguments:**

    - `network`: its weights and class vectors are changed in place.
    - `objective`: what each layer minimises.
    - `optimizer`: how the gradient becomes a step.
    - `classes`: C.
    - `epochs`: how many epochs each layer learns; schedules need it.
    - `precision`: of the products of training, "float32", "tf32" or "bf16".
    - `states`: the optimiser's tensors of each layer; None makes new ones.
    """

    def __init__(
        self,
        network: Network,
        objective: MultiClass,
        optimizer: AnyOptimizer,
        *,
        classes: int,
        epochs: int,
        precision: str = "float32",
        states: list[State] | None = None,
    ) -> None:
        super().__init__(
            network, optimizer, epochs=epochs, precision=precision, phases=PhasesSpec()
        )
        self.objective: MultiClass = objective
        self.classes = classes
        self.states = (
            states
            if states is not None
            else [self._new_state(layer) for layer in range(len(network.weights))]
        )

    def copy(self) -> "ClassLearner":
        return ClassLearner(
            self.network.copy(),
            self.objective,
            self.optimizer,
            classes=self.classes,
            epochs=self.epochs,
            precision=self.precision,
            states=[
                {name: value.clone() for name, value in state.items()} for state in self.states
            ],
        )

    def step(
        self, layers: tuple[int, ...], inputs: AnyBatch, epoch: int, split: Split | None = None
    ) -> None:
        assert isinstance(inputs, LabelledBatch)  # noqa: S101 - narrows the type
        network, rate = self.network, self.rate
        for layer in layers:
            z = network.times(layer, inputs.x, self.product)
            h = network.activation.value(z)
            pull = self._pull(layer, h, inputs.labels)
            of_z = pull.activations.mul_(network.activation.slope(z))
            descent = network.gathered(layer, of_z, inputs.x, self.product)
            if layer != layers[-1]:
                above = LabelledBatch(network.next_input(layer, h), inputs.labels)
            else:
                above = inputs
            own, of_head = self._states_of(layer)
            take_step(self.optimizer, network.weights[layer], descent, own, rate(layer, epoch))
            if pull.head is not None:
                head = network.heads[layer]
                take_step(self.optimizer, head, pull.head, of_head, rate(layer, epoch))
                self.objective.constrain(head)
            inputs = above

    def preview(self, layer: int, inputs: LabelledBatch, z: Tensor) -> Preview:
        """Compute the step that the weights of a layer would take next; nothing changes.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `inputs`: the batch as the layer receives it.
        - `z`: its pre-activations (R, B, n).

        **Returns:**

        The step, and how much cancels in its gradient.
        """
        network = self.network
        own, _ = self._states_of(layer)
        state = {name: value.clone() for name, value in own.items()}
        h = network.activation.value(z)
        pull = self._pull(layer, h, inputs.labels, exact=True).activations
        pull = pull.mul_(network.activation.slope(z))
        descent = network.gathered(layer, pull, inputs.x, product)
        pulls = torch.linalg.vector_norm(network.by_position(layer, pull), dim=-1)
        parts = (pulls * network.seen_lengths(layer, inputs.x)).sum(-1).double()
        cancellation = parts_over_whole(parts, descent)
        return Preview(
            self.optimizer.direction(network.weights[layer], descent, state), cancellation
        )

    def _pull(self, layer: int, h: Tensor, labels: Tensor, *, exact: bool = False) -> ClassPull:
        """Return where the loss of a layer goes down; `exact`: in float32."""
        times = product if exact else self.product
        head = self.network.heads[layer] if self.network.heads else None
        return self.objective.pull(h, labels, self.classes, head, times)

    def _new_state(self, layer: int) -> State:
        """Return the state of a layer before its first step."""
        state = self.optimizer.new_state(self.network.weights[layer])
        if self.network.heads:
            of_head = self.optimizer.new_state(self.network.heads[layer])
            state |= {f"{OF_HEAD}{name}": value for name, value in of_head.items()}
        return state

    def _states_of(self, layer: int) -> tuple[State, State]:
        """Return the optimiser's tensors of the weights of a layer, and of its class vectors."""
        state = self.states[layer]
        of_head = {
            name.removeprefix(OF_HEAD): value
            for name, value in state.items()
            if name.startswith(OF_HEAD)
        }
        own = {name: value for name, value in state.items() if not name.startswith(OF_HEAD)}
        return own, of_head


def new_heads(
    objective: MultiClass, widths: Sequence[int], classes: int, draws: Draws, device: torch.device
) -> list[Tensor]:
    """Draw the class vectors of every layer; each layer and seed has a random stream of its own.

    **Arguments:**

    - `objective`: what each layer minimises.
    - `widths`: n of each layer.
    - `classes`: C.
    - `draws`: the randomness of the run.
    - `device`: where they are put.

    **Returns:**

    (R, C, n) float32 of each layer; none where the objective has no class vectors.
    """
    found = [
        objective.new_head(draws.at("class-vectors", layer), len(draws.seeds), width, classes)
        for layer, width in enumerate(widths)
    ]
    return [head.to(device).contiguous() for head in found if head is not None]


def class_logits(network: Network, objective: MultiClass, x: Tensor, classes: int) -> Tensor:
    """Compute the logit of each class in every layer, in one pass.

    **Arguments:**

    - `network`: the network, with class vectors where the objective has some.
    - `objective`: what each layer minimises.
    - `x`: (R, B, m) samples.
    - `classes`: C.

    **Returns:**

    (R, L, B, C) of L layers.
    """
    if x.shape[1] > network.most_samples:
        pieces = x.split(network.most_samples, dim=1)
        return torch.cat([class_logits(network, objective, x, classes) for x in pieces], dim=2)
    heads: Sequence[Tensor | None] = network.heads or [None] * len(network.weights)
    by_layer = [
        objective.logits(h, classes, head, product)
        for h, head in zip(network.activations(x), heads, strict=False)
    ]
    return torch.stack(by_layer, dim=1)
