"""Layers whose losses count the goodness of others: against float64 autograd."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ffengine
from ffengine.datasets import Datasets
from ffengine.entry import SpecFieldError
from ffengine.free_riding import free_riding
from ffengine.layer_updates import Learner
from ffengine.network import Network
from ffengine.pairs import Pairs
from ffengine.results import EpochRow
from ffengine.spec import CheckSpec, ForecastSpec, TrainSpec, digest
from tests.examples import examples

NAMES = ("softplus", "bce", "linear_threshold")
OLD_DIGEST = "dbb1baafca1e40cd51ccd0ead24a00ec44e79689d8269e9bd5d1e9c678efe852"


def spec_of(name: str, collaboration: dict[str, Any] | None, **changes: Any) -> TrainSpec:
    return TrainSpec.model_validate(
        {
            "dataset": {"train_samples": 60, "test_samples": 20},
            "network": {"widths": [7, 6, 5], "normalize": "l2"},
            "objective": {"name": name, "threshold": 0.4, "collaboration": collaboration},
            "layers": "simultaneous",
            "epochs": 2,
            "batch_size": 30,
            "monitor": {"samples": 60, "accuracy": True},
            "evaluation": {"measures": False},
        }
        | changes
    )


def slow_goodness(spec: TrainSpec, x: Tensor, weights: list[Tensor]) -> list[Tensor]:
    """g (N,) of each layer; the input of a layer is a constant."""
    found = []
    for weight in weights:
        h = torch.relu(x @ weight.T)
        mean = spec.objective.goodness.name == "mean_squares"
        found.append(h.square().mean(-1) if mean else h.square().sum(-1))
        x = (h / h.norm(dim=-1, keepdim=True).clamp_min(1e-12)).detach()
    return found


def slow_loss(name: str, g: Tensor, positives: int) -> Tensor:
    """Terms of each sample, written out anew."""
    u = torch.cat([0.4 - g[:positives], g[positives:] - 0.4])
    if name == "linear_threshold":
        return u.relu()
    return torch.nn.functional.softplus(u) / (2 if name == "bce" else 1)


def added(goodness: list[Tensor], layer: int, of: str, weight: float) -> Tensor:
    """What a layer's loss counts of others, by a loop."""
    total = torch.zeros_like(goodness[0])
    for other, g in enumerate(goodness):
        if other < layer or (of == "others" and other != layer):
            total = total + weight * g.detach()
    return total


@settings(deadline=None, max_examples=examples(20))
@given(
    name=st.sampled_from(NAMES),
    of=st.sampled_from(("earlier", "others")),
    weight=st.floats(0.1, 2),
    split=st.sampled_from((None, "positive", "negative")),
    seed=st.integers(0, 999),
)
def test_a_joint_step_goes_down_the_gradient_of_each_layers_own_loss(
    name: str, of: str, weight: float, split: Any, seed: int
) -> None:
    spec = spec_of(name, {"of": of, "weight": weight})
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 12, 9, generator=random)
    sizes = [9, 7, 6, 5]
    weights = [torch.randn(1, n, m, generator=random) / 3 for m, n in itertools.pairwise(sizes)]
    learner = Learner(
        Network(spec.network, [one.clone() for one in weights]),
        spec.objective,
        spec.optimizer,
        epochs=1,
    )
    batch = Pairs(x) if split is None else Pairs(x).only(split)
    learner.step((0, 1, 2), batch, 1, split)
    leaves = [one[0].double().requires_grad_() for one in weights]
    goodness = slow_goodness(spec, x[0].double(), leaves)
    for layer, leaf in enumerate(leaves):
        terms = slow_loss(name, goodness[layer] + added(goodness, layer, of, weight), 6)
        part = {None: terms, "positive": terms[:6], "negative": terms[6:]}[split]
        (gradient,) = torch.autograd.grad(part.sum() / 6, leaf)
        moved = learner.network.weights[layer][0] - weights[layer][0]
        eta = learner.eta(layer, 1, split)
        torch.testing.assert_close(moved.double() / eta, -gradient, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("of", ["earlier", "others"])
def test_rows_say_what_is_inherited_and_what_it_leaves_of_the_gradient(of: str) -> None:
    """The loss, the step of which theorem 2 is, and the loss by epoch go by the sum."""
    spec = spec_of("softplus", {"of": of, "weight": 0.5}, seeds=[3, 4])
    result = ffengine.train(spec)
    plain = ffengine.train(spec_of("softplus", None, seeds=[3, 4]))
    start = [row for row in result.curves if row.epoch == 0]
    for row in start:
        g = {
            one.layer: (one.goodness or 0) + 0.4
            for one in start
            if (one.seed, one.split) == (row.seed, row.split)
        }
        others = [at for at in g if at < row.layer or (of == "others" and at != row.layer)]
        if not others:
            assert (row.inherited_goodness, row.gradient_share) == (None, None)
            continue
        expected = 0.5 * sum(g[at] for at in others)
        assert row.inherited_goodness == pytest.approx(expected, rel=1e-4)
        assert row.gradient_share is not None
        assert (row.gradient_share < 1) == (row.split == "positive")
    for row, alone in zip(start, [row for row in plain.curves if row.epoch == 0], strict=True):
        assert row.goodness == pytest.approx(alone.goodness, rel=1e-5)
        if row.inherited_goodness is None:
            assert row.loss == pytest.approx(alone.loss, rel=1e-6)
            continue
        assert row.coefficient_sum == pytest.approx(
            row.gradient_share * alone.coefficient_sum, rel=1e-4
        )
    by_epoch = {
        (row.seed, row.layer): row.loss
        for row in result.accuracy_curves
        if row.epoch == 0 and row.layers == (row.layer,) and row.method == "goodness"
    }
    for (seed, layer), loss in by_epoch.items():
        parts = [row.loss for row in start if (row.seed, row.layer) == (seed, layer)]
        assert loss == pytest.approx(sum(parts), rel=1e-4)  # type: ignore[arg-type]


def test_replicas_are_the_runs_of_each_seed() -> None:
    fields = {"optimizer": {"name": "adam", "lr": 0.01}}
    both = ffengine.train(spec_of("softplus", {"of": "others"}, seeds=[3, 4], **fields))
    for seed in (3, 4):
        alone = ffengine.train(spec_of("softplus", {"of": "others"}, seeds=[seed], **fields))
        together = [row for row in both.curves if row.seed == seed]
        for one, two in zip(alone.curves, together, strict=True):
            assert one.sparsity == pytest.approx(two.sparsity, rel=1e-3)
            assert one.inherited_goodness == pytest.approx(two.inherited_goodness, rel=1e-3)


def test_a_spec_without_it_keeps_the_digest_that_it_had() -> None:
    objective = {"name": "softplus", "threshold": 1.5}
    assert digest(TrainSpec.model_validate({"objective": objective})) == OLD_DIGEST
    other = spec_of("softplus", {"of": "others"})
    assert digest(other) != digest(spec_of("softplus", {"of": "earlier"}))


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": "greedy"},
        {"network": {"widths": [7]}},
        {"evaluation": {"baselines": ["ff_objective"]}},
    ],
)
def test_layers_that_do_not_learn_together_do_not_collaborate(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="collaborat"):
        spec_of("softplus", {"of": "earlier"}, **changes)


