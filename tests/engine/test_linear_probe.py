"""The linear classifier: its optimum by autograd and by another optimiser, its symmetries, and how
the penalty is chosen.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ffengine import linear_probe
from ffengine.linear_probe import LinearReadout, choose_penalty, fit_linear
from tests.examples import examples

seeds = st.integers(0, 2**31)
penalties = st.sampled_from([1e-3, 1e-2, 0.1, 1.0])


def drawn(
    seed: int,
    replicas: int,
    samples: int,
    width: int,
    classes: int,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Overlapping classes of activations with scales apart, and labels of which each class has at
    least one.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat(
        [
            torch.arange(classes),
            torch.randint(0, classes, (samples - classes,), generator=generator),
        ]
    )
    centre = torch.randn(replicas, classes, width, generator=generator, dtype=torch.float64)
    x = (
        centre[:, labels]
        + 2 * torch.randn(replicas, samples, width, generator=generator, dtype=torch.float64)
    ).relu()
    return (x * torch.logspace(-3, 3, width, dtype=torch.float64)).to(dtype), labels.unsqueeze(0)


def objective(parameters: Tensor, x: Tensor, y: Tensor, penalty: float) -> Tensor:
    """The penalised loss as its definition has it, of parameters (C, f + 1) with features
    standardised beforehand.
    """
    varies = x.std(0, correction=0) > 0
    standard = torch.where(
        varies, (x - x.mean(0)) / torch.where(varies, x.std(0, correction=0), 1.0), 0.0
    )
    logits = standard @ parameters[:, :-1].T + parameters[:, -1]
    return (
        torch.nn.functional.cross_entropy(logits, y) + penalty / 2 * (parameters[:, :-1] ** 2).sum()
    )


def parameters_of(fitted: LinearReadout, replica: int = 0) -> Tensor:
    return torch.cat([fitted.weight[replica], fitted.bias[replica].unsqueeze(1)], dim=1)


@given(seeds, st.integers(5, 40), st.integers(1, 8), st.integers(2, 4), penalties)
def test_the_gradient_vanishes_at_the_optimum(
    seed: int, samples: int, width: int, classes: int, penalty: float
) -> None:
    x, y = drawn(seed, 1, samples, width, classes)
    fitted = fit_linear(x, y, classes, penalty=penalty, tolerance=1e-7)
    leaf = parameters_of(fitted).requires_grad_()
    (gradient,) = torch.autograd.grad(objective(leaf, x[0], y[0], penalty), leaf)
    assert fitted.converged == (True,)
    assert float(gradient.abs().max()) < 1.1e-7
    assert fitted.gradient[0] == pytest.approx(float(gradient.abs().max()), abs=1e-9)


@pytest.mark.slow
@settings(max_examples=examples(8))
@given(seeds, st.sampled_from([0.1, 1.0]))
def test_plain_gradient_descent_ends_at_the_same_place(seed: int, penalty: float) -> None:
    x, y = drawn(seed, 1, 20, 3, 3)
    leaf = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    for _ in range(4000):
        (gradient,) = torch.autograd.grad(objective(leaf, x[0], y[0], penalty), leaf)
        with torch.no_grad():
            leaf -= 0.4 * gradient
    fitted = parameters_of(fit_linear(x, y, 3, penalty=penalty, tolerance=1e-7))
    fitted[:, -1] -= fitted[:, -1].mean()  # a constant on all biases changes nothing
    assert torch.allclose(
        fitted,
        leaf.detach() - leaf.detach()[:, -1:].mean() * torch.tensor([0.0, 0, 0, 1]),
        atol=1e-5,
    )


@pytest.mark.slow
@given(seeds, penalties)
def test_float32_features_are_fitted_as_well_as_their_float64_copies(
    seed: int, penalty: float
) -> None:
    x, y = drawn(seed, 1, 30, 6, 4, torch.float32)
    single, double = (fit_linear(of, y, 4, penalty=penalty) for of in (x, x.double()))
    assert single.converged == (True,)
    assert torch.equal(single.weight, double.weight)
    assert torch.equal(single.predict(x), double.predict(x))


def test_separable_samples_are_all_told_apart() -> None:
    x = torch.eye(4).repeat(5, 1).unsqueeze(0)
    y = torch.arange(4).repeat(5).unsqueeze(0)
    fitted = fit_linear(x, y, 4, penalty=1e-4)
    assert torch.equal(fitted.predict(x), y)
    assert fitted.converged == (True,)
    assert bool(fit_linear(x, y, 4, penalty=0.0).weight.isfinite().all())


def test_an_iteration_limit_is_reported() -> None:
    x, y = drawn(0, 1, 40, 5, 3)
    fitted = fit_linear(x, y, 3, penalty=1e-3, tolerance=1e-7, limit=2)
    assert fitted.converged == (False,)
    assert fitted.iterations == (2,)
    assert fitted.gradient[0] > 1e-7


@pytest.mark.slow
@given(seeds, st.integers(2, 6), st.integers(2, 4))
def test_permuting_features_or_classes_permutes_the_answer(
    seed: int, width: int, classes: int
) -> None:
    x, y = drawn(seed, 1, 30, width, classes)
    generator = torch.Generator().manual_seed(seed)
    features, names = (
        torch.randperm(width, generator=generator),
        torch.randperm(classes, generator=generator),
    )
    fitted = fit_linear(x, y, classes, penalty=0.1, tolerance=1e-7)
    by_feature = fit_linear(x[..., features], y, classes, penalty=0.1, tolerance=1e-7)
    by_class = fit_linear(x, names[y], classes, penalty=0.1, tolerance=1e-7)
    assert torch.allclose(by_feature.weight, fitted.weight[..., features], atol=1e-5)
    assert torch.allclose(by_class.weight[:, names], fitted.weight, atol=1e-5)


@given(seeds, st.floats(-12, 12))
def test_units_of_measurement_do_not_matter(seed: int, exponent: float) -> None:
    x, y = drawn(seed, 1, 30, 4, 3)
    fitted = fit_linear(x, y, 3, penalty=0.1, tolerance=1e-7)
    rescaled = fit_linear(x * 10**exponent, y, 3, penalty=0.1, tolerance=1e-7)
    assert torch.allclose(rescaled.weight, fitted.weight, atol=1e-5)


@settings(max_examples=examples(15))
@given(seeds, st.integers(1, 3), st.booleans(), st.sampled_from([torch.float32, torch.float64]))
def test_replicas_are_single_fits_and_bits_do_not_change(
    seed: int, replicas: int, shared: bool, dtype: torch.dtype
) -> None:
    x, y = drawn(seed, replicas, 30, 4, 3, dtype)
    labels = y if shared else torch.stack([y[0].roll(r) for r in range(replicas)])
    fitted, again = (fit_linear(x, labels, 3, penalty=0.01) for _ in range(2))
    assert torch.equal(fitted.weight, again.weight)
    assert torch.equal(fitted.bias, again.bias)
    for replica in range(replicas):
        alone = fit_linear(
            x[replica : replica + 1],
            labels.expand(replicas, -1)[replica : replica + 1],
            3,
            penalty=0.01,
        )
        assert torch.equal(alone.weight[0], fitted.weight[replica])
        assert alone.iterations[0] == fitted.iterations[replica]
        assert torch.equal(alone.predict(x[replica : replica + 1])[0], fitted.predict(x)[replica])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_feature_that_never_varies_is_left_out_even_where_it_varies_later(
    constant: float, dtype: torch.dtype
) -> None:
    x, y = drawn(1, 1, 40, 4, 3, dtype)
    with_constant = torch.cat([x, torch.full_like(x[..., :1], constant)], dim=-1)
    fitted, without = fit_linear(with_constant, y, 3, penalty=0.1), fit_linear(x, y, 3, penalty=0.1)
    assert float(fitted.weight[..., -1].abs().max()) == 0.0
    assert torch.allclose(fitted.weight[..., :-1], without.weight, atol=1e-3)
    later = with_constant.clone()
    later[..., -1] += 1e6
    assert torch.equal(fitted.predict(later), fitted.predict(with_constant))


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = drawn(2, 1, 50, 6, 3)
    whole = fit_linear(x, y, 3, penalty=0.01, tolerance=1e-7)
    monkeypatch.setattr(linear_probe, "CHUNK_ELEMENTS", 6 * 7)
    pieces = fit_linear(x, y, 3, penalty=0.01, tolerance=1e-7)
    assert torch.allclose(pieces.weight, whole.weight, atol=1e-5)
    assert torch.equal(pieces.predict(x), whole.predict(x))


@settings(max_examples=examples(10))
@given(seeds)
def test_the_penalty_that_is_right_most_often_is_chosen_and_of_equals_the_strongest(
    seed: int,
) -> None:
    x, y = drawn(seed, 2, 40, 6, 3)
    train, held_out = (x[:, :20], y[:, :20]), (x[:, 20:], y[:, 20:])
    asked = (1e-3, 10.0, 0.1)
    right = [
        int((fit_linear(*train, 3, penalty=p).predict(held_out[0]) == held_out[1]).sum())
        for p in asked
    ]
    expected = max(p for p, count in zip(asked, right, strict=True) if count == max(right))
    assert choose_penalty(*train, *held_out, 3, penalties=asked) == expected


@pytest.mark.parametrize(
    ("shape", "labels", "penalty", "message"),
    [
        ((3, 4), [[0, 1, 1]], 0.1, "features: expected"),
        ((1, 0, 4), [[]], 0.1, "features: expected"),
        ((1, 3, 4), [[0, 1]], 0.1, "labels: expected shape"),
        ((3, 3, 4), [[0, 1, 1]] * 2, 0.1, "labels: expected shape"),
        ((1, 3, 4), [[0, 1, 2]], 0.1, "labels: expected numbers from 0 to 1"),
        ((1, 3, 4), [[0, 1, 1]], -0.1, "penalty"),
        ((1, 3, 4), [[0, 1, 1]], math.nan, "penalty"),
    ],
)
def test_bad_input_is_named(
    shape: tuple[int, ...], labels: list[list[int]], penalty: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_linear(torch.zeros(shape), torch.tensor(labels, dtype=torch.int64), 2, penalty=penalty)


def test_what_cannot_be_fitted_predicted_or_chosen_is_named() -> None:
    x, y = (
        torch.rand(1, 3, 4, generator=torch.Generator().manual_seed(0)),
        torch.tensor([[0, 1, 1]]),
    )
    with pytest.raises(ValueError, match="holds NaN"):
        fit_linear(x.masked_fill(x == x.max(), math.inf), y, 2, penalty=0.1)
    with pytest.raises(ValueError, match="features: expected shape"):
        fit_linear(x, y, 2, penalty=0.1).predict(x[..., :3])
    with pytest.raises(ValueError, match="penalties"):
        choose_penalty(x, y, x, y, 2, penalties=())
