"""Trains and measures the baselines of a run, by autograd; it saves and resumes between batches.

Legend: R replicas, L layers, N samples, B samples of a batch, m inputs, n width, C classes.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from pydantic import TypeAdapter
from torch import Tensor

from ffengine.baseline_plan import Leg, find_leg, trials_of
from ffengine.baselines import Baseline, Batch, SavedBaselines
from ffengine.conv_network import initial_network, same_bits
from ffengine.evaluation import chunks, named_partitions
from ffengine.layer_kinds import LayerPlan
from ffengine.layer_updates import BOTH_SIDES, new_state, state_of, take_step
from ffengine.lesions import Intact, Lesion, driven_by, lesions
from ffengine.monitor import SPLITS, paired
from ffengine.network import Network, SummedGoodness
from ffengine.products import linear, product
from ffengine.random_streams import Draws
from ffengine.results import BaselineRow, BaselineTrial, LesionRow, Partition, Split
from ffengine.samples import Partitions, Samples
from ffengine.sparsity import sparsity_and_dead
from ffengine.spec import TrainSpec

NONE_YET = -2.0  # accuracy of weights that are not there
NOT_FINITE = -1.0  # and of such that are not finite


class LearnableLinear(torch.autograd.Function):
    """z = x W^T of each replica with its gradients, by the products of Forward-Forward layers.

    A replica has the same bits whatever others are computed beside it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """Compute z.

        **Arguments:**

        - `ctx`: keeps what the gradients need.
        - `x`: (R, B, m).
        - `weight`: W (R, n, m).

        **Returns:**

        z (R, B, n).
        """
        ctx.save_for_backward(x, weight)
        return linear(x, weight)

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Compute the gradients.

        **Arguments:**

        - `ctx`: what `forward` kept.
        - `above`: dL/dz (R, B, n).

        **Returns:**

        dL/dx (R, B, m) and dL/dW (R, n, m); None where nobody asks for it.
        """
        x, weight = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad
        with torch.no_grad():
            return (
                product(above, weight) if wants_x else None,
                product(above.mT, x) if wants_weight else None,
            )


def learnable_linear(x: Tensor, weight: Tensor) -> Tensor:
    """Compute z = x W^T of each replica, with a gradient where one is asked for.

    **Arguments:**

    - `x`: (R, B, m).
    - `weight`: W (R, n, m).

    **Returns:**

    z (R, B, n).
    """
    found: Tensor = LearnableLinear.apply(x, weight)  # type: ignore[no-untyped-call]
    return found


class Measured(NamedTuple):
    """A stack on a partition.

    **Attributes:**

    - `accuracy`: (R,) float64 of the whole stack; None where it predicts nothing.
    - `by_layer`: (R,) float64 of the readout of each layer that has one.
    - `sparsity`: (L, R) float64, mean S over live samples; not finite where there are none.
    - `dead_units`: (L, R) int64, units that are active for no sample.
    - `finite`: (R,) bool, whether weights and activations are finite.
    """

    accuracy: Tensor | None
    by_layer: dict[int, Tensor]
    sparsity: Tensor
    dead_units: Tensor
    finite: Tensor

    def score(self, layer: int) -> list[float]:
        """Return the accuracy by which weights are chosen, for each seed.

        **Arguments:**

        - `layer`: the layer whose readout counts, where it has one.
        """
        found = self.by_layer.get(layer, self.accuracy)
        assert found is not None  # noqa: S101 - such a spec is refused
        return torch.where(self.finite, found, NOT_FINITE).tolist()


class Stack:
    """The layers and readouts of a baseline while it learns.

    **Arguments:**

    - `baseline`: how it learns.
    - `spec`: the run with the baseline's own settings.
    - `train`: the training partition.
    - `draws`: the randomness of the run.
    - `plans`: the maps of its layers; none where it names widths.
    """

    def __init__(
        self,
        baseline: Baseline,
        spec: TrainSpec,
        train: Samples,
        draws: Draws,
        plans: Sequence[LayerPlan] = (),
    ) -> None:
        self.baseline, self.spec, self.train, self.draws = baseline, spec, train, draws
        inputs = baseline.inputs(spec.negatives, train).shape[1]
        self.network = initial_network(
            spec,
            plans,
            inputs,
            draws,
            train.labels.device,
            label_inputs=spec.carried_inputs(train.classes) if baseline.sees_labels else 0,
        )
        self.readouts = {
            layer: train.plain.new_zeros(len(spec.seeds), train.classes, spec.network.widths[layer])
            for layer in baseline.readouts(len(spec.network.widths))
        }
        self.phases = BOTH_SIDES if baseline.sides == 1 else spec.phases  # it has no negatives
        self.states = [new_state(spec.optimizer, weight, self.phases) for weight in self.parameters]

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self.spec.optimizer.lr

    @property
    def parameters(self) -> list[Tensor]:
        """The weights of all layers, and then of their readouts."""
        return [*self.network.weights, *self.readouts.values()]

    def load(self, parameters: Sequence[Tensor]) -> None:
        """Take over weights, in place.

        **Arguments:**

        - `parameters`: as `parameters` lists them.
        """
        for own, given in zip(self.parameters, parameters, strict=True):
            own.copy_(given)

    def learn(self, batch: Batch) -> None:
        """Take one step in the layers that learn.

        **Arguments:**

        - `batch`: which samples, and which layers.
        """
        layers = len(self.network.weights)
        chosen = [
            number
            for number, layer in enumerate([*range(layers), *self.readouts])
            if layer in batch.layers
        ]
        parameters = [self.parameters[number] for number in chosen]
        with torch.enable_grad():
            for weight in parameters:
                weight.requires_grad_()
            loss = self.baseline.loss(self, batch)
            with same_bits(self.train.labels.device):
                gradients = torch.autograd.grad(loss, parameters)
        split = self._split_of(batch)
        for number, weight, gradient in zip(chosen, parameters, gradients, strict=True):
            weight.requires_grad_(False)
            eta = self.spec.optimizer.eta(weight.shape[1], batch.epoch, self.spec.epochs)
            eta *= self.phases.rate(split)
            state = state_of(split, self.states[number], self.phases)
            take_step(self.spec.optimizer, weight, -gradient, state, eta)

    def _split_of(self, batch: Batch) -> Split | None:
        """Return from which split a batch is learnt; None: from both."""
        steps = -(-len(self.train) // self.spec.batch_size)
        return self.phases.split_at((batch.epoch - 1) * steps + batch.number, steps)

    # What the losses of baselines are made of

    def logits(self, layer: int, h: Tensor) -> Tensor:
        """Compute the logits of a layer's readout.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `h`: its activations (R, B, n).

        **Returns:**

        (R, B, C).
        """
        return torch.bmm(self.network.seen_by_readout(layer, h), self.readouts[layer].mT)

    def cross_entropy(self, layer: int, h: Tensor, index: Tensor) -> Tensor:
        """Compute the mean cross-entropy of a layer's readout, summed over replicas.

        **Arguments:**

        - `layer`: the layer, from 0.
        - `h`: its activations (R, B, n).
        - `index`: (R, B) int64, positions in the training partition.

        **Returns:**

        A scalar.
        """
        return self._mean_cross_entropy(self.logits(layer, h), index)

    def last_cross_entropy(self, batch: Batch) -> Tensor:
        """Compute the cross-entropy of the last layer's readout.

        **Arguments:**

        - `batch`: which samples.

        **Returns:**

        A scalar.
        """
        h = self.network.activations(self.train.plain[batch.index])[-1]
        return self.cross_entropy(batch.layers[-1], h, batch.index)

    def _mean_cross_entropy(self, logits: Tensor, index: Tensor) -> Tensor:
        labels = self.train.labels[index].flatten()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels, reduction="sum")
        return loss / index.shape[1]

    def summed_cross_entropy(self, batch: Batch, *, local: bool) -> Tensor:
        """Compute the cross-entropies of the readouts of the layers that learn, summed.

        **Arguments:**

        - `batch`: which samples, and which layers learn.
        - `local`: whether gradients stay in their layer.

        **Returns:**

        A scalar.
        """
        network = self.network
        with torch.no_grad():
            x = network.layer_input(batch.layers[0], self.train.plain[batch.index])
        total = torch.zeros((), device=x.device)
        for layer in batch.layers:
            h = network.activation.value(self._learnable(layer, x))
            logits = learnable_linear(network.seen_by_readout(layer, h), self.readouts[layer])
            total = total + self._mean_cross_entropy(logits, batch.index)
            if layer != batch.layers[-1]:
                x = network.next_input(layer, h.detach() if local else h)
        return total

    def _learnable(self, layer: int, x: Tensor) -> Tensor:
        """Compute z of a layer, with a gradient where one is asked for."""
        if self.spec.network.layers:  # replica after replica, and so with each one's own bits
            return self.network.pre_activation(layer, x)
        return learnable_linear(x, self.network.weights[layer])

    def ff_objective(self, batch: Batch) -> Tensor:
        """Compute the objective of the run on positives and negatives, summed over layers.

        **Arguments:**

        - `batch`: which samples.

        **Returns:**

        A scalar.
        """
        objective, positives = self.spec.pairwise, batch.index.shape[1]
        with torch.no_grad():
            network_goodness = SummedGoodness(
                self.network, objective.layer_goodness, batch.layers, self.train.patterns
            )
            x = paired(
                self.spec,
                self.train,
                batch.index,
                self.draws,
                ("negatives-ff_objective", batch.epoch, batch.number),
                network_goodness,
            )
        split = self._split_of(batch)
        total = torch.zeros((), device=x.device)
        for h in self.network.activations(x):
            goodness = objective.above(objective.layer_goodness.value(h), positives, h.shape[-1])
            terms = objective.terms(goodness[:, :positives], goodness[:, positives:])
            loss = terms[0] + terms[1] if split is None else terms[SPLITS.index(split)]
            total = total + loss.sum() / positives
        return total

    def predicted_by_goodness(self, samples: Samples, rows: slice) -> Tensor | None:
        """Predict the labels of some samples as Forward-Forward does.

        **Arguments:**

        - `samples`: a partition.
        - `rows`: which of its samples.

        **Returns:**

        (R, B) int64; None where samples carry no label.
        """
        if not self.spec.negatives.labelled:
            return None
        labels = samples.labels[rows].expand(len(self.spec.seeds), -1)
        x = samples.labelled[rows].expand(len(self.spec.seeds), -1, -1)
        goodness = self.network.label_goodness(
            self.spec.pairwise.layer_goodness, x, labels, samples.patterns
        )
        return self.spec.objective.combined(goodness).argmax(-1)

    # What is measured

    def alone(self, replica: int) -> "Stack":
        """Return the stack of one replica; it shares the memory of the weights and learns nothing.

        **Arguments:**

        - `replica`: its number.
        """
        seeds = (self.spec.seeds[replica],)
        readouts = {
            layer: head[replica : replica + 1].detach() for layer, head in self.readouts.items()
        }
        found = self._with(self.network.replica(replica), readouts)
        found.spec = self.spec.model_copy(update={"seeds": seeds})
        return found

    def _with(self, network: Network, readouts: dict[int, Tensor]) -> "Stack":
        """Return the stack with other weights."""
        found = copy.copy(self)
        found.network, found.readouts = network, readouts
        return found

    def lesions(self, test: Samples) -> list[tuple[Lesion, int]]:
        """Remove units and weights of the stack of one replica, and count what is left.

        **Arguments:**

        - `test`: the samples that are counted.

        **Returns:**

        Each lesion with the samples that are labelled correctly; none without labels.
        """
        negatives, train = self.spec.negatives, self.train
        asked = self.spec.evaluation.lesions
        if asked is None or not self.baseline.classifies(negatives):
            return []
        inputs = self.baseline.inputs(negatives, train)
        drive = driven_by(self.network, inputs, chunks(len(train), self.network.most_samples))
        draws = Draws(self.spec.seeds, inputs.device)
        intact = Intact(self.network, self.readouts, drive, draws)
        return list(lesions(asked, intact, lambda left: self._with(*left).correct(test)))

    def correct(self, samples: Samples) -> int:
        """Count the samples that the stack of one replica labels correctly.

        **Arguments:**

        - `samples`: N samples.
        """
        return sum(
            int((self.predicted(samples, rows) == samples.labels[rows]).sum())
            for rows in chunks(len(samples), self.network.most_samples)
        )

    def predicted(self, samples: Samples, rows: slice) -> Tensor:
        """Predict labels as the baseline does, or by the readout of its last layer.

        **Arguments:**

        - `samples`: a partition.
        - `rows`: which of its samples.

        **Returns:**

        (R, B) int64.
        """
        found = self.baseline.predicted(self, samples, rows)
        if found is not None:
            return found
        inputs = self.baseline.inputs(self.spec.negatives, samples)[rows]
        h = self.network.activations(inputs.expand(len(self.spec.seeds), -1, -1))[-1]
        return self.logits(len(self.network.weights) - 1, h).argmax(-1)

    def measured(self, samples: Samples) -> Measured:
        """Measure the stack on a partition.

        **Arguments:**

        - `samples`: N samples.
        """
        replicas, layers = len(self.spec.seeds), len(self.network.weights)
        device = samples.labels.device
        active = [
            torch.zeros(replicas, size, dtype=torch.bool, device=device)
            for size in self.network.sizes
        ]
        sums = torch.zeros(2, layers, replicas, dtype=torch.float64, device=device)
        hits: dict[int | None, list[Tensor]] = {}
        for rows in chunks(len(samples), self.network.most_samples):
            found = self.network.activations(
                self.baseline.inputs(self.spec.negatives, samples)[rows].expand(replicas, -1, -1)
            )
            labels = {layer: self.logits(layer, found[layer]).argmax(-1) for layer in self.readouts}
            by_stack = self.baseline.predicted(self, samples, rows)
            for layer, one in ({None: by_stack} | labels).items():
                if one is not None:
                    hits.setdefault(layer, []).append((one == samples.labels[rows]).sum(-1))
            for layer, h in enumerate(found):
                sparsity, dead = sparsity_and_dead(h)
                sums[:, layer] += torch.stack([sparsity.sum(-1), (~dead).sum(-1).double()])
                active[layer] |= (h != 0).any(1)
        finite = sums.isfinite().flatten(0, 1).all(0)
        for weight in self.parameters:
            finite &= weight.isfinite().all(-1).all(-1)
        accuracy = {
            layer: torch.stack(parts).sum(0).double() / len(samples)
            for layer, parts in hits.items()
        }
        return Measured(
            accuracy.get(None, accuracy.get(layers - 1)),
            {layer: value for layer, value in accuracy.items() if layer is not None},
            sums[0] / sums[1],
            torch.stack(
                [
                    (~units.unflatten(-1, (width, -1)).any(-1)).sum(-1)
                    for units, width in zip(active, self.spec.network.widths, strict=True)
                ]
            ),
            finite,
        )


@dataclass
class Kept:
    """The best weights so far, for each seed.

    **Attributes:**

    - `accuracy`: by which they are the best.
    - `lr`: the learning rate that they were trained with.
    - `epochs`: after how many epochs each layer had them.
    - `weights`: as `Stack.parameters` lists them; empty: none yet.
    """

    accuracy: list[float]
    lr: list[float]
    epochs: list[list[int]]
    weights: list[Tensor]

    @classmethod
    def nothing(cls, spec: TrainSpec) -> "Kept":
        """Return a place for weights that has none yet.

        **Arguments:**

        - `spec`: the run.
        """
        seeds, layers = len(spec.seeds), len(spec.network.widths)
        return cls([NONE_YET] * seeds, [0.0] * seeds, [[0] * layers for _ in spec.seeds], [])

    def offer(
        self, accuracy: list[float], lr: float, epochs: list[list[int]], weights: list[Tensor]
    ) -> None:
        """Keep the weights of those seeds for which they are better; of equal ones the first.

        **Arguments:**

        - `accuracy`, `epochs`, `weights`: as the attributes of that name.
        - `lr`: the learning rate of all seeds.
        """
        better = [new > old for new, old in zip(accuracy, self.accuracy, strict=True)]
        self.weights = self.weights or [weight.clone() for weight in weights]
        for own, new in zip(self.weights, weights, strict=True):
            mask = torch.tensor(better, device=own.device)
            own[mask] = new[mask]
        for seed in (seed for seed, is_better in enumerate(better) if is_better):
            self.accuracy[seed], self.lr[seed] = accuracy[seed], lr
            self.epochs[seed] = list(epochs[seed])

    @property
    def figures(self) -> dict[str, Any]:
        """What a document has of it: all but the weights."""
        return {"accuracy": self.accuracy, "lr": self.lr, "epochs": self.epochs}


class BaselineRun:
    """The baselines of a run, one training after the other.

    **Arguments:**

    - `spec`: the run.
    - `partitions`: its samples.
    - `draws`: its randomness.
    - `position`: how many of their epochs are done, and how many batches of the next.
    - `saved`: what an interrupted run had; None begins with the first baseline.
    - `plans`: the maps of the layers; none where the spec names widths.
    """

    def __init__(
        self,
        spec: TrainSpec,
        partitions: Partitions,
        draws: Draws,
        position: tuple[int, int] = (0, 0),
        saved: SavedBaselines | None = None,
        plans: Sequence[LayerPlan] = (),
    ) -> None:
        self.plans = plans
        self.spec, self.partitions, self.draws = spec, partitions, draws
        self.epoch, self.batch = position if saved else (0, 0)
        self.rows: list[BaselineRow] = []
        self.lesions: list[LesionRow] = []
        self.trials: list[list[BaselineTrial]] = [[] for _ in spec.seeds]  # of this baseline
        self.epochs = Kept.nothing(spec).epochs  # of the weights of the stack
        self.best_trial, self.best_epoch = Kept.nothing(spec), Kept.nothing(spec)
        self.stack: Stack | None = None
        if saved:
            self._restore(saved)

    def run(self, after_batch: Callable[[], None]) -> tuple[BaselineRow, ...]:
        """Train and measure what is left.

        **Arguments:**

        - `after_batch`: is called after every batch; it may raise to stop.

        **Returns:**

        One row for each baseline, held-out partition, seed and layer.
        """
        while found := find_leg(self.spec, self.epoch):
            leg, done = found
            if self.stack is None:
                self.stack = self._new_stack(leg)
            self._learn(self.stack, leg, done + 1, after_batch)
            self._end_epoch(self.stack, leg, done + 1)
            self.epoch, self.batch = self.epoch + 1, 0
        return tuple(self.rows)

    def _learn(self, stack: Stack, leg: Leg, epoch: int, after_batch: Callable[[], None]) -> None:
        """Train an epoch from `batch` to its end."""
        baseline = stack.baseline
        address = (leg.stage, epoch) if leg.stage else (epoch,)
        order = self.draws.at(f"order-{baseline.name}", *address).permutation(len(stack.train))
        layers = baseline.stages(self.spec.stages)[leg.stage]
        batches = order.split(leg.batch_size, dim=1)
        for number in range(self.batch, len(batches)):
            stack.learn(Batch(batches[number], layers, epoch, number))
            self.batch = number + 1
            after_batch()

    def _end_epoch(self, stack: Stack, leg: Leg, epoch: int) -> None:
        """Keep the weights where they are the best, and end stage, trial and baseline in turn."""
        baseline, layers = stack.baseline, stack.baseline.stages(self.spec.stages)[leg.stage]
        for epochs in self.epochs:
            epochs[layers[0] : layers[-1] + 1] = [epoch] * len(layers)
        if baseline.select == "best_validation":
            scores = stack.measured(self._validation).score(layers[-1])
            self.best_epoch.offer(scores, stack.lr, self.epochs, stack.parameters)
        if epoch < leg.epochs:
            return
        if baseline.select == "best_validation":
            stack.load(self.best_epoch.weights)
            self.epochs = [list(epochs) for epochs in self.best_epoch.epochs]
            self.best_epoch = Kept.nothing(self.spec)
        if leg.stage + 1 == leg.stages:
            self._end_trial(stack, leg)

    def _end_trial(self, stack: Stack, leg: Leg) -> None:
        """Compare the weights with those of other learning rates; after the last, measure them."""
        last, scores = len(self.spec.network.widths) - 1, [0.0] * len(self.spec.seeds)
        if leg.trials > 1:
            scores = stack.measured(self._validation).score(last)
            for trials, score, epochs in zip(self.trials, scores, self.epochs, strict=True):
                lost = score == NOT_FINITE
                trials.append(
                    BaselineTrial(
                        lr=stack.lr,
                        accuracy=None if lost else score,
                        epoch=epochs[last],
                        diverged=lost,
                    )
                )
        self.best_trial.offer(scores, stack.lr, self.epochs, stack.parameters)
        if leg.trial + 1 == leg.trials:
            stack.load(self.best_trial.weights)
            self.rows += self._measured_rows(stack, leg.place)
            self.lesions += self._lesion_rows(stack, leg.place)
            self.trials = [[] for _ in self.spec.seeds]
            self.best_trial = Kept.nothing(self.spec)
        self.stack = None

    def _measured_rows(self, stack: Stack, place: int) -> list[BaselineRow]:
        """Return one row for each held-out partition, seed and layer."""
        return [
            self._row(stack, place, partition, measured, len(samples), replica, layer)
            for partition, samples in named_partitions(self.partitions)
            if partition != "train"
            for measured in (stack.measured(samples),)
            for replica in range(len(self.spec.seeds))
            for layer in range(len(self.spec.network.widths))
        ]

    def _lesion_rows(self, stack: Stack, place: int) -> list[LesionRow]:
        """Return what accuracy lesions leave of the stack of each seed, where the run asks for
        it.
        """
        if self.spec.evaluation.lesions is None:
            return []
        finite, test = stack.measured(self.partitions.test).finite.tolist(), self.partitions.test
        return [
            lesion.row(seed, len(test), hits, stack.baseline.name, place)
            for replica, seed in enumerate(self.spec.seeds)
            if finite[replica]
            for lesion, hits in stack.alone(replica).lesions(test)
        ]

    def _row(
        self,
        stack: Stack,
        place: int,
        partition: Partition,
        measured: Measured,
        samples: int,
        replica: int,
        layer: int,
    ) -> BaselineRow:
        """Return the row of a seed and layer."""
        kept, finite = self.best_trial, bool(measured.finite[replica])
        own = measured.by_layer.get(layer)
        sparsity = float(measured.sparsity[layer, replica])
        return BaselineRow(
            seed=self.spec.seeds[replica],
            baseline=stack.baseline.name,
            layer=layer,
            partition=partition,
            samples=samples,
            sparsity=sparsity if finite and math.isfinite(sparsity) else None,
            dead_units=int(measured.dead_units[layer, replica]),
            accuracy=float(measured.accuracy[replica])
            if finite and measured.accuracy is not None
            else None,
            diverged=not finite,
            place=place,
            layer_accuracy=float(own[replica]) if finite and own is not None else None,
            optimizer=stack.spec.optimizer.name,
            lr=kept.lr[replica],
            epoch=kept.epochs[replica][layer],
            epochs=stack.spec.epochs,
            batch_size=stack.spec.batch_size,
            tuned=stack.baseline.tuned,
            own_optimizer=stack.baseline.optimizer is not None,
            select=stack.baseline.select,
            trials=tuple(self.trials[replica]),
        )

    @property
    def _validation(self) -> Samples:
        assert self.partitions.validation is not None  # noqa: S101 - such a spec is refused
        return self.partitions.validation

    def _new_stack(self, leg: Leg) -> Stack:
        baseline = self.spec.evaluation.baselines[leg.place]
        trial = trials_of(baseline, self.spec)[leg.trial]
        return Stack(baseline, trial, self.partitions.train, self.draws, self.plans)

    def saved(self) -> SavedBaselines:
        """Return what is needed to go on from here; later steps do not change it."""
        tensors: dict[str, Tensor] = {}
        if self.stack is not None:
            tensors = _numbered("weight", self.stack.parameters)
            for number, state in enumerate(self.stack.states):
                tensors |= {f"state.{number}.{name}": value for name, value in state.items()}
        tensors |= _numbered("best_epoch", self.best_epoch.weights)
        tensors |= _numbered("best_trial", self.best_trial.weights)
        figures = {
            "rows": _ROWS.dump_python(self.rows, mode="json"),
            "lesions": _LESIONS.dump_python(self.lesions, mode="json"),
            "trials": _TRIALS.dump_python(self.trials, mode="json"),
            "epochs": self.epochs,
            "best_epoch": self.best_epoch.figures,
            "best_trial": self.best_trial.figures,
        }
        copied = {name: value.clone() for name, value in tensors.items()}
        return SavedBaselines(copy.deepcopy(figures), copied)

    def _restore(self, saved: SavedBaselines) -> None:
        """Go on from what was saved."""
        device, figures = self.partitions.train.labels.device, copy.deepcopy(saved.figures)
        tensors = {name: value.to(device, copy=True) for name, value in saved.tensors.items()}
        self.rows = _ROWS.validate_python(figures["rows"])
        self.lesions = _LESIONS.validate_python(figures.get("lesions", []))
        self.trials = _TRIALS.validate_python(figures["trials"])
        self.epochs = figures["epochs"]
        self.best_epoch, self.best_trial = (
            Kept(**figures[name], weights=_listed(name, tensors))
            for name in ("best_epoch", "best_trial")
        )
        found = find_leg(self.spec, self.epoch)
        weights = _listed("weight", tensors)
        if found is None or not weights:
            return
        self.stack = self._new_stack(found[0])
        self.stack.load(weights)
        for number, state in enumerate(self.stack.states):
            for name, value in state.items():
                value.copy_(tensors[f"state.{number}.{name}"])


_ROWS: TypeAdapter[list[BaselineRow]] = TypeAdapter(list[BaselineRow])
_LESIONS: TypeAdapter[list[LesionRow]] = TypeAdapter(list[LesionRow])
_TRIALS: TypeAdapter[list[list[BaselineTrial]]] = TypeAdapter(list[list[BaselineTrial]])


def _numbered(name: str, tensors: list[Tensor]) -> dict[str, Tensor]:
    """Give each tensor of a list a name of its own."""
    return {f"{name}.{number}": tensor for number, tensor in enumerate(tensors)}


def _listed(name: str, tensors: dict[str, Tensor]) -> list[Tensor]:
    """Return the list that `_numbered` was given."""
    count = sum(key.rpartition(".")[0] == name for key in tensors)
    return [tensors[f"{name}.{number}"] for number in range(count)]
