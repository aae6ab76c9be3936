"""What a pair of samples contributes to the margin at infinite width, for goodness of other forms
than the sum of squares.

Legend: theta is the angle between the samples x_i and x_k, rho = cos(theta), s = sin(theta); W has
iid entries of variance 1/m, h = relu(W x). f and Phi are the density and the distribution function
of the standard normal. Formulas use tensor methods only, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

# Terms of the power series of the incomplete beta function. Its argument is at most 1/2, so the
# terms that are left out are together below 1e-16.
SERIES_TERMS = 52
OWEN_NODES = 48  # of the quadrature of Owen's function, over at most a right angle
SMALLEST_SINE = 1e-150  # keeps what is divided by a sine finite; its square is no denormal
BISECTIONS = 60  # halvings of a right angle


class Curve(NamedTuple):
    """A function of the angle between two samples.

    **Attributes:**

    - `formula`: takes cosines and the parameter, such as `power_kernel`.
    - `parameter`: the exponent q, or the share of the units that count.
    """

    formula: Callable[[Tensor, float], Tensor]
    parameter: float

    def __call__(self, cosine: Tensor) -> Tensor:
        """Compute the function, elementwise.

        **Arguments:**

        - `cosine`: rho of each pair, of any shape, in [-1, 1], float64.

        **Returns:**

        The values, in the shape of `cosine`.
        """
        return self.formula(cosine, self.parameter)


class PairKernel(NamedTuple):
    """How much a sample x_i moves the margin of x_k at infinite width.

    It is s_i factor ||x_i||^power K(cos(theta_ik)).

    **Attributes:**

    - `power`: of the length of x_i.
    - `factor`: in the units of the exact margin, 1 / eta.
    - `curve`: K for relu; None: that of squares.
    """

    power: float
    factor: float
    curve: Curve | None = None

    @property
    def of_any_activation(self) -> bool:
        """Whether the limit is known for every activation, not for relu alone."""
        return self.curve is None and self.power == 2


def power_kernel(cosine: Tensor, q: float) -> Tensor:
    """Compute cos(theta) phi_q(theta): the kernel of the goodness sum h^q.

    With e(r) = 2^(r/2) Gamma(1 + r/2) and I(p) the integral of sin^p from 0 to pi - theta,
    phi_q = e(q-1) I(q-1) / sqrt(2 pi) - e(q) (cos(theta) I(q) + sin^(q+1)(theta) / q) / pi. For
    q = 2 it is phi.

    **Arguments:**

    - `cosine`: rho of each pair, of any shape, in [-1, 1], float64.
    - `q`: the exponent, above 0.

    **Returns:**

    The kernel, elementwise.

    **Source:**

    docs/theory.md, "Other goodness functions".
    """
    first = _half_moment(q - 1) / math.sqrt(2 * math.pi)
    second = _half_moment(q) / math.pi
    sine = _sine(cosine)
    bracket = cosine * sine_integral(cosine, q) + sine.pow(q + 1) / q
    return cosine * (first * sine_integral(cosine, q - 1) - second * bracket)


def _half_moment(r: float) -> float:
    """Return e(r) = 2^(r/2) Gamma(1 + r/2), the mean of R^r for a Rayleigh variable R."""
    return float(2 ** (r / 2) * math.gamma(1 + r / 2))


def _sine(cosine: Tensor) -> Tensor:
    """Return sin(theta) >= 0, precise near 0 and pi."""
    return ((1 - cosine) * (1 + cosine)).clamp_min(0).sqrt()


def sine_integral(cosine: Tensor, p: float) -> Tensor:
    """Integrate sin^p from 0 to pi - theta, an incomplete beta function.

    Where the angle is nearer to 0 or pi the series goes in sin^2, elsewhere in cos^2; so its
    argument is at most 1/2.

    **Arguments:**

    - `cosine`: cos(theta), of any shape, in [-1, 1], float64.
    - `p`: the exponent, above -1.

    **Returns:**

    The integral, elementwise.

    **Source:**

    Abramowitz & Stegun, 26.5.4 and 6.6.2: the binomial series, integrated term by term.
    """
    whole = math.sqrt(math.pi) * math.gamma((p + 1) / 2) / math.gamma(p / 2 + 1)
    near_ends, near_middle = _series_coefficients(p)
    sine = _sine(cosine)
    rest = sine.pow(p + 1) * _polynomial(near_ends, sine.square().clamp_max(0.5))
    at_ends = (cosine > 0).to(cosine.dtype) * (whole - 2 * rest) + rest
    middle = whole / 2 + cosine * _polynomial(near_middle, cosine.square().clamp_max(0.5))
    return at_ends.where(sine.square() <= 0.5, middle)


def _series_coefficients(p: float) -> tuple[list[float], list[float]]:
    """Return the coefficients of the integrals of sin^p by sin^2, and of cos^p by sin^2."""
    near_ends, near_middle = [], []
    of_ends, of_middle = 1.0, 1.0  # of (1 - y)^(-1/2) and of (1 - y)^((p - 1) / 2)
    for k in range(SERIES_TERMS):
        near_ends.append(of_ends / (p + 1 + 2 * k))
        near_middle.append(of_middle / (2 * k + 1))
        of_ends *= (k + 0.5) / (k + 1)
        of_middle *= (k - (p - 1) / 2) / (k + 1)
    return near_ends, near_middle


def _polynomial(coefficients: Sequence[float], y: Tensor) -> Tensor:
    """Return sum_k coefficients_k y^k by Horner's rule."""
    total = y.new_full(y.shape, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total.mul_(y).add_(coefficient)
    return total


def top_share_kernel(cosine: Tensor, share: float) -> Tensor:
    """Compute the kernel of the goodness "squares of the largest activations".

    With the threshold zk = Phi^-1(1 - share) it is rho (sqrt(2 pi) a - 2 b), where
    a = f(zk) Phi(rho zk / s) + rho Phi(-zk / s) / sqrt(2 pi) and
    b = rho (zk f(zk) Phi(rho zk / s) + P[u > zk, v > 0]) + s exp(-zk^2 / (2 s^2)) / (2 pi), for
    standard normal u, v of correlation rho.

    **Arguments:**

    - `cosine`: rho of each pair, of any shape, in [-1, 1], float64.
    - `share`: k / n, above 0. From one half on all active units count, so it is the kernel of
      squares.

    **Returns:**

    The kernel, elementwise.

    **Source:**

    docs/theory.md, "Other goodness functions".
    """
    zk = NormalDist().inv_cdf(1 - min(share, 0.5))
    density = math.exp(-zk * zk / 2) / math.sqrt(2 * math.pi)
    sine = _sine(cosine).clamp_min(SMALLEST_SINE)
    inside, outside = _normal(cosine / sine * zk), _normal(-zk / sine)
    both = NormalDist().cdf(-zk) / 2 + _owen(cosine, sine, zk)
    a = density * inside + cosine / math.sqrt(2 * math.pi) * outside
    b = cosine * (zk * density * inside + both)
    b = b + sine / (2 * math.pi) * (-0.5 * (zk / sine).square()).exp()
    return cosine * (math.sqrt(2 * math.pi) * a - 2 * b)


def _normal(u: Tensor) -> Tensor:
    """Return Phi(u), precise in the lower tail."""
    return (u * -math.sqrt(0.5)).erfc() / 2


def _owen(cosine: Tensor, sine: Tensor, zk: float) -> Tensor:
    """Return Owen's function T(zk, rho / s): the integral from 0 to pi/2 - theta of exp(-zk^2 / (2
    cos^2)) / (2 pi).
    """
    nodes, weights = np.polynomial.legendre.leggauss(OWEN_NODES)
    half = (cosine / sine).atan() / 2  # of the range of integration; negative for obtuse angles
    total = half.new_zeros(half.shape)
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        total += weight * (-0.5 * zk * zk / (half * (node + 1)).cos().square()).exp()
    return total * half / (2 * math.pi)


def zero_angle(curve: Curve, right_angle: Tensor) -> float | None:
    """Find the angle below which a sample that is lowered pushes its neighbours to lower sparsity.

    **Arguments:**

    - `curve`: the kernel, such as that of sum h^q for one q.
    - `right_angle`: pi/2 as a float64 tensor of no dimension: it says where to compute.

    **Returns:**

    The angle in degrees where the kernel turns from negative to positive; None where it is negative
    for no acute angle.
    """
    low, high = right_angle * 1e-3, right_angle * (1 - 1e-3)
    if float(curve(low.cos())) >= 0:
        return None
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if float(curve(middle.cos())) < 0 else (low, middle)
    return math.degrees(float(low))
