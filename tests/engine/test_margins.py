"""Margins and theorem checks: against float64 autograd, double loops, finite differences, Monte
Carlo and real steps.
"""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ffengine
from ffengine import margins
from ffengine.activations import ACTIVATIONS
from ffengine.network import Network
from ffengine.random_streams import Draws
from ffengine.samples import load_samples
from ffengine.spec import DatasetSpec, NetworkSpec
from tests.engine import reference
from tests.examples import examples

seeds = st.integers(0, 2**31)
samples = st.integers(1, 12)
inputs = st.integers(1, 15)
widths = st.integers(2, 40)
activation_names = st.sampled_from(sorted(ACTIVATIONS))


def close(
    found: torch.Tensor, expected: torch.Tensor, x: torch.Tensor, tolerance: float = 1e-9
) -> bool:
    """Equal to rounding: margins are differences of sums whose size is that of the samples'
    energy.
    """
    return torch.allclose(
        found, expected, rtol=tolerance, atol=tolerance * (1e-30 + 10 * float(x.square().sum()))
    )


def live(weight: torch.Tensor, x: torch.Tensor, activation: str = "relu") -> torch.Tensor:
    return (reference.SIGMA[activation](x @ weight.T) != 0).any(1)


@given(seeds, samples, inputs, widths, activation_names)
def test_theorem_1_margins_equal_autograd_of_sparsity_along_the_autograd_gradient(
    seed: int, n_samples: int, m: int, n: int, activation: str
) -> None:
    weight, x = reference.random_layer(seed, n_samples, m, n)
    direction = reference.goodness_gradient(weight, [x], [1.0], activation)
    found = ffengine.theorem1(weight, x, activation=activation)
    alive = live(weight, x, activation)
    rate = reference.sparsity_rate(weight, x[alive], direction, activation)
    assert close(
        found.margin[alive], reference.margin_of_rate(weight, x[alive], rate, activation), x
    )
    assert found.dead.tolist() == (~alive).tolist()


@given(seeds, samples, samples, inputs, widths, activation_names)
def test_theorem_2_margins_equal_autograd_of_sparsity(
    seed: int, positives: int, negatives: int, m: int, n: int, activation: str
) -> None:
    weight, x = reference.random_layer(seed, positives + negatives, m, n)
    x_pos, x_neg = x[:positives], x[positives:]
    direction = reference.goodness_gradient(weight, [x_pos, x_neg], [-1.0, 1.0], activation)
    for found, group in zip(
        ffengine.theorem2(weight, x_pos, x_neg, activation=activation), (x_pos, x_neg), strict=True
    ):
        alive = live(weight, group, activation)
        rate = reference.sparsity_rate(weight, group[alive], direction, activation)
        assert close(
            found.margin[alive], reference.margin_of_rate(weight, group[alive], rate, activation), x
        )


@settings(max_examples=examples(40))
@given(seeds, st.integers(1, 6), st.integers(1, 6), inputs, widths)
def test_margins_are_twice_the_papers_sums_by_double_loop(
    seed: int, positives: int, negatives: int, m: int, n: int
) -> None:
    weight, x = reference.random_layer(seed, positives + negatives, m, n)
    x_pos, x_neg = x[:positives], x[positives:]
    alive = live(weight, x)
    one = ffengine.theorem1(weight, x).margin
    assert close(one[alive], 2 * reference.papers_sum(weight, [x], [1.0], x[alive]), x)
    both = torch.cat([check.margin for check in ffengine.theorem2(weight, x_pos, x_neg)])
    assert close(
        both[alive], 2 * reference.papers_sum(weight, [x_pos, x_neg], [-1.0, 1.0], x[alive]), x
    )


