"""Flow time, by which runs of any width, step and batch size share one curve, and when it ends the
first act of training (docs/theory.md).
"""

import math
from functools import cache

import numpy as np

from ffengine.arrays import DatasetError
from ffengine.datasets import DATASETS, Datasets
from ffengine.objectives import Difference, SumSquares
from ffengine.optimizers import Sgd
from ffengine.spec import TrainSpec

CROSSING = 1.25  # of lambda_1 times the flow time at which theorem 2's ratio crosses one half


def per_epoch(spec: TrainSpec) -> float | None:
    """How much flow time an epoch takes: eta times its steps.

    None where eta does not say it alone: for other objectives, optimizers and schedules, and for
    uploads, whose number of samples is not at hand.
    """
    optimizer, objective = spec.optimizer, spec.objective
    if not isinstance(optimizer, Sgd) or optimizer.schedule != "constant":
        return None
    if not isinstance(objective, Difference) or not isinstance(objective.goodness, SumSquares):
        return None
    facts = DATASETS.get(spec.dataset.name)
    if facts is None:
        return None
    eta = optimizer.lr / (spec.network.widths[0] if optimizer.scale_lr_by_width else 1)
    return eta * math.ceil(spec.dataset.train_count(facts) / spec.batch_size)


def predicted_crossing(spec: TrainSpec) -> float | None:
    """The flow time at which theorem 2's ratio is expected to cross one half: 1.25 / lambda_1.

    None where the data are not at hand, or no fall of S is expected: of centred inputs.
    """
    facts = DATASETS.get(spec.dataset.name)
    if per_epoch(spec) is None or facts is None or not facts.bundled:
        return None
    if spec.dataset.preprocess != "unit":
        return None
    return CROSSING / growth_rate(facts.name, spec.dataset.train_count(facts))


@cache
def growth_rate(name: str, samples: int) -> float:
    """The fastest growth rate while all units are active, from the first so many images.

    It is the largest singular value of M, whose columns are M_l = (K p_l mu_l - mu) / (K - 1):
    mu_l is the mean image of class l, p_l its share, mu the mean image.

    Raises DatasetError for a data set that has fewer than two classes there.
    """
    arrays = Datasets.of_environment().mapped(name)
    labels = arrays.y_train[:samples]
    images = arrays.x_train[:samples].reshape(len(labels), -1)
    classes = int(arrays.y_train.max()) + 1
    if classes < 2:
        raise DatasetError(f"{name} has one class alone")
    sums = [images[labels == label].sum(0, dtype=np.int64) for label in range(classes)]
    shares = np.stack(sums) / (255 * len(labels))  # p_l mu_l
    spread = (classes * shares - shares.sum(0)) / (classes - 1)
    return float(np.linalg.svd(spread, compute_uv=False)[0])
