"""The joint step of a stack: total rates beside central differences in float64, and the columns
beside autograd.
"""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ffengine
from ffengine.activations import ACTIVATIONS
from ffengine.deep import InputMotion, layer_motion, normalized_rate
from ffengine.network import Network, normalized
from ffengine.spec import NetworkSpec
from tests.engine import reference
from tests.engine.specs import spec_of
from tests.examples import examples


def random_stack(
    seed: int, widths: list[int]
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(1, 12, widths[0], generator=generator, dtype=torch.float64)
    pairs = list(itertools.pairwise(widths))
    weights, steps = (
        [torch.randn(1, n, m, generator=generator, dtype=torch.float64) / m**0.5 for m, n in pairs]
        for _ in range(2)
    )
    return x, weights, steps


def states(
    x: torch.Tensor, weights: list[torch.Tensor], activation: str, how: str
) -> list[torch.Tensor]:
    """z of each layer."""
    found = []
    for weight in weights:
        found.append(x @ weight.mT)
        x = normalized(ACTIVATIONS[activation].value(found[-1]), how)
    return found


@pytest.mark.parametrize("how", ["none", "l2", "rms", "layer", "halves"])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), activation=st.sampled_from(["relu", "leaky_relu", "tanh"]))
def test_total_rates_are_the_derivatives_along_the_joint_step(
    how: str, seed: int, activation: str
) -> None:
    x, weights, steps = random_stack(seed, [9, 14, 12, 10])
    eta, tiny = 1e-3, 1e-6
    before = states(x, weights, activation, how)
    up, down = (
        states(
            x, [w + sign * tiny * d for w, d in zip(weights, steps, strict=True)], activation, how
        )
        for sign in (1, -1)
    )
    below: InputMotion | None = None
    inputs = x
    for layer, (weight, step, z) in enumerate(zip(weights, steps, before, strict=True)):
        motion = layer_motion(
            weight, step, eta, z, inputs @ step.mT, below, ACTIVATIONS[activation], how
        )
        numeric = (up[layer] - down[layer]) / (2 * tiny)
        # a kink within the difference: left out
        smooth = ((up[layer] > 0) == (down[layer] > 0)).all(-1)
        for lower in range(layer):
            smooth &= ((up[lower] > 0) == (down[lower] > 0)).all(-1)
        torch.testing.assert_close(motion.zdot[smooth] / eta, numeric[smooth], rtol=1e-5, atol=1e-6)
        below, inputs = motion.above, normalized(ACTIVATIONS[activation].value(z), how)


@pytest.mark.parametrize("how", ["none", "l2", "rms", "layer", "halves"])
def test_the_change_of_sparsity_is_that_of_the_weights_after_the_step(how: str) -> None:
    x, weights, steps = random_stack(1, [9, 14, 12, 10])
    eta = 0.03
    before = states(x, weights, "relu", how)
    after = states(x, [w + eta * d for w, d in zip(weights, steps, strict=True)], "relu", how)
    below: InputMotion | None = None
    inputs = x
    for layer, (weight, step, z) in enumerate(zip(weights, steps, before, strict=True)):
        motion = layer_motion(
            weight, step, eta, z, inputs @ step.mT, below, ACTIVATIONS["relu"], how
        )
        change = [reference.sparsity(torch.relu(state[layer])) for state in (after, before)]
        torch.testing.assert_close(motion.sparsity_change, change[0] - change[1])
        below, inputs = motion.above, normalized(torch.relu(z), how)


def test_a_dead_sample_stands_still_above() -> None:
    h = torch.zeros(1, 2, 3, dtype=torch.float64)
    h[0, 0] = torch.tensor([3.0, 0.0, 4.0])
    rate = normalized_rate(h, torch.ones_like(h), "l2")
    assert rate[0, 1].tolist() == [0, 0, 0]
    assert torch.isfinite(rate).all()


