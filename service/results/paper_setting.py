"""Which runs the paper speaks of: only those are judged by its figures."""

from collections.abc import Iterator

from ffengine.negatives import AnyNegatives, WrongLabel
from ffengine.objectives import Difference, SumSquares
from ffengine.optimizers import Sgd
from ffengine.spec import CheckSpec, DatasetSpec, TrainedWeights, TrainSpec

DATA = ("mnist", "mnist-mini")
PREPROCESSES = ("unit", "center")
GAUSSIAN = ("gaussian", "gaussian_fan_out", "he")


def is_papers_setting(spec: TrainSpec | CheckSpec, trained: TrainSpec | None = None) -> bool:
    """Whether a run is of the kind that the paper's claims are about, so that its figures are
    judged by the paper's.

    `trained`: of a check of trained weights, the spec of the job that trained them. Of the paper
    its abstract was at hand (arXiv 2311.05667), and what the theorems presuppose; the rule is as
    wide as that allows:

    - data: MNIST, as in the abstract. Pixels as they are or less their mean: which of the two the
      paper has is unknown, and
      they decide about theorem 2 while training; other scalings change how much a label weighs
      beside its image.
    - layer: relu without bias, the first or only one. The theorems are about activations of one
      layer whose inputs are the
      data; further layers see activations, all of them in one octant.
    - weights at first: Gaussian and independent, as the theory has them. Their scale changes no
      sign.
    - negatives: the same image under a wrong label, as Hinton has them. Theorem 1 needs none.
    - training: the objective G(negative) - G(positive), G the sum of squares, which theorem 2 is
      about; plain gradient descent
      with a constant step, so that the step is the one that the theorem judges.
    - free, since unknown or without influence on the claim: widths, learning rate, batches, epochs,
      samples, seeds, precision.
    """
    return next(departures(spec, trained), None) is None


def departures(spec: TrainSpec | CheckSpec, trained: TrainSpec | None = None) -> Iterator[str]:
    """Each field in which a run is not of the paper's setting, with its value; see
    is_papers_setting.
    """
    if isinstance(spec, TrainSpec):
        yield from _of_training(spec)
        return
    yield from _of_data(spec.dataset)
    if spec.activation != "relu":
        yield f"activation {spec.activation}"
    if spec.theorem == 2:
        yield from _of_negatives(spec.negatives)
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
        "network.pass_dead_units": (network.pass_dead_units, not network.pass_dead_units),
        "objective.name": (spec.objective.name, isinstance(spec.objective, Difference)),
        "objective.goodness.name": (
            spec.objective.goodness.name,
            isinstance(spec.objective.goodness, SumSquares),
        ),
        "optimizer.name": (optimizer.name, isinstance(optimizer, Sgd)),
        "optimizer.schedule": (optimizer.schedule, optimizer.schedule == "constant"),
        "optimizer.weight_decay": (optimizer.weight_decay, not optimizer.weight_decay),
    }
    yield from (f"{field} {value}" for field, (value, papers) in facts.items() if not papers)
    yield from _of_negatives(spec.negatives)


def _of_data(spec: DatasetSpec) -> Iterator[str]:
    if spec.name not in DATA:
        yield f"dataset.name {spec.name}"
    if spec.preprocess not in PREPROCESSES:
        yield f"dataset.preprocess {spec.preprocess}"


def _of_negatives(negatives: AnyNegatives) -> Iterator[str]:
    if not isinstance(negatives, WrongLabel):
        yield f"negatives.strategy {negatives.strategy}"
    elif not negatives.keeps_image:
        yield f"negatives.image {negatives.image}"
