"""Specs: what may be asked of the engine.

HTTP bodies, files, messages, cache keys and the engine's arguments all use these models.
"""

import hashlib
import math
from bisect import bisect_left
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    StringConstraints,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ffengine import uploads
from ffengine.activations import AnyActivation
from ffengine.additions import ADDED
from ffengine.baselines import MOST_BASELINES, AnyBaseline, BaselineEntry
from ffengine.datasets import DATASETS, Dataset, Datasets
from ffengine.entry import (
    Entry,
    SpecFieldError,
    SpecMeta,
    brief,
    entries,
    meaning_of,
    name_of,
)
from ffengine.inits import INITS, AnyInit, InitName
from ffengine.label_codes import AnyLabelCode, LabelCode, LabelCodeEntry, OneHot
from ffengine.layer_kinds import (
    AnyLayer,
    DenseLayer,
    LayerPlan,
    PoolLayer,
    plans_of,
    refuse_wrong_layers,
    units_of,
)
from ffengine.negatives import AnyNegatives, NoNegatives, Relabelling, WrongLabel
from ffengine.objectives import (
    AnyGoodness,
    AnyObjective,
    ChannelAssignment,
    ClassBlock,
    Difference,
    MeanSquares,
    MultiClass,
    Objective,
    Polar,
    SumSquares,
    Thresholded,
)
from ffengine.optimizers import MAX_EPOCHS, AnyOptimizer, Sgd
from ffengine.partitions import class_shares
from ffengine.plugins import REGISTRY, load_plugins
from ffengine.results import Split
from ffengine.search_spec import SearchSpec
from ffengine.step_flow import eta_of_flow, flow_of_eta, tells_all_rates
from ffengine.text import SeenValue, UserText, composed, is_stored
from ffengine.theorems import Direction, TheoremNumber

load_plugins()  # before a spec is built, whose fields take the entries that there are

# Fields that came later, as they are written where they are not given. A digest leaves them out, so
# that a spec keeps the digest that results and checkpoints know it by.
ADDED_LATER = (
    '"label_strength":null,',
    '"label_code":"one_hot",',
    '"along":"goodness_difference",',
    '"goodness":"sum_squares","decomposition":false,',  # objectives have a goodness, too
    ',"negative_threshold":null',
    ',"collaboration":null',
    ',"own_states":false',  # of phases, before the next two entries
    ',"unit":"steps","lr_ratio":1.0',
    '"phases":{"positive_steps":0,"negative_steps":0},',
    '"decomposition":[],',
    '"accuracy":false,',
    '"select":"last","stop":null,',
    ',"usage":false',
    ',"selectivity":false',
    ',"lesions":null',
    ',"layer_range":false',
    ',"ood":null',
    ',"diagonal":true,"moments":"constant"',
    ',"held_out_classes":[]',
    ',"share":null,"of":"squares"',
    '"layers":[],',  # of a network
    ',"label_gains":[]',
)
OVER_CLASSES = frozenset(
    name_of(entry, "name") for entry in entries(AnyObjective) if issubclass(entry, MultiClass)
)
MAX_SEED = 2**63 - 1
MAX_STUDY_CELLS = 10_000
MOST_DECOMPOSED = 2_000  # pairs of a batch: every pair is set against every sample
MOST_PUSHED = 4  # samples of each split that a decomposition names
PUSHERS = 4  # pairs that it names for each of them
LARGEST_SIDE = 32  # of their pictures, in pixels

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Width = Annotated[int, Field(ge=2, le=65_536)]
Seeds = Annotated[
    tuple[Seed, ...],
    Field(min_length=1, max_length=256, description="seeds; each trains a network of its own"),
]
MeasuredSamples = Annotated[
    int,
    Field(
        ge=2,
        description="number of positives that are measured, and of negatives beside them; at most "
        "the number of training samples",
    ),
]
JobId = Annotated[str, StringConstraints(pattern=r"^job_[0-9a-f]{32}$")]
Preprocess = Literal["unit", "standardize", "center", "unit_norm"]
PREPROCESS_MEANING: dict[Preprocess, str] = {
    "unit": "bytes / 255; the floats of an upload as they are",
    "standardize": "less the mean, over the standard deviation, one number each, of the training "
    "pixels",
    "center": "less the training mean of each pixel, so that angles between samples are obtuse as "
    "often as acute",
    "unit_norm": "each sample scaled to length 1",
}
# the presets are made of specs; ffengine.study.resolved refuses others in words
PresetName = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[a-z0-9_]+$"})]


def _of_catalogue(name: str) -> str:
    """Refuse a data set that is not one of the catalogue."""
    if name not in DATASETS:
        raise ValueError(f"expected one of {', '.join(DATASETS)}")
    return name


DatasetName = Annotated[
    str,
    StringConstraints(pattern=rf"^{uploads.NAME.pattern}$"),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(DATASETS)},
                {"type": "string", "pattern": f"^{uploads.NAME.pattern}$", "title": "Uploaded"},
            ]
        }
    ),
]
CatalogueName = Annotated[
    str, AfterValidator(_of_catalogue), WithJsonSchema({"type": "string", "enum": list(DATASETS)})
]
MOST_LAYERS = 32  # that learn
OF_MAPS = frozenset({"group", "instance"})
OF_PICTURES = (1, 3, 4)  # channels: grey, colour, colour with transparency
LabelPlace = Literal["overlay", "append", "every_layer"]
Normalize = Literal["none", "l2", "rms", "layer", "halves", "group", "instance"]


def _refuse_repeats(path: tuple[str, ...], values: tuple[object, ...]) -> None:
    """Raise SpecFieldError where a field names a value twice."""
    if len(set(values)) != len(values):
        raise SpecFieldError(path, f"each value once, got {list(values)}")


def _refuse_unreadable_labels(code: LabelCode, negatives: AnyNegatives) -> None:
    """Raise SpecFieldError where a strategy makes negatives of one-hot labels alone."""
    if code != OneHot() and negatives.labelled and not isinstance(negatives, Relabelling):
        raise SpecFieldError(
            ("dataset", "label_code"),
            f"{code.name} patterns need negatives that are images under another label, such as "
            f"wrong_label; {negatives.strategy} is made of one-hot labels",
        )


def _refuse_no_negatives(negatives: AnyNegatives, asking: str) -> None:
    """Raise SpecFieldError where negatives are needed and the strategy makes none."""
    if isinstance(negatives, NoNegatives):
        raise SpecFieldError(
            ("negatives",),
            f"{asking} compares positives with negatives, and none makes no negatives; name "
            f"another strategy, such as wrong_label",
        )


def _what_splits_by_pairs(
    activation: str, dataset: "DatasetSpec", negatives: AnyNegatives, batch_size: int | None
) -> tuple[tuple[bool, str], ...]:
    """Return what the decomposition of margins needs, each with whether it is there."""
    return (
        (activation == "relu", "the activation relu"),
        (dataset.label_code == OneHot(), "dataset.label_code one_hot"),
        (
            isinstance(negatives, Relabelling) and negatives.keeps_image,
            "negatives that are the image of their positive under another label",
        ),
        (
            batch_size is not None and batch_size <= MOST_DECOMPOSED,
            f"a batch_size of at most {MOST_DECOMPOSED}",
        ),
    )


