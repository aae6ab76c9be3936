"""Results: plain rows, findings and provenance. There are no tensors and no NaN.

An undefined figure is null. Fields that a later version added have defaults, so that the results of
an earlier version stay readable.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from ffengine.baselines import BaselineName
from ffengine.entry import ExactTypes
from ffengine.summary_keys import figure_of
from ffengine.text import StoredText
from ffengine.theorems import Direction, TheoremNumber

Split = Literal["positive", "negative"]
Ratio = Annotated[float, Field(ge=0, le=1)]
# left out of a row that does not have it: eight nulls more would be a quarter of a row
Reading = Annotated[Ratio | None, Field(exclude_if=lambda value: value is None)]
ActName = Literal["inflating", "recruiting", "selecting", "condensed", "sleeping"]

# Figures that are shares of samples (see `counted`), and all figures that lie within 0 and 1
COUNTED = frozenset(
    {
        "ratio",
        "theorem1_ratio",
        "theorem2_ratio",
        "observed_increase_ratio",
        "agreement",
        "accuracy",
        "layer_accuracy",
        "theorem2_difference_ratio",
        "theorem2_expected_ratio",
        "theorem2_total_ratio",
        "joint_increase_ratio",
        "total_agreement",
        "local_agreement",
        "theorem1_map_ratio",
        "theorem1_pooled_ratio",
        "theorem2_pooled_ratio",
    }
)
SHARES = COUNTED | {
    "sparsity",
    "zero_fraction",
    "treves_rolls",
    "gini",
    "mask_flip_rate",
    "near_zero_rate",
    "active_share",
    "kappa",
    "weight_sparsity",
    "weight_gini",
    "excitatory_share",
    "position_sparsity",
    "pooled_sparsity",
    "dead_positions",
    "theorem1_position_ratio",
    "theorem2_position_ratio",
}


class Row(BaseModel):
    """A result: immutable and strict."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EpochRow(Row):
    """The state of one layer at the end of an epoch, over the monitored samples of one split."""

    seed: int
    layer: int
    epoch: int = Field(description="0: at initialisation")
    split: Split
    samples: int
    dead_samples: int = Field(
        description="samples with h = 0, for which S is undefined; left out of every ratio and "
        "mean of S"
    )
    dead_units: int = Field(description="units that are active for no sample of this split")
    sparsity: float | None = Field(description="mean Hoyer sparsity S over live samples")
    zero_fraction: float = Field(description="share of activations that are exactly 0")
    treves_rolls: float | None = Field(
        None, description="mean Treves-Rolls sparseness over live samples, (1 - a) / (1 - 1/n)"
    )
    gini: float | None = Field(
        None, description="mean Gini index over live samples; null unless monitor.measures names it"
    )
    kurtosis: float | None = Field(
        None,
        description="mean excess kurtosis over live samples; null unless monitor.measures names it",
    )
    goodness: float | None = Field(
        description="mean G, less the threshold of the split; null for objectives over classes"
    )
    loss: float | None = Field(
        description="mean term of the objective; of objectives over classes, the cross-entropy"
    )
    theorem1_ratio: Ratio | None = Field(
        description="satisfied / live, lowering the goodness of this split's batch; null for "
        "objectives over classes"
    )
    theorem1_undecided: int | None = Field(
        None,
        description="live samples whose margin is within rounding of 0; they count as not "
        "satisfied",
    )
    theorem2_ratio: Ratio | None = Field(
        description="satisfied / live, along the step that training takes on the batch"
    )
    theorem2_undecided: int | None = Field(
        None,
        description="live samples whose margin is within rounding of 0; they count as not "
        "satisfied",
    )
    observed_increase_ratio: Ratio | None = Field(
        description="share of live samples whose S rose in that step, in float64"
    )
    agreement: Ratio | None = Field(
        description="share of decided live samples whose predicted sign is the observed one"
    )
    mask_flip_rate: Ratio = Field(
        description="share of masks [h > 0] that the step flips: beyond first order"
    )
    near_zero_rate: Ratio = Field(
        description="share of pre-activations within 1e-6 ||w|| ||x|| of 0: the theorems assume "
        "none"
    )
    eta: float = Field(description="step size")
    coefficient_sum: float | None = Field(
        description="sum of |dL/dG| over this split's samples of a mean batch; null for objectives "
        "over classes"
    )
    input_norm: float = Field(description="mean length of the layer's inputs")
    tau: float | None = Field(
        None,
        description="flow time: the sum of the step sizes since the layer began to learn, a step "
        "being 1 / (1 - momentum) as long with momentum and 1/n with mean_squares; runs of any "
        "width, step size and batch size meet at the same tau under `difference`. Null where "
        "weight decay leaves nothing of the weights",
    )
    act: ActName | None = Field(
        None,
        description="what moved S since the row before; null at initialisation, and for units "
        "that are not relu",
    )
    active_share: Ratio | None = Field(
        None, description="p: mean share of units that are active, over live samples"
    )
    kappa: Ratio | None = Field(
        None,
        description="mean cos(|h|, [h != 0]) over live samples: 1 where the active units are equal",
    )
    kappa_gap: float | None = Field(
        None,
        description="kappa less what relu units with Gaussian pre-activations have at active_share:"
        " 0 while units switch on or off, negative once they are selected; null for other units",
    )
    theorem2_margin: float | None = Field(
        None,
        description="mean |margin| of theorem 2 over live samples, along the training step, in "
        "units of 1 / eta; where it tends to 0 the ratio is noise",
    )
    theorem2_sd: float | None = Field(
        None,
        description="standard deviation of theorem 2's ratio between the monitored batches, along "
        "the training step; null for one batch",
    )
    theorem2_difference_ratio: Ratio | None = Field(
        None,
        description="satisfied / live, along a step on G(negative) - G(positive) of the batch; the "
        "same as theorem2_ratio for the objective `difference` under plain sgd",
    )
    theorem2_expected_ratio: Ratio | None = Field(
        None,
        description="satisfied / live, along a step on G(negative) - G(positive) of all monitored "
        "samples, its negatives averaged over all wrong labels: free of the noise of batches and "
        "labels; for wrong_label on the own image, in the first layer",
    )
    log_goodness: float | None = Field(
        None,
        description="natural logarithm of the mean |G| before the threshold; null where it is 0, "
        "and under `polar`, where G is a logit",
    )
    effective_units: float | None = Field(
        None,
        description="(sum |w|^2)^2 / sum |w|^4 over the units of the layer: n where all weights "
        "are equally long, 1 where one unit has them all",
    )
    effective_rank: float | None = Field(
        None,
        description="(sum s^2)^2 / sum s^4 over the singular values s of W: how many directions "
        "carry its weight",
    )
    basins: float | None = Field(
        None,
        description="effective number of directions that the units have gathered in: n^2 / sum of "
        "the squared sizes of groups whose cosine with their longest unit is above 0.9; null "
        "beyond 8192 units",
    )
    theorem2_total_ratio: Ratio | None = Field(
        None,
        description="satisfied / live, along the joint step of all layers; null in the first layer "
        "that learns and for greedy training, where it is theorem2_ratio",
    )
    joint_increase_ratio: Ratio | None = Field(
        None, description="share of live samples whose S rose in the joint step of all layers"
    )
    total_agreement: Ratio | None = Field(
        None,
        description="share of live samples whose S rose in the joint step just where the total "
        "condition, with the layers below, says so",
    )
    local_agreement: Ratio | None = Field(
        None,
        description="the same of the local condition, that of theorem2_ratio, as if the layers "
        "below stood still",
    )
    log_weight_norm: float | None = Field(
        None,
        description="natural logarithm of the Frobenius norm of W, a bias among its columns; null "
        "where W is 0",
    )
    log_spectral_norm: float | None = Field(
        None,
        description="natural logarithm of the largest singular value of W; null where W is 0, "
        "and unless monitor.measures names spectral_norm",
    )
    log_activation: float | None = Field(
        None,
        description="natural logarithm of the mean |h| over samples and units; null where it is 0",
    )
    inherited_goodness: float | None = Field(
        None,
        description="mean over samples of what the goodness of other layers adds to the layer's "
        "own; null where nothing is added",
    )
    gradient_share: float | None = Field(
        None,
        ge=0,
        description="mean |dL/dG| over what it would be by the layer's own goodness alone; null "
        "where no other layer's is added",
    )
    used_units: int | None = Field(
        None,
        ge=0,
        description="units whose mean |h| over the samples of this split is more than 1 % of the "
        "largest of the layer; 0 where all units are dead",
    )
    weight_sparsity: Ratio | None = Field(
        None,
        description="Hoyer sparsity of all weights of the layer as one vector, a bias among them; "
        "this and the next three are null where W is 0, and unless monitor.measures names weights",
    )
    weight_gini: Ratio | None = Field(
        None, description="Gini index of the magnitudes of these weights"
    )
    excitatory_share: Ratio | None = Field(
        None, description="share of positive ones among the weights that are not 0"
    )
    entropy_rank: float | None = Field(
        None,
        description="exp(H(p)) with p = s / sum s over the singular values s of W: how many "
        "directions the weights spread over, weak ones counted for more than in effective_rank",
    )
    position_sparsity: Reading = Field(
        None,
        description="mean Hoyer sparsity of the channels at a position, over live positions of all "
        "samples; this and the next seven are absent unless monitor.measures names readings",
    )
    pooled_sparsity: Reading = Field(
        None, description="mean Hoyer sparsity of the channels' sums over positions"
    )
    dead_positions: Reading = Field(
        None, description="share of positions at which no channel is active"
    )
    theorem1_position_ratio: Reading = Field(
        None,
        description="theorem 1 of the channels at a position, over live positions: share that "
        "grows sparser while the sum of squares of the batch's maps is lowered",
    )
    theorem1_map_ratio: Reading = Field(
        None, description="the same of whole maps, over live samples"
    )
    theorem1_pooled_ratio: Reading = Field(
        None, description="the same of the channels' sums over positions, over live samples"
    )
    theorem2_position_ratio: Reading = Field(
        None,
        description="as theorem2_ratio, of the channels at a position, over live positions",
    )
    theorem2_pooled_ratio: Reading = Field(
        None,
        description="as theorem2_ratio, of the channels' sums over positions, over live samples",
    )

    def counted(self, figure: str) -> int:
        """Return how many samples a figure is a mean or share of.

        **Arguments:**

        - `figure`: the name of a field.

        **Returns:**

        The number of samples.
        """
        if figure in {"goodness", "log_goodness", "log_activation", "inherited_goodness"}:
            return self.samples
        live = self.samples - self.dead_samples
        return live - (self.theorem2_undecided or 0) if figure == "agreement" else live


