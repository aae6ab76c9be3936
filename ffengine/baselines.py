"""Catalogue of baselines: the same stack of layers trained in other ways, for comparison.

A baseline says which layers learn together, their loss, and how a label is predicted.
`ffengine.baseline_training` trains and measures them; gradients come from autograd.

Legend: R replicas, N samples, B samples of a batch, m inputs, n width, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import BeforeValidator, Field, JsonValue, PlainSerializer

from ffengine.entry import Entry, brief
from ffengine.optimizers import MAX_EPOCHS, AnyOptimizer

if TYPE_CHECKING:
    from torch import Tensor

    from ffengine.baseline_training import Stack
    from ffengine.samples import Samples
    from ffengine.spec import TrainSpec

MOST_BASELINES = 8


@dataclass(frozen=True)
class Batch:
    """A batch of training samples.

    **Attributes:**

    - `index`: (R, B) int64, positions in the training partition.
    - `layers`: the layers that learn from it.
    - `epoch`: the epoch of these layers, from 1.
    - `number`: its number in the epoch, from 0.
    """

    index: Tensor
    layers: tuple[int, ...]
    epoch: int
    number: int


class Baseline(Entry, ABC):
    """A way of training the run's stack of layers that is no Forward-Forward."""

    # samples of a step for each one that is learnt from
    sides: ClassVar[int] = 1
    # its name, which each entry has
    name: str

    optimizer: AnyOptimizer | None = Field(
        None, description="how it learns, with its schedule; null: as the run's own layers do"
    )
    rates: tuple[Annotated[float, Field(gt=0, le=1e9)], ...] = Field(
        (),
        max_length=16,
        description="learning rates that are tried in place of optimizer.lr, each in a training of "
        "its own. For each seed the one with the best accuracy on the validation samples is kept, "
        "of equal ones the smallest; only that one is measured on the test samples",
    )
    epochs: int | None = Field(
        None,
        ge=1,
        le=MAX_EPOCHS,
        description="passes over the training samples, for each layer where it trains one after "
        "the other; null: the run's",
    )
    batch_size: int | None = Field(
        None, ge=2, le=1_000_000, description="samples of a step; null: the run's"
    )
    select: Literal["last", "best_validation"] = Field(
        "last",
        description="which weights are kept: those of the last epoch, or of the epoch with the "
        "best accuracy on the validation samples, the first of equal ones",
    )

    @property
    def tuned(self) -> bool:
        """Whether validation samples choose its learning rate."""
        return len(self.rates) > 1

    @property
    def needs_validation(self) -> bool:
        """Whether validation samples choose anything."""
        return self.tuned or self.select == "best_validation"

    def trials(self, spec: TrainSpec) -> list[TrainSpec]:
        """List the trainings that are tried, each as the run with the baseline's own settings.

        **Arguments:**

        - `spec`: the run.

        **Returns:**

        One for each learning rate, the smallest first.
        """
        optimizer = self.optimizer or spec.optimizer
        own = {
            "epochs": self.epochs or spec.epochs,
            "batch_size": self.batch_size or spec.batch_size,
        }
        return [
            spec.model_copy(update={**own, "optimizer": optimizer.model_copy(update={"lr": rate})})
            for rate in sorted(self.rates) or [optimizer.lr]
        ]

    def stages(self, spec: TrainSpec) -> tuple[tuple[int, ...], ...]:
        """Return the layers that learn together, stage after stage.

        **Arguments:**

        - `spec`: the run.
        """
        return (tuple(range(len(spec.network.widths))),)

    def readouts(self, spec: TrainSpec) -> tuple[int, ...]:
        """Return the layers that have a linear readout of their own.

        **Arguments:**

        - `spec`: the run.
        """
        return ()

    def classifies(self, spec: TrainSpec) -> bool:
        """Whether it predicts labels.

        **Arguments:**

        - `spec`: the run.
        """
        return True

    def inputs(self, spec: TrainSpec, samples: Samples) -> Tensor:
        """Return what the first layer receives of samples.

        **Arguments:**

        - `spec`: the run.
        - `samples`: a partition of N samples.

        **Returns:**

        (N, m).
        """
        return samples.plain

    @abstractmethod
    def loss(self, stack: Stack, batch: Batch) -> Tensor:
        """Compute the loss of a batch, summed over replicas.

        The sum leaves the weights of the replicas independent of each other.

        **Arguments:**

        - `stack`: the layers and their readouts.
        - `batch`: which samples, and which layers learn.

        **Returns:**

        The loss, a scalar with a gradient.
        """

    def predicted(self, stack: Stack, samples: Samples, rows: slice) -> Tensor | None:
        """Predict the labels of some samples without the readouts of single layers.

        **Arguments:**

        - `stack`: the layers.
        - `samples`: a partition.
        - `rows`: which of its samples.

        **Returns:**

        (R, B) int64; None where the readout of the last layer predicts them.
        """
        return None


class CrossEntropy(Baseline):
    """The same stack with a linear readout of its last layer, trained by backpropagation on the
    cross-entropy of the labels.
    """

    name: Literal["cross_entropy"] = "cross_entropy"

    def readouts(self, spec: TrainSpec) -> tuple[int, ...]:
        return (len(spec.network.widths) - 1,)

    def loss(self, stack: Stack, batch: Batch) -> Tensor:
        h = stack.network.activations(stack.train.plain[batch.index])[-1]
        return stack.cross_entropy(batch.layers[-1], h, batch.index)


