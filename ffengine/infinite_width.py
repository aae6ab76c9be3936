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

For another goodness of relu, such as sum h^q, the sum over i has another kernel, see
`ffengine.goodness_kernels`. It is costly, so it is tabulated once and interpolated.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ffengine.activations import Activation
from ffengine.goodness_kernels import Curve, PairKernel
from ffengine.margins import TheoremCheck, activation_named, check_samples
from ffengine.objectives import Goodness, SumSquares
from ffengine.piece_sizes import piece
from ffengine.sparsity import check_finite

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
PANELS = 2**18  # of the table of a kernel
# Measured: interpolation moves a margin by less than this share of the largest kernel value times
# the sum of all energies; by more, up to 1e-7, only where q < 1/2 and samples are within a degree.
TABLE_ERROR = 1e-9
SAME_DIRECTION = 1 - 1e-14  # cosines from here on are those of samples of one direction
SQUARES = SumSquares()


def infinite_width_theorem1(
    x: Tensor,
    *,
    activation: str = "relu",
    goodness: Goodness = SQUARES,
    width: int | None = None,
) -> TheoremCheck:
    """Check theorem 1 for each sample in the limit of infinite width.

    Only angles and norms of the samples enter, no weights. For relu, margin_k = 2 sum_i ||x_i||^2
    cos(theta_ik) phi(theta_ik). A sample of length zero is dead where sigma(0) = 0. The cost is one
    product over all pairs of samples, in blocks.

    **Arguments:**

    - `x`: (N, m) float32 or float64.
    - `activation`: a name of the catalogue of activations.
    - `goodness`: what is lowered, an entry of the catalogue of goodness.
    - `width`: n of the layer whose limit is meant. Only the limit of top_k depends on it, and the
      units of the margins of mean_squares and l2.

    **Returns:**

    The verdict on the N samples, with margins in the units of `theorem1`, the factor 2 of D
    included.

    **Raises:**

    - `ValueError`: the shape or type is wrong, a number is NaN or infinite, the batch is empty, the
      activation is unknown, no limit is known for this goodness and activation, or the limit
      depends on a width that is not given.

    **Source:**

    docs/theory.md, "Infinite width", with the arc-cosine kernels of Cho & Saul (2009); it is the
    limit of arXiv 2311.05667, theorem 1.
    """
    (check,) = infinite_width_checks(
        [x], [x.new_ones(len(x))], activation=activation, goodness=goodness, width=width
    )
    return check


def infinite_width_theorem2(
    x_pos: Tensor,
    x_neg: Tensor,
    *,
    activation: str = "relu",
    goodness: Goodness = SQUARES,
    width: int | None = None,
) -> tuple[TheoremCheck, TheoremCheck]:
    """Check theorem 2 for each sample in the limit of infinite width.

    The sum is that of `infinite_width_theorem1`, with + for negative and - for positive samples.
    The two parts nearly cancel, so that a finite layer approaches the limit slowly.

    **Arguments:**

    - `x_pos`: (N_pos, m) positive samples, float32 or float64.
    - `x_neg`: (N_neg, m) negative samples.
    - `activation`: a name of the catalogue of activations.
    - `goodness`, `width`: as for `infinite_width_theorem1`.

    **Returns:**

    The verdict on the positive samples and the verdict on the negative samples.

    **Raises:**

    - `ValueError`: as for `infinite_width_theorem1`.

    **Source:**

    docs/theory.md, "Infinite width"; it is the limit of arXiv 2311.05667, theorem 2.
    """
    check_samples(x_pos=x_pos, x_neg=x_neg)
    positive, negative = infinite_width_checks(
        [x_pos, x_neg],
        [x_pos.new_full((len(x_pos),), -1.0), x_neg.new_ones(len(x_neg))],
        activation=activation,
        goodness=goodness,
        width=width,
    )
    return positive, negative


def infinite_width_checks(
    groups: Sequence[Tensor],
    s: Sequence[Tensor],
    *,
    activation: str = "relu",
    goodness: Goodness = SQUARES,
    width: int | None = None,
) -> list[TheoremCheck]:
    """Check for each sample, at infinite width, whether lowering sum_i s_i G_i raises its sparsity.

    Theorem 1 has s_i = 1, theorem 2 has 1 for negatives and -1 for positives; other objectives have
    s_i = dL/dG_i.

    **Arguments:**

    - `groups`: samples (N_g, m) of each group, float32 or float64.
    - `s`: the weights (N_g,) of the samples of each group.
    - `activation`, `goodness`, `width`: as for `infinite_width_theorem1`.

    **Returns:**

    The verdict on the samples of each group.

    **Raises:**

    - `ValueError`: as for `infinite_width_theorem1`, or `s` does not fit the groups.

    **Source:**

    docs/theory.md, "Infinite width".
    """
    check_samples(**{f"groups[{number}]": group for number, group in enumerate(groups)})
    for number, (group, weights) in enumerate(zip(groups, s, strict=True)):
        check_finite(f"s[{number}]", weights)
        if weights.shape != group.shape[:1]:
            raise ValueError(
                f"s[{number}]: expected shape ({len(group)},) to fit its samples, got "
                f"{tuple(weights.shape)}"
            )
    sigma, x = activation_named(activation), torch.cat(list(groups))
    kernel = _kernel(goodness, sigma, x.shape[1], width)
    length = torch.linalg.vector_norm(x, dim=-1)
    margin, rounding = _margins(x, torch.cat(list(s)).to(x.dtype), length, kernel, sigma)
    dead = (length == 0) & bool(sigma.value(x.new_zeros(1)) == 0)
    margin, rounding = margin.masked_fill(length == 0, 0.0), rounding.masked_fill(dead, 0.0)
    sizes = [len(group) for group in groups]
    parts = zip(margin.split(sizes), dead.split(sizes), rounding.split(sizes), strict=True)
    return [TheoremCheck.of(*part) for part in parts]