class DatasetSpec(Entry):
    """Which samples, and how pixels become inputs."""

    name: DatasetName = Field(
        "mnist-mini", description="name of the data set: one of the catalogue, or an upload"
    )
    preprocess: Preprocess = Field(
        "unit",
        description="how pixels are scaled; what it takes from the data it takes from the training "
        "partition only",
    )
    labels: LabelPlace = Field(
        "overlay",
        description="where the label stands in a sample: in place of its first inputs (overlay), "
        "in front of all of them (append), or there and in front of the activations that each "
        "layer above receives, too (every_layer), after preprocessing and without normalisation",
    )
    label_strength: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="value of a label's input, in place of 1, in units of the preprocessed inputs; "
        "of fourier patterns, the amplitude of the wave. null: for an upload, and for a wave, what "
        "gives the pattern a tenth of the length of a sample (root mean square); for a data set of "
        "the catalogue, the value of a white pixel, or 1 with labels: every_layer",
    )
    label_code: AnyLabelCode = Field(
        OneHot(),
        description="the pattern of a class: a name, or an object where the entry has parameters. "
        + "; ".join(
            f"{name_of(entry, 'name')}: {meaning_of(entry)}" for entry in entries(LabelCodeEntry)
        ),
    )
    train_samples: int | None = Field(
        None,
        ge=2,
        description="number of training samples. Of a data set of the catalogue, the first "
        "ones are taken; of an upload, as many of each class as their share. null:"
        " all that are not used for validation",
    )
    validation_samples: int = Field(
        0,
        ge=0,
        description="number of samples of the training partition that are held out to make choices "
        "with, such as linear_penalties. They are neither learnt from nor counted as test samples",
    )
    test_samples: int | None = Field(
        None,
        ge=1,
        description="number of test samples, chosen as train_samples are. null: all",
    )
    held_out_classes: tuple[Annotated[int, Field(ge=0, le=65_535)], ...] = Field(
        (),
        max_length=1_000,
        description="classes that are neither learnt from nor chosen with. The chosen test samples "
        "of these are a partition of their own, held_out, on which evaluation.ensembles, usage and "
        "selectivity look at them",
    )

    def train_count(self, facts: Dataset) -> int:
        """How many training samples the spec selects of the data set with those facts."""
        return self.train_samples or self.learnable(facts) - self.validation_samples

    def learnable(self, facts: Dataset) -> int:
        """Return how many training samples are of classes that are not held out.

        **Arguments:**

        - `facts`: the facts of the data set.
        """
        counts = enumerate(facts.class_counts)
        return sum(count for one, count in counts if one not in self.held_out_classes)

    def inputs(self, facts: Dataset, *, labelled: bool) -> int:
        """Return how many inputs a sample of a data set has, with its label or without.

        **Arguments:**

        - `facts`: the facts of the data set.
        - `labelled`: whether a sample has its label.

        **Returns:**

        m, without the bias input.
        """
        front = labelled and self.labels != "overlay"
        return facts.inputs + (self.label_code.label_inputs(facts.classes) if front else 0)

    @property
    def labels_are_pixels(self) -> bool:
        """Whether a data set of the catalogue has label inputs that are preprocessed as pixels."""
        return self.label_strength is None and self.labels != "every_layer"

    def test_count(self, facts: Dataset) -> int:
        """How many test samples the spec selects of the data set with those facts."""
        return self.test_samples or facts.test_samples

    def refuse_misfit(self, facts: Dataset, *, labelled: bool = True) -> None:
        """Raise SpecFieldError where a data set does not have what the spec selects of it.

        **Arguments:**

        - `facts`: the facts of the data set.
        - `labelled`: whether samples carry labels, which need room.

        **Raises:**

        - `SpecFieldError`: it has too few samples, or no inputs besides the label's; its path leads
          to the field of this object.
        """
        self._refuse_unknown_classes(facts)
        train, test = self.train_count(facts), self.test_count(facts)
        for field, asked, there in (
            ("train_samples", train + self.validation_samples, self.learnable(facts)),
            ("test_samples", test, facts.test_samples),
        ):
            if asked > there:
                raise SpecFieldError((field,), f"{asked} asked, but {self.name} has {there}")
        if train < 2:
            raise SpecFieldError(
                ("validation_samples",),
                f"{self.validation_samples} leaves no samples to train on",
            )
        self._refuse_one_class(train, facts)
        if labelled:
            self._refuse_misfit_labels(facts)

    def _refuse_unknown_classes(self, facts: Dataset) -> None:
        """Raise SpecFieldError where classes are held out that are not there, or nearly all."""
        field = ("held_out_classes",)
        if unknown := [one for one in self.held_out_classes if one >= facts.classes]:
            raise SpecFieldError(
                field, f"{self.name} has the classes 0 to {facts.classes - 1}, not {unknown[0]}"
            )
        if facts.classes - len(self.held_out_classes) < 2:
            raise SpecFieldError(field, "leave at least two classes to learn")

    def _refuse_misfit_labels(self, facts: Dataset) -> None:
        """Raise SpecFieldError where labels leave no image, or classes have no pattern each."""
        label_inputs = self.label_code.label_inputs(facts.classes)
        if self.labels == "overlay" and label_inputs >= facts.inputs:
            what = (
                f"{facts.classes} classes"
                if self.label_code == OneHot()
                else (f"{label_inputs} inputs of a label")
            )
            raise SpecFieldError(
                ("labels",), f"{what} leave nothing of {facts.inputs} inputs; use append"
            )
        most = self.label_code.most_classes(facts.shape)
        if facts.classes > most:
            raise SpecFieldError(
                ("label_code",),
                f"{self.label_code.name} has {most:g} patterns here, and {self.name} has "
                f"{facts.classes} classes",
            )

    @model_validator(mode="after")
    def _consistent(self) -> "DatasetSpec":
        """Refuse classes that are named twice, and patterns that are added to the image where
        labels stand in front of it.
        """
        _refuse_repeats(("held_out_classes",), self.held_out_classes)
        if self.label_code.added and self.labels != "overlay":
            raise SpecFieldError(
                ("labels",),
                f"{self.label_code.name} patterns lie over the image; use overlay"
                + (", or the code one_hot or random" if self.labels == "every_layer" else ""),
            )
        return self

    def _refuse_one_class(self, train: int, facts: Dataset) -> None:
        """Raise SpecFieldError where the training samples of an upload would be of one class."""

        def has_two(samples: int) -> bool:
            return int(np.count_nonzero(class_shares(facts.class_counts, samples))) > 1

        if not facts.uploaded or has_two(train):
            return
        field = "train_samples" if self.train_samples else "validation_samples"
        enough = bisect_left(range(facts.train_samples), True, lo=train, key=has_two)
        raise SpecFieldError(
            (field,),
            f"of {train} training samples all are of one class, and negatives need two: train on "
            f"{enough} or more",
        )

    @model_validator(mode="after")
    def _within_the_catalogue(self) -> "DatasetSpec":
        """Refuse what the catalogue contradicts; of an upload nothing is known here."""
        if self.name in DATASETS:
            self.refuse_misfit(DATASETS[self.name])
        return self


