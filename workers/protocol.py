"""What supervisor and runner say to each other: one JSON object a line, over the runner's standard
input and output.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter

from ffengine.spec import RunSpec


class Start(BaseModel):
    """To the runner: this claimed job is yours."""

    type: Literal["start"] = "start"
    job_id: str
    attempt: int
    spec: RunSpec


class Stop(BaseModel):
    """To the runner: stop after the current step; `keep`: with a checkpoint, else (the lease is
    lost) writing nothing.
    """

    type: Literal["stop"] = "stop"
    keep: bool


class Ready(BaseModel):
    """From the runner, once: torch is loaded, on this device."""

    type: Literal["ready"] = "ready"
    device: str
    device_name: str
    memory_bytes: int


Outcome = Literal["succeeded", "failed", "stopped", "lost"]


class Ended(BaseModel):
    """From the runner: done with that attempt; all but `stopped` are in the database already."""

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


def line(message: BaseModel) -> bytes:
    """A message as it travels."""
    return message.model_dump_json().encode() + b"\n"