class RecordedRow(Row, ExactTypes):
    """The state of one layer of a training loop that fflab did not run, over the samples of one
    split. A field that EpochRow has, too, means the same; a figure that nobody measured is null.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = Field(0, ge=0, le=2**63 - 1)
    layer: int = Field(ge=0, lt=1_000)
    epoch: int = Field(ge=0, le=10**9, description="0: at initialisation")
    split: Split = Field("positive", description="without negatives, all samples are positive")
    samples: int = Field(ge=0, description="measured samples, over the batches of the epoch")
    dead_samples: int = Field(
        0,
        ge=0,
        description="samples with h = 0, for which S is undefined; left out of every ratio and "
        "mean of S",
    )
    dead_units: int | None = Field(
        None, ge=0, description="units (channels) that are active for no sample of this split"
    )
    width: int | None = Field(None, ge=1, description="units of the layer, or channels")
    sparsity: Ratio | None = Field(
        None, description="mean Hoyer sparsity S over live samples; of a convolution, of its map"
    )
    zero_fraction: Ratio | None = Field(None, description="share of activations that are exactly 0")
    treves_rolls: Ratio | None = Field(
        None, description="mean Treves-Rolls sparseness over live samples, (1 - a) / (1 - 1/n)"
    )
    goodness: float | None = Field(None, description="mean sum of squares, without a threshold")
    mean_squares: float | None = Field(None, description="mean of the squares over units")
    loss: float | None = None
    auc: Ratio | None = Field(
        None,
        description="probability that a positive's sum of squares exceeds a negative's; ties count "
        "one half; the same for both splits",
    )
    theorem1_ratio: Ratio | None = Field(
        None, description="satisfied / live, lowering the goodness of this split's batch"
    )
    theorem1_undecided: int | None = Field(
        None,
        ge=0,
        description="live samples whose margin is within rounding of 0; they count as not "
        "satisfied",
    )
    theorem2_difference_ratio: Ratio | None = Field(
        None,
        description="satisfied / live, along a step on G(negative) - G(positive) of the batch",
    )
    theorem2_undecided: int | None = Field(
        None,
        ge=0,
        description="live samples whose margin is within rounding of 0; they count as not "
        "satisfied",
    )
    theorem2_ratio: Ratio | None = Field(
        None, description="satisfied / live, along the step that the training took"
    )
    input_norm: float | None = Field(
        None, ge=0, description="mean length of the layer's inputs, without a bias"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "RecordedRow":
        """Refuse counts that contradict each other."""
        if self.dead_samples > self.samples:
            raise ValueError(f"dead_samples: {self.dead_samples} of {self.samples} samples")
        if self.width is not None and (self.dead_units or 0) > self.width:
            raise ValueError(f"dead_units: {self.dead_units} of {self.width} units")
        return self

    def counted(self, figure: str) -> int:
        """Return how many samples a figure is a mean or share of.

        **Arguments:**

        - `figure`: the name of a field.

        **Returns:**

        The number of samples.
        """
        if figure in {"goodness", "mean_squares", "loss", "auc", "zero_fraction", "input_norm"}:
            return self.samples
        return self.samples - self.dead_samples


Partition = Literal["train", "validation", "test"]
UnitPartition = Literal["train", "validation", "test", "held_out"]


class AccuracyRow(Row):
    """Classification of the samples of a partition: by the label whose overlay excites the network
    most, by the largest logit of an objective over classes, or by a linear classifier.
    """

    seed: int
    layer: int | None = Field(description="null: all layers together")
    layers: tuple[int, ...] = Field((), description="whose goodness or activations are used")
    method: Literal["goodness", "softmax", "linear"] = Field(
        "goodness",
        description="goodness: summed over layers, or the logits of an objective over classes; "
        "softmax: over labels in each layer, then summed; linear: on neutrally labelled samples",
    )
    epoch: int
    partition: Partition
    samples: int
    correct: int
    accuracy: Ratio
    penalty: float | None = Field(
        None,
        description="linear: the L2 penalty, chosen on validation samples where there were several",
    )
    converged: bool | None = Field(
        None, description="linear: whether the fit reached the minimum of its loss"
    )

    def counted(self, _figure: str) -> int:
        """Return how many samples the accuracy is a share of."""
        return self.samples


class EpochAccuracyRow(Row):
    """What a layer, or several together, told apart at the end of an epoch: labels, and positives
    from negatives.
    """

    seed: int
    layer: int | None = Field(description="null: several layers together")
    layers: tuple[int, ...] = Field(description="whose goodness is used")
    method: Literal["goodness", "softmax"] = Field(
        description="goodness: summed over layers, or the logits of an objective over classes; "
        "softmax: over labels in each layer, then summed"
    )
    epoch: int = Field(
        description="of the highest of these layers, counted as in the curves; 0: at initialisation"
    )
    partition: Literal["train", "validation"] = Field(
        description="train: the monitored samples; validation: all of its samples"
    )
    samples: int
    correct: int | None = Field(
        description="samples whose own label has the highest goodness; null where samples carry no "
        "labels"
    )
    accuracy: Ratio | None = Field(description="correct / samples")
    auc: Ratio | None = Field(
        description="probability that a positive's goodness exceeds a negative's; ties count one "
        "half; null for softmax, and where there are no negatives"
    )
    loss: float | None = Field(
        description="mean loss of a pair, or cross-entropy of a sample, of layers that learn "
        "together summed; null for other sums of layers and for softmax"
    )

    def counted(self, _figure: str) -> int:
        """Return how many samples the accuracy is a share of."""
        return self.samples


class SelectedRow(Row):
    """From which epoch the weights of a seed and layer are, where a run chooses or stops by what it
    measures on validation samples.
    """

    seed: int
    layer: int
    epoch: int = Field(description="whose weights are evaluated, and pass to the layers above")
    last_epoch: int = Field(description="the last epoch that the seed learnt in this stage")
    stopped: bool = Field(description="whether it stopped there because nothing improved")
    measure: Literal["accuracy", "auc", "loss"]
    best_epoch: int = Field(description="of equal ones the earliest; 0: at initialisation")
    best: float | None = Field(
        description="the measure there, of the layers that learn together; null where no epoch has "
        "it"
    )


def is_of_all_layers(row: AccuracyRow, rows: Sequence[AccuracyRow]) -> bool:
    """Whether an accuracy is that of all layers together.

    Rows of earlier versions do not name their layers.

    **Arguments:**

    - `row`: one of `rows`.
    - `rows`: all accuracies of a result.

    **Returns:**

    True where the row uses every layer.
    """
    everything = max((other.layers for other in rows), key=len, default=())
    return row.layer is None and row.layers in ((), everything)


class MeasureRow(Row):
    """One trained layer on a partition under the true labels, with negatives of the job's strategy
    beside; without both where its objective is one over classes.
    """

    seed: int
    layer: int
    partition: Partition
    samples: int
    dead_samples: int = Field(description="samples with h = 0, left out of the measures")
    dead_units: int = Field(description="units that are active for no sample")
    sparsity: float | None = Field(description="mean Hoyer sparsity of positives")
    sparsity_correct: float | None = Field(
        description="the same over samples that the goodness of all layers classifies correctly"
    )
    zero_fraction: float = Field(description="share of activations that are exactly 0")
    gini: float | None = Field(description="mean Gini index of positives")
    treves_rolls: float | None = Field(description="mean Treves-Rolls sparseness of positives")
    kurtosis: float | None = Field(description="mean excess kurtosis of positives")
    auc: Ratio | None = Field(
        description="probability that a positive's goodness exceeds a negative's; ties count one "
        "half; null where there are no negatives"
    )
    class_sparsity: tuple[float | None, ...] = Field(
        description="mean Hoyer sparsity of positives, by class"
    )
    class_samples: tuple[int, ...] = Field(description="live positives of each class")


class EnsembleRow(Row):
    """The active-unit ensembles of one trained layer: which units stand for which class (Tosato et
    al. 2023).
    """

    seed: int
    layer: int
    partition: UnitPartition = Field(
        description="held_out: test samples of dataset.held_out_classes, beside those of the "
        "others, under the neutral label and whatever is predicted"
    )
    samples: int = Field(description="correctly classified samples that the ensembles come from")
    excess: float = Field(
        description="a unit belongs where its class mean exceeds (1 + excess) times the mean of "
        "its other class means"
    )
    class_samples: tuple[int, ...] = Field(
        description="how many of these samples each class has; 0: its ensemble is empty"
    )
    sizes: tuple[int, ...] = Field(description="units in the ensemble of each class")
    overlap: tuple[tuple[float, ...], ...] = Field(
        description="shared units over units of either, class by class"
    )
    in_one: Ratio = Field(description="share of units in at least one ensemble")
    in_several: Ratio = Field(description="share of units in at least two")


class UsageRow(Row):
    """How the units of one trained layer share the work on a partition, under the true labels;
    without labels where an objective is one over classes, or negatives need none.
    """

    seed: int
    layer: int
    partition: UnitPartition = Field(
        description="held_out: test samples of dataset.held_out_classes, under the neutral label"
    )
    samples: int
    units: int = Field(description="n, the width of the layer")
    dead_samples: int = Field(description="samples with h = 0")
    dead_units: int = Field(description="units that are active for no sample")
    used_units: int = Field(
        description="units whose mean |h| is more than 1 % of the largest of the layer"
    )
    usage: Ratio = Field(description="used_units / units")
    population_sparsity: float | None = Field(
        description="mean over live samples of Hoyer's S over units: that few units share a sample"
    )
    lifetime_sparsity: float | None = Field(
        description="mean over live units of Hoyer's S over samples: that few samples share a unit"
    )
    usage_deciles: tuple[float, ...] = Field(
        description="mean |h| of the units over the largest of the layer: its minimum, nine "
        "deciles and maximum; empty where all units are dead"
    )


class LayerRangeRow(Row):
    """Which layers, first to last, predict the labels of a seed best on the validation samples, and
    how well they do so there and on the test samples, which had no part in the choice.
    """

    seed: int
    first: int = Field(description="the lowest of the layers whose scores are summed")
    last: int = Field(description="the highest of them")
    candidates: int = Field(
        description="ranges that there are; of equal ones that with the lowest last layer, and of "
        "these the shortest"
    )
    epoch: int = Field(description="whose weights these are, of the highest layer")
    partition: Literal["validation", "test"]
    samples: int
    correct: int
    accuracy: Ratio

    def counted(self, _figure: str) -> int:
        """Return how many samples the accuracy is a share of."""
        return self.samples


class SelectivityRow(Row):
    """How selective the units of one trained layer are for classes, by the mean |h| of each class;
    the samples of a partition do not carry their label.
    """

    seed: int
    layer: int
    partition: UnitPartition = Field(
        description="held_out: test samples of dataset.held_out_classes, beside those of the others"
    )
    samples: int
    inputs: Literal["neutral", "plain"] = Field(
        description="neutral: samples carry the mean of all label patterns; plain: the images "
        "alone, where the run's samples carry no labels"
    )
    units: int = Field(description="n, the width of the layer")
    dead_units: int = Field(
        description="units that are active for no sample, for which selectivity is undefined; left "
        "out of all that follows"
    )
    selectivity: float | None = Field(
        description="mean over live units of (m1 - m2) / (m1 + m2), m1 being the largest class "
        "mean and m2 the mean of the others: 0 for a unit that knows no classes, 1 for one that "
        "answers to one class alone. Null where fewer than two classes have samples"
    )
    deciles: tuple[float, ...] = Field(
        description="the same of the units: its minimum, nine deciles and maximum"
    )
    histogram: tuple[int, ...] = Field(
        description="live units by selectivity, in ten equal bins of 0 to 1"
    )
    one_class: Ratio | None = Field(
        description="share of live units of which one class mean alone is above half of m1"
    )
    mixed: Ratio | None = Field(
        description="share of live units of which several class means are above half of m1, and "
        "not all: mixed selectivity"
    )
    every_class: Ratio | None = Field(
        description="share of live units of which all class means are above half of m1"
    )
    classes_per_unit: float | None = Field(
        description="mean over live units of (sum m)^2 / sum m^2 over the class means m: by how "
        "many classes a unit is driven"
    )
    preferred: tuple[int, ...] = Field(description="live units whose m1 is that of each class")


class OodRow(Row):
    """How well a figure of a trained network tells test samples from samples of another data set;
    samples of both carry the label that the network predicts.
    """

    seed: int
    layer: int | None = Field(description="whose figure it is; null: that of all layers together")
    figure: Literal["goodness", "sparsity"] = Field(
        description="goodness under the predicted label, or the logit of the predicted class; or "
        "Hoyer's S of the activations"
    )
    inputs: Literal["predicted", "plain"] = Field(
        description="plain: samples carry no label, since the run's carry none"
    )
    dataset: str = Field(description="the other data set")
    samples: int = Field(description="test samples that the figure is known of")
    other_samples: int = Field(description="samples of the other data set that it is known of")
    auroc: Ratio | None = Field(
        description="probability that the figure of a test sample is above that of a sample of the "
        "other data set, ties one half: 0.5 tells nothing, below 0.5 the others have more. Null "
        "where the figure is known of no sample, as S where h = 0"
    )
    auroc_low: Ratio | None = Field(
        description="lower end of its 95 % interval over samples (DeLong et al. 1988)"
    )
    auroc_high: Ratio | None = Field(description="upper end of it")
    fpr95: Ratio | None = Field(
        description="share of the other data set's samples whose figure is at least what 95 % of "
        "the test samples reach: what is taken for a test sample where 95 % of those are"
    )


class LesionRow(Row):
    """The accuracy on the test samples that is left once a share of units or weights is removed."""

    seed: int
    baseline: BaselineName | None = Field(description="null: the Forward-Forward network itself")
    place: int | None = Field(description="that of the baseline in the spec, from 0")
    layer: int | None = Field(description="the only layer that loses some; null: each layer does")
    removed: Literal["units", "weights"]
    by: Literal["usage", "magnitude", "random"] = Field(
        description="which go first: the least used, the smallest, or any"
    )
    share: float = Field(description="that was asked for; 0: nothing is removed")
    lost: int = Field(description="how many are removed")
    total: int = Field(description="of how many")
    samples: int
    correct: int
    accuracy: Ratio

    def counted(self, _figure: str) -> int:
        """Return how many samples the accuracy is a share of."""
        return self.samples


class BaselineTrial(Row):
    """A learning rate that a baseline was tried with, on one seed."""

    lr: float
    accuracy: Ratio | None = Field(
        description="on the validation samples; null where the weights are not finite"
    )
    epoch: int = Field(description="epoch whose weights it was measured with")
    diverged: bool = Field(False, description="whether weights or activations are not finite")


class BaselineRow(Row):
    """The same stack trained in another way, for comparison."""

    seed: int
    baseline: BaselineName
    layer: int
    partition: Partition
    samples: int
    sparsity: float | None = Field(
        description="mean Hoyer sparsity of the layer over live samples; null where there is none, "
        "or the weights are not finite"
    )
    dead_units: int = Field(description="units that are active for no sample")
    accuracy: Ratio | None = Field(
        description="of the whole stack, the same in every layer's row: by the readout of the last "
        "layer, of ff_objective by the goodness; null for the latter with strategies "
        "without labels, and where the weights are not finite"
    )
    diverged: bool = Field(
        False, description="whether weights or activations are not finite: there are no figures"
    )
    place: int = Field(0, description="its place in evaluation.baselines, from 0")
    layer_accuracy: Ratio | None = Field(
        None, description="by the layer's own readout; null where it has none"
    )
    optimizer: str | None = Field(
        None, description="the optimiser; null in earlier results: that of the run"
    )
    lr: float | None = Field(
        None,
        description="its learning rate: of several the one that the validation samples chose for "
        "this seed. null in earlier results: that of the run",
    )
    epoch: int | None = Field(
        None, description="epoch whose weights are measured; null in earlier results: the last"
    )
    epochs: int | None = Field(
        None, description="epochs of training; null in earlier results: those of the run"
    )
    batch_size: int | None = Field(
        None, description="samples of a step; null in earlier results: those of the run"
    )
    own_optimizer: bool = Field(
        False, description="whether the spec gives it an optimiser of its own"
    )
    tuned: bool = Field(
        False, description="whether validation samples chose the learning rate among several"
    )
    select: Literal["last", "best_validation"] = Field(
        "last", description="which epoch's weights are kept"
    )
    trials: tuple[BaselineTrial, ...] = Field(
        (), description="the learning rates that were tried, of several"
    )

    def counted(self, _figure: str) -> int:
        """Return how many samples an accuracy is a share of."""
        return self.samples


class CheckCell(Row):
    """One theorem, one layer, one split, one method."""

    theorem: TheoremNumber
    width: int
    seed: int
    layer: int
    epoch: int = Field(description="0: at initialisation")
    split: Split
    batch_size: int
    method: Literal["exact", "infinite_width"]
    samples: int
    live: int
    satisfied: int
    undecided: int | None = Field(
        None,
        description="live samples whose margin is within rounding of 0; they count as not "
        "satisfied",
    )
    ratio: Ratio | None = Field(description="satisfied / live; null where no sample is live")
    observed_increase_ratio: Ratio | None = Field(
        description="share of live samples whose S rose in a trial step; exact only"
    )
    agreement: Ratio | None = Field(
        description="exact: predicted sign = observed sign; infinite_width: predicted = exact sign"
    )
    mask_flip_rate: Ratio | None = Field(
        description="share of masks that the trial step flips; exact only"
    )
    near_zero_rate: Ratio | None = Field(
        description="share of pre-activations within 1e-6 ||w|| ||x|| of 0; exact only"
    )
    eta: float | None = Field(description="mean size of the trial step; exact only")
    input_norm: float = Field(description="mean length of the inputs")
    theorem2_direction: Direction | None = Field(
        None, description="the step along which theorem 2 is checked; null for theorem 1"
    )

    @model_validator(mode="before")
    @classmethod
    def _as_before(cls, cell: object) -> object:
        """Fill in the direction of earlier versions, which knew one alone."""
        if isinstance(cell, dict) and cell.get("theorem") == 2:
            return {"theorem2_direction": "goodness_difference", **cell}
        return cell

    def counted(self, figure: str) -> int:
        """Return how many samples a figure is a share of.

        **Arguments:**

        - `figure`: the name of a field.

        **Returns:**

        The number of samples.
        """
        return self.live - (self.undecided or 0) if figure == "agreement" else self.live


class AngleRow(Row):
    """Angles theta between the samples x_i of one split and all other samples x_k of their batch,
    in equal bins from 0 to 180 degrees.
    """

    seed: int
    layer: int
    epoch: int = Field(description="0: at initialisation")
    split: Split = Field(
        description="of the x_i, which push: with the theorem's sign for this split"
    )
    samples: int = Field(description="x_i")
    beside: int = Field(description="x_k, of every split, each x_i among them")
    batch_samples: int = Field(
        description="of this split in the batch; where there are more than `samples`, the first "
        "were taken"
    )
    pairs: tuple[int, ...] = Field(
        description="pairs i != k by angle; those with a sample of length 0 are left out"
    )
    energy: tuple[float, ...] = Field(description="sum of ||x_i||^2 over these pairs")


class PotentialRow(Row):
    """The potentials U of positives and of negatives at the samples of one split: at infinite width
    and at initialisation, theorem 2 holds where that of negatives is the larger.
    """

    seed: int
    split: Split = Field(description="of the samples at which the potentials are compared")
    samples: int = Field(description="samples of a length above 0")
    energy_ratio: float = Field(description="mean ||x||^2 of negatives over that of positives")
    positive_potential: float = Field(description="mean U of positives at these samples")
    negative_potential: float = Field(description="mean U of negatives at these samples")
    potential_ratio: float | None = Field(
        description="negative_potential / positive_potential; above 1, theorem 2 is expected to "
        "hold for most of these samples"
    )
    predicted_ratio: Ratio = Field(
        description="share of these samples at which U of negatives is the larger"
    )


Relation = Literal["own_pair", "same_class_label", "same_class", "other_class_label", "other_class"]


class PushRow(Row):
    """What the pairs of one relation to a sample add to its margin of theorem 2, in the mean over
    the samples of one split of a batch. A pair is a positive and its negative.

    The angle of a pair is that between the sample and the mean of the two samples of the pair.
    """

    seed: int
    width: int
    layer: int
    epoch: int = Field(description="0: at initialisation")
    method: Literal["exact", "infinite_width"]
    split: Split
    relation: Relation = Field(
        description="own_pair: the sample and its partner; otherwise whether the pair's image is "
        "of the class of the sample's image, and (_label) one of the pair shows the label that the "
        "sample shows"
    )
    samples: int = Field(description="live samples")
    pairs: int = Field(description="pairs of this relation, over all samples")
    push: float | None = Field(
        description="mean of the sum over these pairs, in standard deviations of the margin; the "
        "relations' pushes add up to margin / margin_deviation"
    )
    agreement: Ratio | None = Field(
        description="share of the samples that these pairs push whose margin has the sign of that "
        "push"
    )
    margin: float | None = Field(description="mean margin")
    margin_deviation: float = Field(description="standard deviation of the margin over samples")
    by_angle: tuple[float, ...] = Field(
        (),
        description="`push` by the angle of the pairs, in equal bins from 0 to 180 degrees; empty "
        "where `push` is null, and in earlier results",
    )
    pairs_by_angle: tuple[int, ...] = Field(
        (), description="`pairs` by their angle, in the same bins"
    )
    tau: float | None = Field(None, description="flow time, while training; null in a check")
    act: ActName | None = Field(
        None, description="the act of the layer at this epoch, while training; null in a check"
    )


class Pusher(Row):
    """A pair of the batch that pushes a sample's margin down."""

    sample: int = Field(description="position of the pair's image in the training partition")
    image_class: int
    wrong_label: int = Field(description="the label that the negative of the pair shows")
    relation: Relation
    push: float = Field(description="what it adds to the margin, in standard deviations of it")
    angle: float = Field(
        description="between the pushed sample and the mean of the pair's two samples, in degrees"
    )