@pytest.mark.parametrize("how", ["l2", "rms", "layer", "halves"])
def test_units_that_are_all_alike_pass_on_nothing_that_is_undefined(how: str) -> None:
    for dtype in (torch.float32, torch.float64):
        h = torch.zeros(1, 4, 201, dtype=dtype)
        h[0, 1], h[0, 2] = 0.1, 1e-30
        h[0, 3, :7] = 0.3
        h.requires_grad_()
        x = normalized(h, how)
        rate = normalized_rate(h.detach(), torch.ones_like(h), how)
        (slope,) = torch.autograd.grad(x.sum(), h)
        for found in (x, rate, slope):
            assert torch.isfinite(found).all()
        assert not x[0, 0].any()
        assert not rate[0, 0].any()
        if how == "layer":
            assert x[0, :3].abs().max() < 1e-12
            assert not rate[0, :3].any()
            torch.testing.assert_close(
                x[0, 3], torch.nn.functional.layer_norm(h[0, 3], (201,), eps=0)
            )


@pytest.mark.parametrize("how", ["none", "l2", "rms", "layer", "halves"])
@settings(deadline=None, max_examples=examples(30))
@given(
    seed=st.integers(0, 10_000),
    exponents=st.lists(st.integers(-70, 70), min_size=2, max_size=2),
    size=st.integers(-60, 0),
)
def test_a_network_that_is_kept_rescaled_moves_by_the_same_bits(
    how: str, seed: int, exponents: list[int], size: int
) -> None:
    """Also where activations are shorter than the least scale of their normalisation."""
    x, weights, steps = random_stack(seed, [9, 14, 12])
    x = x * 2.0**size
    if how == "none":  # layers below keep their scale
        exponents = [0, exponents[1]]
    spec = NetworkSpec(widths=(14, 12), normalize=how)
    found = []
    for kept in ([0, 0], exponents):
        scaled = [
            [2.0**-k * part for k, part in zip(kept, parts, strict=True)]
            for parts in (weights, steps)
        ]
        network = Network(spec, scaled[0], [torch.tensor([k], dtype=torch.int32) for k in kept])
        inputs, below, motions = x, None, []
        for layer, step in enumerate(scaled[1]):
            motion = layer_motion(
                scaled[0][layer],
                step,
                0.25,
                (z := inputs @ scaled[0][layer].mT),
                inputs @ step.mT,
                below,
                network.activation,
                how,
                network.least_scale(layer),
            )
            motions.append((motion, 2.0 ** kept[layer]))
            below = motion.above
            inputs = normalized(network.activation.value(z), how, network.least_scale(layer))
        found.append(motions)
    for (one, _), (other, factor) in zip(*found, strict=True):
        assert torch.equal(one.zdot, other.zdot * factor)
        assert torch.equal(one.sparsity_change, other.sparsity_change)
        scale = factor if how == "none" else 1.0
        for part, same in zip(one.above, other.above, strict=True):
            assert torch.equal(part, same * scale)


# Theory, section 6: MNIST, 3 x 500, B = 500: the total condition agrees with the observed sign for
# .92 to 1 of the samples above the first layer, the local one for .34 to .97. Here 3 x 80 on
# mnist-mini, where more masks flip: .9.
@pytest.mark.slow
@pytest.mark.parametrize(("normalize", "lr"), [("l2", 0.5), ("rms", 0.002), ("layer", 0.002)])
def test_above_the_first_layer_the_total_condition_predicts_what_the_joint_step_does(
    normalize: str, lr: float
) -> None:
    spec = spec_of(
        dataset={"train_samples": 1000, "test_samples": 10},
        network={"widths": [80, 80, 80], "normalize": normalize, "normalize_first": True},
        layers="simultaneous",
        optimizer={"lr": lr, "scale_lr_by_width": False},
        epochs=2,
        batch_size=250,
        monitor={"samples": 500},
    )
    rows = ffengine.train(spec).curves
    for row in rows:
        total = (row.theorem2_total_ratio, row.joint_increase_ratio, row.total_agreement)
        if row.layer == 0:
            assert (*total, row.local_agreement) == (None,) * 4
            continue
        assert row.total_agreement is not None
        assert row.local_agreement is not None
        assert row.total_agreement > 0.88
        assert row.total_agreement > row.local_agreement
