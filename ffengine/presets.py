"""Ready-made studies: the paper's experiments, published Forward-Forward recipes, and the findings.

A comment says where a source leaves a setting open. docs/recipes.md has the figures of each recipe.
"""

from typing import NamedTuple

from ffengine.findings import FINDINGS
from ffengine.inits import InitName
from ffengine.negatives import SampledLabel, WrongLabel
from ffengine.objectives import L2, Bce, MeanSquares, SoftplusLoss, SumSquares, SwishLoss
from ffengine.optimizers import Adam, Momentum, Sgd
from ffengine.search_spec import Range, SearchSpec
from ffengine.spec import (
    CheckSpec,
    DatasetSpec,
    EvaluationSpec,
    Grid,
    MonitorSpec,
    NetworkSpec,
    Normalize,
    StudyPart,
    StudySpec,
    TrainSpec,
)


class Preset(NamedTuple):
    """A named study.

    **Attributes:**

    - `name`: what users write.
    - `meaning`: what the study shows.
    - `spec`: the study.
    """

    name: str
    meaning: str
    spec: StudySpec


# Training passes through acts (docs/theory.md): on MNIST S falls first and then rises; on centred
# images it only rises. With this step size, fifteen epochs of 1 000 samples in batches of 100 show
# two of them; lr 1 leaves the first after more than eighty.
ETA = 1 / 30
# An epoch of MNIST has 120 steps of 500 pairs. With this step size it takes one unit of flow time
# (eta times steps): the first phase ends after two epochs.
FLOW_ETA = 1 / 120
UNIT_AND_CENTER: Grid = {"dataset.preprocess": ["unit", "center"]}

ALL_OF_MNIST = DatasetSpec(name="mnist")
LONG, SHORT = 8, 2  # epochs: to the end of the second phase, and to that of the first


def flow(width: int, epochs: int = LONG, seeds: tuple[int, ...] = (0, 1, 2, 3, 4)) -> TrainSpec:
    """Return a run on all of MNIST in which an epoch takes one unit of flow time.

    **Arguments:**

    - `width`: n of the layer.
    - `epochs`: how long it trains.
    - `seeds`: its seeds.

    **Returns:**

    The run.
    """
    return TrainSpec(
        dataset=ALL_OF_MNIST,
        network=NetworkSpec(widths=(width,)),
        optimizer=Sgd(lr=width * FLOW_ETA),
        epochs=epochs,
        seeds=seeds,
    )


# For accuracy: the objective of Hinton 2022. Its goodness is a mean, so that the same step takes
# the width without the engine's scaling.
SOFTPLUS = flow(256).model_copy(
    update={
        "objective": SoftplusLoss(goodness=MeanSquares(), threshold=2.0),
        "optimizer": Sgd(lr=256 * FLOW_ETA, scale_lr_by_width=False),
    }
)

PAPER = StudySpec(
    parts={
        "theorem-1": StudyPart(
            base=CheckSpec(
                theorem=1,
                dataset=ALL_OF_MNIST,
                widths=(64, 256, 512, 1000),
                samples=None,
                batch_size=None,
                methods=("exact",),
                seeds=(0, 1, 2, 3, 4),
            ),
        ),
        "theorem-2": StudyPart(
            base=CheckSpec(
                theorem=2,
                dataset=ALL_OF_MNIST,
                widths=(64, 256, 512, 1000),
                samples=5_000,
                batch_size=500,
                seeds=(0, 1, 2, 3, 4),
            ),
        ),
        "training": StudyPart(base=flow(256), grid=UNIT_AND_CENTER),
        "width-64": StudyPart(base=flow(64)),
        "width-1024": StudyPart(base=flow(1024, seeds=(0, 1, 2))),
        # for its accuracy: its epochs are the first of those above, which are measured there
        "short": StudyPart(
            base=flow(256, epochs=SHORT).model_copy(
                update={"monitor": MonitorSpec(every_epochs=SHORT)}
            )
        ),
        "softplus": StudyPart(base=SOFTPLUS, grid={"epochs": [SHORT, LONG]}),
    }
)

QUICK = StudySpec(
    parts={
        "theorem-1": StudyPart(
            base=CheckSpec(
                theorem=1, widths=(64, 256), samples=1_000, batch_size=None, seeds=(0, 1, 2)
            )
        ),
        "theorem-2": StudyPart(
            base=CheckSpec(theorem=2, widths=(64, 256), samples=1_000, seeds=(0, 1, 2))
        ),
        "training": StudyPart(
            base=TrainSpec(
                dataset=DatasetSpec(train_samples=1_000, test_samples=500),
                network=NetworkSpec(widths=(128,)),
                optimizer=Sgd(lr=128 * ETA),
                epochs=15,
                batch_size=100,
                seeds=(0, 1, 2),
                monitor=MonitorSpec(samples=500),
            ),
        ),
    }
)

SEARCH = StudySpec(
    parts={
        "training": StudyPart(
            base=TrainSpec(
                dataset=DatasetSpec(train_samples=1_000, validation_samples=500, test_samples=500),
                network=NetworkSpec(widths=(64,)),
                objective=SoftplusLoss(goodness=MeanSquares(), threshold=2.0),
                optimizer=Adam(lr=0.01),
                epochs=3,
                batch_size=100,
                monitor=MonitorSpec(samples=500),
            )
        )
    },
    search=SearchSpec(
        space={
            "optimizer.lr": Range(low=1e-3, high=0.3, log=True),
            "network.widths.0": Range(low=16, high=256, log=True, type="int"),
            "objective.threshold": Range(low=0.5, high=8, log=True),
        },
        trials=30,
    ),
)

MONITOR = MonitorSpec(samples=1_000, every_epochs=10)
MNIST = DatasetSpec(name="mnist")
STANDARD = DatasetSpec(name="mnist", preprocess="standardize")


