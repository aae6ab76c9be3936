"""The paper's setting: only the figures of such runs are compared with the paper's claims."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ffengine.label_codes import OneHot
from ffengine.negatives import AnyNegatives, WrongLabel
from ffengine.objectives import Difference, SumSquares
from ffengine.optimizers import Sgd
from ffengine.spec import CheckSpec, DatasetSpec, TrainedWeights, TrainSpec, UploadedWeights

_Run = TypeVar("_Run")

DATA = ("mnist", "mnist-mini")
PREPROCESSES = ("unit", "center")
GAUSSIAN = ("gaussian", "gaussian_fan_out", "he")


def is_papers_setting(spec: TrainSpec | CheckSpec, trained: TrainSpec | None = None) -> bool:
    """Whether the paper's claims are about runs of this kind.

    The rule follows the abstract (arXiv 2311.05667; the full text was not available) and the
    assumptions of the theorems:

    - data: MNIST, as in the abstract, with pixels as they are or centred. Which of the two the
      paper uses is unknown, and theorem 2 depends on it during training. Other scalings change the
      weight of a label relative to its image.
    - layer: the first or only one, relu without bias. The theorems are about one layer whose inputs
      are the data; the inputs of further layers are activations, which are never negative.
    - initial weights: Gaussian and independent, as the theory assumes. Their scale changes no sign.
    - goodness: the sum of squares, in a check as in training.
    - negatives: the same image under a wrong label, as in Hinton's paper. Theorem 1 needs none.
    - training: the objective G(negative) - G(positive) with G the sum of squares, which theorem 2
      is about; plain gradient descent with a constant step on both splits at once, so that the
      step is the theorem's.
    - free, since unknown or without influence on the claim: widths, learning rate, batches, epochs,
      samples, seeds, precision.

    **Arguments:**

    - `trained`: for a check of trained weights, the spec of the job that trained them.
    """
    return next(departures(spec, trained), None) is None


def nearest_first(
    runs: Sequence[_Run], spec_of: Callable[[_Run], tuple[object, TrainSpec | None]]
) -> list[_Run]:
    """The runs of the paper's setting before others, each in their order; where no run is of it,
    those that depart from it in the fewest fields.

    **Arguments:**

    - `spec_of`: the spec of a run, and for a check of trained weights that of their job.
    """
    found = [_departed(*spec_of(run)) for run in runs]
    least = min(found, default=0)
    return [
        run for run, count in sorted(zip(runs, found, strict=True), key=lambda one: one[1] > least)
    ]


def _departed(spec: object, trained: TrainSpec | None) -> int:
    """In how many fields a run departs; of other kinds, more than any run."""
    if isinstance(spec, TrainSpec | CheckSpec):
        return sum(1 for _ in departures(spec, trained))
    return sys.maxsize


def departures(spec: TrainSpec | CheckSpec, trained: TrainSpec | None = None) -> Iterator[str]:
    """The fields in which a run departs from the paper's setting, with their values.

    See is_papers_setting.
    """
    if isinstance(spec, TrainSpec):
        yield from _of_training(spec)
        return
    yield from _of_data(spec.dataset)
    if spec.activation != "relu":
        yield f"activation {spec.activation}"
    if not isinstance(spec.goodness, SumSquares):
        yield f"goodness {spec.goodness.name}"
    if spec.theorem == 2:
        yield from _of_negatives(spec.negatives)
    if isinstance(spec.at, UploadedWeights):
        yield "uploaded weights"
    if isinstance(spec.at, TrainedWeights):
        if spec.at.layer:
            yield f"at.layer {spec.at.layer}"
        yield from (
            f"{field} of the training job" for field in (_of_training(trained) if trained else ())
        )


def _of_training(spec: TrainSpec) -> Iterator[str]:
    yield from _of_data(spec.dataset)
    network, optimizer = spec.network, spec.optimizer
    facts = {
        "network.activation": (network.activation, network.activation == "relu"),
        "network.bias": (network.bias, not network.bias),
        "network.init": (network.init, network.init in GAUSSIAN),
        "network.normalize_first": (network.normalize_first, not network.normalize_first),
        "network.label_gains": (list(network.label_gains), not network.label_gains),
        "network.pass_dead_units": (network.pass_dead_units, not network.pass_dead_units),
        "objective.name": (spec.objective.name, isinstance(spec.objective, Difference)),
        **_of_goodness(spec),
        "optimizer.name": (optimizer.name, isinstance(optimizer, Sgd)),
        "optimizer.schedule": (optimizer.schedule, optimizer.schedule == "constant"),
        "phases.positive_steps": (
            spec.phases.positive_steps,
            not spec.phases.positive_steps,
        ),
        "phases.negative_steps": (
            spec.phases.negative_steps,
            not spec.phases.negative_steps,
        ),
        "phases.lr_ratio": (spec.phases.lr_ratio, spec.phases.lr_ratio == 1),
        "optimizer.weight_decay": (optimizer.weight_decay, not optimizer.weight_decay),
    }
    yield from (f"{field} {value}" for field, (value, papers) in facts.items() if not papers)
    yield from _of_negatives(spec.negatives)


def _of_goodness(spec: TrainSpec) -> dict[str, tuple[object, bool]]:
    if spec.learns_classes:
        return {}
    goodness = spec.pairwise.goodness
    return {"objective.goodness.name": (goodness.name, isinstance(goodness, SumSquares))}


def _of_data(spec: DatasetSpec) -> Iterator[str]:
    if spec.name not in DATA:
        yield f"dataset.name {spec.name}"
    if spec.preprocess not in PREPROCESSES:
        yield f"dataset.preprocess {spec.preprocess}"
    if spec.labels == "every_layer":
        yield "dataset.labels every_layer"
    if spec.label_code != OneHot():
        yield f"dataset.label_code {spec.label_code.name}"


def _of_negatives(negatives: AnyNegatives) -> Iterator[str]:
    if not isinstance(negatives, WrongLabel):
        yield f"negatives.strategy {negatives.strategy}"
    elif not negatives.keeps_image:
        yield f"negatives.image {negatives.image}"