def test_a_forecast_and_a_check_of_the_step_of_one_layer_refuse_it() -> None:
    objective = {"name": "softplus", "collaboration": {"of": "earlier"}}
    with pytest.raises(ValueError, match="a forecast is of one layer"):
        ForecastSpec.model_validate({"objective": objective})
    trained = spec_of("softplus", {"of": "earlier"})
    check = CheckSpec.model_validate(
        {
            "at": {"job": f"job_{'0' * 32}", "epoch": 2, "layer": 1},
            "along": "training_step",
            "methods": ["exact"],
            "dataset": trained.dataset,
            "samples": 20,
            "seeds": [0],
        }
    )
    with pytest.raises(SpecFieldError, match="goodness of its other layers"):
        check.refuse_misfit(trained, Datasets.of_environment())


# figures that have nothing to do with it
REST = dict.fromkeys(
    ("zero_fraction", "mask_flip_rate", "near_zero_rate", "eta", "input_norm"), 0.5
)
NOTHING = dict.fromkeys(
    (
        *("sparsity", "loss", "theorem1_ratio", "theorem2_ratio"),
        *("observed_increase_ratio", "agreement", "coefficient_sum"),
    )
)
COUNTS = {"samples": 10, "dead_samples": 0, "dead_units": 0}


def row_of(layer: int, split: str, share: float | None, seed: int = 0) -> EpochRow:
    return EpochRow.model_validate(
        {
            **(REST | NOTHING | COUNTS),
            "seed": seed,
            "layer": layer,
            "epoch": 9,
            "split": split,
            "goodness": 1.0 if split == "positive" else 0.5,
            "inherited_goodness": None if share is None else 8.0 - 6.0 * (split == "negative"),
            "gradient_share": share,
        }
    )


def test_a_layer_that_leaves_the_work_to_others_is_named() -> None:
    rows = [
        row_of(layer, split, share, seed)
        for seed in (0, 1)
        for layer, share in ((0, None), (1, 0.05 + 0.001 * seed), (2, 0.02 + 0.001 * seed))
        for split in ("positive", "negative")
    ]
    (found,) = free_riding(rows)
    assert (found.code, found.evidence["layer"]) == ("free_riding", 2)
    assert found.evidence["own_margin"] == pytest.approx(0.5)
    assert found.evidence["inherited_margin"] == pytest.approx(6.0)
    assert found.evidence["gradient_share"] == pytest.approx(0.0205)
    assert not list(free_riding([row_of(1, split, 0.4) for split in ("positive", "negative")]))