def _kernel(
    goodness: Goodness, activation: Activation, inputs: int, width: int | None
) -> PairKernel:
    """Return the kernel of a goodness; raise ValueError where none is known."""
    kernel = goodness.limit(inputs, width or 1)
    if kernel is None or not (kernel.of_any_activation or activation.name == "relu"):
        raise ValueError(
            f"goodness: no limit is known for {type(goodness).__name__} with {activation.name}"
        )
    if width is None and kernel != goodness.limit(inputs, 2**30):
        raise ValueError(
            f"width: the limit of {type(goodness).__name__} depends on it; give the layer's width"
        )
    return kernel


def _margins(
    x: Tensor, s: Tensor, length: Tensor, kernel: PairKernel, activation: Activation
) -> tuple[Tensor, Tensor]:
    """Return margin and rounding (N,) float64 of samples (N, m) with weights s (N,)."""
    energy = s * length.pow(kernel.power) if kernel.power != 2 else s * length.square()
    total = abs(kernel.factor) * energy.double().abs().sum()
    rounding = ROUNDINGS * torch.finfo(x.dtype).eps / 2 * total
    if kernel.curve is not None:
        unit = _directions(x.double(), length.double())
        margin, largest = _tabulated(unit, kernel.factor * energy.double(), kernel.curve)
        rounding = TABLE_ERROR * largest * total
    elif activation.slope_below_zero is not None:
        unit = _directions(x, length)
        margin = _closed_form(unit, kernel.factor * energy, activation.slope_below_zero)
    else:
        series = _series(_directions(x, length), s, length, activation)
        margin = series * (kernel.factor / 2)
    return margin, rounding * torch.ones_like(margin)


def _directions(x: Tensor, length: Tensor) -> Tensor:
    """Return samples (N, m) of length 1; those of length 0 as they are."""
    return x / torch.where(length > 0, length, 1.0).unsqueeze(-1)


def _tabulated(unit: Tensor, energy: Tensor, curve: Curve) -> tuple[Tensor, float]:
    """Return margin (N,) and the largest value of a kernel; everything is float64.

    unit (N, m) are directions, energy (N,) is factor s ||x||^power.
    """
    table = _table(curve).to(unit.device)
    margin = torch.zeros_like(energy)
    for rows, columns, cosine, _ in _tiles(unit):
        if rows == columns:
            cosine.fill_diagonal_(1.0)
        kernel = _interpolated(table, cosine)
        margin[rows] += kernel @ energy[columns]
        if rows != columns:
            margin[columns] += kernel.T @ energy[rows]
    return margin, float(table.abs().max())


@lru_cache(maxsize=16)
def _table(curve: Curve) -> Tensor:
    """Return the values of a kernel at PANELS + 1 angles, pi (1 - cos(pi v)) / 2 for v from 0 to 1.

    They are denser towards 0 and pi, where the kernel's slope can be infinite.
    """
    v = torch.linspace(0, 1, PANELS + 1, dtype=torch.float64)
    angle = math.pi * (math.pi * v / 2).sin().square()
    return curve(angle.cos())


def _interpolated(table: Tensor, cosine: Tensor) -> Tensor:
    """Return a tabulated kernel at cosines of any shape; this memory is overwritten."""
    same = cosine >= SAME_DIRECTION
    share = cosine.acos_().mul_(-2 / math.pi).add_(1)  # 1 - 2 theta / pi
    place = share.acos_().masked_fill_(same, 0).mul_(PANELS / math.pi)
    below = place.long().clamp_max_(PANELS - 1)
    return torch.lerp(table[below], table[below + 1], place - below)


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
    side = math.isqrt(piece(TILE * TILE, unit.device))
    size = min(side, count)
    cosines, spare = unit.new_empty(size * size), unit.new_empty(size * size)
    slices = [slice(start, min(start + side, count)) for start in range(0, count, side)]
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