class PushedSample(Row):
    """A sample whose margin of theorem 2 is among the most negative, and the pairs of its batch
    that push it down most.
    """

    seed: int
    layer: int
    epoch: int = Field(description="0: at initialisation")
    split: Split
    tau: float | None = None
    act: ActName | None = None
    sample: int = Field(description="position of its image in the training partition")
    image_class: int
    label: int = Field(description="the label that it shows")
    margin: float = Field(description="its margin, in standard deviations over its split")
    pushers: tuple[Pusher, ...] = Field(description="the strongest first")


class SamplePicture(Row):
    """The image of a training sample."""

    sample: int = Field(description="its position in the training partition")
    shape: tuple[int, int, int] = Field(description="channels, height, width")
    pixels: str = Field(
        description="a byte for each value, in base64; of a large image every second, third, ... "
        "pixel"
    )


class Diagnostic(Row):
    """A finding: what was seen, how bad it is, and what to try."""

    code: str
    severity: Literal["info", "warning", "error"]
    message: str
    evidence: dict[str, JsonValue] = {}
    suggestion: str


class DatasetProvenance(Row):
    """Which data the figures were measured on."""

    name: str
    digest: str
    preprocess: str
    train_samples: int
    validation_samples: int = 0
    test_samples: int
    label_strength: float | None = Field(
        None,
        description="what the pattern of a label is multiplied with; null: labels were "
        "preprocessed as pixels, black and white",
    )


