"""Layers with a positive and a negative half: against p written out, in float64 with autograd."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

import ffengine
from ffengine.layer_updates import Learner
from ffengine.monitor import paired, used_units
from ffengine.network import Network, normalized
from ffengine.objectives import Polar, halves
from ffengine.optimizers import Sgd
from ffengine.pairs import Pairs
from ffengine.presets import PRESETS
from ffengine.random_streams import Draws
from ffengine.samples import load_samples
from ffengine.spec import ForecastSpec, NetworkSpec, TrainSpec
from ffengine.step_flow import divisor_of
from tests.engine.reference import GOODNESS, SIGMA, sparsity, sparsity_rate
from tests.examples import examples

FORMS = ("sigma", "symmetric")
OF_HALVES: dict[str, Any] = {
    "sum_squares": "sum_squares",
    "mean_squares": "mean_squares",
    "l1": "l1",
    "l2": "l2",
    "power_mean": "power_mean",
    "entmax": "entmax",
    "top_k": {"name": "top_k", "k": 10},
}
SMALL = {
    "dataset": {"train_samples": 60, "test_samples": 20},
    "network": {"widths": [7, 6], "normalize": "halves"},
    "objective": {"name": "polar", "form": "symmetric", "goodness": "sum_squares"},
    "optimizer": {"name": "adam", "lr": 0.01},
    "layers": "simultaneous",
    "epochs": 2,
    "batch_size": 30,
    "monitor": {"samples": 40, "accuracy": True},
}


def likelihood(h: Tensor, objective: Polar, *, of_negative: bool = False) -> Tensor:
    """p (...) of activations, as the paper writes it, or 1 - p: that of the halves exchanged, of
    which no digit is lost where p is nearly 1.
    """
    middle = (h.shape[-1] + 1) // 2
    goodness = GOODNESS[objective.goodness.name]
    up, down = goodness(h[..., :middle]), goodness(h[..., middle:])
    if of_negative:
        up, down = down, up
    if objective.form == "sigma":
        return torch.sigmoid(objective.alpha * (up - down))
    return (up + 1e-6) / (up + down + 2e-6)


def layer_loss(h: Tensor, positives: int, objective: Polar) -> Tensor:
    """The mean loss of B pairs from their activations (2B, n), positives first."""
    p = likelihood(h[:positives], objective)
    q = likelihood(h[positives:], objective, of_negative=True)
    return -(p.log().sum() + q.log().sum()) / positives


def polar(form: str, goodness: Any, alpha: float = 1.0) -> Polar:
    fields = {"alpha": alpha} if form == "sigma" else {}
    return Polar.model_validate({"form": form, "goodness": goodness} | fields)


@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None, max_examples=examples(12))
@given(
    name=st.sampled_from(sorted(OF_HALVES)),
    width=st.integers(2, 25),
    alpha=st.floats(0.1, 2),
    seed=st.integers(0, 9_999),
)
def test_the_pull_is_autograds_of_the_published_loss(
    form: str, name: str, width: int, alpha: float, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    h = torch.randn(8, width, generator=random, dtype=torch.float64).relu_()
    h[0], h[1, : (width + 1) // 2], h[2, (width + 1) // 2 :] = 0, 0, 0
    objective = polar(form, OF_HALVES[name], alpha)
    leaf = h.clone().requires_grad_()
    (expected,) = torch.autograd.grad(layer_loss(leaf, 4, objective), leaf)
    goodness = objective.layer_goodness
    g, saved = goodness.value_and_saved(h)
    s = objective.coefficients(g, 4)
    live = h != 0
    for held in (None, tuple(part.clone() for part in saved or ())):
        found = goodness.pull(h.clone(), g, s, held)
        torch.testing.assert_close(found[live], expected[live], rtol=1e-7, atol=1e-10)
        assert not found[~live].any()
    torch.testing.assert_close(g.sigmoid(), likelihood(h, objective))
    terms = objective.terms(g[:4], g[4:])
    torch.testing.assert_close(terms[0].mean() + terms[1].mean(), layer_loss(h, 4, objective))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_step_goes_down_the_gradient(form: str, activation: str) -> None:
    random = torch.Generator().manual_seed(3)
    x, weight = torch.randn(1, 12, 9, generator=random), torch.randn(1, 7, 9, generator=random) / 3
    spec = TrainSpec.model_validate(SMALL | {"objective": polar(form, "sum_squares").model_dump()})
    leaf = weight[0].double().requires_grad_()
    h = SIGMA[activation](x[0].double() @ leaf.T)
    (gradient,) = torch.autograd.grad(layer_loss(h, 6, spec.objective), leaf)  # type: ignore[arg-type]
    network = Network(NetworkSpec(widths=(7,), activation=activation), [weight.clone()])
    learner = Learner(network, spec.objective, Sgd(), epochs=1)
    found = learner.preview(0, Pairs(x), x @ weight.mT).direction[0]
    torch.testing.assert_close(found.double(), -gradient, atol=1e-5, rtol=1e-4)
    learner.step((0,), Pairs(x), 1)
    torch.testing.assert_close(network.weights[0][0], weight[0] + found * learner.eta(0, 1))


@pytest.mark.parametrize(("form", "alpha"), [("sigma", 1e4), ("sigma", 1.0), ("symmetric", 1.0)])
def test_loud_and_silent_halves_give_finite_losses_and_pulls(form: str, alpha: float) -> None:
    h = torch.zeros(8, 6)
    h[[1, 5], :3], h[[2, 6], 3:], h[[3, 7], 0] = 1e6, 1e6, 1e-30
    objective = polar(form, "sum_squares", alpha)
    g, saved = objective.layer_goodness.value_and_saved(h)
    terms = torch.cat(objective.terms(g[:4], g[4:]))
    pull = objective.layer_goodness.pull(h.clone(), g, objective.coefficients(g, 4), saved)
    assert bool(terms.isfinite().all() & pull.isfinite().all())
    assert (float(g[0]), pull[0].abs().sum()) == (0, 0)
    assert terms[1] < 1e-6 < terms[2]


def test_a_half_is_split_off_by_where_its_units_stand() -> None:
    for width, positive in ((2, 1), (6, 3), (7, 4)):
        assert [part.tolist() for part in halves(torch.arange(width))] == [
            list(range(positive)),
            list(range(positive, width)),
        ]
    assert divisor_of(Polar(), 7) == 1
    assert divisor_of(polar("sigma", "mean_squares"), 7) == 4


@given(
    logits=st.lists(st.lists(st.floats(-25, 25), min_size=3, max_size=3), min_size=2, max_size=20)
)
def test_layers_are_combined_as_the_sum_of_p_orders_samples(logits: list[list[float]]) -> None:
    g = torch.tensor(logits, dtype=torch.float64).T.unsqueeze(0)  # (1, L, N)
    found, summed = Polar().combined(g)[0], g.sigmoid().sum(1)[0]
    torch.testing.assert_close(found.sigmoid() * 3, summed)
    (one,) = Polar().combined(g[:, :1])
    torch.testing.assert_close(one, g[0, 0])


def test_layers_that_are_sure_are_still_told_apart() -> None:
    g = torch.tensor([[[900.0, 950.0, -950.0, -900.0], [901.0, 901.0, -901.0, -901.0]]])
    up, higher, lower, down = Polar().combined(g.double())[0].tolist()
    assert higher > up > down > lower


def test_either_half_is_passed_on_with_length_1() -> None:
    h = torch.randn(1, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    h[0, 1], h[0, 2, :4] = 0, 0
    found = normalized(h, "halves")
    expected = torch.cat(
        [torch.nn.functional.normalize(part, dim=-1) for part in (h[..., :4], h[..., 4:])], dim=-1
    )
    torch.testing.assert_close(found, expected)
    for bias in (False, True):
        spec = NetworkSpec(widths=(7, 3), normalize="halves", normalize_first=True, bias=bias)
        network = Network(spec, [torch.zeros(1, 7, 9), torch.zeros(1, 3, 8)])
        for layer, whole in ((1, expected), (0, torch.nn.functional.normalize(h, dim=-1))):
            torch.testing.assert_close(network.prepared(layer, h)[..., :7], whole)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"threshold": 2.0}, "not with a threshold; leave it out"),
        ({"negative_threshold": 2.0}, "not with a threshold; leave it out"),
        ({"collaboration": {}}, "go by their own goodness; leave it out"),
        ({"peer_normalization": 0.1}, "its halves are to differ; use 0"),
        ({"goodness": "whitened"}, "running moments of a whole layer; use l2"),
        ({"form": "symmetric", "alpha": 2.0}, "no steepness; leave it out"),
        ({"form": "symmetric", "goodness": "kurtosis"}, "may be negative; use sigma"),
        (
            {"form": "symmetric", "goodness": {"name": "top_k", "of": "activations"}},
            "may be negative; use sigma",
        ),
    ],
)
def test_what_halves_cannot_have_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TrainSpec.model_validate({"objective": {"name": "polar"} | fields})


def test_what_knows_whole_layers_alone_is_refused() -> None:
    objective = {"name": "polar", "goodness": "mean_squares"}
    with pytest.raises(ValidationError, match="an objective of whole layers, not polar"):
        TrainSpec.model_validate({"objective": objective, "monitor": {"decomposition": [1]}})
    with pytest.raises(ValidationError, match="a forecast is of units that are alike"):
        ForecastSpec.model_validate({"objective": objective, "seeds": [0, 1, 2, 3]})


def test_a_run_measures_p_and_each_seed_is_as_alone() -> None:
    both = ffengine.train(TrainSpec.model_validate(SMALL | {"seeds": [3, 4]}))
    alone = ffengine.train(TrainSpec.model_validate(SMALL | {"seeds": [4]}))
    together = [row for row in both.curves if row.seed == 4]
    for one, two in zip(alone.curves, together, strict=True):
        assert one.sparsity == pytest.approx(two.sparsity, rel=1e-3)
        assert one.goodness == pytest.approx(two.goodness, rel=1e-3, abs=1e-5)
    first = [row for row in both.accuracy_curves if row.epoch == 0 and row.layers == (0, 1)]
    assert {row.method for row in first} == {"goodness", "softmax"}
    assert all(row.theorem1_ratio is not None for row in both.curves if row.layer == 0)
    assert both.onset is None or both.onset.tau_star is None


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_what_autograd_says_along_the_true_step(form: str) -> None:
    spec = TrainSpec.model_validate(
        {
            "dataset": {"train_samples": 120, "test_samples": 10},
            "network": {"widths": [40]},
            "objective": polar(form, "sum_squares").model_dump(),
            "optimizer": {"lr": 1e-6},
            "epochs": 1,
            "batch_size": 100,
            "monitor": {"samples": 100},
        }
    )
    objective, draws = spec.objective, Draws(spec.seeds)
    assert isinstance(objective, Polar)
    train = load_samples(spec.dataset, torch.device("cpu")).train
    index = draws.at("monitor").permutation(len(train))[:, :100]
    both = paired(spec, train, index, draws, ("monitor-negatives", 0), None)[0].double()
    network = Network.initial(spec.network, 784, draws, torch.device("cpu"))
    weight = network.weights[0][0].double()
    leaf = weight.clone().requires_grad_()
    h = torch.relu(both @ leaf.T)
    p = likelihood(h, objective)
    (step,) = torch.autograd.grad(layer_loss(h, 100, objective), leaf, retain_graph=True)
    rows = ffengine.train(spec).curves
    for row, x, own in zip(rows, both.split(100), p.split(100), strict=False):
        logit = (own.log() - (1 - own).log()).sum()
        (lowered,) = torch.autograd.grad(logit, leaf, retain_graph=True)
        sums = torch.relu(x @ weight.T).sum(0)
        assert row.log_goodness is None  # the logit is no strength
        assert row.used_units == int((sums > 0.01 * sums.max()).sum())
        found = {
            "goodness": logit / 100,
            "theorem1_ratio": (sparsity_rate(weight, x, -lowered, "relu") > 0).double().mean(),
            "theorem2_ratio": (sparsity_rate(weight, x, -step, "relu") > 0).double().mean(),
        }
        for name, value in found.items():
            assert getattr(row, name) == pytest.approx(value.item(), abs=0.02), name


@settings(deadline=None, max_examples=examples(25))
@given(seed=st.integers(0, 9_999), louder=st.floats(1.05, 5))
def test_squares_of_halves_make_a_sample_sparser_that_is_on_its_side(
    seed: int, louder: float
) -> None:
    """The own-sample law of docs/theory.md: halves that differ in size alone."""
    half = torch.randn(9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    h = torch.cat([louder * half.abs(), half.abs()])
    goodness = polar("sigma", "sum_squares").layer_goodness
    up = goodness.pull(h.clone(), goodness.value(h), torch.ones((), dtype=torch.float64))
    change = [
        float(sparsity(state.unsqueeze(0)) - sparsity(h.unsqueeze(0)))
        for state in (h + 1e-6 * up, h - 1e-6 * up)
    ]
    assert change[0] > 0 > change[1]


def test_labels_are_those_of_the_largest_sum_of_p() -> None:
    """The accuracy of both layers before the first step, each label by itself in float64."""
    spec = TrainSpec.model_validate(
        SMALL | {"dataset": {"train_samples": 60, "test_samples": 150}, "optimizer": {"lr": 1e-9}}
    )
    result = ffengine.train(spec)
    found = next(
        row.correct
        for row in result.accuracy
        if row.partition == "test" and row.layers == (0, 1) and row.method == "goodness"
    )
    run = ffengine.training.TrainingRun(
        spec, torch.device("cpu"), ffengine.provenance.Stopwatch(), None
    )
    samples, network = run.partitions.test, run.network
    scores = []
    for label in range(10):
        x, total = samples.labelled.double().clone(), torch.zeros(150, dtype=torch.float64)
        on = samples.labelled[0, :10].max().double()
        x[:, :10] = 0
        x[:, label] = on
        for weight in network.weights:
            h = torch.relu(x @ weight[0].double().T)
            total += likelihood(h, spec.objective)  # type: ignore[arg-type]
            middle = (h.shape[-1] + 1) // 2
            x = torch.cat(
                [
                    torch.nn.functional.normalize(part, dim=-1)
                    for part in (h[:, :middle], h[:, middle:])
                ],
                dim=-1,
            )
        scores.append(total)
    expected = int((torch.stack(scores, -1).argmax(-1) == samples.labels).sum())
    assert abs(found - expected) <= 1


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_units_are_used_that_are_above_a_hundredth_of_the_loudest(sums: list[float]) -> None:
    loudest = max(sums)
    expected = sum(1 for one in sums if one > 0.01 * loudest)
    assert used_units(torch.tensor(sums, dtype=torch.float64)) == expected


@pytest.mark.slow
def test_the_published_clamp_of_p_stops_layers_of_a_sum_of_squares() -> None:
    """What docs/recipes.md says of random weights: no gradient goes through a p below 1e-5, or
    above 1 - 1e-5.
    """
    shares = {}
    for part in ("whole, sum of squares", "sigma, sum of squares", "sigma, length"):
        base = PRESETS["polar"].spec.parts[part].base
        assert isinstance(base, TrainSpec)
        dataset = base.dataset.model_copy(update={"name": "mnist-mini", "train_samples": 1_000})
        samples = load_samples(dataset, torch.device("cpu")).train
        x = samples.labelled.unsqueeze(0)
        network = Network.initial(base.network, x.shape[-1], Draws((0,)), torch.device("cpu"))
        (h, _) = network.activations(x)
        objective = base.objective
        logit = objective.above(objective.layer_goodness.value(h), 1_000, h.shape[-1])
        shares[part] = float((logit.abs() > math.log(1e5)).double().mean())
    assert shares["whole, sum of squares"] == 1
    assert 0.2 < shares["sigma, sum of squares"] < 0.4
    assert shares["sigma, length"] == 0
