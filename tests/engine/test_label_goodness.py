"""Goodness under every label, with what labels have in common computed once, against each label by
itself in float64.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ffengine import network as network_module
from ffengine import products
from ffengine.evaluation import classifiers
from ffengine.label_patterns import OneHotPatterns
from ffengine.network import Network, SummedGoodness
from ffengine.objectives import Standardised
from ffengine.products import linear
from ffengine.random_streams import Draws
from ffengine.samples import Samples, load_samples
from ffengine.spec import TrainSpec
from tests.engine.reference import GOODNESS, SIGMA
from tests.examples import examples

CPU = torch.device("cpu")
ROUNDING = 2e-4  # of the largest goodness: some thousand float32 sums, in layers on each other
SPECS = st.fixed_dictionaries(
    {
        "network": st.fixed_dictionaries(
            {
                "widths": st.lists(st.integers(2, 40), min_size=1, max_size=3),
                "activation": st.sampled_from(sorted(SIGMA)),
                "bias": st.booleans(),
                "normalize": st.sampled_from(["none", "l2", "rms", "layer"]),
                "normalize_first": st.booleans(),
            }
        ),
        "dataset": st.fixed_dictionaries(
            {
                "name": st.just("digits"),
                "train_samples": st.just(60),
                "test_samples": st.just(1),
                "preprocess": st.sampled_from(["unit", "center", "standardize", "unit_norm"]),
                "labels": st.sampled_from(["overlay", "append"]),
                "label_strength": st.sampled_from([None, 0.3, 20.0]),
            }
        ),
        "objective": st.builds(
            lambda name: {"name": "difference", "goodness": name}, st.sampled_from(sorted(GOODNESS))
        ),
        "seeds": st.sampled_from([[3], [5, 6]]),
    }
)


def under(samples: Samples, label: int) -> Tensor:
    """All samples (N, m) as if this were their label, made as their own labels are."""
    return Samples(
        samples._pixels,
        torch.full_like(samples.labels, label),
        samples.classes,
        samples.shape,
        samples._preprocessing,
        samples.patterns,
    ).labelled


def slow_goodness(spec: TrainSpec, weights: list[Tensor], samples: Samples) -> Tensor:
    """g (R, L, N, C) in float64, one label after the other through the whole network."""
    shape = spec.network
    by_label = []
    for label in range(samples.classes):
        x, by_layer = under(samples, label).double().expand(len(spec.seeds), -1, -1), []
        for layer, weight in enumerate(weights):
            if shape.normalize != "none" and (layer or shape.normalize_first):
                if shape.normalize == "layer":
                    x = x - x.mean(-1, keepdim=True)
                size = x.square().sum(-1) if shape.normalize == "l2" else x.square().mean(-1)
                x = x / size.sqrt().clamp_min(1e-12).unsqueeze(-1)
            if shape.bias:
                x = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)
            x = SIGMA[shape.activation](torch.einsum("rbm,rnm->rbn", x, weight.double()))
            by_layer.append(GOODNESS[spec.objective.goodness.name](x))
        by_label.append(torch.stack(by_layer, dim=1))
    return torch.stack(by_label, dim=-1)


@pytest.mark.slow
@settings(max_examples=examples(20))
@given(SPECS, st.sampled_from([1, 300, 2**19]), st.booleans())
def test_labels_are_predicted_as_each_label_by_itself_predicts_them(
    document: dict[str, Any], block: int, onednn: bool
) -> None:
    spec = TrainSpec.model_validate(document)
    samples = load_samples(spec.dataset, CPU).train
    inputs = samples.labelled.shape[1]
    network = Network.initial(spec.network, inputs, Draws(spec.seeds), CPU)
    labels = samples.labels.expand(len(spec.seeds), -1)
    x = samples.labelled.expand(len(spec.seeds), -1, -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_module, "LABEL_BLOCK_ELEMENTS", block)
        if not onednn:
            patch.setattr(products, "has_onednn", lambda: False)
        found = network.label_goodness(
            spec.objective.goodness, x, labels, samples.patterns
        ).double()
        asked = SummedGoodness(
            network,
            spec.objective.goodness,
            tuple(range(len(network.weights))),
            samples.patterns,
        ).label_goodness(x, labels, samples.classes)
    true = slow_goodness(spec, network.weights, samples)
    assert found.shape == true.shape
    # what is divided by the deviation is a sum of ones that may cancel
    ones = float(isinstance(spec.objective.goodness, Standardised))
    slack = ROUNDING * true.abs().amax((0, 2, 3), keepdim=True).clamp_min(ones) + 1e-12
    assert bool(((found - true).abs() <= slack).all())
    assert torch.allclose(asked.double(), found.sum(1), rtol=1e-6, atol=float(slack.sum()))
    for classifier in classifiers(len(network.weights)):
        score, exact = (classifier.scores(each, spec.objective) for each in (found, true))
        best = exact.topk(2).values
        # a softmax changes by at most as much as what it is taken of
        clear = best[..., 0] - best[..., 1] > 4 * float(slack.sum())
        assert torch.equal(score.argmax(-1)[clear], exact.argmax(-1)[clear]), classifier


@given(
    st.integers(0, 2**31),
    st.integers(1, 3),
    st.integers(0, 9),
    st.integers(1, 40),
    st.integers(1, 30),
    st.booleans(),
    st.booleans(),
)
def test_a_product_is_that_of_float64(
    seed: int, replicas: int, batch: int, inputs: int, width: int, part: bool, turned: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(replicas, batch, inputs + part, generator=generator)[..., :inputs]
    weight = torch.randn(replicas, width, inputs + part, generator=generator)[..., :inputs]
    if turned:
        x, weight = x.mT.contiguous().mT, weight.mT.contiguous().mT
    found = linear(x, weight)
    assert found.shape == (replicas, batch, width)
    assert torch.allclose(found.double(), torch.bmm(x.double(), weight.double().mT), atol=1e-4)


def test_gradients_pass_where_they_are_asked_for() -> None:
    x, weight = torch.rand(2, 5, 7, requires_grad=True), torch.rand(2, 3, 7)
    linear(x, weight).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, weight.sum(1, keepdim=True).expand_as(x))


def test_memory_for_all_labels_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network.initial(
        TrainSpec.model_validate({"network": {"widths": [30, 50]}}).network, 20, Draws((0,)), CPU
    )
    monkeypatch.setattr(network_module, "LABEL_BLOCK_ELEMENTS", 4_000)
    held: list[int] = []
    activation = network.activation

    class Watched(type(activation)):  # type: ignore[misc]
        def value_(self, z: Tensor) -> Tensor:
            held.append(z.numel())
            return super().value_(z)  # type: ignore[no-any-return]

    network.activation = Watched()
    x, labels = torch.rand(1, 100, 20), torch.zeros(1, 100, dtype=torch.int64)
    network.label_goodness(TrainSpec().objective.goodness, x, labels, OneHotPatterns(10))
    assert max(held) <= 4_000
    assert len(held) > 20
