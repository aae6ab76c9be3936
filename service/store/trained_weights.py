"""The trained weights that a check refers to: which training job has them, in which checkpoint."""

from dataclasses import dataclass

from ffengine.datasets import Datasets
from ffengine.entry import SpecFieldError
from ffengine.spec import CheckSpec, TrainedWeights, TrainSpec
from service.jobs import Job
from service.store.jobs import Jobs


class WeightsNotFound(SpecFieldError):
    """A check refers to weights that no job has: `path` leads to the wrong field of its spec."""


@dataclass(frozen=True)
class WeightsSource:
    """The training job that a check refers to.

    `last_layer`: the last of the layers that were trained together with the one asked for, by
    which checkpoints and rows of their epochs are named.
    """

    at: TrainedWeights
    job: Job
    spec: TrainSpec
    last_layer: int


def find_weights(jobs: Jobs, check: CheckSpec, datasets: Datasets) -> WeightsSource | None:
    """Find the training job whose weights a check refers to; None for a check of fresh weights.

    Whether the job has come to the epoch yet is not looked at.

    Raises WeightsNotFound, and DatasetError where the data set of the check or of the job is not
    among `datasets`.
    """
    at = check.at
    if not isinstance(at, TrainedWeights):
        return None
    job = jobs.get(at.job)
    if job is None or not isinstance(job.spec, TrainSpec):
        raise WeightsNotFound(("at", "job"), f"there is no training job {at.job}")
    try:
        check.refuse_misfit(job.spec, datasets)
    except SpecFieldError as error:
        raise WeightsNotFound(error.path, error.message) from error
    layers = next(layers for layers in job.spec.stages if at.layer in layers)
    return WeightsSource(at, job, job.spec, layers[-1])
