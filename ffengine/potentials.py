"""The potential of positives and of negatives, which decides theorem 2 before any training.

Legend: U_P(x) = mean over i in P of ||x_i||^2 cos(theta) phi(theta), theta the angle between x_i
and x. At infinite width and at initialisation the margin of theorem 2 at x is 2 (N_neg U_neg(x) -
N_pos U_pos(x)). So with as many negatives as positives, sparsity rises at x if and only if U_neg(x)
> U_pos(x): no weights, no training.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ffengine.datasets import Datasets
from ffengine.infinite_width import SQUARES, infinite_width_checks
from ffengine.negatives import Negatives, Positives
from ffengine.objectives import Goodness
from ffengine.random_streams import Draws
from ffengine.results import PotentialRow, Split
from ffengine.samples import load_samples
from ffengine.spec import DatasetSpec

BOTH: tuple[Split, Split] = ("positive", "negative")


def potential(
    points: Tensor,
    sources: Tensor,
    *,
    activation: str = "relu",
    goodness: Goodness = SQUARES,
    width: int | None = None,
) -> Tensor:
    """Compute the potential U of a set of samples at each of some points.

    For other activations and goodness it is the sum that takes the place of cos(theta) phi(theta)
    in their limit.

    **Arguments:**

    - `points`: (N, m), where the potential is felt.
    - `sources`: (M, m), the samples that push.
    - `activation`, `goodness`, `width`: as for `ffengine.infinite_width_theorem1`.

    **Returns:**

    U (N,) float64.

    **Raises:**

    - `ValueError`: as for `ffengine.infinite_width_theorem1`.

    **Source:**

    docs/theory.md, "Negatives".
    """
    groups = [points.double(), sources.double()]
    s = [groups[0].new_zeros(len(points)), groups[1].new_ones(len(sources))]
    felt = infinite_width_checks(groups, s, activation=activation, goodness=goodness, width=width)[
        0
    ]
    return felt.margin / (2 * len(sources))


def potential_rows(
    groups: Mapping[Split, Tensor],
    *,
    seed: int = 0,
    activation: str = "relu",
    goodness: Goodness = SQUARES,
    width: int | None = None,
) -> tuple[PotentialRow, ...]:
    """Compare the potentials of negatives and positives at the samples of each split.

    **Arguments:**

    - `groups`: positives and negatives (N, m), as many of each.
    - `seed`: copied into the rows.
    - `activation`, `goodness`, `width`: as for `ffengine.infinite_width_theorem1`.

    **Returns:**

    One row for each split.

    **Source:**

    docs/theory.md, "Negatives".
    """
    positive, negative = (groups[split].double() for split in BOTH)
    energy = float(negative.square().sum() / positive.square().sum())
    rows = []
    for split, points in zip(BOTH, (positive, negative), strict=True):
        of_positives, of_negatives = (
            potential(points, sources, activation=activation, goodness=goodness, width=width)
            for sources in (positive, negative)
        )
        live = torch.linalg.vector_norm(points, dim=-1) > 0
        u_positive, u_negative = of_positives[live], of_negatives[live]
        mean = float(u_positive.mean())
        rows.append(
            PotentialRow(
                seed=seed,
                split=split,
                samples=int(live.sum()),
                energy_ratio=energy,
                positive_potential=mean,
                negative_potential=float(u_negative.mean()),
                potential_ratio=float(u_negative.mean()) / mean if mean else None,
                predicted_ratio=float((u_negative > u_positive).double().mean()),
            )
        )
    return tuple(rows)


def strategy_potentials(
    dataset: DatasetSpec,
    negatives: Negatives,
    *,
    samples: int = 500,
    seed: int = 0,
    datasets: Datasets | None = None,
    device: str = "cpu",
) -> tuple[PotentialRow, ...]:
    """Predict theorem 2 at initialisation for a strategy on a data set, without a network.

    **Arguments:**

    - `dataset`: which samples, and how pixels become inputs.
    - `negatives`: how negatives are made.
    - `samples`: how many positives are drawn, and negatives beside them; at most all.
    - `seed`: of the draws.
    - `datasets`: where data sets are; None: where the environment says.
    - `device`: where samples lie.

    **Returns:**

    One row for each split.

    **Raises:**

    - `DatasetError`: the data set cannot be found, fetched or read.
    - `ValueError`: the strategy asks the network, so that its negatives differ from network to
      network.

    **Source:**

    docs/theory.md, "Negatives".
    """
    if negatives.asks_network:
        raise ValueError(
            "negatives: this strategy asks the network, so its potential is not known before; "
            "choose another, or check theorem 2 at the network's weights"
        )
    where = torch.device(device)
    train = load_samples(dataset, where, datasets).train
    draws = Draws((seed,), where)
    index = draws.at("samples").permutation(len(train))[:, :samples]
    positive = negatives.positive(train.positives(labelled=negatives.labelled)[index])
    negative = negatives(Positives(positive, index, train, draws.at("negatives", 0), None))
    return potential_rows({"positive": positive[0], "negative": negative[0]}, seed=seed)