@given(seeds, samples, inputs, widths, activation_names)
def test_any_direction_equals_central_finite_differences(
    seed: int, n_samples: int, m: int, n: int, activation: str
) -> None:
    weight, x = reference.random_layer(seed, n_samples, m, n)
    direction = torch.randn(
        n, m, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    z, zdot = x @ weight.T, x @ direction.T
    eta = 1e-6
    smooth = ((z.abs() > 2 * eta * zdot.abs()) | (z == 0)).all(1) & live(
        weight, x, activation
    )  # no kink within the difference
    found = ffengine.check_direction(weight, x, direction, activation=activation)

    def sparsity_at(step: float) -> torch.Tensor:
        return reference.sparsity(
            reference.SIGMA[activation](x[smooth] @ (weight + step * direction).T)
        )

    rate = (sparsity_at(eta) - sparsity_at(-eta)) / (2 * eta)
    expected = reference.margin_of_rate(weight, x[smooth], rate, activation)
    assert torch.allclose(found.margin[smooth], expected, rtol=1e-4, atol=1e-4)


@given(seeds, samples, inputs, widths)
def test_float32_margins_are_float64_ones_to_rounding(
    seed: int, n_samples: int, m: int, n: int
) -> None:
    weight, x = reference.random_layer(seed, n_samples, m, n, torch.float32)
    single, double = ffengine.theorem1(weight, x), ffengine.theorem1(weight.double(), x.double())
    same_mask = ((x @ weight.T > 0) == (x.double() @ weight.double().T > 0)).all(1)
    scale = float((2 * x.double().square().sum()).clamp_min(1e-30))
    assert torch.allclose(
        single.margin[same_mask], double.margin[same_mask], rtol=1e-4, atol=1e-5 * scale
    )


def test_blocks_of_units_and_chunks_of_samples_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight, x = reference.random_layer(1, 300, 20, 100)
    whole = margins.observe(weight, [x[:200], x[200:]], [-1.0, 1.0], ACTIVATIONS["relu"], step=1e-3)
    monkeypatch.setattr(margins, "HELD_BYTES", 1)
    monkeypatch.setattr(margins, "CHUNK_ELEMENTS", 640)
    pieces = margins.observe(
        weight, [x[:200], x[200:]], [-1.0, 1.0], ACTIVATIONS["relu"], step=1e-3
    )
    for one, other in zip(whole, pieces, strict=True):
        assert close(one.margin, other.margin, x)
        assert one.eta == pytest.approx(other.eta)
        assert torch.allclose(one.change, other.change, rtol=1e-9, atol=1e-13)
        assert torch.equal(one.flipped, other.flipped)


@given(seeds, samples, inputs, st.integers(2, 60))
def test_the_observed_change_is_that_of_a_real_step(
    seed: int, n_samples: int, m: int, n: int
) -> None:
    weight, x = reference.random_layer(seed, n_samples, m, n)
    (seen,) = margins.observe(weight, [x], [1.0], ACTIVATIONS["relu"], step=1e-2)
    stepped = weight + seen.eta * reference.goodness_gradient(weight, [x], [1.0], "relu")
    assert float((stepped - weight).norm()) == pytest.approx(
        1e-2 * float(weight.norm()) if seen.eta else 0.0
    )
    alive = live(weight, x) & live(stepped, x)
    before, after = (reference.sparsity(torch.relu(x[alive] @ w.T)) for w in (weight, stepped))
    assert torch.allclose(seen.change[alive], after - before, rtol=1e-6, atol=1e-12)
    assert seen.flipped.tolist() == ((x @ stepped.T > 0) != (x @ weight.T > 0)).sum(1).tolist()


def test_dead_samples_are_flagged_and_left_out_of_the_ratio() -> None:
    weight = torch.tensor([[1.0, 0.0], [0.5, 0.0], [-1.0, 0.2]])
    x = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, -1.0], [0.0, 0.0]])
    found = ffengine.theorem1(weight, x)
    assert found.dead.tolist() == [False, False, True, True]
    assert found.live == 2
    assert found.margin[2:].tolist() == [0.0, 0.0]
    assert not bool(found.satisfied[2:].any())
    assert found.ratio == int(found.satisfied.sum()) / 2


