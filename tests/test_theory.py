"""What docs/theory.md derives, beside slow and independent forms."""

import math
import re
from statistics import NormalDist

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ffengine import hoyer_sparsity, theorem2
from ffengine.unit_directions import unit_directions
from scripts.theory_flow import LARGE, Flow, Labelled
from tests.documents import ROOT

PAGE = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
SEEDS = st.integers(0, 2**32 - 1)


def activations(seed: int, units: int = 40) -> Tensor:
    """h (n,) of relu units, with loud and quiet ones."""
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(units, generator=draw, dtype=torch.float64)
    return torch.relu(z + 0.5) ** 1.5 + (torch.arange(units) == 0)


@given(SEEDS)
def test_sparsity_follows_from_the_active_share_and_the_evenness(seed: int) -> None:
    h = activations(seed)
    mask, root = (h > 0).double(), math.sqrt(len(h))
    p, kappa = mask.mean(), h @ mask / (h.norm() * mask.norm())
    assert float(hoyer_sparsity(h[None])[0]) == pytest.approx(
        float((1 - p.sqrt() * kappa) * root / (root - 1)), abs=1e-12
    )


@given(SEEDS)
def test_the_margin_is_the_covariance_of_growth_and_loudness(seed: int) -> None:
    h = activations(seed)
    draw = torch.Generator().manual_seed(seed + 1)
    hdot = torch.randn(len(h), generator=draw, dtype=torch.float64) * (h > 0)
    margin = (h @ hdot) / (h @ h) - hdot.sum() / h.sum()
    loud = h[h > 0]
    rate, share = hdot[h > 0] / loud, loud / loud.sum()
    covariance = share @ ((rate - share @ rate) * (loud - share @ loud))
    assert float(margin) == pytest.approx(float(covariance / (share @ loud)), abs=1e-10)


@given(SEEDS, st.floats(-3, 3))
def test_a_rate_that_all_share_changes_nothing_and_a_change_that_all_share_lowers_sparsity(
    seed: int, amount: float
) -> None:
    h = activations(seed)
    mask = (h > 0).double()

    def margin(hdot: Tensor) -> float:
        return float((h @ hdot) / (h @ h) - (mask @ hdot) / h.sum())

    assert margin(amount * h) == pytest.approx(0, abs=1e-12)
    assert margin(mask) < 0


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
@given(seed=SEEDS)
def test_the_own_sample_law(power: float, seed: int) -> None:
    h = activations(seed)
    loud = h[h > 0]
    slope = power * loud ** (power - 1)
    own = -(slope @ loud / (loud @ loud) - slope.sum() / loud.sum())
    assert math.copysign(1, 2 - power) * float(own) > 0 or power == 2
    assert power != 2 or abs(float(own)) < 1e-12


@pytest.mark.parametrize(
    ("p", "kappa"), [(0.05, 0.747), (0.2, 0.767), (0.5, 0.798), (0.7, 0.824), (0.9, 0.868)]
)
def test_the_evenness_of_normal_pre_activations(p: float, kappa: float) -> None:
    a = NormalDist().inv_cdf(p)
    f = NormalDist().pdf(a)
    assert (f + a * p) / math.sqrt(p * ((1 + a * a) * p + a * f)) == pytest.approx(kappa, abs=5e-4)
    draw = torch.Generator().manual_seed(0)
    h = torch.relu(torch.randn(2_000_000, generator=draw, dtype=torch.float64) + a)
    assert float(h.sum() / (h.norm() * (h > 0).sum().sqrt())) == pytest.approx(kappa, abs=3e-3)
    assert f"{kappa}" in PAGE


def test_the_worked_example() -> None:
    weights = torch.tensor([[1.0, 0.0], [0.5, 0.5], [-1.0, 1.0]])
    positive, negative = torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 3.0]])
    h = torch.relu(torch.cat([positive, negative]) @ weights.T)
    assert h.square().sum(1).tolist() == [6.25, 9.0]
    assert hoyer_sparsity(h).tolist() == pytest.approx([0.454, 0.089], abs=5e-4)
    margins = [float(found.margin) for found in theorem2(weights, positive, negative)]
    assert margins == pytest.approx([0.57, -1.44], abs=5e-3)
    assert margins == pytest.approx([12.5 / 6.25 - 5 / 3.5, -130 / 9 + 65 / 5], abs=1e-6)


