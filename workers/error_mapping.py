"""Maps the exception that ended a run to the JobError that its user reads."""

import errno

import torch

from ffengine.arrays import DatasetError
from ffengine.interrupts import Diverged
from ffengine.uploaded_weights import WeightsMissing
from service.host.disk import FULL
from service.jobs import JobError
from service.store.trained_weights import WeightsNotFound

ALLOCATION_WORDS = ("DefaultCPUAllocator", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


class DeviceFailed(Exception):
    """The accelerator is in an error state that only a new process clears.

    The job is not to blame.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Whether host or device had no memory left.

    PyTorch's CPU allocator raises a RuntimeError that only its message identifies.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ALLOCATION_WORDS
    )


def is_device_failure(error: BaseException) -> bool:
    """Whether it is a sticky error of the accelerator: every later call of this process fails."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


def is_machine_failure(error: BaseException) -> bool:
    """Whether this machine failed, rather than the job: its storage could not be used.

    A full disk is not meant: it fails the job that fills it, and the worker pauses by itself.
    """
    return isinstance(error, OSError) and error.errno not in (*FULL, errno.EFBIG)


def failure_of(error: Exception) -> JobError:
    """The JobError for an exception: what happened and what to do about it."""
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
    if isinstance(error, WeightsNotFound | WeightsMissing):
        return JobError(
            code="weights_missing", title="The trained weights are not there", detail=str(error)
        )
    if isinstance(error, OSError):
        return JobError(
            code="storage",
            title="The results could not be stored",
            detail=f"{one_line(error)}. Check that the worker has space and permission to write "
            f"into the folder of artifacts, then retry the job.",
        )
    return JobError(
        code="internal",
        title="The run failed because of an error in the program",
        detail=f"{one_line(error)}. The worker's log has the whole trace, under the job's id; "
        f"please report it.",
    )


def one_line(error: BaseException) -> str:
    """Type and first line of an exception, at most 300 characters."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"[:300] if first else type(error).__name__
