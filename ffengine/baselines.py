"""Backpropagation through the same stack, for comparison, by autograd.

Optimiser, batches and epochs are the job's own. So are the learning rates: they suit
Forward-Forward layers, not necessarily these.

Legend: R replicas, B samples, C classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ffengine.evaluation import chunks, named_partitions
from ffengine.layer_updates import take_step
from ffengine.monitor import SPLITS, paired
from ffengine.network import Network, SummedGoodness, normalized
from ffengine.random_streams import Draws
from ffengine.results import BaselineRow, Partition
from ffengine.samples import Partitions, Samples
from ffengine.sparsity import sparsity_and_dead
from ffengine.spec import Baseline, TrainSpec


def baseline(
    name: Baseline,
    spec: TrainSpec,
    partitions: Partitions,
    draws: Draws,
    on_batch: Callable[[], None],
) -> list[BaselineRow]:
    """Train a baseline and measure it on validation and test samples.

    **Arguments:**

    - `name`: which baseline.
    - `spec`: the training run that it is compared with.
    - `partitions`: the samples.
    - `draws`: the randomness of the run.
    - `on_batch`: is called after every batch; it may raise to stop.

    **Returns:**

    One row for each held-out partition, seed and layer.
    """
    model = (CrossEntropy if name == "cross_entropy" else FFObjective)(
        spec, partitions.train, draws
    )
    for epoch in range(1, spec.epochs + 1):
        order = draws.at(f"order-{name}", epoch).permutation(len(partitions.train))
        for batch, index in enumerate(order.split(spec.batch_size, dim=1)):
            model.learn(index, epoch, batch)
            on_batch()
    return [
        row
        for partition, samples in named_partitions(partitions)
        if partition != "train"
        for row in model.rows(name, partition, samples)
    ]


class BackpropStack:
    """A stack whose layers all learn from one loss.

    **Arguments:**

    - `spec`: the training run that it is compared with.
    - `train`: the training partition.
    - `draws`: the randomness of the run.
    - `inputs`: m of the first layer, without the bias input.
    """

    def __init__(self, spec: TrainSpec, train: Samples, draws: Draws, inputs: int) -> None:
        self.spec, self.train, self.draws = spec, train, draws
        self.network = Network.initial(spec.network, inputs, draws, train.labels.device)
        self.parameters = self.network.weights
        self.states = [spec.optimizer.new_state(weight) for weight in self.parameters]

    def loss(self, index: Tensor, epoch: int, batch: int) -> Tensor:
        """Compute the loss of a batch, summed over replicas.

        The sum leaves the weights of the replicas independent of each other.

        **Arguments:**

        - `index`: (R, B) int64, positions in the training partition.
        - `epoch`: the epoch, from 1.
        - `batch`: the batch, from 0.

        **Returns:**

        The loss, a scalar with a gradient.
        """
        raise NotImplementedError

    def inputs(self, samples: Samples) -> Tensor:
        """Return what the first layer receives of samples.

        **Arguments:**

        - `samples`: a partition of N samples.

        **Returns:**

        (N, m).
        """
        raise NotImplementedError

    def predicted(self, samples: Samples, rows: slice) -> Tensor | None:
        """Predict the labels of some samples.

        **Arguments:**

        - `samples`: a partition.
        - `rows`: which of its samples.

        **Returns:**

        (R, B) int64; None where samples carry no label.
        """
        raise NotImplementedError

    def learn(self, index: Tensor, epoch: int, batch: int) -> None:
        """Take one step in all layers.

        **Arguments:**

        - `index`: (R, B) int64, positions in the training partition.
        - `epoch`: the epoch, from 1.
        - `batch`: the batch, from 0.
        """
        with torch.enable_grad():
            for weight in self.parameters:
                weight.requires_grad_()
            gradients = torch.autograd.grad(self.loss(index, epoch, batch), self.parameters)
        for weight, gradient, state in zip(self.parameters, gradients, self.states, strict=True):
            weight.requires_grad_(False)
            eta = self.spec.optimizer.eta(weight.shape[1], epoch, self.spec.epochs)
            take_step(self.spec.optimizer, weight, -gradient, state, eta)

    def rows(self, name: Baseline, partition: Partition, samples: Samples) -> list[BaselineRow]:
        """Measure the stack on a partition.

        **Arguments:**

        - `name`: the name of the baseline.
        - `partition`: the name of the partition.
        - `samples`: its samples.

        **Returns:**

        One row for each seed and layer.
        """
        replicas, widths = len(self.spec.seeds), self.spec.network.widths
        active = [
            torch.zeros(replicas, width, dtype=torch.bool, device=samples.labels.device)
            for width in widths
        ]
        sums = torch.zeros(
            2, len(widths), replicas, dtype=torch.float64, device=samples.labels.device
        )  # of S, and of live samples
        hits: list[Tensor] = []
        for rows in chunks(len(samples)):
            if (labels := self.predicted(samples, rows)) is not None:
                hits.append((labels == samples.labels[rows]).sum(-1))
            for layer, h in enumerate(
                self.network.activations(self.inputs(samples)[rows].expand(replicas, -1, -1))
            ):
                sparsity, dead = sparsity_and_dead(h)
                sums[:, layer] += torch.stack([sparsity.sum(-1), (~dead).sum(-1).double()])
                active[layer] |= (h != 0).any(1)
        correct = torch.stack(hits).sum(0) if hits else None
        finite = sums.isfinite().flatten(0, 1).all(0)
        for weight in self.parameters:
            finite &= weight.isfinite().all(-1).all(-1)
        return [
            BaselineRow(
                seed=seed,
                baseline=name,
                layer=layer,
                partition=partition,
                samples=len(samples),
                sparsity=float(sums[0, layer, replica] / sums[1, layer, replica])
                if finite[replica] and sums[1, layer, replica]
                else None,
                dead_units=int((~active[layer][replica]).sum()),
                accuracy=int(correct[replica]) / len(samples)
                if finite[replica] and correct is not None
                else None,
                diverged=not finite[replica],
            )
            for replica, seed in enumerate(self.spec.seeds)
            for layer in range(len(widths))
        ]


class CrossEntropy(BackpropStack):
    """The stack with a linear readout of its last layer, trained on images without labels."""

    def __init__(self, spec: TrainSpec, train: Samples, draws: Draws) -> None:
        super().__init__(spec, train, draws, train.plain.shape[1])
        width = spec.network.widths[-1]
        self.readout = train.plain.new_zeros(len(spec.seeds), train.classes, width)
        self.parameters = [*self.network.weights, self.readout]
        self.states = [spec.optimizer.new_state(weight) for weight in self.parameters]

    def loss(self, index: Tensor, epoch: int, batch: int) -> Tensor:
        logits = self._logits(self.train.plain[index])
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), self.train.labels[index].flatten(), reduction="sum"
        )
        return loss / index.shape[1]

    def inputs(self, samples: Samples) -> Tensor:
        return samples.plain

    def predicted(self, samples: Samples, rows: slice) -> Tensor:
        return self._logits(samples.plain[rows].expand(len(self.spec.seeds), -1, -1)).argmax(-1)

    def _logits(self, x: Tensor) -> Tensor:
        """Return the logits (R, B, C) of samples (R, B, m)."""
        h = normalized(self.network.activations(x)[-1], self.spec.network.normalize)
        return torch.bmm(h, self.readout.mT)


class FFObjective(BackpropStack):
    """The stack on the job's positives and negatives, with the objective summed over layers.

    The sum is differentiated through all layers.
    """

    def __init__(self, spec: TrainSpec, train: Samples, draws: Draws) -> None:
        inputs = train.positives(labelled=spec.negatives.labelled).shape[1]
        super().__init__(spec, train, draws, inputs)
        self.layers = tuple(range(len(spec.network.widths)))

    def loss(self, index: Tensor, epoch: int, batch: int) -> Tensor:
        objective, positives = self.spec.objective, index.shape[1]
        with torch.no_grad():
            network_goodness = SummedGoodness(self.network, objective.goodness, self.layers)
            x = paired(
                self.spec,
                self.train,
                index,
                self.draws,
                ("negatives-ff_objective", epoch, batch),
                network_goodness,
            )
        steps = -(-len(self.train) // self.spec.batch_size)
        split = self.spec.phases.split_at((epoch - 1) * steps + batch)
        total = torch.zeros((), device=x.device)
        for h in self.network.activations(x):
            goodness = objective.goodness.value(h) - objective.offset(h.shape[-1])
            terms = objective.terms(goodness[:, :positives], goodness[:, positives:])
            loss = terms[0] + terms[1] if split is None else terms[SPLITS.index(split)]
            total = total + loss.sum() / positives
        return total

    def inputs(self, samples: Samples) -> Tensor:
        return self.spec.negatives.positive(
            samples.positives(labelled=self.spec.negatives.labelled)
        )

    def predicted(self, samples: Samples, rows: slice) -> Tensor | None:
        if not self.spec.negatives.labelled:
            return None
        labels = samples.labels[rows].expand(len(self.spec.seeds), -1)
        x = samples.labelled[rows].expand(len(self.spec.seeds), -1, -1)
        goodness = self.network.label_goodness(
            self.spec.objective.goodness, x, labels, samples.classes
        )
        return goodness.sum(1).argmax(-1)
