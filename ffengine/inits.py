"""Catalogue of weight initialisations.

Legend: R replicas, n width, m inputs of the layer without the bias. Biases start at 0 unless an
entry says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from ffengine.additions import OpenNames

if TYPE_CHECKING:
    from torch import Tensor

    from ffengine.random_streams import Draw


class Init(NamedTuple):
    """How the weights and biases of a layer start.

    **Attributes:**

    - `meaning`: one phrase for the catalogue.
    - `weight`: gives W (R, n, m) from a draw, R, n and m.
    - `bias`: gives the biases (R, n) from a draw, R, n and m.
    """

    meaning: str
    weight: Callable[[Draw, int, int, int], Tensor]
    bias: Callable[[Draw, int, int, int], Tensor]


def _normal(draw: Draw, replicas: int, n: int, m: int, variance: float) -> Tensor:
    """Draw normal weights (R, n, m) of that variance."""
    return draw.normal((replicas, n, m)) * math.sqrt(variance)


def _uniform(draw: Draw, shape: tuple[int, ...], bound: float) -> Tensor:
    """Draw uniform numbers within a bound on either side of 0."""
    return (draw.uniform(shape) * 2 - 1) * bound


def _orthogonal(draw: Draw, replicas: int, n: int, m: int) -> Tensor:
    """Draw weights (R, n, m) with orthonormal rows, or columns where n > m."""
    tall = draw.normal((replicas, max(n, m), min(n, m))).double()
    reflectors, scales = tall.geqrf()  # Q R = tall, as Householder reflectors
    signs = reflectors.diagonal(dim1=-2, dim2=-1).sign()
    uniform: Tensor = (
        reflectors.orgqr(scales) * signs.unsqueeze(-2)
    ).float()  # uniform over the orthogonal matrices
    return uniform if n >= m else uniform.mT.contiguous()


def _zero_bias(draw: Draw, replicas: int, n: int, m: int) -> Tensor:
    """Return biases (R, n) of 0."""
    return draw.normal((replicas, n)) * 0


InitName = Literal["gaussian", "gaussian_fan_out", "he", "glorot", "lecun", "orthogonal", "torch"]
AnyInit = Annotated[InitName, OpenNames("inits")]
INITS: dict[InitName, Init] = {
    "gaussian": Init(
        "N(0, 1/m), the theory's", lambda d, r, n, m: _normal(d, r, n, m, 1 / m), _zero_bias
    ),
    "gaussian_fan_out": Init(
        "N(0, 1/n) (Löwe 2023)", lambda d, r, n, m: _normal(d, r, n, m, 1 / n), _zero_bias
    ),
    "he": Init(
        "N(0, 2/m) (arXiv 1502.01852)", lambda d, r, n, m: _normal(d, r, n, m, 2 / m), _zero_bias
    ),
    "glorot": Init(
        "uniform within sqrt(6 / (m + n)) (Glorot & Bengio 2010)",
        lambda d, r, n, m: _uniform(d, (r, n, m), math.sqrt(6 / (m + n))),
        _zero_bias,
    ),
    "lecun": Init(
        "uniform within sqrt(3 / m) (LeCun et al. 1998)",
        lambda d, r, n, m: _uniform(d, (r, n, m), math.sqrt(3 / m)),
        _zero_bias,
    ),
    "orthogonal": Init(
        "orthonormal rows, or columns where n > m (arXiv 1312.6120)", _orthogonal, _zero_bias
    ),
    "torch": Init(
        "torch.nn.Linear's: weights and biases uniform within 1 / sqrt(m)",
        lambda d, r, n, m: _uniform(d, (r, n, m), 1 / math.sqrt(m)),
        lambda d, r, n, m: _uniform(d, (r, n), 1 / math.sqrt(m)),
    ),
}
