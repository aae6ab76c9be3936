"""Angles between the samples of a batch, as a histogram: the infinite-width limit depends on them.

Legend: N samples of both splits, m inputs. In the limit, margin_k = sum_i s_i ||x_i||^2
cos(theta_ik) phi(theta_ik) (docs/theory.md, "Geometry"). So the angle theta_ik and the energy
||x_i||^2 of every pair of a batch count.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ffengine.results import AngleRow, Split

BIN_DEGREES = 2
BINS = 180 // BIN_DEGREES
MOST_SAMPLES = 512  # taken of a batch: the number of pairs grows with its square
EDGE = 1e-9  # in bins: puts an angle that rounding moved below an edge into the bin above it


def angle_rows(
    groups: Mapping[Split, Tensor], *, seed: int = 0, layer: int = 0, epoch: int = 0
) -> tuple[AngleRow, ...]:
    """Count the pairs of samples of a batch by their angle, for the samples x_i of each split.

    Each x_i is paired with every other sample x_k of the batch. Of a large batch the first samples
    of each split are taken: a batch is drawn at random, so they are a random part of it, and a
    positive stays together with its negative. Pairs with a sample of length 0 have no angle and are
    left out.

    **Arguments:**

    - `groups`: inputs (N_g, m) by split.
    - `seed`, `layer`, `epoch`: copied into the rows.

    **Returns:**

    One row for each split.

    **Source:**

    docs/theory.md, "Geometry".
    """
    limit = MOST_SAMPLES // len(groups)
    kept = {split: x[:limit].double() for split, x in groups.items()}
    x = torch.cat(list(kept.values()))
    length = torch.linalg.vector_norm(x, dim=-1)
    unit = x / torch.where(length > 0, length, 1.0).unsqueeze(-1)
    rows, start = [], 0
    for split, own in kept.items():
        own_index = torch.arange(start, start + len(own), device=x.device)
        start += len(own)
        pairs, energy = _histogram(unit, length, own_index)
        rows.append(
            AngleRow(
                seed=seed,
                layer=layer,
                epoch=epoch,
                split=split,
                samples=len(own),
                beside=len(x),
                batch_samples=len(groups[split]),
                pairs=tuple(int(count) for count in pairs.tolist()),
                energy=tuple(energy.tolist()),
            )
        )
    return tuple(rows)


def _histogram(unit: Tensor, length: Tensor, own_index: Tensor) -> tuple[Tensor, Tensor]:
    """Return pairs and energy (BINS,) by angle, of some samples with every other sample.

    unit (N, m) are directions, length (N,) the lengths, own_index (M,) the samples.
    """
    degrees = (unit[own_index] @ unit.T).clamp_(-1.0, 1.0).acos_().mul_(180 / math.pi)  # (M, N)
    bins = degrees.div_(BIN_DEGREES).add_(EDGE).floor_().long().clamp_max_(BINS - 1)
    counted = (length[own_index] > 0).unsqueeze(1) & (length > 0)
    counted[torch.arange(len(own_index), device=own_index.device), own_index] = (
        False  # a sample is no pair with itself
    )
    energy = length[own_index].square().unsqueeze(1).expand_as(degrees)[counted].cpu()
    bins = bins[counted].cpu()  # the CPU adds in a fixed order, a GPU does not
    return torch.bincount(bins, minlength=BINS), torch.bincount(
        bins, weights=energy, minlength=BINS
    )