def stack(width: int, layers: int, normalize: Normalize, init: InitName) -> NetworkSpec:
    """Return layers of one width with biases and normalised inputs, as the recipes have them.

    **Arguments:**

    - `width`: n of every layer.
    - `layers`: how many.
    - `normalize`: how the inputs are scaled.
    - `init`: the initialisation.

    **Returns:**

    The network.
    """
    return NetworkSpec(
        widths=(width,) * layers, bias=True, init=init, normalize=normalize, normalize_first=True
    )


HINTON = TrainSpec(
    dataset=MNIST,
    network=stack(2_000, 4, "rms", "gaussian"),
    negatives=SampledLabel(),
    # Threshold, peer normalisation and cool-down are those of the code published with the paper.
    # Its learning rate 0.01 multiplies a running mean of the gradient, (1 - 0.9) of each, and half
    # the slope of a square: this is 5e-4 here. Its weight cost 0.001 is not part of that mean.
    objective=SoftplusLoss(goodness=SumSquares(), threshold=None, peer_normalization=0.03),
    optimizer=Momentum(
        lr=5e-4, scale_lr_by_width=False, schedule="linear_cooldown", weight_decay=2e-3
    ),
    layers="simultaneous",
    epochs=60,
    batch_size=100,
    monitor=MONITOR,
    evaluation=EvaluationSpec(linear_classifier=True),
)

LOEWE = TrainSpec(
    dataset=MNIST,
    network=stack(1_000, 3, "rms", "gaussian_fan_out").model_copy(update={"pass_dead_units": True}),
    objective=Bce(goodness=SumSquares(), threshold=None, peer_normalization=0.03),
    optimizer=Momentum(
        lr=1e-3, scale_lr_by_width=False, schedule="linear_cooldown", weight_decay=3e-4
    ),
    layers="simultaneous",
    epochs=100,
    batch_size=100,
    monitor=MONITOR,
    evaluation=EvaluationSpec(linear_classifier=True),
)

MPEZESHKI = TrainSpec(
    dataset=DatasetSpec(name="mnist", preprocess="standardize", train_samples=50_000),
    network=stack(500, 2, "l2", "torch"),
    # The published code shuffles the labels, so that one negative in ten carries the true label;
    # here none does.
    negatives=WrongLabel(redraw="once"),
    objective=Bce(goodness=MeanSquares(), threshold=2.0),
    optimizer=Adam(lr=0.03),
    epochs=1_000,
    batch_size=50_000,
    monitor=MonitorSpec(samples=1_000, every_epochs=100),
)

SWISH = TrainSpec(
    dataset=STANDARD,
    # The source gives loss, negatives, optimiser, batch size and epochs; normalisation and goodness
    # are those of mpezeshki.
    network=stack(500, 2, "l2", "torch"),
    negatives=SampledLabel(),
    objective=SwishLoss(goodness=MeanSquares(), alpha=6.0),
    optimizer=Adam(lr=0.35),
    layers="simultaneous",
    epochs=60,
    batch_size=4_096,
    monitor=MONITOR,
)

TOSATO = TrainSpec(
    dataset=STANDARD,
    network=stack(784, 3, "l2", "torch"),
    # There are as many negatives as positives; they come from all images under all wrong labels.
    negatives=WrongLabel(image="any", redraw="once"),
    objective=Bce(goodness=L2(), threshold=3.0),
    optimizer=Adam(lr=0.01),
    epochs=20,
    batch_size=512,
    monitor=MONITOR,
    evaluation=EvaluationSpec(ensembles=True),
)


def recipe(spec: TrainSpec) -> StudySpec:
    """Return a study of one training run.

    **Arguments:**

    - `spec`: the run.

    **Returns:**

    The study.
    """
    return StudySpec(parts={"train": StudyPart(base=spec)})


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "paper",
            "arXiv 2311.05667 on all of MNIST: theorems 1 and 2 at initialisation; theorem 2 and "
            "sparsity while training, pixels as they are and centred, at three widths, and beside "
            "the objective softplus.",
            PAPER,
        ),
        Preset(
            "quick",
            "The same on 1 000 samples and small layers, pixels as they are: a check of the "
            "installation in seconds.",
            QUICK,
        ),
        Preset(
            "search",
            "A search: 30 trials of Optuna's TPE for the learning rate, width and threshold with "
            "the best accuracy on validation samples, on 1 000 samples.",
            SEARCH,
        ),
        Preset(
            "hinton",
            "Hinton 2022: 4 x 2000, labels sampled from the network's goodness, 60 epochs; 1.36 % "
            "test error.",
            recipe(HINTON),
        ),
        Preset(
            "loewe",
            "Löwe 2023: 3 x 1000, peer normalisation, linear classifier on layers 2 and 3; 1.45 % "
            "test error.",
            recipe(LOEWE),
        ),
        Preset(
            "mpezeshki",
            "The best-known public code: 2 x 500, Adam, full batch; 6.84 % test error.",
            recipe(MPEZESHKI),
        ),
        Preset(
            "swish",
            "Swish loss on the difference of goodness, 2 x 500 and 2 x 2000; 1.65 % and 1.35 % "
            "test error.",
            StudySpec(
                parts={
                    "train": StudyPart(
                        base=SWISH, grid={"network.widths": [[500, 500], [2_000, 2_000]]}
                    )
                }
            ),
        ),
        Preset(
            "tosato",
            "Tosato et al. 2023: 3 x 784, goodness by length, greedy; accuracy 0.9345, sparse "
            "ensembles.",
            recipe(TOSATO),
        ),
        *(Preset(finding.name, finding.question, finding.study) for finding in FINDINGS.values()),
    )
}