class WeightsProvenance(Row):
    """The uploaded network that a check looked at."""

    name: str
    digest: str = Field(description="of its numbers and of what the network is")
    file_digest: str = Field(description="SHA-256 of the file that was uploaded")


class PluginUse(Row):
    """A plug-in, and entries of it."""

    package: str
    version: str
    code_digest: str = Field(description="sha256 of its code: one version may have several")
    entries: tuple[str, ...] = Field(description="each as CATALOGUE.NAME")

    @property
    def identity(self) -> str:
        """What tells one state of a plug-in from another: package, version and code."""
        return f"{self.package}=={self.version}@{self.code_digest[:16]}"


class AttemptProvenance(Row):
    """One of the attempts that brought a result: where it ran, what it brought, how it ended."""

    number: int
    host: str | None = Field(description="the name of the machine; null: not known")
    device: str | None
    device_name: str | None
    threads: int | None
    smaller_pieces: bool = Field(
        False,
        description="whether memory had run out before, so that what is measured was computed in "
        "smaller pieces: its last bits may differ",
    )
    first_layer: int | None = None
    first_epoch: int | None = Field(
        None, description="of its first row; null: it brought none, or rows that are not of epochs"
    )
    last_layer: int | None = None
    last_epoch: int | None = Field(None, description="of its last row")
    began_at: datetime
    ended_at: datetime
    ended_as: str = Field(description="why it ended: `succeeded`, or in words")

    @property
    def kind(self) -> str:
        """The kind of its device, as `cuda`; empty where it is not known."""
        return (self.device or "").partition(":")[0]

    @property
    def epochs(self) -> str:
        """The epochs of its rows, in words; empty where it brought none."""
        if self.first_epoch is None or self.last_epoch is None:
            return ""
        one_layer = self.first_layer == self.last_layer
        first = f"{self.first_epoch:,}" + ("" if one_layer else f" of layer {self.first_layer}")
        last = f"{self.last_epoch:,}" + ("" if one_layer else f" of layer {self.last_layer}")
        return f"epoch {first}" if first == last else f"epochs {first} to {last}"


