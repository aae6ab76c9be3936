"""Training runs that several findings vary: one layer on the bundled digits, through all acts."""

from pydantic import JsonValue

from ffengine.optimizers import Sgd
from ffengine.spec import DatasetSpec, EvaluationSpec, NetworkSpec, Preprocess, StudyPart, TrainSpec

# The step size eta = lr / n of every layer: on 6 000 images in batches of 500 an epoch has 12 steps
# and a flow time of 0.4, so that act 1 ends after five epochs (docs/theory.md, "The acts").
ETA = 1 / 30
SEEDS = (0, 1, 2, 3, 4)
# the accuracy by goodness is measured; measures of the trained network are not
NO_MEASURES = EvaluationSpec(measures=False)


def layer(
    width: int = 256, *, eta: float = ETA, epochs: int = 20, preprocess: Preprocess = "unit"
) -> TrainSpec:
    """Return a run of one layer with the objective G(negative) - G(positive).

    **Arguments:**

    - `width`: n.
    - `eta`: the step size of the weights.
    - `epochs`: how many.
    - `preprocess`: how pixels become inputs.

    **Returns:**

    The run, with five seeds.
    """
    return TrainSpec(
        dataset=DatasetSpec(name="mnist-mini", preprocess=preprocess),
        network=NetworkSpec(widths=(width,)),
        optimizer=Sgd(lr=width * eta),
        epochs=epochs,
        seeds=SEEDS,
        evaluation=NO_MEASURES,
    )


def parts(**runs: TrainSpec) -> dict[str, StudyPart]:
    """Return parts of a study, one for each run.

    **Arguments:**

    - `runs`: by the name of the part; an underscore stands for a space.

    **Returns:**

    The parts.
    """
    return {name.replace("_", " "): StudyPart(base=run) for name, run in runs.items()}


TINY: dict[str, JsonValue] = {
    "dataset.train_samples": 200,
    "dataset.test_samples": 50,
    "epochs": 3,
    "batch_size": 100,
    "seeds": [0, 1],
    "monitor.samples": 100,
}
TINY_CHECK: dict[str, JsonValue] = {
    "widths": [16, 32],
    "samples": 60,
    "batch_size": 30,
    "seeds": [0, 1],
}
# All of MNIST, in batches ten times as large: as many steps an epoch, so the same flow time.
LARGE: dict[str, JsonValue] = {
    "seeds": list(range(10)),
    "dataset.name": "mnist",
    "batch_size": 5_000,
}
LARGE_CHECK: dict[str, JsonValue] = {
    "seeds": list(range(10)),
    "dataset.name": "mnist",
    "samples": 20_000,
}
