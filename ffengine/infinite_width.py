"""The theorems in the limit of infinite width, from angles and norms of the samples alone.

The weights are iid N(0, 1/m), at initialisation, without bias.

Legend: N samples, m inputs; z of samples i and k are jointly normal with variances q = ||x||^2 / m
and correlation rho = cos(theta_ik). With h = sigma(z) along D = -2 sum_i s_i h_i sigma'(z_i) x_i^T
(docs/theory.md, "Infinite width"):

    margin_k = 2 sum_i s_i <x_i, x_k> ( E[f(z_k) g(z_i)] / E|h_k|  -  E[g(z_k) g(z_i)] / E[h_k^2] )
    f = sign(h) sigma',  g = h sigma'

For sigma(z) = max(z, 0) + a min(z, 0) the expectations have a closed form. For any other sigma they
are the series sum_p rho^p f_p(k) g_p(i) of Hermite coefficients (Mehler's formula); the
coefficients come from quadrature on either side of 0.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ffengine.activations import Activation
from ffengine.margins import TheoremCheck, activation_named, check_samples

TILE = 512  # samples on each side of a block of pairs
# Terms of the series. Truncation moves margins by 2e-4 for elu, whose slope has a kink, by 2e-5 for
# tanh, and by at most 1e-7 for the other activations.
TERMS = 64
NODES = 240  # of the quadrature, on each side of 0
REACH = 13.0  # standard deviations that the quadrature covers on each side of 0
# Measured: the error of a margin is below this many unit roundings of the sum of all energies
# (docs/numerics.md).
ROUNDINGS = 2.0
NEGLIGIBLE = 1e-9  # terms below this share of the largest term are not summed


def infinite_width_theorem1(x: Tensor, *, activation: str = "relu") -> TheoremCheck:
    """Check theorem 1 for each sample in the limit of infinite width.

    Only angles and norms of the samples enter, no weights. For relu, margin_k = 2 sum_i ||x_i||^2
    cos(theta_ik) phi(theta_ik). A sample of length zero is dead where sigma(0) = 0. The cost is one
    product over all pairs of samples, in blocks.

    **Arguments:**

    - `x`: (N, m) float32 or float64.
    - `activation`: a name of the catalogue of activations.

    **Returns:**

    The verdict on the N samples, with margins in the units of `theorem1`, the factor 2 of D
    included.

    **Raises:**

    - `ValueError`: the shape or type is wrong, a number is NaN or infinite, the batch is empty, or
      the activation is unknown.

    **Source:**

    docs/theory.md, "Infinite width", with the arc-cosine kernels of Cho & Saul (2009); it is the
    limit of arXiv 2311.05667, theorem 1.
    """
    check_samples(x=x)
    return _checks([x], [1.0], activation_named(activation))[0]


def infinite_width_theorem2(
    x_pos: Tensor, x_neg: Tensor, *, activation: str = "relu"
) -> tuple[TheoremCheck, TheoremCheck]:
    """Check theorem 2 for each sample in the limit of infinite width.

    The sum is that of `infinite_width_theorem1`, with + for negative and - for positive samples.
    The two parts nearly cancel, so that a finite layer approaches the limit slowly.

    **Arguments:**

    - `x_pos`: (N_pos, m) positive samples, float32 or float64.
    - `x_neg`: (N_neg, m) negative samples.
    - `activation`: a name of the catalogue of activations.

    **Returns:**

    The verdict on the positive samples and the verdict on the negative samples.

    **Raises:**

    - `ValueError`: as for `infinite_width_theorem1`.

    **Source:**

    docs/theory.md, "Infinite width"; it is the limit of arXiv 2311.05667, theorem 2.
    """
    check_samples(x_pos=x_pos, x_neg=x_neg)
    positive, negative = _checks([x_pos, x_neg], [-1.0, 1.0], activation_named(activation))
    return positive, negative


def _checks(
    groups: Sequence[Tensor], signs: Sequence[float], activation: Activation
) -> list[TheoremCheck]:
    """Return the verdict on the samples (N_g, m) of each group; each group pushes with its sign."""
    x = torch.cat(list(groups))
    length = torch.linalg.vector_norm(x, dim=-1)
    unit = x / torch.where(length > 0, length, 1.0).unsqueeze(-1)
    s = torch.cat(
        [length.new_full((len(group),), sign) for group, sign in zip(groups, signs, strict=True)]
    )
    if activation.slope_below_zero is not None:
        margin = _closed_form(unit, 2 * s * length.square(), activation.slope_below_zero)
    else:
        margin = _series(unit, s, length, activation)
    energy = 2 * length.double().square().sum()
    rounding = ROUNDINGS * torch.finfo(x.dtype).eps / 2 * energy * torch.ones_like(margin)
    dead = (length == 0) & bool(activation.value(x.new_zeros(1)) == 0)
    margin, rounding = margin.masked_fill(length == 0, 0.0), rounding.masked_fill(dead, 0.0)
    sizes = [len(group) for group in groups]
    parts = zip(margin.split(sizes), dead.split(sizes), rounding.split(sizes), strict=True)
    return [TheoremCheck.of(*part) for part in parts]


def _closed_form(unit: Tensor, energy: Tensor, a: float) -> Tensor:
    """Return margin (N,) float64 for a sigma with slope a below zero and 1 above.

    unit (N, m) are directions, energy (N,) is 2 s ||x||^2.
    """
    margin = torch.zeros(len(unit), dtype=torch.float64, device=unit.device)
    if a == 1.0:  # the terms cancel exactly
        return margin
    for rows, columns, cosine, angle in _tiles(unit):
        kernel = limit_kernel(cosine, a, out=angle)
        margin[rows] += (kernel @ energy[columns]).double()
        if rows != columns:
            margin[columns] += (kernel.T @ energy[rows]).double()
    return margin


def limit_kernel(cosine: Tensor, a: float = 0.0, *, out: Tensor | None = None) -> Tensor:
    """Return what a pair of samples contributes to the margin per unit of energy, by its cosine.

    With theta = acos(rho) it is rho (c_0 + c_1 rho - c_2 (sin(theta) + (pi - theta) rho)). For relu
    (a = 0) this is cos(theta) phi(theta): positive for acute angles, 0 at 0 and 90 degrees.

    **Arguments:**

    - `cosine`: rho of each pair, of any shape, in [-1, 1]; this memory may be overwritten.
    - `a`: the slope of sigma below zero.
    - `out`: memory of the shape of `cosine` for the result.

    **Returns:**

    The kernel, elementwise, in the shape and type of `cosine`.

    **Source:**

    docs/theory.md, "Infinite width"; arc-cosine kernels of orders 0 and 1, Cho & Saul (2009).
    """
    c_0 = (1 - a * a) / 2 - a * (1 - a)
    c_1 = (1 + a * a) / 2 - 2 * a * a / (1 + a * a)
    c_2 = (1 - a * a) ** 2 / (math.pi * (1 + a * a))
    out = torch.empty_like(cosine) if out is None else out
    torch.neg(cosine, out=out).acos_().mul_(cosine)  # (pi - theta) rho
    sine = torch.addcmul(cosine.new_ones(()), cosine, cosine, value=-1).clamp_min_(0).sqrt_()
    return out.add_(sine).mul_(-c_2).add_(cosine, alpha=c_1).add_(c_0).mul_(cosine)


def _tiles(unit: Tensor) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Yield the cosines of all pairs of directions (N, m), block by block, with rows <= columns.

    Each block comes with a buffer of its size.
    """
    count = len(unit)
    size = min(TILE, count)
    cosines, spare = unit.new_empty(size * size), unit.new_empty(size * size)
    slices = [slice(start, min(start + TILE, count)) for start in range(0, count, TILE)]
    for number, rows in enumerate(slices):
        for columns in slices[number:]:
            shape = (rows.stop - rows.start, columns.stop - columns.start)
            cosine, buffer = (
                memory[: shape[0] * shape[1]].view(shape) for memory in (cosines, spare)
            )
            torch.mm(unit[rows], unit[columns].T, out=cosine)
            yield rows, columns, cosine.clamp_(-1.0, 1.0), buffer


