"""How sparse the weights of a layer are, their signs, and how many directions they spread over.

Legend: W (n, m) with rows w_j, the incoming weights of unit j, a bias among them. Everything is
computed in float64, and c W has the figures of W for every c > 0.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.sparsity import gini, sparsity_and_dead


class WeightSparsity(NamedTuple):
    """Figures of the weights of a layer; a matrix of zeros has none of them.

    **Attributes:**

    - `sparsity`: Hoyer's S of the n m weights as one vector.
    - `gini`: the Gini index of their magnitudes.
    - `excitatory_share`: how many of the weights that are not zero are positive.
    - `entropy_rank`: exp(H(p)) with p_i = s_i / sum s over the singular values s_i of W, from 1 to
      min(n, m); a weak direction counts for more than in the effective rank of squares.
    """

    sparsity: float | None = None
    gini: float | None = None
    excitatory_share: float | None = None
    entropy_rank: float | None = None


NOT_MEASURED = WeightSparsity()


def weight_sparsity(weight: Tensor) -> WeightSparsity:
    """Measure how sparse the weights of a layer are, and over how many directions they spread.

    **Arguments:**

    - `weight`: W (n, m), finite.

    **Returns:**

    The figures.

    **Source:**

    P. Hoyer, JMLR 5 (2004); N. Hurley & S. Rickard, IEEE Trans. Inf. Theory 55 (2009); O. Roy & M.
    Vetterli, EUSIPCO (2007), for the rank.
    """
    flat = weight.detach().reshape(-1)
    sparsity, zero = sparsity_and_dead(flat)
    if bool(zero):
        return NOT_MEASURED
    return WeightSparsity(
        sparsity=float(sparsity),
        gini=float(gini(flat)),
        excitatory_share=int((flat > 0).sum()) / int((flat != 0).sum()),
        entropy_rank=_entropy_rank(weight.detach()),
    )


def _entropy_rank(weight: Tensor) -> float:
    """Return the exponential of the entropy of the singular values, on one thread.

    The library's bits depend on the number of its threads.
    """
    matrix, threads = weight.double().cpu(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        values = torch.linalg.svdvals(matrix / matrix.abs().max())
    finally:
        torch.set_num_threads(threads)
    shares = values / values.sum()
    entropy = -torch.xlogy(shares, shares).sum()
    return min(max(math.exp(float(entropy)), 1.0), float(min(weight.shape)))
