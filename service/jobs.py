"""Jobs: their states, who may change them, and the form in which the API shows them.

No SQL, no HTTP.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, get_args

import uuid_utils
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    WithJsonSchema,
    field_serializer,
    field_validator,
)

from ffengine.entry import ExactTypes
from ffengine.results import Provenance, RecordedRow
from ffengine.spec import AnySpec, RecordedSpec, StoredSpec
from ffengine.spec_values import params_in_words
from ffengine.text import NoteText, StoredText, UserText, text_schema
from service.encoding.root_path import at
from service.encoding.viewer import shown_address
from service.placement import Needs

LONGEST_TIMEOUT_SECONDS = 366 * 86_400.0
Priority = Literal["low", "normal", "high"]
# `unread`: a job of another version of fflab, of which this one can tell its state alone
JobKind = Literal["train", "check", "forecast", "study", "recorded", "unread"]
LONGEST_ADDRESS = 2_000
# service.background.webhooks.validate_url says what is wrong with one
WebAddress = Annotated[str, WithJsonSchema(text_schema(LONGEST_ADDRESS))]


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


# All changes of state. A request to cancel or pause a running job is the column `wanted`, not a
# state: the worker that holds the lease makes one of these changes of it.
# Those from `running` are made in service.store.queue: `finish` and `fail` by the methods of these
# names, `stop` and `hand_back` by finish_stopped, `expire` by expire_leases for a lease that ran
# out, and by lose for a runner that died.
TRANSITIONS: tuple[Transition, ...] = (
    Transition("claim", "worker", JobState.queued, JobState.running),
    Transition("finish", "worker", JobState.running, JobState.succeeded),
    Transition("fail", "worker", JobState.running, JobState.failed),
    Transition("stop", "worker", JobState.running, JobState.cancelled),
    Transition("stop", "worker", JobState.running, JobState.paused),
    Transition("hand_back", "worker", JobState.running, JobState.queued),
    Transition("stop", "worker", JobState.running, JobState.failed),  # its time is over
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
    # only a study of which some runs have not succeeded
    Transition("retry_failed", "user", JobState.succeeded, JobState.queued),
    # a job that waits for an identical one shares its result
    Transition("answer", "reconciler", JobState.queued, JobState.succeeded),
    # no worker claims a study: its state follows its runs, of which some may succeed at once
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


def source_states(action: str, target: JobState) -> tuple[JobState, ...]:
    """The states from which an action may lead to `target`, for the WHERE clause of its update."""
    return tuple(
        change.source
        for change in TRANSITIONS
        if change.action == action and change.target == target
    )


class Wanted(StrEnum):
    """What the user wants of a running job."""

    run = "run"
    pause = "pause"
    cancel = "cancel"


def _actions(state: JobState) -> tuple[str, ...]:
    """What a user may ask of a job in that state, the gentlest first."""
    asked = {
        change.action for change in TRANSITIONS if (change.by, change.source) == ("user", state)
    }
    if state == JobState.running:  # the worker does it: see `wanted`
        asked = {Wanted.pause.value, Wanted.cancel.value}
    return tuple(action for action in ("resume", "retry", "pause", "cancel") if action in asked)


ACTIONS: dict[JobState, tuple[str, ...]] = {state: _actions(state) for state in JobState}
REPEATED_ERRORS = ("diverged",)  # what happens again with the same bits


class Command(StrEnum):
    """What the holder of a lease is to do: what the user wants, unless the job's time is over."""

    run = "run"
    pause = "pause"
    cancel = "cancel"
    expire = "expire"


class Webhook(ExactTypes):
    """Where a message is sent when a job changes its state. See service.background.webhooks."""

    model_config = ConfigDict(extra="forbid")

    url: WebAddress = Field(description="https; http where the operator allows private addresses")
    secret: SecretStr | None = Field(
        None,
        max_length=200,
        description="`whsec_` and base64 of 24 to 64 bytes; null: the service's own secret signs",
    )
    states: list[JobState] = Field(
        default=[JobState.succeeded, JobState.failed, JobState.cancelled],
        min_length=1,
        max_length=6,
        description="the states that a message is sent for",
    )


class JobOptions(ExactTypes):
    """The options of a job, which its submitter chooses.

    Each field has a column of its name, and is in the request that is sent and in what is stored.
    """

    spec: AnySpec
    name: UserText | None = Field(None, description="for people; need not be unique")
    tags: list[UserText] = Field(default=[], max_length=20, description="for filtering")
    project: UserText | None = Field(None, description="the project that it belongs to")
    note: NoteText | None = Field(None, description="a remark for people, in plain text")
    priority: Priority = "normal"
    fresh: bool = Field(False, description="run it even where an identical spec has succeeded")
    needs: Needs | None = Field(
        None, description="what it needs of the worker that computes it; of a study, of each run's"
    )
    timeout_seconds: float | None = Field(
        None,
        gt=0,
        le=LONGEST_TIMEOUT_SECONDS,
        description="longest time that it may run, all attempts together; of a study, each of "
        "its runs",
    )
    pinned: bool = Field(False, description="keep it, whatever the retention says")
    private: bool = Field(
        False, description="only its submitter and administrators see it, of a study its runs too"
    )


MOST_RECORDED_ROWS = 20_000
MOST_VERSIONS = 50


