"""Why a run failed -> the JobError that its user reads. Pure: exceptions in, words out."""

import torch

from ffengine.arrays import DatasetError
from ffengine.interrupts import Diverged
from service.jobs import JobError

ALLOCATION_WORDS = ("DefaultCPUAllocator", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


class WeightsMissing(Exception):
    """A check asks for weights that there are not."""


class DeviceFailed(Exception):
    """The accelerator is in an error state that only a new process ends; the job is not to
    blame.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Whether host or device had no memory left; the CPU's allocator says so only in words."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ALLOCATION_WORDS
    )


def is_device_failure(error: BaseException) -> bool:
    """Whether a sticky error of the accelerator was met: every later call of this process would
    fail, too.
    """
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


def failure_of(error: Exception) -> JobError:
    """What happened and what to do about it."""
    if isinstance(error, Diverged):
        found = error.diagnostic
        return JobError(
            code="diverged",
            title="The numbers diverged",
            detail=f"{found.message} {found.suggestion}",
            evidence=found.evidence,
        )
    if isinstance(error, DatasetError):
        return JobError(code="dataset", title="The data set could not be loaded", detail=str(error))
    if isinstance(error, WeightsMissing):
        return JobError(
            code="weights_missing", title="The trained weights are not there", detail=str(error)
        )
    if is_out_of_memory(error):
        return JobError(
            code="out_of_memory",
            title="The run did not fit into memory",
            detail="Ask for fewer seeds at once, smaller widths, batch_size or samples, or for a "
            "worker with more memory.",
            evidence={"message": one_line(error)},
        )
    if isinstance(error, OSError):
        return JobError(
            code="storage",
            title="The results could not be stored",
            detail=f"{one_line(error)}. See to the artifact store (space, permissions), then "
            f"retry the job.",
        )
    return JobError(
        code="internal",
        title="The run failed unexpectedly",
        detail=f"{one_line(error)}. This is a fault of the program: its trace is in the worker's "
        f"log, under the job's id.",
    )


def one_line(error: BaseException) -> str:
    """Kind and first line of an exception, cut to a readable length."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"[:300] if first else type(error).__name__