class Provenance(Row):
    """How a result was obtained."""

    spec_digest: str
    engine_version: str = Field(
        description="of the numerics: results of the same one are comparable figure by figure"
    )
    fflab_version: str | None = Field(
        None, description="of the package; null in results of versions that did not say"
    )
    git_revision: str | None
    python_version: str
    torch_version: str
    numpy_version: str
    device: str
    device_name: str
    gpu_software: str | None = Field(
        None, description="of a GPU: the versions of CUDA, cuDNN and the driver; null of a CPU"
    )
    threads: int
    dtype: str = Field(description="of weights and of everything measured")
    precision: str = Field(
        "float32", description="of the products of training; of a check's margins"
    )
    dataset: DatasetProvenance
    weights: WeightsProvenance | None = Field(
        None, description="of a check of uploaded weights: which; null for every other job"
    )
    seeds: tuple[int, ...]
    plugins: tuple[PluginUse, ...] = Field(
        (), description="the plug-ins whose entries the run used, with version and code"
    )
    wall_seconds: dict[str, float] = Field(
        description="by phase; of the last attempt, where a job was resumed"
    )
    attempts: tuple[AttemptProvenance, ...] = Field(
        (), description="of a job of the service, every attempt from its first to its last"
    )

    @property
    def program(self) -> str:
        """The program that computed the result, in words.

        Before the package had a version of its own, its version was that of the numerics.
        """
        revision = f", revision {self.git_revision[:12]}" if self.git_revision else ""
        return (
            f"fflab {self.fflab_version or self.engine_version}, numerics "
            f"{self.engine_version}{revision}"
        )


