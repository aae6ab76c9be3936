"""The paths that only a GPU takes: captured steps, TF32, batched seeds.

Skipped where there is none.
"""

from typing import Any

import pytest
import torch

import ffengine
from ffengine.cuda_graphs import CapturedStep, captured
from ffengine.results import TrainResult
from ffengine.spec import CheckSpec, TrainSpec
from ffengine.training import EpochReport

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="without a GPU: torch sees none"
)

BASE: dict[str, Any] = {
    "dataset": {"train_samples": 1_000, "test_samples": 200},
    "network": {"widths": [64, 48], "normalize": "rms", "bias": True},
    "epochs": 3,
    "batch_size": 128,
    "monitor": {"samples": 256},
}
CASES = [
    {"optimizer": {"name": "sgd", "lr": 0.05}},
    {
        "optimizer": {"name": "adam", "lr": 0.01},
        "objective": {"name": "bce", "peer_normalization": 0.03},
        "layers": "simultaneous",
    },
    {
        "optimizer": {"name": "momentum", "lr": 0.01, "schedule": "cosine"},
        "negatives": {"strategy": "hybrid"},
    },
    {"negatives": {"strategy": "wrong_label", "redraw": "once"}, "seeds": [0, 1, 2]},
    {
        "objective": {"name": "softplus", "negative_threshold": 1.5},
        "optimizer": {"lr": 0.05},
        "phases": {"positive_steps": 3, "negative_steps": 2, "lr_ratio": 0.5},
    },
    {"optimizer": {"name": "momentum", "lr": 1e6}, "seeds": [0, 1]},  # rescaled
    *(
        {
            "dataset": BASE["dataset"] | {"label_code": code},
            "negatives": {"strategy": "sampled_label"},
            "seeds": [0, 1],
        }
        for code in ("random", "fourier")
    ),
]


def trained(device: str, **changes: object) -> tuple[TrainResult, tuple[torch.Tensor, ...]]:
    reports: list[EpochReport] = []
    result = ffengine.train(
        TrainSpec.model_validate(BASE | changes), device=device, on_epoch=reports.append
    )
    return result, reports[-1].checkpoint.weights


def test_without_a_gpu_a_step_is_run_as_it_is() -> None:
    def step(_inputs: object) -> None: ...

    assert captured(step, torch.device("cpu")) is step


@needs_gpu
@pytest.mark.parametrize("changes", CASES)
def test_a_captured_step_gives_the_bits_of_the_step(
    changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, with_graph = trained("cuda", **changes)
    monkeypatch.setattr(CapturedStep, "__call__", lambda self, inputs: self._step(inputs))
    _, without = trained("cuda", **changes)
    assert all(torch.equal(one, other) for one, other in zip(with_graph, without, strict=True))


@needs_gpu
@pytest.mark.parametrize("changes", CASES)
def test_a_gpu_learns_what_the_processor_learns(changes: dict[str, object]) -> None:
    (there, on_gpu), (here, on_cpu) = trained("cuda", **changes), trained("cpu", **changes)
    assert there.provenance.device.startswith("cuda")
    assert there.provenance.device_name == torch.cuda.get_device_name()
    for one, other in zip(on_gpu, on_cpu, strict=True):
        assert torch.allclose(one.cpu(), other, rtol=1e-2, atol=1e-3)
    for row, also in zip(there.curves, here.curves, strict=True):
        assert row.sparsity == pytest.approx(also.sparsity, rel=1e-2)


@needs_gpu
@pytest.mark.parametrize("changes", CASES)
def test_the_same_spec_gives_the_same_bits_on_a_gpu(changes: dict[str, object]) -> None:
    assert trained("cuda", **changes)[0].curves == trained("cuda", **changes)[0].curves


@needs_gpu
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_rounded_products_are_asked_for_and_recorded(precision: str) -> None:
    rounded, weights = trained("cuda", precision=precision)
    plain, exact = trained("cuda")
    assert (rounded.provenance.precision, plain.provenance.precision) == (precision, "float32")
    assert rounded.provenance.dtype == "float32"
    assert not torch.equal(weights[0], exact[0])
    assert torch.allclose(weights[0], exact[0], rtol=0.1, atol=1e-2)
    assert torch.get_float32_matmul_precision() == "highest", "measurements stay in float32"


@needs_gpu
def test_a_check_on_a_gpu_decides_as_on_the_processor() -> None:
    spec = CheckSpec.model_validate(
        {
            "widths": [64, 256],
            "samples": 600,
            "batch_size": 300,
            "seeds": [0, 1],
            "precision": "float64",
        }
    )
    for there, here in zip(
        ffengine.check(spec, device="cuda").cells, ffengine.check(spec).cells, strict=True
    ):
        assert there.satisfied == pytest.approx(here.satisfied, abs=1)
        assert there.observed_increase_ratio == pytest.approx(
            here.observed_increase_ratio, abs=0.01
        )
