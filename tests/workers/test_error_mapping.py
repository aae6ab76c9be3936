"""Exceptions become words for the user of the job."""

import pytest
import torch

from ffengine.arrays import DatasetError
from ffengine.diagnostics import divergence
from ffengine.interrupts import Diverged
from service.store.trained_weights import WeightsNotFound
from workers.error_mapping import failure_of, is_device_failure, is_out_of_memory

CPU_ALLOCATOR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to ..."
)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            Diverged(divergence(layer=1, epoch=2, seed=3, what=["weights"])),
            "diverged",
            "layer 1, epoch 2, seed 3",
        ),
        (DatasetError("mnist: not found below /data"), "dataset", "not found below /data"),
        (
            WeightsNotFound(("at", "job"), "there is no such job"),
            "weights_missing",
            "at.job: there is no such job",
        ),
        (OSError(28, "No space left on device"), "storage", "No space left on device"),
        (ZeroDivisionError("division\nby zero"), "internal", "ZeroDivisionError: division."),
        (KeyError(), "internal", "KeyError."),
    ],
)
def test_each_failure_says_what_happened_and_what_to_do(
    error: Exception, code: str, words: str
) -> None:
    failure = failure_of(error)
    assert failure.code == code
    assert words in failure.detail
    assert "\n" not in failure.detail
    assert "Traceback" not in failure.detail


def test_a_sticky_device_error_is_the_process_s_and_not_the_job_s() -> None:
    broken = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    assert is_device_failure(broken)
    assert not is_device_failure(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(broken)
    assert not is_device_failure(CPU_ALLOCATOR)


@pytest.mark.parametrize(
    "error", [MemoryError(), CPU_ALLOCATOR, torch.OutOfMemoryError("CUDA out of memory")]
)
def test_memory_that_ran_out_is_told_from_faults(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_device_failure(error)