class Onset(Row):
    """What is known of the beginning of a training run before it begins: its acts in the first
    layer, from the data and the spec alone. In act 1 units switch on and S falls; in act 2 the
    active ones become unequal and S rises.
    """

    lambda_1: float | None = Field(
        None,
        description="how fast the classes' own directions grow: amplitudes as exp(2 lambda_1 tau). "
        "The largest eigenvalue of A = E[x x^T] over positives less that over negatives, all "
        "units active",
    )
    growth_rates: tuple[float, ...] = Field(
        (), description="the largest eigenvalues of A, 16 at most"
    )
    overlap: float | None = Field(
        None,
        description="q: how likely a unit at random weights that is active on one sample is active "
        "on another. At first the classes' own directions grow at q lambda_1, at lambda_1 once "
        "all units are active",
    )
    recruitment: float | None = Field(
        None,
        description="R: how far units switch on before these directions have grown; near 0 there "
        "is no act 1",
    )
    falls: bool | None = Field(None, description="whether S is expected to fall at first")
    tau_star: float | None = Field(
        None,
        description="flow time at which the mean S of positives and negatives is expected to be "
        "lowest, so that act 2 begins: 0.9 / (q lambda_1), with q the overlap; the factor is "
        "measured, not derived. Null where S is not expected to fall. Results stored without q "
        "have 1.25 / lambda_1",
    )
    tau_star_low: float | None = Field(
        None, description="0.65 / (q lambda_1), the lower end of what was measured"
    )
    tau_star_high: float | None = Field(
        None, description="1.15 / (q lambda_1), the upper end of what was measured"
    )
    tau_end: float | None = Field(
        None, description="flow time of the whole run: the sum of eta over its steps"
    )
    epochs_to_selection: float | None = Field(
        None,
        description="epochs until tau_star; more than the run has where it ends before, at its "
        "mean step size",
    )
    goodness_growth: float | None = Field(
        None,
        description="how fast log G grows with tau in act 2, about: 4 lambda_1, less what "
        "steps of this size lose",
    )
    eta: float | None = Field(None, description="the largest step size of the run")
    eta_c: float | None = Field(
        None,
        description="step size above which the common scale of the weights alternates from step to "
        "step: 1 / (e_1 threshold), e_1 the largest eigenvalue of E[x x^T]; null for objectives "
        "without a threshold",
    )
    unknown: dict[str, str] = Field({}, description="field that is null -> why")
    message: str = Field("", description="the same in a sentence or two")


