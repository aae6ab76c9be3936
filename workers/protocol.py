"""The messages between supervisor and runner.

A message is one line of JSON, over the runner's standard input and output.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter

from ffengine.spec import RunSpec
from service.store import Claim


class Start(BaseModel):
    """To the runner: compute this claimed job."""

    type: Literal["start"] = "start"
    job_id: str
    attempt: int
    spec: RunSpec


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
    plugins: list[str] | None = None  # their identities; None: it does not say


Outcome = Literal["succeeded", "failed", "stopped", "lost"]


class Ended(BaseModel):
    """From the runner: the attempt has ended.

    `stopped` is for the supervisor to record; after `lost` nothing may be written; the others are
    recorded.
    """

    type: Literal["ended"] = "ended"
    job_id: str
    attempt: int
    outcome: Outcome


TO_RUNNER: TypeAdapter[Start | Stop] = TypeAdapter(
    Annotated[Start | Stop, Field(discriminator="type")]
)
FROM_RUNNER: TypeAdapter[Ready | Ended] = TypeAdapter(
    Annotated[Ready | Ended, Field(discriminator="type")]
)


def log_fields(attempt: Start | Claim) -> dict[str, object]:
    """The fields by which log records of an attempt can be searched."""
    return {"job_id": attempt.job_id, "attempt": attempt.attempt}


def line(message: BaseModel) -> bytes:
    """A message as the bytes of one line."""
    return message.model_dump_json().encode() + b"\n"