class RecordedRun(ExactTypes):
    """A run that another program computed, to be shown beside the jobs of this service."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "my own loop",
                    "spec": {
                        "kind": "recorded",
                        "program": "lab/code",
                        "config": {"lr": 1},
                    },
                    "rows": [{"layer": 0, "epoch": 0, "samples": 512, "sparsity": 0.46}],
                }
            ]
        },
    )

    spec: RecordedSpec = Field(RecordedSpec(), description="what the program says of the run")
    rows: list[RecordedRow] = Field(
        min_length=1,
        max_length=MOST_RECORDED_ROWS,
        description="a row for each seed, layer, epoch and split, such as ffengine.watch makes",
    )
    name: UserText | None = Field(None, description="for people; need not be unique")
    tags: list[UserText] = Field(default=[], max_length=20, description="for filtering")
    project: UserText | None = Field(None, description="the project that it belongs to")
    note: NoteText | None = Field(None, description="a remark for people, in plain text")
    pinned: bool = Field(False, description="keep it, whatever the retention says")
    versions: dict[UserText, UserText] = Field(
        default={},
        max_length=MOST_VERSIONS,
        description="of the programs and libraries that took part, by name",
    )
    device: UserText | None = Field(None, description="what it was computed on")

    @field_validator("rows")
    @classmethod
    def _each_once(cls, rows: list[RecordedRow]) -> list[RecordedRow]:
        """Refuse two rows of one place, of which only one could be shown."""
        seen: set[tuple[int, int, int, str]] = set()
        for number, row in enumerate(rows):
            place = (row.seed, row.layer, row.epoch, row.split)
            if place in seen:
                raise ValueError(
                    f"row {number}: seed {row.seed}, layer {row.layer}, epoch {row.epoch}, "
                    f"{row.split} is there already"
                )
            seen.add(place)
        return rows


class NewJob(JobOptions):
    """A job that is to be stored: its options, and what the service has decided about it."""

    webhook: Webhook | None = None
    submitted_by: str | None = None


class Progress(BaseModel):
    """How far a job is."""

    fraction: float = Field(ge=0, le=1)
    message: str
    eta_seconds: float | None = Field(
        description="null while nothing is known, and when the job has ended"
    )


class LogLine(BaseModel):
    """A line of a job's log."""

    level: Literal["info", "warning", "error"]
    message: str
    attempt: int


class JobError(BaseModel):
    """Why a job failed: what, and what to do."""

    code: str
    title: str
    detail: str
    evidence: dict[str, JsonValue] = {}


class Job(BaseModel):
    """A job as the API shows it."""

    id: str
    kind: JobKind
    name: StoredText | None
    tags: list[StoredText]
    project: StoredText | None = Field(None, description="the project that it belongs to")
    note: StoredText | None = Field(None, description="a remark for people, in plain text")
    submitted_by: StoredText | None = Field(
        None, description="the name of the API key that it came with; null where none was needed"
    )
    priority: Priority
    needs: Needs | None = Field(
        None, description="what was asked of the worker that computes it; null: nothing"
    )
    need_memory_bytes: int | None = Field(
        None,
        description="memory that its worker has at least: what `needs` asks for, else the "
        "estimate; null for studies",
    )
    pinned: bool = Field(description="kept, whatever the retention says")
    private: bool = Field(False, description="seen by its submitter and administrators alone")
    state: JobState
    wanted: Wanted = Field(description="what was asked of it last: run, pause or cancel")
    spec: StoredSpec
    spec_digest: str
    progress: Progress
    held_up: str | None = Field(
        None,
        description="why no live worker can begin it, as which of its needs none meets; null "
        "where it only waits for its turn",
    )
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int = Field(description="how often a worker has claimed it")
    timeout_seconds: float | None = Field(
        description="longest time that it may run, all attempts together; of a study, each of "
        "its runs"
    )
    error: JobError | None
    provenance: Provenance | None
    parent: str | None = Field(description="the study that it is a run of")
    place: dict[str, JsonValue] | None = Field(
        description="where in the study: `part`, and `params`, the point of its grid"
    )
    label: StoredText | None = Field(
        None,
        description="of a run of a study: what tells it from the others, such as `lr 0.1, seed 3`, "
        "behind the part of the study; null for other jobs",
    )
    cell: int | None = Field(None, description="of a study's run: its number, from 0")
    cached: bool = Field(description="answered from an earlier success, `cached_from`")
    cached_from: str | None
    waits_for: str | None = Field(
        description="an identical job that is computed already: this one shares its answer"
    )
    webhook: StoredText | None = Field(
        description="the address that gets a message when the state changes"
    )
    links: dict[str, str]

    @field_serializer("webhook")
    def _webhook_for_viewer(self, webhook: str | None) -> StoredText | None:
        """Return the address as who asks may see it."""
        return webhook and shown_address(webhook, self.submitted_by)

    @field_serializer("links")
    def _links_at_root(self, links: dict[str, str]) -> dict[str, str]:
        """Return the addresses below the root path of the request that is answered."""
        return {name: at(path) for name, path in links.items()}


EventType = Literal["state", "progress", "rows", "log", "end"]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)


class Event(BaseModel):
    """Something that happened to a job: `id` counts from 1 within the job, without gaps."""

    id: int
    job: str
    type: EventType
    at: datetime
    data: dict[str, Any]


def actions_on(job: Job) -> tuple[str, ...]:
    """What is offered for a job: what its state allows, without a retry that fails as before."""
    fails_again = job.error is not None and job.error.code in REPEATED_ERRORS
    return tuple(one for one in ACTIONS[job.state] if one != "retry" or not fails_again)


def label_of(place: dict[str, JsonValue] | None) -> str | None:
    """What a run of a study is among the others: its part, and what it varies."""
    if place is None:
        return None
    params = place.get("params")
    words = params_in_words(params) if isinstance(params, dict) else ""
    return ", ".join(filter(None, (str(place.get("part") or ""), words))) or None


def new_job_id() -> str:
    """A fresh id, sortable by the time of its making (UUIDv7)."""
    return f"job_{uuid_utils.uuid7().hex}"