class TrainResult(Row):
    """Curves, accuracy and findings of a training run."""

    kind: Literal["train"] = "train"
    curves: tuple[EpochRow, ...]
    accuracy: tuple[AccuracyRow, ...]
    accuracy_curves: tuple[EpochAccuracyRow, ...] = Field(
        (),
        description="what layers told apart at each monitored epoch, where monitor.accuracy asks",
    )
    selected: tuple[SelectedRow, ...] = Field(
        (), description="whose weights are kept, where select or stop chooses them"
    )
    measures: tuple[MeasureRow, ...] = ()
    ensembles: tuple[EnsembleRow, ...] = ()
    baselines: tuple[BaselineRow, ...] = ()
    usage: tuple[UsageRow, ...] = ()
    selectivity: tuple[SelectivityRow, ...] = ()
    lesions: tuple[LesionRow, ...] = ()
    layer_range: tuple[LayerRangeRow, ...] = Field(
        (), description="which layers predict, where evaluation.layer_range asks"
    )
    ood: tuple[OodRow, ...] = ()
    onset: Onset | None = Field(
        None, description="what was known before the first step; null in earlier results"
    )
    decomposition: tuple[PushRow, ...] = Field(
        (),
        description="who pushes, at the epochs that monitor.decomposition names, along the "
        "objective's gradient on the first monitored batch of each seed",
    )
    most_pushed: tuple[PushedSample, ...] = Field(
        (), description="the samples of the first seed with the most negative of these margins"
    )
    pictures: tuple[SamplePicture, ...] = Field(
        (), description="the images of `most_pushed`, where samples have the shape of an image"
    )
    diagnostics: tuple[Diagnostic, ...]
    provenance: Provenance

    def is_of_all_layers(self, row: AccuracyRow) -> bool:
        """Whether an accuracy of this result is that of all layers together.

        **Arguments:**

        - `row`: one of `accuracy`.

        **Returns:**

        True where the row uses every layer.
        """
        return is_of_all_layers(row, self.accuracy)


class CheckResult(Row):
    """Ratios and findings of a theorem check."""

    kind: Literal["check"] = "check"
    theorem: TheoremNumber
    cells: tuple[CheckCell, ...]
    geometry: tuple[AngleRow, ...] = Field(
        (), description="angles between the samples of the first seed's first batch"
    )
    potentials: tuple[PotentialRow, ...] = Field(
        (),
        description="what the samples alone predict for theorem 2 at initialisation and infinite "
        "width, over the first batch of each seed",
    )
    decomposition: tuple[PushRow, ...] = Field(
        (), description="who pushes, over the first batch of each seed, where it was asked for"
    )
    diagnostics: tuple[Diagnostic, ...]
    provenance: Provenance


class ForecastPoint(Row):
    """What a small run says of layers of any width, at one epoch and of one split.

    The C of a sample is S without its width factor: 1 - E|h| / sqrt(E h^2), the mean being over
    units.
    """

    seed: int
    layer: int = 0
    epoch: int = Field(description="0: at initialisation")
    split: Split
    tau: float = Field(description="flow time since initialisation")
    samples: int
    dead_samples: int = Field(description="samples with h = 0, left out of every mean")
    c: float | None = Field(
        description="mean C over live samples, as infinitely many units would have it"
    )
    c_slope: float | None = Field(
        description="how much lower it is with n units, times n: C of n units is c - c_slope / n"
    )
    c_without: tuple[float, ...] = Field(
        description="mean C of the small run without each block of units, for the jackknife"
    )
    theorem2_ratio: float | None = Field(
        description="share of live samples whose S rises to first order along the gradient of all "
        "measured samples, averaged over all wrong labels where these are the negatives. From few "
        "units it is biased at initialisation, and only there"
    )
    theorem2_without: tuple[float, ...] = Field(
        description="the same without each block of units; empty where no sample is live"
    )

    def counted(self, _figure: str) -> int:
        """Return how many samples a figure is a mean or share of."""
        return self.samples - self.dead_samples


