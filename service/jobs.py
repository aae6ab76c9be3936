"""Jobs: their states, who may change what, and the form in which they are shown. No SQL, no HTTP."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import uuid_utils
from pydantic import BaseModel, Field, JsonValue

from ffengine.results import Provenance
from ffengine.spec import AnySpec


class JobState(StrEnum):
    """Where a job is in its life."""

    queued = "queued"
    running = "running"
    paused = "paused"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


TERMINAL = frozenset({JobState.succeeded, JobState.failed, JobState.cancelled})


class Transition(NamedTuple):
    """One way a job may change its state: who does it, and from where to where."""

    action: str
    by: Literal["worker", "user", "reconciler"]
    source: JobState
    target: JobState


# The whole life of a job. A wish (cancel, pause) of a running job is the column `wanted`, not a state:
# the worker that holds the lease turns it into one of these.
TRANSITIONS: tuple[Transition, ...] = (
    Transition("claim", "worker", JobState.queued, JobState.running),
    Transition("finish", "worker", JobState.running, JobState.succeeded),
    Transition("fail", "worker", JobState.running, JobState.failed),
    Transition("stop", "worker", JobState.running, JobState.cancelled),
    Transition("stop", "worker", JobState.running, JobState.paused),
    Transition("hand_back", "worker", JobState.running, JobState.queued),
    Transition("expire", "reconciler", JobState.running, JobState.queued),
    Transition("expire", "reconciler", JobState.running, JobState.failed),
    Transition("expire", "reconciler", JobState.running, JobState.cancelled),
    Transition("expire", "reconciler", JobState.running, JobState.paused),
    Transition("cancel", "user", JobState.queued, JobState.cancelled),
    Transition("cancel", "user", JobState.paused, JobState.cancelled),
    Transition("pause", "user", JobState.queued, JobState.paused),
    Transition("resume", "user", JobState.paused, JobState.queued),
    Transition("retry", "user", JobState.failed, JobState.queued),
    Transition("retry", "user", JobState.cancelled, JobState.queued),
    # a study is not claimed by a worker: it follows its cells, some of which may be answered at once
    Transition("aggregate", "reconciler", JobState.queued, JobState.running),
    Transition("aggregate", "reconciler", JobState.paused, JobState.running),
    Transition("aggregate", "reconciler", JobState.queued, JobState.paused),
    Transition("aggregate", "reconciler", JobState.running, JobState.paused),
    *(
        Transition("aggregate", "reconciler", source, target)
        for source in (JobState.queued, JobState.running, JobState.paused)
        for target in (JobState.succeeded, JobState.failed, JobState.cancelled)
    ),
)


def sources(action: str, target: JobState) -> tuple[JobState, ...]:
    """The states from which an action may lead to `target`: what its WHERE clause must name."""
    return tuple(change.source for change in TRANSITIONS if change.action == action and change.target == target)


class Wanted(StrEnum):
    """What the user wants of a running job."""

    run = "run"
    pause = "pause"
    cancel = "cancel"


class Progress(BaseModel):
    """How far a job is."""

    fraction: float = Field(ge=0, le=1)
    message: str
    eta_seconds: float | None = Field(description="null while nothing is known, and when the job has ended")


class JobError(BaseModel):
    """Why a job failed: what, and what to do."""

    code: str
    title: str
    detail: str
    evidence: dict[str, JsonValue] = {}


class Job(BaseModel):
    """A job as the API shows it."""

    id: str
    kind: Literal["train", "check", "study"]
    name: str | None
    tags: list[str]
    priority: Literal["low", "normal", "high"]
    state: JobState
    wanted: Wanted = Field(description="what was asked of it last: run, pause or cancel")
    spec: AnySpec
    spec_digest: str
    progress: Progress
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int = Field(description="how often a worker has claimed it")
    error: JobError | None
    provenance: Provenance | None
    parent: str | None = Field(description="the study that it is a cell of")
    cached: bool = Field(description="answered from an earlier success, `cached_from`")
    cached_from: str | None
    links: dict[str, str]


class Event(BaseModel):
    """Something that happened to a job: `id` counts from 1 within the job, without gaps."""

    id: int
    job: str
    type: Literal["state", "progress", "rows", "log", "end"]
    at: datetime
    data: dict[str, Any]


def new_job_id() -> str:
    """A fresh id, sortable by the time of its making (UUIDv7)."""
    return f"job_{uuid_utils.uuid7().hex}"
