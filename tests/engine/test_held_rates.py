"""Step sizes in tensors, which steps captured on a GPU read: the same steps as with numbers, and
one captured step for all epochs of a stage. Without a GPU the tensors are on the processor.
"""

from typing import cast

import pytest
import torch

import ffengine
from ffengine import training
from ffengine.cuda_graphs import Step
from ffengine.entry import entries, name_of
from ffengine.layer_updates import take_step
from ffengine.optimizers import AnyOptimizer, Optimizer
from ffengine.piece_sizes import piece
from ffengine.provenance import driver_version, gpu_software
from ffengine.training import EpochReport, TrainingRun
from tests.engine.specs import spec_of

OPTIMIZERS: dict[str, Optimizer] = {
    name_of(entry, "name"): cast(type[Optimizer], entry)() for entry in entries(AnyOptimizer)
}
CHANGES = [
    {"optimizer": {"name": "sgd", "lr": 0.05, "schedule": "cosine"}},
    {"optimizer": {"name": "momentum", "lr": 0.02, "schedule": "linear_cooldown"}},
    {
        "optimizer": {"name": "adamw", "lr": 0.01, "schedule": "cosine"},
        "layers": "simultaneous",
        "seeds": [0, 1],
    },
    {"objective": {"name": "mono_forward"}, "negatives": {"strategy": "none"}},
    {
        "objective": {"name": "softplus", "threshold": 0.5},
        "phases": {"positive_steps": 2, "negative_steps": 1, "lr_ratio": 0.5},
    },
]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_size_in_a_tensor_makes_the_same_step(name: str) -> None:
    optimizer = OPTIMIZERS[name].model_copy(update={"weight_decay": 0.05})
    generator = torch.Generator().manual_seed(0)
    number = torch.randn(2, 5, 4, generator=generator)
    tensor = number.clone()
    states = [optimizer.new_state(number), optimizer.new_state(tensor)]
    for rate in (0.1, 0.1, 0.003, 0.2):
        descent = torch.randn(2, 5, 4, generator=generator)
        take_step(optimizer, number, descent.clone(), states[0], rate)  # type: ignore[arg-type]
        take_step(optimizer, tensor, descent.clone(), states[1], torch.tensor(rate))  # type: ignore[arg-type]
        assert torch.allclose(number, tensor, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(states[0][slot], states[1][slot]) for slot in states[0])


@pytest.mark.parametrize("changes", CHANGES)
def test_a_stage_has_one_step_whose_rate_changes(
    changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(**changes, epochs=4)
    expected = weights_of(spec)
    made: list[Step] = []

    def kept(step: Step, _device: torch.device) -> Step:
        made.append(step)
        return step

    monkeypatch.setattr(training, "captured", kept)
    monkeypatch.setattr(TrainingRun, "holds_rates", True)
    found = weights_of(spec)
    assert len(made) == 3 * len(spec.stages)  # on pairs, on positives, on negatives
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def weights_of(spec: ffengine.TrainSpec) -> tuple[torch.Tensor, ...]:
    reports: list[EpochReport] = []
    ffengine.train(spec, on_epoch=reports.append)
    return reports[-1].checkpoint.weights


def test_a_gpu_has_larger_pieces() -> None:
    assert piece(1000, torch.device("cpu")) == 1000
    assert piece(1000, torch.device("cuda", 1)) == 16_000


def test_the_driver_says_its_version() -> None:
    text = (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2025\n"
        "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
    )
    assert driver_version(text) == "580.95.05"
    open_module = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release\n"
    assert driver_version(open_module) == "570.86.15"
    assert driver_version("") is None
    assert gpu_software(torch.device("cpu")) is None