class ForecastRow(Row):
    """What is forecast of one width at one flow time. Every interval is at 95 %."""

    width: int | None = Field(description="null: the limit of infinite width")
    split: Split
    epoch: int = Field(description="of the small run")
    tau: float = Field(description="flow time since initialisation")
    c: float = Field(description="S without its width factor (sqrt(n) / (sqrt(n) - 1))")
    sparsity: float = Field(description="mean Hoyer sparsity S, expected of layers of this width")
    low: float = Field(description="bounds of what is expected of this width")
    high: float
    run_low: float = Field(description="bounds of what one run of this width has")
    run_high: float
    theorem2_ratio: float | None = Field(
        description="share of samples that satisfy theorem 2, as many units have it; biased at "
        "initialisation"
    )
    theorem2_low: float | None
    theorem2_high: float | None
    seeds: int = Field(description="small runs that the forecast is made of")


class SelectionOnset(Row):
    """Where act 1 ends: theorem 2 of both splits crosses one half upwards after its lowest."""

    outcome: Literal["crossed", "never_below", "not_reached"] = Field(
        description="never_below: it holds for more than half of both splits after the first "
        "measured step, so S does not fall first; not_reached: the small run ended before"
    )
    tau: float | None
    low: float | None = Field(description="bounds at 95 %")
    high: float | None = Field(description="null with a tau: beyond the end of the small run")


class EpochsNeeded(Row):
    """How long a training run of a width has to be. Bounds are at 95 %."""

    width: int
    lr: float = Field(description="with scale_lr_by_width: eta = lr / n")
    batch_size: int
    train_samples: int
    as_forecast: bool = Field(description="whether its steps are those of the forecast's small run")
    tau_of_step: float
    tau_of_epoch: float
    epochs: float | None = Field(description="until act 1 ends; null where it is not known")
    low: float | None
    high: float | None
    epochs_to_end: float = Field(description="until the flow time at which the forecast ends")


class ForecastResult(Row):
    """S of layers of any width over flow time, forecast from a small run."""

    kind: Literal["forecast"] = "forecast"
    rows: tuple[ForecastRow, ...]
    onset: SelectionOnset
    epochs_needed: tuple[EpochsNeeded, ...]
    points: tuple[ForecastPoint, ...] = Field(
        description="what the small run measured; any other width is forecast from these as well"
    )
    units: int
    units_interact: bool = Field(
        description="whether units depend on one another, so that the bands come from the spread "
        "of seeds in place of that of units"
    )
    diagnostics: tuple[Diagnostic, ...]
    provenance: Provenance


class Interval(Row):
    """Mean over seeds with its 95 % confidence interval, a share's within 0 and 1; null bounds with
    one seed.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int


class StudyCell(Row):
    """One grid cell: what was varied, and the figures of its child job."""

    part: StoredText
    params: dict[str, JsonValue]
    kind: Literal["train", "check", "forecast", "unread"] = Field(
        description="unread: another version of fflab stored the run, and this one cannot read it"
    )
    theorem: TheoremNumber | None = Field(
        None, description="that of a check; null for other runs, and in earlier results"
    )
    theorem2_direction: Direction | None = Field(
        None, description="the step along which a check looks at theorem 2; null for other runs"
    )
    spec_digest: str
    job: str | None = None
    state: str
    summary: dict[str, Interval] = Field(
        description="figure -> interval over seeds; keys name split, layer, width, method"
    )
    acts: dict[str, str] = Field(
        {},
        description="the act of a training run at its last epoch, by layer and split; the acts of "
        "all seeds where they differ",
    )
    diagnostics: tuple[Diagnostic, ...] = ()
    pruned_at: int | None = Field(
        None,
        description="of a search that prunes: the epoch at which the trial was worse than those "
        "before it; what it measured later does not count",
    )

    @field_validator("summary")
    @classmethod
    def _within_bounds(cls, summary: dict[str, Interval]) -> dict[str, Interval]:
        """Cut the intervals of shares to [0, 1]; those of earlier versions may reach beyond."""
        return {
            key: within_0_and_1(found) if figure_of(key) in SHARES else found
            for key, found in summary.items()
        }


def within_0_and_1(found: Interval) -> Interval:
    """Cut an interval to [0, 1], as that of a share.

    A mean leaves it by rounding alone, where every value is 0 or 1.

    **Arguments:**

    - `found`: the interval.

    **Returns:**

    The interval, whose bounds and mean are within 0 and 1, or NaN where they were.
    """
    parts = {"mean": found.mean, "low": found.low, "high": found.high}
    if all(value is None or 0.0 <= value <= 1.0 for value in parts.values()):
        return found  # as nearly every one
    return found.model_copy(
        update={  # in this order NaN stays NaN: it must not look like a share of 0
            name: min(max(value, 0.0), 1.0) for name, value in parts.items() if value is not None
        }
    )


class StudyResult(Row):
    """All cells of a study."""

    kind: Literal["study"] = "study"
    cells: tuple[StudyCell, ...]


class RecordedBy(Row):
    """By what a run was recorded that fflab did not compute. All of it is what was said to the
    service.
    """

    computed_by_fflab: Literal[False] = False
    recorded_by: StoredText | None = Field(
        None, description="the name of the API key that it came with; null where none was needed"
    )
    versions: dict[str, StoredText] = Field(
        {}, description="of the programs and libraries that took part, by name"
    )
    device: StoredText | None = None


class RecordedResult(Row):
    """The curves of a run that another program computed."""

    kind: Literal["recorded"] = "recorded"
    curves: tuple[RecordedRow, ...]
    recorded: RecordedBy

    def epoch_rows(self) -> tuple[EpochRow, ...]:
        """Return the rows as those of a training run, for what draws and compares them.

        A figure that was not measured is null, also where a training run always has it.
        """
        missing = dict.fromkeys(EpochRow.model_fields)
        return tuple(
            EpochRow.model_construct(
                **{
                    **missing,
                    **{name: getattr(row, name) for name in SHARED_FIGURES},
                }
            )
            for row in self.curves
        )


SHARED_FIGURES = tuple(name for name in RecordedRow.model_fields if name in EpochRow.model_fields)
AnyResult = Annotated[
    TrainResult | CheckResult | ForecastResult | StudyResult, Field(discriminator="kind")
]
RunResult = TrainResult | CheckResult | ForecastResult
