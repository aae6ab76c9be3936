"""The training loop: stages of layers, epochs, batches; measured, checkpointed, resumed.

Legend: R replicas, B samples of one split in a batch, m inputs, n width.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.checkpoint import Checkpoint, Position, snapshot
from ffengine.control import Control, Diverged, Interrupted
from ffengine.diagnostics import divergence, of_training
from ffengine.draws import Draws
from ffengine.evaluation import accuracy
from ffengine.monitor import Monitor, paired
from ffengine.network import Network, coefficients, direction, goodness_of
from ffengine.provenance import Stopwatch, provenance
from ffengine.results import EpochRow, TrainResult
from ffengine.samples import load_samples
from ffengine.spec import TrainSpec, digest


class EpochReport(NamedTuple):
    """The end of an epoch: the rows measured there (none where the spec does not monitor it), and where to go on from."""

    rows: tuple[EpochRow, ...]
    epoch: int
    layers: tuple[int, ...]
    fraction: float
    message: str
    checkpoint: Checkpoint


class BatchReport(NamedTuple):
    """The end of a batch; `checkpoint` makes one when called."""

    fraction: float
    checkpoint: Callable[[], Checkpoint]


OnEpoch = Callable[[EpochReport], Control]
OnBatch = Callable[[BatchReport], Control]


def train(
    spec: TrainSpec,
    *,
    device: str = "cpu",
    on_epoch: OnEpoch | None = None,
    on_batch: OnBatch | None = None,
    resume: Checkpoint | None = None,
) -> TrainResult:
    """Train as the spec says and return curves, accuracy and findings; bit-reproducible on one machine, also when resumed.

    `on_epoch` and `on_batch` are told of progress; where one answers "stop", Interrupted is raised with a checkpoint,
    which `resume` accepts.

    Raises Diverged where the numbers are no longer finite, DatasetError where the data cannot be had, and ValueError
    for a checkpoint of another spec.
    """
    stopwatch = Stopwatch()
    run = TrainingRun(spec, torch.device(device), stopwatch, resume)
    with stopwatch.phase("training"):
        run.run(on_epoch or _go_on, on_batch or _go_on)
    with stopwatch.phase("evaluation"):
        accuracies = accuracy(run.network, spec, {"train": run.train, "test": run.test})
    return TrainResult(
        curves=tuple(run.rows),
        accuracy=tuple(accuracies),
        diagnostics=tuple(of_training(spec, run.rows)),
        provenance=provenance(spec, run.device, run.network.weights[0].dtype, stopwatch),
    )


class TrainingRun:
    """The state of a run and the loop that moves it on."""

    def __init__(self, spec: TrainSpec, device: torch.device, stopwatch: Stopwatch, resume: Checkpoint | None) -> None:
        self.spec, self.device, self.stopwatch = spec, device, stopwatch
        self.digest = digest(spec)
        self.draws = Draws(spec.seeds, device)
        with stopwatch.phase("data"):
            self.train, self.test = load_samples(spec.dataset, device)
        self.monitor = Monitor(spec, self.train, self.draws)
        self.rows: list[EpochRow] = []
        self.position = Position()
        if resume is None:
            self.network = Network.initial(spec.network, spec.dataset.facts.inputs, self.draws, device)
        else:
            self._restore(resume)

    def run(self, on_epoch: OnEpoch, on_batch: OnBatch) -> None:
        """Go on from `position` to the end."""
        while self.position.stage < len(self.spec.stages):
            layers = self.spec.stages[self.position.stage]
            if self.position.epoch > 0:
                self._epoch(layers, on_batch)
            self._end_epoch(layers, on_epoch)

    def checkpoint(self) -> Checkpoint:
        """Where the run stands now."""
        return snapshot(self.digest, self.position, self.network.weights, self.rows)

    def _epoch(self, layers: tuple[int, ...], on_batch: OnBatch) -> None:
        stage, epoch = self.position.stage, self.position.epoch
        batches = self._batches(stage, epoch)
        for batch in range(self.position.batch, len(batches)):
            x = paired(self.spec, self.train, batches[batch], self.draws, ("negatives", stage, epoch, batch))
            step(self.network, self.spec, layers, x, batches[batch].shape[1])
            self.position = Position(stage, epoch, batch + 1)
            if on_batch(BatchReport(self.fraction, self.checkpoint)) == "stop":
                raise Interrupted(self.checkpoint())

    def _end_epoch(self, layers: tuple[int, ...], on_epoch: OnEpoch) -> None:
        epoch = self.position.epoch
        self._refuse_divergence(layers)
        with self.stopwatch.phase("monitoring"):
            rows = (
                [row for layer in layers for row in self.monitor.rows(self.network, layer, epoch)] if self.spec.is_monitored(epoch) else []
            )
        self.rows += rows
        last = epoch == self.spec.epochs
        self.position = Position(self.position.stage + 1) if last else Position(self.position.stage, epoch + 1)
        message = f"layer {', '.join(map(str, layers))}: epoch {epoch} of {self.spec.epochs}"
        checkpoint = self.checkpoint()
        if on_epoch(EpochReport(tuple(rows), epoch, layers, self.fraction, message, checkpoint)) == "stop":
            raise Interrupted(checkpoint)

    def _batches(self, stage: int, epoch: int) -> list[Tensor]:
        order = self.draws.at("order", stage, epoch).permutation(len(self.train))  # (R, N)
        return list(order.split(self.spec.batch_size, dim=1))

    @property
    def fraction(self) -> float:
        """How much of the run is done, in [0, 1]."""
        batches = -(-len(self.train) // self.spec.batch_size)
        epochs = self.position.stage * self.spec.epochs + max(0, self.position.epoch - 1) + self.position.batch / batches
        return min(1.0, epochs / (len(self.spec.stages) * self.spec.epochs))

    def _restore(self, resume: Checkpoint) -> None:
        if resume.spec_digest != self.digest:
            raise ValueError("resume: the checkpoint belongs to another spec")
        self.network = Network(self.spec.network, [weight.to(self.device, copy=True) for weight in resume.weights])
        self.rows, self.position = list(resume.rows), resume.position

    def _refuse_divergence(self, layers: tuple[int, ...]) -> None:
        for layer in layers:
            for seed, weight in zip(self.spec.seeds, self.network.weights[layer], strict=True):
                if not bool(torch.isfinite(weight.aminmax().max)):
                    raise Diverged(divergence(layer=layer, epoch=self.position.epoch, seed=seed, what=["weights"]))


def step(network: Network, spec: TrainSpec, layers: tuple[int, ...], x: Tensor, positives: int) -> None:
    """One step of every layer of `layers` on a batch (R, 2B, m), positives first: W <- W + eta D, in place.

    A layer above another that learns in the same step sees what that one made of the batch before its step.
    """
    x = network.layer_input(layers[0], x)
    for layer in layers:
        z = network.pre_activation(layer, x)  # (R, 2B, n)
        h = network.activation.value(z)
        pull = h * network.activation.slope(z)
        weight = coefficients(spec.objective, goodness_of(spec.objective, h), positives) * spec.objective.goodness_scale(h.shape[-1])
        D = direction(x, pull, weight)
        network.weights[layer].add_(D, alpha=spec.optimizer.eta(h.shape[-1]))
        if layer != layers[-1]:
            x = network.next_input(layer, h)


def _go_on(_report: object) -> Control:
    return "run"
