"""The messages between supervisor and runner.

A message is one line of JSON, over the runner's standard input and output.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter

from ffengine.spec import RunSpec
from service.jobs import JobError
from service.store import Claim

EXIT_DEVICE_FAILED = 70  # the code of a runner that ends because its accelerator is unusable


class Start(BaseModel):
    """To the runner: compute this claimed job.

    `dataset_digest` says which arrays its data set has; None: it is not known. `in_parts`: memory
    had run out, so that it is to be computed in smaller pieces. `submitted_by` names the key that
    it came with, for logs.
    """

    type: Literal["start"] = "start"
    job_id: str
    attempt: int
    spec: RunSpec
    dataset_digest: str | None = None
    submitted_by: str | None = None
    in_parts: bool = False


class Stop(BaseModel):
    """To the runner: stop after the current step.

    `save_checkpoint`: save a checkpoint first; False where the lease is lost and nothing may be
    written.
    """

    type: Literal["stop"] = "stop"
    save_checkpoint: bool


class Ready(BaseModel):
    """From the runner, once: torch is loaded, and computes on this device."""

    type: Literal["ready"] = "ready"
    device: str
    device_name: str
    memory_bytes: int
    host_memory_bytes: int | None = None
    threads: int | None = None
    plugins: list[str] | None = None  # their identities; None: it does not say


class Begins(BaseModel):
    """From the runner: it has read the message, and computes."""

    type: Literal["begins"] = "begins"
    job_id: str
    attempt: int


Outcome = Literal["succeeded", "failed", "stopped", "lost", "unfit", "out_of_memory"]


class Ended(BaseModel):
    """From the runner: the attempt has ended.

    `stopped` is for the supervisor to record, and `unfit`: this machine cannot compute the job,
    for the `reason`. With an `error` it could compute others, and the job fails with that where no
    other machine is there. `out_of_memory` is for the supervisor to record as well, with the
    `reason`. After `lost` nothing may be written; the others are recorded.
    """

    type: Literal["ended"] = "ended"
    job_id: str
    attempt: int
    outcome: Outcome
    reason: str | None = None
    error: JobError | None = None


TO_RUNNER: TypeAdapter[Start | Stop] = TypeAdapter(
    Annotated[Start | Stop, Field(discriminator="type")]
)
FROM_RUNNER: TypeAdapter[Ready | Begins | Ended] = TypeAdapter(
    Annotated[Ready | Begins | Ended, Field(discriminator="type")]
)


def log_fields(attempt: Start | Claim) -> dict[str, object]:
    """The fields by which log records of an attempt can be searched."""
    return {"job_id": attempt.job_id, "attempt": attempt.attempt, "key": attempt.submitted_by}


def line(message: BaseModel) -> bytes:
    """A message as the bytes of one line."""
    return message.model_dump_json().encode() + b"\n"