class NetworkSpec(Entry):
    """A stack of fully connected layers, or of convolutions, pools and fully connected layers."""

    widths: tuple[Width, ...] = Field(
        (500,),
        min_length=1,
        max_length=32,
        description="units of each fully connected layer, first to last; left out (or the default) "
        "where layers are named",
    )
    layers: tuple[AnyLayer, ...] = Field(
        (),
        max_length=64,
        description="in place of widths, layers of images, first to last: conv, pool and dense; "
        "needs the objective class_block or channel_assignment",
    )
    activation: AnyActivation = "relu"
    bias: bool = Field(False, description="the paper's layers have none")
    init: AnyInit = Field(
        "gaussian", description="; ".join(f"{name}: {init.meaning}" for name, init in INITS.items())
    )
    normalize: Normalize = Field(
        "none",
        description="scaling of the input of every layer but the first, activations to length "
        "(l2) or root mean square (rms) 1, to mean 0 and variance 1 within the sample (layer), or "
        "each half of the units to length 1 (halves; it scales the first layer's input as l2 "
        "does). Of network.layers also to mean 0 and variance 1 within the block of channels of "
        "each class (group), or within each channel (instance); pools come first",
    )
    normalize_first: bool = Field(
        False,
        description="scale the input of the first layer in the same way, after dataset.preprocess",
    )
    pass_dead_units: bool = Field(
        False,
        description="learn as if the slope were 1 everywhere, so that peer normalisation can "
        "revive dead units (Löwe 2023)",
    )
    label_gains: tuple[Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)], ...] = Field(
        (),
        max_length=MOST_LAYERS - 1,
        description="with dataset.labels: every_layer, by what the label is multiplied in front of "
        "the activations that each layer above the first receives, a number for each of them; "
        "[]: 1 everywhere",
    )

    @property
    def derived(self) -> frozenset[str]:
        """What follows from other fields: of named layers, the widths."""
        return frozenset({"widths"} if self.layers else ())

    @model_validator(mode="after")
    def _one_kind_of_layers(self) -> "NetworkSpec":
        """Refuse layers that contradict widths or each other; fill in how wide they are."""
        if not self.layers:
            if self.normalize in OF_MAPS:
                raise SpecFieldError(
                    ("normalize",),
                    f"{self.normalize} is of maps, which network.widths do not make; use layer, or "
                    f"name network.layers",
                )
            return self
        # a form that has every field sends the default beside the layers
        default = type(self).model_fields["widths"].default
        if "widths" in self.model_fields_set and self.widths not in (
            default,
            units_of(self.layers),
        ):
            raise SpecFieldError(
                ("widths",), "name either widths or layers, which have channels and units"
            )
        refuse_wrong_layers(self.layers)
        self._refuse_no_normalisation()
        units = units_of(self.layers)
        if len(units) > MOST_LAYERS:
            raise SpecFieldError(("layers",), f"{len(units)} learn; use at most {MOST_LAYERS}")
        object.__setattr__(self, "widths", units)
        return self

    def _refuse_no_normalisation(self) -> None:
        """Raise SpecFieldError where layers cannot be scaled as the spec says."""
        if self.normalize == "halves":
            raise SpecFieldError(
                ("normalize",), "network.layers have no halves; use layer, group or instance"
            )
        learning = [layer for layer in self.layers if not isinstance(layer, PoolLayer)]
        if self.normalize == "instance" and any(
            isinstance(layer, DenseLayer) for layer in learning[:-1]
        ):
            raise SpecFieldError(
                ("normalize",),
                "instance would make each unit of a dense layer 0, and one has a layer above it; "
                "use layer or group",
            )

    @model_serializer(mode="wrap")
    def _as_given(self, inner: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Write what is not derived."""
        written: dict[str, object] = inner(self)
        for name in self.derived:
            written.pop(name, None)
        return written


class PhasesSpec(Entry):
    """Steps on one side at a time (Hinton 2022, section 5): positive phases ("wake") raise the
    goodness of positives, negative phases ("sleep") lower that of negatives, in turn. With 0 and 0,
    every step takes both sides.
    """

    positive_steps: int = Field(
        0,
        ge=0,
        le=10**9,
        description="length of a positive phase, in the unit; 0: only negative phases",
    )
    negative_steps: int = Field(
        0,
        ge=0,
        le=10**9,
        description="length of a negative phase, in the unit; 0: only positive phases",
    )
    unit: Literal["steps", "epochs"] = Field(
        "steps",
        description="what positive_steps and negative_steps count: steps of training, or epochs, "
        "all of whose steps are of one phase",
    )
    lr_ratio: float = Field(
        1.0,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="learning rate of negative phases over that of positive phases, which is the "
        "optimizer's",
    )
    own_states: bool = Field(
        False,
        description="whether steps of negative phases have a state of the optimizer of their own, "
        "such as the running means of adam; else all steps go by one state",
    )

    @model_validator(mode="after")
    def _both_phases_have_states(self) -> "PhasesSpec":
        """Refuse a second state where there are no two phases."""
        if self.own_states and not (self.positive_steps and self.negative_steps):
            raise SpecFieldError(
                ("own_states",),
                "there are no two phases to have a state each; set positive_steps and "
                "negative_steps, or leave it out",
            )
        return self

    @model_validator(mode="after")
    def _some_phase_has_the_ratio(self) -> "PhasesSpec":
        """Refuse a rate of phases that never come."""
        if self.lr_ratio != 1 and not self.negative_steps:
            raise SpecFieldError(
                ("lr_ratio",),
                f"{self.lr_ratio:g} is of negative phases, and there are none; set negative_steps",
            )
        return self

    @property
    def alternate(self) -> bool:
        """Whether a step takes one side alone."""
        return self.positive_steps + self.negative_steps > 0

    def split_at(self, step: int, epoch_steps: int) -> Split | None:
        """Return the split that a step learns from; None: from both.

        **Arguments:**

        - `step`: the step of a stage, from 0; a positive phase comes first.
        - `epoch_steps`: how many steps an epoch has.
        """
        if not self.alternate:
            return None
        within = step // self._unit_steps(epoch_steps) % self._cycle
        return "positive" if within < self.positive_steps else "negative"

    def negative_before(self, step: int, epoch_steps: int) -> int:
        """Return how many of the first steps of a stage learn from negatives alone.

        **Arguments:**

        - `step`: how many steps there are.
        - `epoch_steps`: how many steps an epoch has.

        **Returns:**

        0 where a step takes both sides.
        """
        if not self.alternate:
            return 0
        unit = self._unit_steps(epoch_steps)
        cycles, rest = divmod(step, self._cycle * unit)
        return cycles * self.negative_steps * unit + max(0, rest - self.positive_steps * unit)

    def rate(self, split: Split | None) -> float:
        """Return by what the learning rate of a step is multiplied.

        **Arguments:**

        - `split`: what the step learns from; None: both.

        **Returns:**

        `lr_ratio` for negatives, else 1.
        """
        return self.lr_ratio if split == "negative" else 1.0

    @property
    def largest_rate(self) -> float:
        """By what the largest learning rate of an epoch is multiplied, over all phases."""
        return max(self.lr_ratio, 1.0) if self.positive_steps else self.lr_ratio

    @property
    def _cycle(self) -> int:
        """How many units both phases last together."""
        return self.positive_steps + self.negative_steps

    def _unit_steps(self, epoch_steps: int) -> int:
        """How many steps the unit has."""
        return epoch_steps if self.unit == "epochs" else 1


MoreMeasures = Literal["gini", "kurtosis", "spectral_norm", "weights", "readings"]


class MonitorSpec(Entry):
    """What is measured while training: on a fixed sample of the training partition, in batches of
    the training's size.
    """

    samples: MeasuredSamples = 2_000
    every_epochs: int = Field(
        1,
        ge=1,
        description="a measurement is made every so many epochs; the first and the last epoch are "
        "always measured",
    )
    theorems: tuple[TheoremNumber, ...] = Field(
        (1, 2), max_length=2, description="theorems whose satisfaction ratio is measured"
    )
    decomposition: tuple[Annotated[int, Field(ge=0, le=MAX_EPOCHS)], ...] = Field(
        (),
        max_length=64,
        description="epochs at which the margins of theorem 2 along the objective's gradient are "
        "split by who pushes: class, label and angle of the pairs that they sum over; on the first "
        "monitored batch of each seed, and for the first seed with the samples pushed most. Epochs "
        "beyond the end are ignored",
    )
    accuracy: bool = Field(
        False,
        description="measure what each layer has learnt so far: accuracy by goodness, AUC and loss "
        "on the monitored samples and on all validation samples. It is also measured where select "
        "or stop needs it",
    )
    measures: tuple[MoreMeasures, ...] = Field(
        (),
        max_length=5,
        description="more measures: gini and kurtosis of sparsity, the spectral norm of the "
        "weights, weights for their sparsity, their signs and the entropy of their singular "
        "values, and for network.layers readings: the sparsity of the channels at each position, "
        "and of their sums over positions, with both theorems. Hoyer's and Treves and Rolls's "
        "sparsity and the Frobenius norm are always there and cost nothing; gini sorts the units "
        "and is slow, and so are the spectral norm and the singular values of wide layers",
    )


class LesionsSpec(Entry):
    """What is taken out of the trained network, and how much of it, to see what accuracy is left:
    at once, without training afterwards, and with the test samples. The smallest go first; of equal
    ones those with the lower number.
    """

    remove: tuple[Literal["units", "weights"], ...] = Field(
        ("units", "weights"),
        min_length=1,
        description="units are silenced with all they receive and send; weights are set to 0, "
        "those of labels among them and biases not",
    )
    by: tuple[Literal["usage", "magnitude", "random"], ...] = Field(
        ("usage", "magnitude", "random"),
        min_length=1,
        description="usage: a unit's mean |h| over the training samples, a weight's |w| times the "
        "mean of its |input| there; magnitude: the length of a unit's incoming weights, a weight's "
        "|w|; random: an order that the seed draws",
    )
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.25, 0.5, 0.75, 0.9, 0.95),
        min_length=1,
        max_length=16,
        description="what share of each layer is removed, beside nothing at all",
    )
    where: tuple[Literal["network", "layer"], ...] = Field(
        ("network",),
        min_length=1,
        description="network: the share of every layer; layer: of one layer, the others whole, for "
        "each layer in turn",
    )

    @model_validator(mode="after")
    def _once_each(self) -> "LesionsSpec":
        """Refuse values that are named twice."""
        for name in ("remove", "by", "shares", "where"):
            _refuse_repeats((name,), getattr(self, name))
        return self


class OtherDataSpec(Entry):
    """Other data that the trained network is shown, to see whether it tells them from its own."""

    dataset: CatalogueName = Field(
        "fashion-mnist",
        description="a data set of the catalogue whose samples have the shape of the run's. Its "
        "test samples are scaled as the run's are",
    )
    samples: int | None = Field(
        None, ge=2, description="number of its test samples, the first ones; null: all"
    )

    def count(self) -> int:
        """Return how many samples are taken."""
        return self.samples or DATASETS[self.dataset].test_samples

    def refuse_misfit(self, facts: Dataset) -> None:
        """Raise SpecFieldError where the data do not fit those of the run.

        **Arguments:**

        - `facts`: the facts of the run's data set.

        **Raises:**

        - `SpecFieldError`: there are too few, or they have another shape.
        """
        other = DATASETS[self.dataset]
        if other.shape != facts.shape:
            fitting = [one.name for one in DATASETS.values() if one.shape == facts.shape]
            others = [name for name in fitting if name not in (self.dataset, facts.name)]
            raise SpecFieldError(
                ("dataset",),
                f"samples of {self.dataset} are {_shape_in_words(other)}, those of {facts.name} "
                f"{_shape_in_words(facts)}; these fit: {', '.join(others) or 'none'}",
            )
        if self.count() > other.test_samples:
            raise SpecFieldError(
                ("samples",),
                f"{self.samples} asked, but {self.dataset} has {other.test_samples} test samples",
            )


def _shape_in_words(facts: Dataset) -> str:
    return " x ".join(map(str, facts.shape))


class EvaluationSpec(Entry):
    """What is found out of the trained network."""

    measures: bool = Field(
        True,
        description="measure sparsity, separation of the splits and dead units of each layer on "
        "held-out samples",
    )
    linear_classifier: bool = Field(
        False,
        description="measure the accuracy of a linear classifier that sees the activations of "
        "samples with a neutral label",
    )
    linear_layers: Literal["all", "all_but_first"] = Field(
        "all_but_first",
        description="layers whose activations the linear classifier sees; of a network with one "
        "layer, that one",
    )
    linear_penalties: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] = Field(
        (1e-3,),
        min_length=1,
        max_length=16,
        description="L2 penalties of the linear classifier. Of several, the one with the best "
        "accuracy on the validation samples is taken",
    )
    ensembles: bool = Field(
        False,
        description="measure the ensemble of active units of each class, and how the ensembles"
        " overlap (Tosato et al. 2023)",
    )
    baselines: tuple[AnyBaseline, ...] = Field(
        (),
        max_length=MOST_BASELINES,
        description="other ways of training the same stack, for comparison; a name alone trains as "
        "the run does (optimizer, epochs, batch_size), an object has settings of its own. "
        + "; ".join(
            f"{name_of(entry, 'name')}: {meaning_of(entry)}" for entry in entries(BaselineEntry)
        ),
    )
    usage: bool = Field(
        False,
        description="measure for each layer and held-out partition how many units are used at all, "
        "and the sparsity of samples over units beside that of units over samples",
    )
    selectivity: bool = Field(
        False,
        description="measure how selective each unit is for one class, on held-out samples with a "
        "neutral label",
    )
    lesions: LesionsSpec | None = Field(
        None,
        description="measure what accuracy is left once a share of the units or weights is "
        "removed, also of the baselines; null: nothing is removed",
    )
    layer_range: bool = Field(
        False,
        description="choose on the validation samples which layers, first to last, predict labels "
        "together, and test those alone (DeeperForward, CAW-Conv)",
    )
    ood: OtherDataSpec | None = Field(
        None,
        description="measure how well the goodness and S of each layer tell test samples from "
        "samples of another data set; null: no other data are shown",
    )


class StopSpec(Entry):
    """When layers stop learning before their last epoch: each seed by itself."""

    patience: int = Field(
        5,
        ge=1,
        le=MAX_EPOCHS,
        description="how many measured epochs the measure may go without improving",
    )
    measure: Literal["accuracy", "auc", "loss"] = Field(
        "accuracy",
        description="what is looked at on the validation samples: accuracy by goodness, AUC of "
        "positives against negatives, or loss; of the layer that learns, or of those that learn "
        "together",
    )


class TrainSpec(Entry, metaclass=SpecMeta):
    """Train a Forward-Forward network and follow its sparsity; by default one layer of the kind
    that arXiv 2311.05667 is about.
    """

    kind: Literal["train"] = "train"
    dataset: DatasetSpec = DatasetSpec()
    network: NetworkSpec = NetworkSpec()
    negatives: AnyNegatives = WrongLabel()
    objective: AnyObjective = Difference()
    optimizer: AnyOptimizer = Sgd()
    phases: PhasesSpec = PhasesSpec()
    precision: Literal["float32", "tf32", "bf16"] = Field(
        "float32",
        description="number format of the matrix products of training. Weights and everything "
        "measured stay float32. tf32 needs a GPU",
    )
    layers: Literal["greedy", "simultaneous"] = Field(
        "greedy",
        description="greedy: train one layer after the other; simultaneous: all layers in each"
        " step",
    )
    epochs: int = Field(
        10,
        ge=1,
        le=MAX_EPOCHS,
        description="number of passes over the training samples; with layers: greedy, for each"
        " layer",
    )
    batch_size: int = Field(
        500,
        ge=2,
        le=1_000_000,
        description="number of positives in a step; the last batch of an epoch may be smaller",
    )
    select: Literal["last", "best_validation"] = Field(
        "last",
        description="whose weights each layer ends with. best_validation: those of the measured "
        "epoch with the best accuracy on the validation samples (or stop.measure); of equal ones "
        "the earliest",
    )
    stop: StopSpec | None = Field(
        None, description="stop early, by the validation samples; null: learn for all epochs"
    )
    seeds: Seeds = (0,)
    monitor: MonitorSpec = MonitorSpec()
    evaluation: EvaluationSpec = EvaluationSpec()

    def inputs(self, facts: Dataset) -> int:
        """The inputs of the first layer, m, on the data set with those facts, without the bias."""
        return self.dataset.inputs(facts, labelled=self.negatives.labelled)

    def carried_inputs(self, classes: int) -> int:
        """Return how many label inputs each layer above the first receives.

        **Arguments:**

        - `classes`: C.

        **Returns:**

        K; 0 where the first layer alone receives the label.
        """
        carried = self.negatives.labelled and self.dataset.labels == "every_layer"
        return self.dataset.label_code.label_inputs(classes) if carried else 0

    def fan_in(self, facts: Dataset) -> tuple[int, ...]:
        """Return how many inputs each layer has on a data set, without the bias.

        **Arguments:**

        - `facts`: the facts of the data set.

        **Returns:**

        m of each layer.
        """
        carried = self.carried_inputs(facts.classes)
        below = self.network.widths[:-1]
        return (self.inputs(facts), *(carried + width for width in below))

    @property
    def stages(self) -> tuple[tuple[int, ...], ...]:
        """The layers that learn together, stage after stage."""
        layers = tuple(range(len(self.network.widths)))
        return tuple((layer,) for layer in layers) if self.layers == "greedy" else (layers,)

    def split_after(self, epoch: int, samples: int) -> Split | None:
        """Return the split that the first step after an epoch learns from; None: from both.

        **Arguments:**

        - `epoch`: the epoch; 0 is the initialisation.
        - `samples`: how many samples training has.
        """
        steps = -(-samples // self.batch_size)
        return self.phases.split_at(epoch * steps, steps)

    def monitored(self, facts: Dataset) -> int:
        """How many positives of the data set with those facts are measured."""
        return min(self.monitor.samples, self.dataset.train_count(facts))

    def is_monitored(self, epoch: int) -> bool:
        """Whether rows are measured at the end of an epoch.

        **Arguments:**

        - `epoch`: the epoch; 0 is the initialisation.

        **Returns:**

        True for each multiple of `monitor.every_epochs`, and for the last epoch.
        """
        return epoch % self.monitor.every_epochs == 0 or epoch == self.epochs

    @property
    def learns_classes(self) -> bool:
        """Whether each layer learns the labels of samples that do not carry them."""
        return isinstance(self.objective, MultiClass)

    @property
    def tells_labels(self) -> bool:
        """Whether labels are predicted by what the layers have learnt."""
        return self.learns_classes or self.negatives.labelled

    @property
    def has_usual_negatives(self) -> bool:
        """Whether negatives are those that the objective has where none are named."""
        return self.negatives == (NoNegatives() if self.learns_classes else WrongLabel())

    @property
    def pairwise(self) -> Objective:
        """The objective, of a run that compares positives with negatives.

        **Raises:**

        - `TypeError`: it is one over classes.
        """
        if isinstance(self.objective, MultiClass):
            raise TypeError(f"objective: {self.objective.name} has no goodness")
        return self.objective

    @property
    def over_classes(self) -> MultiClass:
        """The objective, of a run whose layers learn classes.

        **Raises:**

        - `TypeError`: it compares positives with negatives.
        """
        if not isinstance(self.objective, MultiClass):
            raise TypeError(f"objective: {self.objective.name} has no classes")
        return self.objective

    def refuse_misfit(self, facts: Dataset) -> None:
        """Raise SpecFieldError where a data set has more classes than a layer has units for.

        **Arguments:**

        - `facts`: the facts of the data set.

        **Raises:**

        - `SpecFieldError`: a layer has fewer units than there are classes, each with a block.
        """
        if self.network.layers:
            self._refuse_misfit_layers(facts)
            return
        narrow = min(self.network.widths)
        if isinstance(self.objective, ClassBlock) and narrow < facts.classes:
            raise SpecFieldError(
                ("network", "widths"),
                f"class_block gives each of the {facts.classes} classes of {facts.name} units of "
                f"its own, and a layer has {narrow}; make each at least {facts.classes} wide",
            )

    def _refuse_misfit_layers(self, facts: Dataset) -> None:
        """Raise SpecFieldError where samples are no images, or do not fit the layers."""
        if min(facts.shape[1:]) < 2:
            raise SpecFieldError(
                ("network", "layers"),
                f"{facts.name} has no images: its samples are rows of {facts.inputs} numbers; use "
                f"network.widths",
            )
        first, height, last = facts.shape
        if first not in OF_PICTURES and last in OF_PICTURES:
            raise SpecFieldError(
                ("network", "layers"),
                f"samples of {facts.name} are {first} x {height} x {last} (channels, height, "
                f"width), which looks like pictures whose channels stand last; store x as "
                f"(N, {last}, {first}, {height})",
            )
        in_blocks = isinstance(self.objective, ClassBlock) or self.network.normalize == "group"
        for place, layer in enumerate(self.network.layers if in_blocks else ()):
            units = None if isinstance(layer, PoolLayer) else units_of([layer])[0]
            if units is not None and units % facts.classes:
                field = "units" if isinstance(layer, DenseLayer) else "channels"
                raise SpecFieldError(
                    ("network", "layers", str(place), field),
                    f"{units} are not {facts.classes} equal blocks, one for each class of "
                    f"{facts.name}; use a multiple of {facts.classes}",
                )
        try:
            self.plans(facts)
        except SpecFieldError as error:
            raise SpecFieldError(("network", *error.path), error.message) from error

    def plans(self, facts: Dataset) -> tuple[LayerPlan, ...]:
        """Return what maps the named layers make of samples; nothing where widths are named.

        **Arguments:**

        - `facts`: the facts of the data set.
        """
        if not self.network.layers:
            return ()
        return plans_of(self.network.layers, facts.shape, facts.classes)

    def _refuse_what_maps_lack(self) -> None:
        """Raise SpecFieldError for what runs of named layers cannot do yet."""
        name = self.objective.name
        for path, refused, message in (
            (
                ("objective",),
                not isinstance(self.objective, ClassBlock | ChannelAssignment),
                f"network.layers learn with class_block or channel_assignment, which go by "
                f"channels; {name} does not",
            ),
            (
                ("precision",),
                self.precision != "float32",
                "convolutions are computed in float32; leave precision out",
            ),
        ):
            if refused:
                raise SpecFieldError(path, message)

    @model_validator(mode="before")
    @classmethod
    def _no_negatives_of_classes(cls, given: object) -> object:
        """Fill in the negatives of objectives over classes, which have none."""
        if not isinstance(given, dict) or "negatives" in given:
            return given
        objective = given.get("objective")
        name = objective.get("name") if isinstance(objective, dict) else objective
        if isinstance(objective, MultiClass) or (isinstance(name, str) and name in OVER_CLASSES):
            return {**given, "negatives": {"strategy": "none"}}
        return given

    @model_validator(mode="after")
    def _consistent(self) -> "TrainSpec":
        """Refuse fields that contradict each other."""
        _refuse_repeats(("seeds",), self.seeds)
        if self.network.layers:
            self._refuse_what_maps_lack()
        elif "readings" in self.monitor.measures:
            raise SpecFieldError(
                ("monitor", "measures"),
                "readings are of maps, which network.widths do not make; leave it out",
            )
        if isinstance(self.objective, MultiClass):
            self._refuse_what_needs_pairs(self.objective.name)
        else:
            _refuse_no_negatives(self.negatives, self.objective.name)
        _refuse_unreadable_labels(self.dataset.label_code, self.negatives)
        self._refuse_no_label_to_carry()
        self._refuse_unchosen_baselines()
        self._refuse_lost_statistics()
        self._refuse_lone_layers()
        if self.phases.alternate and self.objective.paired:
            raise SpecFieldError(
                ("phases",),
                f"{self.objective.name} compares the two samples of a pair, so that a step cannot "
                f"take one side alone; use another objective, or 0 steps of each phase",
            )
        if self.negatives.redraw == "once" and self.negatives.asks_network:
            raise SpecFieldError(
                ("negatives", "redraw"),
                f"{self.negatives.strategy} asks the network as it is, so it is drawn every epoch",
            )
        if (
            self.evaluation.linear_classifier
            and len(self.evaluation.linear_penalties) > 1
            and not self.dataset.validation_samples
        ):
            raise SpecFieldError(
                ("evaluation", "linear_penalties"),
                "choosing among several needs dataset.validation_samples",
            )
        self._refuse_no_range()
        self._refuse_no_labels_to_lose()
        self._refuse_no_measure()
        self._refuse_no_decomposition()
        return self

    def _refuse_what_needs_pairs(self, name: str) -> None:
        """Raise SpecFieldError for what an objective over classes has no use for."""
        negatives, dataset = self.negatives, self.dataset
        for path, refused, message in (
            (
                ("negatives",),
                not isinstance(negatives, NoNegatives),
                f"{name} learns the labels themselves, without negatives; leave negatives out, or "
                f"name the strategy none",
            ),
            (
                ("negatives", "redraw"),
                negatives.redraw != "every_epoch",
                "none draws no negatives; leave redraw out",
            ),
            (
                ("dataset", "label_strength"),
                dataset.label_strength is not None,
                f"samples carry no label with {name}; leave label_strength out",
            ),
            (
                ("dataset", "label_code"),
                dataset.label_code != OneHot(),
                f"samples carry no label with {name}; leave label_code out",
            ),
            (
                ("dataset", "labels"),
                dataset.labels != "overlay",
                f"samples carry no label with {name}; leave labels out",
            ),
            (
                ("phases",),
                self.phases.alternate,
                f"{name} has no negatives that could have phases; use 0 steps of each phase",
            ),
            (
                ("network", "pass_dead_units"),
                self.network.pass_dead_units,
                f"it revives units by peer normalisation, which {name} has not; use false",
            ),
            (
                ("monitor", "decomposition"),
                bool(self.monitor.decomposition),
                f"it splits margins by pairs, and {name} has none; leave it out",
            ),
            (
                ("stop", "measure"),
                self.stop is not None and self.stop.measure == "auc",
                f"AUC sets positives against negatives, and {name} has none; use accuracy or loss",
            ),
            (
                ("evaluation", "baselines"),
                any(one.name == "ff_objective" for one in self.evaluation.baselines),
                f"ff_objective needs goodness and negatives, which {name} has not; use "
                f"greedy_cross_entropy or another baseline",
            ),
        ):
            if refused:
                raise SpecFieldError(path, message)
        if dataset.name in DATASETS:
            self.refuse_misfit(DATASETS[dataset.name])

    def _refuse_no_label_to_carry(self) -> None:
        """Raise SpecFieldError where layers are to receive a label that there is not for them."""
        gains, above = self.network.label_gains, len(self.network.widths) - 1
        if gains and self.dataset.labels != "every_layer":
            raise SpecFieldError(
                ("network", "label_gains"),
                f"layers above the first receive no label with dataset.labels: "
                f"{self.dataset.labels}; use every_layer, or leave label_gains out",
            )
        if gains and len(gains) != above:
            raise SpecFieldError(
                ("network", "label_gains"),
                f"{len(gains)} for {above} layers above the first; give one for each of them",
            )
        if self.dataset.labels == "every_layer" and not self.negatives.labelled:
            raise SpecFieldError(
                ("dataset", "labels"),
                f"samples of {self.negatives.strategy} carry no label that every layer could "
                f"receive; leave labels out, or use negatives such as wrong_label",
            )

    def _refuse_unchosen_baselines(self) -> None:
        """Raise SpecFieldError where baselines are alike, or cannot choose what they should."""
        path, baselines = ("evaluation", "baselines"), self.evaluation.baselines
        if len(set(baselines)) != len(baselines):
            raise SpecFieldError(path, f"each value once, got {[one.name for one in baselines]}")
        for place, baseline in enumerate(baselines):
            own = (*path, str(place))
            _refuse_repeats((*own, "rates"), baseline.rates)
            field = "rates" if baseline.tuned else "select"
            if baseline.needs_validation and not self.dataset.validation_samples:
                raise SpecFieldError(
                    (*own, field), "choosing among several needs dataset.validation_samples"
                )
            if baseline.needs_validation and not baseline.classifies(self.negatives):
                raise SpecFieldError(
                    (*own, field),
                    f"{baseline.name} predicts no labels with negatives of the strategy "
                    f"{self.negatives.strategy}, so there is no accuracy to choose by",
                )

    def _refuse_lost_statistics(self) -> None:
        """Raise SpecFieldError where the statistics of a goodness would be others than its own."""
        if self.learns_classes or not self.pairwise.goodness.has_statistics:
            return
        name = self.pairwise.goodness.name
        if self.chooses_epochs:
            raise SpecFieldError(
                ("stop",) if self.stop else ("select",),
                f"{name} goes by running moments, which are kept of the last epoch alone",
            )
        if any(one.name == "ff_objective" for one in self.evaluation.baselines):
            raise SpecFieldError(
                ("evaluation", "baselines"),
                f"ff_objective does not keep the running moments that {name} goes by",
            )

    def _refuse_no_range(self) -> None:
        """Raise SpecFieldError where a range of layers is to be chosen without what chooses it."""
        path = ("evaluation", "layer_range")
        if not self.evaluation.layer_range:
            return
        if not self.dataset.validation_samples:
            raise SpecFieldError(path, "choosing layers needs dataset.validation_samples")
        if not self.tells_labels:
            raise SpecFieldError(
                path,
                f"samples of {self.negatives.strategy} carry no labels that layers could predict; "
                f"use false",
            )

    def _refuse_lone_layers(self) -> None:
        """Raise SpecFieldError where layers are to collaborate that do not learn together."""
        if not self.objective.collaborates:
            return
        path = ("objective", "collaboration")
        if self.layers != "simultaneous" or len(self.network.widths) < 2:
            raise SpecFieldError(
                path,
                "layers collaborate in a common step; it needs layers: simultaneous and two "
                "widths or more",
            )
        if any(one.name == "ff_objective" for one in self.evaluation.baselines):
            raise SpecFieldError(
                ("evaluation", "baselines"),
                "ff_objective sums the losses of layers that go by their own goodness; leave out "
                "objective.collaboration or this baseline",
            )

    def _refuse_no_labels_to_lose(self) -> None:
        """Raise SpecFieldError where there is no accuracy that a lesion could lower."""
        if self.evaluation.lesions is not None and not self.tells_labels:
            raise SpecFieldError(
                ("evaluation", "lesions"),
                f"a lesion is measured by accuracy, and samples of {self.negatives.strategy} carry "
                f"no label; leave lesions out",
            )

    @property
    def measure(self) -> Literal["accuracy", "auc", "loss"]:
        """By what epochs are compared on the validation samples."""
        return self.stop.measure if self.stop else "accuracy"

    @property
    def chooses_epochs(self) -> bool:
        """Whether layers may end with the weights of another epoch than the last."""
        return self.select != "last" or self.stop is not None

    @property
    def follows_accuracy(self) -> bool:
        """Whether accuracy, AUC and loss of layers are measured while they learn."""
        return self.monitor.accuracy or self.chooses_epochs

    def _refuse_no_measure(self) -> None:
        """Raise SpecFieldError where epochs are to be compared and there is nothing to do it by."""
        if not self.chooses_epochs:
            return
        field = "stop" if self.stop else "select"
        if not self.dataset.validation_samples:
            raise SpecFieldError(
                (field,),
                "epochs are compared on validation samples, and there are none; set "
                "dataset.validation_samples",
            )
        if self.measure == "accuracy" and not self.tells_labels:
            raise SpecFieldError(
                (field, "measure") if self.stop else (field,),
                f"samples of {self.negatives.strategy} carry no label, so that there is no "
                f"accuracy; set stop.measure to auc or loss (a patience of {self.epochs} stops "
                f"nothing)",
            )

    @property
    def decomposed_epochs(self) -> list[int]:
        """The epochs at which margins are split by who pushes; those beyond the end are ignored."""
        return [epoch for epoch in self.monitor.decomposition if epoch <= self.epochs]

    def _refuse_no_decomposition(self) -> None:
        """Raise SpecFieldError where the margins cannot be split by pairs at the epochs named."""
        path, named = ("monitor", "decomposition"), self.monitor.decomposition
        if not named:
            return
        _refuse_repeats(path, named)
        if missing := [e for e in self.decomposed_epochs if not self.is_monitored(e)]:
            raise SpecFieldError(
                path,
                f"{missing} are not measured; name epochs of those that are measured, every "
                f"{self.monitor.every_epochs} up to {self.epochs}",
            )
        batch = min(self.batch_size, self.monitor.samples)
        for fits, needed in (
            (not self.phases.alternate, "steps on both splits, without phases"),
            (
                isinstance(self.pairwise.goodness, SumSquares | MeanSquares),
                "the goodness sum_squares or mean_squares",
            ),
            (not isinstance(self.objective, Polar), "an objective of whole layers, not polar"),
            (not self.pairwise.peer_normalization, "objective.peer_normalization 0"),
            (not self.network.pass_dead_units, "network.pass_dead_units false"),
            *_what_splits_by_pairs(self.network.activation, self.dataset, self.negatives, batch),
        ):
            if not fits:
                raise SpecFieldError(path, f"it needs {needed}")


class TrainedWeights(Entry):
    """The weights of a layer as a training job had them at the end of an epoch."""

    job: JobId
    epoch: int = Field(
        ge=0, description="an epoch that the job measured; 0 is before the first step"
    )
    layer: int = Field(0, ge=0)


class UploadedWeights(Entry):
    """The weights of a layer of a network that was trained elsewhere and uploaded."""

    weights: Annotated[str, StringConstraints(pattern=rf"^{uploads.NAME.pattern}$")] = Field(
        description="the name that the weights were uploaded under"
    )
    layer: int = Field(0, ge=0)
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None,
        description="of the network, as GET /v1/weights says. null: whichever has the name; a job "
        "is stored with the digest that it had then",
    )


def _which_weights(given: object) -> str:
    """Return the tag of the weights that are meant, so that only its errors are told."""
    if isinstance(given, UploadedWeights) or (isinstance(given, dict) and "weights" in given):
        return UploadedWeights.__name__
    if isinstance(given, dict | TrainedWeights):
        return TrainedWeights.__name__
    return "initialization"


def _any_of(schema: dict[str, Any]) -> None:
    """Write alternatives as those of a plain union, which they are to a client."""
    schema["anyOf"] = schema.pop("oneOf")


AnyWeights = Annotated[
    Annotated[Literal["initialization"], Tag("initialization")]
    | Annotated[TrainedWeights, Tag(TrainedWeights.__name__)]
    | Annotated[UploadedWeights, Tag(UploadedWeights.__name__)],
    Discriminator(_which_weights),
    Field(json_schema_extra=_any_of),
]
# whose draws for one unit are the same whatever the width
INITS_OF_ANY_WIDTH: tuple[InitName, ...] = ("gaussian", "he", "lecun", "torch")
SEEDS_OF_MEAN_FIELD = 4  # least number of networks whose spread is a band
CHECKED = 2_000  # samples for each seed, where a check does not say how many


class CheckSpec(Entry, metaclass=SpecMeta):
    """Check a sparsity theorem: for which share of the samples is its condition met?"""

    kind: Literal["check"] = "check"
    theorem: TheoremNumber = 2
    at: AnyWeights = "initialization"
    along: Direction = Field(
        "goodness_difference",
        description="the step of theorem 2. goodness_difference: that on G(negative) - "
        "G(positive); training_step: the one that the job of at.job takes next, by its objective "
        "and optimizer",
    )
    goodness: AnyGoodness = Field(
        SumSquares(),
        description="what the step of the theorem lowers and raises: a name, or an object where "
        "the entry has parameters. infinite_width knows the limit of the squares for every "
        "activation, of the others for relu",
    )
    decomposition: bool = Field(
        False,
        description="add who pushes: each margin split by the class and the label of the samples "
        "that it sums over, by means over the first batch of each seed; theorem 2, relu and the "
        "sum of squares only",
    )
    widths: tuple[Width, ...] = Field(
        (64, 256, 512),
        min_length=1,
        max_length=64,
        description="widths of the layers that are checked, one independent layer for each; "
        "not used with at.job and at.weights",
    )
    dataset: DatasetSpec = DatasetSpec()
    activation: AnyActivation = "relu"
    negatives: AnyNegatives = Field(
        WrongLabel(), description="how negatives are made; only theorem 2 has negatives"
    )
    samples: int | None = Field(
        CHECKED,
        ge=2,
        description="number of samples that are drawn from the training partition for each seed. "
        "null: all; the default means all, too, where there are fewer",
    )
    batch_size: int | None = Field(
        500,
        ge=2,
        description="number of samples in a batch; the condition of a sample depends on its batch. "
        "null: all samples form one batch",
    )
    methods: tuple[Literal["exact", "infinite_width"], ...] = Field(
        ("exact", "infinite_width"), min_length=1, max_length=2
    )
    seeds: Seeds = (0, 1, 2)
    precision: Literal["float32", "float64"] = Field(
        "float32", description="number format of weights, products and margins"
    )
    step: float = Field(
        1e-3,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="relative size of the trial step that shows the observed change of S: "
        "||eta D|| / ||W||, in Frobenius norms",
    )

    def checked(self, facts: Dataset) -> int:
        """How many samples of the data set with those facts are checked for each seed.

        The default stands for all where there are fewer: a stored spec does not say whether its
        number was given.
        """
        count = self.dataset.train_count(facts)
        return min(self.samples, count) if self.samples == CHECKED else self.samples or count

    def refuse_too_few(self, facts: Dataset) -> None:
        """Raise SpecFieldError where a data set has fewer samples than are checked.

        **Arguments:**

        - `facts`: the facts of the data set.

        **Raises:**

        - `SpecFieldError`: it has too few; its path leads to the field of the check.
        """
        count = self.dataset.train_count(facts)
        if self.checked(facts) > count:
            raise SpecFieldError(
                ("samples",),
                f"{self.checked(facts)} asked, but the data set gives {count}; set samples to "
                f"{count} or less, or to null for all",
            )

    @model_validator(mode="after")
    def _consistent(self) -> "CheckSpec":
        """Refuse fields that contradict each other."""
        _refuse_repeats(("seeds",), self.seeds)
        _refuse_repeats(("widths",), self.widths)
        _refuse_repeats(("methods",), self.methods)
        if self.theorem == 2:
            _refuse_no_negatives(self.negatives, "theorem 2")
            _refuse_unreadable_labels(self.dataset.label_code, self.negatives)
        self._refuse_no_training_step()
        self._refuse_no_limit(self.activation)
        self._refuse_no_decomposition(self.activation)
        if self.dataset.name in DATASETS:
            self.refuse_too_few(DATASETS[self.dataset.name])
        return self

    def _refuse_no_training_step(self) -> None:
        """Raise SpecFieldError where a training step is asked for and there is none."""
        if self.along != "training_step":
            return
        if self.theorem != 2:
            raise SpecFieldError(
                ("along",), "training_step is for theorem 2; theorem 1 lowers the goodness"
            )
        if not isinstance(self.at, TrainedWeights):
            raise SpecFieldError(
                ("along",), "training_step is that of a training job; name it in at.job"
            )
        if self.methods != ("exact",):
            raise SpecFieldError(
                ("methods",),
                "infinite_width is the limit along goodness_difference; along training_step ask "
                "for exact alone",
            )

        if self.goodness != SumSquares():
            raise SpecFieldError(
                ("goodness",),
                "along training_step it is that of the job's objective; leave it out",
            )

    def _refuse_no_limit(self, activation: str) -> None:
        """Raise SpecFieldError where the limit of the goodness is asked for and not known."""
        if self.goodness.has_statistics:
            raise SpecFieldError(
                ("goodness",),
                f"{self.goodness.name} goes by running moments, which a check has none of; before "
                "training it is sum_squares",
            )
        if "infinite_width" not in self.methods:
            return
        kernel = self.goodness.limit(1, 2)
        if kernel is None or not (kernel.of_any_activation or activation == "relu"):
            raise SpecFieldError(
                ("goodness",),
                f"no limit is known for this goodness with {activation}; ask for exact alone",
            )

    def _refuse_no_decomposition(self, activation: str) -> None:
        """Raise SpecFieldError where the margins cannot be split by pairs."""
        if not self.decomposition:
            return
        for fits, needed in (
            (self.theorem == 2, "theorem 2"),
            (self.along == "goodness_difference", "along goodness_difference"),
            (self.goodness == SumSquares(), "the goodness sum_squares"),
            *_what_splits_by_pairs(activation, self.dataset, self.negatives, self.batch_size),
        ):
            if not fits:
                raise SpecFieldError(("decomposition",), f"it needs {needed}")

    def refuse_misfit(self, trained: TrainSpec, datasets: Datasets) -> None:
        """Raise SpecFieldError where trained weights are not those that the check asks for.

        **Arguments:**

        - `trained`: the spec of the training job, or of the run that uploaded weights count as.
        - `datasets`: where the data sets of both are.

        **Raises:**

        - `SpecFieldError`: layer, epoch, seeds, inputs or method do not fit; its path leads to the
          field of the check.
        - `DatasetError`: a data set cannot be found.
        """
        at = self.at
        if at == "initialization":
            return
        owner = f"the upload {at.weights}" if isinstance(at, UploadedWeights) else "the job"
        if trained.network.layers:
            raise SpecFieldError(
                ("at",),
                f"checks are of fully connected layers, and {owner} has network.layers; its own "
                f"rows have theorem2_ratio",
            )
        if at.layer >= len(trained.network.widths):
            raise SpecFieldError(
                ("at", "layer"),
                f"{at.layer} asked, but {owner}'s network has layers 0 to "
                f"{len(trained.network.widths) - 1}",
            )
        if isinstance(at, TrainedWeights) and (  # an upload has the weights of one epoch
            at.epoch > trained.epochs or not trained.is_monitored(at.epoch)
        ):
            every = trained.monitor.every_epochs
            raise SpecFieldError(
                ("at", "epoch"),
                f"{at.epoch} was not measured by the job; it has every {every} up to "
                f"{trained.epochs}",
            )
        if missing := sorted(set(self.seeds) - set(trained.seeds)):
            raise SpecFieldError(
                ("seeds",),
                f"{missing} were not trained by {owner}; it has {list(trained.seeds)}"
                f"{', so name seeds of those' if isinstance(at, UploadedWeights) else ''}",
            )
        labelled = self.theorem == 2 and self.negatives.labelled
        given = self.dataset.inputs(datasets.facts_of(self.dataset.name), labelled=labelled)
        learnt = trained.inputs(datasets.facts_of(trained.dataset.name))
        if given != learnt:
            kind = "with labels" if labelled else "without labels"
            raise SpecFieldError(
                ("dataset", "name"),
                f"{self.dataset.name} {kind} does not fit the inputs of {owner}'s "
                f"{trained.dataset.name}: {given} inputs, {owner} learnt from {learnt}",
            )
        places = {one.labels == "every_layer" for one in (self.dataset, trained.dataset)}
        if labelled and len(places) > 1:
            raise SpecFieldError(
                ("dataset", "labels"),
                f"{owner} learnt with labels: {trained.dataset.labels}, and layers that receive "
                f"the label have inputs for it; use {trained.dataset.labels} here, too",
            )
        self._refuse_no_limit(trained.network.activation)
        self._refuse_no_decomposition(trained.network.activation)
        if self.along == "training_step" and trained.learns_classes:
            raise SpecFieldError(
                ("along",),
                f"the job's step on {trained.objective.name} has no negatives, which theorem 2 "
                f"checks beside positives; its own rows have theorem2_ratio along that step",
            )
        if self.along == "training_step" and trained.objective.collaborates:
            raise SpecFieldError(
                ("along",),
                "the job's step depends on the goodness of its other layers, which a check of one "
                "layer does not have; its own rows have theorem2_ratio along that step",
            )
        if "infinite_width" in self.methods and trained.network.bias:
            raise SpecFieldError(
                ("methods",),
                f"infinite_width is the limit of layers without bias, and {owner}'s have one; "
                "ask for exact",
            )


class OneLayerSpec(Entry):
    """The layer whose sparsity is forecast; its width is `units`, and each of `widths`."""

    activation: AnyActivation = "relu"
    bias: bool = Field(False, description="the paper's layers have none")
    init: AnyInit = Field(
        "gaussian",
        description="initialisation of the weights; only those that do not depend on the width",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_layer(cls, given: object) -> object:
        """Refuse the widths of a training run."""
        if isinstance(given, dict) and "widths" in given:
            raise SpecFieldError(
                ("widths",),
                "a forecast is of one layer: say in `units` how many units are trained, and in "
                "`widths` which widths are forecast",
            )
        return given


class PlannedRun(Entry):
    """The training runs whose epochs are counted: `kind: train` with one layer, and for the rest
    with the fields of the forecast.
    """

    lr: tuple[Annotated[float, Field(gt=0, le=1e9)], ...] = Field(
        (1.0,),
        max_length=16,
        description="learning rates, with scale_lr_by_width: eta = lr / n. The rate at which a run "
        "takes the steps of the forecast itself is always there; with adam and adamw it is the "
        "only one, since curves over flow time depend on their step size",
    )
    batch_size: int | None = Field(
        None, ge=2, le=1_000_000, description="null: the batch_size of the forecast"
    )
    train_samples: int | None = Field(
        None, ge=2, le=10**9, description="null: as many as the forecast learns from"
    )


class ForecastSpec(Entry, metaclass=SpecMeta):
    """Forecast S of layers of any width from one small training run: under `difference` units do
    not interact, so a few of them tell what many do.
    """

    kind: Literal["forecast"] = "forecast"
    units: Width = Field(512, description="units that are trained; their spread makes the bands")
    widths: tuple[Width, ...] = Field(
        (64, 256, 1024, 4096),
        min_length=1,
        max_length=32,
        description="widths that are forecast, beside the limit of infinite width",
    )
    dataset: DatasetSpec = DatasetSpec()
    network: OneLayerSpec = OneLayerSpec()
    negatives: AnyNegatives = WrongLabel()
    objective: AnyObjective = Difference()
    optimizer: AnyOptimizer = Field(
        Sgd(lr=0.03, scale_lr_by_width=False),
        description="how the small run learns. Flow time tau counts eta of its steps, / (1 - "
        "momentum) with momentum; of a mean goodness, eta / units. Steps of 0.03 are small enough "
        "for `difference`",
    )
    until_tau: float = Field(
        6.0,
        gt=0,
        le=1e4,
        description="flow time at which the small run ends, and the forecast with it; not used "
        "where epochs are given",
    )
    epochs: int | None = Field(
        None, ge=1, le=MAX_EPOCHS, description="null: as many as until_tau needs"
    )
    batch_size: int = Field(
        500, ge=2, le=1_000_000, description="number of positives in a step of the small run"
    )
    seeds: Seeds = (0,)
    blocks: int = Field(
        16,
        ge=4,
        le=256,
        description="groups of units that the jackknife leaves out one by one; at most half as "
        "many as units",
    )
    samples: MeasuredSamples = 2_000
    every_epochs: int = Field(
        1, ge=1, description="a measurement is made every so many epochs, and at the end"
    )
    plan: PlannedRun = PlannedRun()

    @property
    def units_interact(self) -> bool:
        """Whether units depend on one another, through the goodness of a sample."""
        return not isinstance(self.objective, Difference)

    @property
    def has_mean_goodness(self) -> bool:
        """Whether the goodness is a mean over units, so that a unit's pull falls with the width."""
        return self.pairwise.goodness.is_mean

    @property
    def pairwise(self) -> Objective:
        """The objective, which compares positives with negatives."""
        assert not isinstance(self.objective, MultiClass)  # noqa: S101 - it was refused
        return self.objective

    @property
    def tau_of_step(self) -> float:
        """The flow time of a step of the small run."""
        eta = self.optimizer.eta(self.units)
        return flow_of_eta(self.optimizer, self.objective, self.units, eta)

    def tau_of_epoch(self, facts: Dataset) -> float:
        """The flow time of an epoch of the small run, on the data set with those facts."""
        return -(-self.dataset.train_count(facts) // self.batch_size) * self.tau_of_step

    def lr_as_forecast(self, width: int) -> float:
        """The learning rate at which a planned run of a width takes the small run's steps."""
        return width * eta_of_flow(self.optimizer, self.objective, width, self.tau_of_step)

    @property
    def planned_rates(self) -> tuple[float, ...]:
        """The other learning rates of planned runs; none where their curve is another one."""
        return self.plan.lr if tells_all_rates(self.optimizer) else ()

    def tau_of_planned_step(self, width: int, lr: float) -> float:
        """Return the flow time of a step of a planned run.

        **Arguments:**

        - `width`: n.
        - `lr`: the learning rate, with `scale_lr_by_width`.

        **Returns:**

        The flow time; infinity where weight decay takes all weights away.
        """
        return flow_of_eta(self.optimizer, self.objective, width, lr / width)

    def epochs_on(self, facts: Dataset) -> int:
        """How many epochs the small run has on the data set with those facts.

        One more than a run may have stands for all larger numbers.
        """
        if self.epochs:
            return self.epochs
        epoch = self.tau_of_epoch(facts)
        needed = self.until_tau / epoch if epoch > 0 else math.inf
        return max(1, math.ceil(min(needed, MAX_EPOCHS + 1) - 1e-9))

    def training(self, facts: Dataset) -> TrainSpec:
        """Return the small run as a training run of its own.

        **Arguments:**

        - `facts`: the facts of the data set.

        **Returns:**

        Its spec; nothing is evaluated, and only the first and the last epoch are monitored.

        **Raises:**

        - `SpecFieldError`: `until_tau` needs more epochs than a run may have; its path leads to
          that field, or to `optimizer.lr` where `until_tau` was not given.
        """
        epochs = self.epochs_on(facts)
        if epochs > MAX_EPOCHS:
            given = "until_tau" in self.model_fields_set
            raise SpecFieldError(
                ("until_tau",) if given else ("optimizer", "lr"),
                ("" if given else f"{self.optimizer.lr:g} is too small: until_tau = ")
                + f"{self.until_tau:g} needs more than the {MAX_EPOCHS} epochs that a run may "
                f"have, each of a flow time of {self.tau_of_epoch(facts):.2g}; use a larger "
                f"optimizer.lr" + (", in proportion to units" if self.has_mean_goodness else ""),
            )
        layer = self.network
        return TrainSpec(
            dataset=self.dataset,
            network=NetworkSpec(
                widths=(self.units,), activation=layer.activation, bias=layer.bias, init=layer.init
            ),
            negatives=self.negatives,
            objective=self.objective,
            optimizer=self.optimizer,
            epochs=epochs,
            batch_size=self.batch_size,
            seeds=self.seeds,
            monitor=MonitorSpec(samples=self.samples, every_epochs=epochs, theorems=()),
            evaluation=EvaluationSpec(measures=False),
        )

    def measured(self, facts: Dataset) -> int:
        """How many positives of the data set with those facts are measured."""
        return min(self.samples, self.dataset.train_count(facts))

    def is_measured(self, epoch: int, epochs: int) -> bool:
        """Whether the forecast has a point at the end of an epoch.

        **Arguments:**

        - `epoch`: the epoch; 0 is the initialisation.
        - `epochs`: how many the small run has.

        **Returns:**

        True for each multiple of `every_epochs`, and for the last epoch.
        """
        return epoch % self.every_epochs == 0 or epoch == epochs

    def refuse_misfit(self, facts: Dataset) -> None:
        """Raise SpecFieldError where a data set makes the small run too long.

        **Arguments:**

        - `facts`: the facts of the data set.

        **Raises:**

        - `SpecFieldError`: `until_tau` needs more epochs than a run may have; its path leads to
          that field, or to `optimizer.lr` where `until_tau` was not given.
        """
        self.training(facts)

    @model_validator(mode="after")
    def _consistent(self) -> "ForecastSpec":
        """Refuse fields that contradict each other, and what the theory does not cover."""
        _refuse_repeats(("seeds",), self.seeds)
        _refuse_repeats(("widths",), self.widths)
        _refuse_repeats(("plan", "lr"), self.plan.lr)
        self._refuse_no_pairs()
        _refuse_unreadable_labels(self.dataset.label_code, self.negatives)
        if 2 * self.blocks > self.units:
            raise SpecFieldError(
                ("blocks",), f"{self.blocks} blocks need {2 * self.blocks} units or more"
            )
        self._refuse_uncovered()
        if self.dataset.name in DATASETS:
            self.refuse_misfit(DATASETS[self.dataset.name])
        return self

    def _refuse_no_pairs(self) -> None:
        """Raise SpecFieldError where positives are not compared with negatives."""
        if isinstance(self.objective, MultiClass):
            raise SpecFieldError(
                ("objective", "name"),
                f"no forecast is known of {self.objective.name}, which has no goodness; use "
                f"difference, or train layers of several widths",
            )
        _refuse_no_negatives(self.negatives, self.objective.name)

    def _refuse_uncovered(self) -> None:
        """Raise SpecFieldError where units of a wide layer are unlike those of a small one."""
        objective = self.pairwise
        if self.network.init not in INITS_OF_ANY_WIDTH:
            raise SpecFieldError(
                ("network", "init"),
                f"the weights that {self.network.init} draws for a unit depend on the width, so a "
                f"small run says nothing of a wide one; use {', '.join(INITS_OF_ANY_WIDTH)}",
            )
        if self.negatives.asks_network:
            raise SpecFieldError(
                ("negatives",),
                f"{self.negatives.strategy} asks the network for its negatives, so that each unit "
                "depends on all others; use a strategy that does not",
            )
        if self.optimizer.schedule != "constant":
            raise SpecFieldError(
                ("optimizer", "schedule"),
                "epochs are counted in steps of one size; use constant",
            )
        self._refuse_plugins()
        if isinstance(objective, Polar):
            raise SpecFieldError(
                ("objective", "name"),
                "polar pulls the two halves of a layer apart, and a forecast is of units that are "
                "alike; use softplus or difference",
            )
        self._refuse_overshooting_decay()
        if objective.peer_normalization:
            raise SpecFieldError(
                ("objective", "peer_normalization"),
                "it compares units with one another, which a forecast does not cover; use 0",
            )
        if isinstance(objective, Difference):
            self._refuse_goodness_of_all_units()
        else:
            self._refuse_no_mean_field()

    def _refuse_plugins(self) -> None:
        """Raise SpecFieldError for entries of which no law is known: those of plug-ins, and
        goodness with running moments.
        """
        if self.pairwise.goodness.has_statistics:
            raise SpecFieldError(
                ("objective", "goodness"),
                f"no forecast is known with the running moments of {self.pairwise.goodness.name}",
            )
        if self.objective.collaborates:
            raise SpecFieldError(
                ("objective", "collaboration"), "a forecast is of one layer; leave it out"
            )
        for catalogue, path, name in (
            ("objectives", ("objective", "name"), self.objective.name),
            ("goodness", ("objective", "goodness"), self.pairwise.goodness.name),
            ("optimizers", ("optimizer", "name"), self.optimizer.name),
        ):
            if name in ADDED[catalogue]:  # type: ignore[index]
                raise SpecFieldError(
                    path, f"{name} is of a plug-in, and a forecast knows fflab's own alone"
                )

    def _refuse_overshooting_decay(self) -> None:
        """Raise SpecFieldError where a step takes all weights away, so that it has no flow time."""
        decay = self.optimizer.weight_decay
        if not math.isfinite(self.tau_of_step):
            raise SpecFieldError(
                ("optimizer", "weight_decay"),
                f"{decay:g} times the step size of {self.optimizer.eta(self.units):g} is 1 or "
                "more: a step takes all weights away; use a smaller one",
            )
        for lr in self.planned_rates:
            width = min(self.widths)
            if not math.isfinite(self.tau_of_planned_step(width, lr)):
                raise SpecFieldError(
                    ("plan", "lr"),
                    f"at width {width} and lr {lr:g} a weight decay of {decay:g} takes all weights "
                    f"away in a step; use less than {width / decay:g}",
                )

    def _refuse_goodness_of_all_units(self) -> None:
        """Raise SpecFieldError unless the goodness is a sum over units."""
        if not self.pairwise.goodness.of_units:
            raise SpecFieldError(
                ("objective", "goodness"),
                f"{self.pairwise.goodness.name} is not a sum over units, so that they interact; "
                "use sum_squares, mean_squares, minus_sum_squares or l1",
            )

    def _refuse_no_mean_field(self) -> None:
        """Raise SpecFieldError unless units interact through means over units alone."""
        objective = self.pairwise
        if not self.has_mean_goodness:
            raise SpecFieldError(
                ("objective", "goodness"),
                f"with {objective.name} units interact through the goodness, which must not grow "
                "with the width; use mean_squares",
            )
        if isinstance(objective, Thresholded) and objective.threshold is None:
            raise SpecFieldError(
                ("objective", "threshold"),
                "null means the width, and a forecast has several; give a number",
            )
        if len(self.seeds) < SEEDS_OF_MEAN_FIELD:
            raise SpecFieldError(
                ("seeds",),
                f"with {objective.name} units interact through the goodness, so the band comes "
                f"from the spread of whole networks: give {SEEDS_OF_MEAN_FIELD} seeds or more",
            )


MOST_LAYERS_NAMED = 1_000
MOST_SETTINGS = 200
Setting = bool | int | Annotated[float, Field(allow_inf_nan=False)] | UserText | None


class RecordedSpec(Entry, metaclass=SpecMeta):
    """A run that another program computed: what it says of itself. fflab never computes it, and
    takes it with its rows alone.
    """

    kind: Literal["recorded"] = "recorded"
    program: UserText | None = Field(
        None, description="the program that computed it, such as a repository and its revision"
    )
    data: UserText | None = Field(None, description="the data that it learnt from, in words")
    config: dict[UserText, Setting] = Field(
        default={}, max_length=MOST_SETTINGS, description="its settings, by name"
    )
    layers: tuple[UserText, ...] = Field(
        (), max_length=MOST_LAYERS_NAMED, description="the names of its layers, in their order"
    )


class UnreadSpec(Entry):
    """A spec that this version of fflab cannot read, as a newer one has stored it."""

    kind: Literal["unread"] = "unread"
    stored_kind: str = Field(description="the kind of job that it is of")
    why: str = Field(description="what in it cannot be read, in one line")


RunSpec = Annotated[TrainSpec | CheckSpec | ForecastSpec, Field(discriminator="kind")]
Grid = dict[str, Annotated[list[SeenValue], Field(min_length=1)]]


class StudyPart(Entry):
    """One base spec and the grid of its variations."""

    base: RunSpec
    grid: Grid = Field(
        default={},
        description="dotted field of the base -> the values it takes; cells are all combinations",
    )


class StudySpec(Entry, metaclass=SpecMeta):
    """Many runs that belong together: a base spec varied over a grid, or several of them.

    It is written as it was given: beside a preset, a field that is there overrides the preset's.
    `ffengine.study.resolved` writes out what runs.
    """

    kind: Literal["study"] = "study"
    preset: PresetName | None = Field(
        None,
        description="a preset's name: base and grid override those of its parts; where parts are "
        "given, they are used instead of its own",
    )
    base: RunSpec = Field(TrainSpec(epochs=5), description="ignored where parts are given")
    grid: Grid = Field(
        default={},
        description="dotted field of the base -> the values it takes; cells are all combinations",
    )
    parts: dict[UserText, StudyPart] = Field(
        default={}, max_length=32, description="several named bases, each with its grid"
    )
    search: SearchSpec | None = Field(
        None,
        description="search for the best values of some fields, in place of a grid. Beside a "
        "preset that searches, fields that are there override its own",
    )

    @field_validator("parts", mode="before")
    @classmethod
    def _told_apart(cls, parts: object, info: ValidationInfo) -> object:
        """Refuse names of parts that differ in their Unicode form alone."""
        if isinstance(parts, dict) and not is_stored(info):
            names = [composed(str(name)) for name in parts]
            if len(set(names)) != len(names):
                raise ValueError(f"the names of parts: each value once, got {names}")
        return parts

    @model_serializer
    def _as_given(self, info: SerializationInfo) -> dict[str, object]:
        """Write the fields that were given, without defaults."""
        given = {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name in self.model_fields_set
        }
        if "base" in given:
            given["base"] = self.base.model_dump(mode=info.mode, exclude_unset=True)
        if "search" in given and self.search is not None:
            given["search"] = self.search.model_dump(mode=info.mode, exclude_unset=True)
        if "parts" in given:
            given["parts"] = {
                name: part.model_dump(mode=info.mode, exclude_unset=True)
                for name, part in self.parts.items()
            }
        return given

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """What is written has the fields of what is read."""
        return handler({key: value for key, value in core_schema.items() if key != "serialization"})


AnySpec = Annotated[TrainSpec | CheckSpec | ForecastSpec | StudySpec, Field(discriminator="kind")]


StoredSpec = Annotated[
    TrainSpec | CheckSpec | ForecastSpec | StudySpec | RecordedSpec | UnreadSpec,
    Field(discriminator="kind"),
]


class Submission(BaseModel):
    """A spec in an envelope, for validating one of unknown kind."""

    spec: AnySpec


class Stored(BaseModel):
    """A spec that is stored, in an envelope; nobody computes it again where it is `recorded`."""

    spec: StoredSpec


def as_document(spec: StoredSpec) -> dict[str, JsonValue]:
    """Return a spec as short JSON that reads back as the same spec.

    A study that overrides a preset is returned as it was given.

    **Arguments:**

    - `spec`: a run or a study.

    **Returns:**

    The document.
    """
    if not isinstance(spec, StudySpec):
        return brief(spec)
    document: dict[str, JsonValue] = spec.model_dump(mode="json")
    if spec.preset is not None and spec.model_fields_set & {"base", "grid"}:
        return document
    if spec.search is not None and spec.preset is None:  # else it says how the preset's differs
        document["search"] = brief(spec.search)
    if "base" in document:
        document["base"] = brief(spec.base)
    if "parts" in document:
        document["parts"] = {
            name: {"base": brief(part.base), **_unless_empty(part.grid)}
            for name, part in spec.parts.items()
        }
    if not spec.grid:
        document.pop("grid", None)
    return document


def _unless_empty(grid: Grid) -> dict[str, JsonValue]:
    """Return the field of a grid, or nothing where the grid is empty."""
    return {"grid": dict(grid)} if grid else {}


def digest(spec: Entry) -> str:
    """Return the sha256 of a spec's canonical JSON: the same for any spelling of one request.

    Beside the JSON stand version and code of the plug-ins that the spec uses, if any.

    **Arguments:**

    - `spec`: a spec or a part of one.

    **Returns:**

    64 hexadecimal digits.
    """
    text = spec.model_dump_json()
    for field in ADDED_LATER:
        text = text.replace(field, "")  # within a text the quotes would be escaped
    for plugin in REGISTRY.used_by(spec):
        text += f"\n{plugin.package} {plugin.version} {plugin.code_digest}"
    return hashlib.sha256(text.encode()).hexdigest()
