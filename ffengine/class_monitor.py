"""What is measured while layers learn classes: the rows of a layer, along the step of training.

All samples are positives. What needs a goodness or negatives is null: theorem 1, the step on
G(negative) - G(positive), goodness and its weights. Theorem 2's condition is along the step that
training takes, whatever that goes down, and so it is measured as of every other objective.

Legend: R replicas, B samples of a batch, n width.
"""

from collections.abc import Iterator
from functools import cache, partial

from torch import Tensor

from ffengine.class_updates import ClassLearner
from ffengine.deep import InputMotion, layer_motion
from ffengine.flow import flow_times
from ffengine.layer_updates import LayerLearner
from ffengine.margins import near_zero
from ffengine.monitor import Tally, along, facts_of, layer_sums, weights_measured
from ffengine.network import Network
from ffengine.pairs import LabelledBatch
from ffengine.products import product
from ffengine.random_streams import Draws
from ffengine.readings import ReadingsTally, Step
from ffengine.results import EpochRow
from ffengine.samples import Samples
from ffengine.spec import TrainSpec
from ffengine.unit_directions import unit_directions


class ClassMonitor:
    """Measures layers on the same samples at every call, as `ffengine.monitor.Monitor` does.

    **Arguments:**

    - `spec`: samples, objective, and what is measured.
    - `train`: the training partition.
    - `draws`: the randomness of the run.
    """

    def __init__(self, spec: TrainSpec, train: Samples, draws: Draws) -> None:
        self.spec, self.train, self.draws = spec, train, draws
        self._flow_times = cache(partial(flow_times, spec, len(train)))  # by layer

    def rows(self, learner: LayerLearner, layers: tuple[int, ...], epoch: int) -> list[EpochRow]:
        """Measure the layers that learn.

        **Arguments:**

        - `learner`: the network and its optimisers; nothing in it changes.
        - `layers`: the layers that learn together, in increasing order.
        - `epoch`: the epoch that has ended; 0 is the initialisation.

        **Returns:**

        A row for each layer and seed; their acts are not named.

        **Raises:**

        - `Diverged`: a figure is not finite.
        """
        assert isinstance(learner, ClassLearner)  # noqa: S101 - narrows the type
        rows: list[EpochRow] = []
        below: list[InputMotion] | None = None
        for layer in layers:
            measured, below = self._rows_of_layer(learner, layer, layers, epoch, below)
            rows += measured
        return rows

    def _rows_of_layer(
        self,
        learner: ClassLearner,
        layer: int,
        layers: tuple[int, ...],
        epoch: int,
        below: list[InputMotion] | None,
    ) -> tuple[list[EpochRow], list[InputMotion]]:
        """Return the rows of a layer, and how the inputs of the layer above move, by batch."""
        network, spec = learner.network, self.spec
        weight = network.weights[layer]
        tally = Tally(
            len(spec.seeds),
            weight,
            network.activation,
            spec.monitor.theorems,
            ("positive",),
            positions=network.positions(layer),
        )
        readings = None
        if "readings" in spec.monitor.measures:
            readings = ReadingsTally(network, layer, spec.monitor.theorems)
        moving = list[InputMotion]()
        for number, batch in enumerate(self._batches(network, layer)):
            inputs = below[number] if below else None
            joint = len(layers) > 1 and not spec.network.layers
            motion = self._measure(learner, layer, batch, inputs, epoch, tally, joint, readings)
            if motion is not None:
                moving.append(motion.among_fixed(0, network.spec.bias))
        spectral = "spectral_norm" in spec.monitor.measures
        sparse = weights_measured(spec, weight)
        tau = self._flow_times(layer)[epoch]
        facts = facts_of(spec, network, layer, epoch, learner.eta(layer, epoch), tau)
        rows = [
            tally.row(
                replica,
                seed,
                "positive",
                facts,
                unit_directions(weight[replica], spectral=spectral),
                sparse[replica],
            ).model_copy(update=readings.columns(replica) if readings else {})
            for replica, seed in enumerate(spec.seeds)
        ]
        return rows, moving

    def _measure(
        self,
        learner: ClassLearner,
        layer: int,
        batch: LabelledBatch,
        below: InputMotion | None,
        epoch: int,
        tally: Tally,
        joint: bool,
        readings: ReadingsTally | None,
    ) -> InputMotion | None:
        """Add a batch to the tally.

        Returns how the inputs of the layer above move, where layers learn together.
        """
        network, objective = learner.network, learner.objective
        weight, eta = network.weights[layer], learner.eta(layer, epoch)
        z = network.times(layer, batch.x, product)
        h, lengths = network.activation.value(z), batch.lengths()
        losses = objective.losses(self._logits(learner, layer, h), batch.labels)
        tally.add_state(lengths, h, None, None, losses, None, self.spec.monitor.measures)
        seen, by_position = network.seen_lengths(layer, batch.x), network.by_position(layer, z)
        on_kink = near_zero(by_position, seen, weight.norm(dim=-1))
        tally.add_near_zero(on_kink.unflatten(1, (z.shape[1], -1)).sum(-1))
        step = learner.preview(layer, batch, z)
        zdot = network.moved(layer, batch.x, step.direction, product)
        motion = (
            layer_motion(
                weight,
                step.direction,
                eta,
                z,
                zdot,
                below,
                network.activation,
                network.spec.normalize,
                network.least_scale(layer),
            )
            if joint
            else None
        )
        if readings is not None:
            readings.add(batch.x, z, h, Step(zdot, step.cancellation))
        sums = layer_sums(network, z, h, zdot, eta, step.cancellation)
        tally.add_sums("step", sums)
        if motion is not None and below is not None:
            tally.add_sums("total", along(sums, network, z, h, motion.zdot, step.cancellation))
            tally.add_joint(motion.sparsity_change, motion.dead_after)
        return motion.above if motion is not None else None

    def _logits(self, learner: ClassLearner, layer: int, h: Tensor) -> Tensor:
        """Return the logits (R, B, C) of activations of a layer."""
        heads = learner.network.heads
        head = heads[layer] if heads else None
        return learner.objective.logits(h, learner.classes, head, product)

    def _batches(self, network: Network, layer: int) -> Iterator[LabelledBatch]:
        """Yield the monitored samples as the layer receives them, in training-size batches."""
        chosen = self.draws.at("monitor").permutation(len(self.train))
        for index in chosen[:, : self.spec.monitor.samples].split(self.spec.batch_size, dim=1):
            x = network.layer_input(layer, self.train.plain[index])
            yield LabelledBatch(x, self.train.labels[index])
