"""The flow that `python -m benchmarks.onset` follows, beside autograd; and its rows at a small
size.
"""

import numpy as np
import pytest
import torch

from benchmarks import onset
from ffengine.class_means import Prepared, TrainingInputs
from ffengine.datasets import Datasets
from ffengine.spec import DatasetSpec, NetworkSpec


def test_a_flow_goes_along_the_gradient_over_all_wrong_labels() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(12, 5)), np.arange(12) % 3
    samples = Prepared(x, random.random(12) + 1, random.random(12), y, 3)
    flow = onset.Flow(samples, 7, 0)
    weight = torch.cat([flow.labels_weight, flow.weight], dim=1).double().requires_grad_()
    own, wrong = [], []
    for row, label in enumerate(y):
        for other in range(3):
            inputs = torch.full((3,), float(samples.off[row]), dtype=torch.float64)
            inputs[other] = float(samples.on[row])
            z = weight @ torch.cat([inputs, torch.from_numpy(x[row])])
            (own if other == label else wrong).append(z.clamp_min(0))
    loss = sum(h.square().sum() for h in own) / 12 - sum(h.square().sum() for h in wrong) / 24
    assert isinstance(loss, torch.Tensor)
    loss.backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    (positive, negative), sparsity = flow.measure()
    found = torch.cat([flow.gradient[1], flow.gradient[0]], dim=1)
    torch.testing.assert_close(found.double(), weight.grad, atol=1e-5, rtol=1e-4)

    def of(h: torch.Tensor) -> torch.Tensor:
        return (7**0.5 - h.sum() / h.norm()) / (7**0.5 - 1)

    live = [[h.detach() for h in side if bool(h.any())] for side in (own, wrong)]
    expected = [float(torch.stack([of(h) for h in side]).mean()) for side in live]
    assert sparsity == pytest.approx(sum(expected) / 2, abs=1e-5)
    flow.step(1e-3)
    after = flow.measure()[1]
    assert 0 <= positive <= 1
    assert 0 <= negative <= 1
    assert after != sparsity


@pytest.mark.slow
def test_rows_say_whether_the_prediction_held() -> None:
    spec = DatasetSpec(name="digits", labels="append", label_strength=0.25, train_samples=120)
    datasets = Datasets.of_environment()
    inputs = TrainingInputs(
        spec, datasets.facts_of("digits"), datasets.loaded("digits"), NetworkSpec()
    )
    [row] = onset.measured("digits", inputs, units=64, seeds=1)
    assert (row.units, row.images) == (64, 120)
    assert row.predicted_fall
    assert row.tau_star is not None
    assert row.product == pytest.approx(row.lambda_1 * row.tau_star)
    assert row.overlap_product == pytest.approx(row.overlap * row.product)
    assert row.within == (abs(row.overlap_product - 0.9) <= 0.25)
    assert row.fall > 0
