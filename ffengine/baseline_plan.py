"""In which order the baselines of a run are trained, and where they stand.

A run's baselines are trained one after the other: each learning rate that is tried, stage after
stage.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ffengine.baselines import Baseline
from ffengine.spec import TrainSpec


def trials_of(baseline: Baseline, spec: TrainSpec) -> list[TrainSpec]:
    """List the trainings that are tried, each as the run with the baseline's own settings.

    **Arguments:**

    - `baseline`: one of the run's.
    - `spec`: the run.

    **Returns:**

    One for each learning rate, the smallest first.
    """
    optimizer = baseline.optimizer or spec.optimizer
    own = {
        "epochs": baseline.epochs or spec.epochs,
        "batch_size": baseline.batch_size or spec.batch_size,
    }
    return [
        spec.model_copy(update={**own, "optimizer": optimizer.model_copy(update={"lr": rate})})
        for rate in sorted(baseline.rates) or [optimizer.lr]
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
        trials, stages = max(1, len(baseline.rates)), len(baseline.stages(spec.stages))
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
    parts += [f"epoch {done + 1:,} of {leg.epochs:,}"]
    return f"baseline {spec.evaluation.baselines[leg.place].name}: {', '.join(parts)}"
