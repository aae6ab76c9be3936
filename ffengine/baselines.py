"""Catalogue of baselines: the same stack of layers trained in other ways, for comparison.

A baseline says which layers learn together, their loss, and how a label is predicted.
`ffengine.baseline_training` trains and measures them; gradients come from autograd.

Legend: R replicas, N samples, B samples of a batch, m inputs, n width, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

from pydantic import BeforeValidator, Field, JsonValue, PlainSerializer

from ffengine.entry import Entry, brief
from ffengine.optimizers import MAX_EPOCHS, AnyOptimizer

if TYPE_CHECKING:
    from torch import Tensor

    from ffengine.negatives import AnyNegatives

MOST_BASELINES = 8
Stages = tuple[tuple[int, ...], ...]


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


class Inputs(Protocol):
    """What a baseline asks of a partition of N samples."""

    @property
    def plain(self) -> Tensor:
        """(N, m): the images alone."""

    def positives(self, *, labelled: bool) -> Tensor:
        """Return what a positive sample is, (N, m).

        **Arguments:**

        - `labelled`: whether it has its label.
        """


class Losses(Protocol):
    """What losses and predictions of baselines are made of; the stack that learns has it."""

    def last_cross_entropy(self, batch: Batch) -> Tensor:
        """Compute the cross-entropy of the last layer's readout; see `Baseline.loss`.

        **Arguments:**

        - `batch`: which samples.
        """

    def summed_cross_entropy(self, batch: Batch, *, local: bool) -> Tensor:
        """Compute the cross-entropies of the readouts of the layers that learn, summed.

        **Arguments:**

        - `batch`: which samples, and which layers learn.
        - `local`: whether gradients stay in their layer.
        """

    def ff_objective(self, batch: Batch) -> Tensor:
        """Compute the objective of the run on positives and negatives, summed over layers.

        **Arguments:**

        - `batch`: which samples.
        """

    def predicted_by_goodness(self, samples: Any, rows: slice) -> Tensor | None:
        """Predict the labels of some samples as Forward-Forward does; see `Baseline.predicted`.

        **Arguments:**

        - `samples`: a partition.
        - `rows`: which of its samples.
        """


class Baseline(Entry, ABC):
    """A way of training the run's stack of layers that is no Forward-Forward."""

    # samples of a step for each one that is learnt from
    sides: ClassVar[int] = 1
    # whether samples carry their label where those of the run do
    sees_labels: ClassVar[bool] = False
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

    def stages(self, of_run: Stages) -> Stages:
        """Return the layers that learn together, stage after stage.

        **Arguments:**

        - `of_run`: those of the run.
        """
        return (tuple(layer for stage in of_run for layer in stage),)

    def readouts(self, layers: int) -> tuple[int, ...]:
        """Return the layers that have a linear readout of their own.

        **Arguments:**

        - `layers`: how many the run has.
        """
        return ()

    def classifies(self, negatives: AnyNegatives) -> bool:
        """Whether it predicts labels.

        **Arguments:**

        - `negatives`: the strategy of the run.
        """
        return True

    def inputs(self, negatives: AnyNegatives, samples: Inputs) -> Tensor:
        """Return what the first layer receives of samples.

        **Arguments:**

        - `negatives`: the strategy of the run.
        - `samples`: a partition of N samples.

        **Returns:**

        (N, m).
        """
        return samples.plain

    @abstractmethod
    def loss(self, stack: Losses, batch: Batch) -> Tensor:
        """Compute the loss of a batch, summed over replicas.

        The sum leaves the weights of the replicas independent of each other.

        **Arguments:**

        - `stack`: the layers and their readouts.
        - `batch`: which samples, and which layers learn.

        **Returns:**

        The loss, a scalar with a gradient.
        """

    def predicted(self, stack: Losses, samples: Inputs, rows: slice) -> Tensor | None:
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

    def readouts(self, layers: int) -> tuple[int, ...]:
        return (layers - 1,)

    def loss(self, stack: Losses, batch: Batch) -> Tensor:
        return stack.last_cross_entropy(batch)


class FFObjective(Baseline):
    """The same stack trained by backpropagation on the FF objective summed over its layers."""

    sides: ClassVar[int] = 2
    sees_labels: ClassVar[bool] = True
    name: Literal["ff_objective"] = "ff_objective"

    def classifies(self, negatives: AnyNegatives) -> bool:
        return negatives.labelled

    def inputs(self, negatives: AnyNegatives, samples: Inputs) -> Tensor:
        return negatives.positive(samples.positives(labelled=negatives.labelled))

    def loss(self, stack: Losses, batch: Batch) -> Tensor:
        return stack.ff_objective(batch)

    def predicted(self, stack: Losses, samples: Inputs, rows: slice) -> Tensor | None:
        return stack.predicted_by_goodness(samples, rows)


class GreedyCrossEntropy(Baseline):
    """The same stack with a linear readout of each layer, each trained on the cross-entropy of its
    own readout alone, so that no gradient leaves a layer: one layer after the other or all at once,
    as the layers of the run do (Belilovsky et al. 2019).
    """

    name: Literal["greedy_cross_entropy"] = "greedy_cross_entropy"

    def stages(self, of_run: Stages) -> Stages:
        return of_run

    def readouts(self, layers: int) -> tuple[int, ...]:
        return tuple(range(layers))

    def loss(self, stack: Losses, batch: Batch) -> Tensor:
        return stack.summed_cross_entropy(batch, local=True)


class DeepSupervision(Baseline):
    """The same stack with a linear readout of each layer, trained by backpropagation on the sum of
    the readouts' cross-entropies of the labels (Lee et al. 2015).
    """

    name: Literal["deep_supervision"] = "deep_supervision"

    def readouts(self, layers: int) -> tuple[int, ...]:
        return tuple(range(layers))

    def loss(self, stack: Losses, batch: Batch) -> Tensor:
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


class SavedBaselines(NamedTuple):
    """What baselines need to go on with the same bits, apart from their position.

    **Attributes:**

    - `figures`: rows, trials and what is known of the weights that are kept, as JSON has it.
    - `tensors`: weights and the optimiser's tensors, by name.
    """

    figures: dict[str, Any]
    tensors: dict[str, Tensor]