class FFObjective(Baseline):
    """The same stack trained by backpropagation on the FF objective summed over its layers."""

    sides: ClassVar[int] = 2
    name: Literal["ff_objective"] = "ff_objective"

    def classifies(self, spec: TrainSpec) -> bool:
        return spec.negatives.labelled

    def inputs(self, spec: TrainSpec, samples: Samples) -> Tensor:
        return spec.negatives.positive(samples.positives(labelled=spec.negatives.labelled))

    def loss(self, stack: Stack, batch: Batch) -> Tensor:
        return stack.ff_objective(batch)

    def predicted(self, stack: Stack, samples: Samples, rows: slice) -> Tensor | None:
        return stack.predicted_by_goodness(samples, rows)


class GreedyCrossEntropy(Baseline):
    """The same stack with a linear readout of each layer, each trained on the cross-entropy of its
    own readout alone, so that no gradient leaves a layer: one layer after the other or all at once,
    as `layers` of the run says (Belilovsky et al. 2019).
    """

    name: Literal["greedy_cross_entropy"] = "greedy_cross_entropy"

    def stages(self, spec: TrainSpec) -> tuple[tuple[int, ...], ...]:
        return spec.stages

    def readouts(self, spec: TrainSpec) -> tuple[int, ...]:
        return tuple(range(len(spec.network.widths)))

    def loss(self, stack: Stack, batch: Batch) -> Tensor:
        return stack.summed_cross_entropy(batch, local=True)


class DeepSupervision(Baseline):
    """The same stack with a linear readout of each layer, trained by backpropagation on the sum of
    the readouts' cross-entropies of the labels (Lee et al. 2015).
    """

    name: Literal["deep_supervision"] = "deep_supervision"

    def readouts(self, spec: TrainSpec) -> tuple[int, ...]:
        return tuple(range(len(spec.network.widths)))

    def loss(self, stack: Stack, batch: Batch) -> Tensor:
        return stack.summed_cross_entropy(batch, local=False)


def _by_name(baseline: object) -> object:
    """Return the object that a bare name stands for."""
    return {"name": baseline} if isinstance(baseline, str) else baseline


def _briefly(baseline: Baseline) -> object:
    """Return the bare name of an entry without settings of its own, else what it sets."""
    fields = brief(baseline)
    return fields["name"] if len(fields) == 1 else fields


BaselineName = Literal["cross_entropy", "ff_objective", "greedy_cross_entropy", "deep_supervision"]
BaselineEntry = Annotated[
    CrossEntropy | FFObjective | GreedyCrossEntropy | DeepSupervision, Field(discriminator="name")
]
AnyBaseline = Annotated[
    BaselineEntry,
    BeforeValidator(_by_name, json_schema_input_type=BaselineName | BaselineEntry),
    PlainSerializer(_briefly, return_type=BaselineName | dict[str, JsonValue]),
]


class Leg(NamedTuple):
    """A stretch of the training of a run's baselines: one stage of one trial.

    **Attributes:**

    - `place`: the baseline, by its place in `evaluation.baselines`.
    - `trial`: the learning rate that is tried, from 0.
    - `trials`: how many are tried.
    - `stage`: the stage, from 0.
    - `stages`: how many there are.
    - `epochs`: how many epochs it has.
    - `batch_size`: samples of a step.
    """

    place: int
    trial: int
    trials: int
    stage: int
    stages: int
    epochs: int
    batch_size: int


def legs(spec: TrainSpec) -> Iterator[Leg]:
    """Yield the stretches of training of a run's baselines, in order.

    **Arguments:**

    - `spec`: the run.
    """
    for place, baseline in enumerate(spec.evaluation.baselines):
        trials, stages = max(1, len(baseline.rates)), len(baseline.stages(spec))
        epochs, size = baseline.epochs or spec.epochs, baseline.batch_size or spec.batch_size
        for trial in range(trials):
            for stage in range(stages):
                yield Leg(place, trial, trials, stage, stages, epochs, size)


def find_leg(spec: TrainSpec, epoch: int) -> tuple[Leg, int] | None:
    """Return where the baselines of a run stand after a number of their epochs.

    **Arguments:**

    - `spec`: the run.
    - `epoch`: how many epochs of its baselines are done.

    **Returns:**

    The stretch that is under way, and how many of its epochs are done; None at the end.
    """
    for leg in legs(spec):
        if epoch < leg.epochs:
            return leg, epoch
        epoch -= leg.epochs
    return None


def baseline_in_words(spec: TrainSpec, epoch: int) -> str:
    """Say where the baselines of a run stand: `baseline cross_entropy: rate 2 of 4, epoch 3 of 20`.

    **Arguments:**

    - `spec`: the run.
    - `epoch`: how many epochs of its baselines are done.
    """
    found = find_leg(spec, epoch)
    if found is None:
        return "baselines: done"
    leg, done = found
    parts = [f"rate {leg.trial + 1} of {leg.trials}"] if leg.trials > 1 else []
    parts += [f"layer {leg.stage}"] if leg.stages > 1 else []
    parts += [f"epoch {done + 1} of {leg.epochs}"]
    return f"baseline {spec.evaluation.baselines[leg.place].name}: {', '.join(parts)}"