class Hermite(NamedTuple):
    """Hermite coefficients of N samples, (N, TERMS) float64.

    **Attributes:**

    - `of_margin`: coefficients of f / E|h| - g / E[h^2].
    - `of_push`: coefficients of g.
    - `missing`: (N,), the exact integral of a sample with itself (rho = 1) minus its series.
    """

    of_margin: Tensor
    of_push: Tensor
    missing: Tensor


def _series(unit: Tensor, s: Tensor, length: Tensor, activation: Activation) -> Tensor:
    """Return margin (N,) float64 by the Hermite series."""
    coefficients = hermite_coefficients(length.double() / math.sqrt(unit.shape[1]), activation)
    push = (2 * s * length).double().unsqueeze(1) * coefficients.of_push  # (N, TERMS)
    pull = length.double().unsqueeze(1) * coefficients.of_margin
    size = pull.abs().amax(0) * push.abs().sum(0)  # upper bound of each term
    terms = int((size > NEGLIGIBLE * size.max()).nonzero().max()) + 1 if bool(size.any()) else 0
    push_low, margin = (
        push.to(unit.dtype),
        torch.zeros(len(unit), dtype=torch.float64, device=unit.device),
    )
    for rows, columns, cosine, power in _tiles(unit):
        power.copy_(cosine)
        for p in range(terms):
            margin[rows] += pull[rows, p] * (power @ push_low[columns, p]).double()
            if rows != columns:
                margin[columns] += pull[columns, p] * (power.T @ push_low[rows, p]).double()
            power.mul_(cosine)
    return margin + 2 * (s * length.square()).double() * coefficients.missing


