"""The theorems in the limit of infinite width: weights iid N(0, 1/m), at initialisation, no bias;
angles and norms only.

Legend: N samples, m inputs; z of samples i and k are jointly normal with variances q = ||x||^2 / m
and correlation rho = cos(theta_ik). With h = sigma(z) along D = -2 sum_i s_i h_i sigma'(z_i) x_i^T
(theory, "The infinite-width limit"):

    margin_k = 2 sum_i s_i <x_i, x_k> ( E[f(z_k) g(z_i)] / E|h_k|  -  E[g(z_k) g(z_i)] / E[h_k^2] )
    f = sign(h) sigma',  g = h sigma'

For sigma(z) = max(z, 0) + a min(z, 0) the expectations are known in closed form. For any other
sigma they are the series sum_p rho^p f_p(k) g_p(i) of Hermite coefficients (Mehler's formula),
found by quadrature on either side of 0.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ffengine.activations import Activation
from ffengine.margins import TheoremCheck, activation_named, check_samples

TILE = 512  # samples on a side of a block of pairs
# of the series: margins are off by 2e-4 for elu, whose slope has a kink, 2e-5 for tanh, 1e-7 and
# less elsewhere
TERMS = 64
NODES = 240  # of the quadrature on each side of 0
REACH = 13.0  # standard deviations it covers
# measured: margins are off by less than so many roundings of the sum of all energies
# (docs/numerics.md)
ROUNDINGS = 2.0
NEGLIGIBLE = 1e-9  # of the largest term of the series: the rest is not summed


def infinite_width_theorem1(x: Tensor, *, activation: str = "relu") -> TheoremCheck:
    """theorem1 in the limit of infinite width, from the angles and norms of x (N, m) alone; no
    weights.

    For relu, margin_k = 2 sum_i ||x_i||^2 cos(theta_ik) phi(theta_ik), in the units of theorem1's
    margins (the 2 is D's). A sample of zero length is dead where sigma(0) = 0. Raises ValueError
    for NaN or infinity, an empty batch, or wrong shapes.
    """
    check_samples(x=x)
    return _checks([x], [1.0], activation_named(activation))[0]


def infinite_width_theorem2(
    x_pos: Tensor, x_neg: Tensor, *, activation: str = "relu"
) -> tuple[TheoremCheck, TheoremCheck]:
    """theorem2 in the limit of infinite width: the same sum, with + for negative and - for positive
    samples.

    x_pos and x_neg (N, m). The two sums nearly cancel, so agreement with a finite layer grows
    slowly with its width.
    """
    check_samples(x_pos=x_pos, x_neg=x_neg)
    positive, negative = _checks([x_pos, x_neg], [-1.0, 1.0], activation_named(activation))
    return positive, negative


def _checks(
    groups: Sequence[Tensor], signs: Sequence[float], activation: Activation
) -> list[TheoremCheck]:
    """The verdict on the samples (N_g, m) of each group, all of them pushing with the sign of
    theirs.
    """
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
    """margin (N,) float64 of directions (N, m) and energies 2 s ||x||^2 (N,), the slope of sigma
    below zero being a.
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
    """The share of a pair in the margin, by its cosine, elementwise; cos(theta) phi(theta) for relu
    (a = 0). Uses `out` and cosine.

    rho (c_0 + c_1 rho - c_2 (sin + (pi - theta) rho)), theta = acos(rho), from the arc-cosine
    kernels of orders 0 and 1 (Cho & Saul 2009); for relu it is >= 0 for acute angles, and 0 at 0
    and 90 degrees.
    """
    c_0 = (1 - a * a) / 2 - a * (1 - a)
    c_1 = (1 + a * a) / 2 - 2 * a * a / (1 + a * a)
    c_2 = (1 - a * a) ** 2 / (math.pi * (1 + a * a))
    out = torch.empty_like(cosine) if out is None else out
    torch.neg(cosine, out=out).acos_().mul_(cosine)  # (pi - theta) rho
    sine = torch.addcmul(cosine.new_ones(()), cosine, cosine, value=-1).clamp_min_(0).sqrt_()
    return out.add_(sine).mul_(-c_2).add_(cosine, alpha=c_1).add_(c_0).mul_(cosine)


def _tiles(unit: Tensor) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Cosines of all pairs of directions (N, m) with rows <= columns, block by block, and a buffer
    of the block's size.
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
    """Per sample: Hermite coefficients (N, TERMS) of f / E|h| - g / E[h^2] and of g, float64."""

    of_margin: Tensor
    of_push: Tensor
    # (N,): what the series of a sample with itself, rho = 1, falls short of its exact integral
    missing: Tensor


def _series(unit: Tensor, s: Tensor, length: Tensor, activation: Activation) -> Tensor:
    """margin (N,) float64 by the Hermite series."""
    coefficients = hermite_coefficients(length.double() / math.sqrt(unit.shape[1]), activation)
    push = (2 * s * length).double().unsqueeze(1) * coefficients.of_push  # (N, TERMS)
    pull = length.double().unsqueeze(1) * coefficients.of_margin
    size = pull.abs().amax(0) * push.abs().sum(0)  # of each term, at most
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
    """Coefficients for samples whose z has standard deviation sqrt(q) (N,) float64.

    Integrals from 0 outwards: kinks lie at 0.
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
    """He_p(u) / sqrt(p!) for p = 0 .. TERMS - 1: orthonormal under the normal density."""
    before, now = torch.zeros_like(u), torch.ones_like(u)
    for p in range(TERMS):
        yield now
        before, now = now, (u * now - math.sqrt(p) * before) / math.sqrt(p + 1)