# The flow without noise, from which pictures are drawn


def small(seed: int = 0, strength: float = 1.0) -> Labelled:
    """Twelve images of three classes."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(12, 9, generator=draw)
    images[:, :3] = 0
    return Labelled(images, torch.arange(12) % 3, 3, strength)


def loss(data: Labelled, weight: Tensor) -> Tensor:
    """L by a double loop over images and labels, for autograd."""
    total = torch.zeros((), dtype=weight.dtype)
    for image, own in zip(data.images.to(weight), data.y.tolist(), strict=True):
        for label in range(data.classes):
            x = image.clone()
            x[label] = data.strength
            goodness = torch.relu(weight @ x).square().sum()
            total = total + (-goodness if label == own else goodness / (data.classes - 1))
    return total / len(data.y)


@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_the_flow_goes_along_the_expected_gradient(strength: float) -> None:
    flow = Flow(small(strength=strength), 7, 0)
    weight = flow.weight.double().requires_grad_()
    loss(flow.data, weight).backward()  # type: ignore[no-untyped-call]
    before = flow.weight.clone()
    list(flow.moments(step=0.1, until=0))
    assert weight.grad is not None
    torch.testing.assert_close(
        flow.weight - before, (-0.1 * weight.grad).float(), rtol=1e-4, atol=1e-6
    )


def test_theorem_2_along_the_expected_direction_is_the_share_whose_sparsity_rises() -> None:
    flow = Flow(small(), 64, 3)
    first = next(flow.moments(step=1e-4, until=0))
    z = {name: (flow.data.images @ flow.weight.T, label) for name, label in flow.shown.items()}
    before = {name: s_of(flow, *pair) for name, pair in z.items()}
    flow.weight += 1e-4 * flow._direction()[1]
    for name, label in flow.shown.items():
        after = s_of(flow, flow.data.images @ flow.weight.T, label)
        assert float((after > before[name]).double().mean()) == first.splits[name].holds


def s_of(flow: Flow, z: Tensor, label: Tensor) -> Tensor:
    """S of each image under a label."""
    return hoyer_sparsity(torch.relu(z + flow.data.strength * flow.weight[:, label].T).double())


def test_the_scale_changes_no_sparsity_and_units_do_not_interact() -> None:
    plain, large, part = (Flow(small(), 16, 0) for _ in range(3))
    large.weight *= LARGE * 4
    part.weight = part.weight[:5].clone()
    for _ in range(30):
        for flow in (plain, large, part):
            flow.weight += 0.1 * flow._direction()[1]
    assert torch.equal(plain.weight * LARGE * 4, large.weight)
    torch.testing.assert_close(plain.weight[:5], part.weight, rtol=1e-4, atol=1e-6)


def test_centring_removes_recruitment_and_no_growth() -> None:
    data = small()
    centred = Labelled(data.images - data.images.mean(0), data.y, 3)
    assert centred.leading_growth() == pytest.approx(data.leading_growth(), abs=1e-5)
    assert data.recruitment_number() > 0.1
    assert abs(centred.recruitment_number()) < data.recruitment_number() / 2


def test_every_claim_of_the_page_carries_one_of_its_marks() -> None:
    marks = re.findall(
        r"\[(derived|measured|conjectured|form derived|total: derived|margin derived)", PAGE
    )
    assert len(marks) > 25
    assert {"derived", "measured", "conjectured"} <= set(marks)


def test_basins_of_the_flow_are_those_of_the_rows() -> None:
    """The picture of the acts ends its second act by the rule that names the act of a row."""
    flow = Flow(small(), 24, 0)
    draw = torch.Generator().manual_seed(1)
    for spread in (0.02, 0.2, 0.4, 2.0):
        centres = torch.randn(3, flow.weight.shape[1], generator=draw)[torch.arange(24) % 3]
        noise = torch.randn(flow.weight.shape, generator=draw)
        flow.weight = centres + spread * noise
        assert flow._basins() == pytest.approx(unit_directions(flow.weight).basins)
