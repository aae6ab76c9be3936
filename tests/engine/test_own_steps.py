"""Rates along the theorems' own steps, beside the steps themselves in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ffengine.activations import ACTIVATIONS, Activation
from ffengine.margins import NEAR_ZERO, LayerSums, near_zero
from ffengine.monitor import used_inputs
from ffengine.own_steps import cancellation_of, grams_of, length_of_step, rates_of
from ffengine.pairs import AnyPairs, Pairs, RelabelledPairs


def random_pairs(kind: str, replicas: int, samples: int, inputs: int, seed: int) -> AnyPairs:
    """Pairs of random samples; relabelled ones have four labels."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "pairs":
        return Pairs(torch.randn(replicas, 2 * samples, inputs, generator=generator))
    x = torch.randn(replicas, samples, inputs, generator=generator)
    return RelabelledPairs(x, torch.randn(replicas, samples, 4, generator=generator))


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(
    kind=st.sampled_from(["pairs", "relabelled"]),
    replicas=st.integers(1, 3),
    samples=st.integers(1, 9),
    inputs=st.integers(4, 12),
    width=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_rates_are_those_of_the_steps(
    kind: str, replicas: int, samples: int, inputs: int, width: int, seed: int
) -> None:
    pairs = random_pairs(kind, replicas, samples, inputs, seed)
    pull = torch.randn(replicas, 2 * samples, width, generator=torch.Generator().manual_seed(seed))
    for rates in (grams_of(pairs).rates(pull.clone()), rates_of(pairs, pull.clone())):
        for replica in range(replicas):
            x_pos, x_neg = (split[replica].double() for split in pairs.split())
            p_pos, p_neg = pull[replica].double().chunk(2)
            step = p_neg.T @ x_neg - p_pos.T @ x_pos
            lowering = torch.cat([x_pos @ (x_pos.T @ p_pos), x_neg @ (x_neg.T @ p_neg)])
            difference = torch.cat([x_pos, x_neg]) @ step.T
            scale = float(lowering.abs().max()) + 1
            torch.testing.assert_close(
                rates.lowering[replica].double(), lowering, atol=1e-5 * scale, rtol=0
            )
            torch.testing.assert_close(
                rates.difference[replica].double(), difference, atol=1e-5 * scale, rtol=0
            )
            signed = pull.clone()
            signed[:, :samples].neg_()
            length = length_of_step(signed, rates.difference)[replica]
            assert float(length) == pytest.approx(float(step.norm()), rel=1e-2, abs=1e-2)


def sums_of(z: Tensor, zdot: Tensor, eta: float, activation: Activation) -> LayerSums:
    """The sums of samples (N, n) along a step that is taken."""
    sums = LayerSums.zeros(z.shape[0], z.shape[1], z.device)
    sums.eta = eta
    sums.add(slice(None), z, activation.value(z), zdot.clone(), activation)
    return sums


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 999),
    width=st.integers(2, 40),
    eta=st.sampled_from([1e-9, 1e-6, 1e-3, 0.3, 30.0]),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    name=st.sampled_from(["relu", "leaky_relu", "silu"]),
)
def test_what_a_step_does_is_what_float64_finds(
    seed: int, width: int, eta: float, scale: float, name: str
) -> None:
    generator = torch.Generator().manual_seed(seed)
    z, zdot = scale * torch.randn(2, 20, width, generator=generator)
    z[0] = -z[0].abs() - 1e-3 * scale  # dead before
    zdot[1] = -2 * z[1].clamp_min(0) / eta - zdot[1].abs()  # dead after, of relu
    activation = ACTIVATIONS[name]
    sums = sums_of(z, zdot, eta, activation)
    before, after = (activation.value(z.double() + step * zdot.double()) for step in (0, eta))
    assert torch.allclose(sums.l1, before.abs().sum(1), rtol=1e-6, atol=0)
    assert torch.allclose(sums.squares, before.square().sum(1), rtol=1e-6, atol=0)
    # the change of a norm is as precise as the step, however small that is beside the norm
    size = (eta * zdot.double()).norm(dim=1)
    l1_error = (sums.l1_after - sums.l1 - (after.abs().sum(1) - before.abs().sum(1))).abs()
    assert (l1_error <= 1e-5 * size * width**0.5 + 1e-12 * scale).all()
    squares_error = sums.squares_after - sums.squares
    squares_error -= after.square().sum(1) - before.square().sum(1)
    longest = before.norm(dim=1) + after.norm(dim=1)
    assert (squares_error.abs() <= 1e-5 * size * longest + 1e-12 * scale**2).all()
    assert torch.equal(sums.flipped.long(), ((after > 0) != (before > 0)).sum(1))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), replicas=st.integers(1, 3))
def test_units_on_the_kink_are_counted_as_defined(seed: int, replicas: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(replicas, 6, 8, generator=generator)
    z *= 10.0 ** torch.randint(-9, 1, z.shape, generator=generator)
    lengths = torch.rand(replicas, 6, generator=generator)
    lengths[:, 0], z[:, 0] = 0.0, 0.0
    units = torch.rand(replicas, 8, generator=generator)
    expected = (z.abs() <= (NEAR_ZERO * lengths)[..., None] * units[:, None]).sum(-1)
    assert torch.equal(near_zero(z, lengths, units), expected)


def test_inputs_that_are_always_0_are_left_out_but_those_of_labels() -> None:
    x, change = torch.rand(1, 3, 40), torch.rand(1, 3, 4)
    x[..., :2], x[..., 30:] = 0.0, 0.0
    pairs = RelabelledPairs(x, change)
    assert used_inputs([pairs]).tolist() == list(range(30))  # type: ignore[union-attr]
    assert used_inputs([Pairs(x)]).tolist() == list(range(2, 30))  # type: ignore[union-attr]
    x[0, 1, 30:] = 1.0
    assert used_inputs([pairs]) is None
    few = pairs.inputs(torch.arange(10))
    assert torch.equal(few.x, x[..., :10])
    assert torch.equal(few.change, change)


@pytest.mark.parametrize("apart", [1.0, 1e-2, 1e-6, 0.0])
def test_cancellation_is_known_where_positives_and_negatives_nearly_agree(apart: float) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(1, 40, 30, generator=generator)
    pairs = Pairs(torch.cat([x, x + apart * torch.rand(x.shape, generator=generator)], dim=1))
    pull = (pairs.x @ torch.randn(30, 8, generator=generator)).clamp_min(0)
    rates = grams_of(pairs).rates(pull.clone())
    signed = torch.cat([-pull[:, :40], pull[:, 40:]], dim=1)
    parts = (signed.norm(dim=-1) * pairs.lengths()).sum(-1).double()
    step = signed[0].double().T @ pairs.x[0].double()
    found = float(cancellation_of(pairs, signed, rates.difference, parts))
    if apart:
        assert found == pytest.approx(float(parts / step.norm()), rel=0.3)
    else:
        assert found > 1e5 or found == 1.0
