"""The evaluations of a trained network, of weights from a file."""

import torch

from ffengine.availability import check_available
from ffengine.checkpoint import Checkpoint
from ffengine.conv_network import network_of
from ffengine.datasets import Datasets
from ffengine.evaluation import Evaluation, evaluate
from ffengine.random_streams import Draws
from ffengine.samples import load_samples
from ffengine.weights import Weights


def evaluate_weights(
    weights: Weights, *, device: str = "cpu", datasets: Datasets | None = None
) -> Evaluation:
    """Find out of a trained network what the end of a training run finds out.

    **Arguments:**

    - `weights`: of a run, or of a network that another program trained (`convert_weights`). Its
      spec says on which data, and `spec.evaluation` what is asked; baselines are not trained.
    - `device`: a name that torch knows, such as "cpu" or "cuda".
    - `datasets`: where data sets are; None: where the environment says.

    **Returns:**

    Accuracy, measures and ensembles.

    **Raises:**

    - `DatasetError`: the data set cannot be found, fetched or read, or is smaller than the spec
      asks.
    - `ValueError`: the goodness goes by running moments, which are not in the file.
    """
    datasets = datasets or Datasets.of_environment()
    spec, place = weights.spec, torch.device(device)
    if not spec.learns_classes and spec.pairwise.goodness.has_statistics:
        raise ValueError(
            f"weights: {spec.pairwise.goodness.name} goes by running moments, which a file of "
            f"weights has none of; read the result of the training run"
        )
    check_available(spec, datasets)
    kept = Checkpoint.of_weights(weights)
    partitions = load_samples(spec.dataset, place, datasets, spec.evaluation.ood)
    network = network_of(
        spec.network,
        spec.plans(datasets.facts_of(spec.dataset.name)),
        [weight.to(place) for weight in kept.weights],
        [exponent.to(place) for exponent in kept.scales],
        [head.to(place) for head in kept.heads],
        label_inputs=spec.carried_inputs(partitions.train.classes),
    )
    found = evaluate(network, spec, partitions, Draws(spec.seeds, place))
    # the rows of a run are of its last epoch
    rows = tuple(row.model_copy(update={"epoch": weights.epoch}) for row in found.accuracy)
    return found._replace(accuracy=rows)