def test_without_live_samples_the_ratio_is_nan() -> None:
    assert math.isnan(ffengine.theorem1(torch.ones(3, 2), torch.zeros(4, 2)).ratio)


# Real MNIST: the reference values of the theory


@pytest.mark.parametrize("width", [64, 256])
def test_theorem_1_holds_for_nearly_every_mnist_sample_at_initialisation(width: int) -> None:
    train = load_samples(DatasetSpec(), torch.device("cpu")).train
    network = Network.initial(NetworkSpec(widths=(width,)), 784, Draws((0,)), torch.device("cpu"))
    assert ffengine.theorem1(network.weights[0][0], train.plain).ratio > 0.998


@pytest.mark.slow
def test_finite_margins_approach_the_limit_on_mnist() -> None:
    train = load_samples(DatasetSpec(train_samples=1000), torch.device("cpu")).train
    x = train.plain.double()
    limit = ffengine.infinite_width_theorem1(x).margin
    correlations = []
    for width in (64, 512, 4096):
        weight = (
            torch.randn(
                width, 784, generator=torch.Generator().manual_seed(width), dtype=torch.float64
            )
            / 28
        )
        finite = ffengine.theorem1(weight, x).margin
        assert float((finite / limit).median()) == pytest.approx(1.0, abs=0.1)
        correlations.append(float(torch.corrcoef(torch.stack([finite, limit]))[0, 1]))
    assert correlations == sorted(correlations)
    assert correlations[-1] > 0.85


# Arguments

GOOD_W, GOOD_X = torch.ones(3, 4), torch.ones(5, 4)


@pytest.mark.parametrize(
    ("weight", "x", "message"),
    [
        (GOOD_W, torch.ones(5, 3), r"x: expected shape \(N, 4\)"),
        (GOOD_W, torch.ones(4), r"x: expected shape \(N, m\)"),
        (GOOD_W, torch.ones(0, 4), "x: is empty"),
        (GOOD_W, torch.ones(5, 4, dtype=torch.int64), "x: expected float32 or float64, got int64"),
        (GOOD_W, GOOD_X * math.nan, "x: holds NaN or infinity"),
        (GOOD_W, GOOD_X.double(), "x: expected the type and device of weight"),
        (torch.ones(1, 4), GOOD_X, "weight: expected shape .* width n >= 2"),
        (torch.ones(4), GOOD_X, "weight: expected shape"),
        (GOOD_W * math.inf, GOOD_X, "weight: holds NaN or infinity"),
        (
            torch.ones(3, 4, dtype=torch.int32),
            GOOD_X,
            "weight: expected float32 or float64, got int32",
        ),
    ],
)
def test_bad_layers_are_refused_by_name(
    weight: torch.Tensor, x: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ffengine.theorem1(weight, x)
    with pytest.raises(ValueError, match=message.replace("x:", "x_neg:")):
        ffengine.theorem2(weight, GOOD_X, x)
    with pytest.raises(ValueError, match=message):
        ffengine.check_direction(weight, x, GOOD_W)


def test_bad_directions_activations_and_pairs_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="direction: expected the weight's"):
        ffengine.check_direction(GOOD_W, GOOD_X, torch.ones(4, 3))
    with pytest.raises(ValueError, match="activation: 'gelo' is not known; choose one of relu"):
        ffengine.theorem1(GOOD_W, GOOD_X, activation="gelo")
    with pytest.raises(ValueError, match=r"x_neg: expected shape \(N, 4\)"):
        ffengine.infinite_width_theorem2(GOOD_X, torch.ones(5, 3))


@pytest.mark.soak
def test_extra_memory_stays_bounded_at_60_000_samples_and_width_8192() -> None:
    # inputs are few, so that this takes seconds: the extra memory depends on samples and units
    code = """
import resource, torch, ffengine
x, w = torch.rand(60_000, 64), torch.randn(8192, 64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ffengine.theorem1(w, x)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    extra_mib = float(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
    )
    assert extra_mib < 700
