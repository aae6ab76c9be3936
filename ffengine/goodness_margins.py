"""The rate at which sparsity changes when any goodness is lowered, exact to first order.

Legend: N samples, m inputs, n width, z = W x, h = sigma(z). Lowering sum_i s_i G_i moves W along
D = -sum_i s_i (dG_i/dh * sigma'(z_i)) x_i^T. `ffengine.margins` has the case G = ||h||^2 and what
follows once D is known.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ffengine.activations import Activation
from ffengine.margins import (
    CHUNK_ELEMENTS,
    TheoremCheck,
    activation_named,
    cancellation,
    check_layer,
    observe,
)
from ffengine.objectives import Goodness
from ffengine.piece_sizes import piece


def lowering_checks(
    weight: Tensor,
    groups: Sequence[Tensor],
    s: Sequence[Tensor],
    goodness: Goodness,
    *,
    activation: str = "relu",
) -> list[TheoremCheck]:
    """Check for each sample whether lowering sum_i s_i G_i raises its sparsity.

    Theorem 1 has s_i = 1, theorem 2 has 1 for negatives and -1 for positives. The cost is four
    matrix products.

    **Arguments:**

    - `weight`: W (n, m) float32 or float64, n >= 2.
    - `groups`: samples (N_g, m) of each group, of the type and on the device of `weight`.
    - `s`: the weights (N_g,) of the samples of each group.
    - `goodness`: an entry of the catalogue of goodness.
    - `activation`: a name of the catalogue of activations.

    **Returns:**

    The verdict on the samples of each group, with margins in units of 1 / eta.

    **Raises:**

    - `ValueError`: as for `ffengine.theorem1`.

    **Source:**

    docs/theory.md, "The exact condition".
    """
    check_layer(weight, **{f"groups[{number}]": x for number, x in enumerate(groups)})
    sigma = activation_named(activation)
    D, longer = lowering_direction(weight, groups, s, sigma, goodness)
    checks = []
    for sums in observe(weight, groups, [1.0] * len(groups), sigma, direction=D):
        sums.cancellation = longer
        checks.append(sums.check())
    return checks


def lowering_direction(
    weight: Tensor,
    groups: Sequence[Tensor],
    s: Sequence[Tensor],
    activation: Activation,
    goodness: Goodness,
) -> tuple[Tensor, float]:
    """Compute the direction of the step that lowers sum_i s_i G_i.

    All units of a sample are computed at once, because the goodness may depend on all of them.

    **Arguments:**

    - `weight`: W (n, m).
    - `groups`: samples (N_g, m) of each group.
    - `s`: the weights (N_g,) of the samples of each group.
    - `activation`: sigma.
    - `goodness`: G.

    **Returns:**

    D (n, m), and how much longer the parts of the groups are together than D.
    """
    D, lengths = torch.zeros_like(weight), []
    rows = max(1, piece(CHUNK_ELEMENTS, weight.device) // len(weight))
    for x, weights in zip(groups, s, strict=True):
        for part, part_s in zip(x.split(rows), weights.to(x.dtype).split(rows), strict=True):
            z = part @ weight.T
            slope, h = activation.slope(z), activation.value(z)
            pull = goodness.pull(h, goodness.value(h), part_s).mul_(slope)
            D.addmm_(pull.T, part, alpha=-1.0)
        lengths.append(float(torch.linalg.vector_norm(D)))
    return D, cancellation(lengths)


def own_term(h: Tensor, energy: Tensor, s: Tensor, goodness: Goodness) -> Tensor:
    """Compute what each sample's own share of the step does to its margin, for relu.

    It is -s |x|^2 (sum h g'(h) / sum h^2 - sum g'(h) / sum h) over the active units, where g' is
    dG/dh: above zero, lowering the sample's own goodness makes it sparser. Its sign is that of
    s (2 - q) for G = sum h^q, and it is 0 for squares and for any function of their sum, unless all
    active units are equally loud.

    **Arguments:**

    - `h`: activations (N, n), at least 0.
    - `energy`: ||x||^2 (N,).
    - `s`: the weights (N,) of the samples, dL/dG.
    - `goodness`: G.

    **Returns:**

    (N,); 0 for samples without an active unit.

    **Source:**

    docs/theory.md, "Other goodness functions".
    """
    slope = goodness.pull(h.clone(), goodness.value(h), h.new_ones(len(h)))
    l1, squares = h.sum(-1), h.square().sum(-1)
    live = l1 > 0
    along_h = (h * slope).sum(-1) / torch.where(live, squares, 1.0)
    along_mask = (slope * (h > 0)).sum(-1) / torch.where(live, l1, 1.0)
    return -s * energy * (along_h - along_mask)