def hermite_coefficients(deviation: Tensor, activation: Activation) -> Hermite:
    """Compute the Hermite coefficients of samples by quadrature.

    Each side of 0 is integrated by itself, because kinks of sigma lie at 0.

    **Arguments:**

    - `deviation`: sqrt(q) (N,) float64, the standard deviation of z of each sample.
    - `activation`: sigma.

    **Returns:**

    The coefficients of the N samples.

    **Source:**

    docs/theory.md, "Infinite width" (Mehler's formula).
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    half, half_weight = (nodes + 1) * REACH / 2, weights * REACH / 2
    u = torch.from_numpy(np.concatenate([-half[::-1], half])).to(deviation.device)
    density = torch.exp(-u.square() / 2) / math.sqrt(2 * math.pi)
    w = (
        torch.from_numpy(np.concatenate([half_weight[::-1], half_weight])).to(deviation.device)
        * density
    )
    basis = torch.stack(list(_hermite_polynomials(u)), dim=1) * w.unsqueeze(1)  # (2 NODES, TERMS)
    of_margin, of_push, missing = [], [], []
    for chunk in deviation.split(2**20 // len(u)):
        z = chunk.unsqueeze(1) * u
        h, slope = activation.value(z), activation.slope(z)
        f, g = (h.sign() * slope) @ basis, (h * slope) @ basis
        size, square = h.abs() @ w, h.square() @ w
        live = square > 0
        size, square = (
            torch.where(live, size, 1.0).unsqueeze(1),
            torch.where(live, square, 1.0).unsqueeze(1),
        )
        of_margin.append(f / size - g / square)
        of_push.append(g)
        exact = ((h.sign() * slope / size - h * slope / square) * h * slope) @ w
        missing.append(exact - (of_margin[-1] * g).sum(1))
    return Hermite(torch.cat(of_margin), torch.cat(of_push), torch.cat(missing))


def _hermite_polynomials(u: Tensor) -> Iterator[Tensor]:
    """Yield He_p(u) / sqrt(p!) for p = 0 .. TERMS - 1: orthonormal under the normal density."""
    before, now = torch.zeros_like(u), torch.ones_like(u)
    for p in range(TERMS):
        yield now
        before, now = now, (u * now - math.sqrt(p) * before) / math.sqrt(p + 1)
