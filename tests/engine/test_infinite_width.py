"""The limit of infinite width against one angle at a time, brute-force quadrature, Monte Carlo and
wide layers.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ffengine
from ffengine.activations import ACTIVATIONS
from ffengine.infinite_width import TILE, hermite_coefficients, limit_kernel
from tests.engine.reference import SIGMA, limit_sum, random_layer
from tests.examples import examples

SERIES = [name for name, entry in ACTIVATIONS.items() if entry.slope_below_zero is None]


def slope_of(name: str, z: torch.Tensor) -> torch.Tensor:
    leaf = z.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(SIGMA[name](leaf).sum(), leaf)
    return slope


def brute_margin(name: str, x: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
    """The formula of the limit, each expectation over (z_i, z_k) a sum over a grid of half-line
    quadrature nodes, float64.
    """
    nodes, weights = np.polynomial.legendre.leggauss(150)
    u = torch.from_numpy(np.concatenate([-(nodes[::-1] + 1) * 5, (nodes + 1) * 5]))
    w = (
        torch.from_numpy(np.concatenate([weights[::-1] * 5, weights * 5]))
        * torch.exp(-u * u / 2)
        / math.sqrt(2 * math.pi)
    )
    x = x.double()
    margins = []
    for x_k in x:
        q_k = x_k @ x_k / x.shape[1]
        z_k = q_k.sqrt() * u
        h_k, slope_k = SIGMA[name](z_k), slope_of(name, z_k)
        total = 0.0
        for x_i, s in zip(x, signs.tolist(), strict=True):
            rho = max(-1.0, min(1.0, float(x_i @ x_k / (x_i.norm() * x_k.norm()))))
            # given u, z_i is normal about rho u: its own kink lies where rho u + sqrt(1 - rho^2) v
            # = 0, so integrate finely
            v, w_v = u, w
            z_i = (x_i @ x_i / x.shape[1]).sqrt() * (
                rho * u.unsqueeze(1) + math.sqrt(1 - rho * rho) * v
            )
            pushed = (SIGMA[name](z_i) * slope_of(name, z_i)) @ w_v
            first = (w * h_k.sign() * slope_k * pushed).sum() / (w * h_k.abs()).sum()
            second = (w * h_k * slope_k * pushed).sum() / (w * h_k * h_k).sum()
            total += 2 * s * float(x_i @ x_k) * float(first - second)
        margins.append(total)
    return torch.tensor(margins, dtype=torch.float64)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_margins_equal_two_dimensional_quadrature(name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(6, 9, generator=generator, dtype=torch.float64) * torch.tensor(
        [[0.2], [1.0], [1.0], [2.0], [4.0], [1.0]]
    )
    x[5] = x[1] + 0.05 * x[2]  # nearly the same direction: the slowest case of the series
    expected = brute_margin(name, x, torch.ones(6))
    found = ffengine.infinite_width_theorem1(x, activation=name).margin
    assert torch.allclose(
        found, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()) + 1e-9
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "gelu", "elu", "tanh"])
def test_margins_equal_those_of_a_very_wide_layer(name: str) -> None:
    weight, x = random_layer(0, 20, 12, 200_000)
    x = x - 0.3  # angles on both sides of 90 degrees
    exact = ffengine.theorem1(weight, x, activation=name).margin
    limit = ffengine.infinite_width_theorem1(x, activation=name).margin
    assert float((exact - limit).abs().max() / limit.abs().max()) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", SERIES)
def test_hermite_series_reproduces_monte_carlo_expectations(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    deviation, rho = torch.tensor([0.4, 1.7], dtype=torch.float64), 0.6
    coefficients = hermite_coefficients(deviation, ACTIVATIONS[name])
    u = torch.randn(4_000_000, generator=generator, dtype=torch.float64)
    v = rho * u + math.sqrt(1 - rho**2) * torch.randn(
        4_000_000, generator=generator, dtype=torch.float64
    )
    z_k, z_i = deviation[0] * u, deviation[1] * v
    h, slope = SIGMA[name](z_k), slope_of(name, z_k)
    pushed = SIGMA[name](z_i) * slope_of(name, z_i)
    draws = (h.sign() * slope / h.abs().mean() - h * slope / h.square().mean()) * pushed
    powers = rho ** torch.arange(coefficients.of_push.shape[1], dtype=torch.float64)
    found = float((powers * coefficients.of_margin[0] * coefficients.of_push[1]).sum())
    assert found == pytest.approx(float(draws.mean()), abs=6 * float(draws.std()) / 2000 + 1e-6)


@given(seed=st.integers(0, 2**31), samples=st.integers(1, 12), inputs=st.integers(1, 8))
def test_relu_margins_equal_the_sum_one_angle_at_a_time(
    seed: int, samples: int, inputs: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x_pos, x_neg = torch.randn(2, samples, inputs, generator=generator, dtype=torch.float64)
    x_neg[0] = 0
    one = ffengine.infinite_width_theorem1(x_pos).margin
    pair = ffengine.infinite_width_theorem2(x_pos, x_neg)
    assert one.tolist() == pytest.approx(
        [2 * limit_sum([x_pos.tolist()], [1.0], x) for x in x_pos.tolist()], rel=1e-7, abs=1e-7
    )
    groups = [x_pos.tolist(), x_neg.tolist()]
    for check, x in zip(pair, groups, strict=True):
        assert check.margin.tolist() == pytest.approx(
            [2 * limit_sum(groups, [-1.0, 1.0], row) for row in x], rel=1e-7, abs=1e-7
        )
    assert bool(pair[1].dead[0])
    assert not bool(pair[1].satisfied[0])


@settings(max_examples=examples(5))
@given(
    seed=st.integers(0, 2**31),
    extra=st.integers(-3, 3),
    name=st.sampled_from(["relu", "leaky_relu", "tanh"]),
)
def test_blocks_of_pairs_change_nothing_but_rounding(seed: int, extra: int, name: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(TILE + extra, 5, generator=generator, dtype=torch.float64)
    whole = ffengine.infinite_width_theorem1(x, activation=name).margin
    order = torch.randperm(len(x), generator=generator)
    shuffled = ffengine.infinite_width_theorem1(x[order], activation=name).margin
    assert torch.allclose(shuffled, whole[order], rtol=1e-9, atol=1e-9 * float(whole.abs().max()))


def test_the_identity_decides_nothing() -> None:
    check = ffengine.infinite_width_theorem1(
        torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), activation="identity"
    )
    assert not bool(check.margin.any())
    assert bool(check.undecided.all())


def test_every_non_negative_sample_satisfies_theorem_1() -> None:
    _, x = random_layer(0, 200, 30, 2, torch.float32)
    assert ffengine.infinite_width_theorem1(x).ratio == 1.0


def test_the_kernel_is_zero_at_0_and_90_degrees_and_positive_between() -> None:
    cosine = torch.linspace(0, 1, 1001, dtype=torch.float64)
    kernel = limit_kernel(cosine.clone())
    assert float(kernel[0]) == pytest.approx(0, abs=1e-12)
    assert float(kernel[-1]) == pytest.approx(0, abs=1e-12)
    assert bool((kernel[1:-1] > 0).all())


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "gelu", "tanh"])
@pytest.mark.parametrize("theorem", [1, 2])
def test_rounding_covers_what_float32_is_off_by(name: str, theorem: int) -> None:
    generator = torch.Generator().manual_seed(7)
    x_pos, x_neg = torch.rand(2, 700, 100, generator=generator, dtype=torch.float64).float()
    if theorem == 1:
        low, high = (
            ffengine.infinite_width_theorem1(x, activation=name) for x in (x_pos, x_pos.double())
        )
    else:
        low, high = (
            ffengine.infinite_width_theorem2(p, n, activation=name)[0]
            for p, n in ((x_pos, x_neg), (x_pos.double(), x_neg.double()))
        )
    assert float(((low.margin - high.margin).abs() <= low.rounding).double().mean()) >= 0.999
